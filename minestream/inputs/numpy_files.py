"""NumPy's files: .npy, an array as one column, and .npz, a column for each of its arrays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from typing import Any
from zipfile import ZipFile

import numpy as np
import pyarrow as pa

from minestream.errors import InputError
from minestream.inputs.columns import ELEMENTS, LABELS, VECTORS
from minestream.inputs.listing import AnyFile
from minestream.inputs.opened import RUN_ROWS, Input, opened

NPY = b"\x93NUMPY"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True)
class _Stored:
    """An array in a file: where its values begin, and what they are."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    kind: pa.DataType  # of a row
    begin: int


def open_npy(path: AnyFile, name: str) -> Input:
    """A .npy file as one column: of two dimensions `vectors`, of one `label`. Blocks are read, no page is mapped.

    Raises
    ------
    InputError
        For an array of other dimensions or types, and for Python objects, which are never unpickled.
    """
    with opened(path) as handle:
        stored = _stored(handle, handle.size(), name)
    column = VECTORS if len(stored.shape) == 2 else LABELS

    width = math.prod(stored.shape[1:]) * stored.dtype.itemsize

    def reader(
        names: list[str], batch_rows: int, first: int = 0, end: int = stored.shape[0]
    ) -> Iterator[pa.RecordBatch]:
        with opened(path) as handle:
            handle.seek(stored.begin + first * width)
            for rows in _blocks(handle, stored, batch_rows, first, end):
                yield pa.record_batch([rows], [column])

    def cut(whole: Input) -> Iterator[Input]:
        for first in range(0, max(1, stored.shape[0]), RUN_ROWS):
            end = min(stored.shape[0], first + RUN_ROWS)
            yield whole.part(first, end - first, partial(reader, first=first, end=end))

    schema = pa.schema([(column, stored.kind)])
    return Input(name, schema, stored.shape[0], reader, cut=cut, widths={column: width})


def open_npz(path: AnyFile, name: str) -> Input:
    """A .npz archive, compressed or not, as a table: a column for each array, which must have a value for each row."""
    with opened(path) as handle, _unzipped(handle) as archive:
        infos = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        stored = {}
        for column, info in infos.items():
            with archive.open(info) as member:
                stored[column] = _stored(member, info.file_size, f"{name}: {column}")
    counts = {column: each.shape[0] for column, each in stored.items()}
    if len(set(counts.values())) != 1:
        shown = ", ".join(f"{column} has {rows:,}" for column, rows in counts.items()) or "there is none"
        raise InputError(f"{name}: its arrays differ in their numbers of rows: {shown}", "save one value for each row")

    def reader(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        with opened(path) as handle, _unzipped(handle) as archive, ExitStack() as held:
            lanes = []
            for column in names:
                member = held.enter_context(archive.open(infos[column]))
                member.read(stored[column].begin)
                lanes.append(_blocks(member, stored[column], batch_rows))
            for columns in zip(*lanes, strict=True):
                yield pa.record_batch(list(columns), names)

    kinds = [(column, each.kind) for column, each in stored.items()]
    return Input(name, pa.schema(kinds), next(iter(counts.values())), reader)


def _unzipped(handle: Any) -> closing[ZipFile]:
    try:
        return closing(ZipFile(handle))
    except Exception as error:  # readers of zip raise many kinds
        raise OSError(f"no archive: {error}") from error


def _stored(handle: Any, size: int, name: str) -> _Stored:
    """What the header of an array of `size` bytes says; `name` is for messages."""
    head = handle.read(len(NPY) + 2)
    if not head.startswith(NPY):
        raise InputError(f"{name}: no .npy array", "save it with numpy.save")
    try:
        shape, fortran, dtype = _HEADERS[tuple(head[len(NPY) :])](handle)
        begin = handle.tell()
    except Exception as error:  # a broken header raises whatever Python's parser raises
        raise OSError(f"{type(error).__name__}: {error}") from error
    if dtype.hasobject:
        raise InputError(f"{name}: an array of Python objects", "save plain values, of texts: array.astype(str)")
    if min(shape, default=0) < 0 or begin + math.prod(shape) * dtype.itemsize > size:
        raise OSError(f"{math.prod(shape):,} values of {dtype} are more than its {size:,} bytes hold")
    if len(shape) == 1:
        return _Stored(shape, dtype, _value_type(dtype, name), begin)
    kind = vectors_type(shape, dtype, name, integers=True)
    if fortran:
        raise InputError(f"{name}: stored in Fortran order", "save it as numpy.ascontiguousarray(array)")
    return _Stored(shape, dtype, kind, begin)


def _blocks(
    handle: Any, stored: _Stored, batch_rows: int, first: int = 0, end: int | None = None
) -> Iterator[pa.Array]:
    """Rows first ... end - 1 of an array, block by block, from a handle that stands where they begin."""
    end = stored.shape[0] if end is None else end
    arrow: Callable[[Any], pa.Array] = vectors_array if len(stored.shape) == 2 else _values_array
    for start in range(first, end, batch_rows):
        block = np.empty((min(batch_rows, end - start), *stored.shape[1:]), stored.dtype)
        content = handle.read(block.nbytes)
        if len(content) < block.nbytes:
            raise OSError(f"it ends within rows {start} to {start + len(block) - 1}")
        yield arrow(np.frombuffer(content, stored.dtype).reshape(block.shape))


def _value_type(dtype: np.dtype[Any], name: str) -> pa.DataType:
    """The Arrow type of one value a row."""
    try:
        return _values_array(np.empty(0, dtype)).type
    except (pa.ArrowException, TypeError) as error:
        raise InputError(f"{name}: values of type {dtype}", "save numbers, texts or booleans") from error


def _values_array(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(values.dtype.newbyteorder("="), copy=False))


def vectors_type(shape: tuple[int, ...], dtype: np.dtype[Any], name: str, integers: bool = False) -> pa.DataType:
    """The Arrow type of the rows of a matrix; InputError if they are no vectors.

    integers : whether they may be of other integers, whose meaning --vector-type says
    """
    if len(shape) != 2:
        raise InputError(f"{name}: an array of shape {shape}, not 2-D", "shape it (rows, dimensions)")
    if shape[1] == 0:
        raise InputError(f"{name}: vectors of length 0", "check how they were made")
    native = dtype.newbyteorder("=")
    if not (native in ELEMENTS.values() or native == np.uint8 or (integers and native.kind in "iu")):
        raise InputError(f"{name}: vectors of {dtype}", "convert them: array.astype(numpy.float32)")
    return pa.list_(pa.from_numpy_dtype(native), shape[1])


def vectors_array(matrix: np.ndarray) -> pa.Array:
    """The rows of `matrix` as fixed-size lists; a copy only if it is not C-contiguous or not of native byte order."""
    native = np.ascontiguousarray(matrix, matrix.dtype.newbyteorder("="))
    return pa.FixedSizeListArray.from_arrays(pa.array(native.reshape(-1)), matrix.shape[1])
