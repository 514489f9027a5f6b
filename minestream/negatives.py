"""What is looked for around each (anchor, positive): the band as an interval of distances, and the rule."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from minestream.config import MineConfig
from minestream.draws import TAG_NEGATIVES, prefixes
from minestream.filters import Interval
from minestream.kernels.choose import EXCLUDE, IGNORE, NEGATIVE, WITHIN, Pairs, Rule
from minestream.load import Loaded
from minestream.metric import METRICS
from minestream.positives import Chosen, one_pair_each
from minestream.rules import AT_MARGIN, AT_POSITIVE, BANDS, EMITS, PICKS

RESERVE_TIMES, RESERVE_MORE = 4, 32  # of what a pair may choose from under --max-uses


def reserve(config: MineConfig) -> int:
    """How many negatives a pair is searched for: k, or what --max-uses may have to choose from."""
    return config.negatives if config.max_uses is None else RESERVE_TIMES * config.negatives + RESERVE_MORE


def negative_rule(config: MineConfig) -> Rule:
    """The configuration's negatives, in numbers."""
    within, of = config.drop_duplicates_within, config.drop_duplicates_of
    own = EXCLUDE if within == 0 and of in ("both", "anchor") else IGNORE
    positive = IGNORE
    if within is not None and of in ("both", "positive") and config.emit != "pairs":
        positive = EXCLUDE if within == 0 else WITHIN
    return Rule(
        NEGATIVE, PICKS[config.pick].code, reserve(config), config.skip, own, positive, within or 0.0,
        counts_nearer(config), METRICS[config.metric].code,
    )  # fmt: skip


def knows_harder(config: MineConfig) -> bool:
    """Whether it is known how many negatives precede each one: nothing but the band leaves any out."""
    caps = config.max_per_negative_label, config.max_uses, config.negatives_per_anchor
    plain = not config.similarity_filters and config.fallback == "none" and caps == (None, None, None)
    return plain and config.pick == "nearest"


def counts_nearer(config: MineConfig) -> bool:
    """Whether `harder` needs the negatives that lie nearer than the band."""
    counted = config.emit != "pairs" and (config.band, config.positives) == ("semi-hard", "easiest")
    return knows_harder(config) and counted and part_emit(config) == "triplets"


def part_emit(config: MineConfig) -> str:
    """What the parts of a run hold: triplets, wherever the finished rows are made from them when all are there."""
    return "triplets" if EMITS[config.emit].trainer or config.max_uses is not None else config.emit


def negative_pairs(
    config: MineConfig, loaded: Loaded, anchors: NDArray[np.int32], chosen: Chosen, filtered: Interval
) -> Pairs:
    """One pair per (anchor, positive), or per anchor when pairs are mined, with its band as a closed interval.

    filtered : the interval of distances that the filters let through, a pair each
    """
    floor = -np.inf
    if config.drop_duplicates_within and config.drop_duplicates_of != "positive":
        floor = np.nextafter(config.drop_duplicates_within, np.inf)
    if config.emit == "pairs":
        pairs = one_pair_each(anchors.size)
        low, high = pairs.low, np.minimum(pairs.high, filtered[1])
        if config.band == "violating":
            high = np.full(anchors.size, np.nextafter(config.margin or 0.0, -np.inf))
        return pairs._replace(low=np.maximum(low, floor), high=high, floor=np.full(anchors.size, floor))
    low, high = band_interval(config, chosen.x)
    low, high = np.maximum(low, filtered[0]), np.minimum(high, filtered[1])
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
