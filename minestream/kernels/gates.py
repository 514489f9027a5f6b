"""Gates: how far each anchor still looks, from its bands, from the probe (probe.py) and from the best found so far.

A gate is as far as the worst of as many candidates as are looked for, widened by the proven error, so that it never
turns away a row that the answer needs.
"""

from __future__ import annotations

import numpy as np

from minestream.kernels.distances import DOT, linear_distance
from minestream.kernels.draw import of_unit_distance, value_of, weighted_reach
from minestream.kernels.jit import kernel
from minestream.kernels.quantize import Frame
from minestream.kernels.sweep import CLOSED, UNGATED, Edges, Screening, is_crowded, round_down, round_up
from minestream.kernels.types import FARTHEST, NEARER_CAP, NEAREST, RANDOM, WEIGHTED, Problem, Rule


@kernel(inline=True)
def farthest_affinity(rule: Rule, frame: Frame, edges: Edges, i: int, x: float) -> float:
    """Rows of anchor i at canonical distances up to x (FARTHEST: from x on) have at least this affinity."""
    t = linear_distance(rule.metric, x) * frame.scale * frame.scale
    slack = edges.own[i] + 2.0**-48 * (abs(edges.h[i]) + abs(t))
    return (t - edges.h[i] if rule.pick == FARTHEST else edges.h[i] - t) - slack


@kernel(inline=True)
def pair_gate(problem: Problem, screening: Screening, i: int, pair: int) -> tuple[float, float]:
    """The affinities, (upper bound at least, lower bound at most), that a pair of anchor i still wants."""
    _, rule, _, best = problem
    frame, _, edges, gates, exact = screening
    low, high = max(edges.far[pair], np.float64(gates.reach[pair])), edges.near[pair]
    if rule.count_nearer and best.nearer[pair] < NEARER_CAP:
        high = edges.floor[pair]
    capacity = rule.take + rule.skip
    if rule.take == 0:
        return low, high
    full = exact and best.found[pair] == capacity
    if rule.pick in (NEAREST, FARTHEST):
        if full:
            low = max(low, farthest_affinity(rule, frame, edges, i, best.x[pair, 0]))
        return low, high
    if rule.skip and exact and best.near_count[pair] == rule.skip:
        near = round_down(farthest_affinity(rule, frame, edges, i, best.near_x[pair, 0]))
        gates.near[pair] = max(gates.near[pair], near)
    if full and rule.pick == RANDOM:
        gates.cut[pair] = min(gates.cut[pair], best.key[pair, 0])
    if rule.pick == WEIGHTED:
        if full:
            gates.key[pair] = min(gates.key[pair], value_of(best.key[pair, 0]))
        x = of_unit_distance(rule.metric, weighted_reach(frame.centre.size, gates.key[pair])) * (1 + 1e-9)
        x += 2e-9 if rule.metric == DOT else 0.0
        low = max(low, min(farthest_affinity(rule, frame, edges, i, x), np.float64(gates.near[pair])))
    return low, high


@kernel
def sort_falling(values: np.ndarray, keys: np.ndarray, first: int, end: int) -> None:
    """Sort entries first ... end - 1 by key, largest first (Shell 1959; gaps by the factor of Tokuda 1992)."""
    gap = 1
    while gap < end - first:
        gap = gap * 9 // 4 + 1
    while gap > 0:
        for e in range(first + gap, end):
            key, value, at = keys[e], values[e], e
            while at - gap >= first and keys[at - gap] < key:
                keys[at], values[at] = keys[at - gap], values[at - gap]
                at -= gap
            keys[at], values[at] = key, value
        gap = 0 if gap == 1 else max(1, (gap - 1) * 4 // 9)


@kernel
def set_gates(problem: Problem, screening: Screening, i: int) -> None:
    """The gates of anchor i: the hull, and for nearest and farthest disjoint intervals, nearest first.

    Cost: its pairs, sorted; of many pairs the hull is the only interval.
    """
    _, rule, pairs, _ = problem
    gates = screening.gates
    first, end = pairs.start[i], pairs.start[i + 1]
    gates.hull_low[i], gates.hull_high[i] = CLOSED, UNGATED
    gates.intervals[i] = 0
    if first == end:
        return
    for pair in range(first, end):
        low, high = pair_gate(problem, screening, i, pair)
        gates.low[pair], gates.high[pair] = max(round_down(low), UNGATED), round_up(high)
        gates.hull_low[i] = min(gates.hull_low[i], gates.low[pair])
        gates.hull_high[i] = max(gates.hull_high[i], gates.high[pair])
    if rule.pick in (RANDOM, WEIGHTED):
        return
    if is_crowded(pairs, i):
        gates.low[first], gates.high[first], gates.intervals[i] = gates.hull_low[i], gates.hull_high[i], 1
        return
    sort_falling(gates.low, gates.high, first, end)
    last = first
    for pair in range(first + 1, end):
        if gates.high[pair] >= gates.low[last]:
            gates.low[last] = min(gates.low[last], gates.low[pair])
        else:
            last += 1
            gates.low[last], gates.high[last] = gates.low[pair], gates.high[pair]
    gates.intervals[i] = last - first + 1


@kernel
def set_all_gates(problem: Problem, screening: Screening, first: int, end: int) -> None:
    """set_gates of the anchors first ... end - 1."""
    for i in range(first, end):
        set_gates(problem, screening, i)


@kernel
def keep_gates(problem: Problem, screening: Screening, first: int, end: int) -> None:
    """Keep how far the anchors first ... end - 1 look by the best found so far, for a search that begins without."""
    rule, gates = problem.rule, screening.gates
    for i in range(first, end):
        for pair in range(problem.pairs.start[i], problem.pairs.start[i + 1]):
            low, _ = pair_gate(problem, screening, i, pair)
            if rule.pick in (NEAREST, FARTHEST):
                gates.reach[pair] = round_down(low)
