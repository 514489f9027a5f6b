"""Columns of every awkward type and value, and whether they can be mined as labels, ids or vectors."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc

ROWS, DIMENSION = 24, 3
LABELS = [row % 4 for row in range(ROWS)]


def matrix() -> np.ndarray[Any, Any]:
    return np.random.default_rng(5).normal(size=(ROWS, DIMENSION)).astype(np.float32)


def vectors(kind: pa.DataType | None = None) -> pa.Array:
    flat = matrix().reshape(-1)
    array = pa.FixedSizeListArray.from_arrays(pa.array(flat), DIMENSION)
    return array if kind is None else array.cast(kind)


def named(labels: list[str]) -> list[str]:
    return [labels[label % len(labels)] for label in LABELS]


class Angle(pa.ExtensionType):
    """An extension type that nobody registered."""

    def __init__(self, storage: pa.DataType) -> None:
        super().__init__(storage, "tests.angle")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""


def extended(array: pa.Array) -> pa.Array:
    return pa.ExtensionArray.from_storage(Angle(array.type), array)


NUMBERS = list(range(ROWS))
TEXTS = [f"id {row}" for row in range(ROWS)]
HUGE = ["x" * 100_000, "y" * 100_000 + "1", "y" * 100_000 + "2", ""]
NASTY = ["<script>alert(1)</script>", "\x1b[31mred\x1b[0m", "[bold]markup[/bold]", "a\nb\0c\u202e"]
RUNS = pa.RunEndEncodedArray.from_arrays(pa.array([6, 12, 18, 24], pa.int32()), pa.array([0, 1, 2, 3]))
STRUCTS = pa.array([{"a": label} for label in LABELS])
MAPS = pa.array([[("a", label)] for label in LABELS], pa.map_(pa.string(), pa.int64()))

OF_LABELS: dict[str, tuple[Any, bool]] = {
    "int64 extremes": ([(-(2**63), 2**63 - 1, -1, 0)[label] for label in LABELS], True),
    "uint64 above int64": (pa.array([2**64 - 1 - label for label in LABELS], pa.uint64()), True),
    "int8": (pa.array(LABELS, pa.int8()), True),
    "booleans": ([label > 1 for label in LABELS], True),
    "empty texts": (named(["", "a", "b", "c"]), True),
    "100,000 characters each": (named(HUGE), True),
    "markup and control characters": (named(NASTY), True),
    "a dictionary of 100,000 unused labels": (
        pa.DictionaryArray.from_arrays(pa.array(LABELS, pa.int32()), [f"label {i}" for i in range(100_000)]), True
    ),
    "a dictionary with equal entries": (pa.DictionaryArray.from_arrays(pa.array(LABELS), ["a", "b", "a", "c"]), True),
    "a dictionary with a null entry": (pa.DictionaryArray.from_arrays(pa.array(LABELS), ["a", None, "b", "c"]), True),
    "a dictionary of dictionaries": (
        pa.DictionaryArray.from_arrays(
            pa.array(LABELS), pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 3]), ["a", "b", "c", "d"])
        ), False  # which Arrow writes and does not read
    ),
    "large_string": (pa.array(named(["a", "b"]), pa.large_string()), True),
    "string_view": (pa.array(named(["a", "a text longer than twelve bytes"]), pa.string_view()), True),
    "lists": (pa.array([[label, 9] if label else [label] for label in LABELS]), True),
    "large lists": (pa.array([[label] for label in LABELS], pa.large_list(pa.int32())), True),
    "list views": (pa.array([[label] for label in LABELS], pa.list_view(pa.int32())), True),
    "lists of nulls and empty lists": (pa.array([[label, None] if label else [] for label in LABELS]), True),
    "fixed-size lists": (pa.array([[label, label] for label in LABELS], pa.list_(pa.int64(), 2)), True),
    "lists of lists": (pa.array([[[label]] for label in LABELS]), False),
    "nulls only": (pa.nulls(ROWS, pa.int64()), False),
    "the null type": (pa.nulls(ROWS), False),
    "some nulls": ([None if row % 5 == 0 else label for row, label in enumerate(LABELS)], True),
    "floats with NaN": ([float("nan") if label == 0 else float(label) for label in LABELS], False),
    "half floats": (pa.array(np.array(LABELS, np.float16)), False),
    "decimals": ([decimal.Decimal(label) for label in LABELS], False),
    "dates": ([datetime.date(2026, 1, 1 + label) for label in LABELS], False),
    "times with a zone": (pa.array(LABELS, pa.timestamp("us", "Europe/Berlin")), False),
    "binary": ([bytes([label]) for label in LABELS], False),
    "fixed-size binary": (pa.array([bytes([label]) for label in LABELS], pa.binary(1)), False),
    "structs": (STRUCTS, False),
    "maps": (MAPS, False),
    "run-end encoded": (RUNS, True),
    "an extension of int64": (extended(pa.array(LABELS)), True),
    "an extension of a float": (extended(pa.array([float(label) for label in LABELS])), False),
}  # fmt: skip
OF_IDS: dict[str, tuple[Any, bool]] = {
    "int64 extremes": ([-(2**63), 2**63 - 1, *NUMBERS[2:]], True),
    "uint64 above int64": (pa.array([2**64 - 1, *NUMBERS[1:]], pa.uint64()), False),
    "uint64 within int64": (pa.array([2**63 - 1, *NUMBERS[1:]], pa.uint64()), True),
    "duplicates": ([0, *NUMBERS[:-1]], False),
    "duplicate texts": (["a", "a", *TEXTS[2:]], False),
    "nulls": ([None, *NUMBERS[1:]], False),
    "an empty text": (["", *TEXTS[1:]], True),
    "texts that look like numbers": ([f"{row:03d}" for row in range(ROWS)], True),
    "markup and control characters": ([*NASTY, *TEXTS[4:]], True),
    "a megabyte": (["x" * 1_000_000, *TEXTS[1:]], True),
    "texts in a dictionary": (pa.array(TEXTS).dictionary_encode(), True),
    "large_string": (pa.array(TEXTS, pa.large_string()), True),
    "string_view": (pa.array(TEXTS, pa.string_view()), True),
}  # fmt: skip
OF_VECTORS: dict[str, tuple[Any, bool]] = {
    "lists": (vectors(pa.list_(pa.float32())), True),
    "large lists": (vectors(pa.large_list(pa.float32())), True),
    "list views": (pa.array(matrix().tolist(), pa.list_view(pa.float32())), True),
    "half floats": (vectors(pa.list_(pa.float16(), DIMENSION)), True),
    "doubles": (vectors(pa.list_(pa.float64(), DIMENSION)), True),
    "an extension": (extended(vectors()), True),
    "a tensor": (pa.FixedShapeTensorArray.from_numpy_ndarray(matrix()), True),
    "lists of two lengths": (pa.array([[1.0] * (2 + row % 2) for row in range(ROWS)], pa.list_(pa.float32())), False),
    "length 0": (pa.array([[]] * ROWS, pa.list_(pa.float32(), 0)), False),
    "empty lists": (pa.array([[]] * ROWS, pa.list_(pa.float32())), False),
    "more than 16,384 values": (
        pa.FixedSizeListArray.from_arrays(pa.array(np.ones(ROWS * 16_385, np.float32)), 16_385), False
    ),
    "null rows": (pa.array([None, *matrix()[1:].tolist()], pa.list_(pa.float32(), DIMENSION)), False),
    "null values": (pa.array([[None, 1.0, 2.0], *matrix()[1:].tolist()], pa.list_(pa.float32(), DIMENSION)), False),
    "decimals": (pa.array([[decimal.Decimal(1)] * 2] * ROWS), False),
    "int64": (pa.array([[row, 1] for row in range(ROWS)]), False),
    "texts": (pa.array([[str(row), "1"] for row in range(ROWS)]), False),
    "dictionaries": (pa.array([["a", "b"]] * ROWS, pa.list_(pa.dictionary(pa.int8(), pa.string()))), False),
    "structs": (STRUCTS, False),
    "one number a row": (pa.array(np.arange(ROWS, dtype=np.float32)), False),
}  # fmt: skip


def table_of(columns: dict[str, Any]) -> pa.Table:
    return pa.table({"embedding": vectors(), "label": LABELS, "id": NUMBERS} | columns)


def write(path: Path, table: pa.Table) -> Path:
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table, max_chunksize=7)
    return path
