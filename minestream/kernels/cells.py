"""K-means of rows: codes, the cells nearest to each row, and sums.

Codes here are whole numbers so small, and scales powers of two, that every product is exact on every machine, in the
tile of int8 as in that of float32: which cells are near a row depends on the vectors alone.
"""

from __future__ import annotations

import math

import numpy as np

from minestream.kernels.jit import kernel
from minestream.kernels.sweep import Scratch, Side
from minestream.kernels.tile import BIAS, LOW, address, tile, tile_shape


@kernel
def whole_codes(
    vectors: np.ndarray, square: np.ndarray, length: float, largest: float, out_codes: np.ndarray,
    out_scale: np.ndarray,
) -> None:  # fmt: skip
    """Rows (m, d), divided by `length`, or by their own where that is 0, as codes up to `largest` times powers of two.

    out_codes (m, at least d) int8 or float32, out_scale float32[m]; square : float64[m], dot(a, a) of each
    """
    for i in range(vectors.shape[0]):
        norm = length if length > 0.0 else math.sqrt(square[i])
        most = 0.0
        for j in range(vectors.shape[1]):
            most = max(most, abs(np.float64(vectors[i, j]) / norm))
        scale = math.ldexp(1.0, max(-100, math.frexp(most / largest)[1]))
        out_scale[i] = scale
        for j in range(vectors.shape[1]):
            out_codes[i, j] = np.rint(np.float64(vectors[i, j]) / norm / scale)


@kernel
def nearest_cells(left: Side, right: Side, scratch: Scratch, out_affinity: np.ndarray, out_cell: np.ndarray) -> None:
    """The cells of the largest affinities to every row of the left side, of equal ones the first, nearest first.

    Parameters
    ----------
    left : Side
        Rows, whose gates are open; they are narrowed.
    right : Side
        Centres, whose gates are closed.
    out_affinity : float32[rows, k], -inf
    out_cell : uint16[rows, k]
    """
    tile_rows, tile_columns = tile_shape(address(left.panels, 0))
    words, terms = left.panels.shape[1], left.terms.shape[1]
    count = out_affinity.shape[1]
    for i in range(left.panels.shape[0]):
        for j in range(right.panels.shape[0]):
            passed = tile(
                address(left.panels, i * words * tile_rows), address(right.panels, j * words * tile_columns),
                address(scratch.control, 0), address(left.terms, i * terms * tile_rows),
                address(right.terms, j * terms * tile_columns), address(right.start, 2 * j * tile_columns),
                address(scratch.masks, 0), address(scratch.masks, tile_rows), address(scratch.products, 0),
            )  # fmt: skip
            if passed == 0:
                continue
            for r in range(min(tile_rows, out_cell.shape[0] - i * tile_rows)):
                if scratch.masks[0, r] == 0:
                    continue
                row = i * tile_rows + r
                for c in range(min(tile_columns, right.lanes - j * tile_columns)):
                    affinity = scratch.products[r, c] + right.terms[j, BIAS, c]
                    if affinity <= out_affinity[row, count - 1]:
                        continue
                    at = count - 1
                    while at > 0 and out_affinity[row, at - 1] < affinity:
                        out_affinity[row, at], out_cell[row, at] = out_affinity[row, at - 1], out_cell[row, at - 1]
                        at -= 1
                    out_affinity[row, at], out_cell[row, at] = affinity, j * tile_columns + c
                left.terms[i, LOW, r] = out_affinity[row, count - 1]


@kernel
def add_rows(codes: np.ndarray, scale: np.ndarray, cell: np.ndarray, first: int, end: int, out_sum: np.ndarray) -> None:
    """Add some coordinates of each row to the sum of its cell: first ... end - 1.

    codes (m, d) int8 or float32, scale float32[m], cell uint16[m]; out_sum float64 (cells, d)
    """
    for i in range(cell.size):
        for j in range(first, end):
            out_sum[cell[i], j] += np.float64(codes[i, j]) * scale[i]
