"""Cuts the anchors into shards by data and config alone, and the work inside them by memory; says what it will take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.config.mine_config import MineConfig
from minestream.config.resources import Resources, thread_count
from minestream.errors import CapacityError
from minestream.search.searcher import MIN_BLOCK_ROWS
from minestream.system import ragged

PART_ANCHORS = 16_384
PART_ROWS = 262_144  # projected rows of a part: above it the part is halved
ALL_NEGATIVES = 1_024  # what -k 0 counts as, per row; few anchors have so many
ALL_PART_ROWS = 8 * PART_ROWS  # so that of such rows more may be projected
ROW_STATE_BYTES = 160  # of every row: label, id, order, and the terms of its codes


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes
    ----------
    shards : tuple of (int, int)
        Ranges of anchors, one a part.
    facts : dict
        What is printed and recorded: numbers by name, with units in the suffixes, by the data and the options alone.
    means : dict
        By what means: threads and memory as they are at the moment.
    """

    shards: tuple[tuple[int, int], ...]
    facts: dict[str, Any]
    means: dict[str, Any]


def projected_rows(config: MineConfig, positives: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most how many rows each anchor gives, int64[A], from its number of positives."""
    most = positives if config.positives == "all" else np.minimum(positives, config.positives_per_anchor)
    wanted = config.negatives
    if config.emit == "pairs":
        return most + (wanted or ALL_NEGATIVES)
    if config.emit == "tuples":
        return most
    rows = most * wanted
    return rows if config.negatives_per_anchor is None else np.minimum(rows, config.negatives_per_anchor)


def cut_shards(config: MineConfig, positives: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Ranges of anchors: PART_ANCHORS each, halved while their projected rows exceed PART_ROWS (or ALL_PART_ROWS)."""
    most_rows = PART_ROWS if config.negatives else ALL_PART_ROWS
    negatives = max(1, config.negatives or ALL_NEGATIVES)
    most = positives if config.positives == "all" else np.minimum(positives, config.positives_per_anchor)
    total = ragged.starts(most * negatives)
    shards, first = [], 0
    while first < positives.size:
        size = PART_ANCHORS
        while size > 1 and total[min(first + size, positives.size)] - total[first] > most_rows:
            size //= 2
        end = min(first + size, positives.size)
        shards.append((first, end))
        first = end
    return tuple(shards) or ((0, 0),)


def make_plan(
    config: MineConfig,
    resources: Resources,
    *,
    rows: int,
    dimension: int,
    row_bytes: int,
    positives: NDArray[np.int64],
    pairs: int,
    in_memory: bool,
    screens: tuple[str, ...],
    budget_bytes: int,
) -> Plan:
    """Cut the work and project it.

    Raises
    ------
    CapacityError
        When more than --max-rows may come out, or the smallest step does not fit the memory.
    """
    shards = cut_shards(config, positives)
    most_rows = int(projected_rows(config, positives).sum())
    if resources.max_rows is not None and most_rows > resources.max_rows:
        raise CapacityError(
            f"up to {most_rows:,} rows would be written, more than --max-rows {resources.max_rows:,}",
            "lower --negatives or --positives-per-anchor, thin the anchors (--anchors), or raise --max-rows",
        )
    held = rows * row_bytes if in_memory else 0
    codes = rows * ROW_STATE_BYTES
    step = MIN_BLOCK_ROWS * (row_bytes + 8 * dimension + 64)
    if held + codes + step > budget_bytes:
        raise CapacityError(
            f"--memory of {budget_bytes:,} bytes is too small: labels, ids and order take {codes:,}, "
            f"vectors {held:,}, one step of the sweep {step:,}",
            "raise --memory",
        )
    return Plan(
        shards,
        {
            "rows": rows, "dimension": dimension, "anchors": int(positives.size), "pairs_to_compute": pairs,
            "shards": len(shards), "rows_at_most": most_rows, "vectors_bytes": rows * row_bytes,
        },
        {
            "vectors_in": "memory" if in_memory else "scratch", "memory_bytes": budget_bytes,
            "threads": thread_count(resources), "screen": screens[0] if screens else "scan",
        },
    )  # fmt: skip
