"""Small seeded data sets, each awkward in its own way; one table feeds every test and every peer's check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

ALL_METRICS = ("cosine", "euclidean", "sqeuclidean", "dot")
NO_DIRECTION = ("euclidean", "sqeuclidean", "dot")  # a zero row has no cosine and cannot be normalised


@dataclass(frozen=True)
class World:
    """Rows with labels; `metrics` are those without a bad row (and --normalize suits where cosine does)."""

    embeddings: np.ndarray[Any, Any]
    labels: list[Any]
    ids: list[Any] | None = None
    groups: list[Any] | None = None
    metrics: tuple[str, ...] = ALL_METRICS


def clustered(
    seed: int, sizes: list[int], d: int, spread: float = 1.0, dtype: Any = np.float32
) -> tuple[np.ndarray[Any, Any], list[int]]:
    """Gaussian classes of the given sizes around Gaussian centres, rows in shuffled order."""
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    centres = rng.normal(size=(len(sizes), d))
    rows = centres[labels] + spread * rng.normal(size=(len(labels), d))
    return rows.astype(dtype), labels.tolist()


def blobs() -> World:
    return World(*clustered(1, [30] * 5, 8))


def tight_classes() -> World:
    """As after training: classes far tighter than the gaps between them, on the unit sphere."""
    rows, labels = clustered(2, [20] * 10, 16, spread=0.01)
    return World(rows / np.linalg.norm(rows, axis=1, keepdims=True), labels)


def duplicates() -> World:
    """Every row four times: two copies under its own label, two under any label."""
    rng = np.random.default_rng(3)
    rows, labels = clustered(3, [6] * 5, 5)
    stacked = np.concatenate([rows, rows, rows, rows])
    named = labels + labels + rng.integers(0, 5, size=2 * len(rows)).tolist()
    order = rng.permutation(len(stacked))
    return World(stacked[order], [named[i] for i in order])


def one_big_class() -> World:
    return World(*clustered(4, [240, 3, 3, 2, 2], 6))


def one_class() -> World:
    """No row has a negative."""
    return World(*clustered(5, [40], 6))


def singletons() -> World:
    """Most labels occur once: such rows are negatives, and anchors of pairs only."""
    return World(*clustered(6, [8, 8, 8] + [1] * 40, 7))


def all_singletons() -> World:
    """No row has a positive."""
    return World(*clustered(7, [1] * 30, 4))


def ties() -> World:
    """A small integer grid: most distances occur many times."""
    rng = np.random.default_rng(8)
    return World(rng.integers(1, 4, size=(150, 3)).astype(np.float32), rng.integers(0, 6, size=150).tolist())


def two_far_clusters() -> World:
    rng = np.random.default_rng(9)
    side = rng.integers(0, 2, size=120)
    rows = rng.normal(size=(120, 6)) + np.where(side, 1000.0, -1000.0)[:, None]
    return World(rows.astype(np.float32), rng.integers(0, 4, size=120).tolist())


def far_offset() -> World:
    """Float64, a million from the origin, a thousandth apart: what float32 cannot tell apart."""
    rows, labels = clustered(10, [20] * 5, 9, dtype=np.float64)
    return World(1e6 + 1e-3 * rows, labels)


def zero_rows() -> World:
    rows, labels = clustered(11, [20] * 4, 5)
    rows[::9] = 0
    return World(rows, labels, metrics=NO_DIRECTION)


def one_dimension() -> World:
    """Cosine distances are 0 or 2 only."""
    return World(*clustered(12, [25] * 4, 1))


def three_dimensions() -> World:
    return World(*clustered(13, [25] * 4, 3))


def seventeen_dimensions() -> World:
    return World(*clustered(14, [20] * 5, 17))


def thirty_three_dimensions() -> World:
    return World(*clustered(15, [20] * 5, 33))


def float16_rows() -> World:
    return World(*clustered(16, [30] * 4, 10, dtype=np.float16))


def int8_rows() -> World:
    rng = np.random.default_rng(17)
    rows = rng.integers(-128, 128, size=(130, 12)).astype(np.int8)
    rows[:, 0] |= 1  # no zero row
    return World(rows, rng.integers(0, 7, size=130).tolist())


def multi_label() -> World:
    """Lists of labels with null elements, empty lists and nulls among them."""
    rng = np.random.default_rng(18)
    rows, _ = clustered(18, [30] * 4, 8)
    labels: list[Any] = [rng.choice(9, size=rng.integers(1, 4), replace=False).tolist() for _ in range(120)]
    for row in range(0, 120, 11):
        labels[row] = [*labels[row], None]
    labels[5], labels[50], labels[77] = [], None, [None]
    return World(rows, labels)


def strings() -> World:
    """String labels and ids, some outside ASCII: UTF-8 order is neither row order nor UTF-16 order."""
    rng = np.random.default_rng(19)
    rows, labels = clustered(19, [25] * 4, 6)
    marks = ["a", "Z", "é", "\uffee", "\U0001f600", ""]
    ids = [f"{marks[i % len(marks)]}{i}" for i in rng.permutation(100).tolist()]
    return World(np.round(rows), [f"class {label}" for label in labels], ids=ids, metrics=NO_DIRECTION)


def grouped() -> World:
    """Groups across labels, some rows in none."""
    rng = np.random.default_rng(20)
    rows, labels = clustered(20, [24] * 5, 8)
    groups = [None if g == 0 else f"camera {g}" for g in rng.integers(0, 7, size=120).tolist()]
    return World(rows, labels, groups=groups)


def one_group_a_class() -> World:
    """Each class lies in one group but for a few strays: under the default rule few rows keep a positive."""
    rows, labels = clustered(21, [15] * 6, 8)
    return World(rows, labels, groups=[9 if row % 13 == 0 else label for row, label in enumerate(labels)])


def unlabelled() -> World:
    rows, labels = clustered(22, [30] * 4, 8)
    return World(rows, [None if row % 4 == 0 else label for row, label in enumerate(labels)])


def magnitudes() -> World:
    """Norms from 1e-30 to 1e30 in one table."""
    rng = np.random.default_rng(23)
    rows, labels = clustered(23, [20] * 5, 7, dtype=np.float64)
    return World(rows * 10.0 ** rng.integers(-30, 31, size=(100, 1)), labels)


def signed_zeros() -> World:
    """Duplicates that differ in the sign of a zero only."""
    rng = np.random.default_rng(24)
    rows = rng.integers(0, 3, size=(80, 4)).astype(np.float32)
    rows[:, 3] = 1
    flipped = np.where((rows == 0) & (rng.random(rows.shape) < 0.5), np.float32(-0.0), rows)
    return World(np.concatenate([rows, flipped]), rng.integers(0, 8, size=160).tolist())


def shuffled_ids() -> World:
    """Ids in another order than the rows, negative and beyond 2^53, over many ties."""
    rng = np.random.default_rng(25)
    rows = rng.integers(1, 4, size=(140, 4)).astype(np.float32)
    ids = [(i - 70) * (2**56 + 1) for i in rng.permutation(140).tolist()]
    return World(rows, rng.integers(0, 5, size=140).tolist(), ids=ids)


def twins() -> World:
    """Half of the rows are one and the same, under every label."""
    rows, labels = clustered(26, [30] * 4, 6)
    rows[::2] = rows[0]
    return World(rows, labels)


def lengths() -> World:
    """A few directions at many lengths, exact multiples and rounded ones, under any label: cosine sees copies."""
    rng = np.random.default_rng(27)
    rows = rng.integers(-2, 3, size=(6, 4))
    rows[:, 3] = 1
    times = rng.choice([1.0, 2.0, 3.0, 7.0, 0.5, 0.1], size=(120, 1))
    return World((rows[rng.integers(0, 6, 120)] * times).astype(np.float32), rng.integers(0, 5, 120).tolist())


WORLDS: dict[str, Callable[[], World]] = {
    make.__name__: make
    for make in (
        blobs,
        tight_classes,
        duplicates,
        one_big_class,
        one_class,
        singletons,
        all_singletons,
        ties,
        two_far_clusters,
        far_offset,
        zero_rows,
        one_dimension,
        three_dimensions,
        seventeen_dimensions,
        thirty_three_dimensions,
        float16_rows,
        int8_rows,
        multi_label,
        strings,
        grouped,
        one_group_a_class,
        unlabelled,
        magnitudes,
        signed_zeros,
        shuffled_ids,
        twins,
        lengths,
    )
}
