"""Data sets of any size at the edge of what floats hold, or full of rows that are hard to tell apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from worlds import NO_DIRECTION, World

Rows = np.ndarray[Any, Any]


def rng_of(n: int) -> np.random.Generator:
    return np.random.default_rng([77, n])


def classes(n: int, d: int, count: int = 10, spread: float = 1.0) -> tuple[Rows, list[int]]:
    """Gaussian classes as float64, in shuffled order."""
    rng = rng_of(n)
    labels = rng.permutation(np.arange(n) % count)
    return rng.normal(size=(count, d))[labels] + spread * rng.normal(size=(n, d)), labels.tolist()


def gaussian(n: int, d: int = 16) -> World:
    """The well-behaved one."""
    rows, labels = classes(n, d)
    return World(rows.astype(np.float32), labels)


def wide_norms(n: int) -> World:
    rows, labels = classes(n, 7)
    return World(rows * 10.0 ** rng_of(n).integers(-30, 31, (n, 1)), labels)


def wide_norms_float32(n: int) -> World:
    whole = wide_norms(n)
    return World(whole.embeddings.astype(np.float32), whole.labels)


def widest_norms(n: int) -> World:
    """Down and up to where norms are refused: their squares reach from 1e-148 to 1e149."""
    rows, labels = classes(n, 6)
    return World(rows * 10.0 ** rng_of(n).integers(-73, 74, (n, 1)), labels)


def squares_near_overflow(n: int) -> World:
    """A square times a square is 1e298."""
    rows, labels = classes(n, 5)
    return World(1e74 * rows, labels)


def squares_underflow_float32(n: int) -> World:
    """Norms of 1e-30, which have directions all the same."""
    rows, labels = classes(n, 8)
    return World((1e-30 * rows).astype(np.float32), labels)


def all_denormal(n: int) -> World:
    rows, labels = classes(n, 6)
    return World((1e-42 * rows).astype(np.float32) + np.float32(2e-45), labels)


def some_denormal(n: int) -> World:
    rows, labels = classes(n, 6)
    rows[rng_of(n).random(n) < 0.5] *= 1e-42
    return World(rows.astype(np.float32) + np.float32(2e-45), labels)


def beside_a_one(n: int) -> World:
    """Rows that differ by 1e-165, the square of which is 0 as float64: all are at distance 0, none is a duplicate."""
    rows, labels = classes(n, 6)
    rows *= 1e-165
    rows[:, 0] = 1
    return World(rows, labels)


def beside_a_one_denormal(n: int) -> World:
    """As above, but differing by float64 denormals."""
    rows, labels = classes(n, 6)
    rows *= 1e-310
    rows[:, 0] = 1
    return World(rows, labels)


def one_long_row(n: int) -> World:
    rows, labels = classes(n, 12)
    rows[n // 3] *= 1000
    return World(rows.astype(np.float32), labels)


def one_endless_row(n: int) -> World:
    rows, labels = classes(n, 12)
    rows[n // 3] *= 1e12
    return World(rows.astype(np.float32), labels)


def float64_offset(n: int) -> World:
    rows, labels = classes(n, 9)
    return World(1e6 + 1e-3 * rows, labels)


def float32_offset(n: int) -> World:
    rows, labels = classes(n, 9)
    return World((1e4 + rows).astype(np.float32), labels)


def far_clusters(n: int, far: float = 1e3) -> World:
    rows, labels = classes(n, 6)
    rows += np.where(rng_of(n).random((n, 1)) < 0.5, far, -far)
    return World(rows.astype(np.float32), labels)


def farther_clusters(n: int) -> World:
    """So far that no float32 product tells the rows of one cluster apart."""
    return far_clusters(n, 1e5)


def integer_ties(n: int) -> World:
    rng = rng_of(n)
    return World(rng.integers(-2, 3, (n, 4)).astype(np.int8) | 1, rng.integers(0, 20, n).tolist())


def collinear(n: int) -> World:
    """Nine directions in all, at any length: cosine distances tie by the thousand though no row is a duplicate."""
    rng = rng_of(n)
    rows = np.array([[x, y, 1] for x in (-1, 0, 1) for y in (-1, 0, 1)])[rng.integers(0, 9, n)]
    return World(rows * 2.0 ** rng.integers(-9, 10, (n, 1)), rng.integers(0, 20, n).tolist())


def identical(n: int) -> World:
    return World(np.full((n, 8), 1 / 3, np.float32), rng_of(n).integers(0, 2, n).tolist())


def half_identical(n: int) -> World:
    rows, labels = classes(n, 8)
    rows[::2] = rows[0]
    return World(rows.astype(np.float32), labels)


def big_class(n: int) -> World:
    rows, _ = classes(n, 8)
    others = max(4, n // 100)
    return World(rows.astype(np.float32), [1 + row % 2 if row < others else 0 for row in range(n)])


def tight_classes(n: int) -> World:
    """As after training."""
    rows, labels = classes(n, 32, min(200, n // 15), spread=1e-4)
    return World((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels)


def zero_rows(n: int) -> World:
    rows, labels = classes(n, 5)
    rows[rng_of(n).random(n) < 0.5] = 0
    return World(rows.astype(np.float32), labels, metrics=NO_DIRECTION)


def all_zero(n: int) -> World:
    return World(np.zeros((n, 5), np.float32), rng_of(n).integers(0, 4, n).tolist(), metrics=NO_DIRECTION)


def signed_zeros(n: int) -> World:
    rng = rng_of(n)
    rows = rng.integers(0, 3, (n, 4)).astype(np.float32)
    rows[:, 3] = 1
    rows[(rows == 0) & (rng.random(rows.shape) < 0.5)] = -0.0
    return World(rows, rng.integers(0, 8, n).tolist())


def huge_coordinate(n: int) -> World:
    rows, labels = classes(n, 6)
    rows[:, 0] = 1e20 * (1 + rng_of(n).integers(0, 3, n))
    return World(rows, labels)


def hugest_coordinate(n: int) -> World:
    """As unit rows they differ by 1e-70, which no distance shows."""
    rows, labels = classes(n, 6)
    rows[:, 0] = 1e70
    return World(rows, labels)


def one_dimension(n: int) -> World:
    rows, labels = classes(n, 1)
    return World(rows, labels)


def thousand_dimensions(n: int) -> World:
    return gaussian(n, 1030)


EXTREMES: dict[str, Callable[[int], World]] = {
    make.__name__.replace("_", " "): make
    for make in (
        wide_norms, wide_norms_float32, widest_norms, squares_near_overflow, squares_underflow_float32, all_denormal,
        some_denormal, beside_a_one, beside_a_one_denormal, one_long_row, one_endless_row, float64_offset,
        float32_offset, far_clusters, farther_clusters, integer_ties, collinear, identical, half_identical, big_class,
        tight_classes, zero_rows, all_zero, signed_zeros, huge_coordinate, hugest_coordinate, one_dimension,
        thousand_dimensions,
    )
}  # fmt: skip
