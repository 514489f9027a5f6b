"""The probe: first gates of anchors, by the screen's bounds of the candidates that stand around them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.distances import canonical_distance, load_row
from minestream.kernels.draw import WEIGHT_END, mix, sortable, unit_distance, value_of, weighted_key
from minestream.kernels.gates import set_gates
from minestream.kernels.jit import kernel
from minestream.kernels.refine import Vectors
from minestream.kernels.relation import relation
from minestream.kernels.select import insert, near_positive, passes_duplicates
from minestream.kernels.sweep import Scratch, Screening, Side, is_crowded, may_hold_pairs, open_gate, round_down
from minestream.kernels.tile import address, tile, tile_shape, trailing_zeros
from minestream.kernels.types import RANDOM, WEIGHTED, WITHIN, Problem
from minestream.kernels.units import Units, next_unit

NO_KEY = np.uint64(2**64 - 1)  # of a candidate that may turn out to be none


class Around(NamedTuple):
    """Where the probe looks, and a row to work in."""

    first: int  # the row panel of unit 0
    at: NDArray[np.int64]  # [row panels] the column panel around which the candidates are near
    reach: int  # column panels that each row panel meets
    row: NDArray[np.float64]  # [d]


@kernel
def _largest_key(problem: Problem, screening: Screening, i: int, pair: int, lane: int, low: np.float32) -> np.uint64:
    """The largest key that a candidate of affinity at least `low` can have: of random picks its draw."""
    rows, rule, pairs, _ = problem
    frame, lanes, edges, gates, _ = screening
    draw = mix(pairs.prefix[pair] + rows.draw_key[lanes.slot[lane]])
    if rule.pick == RANDOM:
        return draw
    t = (gates.nearest[i] + 2 * edges.own[i] - low) / (frame.scale * frame.scale)
    distance = unit_distance(rule.metric, canonical_distance(rule.metric, t)) * (1 + 1e-12)
    if distance >= WEIGHT_END:
        return NO_KEY
    return sortable(weighted_key(frame.centre.size, distance, draw) + 1e-9)


@kernel(inline=True)
def _learn(
    problem: Problem, screening: Screening, i: int, lane: int, high: np.float32, vectors: Vectors, row: np.ndarray
) -> bool:
    """Whether a candidate, of the wanted relation and of affinity `high` at most, changes what anchor i knows.

    Of what is certainly eligible the bounds of the keys are kept, in best.key. `row` float64[d] is worked in.
    """
    rows, rule, pairs, best = problem
    lanes, edges = screening.lanes, screening.edges
    low = high - lanes.slack[lane] * np.float32(1.001)
    near_key, a, b = sortable(2 * edges.own[i] - np.float64(low)), lanes.slot[i], lanes.slot[lane]
    changed = False
    for pair in range(pairs.start[i], pairs.start[i + 1]):
        if low < edges.surely_far[pair] or high > edges.surely_near[pair]:
            continue
        key = near_key
        if rule.pick in (RANDOM, WEIGHTED):
            key = _largest_key(problem, screening, i, pair, lane, low)
        count = best.found[pair]
        useless = key == NO_KEY or (count == best.key.shape[1] and key >= best.key[pair, 0])
        if useless and not best.near_key.shape[1]:
            continue
        if not passes_duplicates(problem, pair, a, b):
            continue
        if rule.positive_duplicates == WITHIN:
            load_row(vectors.row, vectors.at[lane], row)
            if near_positive(problem, pair, b, row, vectors.row, vectors.positive_at):
                continue
        changed = True
        if best.near_key.shape[1]:
            best.near_count[pair] = insert(
                near_key, b, 0.0, rows.rank, best.near_key[pair], best.near_slot[pair], best.near_x[pair],
                best.near_count[pair],
            )  # fmt: skip
        if not useless:
            best.found[pair] = insert(key, b, 0.0, rows.rank, best.key[pair], best.slot[pair], best.x[pair], count)
    return changed


@kernel(inline=True)
def _narrow(problem: Problem, screening: Screening, i: int) -> None:
    """Set the gates of anchor i by what it knows: the bound of the last of as many as are looked for is a gate."""
    _, rule, pairs, best = problem
    gates = screening.gates
    for pair in range(pairs.start[i], pairs.start[i + 1]):
        if rule.skip and best.near_key.shape[1] and best.near_count[pair] == rule.skip:
            gates.near[pair] = round_down(-value_of(best.near_key[pair, 0]))
        if best.found[pair] < rule.take + rule.skip:
            continue
        key = best.key[pair, 0]
        if rule.pick == RANDOM:
            gates.cut[pair] = key
        elif rule.pick == WEIGHTED:
            gates.key[pair] = value_of(key)
        else:
            gates.reach[pair] = round_down(-value_of(key))
    set_gates(problem, screening, i)


@kernel
def probe(
    problem: Problem, screening: Screening, left: Side, right: Side, units: Units, around: Around,
    vectors: Vectors, scratch: Scratch,
) -> None:  # fmt: skip
    """First gates of the anchors of some row panels, from the candidates around each of them, the nearest lanes first.

    No distance is made exact, but those to positives by which duplicates go. Anchors with many pairs learn nothing:
    their gates would hardly narrow. Cost: 2 d a candidate looked at.

    Parameters
    ----------
    left, right : Side
        The gates of the left are open, and are narrowed; those of the right are closed.
    units : Units
        Row panels, which it takes until none is left.
    vectors : Vectors
        Of all lanes of both, and of the positives, where duplicates go by a threshold; else empty.
    """
    tile_rows, tile_columns = tile_shape(address(left.panels, 0))
    words, terms = left.panels.shape[1], left.terms.shape[1]
    unit = next_unit(units, scratch.control, scratch.tiles)
    while unit >= 0:
        i = around.first + unit
        seen = 0
        for step in range(2 * right.panels.shape[0]):
            if seen == around.reach:
                break
            j = around.at[i] + ((step + 1) // 2 if step % 2 else -(step // 2))
            if j < 0 or j >= right.panels.shape[0] or not may_hold_pairs(problem, left, right, i, j):
                continue
            seen += 1
            scratch.tiles[0] += 1
            passed = tile(
                address(left.panels, i * words * tile_rows), address(right.panels, j * words * tile_columns),
                address(scratch.control, 0), address(left.terms, i * terms * tile_rows),
                address(right.terms, j * terms * tile_columns), address(right.start, 2 * j * tile_columns),
                address(scratch.masks, 0), address(scratch.masks, tile_rows), address(scratch.products, 0),
            )  # fmt: skip
            if passed != 0:
                scratch.tiles[1] += 1
                column = right.first + j * tile_columns
                _learn_tile(problem, screening, left, i, column, vectors, around.row, scratch)
        units.own[0] += 1
        unit = next_unit(units, scratch.control, scratch.tiles)


@kernel(inline=True)
def _learn_tile(
    problem: Problem, screening: Screening, left: Side, i: int, column: int, vectors: Vectors, row: np.ndarray,
    scratch: Scratch,
) -> None:  # fmt: skip
    """Learn from what passed of the tile in `scratch`, of row panel i."""
    rows, rule, pairs, _ = problem
    lanes = screening.lanes
    for r in range(scratch.masks.shape[1]):
        a = left.first + i * scratch.masks.shape[1] + r
        if a >= left.first + left.lanes or is_crowded(pairs, a):
            continue
        changed, bits = False, scratch.masks[0, r]
        while bits != 0:
            c = np.int64(trailing_zeros(bits))
            bits &= bits - np.uint64(1)
            b = int(column + c)
            if relation(rows, lanes.slot[a], lanes.slot[b]) == rule.wanted:
                changed |= _learn(problem, screening, a, b, scratch.products[r, c] + lanes.bias[b], vectors, row)
        if changed:
            _narrow(problem, screening, a)
            open_gate(rule, pairs, screening.gates, a, 0.0, left, i, r)
