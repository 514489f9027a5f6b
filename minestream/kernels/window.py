"""The search within windows of a stream: a float32 tile proposes, canonical distances decide.

Candidates come in the order of the rows. What the tile computes of one differs from its linear distance by a proven
error (quantize.py). A candidate is passed over when it lies, with that error, beyond the band or beyond the worst of a
full list.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.distances import DOT, distances_to, linear_distance, load_row
from minestream.kernels.jit import kernel
from minestream.kernels.relation import lost_to_group, relation
from minestream.kernels.select import offer
from minestream.kernels.tile import address, tile, tile_shape
from minestream.kernels.types import (
    FARTHEST,
    IN_GROUP,
    NEARER_CAP,
    NEAREST,
    POSITIVE,
    WITHIN,
    Problem,
    Rows,
    Rule,
    Strip,
)

WIDER = 1.0 + 2.0**-40  # for what converting a distance rounds


class Screen(NamedTuple):
    """Packed rows for the tile, and by slot the terms of t = h - product - bias, see quantize.py."""

    row_panels: NDArray[np.float32]  # [panels, d, tile rows] of the anchors
    column_panels: NDArray[np.float32]  # [panels, d, tile columns] of all slots
    h: NDArray[np.float64]  # [n] by slot
    own: NDArray[np.float64]  # [n]
    bias: NDArray[np.float32]  # [n]
    slack: NDArray[np.float32]  # [n]


class Scratch(NamedTuple):
    """Arrays that one thread works in."""

    control: NDArray[np.int64]  # [CONTROL] see tile(), as of what follows
    row_terms: NDArray[np.float32]  # [(LOW + 2) * tile rows] open gates
    column_terms: NDArray[np.float32]  # [(LOW + 2) * tile columns] closed ones
    column_start: NDArray[np.int32]  # [tile columns]
    masks: NDArray[np.uint64]  # [2 * tile rows]
    products: NDArray[np.float32]  # [tile rows * tile columns]
    at: NDArray[np.int64]  # [tile columns] slots to be looked at closely
    slot: NDArray[np.int32]  # the same
    x: NDArray[np.float64]  # [tile columns, rounded up to a multiple of 8]
    row: NDArray[np.float64]  # [d]


@kernel
def shape_of(panels: np.ndarray) -> tuple[int, int]:
    """(rows, columns) of the tile of such panels."""
    return tile_shape(address(panels, 0))


@kernel
def count_positives(rows: Rows, anchors: np.ndarray, out_count: np.ndarray) -> None:
    """How many positives each anchor has in its window: anchors int32[A], out_count int64[A]."""
    plain = _only_labels(rows)
    for i in range(anchors.size):
        a = anchors[i]
        if plain:
            out_count[i] = _equal(rows.label[rows.oldest[a] : a], rows.label[a]) if rows.label[a] >= 0 else 0
            continue
        count = 0
        for b in range(rows.oldest[a], a):
            count += 1 if relation(rows, a, b) == POSITIVE else 0
        out_count[i] = count


@kernel(inline=True)
def _equal(labels: np.ndarray, label: int) -> int:
    """How many of some labels equal one: a loop that becomes vector code."""
    count = 0
    for b in range(labels.size):
        count += 1 if labels[b] == label else 0
    return count


@kernel(inline=True)
def _only_labels(rows: Rows) -> bool:
    """Whether labels alone say what the rows of a window are to each other."""
    return rows.set_start.size + rows.group.size + rows.until.size + rows.parent.size == 0


@kernel(inline=True)
def _linear(rule: Rule, x: float) -> float:
    """The linear distance of a band's edge x; infinite for an edge that no distance reaches."""
    if x <= 0.0 and rule.metric != DOT:
        return 0.0 if x == 0.0 else -np.inf
    return linear_distance(rule.metric, x)


@kernel
def _reach(problem: Problem, i: int) -> tuple[float, float]:
    """The linear distances, from and to, at which a candidate may still change the lists of anchor i."""
    _, rule, pairs, best = problem
    least, most = np.inf, -np.inf
    for pair in range(pairs.start[i], pairs.start[i + 1]):
        low, high = pairs.low[pair], pairs.high[pair]
        if rule.count_nearer and best.nearer[pair] < NEARER_CAP:
            low = min(low, pairs.floor[pair])
        if rule.take and best.found[pair] == best.key.shape[1]:
            if rule.pick == NEAREST:
                high = min(high, best.x[pair, 0])
            elif rule.pick == FARTHEST:
                low = max(low, best.x[pair, 0])
        least, most = min(least, low), max(most, high)
    t_least, t_most = _linear(rule, least), _linear(rule, most)
    return t_least - abs(t_least) * (WIDER - 1.0), t_most + abs(t_most) * (WIDER - 1.0)


@kernel(inline=True)
def _proposed(
    screen: Screen, products: np.ndarray, start: int, a: int, least: float, most: float, out_at: np.ndarray
) -> int:
    """Which slots from `start` on, one a product, may lie within reach of anchor a: how many."""
    bias, slack = screen.bias[start : start + products.size], screen.slack[start : start + products.size]
    nearest, farthest = screen.h[a] - screen.own[a], screen.h[a] + screen.own[a]
    beyond = 0
    for c in range(products.size):  # vector code, and most often all there is to do
        affinity = np.float64(products[c]) + np.float64(bias[c])
        outside = (nearest - affinity > most) | (farthest - affinity + np.float64(slack[c]) < least)
        beyond += 1 if outside & (abs(affinity) < np.inf) else 0
    if beyond == products.size:
        return 0
    count = 0
    for c in range(products.size):
        affinity = np.float64(products[c]) + np.float64(bias[c])
        outside = (nearest - affinity > most) | (farthest - affinity + np.float64(slack[c]) < least)
        out_at[count] = start + c
        # What is not a number, or too long for a float32, is looked at.
        count += 0 if outside & (abs(affinity) < np.inf) else 1
    return count


@kernel(inline=True)
def _wanted(problem: Problem, a: int, plain: bool, count: int, scratch: Scratch) -> int:
    """Of the first `count` slots in the scratch keep, in place, those that are to anchor a what is wanted: how many."""
    rows, rule, _, best = problem
    kept = 0
    label = rows.label[a]
    for c in range(count):
        b = scratch.at[c]
        scratch.at[kept], scratch.slot[kept] = b, b
        if plain and label >= 0:
            kept += 1 if (rows.label[b] == label) == (rule.wanted == POSITIVE) else 0
            continue
        kind = relation(rows, a, b)
        if kind == rule.wanted:
            kept += 1
        elif lost_to_group(kind, rule.wanted):
            best.tally[IN_GROUP] += 1
    return kept


@kernel(inline=True)
def _offer(problem: Problem, strip: Strip, i: int, vectors: np.ndarray, count: int, scratch: Scratch) -> None:
    """Offer anchor i the first `count` slots in the scratch."""
    rows, rule, pairs, _ = problem
    a, at, slots, x = strip.slot[i], scratch.at[:count], scratch.slot[:count], scratch.x
    distances_to(rule.metric, strip.vector[i], rows.square[a], vectors, rows.square, at, slots, x)
    for c in range(count):
        b = slots[c]
        if rule.positive_duplicates == WITHIN:
            load_row(vectors, b, scratch.row)
        for pair in range(pairs.start[i], pairs.start[i + 1]):
            offer(problem, pair, a, b, x[c], scratch.row, strip.positive, strip.positive_at)


@kernel
def search_windows(
    problem: Problem, strip: Strip, vectors: np.ndarray, screen: Screen, first_panel: int, scratch: Scratch
) -> None:
    """Offer every anchor the candidates in its window. Cost: A window d in float32, d in float64 a proposed one.

    Parameters
    ----------
    problem : Problem, with pairs of the strip's anchors
    strip : Strip
    vectors : (n, d) of any stored dtype, by slot
    screen : Screen
    first_panel : the row panel of the first of these anchors
    """
    rows, _, pairs, _ = problem
    anchors = strip.slot
    tile_rows, tile_columns = scratch.masks.size // 2, scratch.column_start.size
    plain, d = _only_labels(rows), vectors.shape[1]
    for first in range(rows.oldest[anchors[0]] // tile_columns * tile_columns, anchors[-1], tile_columns):
        end = min(first + tile_columns, vectors.shape[0])
        for i in range(anchors.size):
            a = anchors[i]
            if i % tile_rows == 0:
                scratch.products[:] = np.nan  # where no product passes the open gates, none is a number
                tile(
                    address(screen.row_panels, (first_panel + i // tile_rows) * d * tile_rows),
                    address(screen.column_panels, first // tile_columns * d * tile_columns),
                    address(scratch.control, 0),
                    address(scratch.row_terms, 0),
                    address(scratch.column_terms, 0),
                    address(scratch.column_start, 0),
                    address(scratch.masks, 0),
                    address(scratch.masks, tile_rows),
                    address(scratch.products, 0),
                )
            low, high = max(first, rows.oldest[a]), min(end, int(a))
            if low >= high or pairs.start[i] == pairs.start[i + 1]:
                continue
            least, most = _reach(problem, i)
            own = i % tile_rows * tile_columns - first
            count = _proposed(screen, scratch.products[own + low : own + high], low, a, least, most, scratch.at)
            if count:
                count = _wanted(problem, a, plain, count, scratch)
                _offer(problem, strip, i, vectors, count, scratch)


@kernel
def search_positives(problem: Problem, strip: Strip, vectors: np.ndarray, scratch: Scratch) -> None:
    """As search_windows(), for positives: they are few, so relations are tested first, and there is no screen."""
    rows, plain = problem.rows, _only_labels(problem.rows)
    for i in range(strip.slot.size):
        a = strip.slot[i]
        for first in range(rows.oldest[a], a, scratch.at.size):
            end = min(first + scratch.at.size, int(a))
            if plain and not _equal(rows.label[first:end], rows.label[a]):
                continue
            for c in range(end - first):
                scratch.at[c] = first + c
            count = _wanted(problem, a, plain, end - first, scratch)
            _offer(problem, strip, i, vectors, count, scratch)
