"""The rules on canonical distances: which candidates are eligible for a pair, and the bounded lists of the best.

Every path ends here: the scan offers each candidate, the sweep those that survived it.
"""

from __future__ import annotations

import numpy as np

from minestream.kernels.distances import distance, pair_total, uses_differences
from minestream.kernels.draw import WEIGHT_END, mix, sortable, unit_distance, weighted_key
from minestream.kernels.jit import kernel
from minestream.kernels.relation import relation
from minestream.kernels.types import (
    DUPLICATE,
    ELIGIBLE,
    EXCLUDE,
    FARTHEST,
    IGNORE,
    KEY_ORDER,
    NEARER_CAP,
    NEAREST,
    POSITIVE,
    RANDOM,
    WEIGHTED,
    WITHIN,
    Best,
    Problem,
)

BEYOND, BEFORE, INSIDE = 0, 1, 2


@kernel(inline=True)
def passes_duplicates(problem: Problem, pair: int, a: int, b: int) -> bool:
    """The duplicate rules that compare equality only."""
    rows, rule, pairs, _ = problem
    if rule.own_duplicates != IGNORE and (rows.twin[a] == rows.twin[b]) == (rule.own_duplicates == EXCLUDE):
        return False
    return rule.positive_duplicates != EXCLUDE or rows.twin[b] != rows.twin[pairs.positive[pair]]


@kernel
def _sink(
    key: np.uint64, slot: int, x: float, rank: np.ndarray, keys: np.ndarray, slots: np.ndarray, xs: np.ndarray,
    count: int,
) -> None:  # fmt: skip
    """Put a candidate in the place of the first entry of a heap of `count`."""
    at = 0
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count and precedes(keys[child], slots[child], rank, keys, slots, child + 1):
            child += 1
        if not precedes(key, slot, rank, keys, slots, child):
            break
        keys[at], slots[at], xs[at] = keys[child], slots[child], xs[child]
        at = child
    keys[at], slots[at], xs[at] = key, slot, x


@kernel
def insert(
    key: np.uint64, slot: int, x: float, rank: np.ndarray, keys: np.ndarray, slots: np.ndarray, xs: np.ndarray,
    count: int,
) -> int:  # fmt: skip
    """Put one candidate into a heap by (key, rank) whose first entry is the last; returns the new count.

    A full heap takes only what precedes its first entry, in its place. Cost: log2 of its size.
    """
    if count == keys.size:
        if precedes(key, slot, rank, keys, slots, 0):
            _sink(key, slot, x, rank, keys, slots, xs, count)
        return count
    at = count
    while at > 0:
        parent = (at - 1) // 2
        if precedes(key, slot, rank, keys, slots, parent):
            break
        keys[at], slots[at], xs[at] = keys[parent], slots[parent], xs[parent]
        at = parent
    keys[at], slots[at], xs[at] = key, slot, x
    return count + 1


@kernel
def sort_lists(rank: np.ndarray, best: Best) -> None:
    """The heaps of all pairs as lists sorted by (key, rank), in place."""
    for pair in range(best.found.size):
        keys, slots, xs = best.key[pair], best.slot[pair], best.x[pair]
        for end in range(best.found[pair] - 1, 0, -1):
            key, slot, x = keys[end], slots[end], xs[end]
            keys[end], slots[end], xs[end] = keys[0], slots[0], xs[0]
            _sink(key, slot, x, rank, keys, slots, xs, end)


@kernel
def insert_lists(
    rank: np.ndarray, out_best: Best, near: bool, count: np.ndarray, keys: np.ndarray, slots: np.ndarray,
    xs: np.ndarray,
) -> None:  # fmt: skip
    """Insert lists, pair after pair with `count` entries each, into the heaps of the pairs, or those of the nearest."""
    at = 0
    for pair in range(count.size):
        for e in range(at, at + count[pair]):
            if near:
                out_best.near_count[pair] = insert(
                    keys[e], slots[e], xs[e], rank, out_best.near_key[pair], out_best.near_slot[pair],
                    out_best.near_x[pair], out_best.near_count[pair],
                )  # fmt: skip
            else:
                out_best.found[pair] = insert(
                    keys[e], slots[e], xs[e], rank, out_best.key[pair], out_best.slot[pair], out_best.x[pair],
                    out_best.found[pair],
                )  # fmt: skip
        at += count[pair]


@kernel(inline=True)
def precedes(key: np.uint64, slot: int, rank: np.ndarray, keys: np.ndarray, slots: np.ndarray, at: int) -> bool:
    """Whether (key, rank) of the slot comes before entry `at` of a list."""
    return key < keys[at] or (key == keys[at] and rank[slot] < rank[slots[at]])


@kernel(inline=True)
def pick_key(problem: Problem, pair: int, dimension: int, b: int, x: float) -> np.uint64:
    """The key by which the rule's pick sorts, smallest first: of slot b at distance x for a pair."""
    rule = problem.rule
    if rule.pick == NEAREST:
        return sortable(x)
    if rule.pick == FARTHEST:
        return sortable(-x)
    if rule.pick == KEY_ORDER:
        return np.uint64(0)
    draw = mix(problem.pairs.prefix[pair] + problem.rows.draw_key[b])
    if rule.pick == RANDOM:
        return draw
    return sortable(weighted_key(dimension, unit_distance(rule.metric, x), draw))


@kernel(inline=True)
def near_positive(problem: Problem, pair: int, b: int, row: np.ndarray, positives: np.ndarray, at: np.ndarray) -> bool:
    """Whether slot b (its vector: row float64[d]) lies within the threshold of the pair's positive.

    positives, at : as for offer()
    """
    rows, rule, pairs, _ = problem
    if rule.positive_duplicates != WITHIN:
        return False
    total = pair_total(rule.metric, positives[at[pair]], row)
    square = rows.square[pairs.positive[pair]]
    return distance(rule.metric, total, square, rows.square[b]) <= rule.within


@kernel
def equal_positives(
    problem: Problem, anchors: np.ndarray, first: np.ndarray, end: np.ndarray, members: np.ndarray
) -> None:
    """Offer every anchor the positives whose vectors equal its own; cost: the sizes of their twin sets.

    Of sets whose members are of one length: they are all as far as the anchor is from itself.

    Parameters
    ----------
    problem : Problem, with one pair an anchor
    anchors : int32[A], slots
    first, end : int64[A], the stretch of `members` that holds the anchor's twin set
    members : int32[n], slots by twin set, in key order
    """
    rows, rule, _, best = problem
    for i in range(anchors.size):
        a = anchors[i]
        x = distance(
            rule.metric, 0.0 if uses_differences(rule.metric) else rows.square[a], rows.square[a], rows.square[a]
        )
        for at in range(first[i], end[i]):
            b = members[at]
            key = pick_key(problem, i, 0, b, x)
            if best.found[i] == best.key.shape[1] and key > best.key[i, 0]:  # most rows of a large set, by their draws
                continue
            if relation(rows, a, b) != POSITIVE:
                continue
            best.found[i] = insert(key, b, x, rows.rank, best.key[i], best.slot[i], best.x[i], best.found[i])
            if rule.pick == NEAREST and best.found[i] == rule.take:
                break


@kernel(inline=True)
def place_of(problem: Problem, pair: int, a: int, b: int, x: float) -> int:
    """Where candidate b, of the wanted relation and at canonical distance x, stands to a pair of anchor a.

    BEYOND: no answer. BEFORE: nearer than the band, and counted. INSIDE: eligible. The last two but for the
    threshold T of the positive's duplicates.
    """
    _, rule, pairs, best = problem
    if x > pairs.high[pair]:
        return BEYOND
    below = x < pairs.low[pair]
    if below and not (rule.count_nearer and x >= pairs.floor[pair] and best.nearer[pair] < NEARER_CAP):
        return BEYOND
    if not passes_duplicates(problem, pair, a, b):
        best.tally[DUPLICATE] += 1
        return BEYOND
    if rule.pick == WEIGHTED and unit_distance(rule.metric, x) >= WEIGHT_END:
        return BEYOND
    return BEFORE if below else INSIDE


@kernel(inline=True)
def offer(
    problem: Problem, pair: int, a: int, b: int, x: float, row: np.ndarray, positives: np.ndarray, at: np.ndarray
) -> None:
    """Offer candidate b, of the wanted relation and at canonical distance x, to one pair of anchor a.

    `row` float64[d], and `positives` (m, d) in whose rows `at` int64[pairs] the positives stand, are read only when
    duplicates go by a threshold above 0.
    """
    place, best = place_of(problem, pair, a, b, x), problem.best
    if place == BEYOND:
        return
    if place == BEFORE:
        if not near_positive(problem, pair, b, row, positives, at):
            best.nearer[pair] += 1
        return
    best.tally[ELIGIBLE] += 1
    key, rank = pick_key(problem, pair, row.size, b, x), problem.rows.rank
    count, capacity = best.found[pair], best.key.shape[1]
    skips = best.near_key.shape[1]
    if skips == 0 and count == capacity and problem.rule.take:
        if not precedes(key, b, rank, best.key[pair], best.slot[pair], 0):
            return
    if near_positive(problem, pair, b, row, positives, at):
        best.tally[DUPLICATE] += 1
        best.tally[ELIGIBLE] -= 1
        return
    if problem.rule.take == 0:
        best.key[pair, count], best.slot[pair, count], best.x[pair, count] = key, b, x
        best.found[pair] = count + 1
        return
    best.found[pair] = insert(key, b, x, rank, best.key[pair], best.slot[pair], best.x[pair], count)
    if skips:
        best.near_count[pair] = insert(
            sortable(x), b, x, rank, best.near_key[pair], best.near_slot[pair], best.near_x[pair], best.near_count[pair]
        )
