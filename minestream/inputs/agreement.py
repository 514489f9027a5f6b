"""What the inputs of one source must share: type and length of vectors, and the types of columns."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from minestream.errors import InputError
from minestream.inputs.columns import ELEMENTS, Candidates, Columns, in_one_type, plain, storage
from minestream.inputs.decode import Place, Vectors, decode_vectors, lists_of, with_vector
from minestream.inputs.opened import Input
from minestream.inputs.where import Where

MAX_DIMENSION = 16384
FIRST_ROWS, _SEARCHED_ROWS = 16, 8_192
_HINT = "check how it was written"


def _by_type(each: Input, column: str) -> Vectors:
    Candidates(each.name, each.schema).checked("embedding", column)
    kind = storage(each.schema.field(column).type)
    return Vectors(
        each.name, ELEMENTS[plain(kind).value_type], kind.list_size if pat.is_fixed_size_list(kind) else None
    )


def _first_rows(inputs: list[Input], column: str, where: Where | None) -> Generator[tuple[Place, pa.Array], None, None]:
    """Yield the vectors of rows that meet the condition, piece by piece."""
    names = [column, *(name for name in (where.columns if where else ()) if name != column)]
    for each in inputs:
        start = each.row
        with closing(each.read(names, FIRST_ROWS if where is None else _SEARCHED_ROWS, look=True)) as batches:
            for batch in batches:
                kept = np.flatnonzero(np.ones(batch.num_rows, bool) if where is None else where.mask(batch))
                place = Place(each.name, start, start, kept, each.cell)
                yield place, lists_of(batch.column(column)).take(pa.array(kept))
                start += batch.num_rows


def _by_first_rows(pieces: Iterator[tuple[Place, pa.Array]], column: str, typed: Vectors, drop_bad: bool) -> Vectors:
    """`typed` with the length of the first rows; with dropped bad rows, the commonest length of the first good ones."""
    lengths: list[int] = []
    seen = 0
    for place, rows in pieces:
        if len(rows) and not drop_bad:
            return replace(typed, file=place.file, length=decode_vectors(rows, column, place).shape[1])
        seen += len(rows)
        lengths += pc.list_value_length(rows.filter(pa.array(with_vector(rows)))).to_pylist()
        if len(lengths) >= FIRST_ROWS:
            break
    if seen and not lengths:
        raise InputError(f"{typed.file}: column {column!r}: none of {seen:,} rows holds a vector", _HINT)
    first = lengths[:FIRST_ROWS]  # so that it does not depend on how inputs are cut
    return replace(typed, length=max(first, key=first.count, default=None))


def common_vectors(
    inputs: list[Input], column: str, may_be_empty: bool, drop_bad: bool = False, where: Where | None = None,
    read: list[Input] | None = None,
) -> Vectors:  # fmt: skip
    """Type and length of the vectors of all `inputs`; the first rows are read if no type has the length.

    read : the inputs, or parts of them, that may meet `where`; None: all
    """
    typed = [_by_type(each, column) for each in inputs]
    first = next((vectors for vectors in typed if vectors.length is not None), None)
    if first is None:
        with closing(_first_rows(inputs if read is None else read, column, where)) as pieces:
            first = _by_first_rows(pieces, column, typed[0], drop_bad)
    if first.length is None:
        if not may_be_empty:
            raise no_rows(inputs, where)
        return first
    for other in typed:
        first.must_match(other)
    if first.length not in range(1, MAX_DIMENSION + 1):
        raise InputError(
            f"{first.file}: column {column!r}: vectors of length {first.length}, "
            f"{f'over {MAX_DIMENSION}' if first.length else 'which hold nothing'}",
            "check how they were written, or reduce the dimension first",
        )
    return first


def common_type(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """The plain type that holds the values of both types exactly, or None."""
    if one == other or pat.is_null(other):
        return one
    if pat.is_null(one):
        return other
    if pat.is_list(one) and pat.is_list(other):
        inner = common_type(one.value_type, other.value_type)
        return None if inner is None else pa.list_(inner)
    for alike in (pat.is_integer, pat.is_floating, pat.is_decimal, pat.is_temporal):
        if alike(one) and alike(other):
            try:
                both = pa.unify_schemas([pa.schema({"": one}), pa.schema({"": other})], promote_options="permissive")
                return both.field(0).type
            except pa.ArrowException:
                return None
    return None


def common_column(inputs: list[Input], name: str) -> pa.DataType:
    """The plain type that holds a column's values in all `inputs`; InputError if there is none. Null: no values."""
    first = inputs[0]
    kind = plain(first.schema.field(name).type)
    for other in inputs[1:]:
        its = plain(other.schema.field(name).type)
        both = common_type(kind, its)
        if both is None:
            raise InputError(
                f"column {name!r} has different types: {first.name} has {kind}, {other.name} has {its}",
                f"write it with one type in all files, {in_one_type(kind, its)}",
            )
        kind = both
    return kind


def common_schema(inputs: list[Input], columns: Columns) -> pa.Schema:
    """The columns other than the embedding, in plain types; InputError if one is missing or the types do not agree.

    The type is null if no input has a value.
    """
    for name, role in columns.roles.items():
        for other in inputs[1:]:
            Candidates(other.name, other.schema).checked(role, name)
    kinds = {name: common_column(inputs, name) for name in columns.roles}
    if columns.id is not None and pat.is_integer(kinds[columns.id]):
        kinds[columns.id] = pa.int64()
    return pa.schema(list(kinds.items()))


def names_of(inputs: list[Input]) -> str:
    """The names of inputs, of three at most."""
    return ", ".join(each.name for each in inputs[:3]) + (", ..." if len(inputs) > 3 else "")


def no_rows(inputs: list[Input], where: Where | None = None) -> InputError:
    """The error for inputs without rows, or without rows that meet the condition."""
    names = names_of(inputs)
    if where is not None:
        return InputError(f"{names}: no row meets {where.option} {where.text!r}", "check the condition")
    return InputError(f"{names}: no rows", f"there is nothing to mine: {_HINT}")
