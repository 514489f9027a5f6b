"""The vectors that a step needs: all of them, where they are in memory; else those of its survivors, from scratch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.refine import Vectors, named
from minestream.kernels.sweep import Survivors
from minestream.kernels.types import WITHIN, Pairs, Rule
from minestream.search.context import SearchContext
from minestream.system import ragged


class Gathering:
    """Gathers vectors of lanes; what it gave last may change when it is asked again.

    Parameters
    ----------
    setting : SearchContext
    slot : int32[n]
        Of each lane.
    pairs : Pairs
        Of the lanes, the first ones, that hold anchors.
    rule : Rule
        By which duplicates are judged: positives are gathered where a distance to them does.
    """

    def __init__(self, setting: SearchContext, slot: NDArray[np.int32], pairs: Pairs, rule: Rule) -> None:
        self.setting, self.slot, self.pairs = setting, slot, pairs
        positives = pairs.positive[: None if rule.positive_duplicates == WITHIN else 0]
        whole = setting.loaded.store.whole()
        self.whole = None if whole is None else Vectors(whole, slot.astype(np.int64), positives.astype(np.int64))
        self.at = np.full(slot.size if whole is None else 0, -1)
        self.positive_at = np.zeros(positives.size if whole is None else 0, np.int64)
        self.last = np.empty(0, np.int32)

    def of_survivors(self, found: Survivors, bounds: NDArray[np.int64]) -> Vectors:
        """Those of the anchors and the candidates of some survivors; found, bounds : see refine.refine()."""
        if self.whole is not None:
            return self.whole
        self.at[self.last] = -1
        out = np.empty(min(self.slot.size, 2 * int(bounds[:, -1].sum())), np.int32)
        anchors, lanes = named(found, bounds, self.at, out)
        self.last = out[:lanes]
        return self.of_lanes(self.last, self.last[:anchors])

    def of_lanes(self, lanes: NDArray[np.int32], anchors: NDArray[np.int32]) -> Vectors:
        """Those of some lanes, each given once, and where they are needed those of the positives of some anchors."""
        if self.whole is not None:
            return self.whole
        wanted, pair = self.slot[lanes], np.empty(0, np.int64)
        if self.positive_at.size:
            _, pair = ragged.take(self.pairs.start, anchors.astype(np.int64))
            wanted = np.concatenate([wanted, self.pairs.positive[pair]])
        store = self.setting.loaded.store
        _, first, back = np.unique(store.places(wanted), return_index=True, return_inverse=True)
        self.at[self.last] = -1
        self.at[lanes], self.positive_at[pair] = back[: lanes.size], back[lanes.size :]
        self.last = lanes
        rows = store.take(wanted[first], self.setting.workers, self.setting.limits.threads)
        return Vectors(rows, self.at, self.positive_at)
