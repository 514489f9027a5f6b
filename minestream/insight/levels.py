"""How the rows of an input are spread over its labels, level by level."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.inputs.dataset.labels import Labels


def levels_of(labels: Labels, leaf: str | None) -> list[dict[str, Any]]:
    """An entry for each level of labels, the coarsest first; `leaf` names the finest, which most labels have alone.

    A value is the path down to its level; rows of several labels count for each.
    """
    rows, codes = labels.members()
    found = [_entry(str(leaf), codes, labels.code.size, int((labels.code < 0).sum()))]
    for name, path in reversed(list(zip(labels.level_names, labels.levels, strict=True))):
        known = np.unique(np.stack([path[rows], codes])[:, path[rows] >= 0], axis=1)  # a path, and a leaf under it
        leaves = np.bincount(known[0], minlength=int(path.max(initial=0)) + 1)
        entry = _entry(name, path[path >= 0], path.size, int((path < 0).sum()))
        found.insert(0, entry | {"alone_rows": int((leaves[path[path >= 0]] == 1).sum())})
    return found


def _entry(level: str, codes: NDArray[np.int32], rows: int, unknown: int) -> dict[str, Any]:
    """What there is to say of a level; every known value stands once in `codes` for each of its rows."""
    counts = np.bincount(codes, minlength=1)
    largest = int(counts.max())
    return {
        "level": level, "values": int((counts > 0).sum()), "null_rows": unknown, "largest_rows": largest,
        "largest_share": largest / max(1, rows), "alone_rows": 0,
    }  # fmt: skip


def level_text(entry: dict[str, Any]) -> tuple[str, str, str]:
    """An entry in words: the level, how many values, and what is uneven about them."""
    alone, unknown = entry["alone_rows"], entry["null_rows"]
    said = [f"the largest has {entry['largest_share']:.1%} of the rows ({entry['largest_rows']:,})"]
    said += [f"{alone:,} rows under a value with one leaf: no negatives at it"] * bool(alone)
    said += [f"{unknown:,} without one"] * bool(unknown)
    return entry["level"], f"{entry['values']:,} values", "; ".join(said)
