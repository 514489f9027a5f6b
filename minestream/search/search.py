"""The search: for every pair, the exact best candidates by one rule, by the sweep (sweep.py), the scan, or among lists.

Positives and negatives are found by the same search; only the rule differs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.kernels import scan
from minestream.kernels.types import WITHIN, Pairs, Problem, Rule, Strip
from minestream.search.context import SearchContext
from minestream.search.drawn import draws_decide, search_draws
from minestream.search.listed import search_lists
from minestream.search.results import Found, count_tally, empty_best, found_of, groups_of, joined, sub_pairs
from minestream.search.swept import search_swept
from minestream.search.windows import search_windows
from minestream.search.work import search_work

SCAN_STRIP_ROWS = 64


def search(setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule) -> Iterator[Found]:
    """The best candidates of every pair of every anchor.

    Parameters
    ----------
    groups : sequence of int32[A]
        Slots of anchors, none twice; a group's answers come together, as soon as they are final.
    pairs : Pairs
        CSR by anchor, over all groups; bands in canonical distance, closed.
    rule : Rule

    Yields
    ------
    Found
        Of each group in order, by pair in the order of `pairs`.

    Notes
    -----
    Cost: of A anchors among n rows A (2 n - A) d operations of the screen, and d in float64 for every survivor; the
    scan A n d in float64.
    """
    if setting.lists is not None:
        yield from search_lists(setting, groups, pairs, rule)
        return
    if setting.loaded.rows.oldest.size:
        yield from search_windows(setting, groups, pairs, rule)
        return
    if not setting.limits.screens:
        yield from _scanned(setting, groups, pairs, rule)
        return
    if draws_decide(setting, pairs, rule):
        yield from search_draws(setting, groups, pairs, rule)
        return
    yield from search_swept(setting, groups, pairs, rule)


def search_once(setting: SearchContext, anchors: NDArray[np.int32], pairs: Pairs, rule: Rule) -> Found:
    """The answers of one group."""
    (found,) = search(setting, [anchors], pairs, rule)
    return found


def _scanned(setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule) -> Iterator[Found]:
    anchors = np.concatenate(groups)
    work = sum(search_work(setting.loaded, anchors, pairs.positive.size, rule, swept=False))
    setting.meter.begin(work)
    each = work / max(1, anchors.size * int(setting.candidates(rule.wanted).sum()))
    first = 0
    for group in groups:
        own, _ = sub_pairs(pairs, np.arange(first, first + group.size))
        some = groups_of(np.arange(group.size), setting.limits.group_anchors)
        yield joined([found for places in some for found in _scan_anchors(setting, rule, group, own, places, each)])
        first += group.size


def _blocks(setting: SearchContext, rule: Rule) -> Iterator[NDArray[np.int32]]:
    """The candidates among each block_rows slots."""
    slots = np.flatnonzero(setting.candidates(rule.wanted)).astype(np.int32)
    edges = np.arange(setting.loaded.first_candidate, setting.loaded.store.rows, setting.limits.block_rows)
    yield from (block for block in np.split(slots, np.searchsorted(slots, edges[1:])) if block.size)


def _scan_anchors(
    setting: SearchContext, rule: Rule, anchors: NDArray[np.int32], pairs: Pairs, group: NDArray[np.int64], work: float
) -> Iterator[Found]:
    """Scan all rows for the anchors at places `group`; `work` is that of one anchor and one row."""
    loaded = setting.loaded
    capacity = rule.take + rule.skip if rule.take else loaded.store.rows
    strips = []
    for places in groups_of(group, SCAN_STRIP_ROWS):
        own, of_pair = sub_pairs(pairs, places)
        slots = anchors[places]
        vectors = loaded.gather(slots)
        within = rule.positive_duplicates == WITHIN and own.positive.size
        positives = loaded.gather(own.positive) if within else np.empty((0, loaded.store.dimension))
        problem = Problem(loaded.rows, rule, own, empty_best(rule, of_pair.size, capacity))
        strips.append((problem, Strip(slots, vectors, positives, np.arange(own.positive.size))))
    for candidates in _blocks(setting, rule):
        block = loaded.store.block(int(candidates[0]), int(candidates[-1]) + 1)

        def task(
            problem: Problem, strip: Strip, block: Any = block, candidates: Any = candidates
        ) -> Callable[[], None]:
            def run() -> None:
                scan.scan(problem, strip, block, candidates)
                setting.meter.advance(work * strip.slot.size * candidates.size)

            return run

        setting.workers.run([task(*strip) for strip in strips])
        setting.effort.pairs_computed += group.size * candidates.size
    for problem, _ in strips:
        count_tally(setting.effort, problem.best.tally, rule.wanted)
        yield found_of(rule, loaded.rows.rank, problem.best)
