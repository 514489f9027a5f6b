"""The sweep: rows prepared in float32 with a proven error, packed into panels, and multiplied tile by tile.

The affinity of anchor a and column b is `<z_a, z_b> + bias_b`, z = (row - centre) * scale in float32. For the
metrics that ignore translations bias_b = -|z_b|^2 / 2, and `t = h_a - affinity` with h_a = |z_a|^2 / 2 is half the
squared distance; for dot, <a, b> = <z_a, z_b> + <mu, z_b> + <a, mu>, so bias_b = <mu, z_b> and h_a = -<a, mu>. The
farthest are found as the nearest of the mirrored problem: z_a and the biases change sign.

Error of one affinity against the canonical distance, as a share of the row plus a share of the column, so that
no maximum over a file enters and one long row widens only its own gates. With u = 2^-24, A = |z_a|, B = |z_b| and
AB <= (A^2 + B^2) / 2:

- rounding to float32: |z - exact z| <= rho = u |z| (1.01) + the rounding of the normalisation, which moves t by at
  most (rho_a + rho_b)(A + B) + (rho_a + rho_b)^2 / 2;
- the tile, d fused multiply-adds from the bias on: gamma_{d+2} (|bias_b| + AB);
- the canonical distance itself, in float64: (d + 8) 2^-52 of 1 (cosine) or of A^2 + B^2;
- underflow: d 2^-120.

A column's share is added to its bias (so that the computed affinity is an upper bound but for the row's share) and
kept, doubled, as `slack`: affinity - slack is a lower bound but for the row's share.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.choose import (
    DUPLICATE,
    GROUP_NEGATIVE,
    GROUP_POSITIVE,
    IN_GROUP,
    NEGATIVE,
    POSITIVE,
    RANDOM,
    Pairs,
    Rows,
    Rule,
    passes_duplicates,
    relation,
)  # fmt: skip
from minestream.kernels.compiled import kernel
from minestream.kernels.draw import mix
from minestream.kernels.tile import address, tile_f32, tile_shape, trailing_zeros

UNGATED = np.float32(-1e30)  # below every affinity of a real row
PAD = np.float32(-2e30)  # the bias of a column that is no row: passes no gate
CLOSED = np.float32(np.inf)  # the gate nothing passes

UNIT_ROUNDOFF = 2.0**-24
DOUBLE_ROUNDOFF = 2.0**-53


class Frame(NamedTuple):
    """How rows become float32 rows: z = (row [/ its norm] - centre) * scale."""

    centre: NDArray[np.float64]  # [d]
    scale: float  # a power of two: max |z| of all rows lies in [1, 2), or 1 when all rows are the centre
    unit_rows: bool
    dot: bool


class Prepared(NamedTuple):
    """Rows ready to be packed."""

    z: NDArray[np.float32]  # [m, d]
    h: NDArray[np.float64]  # [m] t = h - affinity
    bias: NDArray[np.float32]  # [m] share of the error included
    slack: NDArray[np.float32]  # [m] twice that share
    own: NDArray[np.float64]  # [m] the row's share when it is an anchor


class Strip(NamedTuple):
    """Anchors swept together, packed."""

    anchors: NDArray[np.int32]  # [A] slots
    panels: NDArray[np.float32]  # [panels, d, tile rows]
    code: NDArray[np.int32]  # [panels * tile rows]
    first_panel: NDArray[np.int64]  # [panels] column panels to sweep: from here ...
    last_panel: NDArray[np.int64]  # [panels] ... to before here


class Gates(NamedTuple):
    """What each anchor still lets through: the hull for the tile, disjoint intervals or draws for what passes it."""

    hull_low: NDArray[np.float32]  # [A]
    hull_high: NDArray[np.float32]  # [A]
    low: NDArray[np.float32]  # [pairs] the anchor's intervals, descending
    high: NDArray[np.float32]  # [pairs]
    intervals: NDArray[np.int64]  # [A] how many
    cut: NDArray[np.uint64]  # [pairs] draws up to here


class Block(NamedTuple):
    """Candidates swept together, packed."""

    panels: NDArray[np.float32]  # [panels, d, tile columns]
    bias: NDArray[np.float32]  # [panels * tile columns]
    code: NDArray[np.int32]
    slack: NDArray[np.float32]
    slots: NDArray[np.int32]  # -1 in pads
    largest_slack: float


class Survivors(NamedTuple):
    """A buffer of pairs that passed: affinity bounds but for the anchor's share of the error."""

    anchor: NDArray[np.int32]  # place in the strip
    slot: NDArray[np.int32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]


@kernel
def round_up(value: float) -> np.float32:
    """The least float32 that is certainly above a float64."""
    return np.nextafter(np.float32(value), np.float32(np.inf))


@kernel
def round_down(value: float) -> np.float32:
    """The greatest float32 that is certainly below a float64."""
    return np.nextafter(np.float32(value), np.float32(-np.inf))


@kernel
def widest(vectors: np.ndarray, square: np.ndarray, unit_rows: bool, centre: np.ndarray) -> float:
    """The largest |row - centre| of any coordinate of any row."""
    largest = 0.0
    for i in range(vectors.shape[0]):
        norm = math.sqrt(square[i]) if unit_rows else 1.0
        for j in range(centre.size):
            largest = max(largest, abs(np.float64(vectors[i, j]) / norm - centre[j]))
    return largest


@kernel
def coordinate_sums(vectors: np.ndarray, square: np.ndarray, unit_rows: bool, out_sum: np.ndarray) -> None:
    """Add the rows, divided by their norms if so asked, to out_sum float64[d]."""
    for i in range(vectors.shape[0]):
        norm = math.sqrt(square[i]) if unit_rows else 1.0
        for j in range(out_sum.size):
            out_sum[j] += np.float64(vectors[i, j]) / norm


@kernel
def prepare(frame: Frame, vectors: np.ndarray, square: np.ndarray, mirrored: bool, out: Prepared) -> None:
    """Rows into the frame, with biases and error shares (see the head of this file). square: float64[m]."""
    m, d = vectors.shape
    gamma = (d + 2) * UNIT_ROUNDOFF / (1.0 - (d + 2) * UNIT_ROUNDOFF)
    sign = -1.0 if mirrored else 1.0
    mu_square = 0.0
    for j in range(d):
        mu_square += frame.centre[j] * frame.centre[j]
    mu = math.sqrt(mu_square) * frame.scale
    tiny = d * 2.0**-120
    for i in range(m):
        norm = math.sqrt(square[i]) if frame.unit_rows else 1.0
        z_square = 0.0
        mu_z = 0.0
        for j in range(d):
            z = np.float32((np.float64(vectors[i, j]) / norm - frame.centre[j]) * frame.scale)
            out.z[i, j] = z
            z_square += np.float64(z) * np.float64(z)
            mu_z += np.float64(z) * frame.centre[j]
        length = math.sqrt(z_square)
        rho = 1.01 * UNIT_ROUNDOFF * length + math.sqrt(float(d)) * 2.0**-148
        if frame.unit_rows:
            rho += frame.scale * (d + 8) * DOUBLE_ROUNDOFF
        moved = rho * length + (rho * rho / UNIT_ROUNDOFF + UNIT_ROUNDOFF * z_square) / 2 + rho * rho
        if frame.dot:
            bias = mu_z * frame.scale
            h = -bias - mu * mu  # <a, mu> = <z_a, mu> + |mu|^2 in scaled units
            canonical = 4 * (d + 8) * DOUBLE_ROUNDOFF * (length + mu) * (length + mu)
            moved += rho * mu
        else:
            bias = -z_square / 2
            h = z_square / 2
            canonical = (d + 8) * 2 * DOUBLE_ROUNDOFF * z_square
            if frame.unit_rows:
                canonical += (d + 8) * 2 * DOUBLE_ROUNDOFF * frame.scale * frame.scale
        shared = (moved + canonical) * 1.01 + tiny
        column = (shared + gamma * (abs(bias) + z_square / 2)) * 1.01
        column += 2.0**-22 * (abs(bias) + column)
        out.h[i] = h
        out.own[i] = (shared + gamma * z_square / 2 + 2.0**-50 * abs(h)) * 1.01
        out.bias[i] = np.float32(sign * bias + column)
        out.slack[i] = np.float32(column * 2.0 * 1.0001)


@kernel
def pack_panels(z: np.ndarray, order: np.ndarray, negate: bool, out_panels: np.ndarray) -> None:
    """Rows z float32 (m, d) taken in `order`, coordinate by coordinate: out_panels (panels, d, width), zero padded."""
    count, d, width = out_panels.shape
    sign = np.float32(-1.0) if negate else np.float32(1.0)
    for p in range(count):
        for r in range(width):
            at = p * width + r
            if at < order.size:
                i = order[at]
                for j in range(d):
                    out_panels[p, j, r] = sign * z[i, j]
            else:
                for j in range(d):
                    out_panels[p, j, r] = np.float32(0.0)


@kernel(inline=True)
def _in_gates(
    rule: Rule, pairs: Pairs, gates: Gates, i: int, draw_key: np.uint64, low: np.float32, high: np.float32
) -> bool:
    """Whether an affinity within [low, high] may be wanted by a pair of anchor i."""
    first = pairs.start[i]
    if rule.pick == RANDOM:
        for pair in range(first, pairs.start[i + 1]):
            inside = high >= gates.low[pair] and low <= gates.high[pair]
            if inside and mix(pairs.prefix[pair] + draw_key) <= gates.cut[pair]:
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


@kernel(inline=True)
def _wanted_by_some(rows: Rows, rule: Rule, pairs: Pairs, i: int, a: int, b: int) -> bool:
    """Whether the equality duplicate rules let slot b through for some pair of anchor i."""
    for pair in range(pairs.start[i], pairs.start[i + 1]):
        if passes_duplicates(rows, rule, pairs, pair, a, b):
            return True
    return False


@kernel
def open_gates(rule: Rule, rows: Rows, gates: Gates, largest_slack: float, out_gates: np.ndarray) -> None:
    """The tile's gates, float32 (4, padded anchors): low and high for same codes, then for other codes."""
    sets = rows.set_start.size > 0
    for i in range(out_gates.shape[1]):
        low, high = CLOSED, CLOSED
        if i < gates.hull_low.size:
            low = gates.hull_low[i]
            high = round_up(np.float64(gates.hull_high[i]) + largest_slack * 1.01)
        out_gates[0, i] = low if rule.wanted == POSITIVE else CLOSED
        out_gates[2, i] = low if rule.wanted == NEGATIVE or sets else CLOSED
        out_gates[1, i] = high
        out_gates[3, i] = high


@kernel
def sweep(
    rows: Rows,
    rule: Rule,
    pairs: Pairs,
    strip: Strip,
    gates: Gates,
    block: Block,
    tile_gates: np.ndarray,
    unit_panels: tuple[int, int],
    start_unit: int,
    mask: np.ndarray,
    affinity: np.ndarray,
    out: Survivors,
    out_progress: np.ndarray,
    tally: np.ndarray,
) -> int:
    """Multiply a strip with a block and keep what passes the gates. Cost: 2 A m d.

    The work is cut into units of (row panels, column panels); a unit is begun only when the buffer could hold
    all of it, so that the caller may empty the buffer, raise the gates and call again.

    Parameters
    ----------
    tile_gates : float32 (4, padded anchors), from open_gates
    unit_panels : (row panels, column panels) of a unit
    start_unit : the unit to begin with
    mask, affinity : uint64[tile rows], float32[tile rows * tile columns], scratch
    out : room for at least one unit
    out_progress : int64[4]: survivors written, tiles multiplied, tiles with a survivor, values multiplied
    tally : int64[TALLIES], added to

    Returns
    -------
    int
        The unit to go on with, or -1 at the end.
    """
    tile_rows, tile_columns = tile_shape()
    row_panels, column_panels, d = strip.panels.shape[0], block.panels.shape[0], strip.panels.shape[1]
    unit_rows, unit_columns = unit_panels
    across = (column_panels + unit_columns - 1) // unit_columns
    units = across * ((row_panels + unit_rows - 1) // unit_rows)
    room = unit_rows * unit_columns * tile_rows * tile_columns
    found = 0
    for unit in range(start_unit, units):
        if found + room > out.slot.size:
            out_progress[0] = found
            return unit
        for j in range(unit % across * unit_columns, min(column_panels, (unit % across + 1) * unit_columns)):
            for i in range(unit // across * unit_rows, min(row_panels, (unit // across + 1) * unit_rows)):
                if j < strip.first_panel[i] or j >= strip.last_panel[i]:
                    continue
                row, column = i * tile_rows, j * tile_columns
                out_progress[1] += 1
                passed = tile_f32(
                    address(strip.panels, row * d),
                    address(block.panels, column * d),
                    d,
                    address(block.bias, column),
                    address(block.code, column),
                    address(tile_gates, row),
                    address(tile_gates, tile_gates.shape[1] + row),
                    address(tile_gates, 2 * tile_gates.shape[1] + row),
                    address(tile_gates, 3 * tile_gates.shape[1] + row),
                    address(strip.code, row),
                    address(mask, 0),
                    address(affinity, 0),
                )
                if passed == 0:
                    continue
                out_progress[2] += 1
                for r in range(tile_rows):
                    bits = mask[r]
                    while bits != 0:
                        c = np.int64(trailing_zeros(bits))
                        bits &= bits - np.uint64(1)
                        place, b = row + r, block.slots[column + c]
                        high = affinity[r * tile_columns + c]
                        low = high - block.slack[column + c] * np.float32(1.001)
                        if not _in_gates(rule, pairs, gates, place, rows.draw_key[b], low, high):
                            continue
                        a = strip.anchors[place]
                        kind = relation(rows, a, b)
                        if kind != rule.wanted:
                            if (kind == GROUP_POSITIVE and rule.wanted == POSITIVE) or (
                                kind == GROUP_NEGATIVE and rule.wanted == NEGATIVE
                            ):
                                tally[IN_GROUP] += 1
                            continue
                        if not _wanted_by_some(rows, rule, pairs, place, a, b):
                            tally[DUPLICATE] += 1
                            continue
                        out.anchor[found] = place
                        out.slot[found] = b
                        out.low[found] = low
                        out.high[found] = high
                        found += 1
    out_progress[0] = found
    return -1
