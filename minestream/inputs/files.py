"""Inputs: files, folders, glob patterns and Arrow objects, opened for reading in record batches."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from minestream.config.parse import PIPE
from minestream.config.resources import Resources
from minestream.errors import InputError, MinestreamError, UsageError
from minestream.inputs.columns import LABELS, VECTORS
from minestream.inputs.decode import Place, one_length, refuse_masked
from minestream.inputs.listing import LANCE, AnyFile, _resolve, listed
from minestream.inputs.numpy_files import NPY, open_npy, open_npz, vectors_array, vectors_type
from minestream.inputs.opened import Input, opened, stamp_of
from minestream.inputs.parquet_files import open_parquet
from minestream.inputs.text_files import PACKED, open_csv, open_json_lines
from minestream.system.pipes import read_pipe
from minestream.system.stores import READ_ERRORS, how_to_bring, unreadable
from minestream.system.values import many

MEMORY, STREAM, DATASET = "<memory>", "<stream>", "<dataset>"
_STREAMED_ROWS = 8_192
_ARROW_METHODS = ("__arrow_c_stream__", "scanner", "to_reader", "select_columns", "collect_batches")
_AS_TABLE = {
    "dict": "make a table of it: pyarrow.table({name: list(values) for name, values in columns.items()})",
    "generator": "make a reader of it: pyarrow.RecordBatchReader.from_batches(schema, batches)",
    **dict.fromkeys(("Series", "ChunkedArray"), "it is one column: give the table that it is of"),
}
_ANYTHING_ELSE = (
    "give paths only, or Arrow tables and readers only; of arrays make a table: "
    'pyarrow.table({"embedding": list(vectors), "label": labels}), or pass them to what takes arrays: '
    "minestream.mine_arrays(embeddings, labels), Linear.transform(rows)"
)
_OF_TABLES = "a table goes to minestream.mine or mine_batches; here pass its vectors: "
_STACKED, _OF_HUGGING_FACE = "numpy.stack(table['embedding'].to_numpy())", "table.with_format('numpy')['embedding'][:]"
Opener = Callable[[AnyFile, str], Input]  # of a path and what messages call it


def _open_ipc(path: AnyFile, name: str, streamed: bool = False) -> Input:
    opener = pa.ipc.open_stream if streamed else pa.ipc.open_file

    def reader(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        fields = [schema.get_field_index(name) for name in names]
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        with opened(path) as handle, opener(handle, options=options) as file:
            yield from file if streamed else map(file.get_batch, range(file.num_record_batches))

    with opened(path) as handle, opener(handle) as file:
        schema, rows = file.schema, None if streamed else file.count_rows()
    return Input(name, schema, rows, reader)


_BY_MAGIC: dict[bytes, Opener] = {b"PAR1": open_parquet, b"ARROW1": _open_ipc, NPY: open_npy}
_TEXTS: dict[str, Opener] = {
    ".csv": open_csv,
    **dict.fromkeys((".tsv", ".tab"), partial(open_csv, delimiter="\t")),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), open_json_lines),
}
_BY_SUFFIX: dict[str, Opener] = {
    **dict.fromkeys((".parquet", ".pq"), open_parquet),
    **dict.fromkeys((".arrow", ".arrows", ".feather", ".ipc"), partial(_open_ipc, streamed=True)),
    ".npy": open_npy,
    ".npz": open_npz,
    **{f"{suffix}{packed}": opener for suffix, opener in _TEXTS.items() for packed in ("", *PACKED)},
}


def _open_file(path: AnyFile, name: str) -> Input:
    """Open a file by its first bytes, or by its suffix if they are unknown; messages call it `name`."""
    if str(path).lower().endswith(LANCE):
        return _open_lance(path, name)
    lower = "" if str(path).endswith(".manifest.json") else str(path).lower()
    named = (opener for suffix, opener in _BY_SUFFIX.items() if lower.endswith(suffix))
    try:
        stamp = stamp_of(path)
        with opened(path) as handle:
            head = handle.read(8)
        opener = next(chain((_BY_MAGIC[magic] for magic in _BY_MAGIC if head.startswith(magic)), named), None)
        if opener is not None:
            return replace(opener(path, name), path=path, stamp=stamp)
    except MinestreamError:
        raise
    except READ_ERRORS as error:
        raise unreadable(name, error) from error
    raise InputError(f"{name}: neither Parquet nor Arrow IPC", how_to_bring(name, head))


def _open_lance(path: AnyFile, name: str) -> Input:
    """A Lance dataset, in the version that it has now."""
    try:
        import lance
    except ImportError as error:
        raise UsageError(f"{name}: lance cannot be imported: {error}", "pip install 'minestream[lance]'") from error
    try:
        found = _open_dataset(lance.dataset(path if isinstance(path, str) else path.uri), "")
    except (*READ_ERRORS, ValueError) as error:  # it raises all of these for a folder that is none
        raise unreadable(name, error if isinstance(error, READ_ERRORS) else OSError(str(error))) from error
    return replace(found, name=name, path=path, on_disk=True)


def refuse_splits(thing: Any) -> None:
    """Refuse a dictionary of datasets, as load_dataset returns it."""
    if isinstance(thing, dict) and thing and all(hasattr(each, "select_columns") for each in thing.values()):
        raise UsageError(
            f"a {type(thing).__name__} holds several datasets: {', '.join(map(str, thing))}",
            f"pass one of them: dataset[{next(iter(thing))!r}]",
        )


def _open_object(thing: Any, number: str) -> Input:
    """Open a table, a record batch, a reader, a dataset, or any object with ``__arrow_c_stream__``."""
    if hasattr(thing, "to_numpy"):  # a frame of pandas or polars, which is no stream: all of it is there
        thing = _imported(pa.table, thing)
    if isinstance(thing, pa.Table | pa.RecordBatch):
        table = pa.table(thing)

        def slices(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
            yield from table.select(names).to_batches()  # whole: a slice has all list elements validated

        return Input(MEMORY + number, table.schema, table.num_rows, slices, on_disk=False)
    if hasattr(thing, "scanner"):
        return _open_dataset(thing, number)
    if hasattr(thing, "select_columns"):
        return _open_hugging_face(thing, number) if hasattr(thing, "__len__") else _open_iterable(thing, number)
    if hasattr(thing, "collect_batches"):
        return _open_lazy(thing, number)
    if hasattr(thing, "to_reader"):  # a scanner
        thing = thing.to_reader()
    stream = thing if isinstance(thing, pa.RecordBatchReader) else _imported(pa.RecordBatchReader.from_stream, thing)
    first = list(islice((batch for batch in stream if batch.num_rows), 1))
    return _streamed(stream.schema, first, stream, number)


def _imported(load: Callable[[Any], Any], thing: Any) -> Any:
    try:
        return load(thing)
    except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
        what = f"a {type(thing).__name__} cannot be read as a table: {' '.join(str(error).split())[:200]}"
        hint = "a table has columns, each with values of one type: frame.astype({'column': str}) writes texts in pandas"
        raise InputError(what, hint) from error


def _open_dataset(dataset: Any, number: str) -> Input:
    """Open a pyarrow Dataset, or an object with its methods; it can be read many times."""

    def scanned(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        yield from dataset.scanner(columns=names, batch_size=batch_rows).to_batches()

    return Input(DATASET + number, dataset.schema, dataset.count_rows(), scanned, on_disk=False)


def _open_hugging_face(dataset: Any, number: str) -> Input:
    """Open a Hugging Face Dataset, recognised by its methods; its selected rows count."""

    def selected(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        for table in dataset.select_columns(names).with_format("arrow").iter(batch_rows):
            yield from table.to_batches()

    return Input(DATASET + number, dataset.features.arrow_schema, len(dataset), selected, on_disk=False)


def _open_iterable(dataset: Any, number: str) -> Input:
    """Open a Hugging Face IterableDataset as a stream, which is read once."""
    tables = iter(dataset.with_format("arrow").iter(_STREAMED_ROWS))
    batches = (batch for table in tables for batch in table.to_batches())
    first = list(islice((batch for batch in batches if batch.num_rows), 1))
    if not first:
        raise InputError(f"{STREAM + number}: no rows", "there is nothing to mine")
    return _streamed(first[0].schema, first, batches, number)


def _open_lazy(frame: Any, number: str) -> Input:
    """Open a polars LazyFrame, which is collected in batches while it is read."""

    def collected(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        for part in frame.select(names).collect_batches(chunk_size=batch_rows, maintain_order=True):
            yield from part.to_arrow().to_batches()

    schema = frame.limit(0).collect().to_arrow().schema
    return Input(DATASET + number, schema, None, collected, on_disk=False)


def _streamed(schema: pa.Schema, first: list[pa.RecordBatch], rest: Iterator[pa.RecordBatch], number: str) -> Input:
    """An input of batches that come only once; batches read by `looker` are added to `first`, and not lost."""

    def once(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        return chain(first, rest)

    def looked_at(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        yield from first
        for batch in rest:
            first.append(batch)
            yield batch

    return Input(STREAM + number, schema, None, once, on_disk=False, repeatable=False, looker=looked_at)


def table_of(embeddings: Any, columns: dict[str, Any], may_be_empty: bool = False, name: str = "embedding") -> pa.Table:
    """Arrays, tensors or lists as a table of the column `name` and those of `columns` that are not None."""
    given = _to_numpy(embeddings)
    refuse_splits(given)
    refuse_masked(given, f"{MEMORY}: {name}s")
    if isinstance(given, list | tuple) and given:
        for row, vector in enumerate(given):
            refuse_masked(vector, f"{MEMORY}: {name}s[{row}]")
        vectors = [np.asarray(_to_numpy(vector)) for vector in given]
        one_length(np.array([vector.size for vector in vectors]), f"{name}s", Place(MEMORY, 0, 0))
        given = np.stack(vectors)
        given = given.astype(np.float64) if given.dtype == np.int64 else given  # Python ints have no stored type
    matrix = np.asarray(given)
    if matrix.ndim == 0 or matrix.dtype == object:
        code = _OF_HUGGING_FACE if hasattr(given, "with_format") else _STACKED
        raise UsageError(f"{name}s of type {type(given).__name__} are no array of vectors", _OF_TABLES + code)
    if matrix.shape[:1] == (0,) and not may_be_empty:
        raise InputError(f"{MEMORY}: {name}s of no rows", "there is nothing to mine")
    if matrix.ndim == 1 and len(getattr(columns.get("label"), "shape", ())) == 2:
        raise UsageError(
            f"{MEMORY}: {name}s of one dimension and labels of two", "exchange them: the vectors come first"
        )
    vectors_type(matrix.shape, matrix.dtype, f"{MEMORY}: {name}s")
    named = {each: _column(values, each, len(matrix)) for each, values in columns.items() if values is not None}
    return pa.table({name: vectors_array(matrix), **named})


def _one_dimension(shape: Any, name: str, given: str, several: str) -> None:
    """InputError for values of two dimensions; `several` is what to give where a row has several."""
    if len(shape) == 2:
        what = f"{name}s have one dimension: {given} has shape {tuple(shape)}"
        raise InputError(what, f"of one column: array.ravel(); one-hot: array.argmax(axis=1); multi-labels: {several}")


def _column(values: Any, name: str, rows: int) -> pa.Array:
    given = _to_numpy(values)
    _one_dimension(getattr(given, "shape", ()), name, f"this {type(values).__name__}", "array.tolist()")
    if isinstance(given, list | tuple):
        given = [value.tolist() if isinstance(value, np.ndarray) else value for value in map(_to_numpy, given)]
    try:
        array = given if isinstance(given, pa.Array | pa.ChunkedArray) else pa.array(given)
    except (pa.ArrowException, TypeError, ValueError, KeyError, OverflowError) as error:  # KeyError: a frame of pandas
        raise InputError(
            f"{MEMORY}: {name}: a {type(values).__name__} cannot be read as one value or list a row: "
            f"{' '.join(str(error).split())[:200]}",
            "pass ints, strings, bools, or for multi-labels one list of them a row",
        ) from error
    if len(array) != rows:
        raise InputError(
            f"{MEMORY}: {name}: {many(len(array), 'value')} for {many(rows, 'embedding')}", "pass one a row"
        )
    return array


def _refuse_packed(thing: Any) -> None:
    """Refuse sparse, nested and quantized arrays, whose values do not lie one after another."""
    packed = (
        (getattr(thing, "is_quantized", False) is True, "quantized", "tensor.dequantize()"),
        (getattr(thing, "is_nested", False) is True, "nested", "tensor.to_padded_tensor(0.0)"),
        (getattr(thing, "is_sparse", False) is True or "sparse" in str(getattr(thing, "layout", "")), "sparse",
         "tensor.to_dense()"),
        (hasattr(thing, "toarray") and hasattr(thing, "nnz"), "sparse", "matrix.toarray()"),
    )  # fmt: skip
    for is_so, kind, code in packed:
        if is_so:
            raise UsageError(f"a {kind} {type(thing).__name__} is no plain array", f"convert it: {code}")


def _to_numpy(thing: Any) -> Any:
    """A torch tensor as a NumPy array, anything else unchanged; torch is recognised by its methods, never imported."""
    _refuse_packed(thing)
    if hasattr(thing, "detach") and hasattr(thing, "cpu"):
        tensor = thing.detach().cpu()
        return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
    return thing


def is_readable(given: Any) -> bool:
    """Whether `given` is made of paths or Arrow objects, which `open_inputs` takes."""
    return all(isinstance(item, str | os.PathLike) or _is_arrow(item) for item in listed(given))


def _is_arrow(item: Any) -> bool:
    column = isinstance(item, pa.ChunkedArray) or hasattr(item, "to_frame")  # one of pandas or polars is a Series
    return isinstance(item, pa.RecordBatch) or any(hasattr(item, name) for name in _ARROW_METHODS if not column)


def open_inputs(given: Any) -> list[Input]:
    """Open a path, "-" for standard input, an Arrow object, or a list of either; files in sorted order, each once."""
    items = listed(given)
    if not items:
        raise InputError("no input", "give a Parquet file, a folder or a glob pattern")
    if PIPE in [item for item in items if isinstance(item, str)]:
        if len(items) > 1:
            raise UsageError("- is standard input, and nothing else can be read with it", "give it alone")
        items = [read_pipe()]
    if all(isinstance(item, str | os.PathLike) for item in items):
        return _open_files(items, ".parquet")
    for item in items:
        refuse_splits(item)
        if not _is_arrow(item):
            _refuse_packed(item)
            raise UsageError(
                f"an input of type {type(item).__name__} among {len(items)} is not understood",
                _AS_TABLE.get(type(item).__name__, _ANYTHING_ELSE),
            )
    numbers = [""] if len(items) == 1 else [f" {index}" for index in range(len(items))]
    try:
        return [_open_object(item, number) for item, number in zip(items, numbers, strict=True)]
    except MinestreamError:
        raise
    except READ_ERRORS as error:
        raise unreadable(STREAM, error) from error


def _open_files(items: list[Any], suffix: str) -> list[Input]:
    files = _resolve(items, suffix)
    return [replace(_open_file(path, name), times=times) for path, (name, times) in files.items()]


def open_vectors(given: Any) -> list[Input]:
    """Open .npy files, by path, folder, glob pattern, or a list of them, as inputs with the one column "vectors"."""
    found = _open_files(listed(given), ".npy")
    for each in found:
        if each.schema.names != [VECTORS]:
            flat = "an array of one dimension, not 2-D" if each.schema.names == [LABELS] else "no .npy array"
            raise InputError(f"{each.name}: {flat}", "vectors are saved with numpy.save, as (rows, dimensions)")
    return found


def vectors_among(paths: list[Any]) -> list[Any]:
    """Of the files of one input the .npy files of vectors that go with the rows of the others; none if all are such."""
    arrays = [path for path in paths if str(path).endswith(".npy")]
    found = [path for path in arrays if open_inputs(path)[0].schema.names == [VECTORS]]
    return found if len(found) < len(paths) else []


def rows_and_vectors(inputs: Any, resources: Resources) -> tuple[Any, Any]:
    """What the rows are read from, and their .npy files of vectors: --labels makes those of INPUT, the rows its own.

    Labels in memory, an array of one for each row, become a table.
    """
    labels = resources.labels
    if labels is None:
        return inputs, resources.vectors
    if resources.vectors is not None:
        raise UsageError("--labels and --vectors exclude each other", "the vectors are those of INPUT: leave one out")
    foreign = [each for each in listed(inputs) if not isinstance(each, str | os.PathLike)]
    foreign += [each for each in listed(inputs) if Path(str(each)).suffix not in ("", ".npy")]
    if foreign:
        what = foreign[0] if isinstance(foreign[0], str | os.PathLike) else f"a {type(foreign[0]).__name__}"
        column = labels if isinstance(labels, str) and not Path(labels).suffix else "COLUMN"
        hint = f"the labels of a table are one of its columns: --label {column}"
        raise UsageError(f"--labels stands beside an INPUT of .npy vectors, not {what}", hint)
    for path in (each for each in listed(labels) if str(each).endswith(".npy")):
        for each in open_inputs(path):
            if each.schema.names == [VECTORS]:
                shape = each.rows, each.schema.field(0).type.list_size
                _one_dimension(shape, LABELS, each.name, "a table with lists")
    if not is_readable(labels):
        labels = pa.table({LABELS: _column(labels, LABELS, len(labels))})
    return labels, inputs
