"""Finishing passes: what can be done only when every part is there, in bounded memory.

Pairs are merged (each is written once, whichever end picked it) and sorted; a shuffled order is made. Both
cut the rows into intervals that fit a budget, by a histogram, and gather one interval at a time.
The rows that come out, and their order, do not depend on the budget.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream.sink import ROW_GROUP_ROWS, numbered_cuts
from minestream.stats import ShardStats

ROWS_BUDGET = 2**20
BINS = 2**16
BATCH_ROWS = 65_536
GOLDEN = 0x9E3779B97F4A7C15
WORD = 2**64 - 1
SHUFFLED = 4  # tag of the draw

ROWS_OF: dict[str, tuple[str | None, str | None, str | None]] = {  # a, p, c of draw 4; None: K = 0
    "triplets": ("anchor_row", "positive_row", "negative_row"),
    "tuples": ("anchor_row", "positive_row", None),
    "pairs": ("left_row", None, "right_row"),
}

Words = NDArray[np.uint64]


class Keys(Protocol):
    """What the shuffled order needs of the source rows."""

    @property
    def draw_key(self) -> Words:
        """K of every source row."""

    @property
    def rank(self) -> NDArray[np.int64]:
        """Key order of every source row."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Positions low..high, both ends inside."""

    low: int
    high: int

    def holds(self, positions: Words) -> NDArray[np.bool_]:
        """Which positions lie inside."""
        inside: NDArray[np.bool_] = (positions >= np.uint64(self.low)) & (positions <= np.uint64(self.high))
        return inside


@dataclass(frozen=True, slots=True)
class Parts:
    """The rows of several parts along one line of positions.

    Attributes
    ----------
    paths : tuple of Path
    names : tuple of str
        The columns that positions are made of.
    positions : callable
        Position of every row of a table that has those columns.
    within : dict of str to Interval
        Only rows whose values in these columns lie in the intervals count.
    """

    paths: tuple[Path, ...]
    names: tuple[str, ...]
    positions: Callable[[pa.Table], Words]
    within: dict[str, Interval]

    def tables(self, names: tuple[str, ...] | None) -> Iterator[pa.Table]:
        """The rows that count, `names` of their columns (None: all), a batch at a time."""
        for path in self.paths:
            with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
                groups = [group for group in range(file.num_row_groups) if self._may_count(file.metadata, group)]
                for batch in file.iter_batches(BATCH_ROWS, row_groups=groups, columns=names, use_threads=False):
                    table = pa.Table.from_batches([batch])
                    for name, interval in self.within.items():
                        table = table.filter(pa.array(interval.holds(words(table, name))))
                    yield table

    def _may_count(self, metadata: Any, group: int) -> bool:
        for name, interval in self.within.items():
            statistics = metadata.row_group(group).column(metadata.schema.names.index(name)).statistics
            known = statistics is not None and statistics.has_min_max
            if known and (statistics.max < interval.low or statistics.min > interval.high):
                return False
        return True

    def histogram(self, span: Interval, width: int) -> NDArray[np.int64]:
        """Rows in each of BINS stretches of `width` positions from span.low on."""
        counts = np.zeros(BINS, np.int64)
        for table in self.tables((*self.names, *self.within)):
            positions = self.positions(table)
            bins = (positions[span.holds(positions)] - np.uint64(span.low)) // np.uint64(width)
            counts += np.bincount(bins.astype(np.int64), minlength=BINS)
        return counts

    def intervals(self, rows_budget: int, span: Interval) -> Iterator[Interval]:
        """`span` cut into intervals of at most `rows_budget` rows; only a single position may hold more."""
        width = (span.high - span.low) // BINS + 1
        counts = self.histogram(span, width)
        start, held = span.low, 0
        for place in np.flatnonzero(counts).tolist():
            low, high = span.low + place * width, min(span.low + (place + 1) * width - 1, span.high)
            count = int(counts[place])
            if held and held + count > rows_budget:
                yield Interval(start, low - 1)
                start, held = low, 0
            held += count
            if held > rows_budget:
                yield from (self.intervals(rows_budget, Interval(low, high)) if width > 1 else [Interval(low, high)])
                start, held = high + 1, 0
        if held:
            yield Interval(start, span.high)

    def gather(self, interval: Interval) -> pa.Table:
        """All columns of the rows whose positions lie in `interval`."""
        found = (table.filter(pa.array(interval.holds(self.positions(table)))) for table in self.tables(None))
        return pa.concat_tables(list(found))


def words(table: pa.Table, name: str) -> Words:
    """A column of rows, none of them negative, as unsigned words."""
    values: Words = table.column(name).to_numpy().view(np.uint64)
    return values


def finishing_pass(
    paths: Iterable[Path],
    *,
    emit: str,
    order: str,
    seed: int = 0,
    keys: Keys | None = None,
    rows_budget: int = ROWS_BUDGET,
) -> Iterator[pa.Table] | None:
    """The rows of the finished output, or None when the parts in their order are that already.

    Parameters
    ----------
    paths : iterable of Path
        All parts.
    emit, order, seed
        As configured.
    keys : Keys, optional
        Needed by order shuffled.
    rows_budget : int
        Rows held at a time; about twice their bytes are allocated.
    """
    if order == "shuffled":
        if keys is None:
            raise ValueError("a shuffled order needs the keys")
        return shuffled(paths, emit, seed, keys, rows_budget=rows_budget)
    return merge_pairs(paths, rows_budget=rows_budget) if emit == "pairs" else None


def merge_pairs(paths: Iterable[Path], *, rows_budget: int = ROWS_BUDGET) -> Iterator[pa.Table]:
    """The pairs of all parts by (left_row, right_row), each once.

    Parameters
    ----------
    paths : iterable of Path
        Parts whose columns left_row and right_row hold the ends; a pair may stand in two of them, alike.
    rows_budget : int
        Rows held at a time.

    Yields
    ------
    pa.Table
        At most `rows_budget` rows.
    """
    by_left = Parts(tuple(paths), ("left_row",), lambda table: words(table, "left_row"), {})
    for lefts in by_left.intervals(rows_budget, last_row(by_left.paths, "left_row")):
        within = Parts(by_left.paths, ("right_row",), lambda table: words(table, "right_row"), {"left_row": lefts})
        rights = last_row(by_left.paths, "right_row")
        # One row may have more partners than the budget holds: those are cut by the other end.
        single = lefts.low == lefts.high
        for interval in within.intervals(rows_budget, rights) if single else [rights]:
            table = within.gather(interval)
            order = np.lexsort((words(table, "right_row"), words(table, "left_row")))
            yield without_repeats(table.take(pa.array(order)))


def last_row(paths: tuple[Path, ...], name: str) -> Interval:
    """From row 0 to the largest row in a column of rows."""
    last = 0
    for path in paths:
        metadata = pq.read_metadata(path)
        place = metadata.schema.names.index(name)
        for group in range(metadata.num_row_groups):
            last = max(last, metadata.row_group(group).column(place).statistics.max)
    return Interval(0, last)


def without_repeats(pairs: pa.Table) -> pa.Table:
    """Sorted pairs, each once."""
    left, right = words(pairs, "left_row"), words(pairs, "right_row")
    first = np.ones(len(left), bool)
    first[1:] = (left[1:] != left[:-1]) | (right[1:] != right[:-1])
    return pairs if first.all() else pairs.filter(pa.array(first))


def shuffled(
    paths: Iterable[Path], emit: str, seed: int, keys: Keys, *, rows_budget: int = ROWS_BUDGET
) -> Iterator[pa.Table]:
    """The rows of all parts by draw 4, equal draws in key order; pairs that stand in two parts once.

    Yields
    ------
    pa.Table
        At most `rows_budget` rows. The parts are read once for each table, and once before.
    """
    names = tuple(name for name in ROWS_OF[emit] if name)
    parts = Parts(tuple(paths), names, lambda table: shuffle_draws(table, emit, seed, keys.draw_key), {})
    for interval in parts.intervals(rows_budget, Interval(0, WORD)):
        table = parts.gather(interval)
        ranks = [keys.rank[words(table, name)] for name in names]
        table = table.take(pa.array(np.lexsort((*reversed(ranks), parts.positions(table)))))
        # Both copies of a pair have the same draw, so they stand together.
        yield without_repeats(table) if emit == "pairs" else table


def mixed(z: Words) -> Words:
    """splitmix64's finaliser M."""
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def shuffle_draws(table: pa.Table, emit: str, seed: int, draw_key: Words) -> Words:
    """draw(4, a, p, c) = M(M(M(M(seed + 4 G) + K(a) G) + K(p) G) + K(c)) of every row."""
    golden, none = np.uint64(GOLDEN), np.zeros(1, np.uint64)
    a, p, c = (none if name is None else draw_key[words(table, name)] for name in ROWS_OF[emit])
    start = np.array([(seed + SHUFFLED * GOLDEN) & WORD], np.uint64)
    return mixed(mixed(mixed(mixed(start) + a * golden) + p * golden) + c)


def summed(pairs: Iterable[pa.Table], total: ShardStats) -> Iterator[pa.Table]:
    """Pass merged pairs on, and in the end set the sums of `total` that count rows to theirs.

    Pairs that stand in two parts count twice in the parts' own sums. The loss is summed by fsum over the rows
    of each row group of the finished files, then over those; a row is active when its loss is above 0.
    """
    sums: list[float] = []
    rows = active_rows = 0
    for _, pieces in itertools.groupby(numbered_cuts(pairs, ROW_GROUP_ROWS), key=lambda piece: piece[0]):
        losses: list[float] = []
        for _, piece in pieces:
            rows += piece.num_rows
            losses += piece.column("loss").to_pylist() if "loss" in piece.column_names else []
            yield piece
        sums.append(math.fsum(losses))
        active_rows += sum(loss > 0 for loss in losses)
    total.rows = total.pairs = rows
    total.active_rows = active_rows
    total.loss_sum = total.active_loss_sum = math.fsum(sums)
