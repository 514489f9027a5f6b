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
- int8 codes: the row is rotated (no error but float64 rounding, in rho) and quantised, z = s q + e with |q| <= 127
  and s of its own, so by Cauchy-Schwarz |<z_a, z_b> - s_a s_b <q_a, q_b>| = |<e_a, z_b> + <s_a q_a, e_b>|
  <= |e_a| B + (A + |e_a|) |e_b|, and for any K > 0, by xy <= (x^2 / K + K y^2) / 2, at most the sum over both of
  (|e|^2 / K + K (|z| + |e|)^2) / 2. K near the usual |e| / |z| makes that tight. The integer sum is exact
  (|sum| <= 2^15 d), and three float32 roundings follow: 4 u (A + |e_a|)(B + |e_b|);
- int16 codes: likewise, but without the rotation, and s is so large that |q| <= 46340 as well, so that by
  Cauchy-Schwarz |<q_a, q_b>|, and the sum of any of its products, is at most 46340^2 < 2^31: the integer sum is exact
  here too. Rounding moves each coordinate by at most 1/2, so |q| <= |z| / s + sqrt(d) / 2, and s >= |z| / (46340 -
  sqrt d), which leaves another sqrt(d) / 2 for the roundings of s and of z / s, is enough;
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

PAD = np.float32(-2e30)  # the bias of a column that is no row: passes no gate
UNIT_ROUNDOFF = 2.0**-24
DOUBLE_ROUNDOFF = 2.0**-53
LARGEST_CODE, LARGEST_SHORT, LONGEST_SHORT = 127.0, 32_767.0, 46_340.0
OFFSET = 0x80808080  # added, without carry, to four codes of a row whose tile has unsigned rows


class Frame(NamedTuple):
    """The frame of all codes: z = (row [/ its norm] - centre) * scale."""

    centre: NDArray[np.float64]  # [d]
    scale: float  # a power of two: max |z| of all rows lies in [1, 2), or below where they hardly differ
    unit_rows: bool
    dot: bool


class Terms(NamedTuple):
    """Values of a row beside its codes."""

    h: NDArray[np.float64]  # [m] t = h - affinity
    own: NDArray[np.float64]  # [m] the row's share of the error when it is an anchor
    bias: NDArray[np.float32]  # [m] share of the error included
    mirrored: NDArray[np.float32]  # [m] the bias of the mirrored problem
    slack: NDArray[np.float32]  # [m] twice that share
    scale: NDArray[np.float32]  # [m] s of integer codes; 1
    start: NDArray[np.int32]  # [m] -128 * sum of the int8 codes; 0


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
        out.start[i] = 0


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


@kernel(allocates=True)
def integer_codes(frame: Frame, vectors: np.ndarray, square: np.ndarray, out_codes: np.ndarray, out: Terms) -> None:
    """Rows (m, d) as integers: out_codes int8 or int16 (m, d or more), zeros behind. square: float64[m]."""
    m, d = vectors.shape
    octets, root = out_codes.itemsize == 1, math.sqrt(float(d))
    # |e| / |z|, e uniform within s / 2: of Gaussian rows as int8, s = max|z| / 127; as int16, s = |z| / 46340.
    usual = (
        math.sqrt(2.0 * math.log(2.0 * d) / 12.0) / LARGEST_CODE if octets else root / math.sqrt(12.0) / LONGEST_SHORT
    )
    mu = _length_of(frame)
    signs = rotation_signs(d)
    z = np.empty(d, np.float64)
    y = np.empty(d, np.float64)
    # Normalising, centring and at most 2 (log2 d + 2) roundings of the rotation, each relative to |z|.
    rho_unit = DOUBLE_ROUNDOFF * (8.0 + 2.0 * (math.log2(float(d)) + 3.0) * root)
    for i in range(m):
        _framed(frame, vectors, i, math.sqrt(square[i]) if frame.unit_rows else 1.0, z)
        y[:] = z
        if octets:
            rotate(signs, y)
        largest = z_square = 0.0
        for j in range(d):
            largest = max(largest, abs(y[j]))
            z_square += y[j] * y[j]
        least = largest / LARGEST_CODE
        if not octets:
            least = max(largest / LARGEST_SHORT, math.sqrt(z_square) / (LONGEST_SHORT - root))
        # A scale that is a normal float32: rows of less than 2^-100 are all error, which is a bound like any other.
        scale = np.float64(np.float32(least * (1.0 + 2.0**-22))) if largest > 2.0**-100 else 1.0
        code_sum = np.int64(0)
        e_square = 0.0
        for j in range(d):
            q = np.rint(y[j] / scale)
            out_codes[i, j] = np.int16(q)
            code_sum += np.int64(q)
            e_square += (y[j] - scale * q) * (y[j] - scale * q)
        for j in range(d, out_codes.shape[1]):
            out_codes[i, j] = 0
        error = math.sqrt(e_square) * (1.0 + 2.0**-40) + rho_unit * math.sqrt(z_square)
        coded = math.sqrt(z_square) * (1.0 + 2.0**-40) + error
        share = (error * error / usual + usual * coded * coded) / 2 + 2.0 * UNIT_ROUNDOFF * coded * coded
        _set_terms(frame, z, rho_unit, share, mu, i, out)
        out.scale[i] = np.float32(scale)
        out.start[i] = np.int32(-128 * code_sum) if octets else np.int32(0)


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
