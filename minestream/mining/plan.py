"""The plan of a run: the anchors cut into shards, by data and configuration alone, and what the run will take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.config.derived import most_taken, ranks_listed, ranks_read, reserve, teacher_count
from minestream.config.memory_plan import (
    ANCHOR_BYTES,
    ANSWER_BYTES,
    FOUND_BYTES,
    PAIR_BYTES,
    PAIR_ROW_BYTES,
    PART_ROW_BYTES,
)
from minestream.config.mine_config import MineConfig
from minestream.config.resources import Resources
from minestream.config.rules import EMITS
from minestream.errors import CapacityError
from minestream.outputs.parquet import ROW_GROUP_BYTES
from minestream.outputs.rows import piece_rows
from minestream.search.searcher import Searcher
from minestream.system import ragged
from minestream.system.values import many

PART_ANCHORS = 16_384
PART_ROWS = 262_144  # projected rows of a part: with more it is halved
ALL_NEGATIVES = 1_024  # negatives of a pair to plan for with -k 0; few pairs have so many
LISTED_TIMES = 8  # so many times PART_ROWS with -k 0, and of negatives that --within-top lists
ALL_PART_ROWS = LISTED_TIMES * PART_ROWS
CARRIED_BYTES = 1_024  # what a row is taken to carry before it is read
FEWER = ", or take fewer pairs: --positives-per-anchor, --negatives, --skip, --within-top"


def answer_bytes(config: MineConfig, anchors: int, pairs: int) -> int:
    """The bytes that anchors and their pairs take while they are mined, or 0 if that cannot be known: with -k 0."""
    skipped = config.skip * (2 if config.pick in ("random", "weighted") else 1)  # what is skipped has lists of its own
    window = ranks_read(config)
    each = PAIR_BYTES + ANSWER_BYTES * (reserve(config) + skipped if window is None else window)
    each += FOUND_BYTES * config.negatives * teacher_count(config) if config.taught else 0
    ranks = ANSWER_BYTES * ranks_listed(config)
    return anchors * (ANCHOR_BYTES + ranks) + pairs * each if config.negatives else 0


def part_bytes(config: MineConfig, pairs: int, rows: int, carried: int) -> int:
    """What a part of so many pairs and rows takes when it is mined and written.

    Its answers, a row group of it, and the rows that are made at a time; `carried`: bytes of an input row.
    """
    each = FOUND_BYTES + (PAIR_ROW_BYTES if config.emit == "pairs" else 0)
    row = PART_ROW_BYTES + 3 * carried
    group = min(rows * row, ROW_GROUP_BYTES * (13 if config.emit == "tuples" and config.carry else 10) // 8)
    listed = FOUND_BYTES // 2 * (ranks_read(config) or 0)
    taken = max(reserve(config), most_taken(config))
    return pairs * (taken * each + listed) + group + 2 * min(rows, piece_rows(carried)) * row


def largest_part(config: MineConfig, rows: int) -> tuple[int, int]:
    """The most that a part of a dataset of `rows` rows can take: answer_bytes and part_bytes; see cut_shards."""
    anchors, negatives = min(rows, PART_ANCHORS), most_taken(config) or ALL_NEGATIVES
    per_anchor = EMITS[config.emit].per_anchor
    each = 1 if per_anchor else rows if config.positives == "all" else config.positives_per_anchor
    listed = _listed(config) if config.emit == "lists" else max(LISTED_TIMES * negatives, _listed(config))
    pairs = min(anchors * each, max(1, ALL_PART_ROWS // listed))
    carried = CARRIED_BYTES * bool(config.carry)
    return answer_bytes(config, anchors, pairs), part_bytes(config, pairs, pairs * negatives, carried)


@dataclass(frozen=True)
class Plan:
    """What a run will do.

    Attributes
    ----------
    shards : tuple of (int, int)
        Ranges of anchors, one for each part.
    facts : dict
        What is printed and recorded, by name, with units in the suffixes; depends on data and options alone.
    means : dict
        Threads, memory and screen of this run; they depend on the machine.
    """

    shards: tuple[tuple[int, int], ...]
    facts: dict[str, Any]
    means: dict[str, Any]


def projected_rows(config: MineConfig, positives: NDArray[np.int64]) -> NDArray[np.int64]:
    """The most output rows that each anchor can have, int64[A], from its number of positives."""
    most = positives if config.positives == "all" else np.minimum(positives, config.positives_per_anchor)
    wanted = most_taken(config)
    if config.emit == "pairs":
        return most + (wanted or ALL_NEGATIVES)
    if config.emit in ("tuples", "lists"):
        return most if config.emit == "tuples" else np.ones_like(most)
    rows = most * wanted
    return rows if config.negatives_per_anchor is None else np.minimum(rows, config.negatives_per_anchor)


def _listed(config: MineConfig) -> int:
    """How many negatives a pair counts with where parts are cut: ALL_PART_ROWS of them are many."""
    if config.emit == "lists":
        return config.negatives
    return max(LISTED_TIMES * most_taken(config) or ALL_NEGATIVES, ranks_read(config) or 0)


def cut_shards(config: MineConfig, positives: NDArray[np.int64]) -> tuple[tuple[int, int], ...]:
    """Ranges of anchors: PART_ANCHORS each, halved while their projected rows exceed PART_ROWS (or ALL_PART_ROWS)."""
    most = positives if config.positives == "all" else np.minimum(positives, config.positives_per_anchor)
    listed = most + config.negatives if config.emit == "lists" else most * _listed(config)
    total = ragged.starts(np.maximum(listed, ranks_listed(config)))
    shards, first = [], 0
    while first < positives.size:
        size = PART_ANCHORS
        while size > 1 and total[min(first + size, positives.size)] - total[first] > ALL_PART_ROWS:
            size //= 2
        end = min(first + size, positives.size)
        shards.append((first, end))
        first = end
    return tuple(shards) or ((0, 0),)


def make_plan(
    config: MineConfig, resources: Resources, shards: tuple[tuple[int, int], ...], searcher: Searcher,
    positives: NDArray[np.int64], pairs: int,
) -> Plan:  # fmt: skip
    """The plan of mining these shards.

    Raises
    ------
    CapacityError
        When the output may have more than --max-rows rows, or the plan does not fit into the memory.
    """
    most_rows = int(projected_rows(config, positives).sum())
    if resources.max_rows is not None and most_rows > resources.max_rows:
        negatives = 1 if config.emit in ("tuples", "lists") else config.negatives  # lists of them stand in one row
        counts = {"--negatives": negatives, "--positives-per-anchor": config.positives_per_anchor}
        more = " or ".join(name for name, count in counts.items() if count != 1)
        raise CapacityError(
            f"up to {many(most_rows, 'row')} would be written (the rules may leave fewer), more than --max-rows "
            f"{resources.max_rows:,}",
            f"{f'lower {more}, ' * bool(more)}thin the anchors (--anchors), or raise --max-rows",
        )
    memory, store, screens = searcher.plan, searcher.loaded.store, searcher.limits.screens
    memory.check(FEWER)
    return Plan(
        shards,
        {
            "rows": store.rows, "dimension": store.dimension, "anchors": int(positives.size),
            "pairs_to_compute": pairs, "shards": len(shards), "rows_at_most": most_rows,
            "vectors_bytes": store.rows * store.row_bytes,
        },
        {
            "vectors_in": "memory" if store.in_memory else "scratch", "memory_bytes": memory.memory,
            "enough_bytes": memory.least(),
            "threads": searcher.limits.threads, "screen": screens[0] if screens else "scan", "memory": memory.facts(),
        },
    )  # fmt: skip
