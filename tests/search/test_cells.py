"""Cells: k-means, and the order of rows that the probe looks around in; no answer depends on them."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import numpy as np
import pytest
from support import loaded_rows, set_sizes

import minestream
from minestream.kernels.tile_shapes import host_tiles
from minestream.search import cells, order, searcher
from minestream.search.cells import cell_of, nearest_cells
from minestream.system.threads import Workers

ROWS, BLOBS = 5_000, 50
Array = np.ndarray[Any, Any]


def blobs(dimension: int = 24) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows in tight blobs, and the blob of each."""
    rng = np.random.default_rng(3)
    of = rng.integers(0, BLOBS, ROWS)
    rows = 4 * rng.standard_normal((BLOBS, dimension))[of] + 0.3 * rng.standard_normal((ROWS, dimension))
    return rows.astype(np.float32), of


def celled(vectors: Array, threads: int = 2, listed: int = 0) -> Array:
    """The cell of every row, or the `listed` nearest ones of 90."""
    loaded = loaded_rows(vectors, "euclidean")
    with closing(Workers(threads)) as workers:
        return nearest_cells(loaded, workers, threads, 90, listed) if listed else cell_of(loaded, workers, threads)


def test_every_row_is_in_the_cell_of_its_nearest_centre() -> None:
    """By the centres themselves: of the rows of a cell none is much nearer to the mean of another."""
    vectors, _ = blobs()
    cell = celled(vectors)
    assert 30 < int(cell.max()) + 1 <= 70  # the square root of the rows
    means = np.stack([vectors[cell == each].mean(axis=0) for each in np.unique(cell)])
    _, cell = np.unique(cell, return_inverse=True)
    apart = np.square(vectors[:, None] - means[None]).sum(axis=2)
    own, least = apart[np.arange(ROWS), cell], apart.min(axis=1)
    assert (own <= 1.5 * least + 1e-9).mean() > 0.95


@pytest.mark.parametrize("listed", [1, 3, 32, 90])
def test_the_nearest_centres_are_listed_from_the_nearest_on(listed: int) -> None:
    """Of centres that are equally near the first, as the products of the codes say."""
    rng = np.random.default_rng(2)
    loaded = loaded_rows(rng.integers(-9, 10, (1_001, 4)).astype(np.float32), "euclidean")
    centres = rng.integers(-2, 3, (200, 4)) / 4  # many of them are equal
    coding = cells._Coding(loaded)
    codes, scale = coding.codes_of(loaded.store.block(0, 1_001), np.arange(1_001))
    found = coding.nearest(codes, scale, coding.columns(centres), listed)
    rows = codes[:, :4] * scale[:, None]
    affinity = rows @ centres.T - np.square(centres).sum(axis=1) / 2
    np.testing.assert_array_equal(found, np.argsort(-affinity, axis=1, kind="stable")[:, :listed])


def test_turns_bring_rows_nearer_to_their_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = blobs()

    def spread() -> float:
        cell = celled(vectors)
        return sum(float(np.square(some - some.mean(axis=0)).sum()) for some in (vectors[cell == c] for c in set(cell)))

    near = spread()
    monkeypatch.setattr(cells, "TURNS", 0)
    assert near < 0.9 * spread()


@pytest.mark.parametrize("listed", [0, 5])
def test_cells_are_the_same_for_any_threads_tiles_and_passes(listed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = blobs()
    expected = celled(vectors, 1, listed)
    for threads in (2, 3):
        np.testing.assert_array_equal(celled(vectors, threads, listed), expected)
    monkeypatch.setattr(cells, "TOGETHER", 700)
    np.testing.assert_array_equal(celled(vectors, 2, listed), expected)
    monkeypatch.setattr(cells, "host_tiles", lambda: {"f32": host_tiles()["f32"]})
    np.testing.assert_array_equal(celled(vectors, 2, listed), expected)


def test_cells_next_to_each_other_are_near() -> None:
    """Centres on a line come in its order, in one direction or the other within each half."""
    line = np.random.default_rng(0).permutation(64)
    order = cells.in_line(np.stack([line, np.zeros(64)], axis=1).astype(float))
    assert sorted(order.tolist()) == list(range(64))
    assert np.abs(np.diff(line[order])).mean() < 4  # 21 by chance


@pytest.mark.parametrize("kind", ["few", "equal", "zero"])
def test_rows_that_hardly_differ_have_cells_too(kind: str) -> None:
    vectors = {"few": np.ones((4, 3)), "equal": np.ones((40, 3)), "zero": np.zeros((9, 1))}[kind].astype(np.float32)
    cell = celled(vectors)
    assert cell.shape == (len(vectors),)
    assert (cell >= 0).all()


def test_a_label_of_many_rows_does_not_meet_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two labels, one of which most rows have, few products are computed, and the rows are those of the scan."""
    vectors, _ = blobs()
    labels = np.where(np.arange(ROWS) % 10 == 0, np.arange(ROWS) % 70, -2)
    fixed: dict[str, Any] = {"metric": "euclidean", "band": "any", "negatives": 3, "threads": 2}
    set_sizes(monkeypatch, AROUND_ROWS=200)
    found = minestream.mine_arrays(vectors, labels, **fixed)
    assert found.table().equals(minestream.mine_arrays(vectors, labels, screen="scan", **fixed).table())
    apart = found.effort.pairs_computed
    monkeypatch.setattr(order, "LARGE_LABEL", 2.0)
    assert minestream.mine_arrays(vectors, labels, **fixed).table().equals(found.table())
    assert apart < 0.6 * minestream.mine_arrays(vectors, labels, **fixed).effort.pairs_computed


OPTIONS: list[dict[str, Any]] = [
    {"band": "any", "negatives": 5},
    {"band": "semi-hard", "negatives": 2, "positives": "hardest", "margin": 5.0},
    {"band": "any", "negatives": 3, "pick": "random", "positives": "random", "positives_per_anchor": 3},
    {"band": "any", "negatives": 3, "skip": 4, "drop_duplicates_within": 2.0, "screen": "f32"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_no_answer_depends_on_cells(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = blobs()
    vectors[::5] = vectors[4]  # equal rows, which are no negatives of each other
    set_sizes(monkeypatch, AROUND_ROWS=100, GROUP_ROWS=1_000)
    labels = np.arange(ROWS) % 40
    fixed = {"metric": "euclidean", "threads": 2, **options}
    expected = minestream.mine_arrays(vectors, labels, **fixed).table()
    by_chance = np.random.default_rng(1).integers(0, 60, ROWS).astype(np.uint16)
    monkeypatch.setattr(searcher, "cell_of", lambda *_: by_chance)
    assert minestream.mine_arrays(vectors, labels, **fixed).table().equals(expected)


def test_cells_make_first_gates_narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """With cells by chance several times as many candidates pass the gates."""
    rng = np.random.default_rng(0)
    vectors = (rng.standard_normal((ROWS, 5)) @ rng.standard_normal((5, 24))).astype(np.float32)
    set_sizes(monkeypatch, AROUND_ROWS=200)

    def survivors() -> int:
        found = minestream.mine_arrays(vectors, np.arange(ROWS) // 2, metric="euclidean", band="any", negatives=4)
        return int(found.effort.survivors)

    monkeypatch.setenv("MINESTREAM_EFFORT", "1")
    few = survivors()
    by_chance = np.random.default_rng(1).integers(0, 60, ROWS).astype(np.uint16)
    monkeypatch.setattr(searcher, "cell_of", lambda *_: by_chance)
    assert 3 * few < survivors()
