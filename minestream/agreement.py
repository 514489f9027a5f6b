"""What several inputs of one source must have in common: their vectors, and the types of their columns."""

from __future__ import annotations

from contextlib import closing

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from minestream.columns import ELEMENTS, Candidates, Columns, plain, storage
from minestream.decode import Place, Vectors, decode_vectors, lists_of, with_vector
from minestream.errors import InputError
from minestream.inputs import Input
from minestream.where import Where

MAX_DIMENSION = 16384
FIRST_ROWS = 16


def _by_type(each: Input, column: str) -> Vectors:
    Candidates(each.name, each.schema).checked("embedding", column)
    kind = storage(each.schema.field(column).type)
    return Vectors(
        each.name, ELEMENTS[plain(kind).value_type], kind.list_size if pat.is_fixed_size_list(kind) else None
    )


def _by_first_rows(inputs: list[Input], column: str, drop_bad: bool) -> Vectors:
    """By the first rows; where bad ones are dropped, by what most of the first that hold a vector have."""
    for each in inputs:
        lengths: list[int] = []
        with closing(each.read([column], FIRST_ROWS, look=True)) as batches:
            for batch in batches:
                rows = lists_of(batch.column(column))
                if not drop_bad:
                    vectors = decode_vectors(rows, column, Place(each.name, 0, 0))
                    return Vectors(each.name, vectors.dtype, vectors.shape[1])
                lengths += pc.list_value_length(rows.filter(pa.array(with_vector(rows)))).to_pylist()
                if len(lengths) >= FIRST_ROWS:
                    break
        if lengths:  # cut, so that they are the same rows however a file is cut
            first = lengths[:FIRST_ROWS]
            return Vectors(each.name, _by_type(each, column).dtype, max(first, key=first.count))
    if not drop_bad:
        raise no_rows(inputs)
    raise InputError(f"{inputs[0].name}: column {column!r}: no row holds a vector", "check how it was written")


def common_vectors(inputs: list[Input], column: str, empty: bool, drop_bad: bool = False) -> Vectors:
    """What the vectors of all `inputs` are, by their types, or by the first rows when no type tells the length."""
    typed = [_by_type(each, column) for each in inputs]
    if empty and all(vectors.length is None for vectors in typed):
        return typed[0]
    first = next((vectors for vectors in typed if vectors.length is not None), None)
    first = first or _by_first_rows(inputs, column, drop_bad)
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
    """A plain type that holds the values of both as they are, or None."""
    if one == other:
        return one
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


def common_schema(inputs: list[Input], columns: Columns) -> pa.Schema:
    """The columns beside the embedding, in their plain types; refuses inputs that lack one or disagree."""
    first = inputs[0]
    kinds = {name: plain(first.schema.field(name).type) for name in columns.roles}
    for other in inputs[1:]:
        for name, role in columns.roles.items():
            Candidates(other.name, other.schema).checked(role, name)
            its = plain(other.schema.field(name).type)
            both = common_type(kinds[name], its)
            if both is None:
                raise InputError(
                    f"column {name!r} has different types: {first.name} has {kinds[name]}, {other.name} has {its}",
                    "write it with one type in all files, for example as texts: column.cast(pyarrow.string())",
                )
            kinds[name] = both
    if columns.id is not None and pat.is_integer(kinds[columns.id]):
        kinds[columns.id] = pa.int64()
    return pa.schema(list(kinds.items()))


def no_rows(inputs: list[Input], where: Where | None = None) -> InputError:
    """The error that there is nothing to read."""
    names = ", ".join(each.name for each in inputs[:3]) + (", ..." if len(inputs) > 3 else "")
    if where is not None:
        return InputError(f"{names}: no row meets {where.option} {where.text!r}", "check the condition")
    return InputError(f"{names}: no rows", "there is nothing to mine: check how the input was written")
