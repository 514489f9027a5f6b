"""Rows of several inputs in one sequence, read in pieces; and files of vectors paired with files of rows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

import pyarrow as pa

from minestream.errors import InputError
from minestream.inputs.decode import Place
from minestream.inputs.listing import MIXED
from minestream.inputs.opened import Input
from minestream.system.threads import ahead
from minestream.system.values import many

SHOWN_PAIRS = 8
_SAME_DIGITS = "write the numbers with as many digits everywhere, as in part_002 and part_010"


def _pieces(side: list[Input]) -> list[list[str]]:
    """File names relative to their common folder, split into texts (even positions) and numbers (odd ones)."""
    folder = os.path.commonpath([os.path.dirname(str(each.path)) for each in side])
    return [re.split("([0-9]+)", os.path.relpath(str(each.path), folder)) for each in side]


def _by_number(pieces: list[list[str]]) -> list[int]:
    """The positions of the files in the order of their numbers: part_2 before part_10."""
    return sorted(range(len(pieces)), key=lambda file: [int(p) if at % 2 else p for at, p in enumerate(pieces[file])])


def _numbers(pieces: list[list[str]]) -> list[tuple[int, ...]] | None:
    """The numbers in which the names differ, for each file; None if their texts differ, too."""
    if len({tuple(each[::2]) for each in pieces}) > 1:
        return None
    columns = zip(*([int(number) for number in each[1::2]] for each in pieces), strict=True)
    return list(zip(*(column for column in columns if len(set(column)) > 1), strict=True))


def _refuse_other_orders(inputs: list[Input], npys: list[Input]) -> None:
    """InputError if the numbers in the names give another pairing than the order of the names."""
    pieces = [_pieces(side) for side in (npys, inputs)]
    orders = [_by_number(each) for each in pieces]
    if len(npys) != len(inputs):  # rows are read in the order of the names
        for side, order in zip((npys, inputs), orders, strict=True):
            wrong = next((at for at, file in enumerate(order) if at != file), None)
            if wrong is not None:
                other = os.path.basename(side[order[wrong]].name)
                raise InputError(f"{side[wrong].name}: it comes before {other} by name, not by number", _SAME_DIGITS)
        return
    wrong = next((ours for ours, theirs in zip(*orders, strict=True) if ours != theirs), None)
    numbers = [_numbers(each) or [()] for each in pieces]
    if wrong is None and len(numbers[0][0]) == len(numbers[1][0]) > 0:
        apart = [[a - b for a, b in zip(*both, strict=True)] for both in zip(*numbers, strict=True)]
        wrong = next((file for file, each in enumerate(apart) if each != apart[0]), None)  # counted from 0 and from 1
    if wrong is not None:
        raise InputError(
            f"{npys[wrong].name}: by the order of the names it goes with {inputs[wrong].name}, by their numbers it "
            "does not",
            f"check that none is missing; {_SAME_DIGITS}",
        )


def paired(inputs: list[Input], npys: list[Input]) -> list[str]:
    """Notes that say which file of vectors goes with which file of rows, in the order of their names.

    Raises
    ------
    InputError
        If the numbers in the names say otherwise, or two files that go together have different numbers of rows, or
        lie in a store and on disk.
    """
    if len({isinstance(each.path, str) for each in (*inputs, *npys) if each.on_disk}) > 1:
        raise InputError(f"{inputs[0].name} and {npys[0].name}: a file of a store and a local one", MIXED)
    if len(npys) == len(inputs) == 1:
        return []
    if all(each.on_disk for each in inputs):
        _refuse_other_orders(inputs, npys)
    if len(npys) != len(inputs):  # then rows are aligned over all files
        return [f"vectors of {len(npys):,} .npy files go with the rows of {len(inputs):,} inputs, one after another"]
    pairs = list(zip(npys, inputs, strict=True))
    for vectors, rows in pairs:
        if rows.rows is not None and vectors.rows != rows.rows:
            raise InputError(
                f"{vectors.name}: {many(vectors.rows or 0, 'vector')}, {rows.name}: {many(rows.rows, 'row')}",
                "files that go together have a vector for each row: check that none is missing",
            )
    shown = [f"{os.path.basename(v.name)} with {os.path.basename(r.name)}" for v, r in pairs[:SHOWN_PAIRS]]
    more = f", and {len(pairs) - len(shown):,} more alike" if len(pairs) > len(shown) else ""
    return [f"vectors: {', '.join(shown)}{more}"]


class Lane:
    """The rows of several inputs in one sequence, read in pieces."""

    def __init__(self, inputs: list[Input], names: list[str], batch_rows: int, threads: int = 1, most: int = 1) -> None:
        self._batches = _placed(inputs, names, batch_rows, threads, most)
        self._current: tuple[Place, pa.RecordBatch] | None = None

    def ready(self) -> int:
        """The number of rows that can be taken now; 0 at the end."""
        if self._current is None:
            self._current = next(self._batches, None)
        return self._current[1].num_rows if self._current else 0

    def take(self, count: int) -> tuple[Place, pa.RecordBatch]:
        """The place and the batch of the next `count` rows, which must be ready."""
        assert self._current is not None
        place, batch = self._current
        left = replace(place, row=place.row + count, start_row=place.start_row + count), batch.slice(count)
        self._current = left if left[1].num_rows else None
        return place, batch.slice(0, count)

    def skip(self) -> int:
        """Skip the remaining rows, and return their number."""
        return sum(self.take(count)[1].num_rows for count in iter(self.ready, 0))


def _placed(
    inputs: list[Input], names: list[str], batch_rows: int, threads: int, most: int
) -> Iterator[tuple[Place, pa.RecordBatch]]:
    runs = (_read(run, names, batch_rows) for each in inputs for run in each.runs())
    batches: Iterator[tuple[Input, pa.RecordBatch]] = chain.from_iterable(runs)
    # What yields the rows of a stream may be bound to a thread, and a batch of what cannot be cut may be of any size.
    if all(each.cut for each in inputs):
        batches = ahead(runs, threads, most) if threads > 1 else ahead([batches])
    last: Input | None = None
    row = start_row = 0
    for each, batch in batches:
        if each is not last:
            start_row = start_row + row if each.start_row is None else each.start_row
            last, row = each, 0
        yield Place(each.name, each.row + row, start_row + row, cell=each.cell), batch
        row += batch.num_rows


def _read(each: Input, names: list[str], batch_rows: int) -> Iterator[tuple[Input, pa.RecordBatch]]:
    row = 0
    for batch in each.read(names, batch_rows):
        yield each, batch
        row += batch.num_rows
    if each.rows is not None and row != each.rows:
        raise InputError(f"{each.name}: {row} rows read, {each.rows} expected", "it has changed meanwhile")
