"""The search among lists: what stands in an anchor's list is all that it meets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from minestream.kernels import listed
from minestream.kernels.types import IGNORE, NEAREST, WITHIN, Pairs, Problem, Rule, Strip
from minestream.search.context import Lists, SearchContext
from minestream.search.results import Found, count_tally, empty_best, found_of, groups_of, joined, sorted_of, sub_pairs
from minestream.system import ragged

TASK_ANCHORS = 64
NO_LISTS, NO_SLOTS = np.empty(0, np.int64), np.empty(0, np.int32)


def search_lists(
    setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule
) -> Iterator[Found]:  # fmt: skip
    """As search(), among the lists of the setting."""
    lists = setting.lists
    assert lists is not None
    if lists.alike is not None:
        rule = rule._replace(own_duplicates=IGNORE, positive_duplicates=IGNORE)
    first = 0
    for group in groups:
        found: dict[int, Found] = {}

        def task(
            places: NDArray[np.int64], first: int = first, group: NDArray[np.int32] = group,
            found: dict[int, Found] = found,
        ) -> Callable[[], None]:  # fmt: skip
            def run() -> None:
                own, _ = sub_pairs(pairs, first + places)
                found[int(places[0])] = _of_strip(setting, lists, group[places], own, rule)

            return run

        setting.workers.run([task(places) for places in groups_of(np.arange(group.size), TASK_ANCHORS)])
        yield joined([found[place] for place in sorted(found)])
        first += group.size


def _of_strip(setting: SearchContext, lists: Lists, anchors: NDArray[np.int32], pairs: Pairs, rule: Rule) -> Found:
    """The answers of a few anchors."""
    loaded = setting.loaded
    first, end = lists.bounds(anchors)
    capacity = rule.take + rule.skip if rule.take else int((end - first).max(initial=0))
    in_order = rule.pick == NEAREST and rule.take > 0  # as lists are: what is offered is only appended
    looked = rule._replace(take=0) if in_order else rule
    problem = Problem(loaded.rows, looked, pairs, empty_best(rule, pairs.positive.size, capacity))
    vectors, at = np.empty((0, loaded.store.dimension)), NO_LISTS
    positives = vectors
    if rule.positive_duplicates == WITHIN:
        own = ragged.spans(first, end - first)
        slots, back = np.unique(lists.slot[own], return_inverse=True)
        vectors, positives = loaded.gather(slots), loaded.gather(pairs.positive)
        at = np.zeros(lists.slot.size, np.int64)
        at[own] = back
    alike = (NO_LISTS, NO_SLOTS) if lists.alike is None else lists.alike
    strip = Strip(anchors, vectors[:0], positives, np.arange(pairs.positive.size))
    listed.look(
        problem, strip, listed.Entries(first, end, lists.slot, lists.x, *alike), vectors, at, loaded.store.dimension
    )
    count_tally(setting.effort, problem.best.tally, rule.wanted)
    return sorted_of(rule, problem.best) if in_order else found_of(rule, loaded.rows.rank, problem.best)
