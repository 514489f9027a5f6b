"""Rows as they are read: a batch of them, and what else is found in the rows of some files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from minestream.inputs.decode import Place
from minestream.system.checksums import Checksum

Sums = dict[str, dict[str, Checksum]]  # the running checksums of each file, by name of the column or its role


@dataclass(frozen=True)
class RowBatch:
    """Consecutive rows of the source, m of them."""

    rows: np.ndarray  # (m,) int64, ascending: positions in the unfiltered source
    vectors: np.ndarray  # (m, d), as stored, C-contiguous, possibly read-only; zeros in bad rows
    labels: pa.Array | None  # ints, strings, bools, or lists of them
    ids: pa.Array | None  # int64 or string, never null
    groups: pa.Array | None  # ints, strings or bools
    carry: pa.RecordBatch | None  # the carried columns
    bad: np.ndarray  # (m,) bool; all False unless bad rows are dropped
    versions: pa.Array | None = None  # numbers, times or strings
    kinds: Mapping[str, np.ndarray] = field(default_factory=dict)  # positions of the bad rows in the batch, by kind
    parents: tuple[pa.Array, ...] = ()  # of hierarchical labels: the coarser levels, as labels


class Named(NamedTuple):
    """Some rows with their ids, and their versions if there is such a column."""

    rows: np.ndarray  # (m,) int64
    ids: pa.Array
    versions: pa.Array | None


@dataclass
class Checked:
    """What was found in aligned pieces of rows: the batch of those that meet the condition, if any does."""

    rows: int  # of them all
    ends: dict[str, int]  # the rows of each file up to their end
    batch: RowBatch | None = None
    sums: Sums = field(default_factory=dict)
    others: Sums = field(default_factory=dict)
    outside: list[Named] = field(default_factory=list)


def add_to(sums: Sums, place: Place, columns: Mapping[str, Any]) -> None:
    """Add columns to the checksums of the file that holds them; a column that is None is left out."""
    of_file = sums.setdefault(place.file, {})
    for name, column in columns.items():
        if column is not None:
            of_file.setdefault(name, Checksum()).add(column)
