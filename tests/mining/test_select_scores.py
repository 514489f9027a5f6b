"""Lists by other scores and by verdicts, against loops over the lists."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minestream.cli.main import main
from minestream.errors import InputError, UsageError
from minestream.insight.describe import describe
from minestream.mining.pipeline import mine
from minestream.mining.select.run import refilter, select

QUERIES, DOCUMENTS = 30, 120
Options = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Queries, documents, qrels, the lists of all documents, and two tables of scores, one of which has gaps."""
    place, rng = tmp_path_factory.mktemp("scores"), np.random.default_rng(2)
    for name, rows in (("queries", QUERIES), ("docs", DOCUMENTS)):
        vectors = rng.standard_normal((rows, 6)).astype(np.float32)
        if name == "docs":
            vectors[60:70] = vectors[:10]
        ids = [f"{name[0]}{row}" for row in range(rows)]
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 6)
        pq.write_table(pa.table({"id": ids, "embedding": column}), place / f"{name}.parquet")
    known = [(query, document) for query in range(QUERIES) for document in rng.choice(DOCUMENTS, 2, replace=False)]
    columns = [[f"q{query}" for query, _ in known], [f"d{document}" for _, document in known]]
    pq.write_table(pa.table(columns, ["query_id", "positive_id"]), place / "qrels.parquet")
    every = [(f"q{query}", f"d{document}") for query in range(QUERIES) for document in range(DOCUMENTS)]
    for name, kept in (("ce", len(every)), ("bm25", 2 * len(every) // 3)):
        some = rng.permutation(len(every))[:kept]
        table = pa.table({
            "query_id": [every[i][0] for i in some], "document_id": [every[i][1] for i in some],
            "score": np.round(rng.standard_normal(kept), 1),
        })  # fmt: skip
        pq.write_table(table, place / f"{name}.parquet")
    mine(
        place / "queries.parquet", place / "lists", corpus=place / "docs.parquet", qrels=place / "qrels.parquet",
        emit="lists", negatives=1_000, progress="none",
    )  # fmt: skip
    return place


def scores_in(path: Path) -> dict[tuple[str, str], float]:
    return {(row["query_id"], row["document_id"]): row["score"] for row in pq.read_table(path).to_pylist()}


def expected_by(folder: Path, score: Any, k: int, keep: Any) -> list[tuple[str, str, str]]:
    """(query, positive, negative) by loops: candidates that `keep` lets through, the best k, equal ones by id."""
    found = []
    for row in pq.read_table(folder / "lists").to_pylist():
        query, candidates = row["query_id"], [f"d{each}" for each in row["candidate_rows"]]
        alike = defaultdict(set)
        for one, other in zip(row["duplicate_positives"], row["duplicate_candidates"], strict=True):
            alike[one].add(candidates[other])
        for place, positive in enumerate(f"d{each}" for each in row["positive_rows"]):
            reference = score(query, positive, row["positive_distances"][place])
            if reference is None:
                continue
            scored = [
                (score(query, each, x), each)
                for each, x in zip(candidates, row["candidate_distances"], strict=True)
                if each not in alike[place]
            ]
            passing = [(s, each) for s, each in scored if s is not None and keep(s, reference)]
            found += [(query, positive, each) for s, each in sorted(passing, key=lambda pair: (-pair[0], pair[1]))[:k]]
    return found


def keys_of(path: Path) -> list[tuple[str, str, str]]:
    names = ("query_id", "positive_id", "negative_id")
    return list(zip(*(pq.read_table(path)[name].to_pylist() for name in names), strict=True))


CASES: list[tuple[Options, Any]] = [
    ({"absolute_margin": 0.5, "negatives": 3}, lambda s, reference: s <= reference - 0.5),
    ({"band": "beyond", "negatives": 4}, lambda s, reference: s < reference),
    ({"max_similarity": 1.0, "min_similarity": -0.3, "negatives": 50}, lambda s, reference: -0.3 <= s <= 1.0),
]


@pytest.mark.parametrize(("options", "keep"), CASES, ids=["margin", "beyond", "bounds"])
@pytest.mark.parametrize("by", [None, "0.7*ce + 0.3*sim - 0.1", "max(ce, bm25)"])
def test_scores_take_the_place_of_distances(
    folder: Path, tmp_path: Path, options: Options, keep: Any, by: str | None
) -> None:
    tables = {name: scores_in(folder / f"{name}.parquet") for name in ("ce", "bm25")}

    def score(query: str, document: str, x: float) -> float | None:
        ce, bm25 = (tables[name].get((query, document)) for name in ("ce", "bm25"))
        if by is None:
            return ce
        if "bm25" in by:
            return None if bm25 is None else max(ce, bm25)
        return 0.7 * ce + 0.3 * (1.0 - x) - 0.1

    given = ["ce=" + str(folder / "ce.parquet"), "bm25=" + str(folder / "bm25.parquet")][: 1 + (by == "max(ce, bm25)")]
    select(
        folder / "lists", tmp_path / "out.parquet", scores=given, by=by, missing_scores="drop", progress="none",
        **options,
    )  # fmt: skip
    expected = expected_by(folder, score, options["negatives"], keep)
    assert keys_of(tmp_path / "out.parquet") == expected
    assert expected
    for row in pq.read_table(tmp_path / "out.parquet").to_pylist()[:50]:
        own = score(row["query_id"], row["negative_id"], row["distance_an"])
        assert row["score_an"] == pytest.approx(own, abs=1e-6)


@pytest.mark.parametrize("emit", ["triplets", "tuples"])
def test_scores_judge_lists_of_every_metric(folder: Path, tmp_path: Path, emit: str) -> None:
    """They are similarities, whatever the lists were mined by, so that they can be filtered and drawn by."""
    how: Options = {"negatives": 3, "absolute_margin": 0.2, "pick": "simans", "within_top": 20, "emit": emit}
    for metric, within in (("cosine", 0.0), ("euclidean", 1e-9)):
        mine(
            folder / "queries.parquet", tmp_path / metric, corpus=folder / "docs.parquet", metric=metric, emit="lists",
            qrels=folder / "qrels.parquet", negatives=1_000, drop_duplicates_within=within, progress="none",
        )  # fmt: skip
        select(tmp_path / metric, tmp_path / f"{metric}.out", scores=folder / "ce.parquet", progress="none", **how)
    names = ["query_row", "positive_row", "scores" if emit == "tuples" else "score_an"]
    rows = [pq.read_table(tmp_path / f"{metric}.out").select(names) for metric in ("cosine", "euclidean")]
    assert rows[0].equals(rows[1])
    assert rows[0].num_rows
    assert describe(tmp_path / "euclidean.out")["config"]["metric"] == "euclidean"


def test_scores_of_dealt_rows_are_stored_as_the_others(folder: Path, tmp_path: Path) -> None:
    how: Options = {"scores": folder / "ce.parquet", "negatives": 2, "progress": "none"}
    select(folder / "lists", tmp_path / "plain.parquet", **how)
    select(folder / "lists", tmp_path / "dealt.parquet", max_uses=2, **how)
    schemas = [pq.read_schema(tmp_path / f"{name}.parquet") for name in ("plain", "dealt")]
    assert schemas[0].field("score_an").type == pa.float32()
    assert schemas[0].types == schemas[1].types


def test_scores_leave_a_preset_its_band(folder: Path, tmp_path: Path) -> None:
    select(folder / "lists", tmp_path / "out.parquet", scores=folder / "ce.parquet", preset="easy-positive")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert rows
    assert all(row["score_an"] < row["score_ap"] for row in rows)


def test_what_was_scored_is_described_and_stands_in_tuples(folder: Path, tmp_path: Path) -> None:
    how: Options = {"scores": folder / "ce.parquet", "negatives": 2, "progress": "none"}
    select(folder / "lists", tmp_path / "t.parquet", **how)
    assert describe(tmp_path / "t.parquet")["rescoring"]["table"]["name"] == "ce.parquet"
    select(folder / "lists", tmp_path / "n.parquet", emit="tuples", **how)
    scores = pq.read_table(tmp_path / "n.parquet")["scores"].to_pylist()
    rows = pq.read_table(tmp_path / "t.parquet").to_pylist()
    assert [each for row in scores for each in row[1:]] == [row["score_an"] for row in rows]
    assert scores[0][0] == rows[0]["score_ap"]


@pytest.mark.parametrize(
    ("options", "error", "what"),
    [
        ({"scores": "bm25.parquet"}, InputError, "candidates and .* positives of the first lists have no score"),
        ({"scores": ["a=ce.parquet", "b=bm25.parquet"]}, UsageError, "names 2 tables, which by is to combine"),
        ({"scores": "ce.parquet", "by": "cee + 1"}, UsageError, "cee is no score"),
        ({"scores": "ce.parquet", "by": "__import__('os')"}, UsageError, "is not understood"),
        ({"scores": "ce.parquet", "by": "score if 1 else 2"}, UsageError, "is not understood"),
        ({"by": "sim"}, UsageError, "names scores"),
        ({"scores": "ce.parquet", "band": "semi-hard"}, UsageError, "measures a distance"),
        ({"scores": "ce.parquet", "pick": "weighted"}, UsageError, "is not for scores"),
        ({"qrels_out": "q.parquet"}, UsageError, "writes the positives that verdicts finds"),
    ],
)  # fmt: skip
def test_scores_that_say_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: Options, error: Any, what: str
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(error, match=what):
        select(folder / "lists", tmp_path / "out.parquet", progress="none", **options)
    assert not (tmp_path / "out.parquet").exists()


def test_refilter_takes_lists_and_mined_rows(folder: Path, tmp_path: Path) -> None:
    """It is select() by other scores, under another name."""
    select(folder / "lists", tmp_path / "m.parquet", negatives=9, progress="none")
    how: Options = {"scores": folder / "ce.parquet", "negatives": 2, "absolute_margin": 0.1}
    for given in (folder / "lists", tmp_path / "m.parquet"):
        refilter(given, tmp_path / "a.parquet", overwrite=True, **how)
        select(given, tmp_path / "b.parquet", overwrite=True, **how)
        assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    with pytest.raises(UsageError, match=r"is for lists, and .* holds mined rows"):
        refilter(tmp_path / "m.parquet", tmp_path / "c.parquet", pick="random", **how)
    by = "0.5*ce + sim"
    refilter(folder / "lists", tmp_path / "c.parquet", **(how | {"scores": {"ce": folder / "ce.parquet"}, "by": by}))
    assert describe(tmp_path / "c.parquet")["rescoring"]["scores"].endswith("of the mined embeddings")
    assert keys_of(tmp_path / "c.parquet") != keys_of(tmp_path / "a.parquet")


def test_tables_of_one_score_may_be_several_files(folder: Path, tmp_path: Path) -> None:
    whole = pq.read_table(folder / "ce.parquet")
    parts = [whole.slice(0, 1_000), whole.slice(1_000)]
    for name, scores in (("whole", whole), ("parts", parts)):
        refilter(folder / "lists", tmp_path / f"{name}.parquet", scores=scores, negatives=2)
    assert keys_of(tmp_path / "whole.parquet") == keys_of(tmp_path / "parts.parquet")


def test_verdicts(folder: Path, tmp_path: Path) -> None:
    rows = pq.read_table(folder / "lists").to_pylist()
    verdicts = [(rows[i]["query_id"], f"d{rows[i]['candidate_rows'][place]}", name) for i, place, name in (
        (0, 0, "positive"), (0, 1, "drop"), (1, 0, "keep"), (2, 3, "positive"), (2, 4, "positive"), (3, 0, "drop"),
    )] + [("q4", f"d{rows[4]['positive_rows'][0]}", "drop"), ("nobody", "d1", "keep")]  # fmt: skip
    columns = [list(column) for column in zip(*verdicts, strict=True)]
    table = pa.table(columns, ["query_id", "document_id", "verdict"])
    report = select(
        folder / "lists", tmp_path / "out.parquet", verdicts=table, qrels_out=tmp_path / "qrels.parquet", negatives=3,
        band="any", progress="none",
    )  # fmt: skip
    found = defaultdict(list)
    for query, positive, negative in keys_of(tmp_path / "out.parquet"):
        found[query, positive].append(negative)
    promoted = {(query, document) for query, document, name in verdicts if name == "positive"}
    gone = promoted | {(query, document) for query, document, name in verdicts[:6] if name == "drop"}
    for row in rows:
        query, candidates = row["query_id"], [f"d{each}" for each in row["candidate_rows"]]
        left = [each for each in candidates if (query, each) not in gone]
        for place, positive in enumerate(f"d{each}" for each in row["positive_rows"]):
            alike = {
                candidates[other]
                for one, other in zip(row["duplicate_positives"], row["duplicate_candidates"], strict=True)
                if one == place
            }
            assert found[query, positive] == [each for each in left if each not in alike][:3]
    assert promoted <= found.keys()
    known = pq.read_table(tmp_path / "qrels.parquet").to_pylist()
    assert {(row["query_id"], row["positive_id"]) for row in known if row["promoted"]} == promoted
    assert len(known) == sum(len(row["positive_rows"]) for row in rows) + len(promoted)
    told = "verdicts: 3 positive, 2 drop, 1 keep; 1 row of it is of positives, which stay; 1 of no candidate"
    assert any(told in note for note in report.notes)
    with pytest.raises(InputError, match="row 1: there is no verdict 'yes'"):
        select(
            folder / "lists", tmp_path / "bad.parquet", progress="none",
            verdicts=table.slice(0, 2).set_column(2, "verdict", pa.array(["keep", "yes"])),
        )  # fmt: skip


def test_lists_of_no_anchor_give_every_column(tmp_path: Path) -> None:
    """Lists may hold no row: rows have their scores, and what --qrels-out writes its columns, all the same."""
    queries, documents = (
        pa.table({"id": rows, "label": ["a", "b"], "embedding": pa.array([[1.0, 2.0], [2.0, 1.0]]), "year": rows})
        for rows in ([2020, 2021], [2024, 2025])
    )
    mine(queries, tmp_path / "lists", corpus=documents, emit="lists", where="year > 2022", progress="none")
    select(
        tmp_path / "lists", tmp_path / "out", source=queries, corpus=documents, qrels_out=tmp_path / "q.parquet",
        verdicts=pa.table({"query_id": [2020], "document_id": [2024], "verdict": ["positive"]}), progress="none",
        scores=pa.table({"query_id": [2020], "document_id": [2024], "score": [0.5]}),
    )  # fmt: skip
    rows = pq.read_table(tmp_path / "out")
    assert rows.num_rows == 0
    assert rows.column_names[-2:] == ["score_ap", "score_an"]
    known = pq.read_table(tmp_path / "q.parquet")
    assert known.num_rows == 0
    assert known.column_names == ["query_id", "positive_id", "score", "promoted"]


def test_copies_of_a_promoted_row_are_no_negatives_of_it(folder: Path, tmp_path: Path) -> None:
    """Documents 60 to 69 equal the first ten: a verdict on one says what its copy is to it."""
    rows = {row["query_id"]: row for row in pq.read_table(folder / "lists").to_pylist()}
    query = next(query for query, row in rows.items() if {3, 63} <= set(row["candidate_rows"]))
    table = pa.table({"query_id": [query], "document_id": ["d3"], "verdict": ["positive"]})
    select(folder / "lists", tmp_path / "out.parquet", verdicts=table, negatives=200, progress="none")
    negatives = {
        negative for q, positive, negative in keys_of(tmp_path / "out.parquet") if (q, positive) == (query, "d3")
    }
    assert "d63" not in negatives
    assert len(negatives) > 50


@pytest.mark.parametrize("scored", [False, True])
def test_duplicates_of_promoted_rows_lie_within_the_distance_of_the_lists(
    folder: Path, tmp_path: Path, scored: bool
) -> None:
    """Whatever scores say: duplicates of a promoted row are no negatives of it, and those of the anchor come last."""
    given = {"corpus": folder / "docs.parquet", "qrels": folder / "qrels.parquet", "emit": "lists", "progress": "none"}
    mine(folder / "queries.parquet", tmp_path / "lists", drop_duplicates_within=0.4, negatives=1_000, **given)
    rows = {row["query_id"]: row for row in pq.read_table(tmp_path / "lists").to_pylist()}
    vectors = np.array(pq.read_table(folder / "docs.parquet")["embedding"].to_pylist())
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    new = {query: [each for each in row["candidate_rows"] if each < 60][:2] for query, row in rows.items()}
    named = [(query, f"d{each}") for query, own in new.items() for each in own]
    columns = [*(list(each) for each in zip(*named, strict=True)), ["positive"] * len(named)]
    scores = {"scores": folder / "ce.parquet"} if scored else {}
    select(
        tmp_path / "lists", tmp_path / "out", verdicts=pa.table(columns, ["query_id", "document_id", "verdict"]),
        band="any", positives="easiest", negatives=1_000, positives_per_anchor=10, progress="none", **scores,
    )  # fmt: skip
    found, order = defaultdict(set), defaultdict(list)
    for query, positive, negative in keys_of(tmp_path / "out"):
        found[query, int(positive[1:])].add(int(negative[1:]))
        order[query] += [] if int(positive[1:]) in order[query] else [int(positive[1:])]
    near = 0
    for query, row in rows.items():
        x = dict(zip(row["candidate_rows"] + row["positive_rows"],
                     row["candidate_distances"] + row["positive_distances"], strict=True))  # fmt: skip
        for positive in new[query]:
            alike = {each for each in row["candidate_rows"] if vectors[each] @ vectors[positive] >= 0.6}
            assert found[query, positive] == {*row["candidate_rows"]} - alike - {*new[query]}
            near += len(alike) - 1
        of_anchor = [x[each] <= 0.4 for each in order[query]]
        assert of_anchor == sorted(of_anchor)
    assert near > 50


def test_the_command_refilter_takes_lists_and_mined_rows(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is select --scores by another name."""
    options = ["--scores", str(folder / "ce.parquet"), "-k", "2", "--absolute-margin", "0.1", "-o"]
    assert main(["refilter", str(folder / "lists"), *options, str(tmp_path / "a.parquet")]) == 0
    select(
        folder / "lists", tmp_path / "b.parquet", scores=folder / "ce.parquet", negatives=2, absolute_margin=0.1,
        progress="none",
    )  # fmt: skip
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert "each is an anchor, a positive and a negative" in capsys.readouterr().out
