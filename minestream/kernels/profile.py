"""Distances of some anchors to all rows, and the sizes of relations: what `profile` counts from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.distances import COSINE, distance, uses_differences
from minestream.kernels.jit import kernel
from minestream.kernels.relation import relation
from minestream.kernels.types import NEGATIVE, POSITIVE, Rows

CHUNK_ROWS = 64  # rows that all anchors of a strip meet before the next ones: they stay in the cache


class Panel(NamedTuple):
    """Scratch of strip_distances()."""

    coordinates: NDArray[np.float64]  # [d, CHUNK_ROWS]
    totals: NDArray[np.float64]  # [2, CHUNK_ROWS]


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
    served: NDArray[np.int64]  # [A, M] semi-hard negatives of the positive that mining takes


@kernel
def _add_chunk(differences: bool, anchor: np.ndarray, other: np.ndarray, panel: np.ndarray, total: np.ndarray) -> None:
    """The sums over coordinates, in their order, of two anchors and CHUNK_ROWS rows.

    anchor, other float64[d], panel (d, CHUNK_ROWS), total (2, CHUNK_ROWS). Two at a time, and four coordinates: what
    is read of the panel, and the sums, serve more than one product.
    """
    d, sums, other_sums = anchor.size, total[0], total[1]
    for q in range(CHUNK_ROWS):
        sums[q] = other_sums[q] = 0.0
    for j in range(0, d - 3, 4):
        a, b, c, e = anchor[j], anchor[j + 1], anchor[j + 2], anchor[j + 3]
        f, g, h, i = other[j], other[j + 1], other[j + 2], other[j + 3]
        if differences:
            for q in range(CHUNK_ROWS):
                s, t, u, v = panel[j, q], panel[j + 1, q], panel[j + 2, q], panel[j + 3, q]
                sums[q] = (((sums[q] + (a - s) ** 2) + (b - t) ** 2) + (c - u) ** 2) + (e - v) ** 2
                other_sums[q] = (((other_sums[q] + (f - s) ** 2) + (g - t) ** 2) + (h - u) ** 2) + (i - v) ** 2
        else:
            for q in range(CHUNK_ROWS):
                s, t, u, v = panel[j, q], panel[j + 1, q], panel[j + 2, q], panel[j + 3, q]
                sums[q] = (((sums[q] + a * s) + b * t) + c * u) + e * v
                other_sums[q] = (((other_sums[q] + f * s) + g * t) + h * u) + i * v
    for j in range(d // 4 * 4, d):
        for q in range(CHUNK_ROWS):
            t, u = anchor[j] - panel[j, q], other[j] - panel[j, q]
            sums[q] += t * t if differences else anchor[j] * panel[j, q]
            other_sums[q] += u * u if differences else other[j] * panel[j, q]


@kernel
def _write_chunk(metric: int, total: np.ndarray, anchor_square: float, square: np.ndarray, out_x: np.ndarray) -> None:
    if metric == COSINE:  # a loop of its own, which the compiler makes vector code of
        for q in range(out_x.size):
            out_x[q] = distance(COSINE, total[q], anchor_square, square[q])
    else:
        for q in range(out_x.size):
            out_x[q] = distance(metric, total[q], anchor_square, square[q])


@kernel
def strip_distances(
    metric: int, anchors: np.ndarray, anchor_square: np.ndarray, vectors: np.ndarray, square: np.ndarray,
    first_slot: int, panel: Panel, out_x: np.ndarray,
) -> None:  # fmt: skip
    """Canonical distances of a strip of anchors to a block of rows. Cost: S m d in float64.

    Of 64 rows the coordinates are put side by side once for all anchors. The additions of a pair, and so its value,
    are those of distances.distances_to.

    Parameters
    ----------
    anchors, anchor_square : float64 (S, d), float64[S]
    vectors : (m, d) of any stored dtype, the rows of slots first_slot ...
    square : float64[n], by slot
    panel : Panel, scratch
    out_x : float64 (S, n), by slot
    """
    m, d = vectors.shape
    for first in range(0, m, CHUNK_ROWS):
        count = min(CHUNK_ROWS, m - first)
        for q in range(CHUNK_ROWS):
            row = vectors[first + min(q, count - 1)]  # the last chunk is filled up by its last row
            for j in range(d):
                panel.coordinates[j, q] = np.float64(row[j])
        slot = first_slot + first
        own = square[slot : slot + count]
        last = anchors.shape[0] - 1
        for i in range(0, last + 1, 2):
            other = min(i + 1, last)  # an odd one meets them twice
            _add_chunk(uses_differences(metric), anchors[i], anchors[other], panel.coordinates, panel.totals)
            _write_chunk(metric, panel.totals[0], anchor_square[i], own, out_x[i, slot : slot + count])
            if other > i:
                _write_chunk(metric, panel.totals[1], anchor_square[other], own, out_x[other, slot : slot + count])


@kernel(inline=True)
def _count_below(values: np.ndarray, at: int, bound: float) -> int:
    """How many of the ascending values are less than `bound`, of which `at` are known to be."""
    end = values.size
    while at < end:
        middle = (at + end) // 2
        if values[middle] < bound:
            at = middle + 1
        else:
            end = middle
    return at


@kernel
def count_margins(
    positives: np.ndarray, negatives: np.ndarray, hard: np.ndarray, total: np.ndarray, scale: tuple[float, float],
    margins: np.ndarray, at: tuple[int, int], out: Counts,
) -> None:  # fmt: skip
    """Count the triplets of one anchor at every margin. Cost: log2 n a positive and margin.

    Parameters
    ----------
    positives, negatives : float64[p], float64[n], ascending distances
    hard : int64[p], how many negatives are not farther than each positive
    total : int64[n + 1], sums of the first i of min(negative, a bound no positive reaches by a margin) - low, in units
    scale : low, the least distance; unit, how many units are a distance of 1, or 0 where there are no sums
    margins : float64[M], above 0
    at : the place of the anchor in `out`, and that of the positive among `positives` that mining would take
    out : Counts
    """
    (low, unit), (a, easiest) = scale, at
    for k in range(margins.size):
        loss, semi_hard, beyond = 0.0, 0, 0
        for i in range(positives.size):
            bound = positives[i] + margins[k]
            beyond = _count_below(negatives, beyond, bound)
            inside = max(0, beyond - hard[i])
            semi_hard += inside
            loss += beyond * (bound - low) - (total[beyond] / unit if unit else 0.0)
            if i == easiest:
                out.served[a, k] = inside
        out.semi_hard[a, k], out.loss[a, k] = semi_hard, max(0.0, loss)
        out.within[a, k] = _count_below(negatives, 0, margins[k])


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
