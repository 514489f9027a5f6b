"""The streamed pass over anchors and all rows: what kernels/profile.py counts, summed, with its intervals."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.config.metrics import METRICS
from minestream.kernels import profile as kernels
from minestream.search.searcher import Searcher
from minestream.system.progress import Progress

BATCH_ANCHORS = 1_024  # counted before they are summed: fixed, so that sums do not depend on threads or memory
STRIP_ANCHORS = 64
ROOM_BYTES = 53  # what sorting takes of a row, in each thread
STRIP_SHARE = 4  # of the memory that is left the strips, all together; the rest is for sorting
BINS = 200
PROBE_ANCHORS = 64
Z95 = 1.959963984540054


# What is summed over anchors, and what it is a share of.
SUMS: dict[str, Callable[[kernels.Counts], tuple[NDArray[Any], NDArray[Any]]]] = {
    "positive_bins": lambda c: (c.positive_bins, c.positives),
    "negative_bins": lambda c: (c.negative_bins, c.negatives),
    "hard": lambda c: (c.hard[:, None], c.positives * c.negatives),
    "semi_hard": lambda c: (c.semi_hard, c.positives * c.negatives),
    "easy": lambda c: ((c.positives * c.negatives - c.hard)[:, None] - c.semi_hard, c.positives * c.negatives),
    "active": lambda c: (c.hard[:, None] + c.semi_hard, c.positives * c.negatives),
    "loss": lambda c: (c.loss, c.positives * c.negatives),
    "within": lambda c: (c.within, c.negatives),
    "served": lambda c: ((c.served > 0).astype(np.int64), (c.positives > 0).astype(np.int64)),
    "precision": lambda c: (c.precision[:, None], (c.positives > 0).astype(np.int64)),
}


class Ratio:
    """A sum over anchors divided by a sum of units: exact where all were counted, else with its 95 % interval.

    Parameters
    ----------
    population : int
        How many anchors there are; those that come are all of them, or drawn without replacement.
    """

    def __init__(self, population: int) -> None:
        self.population, self.anchors, self.units = population, 0, 0
        self.total: Any = 0
        self._squares: Any = 0.0
        self._products: Any = 0.0
        self._unit_squares = 0.0

    def add(self, counts: NDArray[Any], units: NDArray[Any]) -> None:
        """Take the counts (A, K) and units (A,) of further anchors."""
        self.anchors += units.size
        self.units += int(units.sum())
        self.total = self.total + counts.sum(axis=0)
        values, unit = counts.astype(np.float64), units.astype(np.float64)
        self._squares = self._squares + (values * values).sum(axis=0)
        self._products = self._products + (values * unit[:, None]).sum(axis=0)
        self._unit_squares += float((unit * unit).sum())

    def shares(self) -> NDArray[np.float64]:
        """Sum by units, float64[K]; NaN of nothing."""
        return np.asarray(self.total / self.units if self.units else np.full(np.shape(self.total), np.nan), np.float64)

    def half_widths(self) -> NDArray[np.float64]:
        """Half of the 95 % interval of each share: linearised ratio estimator, without replacement; 0 of all."""
        share = self.shares()
        if self.anchors >= self.population or self.anchors < 2 or not self.units:
            return np.zeros_like(share)
        residual = self._squares - 2 * share * self._products + share * share * self._unit_squares
        spread = np.maximum(0.0, residual) * self.anchors / (self.anchors - 1)
        half: NDArray[np.float64] = Z95 * np.sqrt((1 - self.anchors / self.population) * spread) / self.units
        return half


def empty_counts(anchors: int, bins: int, margins: int) -> kernels.Counts:
    """Zeros for a batch."""
    one, per_bin, per_margin = (anchors,), (anchors, bins), (anchors, margins)
    return kernels.Counts(
        np.zeros(one, np.int64), np.zeros(one, np.int64), np.zeros(one), np.zeros(per_bin, np.int64),
        np.zeros(per_bin, np.int64), np.zeros(one, np.int64), np.zeros(per_margin, np.int64), np.zeros(per_margin),
        np.zeros(per_margin, np.int64), np.zeros(per_margin, np.int64),
    )  # fmt: skip


def spread_room(rows: int) -> kernels.Spread:
    """Scratch for the distances of one kind."""
    return kernels.Spread(
        np.empty(rows), np.empty(rows, np.int32), np.empty(rows + 1, np.int64),
        np.empty(kernels.MOST_BUCKETS + 2, np.int32),
    )  # fmt: skip


def sorting_room(rows: int) -> kernels.Room:
    """Scratch for the distances of one anchor: ROOM_BYTES a row."""
    return kernels.Room(
        spread_room(rows), spread_room(rows), np.empty(rows, np.int8), np.empty(rows, np.int32), np.zeros(5),
        np.empty(rows, np.int64),
    )  # fmt: skip


class Counting:
    """Counts around anchors, strip by strip, on all threads.

    Parameters
    ----------
    searcher : Searcher
        Its memory decides how many anchors meet the rows together, and how many threads have room to sort: one at
        least.
    progress : Progress
    """

    def __init__(self, searcher: Searcher, progress: Progress) -> None:
        self.loaded, self.code = searcher.loaded, searcher.metric.code
        self.limits, self.workers, self.progress = searcher.limits, searcher.workers, progress
        rows, room = self.loaded.store.rows, searcher.plan.bytes["room"]
        strips = room // STRIP_SHARE
        self.threads = int(max(1, min(self.limits.threads, (room - strips) // (ROOM_BYTES * rows))))
        self.strip = int(max(1, min(STRIP_ANCHORS, strips // self.threads // (8 * rows))))
        self._x = [np.empty((self.strip, rows)) for _ in range(self.threads)]
        self._room = [sorting_room(rows) for _ in range(self.threads)]

    def distances(self, slots: NDArray[np.int32], out_x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Canonical distances of a strip of anchors to all rows, float64 (S, n)."""
        loaded, x = self.loaded, out_x[: slots.size]
        anchors, square = loaded.gather(slots), loaded.rows.square
        width = kernels.CHUNK_ROWS
        panel = kernels.Panel(np.empty((loaded.store.dimension, width)), np.empty((2, width)))
        for first in range(0, loaded.store.rows, self.limits.block_rows):
            end = min(loaded.store.rows, first + self.limits.block_rows)
            block = loaded.store.block(first, end)
            kernels.strip_distances(self.code, anchors, square[slots], block, square, first, panel, x)
        return x

    def edges(self, slots: NDArray[np.int32]) -> NDArray[np.float64]:
        """Edges of the bins: 0 to 2 for cosine, else from the least to the largest distance of some anchors."""
        if METRICS["cosine"].code == self.code:
            return np.linspace(0.0, 2.0, BINS + 1)
        least, largest = math.inf, -math.inf
        for first in range(0, min(slots.size, PROBE_ANCHORS), self.strip):
            x = self.distances(slots[first : first + self.strip], self._x[0])
            least, largest = min(least, float(x.min())), max(largest, float(x.max()))
        return np.linspace(least, largest if largest > least else least + 1.0, BINS + 1)

    def batches(
        self, slots: NDArray[np.int32], edges: NDArray[np.float64], margins: NDArray[np.float64]
    ) -> Iterator[kernels.Counts]:
        """The counts of the anchors, batch by batch."""
        for start in range(0, slots.size, BATCH_ANCHORS):
            batch = slots[start : start + BATCH_ANCHORS]
            out = empty_counts(batch.size, edges.size - 1, margins.size)
            todo = deque(range(0, batch.size, self.strip))
            self.workers.run(
                [self._counter(thread, batch, edges, margins, todo, out) for thread in range(self.threads)]
            )
            yield out

    def _counter(
        self, thread: int, batch: NDArray[np.int32], edges: NDArray[np.float64], margins: NDArray[np.float64],
        todo: deque[int], out: kernels.Counts,
    ) -> Callable[[], None]:  # fmt: skip
        """The task of one thread: strip after strip until none is left."""

        def task() -> None:
            while todo:
                try:
                    first = todo.popleft()
                except IndexError:
                    return
                own = batch[first : first + self.strip]
                x = self.distances(own, self._x[thread])
                kernels.count_strip(self.loaded.rows, own, x, edges, margins, self._room[thread], first, out)
                self.progress.advance(x.size)

        return task

    def relations(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many positives and negatives every row has, pair by pair: for relations beyond plain labels."""
        rows = self.loaded.store.rows
        positives, negatives = np.zeros(rows, np.int64), np.zeros(rows, np.int64)
        lock, todo = threading.Lock(), deque(range(0, rows, BATCH_ANCHORS))

        def task() -> None:
            while True:
                with lock:
                    if not todo:
                        return
                    first = todo.popleft()
                end = min(rows, first + BATCH_ANCHORS)
                kernels.count_relations(self.loaded.rows, first, end, positives, negatives)

        self.workers.run([task] * self.limits.threads)
        return positives, negatives


def summed(batches: Iterator[kernels.Counts], population: int) -> dict[str, Ratio]:
    """Every sum of SUMS over all batches."""
    ratios = {name: Ratio(population) for name in SUMS}
    for batch in batches:
        for name, of in SUMS.items():
            ratios[name].add(*of(batch))
    return ratios
