"""Where rules of the contract (guide/semantics.md) meet, by hand: product and reference, one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import reference_rules

import minestream
from minestream import reference
from minestream.config.resolve import split_options
from minestream.errors import GateMissedError

SIDES = ("product", "reference")
Rows = list[tuple[int, ...]]


def mined(side: str, points: list[float], labels: list[Any] | None, **options: Any) -> dict[str, list[Any]]:
    """Columns of points on a line, Euclidean, duplicates kept."""
    return counted(side, points, labels, **options)[0]


def counted(
    side: str, points: list[float], labels: list[Any] | None, **options: Any
) -> tuple[dict[str, list[Any]], dict[str, int]]:
    """The same with the counts."""
    rows = np.array(points, np.float32)[:, None]
    options = {"metric": "euclidean", "drop_duplicates_within": "none", "band": "any", **options}
    if side == "product":
        found = minestream.mine_arrays(rows, labels, **options)
        return dict(found.table().to_pydict()), found.stats.answer()
    known = options.get("qrels")
    config, *_ = split_options(options)
    rules = reference_rules(config)
    derived = reference.mine(rows, labels=labels, known_positives=known, **rules)
    return derived.columns, derived.counts


def triplets(columns: dict[str, list[Any]]) -> Rows:
    """Anchor, positive and negative of every row."""
    names = ("anchor_row", "positive_row", "negative_row")
    return list(zip(*(columns[name] for name in names), strict=True))


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
@pytest.mark.parametrize("short_rows", ["keep", "drop"])
def test_an_anchor_with_all_rows_that_it_may_have_is_not_short(
    side: str, max_uses: int | None, short_rows: str
) -> None:
    """Each of the three anchors has two positives, with three negatives each: below the k of 5."""
    points, labels = [0.0, 1.0, 1.5, 2.0, 3.0, 4.0], ["a", "a", "a", "b", "c", "d"]
    given: dict[str, Any] = {"positives": "all", "negatives": 5, "short_rows": short_rows, "max_uses": max_uses}
    for most, full in ((4, 6), (6, 6), (7, 0)):
        found, counts = counted(side, points, labels, **given, negatives_per_anchor=most)
        assert (counts["full"], counts["short"], counts["empty"]) == (full, 6 - full, 0)
        rows = [row for row in triplets(found) if row[0] == 0]
        assert len(rows) == (most if full else 0 if short_rows == "drop" else 6)


def test_gates_reports_and_exports_call_a_pair_short_where_the_rules_could_give_more(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = {"embedding": rng.standard_normal((12, 3)).astype(np.float32).tolist(), "label": [0, 1] * 5 + [2, 2]}
    pq.write_table(pa.table(table), tmp_path / "in.parquet")
    given: dict[str, Any] = {"negatives": 9, "band": "any", "progress": "none", "overwrite": True}
    out = tmp_path / "m.parquet"
    report = minestream.mine(tmp_path / "in.parquet", out, negatives_per_anchor=7, max_short="0%", **given)
    assert (report.stats.full, report.stats.short) == (12, 0)
    assert not any("fewer than" in note for note in report.notes)
    assert minestream.verify(out)["differences"] == []
    exported = minestream.export(out, tmp_path / "e.trec", emit="trec")
    assert (exported["negatives"], exported["short"]) == (7, 0)
    report = minestream.mine(tmp_path / "in.parquet", out, negatives_per_anchor=8, **given)
    assert any("10 of the 12 anchors (83.3 %) have fewer than 8 negatives" in note for note in report.notes)
    with pytest.raises(GateMissedError):
        minestream.mine(tmp_path / "in.parquet", tmp_path / "g", negatives_per_anchor=8, max_short="0%", **given)


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
