"""What `profile` counts around every anchor: canonical distances to all rows, sorted, then counted exactly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.choose import NEGATIVE, POSITIVE, Rows, relation
from minestream.kernels.compiled import kernel
from minestream.kernels.exact import COSINE, distance, uses_differences

CHUNK_ROWS = 64  # rows that all anchors of a strip meet before the next ones: they stay in the cache
MOST_BUCKETS = 65_536
BUCKET_ROWS = 2  # values a bucket, on average
INSERTED = 24  # buckets of more values are sorted by a heap: ties and outliers put everything into one


class Sorted(NamedTuple):
    """Distances of one kind in ascending (distance, key order), and what sorting them needs."""

    x: NDArray[np.float64]  # [n]
    rank: NDArray[np.int32]  # [n]
    total: NDArray[np.float64]  # [n + 1] sums of the first i
    unsorted_x: NDArray[np.float64]  # [n]
    unsorted_rank: NDArray[np.int32]  # [n]
    start: NDArray[np.int32]  # [MOST_BUCKETS + 1]: the ends of the buckets, once sorted
    scale: NDArray[np.float64]  # [3]: the least value, buckets a unit, how many buckets
    place: NDArray[np.int64]  # [n] of positives: how many negatives are not farther


class Counts(NamedTuple):
    """What is counted of each of A anchors, for M margins and B bins."""

    positives: NDArray[np.int64]  # [A]
    negatives: NDArray[np.int64]  # [A]
    precision: NDArray[np.float64]  # [A] average precision at R = positives; 0 without any
    positive_bins: NDArray[np.int64]  # [A, B]
    negative_bins: NDArray[np.int64]  # [A, B]
    hard: NDArray[np.int64]  # [A] triplets with x <= p
    semi_hard: NDArray[np.int64]  # [A, M] p < x < p + m
    loss: NDArray[np.float64]  # [A, M] sums of max(0, p + m - x)
    within: NDArray[np.int64]  # [A, M] negatives nearer than m
    served: NDArray[np.int64]  # [A, M] semi-hard negatives of the nearest positive


@kernel
def _add_chunk(differences: bool, anchor: np.ndarray, panel: np.ndarray, total: np.ndarray) -> None:
    """The sums over coordinates, in their order, of an anchor and CHUNK_ROWS rows: panel (d, CHUNK_ROWS)."""
    d = anchor.size
    for q in range(CHUNK_ROWS):
        total[q] = 0.0
    for j in range(0, d - 3, 4):  # four at a time: sums are read and written once for all of them
        a, b, c, e = anchor[j], anchor[j + 1], anchor[j + 2], anchor[j + 3]
        if differences:
            for q in range(CHUNK_ROWS):
                r, s, t, u = a - panel[j, q], b - panel[j + 1, q], c - panel[j + 2, q], e - panel[j + 3, q]
                total[q] = (((total[q] + r * r) + s * s) + t * t) + u * u
        else:
            for q in range(CHUNK_ROWS):
                first = (total[q] + a * panel[j, q]) + b * panel[j + 1, q]
                total[q] = (first + c * panel[j + 2, q]) + e * panel[j + 3, q]
    for j in range(d // 4 * 4, d):
        for q in range(CHUNK_ROWS):
            t = anchor[j] - panel[j, q]
            total[q] += t * t if differences else anchor[j] * panel[j, q]


@kernel
def strip_distances(
    metric: int,
    anchors: np.ndarray,
    anchor_square: np.ndarray,
    vectors: np.ndarray,
    square: np.ndarray,
    first_slot: int,
    panel: np.ndarray,
    total: np.ndarray,
    out_x: np.ndarray,
) -> None:
    """Canonical distances of a strip of anchors to a block of rows. Cost: S m d in float64.

    Of 64 rows the coordinates are put side by side once for all anchors: 13 ns a pair of 64 coordinates, where
    exact.distances_to takes 21. The additions of a pair, and so its value, are the same.

    Parameters
    ----------
    anchors, anchor_square : float64 (S, d), float64[S]
    vectors : (m, d) of any stored dtype, the rows of slots first_slot ...
    square : float64[n], by slot
    panel, total : float64 (d, CHUNK_ROWS), float64[CHUNK_ROWS], scratch
    out_x : float64 (S, n), by slot
    """
    m, d = vectors.shape
    for first in range(0, m, CHUNK_ROWS):
        count = min(CHUNK_ROWS, m - first)
        for q in range(CHUNK_ROWS):
            row = vectors[first + min(q, count - 1)]  # the last chunk is filled up by its last row
            for j in range(d):
                panel[j, q] = np.float64(row[j])
        for i in range(anchors.shape[0]):
            _add_chunk(uses_differences(metric), anchors[i], panel, total)
            slot = first_slot + first
            own, out = square[slot : slot + count], out_x[i, slot : slot + count]
            if metric == COSINE:  # a loop of its own, which the compiler makes vector code of
                for q in range(count):
                    out[q] = distance(COSINE, total[q], anchor_square[i], own[q])
            else:
                for q in range(count):
                    out[q] = distance(metric, total[q], anchor_square[i], own[q])


@kernel(inline=True)
def _before(x: float, rank: int, other_x: float, other_rank: int) -> bool:
    return x < other_x or (x == other_x and rank < other_rank)


@kernel
def _insertion_sort(x: np.ndarray, rank: np.ndarray, first: int, end: int) -> None:
    for i in range(first + 1, end):
        own_x, own_rank, j = x[i], rank[i], i
        while j > first and _before(own_x, own_rank, x[j - 1], rank[j - 1]):
            x[j], rank[j] = x[j - 1], rank[j - 1]
            j -= 1
        x[j], rank[j] = own_x, own_rank


@kernel
def _heap_sort(x: np.ndarray, rank: np.ndarray, first: int, end: int) -> None:
    count = end - first
    top = count // 2
    while count > 1:
        if top > 0:
            top -= 1  # the heap is made from its last parent up
        else:
            count -= 1
            last = first + count
            x[first], x[last] = x[last], x[first]
            rank[first], rank[last] = rank[last], rank[first]
        parent = top
        own_x, own_rank = x[first + parent], rank[first + parent]
        while 2 * parent + 1 < count:
            child = first + 2 * parent + 1
            if child + 1 < first + count and _before(x[child], rank[child], x[child + 1], rank[child + 1]):
                child += 1
            if not _before(own_x, own_rank, x[child], rank[child]):
                break
            x[first + parent], rank[first + parent] = x[child], rank[child]
            parent = child - first
        x[first + parent], rank[first + parent] = own_x, own_rank


@kernel(inline=True)
def _bucket(x: float, low: float, scale: float, buckets: int) -> int:
    """An increasing function of x: every operation rounds monotonically."""
    return min(buckets - 1, int((x - low) * scale))


@kernel
def sort_distances(count: int, low: float, high: float, values: Sorted) -> None:
    """Sort the `count` unsorted values, which lie between low and high: into buckets, then each; and sum them up."""
    buckets = max(1, min(MOST_BUCKETS, count // BUCKET_ROWS))
    scale = buckets / (high - low) if high > low else 0.0
    if not (scale < np.inf and high - low < np.inf):
        scale, buckets = 0.0, 1
    start = values.start
    values.scale[0], values.scale[1], values.scale[2] = low, scale, buckets
    start[: buckets + 1] = 0
    for i in range(count):
        start[_bucket(values.unsorted_x[i], low, scale, buckets) + 1] += 1
    for b in range(buckets):
        start[b + 1] += start[b]
    for i in range(count):
        b = _bucket(values.unsorted_x[i], low, scale, buckets)
        values.x[start[b]], values.rank[start[b]] = values.unsorted_x[i], values.unsorted_rank[i]
        start[b] += 1
    first = 0
    for b in range(buckets):
        end = int(start[b])
        if end - first > INSERTED:
            _heap_sort(values.x, values.rank, first, end)
        else:
            _insertion_sort(values.x, values.rank, first, end)
        first = end
    values.total[0] = 0.0
    for i in range(count):
        values.total[i + 1] = values.total[i] + values.x[i]


@kernel
def advance(x: np.ndarray, rank: np.ndarray, at: int, count: int, bound: float, bound_rank: int) -> int:
    """The first place from `at` on, of `count` sorted ones, that is not before (bound, bound_rank).

    Strides double and are then halved: near by it costs little, far away a logarithm.
    """
    stride = 1
    while at + stride <= count and _before(x[at + stride - 1], rank[at + stride - 1], bound, bound_rank):
        at += stride
        stride *= 2
    while stride > 0:
        if at + stride <= count and _before(x[at + stride - 1], rank[at + stride - 1], bound, bound_rank):
            at += stride
        stride //= 2
    return at


@kernel
def _begin(values: Sorted, bound: float) -> int:
    """A place before which all values are less than `bound`: where its bucket begins."""
    if not bound > values.scale[0]:
        return 0
    position = min((bound - values.scale[0]) * values.scale[1], values.scale[2] - 1.0)
    return values.start[int(position) - 1] if position >= 1.0 else 0


@kernel
def _count_bins(values: Sorted, count: int, edges: np.ndarray, out_bins: np.ndarray) -> None:
    """Values of each bin, closed below and open above; the first and the last hold what lies outside, too."""
    before = 0
    for b in range(out_bins.size):
        end = count
        if b + 1 < out_bins.size:
            end = advance(values.x, values.rank, before, count, edges[b + 1], -1)
        out_bins[b] = end - before
        before = end


@kernel
def _precision(positives: Sorted, p: int, negatives: Sorted, n: int) -> float:
    """Average precision at R = p: of the first R neighbours by (distance, key order)."""
    total, before = 0.0, 0
    for i in range(p):
        before = advance(negatives.x, negatives.rank, before, n, positives.x[i], positives.rank[i])
        if before + i >= p:
            break
        total += (i + 1) / (before + i + 1)
    return total / p if p else 0.0


@kernel
def _count_margin(
    positives: Sorted, p: int, negatives: Sorted, n: int, margin: float, k: int, a: int, out: Counts
) -> None:
    """The triplets of one anchor at one margin."""
    beyond, loss, semi_hard = 0, 0.0, 0
    for i in range(p):
        x, last = positives.x[i], positives.place[i]
        beyond = max(last, beyond, _begin(negatives, x + margin))
        beyond = advance(negatives.x, negatives.rank, beyond, n, x + margin, -1)
        semi_hard += beyond - last
        loss += beyond * (x + margin) - negatives.total[beyond]
        if i == 0:
            out.served[a, k] = beyond - last
    out.semi_hard[a, k], out.loss[a, k] = semi_hard, max(0.0, loss)
    out.within[a, k] = advance(negatives.x, negatives.rank, 0, n, margin, -1)


@kernel
def count_strip(
    rows: Rows,
    slots: np.ndarray,
    x: np.ndarray,
    edges: np.ndarray,
    margins: np.ndarray,
    positives: Sorted,
    negatives: Sorted,
    first: int,
    out: Counts,
) -> None:
    """Count what lies around a strip of anchors. Cost: some 20 ns a pair, a search for each positive and margin.

    Parameters
    ----------
    slots : int32[S], the anchors
    x : float64 (S, n), their distances to all rows
    edges : float64[B + 1], ascending
    margins : float64[M], above 0
    positives, negatives : Sorted, scratch
    first : int
        Where the strip's anchors stand in `out`.
    """
    for i in range(slots.size):
        p, n = 0, 0
        low, high, near, far = np.inf, -np.inf, np.inf, -np.inf
        for b in range(x.shape[1]):
            kind, distance = relation(rows, slots[i], b), x[i, b]
            if kind == NEGATIVE:
                negatives.unsorted_x[n], negatives.unsorted_rank[n] = distance, rows.rank[b]
                n += 1
                low, high = min(low, distance), max(high, distance)
            elif kind == POSITIVE:
                positives.unsorted_x[p], positives.unsorted_rank[p] = distance, rows.rank[b]
                p += 1
                near, far = min(near, distance), max(far, distance)
        sort_distances(n, low, high, negatives)
        sort_distances(p, near, far, positives)
        a = first + i
        out.positives[a], out.negatives[a] = p, n
        _count_bins(positives, p, edges, out.positive_bins[a])
        _count_bins(negatives, n, edges, out.negative_bins[a])
        out.precision[a] = _precision(positives, p, negatives, n)
        hard, at = 0, 0
        for j in range(p):
            at = max(at, _begin(negatives, positives.x[j]))
            at = advance(negatives.x, negatives.rank, at, n, positives.x[j], 2**31 - 1)
            positives.place[j] = at
            hard += at
        out.hard[a] = hard
        for k in range(margins.size):
            _count_margin(positives, p, negatives, n, margins[k], k, a, out)


@kernel
def count_relations(rows: Rows, first: int, end: int, out_positives: np.ndarray, out_negatives: np.ndarray) -> None:
    """How many positives and negatives the slots first ... end - 1 have: int64[n] each. Cost: n a slot."""
    for a in range(first, end):
        for b in range(rows.label.size):
            kind = relation(rows, a, b)
            if kind == POSITIVE:
                out_positives[a] += 1
            elif kind == NEGATIVE:
                out_negatives[a] += 1
