"""The choice of anchors."""

from __future__ import annotations

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from minestream.config.mine_config import MineConfig
from minestream.config.parse import anchor_share
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.draws import anchor_draws
from minestream.inputs.dataset.labels import Labels
from minestream.system import ragged


def choose_anchors(loaded: Dataset, config: MineConfig) -> NDArray[np.int32]:
    """The slots of the anchors, ascending: rows with a positive (--emit pairs: a label), thinned by the options."""
    able = loaded.positives > 0
    if config.emit == "pairs":  # a row without a similar row still has dissimilar ones
        able = (loaded.rows.label >= 0) | (not loaded.labeled)
        able |= ragged.lengths(loaded.rows.known_start) > 0 if config.listed_positives else False
    slots = np.flatnonzero(able)
    if config.anchors_per_label is None and anchor_share(config.anchors, slots.size) >= slots.size:
        return slots.astype(np.int32)
    draws = anchor_draws(config.seed, loaded.rows.draw_key)
    order = np.lexsort((loaded.rows.rank, draws))
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    if config.anchors_per_label is not None:
        in_turn = order[able[order]]
        able[in_turn] = _few_of_each_label(loaded.labels, in_turn, config.anchors_per_label)
    slots = np.flatnonzero(able)
    wanted = anchor_share(config.anchors, slots.size)
    kept = slots[np.argsort(place[slots])[:wanted]]
    return np.sort(kept).astype(np.int32)


def without_positive(loaded: Dataset, config: MineConfig) -> int:
    """How many rows are no anchors because they have no positive; 0 with --emit pairs, which needs none."""
    table = loaded.table("anchor")
    return 0 if config.emit == "pairs" else int((loaded.positives[table.first : table.end] == 0).sum())


def without_negative(loaded: Dataset, anchors: NDArray[np.int32], level: str) -> dict[str, int]:
    """How many anchors can have no negative that shares their value at a coarser level of labels, by cause.

    Groups, lists and duplicates are not looked at.
    """
    label, parent = loaded.rows.label, loaded.rows.parent
    slots, table = np.arange(label.size), loaded.table("candidate")
    there = (slots >= table.first) & (slots < table.end) & (loaded.unlabeled_negatives | (label >= 0))
    every = np.bincount(parent[there & (parent >= 0)], minlength=int(parent.max(initial=0)) + 1)
    alike = np.bincount(label[there & (label >= 0)], minlength=int(label.max(initial=0)) + 1)
    known, labelled = parent[anchors] >= 0, label[anchors] >= 0
    itself = there[anchors]  # it is no candidate of its own
    alone = known & (every[parent[anchors]] == np.where(labelled, alike[label[anchors]], itself))
    causes = {f"their {level} is null": int((~known).sum()), f"no other label shares their {level}": int(alone.sum())}
    return {why: count for why, count in causes.items() if count}


def _few_of_each_label(labels: Labels, rows: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Which rows to keep, in their order, so that no label has more than `most` of them; rows without a label stay."""
    if not labels.multiple:
        codes = labels.code[rows]
        order = np.argsort(codes, kind="stable")
        nth = np.empty(rows.size, np.int64)
        nth[order] = ragged.nth_of_run(codes[order])
        return (nth < most) | (codes < 0)
    taken: Counter[int] = Counter()
    keep = np.zeros(rows.size, bool)
    for place, row in enumerate(rows.tolist()):
        own = labels.set_code[labels.set_start[row] : labels.set_start[row + 1]].tolist()
        keep[place] = all(taken[code] < most for code in own)
        taken.update(own if keep[place] else ())
    return keep
