"""Labels of several levels: a leaf is its path, and --negatives-at keeps negatives under the anchor's parent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from assertions import assert_same_rows
from support import SCREENS, reference_rules

import minestream
from minestream import reference
from minestream.config.resolve import split_options
from minestream.errors import InputError, UsageError

NAMES = ["dept", "part", "label"]
LEVELS = ",".join(NAMES)


def vectors(rows: np.ndarray[Any, Any]) -> pa.FixedSizeListArray:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def world(n: int = 500, seed: int = 3) -> pa.Table:
    """Rows of 3 depts, 4 parts and 3 leaves of the same names everywhere; nulls at every level, many equal rows."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((n, 8)).astype(np.float32)
    rows[n // 2 :] = rows[rng.integers(0, 12, n - n // 2)]

    def some(values: Any) -> pa.Array:
        return pa.array(values, mask=rng.random(n) < 0.06)

    return pa.table({
        "embedding": vectors(rows), "dept": some(rng.integers(0, 3, n)), "part": some(list(rng.choice([*"abcd"], n))),
        "label": some(rng.integers(0, 3, n)), "group": some(rng.integers(0, 20, n)),
    })  # fmt: skip


def levels_of(table: pa.Table, names: list[str]) -> dict[str, list[Any]]:
    return {name: table[name].to_pylist() for name in names}


def derived(table: pa.Table, names: list[str], corpus: pa.Table | None = None, **options: Any) -> reference.Mined:
    """What the reference gives."""

    def sides(of: pa.Table) -> dict[str, Any]:
        found = {"labels": of["label"].to_pylist(), "levels": levels_of(of, names[:-1])}
        return found | ({"groups": of["group"].to_pylist()} if options.get("group_column") else {})

    rules = reference_rules(split_options({**options, **({"corpus": corpus} if corpus else {})})[0])
    given = sides(table)
    if corpus is not None:
        given |= {f"corpus_{name}": values for name, values in sides(corpus).items()} | {"corpus": rows_of(corpus)}
    return reference.mine(rows_of(table), **given, **rules)


def rows_of(table: pa.Table) -> np.ndarray[Any, Any]:
    flat = table["embedding"].combine_chunks().flatten().to_numpy()
    return np.asarray(flat.reshape(table.num_rows, -1))


def mined(table: pa.Table, **options: Any) -> pa.Table:
    return minestream.mine_batches(table, **options).read_all()


CASES: dict[str, dict[str, Any]] = {
    "near": {"band": "any", "negatives": 4},
    "semi-hard": {"negatives": 2, "positives": "all"},
    "random": {"pick": "random", "negatives": 3, "band": "any"},
    "farthest": {"fallback": "farthest", "margin": 0.05},
    "groups": {"group_column": "group", "band": "any", "negatives": 3},
    "unlabelled": {"unlabeled": "negative", "band": "any", "negatives": 3, "drop_duplicates_within": "none"},
    "capped": {"band": "any", "negatives": 4, "max_per_negative_label": 1, "unlabeled_value": "1"},
    "tuples": {"emit": "tuples", "negatives": 2, "band": "any"},
}


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("case", CASES)
def test_rows_are_those_of_the_reference(case: str, screen: str) -> None:
    table, at = world(), {"near": "dept", "random": "dept", "unlabelled": "dept"}.get(case, "part")
    options = {**CASES[case], "label": LEVELS, "negatives_at": at}
    value = options.get("unlabeled_value")
    seen = table
    if value is not None:  # it means null at every level
        seen = table.set_column(3, "label", pa.array([None if v == 1 else v for v in table["label"].to_pylist()]))
        seen = seen.set_column(1, "dept", pa.array([None if v == 1 else v for v in table["dept"].to_pylist()]))
    assert_same_rows(derived(seen, NAMES, **options).columns, mined(table, **options, screen=screen))


@pytest.mark.parametrize("screen", ["scan", "f32"])
def test_two_tables_have_the_levels_of_both(screen: str) -> None:
    queries, corpus = world(60, 5), world(400, 6)
    corpus = corpus.set_column(1, "dept", corpus["dept"].cast(pa.int32()))  # of another type
    options: dict[str, Any] = {"label": ["dept", "label"], "negatives_at": "dept", "band": "any", "negatives": 3}
    expected = derived(queries, ["dept", "label"], corpus, **options)
    assert_same_rows(expected.columns, mined(queries, corpus=corpus, **options, screen=screen))
    with pytest.raises(InputError, match="no column 'dept'"):
        mined(queries, corpus=corpus.drop_columns(["dept"]), **options)
    odd = corpus.append_column("dept,label", corpus["label"])
    with pytest.raises(InputError, match="the labels of the queries have 2 levels, those of the corpus 1"):
        mined(queries, corpus=odd, label="dept,label")


def by_hand(**columns: Any) -> pa.Table:
    """Points on a line, at 0, 1, 2, ..."""
    points = np.arange(len(next(iter(columns.values()))), dtype=np.float32)[:, None]
    return pa.table({"embedding": vectors(points), **columns})


HAND: dict[str, Any] = {"metric": "euclidean", "band": "any", "negatives": 9, "label": "shop,kind"}


def triplets(table: pa.Table, **options: Any) -> list[tuple[int, int, int]]:
    found = mined(table, **{**HAND, **options})
    return list(zip(*(found[f"{end}_row"].to_pylist() for end in ("anchor", "positive", "negative")), strict=True))


def test_equal_leaves_under_different_parents_are_different_labels() -> None:
    table = by_hand(shop=["x", "x", "y", "y", "x"], kind=["tea", "tea", "tea", "tea", "nut"])
    assert triplets(table)[:3] == [(0, 1, 2), (0, 1, 3), (0, 1, 4)]
    assert triplets(table, negatives_at="shop") == [(0, 1, 4), (1, 0, 4)]
    found = mined(table, **HAND)
    assert found["anchor_label"].to_pylist()[:3] == ["tea"] * 3
    assert found["negative_label"].to_pylist()[:3] == ["tea", "tea", "nut"]
    assert found["shared_level"].to_pylist()[:3] == [None, None, "shop"]
    assert triplets(table, label="kind")[:1] == [(0, 1, 4)]  # of one level they are one label


def test_a_null_is_a_value_of_the_path_but_nothing_to_share() -> None:
    table = by_hand(shop=[None, None, None, "x", "x", "x"], kind=["tea", "tea", "nut", "tea", "tea", None])
    assert [row for row in triplets(table) if row[0] == 0] == [(0, 1, 2), (0, 1, 3), (0, 1, 4)]
    assert triplets(table, negatives_at="shop") == []
    assert triplets(table, negatives_at="shop", unlabeled="negative") == [(3, 4, 5), (4, 3, 5)]  # its leaf is null
    assert set(mined(table, **HAND)["shared_level"].to_pylist()) == {None}
    deep = by_hand(all=[None] * 4, shop=["x"] * 4, kind=["tea", "tea", "nut", "nut"])
    assert triplets(deep, label="all,shop,kind", negatives_at="shop") == []  # a path with a null above is unknown


@pytest.mark.parametrize("screen", SCREENS)
def test_equal_rows_of_one_parent_do_not_stand_for_those_of_another(screen: str) -> None:
    """An anchor needs few of them; those of another parent, which come first in key order, are none."""
    rows = np.array([[1.0, 0.1]] * 20 + [[1.0, 0.0]] * 2, np.float32)
    shops, kinds = ["x"] * 18 + ["y"] * 4, [None] * 20 + ["tea"] * 2
    table = pa.table({"embedding": vectors(rows), "shop": shops, "kind": kinds})
    options: dict[str, Any] = {"label": "shop,kind", "negatives_at": "shop", "unlabeled": "negative", "band": "any"}
    found = mined(table, **options, max_similarity=0.999, negatives=2, drop_duplicates_within="none", screen=screen)
    assert found["negative_row"].to_pylist() == [18, 19, 18, 19]


def test_anchors_without_a_negative_are_counted_with_the_reason(tmp_path: Path) -> None:
    table = by_hand(shop=["x", "x", "y", "y", "y", None, None], kind=["tea", "tea", "tea", "tea", "nut", "nut", "nut"])
    report = minestream.mine(table, tmp_path / "o.parquet", **HAND, negatives_at="shop")
    assert report.source["without_negative"] == {"their shop is null": 2, "no other label shares their shop": 2}
    assert report.stats.empty == 4
    assert report.to_dict()["counters"]["anchors_without_negative"] == 4
    said = "\n".join(report.notes)
    assert "no negatives: 2 anchors have none: their shop is null" in said
    assert "no negatives: 2 anchors have none: no other label shares their shop" in said
    pq.write_table(table, tmp_path / "in.parquet")
    report = minestream.mine(tmp_path / "in.parquet", tmp_path / "p.parquet", **HAND, negatives_at="shop")
    assert report.columns["label"] == "shop,kind"
    assert minestream.verify(tmp_path / "p.parquet")["rows_compared"] == 2


def test_a_column_whose_name_holds_a_comma_wins() -> None:
    table = by_hand(shop=["x", "x", "y", "y"], kind=["tea", "tea", "nut", "nut"], **{"shop,kind": [1, 2, 1, 2]})
    assert triplets(table)[0][:2] == (0, 2)
    with pytest.raises(UsageError, match="negatives_at shop is no coarser level"):
        triplets(table, negatives_at="shop")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"negatives_at": "kind"}, "is the finest level, where every negative differs"),
        ({"negatives_at": "park"}, "is no coarser level"),
        ({"label": "kind", "negatives_at": "shop"}, "is no coarser level"),
        ({"label": "shop,shop"}, "names a level twice"),
        ({"label": "shop,kind,park"}, "no column 'park'"),
        ({"label": ["shop,kind", "kind"]}, "takes the names of the levels"),
        ({"label": "tags,kind"}, "column 'tags' cannot be the level"),
        ({"window": 3}, "labels of several levels are not for window"),
    ],
)
def test_what_is_no_hierarchy_is_refused(options: dict[str, Any], message: str) -> None:
    table = by_hand(shop=["x", "x", "y"], kind=["tea", "tea", "nut"], tags=[["a"], ["b"], ["c"]])
    with pytest.raises((UsageError, InputError), match=message):
        triplets(table, **options)


def test_rows_of_other_parents_are_not_multiplied(tmp_path: Path) -> None:
    """Most of the work is saved: tiles of rows that share no parent are left out."""
    rng = np.random.default_rng(0)
    n = 6_000
    rows, leaf = rng.standard_normal((n, 16)).astype(np.float32), rng.integers(0, 100, n)
    table = pa.table({"embedding": vectors(rows), "top": leaf // 10, "label": leaf})
    computed = {}
    for at in (None, "top"):
        given: dict[str, Any] = {"label": "top,label", "negatives_at": at, "screen": "f32", "band": "any"}
        computed[at] = minestream.mine(table, tmp_path / f"{at}.parquet", **given).effort["pairs_computed"]
    assert computed["top"] < computed[None] / 4
