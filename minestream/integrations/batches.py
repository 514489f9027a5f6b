"""The batches that `minestream batch` composed, as samplers take them: lists of rows, dealt to ranks."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream.errors import InputError, UsageError
from minestream.outputs.mined import open_parquet, reading
from minestream.system import ragged
from minestream.system.paths import place_of, readable

COLUMNS = ("epoch", "batch", "pair_row")


class Batches:
    """The batches of a file of `minestream batch`, for one rank of several.

    Parameters
    ----------
    path : path
    rank, world_size : int
        The batches go round the ranks. Where some are left, ranks divide these (the fullest, else the last), so that
        every rank has as many and every pair is seen once.

    Attributes
    ----------
    epochs : int
        How many were composed; epoch e is composed epoch e mod epochs.
    batch_size : int
    pair_rows : int
        How many rows `pair_row` numbers: those of the mined file, of the table, or of its --qrels.
    """

    def __init__(self, path: str | os.PathLike[str], rank: int = 0, world_size: int = 1) -> None:
        if not 0 <= rank < world_size:
            raise UsageError(f"rank {rank} is none of {world_size}", "ranks are numbered from 0")
        self.path, self.rank, self.world_size = place_of(path), rank, world_size
        with reading(self.path, InputError, "give a file of minestream batch"):
            about = pq.read_metadata(readable(self.path)).metadata or {}
            if b"minestream.batches" not in about:
                raise InputError(f"{self.path} holds no composed batches", "give a file of minestream batch")
            self.batch_size: int = json.loads(about[b"minestream.batches"])["batch_size"]
            self.pair_rows = int(about.get(b"minestream.pair_rows", 0))
            with open_parquet(self.path) as file:
                table = file.read(columns=list(COLUMNS), use_threads=False)
        epoch, batch, self._row = (table[name].to_numpy() for name in COLUMNS)
        self._start = np.append(ragged.runs(epoch, batch), epoch.size)
        of_epoch = epoch[self._start[:-1]]
        self.epochs = int(of_epoch.max(initial=-1)) + 1
        self._first = ragged.grouped(of_epoch, self.epochs)
        for number in range(self.epochs):  # what cannot be dealt is said before the training
            self._dealt(number)

    def count(self, epoch: int = 0) -> int:
        """How many batches each rank has in an epoch."""
        epoch %= self.epochs
        return -(-int(self._first[epoch + 1] - self._first[epoch]) // self.world_size)

    def of(self, epoch: int = 0) -> Iterator[NDArray[np.int64]]:
        """The rows of the pairs of each batch of this rank, in the order of training."""
        whole, divided = self._dealt(epoch % self.epochs)
        for batch in whole[self.rank :: self.world_size].tolist():
            yield self._rows(batch)
        if divided.size:
            pieces = np.array_split(np.arange(self.world_size), divided.size)
            own = next(at for at, ranks in enumerate(pieces) if self.rank in ranks)
            rows = self._rows(int(divided[own]))
            yield np.array_split(rows, pieces[own].size)[self.rank - int(pieces[own][0])]

    def _dealt(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The batches of an epoch that go to ranks whole, and those that several ranks divide."""
        own = np.arange(self._first[epoch], self._first[epoch + 1])
        sizes = ragged.lengths(self._start)[own]
        by_size = np.argsort(sizes, kind="stable")[own.size - own.size % self.world_size :]
        if by_size.size and sizes[by_size].min() * by_size.size < self.world_size:
            raise UsageError(
                f"{self.path}: epoch {epoch} has too few pairs for {self.world_size} ranks to have as many batches",
                "compose larger batches, or train on fewer ranks",
            )
        divided = np.sort(own[by_size])
        return np.setdiff1d(own, divided), divided

    def _rows(self, batch: int) -> NDArray[np.int64]:
        rows: NDArray[np.int64] = self._row[self._start[batch] : self._start[batch + 1]]
        return rows
