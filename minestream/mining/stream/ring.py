"""Rows that come at one end and leave at the other, in bounded memory: arrays, Arrow data, codes of values."""

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
MANY_TIMES = 4  # of what is held, a share that is many


class Ring:
    """Rows that are added at the end and dropped at the front, always one array.

    It holds at most twice the rows that were ever there at a time; a row is moved about once.
    """

    def __init__(self, dtype: Any, width: tuple[int, ...] = ()) -> None:
        self._array = np.empty((0, *width), dtype)
        self._first = self._end = 0
        self._saved: NDArray[Any] | None = None  # the array that may have to come back, whose rows stay where they are

    @property
    def rows(self) -> NDArray[Any]:
        """The rows that are there: a view, until the next are added."""
        return self._array[self._first : self._end]

    def append(self, rows: NDArray[Any]) -> None:
        """Add rows at the end."""
        self.reserve(len(rows))
        self._array[self._end : self._end + len(rows)] = rows
        self._end += len(rows)

    def reserve(self, more: int) -> None:
        """Make room for so many rows more."""
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

    def saved(self) -> tuple[NDArray[Any], int, int]:
        """What `restored` takes; rows that are changed in place stay changed."""
        self._saved = self._array
        return self._array, self._first, self._end

    def restored(self, saved: tuple[NDArray[Any], int, int]) -> None:
        """Take everything back since `saved`."""
        self._array, self._first, self._end = saved

    def settle(self) -> None:
        """What was saved is not asked for any more."""
        self._saved = None


class Shown:
    """What the output shows of the rows, as Arrow data: added at the end, dropped at the front.

    Batches are joined as they come, so that there are few: each row is copied about log2 of the rows times.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._batches: list[pa.RecordBatch] = []

    def append(self, batch: pa.RecordBatch) -> None:
        """Add rows at the end."""
        while self._batches and self._batches[-1].num_rows <= 2 * batch.num_rows:
            batch = pa.concat_batches([self._batches.pop(), batch])
        self._batches.append(batch)

    def saved(self) -> list[pa.RecordBatch]:
        """What `restored` takes."""
        return [*self._batches]

    def restored(self, saved: list[pa.RecordBatch]) -> None:
        """Take everything back since `saved`."""
        self._batches = saved

    def drop(self, count: int) -> None:
        """Drop the first `count` rows."""
        while count and self._batches:
            first = self._batches[0]
            self._batches[:1] = [first.slice(count)] if count < first.num_rows else []
            count -= min(count, first.num_rows)

    def take(self, names: Sequence[str], rows: NDArray[Any]) -> pa.Table:
        """Some columns of rows in any order, each as one array."""
        held = sum(batch.num_rows for batch in self._batches)
        if len(self._batches) > 1 and MANY_TIMES * len(rows) > held:  # joining them costs less than looking for each
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
    """Values, known by their hashes, as int32 codes; a code is free again when the last row that has it is dropped."""

    def __init__(self) -> None:
        self._code: dict[bytes, int] = {}
        self._hash: list[bytes] = []
        self._free: list[int] = []
        self._uses = np.zeros(0, np.int64)

    def add(self, hashes: Sequence[bytes], at: NDArray[np.integer]) -> NDArray[np.int32]:
        """The codes of rows whose values' hashes are hashes[at]; at = -1 has none, and gets UNLABELED."""
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
        """Rows with these codes are gone."""
        codes = codes[codes >= 0]
        np.subtract.at(self._uses, codes, 1)
        gone = np.unique(codes)
        for code in gone[self._uses[gone] == 0].tolist():
            del self._code[self._hash[code]]
            self._free.append(code)

    def saved(self) -> tuple[Any, ...]:
        """What `restored` takes."""
        return self._code.copy(), self._hash.copy(), self._free.copy(), self._uses.copy()

    def restored(self, saved: tuple[Any, ...]) -> None:
        """Take everything back since `saved`."""
        self._code, self._hash, self._free, self._uses = saved

    @property
    def codes(self) -> int:
        """Codes given out so far are below this."""
        return len(self._hash)


def value_hashes(values: pa.Array) -> tuple[list[bytes], NDArray[np.int64]]:
    """The 128-bit hashes of a column's distinct values, and each row's place among them, -1 for null."""
    encoded = pc.dictionary_encode(values)
    hashes = [hashed(str(value).encode()) for value in encoded.dictionary.to_pylist()]
    return hashes, np.asarray(encoded.indices.fill_null(-1), np.int64)


def vector_hashes(vectors: NDArray[Any]) -> list[bytes]:
    """The 128-bit hash of every row's bits."""
    return [hashed(row.data) for row in np.ascontiguousarray(vectors)]


def hashed(value: Any) -> bytes:
    """The 128-bit hash of some bytes."""
    return blake2b(value, digest_size=HASH_BYTES).digest()
