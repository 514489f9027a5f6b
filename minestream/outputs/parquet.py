"""Parquet files whose bytes depend on their rows and metadata alone, and reading them; files of text lines."""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.types as pat

from minestream.system.checksums import RowsCrc, bytes_of_rows
from minestream.system.threads import ahead

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


class RowsFile:
    """A Parquet file in the making, whose bytes do not depend on the tables its rows come in.

    Metadata of `schema` is left out. As a context manager it is closed in any case.

    Parameters
    ----------
    path : Path
    schema : pyarrow.Schema
    metadata : dict
        Of the footer.
    brief : bool
        Whether it is read once, for another file: compressed in less time then, and less.
    """

    def __init__(self, path: Path, schema: pa.Schema, metadata: dict[str, str], *, brief: bool = False) -> None:
        self.schema = pa.schema([pa.field(field.name, pinned_type(field.type)) for field in schema])
        self._rows, self._crc, self._metadata = 0, RowsCrc(self.schema), metadata
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_bytes = 0
        self._file = open(path, "wb")  # noqa: SIM115 (closed by __exit__)
        encodings = {path: kind for path, kind in _ENCODINGS.items() if path.partition(".")[0] in schema.names}
        self._parquet = pq.ParquetWriter(
            self._file, self.schema, version="2.6", compression="lz4" if brief else "zstd",
            compression_level=None if brief else 3, use_dictionary=False, write_page_checksum=True,
            data_page_size=2**20, column_encoding=encodings or None,
        )  # fmt: skip

    def __enter__(self) -> RowsFile:
        return self

    def __exit__(self, *error: object) -> None:
        with self._file, closing(self._parquet):  # on an error too, while the file is open
            pass

    def write(self, table: pa.Table) -> None:
        """Take further rows; whole row groups are written at once."""
        table = table.cast(self.schema)
        self._crc.update(table)
        self._rows += table.num_rows
        ends, first = np.cumsum(bytes_of_rows(table)), 0
        while first < table.num_rows:
            before = int(ends[first - 1]) if first else 0
            full = int(np.searchsorted(ends, before + ROW_GROUP_BYTES - self._pending_bytes)) + 1
            end = min(full, first + ROW_GROUP_ROWS - self._pending_rows, table.num_rows)
            self._pending.append(table.slice(first, end - first))
            self._pending_rows += end - first
            self._pending_bytes += int(ends[end - 1]) - before
            if self._pending_rows >= ROW_GROUP_ROWS or self._pending_bytes >= ROW_GROUP_BYTES:
                self._write_group()
            first = end

    def _write_group(self) -> None:
        # One chunk a column: pages would otherwise follow the caller's batches. The tables let go of each column as it
        # is joined, so that the group is not in memory twice.
        tables, self._pending, self._pending_rows, self._pending_bytes = self._pending, [], 0, 0
        columns = [[chunk for table in tables for chunk in table.column(at).chunks] for at in range(len(self.schema))]
        tables.clear()
        joined = [pa.concat_arrays(columns.pop(0)) for _ in self.schema]
        self._parquet.write_table(pa.table(joined, self.schema), row_group_size=ROW_GROUP_ROWS)

    def finish(self, counts: dict[str, Any]) -> dict[str, Any]:
        """Write what is left and the footer, flush the file to the disk, and return its {rows, bytes, crc32}.

        The footer holds `counts`, the number of rows and the CRC-32 of the rows.
        """
        if self._pending:
            self._write_group()
        counted = json.dumps({**counts, "rows": self._rows}, sort_keys=True)
        crc = self._crc.value()
        self._parquet.add_key_value_metadata(
            {**self._metadata, "minestream.counts": counted, "minestream.rows_crc32": crc}
        )
        self._parquet.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        return {"rows": self._rows, "bytes": self._file.tell(), "crc32": crc}


def write_rows(
    path: Path,
    schema: pa.Schema,
    tables: Iterable[pa.Table],
    metadata: dict[str, str],
    counts: Callable[[], dict[str, Any]] = dict,
    *,
    brief: bool = False,
) -> dict[str, Any]:
    """Write one Parquet file, flush it to the disk, and return its {rows, bytes, crc32}; `brief` as for RowsFile.

    `counts` is called after the last row, when a finishing pass has counted too; the rows are counted here.
    """
    with RowsFile(path, schema, metadata, brief=brief) as file:
        for table in tables:
            file.write(table)
        return file.finish(counts())


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


def part_tables(paths: Iterable[Path], batch_rows: int = ROW_GROUP_ROWS) -> Iterator[pa.Table]:
    """The rows of several Parquet files, in order, at most `batch_rows` at a time."""
    for path in paths:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:
            for batch in ahead(file.iter_batches(batch_rows, use_threads=False)):
                yield pa.Table.from_batches([batch])


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
