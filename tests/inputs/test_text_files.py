"""CSV and JSON lines as inputs: the rows are those of the same table as Parquet."""

from __future__ import annotations

import bz2
import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import set_sizes, written_sample

import minestream
from minestream.errors import InputError
from minestream.inputs.source import open_source

Rows = list[dict[str, Any]]


def lines(path: str, rows: Rows) -> None:
    Path(path).write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def cells(path: str, rows: Rows, delimiter: str = ",") -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerows([rows[0], *(row.values() for row in rows)])


def wide(path: str, rows: Rows, name: str, first: int) -> None:
    def apart(row: Rows) -> dict[str, Any]:
        numbered = {f"{name}{first + at}": value for at, value in enumerate(row.pop("embedding"))}
        return row | numbered

    cells(path, [apart(dict(row)) for row in rows])


def packed(path: str, rows: Rows, pack: Callable[[bytes], bytes]) -> None:
    (lines if "json" in path else cells)(path, rows)
    Path(path).write_bytes(pack(Path(path).read_bytes()))


def with_spaces(path: str, rows: Rows) -> None:
    """As pandas writes a column of arrays: numbers with spaces between them, in several lines."""
    cells(path, [row | {"embedding": str(np.array(row["embedding"], np.float32))} for row in rows])


WRITTEN: dict[str, Callable[[str, Rows], None]] = {
    "d.jsonl": lines,
    "d.json": lines,
    "d.ndjson.gz": lambda path, rows: packed(path, rows, gzip.compress),
    "d.csv": cells,
    "d.csv.bz2": lambda path, rows: packed(path, rows, bz2.compress),
    "d.csv.zst": lambda path, rows: packed(path, rows, lambda text: pa.compress(text, "zstd", asbytes=True)),
    "semicolons.csv": lambda path, rows: cells(path, rows, ";"),
    "d.tsv": lambda path, rows: cells(path, rows, "\t"),
    "spaces.csv": with_spaces,
    "wide.csv": lambda path, rows: wide(path, rows, "e", 0),
    "wide1.csv": lambda path, rows: wide(path, rows, "dim_", 1),
    "numbers.csv": lambda path, rows: wide(path, rows, "", 0),
}


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pa.Table:
    monkeypatch.chdir(tmp_path)
    table = pq.read_table(written_sample(tmp_path))
    return table.set_column(1, "label", table["label"].cast(pa.int64()))


def mined(inputs: Any, **options: Any) -> pa.Table:
    minestream.mine(inputs, "o.parquet", progress="none", overwrite=True, **options)
    return pq.read_table("o.parquet")


@pytest.mark.parametrize("block_bytes", [1500, 4 << 20])
@pytest.mark.parametrize("name", WRITTEN)
def test_text_gives_the_rows_of_parquet(
    name: str, block_bytes: int, digits: pa.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = digits.slice(0, 200)
    WRITTEN[name](name, few.to_pylist())
    set_sizes(monkeypatch, BLOCK_BYTES=block_bytes)
    assert mined(name, carry="id", batch_rows=100).equals(mined(few, carry="id"))
    mined(name)
    assert minestream.verify("o.parquet")["anchors"] == 100


@pytest.mark.parametrize("name", ["r.csv", "r.jsonl"])
def test_numbers_are_the_nearest_float32(name: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    vectors = (rng.standard_normal((200, 5)) * 10.0 ** rng.integers(-30, 30, (200, 5))).astype(np.float32)
    rows = [{"embedding": [float(str(each)) for each in row], "label": 1} for row in vectors]
    (lines if name.endswith("l") else cells)(str(tmp_path / name), rows)
    source = open_source(tmp_path / name)
    (batch,) = source.batches()
    assert (source.dtype, source.rows) == (np.float32, 200)
    np.testing.assert_array_equal(batch.vectors, vectors)


def columns(path: str) -> dict[str, list[Any]]:
    """What is carried of every column but the vector."""
    source = open_source(path, label="id", carry=["number", "mixed", "flag", "day", "late", "text"])
    found: dict[str, list[Any]] = {}
    for batch in source.batches():
        assert batch.carry is not None
        for key, values in batch.carry.to_pydict().items():
            found.setdefault(key, []).extend(values)
    return found


VALUES: Rows = [
    {"id": at, "embedding": [1.5, at], "number": at / 2 if at > 40 else at, "mixed": "x" if at == 50 else f"00{at}",
     "flag": at % 2 == 0, "day": "soon" if at == 55 else "2024-01-01", "late": at if at > 30 else None,
     "text": 'a "b", c\nd'}
    for at in range(60)
]  # fmt: skip


@pytest.mark.parametrize("block_bytes", [300, 4 << 20])
@pytest.mark.parametrize("name", ["v.csv", "v.jsonl"])
def test_types_are_those_of_the_whole_column(
    name: str, block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / name)
    (lines if name.endswith("l") else cells)(path, VALUES)
    set_sizes(monkeypatch, BLOCK_BYTES=block_bytes)
    assert columns(path) == {key: [row[key] for row in VALUES] for key in columns(path)}


def test_labels_of_lists_and_conditions(tmp_path: Path) -> None:
    rows = [{"embedding": [1.0, at], "label": [at % 3, 7 + at % 2], "year": 2020 + at % 3} for at in range(30)]
    lines(str(tmp_path / "t.jsonl"), rows)
    cells(str(tmp_path / "t.csv"), rows)
    for name in ("t.jsonl", "t.csv"):
        source = open_source(tmp_path / name)
        assert str(source.label_type) == "list<item: int64>"
        (batch,) = source.batches()
        assert batch.labels is not None
        assert batch.labels.to_pylist() == [row["label"] for row in rows]
        table = minestream.mine_batches(tmp_path / name, where="year > 2020", band="any").read_all()
        assert set(table["anchor_row"].to_pylist()) == {at for at in range(30) if at % 3}


BAD: Rows = [{"id": at, "label": at % 3, "embedding": [1.0 + at, 2.0, at / 7]} for at in range(30)]


def changed(**changes: Any) -> Rows:
    """The rows with other values in row 5 and behind."""
    rows = [dict(row) for row in BAD]
    for key, values in changes.items():
        for at, value in enumerate(values):
            rows[5 + at][key] = value
    return rows


REFUSED: dict[str, tuple[Callable[[str], Any], str]] = {
    "null.jsonl": (lambda p: lines(p, changed(embedding=[None])), "column 'embedding': null embedding in row 5"),
    "element.jsonl": (lambda p: lines(p, changed(embedding=[[1, None, 2]])), "null elements in row 5"),
    "nan.jsonl": (lambda p: lines(p, changed(embedding=[[1, float("nan"), 2]])), "not finite in row 5"),
    "kinds.jsonl": (lambda p: lines(p, changed(label=["x"])), "column 'label' changed from .* in row [56]\n.*one kind"),
    "blocks.jsonl": (lambda p: lines(p, [*changed(), *changed(label=["x"] * 25)[5:]]),
                     "'label' changed .* in row 30|Field label has incompatible"),
    "cut.jsonl": (lambda p: Path(p).write_text(f"{json.dumps(BAD[0])}\n" * 5 + '{"id": 1, "em'),
                  "no object.* in row 5"),
    "array.json": (lambda p: Path(p).write_text(json.dumps(BAD)), r"no object: .*in row 0.*jq -c"),
    "brace.jsonl": (lambda p: Path(p).write_text(f"{json.dumps(BAD[0])}\n" * 5 + f"{json.dumps(BAD[0])[:-1]}\n" * 2),
                    r"no object: .*in row 5\nwrite one object a line$"),
    "empty.jsonl": (lambda p: Path(p).write_text("\n"), "no rows"),
    "empty.csv": (lambda p: Path(p).write_text(""), "Empty CSV file"),
    "header.csv": (lambda p: Path(p).write_text("label,embedding\n"), r"no rows\nthere is nothing to mine"),
    "gap.csv": (lambda p: Path(p).write_text("label,e_0,e_2\n" + "1,2,3.5\n" * 5),
                r"no embedding column found.*\ne_1 is missing before e_2: "),
    "null.csv": (lambda p: cells(p, changed(embedding=[None])), "column 'embedding': null embedding in row 5"),
    "word.csv": (lambda p: cells(p, changed(embedding=["[1, a, 2]"])),
                 r"column 'embedding' holds 'a', no number, in row 5\n"),
    "words.csv": (lambda p: cells(p, changed(embedding=["[1, a, 2]", "[1, 2, 3]", "[x, 2, 3]"])),
                  r"column 'embedding' holds 'a', no number, in row 5(, and more in row 7)?\n"),
    "text.csv": (lambda p: cells(p, changed(embedding=["hello"])),
                 "column 'embedding' holds 'hello', no number, in row 5"),
    "short.csv": (lambda p: cells(p, changed(embedding=["[1, 2]"])), r"row \d has 3, row 5 has 2"),
    "nan.csv": (lambda p: cells(p, changed(embedding=["[nan, 1, 2]"])), "not finite in row 5"),
    "cells.csv": (lambda p: Path(p).write_text("id,label,embedding\n" + '1,2,"[1,2]"\n' * 5 + "1,2\n"),
                  "Expected 3 columns, got 2: 1,2 in row 5"),
    "wide.csv": (lambda p: Path(p).write_text("label,e0,e1\n" + "1,2,3.5\n" * 5 + "1,,2\n"),
                 "column 'e0' holds no number in row 5"),
    "wide word.csv": (lambda p: Path(p).write_text("label,e0,e1\n" + "1,2,3.5\n" * 5 + "1,2,x\n"),
                      "column 'e1' holds 'x', no number, in row 5"),
}  # fmt: skip


@pytest.mark.parametrize("block_bytes", [120, 4 << 20])
@pytest.mark.parametrize("name", REFUSED)
def test_bad_rows_are_named(name: str, block_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, words = REFUSED[name]
    write(str(tmp_path / name))
    set_sizes(monkeypatch, BLOCK_BYTES=block_bytes)
    with pytest.raises(InputError, match=f"(?s){name}.*({words})"):
        list(open_source(tmp_path / name, label="label").batches())


@pytest.mark.parametrize("name", ["bad.csv", "bad.jsonl"])
def test_bad_rows_are_dropped_and_counted(name: str, tmp_path: Path) -> None:
    vectors = [None, [1.0, 2.0], [float("nan"), 1.0, 2.0], [], [0.0, 0.0, 0.0]]
    rows = changed(embedding=vectors)
    (lines if name.endswith("l") else cells)(str(tmp_path / name), rows)
    table = pa.table({key: [row[key] for row in rows] for key in ("id", "label")})
    column = pa.array([row["embedding"] for row in rows], pa.list_(pa.float32()))
    sources = [open_source(each, on_bad_rows="drop") for each in (tmp_path / name, table.append_column("v", column))]
    found = [list(source.batches()) for source in sources]
    assert sources[0].bad_rows == sources[1].bad_rows
    assert sum(sources[0].bad_rows.values()) == 5
    np.testing.assert_array_equal(found[0][0].vectors, found[1][0].vectors)


def test_two_groups_of_coordinates_are_named_by_option(tmp_path: Path) -> None:
    (tmp_path / "two.csv").write_text("label,a0,a1,b_1,b_2,c_5,c_7\n" + "1,2,3,4,5,6,7\n" * 3)
    with pytest.raises(InputError, match=r"(?s)several columns may be the embedding: a .*; b .*embedding=\"a\""):
        minestream.mine_batches(tmp_path / "two.csv")
    (batch,) = open_source(tmp_path / "two.csv", embedding="b", carry=["a0", "b_2"]).batches()
    assert batch.vectors.tolist() == [[4, 5]] * 3
    assert batch.carry is not None
    assert batch.carry.to_pydict() == {"a0": [2] * 3, "b_2": [5] * 3}


def test_lists_beside_the_input_may_be_csv(digits: pa.Table) -> None:
    cells("drop.csv", [{"id": at} for at in digits["id"].to_pylist()[:50]])
    pq.write_table(pa.table({"id": digits["id"].slice(0, 50)}), "drop.parquet")
    assert mined("digits.parquet", exclude_rows="drop.csv").equals(mined("digits.parquet", exclude_rows="drop.parquet"))
