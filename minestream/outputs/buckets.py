"""Buckets of hardness: a column that says, of each row, in which part of all rows from easy to hard it lies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream.outputs.parquet import part_tables
from minestream.system import ragged

BUCKET = "bucket"
Numbers = NDArray[np.float64]


def _by_rank(table: pa.Table) -> Numbers:
    """Minus the place among the negatives of its pair."""
    anchor, positive = (table[name].to_numpy() for name in (_anchor(table), "positive_row"))
    return -ragged.nth_of_run(anchor, positive).astype(np.float64)


def _by_similarity(table: pa.Table) -> Numbers:
    scored = "score_an" in table.column_names
    values = _floats(table, "score_an" if scored else "distance_an")
    return values if scored else -values


def _by_loss(table: pa.Table) -> Numbers:
    return _floats(table, "loss")


def _floats(table: pa.Table, name: str) -> Numbers:
    return np.asarray(table[name].to_numpy(), np.float64)


def _anchor(table: pa.Table) -> str:
    return "query_row" if "query_row" in table.column_names else "anchor_row"


# How hard a row is, by each of the choices of --by: the larger the harder.
HARDNESS: dict[str, Callable[[pa.Table], Numbers]] = {
    "rank": _by_rank, "similarity": _by_similarity, "loss": _by_loss
}  # fmt: skip


def bucketed(paths: Sequence[Path], buckets: int, by: str) -> Iterator[pa.Table]:
    """The rows of parts with a column bucket, int32: 0, the easiest, to `buckets` - 1; equal rows are in one bucket.

    Takes 8 bytes a row.
    """
    needed = {"query_row", "anchor_row", "positive_row", "distance_an", "score_an", "loss"}
    hardness = [np.empty(0)]
    for path in paths:
        names = [name for name in pq.read_schema(path).names if name in needed]
        hardness.append(HARDNESS[by](pq.read_table(path, columns=names)))
    values = np.concatenate(hardness)
    edges = np.quantile(values, np.arange(1, buckets) / buckets) if values.size else np.empty(0)
    bucket, first = np.searchsorted(edges, values, side="right").astype(np.int32), 0
    for table in chain([pq.read_schema(path).empty_table() for path in paths[:1]], part_tables(paths)):
        yield table.append_column(BUCKET, pa.array(bucket[first : first + table.num_rows]))
        first += table.num_rows
