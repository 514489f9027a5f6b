"""What follows from a configuration: the rows of parts, whether a finishing pass follows, how many to search for."""

from __future__ import annotations

from minestream.config.mine_config import MineConfig
from minestream.config.rules import EMITS, TEACHERS, finished_late


def needs_finishing(config: MineConfig) -> bool:
    """Whether the output is made only when all parts are there, not part by part."""
    return finished_late(config.emit, config.order, config.max_uses)


RESERVE_TIMES, RESERVE_MORE = 4, 32  # a pair has 4 k + 32 negatives to choose from under --max-uses


def reserve(config: MineConfig) -> int:
    """How many negatives each pair is searched for: k, or more where --max-uses chooses among them."""
    wanted = config.negatives if config.max_uses is None else RESERVE_TIMES * config.negatives + RESERVE_MORE
    return wanted if config.within_top is None else min(wanted, config.within_top - config.skip)


def ranks_read(config: MineConfig) -> int | None:
    """The window of ranks where it has to be read as a whole: the nearest k without a cap always lie within it."""
    read = config.pick != "nearest" or config.max_per_negative_label is not None
    return config.within_top if read else None


def ranks_listed(config: MineConfig) -> int:
    """How many of an anchor's nearest negatives are looked for, for the ranks of its positives."""
    return max(config.rank_positives or 0, config.max_positive_rank or 0)


def teacher_count(config: MineConfig) -> int:
    """How many teachers find the negatives."""
    return 1 + len(config.other_embeddings) + config.candidates_teach


def most_taken(config: MineConfig) -> int:
    """How many negatives a pair can have: k, or as many as its teachers may agree on."""
    if not config.taught:
        return config.negatives
    teachers = teacher_count(config)
    least: int = TEACHERS[config.teachers].least(teachers)
    return config.negatives * teachers // least


def knows_harder(config: MineConfig) -> bool:
    """Whether the column `harder` is known: only the band leaves negatives out."""
    caps = config.max_per_negative_label, config.max_uses, config.negatives_per_anchor
    plain = not config.similarity_filters and config.fallback == "none" and caps == (None, None, None)
    return plain and config.pick == "nearest" and not config.taught


def counts_nearer(config: MineConfig) -> bool:
    """Whether `harder` also counts the negatives nearer than the band."""
    counted = not EMITS[config.emit].per_anchor and (config.band, config.positives) == ("semi-hard", "easiest")
    return knows_harder(config) and counted and part_emit(config) == "triplets"


def part_emit(config: MineConfig) -> str:
    """The shape of the rows in the parts of a run: triplets where the finished rows are made from them later."""
    return "triplets" if config.max_uses is not None else config.emit
