"""Training batches: communities of near pairs, and pairs put into batches in which none is a false negative.

A pair is an anchor with its positive. In a batch the positive of every other pair is a negative of an anchor; it is a
false one where it is no negative by labels, groups or lists, or equals the anchor or its positive, as a vector or in
another column, or lies nearer to the anchor than the anchor's own positive allows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.distances import distance, pair_total
from minestream.kernels.jit import kernel
from minestream.kernels.relation import relation
from minestream.kernels.types import NEGATIVE, Rows

OPEN = 64  # batches that are filled at a time
TRIED = 8  # full batches in which a place is sought for a pair that fits no other
AIMS = 3  # communities that a pair may be exchanged into, those with most of what is near it
PARTNERS = 8  # pairs of such a community that it may be exchanged for
NEAR = 256  # near pairs that count: few have more


class PairSlots(NamedTuple):
    """The slots of pairs, and what makes a false negative."""

    anchor: NDArray[np.int32]  # [pairs]
    positive: NDArray[np.int32]  # [pairs]
    rows: Rows
    related: bool  # by relations, equal vectors and equal values
    metric: int
    least: NDArray[np.float64]  # [pairs] nearer to the anchor is a false negative; or [0]: whatever the distance
    vectors: np.ndarray  # [slots, d]; read only where there is `least`
    same: NDArray[np.int32]  # [columns, 2, pairs] codes of values of anchors and positives; -1 equals none


@kernel
def false_negative(pairs: PairSlots, i: int, j: int) -> bool:
    """Whether the positive of pair j is a false negative for the anchor of pair i."""
    a, p, rows = pairs.anchor[i], pairs.positive[j], pairs.rows
    if pairs.related:
        if relation(rows, a, p) != NEGATIVE:
            return True
        if rows.twin[p] == rows.twin[a] or rows.twin[p] == rows.twin[pairs.positive[i]]:
            return True
        for column in range(pairs.same.shape[0]):
            own, other = pairs.same[column, :, i], pairs.same[column, 1, j]
            if other >= 0 and (other == own[0] or other == own[1]):
                return True
    if pairs.least.size == 0:
        return False
    total = pair_total(pairs.metric, pairs.vectors[a], pairs.vectors[p])
    return distance(pairs.metric, total, rows.square[a], rows.square[p]) < pairs.least[i]


@kernel
def _in_the_way(pairs: PairSlots, members: np.ndarray, count: int, i: int) -> tuple[int, int]:
    """How many of the first `count` members, up to two, may not stand beside pair i; and the last of them."""
    found, last = 0, -1
    for place in range(count):
        j = members[place]
        if false_negative(pairs, i, j) or false_negative(pairs, j, i):
            found, last = found + 1, place
            if found == 2:
                break
    return found, last


@kernel
def _fits(pairs: PairSlots, members: np.ndarray, count: int, i: int) -> bool:
    """Whether pair i may stand beside the first `count` members."""
    return _in_the_way(pairs, members, count, i)[0] == 0


@kernel
def _into_one(pairs: PairSlots, members: np.ndarray, counts: np.ndarray, kept: int, i: int) -> bool:
    """Put pair i into the first of OPEN batches from `kept` on that has room and that it fits."""
    for batch in range(kept, min(counts.size, kept + OPEN)):
        if counts[batch] < members.shape[1] and _fits(pairs, members[batch], counts[batch], i):
            members[batch, counts[batch]] = i
            counts[batch] += 1
            return True
    return False


@kernel
def grow(
    pairs: PairSlots, start: np.ndarray, near: np.ndarray, order: np.ndarray, members: np.ndarray,
    out_group: np.ndarray,
) -> int:  # fmt: skip
    """Communities: each begins with the next pair in order and takes in those near its members, nearest first.

    Parameters
    ----------
    start, near : int64[pairs + 1], int64[entries]
        The pairs near each pair, nearest first.
    order : int64[m]
    members : int64[size]
        Worked in: as many make a community, none a false negative to another.
    out_group : int64[pairs], -1 for pairs without a community so far: its number is written

    Returns
    -------
    int
        The number of communities.
    """
    size, groups = members.size, 0
    for seed in order:
        if out_group[seed] >= 0:
            continue
        members[0], out_group[seed] = seed, groups
        count, at = 1, 0
        while at < count < size:
            for entry in range(start[members[at]], start[members[at] + 1]):
                j = near[entry]
                if out_group[j] < 0 and _fits(pairs, members, count, j):
                    members[count], out_group[j] = j, groups
                    count += 1
                    if count == size:
                        break
            at += 1
        groups += 1
    return groups


class Near(NamedTuple):
    """The pairs near each pair, and how much it counts that they stand together."""

    start: NDArray[np.int64]  # [pairs + 1]
    pair: NDArray[np.int64]  # nearest first
    weight: NDArray[np.int64]


class Communities(NamedTuple):
    """Which pairs stand together."""

    start: NDArray[np.int64]  # [communities + 1]
    members: NDArray[np.int64]  # [pairs]
    group: NDArray[np.int64]  # [pairs] the community of each pair
    place: NDArray[np.int64]  # [pairs] where it stands among the members
    inside: NDArray[np.int64]  # [communities] 0: worked in, what is near a pair
    met: NDArray[np.int64]  # [NEAR] worked in


@kernel
def exchange(pairs: PairSlots, near: Near, order: np.ndarray, parts: Communities) -> None:
    """Exchange pairs of two communities where more of what is near then stands together, and no false negatives do.

    Notes
    -----
    A pass of Kernighan and Lin that takes each gain as it comes. Cost: NEAR weights a pair; of a pair that gains by
    going elsewhere PARTNERS times as many, and twice the size of a community in relations.
    """
    for i in order:
        count = 0
        for entry in range(near.start[i], min(near.start[i + 1], near.start[i] + NEAR)):
            group = parts.group[near.pair[entry]]
            if parts.inside[group] == 0:
                parts.met[count] = group
                count += 1
            parts.inside[group] += near.weight[entry]
        own = parts.inside[parts.group[i]]
        for _ in range(AIMS):
            aim, most = -1, own
            for group in parts.met[:count]:
                if parts.inside[group] > most:
                    aim, most = group, parts.inside[group]
            if aim < 0:
                break
            j = _partner(pairs, near, parts, i, aim, most - own)
            if j >= 0:
                a, b = parts.place[i], parts.place[j]
                parts.members[a], parts.members[b] = j, i
                parts.place[i], parts.place[j] = b, a
                parts.group[i], parts.group[j] = aim, parts.group[i]
                break
            parts.inside[aim] = -1  # not again
        parts.inside[parts.met[:count]] = 0


@kernel
def _partner(pairs: PairSlots, near: Near, parts: Communities, i: int, aim: int, gain: int) -> int:
    """The pair of another community for which pair i is exchanged best, or -1; gain: what i gains by going there."""
    first, size, own, best, found = parts.start[aim], parts.start[aim + 1] - parts.start[aim], parts.group[i], 0, -1
    in_the_way, only = _in_the_way(pairs, parts.members[first : first + size], size, i)
    if in_the_way > 1:
        return -1
    for turn in range(min(size, PARTNERS)):
        place = (parts.place[i] + turn) % size
        if in_the_way and place != only:
            continue
        j, worth = parts.members[first + place], gain
        for entry in range(near.start[j], min(near.start[j + 1], near.start[j] + NEAR)):
            group, weight = parts.group[near.pair[entry]], near.weight[entry]
            if near.pair[entry] == i or group == aim:
                worth -= weight
            elif group == own:
                worth += weight
        if worth > best and _fits_but(pairs, parts, own, j, i):
            best, found = worth, j
    return found


@kernel
def _fits_but(pairs: PairSlots, parts: Communities, group: int, i: int, leaving: int) -> bool:
    """Whether pair i may stand in a community that another pair leaves."""
    first, end = parts.start[group], parts.start[group + 1]
    found, only = _in_the_way(pairs, parts.members[first:end], end - first, i)
    return found == 0 or (found == 1 and parts.members[first + only] == leaving)


class Open(NamedTuple):
    """Batches that are filled together."""

    members: NDArray[np.int64]  # [OPEN, size]
    held: NDArray[np.int64]  # [OPEN] how many each holds
    number: NDArray[np.int64]  # [OPEN]
    turn: NDArray[np.int64]  # [OPEN] their rows above, the oldest first, then those that are free
    counts: NDArray[np.int64]  # [2] how many are open, and how many there were


def none_open(size: int, before: int = 0) -> Open:
    """No open batch of `size` pairs; `before` of another kind are numbered before them."""
    members, held, number = np.empty((OPEN, size), np.int64), np.empty(OPEN, np.int64), np.empty(OPEN, np.int64)
    return Open(members, held, number, np.arange(OPEN), np.array([0, before]))


@kernel
def fill(
    pairs: PairSlots, order: np.ndarray, leader: np.ndarray, closes: bool, opened: Open, out_batch: np.ndarray
) -> None:  # fmt: skip
    """Put pairs, in order, into the oldest open batch that they fit, or into a new one while fewer than OPEN are open.

    Pairs with one leader go into the oldest that takes them all; else, and beyond those that are open, one by one.

    Parameters
    ----------
    leader : int64[pairs]
        Equal for pairs, one after another in `order`, that belong together.
    closes : bool
        Where OPEN are open and a pair fits none, close the oldest: then every pair has a batch.
    opened : Open
        Goes on with what is open.
    out_batch : int64[pairs]
        The batch of each pair in `order` is written; -1 for pairs that fit no open batch.

    Notes
    -----
    Cost: size relations a pair where most fit the oldest batch.
    """
    members, held, number, turn, counts = opened
    home, end = 0, 0
    for k, i in enumerate(order):
        if k == end:  # the first of those that belong together
            end = k + 1
            while end < order.size and leader[order[end]] == leader[i]:
                end += 1
            home = 0
            while home < counts[0] and not _takes(pairs, members[turn[home]], held[turn[home]], order[k:end]):
                home += 1
        at = home
        if home == turn.size or (home < counts[0] and not _fits(pairs, members[turn[home]], held[turn[home]], i)):
            at = 0
            while at < counts[0] and not _fits(pairs, members[turn[at]], held[turn[at]], i):
                at += 1
        if at == turn.size and closes:
            _free(turn, 0, at)
            at = counts[0] = at - 1
        if at == turn.size:
            out_batch[i] = -1
            continue
        own = turn[at]
        if at == counts[0]:
            number[own], held[own] = counts[1], 0
            counts[0] += 1
            counts[1] += 1
        members[own, held[own]], out_batch[i] = i, number[own]
        held[own] += 1
        if held[own] == members.shape[1]:
            _free(turn, at, counts[0])
            counts[0] -= 1
            home -= at < home < turn.size


@kernel
def _takes(pairs: PairSlots, members: np.ndarray, held: int, more: np.ndarray) -> bool:
    """Whether a batch that holds some pairs has room for all of `more`, and all fit."""
    if held + more.size > members.size:
        return False
    for i in more:
        if not _fits(pairs, members, held, i):
            return False
    return True


@kernel
def _free(turn: np.ndarray, at: int, held: int) -> None:
    """Move the row of the open batch `at` behind the others that are held."""
    own = turn[at]
    for place in range(at, held - 1):
        turn[place] = turn[place + 1]
    turn[held - 1] = own


@kernel
def settle(pairs: PairSlots, homeless: np.ndarray, kept: int, members: np.ndarray, counts: np.ndarray) -> int:
    """Find places for pairs: in a batch that is not full, else by moving one pair of a full batch into such a batch.

    The full ones are tried in turn, TRIED of them for each pair.

    Parameters
    ----------
    homeless : int64[m]
        Those without a place are moved to the front.
    kept : int
        The first of the batches that are not full; those before it are.
    members, counts : int64[batches, size], int64[batches]
        Changed in place.

    Returns
    -------
    int
        How many have no place.
    """
    size, without, turn, full_ones = members.shape[1], 0, 0, kept
    for i in homeless:
        while kept < counts.size and counts[kept] == size:
            kept += 1
        placed = _into_one(pairs, members, counts, kept, i)
        for _ in range(0 if placed else min(full_ones, TRIED)):
            full = turn % full_ones
            turn += 1
            found, only = _in_the_way(pairs, members[full], size, i)
            if found == 2:
                continue
            seat = only if found else turn % size
            if _into_one(pairs, members, counts, kept, members[full, seat]):
                members[full, seat] = i
                placed = True
                break
        if not placed:
            homeless[without] = i
            without += 1
    return without


@kernel
def mark(pairs: PairSlots, members: np.ndarray, out_false: np.ndarray) -> None:
    """Which positives of a batch are false negatives of which anchors: members int64[m], out_false bool[m, m]."""
    for i in range(members.size):
        for j in range(members.size):
            out_false[i, j] = i != j and false_negative(pairs, members[i], members[j])
