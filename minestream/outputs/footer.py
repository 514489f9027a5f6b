"""The footer of a Parquet file whose row groups were encoded apart from each other, each as a file of its own.

A footer is a struct in the compact protocol of Thrift: numbered fields, each with a kind; numbers have as many bytes as
they need. What it says of a row group stays as it is, except where the pages are.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

MAGIC = b"PAR1"
TAIL_BYTES = 8  # the length of the footer, and MAGIC
FLAGS, BYTE, NUMBERS, DOUBLE, BINARY, LISTS, STRUCT = (1, 2), 3, (4, 5, 6), 7, 8, (9, 10), 12
ROWS, ROW_GROUPS = 3, 4  # fields of a footer
# The fields that are places in a file: of a row group, of its columns (1), of what a column is about (3).
PLACES: dict[int, Any] = {5: {}, 1: {2: {}, 3: {9: {}, 10: {}, 11: {}, 14: {}}}}


class Field(NamedTuple):
    """A field of a struct: its number, its kind, and where its value begins and ends."""

    number: int
    kind: int
    first: int
    end: int


def _number(data: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a place, without regard to its sign, and where it ends."""
    value = shift = 0
    while data[at] & 128:
        value, shift, at = value | (data[at] & 127) << shift, shift + 7, at + 1
    return value | data[at] << shift, at + 1


def _spelled(value: int) -> bytes:
    """A number as it is stored."""
    spelled = bytearray()
    while value > 127:
        spelled.append(value & 127 | 128)
        value >>= 7
    return bytes([*spelled, value])


def _fields(data: bytes, at: int) -> Iterator[Field]:
    """The fields of the struct that begins at a place."""
    number = 0
    while head := data[at]:
        if head >> 4:
            number, at = number + (head >> 4), at + 1
        else:
            twice, at = _number(data, at + 1)
            number = twice >> 1
        yield Field(number, head & 15, at, at := _end(data, at, head & 15))


def _elements(data: bytes, at: int) -> Iterator[Field]:
    """The elements of the list that begins at a place; none of them is a flag or a byte."""
    many, kind = data[at] >> 4, data[at] & 15
    many, at = _number(data, at + 1) if many == 15 else (many, at + 1)
    for number in range(many):
        yield Field(number, kind, at, at := _end(data, at, kind))


def _end(data: bytes, at: int, kind: int) -> int:
    """Where a value ends."""
    if kind in NUMBERS:
        return _number(data, at)[1]
    if kind == BINARY:
        size, at = _number(data, at)
        return at + size
    if kind == STRUCT:
        return max((field.end for field in _fields(data, at)), default=at) + 1
    if kind in LISTS:
        head = _number(data, at + 1)[1] if data[at] >> 4 == 15 else at + 1
        return max((element.end for element in _elements(data, at)), default=head)
    return at + {BYTE: 1, DOUBLE: 8, **dict.fromkeys(FLAGS, 0)}[kind]


def _places(data: bytes, value: Field, wanted: dict[int, Any]) -> Iterator[Field]:
    """The fields within a value that are places in the file."""
    if not wanted:
        yield value
        return
    for each in _elements(data, value.first) if value.kind in LISTS else [value]:
        for field in _fields(data, each.first):
            if field.number in wanted:
                yield from _places(data, field, wanted[field.number])


def row_group(file: memoryview) -> tuple[int, bytes]:
    """How many bytes of a file with one row group are before its footer, and what the footer says of the row group."""
    first = len(file) - TAIL_BYTES - int.from_bytes(file[-TAIL_BYTES:-4], "little")
    footer = bytes(file[first:-TAIL_BYTES])
    groups = next(field for field in _fields(footer, 0) if field.number == ROW_GROUPS)
    (only,) = _elements(footer, groups.first)
    return first, footer[only.first : only.end]


def moved(group: bytes, by: int) -> bytes:
    """What a footer says of a row group that lies so many bytes further on in a file."""
    pieces, done = [], 0
    for place in sorted(_places(group, Field(0, STRUCT, 0, len(group)), PLACES), key=lambda field: field.first):
        twice, _ = _number(group, place.first)  # a number that is not negative is stored as its double; 0: not known
        pieces += [group[done : place.first], _spelled(twice + 2 * by if twice else 0)]
        done = place.end
    return b"".join([*pieces, group[done:]])


def footer_of(empty: bytes, rows: int, groups: Iterable[bytes]) -> bytes:
    """What ends a file with these row groups, of what a file without rows is otherwise like it."""
    size, every = int.from_bytes(empty[-TAIL_BYTES:-4], "little"), list(groups)
    footer = empty[-TAIL_BYTES - size : -TAIL_BYTES]
    (counted,), (listed,) = ([f for f in _fields(footer, 0) if f.number == name] for name in (ROWS, ROW_GROUPS))
    head = bytes([len(every) << 4 | STRUCT]) if len(every) < 15 else bytes([15 << 4 | STRUCT]) + _spelled(len(every))
    pieces = [footer[: counted.first], _spelled(2 * rows), footer[counted.end : listed.first]]
    whole = b"".join([*pieces, head, *every, footer[listed.end :]])
    return whole + len(whole).to_bytes(4, "little") + MAGIC
