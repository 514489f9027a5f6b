"""The reserve file beside an output: what each row held, and the lists of candidates around it.

It says nothing of the output's rows: with the same configuration, the lists of anchors and neighbours that have not
changed are as good for the next run as a search is. A reserve that is older than its output only means more to do.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream._version import VERSION
from minestream.errors import InputError
from minestream.kernels.remember import row_contents
from minestream.load import Loaded
from minestream.remembered import KINDS, Lists, Remembered
from minestream.shaped import fits
from minestream.sink import disk_errors, sync_folder

SUFFIX = ".reserve.parquet"
BLOCK_ROWS = 65_536
ABOUT = "minestream.reserve"
KNOWN = {"version": str, "config": dict, "columns": dict, "dimension": int, "dtype": str, "reserve": int}
COLUMNS = {f"content_{half}": pa.uint64() for half in (0, 1)} | {
    f"{name}_{part}": kind
    for name in KINDS
    for part, kind in (("slot", pa.large_binary()), ("x", pa.large_binary()), ("horizon", pa.float64()))
}

Contents = NDArray[np.uint64]


@dataclass(frozen=True)
class Reserve:
    """What is remembered of a run.

    Attributes
    ----------
    about : dict
        What must be the same for it to be of use: see `about`.
    key : pyarrow.Array
        Of the rows that took part, in order: ids, or row numbers.
    content : uint64[n, 2]
        128 bits of each one's vector, label and group.
    remembered : Remembered
    """

    about: dict[str, Any]
    key: pa.Array
    content: Contents
    remembered: Remembered


def reserve_path(out: Path) -> Path:
    """Where the reserve of an output lies."""
    return out.parent / f"{out.name}{SUFFIX}"


def about(config: dict[str, Any], columns: dict[str, Any], dimension: int, dtype: Any, amount: int) -> dict[str, Any]:
    """What a reserve says of the run that it is of."""
    return {
        "version": VERSION, "config": config, "columns": columns, "dimension": dimension, "dtype": str(dtype),
        "reserve": amount,
    }  # fmt: skip


def keys_of(loaded: Loaded) -> pa.Array:
    """What rows are known by from one run to the next: ids, or row numbers."""
    table = loaded.tables[0]
    return pa.array(loaded.source_row) if table.ids is None else table.ids


def contents_of(loaded: Loaded) -> Contents:
    """128 bits of every row that takes part: of its vector bit by bit, its label or labels, its group."""
    content = _words(loaded.labels.take, loaded.store.rows)
    if loaded.rows.group.size and loaded.group_values is not None:
        code, values = loaded.rows.group, loaded.group_values
        content = content * np.uint64(3) + _words(lambda rows: values.take(pa.array(code[rows], mask=code[rows] < 0)),
                                                  loaded.store.rows)  # fmt: skip
    for first in range(0, loaded.store.rows, BLOCK_ROWS):
        block = loaded.store.block(first, min(loaded.store.rows, first + BLOCK_ROWS))
        row_contents(block.view(f"u{block.itemsize}"), content[first : first + len(block)])
    return content


def _words(values_of: Callable[[NDArray[np.int64]], pa.Array], size: int) -> Contents:
    """128 bits of the value of each row; of a list whatever the order, and how often an element stands in it."""
    words = np.zeros((size, 2), np.uint64)
    known: dict[Any, bytes] = {}
    for first in range(0, size, BLOCK_ROWS):
        rows = np.arange(first, min(size, first + BLOCK_ROWS))
        values = values_of(rows)
        kind = str(values.type)
        plain = [tuple(sorted({each for each in value if each is not None})) if isinstance(value, list) else value
                 for value in values.to_pylist()]  # fmt: skip
        for value in set(plain) - known.keys():
            known[value] = hashlib.blake2b(f"{kind} {value!r}".encode(), digest_size=16).digest()
        digests = b"".join(known[value] for value in plain)
        words[rows] = np.frombuffer(digests, np.uint64).reshape(-1, 2)
    return words


# ---------------------------------------------------------------- the file


def write_reserve(path: Path, reserve: Reserve) -> None:
    """Write a reserve, whole or not at all; CapacityError when the disk is full."""
    metadata = {ABOUT: json.dumps(reserve.about, sort_keys=True), "minestream.version": VERSION}
    temporary = path.with_name(f"{path.name}.tmp")
    tables = _tables(reserve)
    with disk_errors(path):
        with open(temporary, "wb") as file:
            first = next(tables)
            schema = first.schema.with_metadata(metadata)
            with pq.ParquetWriter(
                file, schema, compression="none", use_dictionary=False, write_page_checksum=True
            ) as to:
                to.write_table(first.cast(schema))
                for table in tables:
                    to.write_table(table.cast(schema))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)


def _tables(reserve: Reserve) -> Iterator[pa.Table]:
    """The rows of the file, some at a time, and of no rows one empty table."""
    size = len(reserve.key)
    for first in range(0, max(1, size), BLOCK_ROWS):
        end = min(size, first + BLOCK_ROWS)
        columns = {"key": reserve.key.slice(first, end - first)}
        columns |= {f"content_{half}": pa.array(reserve.content[first:end, half]) for half in (0, 1)}
        for name, kind in KINDS.items():
            lists = reserve.remembered.kinds[kind]
            start = lists.start[first : end + 1]
            for part, values in (("slot", lists.slot), ("x", lists.x)):
                columns[f"{name}_{part}"] = _packed(start - start[0], values[start[0] : start[-1]])
            columns[f"{name}_horizon"] = pa.array(lists.horizon[first:end])
        yield pa.table(columns)


def _packed(start: NDArray[np.int64], values: NDArray[Any]) -> pa.Array:
    """Lists of numbers as their bytes: read ten times as fast as a column of lists."""
    offsets = pa.py_buffer(np.ascontiguousarray(start * values.itemsize))
    return pa.Array.from_buffers(pa.large_binary(), start.size - 1, [None, offsets, pa.py_buffer(values)])


def _unpacked(column: pa.ChunkedArray, dtype: Any) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """The lengths of packed lists, and what stands in them."""
    lengths, pieces = [np.empty(0, np.int64)], [np.empty(0, dtype)]
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        ends = np.frombuffer(offsets, np.int64)[chunk.offset : chunk.offset + len(chunk) + 1] // pieces[0].itemsize
        lengths.append(np.diff(ends))
        pieces.append(np.frombuffer(data or b"", dtype)[ends[0] : ends[-1]])
    return np.concatenate(lengths), np.concatenate(pieces)


def read_reserve(path: Path) -> Reserve | None:
    """The reserve in a file; None where there is no file.

    Raises
    ------
    InputError
        For a file that is no reserve, or is damaged.
    """
    if not path.exists():
        return None
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            metadata = file.schema_arrow.metadata or {}
            known = json.loads(metadata[ABOUT.encode()])
            table = file.read()
        return _of_table(known, table)
    except (OSError, pa.ArrowException, KeyError, ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is no reserve, or is damaged: {error!r}", "remove it: the next run is a full one"
        ) from error


def _of_table(known: Any, table: pa.Table) -> Reserve:
    """What a table holds; ValueError or KeyError where it is none of ours: kernels go by its numbers unchecked."""
    if not fits(known, KNOWN):
        raise ValueError("it does not say what it is of")
    table.select(["key"]).validate(full=True)
    for name, kind in COLUMNS.items():
        if table.schema.field(name).type != kind or table[name].null_count:
            raise ValueError(f"column {name!r} is not as it was written")
    content = np.stack([table[f"content_{half}"].to_numpy() for half in (0, 1)], axis=1)
    kinds = {kind: _lists(table, name) for name, kind in KINDS.items()}
    return Reserve(known, table["key"].combine_chunks(), content, Remembered(kinds))


def _lists(table: pa.Table, name: str) -> Lists:
    lengths, slot = _unpacked(table[f"{name}_slot"], np.int32)
    of_x, x = _unpacked(table[f"{name}_x"], np.float64)
    if not np.array_equal(lengths, of_x) or not ((slot >= 0) & (slot < table.num_rows)).all():
        raise ValueError(f"the lists {name!r} name rows that are not there")
    return Lists(np.concatenate([[0], np.cumsum(lengths)]), slot, x, table[f"{name}_horizon"].to_numpy())
