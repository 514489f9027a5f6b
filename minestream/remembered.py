"""What is known of each anchor's neighbourhood before anything is searched: lists of candidates up to a horizon.

An anchor's list of a kind (positives, negatives) holds every candidate of that kind that is nearer than its horizon,
with canonical distances. Where that decides a pair the list answers as a search would: the rules are offered the same
candidates. Where it does not, the anchor is left to the search.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from minestream.answers import Found, empty_best, found_of
from minestream.kernels.choose import NEAREST, NEGATIVE, POSITIVE, Pairs, Rule
from minestream.kernels.remember import offer_lists
from minestream.load import Loaded

KINDS = {"positive": POSITIVE, "negative": NEGATIVE}
Slots = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Lists:
    """One kind of candidates of every slot, in no order within a list.

    Attributes
    ----------
    start : int64[n + 1]
    slot : int32[]
    x : float64[]
        Canonical distances.
    horizon : float64[n]
        Every candidate nearer than this is listed, and no other; inf: all there are; -inf: nothing is known.
    """

    start: NDArray[np.int64]
    slot: Slots
    x: NDArray[np.float64]
    horizon: NDArray[np.float64]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """How many candidates each slot's list has."""
        return np.diff(self.start)

    @property
    def owner(self) -> NDArray[np.int64]:
        """The slot whose list an entry stands in."""
        return np.repeat(np.arange(self.horizon.size), self.lengths)

    def moved(self, to: NDArray[np.int64], anchors: Slots, size: int) -> Lists:
        """The lists when slot i has become slot to[i] of `size`, or is gone (-1), from the lists of the others too.

        Only `anchors` of the new slots keep theirs: nobody else's is brought up to date.
        """
        horizon, wanted = np.full(size, -np.inf), np.zeros(size, bool)
        horizon[to[to >= 0]] = self.horizon[to >= 0]
        wanted[anchors] = True
        horizon[~wanted] = -np.inf
        owner, slot = to[self.owner], to[self.slot].astype(np.int32)
        keep = (owner >= 0) & (slot >= 0)
        keep[keep] = wanted[owner[keep]]
        return lists_of(owner[keep], slot[keep], self.x[keep], horizon)

    def joined(self, owner: NDArray[np.int64], slot: Slots, x: NDArray[np.float64]) -> Lists:
        """The lists with further candidates, nearer than the horizons of their owners."""
        return lists_of(
            np.concatenate([self.owner, owner]), np.concatenate([self.slot, slot]), np.concatenate([self.x, x]),
            self.horizon,
        )  # fmt: skip

    def renewed(self, anchors: Slots, found: Found, take: int) -> Lists:
        """The lists with those of some anchors replaced by what a search for the `take` nearest found."""
        counts = np.diff(found.start)
        horizon = self.horizon.copy()
        horizon[anchors] = np.inf
        cut = counts == take  # there may be more, as far away as the last
        horizon[anchors[cut]] = found.x[found.start[1:][cut] - 1]
        old = ~np.isin(np.arange(horizon.size), anchors)[self.owner]
        owner = np.repeat(anchors.astype(np.int64), counts)
        fresh = found.x < horizon[owner]
        return lists_of(
            np.concatenate([self.owner[old], owner[fresh]]), np.concatenate([self.slot[old], found.slot[fresh]]),
            np.concatenate([self.x[old], found.x[fresh]]), horizon,
        )  # fmt: skip

    def trimmed(self, most: int, length: int) -> Lists:
        """The lists with the horizons of those longer than `most` drawn in so that they are no longer than `length`."""
        long = self.lengths > most
        if not long.any():
            return self
        entry = np.flatnonzero(np.repeat(long, self.lengths))
        owner = self.owner
        entry = entry[np.lexsort((self.x[entry], owner[entry]))]
        last = entry[np.cumsum(self.lengths[long]) - self.lengths[long] + length]
        horizon = self.horizon.copy()
        horizon[long] = self.x[last]
        keep = self.x < horizon[owner]
        return lists_of(owner[keep], self.slot[keep], self.x[keep], horizon)

    def answers(self, loaded: Loaded, anchors: Slots, pairs: Pairs, rule: Rule) -> tuple[Found, NDArray[np.int64]]:
        """What the lists answer, and the places of the anchors for which that is not, or may not be, the answer."""
        lengths = self.lengths[anchors]
        capacity = rule.take + rule.skip if rule.take else max(1, int(lengths.max(initial=0)))
        best = empty_best(rule, pairs.positive.size, capacity)
        dimension = loaded.store.dimension
        offer_lists(
            loaded.rows, rule, pairs, best, anchors, self.start, self.slot, self.x, np.empty(dimension),
            np.empty((0, dimension)), np.empty(0, np.int64),
        )  # fmt: skip
        of_pair = np.repeat(np.arange(anchors.size), np.diff(pairs.start))
        horizon = self.horizon[anchors][of_pair]
        covered = (horizon == np.inf) | ((pairs.high < horizon) & (pairs.low <= horizon))
        enough = (best.found == capacity) & (rule.pick == NEAREST and rule.take > 0)
        left = np.unique(of_pair[~(covered | enough)])
        return found_of(rule, loaded.rows.rank, best), left


def lists_of(owner: NDArray[np.int64], slot: Slots, x: NDArray[np.float64], horizon: NDArray[np.float64]) -> Lists:
    """Lists of entries that come in any order."""
    order = np.argsort(owner, kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=horizon.size))])
    return Lists(start, slot[order], x[order], horizon)


def no_lists(size: int) -> Lists:
    """Lists of slots of which nothing is known."""
    return lists_of(np.empty(0, np.int64), np.empty(0, np.int32), np.empty(0), np.full(size, -np.inf))


@dataclass
class Remembered:
    """The lists of both kinds, and how often they did not do.

    Attributes
    ----------
    kinds : dict of int to Lists
        By POSITIVE and NEGATIVE.
    left : set of int
        Slots of the anchors that had to be searched for, to list their neighbours or because these do not decide.
    """

    kinds: dict[int, Lists]
    left: set[int] = field(default_factory=set)

    def answers(self, loaded: Loaded, anchors: Slots, pairs: Pairs, rule: Rule) -> tuple[Found, NDArray[np.int64]]:
        """What the lists answer, and the places of the anchors that are left to the search."""
        found, left = self.kinds[rule.wanted].answers(loaded, anchors, pairs, rule)
        self.left.update(anchors[left].tolist())
        return found, left
