"""How a run looks, everywhere or where rows are near, and the exact answers that tell how much it finds."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.mining.negatives import Task
from minestream.search.near import Schedule, widths_of
from minestream.search.results import Found
from minestream.system import ragged
from minestream.system.recall import EXACTLY, PAIRS, counted


class Exact(NamedTuple):
    """The exact answers of some anchors.

    anchors : int32[m], slots, ascending
    task : what was searched for
    found : the negatives of each of its pairs
    """

    anchors: NDArray[np.int32]
    task: Task
    found: Found

    def shares(self, near: NDArray[np.uint16]) -> NDArray[np.float64]:
        """Of each anchor with negatives, by width, the share of them that is looked at: float64[anchors, k + 2]."""
        anchor = ragged.owners(self.task.pairs.start)[ragged.owners(self.found.start)]
        counts = np.zeros((self.anchors.size, near.shape[1] + 2))
        np.add.at(counts, (anchor, widths_of(near, self.anchors[anchor], self.found.slot)), 1)
        wanted = counts.sum(axis=1)
        shares: NDArray[np.float64] = np.cumsum(counts, axis=1)[wanted > 0] / wanted[wanted > 0, None]
        return shares


class Looking(NamedTuple):
    """How a run looks: where to, or everywhere and why; and the exact answers by which its recall is measured."""

    schedule: Schedule | None
    measured: Exact | None = None
    why: str = ""

    def counts(self, anchors: int) -> dict[str, int]:
        """What counters hold of it."""
        share = 1.0 if self.schedule is None else self.schedule.share()
        return counted(PAIRS, np.full(anchors, share)) | ({f"{EXACTLY} {self.why}": anchors} if self.why else {})
