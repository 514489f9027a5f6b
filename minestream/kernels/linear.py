"""A linear map of rows, and sums of outer products: every cell has one accumulator and a fixed order, so threads that
share out cells change no bit, as a BLAS would.
"""

from __future__ import annotations

import math

import numpy as np

from minestream.kernels.jit import kernel

TOGETHER, STRETCH = 8, 64  # rows for one pass over the map, or over a row of the sums: those stay in cache


@kernel
def project(rows: np.ndarray, mean: np.ndarray, transposed: np.ndarray, out: np.ndarray) -> None:
    """(rows - mean) times the map: rows (m, d), mean float64[d], transposed float64 (d, e), out float64 (m, e)."""
    for first in range(0, rows.shape[0], TOGETHER):
        end = min(rows.shape[0], first + TOGETHER)
        out[first:end] = 0.0
        for j in range(rows.shape[1]):
            for i in range(first, end):
                value = np.float64(rows[i, j]) - mean[j]
                for k in range(out.shape[1]):
                    out[i, k] += value * transposed[j, k]


@kernel
def add_outer(left: np.ndarray, right: np.ndarray, first: int, end: int, out: np.ndarray) -> None:
    """Add the sum over i of left[i]^T right[i] to rows first ... end - 1 of out.

    left float64 (m, e), right float64 (m, d), out float64 (e, d).
    """
    for start in range(0, left.shape[0], STRETCH):
        for k in range(first, end):
            for i in range(start, min(left.shape[0], start + STRETCH)):
                factor = left[i, k]
                if factor != 0.0:
                    for j in range(right.shape[1]):
                        out[k, j] += factor * right[i, j]


@kernel
def orthonormalize(rows: np.ndarray) -> None:
    """Gram-Schmidt in place, each row against those before it, twice; what is left of a dependent row is zeros.

    rows float64 (e, d).
    """
    for i in range(rows.shape[0]):
        before = 0.0
        for j in range(rows.shape[1]):
            before += rows[i, j] * rows[i, j]
        for _ in range(2):  # once leaves what rounding put back
            for other in range(i):
                along = 0.0
                for j in range(rows.shape[1]):
                    along += rows[i, j] * rows[other, j]
                for j in range(rows.shape[1]):
                    rows[i, j] -= along * rows[other, j]
        square = 0.0
        for j in range(rows.shape[1]):
            square += rows[i, j] * rows[i, j]
        scale = 1.0 / math.sqrt(square) if square > 1e-24 * before else 0.0
        for j in range(rows.shape[1]):
            rows[i, j] *= scale
