"""CRC-32 of decoded columns and of rows."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat


class Checksum:
    """A running CRC-32 of a column that does not depend on how its rows are cut.

    A column is several streams of numbers (validity, lengths, values), each with its own CRC-32; the checksum is
    the CRC-32 of their little-endian 4-byte values. Cost: one pass over the bytes, interpreter lock released.
    """

    def __init__(self) -> None:
        self._running: list[int] = []

    def add(self, column: np.ndarray | pa.Array) -> None:
        """Add rows of a C-contiguous matrix, or of a plain array of ints, bools, strings, or lists of them."""
        streams = [column] if isinstance(column, np.ndarray) else list(_streams(column))
        self._running = [
            zlib.crc32(np.ascontiguousarray(stream).reshape(-1).view(np.uint8).data, crc)
            for stream, crc in zip(streams, self._running or [0] * len(streams), strict=True)
        ]

    def value(self) -> int:
        """The checksum so far, in [0, 2^32)."""
        return zlib.crc32(struct.pack(f"<{len(self._running)}I", *self._running))


def _streams(array: pa.Array) -> Iterator[np.ndarray]:
    """The numbers that say what a plain array holds, nulls as zero or empty, whatever its offset."""
    yield array.is_valid().to_numpy(zero_copy_only=False)
    if pat.is_list(array.type):
        yield pc.fill_null(pc.list_value_length(array), 0).to_numpy()
        yield from _streams(array.flatten())
    elif pat.is_string(array.type):
        filled = pc.fill_null(array, "")
        yield pc.binary_length(filled).to_numpy()
        yield _text(filled)
    else:
        yield pc.fill_null(array, False if pat.is_boolean(array.type) else 0).to_numpy(zero_copy_only=False)


def _text(array: pa.Array) -> np.ndarray:
    """The bytes of all strings of an array without nulls, one after another."""
    _, ends, text = array.buffers()
    if len(array) == 0 or text is None:
        return np.zeros(0, np.uint8)
    first, last = np.frombuffer(ends, np.int32)[[array.offset, array.offset + len(array)]]
    return np.frombuffer(text, np.uint8)[first:last]


class RowsCrc:
    """CRC-32 of rows, the same however they are cut into tables.

    Each column is a fixed number of byte streams with a running CRC each: validity (one byte a row), then
    values (nulls as zero bytes), or int32 lengths and the streams of the children. Their CRC is the value.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._streams = [[0 for _ in byte_streams(pa.array([], field.type))] for field in schema]

    def update(self, table: pa.Table) -> None:
        """Take further rows."""
        for running, column in zip(self._streams, table.columns, strict=True):
            for chunk in column.chunks:
                for place, data in enumerate(byte_streams(chunk)):
                    running[place] = zlib.crc32(data, running[place])

    def value(self) -> str:
        """Eight hexadecimal digits for the rows so far."""
        running = np.array([crc for column in self._streams for crc in column], dtype="<u4")
        return f"{zlib.crc32(running.tobytes()):08x}"


def byte_streams(array: pa.Array) -> Iterator[Any]:
    """The bytes of one chunk of a column; the number of streams depends on the type alone."""
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
        filled = array.cast(pa.large_binary()).fill_null(b"")
        yield pc.binary_length(filled).cast(pa.int32()).to_numpy()
        _, offsets, letters = filled.buffers()
        ends = np.frombuffer(offsets or bytes(8), np.int64)[filled.offset : filled.offset + len(array) + 1]
        yield memoryview(letters or b"")[ends[0] : ends[-1]]
    else:
        plain = array.cast(pa.uint8()) if pat.is_boolean(kind) else array
        width = plain.type.bit_width // 8
        start, size = plain.offset * width, len(plain) * width
        values = np.frombuffer(plain.buffers()[1] or b"", np.uint8)[start : start + size].reshape(-1, width)
        yield np.where(valid[:, None], values, np.uint8(0)) if plain.null_count else values
