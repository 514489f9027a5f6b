"""Mined files in trainer formats: texts from where they are, atomic files, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream.cli.main import main
from minestream.config.trainer_formats import FORMATS
from minestream.errors import InputError, OutputError, UsageError
from minestream.insight import describe
from minestream.outputs import mined as contents
from minestream.outputs.parquet import write_rows
from minestream.outputs.trainers.export import export, metadata_like

ROWS = 60


@pytest.fixture(scope="module")
def mined(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a source of two files and what was mined from it."""
    folder = tmp_path_factory.mktemp("mined")
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, ROWS)
    vectors = rng.normal(size=(4, 6))[labels] + rng.normal(size=(ROWS, 6))
    table = pa.table(
        {
            "id": [f"d{row}" for row in range(ROWS)],
            "label": labels,
            "body": [f"text {row}" for row in range(ROWS)],
            "note": [f"note {row}" for row in range(ROWS)],
            "embedding": pa.array(list(vectors.astype(np.float32))),
        }
    )
    (folder / "data").mkdir()
    pq.write_table(table.slice(0, 25), folder / "data" / "a.parquet")
    pq.write_table(table.slice(25), folder / "data" / "b.parquet")
    options: dict[str, Any] = {"negatives": 3, "positives": "all", "margin": 0.5, "float64": True, "progress": "none"}
    for name, more in {
        "plain.parquet": {},
        "carried.parquet": {"carry": ["body"]},
        "parts": {"carry": ["body"]},
        "tuples.parquet": {"emit": "tuples", "carry": ["body"], "short_rows": "keep"},
        "unscored.parquet": {"emit": "tuples", "scores": "none"},
        "pairs.parquet": {"emit": "pairs", "negatives": 2, "positives": "easiest"},
        "shuffled.parquet": {"order": "shuffled"},
    }.items():
        minestream.mine(folder / "data", folder / name, **options | more)
    return folder


def read(path: Path) -> Any:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    return [json.loads(line) if path.suffix == ".jsonl" else line for line in path.read_text().splitlines()]


def out_of(folder: Path, emit: str) -> Path:
    return folder / f"{emit}{FORMATS[emit].suffix}"


@pytest.mark.parametrize("emit", FORMATS)
def test_texts_carried_joined_and_of_tuples_give_the_same_files(mined: Path, tmp_path: Path, emit: str) -> None:
    found = {}
    for name in ("plain.parquet", "carried.parquet", "parts", "tuples.parquet"):
        (tmp_path / name).mkdir()
        out = out_of(tmp_path / name, emit)
        options = {"text": "body", "source": mined / "data"} if name == "plain.parquet" else {}
        report = export(mined / name, out, emit=emit, **options)
        assert report["rows"] == len(read(out))
        assert report["rows"] > 10
        beside = [] if out.suffix == ".parquet" else [f"{out.name}.manifest.json"]  # text says nothing of itself
        assert sorted(path.name for path in out.parent.iterdir()) == [out.name, *beside]
        found[name] = read(out)
    assert found["plain.parquet"] == found["carried.parquet"] == found["parts"] == found["tuples.parquet"]


def test_texts_come_from_the_source_when_another_column_is_asked_for(mined: Path, tmp_path: Path) -> None:
    export(mined / "carried.parquet", tmp_path / "x.parquet", emit="st-triplets", text="note", source=mined / "data")
    rows = pq.read_table(mined / "carried.parquet")
    assert pq.read_table(tmp_path / "x.parquet")["negative"].to_pylist() == [
        f"note {r}" for r in rows["negative_row"].to_pylist()
    ]
    scores = np.array(pq.read_table(tmp_path / "x.parquet")["scores"].to_pylist(), np.float32)
    p = rows["distance_ap"].to_numpy().astype(np.float64)
    assert (scores[:, 0] == (1.0 - p).astype(np.float32)).all()


def test_a_small_budget_gives_the_same_file(mined: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"emit": "flagembedding", "text": "body", "source": mined / "data"}
    export(mined / "plain.parquet", tmp_path / "a.jsonl", **options)
    monkeypatch.setattr("minestream.outputs.trainers.export.memory_budget", lambda resources: 0)
    export(mined / "plain.parquet", tmp_path / "b.jsonl", **options)
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_a_converted_file_says_what_it_is(mined: Path, tmp_path: Path) -> None:
    report = export(mined / "carried.parquet", tmp_path / "x.parquet", emit="st-tuples", short_rows="repeat")
    assert report["repeated"] > 0
    said = describe.describe(tmp_path / "x.parquet")
    assert (said["config"]["emit"], said["config"]["short_rows"]) == ("st-tuples", "repeat")
    assert said["source"] == describe.describe(mined / "carried.parquet")["source"]


# ---------------------------------------------------------------- two tables


def two_tables(folder: Path, mined: Path, **columns: Any) -> Path:
    """Rows as two tables would give them, by hand."""
    table = pa.table(
        {
            "query_id": [7, 7], "positive_id": ["a", "a"], "negative_id": ["b", "c"],
            "query_row": [0, 0], "positive_row": [0, 0], "negative_row": [1, 2],
            "distance_ap": pa.array([0.5, 0.5], pa.float32()), "distance_an": pa.array([0.75, 1.0], pa.float32()),
            **columns,
        }
    )  # fmt: skip
    found = contents.mined_output(mined / "carried.parquet")
    metadata = metadata_like(found, config=found.about["config"] | {"negatives": 2})
    write_rows(folder / "two.parquet", table.schema, [table], metadata)
    return folder / "two.parquet"


def test_recorded_options_that_are_gone(mined: Path, tmp_path: Path) -> None:
    """Those that were not given change nothing; a file that was mined with one is refused by its name."""
    rows, about = pq.read_table(mined / "plain.parquet"), pq.read_metadata(mined / "plain.parquet").metadata
    out = tmp_path / "old.parquet"
    for query_text in (None, "title"):
        config = json.loads(about[b"minestream.config"]) | {"query_text": query_text}
        recorded = {key: value for key, value in about.items() if key != b"ARROW:schema"}
        pq.write_table(
            rows.replace_schema_metadata(recorded | {b"minestream.config": json.dumps(config).encode()}), out
        )
        if query_text is None:
            assert export(out, tmp_path / "x.parquet", emit="pml")["rows"] == rows.num_rows
    with pytest.raises(InputError, match="options that this version does not have: query_text"):
        export(out, tmp_path / "y.parquet", emit="pml")


def test_rows_of_two_tables_keep_each_tables_ids_and_texts(mined: Path, tmp_path: Path) -> None:
    path = two_tables(tmp_path, mined, query_title=["q", "q"], positive_body=["A", "A"], negative_body=["B", "C"])
    export(path, tmp_path / "x.parquet", emit="st-tuples", text="body", query_text="title")
    assert read(tmp_path / "x.parquet") == [
        {"anchor": "q", "positive": "A", "negative_1": "B", "negative_2": "C", "scores": [0.5, 0.25, 0.0]}
    ]
    export(path, tmp_path / "y.parquet", emit="tevatron", text="title")
    assert read(tmp_path / "y.parquet") == [
        {"query_id": "7", "query_text": "q", "positive_document_ids": ["a"], "negative_document_ids": ["b", "c"]}
    ]
    export(path, tmp_path / "z.trec", emit="trec")
    assert read(tmp_path / "z.trec") == ["7\tb\t0.25", "7\tc\t0.0"]


def mine_two_tables(folder: Path) -> Path:
    """Queries with a title, a corpus with a body; query i has document i as its positive."""
    rng = np.random.default_rng(0)
    corpus = rng.normal(size=(30, 4))
    tables = {
        "queries": {"id": list(range(9)), "title": [f"query {i}" for i in range(9)]}
        | {"embedding": list(corpus[:9] + 0.3 * rng.normal(size=(9, 4)))},
        "corpus": {"id": [f"c{i}" for i in range(30)], "body": [f"document {i}" for i in range(30)]}
        | {"embedding": list(corpus)},
        "pairs": {"query_id": list(range(9)), "positive_id": [f"c{i}" for i in range(9)]},
    }
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    minestream.mine(
        folder / "queries.parquet", folder / "mined.parquet", corpus=folder / "corpus.parquet",
        qrels=folder / "pairs.parquet", negatives=2, progress="none",
    )  # fmt: skip
    return folder / "mined.parquet"


def test_texts_of_two_tables_are_joined_from_each(tmp_path: Path) -> None:
    path, out = mine_two_tables(tmp_path), tmp_path / "x.parquet"
    options: dict[str, Any] = {"emit": "st-tuples", "text": "body", "query_text": "title", "overwrite": True}
    export(path, out, **options)
    rows = pq.read_table(path).to_pylist()
    for row, one, other in zip(read(out), rows[::2], rows[1::2], strict=True):
        assert row["anchor"] == f"query {one['query_id']}"
        assert row["positive"] == f"document {one['query_id']}"
        assert [row["negative_1"], row["negative_2"]] == [f"document {r['negative_id'][1:]}" for r in (one, other)]
    export(path, tmp_path / "y.parquet", emit="tevatron", text="title")
    with pytest.raises(InputError, match="query_text"):
        export(path, out, **options | {"query_text": None})
    (tmp_path / "corpus.parquet").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="corpus"):
        export(path, out, **options)
    export(path, out, **options, corpus=tmp_path / "elsewhere")
    pq.write_table(pq.read_table(tmp_path / "elsewhere").slice(0, 20), tmp_path / "corpus.parquet")
    with pytest.raises(InputError, match=r"not what was mined: .*rows 20, recorded"):
        export(path, out, **options)


# ---------------------------------------------------------------- files


def test_nothing_is_overwritten_or_left_behind(mined: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    minestream.mine(mined / "data", out, margin=0.5, progress="none")
    old = out.read_bytes()
    with pytest.raises(OutputError, match="exists") as caught:
        export(mined / "parts", out, emit="pml")
    assert "overwrite=True" in caught.value.hint
    with pytest.raises(InputError, match="no column"):
        export(mined / "plain.parquet", out, emit="st-triplets", text="b", source=mined / "data", overwrite=True)
    assert out.read_bytes() == old
    export(mined / "parts", out, emit="pml", overwrite=True)
    assert pq.read_table(out).column_names == ["anchor_idx", "positive_idx", "negative_idx"]
    assert [path.name for path in tmp_path.iterdir()] == ["x.parquet"], "no temporary file, no manifest of the old one"


def test_lines_are_replaced_only_as_they_were_written(mined: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.trec"
    export(mined / "parts", out, emit="trec")
    first = out.read_bytes()
    export(mined / "parts", out, emit="trec", overwrite=True)
    assert out.read_bytes() == first
    out.write_bytes(first.swapcase())  # of the same length
    with pytest.raises(OutputError, match="minestream did not write it") as caught:
        export(mined / "parts", out, emit="trec", overwrite=True)
    assert "overwrite=True" not in str(caught.value)
    assert out.read_bytes() == first.swapcase()


@pytest.mark.parametrize(
    ("name", "options", "error", "words"),
    [
        ("pairs.parquet", {"emit": "pml"}, UsageError, 'emit="triplets" or tuples'),
        ("shuffled.parquet", {"emit": "trec"}, UsageError, 'order="anchor"'),
        ("plain.parquet", {"emit": "st-tuples"}, UsageError, 'text="COL"'),
        ("plain.parquet", {"emit": "st-tuples", "text": "bodi"}, InputError, "did you mean 'body'"),
        ("plain.parquet", {"emit": "st-tuples", "text": "label"}, InputError, "pyarrow.string()"),
        ("plain.parquet", {"emit": "st-tuples", "text": "body", "query_text": "note"}, UsageError, "two tables"),
        ("carried.parquet", {"emit": "st-tuples", "short_rows": "pad-random"}, UsageError, "no more"),
        ("carried.parquet", {"emit": "st-tuples", "short_rows": "keep"}, UsageError, "takes drop, repeat"),
        ("carried.parquet", {"emit": "triplets"}, UsageError, "no trainer format"),
        ("unscored.parquet", {"emit": "pylate"}, UsageError, "no distances"),
        ("none.parquet", {"emit": "pml"}, InputError, "does not exist"),
    ],
)
def test_what_cannot_be_exported_is_refused(
    mined: Path, tmp_path: Path, name: str, options: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        export(mined / name, tmp_path / "x.parquet", source=mined / "data", **options)
    assert words in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_the_name_must_say_the_format(mined: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r'out=".*/x\.jsonl"'):
        export(mined / "carried.parquet", tmp_path / "x.parquet", emit="flagembedding")
    with pytest.raises(OutputError, match="no folder"):
        export(mined / "carried.parquet", tmp_path / "none" / "x.parquet", emit="pml")
    (tmp_path / "d.parquet").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        export(mined / "carried.parquet", tmp_path / "d.parquet", emit="pml")


def test_another_source_is_refused(mined: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a.parquet", "b.parquet"):
        table = pq.read_table(mined / "data" / name)
        labels = pa.array([label + (name == "b.parquet") for label in table["label"].to_pylist()])
        pq.write_table(table.set_column(table.column_names.index("label"), "label", labels), tmp_path / "data" / name)
    with pytest.raises(InputError, match=r"not what was mined: b\.parquet: its contents changed \(labels\)"):
        export(mined / "plain.parquet", tmp_path / "x.parquet", emit="tevatron", text="body", source=tmp_path / "data")
    assert not (tmp_path / "x.parquet").exists()


@pytest.mark.parametrize(
    ("emit", "name"), [("trec", "carried.trec"), ("pml", "carried.pml.parquet"), ("pylate", "carried.pylate.parquet")]
)
def test_the_default_name_has_the_suffix_of_the_format_once(
    mined: Path, tmp_path: Path, emit: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(mined / "carried.parquet"), "--emit", emit]) == 0
    beside = {f"{name}.manifest.json"} if not name.endswith(".parquet") else set()
    assert {path.name for path in tmp_path.iterdir()} == {name, *beside}


def test_a_report_says_what_is_left_out(
    mined: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:  # fmt: skip
    """Tuples without negatives are pairs too; a margin kept pair by pair is not kept where pairs are joined."""
    options: dict[str, Any] = {
        "negatives": 3, "positives": "all", "band": "any", "emit": "tuples", "short_rows": "keep", "carry": ["body"],
        "progress": "none",
    }  # fmt: skip
    margins: list[dict[str, Any]] = [{"relative_margin": 0.9}, {"absolute_margin": 0.6, "reference": "min"}]
    for name, more in zip(("pair", "min"), margins, strict=True):
        minestream.mine(mined / "data", tmp_path / name, **options | more)
    lengths = [len(row["negative_rows"]) for row in pq.read_table(tmp_path / "pair").to_pylist()]
    empty, short = lengths.count(0), sum(0 < length < 3 for length in lengths)
    assert 0 < empty < len(lengths)
    assert short
    found = export(tmp_path / "pair", tmp_path / "x.jsonl", emit="flagembedding")
    assert (found["pairs"], found["empty"], found["dropped"], found["short"]) == (len(lengths), empty, empty, short)
    assert f"{found['joined']:,} anchors have several positives" in found["notes"][0]
    assert 'reference="min"' in found["notes"][0]
    assert not export(tmp_path / "min", tmp_path / "y.jsonl", emit="flagembedding")["notes"]
    assert not export(tmp_path / "pair", tmp_path / "z.parquet", emit="st-triplets")["notes"]
    capsys.readouterr()
    words = {"keep": f"{short} pairs have fewer than 3", "drop": f"{short} pairs: they have fewer than 3"}
    for rule, expected in words.items():
        out = str(tmp_path / f"{rule}.jsonl")
        assert main(["export", str(tmp_path / "pair"), "--emit", "flagembedding", "-o", out, "--short-rows", rule]) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert expected in said
        assert f"left out {empty} pairs: they have no negative left" in said


def test_copies_of_a_text_are_not_negatives_of_each_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    once = rng.standard_normal((30, 16))
    passages = np.vstack([once, once * (1 + 1e-7 * rng.standard_normal(once.shape))]).astype(np.float32)
    queries = (passages[:10] + 0.3 * rng.standard_normal((10, 16))).astype(np.float32)
    tables = [
        pa.table({"id": [f"{name}{i}" for i in range(len(rows))], "embedding": rows.tolist(), "text": texts})
        for name, rows, texts in (
            ("q", queries, [f"query {i}" for i in range(10)]),
            ("d", passages, [f"passage {i % 30}" for i in range(60)]),
        )
    ]
    qrels = pa.table({"query_id": [f"q{i}" for i in range(10)], "positive_id": [f"d{i}" for i in range(10)]})
    minestream.mine(
        tables[0], tmp_path / "m.parquet", corpus=tables[1], qrels=qrels, negatives=3, band="any", carry=["text"],
        progress="none",
    )  # fmt: skip
    mined = pq.read_table(tmp_path / "m.parquet").to_pylist()
    copies = sum(row["negative_text"] == row["positive_text"] for row in mined)
    assert copies == 10
    report = export(tmp_path / "m.parquet", tmp_path / "t.parquet", emit="st-triplets")
    assert (report["rows"], report["same_text"]) == (20, 10)
    assert all(row["negative"] != row["positive"] for row in read(tmp_path / "t.parquet"))
    export(tmp_path / "m.parquet", tmp_path / "l.parquet", emit="st-labeled-pairs")
    said = read(tmp_path / "l.parquet")
    assert len({tuple(row.values()) for row in said}) == len({(row["anchor"], row["document"]) for row in said}) == 20
