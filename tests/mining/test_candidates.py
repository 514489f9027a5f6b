"""Candidates from elsewhere: negatives among them alone, or as one more teacher; runs of several kinds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from assertions import assert_same_rows
from support import SCREENS, reference_rules
from test_teachers import OF_CORPUS, ROWS, mined, rows_of, table

import minestream
from minestream import reference
from minestream.cli.main import main
from minestream.config.resolve import split_options
from minestream.errors import InputError

EACH = 25


def drawn_run(tables: list[pa.Table], seed: int = 0) -> list[tuple[int, int]]:
    """The candidates of most rows, the first ones first, as rows."""
    rng, candidates = np.random.default_rng(seed), len(tables[-1])
    return [(row, int(b)) for row in range(5, len(tables[0])) for b in rng.permutation(candidates)[:EACH]]


def as_table(tables: list[pa.Table], run: list[tuple[int, int]], **columns: Any) -> pa.Table:
    queries, documents = tables[0]["id"].to_pylist(), tables[-1]["id"].to_pylist()
    named = {"query_id": [queries[a] for a, _ in run], "document_id": [documents[b] for _, b in run]}
    return pa.table(named | columns)


RULES: dict[str, dict[str, Any]] = {
    "plain": {"band": "any"},
    "semi-hard": {"positives": "hardest", "margin": 0.4},
    "all rules": {
        "band": "any", "max_per_negative_label": 2, "within_top": 12, "skip": 1, "pick": "random",
        "relative_margin": 0.1, "reference": "mean", "positives": "all",
    },
    "ranks of positives": {"band": "any", "max_positive_rank": 4, "positives": "random"},
    "farthest": {"fallback": "farthest", "margin": 0.01, "drop_duplicates_within": 0.02},
    "uses": {"max_uses": 1, "band": "any", "negatives": 3},
    "Euclid": {"metric": "euclidean", "margin": 2.0, "positives": "all", "emit": "tuples", "scores": "none"},
    "one more": {"candidates_as": "too", "band": "any", "guide": "c", "absolute_margin": 0.0},
    "one more, in tuples": {"candidates_as": "too", "band": "any", "emit": "tuples", "negatives": 1},
    "of two teachers": {"embedding": ["a", "b"], "band": "any"},
    "one of three": {"candidates_as": "too", "teachers": "majority", "embedding": ["a", "b"], "positives": "all"},
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("two", [False, True])
def test_candidates_are_mined_as_the_reference_says(name: str, two: bool, tmp_path: Path) -> None:
    number = list(RULES).index(name)
    screen = SCREENS[(number + two) % len(SCREENS)]
    options: dict[str, Any] = {"embedding": "a", "negatives": 4, **RULES[name]}
    tables = [table(number), table(number + 50, OF_CORPUS, "c")][: 1 + two]
    run = drawn_run(tables)
    config, _, _ = split_options({**options, "candidates": "run", **({"corpus": "c"} if two else {})})
    rules = reference_rules(config) | ({"corpus": rows_of(tables[1]["a"])} if two else {})
    for prefix, each in zip(("", "corpus_"), tables, strict=False):
        rules |= {f"{prefix}labels": each["label"].to_pylist(), f"{prefix}ids": each["id"].to_pylist()}
        rules |= {f"{prefix}guide": rows_of(each["c"])} if "guide" in options else {}
    others = {"b": [rows_of(each["b"]) for each in tables]} if isinstance(options["embedding"], list) else {}
    want = reference.mine(rows_of(tables[0]["a"]), name="a", others=others, candidate_lists=run, **rules).columns
    given = {**options, "candidates": as_table(tables, run), "screen": screen, "label": "label", "id": "id"}
    given |= {"corpus": tables[1]} if two else {}
    minestream.mine(tables[0], tmp_path / "o.parquet", **given)
    found = pq.read_table(tmp_path / "o.parquet")
    assert_same_rows(want, found)
    assert len(want["anchor_row" if not two else "query_row"]) > 0


def test_a_run_says_the_same_in_every_form(tmp_path: Path) -> None:
    tables = [table(2), table(3, OF_CORPUS, "c")]
    run = drawn_run(tables)
    first = as_table(tables, run)
    lines = list(zip(first["query_id"].to_pylist(), first["document_id"].to_pylist(), strict=True))
    rank = [number % EACH + 1 for number in range(len(lines))]
    (tmp_path / "a.run").write_text("".join(f"{q} Q0 {d} {r} {-r} t\n" for (q, d), r in zip(lines, rank, strict=True)))
    (tmp_path / "b.tsv").write_text("".join(f"{q}\t{d}\t{r}\n" for (q, d), r in zip(lines, rank, strict=True)))
    mixed = np.random.default_rng(1).permutation(len(run)).tolist()
    forms = [
        first,
        as_table(tables, [run[i] for i in mixed], rank=[rank[i] for i in mixed]),
        as_table(tables, [run[i] for i in mixed], score=[-0.5 * rank[i] for i in mixed]),
        str(tmp_path / "a.run"),
        str(tmp_path / "b.tsv"),
    ]
    options = {"embedding": "a", "negatives": 3, "candidates_as": "too", "teachers": "all", "band": "any"}
    found = [mined(tables, candidates=form, **options) for form in forms]
    assert [each.equals(found[0]) for each in found] == [True] * len(forms)
    assert found[0].num_rows


def test_unknown_ids_and_anchors_without_candidates_are_told(tmp_path: Path) -> None:
    one = table(4)
    run = as_table([one], drawn_run([one]))
    extra = pa.concat_tables([run, pa.table({"query_id": ["nobody"], "document_id": [one["id"][0].as_py()]})])
    options = {"embedding": "a", "label": "label", "id": "id", "negatives": 2, "band": "any"}
    with pytest.raises(InputError, match=r"1 of .* ids is not among the rows, the first is 'nobody'"):
        minestream.mine(one, tmp_path / "o.parquet", candidates=extra, **options)
    report = minestream.mine(one, tmp_path / "o.parquet", candidates=extra, on_missing_ids="drop", **options)
    assert report.source["listed"]["--candidates"]["left_out"]["an id is unknown"] == 1
    assert any("5 anchors have no candidate" in note for note in report.notes)
    assert len({*pq.read_table(tmp_path / "o.parquet")["anchor_row"].to_pylist()}) <= ROWS - 5


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.run", "q Q0 d 1 2.0 t\nq Q0 d\n", "line 2 is not `query Q0 document rank score tag"),
        ("a.run", "q d\n", "line 1 is not"),
        ("a.run", "", "no candidates"),
        ("a.run", "q Q0 d first 2.0 t\n", "not all are numbers"),
    ],
)
def test_what_is_no_run_is_refused(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=message):
        mined([table(4)], embedding="a", candidates=str(tmp_path / name))


def test_the_command_line_mines_and_verifies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tables = [table(6, 300), table(7, 200, "c")]
    for name, each in zip(("q", "c"), tables, strict=True):
        pq.write_table(each, f"{name}.parquet")
    run = as_table(tables, drawn_run(tables))
    pq.write_table(run, "run.parquet")
    asked = ["q.parquet", "--corpus", "c.parquet", "--embedding", "a", "--candidates", "run.parquet", "-k", "3"]
    for more in ([], ["--candidates-as", "too", "--embedding", "b"]):
        assert main(["mine", *asked, *more, "-o", "o.parquet", "--overwrite", "-q"]) == 0
        assert main(["verify", "o.parquet", "--sample", "40"]) == 0
        assert main(["mine", *asked, *more, "-o", "p.parquet", "--overwrite", "-q", "--memory", "16MiB"]) == 0
        assert Path("o.parquet").read_bytes() == Path("p.parquet").read_bytes()
    pq.write_table(run.slice(1), "run.parquet")
    assert main(["verify", "o.parquet"]) == 3
