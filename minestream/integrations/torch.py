"""Mined rows and composed batches for torch: datasets, and a sampler of batches.

dataset = MinedDataset("hard.parquet")
loader = DataLoader(dataset, batch_sampler=BatchSampler("batches.parquet"))
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from minestream.errors import InputError, UsageError
from minestream.integrations import extra
from minestream.integrations.batches import Batches
from minestream.outputs.mined import mined_output, open_parquet, reading

with extra("torch"):
    import torch
    import torch.utils.data as data

Row = dict[str, Any]
READ_ROWS = 65_536


class MinedDataset(data.Dataset[Any]):
    """The rows of a mined output, by number; workers, forked or spawned, share one memory-mapped copy.

    Parameters
    ----------
    path : path
        A mined file or folder.
    columns : sequence of str, optional
        Those that rows have. Default: all.
    fetch : callable, optional
        Makes what the dataset yields of a row, such as texts of its ids: row (dict) -> anything.

    Notes
    -----
    The columns are written once, uncompressed, to a temporary folder, which goes with the object; pickled copies read
    the same folder.
    """

    def __init__(
        self, path: str | os.PathLike[str], columns: Sequence[str] | None = None,
        fetch: Callable[[Row], Any] | None = None,
    ) -> None:  # fmt: skip
        found = mined_output(path)
        folder = Path(tempfile.mkdtemp(prefix="minestream-"))
        weakref.finalize(self, _remove, folder, os.getpid())
        self._file, self._fetch = folder / "rows.arrow", fetch
        self._batches: list[pa.RecordBatch] | None = None
        with pa.OSFile(str(self._file), "wb") as sink:
            writer, lengths = None, []
            for batch in _batches(found.files, columns):
                writer = writer or pa.ipc.new_file(sink, batch.schema)
                writer.write_batch(batch)
                lengths.append(batch.num_rows)
            if writer is not None:
                writer.close()
        self._start = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._start[-1])

    def __getitem__(self, row: int) -> Any:
        """A row as a dict, or what `fetch` makes of it; numbers below 0 count from the end."""
        at = row + len(self) if row < 0 else row
        if not 0 <= at < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        if self._batches is None:  # in each process anew
            with pa.memory_map(str(self._file)) as source:
                reader = pa.ipc.open_file(source)
                self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        batch = int(np.searchsorted(self._start, at, side="right")) - 1
        held, place = self._batches[batch], int(at - self._start[batch])
        values = {name: held.column(name)[place].as_py() for name in held.schema.names}
        return values if self._fetch is None else self._fetch(values)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_batches": None}


class MinedIterable(data.IterableDataset[Any]):
    """The rows of a mined output as a stream, dealt to ranks and workers.

    Parameters
    ----------
    path, columns, fetch
        As of MinedDataset.
    rank, world_size : int
        Row i goes to rank i mod world_size; rows that do not go round are left out, so that all ranks have as many.
    buffer : int
        Rows among which the next is drawn; 1: in the order of the file.
    seed : int
        Of what is drawn, with the epoch.

    Notes
    -----
    Each worker ends with a batch of its own, which need not be full: a loader with several may have more batches than
    its length says, as many on every rank.
    """

    def __init__(
        self, path: str | os.PathLike[str], columns: Sequence[str] | None = None,
        fetch: Callable[[Row], Any] | None = None, *, rank: int = 0, world_size: int = 1, buffer: int = 1,
        seed: int = 0,
    ) -> None:  # fmt: skip
        if not 0 <= rank < world_size or buffer < 1:
            raise UsageError(f"rank {rank} of {world_size}, buffer {buffer}", "ranks count from 0, a buffer from 1")
        self._files, self._columns, self._fetch = mined_output(path).files, columns, fetch
        self._rank, self._world, self._buffer, self._seed, self._count = rank, world_size, buffer, seed, 0
        self._epoch = torch.zeros(1, dtype=torch.int64).share_memory_()  # with workers that last over epochs
        for file in self._files:
            with reading(file, InputError), open_parquet(file) as opened:
                self._count += opened.metadata.num_rows

    def __len__(self) -> int:
        """The rows of this rank, over all of its workers."""
        return self._count // self._world

    def set_epoch(self, epoch: int) -> None:
        """Draw as in this epoch."""
        self._epoch[0] = epoch

    def __iter__(self) -> Iterator[Any]:
        info = data.get_worker_info()
        worker, workers = (0, 1) if info is None else (info.id, info.num_workers)
        rng = np.random.default_rng([self._seed, int(self._epoch), self._rank, worker])
        held: list[Row] = []
        for row in self._own(worker, workers):
            if len(held) < self._buffer:
                held.append(row)
                continue
            at = int(rng.integers(len(held)))
            row, held[at] = held[at], row
            yield row if self._fetch is None else self._fetch(row)
        for at in rng.permutation(len(held)).tolist():
            yield held[at] if self._fetch is None else self._fetch(held[at])

    def _own(self, worker: int, workers: int) -> Iterator[Row]:
        """The rows of one worker of this rank."""
        seen, most = 0, len(self) * self._world
        for batch in _batches(self._files, self._columns):
            numbers = np.arange(seen, seen + batch.num_rows)
            own = (numbers % self._world == self._rank) & (numbers // self._world % workers == worker)
            yield from batch.take(pa.array(np.flatnonzero(own & (numbers < most)))).to_pylist()
            seen += batch.num_rows


def _remove(folder: Path, process: int) -> None:
    """Remove the folder of a dataset, in the process that made it: forked ones leave it to that."""
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


def _batches(files: Sequence[Any], columns: Sequence[str] | None) -> Iterator[pa.RecordBatch]:
    """The rows of Parquet files, some of their columns."""
    for file in files:
        with reading(file, InputError), open_parquet(file) as opened:
            missing = sorted(set(columns or ()) - set(opened.schema_arrow.names))
            if missing:
                raise InputError(f"{file} has no column {missing[0]}", f"it has {', '.join(opened.schema_arrow.names)}")
            names = None if columns is None else list(columns)
            yield from opened.iter_batches(READ_ROWS, columns=names, use_threads=False)


class BatchSampler(data.Sampler[list[int]]):
    """The batches of `minestream batch`, as a DataLoader's batch_sampler: rows of the mined output, a list a batch.

    Parameters
    ----------
    path : path
        The file of batches.
    rank, world_size : int
        Every rank has as many batches, and every pair is seen once; see Batches.
    epoch : int
        The first.
    """

    def __init__(self, path: str | os.PathLike[str], rank: int = 0, world_size: int = 1, epoch: int = 0) -> None:
        self._batches, self._epoch = Batches(path, rank, world_size), epoch

    def set_epoch(self, epoch: int) -> None:
        """Go on with the batches of this epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._batches.count(self._epoch)

    def __iter__(self) -> Iterator[list[int]]:
        return (rows.tolist() for rows in self._batches.of(self._epoch))
