"""CRC-32 of columns and of rows, which does not depend on how they are cut into pieces.

A column is a fixed number of byte streams with a running CRC each: validity (one byte a row), then values (nulls as
zero bytes), or int32 lengths and the streams of the children. The CRC-32 of those CRCs, as little-endian 4-byte values,
is the checksum. Cost: one pass over the bytes, interpreter lock released.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import NDArray

LEVEL_BYTES = 6
POLYNOMIAL = 0xEDB88320  # of CRC-32


class Checksum:
    """A running CRC-32 of a column."""

    def __init__(self) -> None:
        self.running: list[int] = []
        self._sizes: list[int] = []

    def add(self, column: np.ndarray | pa.Array) -> None:
        """Add rows: an Arrow array, or a NumPy array, whose values are one stream."""
        streams: list[Any] = (
            [np.ascontiguousarray(column)] if isinstance(column, np.ndarray) else list(byte_streams(column))
        )
        nothing = [0] * len(streams)
        sizes = (memoryview(stream).nbytes for stream in streams)
        self._sizes = [sum(each) for each in zip(self._sizes or nothing, sizes, strict=True)]
        self.running = [zlib.crc32(*each) for each in zip(streams, self.running or nothing, strict=True)]

    def join(self, other: Checksum) -> None:
        """Add the rows that another checksum was made of."""
        nothing = [0] * len(other.running)
        both = zip(self.running or nothing, other.running, other._sizes, strict=True)
        self.running = [_joined(*each) for each in both]
        self._sizes = [sum(each) for each in zip(self._sizes or nothing, other._sizes, strict=True)]

    def value(self) -> int:
        """The checksum so far, in [0, 2^32)."""
        return _crc_of(self.running)


class RowsCrc:
    """A running CRC-32 of the rows of tables."""

    def __init__(self, schema: pa.Schema) -> None:
        self._columns = [Checksum() for _ in schema]
        for crc, kind in zip(self._columns, schema.types, strict=True):
            crc.add(pa.array([], kind))

    def update(self, table: pa.Table) -> None:
        """Take further rows."""
        for crc, column in zip(self._columns, table.columns, strict=True):
            for chunk in column.chunks:
                crc.add(chunk)

    def join(self, other: RowsCrc) -> None:
        """Take the rows that another one has taken."""
        for own, each in zip(self._columns, other._columns, strict=True):
            own.join(each)

    def value(self) -> str:
        """Eight hexadecimal digits for the rows so far."""
        return f"{_crc_of(crc for column in self._columns for crc in column.running):08x}"


def bytes_of_rows(table: pa.Table) -> NDArray[np.int64]:
    """What every row takes, int64[rows], which does not depend on how the rows are cut into pieces.

    An element of a list takes LEVEL_BYTES more, as it does while Parquet is written.
    """
    total = np.zeros(table.num_rows, np.int64)
    for column in table.columns:
        first = 0
        for chunk in column.chunks:
            total[first : first + len(chunk)] += _bytes_of_values(chunk)
            first += len(chunk)
    return total


def _bytes_of_values(array: pa.Array) -> Any:
    kind = array.type
    if pat.is_null(kind):
        return 0
    if pat.is_struct(kind):
        return sum(map(_bytes_of_values, array.flatten()))
    if pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind):
        values, lengths = array.flatten(), pc.list_value_length(array).fill_null(0).to_numpy()
        each = _bytes_of_values(values) + LEVEL_BYTES
        if isinstance(each, int):
            return lengths.astype(np.int64) * each + 4
        ends = np.cumsum(lengths, dtype=np.int64)
        total = np.append(0, np.cumsum(each))
        return np.diff(total[ends], prepend=0) + 4
    if pat.is_string(kind) or pat.is_large_string(kind) or pat.is_binary(kind) or pat.is_large_binary(kind):
        return pc.binary_length(array).fill_null(0).to_numpy().astype(np.int64) + 4
    return -(-kind.bit_width // 8)


def _crc_of(crcs: Iterable[int]) -> int:
    return zlib.crc32(np.array([*crcs], "<u4").tobytes())


def _joined(first: int, second: int, size: int) -> int:
    """The CRC-32 of bytes and, after them, `size` others, of the CRC-32 of each."""
    return _times(_zeros(size), first) ^ second


@lru_cache(1_024)
def _zeros(size: int) -> int:
    """What a CRC-32 is multiplied by where `size` zero bytes follow: x^(8 size), of the ring below."""
    power, square = 1 << 31, 1 << 23
    while size:
        power = _times(square, power) if size & 1 else power
        square, size = _times(square, square), size >> 1
    return power


def _times(left: int, right: int) -> int:
    """The product of polynomials of bits, the highest power last, modulo that of CRC-32."""
    product = 0
    for bit in range(31, -1, -1):
        product ^= right if left >> bit & 1 else 0
        right = right >> 1 ^ (POLYNOMIAL if right & 1 else 0)
    return product


def byte_streams(array: pa.Array) -> Iterator[Any]:
    """The byte streams of one chunk of a column; their number depends only on the type."""
    kind = array.type
    valid = array.is_valid().to_numpy(zero_copy_only=False).astype(np.uint8)
    yield valid
    if pat.is_null(kind):
        return
    if pat.is_struct(kind):
        for child in array.flatten():
            yield from byte_streams(child)
    elif pat.is_list(kind) or pat.is_large_list(kind) or pat.is_fixed_size_list(kind):
        yield pc.list_value_length(array).cast(pa.int32()).fill_null(0).to_numpy()
        yield from byte_streams(array.flatten())
    elif pat.is_string(kind) or pat.is_large_string(kind) or pat.is_binary(kind) or pat.is_large_binary(kind):
        filled = array.fill_null(pa.scalar(b"").cast(kind))
        yield pc.binary_length(filled).cast(pa.int32()).to_numpy()
        _, offsets, letters = filled.buffers()
        width = np.int64 if pat.is_large_string(kind) or pat.is_large_binary(kind) else np.int32
        ends = np.frombuffer(offsets or bytes(8), width)[filled.offset : filled.offset + len(array) + 1]
        yield memoryview(letters or b"")[ends[0] : ends[-1]]
    else:
        plain = array.cast(pa.uint8()) if pat.is_boolean(kind) else array
        width = plain.type.bit_width // 8
        start, size = plain.offset * width, len(plain) * width
        values = np.frombuffer(plain.buffers()[1] or b"", np.uint8)[start : start + size].reshape(-1, width)
        yield np.where(valid[:, None], values, np.uint8(0)) if plain.null_count else values
