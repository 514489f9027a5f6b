"""The choice of positives for anchors, by --positives, with their exact distances."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

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
    ONLY,
    POSITIVE,
    RANDOM,
    Pairs,
    Problem,
    Rule,
)
from minestream.search.results import Found, Positives, empty_best, found_of, one_pair_each, patched
from minestream.system import ragged

PICK_OF_RULE = {"easiest": NEAREST, "hardest": FARTHEST, "random": RANDOM, "all": KEY_ORDER}
MULTIPLE_DISTANCE = 1e-9  # the cosine distance of a row and its multiples is less, however it is rounded
PASSES_OVER = ("easiest", "random")  # rules that take a duplicate of the anchor only when there is no other positive
Search = Callable[[NDArray[np.int32], Pairs, Rule], Found]


def choose_positives(loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], search: Search) -> Positives:
    """Choose the positives of every anchor.

    Parameters
    ----------
    anchors : int32[A], slots
    search : function
        (anchors, pairs, rule) -> Found

    Notes
    -----
    Cost: the distances of all pairs within each label, once; twice for anchors whose positives are too few without
    duplicates. Without labels: the distances of listed pairs only.
    """
    if config.listed_positives and not loaded.labeled:
        return _listed(loaded, config, anchors)
    take = 0 if config.positives == "all" else config.positives_per_anchor
    within = config.drop_duplicates_within
    rule = Rule(
        POSITIVE, PICK_OF_RULE[config.positives], take, 0, IGNORE, IGNORE, 0.0, False, METRICS[config.metric].code
    )
    keys = loaded.rows.draw_key[anchors]
    pairs = one_pair_each(anchors.size)._replace(
        prefix=prefixes(config.seed, TAG_POSITIVES, keys, np.zeros(anchors.size, np.uint64))
    )
    if not _passes_over(config) or within is None:
        return _as_chosen(search(anchors, pairs, rule))
    if within == 0:
        found = search(anchors, pairs, rule._replace(own_duplicates=EXCLUDE))
    else:
        found = search(anchors, pairs._replace(low=np.full(anchors.size, np.nextafter(within, np.inf))), rule)
    short = np.flatnonzero(ragged.lengths(found.start) < np.minimum(take, loaded.positives[anchors]))
    if not short.size:
        return _as_chosen(found)
    own = _of_anchors(pairs, short)
    if within == 0:
        again = _duplicate_positives(loaded, anchors[short], own, rule, search)
    else:
        again = search(anchors[short], own._replace(high=np.full(short.size, within)), rule)
    return _appended(found, again, short, take)


def _listed(loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32]) -> Positives:
    """Choose among the listed pairs of every anchor."""
    rows = loaded.rows
    left, right = usable_known(rows)
    first, end = (np.searchsorted(left, anchors, side) for side in ("left", "right"))
    anchor = np.repeat(np.arange(anchors.size), end - first)
    slot = right[ragged.spans(first, end - first)].astype(np.int32)
    x = pair_distances(loaded.store, rows.square, config.metric, anchors[anchor], slot)
    return choose_among(loaded, config, anchors, anchor, Candidates(slot, x, None))


class Candidates(NamedTuple):
    """Positives to choose among, in any order."""

    slot: NDArray[np.int32]
    x: NDArray[np.float64]
    duplicate: NDArray[np.bool_] | None  # which are duplicates of their anchor; None: by their vectors


def choose_among(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], anchor: NDArray[np.int64], given: Candidates
) -> Positives:
    """Choose the positives of every anchor, by the configuration, among given ones.

    anchor : int64[given], the place in `anchors` of each
    """
    rows, (slot, x, passed_over) = loaded.rows, given
    if not _passes_over(config):
        passed_over = np.zeros(slot.size, bool)
    elif passed_over is None:
        passed_over = _duplicates(loaded, config, anchors[anchor], slot, x)
    keys: dict[str, NDArray[Any]] = {"easiest": x, "hardest": -x, "all": np.zeros(slot.size)}
    if config.positives == "random":
        none = np.zeros(slot.size, np.uint64)
        keys["random"] = np.empty(slot.size, np.uint64)
        of_anchor = prefixes(config.seed, TAG_POSITIVES, rows.draw_key[anchors[anchor]], none)
        draw.draws(of_anchor, rows.draw_key[slot], keys["random"])
    order = np.lexsort((rows.rank[slot], keys[config.positives], passed_over, anchor))
    most = slot.size if config.positives == "all" else config.positives_per_anchor
    order = order[ragged.nth_of_run(anchor[order]) < most]
    return Positives(ragged.grouped(anchor[order], anchors.size), slot[order], x[order])


def _passes_over(config: MineConfig) -> bool:
    """Whether positives that are duplicates of their anchor are taken only where there is no other."""
    duplicates = config.drop_duplicates_within is not None and not config.keep_duplicate_positives
    return config.positives in PASSES_OVER and duplicates


def _duplicates(
    loaded: Dataset, config: MineConfig, own: NDArray[np.int32], slot: NDArray[np.int32], x: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which slots at distances x are duplicates of the slots `own`."""
    twin, within = loaded.rows.twin, config.drop_duplicates_within
    return x <= within if within else twin[own] == twin[slot]


def count_duplicate_positives(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], chosen: Positives
) -> int:
    """How many of the chosen positives are duplicates of their anchor, which are taken only if there is no other."""
    if not _passes_over(config):
        return 0
    return int(_duplicates(loaded, config, ragged.repeat(anchors, chosen.start), chosen.slot, chosen.x).sum())


def _duplicate_positives(
    loaded: Dataset, anchors: NDArray[np.int32], pairs: Pairs, rule: Rule, search: Search
) -> Found:
    """The positives that are duplicates of their anchor; a search is needed only where a twin set has mixed lengths."""
    twin, equal = loaded.rows.twin, loaded.equal
    mixed = np.ones(anchors.size, bool) if equal is None else np.isin(twin[anchors], twin[equal != equal[twin]])
    places = np.flatnonzero(mixed)
    found = _equal_positives(loaded, anchors, pairs, rule)
    if not places.size:
        return found
    near = _of_anchors(pairs, places)._replace(high=np.full(places.size, MULTIPLE_DISTANCE))
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
