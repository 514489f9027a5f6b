"""Inputs (Parquet, Arrow IPC, .npy, streams, arrays) as checked batches of rows, and what identifies them."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset
import pyarrow.ipc
import pyarrow.parquet as pq
import pyarrow.types as pat

from minestream.columns import (
    ELEMENTS,
    MAX_DIMENSION,
    ColumnChecksum,
    Columns,
    Detection,
    Place,
    decode_ids,
    decode_plain,
    decode_vectors,
    detect,
    plain,
    storage,
)
from minestream.errors import InputError, UsageError, nearest_name

__all__ = ["Columns", "RowBatch", "Source", "arrays_source", "open_source"]

WRITTEN_BY = b"minestream.version"
NORM_LIMITS = (1e-150, 1e150)
# A float32 sum of squares within these proves that the float64 one is within NORM_LIMITS.
_SURE_LIMITS = (1e-20, 1e30)
_COUNTED_ROWS = 50_000
_BUFFER_BYTES = 1 << 20
_MEMORY, _STREAM = "<memory>", "<stream>"


@dataclass(frozen=True)
class RowBatch:
    """Consecutive rows of the source.

    Attributes
    ----------
    start_row : int
        Position of the first row in the unfiltered source.
    vectors : np.ndarray, shape (m, d)
        As stored (float16, float32, float64, int8), C-contiguous, possibly read-only; zeros in bad rows.
    labels : pa.Array or None
        Ints, strings, bools, or lists of them; dictionaries decoded.
    ids : pa.Array or None
        int64 or string, never null.
    groups : pa.Array or None
        Ints, strings or bools.
    carry : pa.RecordBatch or None
        The carried columns.
    bad : np.ndarray, shape (m,), bool
        Rows that are bad; all False unless bad rows are dropped.
    """

    start_row: int
    vectors: np.ndarray
    labels: pa.Array | None
    ids: pa.Array | None
    groups: pa.Array | None
    carry: pa.RecordBatch | None
    bad: np.ndarray


# ---------------------------------------------------------------- files


@dataclass
class _Table:
    """One input that yields record batches: a file, a table in memory or a stream."""

    name: str
    schema: pa.Schema
    rows: int | None
    reader: Callable[[list[str], int], Iterator[pa.RecordBatch]]
    on_disk: bool = True
    repeatable: bool = True

    def read(self, names: list[str], batch_rows: int) -> Generator[pa.RecordBatch, None, None]:
        """Record batches of the columns `names`, none empty; whatever goes wrong is an `InputError`."""
        try:
            for batch in self.reader(names, batch_rows):
                for start in range(0, batch.num_rows, batch_rows):
                    yield batch.slice(start, batch_rows)
        except (pa.ArrowException, OSError) as error:
            raise _unreadable(self.name, error) from error

    def head(self, names: list[str], name: str, batch_rows: int) -> pa.RecordBatch | None:
        """The first rows, with the column `name` at least, or None; a stream gives them once more."""
        if self.repeatable:
            with closing(self.read([name], 16)) as batches:
                return next(batches, None)
        batches = self.read(names, batch_rows)
        first = next(batches, None)
        every = batches if first is None else chain([first], batches)
        self.reader = lambda names, batch_rows: every
        return first


def _unreadable(name: str, error: BaseException) -> InputError:
    """`error`, met while reading the file `name`, in the user's terms."""
    reasons: tuple[tuple[type[BaseException], str, str], ...] = (
        (FileNotFoundError, "does not exist", "check the path"),
        (PermissionError, "may not be read (permission denied)", "check the permissions"),
        (IsADirectoryError, "is a folder", "name its files"),
    )
    for kind, what, hint in reasons:
        if isinstance(error, kind):
            return InputError(f"{name}: {what}", hint)
    detail = " ".join(str(error).split())[:200]
    return InputError(f"{name}: unreadable or truncated: {detail}", "write or fetch the file again")


def _open_parquet(path: str) -> _Table:
    def reader(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        # A dataset scan of one large row group took 600 MB more.
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_BUFFER_BYTES) as file:
            yield from file.iter_batches(batch_rows, columns=names, use_threads=False)

    with pq.ParquetFile(path, pre_buffer=False) as file:
        schema, rows, extra = file.schema_arrow, file.metadata.num_rows, file.metadata.metadata
    return _Table(path, schema.with_metadata({**(schema.metadata or {}), **(extra or {})}), rows, reader)


def _ipc_options(schema: pa.Schema, names: list[str]) -> pa.ipc.IpcReadOptions:
    return pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in names], use_threads=False)


def _open_ipc_file(path: str) -> _Table:
    def reader(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(path) as handle, pa.ipc.open_file(handle, options=_ipc_options(schema, names)) as file:
            for index in range(file.num_record_batches):
                yield _valid(file.get_batch(index)).select(names)

    with pa.OSFile(path) as handle, pa.ipc.open_file(handle) as file:
        schema = file.schema
    rows = pa.dataset.dataset(path, format="ipc").count_rows()
    return _Table(path, schema, rows, reader)


def _open_ipc_stream(path: str) -> _Table:
    def reader(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        with pa.OSFile(path) as handle, pa.ipc.open_stream(handle, options=_ipc_options(schema, names)) as file:
            for batch in file:
                yield _valid(batch).select(names)

    with pa.OSFile(path) as handle, pa.ipc.open_stream(handle) as file:
        schema = file.schema
    return _Table(path, schema, None, reader)


def _valid(batch: pa.RecordBatch) -> pa.RecordBatch:
    """`batch`, after a check of its buffers against each other: IPC carries them unverified."""
    batch.validate()
    return batch


_STREAM_SUFFIXES = (".arrow", ".arrows", ".feather", ".ipc")
_MAGIC: tuple[tuple[bytes, Callable[[str], _Table]], ...] = ((b"PAR1", _open_parquet), (b"ARROW1", _open_ipc_file))
_SUFFIX_HINTS = {
    ".npy": "give it as --vectors, beside a Parquet file of labels and ids",
    ".csv": "convert it: pyarrow.parquet.write_table(pyarrow.csv.read_csv(path), ...)",
    ".json": "convert it: pyarrow.parquet.write_table(pyarrow.json.read_json(path), ...)",
    ".jsonl": "convert it: pyarrow.parquet.write_table(pyarrow.json.read_json(path), ...)",
}


def _open_file(path: str) -> _Table:
    """A file by its first bytes, whatever its name; IPC streams, which have none, by their suffix."""
    suffix = Path(path).suffix.lower()
    try:
        with open(path, "rb") as handle:
            head = handle.read(8)
        for magic, opener in _MAGIC:
            if head.startswith(magic):
                return opener(path)
        if suffix in _STREAM_SUFFIXES:
            return _open_ipc_stream(path)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error
    if suffix in (".parquet", ".pq"):
        raise InputError(f"{path}: unreadable or truncated: no Parquet file", "write or fetch the file again")
    raise InputError(f"{path}: neither Parquet nor Arrow IPC", _SUFFIX_HINTS.get(suffix, "write it as Parquet first"))


def _open_object(thing: Any, number: str) -> _Table:
    """A table, a record batch, a reader, or anything with ``__arrow_c_stream__``."""
    if isinstance(thing, pa.RecordBatch):
        thing = pa.Table.from_batches([thing])
    if isinstance(thing, pa.Table):
        return _Table(
            _MEMORY + number,
            thing.schema,
            thing.num_rows,
            lambda names, rows: iter(thing.select(names).to_batches(max_chunksize=rows)),
            on_disk=False,
        )
    stream = thing if isinstance(thing, pa.RecordBatchReader) else pa.RecordBatchReader.from_stream(thing)

    def reader(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        return (_valid(batch).select(names) for batch in stream)

    return _Table(_STREAM + number, stream.schema, None, reader, on_disk=False, repeatable=False)


def _expand(text: str, suffix: str) -> list[str]:
    """The files that a path, a folder or a glob pattern stands for.

    Names that begin with ``.`` or ``_`` are markers and temporary files of the tools that write folders.
    """
    path = os.path.expanduser(text)
    if "://" in path:
        raise InputError(f"{text}: not a local path", "fetch it first, or pass a pyarrow reader")
    if os.path.isdir(path):
        found = [
            os.path.join(folder, name)
            for folder, folders, names in os.walk(path)
            if not folders.sort() and not _is_hidden(os.path.relpath(folder, path))
            for name in names
            if name.lower().endswith(suffix) and not _is_hidden(name)
        ]
        if not found:
            raise InputError(f"{text}: no *{suffix} in this folder", "name the files, or a glob pattern")
        return found
    if os.path.exists(path) or not glob.has_magic(path):
        return [path]
    matches = glob.glob(path, recursive=True)
    fixed = next(count for count, piece in enumerate(Path(path).parts) if glob.has_magic(piece))
    wanted = [name for name in matches if not _is_hidden(os.path.join(*Path(name).parts[fixed:]))]
    if not wanted:
        raise InputError(f"{text}: no file matches", "check the pattern; names that begin with . or _ are left out")
    return [found for name in wanted for found in (_expand(name, suffix) if os.path.isdir(name) else [name])]


def _is_hidden(path: str) -> bool:
    return any(piece[0] in "._" and piece not in (".", "..") for piece in Path(path).parts)


def _resolve(inputs: Any, suffix: str) -> list[str]:
    """All files of `inputs`: absolute, sorted, each once.

    Links are not followed: download caches link to files that are named by a hash.
    """
    texts = [os.fspath(item) for item in inputs]
    return sorted({os.path.abspath(path) for text in texts for path in _expand(text, suffix)})


def _is_path(item: Any) -> bool:
    return isinstance(item, str | os.PathLike)


def _open_tables(inputs: Any) -> list[_Table]:
    items = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    if not items:
        raise InputError("no input", "give a Parquet file, a folder or a glob pattern")
    if all(_is_path(item) for item in items):
        return [_open_file(path) for path in _resolve(items, ".parquet")]
    for item in items:
        if not hasattr(item, "__arrow_c_stream__") and not isinstance(item, pa.RecordBatch):
            raise UsageError(
                f"an input of type {type(item).__name__} next to {len(items) - 1} others is not understood",
                "give paths only, or Arrow tables and readers only; for arrays use mine_arrays",
            )
    numbers = [""] if len(items) == 1 else [f" {index}" for index in range(len(items))]
    try:
        return [_open_object(item, number) for item, number in zip(items, numbers, strict=True)]
    except pa.ArrowException as error:
        raise _unreadable(_STREAM, error) from error


# ---------------------------------------------------------------- .npy


@dataclass(frozen=True)
class _Npy:
    """A 2-D .npy file, read by blocks: mapped pages would count as memory in use."""

    name: str
    rows: int
    dimension: int
    dtype: np.dtype
    offset: int

    def looks(self) -> _Vectors:
        return _Vectors(self.name, self.dtype.newbyteorder("="), self.dimension)

    def read(self, start: int, count: int) -> np.ndarray:
        """Rows [start, start + count) as a new matrix (count, d), little-endian."""
        at = self.offset + start * self.dimension * self.dtype.itemsize
        try:
            flat = np.fromfile(self.name, self.dtype, count * self.dimension, offset=at)
        except OSError as error:
            raise _unreadable(self.name, error) from error
        if flat.size != count * self.dimension:
            raise InputError(f"{self.name}: truncated while it was read", "write or fetch the file again")
        return flat.reshape(count, self.dimension).astype(self.dtype.newbyteorder("="), copy=False)


def _open_npy(path: str) -> _Npy:
    try:
        # Opened and given up again: this only reads the header and checks it against the file's size.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(mapped, np.memmap) or mapped.ndim != 2:
        raise InputError(f"{path}: not a 2-D .npy array", "save it with numpy.save, shape (rows, dimensions)")
    if mapped.dtype.newbyteorder("=") not in ELEMENTS.values():
        raise InputError(f"{path}: vectors of {mapped.dtype}", 'save them as array.astype("float32")')
    if not mapped.flags.c_contiguous:
        raise InputError(f"{path}: stored in Fortran order", "save it as numpy.ascontiguousarray(array)")
    return _Npy(path, mapped.shape[0], mapped.shape[1], mapped.dtype, mapped.offset)


def _open_vectors(pattern: Any) -> list[_Npy]:
    items = list(pattern) if isinstance(pattern, list | tuple) else [pattern]
    return [_open_npy(path) for path in _resolve(items, ".npy")]


# ---------------------------------------------------------------- checks


@dataclass(frozen=True)
class _Vectors:
    """What vectors of a file look like: element dtype, and length where the type tells."""

    file: str
    dtype: np.dtype
    dimension: int | None

    def must_match(self, other: _Vectors) -> None:
        """Refuse `other` when its vectors differ from these in dtype or length, naming both files."""
        for what, mine, its in (
            ("element types", self.dtype, other.dtype),
            ("lengths", self.dimension, other.dimension),
        ):
            if mine != its and mine is not None and its is not None:
                raise InputError(
                    f"vectors of different {what}: {self.file} has {mine}, {other.file} has {its}",
                    "mine them apart, or convert one of them",
                )


def _type_vectors(table: _Table, name: str) -> _Vectors:
    kind = storage(table.schema.field(name).type)
    width = kind.list_size if pat.is_fixed_size_list(kind) else None
    return _Vectors(table.name, ELEMENTS[kind.value_type], width)


def _check_dimension(vectors: _Vectors, column: str) -> None:
    if vectors.dimension == 0:
        raise InputError(f"{vectors.file}: column {column!r}: vectors of length 0", "check how they were written")
    if vectors.dimension is not None and vectors.dimension > MAX_DIMENSION:
        raise InputError(
            f"{vectors.file}: column {column!r}: vectors of length {vectors.dimension}, over {MAX_DIMENSION}",
            "reduce the dimension first",
        )


@dataclass(frozen=True)
class _BadRows:
    """Which rows are bad, and what becomes of them."""

    column: str
    refuse_zero: bool
    drop: bool

    def kinds(self, vectors: np.ndarray) -> dict[str, np.ndarray]:
        """Bad rows by kind, as masks (m,); no entry where there are none. Cost: one pass, 2 m d flops."""
        if vectors.dtype == np.int8:
            zero = np.logical_not(np.any(vectors, axis=1))
            return {"zero norm": zero} if self.refuse_zero and zero.any() else {}
        quick = vectors.astype(np.float32) if vectors.dtype == np.float16 else vectors
        with np.errstate(over="ignore", invalid="ignore", under="ignore"):
            norms = np.einsum("ij,ij->i", quick, quick)
            sure = (norms >= _SURE_LIMITS[0]) & (norms <= _SURE_LIMITS[1])
            if sure.all():
                return {}
            rows = np.flatnonzero(~sure)
            wide = vectors[rows].astype(np.float64)
            norms = np.einsum("ij,ij->i", wide, wide)
        finite = np.isfinite(wide).all(axis=1)
        outside = (norms != 0) & ~((norms >= NORM_LIMITS[0]) & (norms <= NORM_LIMITS[1]))
        found = {"not finite": ~finite, "norm out of range": finite & outside}
        if self.refuse_zero:
            found["zero norm"] = norms == 0
        masks = {}
        for kind, hit in found.items():
            if hit.any():
                masks[kind] = np.zeros(len(vectors), bool)
                masks[kind][rows[hit]] = True
        return masks

    def refuse(self, masks: dict[str, np.ndarray], dtype: np.dtype, place: Place) -> InputError:
        """The error for the first kind of bad rows in `masks`."""
        kind, mask = next(iter(masks.items()))
        hints = {
            "not finite": "float16 overflows above 65504: store float32; " if dtype == np.float16 else "",
            "zero norm": "a zero vector has no direction: use another metric; ",
            "norm out of range": "rescale the vectors; ",
        }
        where = place.rows(np.flatnonzero(mask))
        return InputError(
            f"{place.file}: column {self.column!r}: {kind} in {where}",
            f"{hints[kind]}leave such rows out with --on-bad-rows drop",
        )


# ---------------------------------------------------------------- lanes: where vectors come from


class _ColumnLane:
    """Vectors from the embedding column of the same batch."""

    def __init__(self, expected: _Vectors, column: str) -> None:
        self._expected = expected
        self._column = column

    def take(self, batch: pa.RecordBatch, place: Place) -> Iterator[tuple[int, np.ndarray, Place]]:
        """(rows, vectors, where they come from), once."""
        vectors = decode_vectors(batch.column(self._column), self._column, place)
        found = _Vectors(place.file, vectors.dtype, vectors.shape[1])
        if found.dimension != self._expected.dimension and place.file == self._expected.file:
            raise InputError(
                f"{place.file}: column {self._column!r}: vectors of different lengths: the first rows have "
                f"{self._expected.dimension}, {place.rows([0])} and those after it have {found.dimension}",
                "every row needs the same length: drop or mend these rows",
            )
        self._expected.must_match(found)
        yield batch.num_rows, vectors, place


class _NpyLane:
    """Vectors from .npy files, by position; a batch is cut where a file ends."""

    def __init__(self, npys: list[_Npy]) -> None:
        self._ahead = [npy for npy in npys if npy.rows]
        self._row = 0

    def take(self, batch: pa.RecordBatch, place: Place) -> Iterator[tuple[int, np.ndarray, Place]]:
        """(rows, vectors, where they come from), until the batch is used up or the vectors are."""
        done = 0
        while done < batch.num_rows and self._ahead:
            npy = self._ahead[0]
            count = min(batch.num_rows - done, npy.rows - self._row)
            yield count, npy.read(self._row, count), Place(npy.name, self._row, place.start_row + done)
            done += count
            self._row += count
            if self._row == npy.rows:
                self._ahead.pop(0)
                self._row = 0


# ---------------------------------------------------------------- the source


class Source:
    """Checked rows of one or more inputs; made by `open_source` and `arrays_source`.

    Attributes
    ----------
    columns : Columns
        The columns found.
    dimension : int
        Length d of every vector, in 1..16384.
    dtype : np.dtype
        Element type as stored: float16, float32, float64 or int8.
    schema : pa.Schema
        The kept columns beside the embedding, in the types that batches have.
    rows : int or None
        Total rows where known ahead (Parquet, IPC files, tables, arrays), else None (streams).
    label_type, id_type : pa.DataType or None
        Types of labels (plain) and ids (int64 or string).
    bad_rows : dict of str to int
        Bad rows dropped so far, by kind: "not finite", "zero norm", "norm out of range"; kinds that occurred.
    """

    def __init__(
        self, tables: list[_Table], npys: list[_Npy], columns: Columns, checks: _BadRows, batch_rows: int
    ) -> None:
        self.columns = columns
        self._tables = tables
        self._npys = npys
        self._checks = checks
        self._batch_rows = batch_rows
        needed = ([] if npys else [columns.embedding]) + list(columns.kept)
        self._needed = needed or tables[0].schema.names[:1]
        counts = [table.rows for table in tables]
        self.rows: int | None = None if None in counts else sum(count for count in counts if count is not None)
        self.schema = _kept_schema(tables, columns, bool(npys))
        self.label_type = None if columns.label is None else self.schema.field(columns.label).type
        self.id_type = None if columns.id is None else self.schema.field(columns.id).type
        self.bad_rows: dict[str, int] = {}
        self._file_rows: dict[str, int] = {}
        self._checksums: dict[str, dict[str, ColumnChecksum]] = {}
        self._passes = 0
        self._complete = False
        self._vectors = self._first_vectors()
        self.dtype = self._vectors.dtype
        self.dimension = int(self._vectors.dimension or 0)

    def _first_vectors(self) -> _Vectors:
        """What the vectors look like, from types, headers or the first rows; refuses inputs that disagree."""
        name = self.columns.embedding
        if self.rows == 0:
            raise self._no_rows()
        if self._npys and self.rows not in (None, sum(npy.rows for npy in self._npys)):
            raise self._unequal_rows(self.rows)
        known = [npy.looks() for npy in self._npys] or [_type_vectors(table, name) for table in self._tables]
        first = next((vectors for vectors in known if vectors.dimension is not None), None)
        first = first if first is not None else self._peek(known[0])
        for vectors in [first, *known]:
            _check_dimension(vectors, name)
            first.must_match(vectors)
        return first

    def _peek(self, typed: _Vectors) -> _Vectors:
        """The length of the first row's list, which no list type tells."""
        name = self.columns.embedding
        for table in self._tables:
            head = table.head(self._needed, name, self._batch_rows)
            if head is not None:
                matrix = decode_vectors(head.column(name), name, Place(table.name, 0, 0))
                return replace(typed, file=table.name, dimension=matrix.shape[1])
        raise self._no_rows()

    def _no_rows(self) -> InputError:
        names = ", ".join(table.name for table in self._tables[:3])
        more = "" if len(self._tables) <= 3 else f" and {len(self._tables) - 3} more"
        return InputError(f"{names}{more}: no rows", "there is nothing to mine: check how the input was written")

    def _unequal_rows(self, rows: int | None) -> InputError:
        vectors = sum(npy.rows for npy in self._npys)
        return InputError(
            f"{self._npys[0].name}: the vectors have {vectors} rows, {self._tables[0].name}: the input has {rows}",
            "vectors and rows are aligned by position over all files: their numbers must be equal",
        )

    # ------------------------------------------------------------ one pass

    def batches(self) -> Iterator[RowBatch]:
        """All rows in order; a new pass begins counts and checksums anew.

        Yields
        ------
        RowBatch
            Of at most `batch_rows` rows.

        Raises
        ------
        InputError
            On anything that cannot be mined, naming file, column and rows.
        UsageError
            On a second pass over a stream.
        """
        self._begin()
        start_row = 0
        lane = _NpyLane(self._npys) if self._npys else _ColumnLane(self._vectors, self.columns.embedding)
        for table in self._tables:
            for whole in table.read(self._needed, self._batch_rows):
                done = 0
                for count, vectors, origin in lane.take(whole, self._place(table.name, start_row)):
                    place = self._place(table.name, start_row)
                    yield self._checked(whole.slice(done, count), vectors, place, origin)
                    done += count
                    start_row += count
                if done < whole.num_rows:
                    raise self._unequal_rows(self.rows if self.rows is not None else start_row + whole.num_rows - done)
            found = self._file_rows[table.name]
            if table.rows is not None and found != table.rows:
                raise InputError(f"{table.name}: {found} rows read, {table.rows} expected", "it has changed meanwhile")
        if start_row == 0:
            raise self._no_rows()
        if self._npys and start_row != sum(npy.rows for npy in self._npys):
            raise self._unequal_rows(start_row)
        self._complete = True

    def _begin(self) -> None:
        if self._passes and not all(table.repeatable for table in self._tables):
            raise UsageError("a stream can be read once only", "pass a table or a file to read it again")
        self._passes += 1
        self._complete = False
        self.bad_rows.clear()
        files = [table.name for table in self._tables] + [npy.name for npy in self._npys]
        self._file_rows = dict.fromkeys(files, 0)
        self._checksums = {name: {} for name in files}
        kept = {"labels": self.columns.label, "ids": self.columns.id}
        for table in self._tables:
            self._checksums[table.name] |= {kind: ColumnChecksum() for kind, name in kept.items() if name}
        for thing in self._npys or self._tables:
            self._checksums[thing.name]["vectors"] = ColumnChecksum()

    def _place(self, file: str, start_row: int) -> Place:
        return Place(file, self._file_rows[file], start_row)

    def _checked(self, batch: pa.RecordBatch, vectors: np.ndarray, place: Place, origin: Place) -> RowBatch:
        """Decode and check one batch, and count it into the checksums; `origin` is where its vectors lie."""
        self._checksums[origin.file]["vectors"].add_matrix(vectors)
        columns = self.columns
        try:
            labels = None if columns.label is None else decode_plain(batch.column(columns.label))
            ids = None if columns.id is None else decode_ids(batch.column(columns.id), columns.id, place)
            groups = None if columns.group is None else decode_plain(batch.column(columns.group))
            carried = [decode_plain(batch.column(name)) for name in columns.carry]
        except pa.ArrowException as error:
            raise _unreadable(place.file, error) from error
        for kind, array in (("labels", labels), ("ids", ids)):
            if array is not None:
                self._checksums[place.file][kind].add(array)
        for file in {place.file, origin.file}:
            self._file_rows[file] += batch.num_rows
        vectors, bad = self._without_bad(vectors, origin)
        carry = pa.RecordBatch.from_arrays(carried, names=list(columns.carry)) if carried else None
        return RowBatch(place.start_row, vectors, labels, ids, groups, carry, bad)

    def _without_bad(self, vectors: np.ndarray, place: Place) -> tuple[np.ndarray, np.ndarray]:
        bad = np.zeros(len(vectors), bool)
        masks = self._checks.kinds(vectors)
        if not masks:
            return vectors, bad
        if not self._checks.drop:
            raise self._checks.refuse(masks, vectors.dtype, place)
        for kind, mask in masks.items():
            self.bad_rows[kind] = self.bad_rows.get(kind, 0) + int(mask.sum())
            bad |= mask
        vectors = vectors.copy()
        vectors[bad] = 0
        return vectors, bad

    def identity(self) -> list[dict[str, Any]]:
        """What was read, after a full pass: one entry a file, independent of how its rows were cut.

        Returns
        -------
        list of dict
            ``{"name", "rows", "crc32"}``; `name` is relative to the inputs' common folder, or
            ``<memory>``, ``<stream>``; `crc32` has those of "vectors", "labels", "ids" that are in this file.

        Raises
        ------
        UsageError
            Before a pass over `batches` has ended.
        """
        if not self._complete:
            raise UsageError("the identity is known after a full pass only", "go through batches() to the end first")
        things: list[_Table | _Npy] = [*self._tables, *self._npys]
        folders = [os.path.dirname(thing.name) for thing in things if _on_disk(thing)]
        common = os.path.commonpath(folders) if folders else ""
        return [
            {
                "name": Path(os.path.relpath(thing.name, common)).as_posix() if _on_disk(thing) else thing.name,
                "rows": self._file_rows[thing.name],
                "crc32": {
                    kind: self._checksums[thing.name][kind].value()
                    for kind in ("vectors", "labels", "ids")
                    if kind in self._checksums[thing.name]
                },
            }
            for thing in things
        ]


def _on_disk(thing: _Table | _Npy) -> bool:
    return isinstance(thing, _Npy) or thing.on_disk


def _kept_schema(tables: list[_Table], columns: Columns, has_vectors: bool) -> pa.Schema:
    """The kept columns in their plain types; refuses files that lack one or disagree, naming both files."""
    roles = dict.fromkeys(columns.carry, "carry")
    roles |= {n: r for r, n in (("label", columns.label), ("id", columns.id), ("group", columns.group)) if n}
    roles |= {} if has_vectors else {columns.embedding: "embedding"}
    first = tables[0]
    for table in tables[1:]:
        for name, role in roles.items():
            Detection(table.name, table.schema, lambda _: None).checked(role, name)
            mine, its = (plain(each.schema.field(name).type) for each in (first, table))
            if role != "embedding" and mine != its:
                raise InputError(
                    f"column {name!r} has different types: {first.name} has {mine}, {table.name} has {its}",
                    f"cast one of them: column.cast({mine!r})",
                )
    kept = {name: plain(first.schema.field(name).type) for name in columns.kept}
    if columns.id is not None and pat.is_integer(kept[columns.id]):
        kept[columns.id] = pa.int64()
    return pa.schema(list(kept.items()))


# ---------------------------------------------------------------- opening


def open_source(
    inputs: Any,
    *,
    embedding: str | None = None,
    label: str | None = None,
    id: str | None = None,
    group_column: str | None = None,
    carry: Iterable[str] = (),
    vectors: Any = None,
    metric: str = "cosine",
    normalize: bool = False,
    on_bad_rows: str = "error",
    batch_rows: int = 8192,
    require_label: bool = True,
) -> Source:
    """Open inputs, find their columns and check what can be checked without reading the rows.

    Parameters
    ----------
    inputs : path, Arrow object, or list of either
        Parquet and Arrow IPC files, folders (their ``*.parquet``, recursively), glob patterns; or tables,
        record batches, readers and objects with ``__arrow_c_stream__``. Files are taken in sorted path order,
        each once.
    embedding, label, id, group_column : str, optional
        Columns; found by themselves when not given (a group never is).
    carry : iterable of str
        Columns to hand through.
    vectors : path, glob pattern, or list, optional
        ``.npy`` files that hold the vectors, aligned by row with `inputs`.
    metric, normalize
        Zero rows are bad with cosine or when normalising.
    on_bad_rows : {"error", "drop"}
        Whether bad rows are refused, or marked and counted.
    batch_rows : int
        Most rows of a batch.
    require_label : bool
        Whether a label column must be found.

    Returns
    -------
    Source

    Raises
    ------
    InputError
        On files, columns or types that cannot be mined, and on inputs of no rows.
    UsageError
        On options that mean nothing.

    Notes
    -----
    Reads footers and headers; for list columns also the first rows, and for ambiguous columns of small inputs
    (at most 50,000 rows) those columns.
    """
    if on_bad_rows not in ("error", "drop"):
        raise UsageError(f"on_bad_rows={on_bad_rows!r}", nearest_name(str(on_bad_rows), ["error", "drop"]))
    if batch_rows < 1:
        raise UsageError(f"batch_rows={batch_rows}", "it must be at least 1")
    tables = _open_tables(inputs)
    for table in tables:
        if WRITTEN_BY in (table.schema.metadata or {}):
            raise InputError(
                f"{table.name}: written by minestream", "this is an output: mine the embeddings it came from"
            )
    npys = [] if vectors is None else _open_vectors(vectors)
    columns = detect(
        Detection(tables[0].name, tables[0].schema, lambda name: _distinct(tables, name)),
        embedding=embedding,
        label=label,
        id=id,
        group_column=group_column,
        carry=(carry,) if isinstance(carry, str) else tuple(carry),
        require_label=require_label,
        has_vectors=bool(npys),
    )
    checks = _BadRows(columns.embedding, metric == "cosine" or normalize, on_bad_rows == "drop")
    return Source(tables, npys, columns, checks, batch_rows)


def _distinct(tables: list[_Table], name: str) -> tuple[int, int] | None:
    """(rows, distinct values) of a column of a small first input; None for lists, streams and large ones."""
    table = tables[0]
    if table.schema.names.count(name) > 1:
        return None
    kind = plain(table.schema.field(name).type)
    countable = pat.is_integer(kind) or pat.is_string(kind) or pat.is_boolean(kind)
    if not countable or not table.repeatable or table.rows is None or table.rows > _COUNTED_ROWS:
        return None
    values = pa.chunked_array([decode_plain(b.column(name)) for b in table.read([name], _COUNTED_ROWS)], type=kind)
    return len(values), pc.count_distinct(values, mode="all").as_py()


def arrays_source(
    embeddings: Any,
    labels: Any,
    *,
    ids: Any = None,
    groups: Any = None,
    metric: str = "cosine",
    normalize: bool = False,
    on_bad_rows: str = "error",
    batch_rows: int = 8192,
    require_label: bool = True,
) -> Source:
    """A source over arrays: NumPy, torch tensors (any device, bfloat16 becomes float32), Arrow, or lists.

    Parameters
    ----------
    embeddings : array (n, d) or list of n vectors
        float16, float32, float64 or int8.
    labels, ids, groups : array or list of length n, or None
        As the columns of a file; lists of lists are multi-labels.
    metric, normalize, on_bad_rows, batch_rows, require_label
        See `open_source`.

    Raises
    ------
    InputError
        On shapes, lengths or types that cannot be mined.

    Notes
    -----
    C-contiguous arrays are not copied.
    """
    matrix = _matrix(embeddings)
    flat = pa.array(matrix.reshape(-1))
    named = {"embedding": pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1])}
    for name, values in (("label", labels), ("id", ids), ("group", groups)):
        if values is not None:
            named[name] = _values(values, name, len(matrix))
    if labels is None and require_label:
        raise InputError("no labels", "pass one label a row")
    return open_source(
        pa.table(named),
        group_column=None if groups is None else "group",
        metric=metric,
        normalize=normalize,
        on_bad_rows=on_bad_rows,
        batch_rows=batch_rows,
        require_label=require_label,
    )


def _to_numpy(thing: Any) -> Any:
    """A torch tensor, known by its methods (torch is never imported), as a NumPy array; others as is."""
    if hasattr(thing, "detach") and hasattr(thing, "cpu"):
        tensor = thing.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return thing


def _matrix(embeddings: Any) -> np.ndarray:
    """`embeddings` as a C-contiguous matrix (n, d), n and d at least 1, of a type that can be mined."""
    given = _to_numpy(embeddings)
    if isinstance(given, list | tuple):
        vectors = [np.asarray(_to_numpy(vector)) for vector in given]
        lengths = [vector.size for vector in vectors]
        other = [row for row, length in enumerate(lengths) if length != lengths[0]]
        if other:
            raise InputError(
                f"{_MEMORY}: embeddings: vectors of different lengths: row 0 has {lengths[0]}, "
                f"{Place(_MEMORY, 0, 0).rows(other)} have {', '.join(str(lengths[r]) for r in other[:5])}",
                "every row needs the same length",
            )
        given = np.stack(vectors) if vectors else np.zeros((0, 1))
        # Lists of Python ints have no stored type.
        given = given.astype(np.float64) if given.dtype == np.int64 else given
    matrix = np.asarray(given)
    if matrix.ndim != 2:
        raise InputError(f"{_MEMORY}: embeddings of shape {matrix.shape}", "pass a matrix (rows, dimensions)")
    native = matrix.dtype.newbyteorder("=")
    if native not in ELEMENTS.values():
        raise InputError(f"{_MEMORY}: embeddings of {matrix.dtype}", "convert them: embeddings.astype(numpy.float32)")
    if 0 in matrix.shape:
        what = "no rows" if matrix.shape[0] == 0 else "vectors of length 0"
        raise InputError(f"{_MEMORY}: embeddings of shape {matrix.shape}: {what}", "there is nothing to mine")
    return np.ascontiguousarray(matrix, dtype=native)


def _values(values: Any, name: str, rows: int) -> pa.Array:
    """`values` as an Arrow array of `rows` rows."""
    plain_values = _to_numpy(values)
    if isinstance(plain_values, list | tuple):
        plain_values = [_scalar(value) for value in plain_values]
    try:
        array = plain_values if isinstance(plain_values, pa.Array | pa.ChunkedArray) else pa.array(plain_values)
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise InputError(
            f"{_MEMORY}: {name}: cannot be read as one value or list a row: {error}",
            "pass ints, strings, bools, or for multi-labels one list of them a row",
        ) from error
    if len(array) != rows:
        raise InputError(f"{_MEMORY}: {name}: {len(array)} values for {rows} embeddings", "pass one a row")
    return array


def _scalar(value: Any) -> Any:
    """A torch scalar as a Python value, a torch vector as a NumPy one."""
    converted = _to_numpy(value)
    return converted.item() if converted is not value and np.ndim(converted) == 0 else converted
