"""The choice of positives for anchors, by --positives, with their exact distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.config.derived import ranks_listed
from minestream.config.metrics import METRICS
from minestream.config.mine_config import MineConfig
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.draws import TAG_POSITIVES, prefixes
from minestream.inputs.dataset.labels import usable_known
from minestream.inputs.dataset.vectors import pair_distances
from minestream.kernels import draw
from minestream.kernels.select import equal_positives
from minestream.kernels.types import (
    EXCLUDE,
    FARTHEST,
    IGNORE,
    KEY_ORDER,
    NEAREST,
    NEGATIVE,
    ONLY,
    POSITIVE,
    RANDOM,
    Pairs,
    Problem,
    Rule,
)
from minestream.search.results import Found, Positives, empty_best, found_of, one_pair_each, patched
from minestream.search.similarity import positive_interval
from minestream.system import ragged
from minestream.system.stats import ShardStats

PICK_OF_RULE = {"easiest": NEAREST, "hardest": FARTHEST, "random": RANDOM, "all": KEY_ORDER}
MULTIPLE_DISTANCE = 1e-9  # the cosine distance of a row and its multiples is less, however it is rounded
PASSES_OVER = ("easiest", "random")  # rules that take a duplicate of the anchor only when there is no other positive
Search = Callable[[NDArray[np.int32], Pairs, Rule], Found]


class Given(NamedTuple):
    """Positives to choose among, in any order."""

    anchor: NDArray[np.int64]  # whose each is, by place
    slot: NDArray[np.int32]
    x: NDArray[np.float64]
    duplicate: NDArray[np.bool_] | None  # which are duplicates of their anchor; None: by their vectors


class Deserving(NamedTuple):
    """Which positives of each anchor may be chosen: those in a closed interval of distances.

    Attributes
    ----------
    low, high : float64[A]
    nearest : Found or None
        The nearest negatives of each anchor, for ranks.
    lost : dict
        By counter of ShardStats, bool[A]: which anchors have positives that the rule turns down.
    given : Given or None
        All that there are to choose among, where they are known.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]
    nearest: Found | None
    lost: dict[str, NDArray[np.bool_]]
    given: Given | None = None

    def ranked(self, config: MineConfig, chosen: Positives) -> Positives:
        """The chosen positives, with their ranks where these are asked for."""
        if self.nearest is None or config.rank_cap is None:
            return chosen
        nearer = ragged.below(self.nearest.start, self.nearest.x, ragged.owners(chosen.start), chosen.x)
        return chosen._replace(rank=(1 + np.minimum(nearer, config.rank_cap)).astype(np.int32))

    def count_into(self, stats: ShardStats, first: int, end: int, chosen: Positives) -> None:
        """Count, among the anchors first ... end - 1, those that lost positives, and all of them."""
        for name, lost in self.lost.items():
            setattr(stats, name, getattr(stats, name) + int(lost[first:end].sum()))
        if self.lost:
            some = np.logical_or.reduce([lost[first:end] for lost in self.lost.values()])
            stats.lost_every_positive += int((some & (ragged.lengths(chosen.start) == 0)).sum())


def deserving_positives(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], search: Search, given: Given | None = None
) -> Deserving:
    """What --min-positive-similarity, --max-positive-similarity and --max-positive-rank let through.

    Cost: a search for the negatives that ranks count, and the distances of all positives once or twice more, to tell
    which anchors lose some.
    """
    low, high = np.full(anchors.size, -np.inf), np.full(anchors.size, np.inf)
    nearest, lost = None, dict[str, NDArray[np.bool_]]()
    if ranks := ranks_listed(config):
        nearest = search(anchors, *_nearest_negatives(config, anchors.size, ranks))
    if not config.deserving:
        return Deserving(low, high, nearest, lost, given)
    first, last = _edges(loaded, config, anchors, search, given)
    similar = positive_interval(config) if METRICS[config.metric].similarity else (-np.inf, np.inf)
    if config.min_positive_similarity is not None:
        lost["under_min_positive"] = last > similar[1]
    if config.max_positive_similarity is not None:
        lost["over_max_positive"] = first < similar[0]
    if config.max_positive_rank is not None and nearest is not None:
        full = np.flatnonzero(ragged.lengths(nearest.start) >= config.max_positive_rank)
        high[full] = nearest.x[nearest.start[full] + config.max_positive_rank - 1]
        lost["beyond_max_rank"] = last > high
    return Deserving(np.maximum(low, similar[0]), np.minimum(high, similar[1]), nearest, lost, given)


def _nearest_negatives(config: MineConfig, anchors: int, take: int) -> tuple[Pairs, Rule]:
    """The search for the nearest negatives of anchors, whatever band and filters; but not for their duplicates."""
    within, pairs = config.drop_duplicates_within, one_pair_each(anchors)
    judged = within is not None and config.drop_duplicates_of != "positive"
    if judged and within:
        pairs = pairs._replace(low=np.full(anchors, np.nextafter(within, np.inf)))
    own = EXCLUDE if judged and within == 0 else IGNORE
    return pairs, Rule(NEGATIVE, NEAREST, take, 0, own, IGNORE, 0.0, False, METRICS[config.metric].code)


def _edges(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], search: Search, given: Given | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The distances of each anchor's nearest and farthest positive; infinite, nothing lies outside, of one without."""
    edges = np.full(anchors.size, np.inf), np.full(anchors.size, -np.inf)
    known = _known(loaded, config, anchors, given)
    if known is not None:
        np.minimum.at(edges[0], known.anchor, known.x)
        np.maximum.at(edges[1], known.anchor, known.x)
        return edges
    for pick in edge_picks(config):
        rule = Rule(POSITIVE, pick, 1, 0, IGNORE, IGNORE, 0.0, False, METRICS[config.metric].code)
        found = search(anchors, one_pair_each(anchors.size), rule)
        edges[pick == FARTHEST][ragged.owners(found.start)] = found.x
    return edges


def edge_picks(config: MineConfig) -> list[int]:
    """Which of the nearest and the farthest positive tell who loses some."""
    farthest = config.min_positive_similarity is not None or config.max_positive_rank is not None
    return [NEAREST] * (config.max_positive_similarity is not None) + [FARTHEST] * farthest


def choose_positives(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], search: Search,
    deserving: Deserving | None = None,
) -> Positives:  # fmt: skip
    """Choose the positives of every anchor.

    Parameters
    ----------
    anchors : int32[A], slots
    search : function
        (anchors, pairs, rule) -> Found
    deserving : Deserving, optional
        Those that may be chosen, where that is known.

    Notes
    -----
    Cost: the distances of all pairs within each label, once; twice for anchors whose positives are too few without
    duplicates. Without labels: the distances of listed pairs only.
    """
    deserving = deserving or deserving_positives(loaded, config, anchors, search)
    known = _known(loaded, config, anchors, deserving.given)
    if known is not None:
        return choose_among(loaded, config, anchors, known, deserving)
    return deserving.ranked(config, _searched(loaded, config, anchors, search, deserving))


def nearest_first(near: Search, every: Search, loaded: Dataset) -> Search:
    """The search that looks for the nearest positives by `near`, then by `every` for anchors that are short of them."""

    def search(anchors: NDArray[np.int32], pairs: Pairs, rule: Rule) -> Found:
        if rule.wanted != POSITIVE or rule.pick != NEAREST:
            return every(anchors, pairs, rule)
        found = near(anchors, pairs, rule)
        short = np.flatnonzero(ragged.lengths(found.start) < np.minimum(rule.take, loaded.positives[anchors]))
        return patched(found, short, every(anchors[short], _of_anchors(pairs, short), rule)) if short.size else found

    return search


def _searched(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], search: Search, deserving: Deserving
) -> Positives:
    """Choose positives by searches."""
    take = 0 if config.positives == "all" else config.positives_per_anchor
    within = config.drop_duplicates_within
    rule = Rule(
        POSITIVE, PICK_OF_RULE[config.positives], take, 0, IGNORE, IGNORE, 0.0, False, METRICS[config.metric].code
    )
    keys = loaded.rows.draw_key[anchors]
    low, high, *_ = deserving
    pairs = one_pair_each(anchors.size)._replace(
        low=low, high=high, prefix=prefixes(config.seed, TAG_POSITIVES, keys, np.zeros(anchors.size, np.uint64))
    )
    if not passes_over(config) or within is None:
        return _as_chosen(search(anchors, pairs, rule))
    if within == 0:
        found = search(anchors, pairs, rule._replace(own_duplicates=EXCLUDE))
    else:
        found = search(anchors, pairs._replace(low=np.maximum(low, np.nextafter(within, np.inf))), rule)
    short = np.flatnonzero(ragged.lengths(found.start) < np.minimum(take, loaded.positives[anchors]))
    if not short.size:
        return _as_chosen(found)
    own = _of_anchors(pairs, short)
    if within == 0:
        again = _duplicate_positives(loaded, anchors[short], own, rule, search)
    else:
        again = search(anchors[short], own._replace(high=np.minimum(own.high, within)), rule)
    return _appended(found, again, short, take)


def _known(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], given: Given | None
) -> Given | None:  # fmt: skip
    """All positives of the anchors, where no search is needed: as given, or as listed."""
    listed = config.listed_positives and not loaded.labeled
    return _listed(loaded, config, anchors) if given is None and listed else given


def _listed(loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32]) -> Given:
    """The listed positives of every anchor."""
    rows = loaded.rows
    left, right = usable_known(rows)
    first, end = (np.searchsorted(left, anchors, side) for side in ("left", "right"))
    anchor = np.repeat(np.arange(anchors.size), end - first)
    slot = right[ragged.spans(first, end - first)].astype(np.int32)
    x = pair_distances(loaded.store, rows.square, config.metric, anchors[anchor], slot)
    return Given(anchor, slot, x, None)


def choose_among(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], given: Given, deserving: Deserving | None = None
) -> Positives:
    """Choose the positives of every anchor, by the configuration, among given ones."""
    rows, (anchor, slot, x, passed_over) = loaded.rows, given
    if not passes_over(config):
        passed_over = np.zeros(slot.size, bool)
    elif passed_over is None:
        passed_over = are_duplicates(loaded, config, anchors[anchor], slot, x)
    keys: dict[str, NDArray[Any]] = {"easiest": x, "hardest": -x, "all": np.zeros(slot.size)}
    if config.positives == "random":
        none = np.zeros(slot.size, np.uint64)
        keys["random"] = np.empty(slot.size, np.uint64)
        of_anchor = prefixes(config.seed, TAG_POSITIVES, rows.draw_key[anchors[anchor]], none)
        draw.draws(of_anchor, rows.draw_key[slot], keys["random"])
    order = np.lexsort((rows.rank[slot], keys[config.positives], passed_over, anchor))
    if deserving is not None:
        order = order[((x >= deserving.low[anchor]) & (x <= deserving.high[anchor]))[order]]
    most = slot.size if config.positives == "all" else config.positives_per_anchor
    order = order[ragged.nth_of_run(anchor[order]) < most]
    chosen = Positives(ragged.grouped(anchor[order], anchors.size), slot[order], x[order])
    return chosen if deserving is None else deserving.ranked(config, chosen)


def passes_over(config: MineConfig) -> bool:
    """Whether positives that are duplicates of their anchor are taken only where there is no other."""
    duplicates = config.drop_duplicates_within is not None and not config.keep_duplicate_positives
    return config.positives in PASSES_OVER and duplicates


def are_duplicates(
    loaded: Dataset, config: MineConfig, own: NDArray[np.int32], slot: NDArray[np.int32], x: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which slots at distances x are duplicates of the slots `own`."""
    twin, within = loaded.rows.twin, config.drop_duplicates_within
    return x <= within if within else twin[own] == twin[slot]


def count_duplicate_positives(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], chosen: Positives
) -> int:
    """How many of the chosen positives are duplicates of their anchor, which are taken only if there is no other."""
    if not passes_over(config):
        return 0
    return int(are_duplicates(loaded, config, ragged.repeat(anchors, chosen.start), chosen.slot, chosen.x).sum())


def _duplicate_positives(
    loaded: Dataset, anchors: NDArray[np.int32], pairs: Pairs, rule: Rule, search: Search
) -> Found:
    """The positives that are duplicates of their anchor; a search is needed only where a twin set has mixed lengths."""
    twin, equal = loaded.rows.twin, loaded.equal
    mixed = np.ones(anchors.size, bool) if equal is None else np.isin(twin[anchors], twin[equal != equal[twin]])
    places = np.flatnonzero(mixed)
    found = _within(_equal_positives(loaded, anchors, pairs, rule), pairs)
    if not places.size:
        return found
    near = _of_anchors(pairs, places)
    near = near._replace(high=np.minimum(near.high, MULTIPLE_DISTANCE))
    return patched(found, places, search(anchors[places], near, rule._replace(own_duplicates=ONLY)))


def _equal_positives(loaded: Dataset, anchors: NDArray[np.int32], pairs: Pairs, rule: Rule) -> Found:
    """The positives in the anchor's twin set, without a search: for sets whose rows all have one length."""
    rows = loaded.rows
    members = np.lexsort((rows.rank, rows.twin)).astype(np.int32)
    members = members[members >= loaded.first_candidate]
    sets = rows.twin[members]
    first, end = (np.searchsorted(sets, rows.twin[anchors], side) for side in ("left", "right"))
    best = empty_best(rule, anchors.size, rule.take)
    equal_positives(Problem(rows, rule, pairs, best), anchors, first, end, members)
    return found_of(rule, rows.rank, best)


def _within(found: Found, pairs: Pairs) -> Found:
    """The answers whose distances lie in the intervals of their pairs."""
    pair = ragged.owners(found.start)
    keep = (found.x >= pairs.low[pair]) & (found.x <= pairs.high[pair])
    return Found(ragged.kept(found.start, keep), found.slot[keep], found.x[keep], found.nearer)


def _of_anchors(pairs: Pairs, places: NDArray[np.int64]) -> Pairs:
    return Pairs._make([np.arange(places.size + 1), *(field[places] for field in pairs[1:])])


def _as_chosen(found: Found) -> Positives:
    return Positives(found.start, found.slot, found.x)


def _appended(found: Found, again: Found, short: NDArray[np.int64], take: int) -> Positives:
    """`found`, with the positives of `again` appended for the anchors `short`, up to `take` for each."""
    anchor = np.concatenate([ragged.owners(found.start), short[ragged.owners(again.start)]])
    order = np.argsort(anchor, kind="stable")
    order = order[ragged.nth_of_run(anchor[order]) < take]
    slot, x = np.concatenate([found.slot, again.slot]), np.concatenate([found.x, again.x])
    return Positives(ragged.grouped(anchor[order], found.nearer.size), slot[order], x[order])
