"""The answers of a search, pair by pair, from bounded lists or from everything that was taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.select import sort_lists
from minestream.kernels.types import (
    DUPLICATE,
    ELIGIBLE,
    IN_GROUP,
    POSITIVE,
    RANDOM,
    TALLIES,
    WEIGHTED,
    Best,
    Pairs,
    Rule,
)
from minestream.system import ragged
from minestream.system.stats import Effort

if TYPE_CHECKING:
    from minestream.kernels.refine import Taken


@dataclass(frozen=True)
class Found:
    """The answers of a search: of each pair in the pick's order.

    Attributes
    ----------
    start : int64[pairs + 1]
    slot : int32[found]
    x : float64[found]
        Canonical distances.
    nearer : int32[pairs]
        Candidates nearer than the band (where the rule counts them), up to NEARER_CAP.
    """

    start: NDArray[np.int64]
    slot: NDArray[np.int32]
    x: NDArray[np.float64]
    nearer: NDArray[np.int32]

    def of(self, pairs: NDArray[np.int64]) -> Found:
        """The answers of some of the pairs, in this order."""
        start, at = ragged.take(self.start, pairs)
        return Found(start, self.slot[at], self.x[at], self.nearer[pairs])


@dataclass(frozen=True)
class Voted(Found):
    """Answers on which several teachers agreed; `by` bool[found, teachers] says which of them found each."""

    by: NDArray[np.bool_]

    def of(self, pairs: NDArray[np.int64]) -> Voted:
        """The answers of some of the pairs, in this order."""
        start, at = ragged.take(self.start, pairs)
        return Voted(start, self.slot[at], self.x[at], self.nearer[pairs], self.by[at])


@dataclass(frozen=True)
class Scored(Found):
    """Answers that were chosen by other scores than their distances: `score` float64[found]."""

    score: NDArray[np.float64]

    def of(self, pairs: NDArray[np.int64]) -> Scored:
        """The answers of some of the pairs, in this order."""
        start, at = ragged.take(self.start, pairs)
        return Scored(start, self.slot[at], self.x[at], self.nearer[pairs], self.score[at])


NOTHING = Found(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0), np.empty(0, np.int32))


def joined(parts: Sequence[Found]) -> Found:
    """The answers of all parts, one part after another."""
    return Found(
        ragged.joined([part.start for part in parts]),
        *(np.concatenate([getattr(part, name) for part in (NOTHING, *parts)]) for name in ("slot", "x", "nearer")),
    )


def found_of(rule: Rule, rank: NDArray[np.int64], best: Best) -> Found:
    """The answers in bounded lists, which this sorts, in the pick's order."""
    if rule.take == 0:
        pair, entry = np.nonzero(_filled(best))
        order = np.lexsort((rank[best.slot[pair, entry]], best.key[pair, entry], pair))
        pair, entry = pair[order], entry[order]
        return Found(ragged.grouped(pair, best.found.size), best.slot[pair, entry], best.x[pair, entry], best.nearer)
    sort_lists(rank, best)
    return sorted_of(rule, best)


def sorted_of(rule: Rule, best: Best) -> Found:
    """The answers in bounded lists that are in the pick's order."""
    filled = _filled(best)
    if best.near_key.shape[1]:
        for near in range(best.near_key.shape[1]):
            listed = near < best.near_count
            filled &= ~(listed[:, None] & (best.slot == best.near_slot[:, near, None]))
        filled &= np.cumsum(filled, axis=1) <= rule.take
    else:
        filled[:, : rule.skip] = False
        filled[:, rule.skip + rule.take :] = False
    return Found(ragged.starts(filled.sum(axis=1)), best.slot[filled], best.x[filled], best.nearer)


def _filled(best: Best) -> NDArray[np.bool_]:
    filled: NDArray[np.bool_] = np.arange(best.key.shape[1])[None, :] < best.found[:, None]
    return filled


def taken_of(
    rank: NDArray[np.int64], pairs: NDArray[np.int64], pieces: list[Taken], nearer: NDArray[np.int32]
) -> Found:
    """The answers among what was taken for `pairs`, in their order; each pair's by key, then in key order."""
    if not pieces:
        return Found(np.zeros(pairs.size + 1, np.int64), np.empty(0, np.int32), np.empty(0), nearer)
    pair, slot, x, key = map(np.concatenate, zip(*pieces, strict=True))
    order = np.argsort(pairs)
    place = order[np.searchsorted(pairs[order], pair)]
    order = np.lexsort((rank[slot], key, place))
    return Found(ragged.grouped(place, pairs.size), slot[order], x[order], nearer)


def empty_best(rule: Rule, pairs: int, capacity: int) -> Best:
    """Lists for the best of `pairs` pairs, `capacity` each, with nothing in them."""
    near = rule.skip if rule.pick in (RANDOM, WEIGHTED) else 0
    return Best(
        np.empty((pairs, capacity), np.uint64), np.empty((pairs, capacity), np.int32), np.empty((pairs, capacity)),
        np.zeros(pairs, np.int64), np.empty((pairs, near), np.uint64), np.empty((pairs, near), np.int32),
        np.empty((pairs, near)), np.zeros(pairs, np.int64), np.zeros(pairs, np.int32), np.zeros(TALLIES, np.int64),
    )  # fmt: skip


def count_tally(effort: Effort, tally: NDArray[np.int64], wanted: int) -> None:
    """Add the counters of a kernel to the effort; searches for positives are not counted."""
    if wanted == POSITIVE:
        return
    effort.eligible += int(tally[ELIGIBLE])
    effort.in_group += int(tally[IN_GROUP])
    effort.duplicates += int(tally[DUPLICATE])


def groups_of(places: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    """The places in groups of at most `size`."""
    for first in range(0, places.size, size):
        yield places[first : first + size]


def sub_pairs(pairs: Pairs, places: NDArray[np.int64]) -> tuple[Pairs, NDArray[np.int64]]:
    """The pairs of some anchors, and which pairs they are."""
    start, of_pair = ragged.take(pairs.start, places)
    return Pairs._make([start, *(field[of_pair] for field in pairs[1:])]), of_pair


def patched(found: Found, of_pair: NDArray[np.int64], other: Found) -> Found:
    """`found` with the answers of the pairs `of_pair` taken from `other`."""
    order = np.arange(found.nearer.size)
    order[of_pair] = order.size + np.arange(of_pair.size)
    return joined([found, other]).of(order)


class Positives(NamedTuple):
    """Positives by anchor, in the positive rule's order."""

    start: NDArray[np.int64]  # [A + 1]
    slot: NDArray[np.int32]
    x: NDArray[np.float64]
    score: NDArray[np.float64] | None = None  # by which they were chosen, where that is not the distance
    rank: NDArray[np.int32] | None = None  # 1 and how many of the anchor's negatives are nearer, where that is asked

    def of(self, anchors: NDArray[np.int64]) -> Positives:
        """Those of some of the anchors, in this order."""
        start, at = ragged.take(self.start, anchors)
        return Positives._make([start, *(None if each is None else each[at] for each in self[1:])])

    def of_anchors(self, first: int, end: int) -> Positives:
        """Those of the anchors first ... end - 1."""
        own = slice(int(self.start[first]), int(self.start[end]))
        start = self.start[first : end + 1] - self.start[first]
        return Positives._make([start, *(None if each is None else each[own] for each in self[1:])])

    def where(self, keep: NDArray[np.bool_]) -> Positives:
        """Some of the positives."""
        start = ragged.kept(self.start, keep)
        return Positives._make([start, *(None if each is None else each[keep] for each in self[1:])])


def one_pair_each(anchors: int) -> Pairs:
    """One pair an anchor, without a positive, that takes every distance."""
    return Pairs(
        np.arange(anchors + 1), np.full(anchors, -1, np.int32), np.full(anchors, -np.inf), np.full(anchors, np.inf),
        np.full(anchors, -np.inf), np.zeros(anchors, np.uint64),
    )  # fmt: skip
