"""Where rules of the contract (guide/semantics.md) meet, by hand: product and reference, one after the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support import reference_rules

import minestream
from minestream import reference
from minestream.config.resolve import split_options

SIDES = ("product", "reference")
Rows = list[tuple[int, ...]]


def mined(side: str, points: list[float], labels: list[Any] | None, **options: Any) -> dict[str, list[Any]]:
    """Columns of points on a line, Euclidean, duplicates kept."""
    rows = np.array(points, np.float32)[:, None]
    options = {"metric": "euclidean", "drop_duplicates_within": "none", "band": "any", **options}
    if side == "product":
        return dict(minestream.mine_arrays(rows, labels, **options).table().to_pydict())
    known = options.get("qrels")
    config, *_ = split_options(options)
    rules = reference_rules(config)
    return reference.mine(rows, labels=labels, known_positives=known, **rules).columns


def triplets(columns: dict[str, list[Any]]) -> Rows:
    """Anchor, positive and negative of every row."""
    names = ("anchor_row", "positive_row", "negative_row")
    return list(zip(*(columns[name] for name in names), strict=True))


@pytest.mark.parametrize("side", SIDES)
def test_unlabelled_rows_beside_listed_positives(side: str) -> None:
    points, labels = [0.0, 1.0, 2.0, 3.0], ["a", "b", None, None]
    given: dict[str, Any] = {"qrels": [(0, 2)], "positives": "all", "negatives": 9}
    assert triplets(mined(side, points, labels, **given)) == [(0, 2, 1), (2, 0, 1)]
    every = triplets(mined(side, points, labels, unlabeled="negative", **given))
    assert every == [(0, 2, 1), (0, 2, 3), (2, 0, 1), (2, 0, 3)]
    assert triplets(mined(side, points, None, **given)) == every


@pytest.mark.parametrize("side", SIDES)
def test_labels_beside_listed_positives(side: str) -> None:
    points, labels = [0.0, 1.0, 2.0, 4.0], ["a", "b", "b", "a"]
    given: dict[str, Any] = {"qrels": [(0, 2)], "positives": "all", "negatives": 9}
    found = triplets(mined(side, points, labels, **given))
    assert found == [(0, 2, 1), (0, 3, 1), (1, 2, 0), (1, 2, 3), (2, 0, 3), (2, 1, 3), (3, 0, 2), (3, 0, 1)]
    assert triplets(mined(side, points, None, **given)) == [(0, 2, 1), (0, 2, 3), (2, 0, 1), (2, 0, 3)]


@pytest.mark.parametrize("side", SIDES)
def test_positives_equal_to_the_anchor_fill_up(side: str) -> None:
    points, labels = [0.0, 0.0, 0.0, 5.0, 9.0], ["a", "a", "a", "a", "b"]
    given: dict[str, Any] = {"drop_duplicates_within": 0.0, "positives": "easiest"}
    for count, rows in ((1, [3]), (2, [3, 1]), (3, [3, 1, 2]), (9, [3, 1, 2])):
        found = triplets(mined(side, points, labels, positives_per_anchor=count, **given))
        assert [p for a, p, _ in found if a == 0] == rows


@pytest.mark.parametrize("side", SIDES)
def test_no_label_has_more_anchors_than_asked_for(side: str) -> None:
    labels = [["x"], ["x", "y"], ["y"], ["x", "y"], ["z"], ["z", "x"]]
    for seed in range(8):
        rows = set(mined(side, [*map(float, range(6))], labels, anchors_per_label=1, seed=seed)["anchor_row"])
        named = [label for row in rows for label in labels[row]]
        assert len(named) == len(set(named))
        assert set(named) >= {"x"} or set(named) >= {"y", "z"}


@pytest.mark.parametrize("side", SIDES)
def test_a_share_of_the_anchors_is_of_what_is_left_and_rounds_up(side: str) -> None:
    points, labels = [*map(float, range(20))], [row % 2 for row in range(20)]
    for share, count in (("34%", 3), ("50%", 3), ("1%", 1), ("100%", 6)):
        found = mined(side, points, labels, anchors_per_label=3, anchors=share)
        assert len(set(found["anchor_row"])) == count


@pytest.mark.parametrize("side", SIDES)
def test_unlabelled_negatives_are_not_capped(side: str) -> None:
    points, labels = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0], ["a", "a", "b", "b", None, None, "c"]
    given: dict[str, Any] = {"unlabeled": "negative", "max_per_negative_label": 1, "negatives": 9, "anchors": None}
    found = mined(side, points, labels, **given)
    assert [n for a, _, n in triplets(found) if a == 0] == [2, 4, 5, 6]
    assert set(found["harder"]) == {None}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("short_rows", ["keep", "drop"])
def test_short_is_judged_before_the_anchor_deals(side: str, short_rows: str) -> None:
    points, labels = [0.0, 1.0, 1.5, 2.0, 3.0], ["a", "a", "a", "b", "c"]
    given: dict[str, Any] = {"positives": "all", "negatives": 2, "negatives_per_anchor": 3, "short_rows": short_rows}
    found = mined(side, points, labels, **given)
    assert [row for row in triplets(found) if row[0] == 0] == [(0, 1, 3), (0, 1, 4), (0, 2, 3)]
    assert set(found["harder"]) == {None}


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("max_uses", [None, 9])
def test_tuples_without_any_negative(side: str, max_uses: int | None) -> None:
    """Beyond the positive at 4 of anchor 0 there is none."""
    points, labels = [0.0, 1.0, 4.0, 2.0, 3.0], ["a", "a", "a", "b", "c"]
    given: dict[str, Any] = {"emit": "tuples", "positives": "all", "negatives": 3, "band": "beyond", "margin": 1.0}
    given |= {"scores": "negative-distance", "max_uses": max_uses}
    kept = mined(side, points, labels, short_rows="keep", **given)
    first = [place for place, row in enumerate(kept["anchor_row"]) if row == 0]
    assert [kept["negative_rows"][place] for place in first] == [[3, 4], []]
    assert [kept["scores"][place] for place in first] == [[-1.0, -2.0, -3.0], [-4.0]]
    assert [kept["losses"][place] for place in first] == [[0.0, 0.0], []]
    assert mined(side, points, labels, short_rows="drop", **given)["anchor_row"] == []


def test_tuples_without_any_negative_have_carried_lists() -> None:
    vectors = pa.FixedSizeListArray.from_arrays(pa.array([0.0, 1.0, 4.0, 2.0, 3.0], pa.float32()), 1)
    table = pa.table({"embedding": vectors, "label": ["a", "a", "a", "b", "c"], "t": [*"vwxyz"]})
    given: dict[str, Any] = {"emit": "tuples", "positives": "all", "band": "beyond", "metric": "euclidean"}
    given |= {"scores": "none", "drop_duplicates_within": "none", "negatives": 3, "short_rows": "keep", "carry": "t"}
    rows = minestream.mine_batches(table, **given).read_all().to_pylist()
    found = [(row["positive_t"], row["negative_ts"]) for row in rows if row["anchor_row"] == 0]
    assert found == [("w", ["y", "z"]), ("x", [])]


@pytest.mark.parametrize("float64", [False, True])
def test_scores_are_stored_like_distances(float64: bool) -> None:
    rows = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    table = minestream.mine_arrays(rows, [row % 2 for row in range(20)], emit="tuples", float64=float64).table()
    kind = pa.float64() if float64 else pa.float32()
    assert table.schema.field("scores").type == table.schema.field("losses").type == pa.list_(kind)
