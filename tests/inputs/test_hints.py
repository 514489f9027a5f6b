"""Hints that hold code: each runs as it stands, and what it makes is taken."""

from __future__ import annotations

import ast
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

import minestream
from minestream.cli.main import cli
from minestream.errors import InputError, MinestreamError, UsageError
from minestream.inputs.columns import _ROLES, plain
from minestream.inputs.source import open_source
from minestream.mining.arrays import mine_arrays
from minestream.mining.batches import mine_batches
from minestream.mining.pipeline import mine
from minestream.outputs.trainers.export import export

ROWS = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32)
FLOATS = pa.array(ROWS.tolist(), pa.list_(pa.float32()))
BEGIN = re.compile(r"import |pyarrow\.|column\.|numpy\.(?!save)|array\.|tensor\.")


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
    if 'vector_type="float32"' in raised.value.hint:
        (batch,) = open_source(table, vector_type="float32").batches()
        assert batch.vectors.shape == (6, 3)
        return
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
    "id structs": ("id", pa.array([{"name of the field": row} for row in range(6)])),
    "id lists": ("id", pa.array([[row, 9] for row in range(6)])),
    "id decimals": ("id", pa.array([decimal.Decimal(row) for row in range(6)])),
    "label lists of floats": ("label", pa.array([[0.0], [1.0, 2.0]] * 3)),
    "label lists of dates": ("label", pa.array([[datetime.date(2024, 1, 1 + row % 2)] for row in range(6)])),
    "label structs": ("label", pa.array([{"name of the field": row % 2} for row in range(6)])),
    "group structs": ("group_column", pa.array([{"name of the field": row} for row in range(6)])),
    "group lists": ("group_column", pa.array([[row, 9] for row in range(6)])),
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


COLUMNS: dict[str, list[pa.Array]] = {  # two columns that have no type in common
    "int and text": [pa.array([0, 1] * 3), pa.array(["0", "1"] * 3)],
    "bool and text": [pa.array([False, True] * 3), pa.array(["false", "true"] * 3)],
    "text and lists": [pa.array(["a", "b"] * 3), pa.array([["a"], ["b", "c"]] * 3)],
    "lists": [pa.array([[0], [1, 2]] * 3), pa.array([["0"], []] * 3)],
}


def mended_by(hint: str, columns: list[pa.Array]) -> list[pa.Array]:
    """Both columns by the code of the hint; of two that are not both lists the one that is none."""
    single = [column for column in columns if not pa.types.is_list(column.type)]
    return [
        column if single and not any(column is each for each in single)
        else eval(code_of(hint), {"column": column, "pyarrow": pa})
        for column in columns
    ]  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_without_a_common_type_are_written_in_one_by_the_hint(name: str, tmp_path: Path) -> None:
    def write(columns: list[pa.Array]) -> None:
        for number, column in enumerate(columns):
            table = pa.table({"embedding": FLOATS, "label": column, "id": np.arange(6) + 6 * number})
            pq.write_table(table, tmp_path / f"{number}.parquet")

    def both_ways() -> list[Callable[[], Any]]:
        one, other = (tmp_path / f"{number}.parquet" for number in (0, 1))
        return [
            lambda: list(open_source(tmp_path, label="label").batches()),
            lambda: mine_batches(one, corpus=str(other), label="label", band="any").read_all(),
        ]

    columns = COLUMNS[name]
    write(columns)
    hints = []
    for call in both_ways():
        with pytest.raises(InputError) as raised:
            call()
        hints.append(raised.value.hint)
    assert code_of(hints[0]) == code_of(hints[1])
    write(mended_by(hints[0], columns))
    for call in both_ways():
        call()


def test_ids_of_lists_are_written_in_one_type_by_the_hint(tmp_path: Path) -> None:
    ids = pa.array([f"q{row}" for row in range(6)])
    rows = pa.table({"embedding": FLOATS, "id": ids, "label": [0, 1] * 3})
    numbers = rows.set_column(1, "id", pa.array(range(6)))
    pairs = {"query_id": pa.array(["q1"]), "positive_id": pa.array(["q2"])}
    for number in (0, 1):  # two files
        pq.write_table(pa.table({**pairs, "query_id": [["q1"], [1]][number]}), tmp_path / f"{number}.parquet")
    calls: list[tuple[Callable[[], Any], Any]] = [
        (lambda: mine_batches(rows, qrels=str(tmp_path)), pa.array([1, 2])),
        (lambda: mine_batches(numbers, qrels=pa.table(pairs)).read_all(), pa.array([1, 2])),
        (lambda: mine_batches(rows, corpus=numbers, shared_ids=True, label="label").read_all(), pa.array([1, 2])),
        (lambda: mine_batches(rows, qrels=pa.table({**pairs, "query_id": [1.0]})), pa.array([1.0, 2.0])),
        (lambda: mine_batches(rows, qrels=pa.table({**pairs, "query_id": [datetime.date(2024, 1, 1)]})),
         pa.array([datetime.date(2024, 1, 1)])),
        (lambda: mine_batches(rows, qrels=pa.table({**pairs, "query_id": pa.array([2**64 - 1], pa.uint64())})),
         pa.array([2**64 - 1], pa.uint64())),
        (lambda: open_source(rows.set_column(1, "id", pa.array([2**64 - 1] * 6, pa.uint64()))).batches().__next__(),
         pa.array([2**64 - 1], pa.uint64())),
    ]  # fmt: skip
    for call, column in calls:
        with pytest.raises(MinestreamError) as raised:
            call()
        made = eval(code_of(raised.value.hint), {"column": column, "pyarrow": pa})
        assert made.type in (pa.string(), pa.int64()), raised.value


TEXTS: dict[str, pa.Array] = {
    "numbers": pa.array(range(6)), "bytes": pa.array([b"a"] * 6), "lists": pa.array([["a", "b"]] * 6),
    "large lists": pa.array([["a"]] * 6, pa.large_list(pa.string())),
    "structs": pa.array([{"name of the field": "a"}] * 6),
}  # fmt: skip


@pytest.mark.parametrize(("name", "carried"), [*((name, False) for name in TEXTS), ("numbers", True), ("lists", True)])
def test_columns_that_hold_no_text_are_converted_by_the_hint(name: str, carried: bool, tmp_path: Path) -> None:
    def exported(column: pa.Array) -> None:
        pq.write_table(rows.append_column("text", column), tmp_path / "in.parquet")
        options: dict[str, Any] = {"carry": "text"} if carried else {}
        mine(tmp_path / "in.parquet", tmp_path / "m.parquet", progress="none", band="any", overwrite=True, **options)
        export(tmp_path / "m.parquet", tmp_path / "e.parquet", emit="st-triplets", text="text", overwrite=True)

    rows = pa.table({"embedding": FLOATS, "label": [0, 1] * 3})
    with pytest.raises(InputError, match=r"holds? no text") as raised:
        exported(TEXTS[name])
    exported(eval(code_of(raised.value.hint), {"column": TEXTS[name], "pyarrow": pa}))


def test_arrays_are_converted_by_the_hint(tmp_path: Path) -> None:
    labels = [0, 1] * 3
    masked = np.ma.masked_array(ROWS, ROWS > 1)  # some elements
    for array in (masked, (ROWS * 9).astype(np.int64), ROWS > 0.1, (ROWS * 9).astype(int).astype(str)):
        with pytest.raises(InputError) as raised:
            mine_arrays(array, labels)
        mine_arrays(eval(code_of(raised.value.hint), {"array": array, "numpy": np}), labels, on_bad_rows="drop")
    np.save(tmp_path / "v.npy", np.asfortranarray(ROWS))
    pq.write_table(pa.table({"label": labels}), tmp_path / "in.parquet")
    with pytest.raises(InputError, match="Fortran order") as raised:
        open_source(tmp_path / "in.parquet", vectors=tmp_path / "v.npy")
    np.save(tmp_path / "v.npy", eval(code_of(raised.value.hint), {"array": np.load(tmp_path / "v.npy"), "numpy": np}))
    (batch,) = open_source(tmp_path / "in.parquet", vectors=tmp_path / "v.npy").batches()
    assert np.array_equal(batch.vectors, ROWS)


def test_columns_in_a_dict_and_batches_in_a_generator_become_tables_by_the_hint() -> None:
    columns = {"embedding": ROWS, "label": np.array([0, 1] * 3), "id": list(range(6))}
    table = pa.table({"embedding": FLOATS, "label": columns["label"], "id": columns["id"]})
    expected = mine_batches(table, band="any").read_all()
    batches = (batch for batch in table.to_batches(max_chunksize=2))
    for given in (columns, batches):
        with pytest.raises(UsageError, match="is not understood") as raised:
            mine_batches(given)
        known = {"columns": columns, "batches": batches, "schema": table.schema, "pyarrow": pa}
        found = mine_batches(eval(code_of(raised.value.hint), known), band="any").read_all()
        assert found["negative_row"].equals(expected["negative_row"])


def written(path: Path) -> None:
    """A file of rows as other tools write it, by its ending."""
    kind = "".join(path.suffixes)
    lines = [{"label": row % 2, "name": f"n{row}"} for row in range(4)]
    if kind == ".orc":
        pa.orc.write_table(pa.Table.from_pylist(lines), path)


@pytest.mark.parametrize("kind", [".orc"])
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
    "a.safetensors": (b"{", "numpy.save"),
    "a.parquet.gz": (gzip.compress(b"PAR1"), "unpack it"),
    "zipped.bin": (b"PK\3\4\0\0", "a zip, as torch.save and Excel write too"),
    "a.zip": (b"PK\3\4\0\0", "unpack it: what is packed"),
    "a.xlsx": (b"PK\3\4\0\0", "a workbook: save the sheet as CSV"),
    "a.pth": (b"PK\3\4\0\0", "read its tensors"),
    "a.txt": (b"hello", "write it as Parquet first"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_known_and_answered(name: str, tmp_path: Path) -> None:
    content, hint = OTHERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="neither Parquet nor Arrow") as raised:
        open_source(tmp_path / name)
    assert hint in raised.value.hint
    assert "Parquet and Arrow" not in raised.value.hint, "nobody knows what is in it"
    with pytest.raises(InputError, match=r"no \*.parquet in this folder") as raised:
        open_source(tmp_path)
    assert (hint in raised.value.hint) == (
        name not in ("unnamed", "index.bin", "zipped.bin")
    )  # what is in a folder is not opened


def test_lists_of_lists_without_a_value_are_no_labels_or_groups() -> None:
    nothing = {"label": pa.array([[[None]]] * 6), "group_column": pa.array([[None]] * 6)}
    for role, column in nothing.items():
        table = pa.table({"embedding": FLOATS, "y": [0, 1] * 3, "value": column})
        options: dict[str, Any] = {"label": "y"} | {role: "value"}
        with pytest.raises(InputError, match=f"cannot be the {role.removesuffix('_column')}: its type is list"):
            open_source(table, **options)


def test_no_label_names_both_ways() -> None:
    with pytest.raises(InputError, match=r"columns: embedding .*; id .*") as raised:
        open_source(pa.table({"embedding": FLOATS, "id": range(6)}))
    assert all(option in raised.value.hint for option in ('label="COL"', 'qrels="PAIRS"'))


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
    """No hint stays untried above: the remedies of each role are those that these columns get, or hold no code."""
    kinds = {"embedding": [plain(VECTORS[name]().type) for name in VECTORS]}
    for role, column in SINGLE.values():
        kinds.setdefault(role.removesuffix("_column"), []).append(plain(column.type))
    for role, each in kinds.items():
        tried = {_ROLES[role].remedy(kind) for kind in each}
        assert {text for _, text in _ROLES[role].remedies if BEGIN.search(text)} <= tried
        assert not BEGIN.search(_ROLES[role].otherwise) or _ROLES[role].otherwise in tried


def test_every_option_that_is_named_exists() -> None:
    options = [option for command in cli.commands.values() for option in command.params]
    known = {flag for option in options for flag in (*option.opts, *option.secondary_opts)}
    known |= {"--help", "--version", "--force-reinstall"}  # the last is pip's
    for path in sorted(Path(minestream.__file__).parent.rglob("*.py")):
        texts = (node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant))
        named = {
            flag
            for text in texts
            if isinstance(text, str)
            for flag in re.findall(r"(?<![\w;-])(?<!var\()--[a-z][\w-]*", text)
        }
        assert named <= known, path
