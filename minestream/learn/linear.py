"""A linear embedding x -> W (x - mean), in a .npz file; and `apply`, which projects the rows of a table with it."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream.config.border import public
from minestream.config.commands import Applying, check_own
from minestream.errors import InputError
from minestream.inputs.aligned import Lane
from minestream.inputs.columns import Candidates
from minestream.inputs.decode import bad_rows, decode_vectors, refuse_masked
from minestream.inputs.files import open_inputs
from minestream.inputs.given import Given
from minestream.inputs.opened import Input
from minestream.inputs.read_options import ReadOptions, find_columns
from minestream.inputs.stored import declared_as, declared_if_needed
from minestream.kernels import linear
from minestream.outputs.single_file import ending_in, publishing
from minestream.system.stores import unreadable
from minestream.system.threads import Workers, slices

FORMAT = 1
TASK_ROWS = 1024
ROW_GROUP_ROWS = 16_384


@dataclass(frozen=True, repr=False)
class Linear:
    """x -> W (x - mean).

    Attributes
    ----------
    weights : float64 (e, d)
        W.
    mean : float64[d]
    about : dict
        How it was learned, ready for JSON: config, source, epochs.
    """

    weights: NDArray[np.float64]
    mean: NDArray[np.float64]
    about: dict[str, Any]

    def __post_init__(self) -> None:
        if not _fit(self.weights, self.mean):
            raise InputError(
                "a linear embedding has weights (e, d) and a mean of d values, arrays of float64",
                "convert them: numpy.asarray(weights, numpy.float64)",
            )

    def __repr__(self) -> str:
        e, d = self.weights.shape
        return f"Linear({d} coordinates to {e}{', centred' if self.mean.any() else ''}: weights, mean, about)"

    def transform(self, rows: NDArray[Any], workers: Workers | None = None) -> NDArray[np.float64]:
        """The projected rows, float64 (m, e), of rows (m, d) of any float type, int8 or uint8.

        Threads do not change the bits. InputError for rows of another shape or type.
        """
        rows = np.ascontiguousarray(self.taken(matrix_of("rows", rows), "a row"))
        out = np.empty((len(rows), len(self.weights)))
        transposed = np.ascontiguousarray(self.weights.T)

        def task(part: slice) -> None:
            linear.project(rows[part], self.mean, transposed, out[part])

        (workers or Workers(1)).run([partial(task, part) for part in slices(len(rows), -(-len(rows) // TASK_ROWS))])
        return out

    project = transform  # the former name, for one more version

    def taken(self, rows: NDArray[Any], what: str) -> NDArray[Any]:
        """The coordinates of rows (m, d) that it takes; InputError, of `what`, where there are not as many."""
        width = self.weights.shape[1]
        rows = rows[:, :width] if self.about.get("dims") == width else rows
        if rows.shape[1] != width:
            raise InputError(
                f"{what} has {rows.shape[1]} coordinates, the linear embedding takes {width}",
                "apply it to embeddings of the model that it was learned from",
            )
        return rows

    def save(self, out: str | Path, *, overwrite: bool = False) -> None:
        """Write a .npz file without pickles; equal embeddings give equal bytes.

        Parameters
        ----------
        out : path
        overwrite : bool
            Replace `out` when it exists; never a file that minestream did not write.
        """
        with publishing(ending_in(".npz", out, "Linear.save"), overwrite, []) as draft:
            write_npz(draft.path, self)

    @classmethod
    def load(cls, path: str | Path) -> Linear:
        """Read a file that `save` wrote.

        Raises
        ------
        InputError
            For any other file.
        """
        try:
            if not zipfile.is_zipfile(path):  # NumPy would say how pickles are read
                with open(path, "rb"):
                    raise InputError(f"{path}: no linear embedding", "minestream fit writes one: the model comes first")
            with np.load(path, allow_pickle=False) as found:
                weights, mean, about = (np.asarray(found[name]) for name in ("weights", "mean", "about"))
            told = json.loads(about.tobytes())
        except OSError as error:
            raise unreadable(str(path), error) from error
        except InputError:
            raise
        except Exception as error:  # a broken archive: readers of zip, zlib and headers raise many kinds
            raise InputError(f"{path}: not a linear embedding: {error}", "minestream fit writes one") from error
        if not (isinstance(told, dict) and told.get("format") == FORMAT and _fit(weights, mean)):
            raise InputError(f"{path}: not a linear embedding of format {FORMAT}", "minestream fit writes one")
        if not (np.isfinite(weights).all() and np.isfinite(mean).all()):
            raise InputError(f"{path}: not every number in it is finite", "minestream fit writes one")
        return cls(weights, mean, told)

    def crc32(self) -> int:
        """A checksum of the weights and the mean."""
        return zlib.crc32(self.mean.tobytes(), zlib.crc32(self.weights.tobytes()))


@public()
def apply(
    model: Linear | str | Path, inputs: Any, out: str | Path, *, embedding: str | None = None, batch_rows: int = 8192,
    threads: int = 1, overwrite: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Write a copy of a table with its embeddings projected; the other columns stay as they are.

    Parameters
    ----------
    model : Linear or path
        The embedding that `fit` learned.
    inputs : path, Arrow object, or list of them
        As for mine(). All files must have the same columns.
    out : path
        The Parquet file to write; it appears when it is complete. The projected embeddings are float32.
    embedding : str, optional
        The column of the embeddings. Default: found by name, else by type.
    batch_rows : int
        Rows read at a time.
    threads : int
    overwrite : bool
        Replace `out` when it exists.

    Returns
    -------
    dict
        path, rows, dimension.

    Raises
    ------
    MinestreamError
        InputError for an input or model that does not fit, OutputError when `out` exists.

    Notes
    -----
    Holds a few batches in memory, not the table. Cost: 2 d e operations for each row.
    """
    check_own(Applying, threads=threads)
    learned = model if isinstance(model, Linear) else Linear.load(model)
    opened = open_inputs(inputs)
    first, declared = opened[0], declared_if_needed(opened[0], learned.about.get("vector_type"))
    seen = Candidates(first.name, first.schema, first.distinct, declared, first.as_text)
    column = find_columns(seen, ReadOptions(embedding=embedding, require_label=None))[0].embedding
    opened = [declared_as(each, column, declared) for each in opened]
    schema = _projected_schema(opened, column, len(learned.weights))
    rows, place = 0, ending_in(".parquet", out, "apply")
    read = [Given("INPUT", inputs), *([] if isinstance(model, Linear) else [Given("MODEL", model)])]
    with publishing(place, overwrite, read) as draft:
        schema = schema.with_metadata({"minestream.linear": json.dumps({"crc32": learned.crc32()})})
        with (
            pq.ParquetWriter(draft.path, schema, compression="zstd", write_page_checksum=True) as writer,
            closing(Workers(threads)) as workers,
        ):
            for batch in _projected(learned, opened, column, schema, batch_rows, workers):
                writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)
                rows += batch.num_rows
    return {"path": str(place), "rows": rows, "dimension": len(learned.weights)}


def _projected_schema(opened: list[Input], column: str, dimension: int) -> pa.Schema:
    """The columns of the output, without the metadata of other tools, which describe the old embedding."""
    first = opened[0].schema.remove_metadata()
    if len(set(first.names)) < len(first.names):
        raise InputError(f"{opened[0].name}: several columns share a name", "rename all but one of them")
    for other in opened[1:]:
        if not other.schema.equals(first, check_metadata=False):
            raise InputError(f"{other.name} has other columns than {opened[0].name}", "project such files one by one")
    at = first.get_field_index(column)
    schema = first.set(at, pa.field(column, pa.list_(pa.field("element", pa.float32()), dimension)))
    try:
        pq.ParquetWriter(pa.BufferOutputStream(), schema).close()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{opened[0].name}: Parquet has no type for a column: {error}", "leave it out") from error
    return schema


def _projected(
    learned: Linear, opened: list[Input], column: str, schema: pa.Schema, batch_rows: int, workers: Workers
) -> Iterator[pa.RecordBatch]:
    """The batches of the output."""
    lane, at = Lane(opened, schema.names, batch_rows), schema.get_field_index(column)
    while count := lane.ready():
        place, batch = lane.take(count)
        vectors = decode_vectors(batch.column(at), column, place, "leave them out")
        vectors = learned.taken(vectors, f"{place.file}: column {column!r}")
        for kind, bad in bad_rows(vectors, False).items():
            raise place.refusal(column, kind, bad, "leave them out")
        values = learned.transform(plain_floats(vectors), workers).astype(np.float32)
        lists = pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), type=schema.field(at).type)
        columns = [lists if index == at else each for index, each in enumerate(batch.columns)]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def write_npz(path: Path, learned: Linear) -> None:
    """Write the file of a linear embedding under any name, for `save` and `fit`, which put it in its place."""
    about = np.frombuffer(json.dumps({"format": FORMAT, **learned.about}, sort_keys=True).encode(), np.uint8)
    with open(path, "wb") as file:
        np.savez(file, weights=learned.weights, mean=learned.mean, about=about)


def _fit(weights: Any, mean: Any) -> bool:
    """Whether these are the arrays of a linear embedding."""
    if not (isinstance(weights, np.ndarray) and isinstance(mean, np.ndarray)):
        return False
    shapes = weights.ndim == 2 and weights.size > 0 and mean.shape == weights.shape[1:]
    return shapes and weights.dtype == mean.dtype == np.float64


def array_of(name: str, given: Any) -> NDArray[Any]:
    """What a caller passed as an array; InputError for what is none, and for masked elements."""
    refuse_masked(given, name)
    try:
        return np.asarray(given)
    except (ValueError, TypeError, RuntimeError) as error:  # lists of several lengths; tensors that NumPy cannot read
        raise InputError(f"{name}: a {type(given).__name__} is no array: {error}", "pass a NumPy array") from error


def matrix_of(name: str, given: Any) -> NDArray[Any]:
    """Rows that a caller passed, as float32 or float64 (m, d) without loss, the types that kernels are made for."""
    rows = array_of(name, given)
    if rows.ndim != 2 or not (rows.dtype.kind == "f" or rows.dtype in (np.int8, np.uint8)):
        raise InputError(f"{name} is {rows.dtype} of shape {rows.shape}", "pass rows of floats, (m, d)")
    return rows.astype(np.float32 if rows.itemsize <= 4 else np.float64, copy=False)


def plain_floats(vectors: NDArray[Any]) -> NDArray[Any]:
    """A writable copy of vectors: float64 stays, every other type becomes float32 without loss."""
    return np.array(vectors, np.float64 if vectors.dtype == np.float64 else np.float32, order="C")
