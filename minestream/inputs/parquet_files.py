"""Parquet files, cut into runs of row groups, which several threads can read at the same time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from minestream.inputs.listing import AnyFile
from minestream.inputs.opened import RUN_ROWS, Input, Reader
from minestream.system.paths import readable

_BUFFER_BYTES, _REMOTE_BUFFER_BYTES = 1 << 20, 8 << 20  # from a store each buffer is one request


def open_parquet(path: AnyFile, name: str) -> Input:
    """A Parquet file."""
    with pq.ParquetFile(readable(path), pre_buffer=False) as file:
        schema, footer = file.schema_arrow, file.metadata
    schema = schema.with_metadata({**(schema.metadata or {}), **(footer.metadata or {})})
    return Input(name, schema, footer.num_rows, _reader(path), file=path, cut=_cut, widths=_widths(footer))


def _widths(footer: pq.FileMetaData) -> dict[str, int]:
    """The bytes of a row of each column, in the first row group."""
    widths = Counter[str]()
    for group in map(footer.row_group, range(min(1, footer.num_row_groups))):
        for column in map(group.column, range(group.num_columns)):
            widths[column.path_in_schema.split(".")[0]] += column.total_uncompressed_size // max(1, group.num_rows)
    return widths


def of_groups(whole: Input, groups: list[int], sizes: Sequence[int]) -> Input:
    """Consecutive row groups of a Parquet file; `sizes`: the rows of each of the file's."""
    before, rows = sum(sizes[: groups[0]]), sum(sizes[group] for group in groups)
    return whole.part(before, rows, _reader(whole.file, groups), partial(_cut, groups=groups))


def _reader(path: AnyFile, groups: Sequence[int] | None = None, footer: pq.FileMetaData | None = None) -> Reader:
    """A reader of a Parquet file, or of some of its row groups."""
    size = _BUFFER_BYTES if isinstance(path, str) else _REMOTE_BUFFER_BYTES

    def reader(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        # A dataset scan of one large row group took 600 MB more.
        with pq.ParquetFile(readable(path), metadata=footer, pre_buffer=False, buffer_size=size) as file:
            yield from file.iter_batches(batch_rows, columns=names, row_groups=groups, use_threads=False)

    return reader


def _cut(whole: Input, groups: Sequence[int] | None = None) -> Iterator[Input]:
    """A file, or some of its row groups, in runs of at most RUN_ROWS rows, or of one row group."""
    with pq.ParquetFile(readable(whole.file), pre_buffer=False) as file:
        footer = file.metadata
    run: list[int] = []
    before = rows = 0
    for group in range(footer.num_row_groups) if groups is None else groups:
        more = footer.row_group(group).num_rows
        if run and rows + more > RUN_ROWS:
            yield whole.part(before, rows, _reader(whole.file, run, footer))
            run, before, rows = [], before + rows, 0
        run.append(group)
        rows += more
    yield whole.part(before, rows, _reader(whole.file, run, footer))
