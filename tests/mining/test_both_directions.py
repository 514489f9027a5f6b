"""--both-directions: two outputs of one search, each with the rows of a run of its own; resume, kills, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import SCREENS

import minestream
from minestream.cli.main import main
from minestream.errors import GateMissedError, InputError, MinestreamError, OutputError, UsageError
from minestream.mining import pipeline, plan, ways

BOTH: dict[str, Any] = {"both_directions": True, "progress": "none"}


def table(n: int, seed: int, first: int) -> pa.Table:
    """Rows of which many are equal, also to rows of the other table, since both draw from one pool."""
    rng, pool = np.random.default_rng(seed), np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    rows = rng.standard_normal((n, 8)).astype(np.float32)
    rows[n // 2 :] = pool[rng.integers(0, 40, n - n // 2)]
    label = rng.integers(0, 7, n)
    return pa.table({
        "id": [f"i{number:04d}" for number in first + rng.permutation(n)],
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 8),
        "dept": label // 3, "label": pa.array(label, mask=rng.random(n) < 0.05),
        "group": rng.integers(0, 12, n), "text": [f"t{number % 50}" for number in range(n)],
        "second": list(rng.standard_normal((n, 4)).astype(np.float32)),
    })  # fmt: skip


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two tables as files, listed pairs of both, and the same pairs turned round."""
    folder, rng = tmp_path_factory.mktemp("tables"), np.random.default_rng(5)
    left, right = table(150, 1, 0), table(260, 2, 100)  # some ids stand in both
    found = {"left": folder / "left.parquet", "right": folder / "right.parquet"}
    pq.write_table(left, found["left"])
    pq.write_table(right, found["right"])
    for name in ("qrels", "exclude"):
        ids = [rng.choice(each["id"].to_pylist(), 200) for each in (left, right)]
        for turned, columns in (("", ids), (" turned", ids[::-1])):
            pairs = pa.table(dict(zip(("query_id", "positive_id"), columns, strict=True)))
            found[name + turned] = pairs.append_column("score", pa.array(np.arange(200) % 3 + 0.0))
    return found


CASES: dict[str, dict[str, Any]] = {
    "labels": {"label": "label", "negatives": 3},
    "listed": {"qrels": "qrels", "exclude": "exclude", "negatives": 4, "min_grade": 0, "relative_margin": 0.05},
    "both kinds": {"qrels": "qrels", "label": "label", "positives": "all", "unlabeled": "negative", "band": "any"},
    "same items": {"qrels": "qrels", "shared_ids": True, "band": "any", "negatives": 2, "emit": "tuples"},
    "levels": {"label": "dept,label", "negatives_at": "dept", "band": "any", "negatives": 2, "carry": ("text",)},
    "groups": {"label": "label", "group_column": "group", "pick": "random", "negatives": 3, "band": "any"},
    "guide": {"label": "label", "guide": "second", "absolute_margin": 0.05, "band": "any", "negatives": 2},
    "caps": {"label": "label", "band": "any", "negatives": 4, "max_uses": 2, "order": "shuffled"},
    "far": {"label": "label", "margin": 0.001, "fallback": "farthest", "positives": "random", "anchors": "60%"},
    "teachers": {"label": "label", "embedding": ["embedding", "second"], "band": "any", "negatives": 2},
    "deserved": {"label": "label", "band": "any", "rank_positives": 5, "max_positive_rank": 3, "negatives": 2},
    "sampled": {"label": "label", "pick": "simans", "band": "any", "negatives": 2, "within_top": 8},
    "near duplicates": {"label": "label", "drop_duplicates_within": 0.05, "positives": "hardest", "swap": True},
}  # fmt: skip


def mined(tables: dict[str, Any], queries: str, corpus: str, turned: str, out: Path, **options: Any) -> Any:
    own = {name: tables[value + turned] if name in ("qrels", "exclude") else value for name, value in options.items()}
    given = {"embedding": "embedding", "progress": "none", "overwrite": True, **own}
    return minestream.mine(tables[queries], out, corpus=str(tables[corpus]), **given)


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("case", CASES)
def test_each_output_has_the_rows_of_a_run_of_its_own(
    case: str, screen: str, tables: dict[str, Any], tmp_path: Path
) -> None:
    options = CASES[case] | {"screen": screen}
    report = mined(tables, "left", "right", "", tmp_path / "pairs.parquet", **options, **BOTH)
    alone = mined(tables, "left", "right", "", tmp_path / "one.parquet", **options)
    back = mined(tables, "right", "left", " turned", tmp_path / "other.parquet", **options)
    assert (report.stats.answer(), report.back.stats.answer()) == (alone.stats.answer(), back.stats.answer())
    for made, own in (("pairs", "one"), ("pairs.back", "other")):
        assert pq.read_table(tmp_path / f"{made}.parquet").equals(pq.read_table(tmp_path / f"{own}.parquet"))
    assert back.stats.rows > 0
    for made, own in ((report, alone), (report.back, back)):
        assert made.source == own.source
        assert {**made.plan, "vectors_bytes": 0} == {**own.plan, "vectors_bytes": 0}
    if screen == "scan" and case not in ("listed", "both kinds", "same items"):  # whose lists no file holds
        for name in ("pairs", "pairs.back"):
            assert minestream.verify(tmp_path / f"{name}.parquet", sample=40)["rows_compared"]


def test_a_table_of_which_no_row_takes_part_has_no_pairs(tmp_path: Path) -> None:
    whole, none = table(20, 1, 0), table(20, 2, 100).set_column(3, "label", pa.nulls(20, pa.int64()))
    options: dict[str, Any] = {"label": "label", "embedding": "embedding", **BOTH}
    report = minestream.mine(none, tmp_path / "o.parquet", corpus=whole, **options)
    assert (report.stats.rows, report.back.stats.rows) == (0, 0)
    with pytest.raises(InputError, match="no query shares a label"):  # as without the option
        minestream.mine(whole, tmp_path / "p.parquet", corpus=none, **options)


@pytest.mark.parametrize("screen", SCREENS)
def test_equal_rows_of_one_table_do_not_stand_for_those_of_the_other(screen: str, tmp_path: Path) -> None:
    """An anchor needs few of them; those of its own table, which come first in key order, are none."""
    near = np.array([[1.0, 0.1]] * 10 + [[1.0, 0.0]] * 2, np.float32)
    left = pa.table({"id": range(12), "embedding": list(near), "label": ["b"] * 10 + ["a"] * 2})
    right = pa.table({"id": range(90, 93), "embedding": list(near[[10, 11, 0]]), "label": ["a", "a", "b"]})
    options = {"label": "label", "band": "any", "max_similarity": 0.999, "screen": screen, **BOTH}
    minestream.mine(left, tmp_path / "o.parquet", corpus=right, **options)
    found = pq.read_table(tmp_path / "o.parquet")
    assert {(row["query_id"], row["negative_id"]) for row in found.to_pylist()} >= {(10, 92), (11, 92)}


def test_verify_reads_the_lists_turned_round(tables: dict[str, Any], tmp_path: Path) -> None:
    options = {"corpus": str(tables["right"]), "embedding": "embedding", "band": "any", "exclude": None}
    for name in ("qrels", "exclude"):
        pq.write_table(tables[name], tmp_path / f"{name}.parquet")
        options[name] = str(tmp_path / f"{name}.parquet")
    minestream.mine(tables["left"], tmp_path / "o.parquet", **options, **BOTH)
    assert minestream.verify(tmp_path / "o.back.parquet", sample=500)["rows_compared"] > 50
    other = {**options, "corpus": str(tables["left"]), "qrels": str(tmp_path / "r.parquet"),
             "exclude": str(tmp_path / "e.parquet")}  # fmt: skip
    pq.write_table(tables["qrels turned"], other["qrels"])
    pq.write_table(tables["exclude turned"], other["exclude"])
    minestream.mine(tables["right"], tmp_path / "other.parquet", **other, progress="none")
    for name in ("o.back", "other"):  # batches keep known positives apart, of which the pairs are turned round
        minestream.batch(
            tmp_path / f"{name}.parquet", tmp_path / f"{name}.batches.parquet", batch_size=16, progress="none"
        )
    made = [pq.read_table(tmp_path / f"{name}.batches.parquet") for name in ("o.back", "other")]
    assert made[0].equals(made[1])
    described = minestream.describe(tmp_path / "o.back.parquet")
    assert [file["name"] for file in described["source"][:2]] == ["right.parquet", "left.parquet"]


def test_one_product_serves_both_directions(tables: dict[str, Any], tmp_path: Path) -> None:
    options = {"label": "label", "band": "any", "screen": "f32"}
    both = mined(tables, "left", "right", "", tmp_path / "p.parquet", **options, **BOTH).effort["pairs_computed"]
    each = [mined(tables, *way, "", tmp_path / "q.parquet", **options).effort["pairs_computed"]
            for way in (("left", "right"), ("right", "left"))]  # fmt: skip
    assert both < 0.8 * sum(each)


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 32 anchors."""
    monkeypatch.setattr(plan, "PART_ANCHORS", 32)


@pytest.mark.usefixtures("small_parts")
@pytest.mark.parametrize("out", ["o.parquet", "o"])
def test_an_interrupted_run_goes_on_where_each_output_was(
    out: str, tables: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"label": "label", "memory": "1G", "carry": ("text",)}
    whole = mined(tables, "left", "right", "", tmp_path / f"whole{Path(out).suffix}", **options, **BOTH)
    write, written = pipeline.write_part, list[int]()

    def some(run: Any, index: int, result: Any) -> None:
        written.append(index)
        if len(written) == 6:
            raise KeyboardInterrupt
        write(run, index, result)

    monkeypatch.setattr(pipeline, "write_part", some)
    with pytest.raises(KeyboardInterrupt):
        mined(tables, "left", "right", "", tmp_path / out, **options, **BOTH)
    monkeypatch.setattr(pipeline, "write_part", write)
    back = tmp_path / (f"{Path(out).stem}.back{Path(out).suffix}")
    kept = [len(list((tmp_path / f"{place.name}.partial").glob("part-*.json"))) for place in (tmp_path / out, back)]
    assert sum(kept) >= 5  # those in the making are finished
    assert min(kept) >= 1  # by turns, so that both are under way
    assert not back.exists()
    with pytest.raises(OutputError, match="unfinished"):
        mined(tables, "left", "right", "", tmp_path / out, **options, **BOTH, overwrite=False)
    report = mined(tables, "left", "right", "", tmp_path / out, **options, **BOTH, overwrite=False, resume=True)
    assert (report.output, report.back.output) == (str(tmp_path / out), str(back))
    for made, place in ((report, whole), (report.back, whole.back)):
        assert pq.read_table(made.output).equals(pq.read_table(place.output))
    assert [path.name for path in tmp_path.glob("*.partial")] == []


def test_resume_makes_the_output_that_is_missing(tables: dict[str, Any], tmp_path: Path) -> None:
    options = {"label": "label", **BOTH, "overwrite": False}
    out, back = tmp_path / "o.parquet", tmp_path / "o.back.parquet"
    mined(tables, "left", "right", "", out, **options)
    before, time = pq.read_table(back), out.stat().st_mtime_ns
    with pytest.raises(OutputError, match="exists"):
        mined(tables, "left", "right", "", out, **options)
    both = mined(tables, "left", "right", "", out, **options, resume=True)
    assert (both.already, both.back.already) == (True, True)
    back.unlink()
    back.with_name("o.back.parquet.manifest.json").unlink()
    report = mined(tables, "left", "right", "", out, **options, resume=True)
    assert (report.already, report.back.already, out.stat().st_mtime_ns) == (True, False, time)
    assert pq.read_table(back).equals(before)
    out.unlink()
    out.with_name("o.parquet.manifest.json").unlink()
    report = mined(tables, "left", "right", "", out, **options, resume=True)
    assert (report.already, report.back.already) == (False, True)
    out.unlink()
    out.with_name("o.parquet.manifest.json").unlink()
    with pytest.raises(OutputError, match=r"o\.back\.parquet was mined from something else"):
        mined(tables | {"left": tables["right"]}, "left", "right", "", out, **options, resume=True)


def test_what_ends_between_the_two_outputs_is_resumed_without_a_search(
    tables: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, out = {"label": "label", **BOTH}, tmp_path / "o.parquet"
    publish = ways.publish

    def first_alone(mining: Any, run: Any, turned: bool) -> Any:
        if turned:
            raise KeyboardInterrupt
        return publish(mining, run, turned)

    monkeypatch.setattr(ways, "publish", first_alone)
    with pytest.raises(KeyboardInterrupt):
        mined(tables, "left", "right", "", out, **options)
    assert [path.name for path in sorted(tmp_path.glob("*.parquet"))] == ["o.parquet"]
    monkeypatch.setattr(ways, "publish", publish)
    resumed = options | {"resume": True, "overwrite": False}
    with pytest.raises(GateMissedError, match="was complete before"):
        mined(tables, "left", "right", "", out, **resumed, require_rows=200)
    report = mined(tables, "left", "right", "", out, **resumed)
    assert (report.already, report.back.already) == (True, False)
    assert not report.back.effort["pairs_computed"]
    alone = mined(tables, "right", "left", "", tmp_path / "alone.parquet", label="label")
    assert pq.read_table(report.back.output).equals(pq.read_table(alone.output))


def test_nothing_is_published_where_one_output_misses_a_gate(tables: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(GateMissedError):  # INPUT has fewer rows than the corpus
        mined(tables, "left", "right", "", tmp_path / "o.parquet", label="label", band="any", **BOTH, require_rows=200)
    with pytest.raises(GateMissedError):
        mined(tables, "right", "left", "", tmp_path / "o.parquet", label="label", band="any", **BOTH, require_rows=200)
    assert not list(tmp_path.glob("*.parquet"))


def test_both_are_told_of(tables: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["mine", str(tables["left"]), "--corpus", str(tables["right"]), "--embedding", "embedding"]
    words += ["--label", "label", "--both-directions", "-o", str(tmp_path / "o.parquet")]
    assert main([*words, "--dry-run", "--progress", "none"]) == 0
    planned = capsys.readouterr()
    assert "the plan is that of both directions" in planned.out + planned.err
    assert not list(tmp_path.iterdir())
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [Path(each["path"]).name for each in told["outputs"]] == ["o.parquet", "o.back.parquet"]
    assert told["result"]["back"]["counters"]["rows"] == pq.read_metadata(tmp_path / "o.back.parquet").num_rows
    assert main([*words, "--overwrite", "--progress", "none"]) == 0
    text = capsys.readouterr().out
    assert f"wrote {tmp_path / 'o.parquet'}" in text
    assert f"wrote {tmp_path / 'o.back.parquet'}" in text
    assert main(["repeat", str(tmp_path / "o.back.parquet"), "--overwrite", "--progress", "none"]) == 0
    assert not (tmp_path / "o.back.back.parquet").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corpus": None}, "both_directions=True is for two tables"),
        ({"shard": "1/2"}, "both_directions=True is mined by one process"),
        ({"engine": "dask"}, "both_directions=True is mined by one process"),
        ({"anchor_where": "group > 1"}, "anchor_where or candidate_where is not for both_directions"),
        ({"emit": "pairs"}, 'pairs" is for one table'),
        ({"window": 5}, "not for window"),
    ],
)
def test_what_does_not_fit_is_refused(
    options: dict[str, Any], message: str, tables: dict[str, Any], tmp_path: Path
) -> None:
    given = {"corpus": str(tables["right"]), "label": "label", **BOTH, **options}
    with pytest.raises((UsageError, MinestreamError), match=message):
        minestream.mine(tables["left"], tmp_path / "o.parquet", **given)


def test_one_stream_of_rows_cannot_hold_two_outputs(tables: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    words = ["mine", str(tables["left"]), "--corpus", str(tables["right"]), "--embedding", "embedding", "-o", "-"]
    assert main([*words, "--label", "label", "--both-directions"]) == 2
    assert "error: --both-directions is not for" in capsys.readouterr().err
    given: dict[str, Any] = {"corpus": np.eye(3), "corpus_labels": [1, 2, 1], "both_directions": True}
    with pytest.raises(UsageError, match="both_directions"):
        minestream.mine_arrays(np.eye(3), [1, 2, 1], **given)
    with pytest.raises(UsageError, match="both_directions"):
        minestream.mine_batches(tables["left"], corpus=str(tables["right"]), label="label", **BOTH)
