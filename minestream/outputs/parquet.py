"""Parquet files whose bytes depend on their rows and metadata alone, and reading them; files of text lines."""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from minestream.outputs.footer import MAGIC, footer_of, moved, row_group
from minestream.system.checksums import RowsCrc, bytes_of_rows
from minestream.system.threads import mapped

ROW_GROUP_ROWS = 131_072
ROW_GROUP_BYTES = 16 << 20  # a row group ends with the row that reaches this


def pinned_type(kind: pa.DataType) -> pa.DataType:
    """`kind` with list elements named as Parquet names them: else rewriting a file would change it."""
    if pat.is_fixed_size_list(kind):
        return pa.list_(pa.field("element", pinned_type(kind.value_type)), kind.list_size)
    if pat.is_list(kind) or pat.is_large_list(kind):
        make = pa.list_ if pat.is_list(kind) else pa.large_list
        return make(pa.field("element", pinned_type(kind.value_type), kind.value_field.nullable))
    return kind


# Of what lists hold millions: row numbers by their differences, distances byte by byte.
_ENCODINGS = {
    f"{name}_{values}.list.element": encoding
    for name in ("candidate", "nearest")
    for values, encoding in (("rows", "DELTA_BINARY_PACKED"), ("distances", "BYTE_STREAM_SPLIT"))
}


class Encoded(NamedTuple):
    """A row group as bytes: of its pages, and of what a footer says of it in a file of its own."""

    rows: int
    crc: RowsCrc
    pages: memoryview
    about: bytes


def _writer(sink: pa.NativeFile, schema: pa.Schema, brief: bool) -> pq.ParquetWriter:
    encodings = {path: kind for path, kind in _ENCODINGS.items() if path.partition(".")[0] in schema.names}
    return pq.ParquetWriter(
        sink, schema, version="2.6", compression="lz4" if brief else "zstd", compression_level=None if brief else 3,
        use_dictionary=False, write_page_checksum=True, data_page_size=2**20, column_encoding=encodings or None,
    )  # fmt: skip


def _groups(schema: pa.Schema, tables: Iterable[pa.Table]) -> Iterator[list[pa.Table]]:
    """The rows of tables, cut into row groups."""
    pending: list[pa.Table] = []
    rows = size = 0
    for given in tables:
        table = given.cast(schema)
        ends, first = np.cumsum(bytes_of_rows(table)), 0
        while first < table.num_rows:
            before = int(ends[first - 1]) if first else 0
            full = int(np.searchsorted(ends, before + ROW_GROUP_BYTES - size)) + 1
            end = min(full, first + ROW_GROUP_ROWS - rows, table.num_rows)
            pending.append(table.slice(first, end - first))
            rows, size, first = rows + end - first, size + int(ends[end - 1]) - before, end
            if rows >= ROW_GROUP_ROWS or size >= ROW_GROUP_BYTES:
                group, pending, rows, size = pending, [], 0, 0
                yield group
    if pending:
        yield pending


def _encoded(schema: pa.Schema, brief: bool, tables: list[pa.Table]) -> Encoded:
    """Encode a row group, whose tables are taken out of the list."""
    # One chunk a column: pages would otherwise follow the caller's batches. The tables let go of each column as it
    # is joined, so that the group is not in memory twice.
    columns = [[chunk for table in tables for chunk in table.column(at).chunks] for at in range(len(schema))]
    tables.clear()
    table = pa.table([pa.concat_arrays(columns.pop(0)) for _ in schema], schema)
    crc, sink = RowsCrc(schema), pa.BufferOutputStream()
    crc.update(table)
    with _writer(sink, schema, brief) as parquet:
        parquet.write_table(table, row_group_size=ROW_GROUP_ROWS)
    whole = memoryview(sink.getvalue())
    size, about = row_group(whole)
    return Encoded(table.num_rows, crc, whole[len(MAGIC) : size], about)


def write_rows(
    path: Path,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    metadata: dict[str, str],
    counts: Callable[[], dict[str, Any]] = dict,
    *,
    brief: bool = False,
    threads: int = 1,
) -> dict[str, Any]:
    """Write one Parquet file, flush it to the disk, and return its {rows, bytes, crc32}.

    Its bytes do not depend on the tables its rows come in. Metadata of `schema` is left out; that of the footer holds
    `metadata`, `counts`, the number of rows, and their CRC-32.

    Parameters
    ----------
    counts : callable
        Called after the last row, when a finishing pass has counted too; the rows are counted here.
    brief : bool
        Whether it is read once, for another file: compressed in less time then, and less.
    threads : int
        How many row groups are encoded at a time, each in GROUP_BYTES at most; with 1 between the tables.
    """
    schema = pa.schema([pa.field(field.name, pinned_type(field.type)) for field in schema])
    rows, crc, about, end = 0, RowsCrc(schema), list[bytes](), pa.BufferOutputStream()
    groups = mapped(partial(_encoded, schema, brief), _groups(schema, tables), threads if threads > 1 else 0)
    with open(path, "wb") as file, closing(groups):
        file.write(MAGIC)
        for group in groups:
            about.append(moved(group.about, file.tell() - len(MAGIC)))
            file.write(group.pages)
            crc.join(group.crc)
            rows += group.rows
        with _writer(end, schema, brief) as parquet:
            counted = json.dumps({**counts(), "rows": rows}, sort_keys=True)
            parquet.add_key_value_metadata(
                {**metadata, "minestream.counts": counted, "minestream.rows_crc32": crc.value()}
            )
        file.write(footer_of(end.getvalue().to_pybytes(), rows, about))
        file.flush()
        os.fsync(file.fileno())
        return {"rows": rows, "bytes": file.tell(), "crc32": crc.value()}


def schema_ahead(tables: Iterable[pa.Table], path: Path) -> tuple[pa.Schema, Iterator[pa.Table]]:
    """The schema of the tables, or of the file at `path` when there is no table; and the same tables."""
    every = iter(tables)
    first = next(every, None)
    return (pq.read_schema(path), every) if first is None else (first.schema, itertools.chain([first], every))


def write_lines(path: Path, pieces: Iterable[list[str]]) -> dict[str, Any]:
    """Write lines of text, flush them to the disk, and return their {rows, bytes, crc32}."""
    rows, crc = 0, 0
    with open(path, "wb") as file:
        for lines in pieces:
            text = "".join(f"{line}\n" for line in lines).encode()
            rows, crc = rows + len(lines), zlib.crc32(text, crc)
            file.write(text)
        file.flush()
        os.fsync(file.fileno())
        return {"rows": rows, "bytes": file.tell(), "crc32": f"{crc:08x}"}


def part_tables(paths: Iterable[Path], threads: int = 1) -> Generator[pa.Table]:
    """The rows of several Parquet files, in order, a row group at a time; so many threads read ahead."""

    def read(place: tuple[Path, pq.FileMetaData, int]) -> pa.Table:
        path, metadata, group = place
        with pq.ParquetFile(path, metadata=metadata, pre_buffer=False, buffer_size=2**20) as file:
            return file.read_row_group(group, use_threads=False)

    footers = ((path, pq.read_metadata(path)) for path in paths)
    groups = ((path, footer, group) for path, footer in footers for group in range(footer.num_row_groups))
    return mapped(read, groups, threads)


def stretches(tables: Iterable[pa.Table], rows: int) -> Iterator[Iterator[pa.Table]]:
    """The same rows in stretches of `rows` rows, each to be read to its end before the next; at least one stretch."""

    def numbered() -> Iterator[tuple[int, pa.Table]]:
        seen = 0
        for table in tables:
            start = 0
            while start < table.num_rows:
                piece = table.slice(start, rows - seen % rows)
                yield seen // rows, piece
                start, seen = start + piece.num_rows, seen + piece.num_rows

    number = -1
    for number, pieces in itertools.groupby(numbered(), key=lambda piece: piece[0]):  # noqa: B007 (read after the loop)
        yield (piece for _, piece in pieces)
    if number < 0:
        yield iter(())
