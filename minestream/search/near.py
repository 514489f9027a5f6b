"""The cells near each row, by which an approximate search decides what meets: by the vectors alone.

Cells are k-means of a sample that is drawn by a fixed seed. Whatever the machine, its threads, memory and screens, and
whichever rows are searched for, the same rows have the same cells: codes are whole numbers whose products are exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.inputs.dataset.dataset import Dataset
from minestream.kernels import near as kernels
from minestream.kernels import sweep
from minestream.kernels.quantize import OFFSET
from minestream.kernels.relation import NARROWER
from minestream.kernels.tile import HIGH, INTERVAL, LOW, control_of
from minestream.kernels.tile_shapes import host_tile, host_tiles
from minestream.kernels.types import TALLIES
from minestream.search.cells import add_to_cells, in_line
from minestream.search.context import SearchContext
from minestream.search.screens import packed
from minestream.system.threads import Workers, apart, slices

LISTED = 32  # cells of every row that are kept, the nearest
CELLS_OF_ROOT = 3  # cells: so many times the root of the rows, where finding them costs about as much as what meets
MOST_CELLS = 8_192
ROWS_OF_CELL, TURNS = 16, 3  # of the sample, and of k-means
TOGETHER = 16_384  # rows at a time
LINE_COORDINATES = 48  # by which centres are put in line
EXACT_SUMS = 2**24  # whole numbers up to here are exact in float32


def cells_of_rows(rows: int) -> int:
    """How many cells so many rows have."""
    return max(1, min(MOST_CELLS, rows // 2, math.isqrt(CELLS_OF_ROOT**2 * rows)))


def near_cells(loaded: Dataset, workers: Workers, threads: int) -> NDArray[np.uint16]:
    """The cells near every slot, the nearest first: uint16[n, LISTED], or fewer where there are fewer.

    Cells whose numbers are near are near, most of them. Cost: n^1.5 d operations of the screen.
    """
    finding = _Finding(loaded, workers, threads)
    rows = loaded.store.rows
    count = cells_of_rows(rows)
    generator = np.random.default_rng(0)
    sample = np.sort(generator.choice(rows, min(rows, ROWS_OF_CELL * count), replace=False))
    size = min(TOGETHER, loaded.store.pass_rows)
    pieces = [sample[begin : begin + size] for begin in range(0, sample.size, size)]  # read, and let go, one by one
    made = zip(*(finding.codes_of(loaded.store.take(some), some) for some in pieces), strict=True)
    codes, scale = (np.concatenate(each) for each in made)
    first = np.sort(generator.choice(sample.size, count, replace=False))
    centres = codes[first, : finding.dimension] * scale[first, None].astype(np.float64)
    for _ in range(TURNS):
        cell = finding.nearest(codes, scale, finding.centres_side(centres), 1)[:, 0].astype(np.int32)
        sums, members = np.zeros((count, finding.dimension)), np.zeros(count, np.int64)
        add_to_cells(codes, np.arange(sample.size), scale, cell, sums, members, workers, threads)
        centres = np.where(members[:, None] > 0, sums / np.maximum(members, 1)[:, None], centres)
    signs = generator.choice([-1.0, 1.0], finding.dimension)
    parts = np.array_split(np.arange(finding.dimension), min(LINE_COORDINATES, finding.dimension))
    line = in_line(np.stack([(centres[:, part] * signs[part]).sum(axis=1) for part in parts], axis=1))
    side = finding.centres_side(centres[line])
    found = np.empty((rows, min(LISTED, count)), np.uint16)
    for begin in range(0, rows, size):
        some = np.arange(begin, min(rows, begin + size))
        codes, scale = finding.codes_of(loaded.store.block(begin, int(some[-1]) + 1), some)
        found[some] = finding.nearest(codes, scale, side, found.shape[1])
    return found


class _Finding:
    """Finds the nearest of some centres, exactly as codes tell."""

    def __init__(self, loaded: Dataset, workers: Workers, threads: int) -> None:
        self.workers, self.threads, self.square = workers, threads, loaded.rows.square
        self.dimension = loaded.store.dimension
        name = "i8" if "i8" in host_tiles() and self.dimension <= EXACT_SUMS else "f32"
        self.tile, self.dtype = host_tile(name), np.dtype(np.int8 if name == "i8" else np.float32)
        self.words = -(-self.dimension * self.dtype.itemsize // 4)
        self.largest = float(min(127, math.isqrt(EXACT_SUMS // self.dimension)))
        longest = math.sqrt(float(self.square.max(initial=0.0)))
        self.length = 0.0 if loaded.frame.unit_rows else math.ldexp(1.0, math.frexp(longest)[1])

    def codes_of(self, vectors: NDArray[Any], slots: NDArray[np.int64]) -> tuple[NDArray[Any], NDArray[np.float32]]:
        """Codes, (m, d) and whole words, and their scales."""
        codes = np.zeros((slots.size, 4 * self.words // self.dtype.itemsize), self.dtype)
        scale, square = np.empty(slots.size, np.float32), self.square[slots]

        def task(part: slice) -> Callable[[], None]:
            return lambda: kernels.whole_codes(
                vectors[part], square[part], self.length, self.largest, codes[part], scale[part]
            )

        self.workers.run([task(part) for part in slices(slots.size, self.threads)])
        return codes, scale

    def centres_side(self, centres: NDArray[np.float64]) -> sweep.Side:
        """Centres as columns, whose bias makes the largest affinity that of the nearest."""
        size = max(float(np.abs(centres).max(initial=0.0)), 1e-30)
        scale = math.ldexp(1.0, math.frexp(size / self.largest)[1])
        codes = np.zeros((len(centres), 4 * self.words // self.dtype.itemsize), self.dtype)
        codes[:, : self.dimension] = np.rint(centres / scale)
        square = np.square(codes.astype(np.int64)).sum(axis=1)
        bias = (square * (-scale * scale / 2)).astype(np.float32)
        return self._side(codes, np.full(len(centres), scale, np.float32), bias, rows=False)

    def _side(
        self, codes: NDArray[Any], scale: NDArray[np.float32], bias: NDArray[np.float32], rows: bool
    ) -> sweep.Side:  # fmt: skip
        width = self.tile.rows if rows else self.tile.columns
        flip = OFFSET if rows and self.tile.unsigned_rows else 0
        panels = packed(codes.view(np.uint32), np.arange(len(codes)), width, self.workers, self.threads, flip)
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
        open_gate = (-np.inf, np.inf) if rows else (np.inf, -np.inf)
        side.terms[:, LOW], side.terms[:, HIGH] = open_gate
        return side

    def nearest(
        self, codes: NDArray[Any], scale: NDArray[np.float32], centres: sweep.Side, count: int
    ) -> NDArray[np.uint16]:
        """The nearest `count` centres of every row, the nearest first: uint16[m, count]."""
        rows = self._side(codes, scale, np.zeros(len(codes), np.float32), rows=True)
        affinity, cell = np.full((len(codes), count), -np.inf, np.float32), np.zeros((len(codes), count), np.uint16)

        def task(part: slice) -> Callable[[], None]:
            own = slice(part.start * self.tile.rows, part.stop * self.tile.rows)
            some = rows._replace(panels=rows.panels[part], terms=rows.terms[part])
            scratch = sweep.Scratch(
                apart((2, self.tile.rows), np.uint64), apart((self.tile.rows, self.tile.columns), np.float32),
                control_of(self.words), apart((2,), np.int64), apart((TALLIES,), np.int64),
            )  # fmt: skip
            return lambda: kernels.nearest_cells(some, centres, scratch, affinity[own], cell[own])

        self.workers.run([task(part) for part in slices(len(rows.panels), self.threads)])
        return cell


@dataclass(frozen=True)
class Schedule:
    """What looks at what: the cells near every slot, and of how many of them count.

    Attributes
    ----------
    near : uint16[n, k]
    width : int
        A row looks into the `width` nearest cells, and is a member of the nearest `members`.
    """

    near: NDArray[np.uint16]
    width: int

    @property
    def members(self) -> int:
        """Of how many cells a row is a member."""
        return members_of(self.width)

    def limit(self, setting: SearchContext) -> SearchContext:
        """The setting of searches among rows that look at each other."""
        rows = setting.loaded.rows._replace(near=self.near, width=self.width)
        return replace(setting, loaded=replace(setting.loaded, rows=rows))

    def looked_at(self, a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether pairs of slots look at each other: one looks into a cell of which the other is a member."""
        return widths_of(self.near, a, b) <= self.width

    @cached_property
    def share(self) -> float:
        """Products of pairs that meet, as a share of those of all pairs; a pair that meets twice counts twice."""
        return share_of(self.near, self.width)


def members_of(width: int) -> int:
    """Of how many cells a row is a member that looks into `width`."""
    return max(1, width // NARROWER)


def share_of(near: NDArray[np.uint16], width: int) -> float:
    """See Schedule.share."""
    cells, rows = int(near.max(initial=0)) + 1, max(2, len(near))
    every = np.array([np.bincount(column, minlength=cells) for column in near[:, :width].T], np.float64)
    own, into = (part.sum(axis=0) for part in np.split(every, [members_of(width)]))
    return float((own * (own - 1) / 2 + own * into).sum() / (rows * (rows - 1) / 2))


def widths_of(near: NDArray[np.uint16], a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.int64]:
    """The least width at which pairs of slots look at each other, int64[m]; more than there are cells where none is."""
    listed = near.shape[1]
    needed = np.arange(1, listed + 1)
    member = np.array([next((w for w in needed if members_of(w) > place), listed + 1) for place in range(listed)])
    found = np.full(a.size, listed + 1)
    for of_one, of_other in ((near[a], near[b]), (near[b], near[a])):
        for place in range(members_of(listed)):
            same = of_one == of_other[:, place, None]
            looks = np.where(same.any(axis=1), same.argmax(axis=1) + 1, listed + 1)
            found = np.minimum(found, np.maximum(looks, member[place]))
    return found
