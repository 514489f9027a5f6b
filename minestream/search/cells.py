"""Cells: rows that are near each other, by k-means on their codes, and in an order in which neighbours are near.

A search puts its rows in this order and looks around each anchor first (kernels/probe.py). Whatever the cells, its
answer is the same: they decide how soon gates are narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.kernels import sweep
from minestream.kernels.cells import add_rows, nearest_centres
from minestream.kernels.tile import HIGH, LOW
from minestream.search.screens import Codes, packing
from minestream.system.threads import Workers, slices

ROWS_OF_CELL = 32  # of the sample that centres are found with
TURNS = 3  # of k-means
MOST_CELLS = 4_096
PACKED_ROWS = 8_192  # by one thread, at a time
LEAST_SCALE = 1e-30


def cells_of(codes: Codes, workers: Workers, threads: int, most: int) -> NDArray[np.int32]:
    """The cell of every slot, int32[n], found once: cells whose numbers are near are near, most of them.

    most : rows that may be packed at a time
    Cost: n^1.5 d operations of the screen.
    """
    if codes.cell is None:
        codes.cell = _found(codes, workers, threads, most)
    return codes.cell


def _found(codes: Codes, workers: Workers, threads: int, most: int) -> NDArray[np.int32]:
    rows = codes.terms.scale.size
    count = min(MOST_CELLS, math.isqrt(rows))
    sample = np.random.default_rng(0).choice(rows, min(rows, ROWS_OF_CELL * count), replace=False)
    centres = values_of(codes, np.sort(sample[:count]))
    sample.sort()
    for _ in range(TURNS):
        sums, members = np.zeros((count, centres.shape[1])), np.zeros(count, np.int64)
        side = _centres_side(codes, centres)
        cell = _assigned(codes, sample, side, workers, threads, most)
        for first in range(0, sample.size, PACKED_ROWS):
            some = slice(first, first + PACKED_ROWS)
            words, at = codes.rows_of(sample[some])
            values, scale = words.view(codes.screen.dtype), codes.terms.scale[sample[some]]
            add_to_cells(values, at, scale, cell[some], sums, members, workers, threads)
        means = sums / np.maximum(members, 1)[:, None] * _steps(codes)
        centres = np.where(members[:, None] > 0, means, centres)
    side = _centres_side(codes, centres[in_line(centres)])
    return _assigned(codes, np.arange(rows), side, workers, threads, most)


def add_to_cells(
    codes: NDArray[Any], at: NDArray[np.int64], scale: NDArray[np.float32], cell: NDArray[np.int32],
    sums: NDArray[np.float64], members: NDArray[np.int64], workers: Workers, threads: int,
) -> None:  # fmt: skip
    """Add rows to the sums of their cells, and count them; see add_rows(). Each thread adds some coordinates."""
    parts = slices(sums.shape[1], threads)
    workers.run([partial(add_rows, codes, at, scale, cell, part.start, part.stop, sums) for part in parts])
    members += np.bincount(cell, minlength=members.size)


def values_of(codes: Codes, slots: NDArray[np.integer]) -> NDArray[np.float64]:
    """Rows as their codes stand for them."""
    words, at = codes.rows_of(slots)
    values: NDArray[np.float64] = words.view(codes.screen.dtype)[at] * codes.terms.scale[slots, None] * _steps(codes)
    return values


def _steps(codes: Codes) -> NDArray[np.float64]:
    """What each value of a code counts beside the scale of its row."""
    values = 4 * codes.words // np.dtype(codes.screen.dtype).itemsize
    return np.where(np.arange(values) < codes.prefix, 2.0 ** (codes.shift / 2), 1.0)


def _centres_side(codes: Codes, centres: NDArray[np.float64]) -> sweep.Side:
    """Centres, coded anew, as columns whose bias makes the largest affinity that of the nearest."""
    bias = -np.square(centres).sum(axis=1) / 2
    centres, scale, kind = centres / _steps(codes), np.ones(len(centres)), codes.screen.dtype
    if kind != np.float32:  # no int16 centre is longer than a coordinate may be: no sum of products overflows
        size = np.abs(centres).max(axis=1) if kind == np.int8 else np.sqrt(np.square(centres).sum(axis=1))
        scale = np.maximum(size, LEAST_SCALE) / np.iinfo(kind).max
    coded = np.rint(centres / scale[:, None]) if kind != np.float32 else centres
    start = np.zeros((len(centres), 2))
    if codes.tile.unsigned_rows:
        sums = coded[:, : codes.prefix].sum(axis=1), coded[:, codes.prefix :].sum(axis=1)
        start = -128 * np.stack(sums, axis=1)
    words = coded.astype(codes.screen.dtype).view(np.uint32)
    side = _side(codes, words, np.arange(len(centres)), codes.tile.columns, (scale, bias, start))
    side.terms[:, LOW], side.terms[:, HIGH] = np.inf, -np.inf
    return side


def _side(
    codes: Codes, words: NDArray[np.uint32], at: NDArray[np.int64], width: int, terms: Sequence[NDArray[Any]]
) -> sweep.Side:
    """Some of `words` as one side of the tile, by scale, bias and start of each; without gates."""
    flip = codes.row_flip(mirrored=False) if width == codes.tile.rows else 0
    (panels, pack), none = packing(words, at, width, flip), np.zeros(at.size, np.int32)
    scale, bias = (each.astype(np.float32) for each in terms[:2])
    nothing = np.zeros_like(scale)
    lanes = sweep.Lanes(none, none, none, scale, bias, nothing, nothing, terms[2].astype(np.int32))
    side = codes.side(slice(0, at.size), panels)
    pack(slice(0, len(panels)))
    sweep.set_side(lanes, side, 1.0)
    return side


def _assigned(
    codes: Codes, slots: NDArray[np.int64], centres: sweep.Side, workers: Workers, threads: int, most: int
) -> NDArray[np.int32]:
    """The nearest centre of each slot, int32[slots]."""
    affinity, cell = np.full(slots.size, -np.inf, np.float32), np.zeros(slots.size, np.int32)

    def task(own: slice) -> None:
        words, at = codes.rows_of(slots[own])
        terms = codes.terms.scale[slots[own]], np.zeros(at.size), codes.terms.start[slots[own]]
        rows = _side(codes, words, at, codes.tile.rows, terms)
        rows.terms[:, LOW], rows.terms[:, HIGH] = -np.inf, np.inf
        nearest_centres(rows, centres, codes.scratch(), affinity[own], cell[own])

    together = min(PACKED_ROWS, max(1, most // threads))
    workers.run([partial(task, own) for own in slices(slots.size, -(-slots.size // together))])
    return cell


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
