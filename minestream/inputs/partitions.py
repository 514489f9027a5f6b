"""Hive folders as columns, and skipping of row groups that cannot meet a condition."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from minestream.inputs.opened import Input, opened
from minestream.inputs.parquet_files import of_groups
from minestream.inputs.where import UNKNOWN, Where

_INT64 = re.compile("0|-?[1-9][0-9]{0,18}")
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


def partition_values(path: str) -> dict[str, str | None]:
    """The partition columns of a path, from its folders named name=value."""
    pairs = (folder.split("=", 1) for folder in path.split("/")[:-1] if "=" in folder[1:])
    return {_unquoted(name): None if value == HIVE_NULL else _unquoted(value) for name, value in pairs}


def _unquoted(text: str) -> str:
    """Text with its %XX decoded; unchanged if they are not UTF-8, so that two folders never become one value."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def partition_types(values: list[dict[str, str | None]]) -> dict[str, pa.DataType]:
    """The types of the partition columns that all files have: int64 if every value is written as one, else string."""
    shared = [name for name in (values[0] if values else {}) if all(name in each for each in values)]
    return {name: pa.int64() if all(_is_int64(each[name]) for each in values) else pa.string() for name in shared}


def _is_int64(text: str | None) -> bool:
    """Whether text prints back as itself from an int64: 7, and neither 07, -0 nor digits of another script."""
    return text is None or (bool(_INT64.fullmatch(text)) and -(2**63) <= int(text) < 2**63)


def partitioned(inputs: list[Input]) -> list[Input]:
    """The inputs with columns from their folders `name=value`, except names that a file has itself."""
    values = [partition_values(str(each.path)) if each.on_disk else {} for each in inputs]
    types = partition_types(values)
    return [
        _with_constants(each, {name: _scalar(own[name], kind) for name, kind in types.items()})
        for each, own in zip(inputs, values, strict=True)
    ]


def _scalar(value: str | None, kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(value if value is None or kind == pa.string() else int(value), kind)


def _with_constants(each: Input, constants: dict[str, pa.Scalar]) -> Input:
    """The input with constant columns added at the end."""
    added = {name: value for name, value in constants.items() if name not in each.schema.names}
    fields = [*each.schema, *(pa.field(name, value.type) for name, value in added.items())]
    return replace(each, schema=pa.schema(fields, each.schema.metadata), constants=added)


def pruned(inputs: list[Input], where: Where) -> list[Input]:
    """The inputs cut to the row groups whose statistics let some row meet the condition.

    Inputs without a known number of rows, with all behind them, and inputs that are no Parquet files stay whole.
    """
    found: list[Input] = []
    start_row = 0
    for position, each in enumerate(inputs):
        if each.rows is None:
            return found + inputs[position:]
        found += _runs(each, where, start_row)
        start_row += each.rows
    return found


def _runs(each: Input, where: Where, start_row: int) -> Iterator[Input]:
    whole = replace(each, start_row=start_row)
    if not each.file:
        yield whole
        return
    from pyarrow.dataset import ParquetFileFormat  # loads pandas where it is installed

    with opened(each.file) as file:
        fragment = ParquetFileFormat().make_fragment(file, partition_expression=_known(each.constants))
        sizes = [group.num_rows for group in fragment.row_groups]
        schema = each.schema.append(pa.field(UNKNOWN, pa.bool_()))
        try:
            parts = fragment.split_by_row_group(where.expression(each.schema), schema=schema)
        except pa.ArrowNotImplementedError:  # it computes with no columns of this type, such as extension types
            yield whole
            return
    kept = [group.id for part in parts for group in part.row_groups]
    if len(kept) == len(sizes):
        yield whole
        return
    ordered = np.array(kept, np.int64)
    for run in np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1) if kept else ():
        yield of_groups(whole, run.tolist(), sizes)


def _known(constants: Mapping[str, pa.Scalar]) -> pc.Expression:
    """What the constant columns hold, as an expression."""
    known = pc.scalar(True)
    for name, value in constants.items():
        known &= pc.field(name) == value if value.is_valid else pc.field(name).is_null()
    return known
