"""Lists read again: of some anchors at a time, in the slots of the dataset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream.config.mine_config import MineConfig
from minestream.errors import InputError
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.decode import as_array
from minestream.inputs.pairs import csr
from minestream.mining.positives import Given
from minestream.outputs.mined import MinedOutput, open_parquet, reading
from minestream.search.context import Lists
from minestream.system import ragged
from minestream.system.paths import AnyPath

POSITIVES = ("positive_rows", "positive_distances", "positive_is_anchor", "duplicate_positives", "duplicate_candidates")
WHOLE = ("candidate_rows", "candidate_distances")
NEAR = ("nearest_rows", "nearest_distances", "candidate_count")
NO_SLOTS, NO_LISTS = np.empty(0, np.int32), np.empty(0, np.int64)


class Piece(NamedTuple):
    """The lists of a few anchors."""

    anchors: NDArray[np.int32]
    lists: Lists
    positives: Given


class Group(NamedTuple):
    """A row group of a file: rows first ... end - 1 of the lists."""

    path: AnyPath
    metadata: pq.FileMetaData
    number: int
    first: int
    end: int


class ListReader:
    """The lists of a mined output, by the anchors of its dataset.

    Parameters
    ----------
    mined : MinedOutput
        Of emit lists.
    config : MineConfig
        With which the lists were mined.
    loaded : Dataset
        Of the same rows.

    Attributes
    ----------
    nearest : bool
        Whether the first candidates of each list can be read alone.

    Raises
    ------
    InputError
        For a file that cannot be read.
    """

    def __init__(self, mined: MinedOutput, config: MineConfig, loaded: Dataset) -> None:
        self._loaded, self._config, self._place = loaded, config, mined.path
        self._groups: list[Group] = []
        self.nearest, rows = True, [NO_LISTS]
        for path in mined.files:
            with reading(path, InputError), open_parquet(path) as file:
                rows.append(file.read([f"{config.anchor_role}_row"]).column(0).to_numpy())
                self.nearest &= set(NEAR) <= set(file.schema_arrow.names)
                for index in range(file.num_row_groups):
                    first = self._groups[-1].end if self._groups else 0
                    count = file.metadata.row_group(index).num_rows
                    self._groups.append(Group(path, file.metadata, index, first, first + count))
        self.rows = np.concatenate(rows)
        table = loaded.tables[1]
        self._slot = np.full(table.source_rows, -1, np.int32)
        own = loaded.source_row[table.first : table.end]
        self._slot[own] = np.arange(table.first, table.end, dtype=np.int32)
        self._first = table.first if own.size == table.source_rows else None  # row r is slot first + r

    def groups(self, anchors: NDArray[np.int32]) -> Iterator[tuple[Group, NDArray[np.int32], NDArray[np.int64]]]:
        """The row groups with the lists of ascending anchors, in order: of each its anchors, and their rows in it.

        Raises InputError for an anchor without a list.
        """
        wanted = self._loaded.source_row[anchors]
        at = np.searchsorted(self.rows, wanted).clip(max=max(0, self.rows.size - 1))
        lost = np.flatnonzero(self.rows[at] != wanted) if self.rows.size else np.arange(wanted.size)
        if lost.size:
            what = f"{lost.size:,} of these anchors have no list, the first is row {wanted[lost[0]]:,}"
            raise InputError(f"{self._place}: {what}", "mine the lists without --anchors and --anchors-per-label")
        for group in self._groups:
            first, end = np.searchsorted(at, (group.first, group.end)).tolist()
            if first < end:
                yield group, anchors[first:end], at[first:end] - group.first

    def piece(self, group: Group, anchors: NDArray[np.int32], at: NDArray[np.int64], *, nearest: bool = False) -> Piece:
        """The lists of anchors, which are rows `at` of a row group, or the nearest of each; any thread may read one."""
        with reading(group.path, InputError), open_parquet(group.path, group.metadata) as file:
            wanted = [*POSITIVES, *(NEAR if nearest else WHOLE)]
            table = file.read_row_group(group.number, wanted, use_threads=False)
        return self._piece(anchors, table if at.size == table.num_rows else table.take(pa.array(at)), nearest)

    def _slots(self, rows: NDArray[np.int64]) -> NDArray[np.int32]:
        slots: NDArray[np.int32]
        if self._first is None:
            slots = self._slot[rows]
        else:
            slots = np.add(rows, self._first, dtype=np.int32, casting="unsafe")
        return slots

    def _piece(self, anchors: NDArray[np.int32], table: pa.Table, nearest: bool) -> Piece:
        names = NEAR if nearest else WHOLE
        columns = {name: _ragged(table, name) for name in (*POSITIVES, *names[:2])}
        positive_start, rows = columns["positive_rows"]
        slots = self._slots(rows)
        owner, p = ragged.owners(positive_start), columns["positive_distances"][1]
        duplicate, within = columns["positive_is_anchor"][1], self._config.drop_duplicates_within
        given = Given(owner, slots, p, p <= within if within else duplicate)
        start, rows = columns[names[0]]
        stored, counts = columns[names[1]][1], ragged.lengths(start)
        more = counts >= self._config.negatives
        if nearest:
            every = table.column("candidate_count").to_numpy()
            more = (counts < every) | (every >= self._config.negatives)
        lists = Lists(
            _places(anchors, self._loaded.store.rows), start, self._slots(rows), stored.astype(np.float64, copy=False),
            _reach(start, stored, more), self._alike(slots, columns, (start, rows)),
        )  # fmt: skip
        return Piece(anchors, lists, given)

    def _alike(
        self, positives: NDArray[np.int32], columns: dict[str, Any], lists: tuple[NDArray[np.int64], NDArray[np.int64]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The candidates that are duplicates of positives, by the slots of these."""
        (start, positive), (_, candidate) = columns["duplicate_positives"], columns["duplicate_candidates"]
        if not positive.size:
            return NO_LISTS, NO_SLOTS
        first, rows = lists
        owner = ragged.owners(start)
        there = candidate < ragged.lengths(first)[owner]
        owner, positive, candidate = owner[there], positive[there], candidate[there]
        left = positives[columns["positive_rows"][0][owner] + positive].astype(np.int64)
        right = self._slots(rows[first[owner] + candidate]).astype(np.int64)
        return csr(self._loaded.store.rows, left, right, both_ways=False)


def _reach(start: NDArray[np.int64], stored: NDArray[Any], more: NDArray[np.bool_]) -> NDArray[np.float64]:
    """How far each list reaches: where there may be more candidates, to its last; a rounded one may lie below."""
    reach = np.full(start.size - 1, np.inf)
    ends = np.flatnonzero(more)
    last = stored[start[ends + 1] - 1]
    reach[ends] = last if last.dtype == np.float64 else np.nextafter(last, np.array(-np.inf, last.dtype))
    return reach


def _places(anchors: NDArray[np.int32], rows: int) -> NDArray[np.int32]:
    place = np.full(rows, -1, np.int32)
    place[anchors] = np.arange(anchors.size, dtype=np.int32)
    return place


def _ragged(table: pa.Table, name: str) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """A column of lists as where they start, and their values."""
    column = as_array(table.column(name))
    start = np.asarray(column.offsets, np.int64)
    values = column.values.slice(int(start[0]), int(start[-1] - start[0]))
    return start - start[0], values.to_numpy(zero_copy_only=False)
