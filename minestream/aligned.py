"""The rows of several inputs one after another, taken in pieces: so that those of two files can be taken together."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

import pyarrow as pa

from minestream.decode import Place
from minestream.errors import InputError
from minestream.inputs import Input

SHOWN_PAIRS = 3


def _numbers(each: Input) -> tuple[int, ...]:
    """The numbers in the name of a file."""
    return tuple(int(digits) for digits in re.findall("[0-9]+", os.path.basename(each.name)))


def paired(inputs: list[Input], npys: list[Input]) -> list[str]:
    """Which file of vectors goes with which file of rows, in the order of their names, as notes.

    Raises
    ------
    InputError
        Where the numbers in the names say otherwise, or two files that go together have different rows.
    """
    if len(npys) == len(inputs) == 1:
        return []
    if len(npys) != len(inputs):  # cut in another way: rows are aligned over all files
        return [f"vectors of {len(npys):,} .npy files go with the rows of {len(inputs):,} inputs, one after another"]
    pairs = list(zip(npys, inputs, strict=True))
    by_number = [sorted(side, key=_numbers) for side in (npys, inputs)]
    for vectors, rows in pairs if by_number != [npys, inputs] else []:
        if _numbers(vectors) != _numbers(rows):
            raise InputError(
                f"{vectors.name}: by the order of the names it goes with {rows.name}, by their numbers it does not",
                "write the numbers of both with as many digits, as in part_002 and part_010",
            )
    for vectors, rows in pairs:
        if rows.rows is not None and vectors.rows != rows.rows:
            raise InputError(
                f"{vectors.name}: {vectors.rows:,} vectors, {rows.name}: {rows.rows:,} rows",
                "files that go together have a vector for each row: check that none is missing",
            )
    shown = [f"{os.path.basename(v.name)} with {os.path.basename(r.name)}" for v, r in pairs[:SHOWN_PAIRS]]
    more = f", and {len(pairs) - len(shown):,} more alike" if len(pairs) > len(shown) else ""
    return [f"vectors: {', '.join(shown)}{more}"]


class Lane:
    """The rows of several inputs, one after another, to be taken in pieces."""

    def __init__(self, inputs: list[Input], names: list[str], batch_rows: int) -> None:
        self._batches = _placed(inputs, names, batch_rows)
        self._current: tuple[Place, pa.RecordBatch] | None = None

    def ready(self) -> int:
        """How many rows can be taken at once; 0 at the end."""
        if self._current is None:
            self._current = next(self._batches, None)
        return self._current[1].num_rows if self._current else 0

    def take(self, count: int) -> tuple[Place, pa.RecordBatch]:
        """The next `count` rows, at most as many as are ready, and where they come from."""
        assert self._current is not None
        place, batch = self._current
        left = Place(place.file, place.row + count, place.start_row + count), batch.slice(count)
        self._current = left if left[1].num_rows else None
        return place, batch.slice(0, count)

    def skip(self) -> int:
        """Pass over the rows that are left: how many."""
        return sum(self.take(count)[1].num_rows for count in iter(self.ready, 0))


def _placed(inputs: list[Input], names: list[str], batch_rows: int) -> Iterator[tuple[Place, pa.RecordBatch]]:
    start_row = 0
    for each in inputs:
        row = 0
        start_row = start_row if each.start_row is None else each.start_row
        for batch in each.read(names, batch_rows):
            yield Place(each.name, each.row + row, start_row + row), batch
            row += batch.num_rows
        if each.rows is not None and row != each.rows:
            raise InputError(f"{each.name}: {row} rows read, {each.rows} expected", "it has changed meanwhile")
        start_row += row
