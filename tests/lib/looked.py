"""Approximate runs of small worlds: they look as far as is drawn, and the reference is told what looks at what."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from drawn_worlds import World

from minestream.mining.approximate import exact_answers
from minestream.mining.looking import Looking
from minestream.mining.shards import Mining
from minestream.search.near import Schedule, near_cells

WIDTHS = (1, 2, 5, 9, 17, 32)  # cells that a row looks into
Entries = dict[int, dict[tuple[int, int], float]]  # by anchor the loss of each row: (positive, negative)


class Look(NamedTuple):
    """What a run looked at: in rows (anchor, candidate); and the rows of the anchors that were measured."""

    pairs: tuple[tuple[int, int], ...]
    measured: frozenset[int]


@contextmanager
def looking(width: int | None, positives: int | None = None) -> Iterator[list[Look]]:
    """Approximate runs look into `width` cells, however few rows there are (None: as ever); what they looked at.

    positives : into how many they look for positives first; None: these are found exactly
    """
    looks: list[Look] = []

    def looking_of(mining: Mining) -> Looking | None:
        if mining.config.approximate is None:
            return None
        assert width is not None
        loaded = mining.loaded
        cells = near_cells(loaded, mining.searcher.workers, mining.searcher.limits.threads)
        schedule = Schedule(cells, min(width, cells.shape[1]))
        measured = np.random.default_rng(width).random(loaded.store.rows) < 0.5
        of_candidates = np.arange(loaded.tables[1].first, loaded.tables[1].end, dtype=np.int32)
        pairs: list[tuple[int, int]] = []
        for anchor in mining.anchors.tolist():
            near = of_candidates[schedule.looked_at(np.full(of_candidates.size, anchor, np.int32), of_candidates)]
            pairs += [(int(loaded.source_row[anchor]), row) for row in loaded.source_row[near].tolist()]
        some = mining.anchors[measured[mining.anchors]]
        looks.append(Look(tuple(pairs), frozenset(loaded.source_row[some].tolist())))
        near = None if positives is None else Schedule(cells, positives)
        return Looking(schedule, near, exact_answers(mining, some) if some.size else None)

    with pytest.MonkeyPatch.context() as patch:
        if width is not None:
            patch.setattr("minestream.mining.pipeline.looking_of", looking_of)
        yield looks


def seen(world: World, look: Look) -> World:
    """The world in which nothing else can be a negative than what was looked at."""
    return replace(world, run=look.pairs, unknown_ids=world.unknown_ids and world.listed)


def shares(exact: Mapping[str, Any], found: Mapping[str, Any], look: Look) -> dict[str, list[float]]:
    """Of each measured anchor with any, the share of its exact rows that was found, of their losses, and positives."""
    rows, there = _entries(exact), _entries(found)
    kept: dict[str, list[float]] = {"recall": [], "loss_recall": [], "positive_recall": []}
    for anchor in sorted(look.measured & {*rows}):
        hits = {entry: entry in there.get(anchor, {}) for entry in rows[anchor]}
        kept["recall"].append(sum(hits.values()) / len(hits))
        wanted, chosen = ({positive for positive, _ in each.get(anchor, {})} for each in (rows, there))
        kept["positive_recall"].append(len(wanted & chosen) / len(wanted))
        losses = rows[anchor]
        if sum(losses.values()) > 0:
            kept["loss_recall"].append(sum(losses[entry] for entry, hit in hits.items() if hit) / sum(losses.values()))
    return kept


def _entries(columns: Mapping[str, Any]) -> Entries:
    """The rows of triplets or tuples, with their losses, or 0."""
    anchors = columns["query_row" if "query_row" in columns else "anchor_row"]
    lists = "negative_rows" in columns
    negatives = columns["negative_rows" if lists else "negative_row"]
    losses = columns.get("losses" if lists else "loss")
    if losses is None:
        losses = [[0.0] * len(each) for each in negatives] if lists else [0.0] * len(negatives)
    found: Entries = {}
    for anchor, positive, rows, values in zip(anchors, columns["positive_row"], negatives, losses, strict=True):
        for row, value in zip(rows, values, strict=True) if lists else ((rows, values),):
            found.setdefault(int(anchor), {})[int(positive), int(row)] = float(value)
    return found


def wrong_shares(
    exact: Mapping[str, Any], found: Mapping[str, Any], look: Look, told: Mapping[str, Any], losses: bool
) -> str:  # fmt: skip
    """Where the recall that a report tells is not that of the rows, in words; "" where it is.

    told : as recall_facts() gives it
    losses : whether rows have losses
    """
    for name, values in shares(exact, found, look).items():
        if (name == "loss_recall" and not losses) or (name == "positive_recall" and name not in told):
            values = []
        of_report = told.get(name) or {"anchors": 0, "share": 0.0}
        mean = float(np.mean(values)) if values else 0.0
        if of_report["anchors"] != len(values) or abs(of_report["share"] - mean) > 2e-4:
            return f"{name}: {of_report['share']:.4f} of {of_report['anchors']}, expected {mean:.4f} of {len(values)}"
    return ""
