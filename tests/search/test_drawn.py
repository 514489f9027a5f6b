"""Random positives found by their draws alone are those that the scan finds, which computes every distance."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minestream
from minestream.search import drawn, search

ROWS = 700


def world(seed: int) -> dict[str, Any]:
    """Rows of few labels, one of them large, some without a label, some rows twice or in one direction."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(ROWS, 5)).astype(np.float32)
    vectors[100:200], vectors[300:350] = vectors[:100], 2 * vectors[:50]
    labels = np.where(rng.random(ROWS) < 0.7, 3, rng.integers(0, 40, ROWS)).astype(object)
    labels[rng.random(ROWS) < 0.05] = None
    return {"embeddings": vectors, "labels": labels.tolist()}


@pytest.mark.parametrize("options", [
    {}, {"positives_per_anchor": 4}, {"positives_per_anchor": 900}, {"keep_duplicate_positives": True},
    {"groups": True, "positives_per_anchor": 3}, {"exclude": True}, {"metric": "euclidean", "margin": 0.5},
    {"anchors": "10%"}, {"normalize": True},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("together", [1, 7, 256])
def test_draws_find_what_the_scan_finds(
    options: dict[str, Any], together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, taken = world(len(str(options))) | {"progress": "none", "positives": "random"} | options, []
    if given.pop("groups", False):
        given["groups"] = (np.arange(ROWS) // 3).tolist()
    if given.pop("exclude", False):
        given["exclude"] = [(row, (row * 7 + 1) % ROWS) for row in range(ROWS)]
    monkeypatch.setattr(drawn, "TOGETHER", together)
    monkeypatch.setattr(drawn, "TASK_DRAWS", 5_000)
    monkeypatch.setattr(search, "search_draws", lambda *all: taken.append(1) or drawn.search_draws(*all))
    found = minestream.mine_arrays(**given, screen="f32").table()
    assert taken
    assert found.equals(minestream.mine_arrays(**given, screen="scan").table())


@pytest.mark.parametrize("options", [
    {"positives": "easiest"}, {"positives": "all"}, {"drop_duplicates_within": 0.05, "positives": "random"},
    {"positives": "random", "qrels": [(0, 1), (0, 2), (5, 9)]},
], ids=str)  # fmt: skip
def test_where_distances_decide_the_search_computes_them(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "search_draws", None)
    minestream.mine_arrays(**world(1), **options, screen="f32", progress="none")
