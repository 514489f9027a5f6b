"""Negatives drawn by the seed for pairs that the rules leave short: what a trainer of fixed width is filled up with."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.config import MineConfig
from minestream.draws import TAG_NEGATIVES, prefixes
from minestream.guide import pair_distances
from minestream.kernels import draw, scan
from minestream.kernels.choose import NEGATIVE
from minestream.load import Loaded
from minestream.reader import Table

FIRST, TIMES = (
    64,
    8,
)  # candidates looked at, in the order of their draws, and how many times as many when that will not do

Rows = NDArray[np.int64]
Slots = NDArray[np.int32]


def slots_of(loaded: Loaded, table: Table, rows: Rows) -> Slots:
    """The slots of source rows that take part."""
    own = loaded.source_row[table.first : table.end]
    return (np.searchsorted(own, rows) + table.first).astype(np.int32)


class RandomNegatives:
    """Further negatives of a pair, whatever band and filters say: the least draws (tag 2) that are not taken yet.

    Relation, groups, exclusions and the duplicate rule hold. Cost: a draw and a part of a sort for every candidate, a
    pair.
    """

    def __init__(self, loaded: Loaded, config: MineConfig) -> None:
        self._loaded, self._config = loaded, config
        anchors, self._candidates = loaded.tables
        self._anchors = anchors
        self._slots = np.arange(self._candidates.first, self._candidates.end, dtype=np.int32)

    def __call__(self, anchor_row: int, positive_row: int, own: Rows, count: int) -> tuple[Rows, NDArray[np.float64]]:
        """`count` source rows that are not among `own`, and their distances; fewer where there are no more."""
        rows = self._loaded.rows
        (anchor,) = slots_of(self._loaded, self._anchors, np.array([anchor_row]))
        (positive,) = slots_of(self._loaded, self._candidates, np.array([positive_row]))
        prefix = prefixes(
            self._config.seed, TAG_NEGATIVES, rows.draw_key[[anchor]].copy(), rows.draw_key[[positive]].copy()
        )
        draws = np.empty(self._slots.size, np.uint64)
        draw.draws(np.repeat(prefix, draws.size), rows.draw_key[self._slots[0] :].copy(), draws)
        size = min(draws.size, FIRST + TIMES * count)
        while True:
            least = np.argpartition(draws, size - 1)[:size] if size < draws.size else np.arange(draws.size)
            order = least[np.lexsort((rows.rank[self._slots[least]], draws[least]))]
            found = self._negatives(anchor, positive, self._slots[order])
            found = found[~np.isin(self._loaded.source_row[found], own)][:count]
            if found.size == count or size == draws.size:
                x = self._distances(anchor, found)
                return self._loaded.source_row[found], x
            size = min(draws.size, TIMES * size)

    def _negatives(self, anchor: int, positive: int, slots: Slots) -> Slots:
        """Those of the slots that are negatives, and no duplicates."""
        kinds = np.empty(slots.size, np.int8)
        scan.relations(self._loaded.rows, anchor, slots, kinds)
        slots = slots[(kinds == NEGATIVE) & (self._loaded.unlabeled_negatives | (self._loaded.rows.label[slots] >= 0))]
        within, twin = self._config.drop_duplicates_within, self._loaded.rows.twin
        ends = {"both": (anchor, positive), "anchor": (anchor,), "positive": (positive,)}
        for end in ends[self._config.drop_duplicates_of] if within is not None else ():
            same = twin[slots] == twin[end] if within == 0 else self._distances(end, slots) <= (within or 0.0)
            slots = slots[~same]
        return slots

    def _distances(self, slot: int, slots: Slots) -> NDArray[np.float64]:
        loaded = self._loaded
        return pair_distances(loaded.store, loaded.rows.square, self._config.metric, np.full(slots.size, slot), slots)

    def ids_of(self, rows: Rows) -> dict[str, pa.Array]:
        """The ids of source rows, as a column of triplets."""
        ids = self._candidates.take_ids(slots_of(self._loaded, self._candidates, rows))
        return {} if ids is None else {"negative_id": ids}


class LoadedTexts:
    """The texts of a run's own tables, by source row."""

    def __init__(self, loaded: Loaded, config: MineConfig) -> None:
        self._loaded = loaded
        self._names = {"anchor": config.query_text or config.text, "positive": config.text, "negative": config.text}

    def take(self, role: str, rows: Rows) -> pa.Array:
        """The texts of source rows; `role` is anchor, positive or negative."""
        table = self._loaded.table(role)
        carried = table.take_carried(slots_of(self._loaded, table, rows))
        assert carried is not None
        texts = carried[str(self._names[role])].combine_chunks()
        return texts.combine_chunks() if isinstance(texts, pa.ChunkedArray) else texts
