"""The rotation of rows for int8 codes, from a sample of them.

Rows of text and pictures differ most along few directions. Turned to their principal axes, a prefix of the coordinates
decides most products, and the tile may stop behind it (kernels/tile.py). No answer depends on the rotation.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from minestream.inputs.dataset.dataset import Dataset
from minestream.kernels import quantize
from minestream.kernels.tile_shapes import host_tile

SAMPLE_ROWS, TOGETHER = 8, 256  # for each dimension; read together
DIMENSIONS = (256, 2_048)  # from the one on axes pay, up to the other they are found soon
ROWS_OF_DIMENSION = 50  # at least, for axes to pay
TAIL_SHARE = 0.08  # of the squared length, which may lie behind the prefix
LONGEST_PREFIX = 0.625  # of the coordinates
LARGEST_SHIFT = 5  # so that no accumulator overflows: 2^15 (2^5 prefix + rest) <= 2^31
NOTHING = 1e-30


def plain_rotation(dimension: int) -> quantize.Rotation:
    """By signs and Walsh-Hadamard matrices, without a prefix."""
    return quantize.Rotation(np.empty((0, dimension, host_tile("f32").columns), np.float32), 0.0, dimension, 0)


def rotation_of(loaded: Dataset) -> quantize.Rotation:
    """To principal axes, if a prefix of them holds nearly all of the length; else by signs and Walsh-Hadamard matrices.

    Within the prefix, and behind it, axes are mixed, so that no coordinate is far larger than the others there.
    Cost: 8 d rows are read, d^3.
    """
    d, columns = loaded.store.dimension, host_tile("f32").columns
    plain = plain_rotation(d)
    if not DIMENSIONS[0] <= d <= DIMENSIONS[1] or loaded.store.rows < ROWS_OF_DIMENSION * d:
        return plain
    values, axes = (np.flip(each, -1) for each in np.linalg.eigh(_moments(loaded)))
    behind = 1 - np.cumsum(values) / max(values.sum(), NOTHING)
    prefix = 4 * math.ceil((int(np.argmax(behind <= TAIL_SHARE)) + 1) / 4)
    if values.sum() <= NOTHING or prefix > LONGEST_PREFIX * d:
        return plain
    larger = values[:prefix].mean() / max(values[prefix:].mean(), NOTHING)
    axes = np.ascontiguousarray(axes)
    quantize.rotate_parts(quantize.rotation_signs(d), prefix, axes)
    matrix = np.ascontiguousarray(axes.T).astype(np.float32)
    product = matrix.T.astype(np.float64) @ matrix.astype(np.float64)
    defect = 1.01 * float(np.sqrt(np.square(product - np.eye(d)).sum())) + d * d * 2.0**-50
    panels = np.empty((-(-d // columns), d, columns), np.uint32)
    quantize.pack(matrix.view(np.uint32), np.arange(d), np.uint32(0), panels)
    shift = int(np.clip(np.rint(np.log2(larger)), 0, LARGEST_SHIFT))
    return quantize.Rotation(panels.view(np.float32), defect, prefix, shift)


def _moments(loaded: Dataset) -> NDArray[np.float64]:
    """The products of all coordinates, two by two, summed over a sample of rows in the frame: float64 (d, d)."""
    d, frame, rows = loaded.store.dimension, loaded.frame, loaded.store.rows
    slots = np.sort(np.random.default_rng(0).choice(rows, min(rows, SAMPLE_ROWS * d), replace=False))
    moments = np.zeros((d, d))
    for first in range(0, slots.size, TOGETHER):
        some = slots[first : first + TOGETHER]
        length = np.sqrt(loaded.rows.square[some])[:, None] if frame.unit_rows else 1.0
        z = (loaded.store.take(some).astype(np.float64) / length - frame.centre) * frame.scale
        moments += z.T @ z
    return moments
