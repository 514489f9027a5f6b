"""Queries and a corpus, known positives, filters, guides, caps: against the reference; and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from retrieval import Task, assert_task_agrees, drawn_options, make_task
from support import SCREENS, in_turns, set_sizes

import minestream
from minestream import reference
from minestream.cli.main import main
from minestream.cli.report import report_text
from minestream.config.trainer_formats import FORMATS
from minestream.errors import InputError, MinestreamError, UsageError
from minestream.mining import pipeline
from minestream.mining.arrays import mine_arrays
from minestream.mining.batches import mine_batches
from minestream.mining.pipeline import mine
from minestream.search.constraints import AGAIN_TIMES, MORE, MORE_TIMES, MOST

KINDS = [  # two tables, known positives, labels
    (two, known, labels)
    for two in (False, True)
    for known in (False, True)
    for labels in (None, "single", "several")
    if known or labels
]


@in_turns(seed=range(12), kind=KINDS)
def test_tasks_are_mined_as_the_reference_mines_them(seed: int, kind: tuple[bool, bool, str | None]) -> None:
    task = make_task(seed, *kind)
    rng = np.random.default_rng([seed, *kind[:2]])
    for turn in range(3):
        assert_task_agrees(task, drawn_options(task, rng), (SCREENS[(seed + turn) % len(SCREENS)],))


CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "percent": {"relative_margin": 0.05},
    "margin below the farthest positive": {"absolute_margin": 0.1, "reference": "min"},
    "margin below the nearest positive": {"absolute_margin": 0.1, "reference": "max"},
    "margin below the mean": {"absolute_margin": 0.05, "reference": "mean"},
    "window": {"max_similarity": 0.8, "min_similarity": 0.0},
    "guide": {"guided": True, "absolute_margin": 0.0},
    "cap": {"max_per_negative_label": 1, "negatives": 4},
    "cap before a random pick": {"max_per_negative_label": 1, "negatives": 4, "pick": "random"},
    "skip among what the guide lets through": {"guided": True, "max_similarity": 0.5, "skip": 2, "pick": "random"},
    "ranks": {"within_top": 12, "skip": 3, "pick": "random"},
    "ranks, weighted": {"within_top": 9, "pick": "weighted", "positives": "random", "positives_per_anchor": 2},
    "cap within ranks": {"within_top": 9, "max_per_negative_label": 1, "negatives": 3},
    "ranks among what the guide lets through": {
        "guided": True,
        "max_similarity": 0.5,
        "within_top": 5,
        "skip": 1,
        "pick": "random",
    },
    "ranks among the few that the guide lets through": {
        "guided": True,
        "max_similarity": -0.4,
        "within_top": 3,
        "pick": "random",
        "negatives": 1,
    },
    "cap and guide within ranks": {"guided": True, "max_similarity": 0.5, "within_top": 8, "max_per_negative_label": 1},
    "positives within bounds": {"min_positive_similarity": 0.1, "max_positive_similarity": 0.8},
    "hardest positive above": {"min_positive_similarity": 0.3, "positives": "hardest"},
    "margins from the positives that are left": {
        "min_positive_similarity": 0.3,
        "positives": "easiest",
        "absolute_margin": 0.0,
        "reference": "min",
    },
    "positives of low rank": {"max_positive_rank": 3, "positives": "random", "positives_per_anchor": 2},
    "ranked positives": {"rank_positives": 4, "emit": "tuples", "positives": "all"},
    "consistent positives": {
        "max_positive_rank": 2,
        "min_positive_similarity": 0.2,
        "absolute_margin": 0.0,
        "reference": "mean",
        "max_uses": 2,
        "rank_positives": 9,
    },
    "simans": {"pick": "simans", "within_top": 12, "skip": 2, "simans_a": 30.0, "simans_b": 0.05, "draw_weights": True},
    "simans of dot": {"pick": "simans", "within_top": 12, "metric": "dot", "draw_weights": True, "float64": True},
    "simans of tuples": {"pick": "simans", "within_top": 9, "emit": "tuples", "draw_weights": True, "max_uses": 2},
    "simans, uses": {"pick": "simans", "within_top": 9, "draw_weights": True, "max_uses": 2, "simans_a": 7.0},
    "simans within a cap": {"pick": "simans", "within_top": 20, "max_per_negative_label": 1, "simans_a": 9.0},
    "simans among what the guide lets through": {
        "pick": "simans",
        "within_top": 6,
        "guided": True,
        "max_similarity": 0.6,
        "draw_weights": True,
        "order": "shuffled",
    },
    "uses within ranks": {"max_uses": 1, "negatives": 3, "within_top": 7},
    "uses": {"max_uses": 1, "negatives": 3},
    "uses of tuples": {"max_uses": 2, "negatives": 3, "emit": "tuples"},
    "fallback": {"band": "semi-hard", "margin": 0.01, "fallback": "farthest", "positives": "easiest"},
    "dot": {"metric": "dot", "relative_margin": 0.2},
}


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["turns", "every"])
@pytest.mark.parametrize("two_tables", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_each_rule_on_every_screen(name: str, two_tables: bool, every: bool) -> None:
    """Half of the screens on one task, the others on the next."""
    rows, first = [0, 0], list(CASES).index(name)
    for turn, seed in enumerate(range(12) if every else (1, 2, 5), first):
        task, screens = make_task(seed, two_tables, True, "single"), SCREENS if every else SCREENS[turn % 2 :: 2]
        rows[turn % 2] += assert_task_agrees(task, {"negatives": 2, **CASES[name]}, screens) or 0
    assert all(rows)  # else nothing was compared


def crowded(task: Task, seed: int) -> Task:
    """The task with three vectors for all rows, and short lists that name rows anywhere in key order."""
    rng = np.random.default_rng(seed)

    def made(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return rows[rng.choice(min(3, len(rows)), len(rows), p=None if len(rows) < 3 else (0.8, 0.1, 0.1))]

    known = [(row, task.candidates - 1 - row) for row in range(len(task.rows) // 2)]
    corpus = None if task.corpus is None else made(task.corpus)
    return replace(
        task, rows=made(task.rows), corpus=corpus, known=None if task.known is None else known,
        excluded=None if task.excluded is None else task.excluded[:9],
    )  # fmt: skip


POSITIVES = ["easiest", "hardest", "random", "all"]


@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["some", "every"])
@pytest.mark.parametrize("positives", POSITIVES)
@pytest.mark.parametrize(("two_tables", "known", "labels"), KINDS)
def test_equal_rows_stand_for_each_other_where_nothing_tells_them_apart(
    two_tables: bool, known: bool, labels: str | None, positives: str, every: bool
) -> None:
    """A third of the tasks for each kind of positives, in turns."""
    rng = np.random.default_rng(0)
    first = (KINDS.index((two_tables, known, labels)) + POSITIVES.index(positives)) % 3
    for seed in range(12) if every else (first, first + 3):
        task = crowded(make_task(seed, two_tables, known, labels), seed)
        options = drawn_options(task, rng) | {"positives": positives, "pick": "nearest", "emit": "triplets"}
        options |= {"drop_duplicates_within": (None, 0.0)[seed % 2], "positives_per_anchor": 1 + seed % 3}
        assert_task_agrees(task, options)


def test_a_listed_positive_among_equal_rows_is_found() -> None:
    rows = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    rows[:10] = rows[0]
    labels = [0] * 10 + [1] * 10 + list(range(2, 22))
    for screen in SCREENS:
        found = mine_arrays(rows, labels, qrels=[(25, 9)], positives="easiest", screen=screen)
        assert found.positive[found.anchor == 25].tolist() == [9]
        assert (found.stats.pairs, found.stats.empty) == (21, 0)


def test_rows_that_go_by_number_are_no_items_of_the_other_table(tmp_path: Path) -> None:
    queries = np.array([[1, 0], [0, 1], [1, 0.1]], np.float32)
    corpus = np.array([[1, 0.01], [0.01, 1], [1, 0.3], [0.3, 1]], np.float32)
    named = {"corpus": corpus, "corpus_labels": [0, 1, 0, 1], "band": "any"}
    plain = mine_arrays(queries, [0, 1, 0], **named)
    for ids in ({}, {"corpus_ids": [0, 1, 2, 3]}, {"ids": [0, 1, 2]}):
        found = mine_arrays(queries, [0, 1, 0], exclude=[(2, 3)], **ids, **named)
        rows = zip(found.query.tolist(), found.positive.tolist(), found.negative.tolist(), strict=True)
        assert list(rows) == [(0, 0, 3), (1, 1, 2), (2, 0, 1)]
        assert found.positive.tolist() == plain.positive.tolist()
    pq.write_table(pa.table({"row": [1]}), tmp_path / "rows.parquet")
    with pytest.raises(UsageError, match="neither has an id"):
        mine_arrays(queries, [0, 1, 0], exclude_rows=str(tmp_path / "rows.parquet"), **named)


@pytest.mark.parametrize("labels", ["single", "several"])
@pytest.mark.parametrize("emit", ["triplets", "pairs"])
def test_anchors_of_a_label_are_counted_beside_listed_positives(emit: str, labels: str) -> None:
    for seed in range(4):
        task = make_task(seed, False, True, labels)
        assert_task_agrees(task, {"emit": emit, "anchors_per_label": 1 + seed % 2, "seed": seed}, ("scan",))


def test_pairs_need_no_positive() -> None:
    rows = np.eye(4, dtype=np.float32) + 1
    found = mine_arrays(rows, qrels=[(0, 1)], exclude=[(0, 1)], emit="pairs", band="any", negatives=0)
    ends = list(zip(found.left.tolist(), found.right.tolist(), strict=True))
    assert ends == [(0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]
    with pytest.raises(InputError, match="none of the 4 anchors has a positive"):
        mine_arrays(rows, qrels=[(0, 1)], exclude=[(0, 1)])


def test_options_that_need_labels_are_refused_without() -> None:
    rows = np.random.default_rng(0).standard_normal((20, 4)).astype(np.float32)
    for options, text in (({"anchors_per_label": 1}, "anchors_per_label"), ({"group_rule": "both"}, "group_rule")):
        with pytest.raises(UsageError, match=text):
            mine_arrays(rows, qrels=[(0, 1), (2, 3)], **options)
        assert mine_arrays(rows, [0, 1] * 10, qrels=[(0, 1), (2, 3)], **options).stats.rows


def test_labels_beside_listed_positives_count_when_they_are_named(tables: Path) -> None:
    rows = pa.table({"id": [f"d{i}" for i in range(40)], "embedding": vectors(40, 1), "label": [0, None] * 20})
    pq.write_table(rows, "c.parquet")
    write_pairs([("d0", "d1"), ("d2", "d3")])
    options: dict[str, Any] = {"qrels": "p.parquet", "negatives": 99, "overwrite": True, "progress": "none"}
    report = mine("c.parquet", "o.parquet", **options)
    found = pq.read_table("o.parquet")
    assert set(found["negative_row"].to_pylist()) == set(range(40))
    assert "anchor_label" not in found.column_names
    assert "column 'label' is not used: labels count when they are named, label=\"label\"" in report.notes
    report = mine("c.parquet", "o.parquet", label="label", **options)
    assert set(pq.read_table("o.parquet")["negative_row"].to_pylist()) <= {*range(0, 40, 2)}
    assert any("20 rows without a label are no negatives" in note for note in report.notes)
    assert minestream.verify("o.parquet")["differences"] == []
    mine("c.parquet", "o.parquet", label="label", unlabeled="negative", **options)
    assert set(pq.read_table("o.parquet")["negative_row"].to_pylist()) >= {*range(1, 40, 2)}


def test_a_query_with_a_thousand_positives() -> None:
    rng = np.random.default_rng(0)
    queries = rng.standard_normal((3, 8)).astype(np.float32)
    corpus = rng.standard_normal((1500, 8)).astype(np.float32)
    known = [(0, row) for row in range(1000)] + [(1, 1200)]
    found = mine_arrays(queries, corpus=corpus, qrels=known, negatives=600)
    assert found.stats.answer() == {
        "anchors": 2,
        "pairs": 1001,
        "rows": 500 * 1000 + 600,
        "full": 1,
        "short": 1000,
        "empty": 0,
    }
    assert not np.isin(found.negative[found.query == 0], np.arange(1000)).any()


# ---------------------------------------------------------------- files


def vectors(count: int, seed: int = 0, d: int = 8) -> pa.Array:
    values = np.random.default_rng(seed).standard_normal(count * d).astype(np.float32)
    return pa.FixedSizeListArray.from_arrays(pa.array(values), d)


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Five queries, forty passages, six listed pairs: q.parquet, c.parquet, p.parquet in the working directory."""
    monkeypatch.chdir(tmp_path)
    pq.write_table(pa.table({"id": [f"q{i}" for i in range(5)], "embedding": vectors(5)}), "q.parquet")
    pq.write_table(pa.table({"id": [f"d{i}" for i in range(40)], "embedding": vectors(40, 1)}), "c.parquet")
    pairs = [(0, 3), (0, 4), (1, 7), (2, 9), (3, 11), (3, 12)]
    write_pairs([(f"q{a}", f"d{b}") for a, b in pairs])
    return tmp_path


def write_pairs(pairs: list[tuple[Any, Any]], **columns: Any) -> None:
    left, right = (list(side) for side in zip(*pairs, strict=True))
    pq.write_table(pa.table({"query_id": left, "positive_id": right, **columns}), "p.parquet")


def run(**options: Any) -> pa.Table:
    options = {"corpus": "c.parquet", "qrels": "p.parquet", "overwrite": True, "progress": "none", **options}
    mine("q.parquet", "out.parquet", **options)
    return pq.read_table("out.parquet")


@pytest.mark.usefixtures("tables")
def test_columns_and_defaults_of_two_tables() -> None:
    table = run()
    assert table.column_names == [
        "query_id", "positive_id", "negative_id", "query_row", "positive_row", "negative_row", "distance_ap",
        "distance_an", "harder",
    ]  # fmt: skip
    assert table["query_id"].to_pylist() == ["q0", "q0", "q1", "q2", "q3", "q3"]
    listed = set(zip(table["query_id"].to_pylist(), table["positive_id"].to_pylist(), strict=True))
    assert not listed & set(zip(table["query_id"].to_pylist(), table["negative_id"].to_pylist(), strict=True))
    assert minestream.verify("out.parquet", sample=5)["differences"] == []


@pytest.mark.usefixtures("tables")
def test_beir_and_trec_files_say_the_same_as_parquet() -> None:
    expected = run()
    rows = pq.read_table("p.parquet").to_pydict()
    both = list(zip(rows["query_id"], rows["positive_id"], strict=True))
    Path("p.tsv").write_text(
        "query-id\tcorpus-id\tscore\n" + "".join(f"{a}\t{b}\t1\n" for a, b in both) + "q4\td1\t0\n"
    )
    Path("p.qrels").write_text("".join(f"{a} 0 {b} 2\n" for a, b in both) + "\nq4 0 d1 0\n")
    assert run(qrels="p.tsv").equals(expected)
    Path("p.tsv").write_text("\ufeff" + Path("p.tsv").read_text())  # as Windows marks UTF-8
    assert run(qrels="p.tsv").equals(expected)
    assert run(qrels="p.qrels").equals(expected)
    assert run(qrels="p.qrels", min_grade=0).num_rows == expected.num_rows + 1
    assert minestream.verify("out.parquet", sample=5)["differences"] == []


@pytest.mark.usefixtures("tables")
def test_exclusions_of_pairs_and_rows(capsys: pytest.CaptureFixture[str]) -> None:
    first = run(negatives=1)
    worst = first["negative_id"][0].as_py()
    pq.write_table(pa.table({"query_id": ["q0"], "negative_id": [worst]}), "e.parquet")
    second = run(negatives=1, exclude="e.parquet")
    assert second["negative_id"][0].as_py() != worst
    assert minestream.verify("out.parquet", sample=5)["differences"] == []
    pq.write_table(pa.table({"id": [worst, "q1"]}), "rows.parquet")
    third = run(exclude_rows="rows.parquet")
    assert worst not in third["negative_id"].to_pylist()
    assert "q1" not in third["query_id"].to_pylist()
    assert minestream.verify("out.parquet", sample=5)["differences"] == []
    pq.write_table(pa.table({"id": ["nobody"]}), "rows.parquet")
    with pytest.raises(InputError, match="nobody"):
        run(exclude_rows="rows.parquet")
    assert run(exclude_rows="rows.parquet", on_missing_ids="drop").equals(run())


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("option", ["corpus", "qrels", "exclude", "exclude_rows"])
def test_a_table_that_is_elsewhere_is_named_with_the_option_of_the_hint(
    option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"corpus": "c.parquet", "qrels": "p.parquet", "exclude": "e.parquet", "exclude_rows": "rows.parquet"}
    pq.write_table(pa.table({"query_id": ["q0", "q2"], "negative_id": ["d9", "d8"]}), "e.parquet")
    pq.write_table(pa.table({"id": ["q1", "d20"]}), "rows.parquet")
    in_memory = pq.read_table(named[option])
    for given in (in_memory, str(Path(named[option]).absolute())):
        run(**{"exclude": "e.parquet", "exclude_rows": "rows.parquet", option: given})
        if given is not in_memory:
            Path("away").mkdir()
            Path(named[option]).rename(Path("away", "renamed.parquet"))
        with pytest.raises(InputError, match=r"is not in|no file holds") as caught:
            minestream.verify("out.parquet", sample=5)
        assert caught.value.hint == f"name that table with {option}"
        table: dict[str, Any] = {option: in_memory}
        assert minestream.verify("out.parquet", sample=5, **table)["differences"] == []
    flag = f"--{option.replace('_', '-')}"
    assert main(["verify", "out.parquet"]) == 3
    assert f"hint: name that table with {flag}\n" in capsys.readouterr().err
    assert main(["verify", "out.parquet", flag, "away/renamed.parquet"]) == 0
    pq.write_table(in_memory.slice(1), "other.parquet")
    assert main(["verify", "out.parquet", flag, "other.parquet"]) == 3


@pytest.mark.usefixtures("tables")
def test_positives_that_exclude_takes_out_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    run(negatives=1)
    for emit in ("triplets", "tuples"):
        minestream.mine("q.parquet", "last.parquet", corpus="c.parquet", qrels="p.parquet", emit=emit, progress="none",
                        overwrite=True)  # fmt: skip
        with pytest.raises(InputError, match=r"positives and negatives \(exclude\)") as caught:
            run(exclude="last.parquet")
        assert "without the column positive_id the negatives are excluded" in caught.value.hint
    first = pq.read_table("out.parquet")
    second = run(exclude=first.drop_columns(["positive_id"]))
    pairs = ["query_id", "negative_id"]
    assert not {*map(str, first.select(pairs).to_pylist())} & {*map(str, second.select(pairs).to_pylist())}
    listed = pq.read_table("p.parquet").select(["query_id", "positive_id"])
    with pytest.raises(InputError, match=r"\(\d+ pairs of qrels: exclude names them, or both ids are one i") as caught:
        run(exclude=listed)
    assert caught.value.hint == "check exclude: what it lists is neither positive nor negative"


def test_positives_by_label_that_exclude_takes_out_are_told() -> None:
    rows = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
    told = "exclude takes 1 positive out: what it lists is neither positive nor negative"
    several = [["a"], ["a", "b"], ["b"], ["c"], ["c"], ["d"]]
    for labels in ([0, 0, 0, 1, 1, 2], several):
        found = mine_arrays(rows, labels, exclude=[(0, 1), (1, 0), (0, 5), (2, 2)], band="any")
        assert told in found.notes
        assert told not in mine_arrays(rows, labels, exclude=[(0, 5)], band="any").notes
    with pytest.raises(InputError, match="no label has two rows in a pair that exclude does not list") as caught:
        mine_arrays(rows[2:], [0, 1, 1, 2], exclude=[(1, 2)])
    assert "check exclude: what it lists is neither" in caught.value.hint


def test_rows_left_out_are_told_of_each_table(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, rows, unlabelled in (("q", 20, 3), ("c", 60, 7)):
        label = [None if row < unlabelled else row % 4 for row in range(rows)]
        vectors = rng.standard_normal((rows, 4)).tolist()
        table = pa.table({"id": [f"{name}{row}" for row in range(rows)], "label": label, "embedding": vectors})
        pq.write_table(table, tmp_path / f"{name}.parquet")
    excluded = pa.table({"id": ["q5", "c30", "c31"]})
    options: dict[str, Any] = {"band": "any", "exclude_rows": excluded, "progress": "none"}
    report = mine(tmp_path / "q.parquet", tmp_path / "out.parquet", corpus=str(tmp_path / "c.parquet"), **options)
    assert report.source["dropped"] == {"unlabelled": 10, "excluded": 3}
    assert report.source["dropped_queries"] == {"unlabelled": 3, "excluded": 1}
    assert report.stats.anchors == 20 - 3 - 1
    told = [" ".join(line.split()) for line in report_text(report).splitlines()]
    assert "left out 10 rows, 3 of them queries: unlabelled" in told
    assert "3 rows, 1 of them queries: excluded" in told
    alone = mine(tmp_path / "q.parquet", tmp_path / "one.parquet", band="any", progress="none")
    assert "left out 3 rows: unlabelled" in [" ".join(line.split()) for line in report_text(alone).splitlines()]


@pytest.mark.usefixtures("tables")
def test_ids_are_cast_where_nothing_is_lost() -> None:
    rows = pq.read_table("c.parquet")
    pq.write_table(rows.set_column(0, "id", pa.array(range(40))), "c.parquet")
    write_pairs([("q0", "3"), ("q1", "12")])
    assert run()["positive_id"].to_pylist() == [3, 12]
    write_pairs([("q0", "3"), ("q1", "012")])
    with pytest.raises(InputError, match="'012'"):
        run()


@pytest.mark.usefixtures("tables")
def test_shared_ids_and_two_tables_with_labels() -> None:
    labels = [0, 0, 1, 1, 2]
    queries = pa.table({"id": ["d1", "d2", "d3", "d4", "d5"], "label": labels, "embedding": vectors(5)})
    corpus = pa.table(
        {"id": [f"d{i}" for i in range(40)], "label": [i % 3 for i in range(40)], "embedding": vectors(40, 1)}
    )
    table = mine_two(queries, corpus, positives="all")
    pairs = set(zip(table["query_id"].to_pylist(), table["positive_id"].to_pylist(), strict=True))
    assert not {(name, name) for name in queries["id"].to_pylist()} & pairs
    assert table.column_names[-2:] == ["query_label", "negative_label"]


def mine_two(queries: pa.Table, corpus: pa.Table, **options: Any) -> pa.Table:
    mine(queries, "out.parquet", corpus=corpus, overwrite=True, progress="none", **options)
    return pq.read_table("out.parquet")


@pytest.mark.usefixtures("tables")
def test_a_guide_is_a_column_of_each_table() -> None:
    for name, column in (("q", vectors(5, 5)), ("c", vectors(40, 6))):
        plain = run(absolute_margin=0.0, embedding="embedding")
        with pytest.raises(InputError, match="guide"):
            run(absolute_margin=0.0, guide="guide", embedding="embedding")
        pq.write_table(pq.read_table(f"{name}.parquet").append_column("guide", column), f"{name}.parquet")
    by_column = run(absolute_margin=0.0, guide="guide", embedding="embedding")
    assert not by_column.equals(plain)
    assert minestream.verify("out.parquet")["differences"] == []
    assert minestream.verify("out.parquet", sample=5)["differences"] == []


BAD_VECTORS: dict[str, Any] = {
    "null embedding": None, "empty embedding": [], "null elements": [1.0, None, 2.0], "another length": [1.0],
    "not finite": [np.nan, 1.0, 1.0], "zero norm": [0.0] * 3,
}  # fmt: skip


def rows_with_bad_guides(n: int, seed: int, **columns: Any) -> tuple[pa.Table, dict[str, int], np.ndarray[Any, Any]]:
    """Rows whose guide is bad now and then, the counts by kind, and which are good; one is bad by its embedding too."""
    own, guide = np.array(vectors(n, seed).to_pylist()), np.random.default_rng(seed).normal(size=(n, 3)).tolist()
    for place, value in enumerate(BAD_VECTORS.values()):
        guide[3 * place + 1] = value
    own[1] = 0
    table = pa.table({"embedding": pa.array(own.tolist(), pa.list_(pa.float32())), **columns,
                      "guide": pa.array(guide, pa.list_(pa.float32()))})  # fmt: skip
    counts = {f"bad guide: {kind}": 1 for kind in list(BAD_VECTORS)[1:]}
    return table, {"bad: zero norm": 1} | counts, np.isin(np.arange(n), np.arange(1, 17, 3), invert=True)


def stored(table: pa.Table, name: str, good: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A column of vectors, with ones in place of those of bad rows."""
    width = len(table[name][0])
    rows = [row if fine else [1.0] * width for row, fine in zip(table[name].to_pylist(), good, strict=True)]
    return np.array(rows, np.float32)


GUIDED: dict[str, Any] = {"absolute_margin": 0.0, "positives": "all", "negatives": 3, "band": "any"}


@pytest.mark.parametrize("more", [{}, {"normalize": True, "metric": "dot"}, {"on_duplicate_ids": "last"}])
def test_rows_whose_guide_is_bad_are_dropped(more: dict[str, Any], tmp_path: Path) -> None:
    ids = [f"r{row}" for row in range(40)]
    if "on_duplicate_ids" in more:  # a bad row takes its id along
        ids[2], ids[30] = ids[4], ids[7]
    table, counts, good = rows_with_bad_guides(40, 3, label=[row % 3 for row in range(40)], id=ids)
    pq.write_table(table, tmp_path / "in.parquet")
    options = GUIDED | {"guide": "guide", "on_bad_rows": "drop", "progress": "none"} | more
    if "on_duplicate_ids" in more:
        good[2] = False  # r4 is bad and comes later; r7 is bad, but 30 comes later
        counts = counts | {"replaced: duplicate id": 1}
    report = mine(tmp_path / "in.parquet", tmp_path / "out.parquet", **options)
    assert report.source["dropped"] == counts
    expected = reference.mine(
        stored(table, "embedding", good), labels=table["label"].to_pylist(), ids=ids, takes_part=good,
        guide=stored(table, "guide", good),
        **{name: value for name, value in (GUIDED | more).items() if name != "on_duplicate_ids"},
    )  # fmt: skip
    found = pq.read_table(tmp_path / "out.parquet")
    for name in ("anchor_row", "positive_row", "negative_row"):
        assert found[name].to_pylist() == expected.columns[name]
    assert len(found) > 40
    assert minestream.verify(tmp_path / "out.parquet", sample=40)["differences"] == []
    with pytest.raises(InputError, match="column 'guide': null embedding in row 1"):
        mine(tmp_path / "in.parquet", tmp_path / "no.parquet", **{**options, "on_bad_rows": "error"})


def test_rows_whose_guide_is_bad_are_dropped_from_both_tables(tmp_path: Path) -> None:
    queries, of_queries, good = rows_with_bad_guides(20, 1, query=[f"q{row}" for row in range(20)])
    corpus, of_corpus, fine = rows_with_bad_guides(60, 2, id=[f"d{row}" for row in range(60)])
    pairs = [(row % 20, row % 60) for row in range(0, 200, 7)]
    listed = pa.table({"query_id": [f"q{a}" for a, _ in pairs], "positive_id": [f"d{b}" for _, b in pairs]})
    for name, table in (("q", queries), ("c", corpus), ("p", listed)):
        pq.write_table(table, tmp_path / f"{name}.parquet")
    report = mine(
        tmp_path / "q.parquet", tmp_path / "out.parquet", corpus=str(tmp_path / "c.parquet"),
        qrels=str(tmp_path / "p.parquet"), id="query", guide="guide", on_bad_rows="drop", progress="none", **GUIDED,
    )  # fmt: skip
    assert report.source["dropped"] == {kind: of_queries[kind] + of_corpus[kind] for kind in of_queries}
    assert report.source["dropped_queries"] == of_queries
    expected = reference.mine(
        stored(queries, "embedding", good), takes_part=good, guide=stored(queries, "guide", good),
        corpus=stored(corpus, "embedding", fine), corpus_takes_part=fine, corpus_guide=stored(corpus, "guide", fine),
        known_positives=[(a, b) for a, b in pairs if good[a] and fine[b]],
        ids=queries["query"].to_pylist(), corpus_ids=corpus["id"].to_pylist(), **GUIDED,
    )  # fmt: skip
    found = pq.read_table(tmp_path / "out.parquet")
    for name in ("query_row", "positive_row", "negative_row"):
        assert found[name].to_pylist() == expected.columns[name]
    assert minestream.verify(tmp_path / "out.parquet", sample=20)["differences"] == []


def test_the_guide_is_read_where_the_condition_holds_and_beside_other_vectors(tmp_path: Path) -> None:
    table, counts, good = rows_with_bad_guides(40, 3, label=[row % 3 for row in range(40)])
    path = tmp_path / "in.parquet"
    pq.write_table(table.append_column("fine", pa.array(good)), path, row_group_size=7)
    np.save(tmp_path / "v.npy", stored(table, "embedding", good))
    options = GUIDED | {"guide": "guide", "progress": "none", "vectors": str(tmp_path / "v.npy"), "label": "label"}
    every = mine(path, tmp_path / "a.parquet", on_bad_rows="drop", **options)
    assert every.source["dropped"] == {"bad guide: null embedding": 1} | dict(list(counts.items())[1:])
    mine(path, tmp_path / "b.parquet", where="fine", **options)
    assert pq.read_table(tmp_path / "a.parquet").equals(pq.read_table(tmp_path / "b.parquet"))
    for name in ("a", "b"):
        assert minestream.verify(tmp_path / f"{name}.parquet", sample=40)["differences"] == []


MISTAKEN_GUIDES: dict[str, tuple[dict[str, Any], str]] = {
    "fewer rows": ({"guide": np.ones((5, 2))}, "the guide has 5 vectors for 9 rows"),
    "more rows": ({"guide": np.ones((10, 2))}, "the guide has 10 vectors for 9 rows"),
    "of one table": ({"guide": np.ones((9, 2)), "corpus": np.eye(9)}, "guide and corpus_guide"),
    "of the other table": ({"corpus_guide": np.ones((9, 2)), "corpus": np.eye(9)}, "guide and corpus_guide"),
    "of no corpus": ({"guide": np.ones((9, 2)), "corpus_guide": np.ones((9, 2))}, "corpus_guide .* no corpus"),
    "labels of no corpus": ({"corpus_labels": [1] * 9}, "corpus_labels .* no corpus"),
    "widths": ({"guide": np.ones((9, 2)), "corpus": np.eye(9), "corpus_guide": np.ones((9, 3))}, "differ in length"),
    "bad": ({"guide": np.zeros((9, 2))}, "column 'guide': zero norm"),
    "all bad": ({"guide": np.zeros((9, 2)), "on_bad_rows": "drop"}, "none of the 9 rows .* 9 bad guide: zero norm"),
}


@pytest.mark.parametrize("name", MISTAKEN_GUIDES)
def test_guides_that_do_not_fit_are_refused(name: str) -> None:
    given, words = MISTAKEN_GUIDES[name]
    labels = {"corpus_labels": [0, 1, 2] * 3} if "corpus" in given else {}
    with pytest.raises(MinestreamError, match=words):
        mine_arrays(np.eye(9), [0, 1, 2] * 3, absolute_margin=0.0, **labels, **given)


@pytest.mark.parametrize(("nearest", "looked_at"), [(5, 20), (50, 80), (90, 320)])
def test_a_guide_is_counted_among_the_candidates_that_the_page_says(nearest: int, looked_at: int) -> None:
    """Of one query: the guide turns down the `nearest`, and of the others every second."""
    angles = np.arange(401) * np.pi / 1000
    corpus, refused = np.stack([np.cos(angles), np.sin(angles)], axis=1), np.arange(401) % 2 == 0
    refused[: nearest + 1] = True
    guide = np.where(refused[:, None], [1.0, 0.0], [0.0, 1.0])
    guide[0] = [1.0, 1.0]  # of the positive
    mined = mine_arrays(
        corpus[:1], corpus=corpus, qrels=[(0, 0)], ids=[0], corpus_ids=np.arange(401), guide=[[1.0, 0.0]],
        corpus_guide=guide, absolute_margin=0.0, negatives=2,
    )  # fmt: skip
    assert mined.stats.dropped["guide"] == refused[1 : looked_at + 1].sum()
    page = " ".join((Path(minestream.__file__).parent / "guide" / "retrieval.md").read_text().split())
    assert "of each pair 2 k + 16, the first by `--pick`, and four times as many, again and again" in page
    assert (MORE_TIMES, MORE, AGAIN_TIMES, MOST) == (2, 16, 4, 2_048)


def test_a_column_that_cannot_be_the_guide() -> None:
    table = pa.table({"embedding": vectors(9), "label": [0, 1, 2] * 3})
    for name, words in (("label", "cannot be the guide: its type is int64"), ("none", r"no column 'none' \(guide\)")):
        with pytest.raises(InputError, match=words):
            mine_batches(table, guide=name, absolute_margin=0.0)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: write_pairs([("q0", "x1")]), "1 of 1 id is not among the corpus, the first is 'x1'"),
        (lambda: write_pairs([("x0", "d1"), ("q1", "d2")]), "1 of 2 ids is not among the queries"),
        (lambda: pq.write_table(pq.read_table("p.parquet").slice(0, 0), "p.parquet"), "no pairs"),
        (lambda: pq.write_table(pa.table({"query_id": ["q0"], "other": ["d1"]}), "p.parquet"), "positive_id"),
        (lambda: write_pairs([("q0", "d1")], score=["good"]), "not all are numbers"),
        (lambda: write_pairs([("q0", "d1"), ("q1", "d2")], score=[1.0, float("nan")]), "null, the first in pair 1"),
        (lambda: write_pairs([("q0", "d1")], score=[0]), "graded below 1"),
        (lambda: write_pairs([("q0", "d1"), ("q1", None)]), "null id"),
        (lambda: pq.write_table(pa.table({"id": ["d1"], "embedding": vectors(1, d=5)}), "c.parquet"), "8 coordinates"),
    ],
)  # fmt: skip
def test_bad_lists_are_refused(change: Callable[[], None], message: str) -> None:
    change()
    with pytest.raises(InputError, match=message):
        run()


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("q.parquet", "names the queries by ids that are string like 'q0', and those there are int64 like 5000"),
        ("c.parquet", "names the corpus by ids that are string like 'd3', and those there are int64 like 5000"),
    ],
)
def test_ids_of_two_kinds_are_shown_one_of_each_side(name: str, said: str) -> None:
    """The table whose ids they are is named; an id of the list that is a number in text would not tell them apart."""
    rows = pq.read_table(name)
    pq.write_table(rows.set_column(0, "id", pa.array(range(5000, 5000 + len(rows)))), name)
    with pytest.raises(InputError, match=said):
        run()


@pytest.mark.usefixtures("tables")
def test_ids_that_are_cast_are_those_of_a_table() -> None:
    for name in ("q.parquet", "c.parquet"):
        rows = pq.read_table(name)
        pq.write_table(rows.set_column(0, "id", pa.array(range(len(rows)))), name)
    write_pairs([("0", "3"), ("1", "7")])
    report = mine("q.parquet", "out.parquet", corpus="c.parquet", qrels="p.parquet", progress="none")
    for of in ("queries", "corpus"):
        assert f'qrels="p.parquet": ids of the {of} cast from string to int64, without loss' in report.notes


@pytest.mark.usefixtures("tables")
def test_rows_outside_a_condition_are_known_and_take_no_part() -> None:
    """What is listed of them says nothing; it is no mistake of the list."""
    for name, count in (("q.parquet", 5), ("c.parquet", 40)):
        pq.write_table(pq.read_table(name).append_column("n", pa.array(range(count))), name)
    excluded = pa.table({"query_id": ["q0", "q4"], "positive_id": ["d39", "d1"]})
    whole = run().to_pylist()
    kept = run(anchor_where="n != 1", candidate_where="n != 9", exclude=excluded)
    assert {(row["query_row"], row["positive_row"]) for row in whole} == {
        (0, 3), (0, 4), (1, 7), (2, 9), (3, 11), (3, 12)
    }  # fmt: skip
    assert {(row["query_row"], row["positive_row"]) for row in kept.to_pylist()} == {(0, 3), (0, 4), (3, 11), (3, 12)}
    rows = pa.table({"id": ["q1", "d39", "d9"]})
    assert run(anchor_where="n != 1", candidate_where="n != 9", exclude_rows=rows).num_rows == 4
    with pytest.raises(InputError, match="1 of 4 ids"):
        run(anchor_where="n != 1", exclude_rows=pa.table({"id": ["q1", "d39", "d9", "nobody"]}))


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("policy", ["error", "drop"])
def test_a_corpus_that_was_forgotten_is_asked_for(policy: str) -> None:
    with pytest.raises(InputError) as caught:
        mine_batches("c.parquet", qrels="p.parquet", on_missing_ids=policy)
    assert "corpus" in caught.value.hint
    assert "drop" not in caught.value.hint


@pytest.mark.usefixtures("tables")
def test_unknown_ids_can_be_dropped_and_are_counted() -> None:
    write_pairs([("q0", "d1"), ("q1", "x"), ("y", "d2")])
    report = mine(
        "q.parquet", "o.parquet", corpus="c.parquet", qrels="p.parquet", on_missing_ids="drop", progress="none"
    )
    assert report.stats.pairs == 1
    notes = "\n".join(report.notes)
    assert "qrels: 2 pairs left out, an id of theirs is in no row" in notes
    assert notes.count("pairs left out") == 1
    assert "4 queries have no positive and are skipped" in notes


@pytest.mark.usefixtures("tables")
def test_margin_without_a_filter_says_what_may_be_meant(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mine", "q.parquet", "--corpus", "c.parquet", "--qrels", "p.parquet", "--margin", "0.1"]) == 0
    assert "did you mean --absolute-margin?" in capsys.readouterr().err
    assert "loss" in pq.read_table("q.triplets.parquet").column_names


# ---------------------------------------------------------------- the same bytes however it goes


JOBS: dict[str, dict[str, Any]] = {
    "percent": {"relative_margin": 0.1, "negatives": 3},
    "guide and cap": {"guide": "guide", "absolute_margin": 0.0, "max_per_negative_label": 2, "label": "label"},
    "uses": {"max_uses": 2, "negatives": 2},
    "texts": {"emit": "tuples", "carry": "text", "negatives": 3, "max_similarity": 0.3},
}


@pytest.fixture
def larger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three hundred queries and a thousand passages with labels, texts and a guide, in the working directory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(3)
    for name, rows, seed in (("q", 300, 1), ("c", 1000, 2)):
        columns = {
            "id": [f"{name}{row}" for row in range(rows)], "embedding": vectors(rows, seed),
            "guide": vectors(rows, seed + 7, 4),
            "label": rng.integers(0, 40, rows), "text": [f"{name} {row} <&> \u00e9" for row in range(rows)],
        }  # fmt: skip
        pq.write_table(pa.table(columns), f"{name}.parquet", row_group_size=200)
    write_pairs([(f"q{row % 290}", f"c{rng.integers(0, 1000)}") for row in range(700)])
    return tmp_path


@pytest.mark.usefixtures("larger")
@pytest.mark.parametrize("job", JOBS)
def test_bytes_do_not_depend_on_how_it_goes(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def content(name: str, **how: Any) -> bytes:
        mine(
            "q.parquet",
            name,
            corpus="c.parquet",
            qrels="p.parquet",
            embedding="embedding",
            progress="none",
            **JOBS[job],
            **how,
        )
        return Path(name).read_bytes()

    expected = content("first.parquet", threads=1)
    ways: list[dict[str, Any]] = [{"screen": screen, "threads": 2} for screen in SCREENS]
    ways += [{"block_rows": 64, "batch_rows": 70}, {"memory": "16MiB"}]
    for place, how in enumerate(ways):
        assert content(f"{place}.parquet", **how) == expected, how
    with monkeypatch.context() as patched:
        set_sizes(patched, PART_ANCHORS=64)
        expected = content("parts.parquet", threads=1)
        patched.setattr(pipeline, "mine_shards", stopping_after(3, pipeline.mine_shards))
        with pytest.raises(Stop):
            content("resumed.parquet")
        patched.undo()
        set_sizes(patched, PART_ANCHORS=64)
        assert content("resumed.parquet", resume=True) == expected


class Stop(Exception):
    """Where a run ends."""


def stopping_after(most: int, original: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    """A mine_shards that ends the run when it wants more than `most` shards."""

    def stopping(self: Any, todo: Any, *share: Any) -> Iterator[Any]:
        for count, found in enumerate(original(self, todo, *share)):
            if count == most:
                raise Stop
            yield found

    return stopping


@pytest.mark.usefixtures("larger")
@pytest.mark.parametrize("emit", ["st-triplets", "st-labeled-lists", "tevatron", "pylate", "pml"])
def test_formats_of_two_tables(emit: str) -> None:
    """The texts and ids of each role are those of its table; what was exported is described and checked as others."""
    how: dict[str, Any] = {"corpus": "c.parquet", "qrels": "p.parquet", "embedding": "embedding", "progress": "none"}
    mine("q.parquet", "mined.parquet", negatives=3, **how)
    text = {"text": "text"} if FORMATS[emit].texts else {}
    count = minestream.export("mined.parquet", "exported.parquet", emit=emit, **text)["rows"]
    rows = pq.read_table("exported.parquet").to_pylist()
    assert len(rows) == count > 250
    for name in rows[0]:
        values = [each for row in rows for each in (row[name] if isinstance(row[name], list) else [row[name]])]
        if isinstance(values[0], str):
            table = "q" if name in ("anchor", "query", "query_id", "query_text") else "c"
            assert {each[0] for each in values} == {table}, name
    assert minestream.describe("exported.parquet")["config"]["emit"] == emit
    assert minestream.verify("exported.parquet")["rows"] == count


def test_what_the_label_cap_drops_is_counted_once_where_it_is_looked_for_again() -> None:
    """Forty of one label stand before the others: the first look does not do, the second counts all of them."""
    corpus = np.stack([np.ones(52), 0.001 + 0.01 * np.arange(52)], axis=1)
    labels = [0, *[1] * 40, *range(2, 13)]
    options = {"negatives": 5, "max_per_negative_label": 1, "band": "any", "margin": 0.1}
    found = mine_arrays(np.array([[1.0, 0.0]]), [0], corpus=corpus, corpus_labels=labels, **options)
    assert (found.stats.rows, found.stats.dropped) == (5, {"label cap": 39})


def test_equal_rows_of_which_none_may_be_a_negative() -> None:
    """Rows without a label are no negatives beside labels, and a listed pair gives the only positive."""
    rows = np.ones((12, 3), np.float32)
    options = {"corpus": rows, "corpus_labels": [None] * 12, "qrels": [(0, 1)], "screen": "f32"}
    found = mine_arrays(rows[:2], ["a", "b"], **options)
    assert (found.stats.rows, found.stats.empty) == (0, 1)


@pytest.mark.usefixtures("tables")
def test_lists_are_looked_at_where_no_query_takes_part() -> None:
    queries = pa.table({"id": ["q0"], "embedding": vectors(1), "year": [2020]})
    pq.write_table(queries, "q.parquet")
    write_pairs([("q0", "d1")])
    run(anchor_where="year > 2020")
    write_pairs([("q0", "unknown")])
    with pytest.raises(InputError, match="1 of 1 id is not among the corpus, the first is 'unknown'"):
        run(anchor_where="year > 2020")


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("pick", ["nearest", "random"])
def test_no_anchor_under_a_cap_gives_no_row(pick: str) -> None:
    queries = pa.table({"embedding": vectors(1), "label": ["a"], "year": [2020]})
    corpus = pa.table({"embedding": vectors(2), "label": ["b", "c"], "year": [2020, 2020]})
    report = minestream.mine(
        queries, "none.parquet", corpus=corpus, anchor_where="year > 2020", pick=pick, max_per_negative_label=2,
        progress="none",
    )  # fmt: skip
    assert (report.stats.rows, pq.read_metadata("none.parquet").num_rows) == (0, 0)


@pytest.mark.usefixtures("tables")
def test_ids_that_both_tables_have_and_negatives_at_distance_zero_are_noted() -> None:
    corpus = pa.table({"id": range(100), "embedding": vectors(100)})
    queries, qrels = corpus.slice(0, 7), pa.table({"query_id": range(7), "positive_id": range(50, 57)})
    options: dict[str, Any] = {"corpus": corpus, "qrels": qrels, "negatives": 3, "band": "any", "progress": "none"}
    report = minestream.mine(queries, "own.parquet", **options)
    (said,) = (note for note in report.notes if "shared_ids=True" in note)
    assert said.startswith("7 of 7 queries have an id that the corpus has too")
    (said,) = (note for note in report.notes if "distance 0" in note)
    assert said.startswith("7 negatives lie at distance 0 from their anchor")
    for further in ({"shared_ids": True}, {"drop_duplicates_within": 0.0, "drop_duplicates_of": "both"}):
        report = minestream.mine(queries, "own.parquet", overwrite=True, **options, **further)
        assert not any("distance 0" in note for note in report.notes)
    assert any("shared_ids=True" in note for note in report.notes)
    rows = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    own = minestream.mine_arrays(rows[:7], corpus=rows, qrels=[(i, i + 50) for i in range(7)], negatives=3, band="any")
    assert any(note.startswith("7 negatives lie at distance 0") for note in own.notes)
    assert not any("shared_ids=True" in note for note in own.notes)  # these go by number


@pytest.mark.usefixtures("tables")
def test_negatives_that_carry_the_text_of_their_anchor_or_positive_are_noted() -> None:
    texts = pa.array([f"text {i % 10}" for i in range(40)])
    table = pa.table({"id": range(40), "embedding": vectors(40), "label": [i // 2 for i in range(40)], "text": texts})
    for emit in ("triplets", "tuples"):
        report = minestream.mine(
            table, f"{emit}.parquet", emit=emit, negatives=38, band="any", carry=["text"], progress="none"
        )
        assert report.stats.same_text == 40 * 6  # three other rows of its text, three of its positive's
        assert any("240 negatives carry the same text" in note for note in report.notes)


@pytest.mark.usefixtures("tables")
@pytest.mark.parametrize("kind", ["two tables", "one table"])
def test_every_listed_pair_is_used_or_has_a_cause(kind: str) -> None:
    embeddings = vectors(40).to_pylist()
    embeddings[20] = [float("nan")] * len(embeddings[0])
    corpus = pa.table({"id": [f"d{n}" for n in range(40)], "embedding": embeddings, "n": range(40)})
    queries = corpus.slice(0, 8) if kind == "two tables" else corpus
    pairs = {
        ("d0", "d9"): None, ("d9", "d0"): "unknown" if kind == "two tables" else "listed before", ("d1", "d10"): None,
        ("d1", "d11"): "--exclude names", ("d2", "d20"): "takes no part", ("d2", "d21"): "takes no part",
        ("d3", "d39"): "takes no part", ("d4", "d12"): "graded below --min-grade 2", ("d5", "gone"): "unknown",
        ("d6", "d7"): None,
    }  # fmt: skip
    listed = [*pairs, ("d6", "d7")]
    grades = [1 if pair == ("d4", "d12") else 2 for pair in listed]
    pairs["d3", "d3"] = None if kind == "two tables" else "listed before"
    listed.append(("d3", "d3"))
    qrels = pa.table({
        "query_id": [a for a, _ in listed], "positive_id": [b for _, b in listed], "score": [*grades, 2],
    })  # fmt: skip
    options: dict[str, Any] = {"corpus": corpus} if kind == "two tables" else {}
    options |= {"where" if kind == "one table" else "candidate_where": "n != 39", "min_grade": 2}
    report = minestream.mine(
        queries, "listed.parquet", qrels=qrels, exclude=pa.table({"query_id": ["d1"], "positive_id": ["d11"]}),
        exclude_rows=pa.table({"id": ["d21"]}), on_bad_rows="drop", on_missing_ids="drop", progress="none", **options,
    )  # fmt: skip
    found = report.source["listed"]["--qrels"]
    wanted = {why: sum(each == why for each in pairs.values()) for why in {*pairs.values()} - {None}}
    wanted["listed before"] = wanted.get("listed before", 0) + 1  # ("d6", "d7") a second time
    counted = {why: sum(n for cause, n in found["left_out"].items() if why in cause) for why in wanted}
    assert (counted, found["pairs"]) == (wanted, len(listed))
    assert found["used"] == found["pairs"] - sum(found["left_out"].values()) == sum(not why for why in pairs.values())
    mined = pq.read_table("listed.parquet").select([0, 1])
    assert len({frozenset(row.values()) for row in mined.to_pylist()}) == found["used"]
    assert any(note.startswith("qrels: 3 pairs left out, a row of theirs takes no part") for note in report.notes)
    told = report.to_dict()
    assert told["counters"]["qrels_pairs"] == len(listed)
    assert told["counters"]["exclude_pairs"] == 1
    assert sum(each["count"] for each in told["left_out"] if each["what"] == "pairs of --qrels") == sum(wanted.values())


@pytest.mark.usefixtures("tables")
def test_ids_of_two_tables_with_labels_are_one_space_and_that_is_said() -> None:
    rows = pa.table({"id": range(20), "embedding": vectors(20), "label": [n % 10 for n in range(20)]})
    notes = minestream.mine(rows.slice(0, 5), "l.parquet", corpus=rows, progress="none").notes
    assert any(note.startswith("5 of 5 queries have an id that the corpus has too: without qrels") for note in notes)
    streams = (pa.RecordBatchReader.from_batches(each.schema, each.to_batches()) for each in (rows.slice(0, 5), rows))
    read, corpus = streams
    report = minestream.mine(read, "m.parquet", corpus=corpus, progress="none", shared_ids=True)
    assert not any("queries have an id" in note for note in report.notes)
    assert [each["rows"] for each in report.to_dict()["inputs"]] == [5, 20]  # known when they were read
    assert (report.source["queries"], report.source["corpus"]) == (5, 20)
