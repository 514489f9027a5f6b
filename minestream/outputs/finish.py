"""Finishing passes: what can be done only when every part is there, in bounded memory.

Pairs are merged (each is written once, whichever end picked it) and sorted; a shuffled order is made. In both,
every row has a position on a line of 2^64; a histogram cuts the line into intervals that fit a budget, which
are gathered and sorted one at a time. The rows that come out, and their order, do not depend on the budget.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream.config.derived import needs_finishing
from minestream.config.memory_plan import ORDERED_ROW_BYTES, ORDERED_TIMES
from minestream.config.mine_config import MineConfig
from minestream.inputs.dataset.draws import Keys, prefixes
from minestream.kernels import draw
from minestream.outputs.max_uses import as_stored, kept_tables, kept_uses
from minestream.outputs.parquet import ROW_GROUP_ROWS, stretches
from minestream.outputs.rows import tuples_of
from minestream.system import ragged
from minestream.system.stats import ShardStats

ROWS_BUDGET, ROOM_BYTES = 2**20, 2**28
BINS = 2**16
BATCH_ROWS, LEAST_ROWS = 65_536, 1_024
TAG_SHUFFLED = 4


# a, p, c of draw 4, of whose rows the table's keys are; None: K = 0
ROWS_OF: dict[str, tuple[str | None, str | None, str | None]] = {
    "triplets": ("{anchor}_row", "positive_row", "negative_row"),
    "tuples": ("{anchor}_row", "positive_row", None),
    "pairs": ("left_row", None, "right_row"),
}
Words = NDArray[np.uint64]
Masks = Sequence[NDArray[np.bool_]] | None  # of each part the rows that stay; None: all


def words(table: pa.Table, name: str) -> Words:
    """A column of row numbers as uint64."""
    values: Words = table.column(name).to_numpy().view(np.uint64)
    return values


class Parts:
    """The rows of several parts along one line of positions."""

    names: tuple[str, ...]  # the columns that positions are made of
    last = 2**64 - 1  # no position is larger

    def __init__(self, paths: Iterable[Path], masks: Masks = None) -> None:
        self.paths, self.batch_rows = tuple(paths), BATCH_ROWS
        self.masks = masks  # with these, all row groups must be read

    def positions(self, table: pa.Table) -> Words:
        """Position of every row of a table that has the columns `names`."""
        raise NotImplementedError

    def order(self, table: pa.Table) -> NDArray[np.int64]:
        """The output order of the rows of a table."""
        return np.argsort(self.positions(table), kind="stable")

    def may_hold(self, group: Any, low: int, high: int) -> bool:
        """Whether a row group, by its metadata, may hold positions in low..high."""
        return True

    def tables(self, names: tuple[str, ...] | None, low: int, high: int) -> Iterator[pa.Table]:
        """The rows at positions low..high, `names` of their columns (None: all), a batch at a time."""
        for index, path in enumerate(self.paths):
            first = 0
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
                every = range(file.num_row_groups)
                groups = [group for group in every if self.may_hold(file.metadata.row_group(group), low, high)]
                for batch in file.iter_batches(self.batch_rows, row_groups=groups, columns=names, use_threads=False):
                    table = pa.Table.from_batches([batch])
                    positions = self.positions(table)
                    inside = (positions >= np.uint64(low)) & (positions <= np.uint64(high))
                    if self.masks is not None:
                        inside &= self.masks[index][first : first + table.num_rows]
                        first += table.num_rows
                    yield table.filter(pa.array(inside))

    def intervals(self, rows_budget: int, low: int, high: int) -> Iterator[tuple[int, int]]:
        """low..high cut into intervals of at most `rows_budget` rows; only a single position may hold more."""
        width = (high - low) // BINS + 1
        counts = np.zeros(BINS, np.int64)
        for table in self.tables(self.names, low, high):
            bins = (self.positions(table) - np.uint64(low)) // np.uint64(width)
            counts += np.bincount(bins.astype(np.int64), minlength=BINS)
        start, held = low, 0
        for place in np.flatnonzero(counts).tolist():
            first, last = low + place * width, min(low + (place + 1) * width - 1, high)
            count = int(counts[place])
            if held and held + count > rows_budget:
                yield start, first - 1
                start, held = first, 0
            held += count
            if held > rows_budget:
                yield from self.intervals(rows_budget, first, last) if width > 1 else [(first, last)]
                start, held = last + 1, 0
        if held:
            yield start, high

    def in_order(self, rows_budget: int) -> Iterator[pa.Table]:
        """All rows in output order, one interval at a time."""
        self.batch_rows = min(BATCH_ROWS, max(LEAST_ROWS, rows_budget // 4))
        for low, high in self.intervals(rows_budget, 0, self.last):
            yield self._sorted(low, high)

    def _sorted(self, low: int, high: int) -> pa.Table:
        table = pa.concat_tables(list(self.tables(None, low, high)))
        return table.take(pa.array(self.order(table)))


class ByPair(Parts):
    """Pairs at left_row * (1 + the largest right_row) + right_row: source rows are far fewer than 2^32."""

    names = ("left_row", "right_row")

    def __init__(self, paths: Iterable[Path]) -> None:
        super().__init__(paths)
        footers = [pq.read_metadata(path) for path in self.paths]
        groups = (footer.row_group(group) for footer in footers for group in range(footer.num_row_groups))
        self.width = 1 + max((statistics_of(group, "right_row").max for group in groups), default=0)
        self.last = self.width**2 - 1  # left_row < right_row

    def positions(self, table: pa.Table) -> Words:
        """The position of every pair."""
        return words(table, "left_row") * np.uint64(self.width) + words(table, "right_row")

    def may_hold(self, group: Any, low: int, high: int) -> bool:
        """Whether the left ends of a row group reach into low..high."""
        left = statistics_of(group, "left_row")
        return bool(left.min * self.width <= high and (left.max + 1) * self.width > low)


class ByDraw(Parts):
    """Rows at their draw 4; equal draws go in key order."""

    def __init__(self, paths: Iterable[Path], config: MineConfig, keys: dict[str, Keys], masks: Masks) -> None:
        super().__init__(paths, masks)
        self._roles = tuple(name and name.format(anchor=config.anchor_role) for name in ROWS_OF[config.emit])
        self.names = tuple(name for name in self._roles if name)
        self._seed, self._keys = config.seed, {
            name: keys["anchor" if name in (self._roles[0], "left_row") else "candidate"] for name in self.names
        }  # fmt: skip

    def positions(self, table: pa.Table) -> Words:
        """draw(4, a, p, c) of every row."""
        none = np.zeros(table.num_rows, np.uint64)
        a, p, c = (none if name is None else self._keys[name].draw_key[words(table, name)] for name in self._roles)
        out = np.empty(table.num_rows, np.uint64)
        draw.draws(prefixes(self._seed, TAG_SHUFFLED, a, p), c, out)
        return out

    def order(self, table: pa.Table) -> NDArray[np.int64]:
        """By draw, then by key order of the rows named."""
        ranks = [self._keys[name].rank[words(table, name)] for name in self.names]
        return np.lexsort((*reversed(ranks), self.positions(table)))


def statistics_of(group: Any, name: str) -> Any:
    """The statistics of a column in the metadata of a row group that RowsFile wrote."""
    columns = (group.column(place) for place in range(group.num_columns))
    return next(column.statistics for column in columns if column.path_in_schema == name)


def rows_within(room: int, paths: Sequence[Path]) -> int:
    """How many rows of these parts may be put in order at a time, in so many bytes."""
    footers = [pq.read_metadata(path) for path in paths]
    groups = (footer.row_group(group) for footer in footers for group in range(footer.num_row_groups))
    stored = sum(group.total_byte_size for group in groups)
    row_bytes = stored // max(1, sum(footer.num_rows for footer in footers)) + ORDERED_ROW_BYTES
    return int(max(1, min(ROWS_BUDGET, room // (ORDERED_TIMES * row_bytes))))


def without_repeats(pairs: pa.Table) -> pa.Table:
    """Pairs whose copies stand together, each once."""
    return pairs.take(pa.array(ragged.runs(words(pairs, "left_row"), words(pairs, "right_row"))))


def finished_rows(
    config: MineConfig, paths: Sequence[Path], keys: dict[str, Keys], total: ShardStats, room: int = ROOM_BYTES
) -> Iterator[pa.Table] | None:
    """The rows of the finished output, or None when the parts already hold them in order.

    Parameters
    ----------
    keys : of anchors and of candidates
    total : ShardStats
        What a finishing pass counts anew is set here, for pairs when the last row has been read.
    room : int
        Bytes of the rows put in order at a time, which are ROWS_BUDGET at most. An order reads the parts once for each
        such table.
    """
    if not needs_finishing(config):
        return None
    rows_budget = rows_within(room, paths)
    if config.emit == "pairs":
        parts = ByDraw(paths, config, keys, None) if config.order == "shuffled" else ByPair(paths)
        # The copies of a pair that two parts hold have one position, so they stand together.
        return summed(map(without_repeats, parts.in_order(rows_budget)), total)
    if config.max_uses is None:
        return ByDraw(paths, config, keys, None).in_order(rows_budget)
    masks = kept_uses(config, paths, keys, total)  # the parts hold triplets: the reserves of each pair
    if config.emit == "tuples":
        return (tuples_of(config, pq.read_table(path), mask) for path, mask in zip(paths, masks, strict=True))
    whole: Iterable[pa.Table] = kept_tables(paths, masks)
    if config.order == "shuffled":
        columns = pq.read_schema(paths[0]).empty_table()  # without rows there is a schema all the same
        whole = chain([columns], ByDraw(paths, config, keys, masks).in_order(rows_budget))
    return (as_stored(table, config.float64) for table in whole)


def summed(pairs: Iterable[pa.Table], total: ShardStats) -> Iterator[pa.Table]:
    """The same merged pairs; after the last one the sums of `total` that count rows are set to theirs.

    Pairs that stand in two parts count twice in the parts' own sums. The loss is summed by fsum over the rows
    of each row group of the finished files, then over those; a row is active when its loss is above 0.
    """
    sums: list[float] = []
    rows = similar = active_rows = count = 0
    for pieces in stretches(pairs, ROW_GROUP_ROWS):
        losses: list[float] = []
        for piece in pieces:
            rows += piece.num_rows
            similar += int(words(piece, "label").sum())
            losses += piece.column("loss").to_pylist() if "loss" in piece.column_names else []
            yield piece
        sums.append(math.fsum(losses))
        active_rows += sum(loss > 0 for loss in losses)
        count += len(losses)
    total.rows, total.pairs, total.similar_pairs = rows, rows, similar
    total.losses, total.active_rows = count, active_rows
    total.loss_sum = total.active_loss_sum = math.fsum(sums)
