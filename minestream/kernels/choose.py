"""The rules on canonical values: which candidate may be what to an anchor, and the bounded lists of the best.

Every path ends here: the scan offers each candidate, the sweep those that survived it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.compiled import kernel
from minestream.kernels.draw import WEIGHT_END, mix, sortable, unit_distance, weighted_key
from minestream.kernels.exact import distance, pair_total, uses_differences

POSITIVE, NEGATIVE, NEITHER = 1, -1, 0
GROUP_POSITIVE, GROUP_NEGATIVE = 2, -2  # would be, but rows of one group may not
FORBIDS_POSITIVES, FORBIDS_NEGATIVES = 1, 2

NEAREST, RANDOM, WEIGHTED, KEY_ORDER, FARTHEST = 0, 1, 2, 3, 4
IGNORE, EXCLUDE, WITHIN = 0, 1, 2

NEARER_CAP = 1000  # negatives nearer than a pair's band are counted up to here

ELIGIBLE, IN_GROUP, DUPLICATE, TALLIES = 0, 1, 2, 3


class Rows(NamedTuple):
    """What is known of each slot besides its vector; arrays of length 0 stand for "nobody has one"."""

    label: NDArray[np.int32]  # [n] code of the label, or of the set of labels; -1 unlabelled
    set_start: NDArray[np.int64]  # [n + 1] or [0]
    set_code: NDArray[np.int32]  # sorted label codes of each slot
    group: NDArray[np.int32]  # [n] or [0]; -1 in none
    twin: NDArray[np.int32]  # [n] equal where vectors are equal element by element
    rank: NDArray[np.int64]  # [n] place in key order
    draw_key: NDArray[np.uint64]  # [n] K(row)
    square: NDArray[np.float64]  # [n] canonical dot(a, a)
    group_forbids: int


class Rule(NamedTuple):
    """What is looked for, in numbers."""

    wanted: int  # POSITIVE or NEGATIVE
    pick: int  # NEAREST, RANDOM, WEIGHTED, KEY_ORDER, FARTHEST
    take: int  # k; 0 = all
    skip: int  # S nearest eligible left out
    own_duplicates: int  # equal to the anchor: IGNORE, EXCLUDE
    positive_duplicates: int  # equal to, or within `within` of, the positive: IGNORE, EXCLUDE, WITHIN
    within: float
    count_nearer: bool
    metric: int


class Pairs(NamedTuple):
    """The pairs looked for: several an anchor, or one without a positive. Bands are closed intervals."""

    start: NDArray[np.int64]  # [anchors + 1]
    positive: NDArray[np.int32]  # [pairs] slot, or -1
    low: NDArray[np.float64]  # [pairs]
    high: NDArray[np.float64]  # [pairs]
    floor: NDArray[np.float64]  # [pairs] nearer ones are counted from here on
    prefix: NDArray[np.uint64]  # [pairs] of the draws


class Best(NamedTuple):
    """The best so far of each pair, sorted by (key, rank) unless all are taken."""

    key: NDArray[np.uint64]  # [pairs, capacity]
    slot: NDArray[np.int32]  # [pairs, capacity]
    x: NDArray[np.float64]  # [pairs, capacity]
    found: NDArray[np.int64]  # [pairs]
    near_key: NDArray[np.uint64]  # [pairs, skip]: the S nearest, where the pick has another order
    near_slot: NDArray[np.int32]
    near_count: NDArray[np.int64]
    nearer: NDArray[np.int32]  # [pairs] up to NEARER_CAP
    tally: NDArray[np.int64]  # [TALLIES]


@kernel(inline=True)
def share_label(rows: Rows, a: int, b: int) -> bool:
    """Whether two labelled slots share a label."""
    if rows.label[a] == rows.label[b]:
        return rows.label[a] >= 0
    if rows.set_start.size == 0:
        return False
    i, j = rows.set_start[a], rows.set_start[b]
    while i < rows.set_start[a + 1] and j < rows.set_start[b + 1]:
        if rows.set_code[i] == rows.set_code[j]:
            return True
        if rows.set_code[i] < rows.set_code[j]:
            i += 1
        else:
            j += 1
    return False


@kernel(inline=True)
def relation(rows: Rows, a: int, b: int) -> int:
    """What slot b is to anchor a: POSITIVE, NEGATIVE, NEITHER, or what its group forbids it to be."""
    if a == b:
        return NEITHER
    positive = share_label(rows, a, b)
    if rows.group.size and rows.group[a] >= 0 and rows.group[a] == rows.group[b]:
        if positive and rows.group_forbids & FORBIDS_POSITIVES:
            return GROUP_POSITIVE
        if not positive and rows.group_forbids & FORBIDS_NEGATIVES:
            return GROUP_NEGATIVE
    return POSITIVE if positive else NEGATIVE


@kernel(inline=True)
def passes_duplicates(rows: Rows, rule: Rule, pairs: Pairs, pair: int, a: int, b: int) -> bool:
    """The duplicate rules that compare equality only."""
    if rule.own_duplicates == EXCLUDE and rows.twin[a] == rows.twin[b]:
        return False
    return rule.positive_duplicates != EXCLUDE or rows.twin[b] != rows.twin[pairs.positive[pair]]


@kernel(inline=True)
def insert(
    key: np.uint64,
    slot: int,
    x: float,
    rank: np.ndarray,
    keys: np.ndarray,
    slots: np.ndarray,
    xs: np.ndarray,
    count: int,
) -> int:
    """Put one candidate into a list sorted by (key, rank), if it belongs there; returns the new count."""
    place = count
    if count == keys.size:
        place -= 1
    at = place
    while at > 0 and (key < keys[at - 1] or (key == keys[at - 1] and rank[slot] < rank[slots[at - 1]])):
        at -= 1
    if at == place and count == keys.size and not precedes(key, slot, rank, keys, slots, place):
        return count
    for move in range(place, at, -1):
        keys[move], slots[move], xs[move] = keys[move - 1], slots[move - 1], xs[move - 1]
    keys[at], slots[at], xs[at] = key, slot, x
    return place + 1


@kernel(inline=True)
def precedes(key: np.uint64, slot: int, rank: np.ndarray, keys: np.ndarray, slots: np.ndarray, at: int) -> bool:
    """Whether (key, rank) of the slot comes before entry `at` of a list."""
    return key < keys[at] or (key == keys[at] and rank[slot] < rank[slots[at]])


@kernel(inline=True)
def pick_key(rows: Rows, rule: Rule, dimension: int, prefix: np.uint64, b: int, x: float) -> np.uint64:
    """The key by which the rule's pick sorts, smallest first."""
    if rule.pick == NEAREST:
        return sortable(x)
    if rule.pick == FARTHEST:
        return sortable(-x)
    if rule.pick == KEY_ORDER:
        return np.uint64(0)
    draw = mix(prefix + rows.draw_key[b])
    if rule.pick == RANDOM:
        return draw
    return sortable(weighted_key(dimension, unit_distance(rule.metric, x), draw))


@kernel(inline=True)
def near_positive(
    rows: Rows, rule: Rule, pairs: Pairs, pair: int, b: int, row: np.ndarray, positives: np.ndarray
) -> bool:
    """Whether slot b (its vector: row float64[d]) lies within the threshold of the pair's positive."""
    if rule.positive_duplicates != WITHIN:
        return False
    total = pair_total(rule.metric, positives[pair], row)
    square = rows.square[pairs.positive[pair]]
    return distance(rule.metric, total, square, rows.square[b]) <= rule.within


@kernel
def equal_positives(
    rows: Rows, rule: Rule, pairs: Pairs, best: Best, anchors: np.ndarray, first: np.ndarray, end: np.ndarray,
    members: np.ndarray,
) -> None:  # fmt: skip
    """Offer every anchor the positives whose vectors equal its own; cost: the sizes of their twin sets.

    Parameters
    ----------
    pairs, best : one pair an anchor
    first, end : int64[A], the stretch of `members` that holds the anchor's twin set
    members : int32[n], slots by twin set, in key order
    """
    spare = np.empty(0, np.float64)
    for i in range(anchors.size):
        a = anchors[i]
        x = distance(
            rule.metric, 0.0 if uses_differences(rule.metric) else rows.square[a], rows.square[a], rows.square[a]
        )
        for at in range(first[i], end[i]):
            b = members[at]
            if relation(rows, a, b) != POSITIVE:
                continue
            key = pick_key(rows, rule, spare.size, pairs.prefix[i], b, x)
            best.found[i] = insert(key, b, x, rows.rank, best.key[i], best.slot[i], best.x[i], best.found[i])
            if rule.pick == NEAREST and best.found[i] == rule.take:
                break


@kernel(inline=True)
def offer(
    rows: Rows,
    rule: Rule,
    pairs: Pairs,
    best: Best,
    pair: int,
    a: int,
    b: int,
    x: float,
    row: np.ndarray,
    positives: np.ndarray,
) -> None:
    """Offer candidate b, of the wanted relation and at canonical distance x, to one pair of anchor a.

    `row` float64[d] and `positives` float64 (pairs, d) are read only when duplicates go by a threshold above 0.
    """
    if x > pairs.high[pair]:
        return
    below = x < pairs.low[pair]
    if below and not (rule.count_nearer and x >= pairs.floor[pair] and best.nearer[pair] < NEARER_CAP):
        return
    if not passes_duplicates(rows, rule, pairs, pair, a, b):
        best.tally[DUPLICATE] += 1
        return
    if rule.pick == WEIGHTED and unit_distance(rule.metric, x) >= WEIGHT_END:
        return
    if below:
        if not near_positive(rows, rule, pairs, pair, b, row, positives):
            best.nearer[pair] += 1
        return
    best.tally[ELIGIBLE] += 1
    key = pick_key(rows, rule, row.size, pairs.prefix[pair], b, x)
    count, capacity = best.found[pair], best.key.shape[1]
    skips = best.near_key.shape[1]
    if skips == 0 and count == capacity and rule.take:
        if not precedes(key, b, rows.rank, best.key[pair], best.slot[pair], count - 1):
            return
    if near_positive(rows, rule, pairs, pair, b, row, positives):
        best.tally[DUPLICATE] += 1
        best.tally[ELIGIBLE] -= 1
        return
    if rule.take == 0:
        best.key[pair, count], best.slot[pair, count], best.x[pair, count] = key, b, x
        best.found[pair] = count + 1
        return
    best.found[pair] = insert(key, b, x, rows.rank, best.key[pair], best.slot[pair], best.x[pair], count)
    if skips:
        near = best.near_key[pair]
        spare = np.empty(skips, np.float64)
        nearest = sortable(x)
        best.near_count[pair] = insert(
            nearest, b, x, rows.rank, near, best.near_slot[pair], spare, best.near_count[pair]
        )
