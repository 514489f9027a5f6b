"""Refilter: the filters of mining by a table's scores, against a loop; the funnel; what is refused."""

from __future__ import annotations

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
from minestream import contents
from minestream import rescoring as module
from minestream.conversion import export
from minestream.errors import InputError, OutputError, UsageError
from minestream.rescoring import refilter

ROWS = 48


def write_mined(folder: Path, *, texts: bool = True, **options: Any) -> Path:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, ROWS)
    vectors = rng.normal(size=(3, 5))[labels] + rng.normal(size=(ROWS, 5))
    ids = [f"{row * 7}" for row in range(ROWS)] if texts else [row * 7 for row in range(ROWS)]
    table = pa.table({"id": ids, "label": labels, "embedding": pa.array(list(vectors.astype(np.float32)))})
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
    mined: Path, scores: pa.Table, k: int, reference: str, filters: dict[str, float]
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
            continue
        every = list(positives[anchor].values())
        ref = {"pair": s_p, "min": min(every), "max": max(every), "mean": math.fsum(every) / len(every)}[reference]
        kept = []
        for row in own:
            s_n = known.get((anchor, row["negative_id"]))
            if (
                s_n is not None
                and s_n <= filters.get("max_similarity", math.inf)
                and s_n >= filters.get("min_similarity", -math.inf)
                and ("absolute_margin" not in filters or s_n <= ref - filters["absolute_margin"])
                and ("relative_margin" not in filters or s_n <= ref - abs(ref) * filters["relative_margin"])
            ):
                kept.append({**row, "score_ap": float(np.float32(s_p)), "score_an": float(np.float32(s_n))})
        kept = sorted(kept, key=lambda row: -row["score_an"])[:k]
        told["full" if len(kept) == k else "short" if kept else "empty"] += 1
        found += kept
    return found, told


@given(
    seed=st.integers(0, 9), k=st.integers(1, 7), missing=st.sampled_from([0.0, 0.3]),
    reference=st.sampled_from(["pair", "min", "max", "mean"]), block=st.sampled_from([1, 20, 10_000]),
    filters=st.fixed_dictionaries(
        {"relative_margin": st.sampled_from([0.0, 0.05, 0.5])},
        optional={"max_similarity": st.sampled_from([0.3, 1.0]), "min_similarity": st.sampled_from([-1.0, 0.3]),
                  "absolute_margin": st.sampled_from([0.0, 0.2])},
    ),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_rows_are_those_of_a_loop(
    mined: Path, tmp_path_factory: pytest.TempPathFactory, seed: int, k: int, missing: float, reference: str,
    block: int, filters: dict[str, float],
) -> None:  # fmt: skip
    out = tmp_path_factory.mktemp("out") / "x.parquet"
    scores = scores_of(mined, seed, missing)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK_ROWS", block)
        told = refilter(mined, out, scores=scores, negatives=k, reference=reference, **filters)
    rows, counts = by_loops(mined, scores, k, reference, filters)
    assert pq.read_table(out).to_pylist() == rows
    assert {name: told[name] for name in counts} == counts
    lost = told["without_positive_score"] + told["without_score"] + sum(told["dropped"].values()) + told["beyond_k"]
    assert told["candidates"] == lost + told["rows"] == pq.read_metadata(mined).num_rows
    assert told["pairs"] == sum(counts.values())
    assert list(told["dropped"]) == [name for name in module.Rule.__dataclass_fields__ if name in filters]


def test_bytes_do_not_depend_on_blocks(mined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refilter(mined, tmp_path / "a.parquet", scores=scores_of(mined), negatives=3)
    monkeypatch.setattr(module, "BLOCK_ROWS", 7)
    refilter(mined, tmp_path / "b.parquet", scores=scores_of(mined), negatives=3)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_output_is_native_and_can_be_exported(mined: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    told = refilter(mined, out, scores=scores_of(mined), negatives=2, max_similarity=0.5)
    assert pq.read_schema(out).names == [*pq.read_schema(mined).names, "score_ap", "score_an"]
    said = contents.describe(out)
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
        ({"reference": "median", "relative_margin": 0.1}, "did you mean 'mean'"),
        ({"reference": "max"}, "--relative-margin"),
        ({"min_similarity": 1.0, "max_similarity": 0.5}, "can select nothing"),
        ({"emit": "st-tuples"}, "minestream export"),
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
    with pytest.raises(UsageError, match=r"-o x.parquet"):
        refilter(mined, tmp_path / "x", scores=scores, negatives=2)
