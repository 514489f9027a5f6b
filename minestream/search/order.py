"""The order of the rows in a search: lanes, in spans that are swept together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.types import FARTHEST, NEARER_CAP, NEAREST, POSITIVE, Rows, Rule
from minestream.search.context import SearchContext
from minestream.system import ragged

GROUP_ROWS = 16_384  # anchors swept together, at least half of it
SAMPLE_ROWS = 2_048  # that the probe looks at, at most, and SAMPLE_SHARE of all; more where more is looked for
SAMPLE_SHARE = 0.04
POSITIVE_SAMPLE = 4  # times as many for positives: only those of its own label cost an anchor anything
SAMPLE_STEP = 4  # the first step of the probe, in rows looked for; each further one is as long as all before it
SAMPLE_LENGTHS = 8  # the sample, in rows looked for, at least


class Span(NamedTuple):
    """Lanes first ... end - 1 of one leg (the last of the groups swept together) and one role."""

    first: int
    end: int
    leg: int
    anchors: bool
    candidates: bool


class Order:
    """Lanes: leg by leg the anchors that are candidates too and those that are not; candidates only; the sample again.

    Within each span the lanes are sorted by label, so that tiles of one label can be left out, or are the only ones;
    and then by twin set, so that tiles of rows that are equal can be left out where such are no candidates.

    Attributes
    ----------
    slot : int32[lanes]
    steps : list of (int, int)
        Parts of the sample that the probe looks at one after another.
    place : int64[anchors]
        Which anchor, of all groups one after another, a lane holds.
    lane_of_place : int64[anchors]
    anchors, rows : int
        Where the candidates only, and the sample, begin.
    spans : list of Span
        All lanes but the sample.
    group_start : int64[groups + 1]
    """

    def __init__(self, setting: SearchContext, groups: Sequence[NDArray[np.int32]], rule: Rule) -> None:
        label, twin = setting.loaded.rows.label, setting.loaded.rows.twin
        offered = _offered(setting, rule)
        slots = np.concatenate(groups)
        sizes = np.array([group.size for group in groups])
        self.group_start = ragged.starts(sizes)
        leg, alone = ragged.repeat(_legs(sizes), self.group_start), ~offered[slots]
        self.place = np.lexsort((twin[slots], label[slots], alone, leg))
        self.anchors = int(slots.size)
        candidates = np.flatnonzero(offered)
        offered[slots] = False
        others = np.flatnonzero(offered)
        others = others[np.lexsort((twin[others], label[others]))]
        self.rows = self.anchors + others.size
        self.spans = _spans(leg[self.place], alone[self.place], self.rows)
        sample = np.random.default_rng(0).permutation(candidates)[: _sample_size(rule, candidates.size)]
        self.steps = _steps(rule, sample.size)
        for first, end in self.steps:  # of positives only like labels meet
            sample[first:end] = sample[first:end][np.argsort(label[sample[first:end]], kind="stable")]
        self.slot = np.concatenate([slots[self.place], others, sample]).astype(np.int32)
        self.lane_of_place = np.empty(self.anchors, np.int64)
        self.lane_of_place[self.place] = np.arange(self.anchors)


def _spans(leg: NDArray[np.int64], alone: NDArray[np.bool_], rows: int) -> list[Span]:
    """The spans of anchors, by leg and by whether they are candidates too, and the span of candidates only."""
    edges = [*ragged.runs(leg, alone).tolist(), leg.size]
    spans = [Span(first, end, int(leg[first]), True, not alone[first]) for first, end in itertools.pairwise(edges)]
    return [*spans, Span(leg.size, rows, -1, False, True)] if rows > leg.size else spans


def _steps(rule: Rule, size: int) -> list[tuple[int, int]]:
    """The sample in steps of growing length."""
    steps, end = [], 0
    while end < size:
        first = end
        end = min(size, first + max(first, SAMPLE_STEP * (rule.take + rule.skip)))
        steps.append((first, end))
    return steps


def _sample_size(rule: Rule, rows: int) -> int:
    """How many rows the probe looks at."""
    if not rule.take:
        return 0
    least = SAMPLE_LENGTHS * (rule.take + rule.skip)
    most = min(SAMPLE_ROWS, int(rows * SAMPLE_SHARE)) * (POSITIVE_SAMPLE if rule.wanted == POSITIVE else 1)
    return min(rows, max(least, most))


def _legs(sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """The leg of each group, named by its last group: consecutive groups, of GROUP_ROWS anchors or nearly so."""
    leg, first, total = np.empty(sizes.size, np.int64), 0, 0
    for index, size in enumerate(sizes.tolist()):
        total += size
        if total >= GROUP_ROWS // 2 or index == sizes.size - 1:
            leg[first : index + 1] = index
            first, total = index + 1, 0
    return leg


def _offered(setting: SearchContext, rule: Rule) -> NDArray[np.bool_]:
    """The slots that the search takes as candidates: of equal rows with one label and group as many as an anchor needs.

    Equal rows are at equal distances, so of those with the same relation to it an anchor takes the first in key order.
    A listed positive differs from its equals, so searches for positives always take it.
    """
    rows, equal = setting.loaded.rows, setting.loaded.equal
    candidates = setting.candidates(rule.wanted)
    if not rule.take or rule.pick not in (NEAREST, FARTHEST):
        return candidates
    enough = rule.take + rule.skip + 1 + (NEARER_CAP if rule.count_nearer else 0)
    for start in (rows.known_start, rows.barred_start):  # so many of the first may be something else
        enough += int(ragged.lengths(start).max(initial=0))
    if equal is None or np.bincount(equal).max(initial=0) <= enough:
        return candidates
    classes: list[NDArray[np.int32]] = [rows.label, rows.group] if rows.group.size else [rows.label]
    keys: list[NDArray[Any]] = [rows.rank, *classes, equal]
    order = np.lexsort(keys)
    order = order[candidates[order]]
    offered = np.zeros(candidates.size, bool)
    offered[order] = ragged.nth_of_run(*(key[order] for key in keys[1:])) < enough
    if rule.wanted == POSITIVE:
        offered[rows.known] = candidates[rows.known]
    elif not rows.set_start.size:
        _keep_enough_negatives(rows, equal, offered, enough)
    return offered


def _keep_enough_negatives(rows: Rows, equal: NDArray[np.int32], offered: NDArray[np.bool_], enough: int) -> None:
    """Of a set of equal rows keep only the first, in key order, among which every label and group finds enough."""
    order = np.flatnonzero(offered)
    order = order[np.lexsort((rows.rank[order], equal[order]))]
    for first, end in itertools.pairwise([*ragged.runs(equal[order]).tolist(), order.size]):
        if end - first <= enough:
            continue
        members = order[first:end]
        out = np.zeros(members.size, np.int64)  # of the members so far, at most how many share a label, or a group
        for kind in (rows.label, rows.group):
            if kind.size:
                by_kind = np.argsort(kind[members], kind="stable")
                nth = np.empty(members.size, np.int64)
                nth[by_kind] = ragged.nth_of_run(kind[members][by_kind])
                out += np.maximum.accumulate(nth + 1)
        offered[members[np.arange(1, members.size + 1) - out > enough]] = False
