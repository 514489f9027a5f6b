"""Losses and their gradients: float64, coordinates in order, scalar libm calls, so that every host gives the same bits.

A gradient is computed from the distances, not from the loss: of a pair at distance 0, where Euclidean and cosine
distance have no slope, it is 0.
"""

from __future__ import annotations

import math

import numpy as np

from minestream.kernels.distances import COSINE, EUCLIDEAN, SQEUCLIDEAN, distance, pair_total, uses_differences
from minestream.kernels.jit import kernel

Tables = tuple[np.ndarray, ...]  # float64 (m, d) each: row i of each belongs together


@kernel
def softplus(z: np.ndarray, out: np.ndarray) -> None:
    """log(1 + exp(z)) without overflow: z and out float64[m]."""
    for i in range(z.size):
        out[i] = max(z[i], 0.0) + math.log1p(math.exp(-abs(z[i])))


@kernel(inline=True)
def sigmoid(z: float) -> float:
    """The slope of softplus, without overflow."""
    small = math.exp(-abs(z))
    return (1.0 if z >= 0.0 else small) / (1.0 + small)


@kernel
def add_slope(
    metric: int, factor: float, x: float, a: np.ndarray, b: np.ndarray, squares: tuple[float, float],
    out_a: np.ndarray, out_b: np.ndarray,
) -> None:  # fmt: skip
    """Add factor times the gradient of the distance x of rows a and b (float64[d]) to out_a and out_b.

    squares : dot(a, a), dot(b, b)
    """
    square_a, square_b = squares
    if uses_differences(metric):
        weight = factor * 2.0
        if metric == EUCLIDEAN:
            weight = factor / x if x > 0.0 else 0.0
        for j in range(a.size):
            step = weight * (a[j] - b[j])
            out_a[j] += step
            out_b[j] -= step
        return
    cosine = metric == COSINE
    if cosine and x == 0.0:
        return
    weight = factor / math.sqrt(square_a * square_b) if cosine else factor
    along_a = factor * (1.0 - x) / square_a if cosine else 0.0
    along_b = factor * (1.0 - x) / square_b if cosine else 0.0
    for j in range(a.size):
        out_a[j] += along_a * a[j] - weight * b[j]
        out_b[j] += along_b * b[j] - weight * a[j]


@kernel
def triplets(
    metric: int, soft: bool, margin: float, rows: Tables, squares: np.ndarray, out_loss: np.ndarray,
    out_active: np.ndarray, out_gradients: Tables,
) -> None:  # fmt: skip
    """Triplet losses and gradients, row by row.

    rows : anchors, positives, negatives
    squares : float64 (3, m), their dot(a, a)
    out_loss, out_active : float64[m], and bool[m], whether x < p + margin
    out_gradients : like the rows, zeros before
    """
    anchors, positives, negatives = rows
    out_anchors, out_positives, out_negatives = out_gradients
    for i in range(anchors.shape[0]):
        a, b, c = anchors[i], positives[i], negatives[i]
        p = distance(metric, pair_total(metric, a, b), squares[0, i], squares[1, i])
        x = distance(metric, pair_total(metric, a, c), squares[0, i], squares[2, i])
        out_active[i] = x < p + margin
        factor = 1.0 if out_active[i] else 0.0
        if soft:
            z = (p - x) + margin
            out_loss[i] = max(z, 0.0) + math.log1p(math.exp(-abs(z)))
            factor = sigmoid(z)
        else:
            out_loss[i] = max(0.0, (p + margin) - x)
        if factor == 0.0:
            continue
        add_slope(metric, factor, p, a, b, (squares[0, i], squares[1, i]), out_anchors[i], out_positives[i])
        add_slope(metric, -factor, x, a, c, (squares[0, i], squares[2, i]), out_anchors[i], out_negatives[i])
        if metric == SQEUCLIDEAN:  # the anchor itself cancels
            for j in range(a.size):
                out_anchors[i, j] = factor * 2.0 * (c[j] - b[j])


@kernel
def contrasts(
    metric: int, margin: float, rows: Tables, similar: np.ndarray, squares: np.ndarray, out_loss: np.ndarray,
    out_active: np.ndarray, out_gradients: Tables,
) -> None:  # fmt: skip
    """Contrastive losses and gradients, row by row.

    rows : left, right
    similar : bool[m]
    squares : float64 (2, m), their dot(a, a)
    out_loss, out_active : float64[m], and bool[m], whether the loss is above 0
    out_gradients : like the rows, zeros before
    """
    left, right = rows
    out_left, out_right = out_gradients
    for i in range(left.shape[0]):
        a, b = left[i], right[i]
        x = distance(metric, pair_total(metric, a, b), squares[0, i], squares[1, i])
        gap = max(margin - x, 0.0)
        out_loss[i] = x * x if similar[i] else gap * gap
        out_active[i] = out_loss[i] > 0.0
        factor = 2.0 * x if similar[i] else -2.0 * gap
        if factor != 0.0:
            add_slope(metric, factor, x, a, b, (squares[0, i], squares[1, i]), out_left[i], out_right[i])


@kernel
def through_norm(unit: np.ndarray, square: np.ndarray, gradient: np.ndarray) -> None:
    """Turn gradients of unit rows into those of the rows that were divided by their norm, in place.

    unit, gradient float64 (m, d); square float64[m], dot(a, a) of the rows before. (g - <g, u> u) / |a|.
    """
    for i in range(unit.shape[0]):
        along = 0.0
        for j in range(unit.shape[1]):
            along += gradient[i, j] * unit[i, j]
        norm = math.sqrt(square[i])
        for j in range(unit.shape[1]):
            gradient[i, j] = (gradient[i, j] - along * unit[i, j]) / norm
