"""The search by the sweep. Where many a pair are looked for, a sample of the candidates says first how far they reach.

The probe's gates are of no use to a pair that takes more than it looks at: of n candidates in any order some
take * log(n / take) would become exact. The last of those that a pair finds in a sample is farther than what it takes
of all, or it is searched again: the answer is exact.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.types import NEAREST, NEGATIVE, Pairs, Rule
from minestream.search.context import SearchContext
from minestream.search.meeting import Meeting
from minestream.search.results import Found, patched, sub_pairs
from minestream.search.sweep import Sweeping
from minestream.search.work import WorkMeter
from minestream.system import ragged

MANY = 128  # taken by a pair
SHARE = 32  # of the candidates one in so many is in the sample
DEVIATIONS = 4  # of the number that a sample is expected to hold; one pair in 30,000 is searched again


def search_swept(
    setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule
) -> Iterator[Found]:
    """As search()."""
    if rule.wanted != NEGATIVE or rule.pick != NEAREST or rule.take + rule.skip < MANY:
        yield from _swept(setting, groups, pairs, rule)
        return
    high, first = _reaches(setting, groups, pairs, rule), 0
    nearer = pairs._replace(high=np.minimum(pairs.high, high))
    for group, found in zip(groups, _swept(setting, groups, nearer, rule), strict=True):
        own, of_pair = sub_pairs(pairs, np.arange(first, first + group.size))
        short = (ragged.lengths(found.start) < rule.take) & (high[of_pair] < own.high)
        yield _again(setting, group, own, rule, found, short) if short.any() else found
        first += group.size


def _swept(setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule) -> Iterator[Found]:
    kind = Meeting if setting.loaded.rows.near.size else Sweeping
    sweeping = kind(setting, groups, pairs, rule)
    for group in sweeping.run():
        sweeping.report()
        yield sweeping.answers(group)


def _reaches(
    setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule
) -> NDArray[np.float64]:
    """How far what each pair takes is expected to reach, float64[pairs]; inf where the sample holds too few."""
    expected = (rule.take + rule.skip) / SHARE
    most = math.ceil(expected + DEVIATIONS * math.sqrt(expected))
    drawn = np.random.default_rng(0).random(setting.loaded.store.rows) < 1 / SHARE
    among = drawn if setting.among is None else drawn & setting.among
    sample, reach = replace(setting, among=among, meter=WorkMeter()), np.full(pairs.positive.size, np.inf)
    looked, first = rule._replace(take=most, skip=0, count_nearer=False), 0
    for found in _swept(sample, groups, pairs, looked):
        full = np.flatnonzero(ragged.lengths(found.start) == most)
        reach[first + full] = found.x[found.start[full + 1] - 1]
        first += found.nearer.size
    return reach


def _again(
    setting: SearchContext, anchors: NDArray[np.int32], pairs: Pairs, rule: Rule, found: Found,
    short: NDArray[np.bool_],
) -> Found:  # fmt: skip
    """The answers, in which pairs that are short are those of a search without a sample."""
    places = np.unique(ragged.owners(pairs.start)[short])
    own, of_pair = sub_pairs(pairs, places)
    (better,) = _swept(setting, [anchors[places]], own, rule)
    return patched(found, of_pair, better)
