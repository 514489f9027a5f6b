"""Vectors that are stored otherwise than as lists of numbers that are compared: bytes, bf16, other integers, text."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from minestream.config.rules import VECTOR_TYPES
from minestream.errors import InputError
from minestream.inputs.columns import ELEMENTS, Candidates, holds_vectors, is_list, plain, storage
from minestream.inputs.decode import Place, decode_plain, lists_from
from minestream.inputs.opened import Input

OF_TEXT = "float32"  # what numbers written out are read as
_ARROW = {str(dtype): kind for kind, dtype in ELEMENTS.items()} | {"uint8": pa.uint8(), "bf16": pa.uint16()}
_WIDENED = {"uint8": pa.float32(), "bf16": pa.float32()}  # what these are compared as, exactly


def declared_if_needed(each: Input, declared: str | None) -> str | None:
    """The declared type, for an input none of whose columns says what the numbers of its vectors are."""
    said = any(holds_vectors(plain(field.type)) for field in each.schema)
    return None if said or declared not in VECTOR_TYPES else declared


def declared_as(each: Input, column: str, declared: str | None) -> Input:
    """The input with its vectors as lists of a type that is compared; the input itself where they are.

    Raises
    ------
    InputError
        For a column that cannot hold numbers of the declared type.
    """
    if column not in each.schema.names:
        return each
    role = Candidates(each.name, each.schema, declared=declared, as_text=each.as_text)
    kind = plain(each.schema.field(role.checked("embedding", column)).type)
    if not declared and not each.as_text and not pat.is_uint8(kind.value_type):
        return each
    target = declared or (OF_TEXT if each.as_text else "uint8")
    value, stored = _WIDENED.get(target, _ARROW[target]), storage(each.schema.field(column).type)
    length = stored.list_size if pat.is_fixed_size_list(stored) else -1
    if pat.is_fixed_size_binary(stored):
        length, rest = divmod(stored.byte_width, _ARROW[target].bit_width // 8)
        if rest:
            what = f"{stored.byte_width} bytes a row are no whole number of {target}"
            raise InputError(f"{each.name}: column {column!r}: {what}", "check --vector-type")
    at = each.schema.get_field_index(column)
    schema = each.schema.set(at, pa.field(column, pa.list_(value, length)))
    return replace(each, schema=schema, converted={column: partial(_converted, column, target)})


def _converted(column: str, target: str, array: pa.Array, place: Place) -> pa.Array:
    """A column as lists of numbers of the target type, widened where that is not compared."""
    array = decode_plain(array)
    if is_list(array.type):
        lengths = np.asarray(pc.fill_null(pc.list_value_length(array), 0), np.int64)
        values = array.flatten()
        values = values.view(pa.uint16()) if target == "bf16" else _numbers(values, target, lengths, column, place)
    else:
        size = np.asarray(pc.fill_null(pc.binary_length(array), 0), np.int64)
        lengths, rest = np.divmod(size, _ARROW[target].bit_width // 8)
        if rest.any():
            raise place.refusal(column, f"no whole number of {target}", np.flatnonzero(rest), "check --vector-type")
        whole = np.frombuffer(b"".join(array.drop_null().to_pylist()), np.dtype(_ARROW[target].to_pandas_dtype()))
        values = pa.array(whole)
    if target == "bf16":  # the upper half of a float32
        wide = (values.fill_null(0).to_numpy().astype(np.uint32) << 16).view(np.float32)
        values = pa.array(wide, mask=values.is_null().to_numpy(zero_copy_only=False))
    values = values.cast(pa.float32()) if target == "uint8" else values
    return lists_from(lengths, values, array.is_null())


def _numbers(values: pa.Array, target: str, lengths: np.ndarray, column: str, place: Place) -> pa.Array:
    """Numbers as the target type: of floats the nearest, of integers the same."""
    kind = _ARROW[target]
    if pat.is_floating(values.type) and pat.is_floating(kind):
        with np.errstate(over="ignore"):  # what is beyond its range is infinite, and a bad row
            near = values.fill_null(0).to_numpy().astype(kind.to_pandas_dtype())
        return pa.array(near, mask=values.is_null().to_numpy(zero_copy_only=False))
    try:
        return values.cast(kind)
    except pa.ArrowInvalid as error:
        rows = np.repeat(np.arange(len(lengths)), lengths)
        bad = next(row for at, row in enumerate(rows) if not _casts(values[at], kind))
        raise place.refusal(column, f"no {target}: {error}", [int(bad)], "check --vector-type") from error


def _casts(value: pa.Scalar, kind: pa.DataType) -> bool:
    try:
        return value.cast(kind) is not None
    except pa.ArrowInvalid:
        return False
