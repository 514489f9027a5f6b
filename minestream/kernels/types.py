"""The named tuples and constants that kernels share."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

POSITIVE, NEGATIVE, NEITHER = 1, -1, 0
GROUP_POSITIVE, GROUP_NEGATIVE = 2, -2  # would be, but rows of one group may not
FORBIDS_POSITIVES, FORBIDS_NEGATIVES = 1, 2
NEAREST, RANDOM, WEIGHTED, KEY_ORDER, FARTHEST = 0, 1, 2, 3, 4
SIMANS = 5  # drawn among the nearest: no search knows it
IGNORE, EXCLUDE, WITHIN, ONLY = 0, 1, 2, 3
NEARER_CAP = 1000  # negatives nearer than a pair's band are counted up to here
ELIGIBLE, IN_GROUP, DUPLICATE, TALLIES = 0, 1, 2, 3


class Rows(NamedTuple):
    """Labels, lists, groups and keys of every slot; an array of length 0 means that no slot has one."""

    label: NDArray[np.int32]  # [n] code of the label, or of the set of labels; -1 unlabelled
    set_start: NDArray[np.int64]  # [n + 1] or [0]
    set_code: NDArray[np.int32]  # sorted label codes of each slot
    known_start: NDArray[np.int64]  # [n + 1] or [0]: sorted slots that are positives because they are listed
    known: NDArray[np.int32]
    barred_start: NDArray[np.int64]  # likewise those that are neither
    barred: NDArray[np.int32]
    group: NDArray[np.int32]  # [n] or [0]; -1 in none
    twin: NDArray[np.int32]  # [n] equal where vectors are equal, or of one direction where length plays no part
    rank: NDArray[np.int64]  # [n] place in key order
    draw_key: NDArray[np.uint64]  # [n] K(row)
    square: NDArray[np.float64]  # [n] canonical dot(a, a)
    group_forbids: int
    oldest: NDArray[np.int64] = np.empty(0, np.int64)  # [n] or [0]: candidates are the slots oldest[a] ... a - 1 only
    until: NDArray[np.int64] = np.empty(0, np.int64)  # [n] or [0]: nobody's candidate from this slot on
    apart: int = 0  # rows on one side of this slot form no pairs; 0: all may
    parent: NDArray[np.int32] = np.empty(0, np.int32)  # [n] or [0]: negatives share it; -1 unknown, shared with none
    near: NDArray[np.uint16] = np.empty((0, 0), np.uint16)  # [n, LISTED] or [0, 0]: the nearest cells, nearest first
    width: int = 0  # of them so many count: see relation.looked_at


class Rule(NamedTuple):
    """What a search looks for, as numbers."""

    wanted: int  # POSITIVE or NEGATIVE
    pick: int  # NEAREST, RANDOM, WEIGHTED, KEY_ORDER, FARTHEST
    take: int  # k; 0 = all
    skip: int  # S nearest eligible left out
    own_duplicates: int  # equal to the anchor: IGNORE, EXCLUDE, ONLY
    positive_duplicates: int  # equal to, or within `within` of, the positive: IGNORE, EXCLUDE, WITHIN
    within: float
    count_nearer: bool
    metric: int


class Pairs(NamedTuple):
    """The pairs of a search: several an anchor, or one without a positive. Bands are closed intervals."""

    start: NDArray[np.int64]  # [anchors + 1]
    positive: NDArray[np.int32]  # [pairs] slot, or -1
    low: NDArray[np.float64]  # [pairs]
    high: NDArray[np.float64]  # [pairs]
    floor: NDArray[np.float64]  # [pairs] nearer ones are counted from here on
    prefix: NDArray[np.uint64]  # [pairs] of the draws


class Best(NamedTuple):
    """The best so far of each pair: a heap by (key, rank) whose first entry is the worst, or all that was taken."""

    key: NDArray[np.uint64]  # [pairs, capacity]
    slot: NDArray[np.int32]  # [pairs, capacity]
    x: NDArray[np.float64]  # [pairs, capacity]
    found: NDArray[np.int64]  # [pairs]
    near_key: NDArray[np.uint64]  # [pairs, skip]: the S nearest, where the pick has another order
    near_slot: NDArray[np.int32]
    near_x: NDArray[np.float64]
    near_count: NDArray[np.int64]
    nearer: NDArray[np.int32]  # [pairs] up to NEARER_CAP
    tally: NDArray[np.int64]  # [TALLIES]


class Problem(NamedTuple):
    """One search: what is looked for, among which rows, and the best so far."""

    rows: Rows
    rule: Rule
    pairs: Pairs
    best: Best


class Strip(NamedTuple):
    """A few anchors of a scan or of windows, with vectors in float64."""

    slot: NDArray[np.int32]  # [A] ascending in windows
    vector: NDArray[np.float64]  # [A, d]
    positive: NDArray[np.float64]  # [m, d] of the positives; read only when duplicates go by a threshold above 0
    positive_at: NDArray[np.int64]  # [pairs] which row of `positive` belongs to each pair
