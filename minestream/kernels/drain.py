"""What happens to survivors between two blocks: thresholds rise, gates narrow, and only what may still win is kept.

A survivor is certainly eligible when its whole affinity interval lies in the band. The target-th best lower bound
among those is a threshold that nothing worse can beat, so gates only ever narrow, and every row that the answer
needs passes all of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.choose import NEARER_CAP, RANDOM, WITHIN, Best, Pairs, Rows, Rule, offer, passes_duplicates
from minestream.kernels.compiled import kernel
from minestream.kernels.draw import mix
from minestream.kernels.exact import distances_to
from minestream.kernels.sweep import CLOSED, UNGATED, Gates, Survivors, round_down, round_up

CROWD = 64  # survivors kept per row looked for; an anchor with more goes to the scan
CROWD_FLOOR = 2048
FEW = 48  # new survivors up to here are inserted one by one, more are sorted


class Edges(NamedTuple):
    """Each pair's band as affinities, widened (may be inside) or narrowed (surely inside) by the anchor's error."""

    far: NDArray[np.float64]  # [pairs]
    near: NDArray[np.float64]
    far_sure: NDArray[np.float64]
    near_sure: NDArray[np.float64]
    floor: NDArray[np.float64]  # nearer ones are counted up to this affinity
    own: NDArray[np.float64]  # [A] the anchor's share of the error


class Reach(NamedTuple):
    """How far each pair has come."""

    threshold: NDArray[np.float64]  # [pairs] the target-th best lower bound; -inf before
    saturated: NDArray[np.bool_]  # [pairs] NEARER_CAP nearer ones were seen
    crowded: NDArray[np.bool_]  # [A] too many survivors: left to the scan


class Kept(NamedTuple):
    """Survivors kept, by anchor, best lower bound first."""

    start: NDArray[np.int64]  # [A + 1]
    slot: NDArray[np.int32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


@kernel
def _merge(kept: Kept, found: Survivors, count: int, out: Kept) -> None:
    """Kept and new survivors together, by anchor."""
    anchors = kept.start.size - 1
    for i in range(anchors + 1):
        out.start[i] = 0
    for e in range(count):
        out.start[found.anchor[e] + 1] += 1
    for i in range(anchors):
        out.start[i + 1] += out.start[i] + kept.start[i + 1] - kept.start[i]
    at = np.empty(anchors, np.int64)
    for i in range(anchors):
        first, size = kept.start[i], kept.start[i + 1] - kept.start[i]
        to = out.start[i]
        out.slot[to : to + size] = kept.slot[first : first + size]
        out.low[to : to + size] = kept.low[first : first + size]
        out.high[to : to + size] = kept.high[first : first + size]
        at[i] = to + size
    for e in range(count):
        i = found.anchor[e]
        to = at[i]
        out.slot[to], out.low[to], out.high[to] = found.slot[e], found.low[e], found.high[e]
        at[i] = to + 1


@kernel
def _sort(kept: Kept, first: int, fresh: int, end: int) -> None:
    """Sort the entries first ... end - 1, of which those before `fresh` are sorted already."""
    if end - fresh <= FEW:
        for e in range(fresh, end):
            slot, low, high, at = kept.slot[e], kept.low[e], kept.high[e], e
            while at > first and kept.low[at - 1] < low:
                kept.slot[at], kept.low[at], kept.high[at] = kept.slot[at - 1], kept.low[at - 1], kept.high[at - 1]
                at -= 1
            kept.slot[at], kept.low[at], kept.high[at] = slot, low, high
        return
    order = np.argsort(-kept.low[first:end])
    kept.slot[first:end] = kept.slot[first:end][order]
    kept.low[first:end], kept.high[first:end] = kept.low[first:end][order], kept.high[first:end][order]


@kernel(inline=True)
def _first_at_most(kept: Kept, first: int, end: int, affinity: float) -> int:
    """The first entry whose lower bound is at most `affinity`."""
    while first < end:
        middle = (first + end) // 2
        if kept.low[middle] <= affinity:
            end = middle
        else:
            first = middle + 1
    return first


@kernel(inline=True)
def _threshold(
    rows: Rows, rule: Rule, pairs: Pairs, edges: Edges, kept: Kept, i: int, a: int, pair: int, target: int
) -> float:
    """The target-th best lower bound among the certainly eligible of one pair; -inf when there are fewer."""
    first, end = kept.start[i], kept.start[i + 1]
    seen = 0
    alone = pairs.start[i + 1] - pairs.start[i] == 1  # then the sweep has asked already
    for e in range(_first_at_most(kept, first, end, edges.near_sure[pair]), end):
        if kept.low[e] < edges.far_sure[pair]:
            break
        if kept.high[e] > edges.near_sure[pair]:
            continue
        if alone or passes_duplicates(rows, rule, pairs, pair, a, kept.slot[e]):
            seen += 1
            if seen == target:
                return float(kept.low[e])
    return -np.inf


@kernel
def _cut(
    rows: Rows, rule: Rule, pairs: Pairs, edges: Edges, kept: Kept, first: int, end: int, a: int, pair: int,
    target: int,
    cut: np.uint64,
) -> np.uint64:  # fmt: skip
    """The target-th smallest draw among the certainly eligible of one pair; `cut` when there are fewer."""
    smallest = np.empty(target, np.uint64)
    seen = 0
    for e in range(first, end):
        sure = kept.low[e] >= edges.far_sure[pair] and kept.high[e] <= edges.near_sure[pair]
        if not sure or not passes_duplicates(rows, rule, pairs, pair, a, kept.slot[e]):
            continue
        draw = mix(pairs.prefix[pair] + rows.draw_key[kept.slot[e]])
        if seen == target and draw >= smallest[target - 1]:
            continue
        at = min(seen, target - 1)
        while at > 0 and smallest[at - 1] > draw:
            smallest[at] = smallest[at - 1]
            at -= 1
        smallest[at] = draw
        seen = min(seen + 1, target)
    return min(cut, smallest[target - 1]) if seen == target else cut


@kernel
def _saturates(
    rows: Rows, rule: Rule, pairs: Pairs, edges: Edges, kept: Kept, first: int, end: int, a: int, pair: int
) -> bool:
    """Whether NEARER_CAP kept ones certainly lie nearer than the pair's band."""
    if rule.positive_duplicates == WITHIN or edges.floor[pair] < np.inf:
        return False
    nearer = 0
    for e in range(first, end):
        if kept.low[e] <= edges.near[pair]:
            break
        if passes_duplicates(rows, rule, pairs, pair, a, kept.slot[e]):
            nearer += 1
    return nearer >= NEARER_CAP


@kernel
def _raise(
    rows: Rows,
    rule: Rule,
    pairs: Pairs,
    edges: Edges,
    reach: Reach,
    gates: Gates,
    kept: Kept,
    i: int,
    a: int,
    target: int,
) -> None:
    """New thresholds of one anchor's pairs from what is kept."""
    first, end = kept.start[i], kept.start[i + 1]
    for pair in range(pairs.start[i], pairs.start[i + 1]):
        if rule.count_nearer and not reach.saturated[pair]:
            reach.saturated[pair] = _saturates(rows, rule, pairs, edges, kept, first, end, a, pair)
        if target == 0:
            continue
        if rule.pick == RANDOM:
            gates.cut[pair] = _cut(rows, rule, pairs, edges, kept, first, end, a, pair, target, gates.cut[pair])
        else:
            found = _threshold(rows, rule, pairs, edges, kept, i, a, pair, target)
            reach.threshold[pair] = max(reach.threshold[pair], found)


@kernel(inline=True)
def pair_gate(rule: Rule, edges: Edges, reach: Reach, i: int, pair: int) -> tuple[float, float]:
    """The affinities, as (upper bound at least, lower bound at most), that a pair of anchor i still wants."""
    low = max(edges.far[pair], reach.threshold[pair] - 2 * edges.own[i])
    counting = rule.count_nearer and not reach.saturated[pair]
    return low, edges.floor[pair] if counting else edges.near[pair]


@kernel
def set_gates(rule: Rule, pairs: Pairs, edges: Edges, reach: Reach, gates: Gates, i: int) -> None:
    """The gates of anchor i from its pairs' thresholds: the hull, and disjoint intervals, nearest first."""
    first, end = pairs.start[i], pairs.start[i + 1]
    gates.hull_low[i], gates.hull_high[i] = CLOSED, UNGATED
    gates.intervals[i] = 0
    if reach.crowded[i] or first == end:
        return
    for pair in range(first, end):
        low, high = pair_gate(rule, edges, reach, i, pair)
        gates.low[pair], gates.high[pair] = max(round_down(low), UNGATED), round_up(high)
        gates.hull_low[i] = min(gates.hull_low[i], gates.low[pair])
        gates.hull_high[i] = max(gates.hull_high[i], gates.high[pair])
    if rule.pick == RANDOM:
        return
    for pair in range(first + 1, end):
        low, high, at = gates.low[pair], gates.high[pair], pair
        while at > first and gates.high[at - 1] < high:
            gates.low[at], gates.high[at] = gates.low[at - 1], gates.high[at - 1]
            at -= 1
        gates.low[at], gates.high[at] = low, high
    last = first
    for pair in range(first + 1, end):
        if gates.high[pair] >= gates.low[last]:
            gates.low[last] = min(gates.low[last], gates.low[pair])
        else:
            last += 1
            gates.low[last], gates.high[last] = gates.low[pair], gates.high[pair]
    gates.intervals[i] = last - first + 1


@kernel
def set_all_gates(rule: Rule, pairs: Pairs, edges: Edges, reach: Reach, gates: Gates) -> None:
    """set_gates of every anchor."""
    for i in range(gates.hull_low.size):
        set_gates(rule, pairs, edges, reach, gates, i)


@kernel
def _mark(
    rows: Rows, rule: Rule, pairs: Pairs, edges: Edges, reach: Reach, gates: Gates, kept: Kept, i: int, a: int,
    wanted: np.ndarray,
) -> None:  # fmt: skip
    """Mark the entries of anchor i that a pair still wants."""
    first, end = kept.start[i], kept.start[i + 1]
    alone = pairs.start[i + 1] - pairs.start[i] == 1
    widest = np.float32(0.0)
    for e in range(first, end):
        wanted[e] = False
        widest = max(widest, kept.high[e] - kept.low[e])
    for pair in range(pairs.start[i], pairs.start[i + 1]):
        low, high = pair_gate(rule, edges, reach, i, pair)
        for e in range(_first_at_most(kept, first, end, high), end):
            if kept.low[e] + 1.01 * widest < low:
                break
            if wanted[e] or kept.high[e] < low:
                continue
            if rule.pick == RANDOM and mix(pairs.prefix[pair] + rows.draw_key[kept.slot[e]]) > gates.cut[pair]:
                continue
            wanted[e] = alone or passes_duplicates(rows, rule, pairs, pair, a, kept.slot[e])


@kernel
def drain(
    rows: Rows,
    rule: Rule,
    pairs: Pairs,
    anchors: np.ndarray,
    edges: Edges,
    reach: Reach,
    gates: Gates,
    kept: Kept,
    found: Survivors,
    count: int,
    out: Kept,
) -> int:
    """Take `count` new survivors in, raise thresholds and gates, and drop what no pair wants any more.

    `out` has room for all kept and new ones; its first `returned value` entries are the ones kept.
    """
    _merge(kept, found, count, out)
    target = rule.take + rule.skip if rule.take else 0
    wanted = np.empty(out.start[-1], np.bool_)
    to = 0
    for i in range(anchors.size):
        first, end = out.start[i], out.start[i + 1]
        held = kept.start[i + 1] - kept.start[i]
        fresh = end - first > held
        a = anchors[i]
        if fresh:
            _sort(out, first, first + held, end)
            _raise(rows, rule, pairs, edges, reach, gates, out, i, a, target)
            _mark(rows, rule, pairs, edges, reach, gates, out, i, a, wanted)
        out.start[i] = to
        for e in range(first, end):
            if not fresh or wanted[e]:
                out.slot[to], out.low[to], out.high[to] = out.slot[e], out.low[e], out.high[e]
                to += 1
        looked_for = target * (pairs.start[i + 1] - pairs.start[i])
        room = CROWD * looked_for + CROWD_FLOOR + (NEARER_CAP if rule.count_nearer else 0)
        if target and to - out.start[i] > room:
            reach.crowded[i] = True
            to = out.start[i]
        if fresh:
            set_gates(rule, pairs, edges, reach, gates, i)
    out.start[anchors.size] = to
    return to


@kernel
def refine(
    rows: Rows,
    rule: Rule,
    pairs: Pairs,
    best: Best,
    anchors: np.ndarray,
    anchor_vectors: np.ndarray,
    positives: np.ndarray,
    edges: Edges,
    reach: Reach,
    kept: Kept,
    first_anchor: int,
    last_anchor: int,
    vectors: np.ndarray,
    at: np.ndarray,
) -> None:
    """Canonical distances of what the anchors first_anchor ... last_anchor - 1 kept, offered to their pairs.

    Cost: kept x d in float64.

    Parameters
    ----------
    anchor_vectors : float64 (A, d)
    positives : float64 (pairs, d), or (0, d) unless duplicates go by a threshold above 0
    vectors : (rows, d) of any stored dtype
    at : int64[entries of these anchors], the row of `vectors` that holds each
    """
    base = kept.start[first_anchor]
    d = anchor_vectors.shape[1]
    row = np.empty(d, np.float64)
    for i in range(first_anchor, last_anchor):
        first, end = kept.start[i], kept.start[i + 1]
        if reach.crowded[i] or pairs.start[i] == pairs.start[i + 1]:
            continue
        a = anchors[i]
        nearest = first
        if rule.positive_duplicates != WITHIN and edges.floor[pairs.start[i]] == np.inf:
            top = -np.inf
            for pair in range(pairs.start[i], pairs.start[i + 1]):
                top = max(top, edges.near[pair])
            nearest = _first_at_most(kept, first, end, top)
        x = np.empty(end - nearest, np.float64)
        slots = kept.slot[nearest:end]
        distances_to(
            rule.metric,
            anchor_vectors[i],
            rows.square[a],
            vectors,
            rows.square,
            at[nearest - base : end - base],
            slots,
            x,
        )
        for pair in range(pairs.start[i], pairs.start[i + 1]):
            if rule.count_nearer:
                for e in range(first, nearest):
                    if passes_duplicates(rows, rule, pairs, pair, a, kept.slot[e]):
                        best.nearer[pair] = min(NEARER_CAP, best.nearer[pair] + 1)
            for e in range(end - nearest):
                if x[e] > pairs.high[pair]:
                    continue
                if rule.positive_duplicates == WITHIN:
                    for j in range(d):
                        row[j] = np.float64(vectors[at[nearest - base + e], j])
                offer(rows, rule, pairs, best, pair, a, slots[e], x[e], row, positives)
            if reach.saturated[pair]:
                best.nearer[pair] = NEARER_CAP
