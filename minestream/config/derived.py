"""What follows from a configuration: what a part holds, what needs a finishing pass, how many negatives to keep."""

from __future__ import annotations

from minestream.config.mine_config import MineConfig
from minestream.config.rules import EMITS, finished_late


def needs_finishing(config: MineConfig) -> bool:
    """Whether the output is made when all parts are there, and not of the parts as they come."""
    return finished_late(config.emit, config.order, config.max_uses)


RESERVE_TIMES, RESERVE_MORE = 4, 32  # of what a pair may choose from under --max-uses


def reserve(config: MineConfig) -> int:
    """How many negatives a pair is searched for: k, or what --max-uses may have to choose from."""
    return config.negatives if config.max_uses is None else RESERVE_TIMES * config.negatives + RESERVE_MORE


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
