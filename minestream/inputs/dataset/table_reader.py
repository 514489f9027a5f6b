"""Reading one table into the store: its ids, carried columns, and the rows that take part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.config.mine_config import MineConfig
from minestream.errors import InputError
from minestream.inputs.dataset.carried import CarriedColumns
from minestream.inputs.dataset.dataset import Table
from minestream.inputs.dataset.labels import NO_ROWS, Encoder, LabelReader
from minestream.inputs.dataset.vectors import Store
from minestream.inputs.row_batch import Named, RowBatch
from minestream.inputs.source import Source


class TableReader:
    """Collects the batches of one table; vectors, labels and groups go to stores shared by both tables."""

    def __init__(
        self, source: Source, config: MineConfig, store: Store, labels: LabelReader, groups: Encoder,
        carried_bytes: int, scratch: Path,
    ) -> None:  # fmt: skip
        self.source, self.config, self.store, self.labels, self.groups = source, config, store, labels, groups
        self.carried = CarriedColumns(carried_bytes, scratch) if source.columns.carry else None
        self.ids: list[pa.Array] = [] if source.id_type is None else [pa.array([], source.id_type)]
        self.id_rows: list[NDArray[np.int64]] = [NO_ROWS]
        self.versions: list[pa.Array] = []
        self._bad: list[Named] = []
        self.rows: list[NDArray[np.int64]] = [NO_ROWS]
        self.source_rows = self.unlabeled = 0

    def add(self, batch: RowBatch) -> Callable[[], None]:
        """Add the next rows of the table; what is returned copies their vectors."""
        count = len(batch.vectors)
        given = pa.nulls(count, self.labels.kind) if batch.labels is None else batch.labels
        labels, labeled = self.labels.labeled(given)
        rows = batch.rows
        if batch.ids is not None:
            good, bad = (_named(batch, batch.ids, mask) for mask in (~batch.bad, batch.bad))
            self.ids.append(good.ids)
            self.id_rows.append(good.rows)
            self.versions += [] if good.versions is None else [good.versions]
            self._bad.append(bad)
        every = self.config.listed_positives or self.config.unlabeled == "negative"
        keep = ~batch.bad & (labeled | every)
        self.unlabeled += int((~labeled & ~batch.bad).sum())
        mask = pa.array(keep)
        self.labels.add(labels.filter(mask), [each.filter(mask) for each in batch.parents])
        if batch.groups is not None:
            self.groups.add(batch.groups.filter(mask))
        if self.carried is not None and batch.carry is not None:
            self.carried.append(batch.carry.filter(mask))
        self.rows.append(rows[keep])
        self.source_rows += count
        return self.store.place(batch.vectors, None if keep.all() else keep)

    def finish(self) -> None:
        """No more batches come."""
        self.source_rows += self.source.left_out
        if self.carried is not None:
            if len(self.rows) == 1:  # without a batch its schema is missing
                kinds = pa.schema([self.source.schema.field(name) for name in self.source.columns.carry])
                self.carried.append(pa.RecordBatch.from_pylist([], kinds))
            self.carried.seal()
        self.source_row, self.rows = np.concatenate(self.rows), []
        self.place = NO_ROWS if self.carried is None else np.arange(self.source_row.size)
        self.known_ids = pa.concat_arrays(self.ids) if self.ids else None
        self.known_rows = np.concatenate(self.id_rows) if self.ids else NO_ROWS
        self.ids, self.id_rows = [], []

    @property
    def others(self) -> list[Named]:
        """Rows with known ids that take no part: bad ones and those that do not meet the condition."""
        return [*self._bad, *self.source.outside]

    def replaced(self) -> NDArray[np.int64]:
        """The source rows that are replaced by another row with the same id, even one that takes no part."""
        policy = self.config.on_duplicate_ids
        if self.known_ids is None:
            return NO_ROWS
        if policy == "error":
            refuse_shared(self.known_ids, self.known_rows, self.source)
            return NO_ROWS
        others = self.others
        rows = np.concatenate([self.known_rows, *(each.rows for each in others)])
        order = np.argsort(rows)
        ids = pa.concat_arrays([self.known_ids, *(each.ids for each in others)]).take(pa.array(order))
        versions = None
        if self.versions:
            given = [*self.versions, *(each.versions for each in others if each.versions is not None)]
            versions = pa.concat_arrays(given).take(pa.array(order))
        losers = np.ones(rows.size, bool)
        losers[winners(np.asarray(pc.dictionary_encode(ids).indices, np.int64), policy, versions)] = False
        return rows[order][losers]

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Keep only the rows in `mask`."""
        self.source_row = self.source_row[mask]
        self.place = self.place[mask] if self.place.size else self.place

    def refuse_none_left(self, which: str, dropped: dict[str, int]) -> None:
        """InputError if none of the rows takes part; if all lack a label, a later check says so."""
        read = self.source_rows - self.source.left_out
        if self.source_row.size or not read or ("unlabelled" in dropped and self.unlabeled == read):
            return
        causes = ", ".join(f"{count:,} {cause}" for cause, count in dropped.items())
        raise InputError(
            f"none of the {read:,} rows{which} takes part; dropped in all: {causes}",
            "there is nothing to mine: check how the input was written, and what is excluded",
        )

    def own_ids(self) -> pa.Array | None:
        """The ids of the rows that take part."""
        if self.known_ids is None:
            return None
        if self.known_rows.size == self.source_row.size:  # all of them
            return self.known_ids
        return self.known_ids.take(pa.array(np.searchsorted(self.known_rows, self.source_row)))

    def every_id(self) -> pa.Array | None:
        """The ids of the rows that take part, then all ids, also of rows that take no part."""
        own = self.own_ids()
        if own is None or self.known_ids is None:
            return None
        return pa.concat_arrays([own, self.known_ids, *(each.ids for each in self.others)])

    def table(self, first: int) -> Table:
        """The table of the dataset, with slots from `first` on."""
        end = first + self.source_row.size
        return Table(first, end, self.own_ids(), self.carried, self.place, self.source_rows)


def _named(batch: RowBatch, ids: pa.Array, mask: NDArray[np.bool_]) -> Named:
    """Rows, ids and versions of the rows of a batch in `mask`."""
    among, versions = pa.array(mask), batch.versions
    return Named(batch.rows[mask], ids.filter(among), None if versions is None else versions.filter(among))


def refuse_shared(ids: pa.Array, rows: NDArray[np.int64], source: Source) -> None:
    """InputError if more than one of the source rows has the same id."""
    if _all_differ(ids):
        return
    code = np.asarray(pc.dictionary_encode(ids).indices, np.int64)
    many = np.bincount(code)
    at = np.flatnonzero(many[code] > 1)
    first = []
    for i in at[np.unique(code[at], return_index=True)[1][:3]]:
        shown = [f"{row:,}" for row in rows[np.flatnonzero(code == code[i])]]
        shown[3:] = ["more"] * (len(shown) > 3)
        first.append(f"{ids[int(i)].as_py()!r} in rows {', '.join(shown[:-1])} and {shown[-1]}")
    stand = (
        f"{(many > 1).sum():,} ids stand in more than one row:" if len(first) > 1 else "one id stands in several rows:"
    )
    raise InputError(
        f"{source.name}: column {source.columns.id!r}: {stand} {'; '.join(first)}",
        "add --on-duplicate-ids last (or first), or name another --id",
    )


def _all_differ(ids: pa.Array) -> bool:
    """Whether no value stands twice; of numbers in a tenth of the memory that Arrow takes."""
    if pa.types.is_integer(ids.type) and not ids.null_count:
        values = np.sort(ids.to_numpy())
        return bool((values[1:] != values[:-1]).all())
    return bool(pc.count_distinct(ids).as_py() == len(ids))


def ids_of_all(readers: Sequence[TableReader]) -> tuple[pa.Array, NDArray[np.int64]]:
    """All ids that the readers of one input have read, and their source rows, each row once."""
    rows, first = np.unique(np.concatenate([reader.known_rows for reader in readers]), return_index=True)
    ids = [reader.known_ids for reader in readers if reader.known_ids is not None]
    return (pa.concat_arrays(ids).take(pa.array(first)), rows) if ids else (pa.array([], pa.int64()), NO_ROWS)


def winners(code: NDArray[np.int64], policy: str, versions: pa.Array | None) -> NDArray[np.int64]:
    """For each code the first or the last of its rows, by version if there is one, then by position.

    A null version, or NaN, is older than any other.
    """
    order = np.arange(code.size)
    if versions is not None:
        old = pc.is_null(versions, nan_is_null=True)
        known = versions.filter(pc.invert(old))
        rank = np.zeros(code.size, np.int64)
        rank[~np.asarray(old)] = np.asarray(pc.rank(known, tiebreaker="dense"), np.int64)
        order = np.argsort(rank, kind="stable")
    order = order if policy == "first" else order[::-1]
    place: NDArray[np.int64] = order[np.unique(code[order], return_index=True)[1]]
    return place
