"""Candidates from elsewhere: a run as retrieval tools write it, or a table, each query's candidates in order."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from minestream.errors import InputError
from minestream.inputs.files import open_inputs
from minestream.inputs.pairs import (
    LEFT,
    RIGHT,
    ListedPairs,
    column_named,
    gathered,
    grades_of,
    ids_of,
    is_text_table,
    lines_of,
    refuse_values,
)
from minestream.system.stores import shown

FIELDS = {6: "query Q0 document rank score tag (TREC)", 3: "query document rank (MS MARCO)"}


def read_run(given: Any) -> ListedPairs:
    """Read candidates; the grade of a pair is its place: what is smaller comes first, of equal ones the first line.

    Raises
    ------
    InputError
        For lines or columns that are none of a run, null ids, ranks or scores that are no numbers, no candidates.
    """
    if isinstance(given, list | tuple) and len(given) == 1:
        given = given[0]
    if is_text_table(given, ".run"):
        table, name = _of_lines(given), shown(given)
    else:
        refuse_values(given, "--candidates", '{"query_id": [...], "document_id": [...], "rank": [...]})')
        opened = open_inputs(given)
        name, names = opened[0].name, opened[0].schema.names
        columns = {
            "left": column_named(names, LEFT, "left", name), "right": column_named(names, RIGHT, "right", name)
        }  # fmt: skip
        columns |= {each: each for each in ("rank", "score") if each in names}
        table = pa.table([gathered(opened, column) for column in columns.values()], list(columns))
    if not table.num_rows:
        raise InputError(f"{name}: no candidates (--candidates)", "check how it was written")
    left, right = (ids_of(table, column, name) for column in ("left", "right"))
    place = np.arange(len(left), dtype=np.float64)
    if "rank" in table.column_names:
        place = grades_of(table["rank"], name)
    elif "score" in table.column_names:
        place = -grades_of(table["score"], name)
    return ListedPairs(name, left, right, place)


def _of_lines(given: Any) -> pa.Table:
    """The columns left, right and rank of a file of lines."""
    path = shown(given)
    lines = lines_of(given, path)
    wide = len(lines[0][1]) if lines else 6
    bad = next((number for number, fields in lines if len(fields) != wide or wide not in FIELDS), None)
    if bad is not None:
        raise InputError(f"{path}: line {bad + 1} is not `{FIELDS.get(wide, FIELDS[6])}`", f"or: {FIELDS[3]}")
    rank = 3 if wide == 6 else 2
    return pa.table({
        "left": [fields[0] for _, fields in lines], "right": [fields[rank - 1] for _, fields in lines],
        "rank": [fields[rank] for _, fields in lines],
    })  # fmt: skip
