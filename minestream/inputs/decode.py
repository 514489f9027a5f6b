"""From Arrow columns to what is mined: a matrix of vectors, plain labels and ids; bad rows and checksums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from minestream.errors import InputError
from minestream.inputs.columns import ELEMENTS, is_list, plain
from minestream.system import ragged

NORM_LIMITS = (1e-150, 1e150)


# A float32 sum of squares within these proves that the float64 one is within NORM_LIMITS.
_SURE_LIMITS = (1e-20, 1e30)
_SHOWN_ROWS = 5


@dataclass(frozen=True)
class Place:
    """Where rows come from: an input, the first row of a run there, and in the source; which of the run were kept."""

    file: str
    row: int
    start_row: int
    kept: np.ndarray | None = None  # places in the run; None: all of it

    def source_rows(self, count: int) -> np.ndarray:
        """The rows of the source that the first `count` kept ones are, int64."""
        return self.start_row + (np.arange(count) if self.kept is None else self.kept[:count])

    def rows(self, positions: Sequence[int] | np.ndarray) -> str:
        """Up to five of `positions` among those kept, in words."""
        shown = [int(p if self.kept is None else self.kept[p]) for p in positions[:_SHOWN_ROWS]]
        more = f" and {len(positions) - len(shown)} more" if len(positions) > len(shown) else ""
        inside, overall = (", ".join(str(int(p) + first) for p in shown) for first in (self.row, self.start_row))
        return (
            f"{'row' if len(positions) == 1 else 'rows'} {inside}{more}"
            f"{'' if inside == overall else f' (in the whole source: {overall})'}"
        )

    def refusal(self, column: str, what: str, positions: Sequence[int] | np.ndarray, hint: str) -> InputError:
        """The error that `what` is wrong in the rows at `positions`."""
        return InputError(f"{self.file}: column {column!r}: {what} in {self.rows(positions)}", hint)


@dataclass(frozen=True)
class Vectors:
    """What the vectors of an input are; the length is None where only its rows tell."""

    file: str
    dtype: np.dtype
    length: int | None

    def must_match(self, other: Vectors, row: str = "") -> None:
        """Refuse `other`, found from `row` on, unless its vectors are like these."""
        for what, mine, its in (("element types", self.dtype, other.dtype), ("lengths", self.length, other.length)):
            if its is not None and its != mine:
                ours, theirs = f"{self.file} has", f"{other.file} has"
                if self.file == other.file:
                    ours, theirs = "the first rows have", f"those from {row} on have"
                raise InputError(
                    f"{other.file}: vectors of different {what}: {ours} {mine}, {theirs} {its}",
                    "every vector must be alike: mend or convert them, or mine the files apart",
                )


def decode_plain(array: pa.Array) -> pa.Array:
    """`array` in its plain type (see `columns.plain`); no copy of what is plain already.

    Every layout that Arrow has ends here: slices, dictionaries (whose values may be null, too), runs, views, lists of
    any of them, extension types. What may lie behind a null list is gone.
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
    """Which run each row of a run-end encoded array, maybe a slice, is in."""
    rows = np.arange(array.offset, array.offset + len(array))
    return np.searchsorted(np.asarray(array.run_ends), rows, side="right")


def without_hidden(lists: pa.Array, values: pa.Array | None = None) -> pa.Array:
    """Lists without what may lie behind null ones, so that values and their parents agree; `values` replace theirs."""
    lengths = np.asarray(pc.fill_null(pc.list_value_length(lists), 0), np.int64)
    return lists_from(lengths, lists.flatten() if values is None else values, lists.is_null())


def lists_from(lengths: np.ndarray, values: Any, mask: pa.Array | None = None) -> pa.ListArray:
    """Consecutive values as lists of these lengths; those in `mask` are null."""
    return pa.ListArray.from_arrays(pa.array(ragged.starts(lengths), pa.int32()), as_array(values), mask=mask)


def as_array(column: Any) -> pa.Array:
    """A column as one array."""
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def decode_ids(array: pa.Array, name: str, place: Place) -> pa.Array:
    """Ids as int64 or string; an `InputError` on nulls and on unsigned ids beyond int64."""
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


EMPTY = "empty embedding"


def without_vector(array: pa.Array, length: int | None = None) -> dict[str, np.ndarray]:
    """Rows of a column of lists that hold no vector, by kind: null, empty, with null elements; kinds that occur.

    length : of vectors; where it is given, those of another length are a kind too
    """
    array = lists_of(array)
    lengths = np.asarray(pc.fill_null(pc.list_value_length(array), -1))
    flat = array.flatten()  # of the rows that are not null
    partly = np.zeros(0, np.int64)
    if flat.null_count:
        partly = np.unique(np.repeat(np.arange(len(array)), np.maximum(lengths, 0))[_nulls(flat)])
    other = np.flatnonzero((lengths > 0) & (lengths != (length or lengths)))
    found = {"null embedding": np.flatnonzero(lengths < 0), EMPTY: np.flatnonzero(lengths == 0),
             "null elements": partly, "another length": np.setdiff1d(other, partly)}  # fmt: skip
    return {kind: rows for kind, rows in found.items() if rows.size}


LEAVE_OUT = "leave such rows out with --on-bad-rows drop"


def with_vector(array: pa.Array) -> np.ndarray:
    """Which rows of a column of lists hold a vector, bool (m,)."""
    mask = np.ones(len(array), bool)
    for rows in without_vector(array).values():
        mask[rows] = False
    return mask


def decode_vectors(array: pa.Array, name: str, place: Place, hint: str = LEAVE_OUT) -> np.ndarray:
    """A column of lists (m rows, maybe a slice) as a read-only view (m, d) of its values, dtype as stored.

    Raises `InputError` on rows without a vector (see `without_vector`), with `hint`, and on rows of different lengths.
    """
    array = lists_of(array)
    for kind, rows in without_vector(array).items():
        if kind != EMPTY or len(rows) < len(array):  # where every vector is empty, that is their length
            raise place.refusal(name, kind, rows, hint)
    if pat.is_fixed_size_list(array.type):
        width = array.type.list_size
    else:
        width = one_length(np.asarray(pc.list_value_length(array)), name, place, hint)
    matrix: np.ndarray = array.flatten().to_numpy(zero_copy_only=True).reshape(len(array), width)
    return matrix


def one_length(lengths: np.ndarray, name: str, place: Place, hint: str = "leave them out") -> int:
    """The one value of `lengths`, of which there is at least one; `InputError` with `hint` when there are several."""
    other = np.flatnonzero(lengths != lengths[0])
    if other.size:
        shown = ", ".join(str(length) for length in lengths[other[:_SHOWN_ROWS]])
        raise InputError(
            f"{place.file}: column {name!r}: vectors of different lengths: {place.rows([0])} has {lengths[0]}, "
            f"{place.rows(other)} have {shown}",
            f"every row needs the same length: mend these rows, or {hint}",
        )
    return int(lengths[0])


def lists_of(array: pa.Array) -> pa.Array:
    """A column of lists in its own layout where that can be read in place, in the plain one where not."""
    array = _stored(array)
    in_place = pat.is_list(array.type) or pat.is_large_list(array.type) or pat.is_fixed_size_list(array.type)
    return array if in_place and array.type.value_type in ELEMENTS else decode_plain(array)


def filtered(batch: pa.RecordBatch, mask: pa.BooleanArray) -> pa.RecordBatch:
    """Some rows of a batch, in layouts that Arrow can filter: it cannot views of texts, and runs."""
    columns = [lists_of(column) if is_list(plain(column.type)) else decode_plain(column) for column in batch.columns]
    return pa.record_batch(columns, batch.schema.names).filter(mask)


def _stored(array: pa.Array) -> pa.Array:
    while isinstance(array, pa.ExtensionArray):
        array = array.storage
    return array


def _nulls(array: pa.Array) -> np.ndarray:
    return np.flatnonzero(array.is_null().to_numpy(zero_copy_only=False))


def refuse_masked(values: Any, name: str) -> None:
    """Refuse a NumPy array with masked elements where nothing can be null: every conversion drops its mask."""
    if not np.ma.is_masked(values):
        return
    mask = np.atleast_1d(np.ma.getmaskarray(values))
    rows = np.flatnonzero(mask.reshape(len(mask), -1).any(axis=1))
    raise InputError(
        f"{name}: masked values in {Place(name, 0, 0).rows(rows)}",
        "leave such rows out, or give their elements a value: array.filled(0)",
    )


def bad_rows(vectors: np.ndarray, zero_is_bad: bool) -> dict[str, np.ndarray]:
    """Positions of bad rows by kind, for the kinds that occur.

    Cost: one pass over the (m, d) vectors, 2 m d flops; only rows that float32 leaves in doubt are widened.
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
        # Squares that underflow have no direction either; where zero rows are good they are not zero rows.
        zero = norms == 0 if zero_is_bad else ~wide.any(axis=1)
        found = {
            "not finite": rows[~finite],
            "norm out of range": rows[finite & ~inside & ~zero],
            "zero norm": rows[zero],
        }
    return {kind: rows for kind, rows in found.items() if rows.size and (zero_is_bad or kind != "zero norm")}
