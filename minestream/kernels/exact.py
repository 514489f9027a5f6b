"""Canonical distances: float64, coordinates in order, one accumulator a pair, no fused multiply-add, no fastmath.

Eight pairs go side by side, each with its own accumulator: the order of the additions within a pair, and so its
value, is that of one pair alone.
"""

from __future__ import annotations

import math

import numpy as np

from minestream.kernels.compiled import kernel
from minestream.kernels.draw import GOLDEN, bits_of, mix

COSINE, EUCLIDEAN, SQEUCLIDEAN, DOT = 0, 1, 2, 3


@kernel(inline=True)
def distance(metric: int, total: float, square_a: float, square_b: float) -> float:
    """The canonical distance from the sum over coordinates (of products, or of squared differences)."""
    if metric == COSINE:
        return min(2.0, max(0.0, 1.0 - total / math.sqrt(square_a * square_b)))
    if metric == EUCLIDEAN:
        return math.sqrt(total)
    if metric == SQEUCLIDEAN:
        return total
    return 0.0 - total


@kernel(inline=True)
def uses_differences(metric: int) -> bool:
    """Whether the metric sums squared differences rather than products."""
    return metric in (EUCLIDEAN, SQEUCLIDEAN)


@kernel
def squares(vectors: np.ndarray, out_square: np.ndarray) -> None:
    """dot(a, a) of every row: vectors (m, d), out_square float64[m]."""
    for i in range(vectors.shape[0]):
        total = 0.0
        for j in range(vectors.shape[1]):
            value = np.float64(vectors[i, j])
            total += value * value
        out_square[i] = total


@kernel
def row_hashes(vectors: np.ndarray, out_hash: np.ndarray) -> None:
    """A hash of every row by its values (-0.0 as 0.0): vectors (m, d), out_hash uint64[m]."""
    for i in range(vectors.shape[0]):
        h = np.uint64(0)
        for j in range(vectors.shape[1]):
            h = mix(h + GOLDEN + bits_of(np.float64(vectors[i, j]) + 0.0))
        out_hash[i] = h


@kernel
def normalize(vectors: np.ndarray, square: np.ndarray, out_vectors: np.ndarray) -> None:
    """Rows divided by sqrt(dot(a, a)); zero rows stay zero. out_vectors float64 (m, d)."""
    for i in range(vectors.shape[0]):
        norm = math.sqrt(square[i]) if square[i] > 0.0 else 1.0
        for j in range(vectors.shape[1]):
            out_vectors[i, j] = np.float64(vectors[i, j]) / norm


@kernel
def pair_total(metric: int, a: np.ndarray, b: np.ndarray) -> float:
    """The sum over coordinates of one pair of float64[d] rows."""
    total = 0.0
    if uses_differences(metric):
        for j in range(a.size):
            t = a[j] - b[j]
            total += t * t
    else:
        for j in range(a.size):
            total += a[j] * b[j]
    return total


@kernel
def _eight_products(anchor: np.ndarray, vectors: np.ndarray, at: np.ndarray, first: int, out_total: np.ndarray) -> None:
    p0, p1, p2, p3 = at[first], at[first + 1], at[first + 2], at[first + 3]
    p4, p5, p6, p7 = at[first + 4], at[first + 5], at[first + 6], at[first + 7]
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for j in range(anchor.size):
        a = anchor[j]
        s0 += a * np.float64(vectors[p0, j])
        s1 += a * np.float64(vectors[p1, j])
        s2 += a * np.float64(vectors[p2, j])
        s3 += a * np.float64(vectors[p3, j])
        s4 += a * np.float64(vectors[p4, j])
        s5 += a * np.float64(vectors[p5, j])
        s6 += a * np.float64(vectors[p6, j])
        s7 += a * np.float64(vectors[p7, j])
    out_total[0], out_total[1], out_total[2], out_total[3] = s0, s1, s2, s3
    out_total[4], out_total[5], out_total[6], out_total[7] = s4, s5, s6, s7


@kernel
def _eight_differences(
    anchor: np.ndarray, vectors: np.ndarray, at: np.ndarray, first: int, out_total: np.ndarray
) -> None:
    p0, p1, p2, p3 = at[first], at[first + 1], at[first + 2], at[first + 3]
    p4, p5, p6, p7 = at[first + 4], at[first + 5], at[first + 6], at[first + 7]
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for j in range(anchor.size):
        a = anchor[j]
        t0, t1 = a - np.float64(vectors[p0, j]), a - np.float64(vectors[p1, j])
        t2, t3 = a - np.float64(vectors[p2, j]), a - np.float64(vectors[p3, j])
        t4, t5 = a - np.float64(vectors[p4, j]), a - np.float64(vectors[p5, j])
        t6, t7 = a - np.float64(vectors[p6, j]), a - np.float64(vectors[p7, j])
        s0 += t0 * t0
        s1 += t1 * t1
        s2 += t2 * t2
        s3 += t3 * t3
        s4 += t4 * t4
        s5 += t5 * t5
        s6 += t6 * t6
        s7 += t7 * t7
    out_total[0], out_total[1], out_total[2], out_total[3] = s0, s1, s2, s3
    out_total[4], out_total[5], out_total[6], out_total[7] = s4, s5, s6, s7


@kernel
def distances_to(
    metric: int,
    anchor: np.ndarray,
    anchor_square: float,
    vectors: np.ndarray,
    square: np.ndarray,
    at: np.ndarray,
    slots: np.ndarray,
    out_distance: np.ndarray,
) -> None:
    """Canonical distances from one anchor to m rows. Cost: m d multiplications and additions.

    Parameters
    ----------
    anchor : float64[d]
    vectors : (rows, d) of any stored dtype
    square : float64[n], dot(b, b) by slot
    at : int64[m], rows of `vectors`
    slots : int32[m], their slots
    out_distance : float64[m]
    """
    m = at.size
    eight = np.empty(8, np.int64)
    total = np.empty(8, np.float64)
    for first in range(0, m, 8):
        for q in range(8):
            eight[q] = at[min(first + q, m - 1)]
        if uses_differences(metric):
            _eight_differences(anchor, vectors, eight, 0, total)
        else:
            _eight_products(anchor, vectors, eight, 0, total)
        for q in range(min(8, m - first)):
            out_distance[first + q] = distance(metric, total[q], anchor_square, square[slots[first + q]])


@kernel
def paired_distances(
    metric: int,
    left: np.ndarray,
    left_square: np.ndarray,
    right: np.ndarray,
    right_square: np.ndarray,
    out_distance: np.ndarray,
) -> None:
    """Canonical distances of m rows to m rows: left, right (m, d), squares and out_distance float64[m]."""
    for i in range(left.shape[0]):
        total = 0.0
        if uses_differences(metric):
            for j in range(left.shape[1]):
                t = np.float64(left[i, j]) - np.float64(right[i, j])
                total += t * t
        else:
            for j in range(left.shape[1]):
                total += np.float64(left[i, j]) * np.float64(right[i, j])
        out_distance[i] = distance(metric, total, left_square[i], right_square[i])
