"""Rows as codes that a tile can multiply, float32, int16 or int8, with a proven error.

The affinity of anchor a and column b is `<z_a, z_b> + bias_b`, z = (row - centre) * scale. For the metrics that
ignore translations bias_b = -|z_b|^2 / 2, and `t = h_a - affinity` with h_a = |z_a|^2 / 2 is half the squared
distance; for dot, <a, b> = <z_a, z_b> + <mu, z_b> + <a, mu>, so bias_b = <mu, z_b> and h_a = -<a, mu>. The farthest
are found as the nearest of the mirrored problem: products and biases change sign.

What the tile computes differs from the canonical distance by at most a share of the row plus a share of the column,
so that no maximum over a file enters and one long row widens only its own gates. With A = |z_a|, B = |z_b| and
AB <= (A^2 + B^2) / 2:

- z itself, rounded to float32 (u = 2^-24) or kept in float64 (u = 2^-53): |z - exact z| <= rho = u |z| (1.01) + the
  rounding of the normalisation, which moves t by at most (rho_a + rho_b)(A + B) + (rho_a + rho_b)^2 / 2;
- float32 codes: d fused multiply-adds, gamma_{d+2} AB, gamma_n = n u / (1 - n u);
- int8 codes: the row is rotated to y and quantised, y = S q + e with |q| <= 127, where S is a scale s of its own, and
  for coordinates of the prefix s 2^(m/2). By Cauchy-Schwarz |<y_a, y_b> - <S q_a, S q_b>| = |<e_a, y_b> + <S q_a, e_b>|
  <= |e_a| |y_b| + (|y_a| + |e_a|) |e_b|, and for any K > 0, by xy <= (x^2 / K + K y^2) / 2, at most the sum over both
  of (|e|^2 / K + K (|y| + |e|)^2) / 2. K near the usual |e| / |y| makes that tight. <S q_a, S q_b> is s_a s_b times a
  whole number of at most 2^15 (2^m prefix + rest), which the tile has exactly; three float32 roundings follow:
  4 u (|y_a| + |e_a|)(|y_b| + |e_b|);
- int16 codes: likewise, but y = z, there is no prefix, and s is so large that |q| <= 46340 as well, so that by
  Cauchy-Schwarz |<q_a, q_b>|, and the sum of any of its products, is at most 46340^2 < 2^31: the integer sum is exact
  here too. Rounding moves each coordinate by at most 1/2, so |q| <= |z| / s + sqrt(d) / 2, and s >= |z| / (46340 -
  sqrt d), which leaves another sqrt(d) / 2 for the roundings of s and of z / s, is enough;
- the rotation R: y = R z but for at most r |z|, so |<z_a, z_b> - <y_a, y_b>| <= (D + 2 r (1 + D) + r^2) AB, where D =
  |R'R - I| in the norm of Frobenius, measured in float64. With signs and Walsh-Hadamard matrices, in float64, D = 0
  and r is a few times d^(1/2) 2^-53. With principal axes, rounded to float32, the f32 tile multiplies BLOCK coordinates
  at a time, and such sums are added in float64: each coordinate of y errs by gamma_BLOCK |R_i| |z|, so, with the
  rounding of z to float32, r = gamma_(BLOCK + 4) (d (1 + D))^(1/2);
- the sum with the bias: u (|bias_b| + AB), and as much again where a kernel adds it once more;
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

from minestream.kernels.draw import mix
from minestream.kernels.jit import kernel
from minestream.kernels.tile import CONTROL, LOW, PREFIX, TAIL_SHARE, WORDS, address, tile, tile_shape

PAD = np.float32(-2e30)  # the bias of a column that is no row: passes no gate
UNIT_ROUNDOFF = 2.0**-24
DOUBLE_ROUNDOFF = 2.0**-53
LARGEST_CODE, LARGEST_SHORT, LONGEST_SHORT = 127.0, 32_767.0, 46_340.0
BLOCK = 64  # coordinates that the f32 tile multiplies at a time when rows are rotated
OFFSET = 0x80808080  # added, without carry, to four codes of a row whose tile has unsigned rows


class Frame(NamedTuple):
    """The frame of all codes: z = (row [/ its norm] - centre) * scale."""

    centre: NDArray[np.float64]  # [d]
    scale: float  # a power of two: max |z| of all rows lies in [1, 2), or below where they hardly differ
    unit_rows: bool
    dot: bool


class Rotation(NamedTuple):
    """How rows in the frame are rotated for int8 codes."""

    axes: NDArray[np.float32]  # [panels, d, columns of the f32 tile]; no panels: signs and Walsh-Hadamard matrices
    defect: float  # D of the proof
    prefix: int  # coordinates, a multiple of four, or all of them, whose scale is 2^(shift / 2) times that of the row
    shift: int


class Terms(NamedTuple):
    """Values of a row beside its codes."""

    h: NDArray[np.float64]  # [m] t = h - affinity
    own: NDArray[np.float64]  # [m] the row's share of the error when it is an anchor
    bias: NDArray[np.float32]  # [m] share of the error included
    mirrored: NDArray[np.float32]  # [m] the bias of the mirrored problem
    slack: NDArray[np.float32]  # [m] twice that share
    scale: NDArray[np.float32]  # [m] s of integer codes; 1
    tail: NDArray[np.float32]  # [m] see tile()
    start: NDArray[np.int32]  # [m, 2] -128 * sum of the int8 codes of the prefix, and of the rest; 0


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
def coordinate_sums(
    vectors: np.ndarray, square: np.ndarray, unit_rows: bool, longest: float, out_sum: np.ndarray
) -> None:
    """Add the rows, divided by their norms if so asked, else shortened to `longest`, to out_sum float64[d]."""
    for i in range(vectors.shape[0]):
        norm = math.sqrt(square[i]) if unit_rows else max(1.0, math.sqrt(square[i]) / longest)
        for j in range(out_sum.size):
            out_sum[j] += np.float64(vectors[i, j]) / norm


@kernel
def _framed(frame: Frame, vectors: np.ndarray, i: int, norm: float, out_z: np.ndarray) -> None:
    """Row i in the frame, float64[d]."""
    for j in range(out_z.size):
        out_z[j] = (np.float64(vectors[i, j]) / norm - frame.centre[j]) * frame.scale


@kernel
def _set_terms(
    frame: Frame, z: np.ndarray, rho_unit: float, product_error: float, mu: float, i: int, out: Terms
) -> None:
    """Bias and shares of a row z float64[d] as it is coded.

    `rho_unit`: rounding of z, relative. `product_error`: the row's share of the error of an inner product of codes.
    """
    d = z.size
    z_square = 0.0
    mu_z = 0.0
    for j in range(d):
        z_square += z[j] * z[j]
        mu_z += z[j] * frame.centre[j]
    length = math.sqrt(z_square)
    rho = 1.01 * rho_unit * length + math.sqrt(float(d)) * 2.0**-148
    if frame.unit_rows:
        rho += frame.scale * (d + 8) * DOUBLE_ROUNDOFF
    moved = rho * length + (rho * rho / rho_unit + rho_unit * z_square) / 2 + rho * rho
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
    shared = (moved + canonical + product_error) * 1.01 + d * 2.0**-120
    column = (shared + 4 * UNIT_ROUNDOFF * (abs(bias) + z_square / 2)) * 1.01
    column += 2.0**-22 * (abs(bias) + column)
    out.h[i] = h
    out.own[i] = (shared + 4 * UNIT_ROUNDOFF * z_square / 2 + 2.0**-50 * abs(h)) * 1.01
    out.bias[i] = np.float32(bias + column)
    out.mirrored[i] = np.float32(-bias + column)
    out.slack[i] = np.float32(column * 2.0 * 1.0001)


@kernel
def _length_of(frame: Frame) -> float:
    """|centre| in scaled units."""
    total = 0.0
    for j in range(frame.centre.size):
        total += frame.centre[j] * frame.centre[j]
    return math.sqrt(total) * frame.scale


@kernel(allocates=True)
def float_codes(frame: Frame, vectors: np.ndarray, square: np.ndarray, out_codes: np.ndarray, out: Terms) -> None:
    """Rows (m, d) as float32: out_codes float32 (m, d). square: float64[m]."""
    m, d = vectors.shape
    gamma = (d + 2) * UNIT_ROUNDOFF / (1.0 - (d + 2) * UNIT_ROUNDOFF)
    mu = _length_of(frame)
    z = np.empty(d, np.float64)
    for i in range(m):
        _framed(frame, vectors, i, math.sqrt(square[i]) if frame.unit_rows else 1.0, z)
        z_square = 0.0
        for j in range(d):
            out_codes[i, j] = np.float32(z[j])
            z[j] = np.float64(out_codes[i, j])
            z_square += z[j] * z[j]
        _set_terms(frame, z, UNIT_ROUNDOFF, gamma * z_square / 2, mu, i, out)
        out.scale[i] = np.float32(1.0)
        out.tail[i] = np.float32(0.0)
        out.start[i, 0] = out.start[i, 1] = 0


@kernel
def _hadamard(z: np.ndarray, first: int, size: int) -> None:
    """Multiply z[first : first + size], size a power of two, by the orthonormal Walsh-Hadamard matrix."""
    half = 1
    while half < size:
        for block in range(first, first + size, 2 * half):
            for j in range(block, block + half):
                a, b = z[j], z[j + half]
                z[j], z[j + half] = a + b, a - b
        half *= 2
    factor = 1.0 / math.sqrt(float(size))
    for j in range(first, first + size):
        z[j] *= factor


@kernel
def rotate(signs: np.ndarray, z: np.ndarray) -> None:
    """Spread the coordinates of z float64[d], so that none is far larger than the others; lengths stay.

    Random signs and a Walsh-Hadamard matrix, first on the leading power of two of the coordinates, then on the
    trailing one: as that is more than half of them, both overlap. signs float64 (2, d). Cost: 2 d log2 d.
    """
    d = z.size
    size = 1
    while 2 * size <= d:
        size *= 2
    for turn in range(1 if size == d else 2):
        for j in range(d):
            z[j] *= signs[turn, j]
        _hadamard(z, 0 if turn == 0 else d - size, size)


@kernel(allocates=True)
def rotation_signs(d: int) -> np.ndarray:
    """The signs of `rotate`, float64 (2, d): fixed ones."""
    signs = np.empty((2, d), np.float64)
    for turn in range(2):
        for j in range(d):
            signs[turn, j] = 1.0 if mix(np.uint64(2 * j + turn + 1)) & np.uint64(1) else -1.0
    return signs


@kernel
def rotate_parts(signs: np.ndarray, prefix: int, rows: np.ndarray) -> None:
    """rotate() the first `prefix` coordinates of every row float64 (m, d), and the others, each among themselves."""
    for i in range(rows.shape[0]):
        rotate(signs[:, :prefix], rows[i, :prefix])
        rotate(signs[:, prefix:], rows[i, prefix:])


class RotationScratch(NamedTuple):
    """What a thread works in while it rotates rows."""

    signs: NDArray[np.float64]  # [2, d]
    z: NDArray[np.float64]  # [rows of the f32 tile, d]
    y: NDArray[np.float64]  # [rows, d] or more
    panel: NDArray[np.float32]  # [d, rows]
    control: NDArray[np.int64]  # [CONTROL]
    terms: NDArray[np.float32]  # [2, LOW + 2, columns] of rows and of columns: gates that let all pass, and none
    start: NDArray[np.int32]  # [2, columns]
    masks: NDArray[np.uint64]  # [2, rows]
    products: NDArray[np.float32]  # [rows, columns]


@kernel(allocates=True)
def _rotation_scratch(axes: np.ndarray, d: int) -> RotationScratch:
    rows, columns = tile_shape(address(axes, 0))
    terms = np.zeros((2, LOW + 2, columns), np.float32)
    flat = terms.reshape(terms.size)
    flat[LOW * rows : (LOW + 1) * rows] = -np.inf
    flat[(LOW + 1) * rows : (LOW + 2) * rows] = np.inf
    terms[1, LOW], terms[1, LOW + 1] = np.inf, -np.inf
    control = np.ones(CONTROL, np.int64)
    return RotationScratch(
        rotation_signs(d), np.empty((rows, d)), np.empty((rows, max(d, axes.shape[0] * columns))),
        np.zeros((d, rows), np.float32), control, terms, np.zeros((2, columns), np.int32),
        np.empty((2, rows), np.uint64), np.empty((rows, columns), np.float32),
    )  # fmt: skip


@kernel
def _rotate_rows(axes: np.ndarray, count: int, out: RotationScratch) -> None:
    """Rotate the first `count` rows of out.z into out.y."""
    rows, columns = tile_shape(address(axes, 0))
    d = out.z.shape[1]
    if axes.shape[0] == 0:
        for r in range(count):
            for j in range(d):
                out.y[r, j] = out.z[r, j]
            rotate(out.signs, out.y[r, :d])
        return
    for r in range(count):
        for j in range(d):
            out.panel[j, r] = np.float32(out.z[r, j])
    out.y[:] = 0.0
    for first in range(0, d, BLOCK):
        out.control[WORDS] = out.control[PREFIX] = min(BLOCK, d - first)
        for p in range(axes.shape[0]):
            tile(
                address(out.panel, first * rows), address(axes, (p * d + first) * columns), address(out.control, 0),
                address(out.terms, 0), address(out.terms, (LOW + 2) * columns), address(out.start, 0),
                address(out.masks, 0), address(out.masks, rows), address(out.products, 0),
            )  # fmt: skip
            for r in range(count):
                for c in range(columns):
                    out.y[r, p * columns + c] += np.float64(out.products[r, c])


@kernel
def _rotation_error(rotation: Rotation, d: int) -> float:
    """r of the proof."""
    if rotation.axes.shape[0] == 0:  # at most 2 (log2 d + 2) roundings, each relative to |z|
        return DOUBLE_ROUNDOFF * (2.0 * (math.log2(float(d)) + 3.0) * math.sqrt(float(d)))
    gamma = (BLOCK + 4) * UNIT_ROUNDOFF / (1.0 - (BLOCK + 4) * UNIT_ROUNDOFF)
    return gamma * math.sqrt(d * (1.0 + rotation.defect))


@kernel
def _quantize(rotation: Rotation, y: np.ndarray, i: int, out_codes: np.ndarray, out: Terms) -> tuple[float, float]:
    """The codes of row i, rotated: float64[d]. Returns |e|^2 and |y|^2."""
    d, larger, octets = y.size, 2.0 ** (rotation.shift / 2.0), out_codes.itemsize == 1
    largest = y_square = 0.0
    for j in range(d):
        largest = max(largest, abs(y[j]) / (larger if j < rotation.prefix else 1.0))
        y_square += y[j] * y[j]
    least = largest / LARGEST_CODE
    if not octets:
        least = max(largest / LARGEST_SHORT, math.sqrt(y_square) / (LONGEST_SHORT - math.sqrt(float(d))))
    # A scale that is a normal float32: rows of less than 2^-100 are all error, which is a bound like any other.
    scale = np.float64(np.float32(least * (1.0 + 2.0**-22))) if largest > 2.0**-100 else 1.0
    coded = tail = e_square = 0.0
    for part in range(2):
        first, end = (0, rotation.prefix) if part == 0 else (rotation.prefix, d)
        step, code_sum = scale * larger if part == 0 else scale, np.int64(0)
        tail = 0.0
        for j in range(first, end):
            q = np.rint(y[j] / step)
            out_codes[i, j] = np.int16(q)
            code_sum += np.int64(q)
            e_square += (y[j] - step * q) * (y[j] - step * q)
            tail += step * q * step * q
        coded += tail
        out.start[i, part] = np.int32(-128 * code_sum) if octets else np.int32(0)
    for j in range(d, out_codes.shape[1]):
        out_codes[i, j] = 0
    out.tail[i] = np.float32((math.sqrt(tail) + TAIL_SHARE * math.sqrt(coded)) * (1.0 + 2.0**-20))
    out.scale[i] = np.float32(scale)
    return e_square, y_square


@kernel(allocates=True)
def integer_codes(
    frame: Frame, rotation: Rotation, vectors: np.ndarray, square: np.ndarray, out_codes: np.ndarray, out: Terms
) -> None:  # fmt: skip
    """Rows (m, d) as integers: out_codes int8 or int16 (m, d or more), zeros behind. square: float64[m]."""
    m, d = vectors.shape
    octets, root = out_codes.itemsize == 1, math.sqrt(float(d))
    # |e| / |y|, e uniform within s / 2: of Gaussian rows as int8, s = max|y| / 127; as int16, s = |y| / 46340.
    usual = (
        math.sqrt(2.0 * math.log(2.0 * d) / 12.0) / LARGEST_CODE if octets else root / math.sqrt(12.0) / LONGEST_SHORT
    )
    mu, turned = _length_of(frame), _rotation_error(rotation, d) if octets else 0.0
    moved = (rotation.defect + 2.0 * turned * (1.0 + rotation.defect) + turned * turned) * 1.01
    rho_unit = 8.0 * DOUBLE_ROUNDOFF  # normalising and centring
    work = _rotation_scratch(rotation.axes, d)
    rows = work.z.shape[0]
    for first in range(0, m, rows):
        few = min(rows, m - first)
        for r in range(few):
            _framed(frame, vectors, first + r, math.sqrt(square[first + r]) if frame.unit_rows else 1.0, work.z[r])
        if octets:
            _rotate_rows(rotation.axes, few, work)
        for r in range(few):
            i = first + r
            e_square, y_square = _quantize(rotation, work.y[r, :d] if octets else work.z[r], i, out_codes, out)
            error = math.sqrt(e_square) * (1.0 + 2.0**-40) + 2.0**-50 * math.sqrt(y_square)
            coded = math.sqrt(y_square) * (1.0 + 2.0**-40) + error
            share = (error * error / usual + usual * coded * coded) / 2 + 2.0 * UNIT_ROUNDOFF * coded * coded
            share += moved * y_square * (1.0 + 2.1 * moved) / 2  # |z|^2 may be a little larger than |y|^2
            _set_terms(frame, work.z[r], rho_unit, share, mu, i, out)


@kernel
def pack(codes: np.ndarray, order: np.ndarray, flip: np.uint32, out_panels: np.ndarray) -> None:
    """Rows of codes uint32 (m, words) taken in `order`, word by word: out_panels (panels, words, width), 0 behind.

    `flip` is applied to every word by exclusive or: OFFSET makes bytes unsigned, the sign bit negates floats.
    """
    count, words, width = out_panels.shape
    for p in range(count):
        for r in range(width):
            at = p * width + r
            if at < order.size:
                i = order[at]
                for j in range(words):
                    out_panels[p, j, r] = codes[i, j] ^ flip
            else:
                for j in range(words):
                    out_panels[p, j, r] = np.uint32(0)
