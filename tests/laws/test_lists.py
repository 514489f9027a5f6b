"""Lists hold what the reference gives, for whole tables and for two."""

from __future__ import annotations

from typing import Any

import pytest
from retrieval import assert_task_agrees, make_task
from support import assert_sides_agree
from worlds import WORLDS

from minestream import reference
from minestream.outputs import lists

OPTIONS: list[dict[str, Any]] = [
    {},
    {"negatives": 4, "positives": "all", "drop_duplicates_within": 0.3, "list_ids": True},
    {"negatives": 9, "positives": "hardest", "positives_per_anchor": 2, "drop_duplicates_of": "anchor"},
    {"negatives": 5, "metric": "euclidean", "positives": "all", "list_precision": "float16"},
    {
        "negatives": 40,
        "drop_duplicates_within": None,
        "positives": "random",
        "positives_per_anchor": 5,
        "list_precision": "float32",
    },
]
NAMES = ["duplicates", "twins", "multi_label", "strings", "grouped"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_lists_of_one_table(name: str, options: dict[str, Any]) -> None:
    world = WORLDS[name]()
    if options.get("metric", "cosine") in world.metrics:
        assert assert_sides_agree(world, emit="lists", **options)


@pytest.mark.parametrize("options", OPTIONS[1:4], ids=str)
def test_the_nearest_of_longer_lists(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (lists, reference):
        monkeypatch.setattr(module, "NEAREST", 3)
    assert assert_sides_agree(WORLDS["duplicates"](), emit="lists", **options)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("labels", [None, "single", "several"])
def test_lists_of_listed_positives(seed: int, labels: str | None) -> None:
    task = make_task(seed, two_tables=seed % 2 == 0, known=True, labels=labels)
    for options in OPTIONS:
        assert_task_agrees(task, {"emit": "lists", **options, "list_ids": True})
