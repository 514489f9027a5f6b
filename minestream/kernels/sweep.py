"""The sweep: a tile at a time, rows against columns, both of which may look for the other.

Rows that take part stand in lanes: a search's anchors first. Of two anchors each is the other's candidate, and one
product serves both, so only tiles above the diagonal are multiplied. What passes a gate leaves as a survivor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.distances import canonical_distance
from minestream.kernels.draw import WEIGHT_END, mix, unit_distance, weighted_key
from minestream.kernels.jit import kernel
from minestream.kernels.quantize import PAD, Frame
from minestream.kernels.relation import lost_to_group, meet_first, relation_of_near, share_parent
from minestream.kernels.tile import BIAS, HIGH, INTERVAL, LOW, SCALE, TAIL, address, tile, tile_shape, trailing_zeros
from minestream.kernels.types import EXCLUDE, IN_GROUP, POSITIVE, RANDOM, WEIGHTED, Pairs, Problem, Rule
from minestream.kernels.units import Units, next_unit

UNGATED = np.float32(-1e30)  # below every affinity of a real row
CLOSED = np.float32(np.inf)  # the gate nothing passes
EVERYWHERE = -1  # no cell
CROWDED = 256  # of an anchor with more pairs than this the hull is the only gate


class Lanes(NamedTuple):
    """The rows in the order of a search, anchors first."""

    slot: NDArray[np.int32]  # [n]
    code: NDArray[np.int32]  # [n] label
    twin: NDArray[np.int32]  # [n] equal where vectors are
    scale: NDArray[np.float32]  # [n] this and what follows as in quantize.Terms
    bias: NDArray[np.float32]
    slack: NDArray[np.float32]
    tail: NDArray[np.float32]
    start: NDArray[np.int32]  # [n, 2]
    parent: NDArray[np.int32] = np.empty(0, np.int32)  # [n] or [0] see types.Rows; of a search for positives [0]


class Gates(NamedTuple):
    """How far each anchor still looks: a hull for the tile, disjoint intervals or keys for candidates that pass it."""

    hull_low: NDArray[np.float32]  # [A]
    hull_high: NDArray[np.float32]  # [A]
    low: NDArray[np.float32]  # [pairs] the anchor's intervals, descending
    high: NDArray[np.float32]  # [pairs]
    intervals: NDArray[np.int64]  # [A] how many
    reach: NDArray[np.float32]  # [pairs] from the probe: nothing farther is needed
    cut: NDArray[np.uint64]  # [pairs] draws up to here
    key: NDArray[np.float64]  # [pairs] weighted keys up to here
    near: NDArray[np.float32]  # [pairs] from here on whatever the key
    nearest: NDArray[np.float64]  # [A] a linear distance in the frame is at least this less the affinity


class Edges(NamedTuple):
    """Each pair's band as affinities, widened by the anchor's share of the error; unbounded ends are infinite."""

    far: NDArray[np.float64]  # [pairs]
    near: NDArray[np.float64]
    surely_far: NDArray[np.float64]  # the same narrowed: what lies between is certainly inside
    surely_near: NDArray[np.float64]
    floor: NDArray[np.float64]  # nearer ones are counted up to this affinity
    h: NDArray[np.float64]  # [A] see quantize.Terms
    own: NDArray[np.float64]


class Screening(NamedTuple):
    """How a screen sees the rows of a search, and how far each anchor still looks."""

    frame: Frame
    lanes: Lanes
    edges: Edges
    gates: Gates
    exact: bool = True  # whether the best found are candidates, and not what the probe keeps there


class Side(NamedTuple):
    """Lanes, consecutive or gathered, packed for one side of the tile."""

    first: int
    lanes: int
    lane: NDArray[np.int32]  # [lanes] or more
    unit: int  # panels of a unit of work
    panels: NDArray[np.float32] | NDArray[np.int32] | NDArray[np.uint32]  # [panels, words, width]
    terms: NDArray[np.float32]  # [panels, LOW + 2 * intervals, width], see tile()
    start: NDArray[np.int32]  # [panels, 2, width]
    labels: NDArray[np.int32]  # [panels, 2] the least and the largest label
    twins: NDArray[np.int32]  # [panels, 2] the same of the twin sets
    parents: NDArray[np.int32]  # [panels, 2] the same of the parents; all 0 where there are none


class Survivors(NamedTuple):
    """A buffer of pairs that passed."""

    anchor: NDArray[np.int32]  # lane
    candidate: NDArray[np.int32]  # lane
    high: NDArray[np.float32]  # affinity, an upper bound but for the anchor's share of the error


class Scratch(NamedTuple):
    """Arrays that one thread works in, and its counters."""

    masks: NDArray[np.uint64]  # [2, tile rows]
    products: NDArray[np.float32]  # [tile rows, tile columns]
    control: NDArray[np.int64]  # [CONTROL] see tile()
    tiles: NDArray[np.int64]  # [2] added to: tiles multiplied, tiles with a survivor
    tally: NDArray[np.int64]  # [TALLIES] added to


# As sweep() from its units on: (units, out, scratch) -> found.
Multiply = Callable[[Units, Survivors, Scratch], int]


@kernel
def round_up(value: float) -> np.float32:
    """The least float32 that is certainly above a float64."""
    return np.nextafter(np.float32(value), np.float32(np.inf))


@kernel
def round_down(value: float) -> np.float32:
    """The largest float32 that is certainly below a float64."""
    return np.nextafter(np.float32(value), np.float32(-np.inf))


@kernel
def set_side(lanes: Lanes, out: Side, sign: float) -> None:
    """Set the fields of a side that stay the same from step to step: scales times `sign`, biases, starts, labels."""
    width = out.terms.shape[2]
    for p in range(out.terms.shape[0]):
        least, largest = np.int32(2**31 - 1), np.int32(-(2**31))
        least_twin, largest_twin = least, largest
        least_parent, largest_parent = least, largest
        for r in range(width):
            at = p * width + r
            if at < out.lanes:
                lane = out.lane[at]
                out.terms[p, SCALE, r] = lanes.scale[lane] * np.float32(sign)
                out.terms[p, BIAS, r], out.terms[p, TAIL, r] = lanes.bias[lane], lanes.tail[lane]
                out.start[p, 0, r], out.start[p, 1, r] = lanes.start[lane, 0], lanes.start[lane, 1]
                least, largest = min(least, lanes.code[lane]), max(largest, lanes.code[lane])
                least_twin, largest_twin = min(least_twin, lanes.twin[lane]), max(largest_twin, lanes.twin[lane])
                parent = lanes.parent[lane] if lanes.parent.size else np.int32(0)
                least_parent, largest_parent = min(least_parent, parent), max(largest_parent, parent)
            else:
                out.terms[p, SCALE, r], out.terms[p, BIAS, r], out.terms[p, TAIL, r] = np.float32(0.0), PAD, 0.0
                out.start[p, 0, r] = out.start[p, 1, r] = 0
        out.labels[p, 0], out.labels[p, 1] = least, largest
        out.twins[p, 0], out.twins[p, 1] = least_twin, largest_twin
        out.parents[p, 0], out.parents[p, 1] = least_parent, largest_parent


@kernel(inline=True)
def open_gate(
    rule: Rule, pairs: Pairs, gates: Gates, lane: int, other_slack: float, out: Side, p: int, r: int
) -> None:  # fmt: skip
    """The gate of an anchor as the tile reads it, in row r of panel p.

    Its intervals, or their hull where keys decide, go into as many as the side has room for; where there are more,
    neighbours are joined.

    other_slack : the largest slack of the other side, by which upper ends are widened
    """
    room = (out.terms.shape[1] - LOW) // INTERVAL
    if room == 1 or rule.pick in (RANDOM, WEIGHTED):
        out.terms[p, LOW, r] = gates.hull_low[lane]
        out.terms[p, HIGH, r] = round_up(np.float64(gates.hull_high[lane]) + other_slack * 1.01)
        return
    for interval in range(room):
        out.terms[p, LOW + INTERVAL * interval, r] = CLOSED
        out.terms[p, HIGH + INTERVAL * interval, r] = UNGATED
    count = gates.intervals[lane]
    for place in range(count):
        interval = INTERVAL * (place if count <= room else place * room // count)
        pair = pairs.start[lane] + place
        high = round_up(np.float64(gates.high[pair]) + other_slack * 1.01)
        out.terms[p, LOW + interval, r] = min(out.terms[p, LOW + interval, r], gates.low[pair])
        out.terms[p, HIGH + interval, r] = max(out.terms[p, HIGH + interval, r], high)


@kernel
def open_gates(rule: Rule, pairs: Pairs, gates: Gates, looking: bool, other_slack: float, out: Side) -> None:
    """open_gate() of all anchors of a side that is `looking`; the gates of other lanes are closed."""
    width = out.terms.shape[2]
    for p in range(out.terms.shape[0]):
        for r in range(width):
            at = p * width + r
            if looking and at < out.lanes and out.lane[at] < gates.hull_low.size:
                open_gate(rule, pairs, gates, out.lane[at], other_slack, out, p, r)
                continue
            for interval in range(LOW, out.terms.shape[1], INTERVAL):
                out.terms[p, interval, r], out.terms[p, interval + HIGH - LOW, r] = CLOSED, UNGATED


@kernel(inline=True)
def is_crowded(pairs: Pairs, i: int) -> bool:
    """Whether anchor i has so many pairs that to look at each for every candidate would not pay."""
    return pairs.start[i + 1] - pairs.start[i] > CROWDED


@kernel(inline=True)
def wanted(problem: Problem, screening: Screening, i: int, lane: int, high: np.float32) -> bool:
    """Whether anchor i may still want the candidate in `lane`, whose affinity is at most `high`."""
    rows, rule, pairs, _ = problem
    frame, lanes, _, gates, _ = screening
    low = high - lanes.slack[lane] * np.float32(1.001)
    first = pairs.start[i]
    if rule.pick in (RANDOM, WEIGHTED):
        if is_crowded(pairs, i):
            return high >= gates.hull_low[i] and low <= gates.hull_high[i]
        draw_key = rows.draw_key[lanes.slot[lane]]
        for pair in range(first, pairs.start[i + 1]):
            if high < gates.low[pair] or low > gates.high[pair]:
                continue
            if high >= gates.near[pair]:
                return True
            draw = mix(pairs.prefix[pair] + draw_key)
            if rule.pick == RANDOM:
                if draw <= gates.cut[pair]:
                    return True
            elif least_weighted_key(rule, frame, gates.nearest[i] - high, draw) <= gates.key[pair]:
                return True
        return False
    at, end = first, first + gates.intervals[i]
    while at < end:  # the first interval that does not lie above [low, high]
        middle = (at + end) // 2
        if gates.low[middle] <= high:
            end = middle
        else:
            at = middle + 1
    return at < first + gates.intervals[i] and low <= gates.high[at]


@kernel
def least_weighted_key(rule: Rule, frame: Frame, t: float, draw: np.uint64) -> float:
    """The least key of a candidate at a linear distance, in the frame, of at least t: weights fall with distance."""
    x = canonical_distance(rule.metric, t / (frame.scale * frame.scale)) * (1.0 - 1e-12)
    distance = unit_distance(rule.metric, x)
    if distance >= WEIGHT_END:
        return np.inf
    return weighted_key(frame.centre.size, distance, draw) - 1e-9


@kernel(inline=True)
def _by_label(problem: Problem) -> bool:
    """Whether labels alone decide what a tile may hold: not with several labels a row, nor for listed positives."""
    rows, rule, _, _ = problem
    return rows.set_start.size == 0 and (rule.wanted != POSITIVE or rows.known_start.size == 0)


@kernel(inline=True)
def may_hold_pairs(problem: Problem, left: Side, right: Side, i: int, j: int) -> bool:
    """Whether row panel i and column panel j may hold a pair that is looked for: by labels, parents and twin sets."""
    common = max(left.parents[i, 0], right.parents[j, 0])  # the least parent that both may have
    if common > min(left.parents[i, 1], right.parents[j, 1]) or min(left.parents[i, 1], right.parents[j, 1]) < 0:
        return False
    if _by_label(problem):
        least, largest = left.labels[i, 0], left.labels[i, 1]
        other_least, other_largest = right.labels[j, 0], right.labels[j, 1]
        if problem.rule.wanted == POSITIVE:
            if largest < other_least or other_largest < least:
                return False
        elif least >= 0 and least == largest and least == other_least and least == other_largest:
            return False
    if problem.rule.own_duplicates != EXCLUDE:
        return True
    twin = left.twins[i, 0]
    return not (twin == left.twins[i, 1] and twin == right.twins[j, 0] and twin == right.twins[j, 1])


@kernel(inline=True)
def keep_survivors(
    problem: Problem, screening: Screening, row: np.ndarray, column: np.ndarray, where: tuple[int, int],
    found: int, out: Survivors, scratch: Scratch,
) -> int:  # fmt: skip
    """Write what survives of the tile in `scratch`, of the lanes row and column: how many there are then.

    where : the cell in which the pairs meet, or EVERYWHERE; and how far the first column stands behind the first row,
        as a pair counts only where its column stands behind its row
    """
    rows, rule, _, _ = problem
    cell, behind = where
    lanes, by_label = screening.lanes, _by_label(problem)
    for r in range(scratch.masks.shape[1]):
        of_row, of_column = scratch.masks[0, r], scratch.masks[1, r]
        bits = of_row | of_column
        a = int(row[r]) if bits != 0 else 0
        while bits != 0:
            c = np.int64(trailing_zeros(bits))
            bit = bits & (~bits + np.uint64(1))
            bits ^= bit
            b = int(column[c])
            if behind + c <= r:
                continue
            if by_label and ((lanes.code[a] == lanes.code[b] >= 0) != (rule.wanted == POSITIVE)):
                continue
            if not share_parent(lanes.parent, a, b):
                continue
            for_a = scratch.products[r, c] + lanes.bias[b]
            for_b = scratch.products[r, c] + lanes.bias[a]
            a_wants = of_row & bit != 0 and wanted(problem, screening, a, b, for_a)
            b_wants = of_column & bit != 0 and wanted(problem, screening, b, a, for_b)
            if not (a_wants or b_wants):
                continue
            if cell != EVERYWHERE and not meet_first(rows, lanes.slot[a], lanes.slot[b], cell):
                continue
            kind = relation_of_near(rows, lanes.slot[a], lanes.slot[b])
            if kind != rule.wanted:
                if lost_to_group(kind, rule.wanted):
                    scratch.tally[IN_GROUP] += np.int64(a_wants) + np.int64(b_wants)
                continue
            if a_wants:
                out.anchor[found], out.candidate[found], out.high[found] = a, b, for_a
                found += 1
            if b_wants:
                out.anchor[found], out.candidate[found], out.high[found] = b, a, for_b
                found += 1
    return found


@kernel
def sweep(
    problem: Problem, screening: Screening, left: Side, right: Side, units: Units, out: Survivors, scratch: Scratch
) -> int:
    """Multiply two sides and keep what passes the gates of either. Cost: 2 m n d.

    The work is cut into units of some row panels and some column panels; a unit is begun only when the buffer could
    hold all of it, so that the caller may empty the buffer, narrow the gates and call again.

    Parameters
    ----------
    units : Units
        Those that are taken are done when this returns, but for the rest of the thread's own piece where the buffer is
        full.
    out : Survivors, arrays (entries,), with room for at least one unit

    Returns
    -------
    found : int
        How many survivors there are in the buffer.
    """
    tile_rows, tile_columns = tile_shape(address(left.panels, 0))
    row_panels, column_panels, words = left.panels.shape[0], right.panels.shape[0], left.panels.shape[1]
    terms = left.terms.shape[1]
    across = (column_panels + right.unit - 1) // right.unit
    room = 2 * left.unit * right.unit * tile_rows * tile_columns
    found, unit = 0, next_unit(units, scratch.control, scratch.tiles)
    while unit >= 0 and found + room <= out.anchor.size:
        for j in range(unit % across * right.unit, min(column_panels, (unit % across + 1) * right.unit)):
            column = right.first + j * tile_columns
            of_column = right.lane[j * tile_columns :]
            for i in range(unit // across * left.unit, min(row_panels, (unit // across + 1) * left.unit)):
                row = left.first + i * tile_rows
                if column + tile_columns - 1 <= row or not may_hold_pairs(problem, left, right, i, j):
                    continue
                scratch.tiles[0] += 1
                passed = tile(
                    address(left.panels, i * words * tile_rows),
                    address(right.panels, j * words * tile_columns),
                    address(scratch.control, 0),
                    address(left.terms, i * terms * tile_rows),
                    address(right.terms, j * terms * tile_columns),
                    address(right.start, 2 * j * tile_columns),
                    address(scratch.masks, 0),
                    address(scratch.masks, tile_rows),
                    address(scratch.products, 0),
                )
                if passed != 0:
                    scratch.tiles[1] += 1
                    of_row = left.lane[i * tile_rows :]
                    found = keep_survivors(
                        problem, screening, of_row, of_column, (EVERYWHERE, column - row), found, out, scratch
                    )
        units.own[0] += 1
        unit = next_unit(units, scratch.control, scratch.tiles)
    return found
