"""Conditions on anchors and candidates: what they mean, what of a file they leave to be read, what they refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from assertions import assert_same_rows
from support import REFERENCE_OPTIONS
from worlds import WORLDS, World

from minestream import describe, inputs, mine, mine_batches, reference, verify
from minestream.config import split_options
from minestream.errors import InputError, MinestreamError, UsageError
from minestream.source import open_source
from minestream.where import parse_where

BATCH = pa.record_batch(
    {
        "lang": ["en", "de", None, "en"],
        "year": [2020, 2024, 2025, -3],
        "day": pa.array([0, 1, 2, None], pa.date32()),
        "odd name": [True, False, None, True],
        "flag": [True, False, True, None],
    }
)
MEANT = {
    'lang == "en"': [0, 3],
    'lang != "en"': [1],
    "lang is None": [2],
    "lang is not None and year > 2020": [1],
    'lang in ("en", "de") and not year >= 2024': [0, 3],
    'lang not in ["en"]': [1, 2],
    "2020 <= year < 2025": [0, 1],
    "year == -3 or day == date('1970-01-02')": [1, 3],
    'column("odd name") == True': [0, 3],
    "flag": [0, 2],
    "not flag": [1],
    "2024 <= year": [1, 2],
}
REFUSED = (
    "", "lang =", "lang", "1 == 1", "year == 'x'", "len(lang) == 2", "lang.x == 1", "lang[0] == 1", "year + 1 == 3",
    "lang == (lambda: 1)", "__import__('os').system('true')", "[x for x in lang]", 'date("never") == day',
    "year in lang", "lang is 'en'", "True", "(" * 5_000, "lang == 'a\0b'", "year := 3", "f'{lang}' == 'en'",
    "lang == nothing",
)  # fmt: skip


@pytest.mark.parametrize("text", MEANT)
def test_what_conditions_mean(text: str) -> None:
    where = parse_where(text, "--anchor-where")
    assert where is not None
    where.check("file", BATCH.schema)
    assert np.flatnonzero(where.mask(BATCH)).tolist() == MEANT[text]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_condition_is_refused(text: str) -> None:
    def checked() -> None:
        where = parse_where(text, "--anchor-where")
        assert where is not None
        where.check("file", BATCH.schema)

    with pytest.raises(MinestreamError, match="--anchor-where"):
        checked()


# ---------------------------------------------------------------- the rows that are mined


def write(path: Path, world: World, **more: Any) -> Path:
    columns: dict[str, Any] = {
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(world.embeddings.ravel()), world.embeddings.shape[1]),
        "label": pa.array(world.labels),
        "number": pa.array(range(len(world.labels))),
    }
    columns |= {"id": pa.array(world.ids)} if world.ids is not None else {}
    columns |= {"camera": pa.array(world.groups)} if world.groups is not None else {}
    pq.write_table(pa.table(columns | more), path, row_group_size=16)
    return path


CONDITIONS = {
    "anchors": (lambda n: n % 3 == 0, None),
    "candidates": (None, lambda n: n % 4 != 1),
    "apart": (lambda n: n < 40, lambda n: n >= 40),
    "overlapping": (lambda n: n < 60, lambda n: n >= 30),
}


@pytest.mark.parametrize("screen", ["scan", "f32"])
@pytest.mark.parametrize("name", ["blobs", "grouped", "duplicates", "shuffled_ids", "unlabelled", "strings"])
@pytest.mark.parametrize("kind", CONDITIONS)
def test_rows_are_those_of_the_reference(kind: str, name: str, screen: str, tmp_path: Path) -> None:
    world = WORLDS[name]()
    n = np.arange(len(world.labels))
    own, theirs = CONDITIONS[kind]
    masks = [np.ones(n.size, bool) if each is None else each(n) for each in (own, theirs)]
    path = write(tmp_path / "rows.parquet", world, anchor_where=pa.array(masks[0]), candidate_where=pa.array(masks[1]))
    options: dict[str, Any] = {"negatives": 2, "band": "any", "positives_per_anchor": 2}
    options |= {"group_column": "camera"} if world.groups is not None else {}
    conditions = {name: name for name, each in (("anchor_where", own), ("candidate_where", theirs)) if each is not None}
    found = mine_batches(path, **options, **conditions, screen=screen, threads=2).read_all()
    config, *_ = split_options(options)
    rules = {key: value for key, value in config.to_dict().items() if key in REFERENCE_OPTIONS}
    same = [(int(row), int(row)) for row in np.flatnonzero(masks[0] & masks[1])]
    expected = reference.mine(
        world.embeddings, labels=world.labels, ids=world.ids, groups=world.groups, takes_part=masks[0],
        corpus=world.embeddings, corpus_labels=world.labels, corpus_ids=world.ids, corpus_groups=world.groups,
        corpus_takes_part=masks[1], excluded=same, **rules,
    ).columns  # fmt: skip
    expected = {name.replace("query_", "anchor_"): values for name, values in expected.items()}
    assert_same_rows(expected, found)


def versioned(seed: int, n: int) -> tuple[World, dict[str, Any]]:
    """Items of which several rows tell, some without a label, some bad, some outside a condition."""
    rng = np.random.default_rng(seed)
    labels = [None if rng.random() < 0.2 else int(label) for label in rng.integers(0, 3, n)]
    versions = [None if rng.random() < 0.2 else int(version) for version in rng.integers(0, 4, n)]
    columns = {"id": [f"é{i}" for i in rng.integers(0, 40, n)], "version": versions, "bad": rng.random(n) < 0.1}
    columns |= {role: rng.random(n) < 0.7 for role in ("anchor_where", "candidate_where")}
    return World(rng.standard_normal((n, 4)).astype(np.float32), labels), columns


@pytest.mark.parametrize("rule", ["last", "first", "newest"])
@pytest.mark.parametrize("corpus", [False, True])
def test_one_row_stands_for_an_id_whatever_condition_it_meets(rule: str, corpus: bool, tmp_path: Path) -> None:
    """Bad rows, rows without a label and rows outside have their say: none is paired with a version of itself."""
    path, n = tmp_path / "rows.parquet", 90
    which: dict[str, Any] = {"on_duplicate_ids": "first" if rule == "first" else "last"}
    which |= {"version_column": "version"} if rule == "newest" else {}
    tables: dict[str, Any] = {"corpus": str(path)} if corpus else {"anchor_where": "anchor_where"}
    for seed in range(4):
        world, columns = versioned(seed, n)
        ids, bad = columns["id"], columns["bad"]
        rows = World(np.where(bad[:, None], np.float32(np.nan), world.embeddings), world.labels)
        write(path, rows, **{name: pa.array(values) for name, values in columns.items()})
        excluded = [(ids[a], ids[b]) for a, b in np.random.default_rng(seed).integers(0, n, (30, 2))]
        pairs = pa.table({"query_id": [a for a, _ in excluded], "positive_id": [b for _, b in excluded]})
        pq.write_table(pairs, tmp_path / "pairs.parquet")
        options: dict[str, Any] = {"negatives": 9, "band": "any", "positives": "all", "on_bad_rows": "drop", **which}
        mine(
            path, tmp_path / "out", exclude=tmp_path / "pairs.parquet", on_missing_ids="drop", overwrite=True,
            progress="none", batch_rows=13, candidate_where="candidate_where", **tables, **options,
        )  # fmt: skip
        stands = reference.standing(ids, columns["version"] if rule == "newest" else None, which["on_duplicate_ids"])
        theirs = stands & ~bad & columns["candidate_where"]
        own = stands & ~bad & (corpus | columns["anchor_where"])
        named = {*excluded} if corpus else {*excluded, *((b, a) for a, b in excluded)}
        barred = [(a, b) for a in range(n) for b in range(n) if (ids[a], ids[b]) in named or (a == b and not corpus)]
        config, *_ = split_options(options | tables)
        rules = {key: value for key, value in config.to_dict().items() if key in REFERENCE_OPTIONS}
        expected = reference.mine(
            world.embeddings, labels=world.labels, ids=ids, takes_part=own, corpus=world.embeddings,
            corpus_labels=world.labels, corpus_ids=ids, corpus_takes_part=theirs, excluded=barred, **rules,
        ).columns  # fmt: skip
        if not corpus:
            expected = {name.replace("query_", "anchor_"): values for name, values in expected.items()}
        found = pq.read_table(tmp_path / "out")
        assert_same_rows(expected, found)
        assert found.num_rows
        assert verify(tmp_path / "out", sample=n)["differences"] == []


def test_an_id_in_rows_of_both_roles_is_a_duplicate(tmp_path: Path) -> None:
    rows = WORLDS["blobs"]()
    ids = [*range(len(rows.labels) - 1), 0]
    path = write(tmp_path / "rows.parquet", rows, id=pa.array(ids))
    apart = {"anchor_where": "number < 75", "candidate_where": "number >= 75"}
    with pytest.raises(InputError, match=r"1 ids stand in more than one row: 0 in rows \[0, 149\]"):
        mine_batches(path, **apart).read_all()
    assert mine_batches(path, **apart | {"candidate_where": "75 <= number < 149"}).read_all().num_rows
    assert mine_batches(path, **apart, on_duplicate_ids="last").read_all().num_rows


def test_conditions_that_all_rows_meet_change_no_row(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", WORLDS["blobs"]())
    every = mine_batches(path, negatives=3).read_all()
    assert mine_batches(path, negatives=3, anchor_where="number >= 0").read_all().equals(every)
    assert mine_batches(path, negatives=3, candidate_where="number >= 0").read_all().equals(every)


def test_two_tables(tmp_path: Path) -> None:
    world = WORLDS["blobs"]()
    path = write(tmp_path / "rows.parquet", world)
    pq.write_table(pq.read_table(path).slice(0, 50), tmp_path / "queries.parquet")
    options: dict[str, Any] = {"corpus": tmp_path / "rows.parquet", "band": "any", "negatives": 50}
    found = mine_batches(
        tmp_path / "queries.parquet", **options, anchor_where="number < 9", candidate_where="number > 70"
    ).read_all()
    assert set(found["query_row"].to_pylist()) <= set(range(9))
    assert min(found["negative_row"].to_pylist()) > 70
    assert min(found["positive_row"].to_pylist()) > 70


def test_mined_files_are_described_and_verified(tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", WORLDS["shuffled_ids"]())
    report = mine(
        tmp_path / "rows.parquet", tmp_path / "mined.parquet", progress="none", anchor_where="number < 40",
        candidate_where="number >= 20",
    )  # fmt: skip
    rows = len(WORLDS["shuffled_ids"]().labels)
    assert report.source["rows"] == report.source["rows_taking_part"] == rows
    assert report.source["dropped"] == {"outside --anchor-where": rows - 40, "outside --candidate-where": 20}
    assert describe(tmp_path / "mined.parquet")["config"]["anchor_where"] == "number < 40"
    assert verify(tmp_path / "mined.parquet", sample=50)["rows_compared"] > 10


# ---------------------------------------------------------------- what is read


class Reads:
    """The columns and row groups that are asked for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.columns: set[str] = set()
        self.groups: set[int] = set()
        reads, original = self, pq.ParquetFile.iter_batches

        def iter_batches(file: Any, *args: Any, columns: Any = None, row_groups: Any = None, **more: Any) -> Any:
            reads.columns |= set(columns)
            reads.groups |= set(range(file.num_row_groups) if row_groups is None else row_groups)
            return original(file, *args, columns=columns, row_groups=row_groups, **more)

        monkeypatch.setattr(inputs.pq.ParquetFile, "iter_batches", iter_batches)


def test_row_groups_are_left_out_by_their_statistics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "rows.parquet", WORLDS["blobs"](), unread=pa.array(["x"] * 150))  # 10 groups of 16
    reads = Reads(monkeypatch)
    source = open_source(path, where=parse_where("number >= 40 and number < 50 or number == 149", "--anchor-where"))
    rows = np.concatenate([batch.rows for batch in source.batches()])
    assert rows.tolist() == [*range(40, 50), 149]
    assert reads.groups == {2, 3, 9}
    assert reads.columns == {"embedding", "label", "number"}
    assert source.left_out == 139
    assert source.rows == 150


def test_rows_that_do_not_meet_it_are_not_checked(tmp_path: Path) -> None:
    world = WORLDS["blobs"]()
    vectors = world.embeddings.copy()
    vectors[7] = np.nan
    path = write(tmp_path / "rows.parquet", World(vectors, world.labels))
    with pytest.raises(InputError, match="row 7"):
        list(open_source(path).batches())
    list(open_source(path, where=parse_where("number != 7", "--anchor-where")).batches())
    with pytest.raises(InputError, match="row 7"):  # named by its place in the file, whatever is left out before it
        list(open_source(path, where=parse_where("number > 4", "--anchor-where")).batches())


def test_hive_folders_are_columns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = WORLDS["blobs"]()
    whole = pq.read_table(write(tmp_path / "all.parquet", world))
    for year, part in ((2023, slice(0, 50)), (2024, slice(50, 100)), (2025, slice(100, 150))):
        folder = tmp_path / "hive" / f"year={year}" / "place=Den%20Haag"
        folder.mkdir(parents=True)
        pq.write_table(whole.slice(part.start, 50), folder / "part.parquet", row_group_size=16)
    reads = Reads(monkeypatch)
    where = parse_where('year >= 2024 and place == "Den Haag" and number < 110', "--anchor-where")
    source = open_source(tmp_path / "hive", carry=("year",), where=where)
    batches = list(source.batches())
    assert np.concatenate([batch.rows for batch in batches]).tolist() == list(range(50, 110))
    years = [year for batch in batches if batch.carry is not None for year in batch.carry["year"].to_pylist()]
    assert years == [2024] * 50 + [2025] * 10
    assert reads.columns == {"embedding", "label", "number"}
    assert reads.groups == {0, 1, 2, 3}
    with pytest.raises(InputError, match="no row meets"):
        list(open_source(tmp_path / "hive", where=parse_where("year == 1999", "--anchor-where")).batches())
    with pytest.raises(InputError, match="no column 'month'"):
        open_source(tmp_path / "hive", where=parse_where("month == 1", "--anchor-where"))


def test_npy_vectors_stay_aligned(tmp_path: Path) -> None:
    world = WORLDS["blobs"]()
    path = write(tmp_path / "rows.parquet", world)
    np.save(tmp_path / "vectors.npy", world.embeddings)
    pq.write_table(pq.read_table(path).drop_columns(["embedding"]), path, row_group_size=16)
    where = parse_where("number >= 100", "--anchor-where")
    source = open_source(path, vectors=tmp_path / "vectors.npy", where=where)
    assert np.array_equal(np.concatenate([batch.vectors for batch in source.batches()]), world.embeddings[100:])


def test_streams_and_options_that_cannot(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", WORLDS["blobs"]())
    reader = pq.ParquetFile(path).iter_batches()
    stream = pa.RecordBatchReader.from_batches(pq.read_schema(path), reader)
    with pytest.raises(UsageError, match="read the input twice"):
        mine_batches(stream, anchor_where="number > 3")
    for options in ({"emit": "pairs"}, {"qrels": [(0, 1)]}, {"guide": "embedding"}):
        with pytest.raises(UsageError, match="labelled rows"):
            mine(path, tmp_path / "out.parquet", anchor_where="number > 3", **options)
