"""Cells: k-means on codes, and the order of rows that the probe looks around in; no answer depends on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import loaded_rows, set_sizes

import minestream
from minestream.kernels.tile_shapes import host_tiles
from minestream.search import cells, order, sweep
from minestream.search.cells import cells_of
from minestream.search.screens import Codes
from minestream.system.threads import Workers

ROWS, BLOBS = 5_000, 50
SCREENS = sorted(host_tiles())


def blobs(dimension: int = 24) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Rows in tight blobs, and the blob of each."""
    rng = np.random.default_rng(3)
    of = rng.integers(0, BLOBS, ROWS)
    rows = 4 * rng.standard_normal((BLOBS, dimension))[of] + 0.3 * rng.standard_normal((ROWS, dimension))
    return rows.astype(np.float32), of


@contextmanager
def coded(vectors: np.ndarray[Any, Any], screen: str, threads: int = 2) -> Iterator[tuple[Codes, Workers]]:
    with (
        closing(Workers(threads)) as workers,
        closing(Codes(loaded_rows(vectors, "euclidean"), screen, workers, threads, 2**30, Path("."))) as codes,
    ):
        yield codes, workers


@pytest.mark.parametrize("screen", SCREENS)
def test_every_row_is_in_the_cell_of_its_nearest_centre(screen: str) -> None:
    """By the centres themselves: of the rows of a cell none is much nearer to the mean of another."""
    vectors, _ = blobs()
    with coded(vectors, screen) as (codes, workers):
        cell = cells_of(codes, workers, 2, 1_000)
        rows = cells.values_of(codes, np.arange(ROWS))
    count = int(cell.max()) + 1
    assert 30 < count <= 70  # the square root of the rows
    means = np.stack([rows[cell == each].mean(axis=0) for each in np.unique(cell)])
    _, cell = np.unique(cell, return_inverse=True)
    apart = np.square(rows[:, None] - means[None]).sum(axis=2)
    own, least = apart[np.arange(ROWS), cell], apart.min(axis=1)
    assert (own <= 1.5 * least + 1e-9).mean() > 0.95


def test_turns_bring_rows_nearer_to_their_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    vectors, _ = blobs()

    def spread() -> float:
        with coded(vectors, SCREENS[0]) as (codes, workers):
            cell = cells_of(codes, workers, 2, 1_000)
        return sum(float(np.square(some - some.mean(axis=0)).sum()) for some in (vectors[cell == c] for c in set(cell)))

    near = spread()
    monkeypatch.setattr(cells, "TURNS", 0)
    assert near < 0.9 * spread()


@pytest.mark.parametrize("screen", SCREENS)
def test_cells_are_the_same_for_any_threads_and_found_once(screen: str) -> None:
    vectors, _ = blobs()
    found = []
    for threads in (1, 2, 3):
        with coded(vectors, screen, threads) as (codes, workers):
            found.append(cells_of(codes, workers, threads, 700 * threads))
            assert cells_of(codes, workers, threads, 700 * threads) is found[-1]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_cells_next_to_each_other_are_near() -> None:
    """Centres on a line come in its order, in one direction or the other within each half."""
    line = np.random.default_rng(0).permutation(64)
    order = cells.in_line(np.stack([line, np.zeros(64)], axis=1).astype(float))
    assert sorted(order.tolist()) == list(range(64))
    assert np.abs(np.diff(line[order])).mean() < 4  # 21 by chance


@pytest.mark.parametrize("kind", ["few", "equal", "zero"])
def test_rows_that_hardly_differ_have_cells_too(kind: str) -> None:
    vectors = {"few": np.ones((4, 3)), "equal": np.ones((40, 3)), "zero": np.zeros((9, 1))}[kind].astype(np.float32)
    with coded(vectors, SCREENS[0]) as (codes, workers):
        cell = cells_of(codes, workers, 2, 1_000)
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
    by_chance = np.random.default_rng(1).integers(0, 60, ROWS).astype(np.int32)
    monkeypatch.setattr(sweep, "cells_of", lambda *_: by_chance)
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
    monkeypatch.setattr(sweep, "cells_of", lambda *_: np.random.default_rng(1).integers(0, 60, ROWS).astype(np.int32))
    assert 3 * few < survivors()
