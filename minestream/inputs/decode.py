"""Arrow columns decoded: vectors as a matrix, labels and ids in plain types; and rows without a good vector."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from minestream.errors import InputError
from minestream.inputs.columns import ELEMENTS, is_list, plain
from minestream.system import ragged
from minestream.system.values import verb

NORM_LIMITS = (1e-150, 1e150)
# A float32 sum of squares within these proves that the float64 one is within NORM_LIMITS.
_SURE_LIMITS = (1e-20, 1e30)
_SHOWN_ROWS = 5


@dataclass(frozen=True)
class Place:
    """Where a run of rows comes from: the input, its first row there and in the source, and which rows were kept."""

    file: str
    row: int
    start_row: int
    kept: np.ndarray | None = None  # positions in the run; None: all of it
    cell: Callable[[str, int], str] | None = None  # see `Input`

    def source_rows(self, count: int) -> np.ndarray:
        """The source rows of the first `count` kept rows, int64."""
        return self.start_row + (np.arange(count) if self.kept is None else self.kept[:count])

    def rows(self, positions: Sequence[int] | np.ndarray) -> str:
        """The rows at `positions` among the kept ones in words, five at most; what follows is not read yet."""
        shown = [int(p if self.kept is None else self.kept[p]) for p in positions[:_SHOWN_ROWS]]
        more = f" and at least {len(positions) - len(shown)} more" if len(positions) > len(shown) else ""
        inside, overall = (", ".join(str(int(p) + first) for p in shown) for first in (self.row, self.start_row))
        return (
            f"{'row' if len(positions) == 1 else 'rows'} {inside}{more}"
            f"{'' if inside == overall else f' (in the whole source: {overall})'}"
        )

    def refusal(self, column: str, what: str, positions: Sequence[int] | np.ndarray, hint: str) -> InputError:
        """The error that `what` is wrong in the rows at `positions`."""
        first = int(positions[0] if self.kept is None else self.kept[positions[0]])
        cell = self.cell(column, self.row + first) if self.cell and what == NULL_ELEMENTS else ""
        if cell:
            more = f", and more in {self.rows(positions[1:])}" if len(positions) > 1 else ""
            return InputError(f"{self.file}: {cell} in {self.rows(positions[:1])}{more}", hint)
        return InputError(f"{self.file}: column {column!r}: {what} in {self.rows(positions)}", hint)


@dataclass(frozen=True)
class Vectors:
    """Type and length of the vectors of an input; the length is None if only reading rows can tell."""

    file: str
    dtype: np.dtype
    length: int | None

    def must_match(self, other: Vectors, row: str = "") -> None:
        """InputError unless the vectors of `other`, found from `row` on, have the same type and length."""
        for what, mine, its in (("element types", self.dtype, other.dtype), ("lengths", self.length, other.length)):
            if its is not None and its != mine:
                ours, theirs = f"{self.file} has", f"{other.file} has"
                if self.file == other.file:
                    ours, theirs = "the first rows have", f"those from {row} on have"
                raise InputError(
                    f"{other.file}: vectors of different {what}: {ours} {mine}, {theirs} {its}",
                    "all vectors must have one type and length: convert them, or mine the files separately",
                )


def decode_plain(array: pa.Array) -> pa.Array:
    """`array` in its plain type (see `columns.plain`), not copied if it has it already.

    Handles every layout of Arrow: slices, dictionaries (with null values, too), runs, views, lists of any of them,
    extension types. Values that a null list may hide are removed.
    """
    array = _stored(array)
    wanted = plain(array.type)
    if pat.is_dictionary(array.type):
        return decode_plain(array.dictionary).take(array.indices)
    if pat.is_run_end_encoded(array.type):
        return decode_plain(array.values).take(pa.array(_runs(array)))
    if is_list(array.type):
        if array.type == wanted and not array.null_count:
            return array
        return without_hidden(array, decode_plain(array.flatten()))
    return array if array.type == wanted else array.cast(wanted)


def _runs(array: pa.RunEndEncodedArray) -> np.ndarray:
    """The number of the run that each row of a run-end encoded array, maybe a slice, is in."""
    rows = np.arange(array.offset, array.offset + len(array))
    return np.searchsorted(np.asarray(array.run_ends), rows, side="right")


def without_hidden(lists: pa.Array, values: pa.Array | None = None) -> pa.Array:
    """Lists without the values that null lists may hide; `values` replace the others."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), np.int64)
    return lists_from(lengths, lists.flatten() if values is None else values, lists.is_null())


def lists_from(
    lengths: np.ndarray, values: Any, mask: pa.Array | None = None, *, filled: bool = False
) -> pa.ListArray:  # fmt: skip
    """Consecutive values as lists of these lengths; those in `mask` are null.

    filled : whether the type says that no value is null: such lists are read in less time
    """
    values = as_array(values)
    kind = pa.list_(pa.field("element", values.type, nullable=not filled))
    return pa.ListArray.from_arrays(pa.array(ragged.starts(lengths), pa.int32()), values, type=kind, mask=mask)


def as_array(column: Any) -> pa.Array:
    """A column as one array; of one chunk it is that one, and nothing is copied."""
    if isinstance(column, pa.ChunkedArray):
        return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    return column


def decode_ids(array: pa.Array, name: str, place: Place) -> pa.Array:
    """Ids as int64 or string; InputError for nulls and for unsigned ids beyond int64."""
    array = decode_plain(array)
    if array.null_count:
        raise place.refusal(name, "null id", _nulls(array), "fill the ids, or name another column with --id")
    if pat.is_string(array.type):
        return array
    if array.type == pa.uint64():
        beyond = np.flatnonzero(array.to_numpy() > np.iinfo(np.int64).max)
        if beyond.size:
            raise place.refusal(name, "id beyond int64", beyond, "cast it: column.cast(pyarrow.string())")
    return array.cast(pa.int64())


EMPTY, NULL_ELEMENTS = "empty embedding", "null elements"


def without_vector(array: pa.Array, length: int | None = None) -> dict[str, np.ndarray]:
    """The rows of a column of lists without a vector, by kind (null, empty, null elements), for kinds that occur.

    length : of good vectors; if given, another length is a kind as well
    """
    array = lists_of(array)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), -1))
    flat = array.flatten()  # of the rows that are not null
    partly = np.zeros(0, np.int64)
    if flat.null_count:
        partly = np.unique(np.repeat(np.arange(len(array)), np.maximum(lengths, 0))[_nulls(flat)])
    other = np.flatnonzero((lengths > 0) & (lengths != (length or lengths)))
    found = {"null embedding": np.flatnonzero(lengths < 0), EMPTY: np.flatnonzero(lengths == 0),
             NULL_ELEMENTS: partly, "another length": np.setdiff1d(other, partly)}  # fmt: skip
    return {kind: rows for kind, rows in found.items() if rows.size}


LEAVE_OUT = "leave such rows out with --on-bad-rows drop"


def with_vector(array: pa.Array) -> np.ndarray:
    """Which rows of a column of lists hold a vector, bool (m,)."""
    mask = np.ones(len(array), bool)
    for rows in without_vector(array).values():
        mask[rows] = False
    return mask


def decode_vectors(array: pa.Array, name: str, place: Place, hint: str = LEAVE_OUT) -> np.ndarray:
    """A column of m lists, maybe a slice, as a read-only matrix (m, d) of the stored type, not copied.

    Raises InputError with `hint` for rows without a vector (see `without_vector`) and for different lengths.
    """
    array = lists_of(array)
    for kind, rows in without_vector(array).items():
        if kind != EMPTY or len(rows) < len(array):  # if all vectors are empty, their length is 0
            raise place.refusal(name, kind, rows, hint)
    if pat.is_fixed_size_list(array.type):
        width = array.type.list_size
    else:
        width = one_length(np.asarray(pc.list_value_length(array)), name, place, hint)
    matrix: np.ndarray = array.flatten().to_numpy(zero_copy_only=True).reshape(len(array), width)
    return matrix


def one_length(lengths: np.ndarray, name: str, place: Place, hint: str = "leave them out") -> int:
    """The value that all `lengths` share; InputError with `hint` if they differ."""
    other = np.flatnonzero(lengths != lengths[0])
    if other.size:
        shown = ", ".join(str(length) for length in lengths[other[:_SHOWN_ROWS]])
        raise InputError(
            f"{place.file}: column {name!r}: vectors of different lengths: {place.rows([0])} has {lengths[0]}, "
            f"{place.rows(other)} {verb(len(other), 'have')} {shown}",
            f"every row needs the same length: fix these rows, or {hint}",
        )
    return int(lengths[0])


def lists_of(array: pa.Array) -> pa.Array:
    """A column of lists, unchanged if its layout can be read in place, else in its plain type."""
    array = _stored(array)
    in_place = pat.is_list(array.type) or pat.is_large_list(array.type) or pat.is_fixed_size_list(array.type)
    return array if in_place and array.type.value_type in ELEMENTS else decode_plain(array)


def filtered(batch: pa.RecordBatch, mask: pa.BooleanArray) -> pa.RecordBatch:
    """The rows of a batch in `mask`; columns that Arrow cannot filter (views, runs) are converted first."""
    columns = [lists_of(column) if is_list(plain(column.type)) else decode_plain(column) for column in batch.columns]
    return pa.record_batch(columns, batch.schema.names).filter(mask)


def _stored(array: pa.Array) -> pa.Array:
    while isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array


def _nulls(array: pa.Array) -> np.ndarray:
    return np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))


def refuse_masked(values: Any, name: str) -> None:
    """InputError for masked elements of a NumPy array, because every conversion would drop the mask."""
    if not np.ma.is_masked(values):
        return
    mask = np.atleast_1d(np.ma.getmaskarray(values))
    rows = np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1))
    raise InputError(
        f"{name}: masked values in {Place(name, 0, 0).rows(rows)}",
        "leave such rows out, or give their elements a value: array.filled(0)",
    )


def bad_rows(vectors: np.ndarray, zero_is_bad: bool) -> dict[str, np.ndarray]:
    """The positions of bad rows among vectors (m, d), by kind, for kinds that occur.

    Cost: one pass, 2 m d flops; only rows that float32 leaves in doubt are converted to float64.
    """
    if vectors.dtype == np.int8:
        found = {"zero norm": np.flatnonzero(~vectors.any(axis=1))}
    else:
        quick = vectors.astype(np.float32) if vectors.dtype == np.float16 else vectors
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            norms = np.einsum("ij,ij->i", quick, quick)
            rows = np.flatnonzero(~((norms >= _SURE_LIMITS[0]) & (norms <= _SURE_LIMITS[1])))
            wide = vectors[rows].astype(np.float64)
            norms = np.einsum("ij,ij->i", wide, wide)
        finite = np.isfinite(wide).all(axis=1)
        inside = (norms >= NORM_LIMITS[0]) & (norms <= NORM_LIMITS[1])
        # Rows whose squares underflow have no direction either; where zero rows are good, they are not counted as such.
        zero = norms == 0 if zero_is_bad else ~wide.any(axis=1)
        found = {
            "not finite": rows[~finite],
            "norm out of range": rows[finite & ~inside & ~zero],
            "zero norm": rows[zero],
        }
    return {kind: rows for kind, rows in found.items() if rows.size and (zero_is_bad or kind != "zero norm")}
