"""Hive folders as columns, and the row groups that a condition leaves to be read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from pyarrow.fs import LocalFileSystem

from minestream.inputs import Input, Reader
from minestream.places import readable
from minestream.where import Where, partition_types, partition_values


def partitioned(inputs: list[Input]) -> list[Input]:
    """The inputs with the columns that their folders `name=value` stand for; a column of the file itself wins."""
    values = [partition_values(each.name) if each.on_disk else {} for each in inputs]
    types = partition_types(values)
    return [
        _with_constants(each, {name: _scalar(own[name], kind) for name, kind in types.items()})
        for each, own in zip(inputs, values, strict=True)
    ]


def _scalar(value: str | None, kind: pa.DataType) -> pa.Scalar:
    return pa.scalar(value if value is None or kind == pa.string() else int(value), kind)


def _with_constants(each: Input, constants: dict[str, pa.Scalar]) -> Input:
    """The input with constant columns behind its own."""
    added = {name: value for name, value in constants.items() if name not in each.schema.names}
    if not added:
        return each
    schema = each.schema
    for name, value in added.items():
        schema = schema.append(pa.field(name, value.type))
    wrapped = _adding(each.reader, added, each.schema.names[:1])
    of_groups = each.of_groups
    groups = None if of_groups is None else lambda some: _adding(of_groups(some), added, each.schema.names[:1])
    return replace(each, schema=schema, reader=wrapped, of_groups=groups)


def _adding(reader: Reader, added: dict[str, pa.Scalar], else_read: list[str]) -> Reader:
    def read(names: list[str], batch_rows: int) -> Iterator[pa.RecordBatch]:
        own = [name for name in names if name not in added] or else_read  # rows are counted by some column
        for batch in reader(own, batch_rows):
            columns = dict(zip(batch.schema.names, batch.columns, strict=True))
            for name in names:
                if name in added:
                    columns[name] = pa.repeat(added[name], batch.num_rows)
            yield pa.record_batch(columns)

    return read


def pruned(inputs: list[Input], where: Where) -> list[Input]:
    """The inputs, cut to the runs of row groups that may hold rows which meet the condition, by their statistics.

    Files that say nothing of their rows, and what is no Parquet file, stay whole.
    """
    found: list[Input] = []
    start_row = 0
    for position, each in enumerate(inputs):
        if each.rows is None:
            return found + inputs[position:]
        found += _runs(each, where, start_row)
        start_row += each.rows
    return found


def _runs(each: Input, where: Where, start_row: int) -> Iterator[Input]:
    whole = replace(each, start_row=start_row)
    if each.of_groups is None:
        yield whole
        return
    kept = set(_possible_groups(each, where))
    with pq.ParquetFile(readable(each.file), pre_buffer=False) as file:
        sizes = [file.metadata.row_group(group).num_rows for group in range(file.num_row_groups)]
    if len(kept) == len(sizes):
        yield whole
        return
    starts = [sum(sizes[:group]) for group in range(len(sizes))]
    ordered = np.array(sorted(kept), np.int64)
    for run in np.split(ordered, np.flatnonzero(np.diff(ordered) > 1) + 1) if kept else ():
        groups = run.tolist()
        yield replace(
            each, reader=each.of_groups(groups), rows=sum(sizes[group] for group in groups), row=starts[groups[0]],
            start_row=start_row + starts[groups[0]],
        )  # fmt: skip


def _possible_groups(each: Input, where: Where) -> list[int]:
    """The row groups of a Parquet file that may hold rows which meet the condition."""
    own = pq.read_schema(readable(each.file))
    known = ds.scalar(True)
    for name, value in partition_values(each.name).items():
        if name in each.schema.names and name not in own.names and value is not None:
            kind = each.schema.field(name).type
            known = known & (pc.field(name) == _scalar(value, kind))
            own = own.append(pa.field(name, kind))
    system = LocalFileSystem() if isinstance(each.file, str) else each.file.system
    path = each.file if isinstance(each.file, str) else each.file.key
    fragment = ds.ParquetFileFormat().make_fragment(path, system, known)
    pieces = fragment.split_by_row_group(where.expression, own)
    return [group.id for piece in pieces for group in piece.row_groups]
