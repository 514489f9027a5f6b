"""From positives to what is looked for around each of them: the pairs of a search, its rule and its limits."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.config import MineConfig
from minestream.course import search_work
from minestream.filters import Interval, filter_interval, largest_distance, reference_similarity
from minestream.kernels.choose import NEAREST, NEGATIVE, POSITIVE, Pairs, Rule
from minestream.limits import Limits, wider
from minestream.load import Loaded
from minestream.negatives import negative_pairs, negative_rule
from minestream.positives import Chosen, Search, choose_positives


class Task(NamedTuple):
    """What is looked for: the positives chosen, what the filters leave, the pairs, the rule, the limits."""

    chosen: Chosen
    filtered: Interval
    pairs: Pairs
    rule: Rule
    limits: Limits


def make_task(loaded: Loaded, config: MineConfig, anchors: NDArray[np.int32], search: Search) -> Task:
    """Choose the positives of some anchors, and say which negatives are looked for.

    search : function (anchors, pairs, rule) -> Found, for positives
    """
    chosen = choose_positives(loaded, config, anchors, search)
    filtered: Interval = np.full(chosen.x.size, -np.inf), np.full(chosen.x.size, np.inf)
    guided = None
    if config.similarity_filters:
        every = chosen
        if config.reference != "pair" and config.positives != "all":
            every = choose_positives(loaded, replace(config, positives="all"), anchors, search)
        filtered = filter_interval(config, reference_similarity(config, chosen, chosen.x, every, every.x))
        if loaded.guide is not None:
            p, every_p = (
                loaded.guide.distances(np.repeat(anchors, np.diff(some.start)), some.slot) for some in (chosen, every)
            )
            guided = filter_interval(config, reference_similarity(config, chosen, p, every, every_p))
    if config.emit == "pairs":
        filtered = np.full(anchors.size, -np.inf), np.full(anchors.size, np.inf)
        if config.epsilon is not None:
            chosen, filtered = _multi_similarity(loaded, config, anchors, chosen, search)
        if config.positive_margin is not None:
            chosen = _of(chosen, chosen.x > config.positive_margin)
    fallback = None
    if config.fallback == "farthest":
        fallback = filtered
    pairs, rule = negative_pairs(config, loaded, anchors, chosen, filtered), negative_rule(config)
    limits = Limits(guided, config.max_per_negative_label, _floored(fallback, pairs))
    return Task(chosen, filtered, pairs, rule, limits)


def _floored(interval: Interval | None, pairs: Pairs) -> Interval | None:
    """An interval without what is too near to be told from the anchor."""
    return None if interval is None else (np.maximum(interval[0], pairs.floor), interval[1])


def _of(chosen: Chosen, keep: NDArray[np.bool_]) -> Chosen:
    """Some of the positives."""
    anchor = np.repeat(np.arange(chosen.start.size - 1), np.diff(chosen.start))
    counts = np.bincount(anchor[keep], minlength=chosen.start.size - 1)
    return Chosen(np.concatenate([[0], np.cumsum(counts)]), chosen.slot[keep], chosen.x[keep])


def _multi_similarity(
    loaded: Loaded, config: MineConfig, anchors: NDArray[np.int32], chosen: Chosen, search: Search
) -> tuple[Chosen, Interval]:
    """Positives that are hardly nearer than the nearest negative, and how far negatives are looked for (Wang 2019)."""
    epsilon = config.epsilon or 0.0
    rule = negative_rule(config)._replace(wanted=NEGATIVE, pick=NEAREST, take=1, skip=0)
    plain = np.full(anchors.size, -np.inf), np.full(anchors.size, np.inf)
    found = search(anchors, negative_pairs(config, loaded, anchors, chosen, plain), rule)
    nearest = np.full(anchors.size, -np.inf)  # in similarity; without a negative nothing is kept
    has = np.diff(found.start) > 0
    nearest[has] = 1.0 - found.x
    kept = _of(chosen, (1.0 - chosen.x) - epsilon < np.repeat(nearest, np.diff(chosen.start)))
    farthest = np.full(anchors.size, np.inf)
    some = np.flatnonzero(np.diff(chosen.start))
    if some.size:
        farthest[some] = 1.0 - np.maximum.reduceat(chosen.x, chosen.start[some])
    reach = largest_distance(lambda x: (1.0 - x) + epsilon > farthest, anchors.size)
    return kept, (np.full(anchors.size, -np.inf), reach)


def planned_searches(
    loaded: Loaded, config: MineConfig, anchors: NDArray[np.int32], rule: Rule, swept: bool
) -> tuple[float, float]:
    """The work of the searches for the positives of these anchors, and for negatives by `rule`."""
    each = loaded.positives[anchors]
    most = each if config.positives == "all" else np.minimum(each, config.positives_per_anchor)
    pairs = anchors.size if config.emit == "pairs" else int(most.sum())
    if config.max_per_negative_label is not None or config.guided:
        rule = wider(rule)
    listed = config.listed_positives and not loaded.labeled
    first = rule._replace(wanted=POSITIVE, take=0 if config.positives == "all" else config.positives_per_anchor, skip=0)
    positives = 0.0 if listed else sum(search_work(loaded, anchors, anchors.size, first, swept))
    return positives, sum(search_work(loaded, anchors, pairs, rule, swept))
