"""How mined tables are compared: every column, every row, in order, by value."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def table_columns(table: pa.Table) -> dict[str, list[Any]]:
    """A table as Python values by column."""
    return {name: table[name].to_pylist() for name in table.column_names}


def first_difference(expected: dict[str, list[Any]], table: pa.Table) -> str:
    """Where a table first differs from the reference's columns, in words; "" when it does not."""
    if list(expected) != table.column_names:
        return f"columns {table.column_names}, expected {list(expected)}"
    found = table_columns(table)
    for name, values in expected.items():
        if len(values) != len(found[name]):
            return f"{name}: {len(found[name])} rows, expected {len(values)}"
        wanted, had = plain(values), plain(found[name])
        if wanted == had:
            continue
        for row, (want, have) in enumerate(zip(wanted, had, strict=True)):
            if want != have:
                others = {key: (expected[key][row], found[key][row]) for key in expected}
                return f"{name}, row {row}: {have!r}, expected {want!r}; (expected, found) by column: {others}"
    return ""


PLAIN = frozenset({int, float, str, bool, type(None)})


def plain(value: Any) -> Any:
    """NumPy scalars, and lists of them, as Python values."""
    if isinstance(value, list | tuple):
        return [each if type(each) in PLAIN else plain(each) for each in value]
    return value.item() if hasattr(value, "item") else value


def assert_same_rows(expected: dict[str, list[Any]], table: pa.Table) -> None:
    """Fail, naming the first difference, unless the table holds exactly the expected columns and rows."""
    difference = first_difference(expected, table)
    assert not difference, difference
