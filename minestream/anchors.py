"""Which rows are mined for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minestream.config import MineConfig
from minestream.draws import anchor_draws
from minestream.load import Loaded
from minestream.values import anchor_share


def choose_anchors(loaded: Loaded, config: MineConfig) -> NDArray[np.int32]:
    """The slots mined for, ascending: those with a positive (pairs: with a label), thinned by the balance options."""
    able = loaded.positives > 0
    if config.emit == "pairs":  # an end without a similar row has dissimilar ones all the same
        able = (loaded.rows.label >= 0) | config.listed_positives
    draws = anchor_draws(config.seed, loaded.rows.draw_key)
    order = np.lexsort((loaded.rows.rank, draws))
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    if config.anchors_per_label is not None:
        rows, codes = loaded.labels.members()
        rows, codes = rows[able[rows]], codes[able[rows]]
        sorting = np.lexsort((place[rows], codes))
        rows, codes = rows[sorting], codes[sorting]
        nth = np.arange(rows.size) - np.searchsorted(codes, codes)
        able = np.zeros_like(able)
        able[rows[nth < config.anchors_per_label]] = True
    slots = np.flatnonzero(able)
    wanted = anchor_share(config.anchors, slots.size)
    kept = slots[np.argsort(place[slots])[:wanted]]
    return np.sort(kept).astype(np.int32)
