"""Hints that hold code: each runs as it stands, and what it makes is taken."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.orc
import pyarrow.parquet as pq
import pytest

from minestream import mine_batches
from minestream.columns import _ROLES, plain
from minestream.errors import InputError, MinestreamError
from minestream.source import open_source

ROWS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
FLOATS = pa.array(ROWS.tolist(), pa.list_(pa.float32()))
BEGIN = re.compile(r"import |pyarrow\.|column\.")


def code_of(hint: str) -> str:
    """The code in a hint: from where it begins to the bracket that closes its call."""
    begin = BEGIN.search(hint)
    assert begin is not None
    depth, code = 0, hint[begin.start() :]
    for at, character in enumerate(code):
        depth += (character == "(") - (character == ")")
        if character == ")" and depth == 0:
            return code[: at + 1]
    raise AssertionError(hint)


VECTORS: dict[str, Callable[[], Any]] = {
    "binary": lambda: pa.array([row.tobytes() for row in ROWS], pa.binary()),
    "fixed binary": lambda: pa.array([row.tobytes() for row in ROWS], pa.binary(12)),
    "large binary": lambda: pa.array([row.tobytes() for row in ROWS], pa.large_binary()),
    "texts": lambda: pa.array([json.dumps(row.tolist()) for row in ROWS]),
    "uint8": lambda: pa.array((np.abs(ROWS) * 50).astype(int).tolist(), pa.list_(pa.uint8())),
    "int32": lambda: pa.array((ROWS * 50).astype(int).tolist(), pa.list_(pa.int32())),
    "fixed int32": lambda: pa.array((ROWS * 50).astype(int).tolist(), pa.list_(pa.int32(), 3)),
    "large int32": lambda: pa.array((ROWS * 50).astype(int).tolist(), pa.large_list(pa.int32())),
    "spark": lambda: pa.StructArray.from_arrays(
        [pa.array([1] * 6, pa.int8()), pa.nulls(6, pa.int32()), pa.nulls(6, pa.list_(pa.int32())), FLOATS],
        ["type", "size", "indices", "values"]),
    "struct": lambda: pa.StructArray.from_arrays([FLOATS], ["name of the field"]),
    "a float": lambda: pa.array(ROWS[:, 0]),
}  # fmt: skip


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("name", VECTORS)
def test_embeddings_of_other_types_are_converted_by_the_hint(name: str, chunked: bool) -> None:
    column = VECTORS[name]()
    table = pa.table({"embedding": column, "label": [0, 1] * 3, "a": ROWS[:, 0], "b": ROWS[:, 1]})
    with pytest.raises(InputError, match="its type is") as raised:
        open_source(table)
    *first, last = code_of(raised.value.hint).split("; ")
    known = {"column": table["embedding"] if chunked else column, "d": 3, "table": table, "names": ["a", "b"],
             "pyarrow": pa, "numpy": np}  # fmt: skip
    for statement in first:
        exec(statement, known)
    mended = table.set_column(0, "embedding", eval(last, known))
    source = open_source(mended)
    (batch,) = source.batches()
    assert batch.vectors.shape == (6, 2 if name == "a float" else 3)


SINGLE: dict[str, tuple[str, pa.Array]] = {
    "label floats": ("label", pa.array([0.0, 1.0] * 3)),
    "label dates": ("label", pa.array([datetime.date(2024, 1, 1 + row % 2) for row in range(6)])),
    "label decimals": ("label", pa.array([decimal.Decimal(row % 2) for row in range(6)])),
    "label times": ("label", pa.array([datetime.datetime(2024, 1, 1 + row % 2) for row in range(6)])),
    "label bytes": ("label", pa.array([b"a", b"b"] * 3)),
    "id floats": ("id", pa.array(np.arange(6.0))),
    "id bytes": ("id", pa.array([bytes([97 + row]) for row in range(6)])),
    "id decimals": ("id", pa.array([decimal.Decimal(row) for row in range(6)])),
    "group dates": ("group_column", pa.array([datetime.date(2024, 1, 1 + row) for row in range(6)])),
    "group floats": ("group_column", pa.array([0.5, 1.5] * 3)),
}


@pytest.mark.parametrize("name", SINGLE)
def test_columns_of_other_types_are_cast_by_the_hint(name: str) -> None:
    role, column = SINGLE[name]
    table = pa.table({"embedding": FLOATS, "label": [0, 1] * 3}).drop_columns(["label"] if role == "label" else [])
    table = table.append_column("value", column)
    options: dict[str, Any] = {role: "value"}
    with pytest.raises(InputError, match="its type is") as raised:
        open_source(table, **options)
    mended = eval(code_of(raised.value.hint), {"column": table["value"], "pyarrow": pa})
    list(open_source(table.set_column(table.column_names.index("value"), "value", mended), **options).batches())


def written(path: Path) -> None:
    """A file of rows as other tools write it, by its ending."""
    kind = "".join(path.suffixes)
    lines = [{"label": row % 2, "name": f"n{row}"} for row in range(4)]
    if kind in (".csv", ".tsv"):
        mark = "," if kind == ".csv" else "\t"
        path.write_text("\n".join([mark.join(lines[0]), *(mark.join(map(str, line.values())) for line in lines)]))
    elif kind == ".jsonl":
        path.write_text("\n".join(map(json.dumps, lines)))
    elif kind == ".orc":
        pa.orc.write_table(pa.Table.from_pylist(lines), path)


@pytest.mark.parametrize("kind", [".csv", ".tsv", ".jsonl", ".orc"])
def test_files_of_rows_are_converted_by_the_hint(kind: str, tmp_path: Path) -> None:
    path = tmp_path / f"it's {kind[1:]}{kind}"
    written(path)
    with pytest.raises(InputError, match="neither Parquet nor Arrow") as raised:
        open_source(path)
    assert raised.value.hint.startswith("convert it: ")
    exec(raised.value.hint.removeprefix("convert it: "), {})
    assert pq.read_table(path.with_suffix(".parquet"))["label"].to_pylist() == [0, 1, 0, 1]


OTHERS: dict[str, tuple[bytes, str]] = {
    "a.pkl": (pickle.dumps([1]), "a pickle runs code"),
    "unnamed": (pickle.dumps([1]), "a pickle runs code"),
    "a.h5": (b"\x89HDF\r\n\x1a\n", "h5py"),
    "a.faiss": (b"IxF2", "an index"),
    "index.bin": (b"IxFI", "an index"),
    "a.npz": (b"PK\3\4", "numpy.save"),
    "a.npy": (b"\x93NUMPY", "--vectors"),
    "a.safetensors": (b"{", "numpy.save"),
    "a.parquet.gz": (gzip.compress(b"PAR1"), "unpack it"),
    "a.txt": (b"hello", "write it as Parquet first"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_known_and_answered(name: str, tmp_path: Path) -> None:
    content, hint = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="neither Parquet nor Arrow") as raised:
        open_source(tmp_path / name)
    assert hint in raised.value.hint
    with pytest.raises(InputError, match=r"no \*.parquet in this folder") as raised:
        open_source(tmp_path)
    assert (hint in raised.value.hint) == (name not in ("unnamed", "index.bin"))  # what is in a folder is not opened


def test_no_label_names_both_ways() -> None:
    with pytest.raises(InputError, match=r"columns: embedding .*; id .*") as raised:
        open_source(pa.table({"embedding": FLOATS, "id": range(6)}))
    assert all(option in raised.value.hint for option in ("--label COL", "--qrels PAIRS"))


def test_ids_of_two_kinds_are_shown_from_either_side() -> None:
    rows = pa.table({"embedding": FLOATS, "id": [f"q{row}" for row in range(6)], "label": [0, 1] * 3})
    numbers = rows.set_column(1, "id", pa.array(range(6)))
    pairs = pa.table({"query_id": [1, 2], "positive_id": [3, 4]})
    for call in (
        lambda: mine_batches(rows, corpus=numbers, qrels=pairs).read_all(),
        lambda: mine_batches(rows, corpus=numbers, shared_ids=True, label="label").read_all(),
        lambda: mine_batches(rows, exclude_rows=pa.table({"id": [1]})).read_all(),
        lambda: mine_batches(numbers, qrels=pa.table({"query_id": ["q1"], "positive_id": ["q2"]})).read_all(),
    ):
        with pytest.raises(MinestreamError) as raised:
            call()
        assert "q" in raised.value.message
        assert "int64" in raised.value.message or " 1" in raised.value.message


def test_every_remedy_belongs_to_a_type() -> None:
    """No hint stays untried above: the remedies of embeddings are those that these columns get."""
    kinds = [plain(VECTORS[name]().type) for name in VECTORS] + [pa.list_(pa.list_(pa.float32()))]
    tried = {_ROLES["embedding"].remedy(kind) for kind in kinds}
    assert tried == {text for _, text in _ROLES["embedding"].remedies}
