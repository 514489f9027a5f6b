"""Canonical distances, by the formula of each metric, whose code is a constant here.

float64, coordinates in order, one accumulator a pair, no fused multiply-add, no fastmath.

Eight pairs go side by side, each with its own accumulator: the order of the additions within a pair, and so its
value, is that of one pair alone.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minestream.kernels.draw import GOLDEN, bits_of, mix
from minestream.kernels.jit import kernel
from minestream.kernels.tile import address, prefetch

COSINE, EUCLIDEAN, SQEUCLIDEAN, DOT = 0, 1, 2, 3


@kernel(inline=True)
def distance(metric: int, total: float, square_a: float, square_b: float) -> float:
    """The canonical distance from the sum over coordinates (of products, or of squared differences)."""
    if metric == COSINE:
        return min(2.0, max(0.0, 1.0 - total / math.sqrt(square_a * square_b)))
    if metric == EUCLIDEAN:
        return math.sqrt(total)
    if metric == SQEUCLIDEAN:
        return total
    return 0.0 - total


@kernel(inline=True)
def uses_differences(metric: int) -> bool:
    """Whether the metric sums squared differences rather than products."""
    return metric in (EUCLIDEAN, SQEUCLIDEAN)


@kernel(inline=True)
def linear_distance(metric: int, x: float) -> float:
    """The linear distance t of a canonical distance (config/metrics.py)."""
    if metric == EUCLIDEAN:
        return x * x / 2
    return x / 2 if metric == SQEUCLIDEAN else x


@kernel(inline=True)
def canonical_distance(metric: int, t: float) -> float:
    """The canonical distance of a linear distance t; of t < 0, which only dot has, 0 elsewhere."""
    if metric == DOT:
        return t
    t = max(0.0, t)
    if metric == EUCLIDEAN:
        return math.sqrt(2 * t)
    return 2 * t if metric == SQEUCLIDEAN else t


@kernel
def squares(vectors: np.ndarray, out_square: np.ndarray) -> None:
    """dot(a, a) of every row: vectors (m, d), out_square float64[m]."""
    for i in range(vectors.shape[0]):
        total = 0.0
        for j in range(vectors.shape[1]):
            value = np.float64(vectors[i, j])
            total += value * value
        out_square[i] = total


@kernel(inline=True)
def _hashed(h: np.uint64, value: float) -> np.uint64:
    h = (h ^ bits_of(value + 0.0)) * GOLDEN
    return h ^ h >> np.uint64(32)


@kernel
def row_hashes(vectors: np.ndarray, by_direction: bool, out_hash: np.ndarray) -> None:
    """A hash of every row by its values (-0.0 as 0.0): vectors (m, d), out_hash uint64[m].

    by_direction : whether values are divided by the row's largest, which makes exact multiples equal
    """
    d = vectors.shape[1]
    for i in range(vectors.shape[0]):
        largest = 0.0
        if by_direction:
            for j in range(d):
                largest = max(largest, abs(np.float64(vectors[i, j])))
        if largest == 0.0:
            largest = 1.0
        p = q = r = s = np.uint64(0)  # four, since each waits for its last product
        for j in range(0, d - 3, 4):
            p = _hashed(p, np.float64(vectors[i, j]) / largest)
            q = _hashed(q, np.float64(vectors[i, j + 1]) / largest)
            r = _hashed(r, np.float64(vectors[i, j + 2]) / largest)
            s = _hashed(s, np.float64(vectors[i, j + 3]) / largest)
        for j in range(d // 4 * 4, d):
            p = _hashed(p, np.float64(vectors[i, j]) / largest)
        out_hash[i] = mix(mix(mix(mix(p) + q) + r) + s)


@kernel
def normalize(vectors: np.ndarray, square: np.ndarray, out_vectors: np.ndarray) -> None:
    """Rows divided by sqrt(dot(a, a)); zero rows stay zero. out_vectors float64 (m, d)."""
    for i in range(vectors.shape[0]):
        norm = math.sqrt(square[i]) if square[i] > 0.0 else 1.0
        for j in range(vectors.shape[1]):
            out_vectors[i, j] = np.float64(vectors[i, j]) / norm


@kernel
def pair_total(metric: int, a: np.ndarray, b: np.ndarray) -> float:
    """The sum over coordinates of one pair of rows [d] of any stored dtype."""
    total = 0.0
    if uses_differences(metric):
        for j in range(a.size):
            t = np.float64(a[j]) - np.float64(b[j])
            total += t * t
    else:
        for j in range(a.size):
            total += np.float64(a[j]) * np.float64(b[j])
    return total


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """Eight vectors of eight as the eight vectors of their columns, in three rounds of shuffles."""
    for distance in (1, 2, 4):
        low = [j if not j & distance else 8 + j - distance for j in range(8)]
        high = [j + distance if not j & distance else 8 + j for j in range(8)]
        masks = [ir.Constant(ir.VectorType(ir.IntType(32), 8), each) for each in (low, high)]
        swapped = list(rows)
        for i in range(8):
            if not i & distance:
                for to, mask in zip((i, i + distance), masks, strict=True):
                    swapped[to] = builder.shuffle_vector(rows[i], rows[i + distance], mask)
        rows = swapped
    return rows


@intrinsic(prefer_literal=True)
def _add_eight(typing_context: Any, differences: Any, anchor: Any, rows: Any, steps: Any, total: Any) -> Any:
    """Add 8 * steps coordinates to the sums of eight pairs, a lane each, in order and without fused operations.

    differences : literal, 1 or 0; anchor : float64*; rows : UniTuple of eight pointers; total : float64* (8,)
    """
    element = rows.dtype.dtype
    subtract = bool(differences.literal_value)
    signature = types.void(differences, anchor, rows, types.intp, total)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        _, anchor, pointers, steps, total = arguments
        kind = context.get_value_type(element)
        eight = ir.VectorType(ir.DoubleType(), 8)
        index = ir.IntType(64)

        def load(pointer: Any, offset: Any, of: Any, align: int) -> Any:
            return builder.load(builder.gep(pointer, [offset], source_etype=of.element), align=align, typ=of)

        before = builder.block
        loop, done = builder.append_basic_block("loop"), builder.append_basic_block("done")
        start = load(total, index(0), eight, 8)
        builder.branch(loop)
        builder.position_at_end(loop)
        step, sums = builder.phi(index), builder.phi(eight)
        offset = builder.mul(step, index(8))
        size = context.get_abi_sizeof(kind)
        rows = [load(builder.extract_value(pointers, i), offset, ir.VectorType(kind, 8), size) for i in range(8)]
        after = sums
        for j, column in enumerate(_transposed(builder, rows)):
            if isinstance(element, types.Integer):
                wide = builder.sitofp(column, eight) if element.signed else builder.uitofp(column, eight)
            else:
                wide = column if element == types.float64 else builder.fpext(column, eight)
            value = builder.load(builder.gep(anchor, [builder.add(offset, index(j))]))
            spread = builder.insert_element(ir.Constant(eight, ir.Undefined), value, ir.IntType(32)(0))
            spread = builder.shuffle_vector(spread, spread, ir.Constant(ir.VectorType(ir.IntType(32), 8), [0] * 8))
            if subtract:
                wide = spread = builder.fsub(spread, wide)
            after = builder.fadd(after, builder.fmul(spread, wide))
        following = builder.add(step, index(1))
        step.add_incoming(index(0), before)
        step.add_incoming(following, loop)
        sums.add_incoming(start, before)
        sums.add_incoming(after, loop)
        builder.cbranch(builder.icmp_signed("<", following, steps), loop, done)
        builder.position_at_end(done)
        builder.store(after, builder.bitcast(total, eight.as_pointer()), align=8)
        return context.get_dummy_value()

    return signature, codegen


@kernel(inline=True)
def _row(vectors: np.ndarray, at: np.ndarray, place: int) -> Any:
    return address(vectors, at[min(place, at.size - 1)] * vectors.shape[1])


@kernel
def _eight_totals(
    metric: int, anchor: np.ndarray, vectors: np.ndarray, at: np.ndarray, first: int, out_total: np.ndarray
) -> None:
    """The sums over coordinates of an anchor float64[d] and eight rows of vectors (m, d), those at[first] ..."""
    d = anchor.size
    rows = (
        _row(vectors, at, first), _row(vectors, at, first + 1), _row(vectors, at, first + 2),
        _row(vectors, at, first + 3), _row(vectors, at, first + 4), _row(vectors, at, first + 5),
        _row(vectors, at, first + 6), _row(vectors, at, first + 7),
    )  # fmt: skip
    for q in range(8):
        out_total[q] = 0.0
    differences = uses_differences(metric)
    if d >= 8 and differences:
        _add_eight(1, address(anchor, 0), rows, d // 8, address(out_total, 0))
    elif d >= 8:
        _add_eight(0, address(anchor, 0), rows, d // 8, address(out_total, 0))
    for q in range(8):
        row = at[min(first + q, at.size - 1)]
        for j in range(d // 8 * 8, d):
            value = np.float64(vectors[row, j])
            t = anchor[j] - value
            out_total[q] += t * t if differences else anchor[j] * value


@kernel(inline=True)
def load_row(vectors: np.ndarray, at: int, out_row: np.ndarray) -> None:
    """Copy a row of vectors (m, d) of any dtype to out_row float64[d]."""
    for j in range(out_row.size):
        out_row[j] = np.float64(vectors[at, j])


@kernel(inline=True)
def prefetch_row(vectors: np.ndarray, at: int) -> None:
    """Ask the memory for a row of vectors (m, d)."""
    d = vectors.shape[1]
    for first in range(0, d, max(1, 64 // vectors.itemsize)):
        prefetch(address(vectors, at * d + first))


@kernel
def distances_to(
    metric: int,
    anchor: np.ndarray,
    anchor_square: float,
    vectors: np.ndarray,
    square: np.ndarray,
    at: np.ndarray,
    slots: np.ndarray,
    out_distance: np.ndarray,
) -> None:
    """Canonical distances from one anchor to m rows. Cost: m d multiplications and additions.

    Parameters
    ----------
    anchor : float64[d]
    vectors : (rows, d) of any stored dtype
    square : float64[n], dot(b, b) by slot
    at : int64[m], rows of `vectors`
    slots : int32[m], their slots
    out_distance : float64[m rounded up to a multiple of 8]; what follows the m distances means nothing
    """
    for first in range(0, at.size, 8):
        total = out_distance[first : first + 8]
        _eight_totals(metric, anchor, vectors, at, first, total)
        for q in range(min(8, at.size - first)):
            total[q] = distance(metric, total[q], anchor_square, square[slots[first + q]])


@kernel
def paired_distances(
    metric: int,
    left: np.ndarray,
    left_square: np.ndarray,
    right: np.ndarray,
    right_square: np.ndarray,
    out_distance: np.ndarray,
) -> None:
    """Canonical distances of m rows to m rows: left, right (m, d), squares and out_distance float64[m]."""
    for i in range(left.shape[0]):
        out_distance[i] = distance(metric, pair_total(metric, left[i], right[i]), left_square[i], right_square[i])
