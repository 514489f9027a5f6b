"""Carried columns of all rows: in memory while they fit, else in a scratch file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import IO, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.system.memory import scratch_errors

_reading = Lock()  # a reader is not made for several threads at once


class CarriedColumns:
    """Carried columns of all rows: in memory while they fit, else in a scratch file read batch by batch.

    Parameters
    ----------
    budget_bytes : int
    scratch : Path
    """

    def __init__(self, budget_bytes: int, scratch: Path) -> None:
        self._budget_bytes = budget_bytes
        self._scratch = scratch
        self._batches: list[pa.RecordBatch] = []
        self._starts = [0]
        self._bytes = 0
        self._file: IO[bytes] | None = None
        self._writer: pa.RecordBatchFileWriter | None = None
        self._reader: pa.RecordBatchFileReader | None = None

    @property
    def in_memory(self) -> bool:
        """Whether nothing is in a scratch file."""
        return self._file is None

    @property
    def row_bytes(self) -> int:
        """What a row takes, on average."""
        return self._bytes // max(1, self._starts[-1])

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self._starts.append(self._starts[-1] + batch.num_rows)
        self._bytes += batch.get_total_buffer_size()
        if self._writer is None and self._bytes <= self._budget_bytes:
            self._batches.append(pa.concat_batches([batch]))
            return
        with scratch_errors(self._scratch):
            if self._writer is None:
                self._file = tempfile.TemporaryFile(  # noqa: SIM115 (lives as long as this object)
                    dir=self._scratch, prefix=".minestream-"
                )
                self._writer = pa.ipc.new_file(self._file, batch.schema)
                for held in self._batches:
                    self._writer.write_batch(held)
                self._batches = []
            self._writer.write_batch(batch)

    def seal(self) -> None:
        """No more rows come."""
        if self._writer is not None and self._file is not None:
            with scratch_errors(self._scratch):
                self._writer.close()
                self._file.flush()
            self._file.seek(0)
            self._reader = pa.ipc.open_file(self._file)

    def take(self, places: NDArray[Any]) -> pa.Table:
        """The rows at `places`, in that order; each batch is read at most once."""
        unique, inverse = np.unique(places, return_inverse=True)
        pieces = []
        for first, end, index in self._spans(unique):
            batch = self._batches[index] if self._reader is None else self._read(index)
            pieces.append(batch.take(pa.array(unique[first:end] - self._starts[index])))
        return pa.Table.from_batches(pieces).combine_chunks().take(pa.array(inverse))

    def _read(self, index: int) -> pa.RecordBatch:
        assert self._reader is not None
        with _reading:
            return self._reader.get_batch(index)

    def _spans(self, unique: NDArray[Any]) -> Iterator[tuple[int, int, int]]:
        edges = np.searchsorted(unique, self._starts)
        if not unique.size:
            yield 0, 0, 0
        for index in np.flatnonzero(np.diff(edges)):
            yield int(edges[index]), int(edges[index + 1]), int(index)
