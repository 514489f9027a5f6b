"""The work of a run and of a search, and how much of it is done, as progress in anchors.

The unit of work is one coordinate of a product in the tile. Other work is converted by weights that hardly differ from
machine to machine. How much of it a run does a second is measured (rates.py).
"""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.inputs.dataset.dataset import Dataset
from minestream.kernels.types import NEGATIVE, POSITIVE, Rule
from minestream.system.progress import Progress

PRODUCT = 16  # of a product beside its coordinates: the gates
SCANNED = 60  # of a coordinate in the scan
CODE = 600  # of a coordinate that is encoded
PASSED = 4  # of a product that labels rule out
PROBED, PROBED_COORDINATE = 450_000, 1_030  # of an anchor: its first gates, from the candidates around it
SURVIVOR, SURVIVOR_COORDINATE = 37_000, 200  # of a candidate that passes the gates, and becomes exact
SURVIVORS = 0.7  # for each that a pair takes, and one more, each time that the rows seen grow by e
SEEN_ROWS = 2_048  # by the probe
ROW = 20_000  # written
AROUND_ROWS = 1_024  # candidates that the probe looks at, around each anchor, at most; and AROUND_SHARE of all there
AROUND_SHARE, AROUND_LENGTHS = 0.06, 8  # are, or as many as are looked for so many times


class WorkMeter:
    """Advances `progress` as work is done, up to `anchors` when all is. Any thread may call advance().

    The total is the planned work. Work outside the plan, as of a repeated search, is added when it begins.
    """

    def __init__(self, progress: Progress | None = None, anchors: int = 0) -> None:
        self._progress, self._anchors = progress, anchors
        self.total = self.done = self._planned = 0.0
        self._reported = 0
        self._lock = threading.Lock()

    def plan(self, work: float) -> None:
        """Add work to the total."""
        self.total += work

    def begin_stage(self, planned: float) -> None:
        """Begin a stage that was planned as so much work. What is left of the stage before leaves the total."""
        self.total -= self._planned
        self._planned = planned

    def begin(self, work: float) -> None:
        """Begin a search of so much work: what exceeds the plan of its stage is added to the total."""
        taken = min(work, self._planned)
        self._planned -= taken
        self.total += work - taken

    def revise(self, more: float) -> None:
        """Add work, or take it away, that the current search was not expected to have. What is done stays done."""
        with self._lock:
            self.total = max(self.total + more, self.done)

    def advance(self, work: float) -> None:
        """Add work that is done."""
        with self._lock:
            self.done = min(self.done + work, self.total)
            self._report(int(self._anchors * self.done / self.total) if self.total else 0)

    def finish(self) -> None:
        """Report all anchors as done."""
        with self._lock:
            self._report(self._anchors)

    def _report(self, anchors: int) -> None:
        if self._progress is not None and anchors > self._reported:
            self._progress.advance(anchors - self._reported)
            self._reported = anchors


class Work(NamedTuple):
    """The work of a search: the probe of its anchors, its products, making survivors exact."""

    probe: float
    products: float
    survivors: float


def search_work(loaded: Dataset, anchors: NDArray[np.int32], pairs: int, rule: Rule, swept: bool) -> Work:
    """The work of a search for so many pairs of these anchors. In a sweep one product serves two anchors."""
    dimension, count = loaded.store.dimension, anchors.size
    candidates = loaded.store.rows - loaded.first_candidate
    products = float(loaded.candidates_of(anchors).sum())
    if not swept:
        return Work(0.0, SCANNED * products * (dimension + PRODUCT), 0.0)
    matching = products if loaded.labels.multiple else partners(loaded, anchors, rule.wanted)
    twice = count / (2 * candidates) if loaded.first_candidate == 0 and candidates else 0.0
    grown = 1 + max(0.0, math.log(max(1.0, matching / max(1, count) / SEEN_ROWS)))
    survivors = SURVIVORS * pairs * (rule.take + rule.skip + 1) * grown if rule.take else matching
    return Work(
        count * float(PROBED + PROBED_COORDINATE * dimension),
        (1 - twice) * (matching * (dimension + PRODUCT) + (products - matching) * PASSED),
        min(matching, survivors) * survivor_work(loaded),
    )


def partners(loaded: Dataset, anchors: NDArray[np.int32], wanted: int) -> float:
    """About how many positives or negatives, as wanted, these anchors have in all, by labels and parents."""
    positives, parent, first = float(loaded.positives[anchors].sum()), loaded.rows.parent, loaded.first_candidate
    if wanted != NEGATIVE:
        return positives
    every = float(loaded.candidates_of(anchors).sum())
    if parent.size:
        of_parent = np.bincount(parent[first:] + 1, minlength=int(parent.max(initial=0)) + 2)
        of_parent[0] = 0  # an unknown one is shared with none
        every = float(of_parent[parent[anchors] + 1].sum())
    return max(0.0, every - positives)


def rows_around(loaded: Dataset, anchors: NDArray[np.int32], rule: Rule) -> int:
    """How many candidates the probe looks at around each of these anchors."""
    there = float(loaded.store.rows - loaded.first_candidate)
    if (rule.wanted == POSITIVE or loaded.rows.parent.size) and anchors.size:
        there = partners(loaded, anchors, rule.wanted) / anchors.size
    least = AROUND_LENGTHS * (rule.take + rule.skip)
    return min(AROUND_ROWS, max(least, int(AROUND_SHARE * there)))


def survivor_work(loaded: Dataset) -> float:
    """The work of one survivor, from its gates to its exact distance."""
    return float(SURVIVOR + SURVIVOR_COORDINATE * loaded.store.dimension)
