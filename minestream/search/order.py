"""The order of the rows in a search: lanes, in spans that are swept together, and ranges that are refined together."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.refine import Ranges
from minestream.kernels.types import FARTHEST, NEARER_CAP, NEAREST, NEGATIVE, POSITIVE, Rows, Rule
from minestream.kernels.units import Units
from minestream.search.context import SearchContext
from minestream.system import ragged
from minestream.system.threads import apart, slices

GROUP_ROWS = 16_384  # anchors swept together, at least half of it
LARGE_LABEL = 0.2  # of the rows: so much of the work is saved where they do not meet each other
STEP_SHARE = 1.0  # rows of a stride, as a share of those seen before it, and at least LEAST_ROWS
LEAST_ROWS = 2_048
LARGEST = 2**63 - 1
TASKS_EACH = 32  # of a thread: some lanes have more to refine than others
SAMPLED_LANES = 1 << 16  # by which they are cut
SCATTERING = np.uint32(2_654_435_761)  # of numbers of twin sets


class Span(NamedTuple):
    """Lanes first ... end - 1 of one leg (the last of the groups swept together), one role, and one large label."""

    first: int
    end: int
    leg: int
    anchors: bool
    candidates: bool
    label: int  # -1: any but a large one

    def may_meet(self, other: Span) -> bool:
        """Whether rows of both may form pairs."""
        same_label = self.label >= 0 and self.label == other.label
        return not same_label and ((self.anchors and other.candidates) or (self.candidates and other.anchors))


class Order:
    """Lanes: leg by leg the anchors that are candidates too and those that are not; then candidates only.

    Where only near rows meet, all are one leg.

    Within each span the lanes of a search for negatives are sorted by cell; a label of many rows has spans of its own,
    which do not meet. Where negatives must share a parent they are sorted by it first, those of a search for positives
    by label, so that tiles of one parent, or label, are the only ones, and then by cell where the nearest are looked
    for; else they are scattered. Then by twin set, so that tiles of rows that are equal can be left out where such are
    no candidates.
    The probe looks at the candidates that stand around an anchor in this order.

    Attributes
    ----------
    slot : int32[lanes]
    key : int[slots]
        By which lanes are sorted; let go after the probe.
    place : int64[anchors]
        Which anchor, of all groups one after another, a lane holds.
    lane_of_place : int64[anchors]
    both, anchors, rows : int
        How many lanes hold anchors that are candidates too (of the first leg, all before the others), how many hold
        anchors, and how many there are.
    spans : list of Span
    group_start : int64[groups + 1]
    """

    def __init__(
        self, setting: SearchContext, groups: Sequence[NDArray[np.int32]], rule: Rule, cell: NDArray[np.uint16]
    ) -> None:  # fmt: skip
        twin = setting.loaded.rows.twin
        self.key, large = _keys(setting, rule, cell), _large_labels(setting, rule)
        offered = _offered(setting, rule)
        slots = np.concatenate(groups)
        sizes = np.array([group.size for group in groups])
        self.group_start = ragged.starts(sizes)
        legs = np.full(sizes.size, sizes.size - 1) if setting.loaded.rows.near.size else legs_of(sizes, setting.owners)
        leg, alone = ragged.repeat(legs, self.group_start), ~offered[slots]
        self.place = sorted_by(twin[slots], self.key[slots], large[slots], alone, leg)
        self.both, self.anchors = int(slots.size - alone.sum()), int(slots.size)
        offered[slots] = False
        others = np.flatnonzero(offered)
        others = others[sorted_by(twin[others], self.key[others], large[others])]
        self.rows = self.anchors + others.size
        self.spans = [
            *_spans(0, leg[self.place], alone[self.place], large[slots[self.place]]),
            *_spans(self.anchors, np.full(others.size, -1), None, large[others]),
        ]
        self.slot = np.concatenate([slots[self.place], others]).astype(np.int32)
        self.lane_of_place = np.empty(self.anchors, np.int64)
        self.lane_of_place[self.place] = np.arange(self.anchors)

    def lanes_of(self, group: int) -> NDArray[np.int64]:
        """The lanes of a group's anchors, in the order asked for."""
        return self.lane_of_place[self.group_start[group] : self.group_start[group + 1]]

    def around(self, lanes: NDArray[np.int64], span: Span) -> NDArray[np.int64]:
        """For each of `lanes`, int64, the lane of a span around which rows stand that are near."""
        if span.first <= lanes[0] < span.end:
            return lanes
        keys = self.key[self.slot[span.first : span.end]]
        found = np.searchsorted(keys, self.key[self.slot[lanes]])
        return span.first + np.minimum(found, span.end - span.first - 1)


def sorted_by(*keys: NDArray[Any]) -> NDArray[np.int64]:
    """As np.lexsort(keys); several times as fast where one number holds all keys of a row."""
    whole, width = np.zeros(keys[0].size, np.int64), 1
    for key in keys if whole.size else ():
        least = int(key.min())
        wider = width * (int(key.max()) - least + 1)
        if wider > LARGEST:
            return np.lexsort(keys)
        whole += (key.astype(np.int64) - least) * width
        width = wider
    return np.argsort(whole, kind="stable")


def _keys(setting: SearchContext, rule: Rule, cell: NDArray[np.uint16]) -> NDArray[Any]:
    """By which lanes are sorted, int[n]: the cell, or the parent or label and then the cell or a place by chance."""
    rows = setting.loaded.rows
    if rule.wanted == NEGATIVE:
        return (rows.parent.astype(np.int64) << 32) + cell if rows.parent.size else cell
    if rule.pick == NEAREST:
        return rows.label.astype(np.int64) * (int(cell.max(initial=0)) + 1) + cell
    return (rows.label.astype(np.int64) << 32) + rows.twin.astype(np.uint32) * SCATTERING


def _large_labels(setting: SearchContext, rule: Rule) -> NDArray[np.int32]:
    """The label of each slot where a search for negatives gains by keeping its rows apart, else -1; int32[n].

    Of two tables that search each other it is the table, 0 or 1.
    """
    rows = setting.loaded.rows
    if rows.apart:
        return _sides(rows)
    if rule.wanted != NEGATIVE or rows.set_start.size:
        return np.full(rows.label.size, -1, np.int32)
    counts = np.bincount(rows.label[rows.label >= 0])
    large = np.append(counts >= LARGE_LABEL * rows.label.size, False)  # the last: those without a label
    return np.where(large[rows.label], rows.label, -1).astype(np.int32)


def _spans(
    begin: int, leg: NDArray[np.int64], alone: NDArray[np.bool_] | None, label: NDArray[np.int32]
) -> list[Span]:  # fmt: skip
    """The spans of anchors, by leg, whether they are candidates too (not `alone`), and label; None: candidates only."""
    keys = [leg, label] if alone is None else [leg, alone, label]
    edges = [*ragged.runs(*keys).tolist(), leg.size] if leg.size else []
    return [
        Span(begin + first, begin + end, int(leg[first]), alone is not None, alone is None or not alone[first],
             int(label[first]))
        for first, end in itertools.pairwise(edges)
    ]  # fmt: skip


def legs_of(sizes: NDArray[np.int64], owners: Sequence[int] = ()) -> NDArray[np.int64]:
    """The leg of each group, named by its last group: consecutive groups, of GROUP_ROWS anchors or nearly so.

    Where the groups have owners, all of a leg have the same.
    """
    leg, first, total, last = np.empty(sizes.size, np.int64), 0, 0, sizes.size - 1
    for index, size in enumerate(sizes.tolist()):
        total += size
        if total >= GROUP_ROWS // 2 or index == last or (owners and owners[index] != owners[index + 1]):
            leg[first : index + 1] = index
            first, total = index + 1, 0
    return leg


def _offered(setting: SearchContext, rule: Rule) -> NDArray[np.bool_]:
    """The slots that the search takes as candidates: of equal rows of one label, group and parent enough for an anchor.

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
    if equal is None:
        return candidates
    order = np.flatnonzero(candidates & (np.bincount(equal) > enough)[equal])  # of fewer equal rows all are kept
    classes = [each for each in (rows.label, rows.group, rows.parent) if each.size] + [_sides(rows)] * (rows.apart > 0)
    keys: list[NDArray[Any]] = [rows.rank, *classes, equal]
    order = order[np.lexsort([key[order] for key in keys])]
    offered = candidates.copy()
    offered[order] = ragged.nth_of_run(*(key[order] for key in keys[1:])) < enough
    if rule.wanted == POSITIVE:
        offered[rows.known] = candidates[rows.known]
    elif not rows.set_start.size:
        _keep_enough_negatives(rows, equal, offered, order[offered[order]], enough)
    return offered


def _sides(rows: Rows) -> NDArray[np.int32]:
    """Which of two tables that search each other each slot is of, 0 or 1; 0 where none do."""
    return (np.arange(rows.label.size) >= (rows.apart or rows.label.size)).astype(np.int32)


def _keep_enough_negatives(
    rows: Rows, equal: NDArray[np.int32], offered: NDArray[np.bool_], order: NDArray[np.int64], enough: int
) -> None:
    """Of these rows keep, of equal ones of one parent, only the first, in key order, among which every label and group
    finds enough."""
    kinds = [each[order] for each in (rows.parent, _sides(rows), equal) if each.size]
    keys: list[NDArray[Any]] = [rows.rank[order], *kinds]
    by = np.lexsort(keys)
    order = order[by]
    for first, end in itertools.pairwise([*ragged.runs(*(kind[by] for kind in kinds)).tolist(), order.size]):
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


def strides_of(spans: Sequence[Span], seen: int, most: int) -> list[Span]:
    """Lanes swept at a time: at most a share of those seen before, so that gates narrow in time, and `most`.

    seen : candidates that each anchor met before the first
    """
    strides = []
    for span in spans:
        first = span.first
        while span.anchors and first < span.end:
            end = min(span.end, first + min(most, max(LEAST_ROWS, int(STEP_SHARE * (seen + first)))))
            strides.append(span._replace(first=first, end=end))
            first = end
    return strides


def ranges_of(lanes: Sequence[tuple[int, int]], anchors: int, threads: int) -> Ranges:
    """The anchors among the lanes of a step, (first, end) of one or two sides, the left one first, in ranges."""
    cuts, done = list[tuple[int, int]](), 0
    for begin, last in lanes:
        first, end = max(begin, done), min(last, anchors)
        if end > first:
            cuts += [(first + part.start, first + part.stop) for part in slices(end - first, threads * TASKS_EACH)]
            done = end
    return _ranges(cuts, threads)


def _ranges(cuts: Sequence[tuple[int, int]], threads: int) -> Ranges:
    first, end = np.array(cuts, np.int64).reshape(-1, 2).T.copy()
    return Ranges(first, end, np.zeros((threads, len(cuts) + 1), np.int64), apart((1,), np.int64))


def dealt(count: int, threads: int) -> list[Units]:
    """So many units of work, as each of at most so many threads sees them."""
    taken = apart((1,), np.int64)
    return [Units(count, threads, taken, apart((2,), np.int64)) for _ in range(min(threads, count))]


def any_left(units: Sequence[Units]) -> bool:
    """Whether some units are not done."""
    return any(int(each.taken[0]) < each.end or int(each.own[0]) < int(each.own[1]) for each in units)


def ranges_among(lanes: NDArray[np.int32], anchors: int, threads: int) -> Ranges:
    """The first so many lanes in ranges for each of which about as many of some lanes, of these, are to be refined."""
    lanes = lanes[:: 1 + lanes.size // SAMPLED_LANES]
    lanes, parts = lanes[lanes < anchors], threads * TASKS_EACH
    edges = np.quantile(lanes, np.arange(1, parts) / parts, method="nearest") if lanes.size else np.empty(0)
    first: list[int] = np.unique([0, *edges.tolist()]).astype(np.int64).tolist()
    return _ranges(list(itertools.pairwise([*first, anchors])), threads)
