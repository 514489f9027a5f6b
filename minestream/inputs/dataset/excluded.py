"""The rows of each table that --exclude-rows names."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.errors import InputError
from minestream.inputs.dataset.labels import NO_ROWS
from minestream.inputs.dataset.table_reader import TableReader
from minestream.inputs.pairs import ListedRows, cast_ids, one_of
from minestream.system.values import many, verb


def excluded_rows(
    listed: ListedRows | None, readers: Sequence[TableReader], on_missing_ids: str, notes: list[str]
) -> list[NDArray[np.int64]]:
    """The source rows of each table that are excluded, int64[] for each reader.

    Raises
    ------
    InputError
        For a position outside the table, and for unknown ids; with --on-missing-ids drop these are only noted.
    """
    if listed is None:
        return [NO_ROWS for _ in readers]
    if listed.rows is not None:
        rows = readers[0].source_rows
        beyond = listed.rows[(listed.rows < 0) | (listed.rows >= rows)]
        if beyond.size:
            raise InputError(
                f"{listed.name}: row {beyond[0]} is not among the {rows:,} rows of the input",
                "check that it belongs to this input",
            )
        return [listed.rows for _ in readers]
    found = []
    unknown = np.ones(len(listed.ids or []), bool)
    for reader in readers:
        own = reader.known_ids
        values = None if own is None or listed.ids is None else cast_ids(listed.ids, own.type)
        if own is None or values is None:
            found.append(NO_ROWS)
            continue
        every = pa.concat_arrays([own, *(each.ids for each in reader.others)])
        unknown &= np.asarray(pc.is_null(pc.index_in(values, value_set=every)))
        found.append(reader.known_rows[np.asarray(pc.is_in(own, value_set=values))])
    if lost := int(unknown.sum()):
        if on_missing_ids == "error":
            first = listed.ids[int(np.flatnonzero(unknown)[0])].as_py() if listed.ids is not None else None
            raise InputError(
                f"{listed.name}: {lost:,} of {many(unknown.size, 'id')} {verb(lost, 'are')} not among the rows, the "
                f"first is {first!r}; these are {one_of(readers[0].known_ids)}",
                "check that it belongs to this input, or leave such rows out with --on-missing-ids drop",
            )
        notes.append(f"{many(lost, 'id')} of --exclude-rows {verb(lost, 'are')} unknown")
    return found
