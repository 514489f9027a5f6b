"""The rows of several inputs one after another, taken in pieces: so that those of two files can be taken together."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from minestream.decode import Place
from minestream.errors import InputError
from minestream.inputs import Input


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
