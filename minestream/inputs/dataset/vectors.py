"""Vectors by slot: in memory while they fit, else in a scratch file read into buffers of known size."""

from __future__ import annotations

import errno
import os
import tempfile
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.config.metrics import METRICS
from minestream.errors import CapacityError
from minestream.kernels import distances
from minestream.kernels.gather import gather
from minestream.system.memory import scratch_errors
from minestream.system.threads import Workers, slices

PASS_ROWS = (256, 16_384)  # looked at together when something is computed of all rows, at least and at most
PASS_SHARE = 16  # of the bytes that vectors may take


class Store:
    """Vectors of one width and dtype, first appended and then read by slot.

    Parameters
    ----------
    dimension : int
    dtype : numpy.dtype
        As stored in the source; float16 is held as float32, which holds every float16 exactly.
    budget_bytes : int
        Vectors beyond this go to the scratch file.
    scratch : Path
        Folder of the scratch file, which is unlinked once it is open and so never outlives the process.
    expected_rows : int or None
        Number of rows to come, if known: then the array is made once, and untouched pages cost nothing.

    Attributes
    ----------
    pass_rows : int
        How many rows to look at together when something is computed of all of them.
    """

    def __init__(
        self, dimension: int, dtype: np.dtype, budget_bytes: int, scratch: Path, expected_rows: int | None = None
    ) -> None:
        self.dimension = dimension
        self.dtype = np.dtype(np.float32) if dtype == np.float16 else np.dtype(dtype)
        self.row_bytes = dimension * self.dtype.itemsize
        self.rows = 0
        self._budget_rows = max(1, budget_bytes // self.row_bytes)
        self.pass_rows = min(PASS_ROWS[1], max(PASS_ROWS[0], self._budget_rows // PASS_SHARE))
        self._scratch = scratch
        self._descriptor: int | None = None
        self._array: NDArray[Any] | None = None
        if expected_rows is not None and expected_rows <= self._budget_rows:
            self._array = np.empty((expected_rows, dimension), self.dtype)
        self._parts: list[NDArray[Any]] = []
        self._place: NDArray[np.int32] | None = None  # in scratch, of each slot, where that is another

    @classmethod
    def of_rows(
        cls, dimension: int, dtype: np.dtype, most_rows: int, scratch: Path, expected_rows: int | None = None
    ) -> Store:
        """A store that holds up to `most_rows` rows in memory."""
        held = np.dtype(np.float32) if dtype == np.float16 else np.dtype(dtype)
        return cls(dimension, dtype, most_rows * dimension * held.itemsize, scratch, expected_rows)

    @property
    def in_memory(self) -> bool:
        """Whether all rows are in one array in memory."""
        return self._descriptor is None

    def like(self, dtype: np.dtype) -> Store:
        """An empty store for as many rows of another dtype, in memory up to the same number of rows."""
        return Store.of_rows(self.dimension, dtype, self._budget_rows, self._scratch, self.rows)

    def append(self, vectors: NDArray[Any]) -> None:
        """Add rows (m, d); raises as place()."""
        self.place(vectors)()

    def place(self, vectors: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> Callable[[], None]:
        """Make place for the next rows (m, d), or those in `mask`; what is returned copies them, in any thread.

        Raises
        ------
        CapacityError
            When the scratch folder has no space left.
        """
        first = self.rows
        self.rows += len(vectors) if mask is None else int(np.count_nonzero(mask))
        if self._descriptor is None and self._array is not None and self.rows <= len(self._array):
            return partial(_fill, self._array[first : self.rows], vectors, mask)
        if self._descriptor is None and self._array is None and 2 * self.rows <= self._budget_rows:
            self._parts.append(np.empty((self.rows - first, self.dimension), self.dtype))
            _fill(self._parts[-1], vectors, mask)  # now, since more rows than expected move all of them to scratch
            return partial(_fill, self._parts[-1][:0], vectors[:0], None)
        if self._descriptor is None:
            self._spill(first)
        return partial(self._write, vectors, first, mask)

    def room(self, rows: int) -> NDArray[Any] | None:
        """The next rows (rows, d), which the caller fills; None where the array in memory has no room: append them."""
        if self._descriptor is not None or self._array is None or self.rows + rows > len(self._array):
            return None
        self.rows += rows
        return self._array[self.rows - rows : self.rows]

    def seal(self) -> None:
        """No more rows come."""
        if self._descriptor is None:
            if self._array is None:
                empty = np.empty((0, self.dimension), self.dtype)
                self._array = np.concatenate(self._parts) if self._parts else empty
            self._array = self._array[: self.rows]
        self._parts = []

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop the slots outside `mask` (after seal); the others move up."""
        if self._array is not None:
            self._array = self._array[mask]
        else:
            at = 0
            for first in range(0, self.rows, self.pass_rows):
                end = min(self.rows, first + self.pass_rows)
                kept = self.block(first, end)[mask[first:end]]
                self._write(kept, at)
                at += len(kept)
        self.rows = int(mask.sum())

    def block(self, first: int, end: int) -> NDArray[Any]:
        """Rows first ... end - 1 (m, d): a view in memory, else a new array read from scratch."""
        if self._array is not None:
            rows: NDArray[Any] = self._array[first:end]
            return rows
        if self._place is not None:
            return self.take(np.arange(first, end))
        out = np.empty((end - first, self.dimension), self.dtype)
        self._read(first, out)
        return out

    def take(self, slots: NDArray[np.integer], workers: Workers | None = None, threads: int = 1) -> NDArray[Any]:
        """The rows of some slots (m, d), in this order; from scratch they are read by so many threads of `workers`.

        Those in the order of their places are read fastest.
        """
        if self._array is not None:
            rows: NDArray[Any] = self._array[slots]
            return rows
        out, places = np.empty((len(slots), self.dimension), self.dtype), self.places(slots)
        tasks = [partial(self._gather, places[part], out[part]) for part in slices(len(slots), threads)]
        (workers or Workers(1)).run(tasks)
        return out

    def places(self, slots: NDArray[np.integer]) -> NDArray[np.int64]:
        """Where the rows of some slots stand, int64[m]: in the order of their slots, unless reorder() changed it."""
        found: NDArray[np.int64] = (slots if self._place is None else self._place[slots]).astype(np.int64)
        return found

    def reorder(self, order: NDArray[np.integer]) -> None:
        """Put the rows that are in scratch in this order of all slots: what is read together shall lie together.

        Slots stay what they are. Where there is no space for all rows twice nothing is done. Cost: they are read and
        written.
        """
        if self._descriptor is None:
            return
        other = Store(self.dimension, self.dtype, 0, self._scratch)
        with suppress(CapacityError):
            for first in range(0, self.rows, self.pass_rows):
                other.append(self.take(order[first : first + self.pass_rows]))
            self._release()
            other._release.detach()
            assert other._descriptor is not None
            self._keep_open(other._descriptor)
            self._place = np.empty(self.rows, np.int32)
            self._place[order] = np.arange(self.rows, dtype=np.int32)

    def whole(self) -> NDArray[Any] | None:
        """All rows as one array, or None if they are in scratch."""
        return self._array

    def close(self) -> None:
        """Release memory and scratch."""
        if self._descriptor is not None:
            self._release()
            self._descriptor = None
        self._array = None

    def _spill(self, rows: int) -> None:
        with scratch_errors(self._scratch), tempfile.TemporaryFile(dir=self._scratch, prefix=".minestream-") as file:
            self._keep_open(os.dup(file.fileno()))
        held = [self._array[:rows]] if self._array is not None else self._parts
        self._array, self._parts = None, []
        for at, part in zip(np.cumsum([0] + [len(part) for part in held]), held, strict=False):
            self._write(part, int(at))

    def _keep_open(self, descriptor: int) -> None:
        """Use the file behind a descriptor, and close it with the store: a run that fails early closes nothing."""
        self._descriptor, self._release = descriptor, weakref.finalize(self, os.close, descriptor)

    def _write(self, vectors: NDArray[Any], at: int, mask: NDArray[np.bool_] | None = None) -> None:
        assert self._descriptor is not None
        rows = np.ascontiguousarray(vectors if mask is None else vectors[mask], self.dtype)
        data, offset = rows.reshape(-1).view(np.uint8).data, at * self.row_bytes
        with scratch_errors(self._scratch):
            while data:
                done = os.pwrite(self._descriptor, data, offset)
                data, offset = data[done:], offset + done

    def _gather(self, places: NDArray[np.integer], out: NDArray[Any]) -> None:
        """Read the rows at some places; what fails or ends early is tried again by _read(), which says why."""
        assert self._descriptor is not None
        rows = out.view(np.uint8)
        while len(places):
            done = gather(self._descriptor, places, rows)
            if done < len(places):
                self._read(int(places[done]), rows[done])
                done += 1
            places, rows = places[done:], rows[done:]

    def _read(self, first: int, out: NDArray[Any]) -> None:
        assert self._descriptor is not None
        data, offset = out.reshape(-1).view(np.uint8).data, first * self.row_bytes
        while data:
            done = os.preadv(self._descriptor, [data], offset)
            if done == 0:
                raise OSError(errno.EIO, "the scratch file is shorter than what was written to it")
            data, offset = data[done:], offset + done


def _fill(out: NDArray[Any], vectors: NDArray[Any], mask: NDArray[np.bool_] | None) -> None:
    """Copy rows, or those in `mask`."""
    out[:] = vectors if mask is None else vectors[mask]


class Unread(Store):
    """The store of rows whose vectors are not read: it counts them, and holds none."""

    def __init__(self, dimension: int, dtype: np.dtype) -> None:
        super().__init__(dimension, dtype, 1 << 62, Path())

    def place(self, vectors: NDArray[Any], mask: NDArray[np.bool_] | None = None) -> Callable[[], None]:
        """Count rows."""
        self.rows += len(vectors) if mask is None else int(np.count_nonzero(mask))
        return partial(_fill, vectors[:0], vectors[:0], None)

    def seal(self) -> None:
        """No more rows come."""

    def keep(self, mask: NDArray[np.bool_]) -> None:
        """Drop the slots outside `mask`."""
        self.rows = int(mask.sum())


def pair_distances(
    store: Store, square: NDArray[np.float64], metric: str, left: NDArray[np.integer], right: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Canonical distances of m pairs of rows of a store, float64[m]; square float64[n]: dot(a, a) of each row."""
    out = np.empty(left.size, np.float64)
    for first in range(0, left.size, store.pass_rows):
        a, b = left[first : first + store.pass_rows], right[first : first + store.pass_rows]
        unique, at = np.unique(np.concatenate([a, b]), return_inverse=True)
        rows = store.take(unique)
        distances.paired_distances(
            METRICS[metric].code, rows[at[: a.size]], square[a], rows[at[a.size :]], square[b],
            out[first : first + a.size],
        )  # fmt: skip
    return out
