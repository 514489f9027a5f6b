"""Random positives: their draws decide, so no distance is computed but those of the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from minestream.config.metrics import METRICS
from minestream.inputs.dataset.vectors import pair_distances
from minestream.kernels import drawn
from minestream.kernels.types import POSITIVE, RANDOM, Pairs, Problem, Rule
from minestream.search.context import SearchContext
from minestream.search.results import Found, empty_best, found_of, groups_of, sub_pairs
from minestream.search.work import search_work
from minestream.system import ragged
from minestream.system.threads import apart

METRIC_NAMES = {metric.code: name for name, metric in METRICS.items()}
TOGETHER = 256  # draws among which the least is found first
TASK_DRAWS = 1 << 26  # so many of a task: an interrupt waits for it


def draws_decide(setting: SearchContext, pairs: Pairs, rule: Rule) -> bool:
    """Whether an anchor takes the least draws of its label, whatever the distance."""
    rows = setting.loaded.rows
    by_label = rule.wanted == POSITIVE and rows.set_start.size == 0 and rows.known_start.size == 0
    unbounded = not (np.isfinite(pairs.low).any() or np.isfinite(pairs.high).any())
    return by_label and unbounded and rule.pick == RANDOM and rule.take > 0 and rule.skip == 0


def search_draws(
    setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule
) -> Iterator[Found]:
    """As search(), of one pair an anchor, where draws_decide()."""
    loaded = setting.loaded
    rows = loaded.rows
    work = sum(search_work(loaded, np.concatenate(groups), pairs.positive.size, rule, swept=True))
    setting.meter.begin(work)
    candidates = np.flatnonzero(setting.candidates(POSITIVE) & (rows.label >= 0)).astype(np.int32)
    members = candidates[np.argsort(rows.label[candidates], kind="stable")]
    start = ragged.grouped(rows.label[members], int(rows.label.max(initial=-1)) + 1)
    keys, first = rows.draw_key[members], 0
    for group in groups:
        own, _ = sub_pairs(pairs, np.arange(first, first + group.size))
        problem = Problem(rows, rule, own, empty_best(rule, group.size, rule.take))
        together = max(1, TASK_DRAWS // max(1, int(ragged.lengths(start).max(initial=0))))

        def task(
            places: NDArray[np.int64], problem: Problem = problem, group: NDArray[np.int32] = group
        ) -> Callable[[], None]:
            def run() -> None:
                drawn.draw_positives(
                    problem, group[places], start, members, keys, int(places[0]), apart((TOGETHER,), np.uint64)
                )
                setting.meter.advance(work * places.size / pairs.positive.size)

            return run

        setting.workers.run([task(places) for places in groups_of(np.arange(group.size), together)])
        best = problem.best
        taken = np.arange(rule.take) < best.found[:, None]
        anchor = np.repeat(group, best.found)
        best.x[taken] = pair_distances(loaded.store, rows.square, METRIC_NAMES[rule.metric], anchor, best.slot[taken])
        yield found_of(rule, rows.rank, best)
        first += group.size
