"""Which positives are taken: duplicates of the anchor only while there is no other, at the threshold itself, too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from support import assert_sides_agree
from worlds import World

import minestream
from minestream.cli.main import main

DIGITS = Path(minestream.__file__).parent / "data" / "digits.parquet"

OF_LINE: dict[str, Any] = {"metric": "euclidean", "band": "any"}
LISTED = [(0, 1), (0, 2)]


def mined(points: list[float], labels: list[str] | None, **options: Any) -> minestream.Mined:
    """Points on a line."""
    return minestream.mine_arrays(np.array(points, np.float32)[:, None], labels, **OF_LINE, **options)


@pytest.mark.parametrize(("within", "positive"), [(0.5, 1), (1.0, 2), (2.5, 1), (9.0, 1)])
@pytest.mark.parametrize("labels", [["a", "a", "a", "b"], None], ids=["labels", "a list"])
def test_a_positive_at_the_threshold_is_passed_over_while_there_is_another(
    labels: list[str] | None, within: float, positive: int
) -> None:
    """Of 1.0 and 2.5 around the anchor at 0.0; where both are too near, the nearer one is taken."""
    given: dict[str, Any] = {"positives": "easiest", "drop_duplicates_within": within, "drop_duplicates_of": "positive"}
    known = {} if labels else {"qrels": LISTED}
    rows = mined([0.0, 1.0, 2.5, 20.0], labels, **given, **known).table()
    assert [
        p for a, p in zip(rows["anchor_row"].to_pylist(), rows["positive_row"].to_pylist(), strict=True) if not a
    ] == [positive]


@pytest.mark.parametrize(("within", "counted"), [(0.5, 0), (1.0, 2), (1.5, 2), (0.0, 0)])
@pytest.mark.parametrize("labels", [["a", "a", "b"], None], ids=["labels", "a list"])
def test_positives_taken_for_want_of_another_are_counted(labels: list[str] | None, within: float, counted: int) -> None:
    known = {} if labels else {"qrels": LISTED[:1]}
    rule: dict[str, Any] = {"positives": "easiest", "drop_duplicates_of": "positive", "drop_duplicates_within": within}
    assert mined([0.0, 1.0, 20.0], labels, **rule, **known).stats.duplicate_positives == counted


def test_multiples_of_the_anchor_are_its_duplicates_and_taken_for_want_of_others() -> None:
    """They have one direction, and by rounding alone a distance that is not 0."""
    directions = np.random.default_rng(3).standard_normal((40, 24)).astype(np.float32).astype(np.float64)
    rows = np.concatenate([directions * times for times in (1, 3, 7)])  # exact
    world = World(rows, [*range(40)] * 3, list(range(120)))
    for count in (1, 2, 5):
        assert assert_sides_agree(world, positives="easiest", positives_per_anchor=count, band="any")
    found = minestream.mine_arrays(rows, world.labels, positives_per_anchor=2, band="any", float64=True)
    assert found.stats.duplicate_positives == 240
    assert max(found.table()["distance_ap"].to_pylist()) > 0.0, "no multiple differs, so nothing was tested"


FUNNEL: dict[str, tuple[dict[str, Any], dict[str, int]]] = {
    "similarity": ({"min_positive_similarity": 0.5}, {"under_min_positive": 2, "lost_every_positive": 1}),
    "both": ({"min_positive_similarity": 0.5, "max_positive_similarity": 0.9},
             {"under_min_positive": 2, "over_max_positive": 2, "lost_every_positive": 2}),
    "rank": ({"max_positive_rank": 1}, {"beyond_max_rank": 3, "lost_every_positive": 1}),
    "none": ({"rank_positives": 3}, {}),
}  # fmt: skip


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("name", FUNNEL)
def test_anchors_that_lose_positives_are_counted(name: str, listed: bool) -> None:
    """Three queries, with positives of similarities .95 and .3, .95 and .6, .4 and .2, and another row at .35."""
    queries = np.tile(np.array([[1.0, 0.0]], np.float32), (3, 1))
    similar = np.array([0.95, 0.3, 0.95, 0.6, 0.4, 0.2, 0.35])
    corpus = np.stack([similar, np.sqrt(1 - similar**2)], axis=1).astype(np.float32)
    owners = [0, 0, 1, 1, 2, 2]
    how: dict[str, Any] = {"qrels": [(owner, row) for row, owner in enumerate(owners)]}
    if not listed:
        how = {"labels": [0, 1, 2], "corpus_labels": [*owners, 9], "positives": "all", "band": "any"}
    options, expected = FUNNEL[name]
    found = minestream.mine_arrays(queries, corpus=corpus, **how, **options)
    counted = {key: value for key, value in found.stats.to_dict().items() if key in COUNTERS and value}
    assert counted == expected


COUNTERS = ("under_min_positive", "over_max_positive", "beyond_max_rank", "lost_every_positive")


def test_the_report_says_who_lost_positives(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    command = ["mine", str(DIGITS), "-o", str(tmp_path / "o.parquet"), "--max-positive-rank", "1"]
    assert main([*command, "--min-positive-similarity", "0.95"]) == 0
    told = capsys.readouterr().out
    assert "turned down  1,797 of the 1,797 anchors have positives that --min-positive-similarity turns down" in told
    lost = pq.read_metadata(tmp_path / "o.parquet").num_rows
    assert f"left out     {1_797 - lost:,} anchors: none of their positives passes" in told
    assert main(["describe", str(tmp_path / "o.parquet")]) == 0
    assert f"{1_797 - lost:,} anchors: none of their positives passes" in capsys.readouterr().out
    assert main([*command, "--min-positive-similarity", "1", "--overwrite"]) == 0
    told = capsys.readouterr().out
    assert "no rows      no positive passes --band semi-hard and --min-positive-similarity 1.0" in told


def ranks_of(rows: list[list[float]], labels: list[str], **options: Any) -> dict[int, int]:
    """The positives of row 0, with their ranks."""
    found = minestream.mine_arrays(
        np.array(rows, np.float32), labels, band="any", positives="all", rank_positives=9, negatives=9, **options
    ).table()
    columns = (found[name].to_pylist() for name in ("anchor_row", "positive_row", "positive_rank"))
    return {positive: rank for anchor, positive, rank in zip(*columns, strict=True) if anchor == 0}


def test_duplicates_of_the_anchor_have_ranks_where_they_are_negatives() -> None:
    rows, labels = [[1.0, 0.0], [0.8, 0.6], [2.0, 0.0], [0.9, 0.1], [0.0, 1.0]], ["a", "a", "b", "c", "c"]
    assert ranks_of(rows, labels) == {1: 2}
    for options in ({"drop_duplicates_of": "positive"}, {"drop_duplicates_within": None}):
        assert ranks_of(rows, labels, **options) == {1: 3}
    assert ranks_of(rows, labels, drop_duplicates_within=0.05) == {1: 1}


@pytest.mark.parametrize("positives", ["easiest", "random"])
@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("length", [1.0, 3.0])
def test_a_duplicate_that_is_turned_down_is_not_taken_for_want_of_another(
    positives: str, listed: bool, length: float
) -> None:
    """Rows 1 and 2 equal the anchor and a multiple of it, row 3 lies at 0.02, and all within 0.1 of it."""
    rows = np.array([[1.0, 0.0], [1.0, 0.0], [length, 0.0], [0.98, 0.199], [0.0, 1.0]], np.float32)
    how: dict[str, Any] = {"qrels": [(0, 1), (0, 2), (0, 3)]} if listed else {"labels": ["a", "a", "a", "a", "b"]}

    def taken(**options: Any) -> set[int]:
        given = {"positives_per_anchor": 3, "positives": positives, "band": "any", "drop_duplicates_of": "anchor"}
        found = minestream.mine_arrays(rows, **how, **given, **options)
        return set(found.positive[found.anchor == 0].tolist())

    assert taken() == {1, 2, 3}
    assert taken(max_positive_similarity=0.99) == {3}
    assert taken(max_positive_similarity=0.9) == set()
    assert taken(min_positive_similarity=0.99) == {1, 2}
    within = {"drop_duplicates_within": 0.1}
    assert taken(**within) == {1, 2, 3}
    assert taken(min_positive_similarity=0.99, **within) == {1, 2}
    assert taken(max_positive_similarity=0.99, **within) == {3}
