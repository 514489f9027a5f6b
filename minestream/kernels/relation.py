"""Relations: whether a pair of rows is positive, negative or neither."""

from __future__ import annotations

import numpy as np

from minestream.kernels.jit import kernel
from minestream.kernels.types import (
    FORBIDS_NEGATIVES,
    FORBIDS_POSITIVES,
    GROUP_NEGATIVE,
    GROUP_POSITIVE,
    NEGATIVE,
    NEITHER,
    POSITIVE,
    Rows,
)

NARROWER = 8  # a row is a member of so many times fewer cells than it looks into


@kernel(inline=True)
def share_label(rows: Rows, a: int, b: int) -> bool:
    """Whether two labelled slots share a label."""
    if rows.label[a] == rows.label[b]:
        return rows.label[a] >= 0
    if rows.set_start.size == 0:
        return False
    i, j = rows.set_start[a], rows.set_start[b]
    while i < rows.set_start[a + 1] and j < rows.set_start[b + 1]:
        if rows.set_code[i] == rows.set_code[j]:
            return True
        if rows.set_code[i] < rows.set_code[j]:
            i += 1
        else:
            j += 1
    return False


@kernel(inline=True)
def share_parent(parent: np.ndarray, a: int, b: int) -> bool:
    """Whether two rows share the value that negatives must share; where none is asked for, all do."""
    return parent.size == 0 or parent[a] == parent[b] >= 0


@kernel(inline=True)
def is_listed(start: np.ndarray, members: np.ndarray, a: int, b: int) -> bool:
    """Whether slot b stands in the sorted list of slot a; no lists at all: no."""
    if start.size == 0:
        return False
    first, end = start[a], start[a + 1]
    while first < end:
        middle = (first + end) // 2
        if members[middle] < b:
            first = middle + 1
        else:
            end = middle
    return first < start[a + 1] and members[first] == b


@kernel(inline=True)
def narrow(width: int) -> int:
    """Of how many cells a row is a member where it looks into `width`."""
    return max(1, width // NARROWER)


@kernel(inline=True)
def is_near(near: np.ndarray, a: int, count: int, cell: int) -> bool:
    """Whether a cell is among the `count` nearest of slot a. A loop without an exit becomes vector code."""
    found = False
    for place in range(count):
        found |= near[a, place] == cell
    return found


@kernel(inline=True)
def looked_at(rows: Rows, a: int, b: int) -> bool:
    """Whether either of two slots looks into a cell of which the other is a member; without cells all do."""
    if rows.near.shape[0] == 0:
        return True
    for place in range(narrow(rows.width)):
        if is_near(rows.near, b, rows.width, rows.near[a, place]):
            return True
        if is_near(rows.near, a, rows.width, rows.near[b, place]):
            return True
    return False


@kernel(inline=True)
def meet_first(rows: Rows, a: int, b: int, cell: int) -> bool:
    """Whether two slots that meet in a cell, of which one is a member, meet in no other before.

    Before: in the order of the cells that are near the first of the two slots.
    """
    a, b = min(a, b), max(a, b)
    members = narrow(rows.width)
    for place in range(rows.width):
        other = rows.near[a, place]
        if other == cell:
            return True
        if is_near(rows.near, b, rows.width if place < members else members, other):
            return False
    return True


@kernel(inline=True)
def outside(rows: Rows, a: int, b: int) -> bool:
    """Whether slot b lies outside the window of slot a; without windows nothing does."""
    if rows.oldest.size and not rows.oldest[a] <= b < a:
        return True
    return rows.until.size > 0 and rows.until[b] <= a


@kernel(inline=True)
def relation(rows: Rows, a: int, b: int) -> int:
    """The relation of slot b to anchor a: POSITIVE, NEGATIVE, NEITHER, or what its group forbids it to be.

    The same from either side, when both may be anchors and there are no windows.
    """
    return relation_of_near(rows, a, b) if looked_at(rows, a, b) else NEITHER


@kernel(inline=True)
def relation_of_near(rows: Rows, a: int, b: int) -> int:
    """relation() of slots that are known to look at each other."""
    if a == b or (rows.apart > 0 and (a < rows.apart) == (b < rows.apart)):
        return NEITHER
    if outside(rows, a, b) or is_listed(rows.barred_start, rows.barred, a, b):
        return NEITHER
    if is_listed(rows.known_start, rows.known, a, b):  # whatever the groups say
        return POSITIVE
    positive = share_label(rows, a, b)
    if not positive and not share_parent(rows.parent, a, b):
        return NEITHER
    if rows.group.size and rows.group[a] >= 0 and rows.group[a] == rows.group[b]:
        if positive and rows.group_forbids & FORBIDS_POSITIVES:
            return GROUP_POSITIVE
        if not positive and rows.group_forbids & FORBIDS_NEGATIVES:
            return GROUP_NEGATIVE
    return POSITIVE if positive else NEGATIVE


@kernel(inline=True)
def lost_to_group(kind: int, wanted: int) -> bool:
    """Whether a pair of this relation would be what is wanted if its rows were not of one group."""
    return kind == (GROUP_POSITIVE if wanted == POSITIVE else GROUP_NEGATIVE)


@kernel
def relations(rows: Rows, a: int, out_kind: np.ndarray) -> None:
    """The relation of every slot to anchor a: out_kind int8[n]. A loop over labels alone becomes vector code."""
    lists = rows.set_start.size + rows.known_start.size + rows.barred_start.size + rows.parent.size + rows.apart
    lists += rows.near.size
    if lists or rows.group.size or rows.oldest.size or rows.label[a] < 0:
        for b in range(out_kind.size):
            out_kind[b] = relation(rows, a, b)
        return
    for b in range(out_kind.size):
        out_kind[b] = POSITIVE if rows.label[b] == rows.label[a] else NEGATIVE
    out_kind[a] = NEITHER
