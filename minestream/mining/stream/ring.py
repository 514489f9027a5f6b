"""Containers of the rows of a window, added at the end and dropped at the front: arrays, Arrow data, codes."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.inputs.dataset.labels import UNLABELED

HASH_BYTES = 16
MANY = 4  # rows to take are many when they are more than one in MANY of the rows held


class Ring:
    """A queue of rows in one contiguous array.

    The array has room for at most twice the most rows ever held; a row is copied about once.
    """

    def __init__(self, dtype: Any, width: tuple[int, ...] = ()) -> None:
        self._array = np.empty((0, *width), dtype)
        self._first = self._end = 0
        self._saved: NDArray[Any] | None = None  # the array of the last snapshot, in which no row is moved

    @property
    def rows(self) -> NDArray[Any]:
        """The rows held, as a view that is valid until rows are added."""
        return self._array[self._first : self._end]

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows at the end."""
        self.reserve(len(rows))
        self._array[self._end : self._end + len(rows)] = rows
        self._end += len(rows)

    def reserve(self, more: int) -> None:
        """Make room for `more` rows."""
        if self._end + more <= len(self._array):
            return
        held, wanted = self.rows, 2 * (self._end - self._first + more)
        if wanted > len(self._array) or self._array is self._saved:
            self._array = np.empty((max(wanted, len(self._array)), *self._array.shape[1:]), self._array.dtype)
        self._array[: len(held)] = held  # where they overlap, NumPy takes care
        self._first, self._end = 0, len(held)

    def drop(self, count: int) -> None:
        """Drop the first `count` rows."""
        self._first += count

    def snapshot(self) -> tuple[NDArray[Any], int, int]:
        """The state that `restore` takes; it does not undo changes of rows in place."""
        self._saved = self._array
        return self._array, self._first, self._end

    def restore(self, saved: tuple[NDArray[Any], int, int]) -> None:
        """Undo everything since `snapshot`."""
        self._array, self._first, self._end = saved

    def commit(self) -> None:
        """Forget the snapshot."""
        self._saved = None


class ArrowRows:
    """A queue of rows as Arrow data: the columns that go into the output (ids, labels, carried columns).

    Small batches are joined, so there are few of them: each row is copied about log2(rows) times.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._batches: list[pa.RecordBatch] = []

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows at the end."""
        while self._batches and self._batches[-1].num_rows <= 2 * batch.num_rows:
            batch = pa.concat_batches([self._batches.pop(), batch])
        self._batches.append(batch)

    def snapshot(self) -> list[pa.RecordBatch]:
        """The state that `restore` takes."""
        return [*self._batches]

    def restore(self, saved: list[pa.RecordBatch]) -> None:
        """Undo everything since `snapshot`."""
        self._batches = saved

    def drop(self, count: int) -> None:
        """Drop the first `count` rows."""
        while count and self._batches:
            first = self._batches[0]
            self._batches[:1] = [first.slice(count)] if count < first.num_rows else []
            count -= min(count, first.num_rows)

    def take(self, names: Sequence[str], rows: NDArray[Any]) -> pa.Table:
        """Some columns of these rows, in the order asked for, each as one array."""
        held = sum(batch.num_rows for batch in self._batches)
        if len(self._batches) > 1 and MANY * len(rows) > held:  # joining the batches costs less than looking into each
            self._batches = [pa.concat_batches(self._batches)]
        if len(self._batches) == 1:
            return pa.Table.from_batches(self._batches).select(names).take(pa.array(rows))
        ends = np.cumsum([batch.num_rows for batch in self._batches], dtype=np.int64)
        place = np.searchsorted(ends, rows, "right")
        pieces = [pa.Table.from_batches([], self._schema)]
        for number, batch in enumerate(self._batches):
            start = ends[number] - batch.num_rows
            pieces.append(pa.Table.from_batches([batch.take(pa.array(rows[place == number] - start))]))
        back = np.empty(len(rows), np.int64)
        back[np.argsort(place, kind="stable")] = np.arange(len(rows))
        return pa.concat_tables(pieces).select(names).combine_chunks().take(pa.array(back))


class Coder:
    """Gives values, known by their hashes, int32 codes. A code is reused when the last row with it is dropped."""

    def __init__(self) -> None:
        self._code: dict[bytes, int] = {}
        self._hash: list[bytes] = []
        self._free: list[int] = []
        self._uses = np.zeros(0, np.int64)

    def add(self, hashes: Sequence[bytes], at: NDArray[np.integer]) -> NDArray[np.int32]:
        """The codes of rows whose values have the hashes hashes[at]; rows without a value, at = -1, get UNLABELED."""
        known = np.array([*map(self._coded, hashes), UNLABELED], np.int32)
        found: NDArray[np.int32] = known[at]
        if len(self._hash) > self._uses.size:
            self._uses = np.concatenate([self._uses, np.zeros(len(self._hash), np.int64)])
        np.add.at(self._uses, found[found >= 0], 1)
        return found

    def _coded(self, value: bytes) -> int:
        code = self._code.get(value)
        if code is None:
            code = self._free.pop() if self._free else len(self._hash)
            self._hash[code : code + 1] = [value]
            self._code[value] = code
        return code

    def drop(self, codes: NDArray[np.int32]) -> None:
        """Forget rows with these codes."""
        codes = codes[codes >= 0]
        np.subtract.at(self._uses, codes, 1)
        gone = np.unique(codes)
        for code in gone[self._uses[gone] == 0].tolist():
            del self._code[self._hash[code]]
            self._free.append(code)

    def snapshot(self) -> tuple[Any, ...]:
        """The state that `restore` takes."""
        return self._code.copy(), self._hash.copy(), self._free.copy(), self._uses.copy()

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Undo everything since `snapshot`."""
        self._code, self._hash, self._free, self._uses = saved

    @property
    def codes(self) -> int:
        """One more than the largest code given so far."""
        return len(self._hash)


def value_hashes(values: pa.Array) -> tuple[list[bytes], NDArray[np.int64]]:
    """The 128-bit hashes of a column's distinct values, and for each row its place among them (-1 for null)."""
    encoded = pc.dictionary_encode(values)
    hashes = [hashed(str(value).encode()) for value in encoded.dictionary.to_pylist()]
    return hashes, np.asarray(encoded.indices.fill_null(-1), np.int64)


def vector_hashes(vectors: NDArray[Any]) -> list[bytes]:
    """The 128-bit hash of every row's bits."""
    return [hashed(row.data) for row in np.ascontiguousarray(vectors)]


def hashed(value: Any) -> bytes:
    """The 128-bit hash of some bytes."""
    return blake2b(value, digest_size=HASH_BYTES).digest()
