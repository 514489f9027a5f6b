"""Conditions on anchors and candidates: what they mean, what of a file they leave to be read, what they refuse."""

from __future__ import annotations

import datetime
import decimal
import math
import sys
import tempfile
import zoneinfo
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from assertions import assert_same_rows
from attacks import HOSTILE_INPUT
from hypothesis import given, settings
from hypothesis import strategies as st
from support import REFERENCE_OPTIONS
from tally import Attack
from test_properties import examples
from worlds import WORLDS, World

from minestream import reference
from minestream.config.resolve import split_options
from minestream.errors import InputError, MinestreamError, UsageError
from minestream.inputs.source import open_source
from minestream.inputs.where import MOST_JOINED, parse_where
from minestream.insight.describe import describe
from minestream.insight.verify import verify
from minestream.mining.batches import mine_batches
from minestream.mining.pipeline import mine

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
    'lang not in ["en"]': [1],
    'not lang in ("en", "fr")': [1],
    "not year > 2020.5": [0, 3],
    "not (flag and year > 2024)": [0, 1, 3],
    "year in ()": [],
    "day >= '1970-01-02' and day < time('1970-01-02T12:00')": [1],
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


def checked(text: str) -> None:
    """Refuses what is no condition on the columns of BATCH."""
    where = parse_where(text, "--anchor-where")
    assert where is not None
    where.check("file", BATCH.schema)


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_condition_is_refused(text: str) -> None:
    with pytest.raises(MinestreamError, match="anchor_where"):
        checked(text)


# ---------------------------------------------------------------- a law: the rows of every layout are Arrow's

PARIS = zoneinfo.ZoneInfo("Europe/Paris")
NOON = datetime.datetime(2024, 3, 31, 12)
TEXTS = ["", "a", "ab", "é", "\U0001f600", "x" * 15, "x" * 16, "x" * 30, "x" * 30 + "y", "z" * 200]
DECIMALS = [decimal.Decimal(text) for text in ("-1.50", "0.00", "0.10", "0.11", "99999999.99")]


def times(unit: str, zone: str | None = None) -> tuple[pa.DataType, list[Any], Callable[[Any], str]]:
    """Times of a type, and how one is written in a condition: with an offset where the type has a zone."""
    values = [NOON + datetime.timedelta(hours=hours) for hours in (-24, -1, 0, 1, 24 * 90)]
    if zone is None:
        return pa.timestamp(unit), values, lambda value: f"time('{value.isoformat()}')"
    zoned = [value.replace(tzinfo=datetime.UTC) for value in values]
    return pa.timestamp(unit, zone), zoned, lambda value: f"time('{value.astimezone(PARIS).isoformat()}')"


# By name: a type, values of it, and how one is written in a condition.
KINDS: dict[str, tuple[pa.DataType, list[Any], Callable[[Any], str]]] = {
    "float64": (pa.float64(), [math.nan, -0.0, 0.0, 0.1, -1e300, 5.0, math.inf],
                lambda value: repr(value).replace("inf", "1e999")),
    "float32": (pa.float32(), [math.nan, -0.0, 0.0, 0.1, -7.5, 5.0], repr),
    "int8": (pa.int8(), [-128, -1, 0, 5, 127], repr),
    "int64": (pa.int64(), [-(2**63), -1, 0, 2**53 + 1, 2**63 - 1], repr),
    "uint64": (pa.uint64(), [0, 5, 2**53 + 1, 2**63, 2**64 - 1], repr),
    "decimal": (pa.decimal128(10, 2), DECIMALS, str),
    "wide decimal": (pa.decimal256(50, 2), DECIMALS, str),
    "small decimal": (pa.decimal32(9, 1), [decimal.Decimal("-1.5"), decimal.Decimal("0.1"), decimal.Decimal("7")], str),
    "text": (pa.string(), TEXTS, repr),
    "large text": (pa.large_string(), TEXTS, repr),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), TEXTS, repr),
    "bool": (pa.bool_(), [True, False], repr),
    "date": (pa.date32(), [NOON.date() + datetime.timedelta(days=day) for day in range(-2, 3)],
             lambda value: f"date('{value.isoformat()}')"),
    "time": times("us"), "time ms": times("ms"), "time ns": times("ns"), "time s": times("s"),
    "time of UTC": times("us", "UTC"), "time of Paris": times("ns", "Europe/Paris"),
    "time of +02:00": times("s", "+02:00"),
}  # fmt: skip
ARROWS: dict[str, Any] = {
    "==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
}  # fmt: skip


def plain_type(kind: pa.DataType) -> pa.DataType:
    """The type that Arrow can compute with: it has no `is_in` of the small decimals."""
    if pa.types.is_decimal32(kind):
        return pa.decimal128(kind.precision, kind.scale)
    return kind.value_type if pa.types.is_dictionary(kind) else kind


@st.composite
def conditions(draw: st.DrawFn, kind: pa.DataType, values: list[Any], written: Any, depth: int) -> tuple[str, Any]:
    """A condition on the column f, and what Arrow's compute makes of the same of a whole column."""
    shape = draw(st.sampled_from(["compare", "in", "null"] + ["not", "and", "or"] * (depth > 0)))
    plain = plain_type(kind)
    known = [value for value in values if value == value]
    if shape == "compare":
        sign, value = draw(st.sampled_from(sorted(ARROWS))), draw(st.sampled_from(known))
        return f"f {sign} {written(value)}", lambda column: ARROWS[sign](column, pa.scalar(value, plain))
    if shape == "in":
        some = draw(st.lists(st.sampled_from(known), max_size=3))

        def among(column: pa.Array) -> pa.Array:
            found = pc.if_else(column.is_valid(), False, pa.scalar(None, pa.bool_()))
            for value in some:
                found = pc.or_kleene(found, pc.equal(column, pa.scalar(value, plain)))
            return found

        return f"f in ({''.join(written(value) + ', ' for value in some)})", among
    if shape == "null":
        return ("f is None", pc.is_null) if draw(st.booleans()) else ("f is not None", pc.is_valid)
    text, meaning = draw(conditions(kind, values, written, depth - 1))
    if shape == "not":
        return f"not ({text})", lambda column: pc.invert(meaning(column))
    other, its = draw(conditions(kind, values, written, depth - 1))
    join = pc.and_kleene if shape == "and" else pc.or_kleene
    return f"({text}) {shape} ({other})", lambda column: join(meaning(column), its(column))


@pytest.mark.parametrize("name", KINDS)
@examples(10)
@given(data=st.data())
def test_the_rows_are_arrows_whatever_the_row_groups(name: str, data: st.DataObject) -> None:
    check(name, data)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
@examples(200)
@given(data=st.data())
def test_the_rows_of_many_conditions_are_arrows(name: str, data: st.DataObject) -> None:
    check(name, data)


def check(name: str, data: st.DataObject) -> None:
    kind, values, written = KINDS[name]
    # Runs of equal rows, so that groups have narrow ranges, and some are all null or all NaN.
    runs = data.draw(st.lists(st.tuples(st.sampled_from([*values, None]), st.integers(1, 4)), min_size=1, max_size=8))
    column = pa.array([value for value, count in runs for _ in range(count)], kind)
    text, meaning = data.draw(conditions(kind, values, written, 2))
    met = meaning(column.cast(plain_type(kind))).fill_null(False)
    table = pa.table({"embedding": [[1.0, 2.0]] * len(column), "f": column, "n": range(len(column))})
    for rows in (1, 3, len(column)):
        with tempfile.TemporaryDirectory() as folder:
            pq.write_table(table, f"{folder}/rows.parquet", row_group_size=rows)
            source = open_source(folder, require_label=None, may_be_empty=True, where=parse_where(text, "--where"))
            found = [row for batch in source.batches() for row in batch.rows.tolist()]
        assert found == np.flatnonzero(np.asarray(met)).tolist(), (text, rows)


BETWEEN = {
    "n < 2.5": [0, 1], "n <= 2.5": [0, 1], "n > 2.5": [2], "n == 2.5": [], "n != 2.5": [0, 1, 2],
    "not n == 2.5": [0, 1, 2],
    "n > -1e999": [0, 1, 2], "n < 300": [0, 1, 2], "n == 300": [], "n >= -129.5": [0, 1, 2], "n <= -500": [],
    "price > 1.005": [1, 2], "price <= 1.005": [0], "price < 1e30": [0, 1, 2],
    "at > time('2024-01-01T00:00:00.0000005')": [1, 2], "at <= time('2024-01-01T00:00:00.0000005')": [0],
    "day < time('2024-01-01T12:00')": [0], "day >= time('2024-01-01T12:00')": [1, 2],
    "f < 1e300": [0, 1], "f <= 1e300": [0, 1], "f > 1e300": [2], "f == 0.1": [0],
}  # fmt: skip


@pytest.mark.parametrize("text", BETWEEN)
def test_values_between_those_of_the_type_are_exact(text: str) -> None:
    start = datetime.datetime(2024, 1, 1)
    batch = pa.record_batch(
        {
            "n": pa.array([1, 2, 3, None], pa.int8()),
            "price": pa.array([decimal.Decimal("1.00"), decimal.Decimal("1.01"), decimal.Decimal("2"), None]),
            "at": pa.array([start + datetime.timedelta(microseconds=i) for i in range(3)] + [None], pa.timestamp("us")),
            "day": pa.array([start.date() + datetime.timedelta(days=i) for i in range(3)] + [None], pa.date32()),
            "f": pa.array([0.1, 5.0, math.inf, None], pa.float32()),
        }
    )
    where = parse_where(text, "--where")
    assert where is not None
    assert np.flatnonzero(where.mask(batch)).tolist() == BETWEEN[text]


def test_a_time_without_offset_is_that_of_the_columns_zone() -> None:
    noon = pa.array([NOON, NOON + datetime.timedelta(hours=1)], pa.timestamp("us", "UTC"))
    batch = pa.record_batch({"utc": noon, "paris": noon.cast(pa.timestamp("ns", "Europe/Paris"))})
    for text, rows in {
        "utc == time('2024-03-31T12:00')": [0],
        "paris == time('2024-03-31T14:00')": [0],
        "utc == time('2024-03-31T14:00+02:00')": [0],
        "paris == time('2024-03-31T13:00Z')": [1],
        "paris == '2024-03-31T13:00Z'": [1],
        "paris == utc": [0, 1],
    }.items():
        where = parse_where(text, "--where")
        assert where is not None
        assert np.flatnonzero(where.mask(batch)).tolist() == rows, text


MISTAKEN = {
    "year = 2024": (2, "year == 2024"),
    "lang = 'en' and year >= 3": (2, "lang == 'en' and year >= 3"),
    "year == 'x'": (2, "column 'year' is int64, and it is compared with the text 'x'"),
    "year == True": (2, "column 'year' is int64, and it is compared with True"),
    "lang == 7": (2, "column 'lang' is string, and it is compared with the number 7"),
    "lang in ('en', 3)": (2, "compared with the number 3"),
    "flag == 1": (2, "column 'flag' is bool, and it is compared with the number 1"),
    "year": (2, "column 'year' is int64, and it is compared with True"),
    "day > 'soon'": (2, "column 'day' is date32[day], and it is compared with the text 'soon'"),
    "day == time('2024-01-01T00:00Z')": (2, "has an offset"),
    "lang == year": (2, "columns 'lang' (string) and 'year' (int64) cannot be compared"),
    "yaer == 3": (3, "did you mean 'year'?"),
}


@pytest.mark.parametrize("text", MISTAKEN)
def test_mistakes_are_answered_with_what_is_there(text: str) -> None:
    with pytest.raises(MinestreamError) as raised:
        checked(text)
    code, words = MISTAKEN[text]
    assert (raised.value.exit_code, words in str(raised.value)) == (code, True), str(raised.value)


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


def test_a_condition_that_no_query_meets_is_an_empty_output(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", WORLDS["blobs"]())
    found = mine_batches(path, corpus=path, carry=("number",), anchor_where="number > 999", band="any").read_all()
    assert found.num_rows == 0
    assert {"query_number", "positive_number", "negative_number"} <= {*found.column_names}


def test_an_id_in_rows_of_both_roles_is_a_duplicate(tmp_path: Path) -> None:
    rows = WORLDS["blobs"]()
    ids = [*range(len(rows.labels) - 1), 0]
    path = write(tmp_path / "rows.parquet", rows, id=pa.array(ids))
    apart = {"anchor_where": "number < 75", "candidate_where": "number >= 75"}
    with pytest.raises(InputError, match=r"\.parquet: column 'id': one id stands in several rows: 0 in rows 0 and 149"):
        mine_batches(path, **apart).read_all()
    assert mine_batches(path, **apart | {"candidate_where": "75 <= number < 149"}).read_all().num_rows
    assert mine_batches(path, **apart, on_duplicate_ids="last").read_all().num_rows


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

        monkeypatch.setattr(pq.ParquetFile, "iter_batches", iter_batches)


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


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("year in ()", False), ("not (year in ())", True), ("year in (4, 6)", False), ("year in (4, 5)", True),
        ("not (year == 5 or year == 6)", False), ("not (year == 4 or year == 6)", True),
        ("not (year == 5 and year == 6)", True), ("not (year == 5 and year < 6)", False),
        ("year is None", False), ("year is not None", True), ("not (year is None)", True),
        ("year == 5 and year is None", False), ("year == 4 or year < 6", True), ("year < year", False),
        ("share < 0.5", False), ("share != 0.5", True), ("not (share < 9)", True), ("not (share in (0.5,))", True),
        ("share > share", False), ("share != share", True), ("text > 'a'", False), ("text != 'a' or year == 5", True),
    ],
)  # fmt: skip
def test_row_groups_are_read_where_rows_may_meet_it(
    text: str, read: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alike = pa.table({"embedding": [[1.0, 2.0]] * 3, "year": [5] * 3, "share": [0.5, math.nan, 0.5], "text": ["a"] * 3})
    pq.write_table(alike, tmp_path / "rows.parquet")
    reads = Reads(monkeypatch)
    source = open_source(tmp_path, require_label=None, may_be_empty=True, where=parse_where(text, "--where"))
    reads.groups.clear()  # the length of the first vectors was looked at
    list(source.batches())
    assert reads.groups == ({0} if read else set())


@pytest.mark.parametrize("kind", [pa.json_(), pa.dictionary(pa.int8(), pa.large_string()), pa.string_view()], ids=str)
def test_texts_of_every_type_are_compared(kind: pa.DataType, tmp_path: Path) -> None:
    texts = pa.array(["a", "b", None, "a"])
    is_json = isinstance(kind, pa.BaseExtensionType)
    column = pa.ExtensionArray.from_storage(kind, texts) if is_json else texts.cast(kind)
    pq.write_table(pa.table({"embedding": [[1.0, 2.0]] * 4, "text": column}), tmp_path / "rows.parquet")
    source = open_source(tmp_path, require_label=None, where=parse_where("text == 'a'", "--where"))
    assert [batch.rows.tolist() for batch in source.batches()] == [[0, 3]]


@pytest.mark.parametrize("kind", [pa.float32(), pa.float64()], ids=str)
@pytest.mark.parametrize("text", ["f in (0.0, 7)", "f in (-0.0,)", "f in (0,)", "f == 0", "f == -0.0"])
def test_zero_has_no_sign(text: str, kind: pa.DataType) -> None:
    where = parse_where(text, "--where")
    assert where is not None
    batch = pa.record_batch({"f": pa.array([0.0, -0.0, 1.0, None, math.nan], kind)})
    assert where.mask(batch).tolist() == [True, True, False, False, False]


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
    reads.groups.clear()
    with pytest.raises(InputError, match="no row meets"):
        list(open_source(tmp_path / "hive", where=parse_where("year == 1999", "--anchor-where")).batches())
    assert not reads.groups  # the folders say enough
    with pytest.raises(InputError, match="no column 'month'"):
        open_source(tmp_path / "hive", where=parse_where("month == 1", "--anchor-where"))


def hive(folder: Path, name: str, values: list[str], **columns: Any) -> Path:
    """A folder of one file for each value of a hive column, of 4 rows each; every file has rows 0 to 3 as `n`."""
    for number, value in enumerate(values):
        place = folder / f"{name}={value}"
        place.mkdir(parents=True)
        rows = np.random.default_rng(number).normal(size=(4, 3)).tolist()
        pq.write_table(
            pa.table({"embedding": rows, "n": range(4), **columns}), place / "part.parquet", row_group_size=2
        )
    return folder


NULL = "__HIVE_DEFAULT_PARTITION__"
FOLDERS: dict[str, tuple[list[str], list[Any]]] = {
    "numbers": (["7", "-3", "0", str(2**63 - 1)], [7, -3, 0, 2**63 - 1]),
    "leading zeros": (["7", "07", "007"], ["7", "07", "007"]),
    "minus zero": (["0", "-0"], ["0", "-0"]),
    "digits of another script": (["3", "\u0663"], ["3", "\u0663"]),
    "an empty text": (["", "1"], ["", "1"]),
    "two signs": (["--1", "1"], ["--1", "1"]),
    "underscores": (["1_0", "10"], ["1_0", "10"]),
    "beyond int64": ([str(2**63), "1"], [str(2**63), "1"]),
    "spaces": (["%201", "1"], [" 1", "1"]),
    "null and numbers": ([NULL, "1"], [None, 1]),
    "null and texts": ([NULL, "a%2Fb"], [None, "a/b"]),
    "no UTF-8": (["%FF", "%FE"], ["%FF", "%FE"]),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_hive_values_are_those_of_their_folders(case: str, tmp_path: Path) -> None:
    folders, values = FOLDERS[case]
    folder = hive(tmp_path / "in", "label", folders)
    found = [label for batch in open_source(folder).batches() for label in (batch.labels or pa.nulls(0)).to_pylist()]
    ordered = [value for _, value in sorted(zip(folders, values, strict=True), key=lambda each: f"label={each[0]}/")]
    assert found == [value for value in ordered for _ in range(4)]


def test_conditions_on_a_hive_column_with_a_null_folder(tmp_path: Path) -> None:
    folder = hive(tmp_path / "in", "year", ["2023", "2024", NULL], label=[1, 2, 1, 2])
    # In the order of the paths: 2023, 2024, null.
    meant = {
        "year == 2024": [4, 5, 6, 7], "year != 2024": [0, 1, 2, 3], "not (year == 2024)": [0, 1, 2, 3],
        "not year in (2024, 7)": [0, 1, 2, 3], "year is None": [8, 9, 10, 11], "year is not None and n == 3": [3, 7],
        "year == 2024 or n < 1": [0, 4, 5, 6, 7, 8], "not (year == 2023 and n > 1)": [0, 1, 4, 5, 6, 7, 8, 9],
    }  # fmt: skip
    for text, rows in meant.items():
        source = open_source(folder, where=parse_where(text, "--anchor-where"))
        assert [row for batch in source.batches() for row in batch.rows.tolist()] == rows, text


def test_npy_vectors_stay_aligned(tmp_path: Path) -> None:
    world = WORLDS["blobs"]()
    path = write(tmp_path / "rows.parquet", world)
    np.save(tmp_path / "vectors.npy", world.embeddings)
    pq.write_table(pq.read_table(path).drop_columns(["embedding"]), path, row_group_size=16)
    where = parse_where("number >= 100", "--anchor-where")
    source = open_source(path, vectors=tmp_path / "vectors.npy", where=where)
    assert np.array_equal(np.concatenate([batch.vectors for batch in source.batches()]), world.embeddings[100:])


def test_a_stream_is_not_read_twice(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.parquet", WORLDS["blobs"]())
    reader = pq.ParquetFile(path).iter_batches()
    stream = pa.RecordBatchReader.from_batches(pq.read_schema(path), reader)
    with pytest.raises(UsageError, match="read the input twice"):
        mine_batches(stream, anchor_where="number > 3")


# ---------------------------------------------------------------- rows that take part at all

ROLES = {
    "triplets": {"band": "any", "negatives": 3},
    "pairs": {"emit": "pairs", "negatives": 3},
    "roles too": {"band": "any", "anchor_where": "lang == 'en'", "candidate_where": "year != 2021"},
    "a version": {"band": "any", "on_duplicate_ids": "last"},
}


def languages(rows: int, seed: int) -> pa.Table:
    rng = np.random.default_rng(seed)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.standard_normal(rows * 4).astype("f4")), 4)
    return pa.table({
        "embedding": vectors,
        "label": rng.integers(0, 4, rows),
        "id": np.arange(rows) * 10 + seed,
        "lang": rng.choice(["en", "de"], rows),
        "year": pa.array(rng.integers(2019, 2024, rows), mask=rng.random(rows) < 0.2),
    })  # fmt: skip


def moved(table: pa.Table, rows: dict[str, np.ndarray[Any, Any]]) -> pa.Table:
    """Mined rows with each *_row as the number that its row has in the whole input."""
    for name, numbers in rows.items():
        at = table.column_names.index(name)
        table = table.set_column(at, name, pa.array(numbers[table[name].to_numpy()]))
    return table.replace_schema_metadata()


@pytest.mark.parametrize("name", ROLES)
def test_where_leaves_rows_out_of_both_roles(name: str) -> None:
    whole = languages(60, 1)
    keep = np.asarray(pc.fill_null(pc.greater_equal(whole["year"], 2020), False))
    options = {"id": "id", "label": "label", "progress": "none", **ROLES[name]}
    if name == "pairs":
        found, expected = (
            mine_arrays_of(table, where)
            for table, where in ((whole, "year >= 2020"), (whole.filter(pa.array(keep)), None))
        )
    else:
        found = mine_batches(whole, where="year >= 2020", **options).read_all()
        expected = mine_batches(whole.filter(pa.array(keep)), **options).read_all()
    assert found.num_rows
    numbers = dict.fromkeys([each for each in found.column_names if each.endswith("_row")], np.flatnonzero(keep))
    assert moved(found, {}).equals(moved(expected, numbers))


def mine_arrays_of(table: pa.Table, where: str | None) -> pa.Table:
    """Pairs, which need a file."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.parquet"
        mine(table, out, id="id", label="label", progress="none", where=where, **ROLES["pairs"])
        return pq.read_table(out)


def test_where_is_asked_of_queries_and_corpus(tmp_path: Path) -> None:
    queries, corpus = languages(30, 1), languages(50, 2)
    known = pa.table({"query_id": queries["id"].slice(0, 20), "positive_id": corpus["id"].slice(3, 20)})
    paths = {}
    for name, table in (("queries", queries), ("corpus", corpus)):
        paths[name] = str(tmp_path / f"{name}.parquet")
        pq.write_table(table, paths[name])
    options = {"qrels": known, "negatives": 2, "on_missing_ids": "drop", "progress": "none", "id": "id"}
    masks = [np.asarray(pc.equal(table["lang"], "en")) for table in (queries, corpus)]
    report = mine(paths["queries"], tmp_path / "out.parquet", corpus=paths["corpus"], where="lang == 'en'", **options)
    assert verify(report.output, sample=10, qrels=known)["differences"] == []
    parts = [table.filter(pa.array(mask)) for table, mask in zip((queries, corpus), masks, strict=True)]
    mine(parts[0], tmp_path / "other.parquet", corpus=parts[1], **options)
    numbers = {"query_row": masks[0], "positive_row": masks[1], "negative_row": masks[1]}
    expected = moved(pq.read_table(tmp_path / "other.parquet"), {k: np.flatnonzero(v) for k, v in numbers.items()})
    assert moved(pq.read_table(tmp_path / "out.parquet"), {}).equals(expected)
    both = pq.read_table(paths["queries"]).append_column("speaker", queries["lang"])
    with pytest.raises(InputError, match=r"corpus\.parquet: where: no column 'speaker'"):
        mine(both, tmp_path / "x.parquet", corpus=paths["corpus"], where="speaker == 'en'", **options)


def test_values_of_two_types_meet_no_column() -> None:
    where = parse_where("year in (1, 'a')", "--where")
    assert where is not None
    with pytest.raises(UsageError, match="the text 'a'"):
        where.mask(BATCH)
    beyond = parse_where("year != 18446744073709551616", "--where")
    assert beyond is not None
    assert beyond.mask(BATCH).all()


# ---------------------------------------------------------------- nothing of them is run

armed: list[str] = []
EVENTS = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "subprocess.Popen", "exec", "open", "socket.connect")
sys.addaudithook(lambda event, _: armed.append(event) if armed and event in EVENTS else None)


EXPRESSIONS = [
    "__import__('os').system('id')", "().__class__", "x.__class__ == 1", "open('f') == 1", "exec('1') == 1",
    "x[0] == 1",
    "(lambda: 1)() == 1", "[y for y in x]", "f'{x}' == 1", "(y := 1) == 1", "x if y else 1", "date(x) == 1",
    "column(__import__('os')) == 1", "column('x', 'y') == 1", "column(name='x') == 1", "print(x)", "x @ 1",
    "x ** 9 == 1",
    "'a' * 10 ** 9 == x", "x == 10 ** 10 ** 10", "x == b'a'", "x == 1j", "x == ...", "{x: 1}", "yield x", "await x",
    "*x",
    "x; y", "x = 1", "import os", "", "#", "1 == 1", "x == " + "9" * 5000, "(" * 500 + "x" + ")" * 500,
    "not " * 5000 + "x",
    " and ".join(["x == 1"] * (MOST_JOINED + 1)), "x" + " < x" * (MOST_JOINED + 2), "x in (y,)",
    "x == '\ud800'", "x == '\0'", "date('0000-00-00') == x", "x == -'a'",
]  # fmt: skip


@pytest.mark.parametrize("text", EXPRESSIONS, ids=range(len(EXPRESSIONS)))
def test_conditions_run_nothing(text: str, attack: Attack) -> None:
    with attack(HOSTILE_INPUT, "an expression that would run something as a condition"):
        armed.append("armed")
        try:
            with pytest.raises(UsageError):
                parse_where(text, "--anchor-where")
            assert armed == ["armed"]
        finally:
            armed.clear()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(["x", "y", "(", ")", "==", "<", "in", "not", "is", "None", "and", "or", ",", "1",
                                 "'a'", "-",
                                 "[", "]", "date", "column", ".", "**", "lambda", ":", "2e999", "True", "if", "else"]),
                max_size=12))  # fmt: skip
def test_drawn_conditions_are_conditions_or_refused(pieces: list[str]) -> None:
    with suppress(UsageError):
        parse_where(" ".join(pieces), "--anchor-where")
