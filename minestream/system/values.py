"""Text for values in reports: sizes, counts, nested tables."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from minestream.system.progress import short_time

Row = tuple[str, str] | tuple[str, str, str]  # what, how much, and a remark


def value_rows(values: Mapping[str, Any]) -> list[Row]:
    """Rows of text for values by name; a nested table is indented below its name."""
    rows: list[Row] = []
    for name, value in values.items():
        nested = value_rows(value) if isinstance(value, Mapping) else []
        rows.append((name.replace("_", " "), "" if nested else plain_value(name, value)))
        rows.extend((f"  {inner}", text) for inner, text, *_ in nested)
    return rows


def given_of(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not None, in nested tables too."""
    found = {name: given_of(value) if isinstance(value, Mapping) else value for name, value in values.items()}
    return {name: value for name, value in found.items() if value is not None}


def plain_value(name: str, value: object) -> str:
    """The text of a value; the end of its name tells the unit."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(plain_value("", item) for item in value) or "none"
    if not isinstance(value, int | float):
        return str(value)
    if name.endswith("bytes"):
        return size_text(value)
    if name.endswith("seconds"):
        return short_time(value)
    return f"{value:,}" if isinstance(value, int) and name != "seed" else f"{value:g}"


def many(count: int, noun: str) -> str:
    """A count of things, whose plural ends in s: 1 row, 1,234 rows, 2 queries."""
    return f"{count:,} {noun if count == 1 else re.sub('y$', 'ie', noun) + 's'}"


def verb(count: int, plural: str) -> str:
    """The verb of so many things: of one is for are, has for have, does for do, lies for lie, carries for carry."""
    one = {"are": "is", "have": "has", "do": "does"}.get(plural, re.sub("y$", "ie", plural) + "s")
    return one if count == 1 else plural


def size_text(size: float) -> str:
    """The text of a size in bytes: 512 B, 80.1 KiB, 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{size:.{0 if unit == 'B' else 1}f} {unit}"
