"""What happens to survivors between two steps of the sweep: they become exact, the best are kept, gates narrow.

Gates are as far as the best found so far reach in canonical distance, and what they let through is looked at in full:
nothing is left to certify at the end.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.distances import distances_to, prefetch_row
from minestream.kernels.gates import Edges, set_gates, sort_falling
from minestream.kernels.jit import kernel
from minestream.kernels.quantize import Frame
from minestream.kernels.select import BEFORE, INSIDE, near_positive, offer, passes_duplicates, pick_key, place_of
from minestream.kernels.sweep import Gates, Lanes, Survivors, is_crowded, wanted
from minestream.kernels.types import FARTHEST, NEARER_CAP, NEAREST, WITHIN, Best, Pairs, Rows, Rule

AHEAD = 16  # rows asked of the memory before their turn


class Taken(NamedTuple):
    """Everything that pairs took, where a rule takes all."""

    pair: NDArray[np.int64]
    slot: NDArray[np.int32]
    x: NDArray[np.float64]
    key: NDArray[np.uint64]


@kernel
def _count(found: Survivors, counts: np.ndarray, first_anchor: int, last_anchor: int, out_start: np.ndarray) -> int:
    """Where the survivors of each anchor of a range begin when they are grouped; returns how many there are."""
    for b in range(counts.size):
        for e in range(counts[b]):
            i = found.anchor[b, e]
            if i >= first_anchor and i < last_anchor:
                out_start[i - first_anchor + 1] += 1
    for i in range(out_start.size - 1):
        out_start[i + 1] += out_start[i]
    return out_start[-1]


@kernel
def _group(
    found: Survivors, counts: np.ndarray, first_anchor: int, last_anchor: int, start: np.ndarray,
    out_candidate: np.ndarray,
    out_high: np.ndarray,
) -> None:  # fmt: skip
    """The survivors of a range of anchors from all buffers, by anchor; start[i] moves to the end of anchor i."""
    for b in range(counts.size):
        for e in range(counts[b]):
            i = found.anchor[b, e]
            if i >= first_anchor and i < last_anchor:
                to = start[i - first_anchor]
                out_candidate[to], out_high[to] = found.candidate[b, e], found.high[b, e]
                start[i - first_anchor] = to + 1


@kernel(inline=True)
def _load(vectors: np.ndarray, at: int, out_row: np.ndarray) -> None:
    for j in range(out_row.size):
        out_row[j] = np.float64(vectors[at, j])


@kernel(inline=True)
def _surely_nearer(rule: Rule, pairs: Pairs, lanes: Lanes, edges: Edges, i: int, lane: int, high: np.float32) -> bool:
    """Whether a candidate is certainly nearer than the bands of all pairs of anchor i, and beyond their floors."""
    if not rule.count_nearer or rule.positive_duplicates == WITHIN:
        return False
    low = high - lanes.slack[lane] * np.float32(1.001)
    for pair in range(pairs.start[i], pairs.start[i + 1]):
        if edges.floor[pair] < np.inf or low <= edges.near[pair]:
            return False
    return True


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
    rows: Rows, rule: Rule, pairs: Pairs, lanes: Lanes, best: Best, candidates: np.ndarray, minus_x: np.ndarray,
    i: int, vectors: np.ndarray, at: np.ndarray, positive_at: np.ndarray, row: np.ndarray,
) -> None:  # fmt: skip
    """Offer candidates (lanes, by ascending distance) to each pair of anchor i from where its band begins, while the
    best found may change. Cost: log2 of their number a pair, and what is offered."""
    a, capacity = lanes.slot[i], best.x.shape[1]
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
                _load(vectors, at[candidates[e]], row)
            offer(rows, rule, pairs, best, pair, a, lanes.slot[candidates[e]], x, row, vectors, positive_at)
            step += 1


@kernel
def _absorb_crowded(
    rows: Rows,
    rule: Rule,
    frame: Frame,
    pairs: Pairs,
    lanes: Lanes,
    gates: Gates,
    best: Best,
    candidates: np.ndarray,
    highs: np.ndarray,
    i: int,
    vectors: np.ndarray,
    at: np.ndarray,
    positive_at: np.ndarray,
    anchor_row: np.ndarray,
    row: np.ndarray,
    eight: np.ndarray,
    slots: np.ndarray,
    total: np.ndarray,
    x: np.ndarray,
    minus_x: np.ndarray,
    out_counts: np.ndarray,
) -> None:
    """_absorb() of the survivors of one anchor that has many pairs: all become exact, and are sorted by distance."""
    count = 0
    for e in range(candidates.size):
        if wanted(rows, rule, frame, pairs, lanes, gates, i, candidates[e], highs[e]):
            candidates[count] = candidates[e]
            count += 1
    for e in range(0, count, 8):
        few = min(8, count - e)
        for q in range(few):
            eight[q], slots[q] = at[candidates[e + q]], lanes.slot[candidates[e + q]]
        distances_to(
            rule.metric, anchor_row, rows.square[lanes.slot[i]], vectors, rows.square, eight[:few], slots[:few],
            total, x,
        )  # fmt: skip
        for q in range(few):
            minus_x[e + q] = -x[q]
    sort_falling(candidates, minus_x, 0, count)
    _offer_by_band(
        rows, rule, pairs, lanes, best, candidates[:count], minus_x[:count], i, vectors, at, positive_at, row
    )
    out_counts[0] += count
    out_counts[1] += count  # that a sharper screen would let fewer through is not known


@kernel
def _absorb(
    rows: Rows,
    rule: Rule,
    frame: Frame,
    pairs: Pairs,
    lanes: Lanes,
    edges: Edges,
    gates: Gates,
    best: Best,
    candidates: np.ndarray,
    highs: np.ndarray,
    ends: np.ndarray,
    first_anchor: int,
    last_anchor: int,
    vectors: np.ndarray,
    at: np.ndarray,
    positive_at: np.ndarray,
    anchor_row: np.ndarray,
    row: np.ndarray,
    eight: np.ndarray,
    slots: np.ndarray,
    total: np.ndarray,
    x: np.ndarray,
    minus_x: np.ndarray,
    out_counts: np.ndarray,
) -> None:
    """absorb() of survivors that are grouped, with its scratch; ends int64[anchors]: where each one's survivors end."""
    for i in range(first_anchor, last_anchor):
        e, end = ends[i - first_anchor - 1] if i > first_anchor else 0, ends[i - first_anchor]
        if e == end:
            continue
        a = lanes.slot[i]
        _load(vectors, at[i], anchor_row)
        if is_crowded(pairs, i):
            _absorb_crowded(
                rows, rule, frame, pairs, lanes, gates, best, candidates[e:end], highs[e:end], i, vectors, at,
                positive_at, anchor_row, row, eight, slots, total, x, minus_x, out_counts,
            )  # fmt: skip
            set_gates(rule, frame, pairs, edges, gates, best, True, i)
            continue
        sort_falling(candidates, highs, e, end)
        ahead = e
        while e < end and highs[e] >= gates.hull_low[i]:
            count = 0
            while ahead < min(end, e + AHEAD):
                prefetch_row(vectors, at[candidates[ahead]])
                ahead += 1
            while e < end and count < 8:
                lane, high = candidates[e], highs[e]
                e += 1
                if not wanted(rows, rule, frame, pairs, lanes, gates, i, lane, high):
                    continue
                if _surely_nearer(rule, pairs, lanes, edges, i, lane, high):
                    for pair in range(pairs.start[i], pairs.start[i + 1]):
                        if passes_duplicates(rows, rule, pairs, pair, a, lanes.slot[lane]):
                            best.nearer[pair] = min(NEARER_CAP, best.nearer[pair] + 1)
                    continue
                eight[count], slots[count] = at[lane], lanes.slot[lane]
                count += 1
            distances_to(
                rule.metric, anchor_row, rows.square[a], vectors, rows.square, eight[:count], slots[:count], total, x
            )
            out_counts[0] += count
            for q in range(count):
                if rule.positive_duplicates == WITHIN:
                    _load(vectors, eight[q], row)
                inside = False
                for pair in range(pairs.start[i], pairs.start[i + 1]):
                    farthest = pairs.high[pair]
                    if rule.pick == NEAREST and best.found[pair] == best.x.shape[1]:
                        farthest = min(farthest, best.x[pair, 0])
                    inside |= x[q] <= farthest and x[q] >= pairs.low[pair]
                    offer(rows, rule, pairs, best, pair, a, slots[q], x[q], row, vectors, positive_at)
                out_counts[1] += inside
            set_gates(rule, frame, pairs, edges, gates, best, True, i)


@kernel(allocates=True)
def absorb(
    rows: Rows,
    rule: Rule,
    frame: Frame,
    pairs: Pairs,
    lanes: Lanes,
    edges: Edges,
    gates: Gates,
    best: Best,
    found: Survivors,
    counts: np.ndarray,
    first_anchor: int,
    last_anchor: int,
    vectors: np.ndarray,
    at: np.ndarray,
    positive_at: np.ndarray,
    out_counts: np.ndarray,
) -> None:
    """Offer survivors to the pairs of the anchors first_anchor ... last_anchor - 1, and narrow their gates.

    Of each anchor the nearest go first, eight canonical distances at a time: soon the rest pass no gate any more. An
    anchor with many pairs makes all of them exact at once, and sorts them. Cost: d in float64 a survivor that still
    passes.

    Parameters
    ----------
    found : Survivors, arrays (buffers, entries)
    counts : int64[buffers], how many entries each buffer has
    vectors : (m, d) of any stored dtype
    at : int64[n], the row of `vectors` that holds each lane
    positive_at : int64[pairs], the same of the positives; read only when duplicates go by a threshold above 0
    out_counts : int64[2], added to: canonical distances, those of them within their gate
    """
    ends = np.zeros(last_anchor - first_anchor + 1, np.int64)
    size = _count(found, counts, first_anchor, last_anchor, ends)
    candidates, highs = np.empty(size, np.int32), np.empty(size, np.float32)
    _group(found, counts, first_anchor, last_anchor, ends, candidates, highs)
    most = 0  # survivors of an anchor with many pairs
    for i in range(first_anchor, last_anchor):
        if is_crowded(pairs, i):
            most = max(most, ends[i - first_anchor] - (ends[i - first_anchor - 1] if i > first_anchor else 0))
    d = vectors.shape[1]
    _absorb(
        rows, rule, frame, pairs, lanes, edges, gates, best, candidates, highs, ends, first_anchor, last_anchor,
        vectors, at, positive_at, np.empty(d, np.float64), np.empty(d, np.float64), np.empty(8, np.int64),
        np.empty(8, np.int32), np.empty(8, np.float64), np.empty(8, np.float64), np.empty(most, np.float64),
        out_counts,
    )  # fmt: skip


@kernel(allocates=True)
def collect(
    rows: Rows,
    rule: Rule,
    pairs: Pairs,
    lanes: Lanes,
    best: Best,
    found: Survivors,
    counts: np.ndarray,
    first_anchor: int,
    last_anchor: int,
    vectors: np.ndarray,
    at: np.ndarray,
    positive_at: np.ndarray,
    out: Taken,
    out_counts: np.ndarray,
) -> tuple[int, int]:
    """For rules that take all: append what is eligible for the anchors first_anchor ... last_anchor - 1 to `out`.

    Parameters are those of absorb(). Stops before an anchor for whose takings `out` has no room.

    Returns
    -------
    next, written : int
        The anchor to go on with (last_anchor at the end), and how many entries were written. When none was and
        `next` is not last_anchor, `out` is too small for one anchor.
    """
    ends = np.zeros(last_anchor - first_anchor + 1, np.int64)
    size = _count(found, counts, first_anchor, last_anchor, ends)
    candidates, highs = np.empty(size, np.int32), np.empty(size, np.float32)
    _group(found, counts, first_anchor, last_anchor, ends, candidates, highs)
    total = np.empty(8, np.float64)
    d = vectors.shape[1]
    anchor_row = np.empty(d, np.float64)
    row = np.empty(d, np.float64)
    to = 0
    for i in range(first_anchor, last_anchor):
        first, end = ends[i - first_anchor - 1] if i > first_anchor else 0, ends[i - first_anchor]
        if first == end:
            continue
        slots = lanes.slot[candidates[first:end]]
        rows_at = at[candidates[first:end]]
        x = np.empty(end - first, np.float64)
        a = lanes.slot[i]
        _load(vectors, at[i], anchor_row)
        distances_to(rule.metric, anchor_row, rows.square[a], vectors, rows.square, rows_at, slots, total, x)
        need = 0
        for pair in range(pairs.start[i], pairs.start[i + 1]):
            for e in range(x.size):
                need += x[e] >= pairs.low[pair] and x[e] <= pairs.high[pair]
        if to + need > out.pair.size:
            return i, to
        out_counts[0] += x.size
        for e in range(x.size):
            if rule.positive_duplicates == WITHIN:
                _load(vectors, rows_at[e], row)
            inside = False
            for pair in range(pairs.start[i], pairs.start[i + 1]):
                inside |= x[e] <= pairs.high[pair] and x[e] >= pairs.low[pair]
                place = place_of(rows, rule, pairs, best, pair, a, slots[e], x[e])
                if place not in (BEFORE, INSIDE) or near_positive(
                    rows, rule, pairs, pair, slots[e], row, vectors, positive_at
                ):
                    continue
                if place == BEFORE:
                    best.nearer[pair] += 1
                    continue
                best.tally[0] += 1
                out.pair[to], out.slot[to], out.x[to] = pair, slots[e], x[e]
                out.key[to] = pick_key(rows, rule, d, pairs.prefix[pair], slots[e], x[e])
                to += 1
            out_counts[1] += inside
    return last_anchor, to
