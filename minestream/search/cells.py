"""Cells: rows that are near each other, by k-means, in a line on which neighbours are near.

A search puts its rows in this order and looks around each anchor first (kernels/probe.py): whatever the cells, its
answer is the same. An approximate search looks into the cells near each row alone (near.py): those depend on the
vectors alone, whatever the machine, its threads, memory and screens, since products of codes are exact.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.inputs.dataset.dataset import Dataset
from minestream.kernels import cells as kernels
from minestream.kernels import sweep
from minestream.kernels.quantize import OFFSET
from minestream.kernels.tile import HIGH, INTERVAL, LOW, control_of
from minestream.kernels.tile_shapes import host_tile, host_tiles
from minestream.kernels.types import TALLIES
from minestream.search.screens import packing
from minestream.system.threads import Workers, apart, slices

MOST_CELLS = 4_096  # of a search among all rows
ROWS_OF_CELL, TURNS = 16, 3  # of the sample that centres are found with, and of k-means
TOGETHER = 8_192  # rows at a time, of each thread
LINE_COORDINATES = 48  # by which centres are put in line
LEAST_SCALE = 1e-30
EXACT_SUMS = 2**24  # whole numbers up to here are exact in float32


def cell_of(loaded: Dataset, workers: Workers, threads: int) -> NDArray[np.uint16]:
    """The cell of every slot, uint16[n], of so many as the root of the rows. Cost: n^1.5 d operations of the screen."""
    count = max(1, min(MOST_CELLS, math.isqrt(loaded.store.rows)))
    return nearest_cells(loaded, workers, threads, count, 1)[:, 0]


def nearest_cells(loaded: Dataset, workers: Workers, threads: int, count: int, listed: int) -> NDArray[np.uint16]:
    """The nearest of `count` cells to every slot, the nearest first: uint16[n, listed], or fewer where there are fewer.

    Cells whose numbers are near are near, most of them. Cost: n d operations of the screen for each cell.
    """
    coding, rows, generator = _Coding(loaded), loaded.store.rows, np.random.default_rng(0)
    sample = np.sort(generator.choice(rows, min(rows, ROWS_OF_CELL * count), replace=False))
    size = min(TOGETHER, loaded.store.pass_rows)
    codes, scale = coding.room(sample.size)

    def encode(part: slice) -> None:  # rows are read, and let go, a part at a time
        codes[part], scale[part] = coding.codes_of(loaded.store.take(sample[part]), sample[part])

    own = slices(sample.size, max(threads, -(-sample.size // size)))
    workers.run([partial(encode, part) for part in own])
    first = np.sort(generator.choice(sample.size, count, replace=False))
    centres = codes[first, : coding.dimension] * scale[first, None].astype(np.float64)
    cell = np.empty(sample.size, np.uint16)

    def assign(side: sweep.Side, part: slice) -> None:
        cell[part] = coding.nearest(codes[part], scale[part], side, 1)[:, 0]

    for _ in range(TURNS):
        side = coding.columns(centres)
        workers.run([partial(assign, side, part) for part in own])
        sums, members = np.zeros((count, coding.dimension)), np.bincount(cell, minlength=count)
        parts = slices(coding.dimension, threads)
        workers.run([partial(kernels.add_rows, codes, scale, cell, part.start, part.stop, sums) for part in parts])
        centres = np.where(members[:, None] > 0, sums / np.maximum(members, 1)[:, None], centres)
    signs = generator.choice([-1.0, 1.0], coding.dimension)
    axes = np.array_split(np.arange(coding.dimension), min(LINE_COORDINATES, coding.dimension))
    line = in_line(np.stack([(centres[:, some] * signs[some]).sum(axis=1) for some in axes], axis=1))
    side, near = coding.columns(centres[line]), np.empty((rows, min(listed, count)), np.uint16)

    def find(part: slice) -> None:
        some = coding.codes_of(loaded.store.block(part.start, part.stop), np.arange(part.start, part.stop))
        near[part] = coding.nearest(*some, side, near.shape[1])

    workers.run([partial(find, part) for part in slices(rows, max(threads, -(-rows // size)))])
    return near


class _Coding:
    """Codes of rows and of centres, whose products are exact, and by them the centres that are nearest."""

    def __init__(self, loaded: Dataset) -> None:
        self.square, self.dimension = loaded.rows.square, loaded.store.dimension
        name = "i8" if "i8" in host_tiles() and self.dimension <= EXACT_SUMS else "f32"
        self.tile, self.dtype = host_tile(name), np.dtype(np.int8 if name == "i8" else np.float32)
        self.words = -(-self.dimension * self.dtype.itemsize // 4)
        self.largest = float(min(127, math.isqrt(EXACT_SUMS // self.dimension)))
        longest = math.sqrt(float(self.square.max(initial=0.0)))
        self.length = 0.0 if loaded.frame.unit_rows else math.ldexp(1.0, math.frexp(longest)[1])

    def room(self, rows: int) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Room for the codes of so many rows, and their scales."""
        return np.zeros((rows, 4 * self.words // self.dtype.itemsize), self.dtype), np.empty(rows, np.float32)

    def codes_of(self, vectors: NDArray[Any], slots: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Codes, (m, d) and whole words, and their scales."""
        codes, scale = self.room(slots.size)
        kernels.whole_codes(vectors, self.square[slots], self.length, self.largest, codes, scale)
        return codes, scale

    def columns(self, centres: NDArray[np.float64]) -> sweep.Side:
        """Centres as columns, whose bias makes the largest affinity that of the nearest."""
        size = max(float(np.abs(centres).max(initial=0.0)), LEAST_SCALE)
        scale = math.ldexp(1.0, math.frexp(size / self.largest)[1])
        codes, _ = self.room(len(centres))
        codes[:, : self.dimension] = np.rint(centres / scale)
        square = np.square(codes.astype(np.int64)).sum(axis=1)
        bias = (square * (-scale * scale / 2)).astype(np.float32)
        return self._side(codes, np.full(len(centres), scale, np.float32), bias, rows=False)

    def nearest(
        self, codes: NDArray[Any], scale: NDArray[np.float32], centres: sweep.Side, count: int
    ) -> NDArray[np.uint16]:
        """The nearest `count` centres of every row, the nearest first: uint16[m, count]."""
        rows = self._side(codes, scale, np.zeros(len(codes), np.float32), rows=True)
        affinity, cell = np.full((len(codes), count), -np.inf, np.float32), np.zeros((len(codes), count), np.uint16)
        scratch = sweep.Scratch(
            apart((2, self.tile.rows), np.uint64), apart((self.tile.rows, self.tile.columns), np.float32),
            control_of(self.words), apart((2,), np.int64), apart((TALLIES,), np.int64),
        )  # fmt: skip
        kernels.nearest_cells(rows, centres, scratch, affinity, cell)
        return cell

    def _side(
        self, codes: NDArray[Any], scale: NDArray[np.float32], bias: NDArray[np.float32], rows: bool
    ) -> sweep.Side:  # fmt: skip
        width = self.tile.rows if rows else self.tile.columns
        flip = OFFSET if rows and self.tile.unsigned_rows else 0
        if self.dtype == np.float32:  # whose tile knows no scales
            codes = codes * scale[:, None]
        panels, pack = packing(codes.view(np.uint32), np.arange(len(codes)), width, flip)
        pack(slice(0, len(panels)))
        start = np.zeros((len(codes), 2), np.int32)
        if self.tile.unsigned_rows and not rows:
            start[:, 0] = -128 * codes.astype(np.int32).sum(axis=1)
        none, nothing, count = np.zeros(len(codes), np.int32), np.zeros(len(codes), np.float32), len(panels)
        kind: type[Any] = np.int32 if self.dtype == np.int8 else np.float32
        side = sweep.Side(
            0, len(codes), np.arange(len(codes), dtype=np.int32), 1, panels.view(kind),
            np.empty((count, LOW + INTERVAL, width), np.float32), np.empty((count, 2, width), np.int32),
            *(np.empty((count, 2), np.int32) for _ in range(3)),
        )  # fmt: skip
        sweep.set_side(sweep.Lanes(none, none, none, scale, bias, nothing, nothing, start), side, 1.0)
        side.terms[:, LOW], side.terms[:, HIGH] = (-np.inf, np.inf) if rows else (np.inf, -np.inf)
        return side


def in_line(centres: NDArray[np.float64]) -> NDArray[np.int64]:
    """An order of the centres: halved along the direction in which they differ most, then each half, and so on.

    Without products of matrices, whose library would take threads of its own.
    """
    parts, line = [np.arange(len(centres))], []
    while parts:
        part = parts.pop()
        rows = centres[part] - centres[part].mean(axis=0)
        direction = rows[np.argmax(np.square(rows).sum(axis=1))]
        for _ in range(TURNS if part.size > 2 else 0):
            direction = (rows * (rows * direction).sum(axis=1, keepdims=True)).sum(axis=0)
            direction = direction / max(math.sqrt(np.square(direction).sum()), LEAST_SCALE)
        part = part[np.argsort((rows * direction).sum(axis=1), kind="stable")]
        if part.size <= 2:
            line += part.tolist()
        else:
            parts += [part[part.size // 2 :], part[: part.size // 2]]
    return np.array(line)
