"""K-means on the codes of rows: the products of the tile, and sums in float64."""

from __future__ import annotations

import numpy as np

from minestream.kernels.jit import kernel
from minestream.kernels.sweep import Scratch, Side
from minestream.kernels.tile import BIAS, address, tile, tile_shape


@kernel
def nearest_centres(left: Side, right: Side, scratch: Scratch, out_affinity: np.ndarray, out_cell: np.ndarray) -> None:
    """The centre of the largest affinity, of equal ones the first, of every row of the left side.

    Parameters
    ----------
    left : Side
        Rows, all of whose gates are open.
    right : Side
        Centres.
    out_affinity : float32[rows], -inf
    out_cell : int32[rows]
    """
    tile_rows, tile_columns = tile_shape(address(left.panels, 0))
    words, terms = left.panels.shape[1], left.terms.shape[1]
    for i in range(left.panels.shape[0]):
        for j in range(right.panels.shape[0]):
            tile(
                address(left.panels, i * words * tile_rows), address(right.panels, j * words * tile_columns),
                address(scratch.control, 0), address(left.terms, i * terms * tile_rows),
                address(right.terms, j * terms * tile_columns), address(right.start, 2 * j * tile_columns),
                address(scratch.masks, 0), address(scratch.masks, tile_rows), address(scratch.products, 0),
            )  # fmt: skip
            for r in range(min(tile_rows, out_cell.size - i * tile_rows)):
                row = i * tile_rows + r
                for c in range(min(tile_columns, right.lanes - j * tile_columns)):
                    affinity = scratch.products[r, c] + right.terms[j, BIAS, c]
                    if affinity > out_affinity[row]:
                        out_affinity[row], out_cell[row] = affinity, j * tile_columns + c


@kernel
def add_rows(
    codes: np.ndarray, at: np.ndarray, scale: np.ndarray, cell: np.ndarray, first: int, end: int, out_sum: np.ndarray
) -> None:
    """Add some coordinates of each row to the sum of its cell: first ... end - 1.

    codes (m, d) int8, int16 or float32, at int64[rows] which of them, scale float32[rows], cell int32[rows];
    out_sum float64 (cells, d)
    """
    for i in range(at.size):
        for j in range(first, end):
            out_sum[cell[i], j] += np.float64(codes[at[i], j]) * scale[i]
