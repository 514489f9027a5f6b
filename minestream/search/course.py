"""The course of a run: how much work is known, how much of it is done, told as anchors; and what work a search is.

Work is counted in coordinates of products, as the tile computes them; what else a search does is told in the same unit,
by weights that hardly differ from machine to machine. How much of it a run does a second is measured (rates.py).
"""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.inputs.dataset.dataset import Loaded
from minestream.kernels.types import NEGATIVE, Rule
from minestream.system.progress import Progress

PRODUCT = 16  # what a product costs beside its coordinates: the gates
SCANNED = 60  # of a coordinate in the scan
CODE = 600  # of a coordinate that is made a code
PASSED = 4  # of a product that labels rule out
PROBED, PROBED_COORDINATE = 320_000, 4_000  # of an anchor: its first gates, from the sample
SURVIVOR, SURVIVOR_COORDINATE = 8_000, 4  # of what passes the gates, and is made exact
SURVIVORS = 3  # for each that a pair takes, and one more, each time that the rows seen grow by e
SEEN_ROWS = 2_048  # by the probe
ROW = 20_000  # written


class Course:
    """Tells `progress` how far the work is, as so many of `anchors`; may be told of work by any thread.

    The total is what was planned; work that nobody planned, as of a second look, makes it grow when it begins.
    """

    def __init__(self, progress: Progress | None = None, anchors: int = 0) -> None:
        self._progress, self._anchors = progress, anchors
        self.total = self.done = self._planned = 0.0
        self._told = 0
        self._lock = threading.Lock()

    def plan(self, work: float) -> None:
        """There will be so much."""
        self.total += work

    def turn_to(self, planned: float) -> None:
        """What comes now was planned as so much; what is left of the plan of what came before falls away."""
        self.total -= self._planned
        self._planned = planned

    def begin(self, work: float) -> None:
        """A search begins that is so much."""
        taken = min(work, self._planned)
        self._planned -= taken
        self.total += work - taken

    def revise(self, more: float) -> None:
        """The search that goes on is so much more than was said when it began, or less: what is done stays done."""
        with self._lock:
            self.total = max(self.total + more, self.done)

    def advance(self, work: float) -> None:
        """So much is done."""
        with self._lock:
            self.done = min(self.done + work, self.total)
            self._tell(int(self._anchors * self.done / self.total) if self.total else 0)

    def finish(self) -> None:
        """All is done."""
        with self._lock:
            self._tell(self._anchors)

    def _tell(self, anchors: int) -> None:
        if self._progress is not None and anchors > self._told:
            self._progress.advance(anchors - self._told)
            self._told = anchors


class Work(NamedTuple):
    """The work of a search: the probe of its anchors, its products, what is made of survivors."""

    probe: float
    products: float
    survivors: float


def search_work(loaded: Loaded, anchors: NDArray[np.int32], pairs: int, rule: Rule, swept: bool) -> Work:
    """What a search for so many pairs of these anchors is; in a sweep one product serves two anchors."""
    dimension, count = loaded.store.dimension, anchors.size
    candidates = loaded.store.rows - loaded.first_candidate
    every, matching = float(count) * candidates, float(loaded.positives[anchors].sum())
    if not swept:
        return Work(0.0, SCANNED * every * (dimension + PRODUCT), 0.0)
    if loaded.labels.multiple:
        matching = every
    elif rule.wanted == NEGATIVE:
        matching = every - matching
    twice = count / (2 * candidates) if loaded.first_candidate == 0 and candidates else 0.0
    grown = 1 + max(0.0, math.log(max(1.0, matching / max(1, count) / SEEN_ROWS)))
    survivors = SURVIVORS * pairs * (rule.take + rule.skip + 1) * grown if rule.take else matching
    return Work(
        count * float(PROBED + PROBED_COORDINATE * dimension),
        (1 - twice) * (matching * (dimension + PRODUCT) + (every - matching) * PASSED),
        min(matching, survivors) * survivor_work(loaded),
    )


def survivor_work(loaded: Loaded) -> float:
    """What one is, that passes the gates and is made exact."""
    return float(SURVIVOR + SURVIVOR_COORDINATE * loaded.store.dimension)
