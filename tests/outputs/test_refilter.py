"""Refilter: the filters of mining by a table's scores, against a loop; the funnel; what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minestream
from minestream.cli.main import main
from minestream.config.trainer_formats import FORMATS
from minestream.errors import GateMissedError, InputError, OutputError, UsageError
from minestream.insight import describe
from minestream.insight.verify import verify
from minestream.mining.select.run import refilter
from minestream.outputs.recipes import recorded_command
from minestream.outputs.trainers import refilter as module
from minestream.outputs.trainers.export import export

ROWS = 48


def write_mined(folder: Path, *, texts: bool = True, **options: Any) -> Path:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, ROWS)
    vectors = rng.normal(size=(3, 5))[labels] + rng.normal(size=(ROWS, 5))
    ids = [f"{row * 7}" for row in range(ROWS)] if texts else [row * 7 for row in range(ROWS)]
    table = pa.table({"id": ids, "label": labels, "embedding": pa.array(list(vectors.astype(np.float32)))})
    table = table.append_column("text", pa.array([f"text {row * 7}" for row in range(ROWS)]))
    pq.write_table(table, folder / "source.parquet")
    out = folder / "mined.parquet"
    options = {"negatives": 6, "positives": "all", "band": "any", "anchors": "15", **options}
    minestream.mine(folder / "source.parquet", out, progress="none", overwrite=True, **options)
    return out


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_mined(tmp_path_factory.mktemp("mined"))


def scores_of(mined: Path, seed: int = 0, missing: float = 0.0) -> pa.Table:
    """A score with one decimal, so that there are ties, for each pair of ids in the mined rows."""
    rows = pq.read_table(mined).to_pylist()
    pairs = {(row["anchor_id"], row[f"{end}_id"]) for row in rows for end in ("positive", "negative")}
    rng = np.random.default_rng(seed)
    kept = [pair for pair in sorted(pairs) if rng.random() >= missing]
    values = np.round(rng.normal(size=len(kept)), 1)
    queries, documents = zip(*kept, strict=True)
    return pa.table({"query_id": queries, "document_id": documents, "score": values})


def by_loops(
    mined: Path, scores: pa.Table, k: int, reference: str, filters: dict[str, float], keeps: bool = False
) -> tuple[Any, dict[str, Any]]:
    known = {(row["query_id"], row["document_id"]): row["score"] for row in scores.to_pylist()}
    rows = pq.read_table(mined).to_pylist()
    positives: dict[Any, dict[Any, float]] = {}
    for row in rows:
        own = known.get((row["anchor_id"], row["positive_id"]))
        positives.setdefault(row["anchor_id"], {}) if own is None else positives.setdefault(
            row["anchor_id"], {}
        ).update({row["positive_id"]: own})
    pairs: dict[Any, list[dict[str, Any]]] = {}
    for row in rows:
        pairs.setdefault((row["anchor_id"], row["positive_id"]), []).append(row)
    found, told = [], {"full": 0, "short": 0, "empty": 0, "pairs_without_score": 0}
    for (anchor, positive), own in pairs.items():
        s_p = known.get((anchor, positive))
        if s_p is None:
            told["pairs_without_score"] += 1
            if not keeps:
                continue
        every = list(positives[anchor].values())
        ref = s_p
        if reference != "pair" and every:
            ref = {"min": min(every), "max": max(every), "mean": math.fsum(every) / len(every)}[reference]
        kept = []
        for row in own:
            s_n = known.get((anchor, row["negative_id"]))
            if s_n is None:
                passes = keeps
            else:
                passes = filters.get("min_similarity", -math.inf) <= s_n <= filters.get("max_similarity", math.inf)
                if ref is not None:
                    passes &= "absolute_margin" not in filters or s_n <= ref - filters["absolute_margin"]
                    passes &= "relative_margin" not in filters or s_n <= ref - abs(ref) * filters["relative_margin"]
            if passes:
                ap, an = (None if value is None else float(np.float32(value)) for value in (s_p, s_n))
                kept.append({**row, "score_ap": ap, "score_an": an})
        kept = sorted(kept, key=lambda row: math.inf if row["score_an"] is None else -row["score_an"])[:k]
        told["full" if len(kept) == k else "short" if kept else "empty"] += 1
        found += kept
    return found, told


@given(
    seed=st.integers(0, 9), k=st.integers(1, 7), missing=st.sampled_from([0.0, 0.3]), keeps=st.booleans(),
    reference=st.sampled_from(["pair", "min", "max", "mean"]), block=st.sampled_from([1, 20, 10_000]),
    filters=st.fixed_dictionaries(
        {"relative_margin": st.sampled_from([0.0, 0.05, 0.5])},
        optional={"max_similarity": st.sampled_from([0.3, 1.0]), "min_similarity": st.sampled_from([-1.0, 0.3]),
                  "absolute_margin": st.sampled_from([0.0, 0.2])},
    ),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_rows_are_those_of_a_loop(
    mined: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, k: int, missing: float, keeps: bool,
    reference: str, block: int, filters: dict[str, float],
) -> None:  # fmt: skip
    out = tmp_path_factory.mktemp("out") / "x.parquet"
    scores = scores_of(mined, seed, missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ROWS", block)
        told = refilter(
            mined, out, scores=scores, negatives=k, reference=reference,
            missing_scores="keep" if keeps else "drop", **filters,
        )  # fmt: skip
    rows, counts = by_loops(mined, scores, k, reference, filters, keeps)
    assert pq.read_table(out).to_pylist() == rows
    assert {name: told[name] for name in counts} == counts
    unscored, pairs = told["without_positive_score"] + told["without_score"], sum(counts.values())
    lost = sum(told["dropped"].values()) + told["beyond_k"] + (0 if keeps else unscored)
    assert told["candidates"] == lost + told["rows"] == pq.read_metadata(mined).num_rows
    assert told["pairs"] == pairs - (counts["pairs_without_score"] if keeps else 0)
    assert (unscored > 0) == (missing > 0)
    assert list(told["dropped"]) == [name for name in module.Rule.__dataclass_fields__ if name in filters]


def test_bytes_do_not_depend_on_blocks(mined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refilter(mined, tmp_path / "a.parquet", scores=scores_of(mined), negatives=3)
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    refilter(mined, tmp_path / "b.parquet", scores=scores_of(mined), negatives=3)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_a_margin_that_may_be_turned_round_is_noted(mined: Path, tmp_path: Path) -> None:
    said = "relative_margin=0.95 keeps what is at most 5 % as similar; for up to 95 % write 0.05"
    for margin, notes in ((0.5, []), (0.95, [said])):
        out = tmp_path / f"{margin}.parquet"
        assert refilter(mined, out, scores=scores_of(mined), negatives=2, relative_margin=margin)["notes"] == notes


def test_the_output_is_native_and_can_be_exported(mined: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    told = refilter(mined, out, scores=scores_of(mined), negatives=2, max_similarity=0.5)
    assert pq.read_schema(out).names == [*pq.read_schema(mined).names, "score_ap", "score_an"]
    said = describe.describe(out)
    assert said["config"]["negatives"] == 2
    assert said["counts"]["rows"] == told["rows"]
    assert export(out, tmp_path / "y.parquet", emit="pylate")["rows"] == told["full"]


@pytest.mark.parametrize("texts", [True, False])
def test_ids_of_another_type_are_compared_as_text(tmp_path: Path, texts: bool) -> None:
    mined = write_mined(tmp_path, texts=texts)
    scores = scores_of(mined)
    other = pa.int64() if texts else pa.string()
    same = refilter(mined, tmp_path / "a.parquet", scores=scores, negatives=3)
    cast = pa.table({n: scores[n].cast(other) if n != "score" else scores[n] for n in scores.column_names})
    found = refilter(mined, tmp_path / "b.parquet", scores=cast, negatives=3)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert (len(same["notes"]), len(found["notes"])) == (0, 2)
    assert "compared as text" in found["notes"][0]


def test_tuples_come_out_as_triplets(tmp_path: Path) -> None:
    mined = write_mined(tmp_path)
    scores = scores_of(mined)
    refilter(mined, tmp_path / "a.parquet", scores=scores, negatives=3)
    write_mined(tmp_path, emit="tuples", short_rows="keep")
    refilter(mined, tmp_path / "b.parquet", scores=scores, negatives=3)
    one, other = (pq.read_table(tmp_path / f"{name}.parquet") for name in "ab")
    for name in ("anchor_id", "positive_id", "negative_id", "anchor_row", "negative_row", "loss", "score_an"):
        assert one[name].equals(other[name]), name
    assert np.allclose(one["distance_an"].to_numpy(), other["distance_an"].to_numpy(), atol=1e-6)


def changed(scores: pa.Table, name: str, values: Any) -> pa.Table:
    return scores.set_column(scores.column_names.index(name), name, pa.array(values))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: changed(t, "score", [math.nan, *t["score"].to_pylist()[1:]]), "not finite in row 0"),
        (lambda t: changed(t, "score", [*t["score"].to_pylist()[:-1], None]), "null or not finite"),
        (lambda t: changed(t, "score", list(map(str, t["score"].to_pylist()))), "not a number"),
        (lambda t: t.rename_columns(["query_id", "document_id", "scores"]), "did you mean 'scores'"),
        (lambda t: changed(t, "query_id", [f"q{i}" for i in t["query_id"].to_pylist()]), "has a score"),
        (lambda t: t.slice(0, 0), "has a score"),
        (lambda t: changed(t, "query_id", [0.5] * len(t)), "an int or a string"),
        (lambda t: pa.concat_tables([t, changed(t, "score", [9.0] * len(t)).slice(0, 1)]), "two scores, in rows [0"),
        (lambda t: t.slice(1), "6 of 1,308 mined rows lack a score (1 of 218 positives does); the first is that of"),
        (lambda t: t.slice(0, len(t) - 1), "of 1,308 mined rows lack a score"),
    ],
)  # fmt: skip
def test_scores_that_do_not_fit_are_refused(mined: Path, tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        refilter(mined, tmp_path / "x.parquet", scores=change(scores_of(mined)), negatives=2)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"negatives": 0}, "at least 1"),
        ({"relative_margin": math.nan}, "finite"),
        ({"relative_margin": 5.0}, "0.05 is 5 %"),
        ({"reference": "median", "relative_margin": 0.1}, "did you mean 'mean'"),
        ({"reference": "max"}, "relative_margin"),
        ({"min_similarity": 1.0, "max_similarity": 0.5}, "nothing can be selected"),
        ({"emit": "st-tuples"}, "minestream.export("),
    ],
)
def test_rules_that_mean_nothing_are_refused(mined: Path, tmp_path: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        refilter(mined, tmp_path / "x.parquet", scores=scores_of(mined), **{"negatives": 2, **options})
    assert words in str(caught.value)


def test_mined_rows_that_cannot_be_refiltered(mined: Path, tmp_path: Path) -> None:
    scores = scores_of(mined)
    out = tmp_path / "x.parquet"
    shuffled = write_mined(tmp_path, order="shuffled")
    with pytest.raises(UsageError, match="shuffled"):
        refilter(shuffled, out, scores=scores, negatives=2)
    table = pq.read_table(tmp_path / "source.parquet").drop_columns(["id"])
    pq.write_table(table, tmp_path / "noids.parquet")
    minestream.mine(tmp_path / "noids.parquet", tmp_path / "m.parquet", progress="none")
    with pytest.raises(InputError, match="no ids"):
        refilter(tmp_path / "m.parquet", out, scores=scores, negatives=2)
    refilter(mined, out, scores=scores, negatives=2)
    with pytest.raises(OutputError, match="exists"):
        refilter(mined, out, scores=scores, negatives=2)
    refilter(mined, out, scores=scores, negatives=1, overwrite=True)
    with pytest.raises(UsageError, match=r'out=".*/x\.parquet"'):
        refilter(mined, tmp_path / "x", scores=scores, negatives=2)


# ---------------------------------------------------------------- what others make of the scores


def expected_scores(rows: list[dict[str, Any]], emit: str) -> list[list[float]]:
    """The scores of an export, a list a row, from the refiltered rows."""
    pairs: dict[Any, list[dict[str, Any]]] = {}
    anchors: dict[Any, tuple[dict[Any, float], dict[Any, float]]] = {}
    for row in rows:
        pairs.setdefault((row["anchor_id"], row["positive_id"]), []).append(row)
        positives, negatives = anchors.setdefault(row["anchor_id"], ({}, {}))
        positives[row["positive_id"]], negatives[row["negative_id"]] = row["score_ap"], row["score_an"]
    full = [own for own in pairs.values() if len(own) == max(map(len, pairs.values()))]
    sides = [[list(own[0].values()), sorted(own[1].values(), reverse=True)] for own in anchors.values()]
    return {
        "st-triplets": [[row["score_ap"], row["score_an"]] for row in rows],
        "st-tuples": [[own[0]["score_ap"], *(row["score_an"] for row in own)] for own in full],
        "st-labeled-pairs": [[score] for side in sides for score in side[0] + side[1]],
        "st-labeled-lists": [side[0] + side[1] for side in sides],
        "flagembedding": [side[0] + side[1] for side in sides],
        "trec": [[score] for side in sides for score in side[1]],
    }["st-tuples" if emit == "pylate" else emit]


def exported_scores(path: Path) -> list[list[float]]:
    """The scores of an export, a list a row."""
    if path.suffix == ".trec":
        return [[float(line.split()[2])] for line in path.read_text().splitlines()]
    if path.suffix == ".jsonl":
        return [row["pos_scores"] + row["neg_scores"] for row in map(json.loads, path.read_text().splitlines())]
    found = [row.get("scores", row.get("score")) for row in pq.read_table(path).to_pylist()]
    return [scores if isinstance(scores, list) else [scores] for scores in found]


@pytest.fixture(scope="module")
def refiltered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows with texts, chosen by a table whose scores have nothing to do with the distances."""
    folder = tmp_path_factory.mktemp("refiltered")
    mined = write_mined(folder, carry=("text",))
    pq.write_table(scores_of(mined), folder / "cross.parquet")
    refilter(mined, folder / "kept.parquet", scores=folder / "cross.parquet", negatives=3, relative_margin=0.05)
    return folder / "kept.parquet"


def test_what_is_not_mined_is_not_repeated_verified_or_described(
    refiltered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """It says who wrote it, and what to give instead."""
    export(refiltered, tmp_path / "x.parquet", emit="st-triplets")
    export(refiltered, tmp_path / "x.jsonl", emit="flagembedding")
    for path, by in ((refiltered, "refilter"), (tmp_path / "x.parquet", "export"), (tmp_path / "x.jsonl", "export")):
        with pytest.raises(InputError, match=f"written by {by}, whose command is not recorded"):
            recorded_command(str(path))
    with pytest.raises(InputError, match="filtered again"):
        verify(refiltered)
    assert "checksums alone" in verify(tmp_path / "x.parquet")["notes"][0]
    for read in (describe.describe, verify):
        with pytest.raises(InputError, match=r"holds lines for a trainer \(flagembedding\)"):
            read(tmp_path / "x.jsonl")


@pytest.mark.parametrize("emit", sorted(FORMATS))
def test_exports_carry_the_scores_by_which_rows_were_chosen(refiltered: Path, tmp_path: Path, emit: str) -> None:
    out = tmp_path / f"x{FORMATS[emit].suffix}"
    form, rows = FORMATS[emit], pq.read_table(refiltered).to_pylist()
    if form.scores == ("none",):
        with pytest.raises(UsageError, match="cannot carry"):
            export(refiltered, out, emit=emit, scores="rescored")
        return
    told = export(refiltered, out, emit=emit, scores=None if form.scores[0] != "none" else "rescored")
    assert told["scores"] == "rescored"
    short = pytest.approx if out.suffix != ".parquet" else list  # lines hold the shortest text of a float32
    assert exported_scores(out) == [short(scores) for scores in expected_scores(rows, emit)]
    export(refiltered, out, emit=emit, scores="similarity", overwrite=True)
    others = {np.float32(1 - row[f"distance_{end}"]) for row in rows for end in ("ap", "an")}
    assert {np.float32(score) for scores in exported_scores(out) for score in scores} <= others


def test_labels_stay_labels_unless_scores_are_asked_for(refiltered: Path, tmp_path: Path) -> None:
    export(refiltered, tmp_path / "x.parquet", emit="st-labeled-pairs")
    assert set(pq.read_table(tmp_path / "x.parquet")["label"].to_pylist()) == {0, 1}


def test_documents_of_several_positives_stand_by_their_scores(refiltered: Path, tmp_path: Path) -> None:
    export(refiltered, tmp_path / "x.parquet", emit="tevatron")
    known = {(r["query_id"], r["document_id"]): r["score"] for r in pq.read_table(
        refiltered.parent / "cross.parquet").to_pylist()}  # fmt: skip
    rows = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert any(len(row["positive_document_ids"]) > 1 and len(row["negative_document_ids"]) > 3 for row in rows)
    for row in rows:
        scores = [known[row["query_id"], negative] for negative in row["negative_document_ids"]]
        assert scores == sorted(scores, reverse=True)


def test_rows_that_no_table_scored_have_no_such_scores(mined: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no table has scored"):
        export(mined, tmp_path / "x.parquet", emit="pylate", scores="rescored")


def test_euclidean_rows_have_scores_once_they_are_rescored(tmp_path: Path) -> None:
    mined = write_mined(tmp_path, metric="euclidean")
    with pytest.raises(UsageError, match="no similarity"):
        export(mined, tmp_path / "x.parquet", emit="pylate")
    refilter(mined, tmp_path / "kept.parquet", scores=scores_of(mined), negatives=2)
    export(tmp_path / "kept.parquet", tmp_path / "x.parquet", emit="pylate")
    rows = pq.read_table(tmp_path / "kept.parquet").to_pylist()
    assert exported_scores(tmp_path / "x.parquet") == expected_scores(rows, "pylate")


def test_the_last_of_several_tables_counts(mined: Path, tmp_path: Path) -> None:
    refilter(mined, tmp_path / "a.parquet", scores=scores_of(mined, 1), negatives=4)
    again = {"scores": scores_of(mined, 2), "negatives": 2, "max_similarity": 2.0}
    refilter(tmp_path / "a.parquet", tmp_path / "b.parquet", **again)
    last = {(row["query_id"], row["document_id"]): row["score"] for row in scores_of(mined, 2).to_pylist()}
    rows = pq.read_table(tmp_path / "b.parquet").to_pylist()
    assert pq.read_schema(tmp_path / "b.parquet").names.count("score_an") == 1
    assert all(row["score_an"] == np.float32(last[row["anchor_id"], row["negative_id"]]) for row in rows)
    said = describe.describe(tmp_path / "b.parquet")["rescoring"]
    assert said["rule"]["max_similarity"] == 2.0
    assert (said["rule"]["negatives"], said["before"]["rule"]["negatives"]) == (2, 4)


def test_describe_says_the_rescoring(refiltered: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = describe.describe(refiltered)
    table = pq.read_table(refiltered.parent / "cross.parquet")
    assert said["rescoring"]["table"].items() >= {"name": "cross.parquet", "rows": len(table)}.items()
    assert said["rescoring"]["rule"]["relative_margin"] == 0.05
    assert said["quantiles"]["score_an"]["max"] == max(pq.read_table(refiltered)["score_an"].to_pylist())
    assert main(["describe", str(refiltered), "--html", str(tmp_path / "x.html")]) == 0
    text, page = capsys.readouterr().out, (tmp_path / "x.html").read_text()
    for words in (f"{len(table):,} in cross.parquet", "best-scored of each pair, reference", "--missing-scores error"):
        assert words in text
        assert words in page
    assert "crc32" not in text
    export(refiltered, tmp_path / "x.parquet", emit="pylate")
    assert b"rescored" in pq.read_metadata(tmp_path / "x.parquet").metadata[b"minestream.scores"]
    assert describe.describe(tmp_path / "x.parquet")["rescoring"] == said["rescoring"]
    export(refiltered, tmp_path / "y.parquet", emit="pylate", scores="similarity")
    assert b"similarity" in pq.read_metadata(tmp_path / "y.parquet").metadata[b"minestream.scores"]


def test_scores_are_double_where_distances_are(tmp_path: Path) -> None:
    mined = write_mined(tmp_path, float64=True)
    scores = changed(scores_of(mined), "score", np.random.default_rng(3).normal(size=len(scores_of(mined))))
    refilter(mined, tmp_path / "kept.parquet", scores=scores, negatives=2)
    rows = pq.read_table(tmp_path / "kept.parquet").to_pylist()
    assert {row["score_an"] for row in rows} <= set(scores["score"].to_pylist())
    export(tmp_path / "kept.parquet", tmp_path / "x.parquet", emit="pylate")
    assert exported_scores(tmp_path / "x.parquet") == expected_scores(rows, "pylate")
    export(mined, tmp_path / "y.parquet", emit="pylate")
    first = pq.read_table(mined).to_pylist()[0]
    assert exported_scores(tmp_path / "y.parquet")[0][:2] == [1 - first["distance_ap"], 1 - first["distance_an"]]


# ---------------------------------------------------------------- missing scores, gates, names


def test_rows_kept_without_a_score_are_not_exported_as_scored(mined: Path, tmp_path: Path) -> None:
    kept, out = tmp_path / "kept.parquet", tmp_path / "x.parquet"
    refilter(mined, kept, scores=scores_of(mined, missing=0.5), negatives=6, missing_scores="keep")
    assert pq.read_table(kept)["score_an"].null_count
    with pytest.raises(InputError, match=r"^positive .* \(row \d+\) of anchor .* \(row \d+\) has no score"):
        export(kept, out, emit="pylate")
    assert not out.exists()
    export(kept, out, emit="pylate", scores="similarity")


@pytest.mark.parametrize(
    ("gates", "words"),
    [({"require_rows": 2_000}, "require_rows asks for 2,000"), ({"max_short": "5%"}, "max_short allows 5.00%")],
)
def test_gates(mined: Path, tmp_path: Path, gates: dict[str, Any], words: str) -> None:
    scores = scores_of(mined, missing=0.9)
    with pytest.raises(GateMissedError, match=words):
        refilter(mined, tmp_path / "x.parquet", scores=scores, negatives=1, missing_scores="drop", **gates)
    assert not list(tmp_path.iterdir())
    refilter(mined, tmp_path / "x.parquet", scores=scores_of(mined), negatives=1, require_rows=9, max_short="5%")


def test_a_table_that_scores_negatives_only_is_answered_by_its_kind(mined: Path, tmp_path: Path) -> None:
    positives = {(row["anchor_id"], row["positive_id"]) for row in pq.read_table(mined).to_pylist()}
    scores = scores_of(mined)
    keep = [(row["query_id"], row["document_id"]) not in positives for row in scores.to_pylist()]
    scores = scores.filter(pa.array(keep))
    for missing, words in (("error", r"\(218 of 218 positives do\)"), ("drop", "none of the 218 mined positives")):
        with pytest.raises(InputError, match=words):
            refilter(mined, tmp_path / "x.parquet", scores=scores, negatives=2, missing_scores=missing)
    told = refilter(mined, tmp_path / "x.parquet", scores=scores, negatives=2, missing_scores="keep")
    assert told["rows"] == 2 * 218
    other = scores.set_column(0, "qid", pa.array([f"?{i}" for i in range(len(scores))]))
    with pytest.raises(InputError, match="qid is to hold anchor_id"):
        refilter(mined, tmp_path / "y.parquet", scores=other, negatives=2)


def test_unknown_ways_with_missing_scores(mined: Path, tmp_path: Path) -> None:
    for options in ({"missing_scores": "dorp"}, {"max_short": "many"}):
        with pytest.raises(UsageError):
            refilter(mined, tmp_path / "x.parquet", scores=scores_of(mined), negatives=1, **options)


@pytest.mark.parametrize("query", ["query_id", "query-id", "qid", "anchor_id"])
@pytest.mark.parametrize(("document", "score"), [("corpus_id", "score"), ("corpus-id", "relevance"), ("pid", "rel")])
def test_columns_may_have_the_names_that_qrels_have(
    mined: Path, tmp_path: Path, query: str, document: str, score: str
) -> None:
    scores = scores_of(mined)
    refilter(mined, tmp_path / "a.parquet", scores=scores, negatives=3)
    refilter(mined, tmp_path / "b.parquet", scores=scores.rename_columns([query, document, score]), negatives=3)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_scores_may_be_lines_of_text(mined: Path, tmp_path: Path) -> None:
    scores = scores_of(mined)
    rows = [(row["query_id"], row["document_id"], row["score"]) for row in scores.to_pylist()]
    lines = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in rows)]
    (tmp_path / "s.tsv").write_text("\n".join(lines))
    (tmp_path / "s.trec").write_text("\n".join(f"{query} 0 {document} {score}" for query, document, score in rows))
    wanted = refilter(mined, tmp_path / "a.parquet", scores=scores, negatives=3)
    for name in ("s.tsv", "s.trec"):
        told = refilter(mined, tmp_path / "b.parquet", scores=tmp_path / name, negatives=3, overwrite=True)
        assert pq.read_table(tmp_path / "b.parquet").equals(pq.read_table(tmp_path / "a.parquet"))
        assert (told["table"]["name"], told["rows"]) == (name, wanted["rows"])
    (tmp_path / "s.tsv").write_text("\n".join([*lines[:3], "0\t7\tmuch"]))
    with pytest.raises(InputError, match="no number"):
        refilter(mined, tmp_path / "c.parquet", scores=tmp_path / "s.tsv", negatives=3)


def test_the_command_line_asks_for_every_score(mined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(scores_of(mined, missing=0.5), tmp_path / "s.parquet")
    table, out = str(tmp_path / "s.parquet"), str(tmp_path / "x.parquet")
    command = ["refilter", str(mined), "--scores", table, "-k", "2", "-o", out]
    assert main(command) == 3
    assert "--missing-scores drop" in capsys.readouterr().err
    assert main([*command, "--missing-scores", "drop", "--max-short", "1%"]) == 6
    assert main([*command, "--missing-scores", "drop"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("the 2 best-scored of each pair", "pairs: their positive has no score", "behind the 2 best"):
        assert words in said
    assert "reference" not in said
    assert main([*command, "--missing-scores", "keep", "--relative-margin", "0.05", "--overwrite"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    for words in ("reference pair", "unscored", "mined rows: relative margin", f"next minestream describe {out}"):
        assert words in said
