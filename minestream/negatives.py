"""What is looked for around each (anchor, positive): the band as an interval of distances, and the rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minestream.config import MineConfig
from minestream.draws import TAG_NEGATIVES, prefixes
from minestream.kernels.choose import EXCLUDE, IGNORE, NEGATIVE, WITHIN, Pairs, Rule
from minestream.load import Loaded
from minestream.metric import METRICS
from minestream.positives import Chosen, one_pair_each
from minestream.rules import AT_MARGIN, AT_POSITIVE, BANDS, PICKS


def negative_rule(config: MineConfig) -> Rule:
    """The configuration's negatives, in numbers."""
    within, of = config.drop_duplicates_within, config.drop_duplicates_of
    own = EXCLUDE if within == 0 and of in ("both", "anchor") else IGNORE
    positive = IGNORE
    if within is not None and of in ("both", "positive") and config.emit != "pairs":
        positive = EXCLUDE if within == 0 else WITHIN
    return Rule(
        NEGATIVE, PICKS[config.pick].code, config.negatives, config.skip, own, positive, within or 0.0,
        counts_nearer(config), METRICS[config.metric].code,
    )  # fmt: skip


def counts_nearer(config: MineConfig) -> bool:
    """Whether `harder` needs the negatives that lie nearer than the band."""
    return (config.emit, config.band, config.pick, config.positives) == ("triplets", "semi-hard", "nearest", "easiest")


def negative_pairs(loaded: Loaded, config: MineConfig, anchors: NDArray[np.int32], chosen: Chosen) -> Pairs:
    """One pair per (anchor, positive), or per anchor when pairs are mined, with its band as a closed interval."""
    floor = -np.inf
    if config.drop_duplicates_within and config.drop_duplicates_of != "positive":
        floor = np.nextafter(config.drop_duplicates_within, np.inf)
    if config.emit == "pairs":
        pairs = one_pair_each(anchors.size)
        low, high = pairs.low, pairs.high
        if config.band == "violating":
            high = np.full(anchors.size, np.nextafter(config.margin or 0.0, -np.inf))
        return pairs._replace(low=np.maximum(low, floor), high=high, floor=np.full(anchors.size, floor))
    low, high = band_interval(config, chosen.x)
    of_anchor = np.repeat(loaded.rows.draw_key[anchors], np.diff(chosen.start))
    prefix = prefixes(config.seed, TAG_NEGATIVES, of_anchor, loaded.rows.draw_key[chosen.slot])
    return Pairs(chosen.start, chosen.slot, np.maximum(low, floor), high, np.full(low.size, floor), prefix)


def band_interval(config: MineConfig, p: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The closed interval of distances inside the band, for positives at distances p."""
    band = BANDS[config.band]
    edges = {AT_POSITIVE: p, AT_MARGIN: p + (config.margin or 0.0)}
    low = edges.get(band.low, np.full(p.size, -np.inf))
    high = edges.get(band.high, np.full(p.size, np.inf))
    return (
        low if band.low_closed else np.nextafter(low, np.inf),
        high if band.high_closed else np.nextafter(high, -np.inf),
    )
