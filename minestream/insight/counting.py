"""Sums over anchors of what around.py counts for each, against all rows, with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from queue import SimpleQueue
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.config.metrics import METRICS
from minestream.insight.around import count_anchor
from minestream.kernels import profile as kernels
from minestream.kernels.relation import relations
from minestream.search.searcher import Searcher
from minestream.system.progress import Progress

BATCH_ANCHORS = 1_024  # counted before they are summed: fixed, so that sums do not depend on threads or memory
STRIP_ANCHORS = 64
ROOM_BYTES = 53  # what sorting takes for each row, in each thread
STRIP_SHARE = 4  # one part in so many of the free memory is for the distances of strips; the rest is for sorting
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
        How many anchors there are; those added are all of them, or drawn without replacement.
    """

    def __init__(self, population: int) -> None:
        self.population, self.anchors, self.units = population, 0, 0
        self.total: Any = 0
        self._squares: Any = 0.0
        self._products: Any = 0.0
        self._unit_squares = 0.0

    def add(self, counts: NDArray[Any], units: NDArray[Any]) -> None:
        """Add the counts (A, K) and units (A,) of more anchors."""
        self.anchors += units.size
        self.units += int(units.sum())
        self.total = self.total + counts.sum(axis=0)
        values, unit = counts.astype(np.float64), units.astype(np.float64)
        self._squares = self._squares + (values * values).sum(axis=0)
        self._products = self._products + (values * unit[:, None]).sum(axis=0)
        self._unit_squares += float((unit * unit).sum())

    def shares(self) -> NDArray[np.float64]:
        """Sum divided by units, float64[K]; NaN when there are no units."""
        return np.asarray(self.total / self.units if self.units else np.full(np.shape(self.total), np.nan), np.float64)

    def half_widths(self) -> NDArray[np.float64]:
        """Half the width of the 95 % interval of each share: linearised ratio estimator; 0 when all were counted."""
        share = self.shares()
        if self.anchors >= self.population or self.anchors < 2 or not self.units:
            return np.zeros_like(share)
        residual = self._squares - 2 * share * self._products + share * share * self._unit_squares
        spread = np.maximum(0.0, residual) * self.anchors / (self.anchors - 1)
        half: NDArray[np.float64] = Z95 * np.sqrt((1 - self.anchors / self.population) * spread) / self.units
        return half


def empty_counts(anchors: int, bins: int, margins: int) -> kernels.Counts:
    """Zeros for a batch."""
    shapes = {"positive_bins": (bins,), "negative_bins": (bins,)}
    shapes |= dict.fromkeys(("semi_hard", "loss", "within", "served"), (margins,))
    sums = ("precision", "loss")  # the others are counts
    return kernels.Counts(*(
        np.zeros((anchors, *shapes.get(name, ())), np.float64 if name in sums else np.int64)
        for name in kernels.Counts._fields
    ))  # fmt: skip


class Counting:
    """Counts around anchors, a strip of anchors at a time, on all threads.

    Parameters
    ----------
    searcher : Searcher
        Its memory decides how many anchors meet the rows together, and how many threads have room to sort: at least
        one.
    progress : Progress
    """

    def __init__(self, searcher: Searcher, progress: Progress) -> None:
        self.loaded, self.code = searcher.loaded, searcher.metric.code
        self.limits, self.workers, self.progress = searcher.limits, searcher.workers, progress
        rows, memory = self.loaded.store.rows, searcher.plan.bytes["room"]
        strips = memory // STRIP_SHARE
        threads = int(max(1, min(self.limits.threads, (memory - strips) // (ROOM_BYTES * rows))))
        self.strip = int(max(1, min(STRIP_ANCHORS, strips // threads // (8 * rows))))
        self._scratch: SimpleQueue[tuple[NDArray[np.float64], NDArray[np.int8]]] = SimpleQueue()
        for _ in range(threads):
            self._scratch.put((np.empty((self.strip, rows)), np.empty(rows, np.int8)))

    @contextmanager
    def _scratch_of_a_task(self) -> Iterator[tuple[NDArray[np.float64], NDArray[np.int8]]]:
        """Distances float64 (strip, n) and relations int8[n] that no other task uses; waits for one."""
        scratch = self._scratch.get()
        try:
            yield scratch
        finally:
            self._scratch.put(scratch)

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
            with self._scratch_of_a_task() as (out_x, _):
                x = self.distances(slots[first : first + self.strip], out_x)
                least, largest = min(least, float(x.min())), max(largest, float(x.max()))
        return np.linspace(least, largest if largest > least else least + 1.0, BINS + 1)

    def sums(
        self, slots: NDArray[np.int32], edges: NDArray[np.float64], margins: NDArray[np.float64]
    ) -> dict[str, Ratio]:
        """Every ratio of SUMS over the anchors `slots`."""
        ratios = {name: Ratio(self.loaded.store.rows) for name in SUMS}
        for start in range(0, slots.size, BATCH_ANCHORS):
            batch = slots[start : start + BATCH_ANCHORS]
            counts = empty_counts(batch.size, edges.size - 1, margins.size)

            def count(first: int, batch: NDArray[np.int32] = batch, counts: kernels.Counts = counts) -> None:
                strip = batch[first : first + self.strip]
                with self._scratch_of_a_task() as (out_x, kind):
                    x, rows = self.distances(strip, out_x), self.loaded.rows
                    for i, slot in enumerate(strip.tolist()):
                        relations(rows, slot, kind)
                        equal = rows.twin == rows.twin[slot]
                        count_anchor(x[i], kind, rows.rank, equal, edges, margins, first + i, counts)
                self.progress.advance(x.size)

            self.workers.run([partial(count, first) for first in range(0, batch.size, self.strip)])
            for name, of in SUMS.items():
                ratios[name].add(*of(counts))
        return ratios

    def relations(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """How many positives and negatives each row has: from the labels if nothing else counts, else pair by pair."""
        rows = self.loaded.rows
        size = rows.label.size
        if not (rows.set_start.size or rows.barred_start.size or rows.group.size):
            positives = np.bincount(rows.label)[rows.label] - 1
            return positives, size - 1 - positives
        positives, negatives = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self.workers.run([
            partial(kernels.count_relations, rows, first, min(size, first + BATCH_ANCHORS), positives, negatives)
            for first in range(0, size, BATCH_ANCHORS)
        ])  # fmt: skip
        return positives, negatives
