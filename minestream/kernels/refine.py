"""Between two steps of the sweep survivors become exact, the best are kept, and gates narrow.

Gates are as far as the best found so far reach in canonical distance, and what they let through is looked at in full:
nothing is left to certify at the end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.distances import distances_to, load_row, prefetch_row
from minestream.kernels.gates import set_gates, sort_falling
from minestream.kernels.jit import kernel
from minestream.kernels.select import BEFORE, BEYOND, near_positive, offer, passes_duplicates, pick_key, place_of
from minestream.kernels.sweep import Screening, Survivors, is_crowded, wanted
from minestream.kernels.tile import address
from minestream.kernels.types import ELIGIBLE, NEARER_CAP, NEAREST, WITHIN, Problem
from minestream.kernels.units import add_at_once

AHEAD = 16  # rows asked of the memory before their turn


class Vectors(NamedTuple):
    """The vectors of a step, and the row of each lane and of each positive."""

    row: NDArray[np.float32] | NDArray[np.float64] | NDArray[np.int8]  # [m, d] of any stored dtype
    at: NDArray[np.int64]  # [n] of each lane
    positive_at: NDArray[np.int64]  # [pairs] of their positives; read only when duplicates go by a threshold above 0


class Ranges(NamedTuple):
    """Ranges of anchors, by which the survivors of each buffer are partitioned. Threads take one after another."""

    first: NDArray[np.int64]  # [ranges] ascending
    end: NDArray[np.int64]  # [ranges]
    bounds: NDArray[np.int64]  # [buffers, ranges + 1] see partition()
    taken: NDArray[np.int64]  # [1] how many are taken, or more; all threads share it


class Grouped(NamedTuple):
    """The survivors of a range of anchors, grouped by anchor."""

    start: NDArray[np.int64]  # [anchors + 1]
    candidate: NDArray[np.int32]  # lane
    high: NDArray[np.float32]  # affinity, as in Survivors


class Scratch(NamedTuple):
    """Arrays that refine() works in, for eight candidates at a time."""

    anchor_row: NDArray[np.float64]  # [d]
    row: NDArray[np.float64]  # [d] of the candidate
    at: NDArray[np.int64]  # [8] rows of Vectors
    slot: NDArray[np.int32]  # [8]
    x: NDArray[np.float64]  # [8] canonical distances


class Taken(NamedTuple):
    """All candidates that pairs took, one entry each, where a rule takes all."""

    pair: NDArray[np.int64]
    slot: NDArray[np.int32]
    x: NDArray[np.float64]
    key: NDArray[np.uint64]


@kernel(allocates=True)
def partition(found: Survivors, count: int, first: np.ndarray, out_bounds: np.ndarray) -> None:
    """Put the survivors of one buffer in the order of the ranges of their anchors. Cost: twice their number.

    Parameters
    ----------
    found : Survivors, arrays (entries,), changed
    count : how many entries there are
    first : int64[ranges], the first anchor of each, ascending
    out_bounds : int64[ranges + 1], where those of each range begin, and the end
    """
    out_bounds[:] = 0
    for e in range(count):
        out_bounds[np.searchsorted(first, found.anchor[e], side="right")] += 1
    for each in range(1, out_bounds.size):
        out_bounds[each] += out_bounds[each - 1]
    head = out_bounds.copy()
    for each in range(first.size):
        while head[each] < out_bounds[each + 1]:
            e = head[each]
            own = np.searchsorted(first, found.anchor[e], side="right") - 1
            to = head[own]
            for field in (found.anchor, found.candidate):
                field[e], field[to] = field[to], field[e]
            found.high[e], found.high[to] = found.high[to], found.high[e]
            head[own] += 1


@kernel
def named(found: Survivors, bounds: np.ndarray, out_at: np.ndarray, out_lane: np.ndarray) -> tuple[int, int]:
    """The lanes of survivors, each once, those of anchors first.

    Parameters
    ----------
    found, bounds : see refine()
    out_at : int64[lanes], -1; not of those found
    out_lane : int32[twice the survivors, or lanes]

    Returns
    -------
    anchors, lanes : int
        How many are anchors of survivors, and how many there are.
    """
    anchors = count = 0
    for candidates in range(2):
        for b in range(bounds.shape[0]):
            for e in range(bounds[b, -1]):
                lane = found.candidate[b, e] if candidates else found.anchor[b, e]
                if out_at[lane] < 0:
                    out_at[lane], out_lane[count] = count, lane
                    count += 1
        anchors = anchors if candidates else count
    return anchors, count


@kernel(inline=True, allocates=True)
def grouped_of(found: Survivors, ranges: Ranges, place: int, first: int) -> Grouped:
    """The survivors of a range of anchors from all buffers, without those of anchors before the first."""
    bounds, start = ranges.bounds, np.zeros(ranges.end[place] - first + 2, np.int64)
    for b in range(bounds.shape[0]):
        for e in range(bounds[b, place], bounds[b, place + 1]):
            i = found.anchor[b, e]
            if i >= first:
                start[i - first + 2] += 1
    for i in range(2, start.size):
        start[i] += start[i - 1]
    grouped = Grouped(start[:-1], np.empty(start[-1], np.int32), np.empty(start[-1], np.float32))
    for b in range(bounds.shape[0]):
        for e in range(bounds[b, place], bounds[b, place + 1]):
            i = found.anchor[b, e]
            if i >= first:
                to = start[i - first + 1]  # where the next of an anchor goes is, after the last, where it ends
                grouped.candidate[to], grouped.high[to] = found.candidate[b, e], found.high[b, e]
                start[i - first + 1] = to + 1
    return grouped


@kernel(inline=True)
def _surely_nearer(problem: Problem, screening: Screening, i: int, lane: int, high: np.float32) -> bool:
    """Whether a candidate is certainly nearer than the bands of all pairs of anchor i, and beyond their floors."""
    _, rule, pairs, _ = problem
    lanes, edges = screening.lanes, screening.edges
    if not rule.count_nearer or rule.positive_duplicates == WITHIN:
        return False
    low = high - lanes.slack[lane] * np.float32(1.001)
    for pair in range(pairs.start[i], pairs.start[i + 1]):
        if edges.floor[pair] < np.inf or low <= edges.near[pair]:
            return False
    return True


@kernel(inline=True)
def exact_distances(problem: Problem, a: int, vectors: Vectors, count: int, scratch: Scratch) -> None:
    """Canonical distances of slot a to the first `count` rows in the scratch, into scratch.x."""
    square = problem.rows.square
    distances_to(
        problem.rule.metric, scratch.anchor_row, square[a], vectors.row, square, scratch.at[:count],
        scratch.slot[:count], scratch.x,
    )  # fmt: skip


@kernel(inline=True)
def _next_wanted(
    problem: Problem, screening: Screening, vectors: Vectors, candidates: np.ndarray, highs: np.ndarray, i: int,
    e: int, scratch: Scratch,
) -> tuple[int, int]:  # fmt: skip
    """Put up to eight candidates that anchor i still wants, from place e on, into the scratch: the next place, and
    how many. Those that are certainly nearer than all bands are counted only."""
    _, _, pairs, best = problem
    slots, count = screening.lanes.slot, 0
    while e < candidates.size and count < 8:
        lane, high = int(candidates[e]), highs[e]
        e += 1
        if not wanted(problem, screening, i, lane, high):
            continue
        if _surely_nearer(problem, screening, i, lane, high):
            for pair in range(pairs.start[i], pairs.start[i + 1]):
                if passes_duplicates(problem, pair, slots[i], slots[lane]):
                    best.nearer[pair] = min(NEARER_CAP, best.nearer[pair] + 1)
            continue
        scratch.at[count], scratch.slot[count] = vectors.at[lane], slots[lane]
        count += 1
    return e, count


@kernel(inline=True)
def _refine_anchor(
    problem: Problem, screening: Screening, vectors: Vectors, candidates: np.ndarray, highs: np.ndarray, i: int,
    scratch: Scratch, out_counts: np.ndarray,
) -> None:  # fmt: skip
    """Refine the survivors of an anchor, the nearest first, eight at a time."""
    _, rule, pairs, best = problem
    a = screening.lanes.slot[i]
    sort_falling(candidates, highs, 0, candidates.size)
    e = ahead = 0
    while e < candidates.size and highs[e] >= screening.gates.hull_low[i]:
        while ahead < min(candidates.size, e + AHEAD):
            prefetch_row(vectors.row, vectors.at[candidates[ahead]])
            ahead += 1
        e, count = _next_wanted(problem, screening, vectors, candidates, highs, i, e, scratch)
        exact_distances(problem, a, vectors, count, scratch)
        out_counts[0] += count
        for q in range(count):
            x = scratch.x[q]
            if rule.positive_duplicates == WITHIN:
                load_row(vectors.row, scratch.at[q], scratch.row)
            inside = False
            for pair in range(pairs.start[i], pairs.start[i + 1]):
                farthest = pairs.high[pair]
                if rule.pick == NEAREST and best.found[pair] == best.x.shape[1]:
                    farthest = min(farthest, best.x[pair, 0])
                inside |= x <= farthest and x >= pairs.low[pair]
                offer(problem, pair, a, scratch.slot[q], x, scratch.row, vectors.row, vectors.positive_at)
            out_counts[1] += inside
        set_gates(problem, screening, i)


@kernel
def _refine(
    problem: Problem, screening: Screening, grouped: Grouped, first_anchor: int, vectors: Vectors, scratch: Scratch,
    out_counts: np.ndarray,
) -> None:  # fmt: skip
    """refine() of survivors that are grouped, with its scratch."""
    for place in range(grouped.start.size - 1):
        i, first, end = first_anchor + place, grouped.start[place], grouped.start[place + 1]
        if first < end and not is_crowded(problem.pairs, i):
            load_row(vectors.row, vectors.at[i], scratch.anchor_row)
            candidates, highs = grouped.candidate[first:end], grouped.high[first:end]
            _refine_anchor(problem, screening, vectors, candidates, highs, i, scratch, out_counts)


@kernel(inline=True, allocates=True)
def scratch_of(vectors: Vectors) -> Scratch:
    """What refining works in."""
    d = vectors.row.shape[1]
    return Scratch(np.empty(d), np.empty(d), np.empty(8, np.int64), np.empty(8, np.int32), np.empty(8))


@kernel(inline=True)
def next_range(ranges: Ranges) -> int:
    """The place of a range that no thread has taken; -1 where none is left."""
    place = add_at_once(address(ranges.taken, 0), 1)
    return place if place < ranges.first.size else -1


@kernel(allocates=True)
def refine(
    problem: Problem, screening: Screening, found: Survivors, ranges: Ranges, vectors: Vectors, most: int,
    out_counts: np.ndarray,
) -> None:  # fmt: skip
    """Offer survivors to the pairs of their anchors, and narrow their gates; of anchors with many pairs see crowded.py.

    Of each anchor the nearest go first, eight canonical distances at a time: soon the rest pass no gate any more.
    Cost: d in float64 a survivor that still passes.

    Parameters
    ----------
    found : Survivors, arrays (buffers, entries)
    ranges : Ranges
        Takes from them until none is left.
    vectors : Vectors
    most : int
        Ends after so many survivors, or a few more: then it may be interrupted.
    out_counts : int64[2], added to: canonical distances, those of them within their gate
    """
    scratch, done = scratch_of(vectors), 0
    while done < most:
        place = next_range(ranges)
        if place < 0:
            break
        grouped = grouped_of(found, ranges, place, ranges.first[place])
        _refine(problem, screening, grouped, ranges.first[place], vectors, scratch, out_counts)
        done += grouped.candidate.size


@kernel
def _collect_anchor(
    problem: Problem, i: int, a: int, vectors: Vectors, scratch: Scratch, out: Taken, to: int, out_counts: np.ndarray
) -> int:
    """Append what anchor i, slot a, takes of the rows in the scratch, from place `to` of `out` on: the next place; -1
    when `out` has no room."""
    _, rule, pairs, best = problem
    x, slots = scratch.x, scratch.slot
    need = to
    for pair in range(pairs.start[i], pairs.start[i + 1]):
        for e in range(slots.size):
            need += x[e] >= pairs.low[pair] and x[e] <= pairs.high[pair]
    if need > out.pair.size:
        return -1
    out_counts[0] += slots.size
    for e in range(slots.size):
        if rule.positive_duplicates == WITHIN:
            load_row(vectors.row, scratch.at[e], scratch.row)
        inside = False
        for pair in range(pairs.start[i], pairs.start[i + 1]):
            inside |= x[e] <= pairs.high[pair] and x[e] >= pairs.low[pair]
            place = place_of(problem, pair, a, slots[e], x[e])
            if place == BEYOND or near_positive(problem, pair, slots[e], scratch.row, vectors.row, vectors.positive_at):
                continue
            if place == BEFORE:
                best.nearer[pair] += 1
                continue
            best.tally[ELIGIBLE] += 1
            out.pair[to], out.slot[to], out.x[to] = pair, slots[e], x[e]
            out.key[to] = pick_key(problem, pair, scratch.row.size, slots[e], x[e])
            to += 1
        out_counts[1] += inside
    return to


@kernel(allocates=True)
def collect(
    problem: Problem, screening: Screening, found: Survivors, ranges: Ranges, left: tuple[int, int],
    vectors: Vectors, out: Taken, out_counts: np.ndarray,
) -> tuple[int, int]:  # fmt: skip
    """For rules that take all: append what is eligible for what is left of a range of anchors to `out`.

    Parameters are those of refine(), and `left`: the place of the range, and its first anchor that is not done. Stops
    before an anchor for whose takings `out` has no room.

    Returns
    -------
    next, written : int
        The anchor to go on with (the end when all are done), and how many entries were written. When none was and
        anchors are left, `out` is too small for one anchor.
    """
    place, begin = left
    grouped = grouped_of(found, ranges, place, begin)
    d, to = vectors.row.shape[1], 0
    anchor_row, row = np.empty(d), np.empty(d)
    for i in range(begin, ranges.end[place]):
        first, end = grouped.start[i - begin], grouped.start[i - begin + 1]
        if first == end:
            continue
        candidates, a = grouped.candidate[first:end], screening.lanes.slot[i]
        at, slots = vectors.at[candidates], screening.lanes.slot[candidates]
        scratch = Scratch(anchor_row, row, at, slots, np.empty((end - first + 7) // 8 * 8))
        load_row(vectors.row, vectors.at[i], anchor_row)
        exact_distances(problem, a, vectors, end - first, scratch)
        written = _collect_anchor(problem, i, a, vectors, scratch, out, to, out_counts)
        if written < 0:
            return i, to
        to = written
    return ranges.end[place], to
