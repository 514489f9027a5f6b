"""How a run looks, everywhere or where rows are near, and the exact answers that tell how much it finds."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.types import Pairs
from minestream.mining.positives import Search, nearest_first
from minestream.search.context import SearchContext
from minestream.search.near import Schedule, widths_of
from minestream.search.results import Found, Positives, sub_pairs
from minestream.search.search import search_once
from minestream.system import ragged
from minestream.system.recall import EXACTLY, PAIRS, counted


class Exact(NamedTuple):
    """The exact answers of some anchors.

    anchors : int32[m], slots, ascending
    positives : those chosen
    taken : those of them that filters leave
    pairs : with each of those
    found : the negatives of each pair
    """

    anchors: NDArray[np.int32]
    positives: Positives
    taken: Positives
    pairs: Pairs
    found: Found

    def of(self, places: NDArray[np.int64]) -> Exact:
        """The answers of some of the anchors, ascending."""
        pairs, at = sub_pairs(self.pairs, places)
        return Exact(self.anchors[places], self.positives.of(places), self.taken.of(places), pairs, self.found.of(at))

    def shares(self, near: NDArray[np.uint16], positives: Schedule | None) -> NDArray[np.float64]:
        """Of each anchor with negatives, by width, the share of them that is looked at: float64[anchors, k + 2].

        positives : where they are looked for; an anchor that does not reach all of its own has a share of 0
        """
        anchor = ragged.owners(self.pairs.start)[ragged.owners(self.found.start)]
        counts = np.zeros((self.anchors.size, near.shape[1] + 2))
        np.add.at(counts, (anchor, widths_of(near, self.anchors[anchor], self.found.slot)), 1)
        wanted = counts.sum(axis=1)
        shares = np.cumsum(counts, axis=1) / np.maximum(wanted, 1)[:, None]
        if positives is not None:
            shares *= (self.reached(near) <= positives.width)[:, None]
        found: NDArray[np.float64] = shares[wanted > 0]
        return found

    def reached(self, near: NDArray[np.uint16]) -> NDArray[np.int64]:
        """The least width at which each anchor looks at all of its positives, int64[anchors]."""
        start, slot, *_ = self.positives
        widths = np.zeros(self.anchors.size, np.int64)
        np.maximum.at(widths, ragged.owners(start), widths_of(near, ragged.repeat(self.anchors, start), slot))
        return widths


class Looking(NamedTuple):
    """How a run looks: where to, or everywhere and why; and the exact answers by which its recall is measured."""

    schedule: Schedule | None
    positives: Schedule | None = None  # where the nearest positives are looked for first; None: everywhere
    measured: Exact | None = None
    why: str = ""

    def positive_search(self, setting: SearchContext, search: Search) -> Search:
        """The search for positives; the nearest are looked for near each anchor first. `search` looks everywhere."""
        if self.positives is None:
            return search
        near = partial(search_once, replace(self.positives.limit(setting), timed=False))
        return nearest_first(near, search, setting.loaded)

    def counts(self, anchors: int) -> dict[str, int]:
        """What counters hold of it."""
        share = 1.0 if self.schedule is None else self.schedule.share
        return counted(PAIRS, np.full(anchors, share)) | ({f"{EXACTLY} {self.why}": anchors} if self.why else {})
