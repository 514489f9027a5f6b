"""Several teachers: what each finds is what its embedding alone gives, and what they agree on is what is taken."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from assertions import assert_same_rows
from support import SCREENS, in_turns, reference_rules

import minestream
from minestream import reference
from minestream.cli.main import main
from minestream.config.resolve import split_options
from minestream.errors import InputError, UsageError

ROWS, OF_CORPUS = 90, 70


def vectors(rows: np.ndarray[Any, Any]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])


def table(seed: int, rows: int = ROWS, prefix: str = "r") -> pa.Table:
    """Three embeddings of one thing, of several widths and types; rows that are equal in one of them only."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 6, rows)
    thing = np.random.default_rng(1).normal(size=(6, 12))[label] + 0.9 * rng.normal(size=(rows, 12))
    a, b, c = (thing @ np.random.default_rng(width).normal(size=(12, width)) for width in (6, 9, 4))
    a[10:16], b[40:44] = a[:6], b[30:34]
    ids = [f"{prefix}{number}" for number in rng.permutation(rows)]
    columns = {"a": vectors(a.astype(np.float32)), "b": vectors(b), "c": vectors(c.astype(np.float16))}
    return pa.table({"id": ids, "label": label, **columns})


def rows_of(column: pa.ChunkedArray) -> np.ndarray[Any, Any]:
    whole = column.combine_chunks()
    return np.asarray(whole.flatten()).reshape(len(whole), -1)


def expected(tables: list[pa.Table], names: list[str], **options: Any) -> dict[str, list[Any]]:
    """What the reference gives of one table, or of queries and a corpus."""
    corpus = {"corpus": "c"} if len(tables) > 1 else {}
    config, _, _ = split_options({"embedding": names, **corpus, **options})
    rules = reference_rules(config) | ({"corpus": rows_of(tables[1][names[0]])} if corpus else {})
    for prefix, each in zip(("", "corpus_"), tables, strict=False):
        rules |= {f"{prefix}labels": each["label"].to_pylist(), f"{prefix}ids": each["id"].to_pylist()}
        rules |= {f"{prefix}guide": rows_of(each[options["guide"]])} if "guide" in options else {}
    others = {name: [rows_of(each[name]) for each in tables] for name in names[1:]}
    return reference.mine(rows_of(tables[0][names[0]]), name=names[0], others=others, **rules).columns


def mined(tables: list[pa.Table], **options: Any) -> pa.Table:
    corpus = {"corpus": tables[1]} if len(tables) > 1 else {}
    given = {"label": "label", "id": "id", "threads": 2, **corpus, **options}
    return minestream.mine_batches(tables[0], **given).read_all()


RULES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tuples": {"emit": "tuples", "short_rows": "keep", "band": "any", "float64": True},
    "tuples that are full": {"emit": "tuples", "band": "any", "negatives": 2, "teachers": "union"},
    "filters from the mean": {"relative_margin": 0.1, "reference": "mean", "band": "any", "positives": "hardest"},
    "guide": {"guide": "c", "absolute_margin": 0.05, "band": "any", "positives": "all"},
    "draws": {"pick": "random", "skip": 2, "band": "any", "positives": "random", "positives_per_anchor": 2},
    "weighted": {"pick": "weighted", "band": "any"},
    "caps": {"max_per_negative_label": 1, "band": "any", "negatives_per_anchor": 4, "positives": "all"},
    "ranks": {"within_top": 9, "pick": "random", "band": "any"},
    "near duplicates": {"drop_duplicates_within": 0.05, "band": "any"},
    "every duplicate": {"drop_duplicates_within": None, "band": "any", "swap": True, "margin": 0.3},
    "Euclid": {"metric": "euclidean", "margin": 1.5, "positives": "hardest", "band": "any"},
    "dot": {"metric": "dot", "band": "beyond", "positives": "all", "anchors_per_label": 3},
    "normalised": {"metric": "sqeuclidean", "normalize": True, "margin": 0.5},
}


@in_turns(name=RULES, screen=SCREENS)
def test_teachers_agree_as_the_reference_says(name: str, screen: str) -> None:
    number = list(RULES).index(name)
    teachers = ("union", "all", "majority")[(number + SCREENS.index(screen)) % 3]
    options = {"negatives": 9, "teachers": teachers, **RULES[name]}
    tables = [table(number), table(number + 100, OF_CORPUS, "c")][: 1 + number % 2]
    want = expected(tables, ["a", "b", "c"], **options)
    assert_same_rows(want, mined(tables, embedding=["a", "b", "c"], screen=screen, **options))
    assert len(want["found_by"]) > 0


def by_pair(found: pa.Table, teacher: str | None = None) -> dict[tuple[int, int], Counter[int]]:
    """The negatives of every pair, or those that a teacher found."""
    pairs: dict[tuple[int, int], Counter[int]] = defaultdict(Counter)
    for row in found.to_pylist():
        if teacher is None or teacher in row["found_by"]:
            pairs[row["anchor_row"], row["positive_row"]][row["negative_row"]] += 1
    return pairs


@pytest.mark.parametrize("more", [{}, {"band": "any", "relative_margin": 0.1}, {"pick": "random", "skip": 1}])
def test_each_teacher_finds_what_its_embedding_alone_gives(more: dict[str, Any]) -> None:
    options = {"positives": "all", "negatives": 3, "drop_duplicates_within": None, **more}
    union = mined([table(5)], embedding=["a", "b", "c"], **options)
    for name in ("a", "b", "c"):
        assert by_pair(union, name) == by_pair(mined([table(5)], embedding=name, **options))


def test_the_modes_take_what_their_number_of_teachers_found() -> None:
    taken = {mode: by_pair(mined([table(5)], embedding=["a", "b", "c"], negatives=5, teachers=mode, band="any"))
             for mode in ("union", "all", "majority")}  # fmt: skip
    union = mined([table(5)], embedding=["a", "b", "c"], negatives=5, band="any").to_pylist()
    votes = {(row["anchor_row"], row["positive_row"], row["negative_row"]): len(row["found_by"]) for row in union}
    for mode, least in (("union", 1), ("all", 3), ("majority", 2)):
        kept = {(*pair, row) for pair, rows in taken[mode].items() for row in rows}
        assert kept == {key for key, count in votes.items() if count >= least}


# ---------------------------------------------------------------- tables of their own


def own(one: pa.Table, name: str, seed: int = 0) -> pa.Table:
    """An embedding and its ids, in another order and with rows of nobody."""
    extra = one.slice(0, 3).set_column(0, "id", pa.array(["x1", "x2", "x3"]))
    both = pa.concat_tables([one, extra]).select(["id", name])
    return both.take(pa.array(np.random.default_rng(seed).permutation(len(both))))


@pytest.mark.parametrize("two", [False, True])
def test_an_embedding_may_lie_in_a_table_joined_by_id(two: bool) -> None:
    tables = [table(3), table(4, OF_CORPUS, "c")][: 1 + two]
    plain = mined(tables, embedding=["a", "b"], negatives=3)
    without = [each.drop_columns(["b", "c"]) for each in tables]
    beside = {"b": [own(each, "b") for each in tables]}
    assert mined(without, embedding_table=beside, negatives=3).equals(plain)
    assert mined(without, embedding=["a", "b"], embedding_table=beside, negatives=3, memory="16MiB").equals(plain)


def test_rows_that_the_table_lacks_are_refused_or_left_out(tmp_path: Path) -> None:
    one = table(3)
    beside = own(one, "b").filter(pa.array([number % 9 > 0 for number in range(ROWS + 3)]))
    lost = sorted({*one["id"].to_pylist()} - {*beside["id"].to_pylist()})
    options = {"label": "label", "id": "id", "embedding": "a", "embedding_table": {"b": beside}}
    with pytest.raises(InputError, match=f"{len(lost)} rows have no vector there"):
        minestream.mine(one, tmp_path / "o.parquet", **options)
    report = minestream.mine(one, tmp_path / "o.parquet", on_bad_rows="drop", negatives=2, **options)
    assert report.source["dropped"] == {"no embedding b": len(lost)}
    kept = one.filter(pa.array([name not in lost for name in one["id"].to_pylist()]))
    found = pq.read_table(tmp_path / "o.parquet")
    again = mined([kept], embedding=["a", "b"], negatives=2)
    names = ["anchor_id", "positive_id", "negative_id", "found_by", "similarity_b"]
    assert found.select(names).equals(again.select(names))


@pytest.mark.parametrize(
    ("beside", "more", "message"),
    [
        ({"b": [table(3), table(3)]}, {}, "is given 2 times"),
        ({"b": table(3).drop_columns(["id"])}, {}, "no ids to join it by"),
        ({"b": pa.concat_tables([table(3)] * 2)}, {"dims": 2}, "ids stand in more than one row"),
        ({"b": table(3)}, {"id": None}, "joined by id"),
        ({"a": table(3)}, {}, "names each embedding|is the first embedding and another one"),
        ("b.parquet", {}, "takes NAME=TABLE, not 'b.parquet'"),
    ],
)
def test_tables_that_do_not_fit_are_refused(beside: Any, more: dict[str, Any], message: str) -> None:
    one = table(3) if more.get("id", "") is not None else table(3).drop_columns(["id"])
    with pytest.raises((UsageError, InputError), match=message):
        mined([one], embedding="a", embedding_table=beside, **more)


def test_what_looks_at_one_embedding_says_so() -> None:
    with pytest.raises(UsageError, match="profile looks at one embedding, and embedding names 2"):
        minestream.profile(table(3), embedding=["a", "b"])
    with pytest.raises(UsageError, match="Miner looks at one embedding"):
        minestream.Miner(32, embedding=["a", "b"])
    with pytest.raises(InputError, match="no column 'z'"):
        mined([table(3)], embedding=["a", "z"])


def test_rows_whose_other_vector_is_bad_take_no_part() -> None:
    one = table(3)
    bad = rows_of(one["b"]).copy()
    bad[::7] = np.nan
    spoiled = one.set_column(one.schema.names.index("b"), "b", vectors(bad))
    with pytest.raises(InputError, match="not finite"):
        mined([spoiled], embedding=["a", "b"])
    found = mined([spoiled], embedding=["a", "b"], on_bad_rows="drop", negatives=2)
    assert not {*found["anchor_row"].to_pylist(), *found["negative_row"].to_pylist()} & {*range(0, ROWS, 7)}


# ---------------------------------------------------------------- a whole run


def test_the_command_line_mines_verifies_and_cuts_into_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    one = table(8, 400)
    pq.write_table(one.drop_columns(["b"]), "one.parquet")
    pq.write_table(own(one, "b"), "b.parquet")
    asked = ["one.parquet", "--embedding", "a", "--embedding", "c", "--embedding-table", "b=b.parquet", "-k", "4"]
    asked += ["--teachers", "majority", "--band", "any", "--emit", "tuples", "--short-rows", "keep"]
    assert main(["mine", *asked, "-o", "o.parquet"]) == 0
    assert (
        "teachers   a, c, b: of each 4 a pair, majority: what more than half of them found" in capsys.readouterr().out
    )
    assert main(["verify", "o.parquet", "--sample", "30"]) == 0
    assert main(["describe", "o.parquet"]) == 0
    assert main(["repeat", "o.parquet", "-o", "again.parquet", "-q"]) == 0
    for shard in ("1/2", "2/2"):
        assert main(["mine", *asked, "-o", "o2.parquet", "--shard", shard, "-q"]) == 0
    assert main(["merge", "o2.parquet", "-q"]) == 0
    assert main(["mine", *asked, "-o", "o3.parquet", "-q", "--memory", "16MiB", "--threads", "1"]) == 0
    whole = Path("o.parquet").read_bytes()
    assert [Path(name).read_bytes() == whole for name in ("again.parquet", "o2.parquet", "o3.parquet")] == [True] * 3
    assert main(["mine", *asked, "-o", "o.parquet", "--resume", "-q"]) == 0
    changed = own(table(9, 400), "b")
    pq.write_table(changed, "b.parquet")
    assert main(["verify", "o.parquet"]) == 3


def test_refilter_keeps_what_teachers_say_of_each_negative(tmp_path: Path) -> None:
    options = {"label": "label", "id": "id", "embedding": ["a", "b"], "negatives": 3, "band": "any", "progress": "none"}
    for emit in ("triplets", "tuples"):
        minestream.mine(table(2), tmp_path / f"{emit}.parquet", emit=emit, short_rows="keep", **options)
    rows = pq.read_table(tmp_path / "triplets.parquet")
    pairs = [
        pa.table([rows["anchor_id"], rows[end]], ["query_id", "document_id"]) for end in ("positive_id", "negative_id")
    ]
    scores = pa.concat_tables(pairs).group_by(["query_id", "document_id"]).aggregate([])
    scores = scores.append_column("score", pa.array(np.random.default_rng(0).random(len(scores))))
    kept = []
    for emit in ("triplets", "tuples"):
        out = tmp_path / f"kept {emit}.parquet"
        minestream.refilter(tmp_path / f"{emit}.parquet", out, scores=scores, negatives=1)
        kept.append(pq.read_table(out).select(["anchor_id", "negative_id", "found_by", "similarity_b"]))
    assert kept[0].equals(kept[1])
