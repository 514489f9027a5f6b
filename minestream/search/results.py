"""The answers of a search: bounded lists, or all that was taken, brought together pair by pair."""

from __future__ import annotations

from collections.abc import Iterator
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
from minestream.system.stats import Effort

if TYPE_CHECKING:
    from minestream.kernels.refine import Taken


@dataclass(frozen=True)
class Found:
    """The answer of a search, pair by pair in the pick's order.

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


class Answers:
    """Collects what strips found, in any order of pairs."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs.positive.size
        self._pieces: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]] = []
        self._nearer = np.zeros(self._pairs, np.int32)

    def add(
        self, rule: Rule, rank: NDArray[np.int64], of_pair: NDArray[np.int64], best: Best, good: NDArray[np.bool_]
    ) -> None:
        """Take the answers of the pairs `of_pair[good]` over from a strip's lists."""
        chosen = _chosen(rule, rank, best, good)
        counts = np.zeros(of_pair.size, np.int64)
        np.add.at(counts, chosen[0], 1)
        self._pieces.append((of_pair[good], counts[good], best.slot[chosen], best.x[chosen]))
        self._nearer[of_pair[good]] = best.nearer[good]

    def finish(self) -> Found:
        """Everything, by pair."""
        counts = np.zeros(self._pairs, np.int64)
        for of_pair, count, _, _ in self._pieces:
            counts[of_pair] = count
        start = np.concatenate([[0], np.cumsum(counts)])
        slot, x = np.empty(start[-1], np.int32), np.empty(start[-1], np.float64)
        for of_pair, count, slots, distances in self._pieces:
            places = np.repeat(start[of_pair], count) + counting(count)
            slot[places], x[places] = slots, distances
        return Found(start, slot, x, self._nearer)


def found_of(rule: Rule, rank: NDArray[np.int64], best: Best) -> Found:
    """The answers in bounded lists."""
    pair, entry = _chosen(rule, rank, best, np.ones(best.found.size, bool))
    counts = np.bincount(pair, minlength=best.found.size)
    return Found(np.concatenate([[0], np.cumsum(counts)]), best.slot[pair, entry], best.x[pair, entry], best.nearer)


def taken_of(
    rank: NDArray[np.int64], pairs: NDArray[np.int64], pieces: list[Taken], nearer: NDArray[np.int32]
) -> Found:
    """The answers among what was taken for `pairs`, in their order; each pair's by key, then in key order."""
    if not pieces:
        return Found(np.zeros(pairs.size + 1, np.int64), np.empty(0, np.int32), np.empty(0), nearer)
    pair = np.concatenate([piece.pair for piece in pieces])
    slot = np.concatenate([piece.slot for piece in pieces])
    x = np.concatenate([piece.x for piece in pieces])
    key = np.concatenate([piece.key for piece in pieces])
    order = np.argsort(pairs)
    place = order[np.searchsorted(pairs[order], pair)]
    order = np.lexsort((rank[slot], key, place))
    counts = np.bincount(place, minlength=pairs.size)
    return Found(np.concatenate([[0], np.cumsum(counts)]), slot[order], x[order], nearer)


def counting(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... counts[0] - 1, 0, 1, ... counts[1] - 1, and so on."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if ends.size else 0) - np.repeat(ends - counts, counts)


def _chosen(
    rule: Rule, rank: NDArray[np.int64], best: Best, good: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places (pair, entry) of the answers in lists, which this sorts, in the pick's order."""
    filled = np.arange(best.key.shape[1])[None, :] < best.found[:, None]
    filled &= good[:, None]
    if rule.take == 0:
        pair, entry = np.nonzero(filled)
        order = np.lexsort((rank[best.slot[pair, entry]], best.key[pair, entry], pair))
        return pair[order], entry[order]
    sort_lists(rank, best)
    if best.near_key.shape[1]:
        for near in range(best.near_key.shape[1]):
            listed = near < best.near_count
            filled &= ~(listed[:, None] & (best.slot == best.near_slot[:, near, None]))
        filled &= np.cumsum(filled, axis=1) <= rule.take
    else:
        filled[:, : rule.skip] = False
        filled[:, rule.skip + rule.take :] = False
    pair, entry = np.nonzero(filled)
    return pair, entry


def empty_best(rule: Rule, pairs: int, capacity: int) -> Best:
    """Lists for the best of `pairs` pairs, `capacity` each, with nothing in them."""
    near = rule.skip if rule.pick in (RANDOM, WEIGHTED) else 0
    return Best(
        np.empty((pairs, capacity), np.uint64), np.empty((pairs, capacity), np.int32), np.empty((pairs, capacity)),
        np.zeros(pairs, np.int64), np.empty((pairs, near), np.uint64), np.empty((pairs, near), np.int32),
        np.empty((pairs, near)), np.zeros(pairs, np.int64), np.zeros(pairs, np.int32), np.zeros(TALLIES, np.int64),
    )  # fmt: skip


def count_tally(effort: Effort, tally: NDArray[np.int64], wanted: int) -> None:
    """Add what kernels counted; positives are not counted."""
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
    counts = pairs.start[places + 1] - pairs.start[places]
    of_pair = np.repeat(pairs.start[places], counts) + counting(counts)
    start = np.concatenate([[0], np.cumsum(counts)])
    return Pairs._make([start, *(field[of_pair] for field in pairs[1:])]), of_pair


def patched(found: Found, of_pair: NDArray[np.int64], other: Found) -> Found:
    """`found` with the answers of the pairs `of_pair` taken from `other`."""
    counts = np.diff(found.start)
    mine = np.ones(counts.size, bool)
    mine[of_pair] = False
    after, nearer = counts.copy(), found.nearer.copy()
    after[of_pair], nearer[of_pair] = np.diff(other.start), other.nearer
    start = np.concatenate([[0], np.cumsum(after)])
    slot, x = np.empty(start[-1], np.int32), np.empty(start[-1], np.float64)
    for source, pair, entries in (
        (found, np.flatnonzero(mine), np.repeat(mine, counts)),
        (other, of_pair, np.ones(other.slot.size, bool)),
    ):
        to = np.repeat(start[pair], after[pair]) + counting(after[pair])
        slot[to], x[to] = source.slot[entries], source.x[entries]
    return Found(start, slot, x, nearer)


class Chosen(NamedTuple):
    """Positives by anchor, in the positive rule's order."""

    start: NDArray[np.int64]  # [A + 1]
    slot: NDArray[np.int32]
    x: NDArray[np.float64]

    def of_anchors(self, first: int, end: int) -> Chosen:
        """Those of the anchors first ... end - 1."""
        own = slice(int(self.start[first]), int(self.start[end]))
        return Chosen(self.start[first : end + 1] - self.start[first], self.slot[own], self.x[own])


def one_pair_each(anchors: int) -> Pairs:
    """One pair an anchor, without a positive, that takes every distance."""
    return Pairs(
        np.arange(anchors + 1), np.full(anchors, -1, np.int32), np.full(anchors, -np.inf), np.full(anchors, np.inf),
        np.full(anchors, -np.inf), np.zeros(anchors, np.uint64),
    )  # fmt: skip


Floats = NDArray[np.float64]
Interval = tuple[Floats, Floats]
