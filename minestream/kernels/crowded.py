"""Refining for anchors with many pairs: all survivors become exact, and each pair takes those of its band."""

from __future__ import annotations

import numpy as np

from minestream.kernels.distances import load_row
from minestream.kernels.gates import set_gates, sort_falling
from minestream.kernels.jit import kernel
from minestream.kernels.refine import (
    Grouped,
    Ranges,
    Scratch,
    Vectors,
    exact_distances,
    grouped_of,
    next_range,
    scratch_of,
)  # fmt: skip
from minestream.kernels.select import offer
from minestream.kernels.sweep import Screening, Survivors, is_crowded, wanted
from minestream.kernels.types import FARTHEST, NEARER_CAP, NEAREST, WITHIN, Problem


@kernel
def _place(minus_x: np.ndarray, x: float, after: bool) -> int:
    """Where a distance belongs among sorted ones: before its equals, or after them."""
    first, end = 0, minus_x.size
    while first < end:
        middle = (first + end) // 2
        if -minus_x[middle] < x or (after and -minus_x[middle] == x):
            first = middle + 1
        else:
            end = middle
    return first


@kernel
def _offer_by_band(
    problem: Problem, screening: Screening, vectors: Vectors, candidates: np.ndarray, minus_x: np.ndarray, i: int,
    scratch: Scratch,
) -> None:  # fmt: skip
    """Offer candidates (lanes; their distances, ascending and negated, are minus_x) to each pair of anchor i from where
    its band begins, while the best found may change. Cost: log2 of their number a pair, and what is offered."""
    _, rule, pairs, best = problem
    slots = screening.lanes.slot
    a, capacity = slots[i], best.x.shape[1]
    for pair in range(pairs.start[i], pairs.start[i + 1]):
        first, end = _place(minus_x, pairs.low[pair], False), _place(minus_x, pairs.high[pair], True)
        below = first - _place(minus_x, pairs.floor[pair], False) if rule.count_nearer else 0
        step = 0
        while step < below + end - first:
            if step < below and best.nearer[pair] >= NEARER_CAP:
                step = below
                continue
            e = first - below + step
            if step >= below and rule.pick == FARTHEST:
                e = end - 1 - (step - below)
            x = -minus_x[e]
            if step >= below and best.found[pair] == capacity:
                worst = best.x[pair, 0]
                if (rule.pick == NEAREST and x > worst) or (rule.pick == FARTHEST and x < worst):
                    break
            if rule.positive_duplicates == WITHIN:
                load_row(vectors.row, vectors.at[candidates[e]], scratch.row)
            offer(problem, pair, a, slots[candidates[e]], x, scratch.row, vectors.row, vectors.positive_at)
            step += 1


@kernel
def _refine(
    problem: Problem, screening: Screening, grouped: Grouped, first_anchor: int, vectors: Vectors, scratch: Scratch,
    minus_x: np.ndarray, out_counts: np.ndarray,
) -> None:  # fmt: skip
    """refine_crowded() of survivors that are grouped, with its scratch."""
    slots = screening.lanes.slot
    for place in range(grouped.start.size - 1):
        i, first, end = first_anchor + place, grouped.start[place], grouped.start[place + 1]
        if first == end or not is_crowded(problem.pairs, i):
            continue
        candidates, count = grouped.candidate[first:end], 0
        for e in range(candidates.size):
            if wanted(problem, screening, i, int(candidates[e]), grouped.high[first + e]):
                candidates[count] = candidates[e]
                count += 1
        load_row(vectors.row, vectors.at[i], scratch.anchor_row)
        for e in range(0, count, 8):
            few = min(8, count - e)
            for q in range(few):
                scratch.at[q], scratch.slot[q] = vectors.at[candidates[e + q]], slots[candidates[e + q]]
            exact_distances(problem, slots[i], vectors, few, scratch)
            for q in range(few):
                minus_x[e + q] = -scratch.x[q]
        sort_falling(candidates, minus_x, 0, count)
        _offer_by_band(problem, screening, vectors, candidates[:count], minus_x[:count], i, scratch)
        out_counts[0] += count
        out_counts[1] += count  # that a sharper screen would let fewer through is not known
        set_gates(problem, screening, i)


@kernel(allocates=True)
def refine_crowded(
    problem: Problem, screening: Screening, found: Survivors, ranges: Ranges, vectors: Vectors, most: int,
    out_counts: np.ndarray,
) -> None:  # fmt: skip
    """What refine() leaves: the survivors of anchors that are crowded, whose parameters are its own.

    Cost: d in float64 a survivor that still passes, and log2 of their number a pair.
    """
    scratch, done = scratch_of(vectors), 0
    while done < most:
        place = next_range(ranges)
        if place < 0:
            break
        first = ranges.first[place]
        grouped, longest = grouped_of(found, ranges, place, first), 0
        for i in range(first, ranges.end[place]):
            if is_crowded(problem.pairs, i):
                longest = max(longest, grouped.start[i - first + 1] - grouped.start[i - first])
        _refine(problem, screening, grouped, first, vectors, scratch, np.empty(longest), out_counts)
        done += grouped.candidate.size
