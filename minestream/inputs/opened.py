"""An input that is open for reading in record batches, whatever it was opened from."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.types as pat

from minestream.errors import InputError, MinestreamError
from minestream.inputs.decode import Place
from minestream.inputs.listing import AnyFile
from minestream.system.stores import READ_ERRORS, unreadable

_COUNTED_ROWS = 50_000
RUN_ROWS = 8_192  # that are worth opening a file for
Reader = Callable[[list[str], int], Iterable[pa.RecordBatch]]
Converter = Callable[[pa.Array, Place], pa.Array]
Cut = Callable[["Input"], Iterable["Input"]]


@dataclass(frozen=True)
class Input:
    """An open file, table or stream; ``reader(names, batch_rows)`` yields batches that hold these columns."""

    name: str
    schema: pa.Schema
    rows: int | None
    reader: Reader
    on_disk: bool = True
    repeatable: bool = True
    file: AnyFile = ""  # if it is a Parquet file
    path: AnyFile = ""  # of what is on disk: absolute, while `name` is as it was typed
    row: int = 0  # the first row in the file
    start_row: int | None = None  # in the whole source; None: right behind the input before
    times: int = 1  # how often it was named; it is read once
    stamp: tuple[int, ...] = ()  # of a local file when it was opened, to notice a change
    constants: Mapping[str, pa.Scalar] = field(default_factory=dict)  # columns of one value, from hive folders
    as_text: bool = False  # numbers in it are written out, so that their types are a guess
    converted: Mapping[str, Converter] = field(default_factory=dict)  # columns that are read as another type
    cell: Callable[[str, int], str] | None = None  # what no number a row of a column of vectors holds, in words; or ""
    looker: Reader | None = None  # of a stream: reads ahead, so that `reader` yields the same rows again
    cut: Cut | None = None  # into parts that can be read at the same time
    widths: Mapping[str, int] = field(default_factory=dict)  # bytes of a row of each column, where the file says so

    def __post_init__(self) -> None:
        # Damaged metadata, such as names that are not UTF-8, raises here, where whoever opens the file catches it.
        tuple(self.schema.names)
        if self.rows is not None and self.rows < 0:
            raise OSError(f"it says that it has {self.rows} rows")

    def read(self, names: list[str], batch_rows: int, look: bool = False) -> Generator[pa.RecordBatch, None, None]:
        """Yield the columns `names` in batches of 1 to `batch_rows` rows; raises errors of ours only.

        look : whether the rows are only looked at, so that a stream keeps them for the next read
        """
        row = self.row
        with self._errors():
            stored = [name for name in names if name not in self.constants]
            # Some column is needed to count the rows.
            for batch in ((look and self.looker) or self.reader)(stored or self.schema.names[:1], batch_rows):
                for name, value in self.constants.items():
                    batch = batch.append_column(name, pa.repeat(value, batch.num_rows))
                wanted = batch.select(names)
                # IPC does not check offsets and counts, and no reader checks text: a wrong offset would read beyond its
                # buffer. Costs 0.3 to 1.2 % of reading (2.4 % with 370 bytes of text a row).
                wanted.validate(full=True)
                for name in self.converted.keys() & names:
                    column = self.converted[name](wanted.column(name), Place(self.name, row, row))
                    wanted = wanted.set_column(names.index(name), name, column)
                row += batch.num_rows
                for start in range(0, batch.num_rows, batch_rows):
                    yield wanted.slice(start, batch_rows)
            if self.stamp and self.stamp != stamp_of(self.path):  # rows may be of the old file and of the new one
                raise InputError(f"{self.name}: changed while it was read", "mine again when nothing writes to it")

    def runs(self) -> Iterator[Input]:
        """Its parts, in order, as far as they can be read at the same time; at least one."""
        with self._errors():
            yield from self.cut(self) if self.cut else [self]

    def part(self, before: int, rows: int, reader: Reader, cut: Cut | None = None) -> Input:
        """Some rows of it, those after the first `before`."""
        start_row = None if self.start_row is None else self.start_row + before
        return replace(self, reader=reader, cut=cut, rows=rows, row=self.row + before, start_row=start_row)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Errors of reading as errors of ours."""
        try:
            yield
        except MinestreamError:
            raise
        except READ_ERRORS as error:
            raise unreadable(self.name, error) from error

    def distinct(self, name: str) -> tuple[int, int] | None:
        """(rows, distinct values) of a column, or None where counting is not cheap."""
        if self.rows is None or self.rows > _COUNTED_ROWS or self.schema.names.count(name) > 1:
            return None
        kind = self.schema.field(name).type
        if pat.is_nested(kind):
            return None
        column = pa.chunked_array([batch.column(name) for batch in self.read([name], _COUNTED_ROWS)], kind)
        try:
            return self.rows, len(column.unique())
        except pa.ArrowNotImplementedError:
            return None


def stamp_of(path: AnyFile) -> tuple[int, ...]:
    """Inode, size and time of a local file, to notice that it was replaced or written to; empty for a store."""
    found = os.stat(path) if isinstance(path, str) else None
    return (found.st_ino, found.st_size, found.st_mtime_ns) if found else ()


def opened(path: AnyFile) -> pa.NativeFile:
    """A file, open for reading anywhere."""
    return pa.OSFile(path) if isinstance(path, str) else path.open()
