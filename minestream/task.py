"""From positives to what is looked for around each of them: the pairs of a search, its rule and its limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.answers import Found
from minestream.config import MineConfig
from minestream.filters import Interval, filter_interval, largest_distance, reference_similarity
from minestream.kernels.choose import NEAREST, NEGATIVE, Pairs, Rule
from minestream.limits import Limits
from minestream.load import Loaded
from minestream.negatives import negative_pairs, negative_rule
from minestream.positives import Chosen, Search, choose_positives


class Task(NamedTuple):
    """What is looked for: the positives chosen, what the filters leave, the pairs, the rule, the limits."""

    chosen: Chosen
    filtered: Interval
    pairs: Pairs
    rule: Rule
    limits: Limits


def make_tasks(loaded: Loaded, configs: Sequence[MineConfig], anchors: NDArray[np.int32], search: Search) -> list[Task]:
    """Choose the positives of some anchors, and say which negatives are looked for: a task each configuration.

    configs : of one run, which differ in their margins only
    search : function (anchors, pairs, rule) -> Found, for positives
    """
    first = _make_task(loaded, configs[0], anchors, search)
    return [first, *(_with_margin(loaded, config, anchors, first) for config in configs[1:])]


def _with_margin(loaded: Loaded, config: MineConfig, anchors: NDArray[np.int32], task: Task) -> Task:
    """The same task under another margin."""
    pairs = negative_pairs(config, loaded, anchors, task.chosen, task.filtered)
    return task._replace(pairs=pairs)


def together(tasks: Sequence[Task]) -> Task:
    """Tasks of the same anchors as one: of each anchor the pairs of every task, one task after another."""
    first = tasks[0]
    if len(tasks) == 1:
        return first
    times = len(tasks)
    counts = np.diff(first.pairs.start)
    anchor = np.repeat(np.arange(counts.size), counts)
    order = np.argsort(np.concatenate([anchor * times + number for number in range(times)]), kind="stable")

    def all_of(fields: Sequence[NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate(fields)[order]

    fields = [all_of(columns) for columns in zip(*(task.pairs[1:] for task in tasks), strict=True)]
    pairs = Pairs._make([np.concatenate([[0], np.cumsum(times * counts)]), *fields])

    def interval(edges: Interval | None) -> Interval | None:
        return None if edges is None else (all_of([edges[0]] * times), all_of([edges[1]] * times))

    limits = replace(first.limits, guided=interval(first.limits.guided), fallback=interval(first.limits.fallback))
    return Task(first.chosen, first.filtered, pairs, first.rule, limits)


def apart(found: Found, counts: NDArray[np.int64], times: int) -> list[Found]:
    """The answers of `times` tasks together, task by task; counts int64[anchors]: pairs of each anchor in one task."""
    if times == 1:
        return [found]
    each = np.repeat(counts, times)
    numbers = np.repeat(np.arange(each.size) % times, each)
    lengths = np.diff(found.start)
    parts = []
    for number in range(times):
        own = numbers == number
        entry = np.repeat(own, lengths)
        start = np.concatenate([[0], np.cumsum(lengths[own])])
        parts.append(Found(start, found.slot[entry], found.x[entry], found.nearer[own]))
    return parts


def _make_task(loaded: Loaded, config: MineConfig, anchors: NDArray[np.int32], search: Search) -> Task:
    chosen = choose_positives(loaded, config, anchors, search)
    filtered: Interval = np.full(chosen.x.size, -np.inf), np.full(chosen.x.size, np.inf)
    guided = None
    if config.similarity_filters:
        every = chosen
        if config.reference != "pair" and config.positives != "all":
            every = choose_positives(loaded, replace(config, positives="all"), anchors, search)
        filtered = filter_interval(config, reference_similarity(config, chosen, chosen.x, every, every.x))
        if loaded.guide is not None:
            p, every_p = (
                loaded.guide.distances(np.repeat(anchors, np.diff(some.start)), some.slot) for some in (chosen, every)
            )
            guided = filter_interval(config, reference_similarity(config, chosen, p, every, every_p))
    if config.emit == "pairs":
        filtered = np.full(anchors.size, -np.inf), np.full(anchors.size, np.inf)
        if config.epsilon is not None:
            chosen, filtered = _multi_similarity(loaded, config, anchors, chosen, search)
        if config.positive_margin is not None:
            chosen = _of(chosen, chosen.x > config.positive_margin)
    fallback = None
    if config.fallback == "farthest":
        fallback = filtered
    pairs, rule = negative_pairs(config, loaded, anchors, chosen, filtered), negative_rule(config)
    limits = Limits(guided, config.max_per_negative_label, _floored(fallback, pairs))
    return Task(chosen, filtered, pairs, rule, limits)


def _floored(interval: Interval | None, pairs: Pairs) -> Interval | None:
    """An interval without what is too near to be told from the anchor."""
    return None if interval is None else (np.maximum(interval[0], pairs.floor), interval[1])


def _of(chosen: Chosen, keep: NDArray[np.bool_]) -> Chosen:
    """Some of the positives."""
    anchor = np.repeat(np.arange(chosen.start.size - 1), np.diff(chosen.start))
    counts = np.bincount(anchor[keep], minlength=chosen.start.size - 1)
    return Chosen(np.concatenate([[0], np.cumsum(counts)]), chosen.slot[keep], chosen.x[keep])


def _multi_similarity(
    loaded: Loaded, config: MineConfig, anchors: NDArray[np.int32], chosen: Chosen, search: Search
) -> tuple[Chosen, Interval]:
    """Positives that are hardly nearer than the nearest negative, and how far negatives are looked for (Wang 2019)."""
    epsilon = config.epsilon or 0.0
    rule = negative_rule(config)._replace(wanted=NEGATIVE, pick=NEAREST, take=1, skip=0)
    plain = np.full(anchors.size, -np.inf), np.full(anchors.size, np.inf)
    found = search(anchors, negative_pairs(config, loaded, anchors, chosen, plain), rule)
    nearest = np.full(anchors.size, -np.inf)  # in similarity; without a negative nothing is kept
    has = np.diff(found.start) > 0
    nearest[has] = 1.0 - found.x
    kept = _of(chosen, (1.0 - chosen.x) - epsilon < np.repeat(nearest, np.diff(chosen.start)))
    farthest = np.full(anchors.size, np.inf)
    some = np.flatnonzero(np.diff(chosen.start))
    if some.size:
        farthest[some] = 1.0 - np.maximum.reduceat(chosen.x, chosen.start[some])
    reach = largest_distance(lambda x: (1.0 - x) + epsilon > farthest, anchors.size)
    return kept, (np.full(anchors.size, -np.inf), reach)
