"""What the negatives of each (anchor, positive) must satisfy: its band as an interval of distances, and the rule."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.config.derived import counts_nearer, ranks_listed, ranks_read, reserve
from minestream.config.metrics import METRICS
from minestream.config.mine_config import MineConfig
from minestream.config.rules import AT_MARGIN, AT_POSITIVE, BANDS, EMITS, PICKS
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.draws import TAG_NEGATIVES, prefixes
from minestream.kernels.types import EXCLUDE, IGNORE, NEAREST, NEGATIVE, POSITIVE, WITHIN, Pairs, Rule
from minestream.mining.positives import Deserving, Search, choose_positives, edge_picks
from minestream.search.constraints import Constraints, first_look
from minestream.search.results import Positives, one_pair_each
from minestream.search.similarity import (
    Floats,
    Interval,
    filter_interval,
    largest_distance,
    references,
    simans_exponents,
    similarity,
)
from minestream.search.work import search_work
from minestream.system import ragged


def negative_rule(config: MineConfig) -> Rule:
    """The rule of the search for negatives, from the configuration."""
    within, of = config.drop_duplicates_within, config.drop_duplicates_of
    own = EXCLUDE if within == 0 and of in ("both", "anchor") else IGNORE
    positive = IGNORE
    if within is not None and of in ("both", "positive") and not EMITS[config.emit].per_anchor:
        positive = EXCLUDE if within == 0 else WITHIN
    return Rule(
        NEGATIVE, PICKS[config.pick].code, reserve(config), config.skip, own, positive, within or 0.0,
        counts_nearer(config), METRICS[config.metric].code,
    )  # fmt: skip


def negative_pairs(
    config: MineConfig, loaded: Dataset, anchors: NDArray[np.int32], chosen: Positives, filtered: Interval
) -> Pairs:
    """A pair for each (anchor, positive), or for each anchor where it is emitted so; its band is a closed interval.

    filtered : for each pair, the interval of distances that the filters let through
    """
    floor = -np.inf
    if config.drop_duplicates_within and config.drop_duplicates_of != "positive":
        floor = np.nextafter(config.drop_duplicates_within, np.inf)
    if EMITS[config.emit].per_anchor:
        pairs = one_pair_each(anchors.size)
        low, high = pairs.low, np.minimum(pairs.high, filtered[1])
        if config.band == "violating":
            high = np.full(anchors.size, np.nextafter(config.margin or 0.0, -np.inf))
        return pairs._replace(low=np.maximum(low, floor), high=high, floor=np.full(anchors.size, floor))
    low, high = band_interval(config, chosen.x)
    low, high = np.maximum(low, filtered[0]), np.minimum(high, filtered[1])
    of_anchor = ragged.repeat(loaded.rows.draw_key[anchors], chosen.start)
    prefix = prefixes(config.seed, TAG_NEGATIVES, of_anchor, loaded.rows.draw_key[chosen.slot])
    return Pairs(chosen.start, chosen.slot, np.maximum(low, floor), high, np.full(low.size, floor), prefix)


def band_interval(config: MineConfig, p: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The band as a closed interval of distances, for positives at distances p."""
    band = BANDS[config.band]
    edges = {AT_POSITIVE: p, AT_MARGIN: p + (config.margin or 0.0)}
    low = edges.get(band.low, np.full(p.size, -np.inf))
    high = edges.get(band.high, np.full(p.size, np.inf))
    return (
        low if band.low_closed else np.nextafter(low, np.inf),
        high if band.high_closed else np.nextafter(high, -np.inf),
    )


def reference_similarity(config: MineConfig, chosen: Positives, p: Floats, every: Positives, every_p: Floats) -> Floats:
    """The similarity from which the margins of filters are measured, for every chosen pair.

    Parameters
    ----------
    chosen, p : the pairs, and their distances (by the embedding or the guide)
    every, every_p : all positives of the same anchors, and their distances; not used when the reference is pair
    """
    if config.reference == "pair":
        return similarity(config.metric, p)
    return ragged.repeat(references(config.reference, similarity(config.metric, every_p), every.start), chosen.start)


class Task(NamedTuple):
    """The task of a search for negatives: the chosen positives, the pairs, the rule and the constraints."""

    chosen: Positives
    pairs: Pairs
    rule: Rule
    constraints: Constraints
    every: Positives  # that filters may measure from


def make_task(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], chosen: Positives, search: Search,
    deserving: Deserving | None, every: Positives | None = None,
) -> Task:  # fmt: skip
    """The task of searching negatives for some anchors and their chosen positives.

    search : function (anchors, pairs, rule) -> Found, for the positives or negatives that filters measure from
    deserving : the positives that may be chosen
    every : all positives, where they are known
    """
    filtered: Interval = np.full(chosen.x.size, -np.inf), np.full(chosen.x.size, np.inf)
    guided = None
    if every is None:
        every = chosen
        if config.similarity_filters and config.reference != "pair" and config.positives != "all":
            every = choose_positives(loaded, replace(config, positives="all"), anchors, search, deserving)
    if config.similarity_filters:
        filtered = filter_interval(config, reference_similarity(config, chosen, chosen.x, every, every.x))
        if loaded.guide is not None:
            p, every_p = (
                loaded.guide.distances(ragged.repeat(anchors, some.start), some.slot) for some in (chosen, every)
            )
            guided = filter_interval(config, reference_similarity(config, chosen, p, every, every_p))
    if EMITS[config.emit].per_anchor:
        filtered = np.full(anchors.size, -np.inf), np.full(anchors.size, np.inf)
        if config.epsilon is not None:
            chosen, filtered = _multi_similarity(loaded, config, anchors, chosen, search)
        if config.positive_margin is not None:
            chosen = chosen.where(chosen.x > config.positive_margin)
    pairs, rule = negative_pairs(config, loaded, anchors, chosen, filtered), negative_rule(config)
    fallback = (np.maximum(filtered[0], pairs.floor), filtered[1]) if config.fallback == "farthest" else None
    weights = partial(_log_weights, config, chosen.x) if config.pick == "simans" else None
    constraints = Constraints(guided, config.max_per_negative_label, fallback, ranks_read(config), weights)
    return Task(chosen, pairs, rule, constraints, every)


def _log_weights(config: MineConfig, p: Floats, pair: NDArray[np.int64], x: Floats) -> Floats:
    """By which --pick simans draws negatives at distances x of pairs whose positives lie at p."""
    return simans_exponents(config, p[pair], x)


def _multi_similarity(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], chosen: Positives, search: Search
) -> tuple[Positives, Interval]:
    """Multi-similarity (Wang 2019): positives hardly nearer than the nearest negative; the interval of negatives."""
    epsilon = config.epsilon or 0.0
    rule = negative_rule(config)._replace(wanted=NEGATIVE, pick=NEAREST, take=1, skip=0)
    plain = np.full(anchors.size, -np.inf), np.full(anchors.size, np.inf)
    found = search(anchors, negative_pairs(config, loaded, anchors, chosen, plain), rule)
    nearest = np.full(anchors.size, -np.inf)  # similarities; of an anchor without a negative no positive is kept
    has = ragged.lengths(found.start) > 0
    nearest[has] = 1.0 - found.x
    kept = chosen.where((1.0 - chosen.x) - epsilon < ragged.repeat(nearest, chosen.start))
    farthest = np.full(anchors.size, np.inf)
    some = np.flatnonzero(ragged.lengths(chosen.start))
    if some.size:
        farthest[some] = 1.0 - np.maximum.reduceat(chosen.x, chosen.start[some])
    reach = largest_distance(lambda x: (1.0 - x) + epsilon > farthest, anchors.size)
    return kept, (np.full(anchors.size, -np.inf), reach)


def looked_for(config: MineConfig, rule: Rule) -> Rule:
    """The rule of the first search for negatives by `rule`, under the constraints of the configuration."""
    if config.max_per_negative_label is None and not config.guided and ranks_read(config) is None:
        return rule
    guided = (np.empty(0), np.empty(0)) if config.guided else None
    return first_look(rule, Constraints(guided, config.max_per_negative_label, None, ranks_read(config)))


def planned_searches(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], rule: Rule, swept: bool
) -> tuple[float, float]:
    """The work of searching the positives of these anchors, and their negatives by `rule`; see search/work.py."""
    each = loaded.positives[anchors]
    most = each if config.positives == "all" else np.minimum(each, config.positives_per_anchor)
    pairs = anchors.size if EMITS[config.emit].per_anchor else int(most.sum())
    nearest = rule._replace(pick=NEAREST, take=ranks_listed(config), skip=0)
    ranks = sum(search_work(loaded, anchors, anchors.size, nearest, swept)) if nearest.take else 0.0
    rule = looked_for(config, rule)
    listed = config.listed_positives and not loaded.labeled
    first = rule._replace(wanted=POSITIVE, take=0 if config.positives == "all" else config.positives_per_anchor, skip=0)
    positives = 0.0 if listed else sum(search_work(loaded, anchors, anchors.size, first, swept))
    edges = 0.0 if listed else sum(search_work(loaded, anchors, anchors.size, first._replace(take=1), swept))
    positives += ranks + edges * len(edge_picks(config))
    return positives, sum(search_work(loaded, anchors, pairs, rule, swept))
