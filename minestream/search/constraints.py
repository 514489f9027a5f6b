"""Searches under rules that no gate can test: the guide, windows of ranks, the cap of a negative label, the fallback.

These rules read a pair's eligible negatives in order. So more are searched for than are wanted, and the rules cut the
list. A pair that is then short although it had more is searched again, for four times as many; the last resort is a
search for all. The answers are exact.

A pick by draws under a rule of ranks is made here too: the search is for the nearest, which the rules cut, and the
draws choose among what is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.inputs.dataset.dataset import Dataset
from minestream.kernels.draw import draws, least_of_runs, log_draws, weighted_keys
from minestream.kernels.types import FARTHEST, NEAREST, RANDOM, WEIGHTED, Pairs, Rule
from minestream.search.context import SearchContext
from minestream.search.results import Found, groups_of, joined, patched, sub_pairs
from minestream.search.search import search, search_once
from minestream.search.shared import shared_search
from minestream.search.similarity import Floats, Interval
from minestream.system import ragged
from minestream.system.stats import ShardStats

MORE_TIMES, MORE = 2, 16  # of what is wanted, searched for at first
AGAIN_TIMES = 4
MOST = 2_048  # beyond, all are searched for
ALL_BYTES = 64  # of an entry while lists are cut
Dropped = dict[str, NDArray[np.int64]]  # by rule: how many candidates of each pair it dropped


@dataclass(frozen=True)
class Constraints:
    """The rules of a run that read eligible negatives one by one.

    Attributes
    ----------
    guided : (low, high) float64[pairs] or None
        The guide's distances that pass, closed.
    per_label : int or None
        Negatives of one label a pair may have.
    fallback : (low, high) float64[pairs] or None
        Distances, closed, among which a pair without any negative takes the farthest.
    within_top : int or None
        Of a pair's eligible negatives this many may be picked, the nearest.
    log_weights : function (pairs, x) -> float64, or None
        Of negatives at distances x, by which --pick simans draws.
    """

    guided: Interval | None = None
    per_label: int | None = None
    fallback: Interval | None = None
    within_top: int | None = None
    log_weights: Callable[[NDArray[np.int64], Floats], Floats] | None = None

    def late(self, rule: Rule) -> bool:
        """Whether the pick draws among the nearest, once the rules of ranks have cut them."""
        ranked = rule.skip > 0 or self.per_label is not None or self.within_top is not None
        return rule.pick != NEAREST and ranked


def limited_search(
    setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule, constraints: Constraints
) -> Iterator[Found]:
    """As search(), under constraints. Cost: a search for a few more than wanted, and again for pairs left short.

    With a share: see shared_search(). What is searched again is not shared.
    """
    if constraints.guided is None and constraints.per_label is None and constraints.within_top is None:
        first = 0
        for group, found in zip(groups, _first_search(setting, groups, pairs, rule), strict=True):
            places = np.arange(first, first + group.size)
            yield _with_fallback(setting, group, pairs, places, rule, constraints, found)
            first += group.size
        return
    look = first_look(rule, constraints)
    if not look.take:
        yield from _all(setting, groups, pairs, rule, constraints)
        return
    first = 0
    for group, found in zip(groups, _first_search(setting, groups, pairs, look), strict=True):
        if not found.nearer.size:  # of a group without pairs, or of another worker
            yield found
            first += group.size
            continue
        size = max(1, setting.limits.answer_bytes * group.size // (ALL_BYTES * max(1, found.slot.size)))
        pieces = []
        for places in groups_of(np.arange(group.size), size):
            own, of_pair = sub_pairs(pairs, first + places)
            part = found.of(of_pair - pairs.start[first])
            pieces.append(_refined(setting, group[places], own, of_pair, rule, constraints, part, look.take))
        yield joined(pieces)
        first += group.size


def _first_search(
    setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule
) -> Iterator[Found]:  # fmt: skip
    """search(), together with other workers where there are some."""
    if setting.share is None:
        return search(setting, groups, pairs, rule)
    return shared_search(setting, setting.share, groups, pairs, rule)


def first_look(rule: Rule, constraints: Constraints) -> Rule:
    """The rule of the first search: for a few more than are wanted, for a window of ranks, or for all (take 0)."""
    take = MORE_TIMES * (rule.take + rule.skip) + MORE
    if constraints.within_top is not None:
        take = constraints.within_top
        take += 0 if constraints.guided is None else take + MORE
    elif constraints.late(rule):
        take = 0
    return _look(rule, constraints, take)


def _look(rule: Rule, constraints: Constraints, take: int) -> Rule:
    """The rule that looks for `take` candidates, in the order that `cut` reads."""
    return rule._replace(pick=NEAREST if constraints.late(rule) else rule.pick, take=take, skip=0)


def _refined(
    setting: SearchContext, anchors: NDArray[np.int32], pairs: Pairs, of_pair: NDArray[np.int64], rule: Rule,
    constraints: Constraints, found: Found, take: int,
) -> Found:  # fmt: skip
    """The answers of a group, from those of a search for `take` candidates: pairs left short are searched again."""
    kept, dropped = cut(setting.loaded, anchors, pairs, of_pair, rule, constraints, found)
    short = (ragged.lengths(found.start) == take) & ~_enough(rule, constraints, kept, found, dropped)
    again = np.zeros(anchors.size, bool)
    of_anchor = ragged.owners(pairs.start)
    again[of_anchor[short]] = True
    _count(setting.stats, dropped, ~again[of_anchor])
    if not short.any():
        return kept
    places = np.flatnonzero(again)
    own, own_pair = sub_pairs(pairs, places)
    if take * AGAIN_TIMES <= MOST:
        more = search_once(setting, anchors[places], own, _look(rule, constraints, take * AGAIN_TIMES))
        better = _refined(setting, anchors[places], own, of_pair[own_pair], rule, constraints, more, take * AGAIN_TIMES)
    else:
        (better,) = _all(setting, [anchors[places]], own, rule, constraints, of_pair[own_pair])
    return patched(kept, own_pair, better)


def _enough(rule: Rule, constraints: Constraints, kept: Found, found: Found, dropped: Dropped) -> NDArray[np.bool_]:
    """Which pairs a longer list would give nothing else: those that have all they want, or their window of ranks."""
    full = ragged.lengths(kept.start) >= rule.take
    if constraints.within_top is None:
        return full
    passed = ragged.lengths(found.start) - dropped.get("guide", 0)
    return (passed >= constraints.within_top) | (full & (rule.pick == NEAREST))


def _all(
    setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule, constraints: Constraints,
    of_pair: NDArray[np.int64] | None = None,
) -> Iterator[Found]:  # fmt: skip
    """As limited_search(), from all eligible negatives of a few anchors at a time."""
    loaded = setting.loaded
    most = loaded.store.rows if setting.lists is None else setting.lists.longest
    size = max(1, setting.limits.answer_bytes // (ALL_BYTES * max(1, most)))
    first = 0
    for group in groups:
        pieces = []
        for places in groups_of(np.arange(group.size), size):
            own, own_pair = sub_pairs(pairs, first + places)
            found = search_once(setting, group[places], own, _look(rule, constraints, 0))
            outer = own_pair if of_pair is None else of_pair[own_pair]
            kept, dropped = cut(loaded, group[places], own, outer, rule, constraints, found)
            _count(setting.stats, dropped, np.ones(outer.size, bool))
            pieces.append(kept)
        yield joined(pieces)
        first += group.size


def _count(stats: ShardStats, dropped: Dropped, final: NDArray[np.bool_]) -> None:
    """Count the candidates dropped from pairs whose answers are `final`; the other pairs are searched again."""
    for rule, counts in dropped.items():
        stats.drop(rule, int(counts[final].sum()))


def cut(
    loaded: Dataset, anchors: NDArray[np.int32], pairs: Pairs, of_pair: NDArray[np.int64], rule: Rule,
    constraints: Constraints, found: Found,
) -> tuple[Found, Dropped]:  # fmt: skip
    """What guide, window of ranks and cap leave of eligible negatives, the first k in the pick's order.

    Parameters
    ----------
    pairs : Pairs
        Of these anchors.
    of_pair : int64[pairs]
        Which of the constraints' pairs they are.
    found : Found
        Nearest first; in the pick's order where it is not late (see Constraints).

    Returns
    -------
    Found, and how many candidates of each pair each rule drops
    """
    pair, size, dropped = ragged.owners(found.start), found.nearer.size, Dropped()
    entry = np.arange(pair.size)
    if constraints.guided is not None:
        low, high = (edge[of_pair][pair] for edge in constraints.guided)
        x = loaded.guide.distances(anchors[ragged.owners(pairs.start)[pair]], found.slot) if loaded.guide else found.x
        passes = (x >= low) & (x <= high)
        entry = np.flatnonzero(passes)
        dropped["guide"] = np.bincount(pair[~passes], minlength=size)
    place = ragged.nth_of_run(pair[entry])
    entry = entry[(place >= rule.skip) & (place < (constraints.within_top or pair.size))]
    if constraints.per_label is not None:
        passes = _capped(loaded, constraints.per_label, pair[entry], found.slot[entry])
        dropped["label cap"] = np.bincount(pair[entry[~passes]], minlength=size)
        entry = entry[passes]
    if constraints.late(rule):
        slot, x, weights = found.slot[entry], found.x[entry], None
        if constraints.log_weights is not None:
            weights = constraints.log_weights(of_pair[pair[entry]], x)
        entry = entry[_drawn(loaded, pairs, rule, pair[entry], slot, x, weights)]
    entry = entry[ragged.nth_of_run(pair[entry]) < rule.take]
    return Found(ragged.grouped(pair[entry], size), found.slot[entry], found.x[entry], found.nearer), dropped


def _drawn(
    loaded: Dataset, pairs: Pairs, rule: Rule, pair: NDArray[np.int64], slot: NDArray[np.int32], x: Floats,
    log_weights: Floats | None,
) -> NDArray[np.int64]:  # fmt: skip
    """The entries that are drawn, each pair's in the order of the draws."""
    draw = np.empty(pair.size, np.uint64)
    draws(pairs.prefix[pair], loaded.rows.draw_key[slot], draw)
    key: NDArray[Any] = draw
    if rule.pick != RANDOM:
        key = np.empty(pair.size)
    if rule.pick == WEIGHTED:
        weighted_keys(rule.metric, loaded.store.dimension, x, draw, key)
    elif log_weights is not None:
        log_draws(draw, key)
        key -= log_weights
    runs, entry = np.append(ragged.runs(pair), pair.size), np.empty(pair.size, np.int64)
    entry = entry[: least_of_runs(runs, key, slot, loaded.rows.rank, rule.take, entry)]
    return entry[key[entry] < np.inf] if rule.pick == WEIGHTED else entry


def _capped(loaded: Dataset, most: int, pair: NDArray[np.int64], slot: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which negatives, nearest first, are among the first `most` of each of their labels."""
    if loaded.labels.multiple:
        return _capped_sets(loaded, most, pair, slot)
    label = loaded.rows.label[slot]
    order = np.lexsort((label, pair))  # stable
    keep = np.empty(order.size, bool)
    keep[order] = (ragged.nth_of_run(pair[order], label[order]) < most) | (label[order] < 0)
    return keep


def _capped_sets(loaded: Dataset, most: int, pair: NDArray[np.int64], slot: NDArray[np.int32]) -> NDArray[np.bool_]:
    """As _capped(), for rows with several labels: a negative counts for each of them."""
    start, codes = loaded.labels.set_start, loaded.labels.set_code
    keep, uses = np.ones(pair.size, bool), Counter[tuple[int, int]]()
    for entry, (of_pair, b) in enumerate(zip(pair.tolist(), slot.tolist(), strict=True)):
        labels = [(of_pair, label) for label in codes[start[b] : start[b + 1]].tolist()]
        keep[entry] = all(uses[label] < most for label in labels)
        if keep[entry]:
            uses.update(labels)
    return keep


def _with_fallback(
    setting: SearchContext, anchors: NDArray[np.int32], pairs: Pairs, places: NDArray[np.int64], rule: Rule,
    constraints: Constraints, found: Found,
) -> Found:  # fmt: skip
    """The answers, in which pairs without any negative in their band take the farthest, whatever the band."""
    empty = ragged.lengths(found.start) == 0
    if constraints.fallback is None or not empty.any():
        return found
    own, of_pair = sub_pairs(pairs, places)
    own = own._replace(low=constraints.fallback[0][of_pair], high=constraints.fallback[1][of_pair])
    chosen = np.unique(ragged.owners(own.start)[empty])
    again, again_pair = sub_pairs(own, chosen)
    farthest = rule._replace(pick=FARTHEST, count_nearer=False)
    taken = search_once(setting, anchors[chosen], again, farthest)
    wanted = np.flatnonzero(empty[again_pair])
    taken = taken.of(wanted)
    setting.stats.fallbacks += int((ragged.lengths(taken.start) > 0).sum())
    return patched(found, again_pair[wanted], taken)
