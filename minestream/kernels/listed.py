"""The look at lists: each pair meets the candidates that stand in its anchor's list, nearest first."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.distances import load_row
from minestream.kernels.jit import kernel
from minestream.kernels.relation import is_listed, lost_to_group, relation
from minestream.kernels.select import offer
from minestream.kernels.types import IN_GROUP, NEAREST, WITHIN, Problem, Strip


class Entries(NamedTuple):
    """The lists of some anchors, each by (distance, key order)."""

    first: NDArray[np.int64]  # [A]
    end: NDArray[np.int64]  # [A]
    slot: NDArray[np.int32]  # [entries]
    x: NDArray[np.float64]  # [entries] canonical distances
    alike_start: NDArray[np.int64]  # [n + 1] or [0]: sorted slots that are duplicates of each slot
    alike: NDArray[np.int32]


@kernel(inline=True)
def _look(
    problem: Problem, strip: Strip, entries: Entries, vectors: np.ndarray, at: np.ndarray, row: np.ndarray, i: int,
    pair: int,
) -> None:  # fmt: skip
    """Offer one pair of anchor i its list, as far as it may take of it."""
    rows, rule, pairs, best = problem
    a = strip.slot[i]
    for e in range(entries.first[i], entries.end[i]):
        b, x = entries.slot[e], entries.x[e]
        if x > pairs.high[pair]:
            break
        if rule.pick == NEAREST and best.found[pair] == best.key.shape[1]:
            break
        kind = relation(rows, a, b)
        if kind != rule.wanted:
            best.tally[IN_GROUP] += lost_to_group(kind, rule.wanted)
            continue
        if pairs.positive[pair] >= 0 and is_listed(entries.alike_start, entries.alike, pairs.positive[pair], b):
            continue
        if rule.positive_duplicates == WITHIN:
            load_row(vectors, at[e], row)
        offer(problem, pair, a, b, x, row, strip.positive, strip.positive_at)


@kernel(allocates=True)
def look(problem: Problem, strip: Strip, entries: Entries, vectors: np.ndarray, at: np.ndarray, dimension: int) -> None:
    """Offer every pair of some anchors the candidates in the anchor's list. Cost: what is looked at of the lists.

    Parameters
    ----------
    problem : Problem, with pairs of the strip's anchors
    strip : Strip, whose vectors are not read
    entries : Entries
    vectors : (m, d), read only when duplicates go by a threshold above 0
    at : int64[entries], the row of each entry in `vectors`, read then, too
    dimension : of the vectors, whether they are there or not
    """
    row = np.empty(dimension)
    for i in range(strip.slot.size):
        for pair in range(problem.pairs.start[i], problem.pairs.start[i + 1]):
            _look(problem, strip, entries, vectors, at, row, i, pair)


@kernel
def scores_of(
    first: np.ndarray, end: np.ndarray, slot: np.ndarray, start: np.ndarray, scored: np.ndarray, score: np.ndarray,
    out_score: np.ndarray,
) -> None:  # fmt: skip
    """The score of every entry of A lists, NaN where there is none. Cost: a binary search an entry.

    Parameters
    ----------
    first, end : int64[A], the lists
    slot : int32[entries]
    start : int64[A + 1], the scores of each list's anchor
    scored : int32[scores], ascending slots
    score : float64[scores]
    out_score : float64[entries]
    """
    for i in range(first.size):
        own = scored[start[i] : start[i + 1]]
        for e in range(first[i], end[i]):
            at = np.searchsorted(own, slot[e])
            there = at < own.size and own[at] == slot[e]
            out_score[e] = score[start[i] + at] if there else np.nan


@kernel
def find_entries(
    first: np.ndarray, slot: np.ndarray, owner: np.ndarray, wanted: np.ndarray, out_entry: np.ndarray
) -> None:
    """Where slots stand in lists that hold them. Cost: what lies before each.

    Parameters
    ----------
    first : int64[A], where each list begins
    slot : int32[entries]
    owner : int64[m], in whose list
    wanted : int32[m]
    out_entry : int64[m]
    """
    for i in range(wanted.size):
        e = first[owner[i]]
        while slot[e] != wanted[i]:
            e += 1
        out_entry[i] = e
