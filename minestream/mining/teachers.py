"""Several teachers: each finds the negatives of every pair by its own distances, exactly; together they agree.

Which positives a pair has, and which rows are duplicates of each other, says the first embedding; so do the distances
that are written. Everything else of the rule, the distance of the positive too, is of each teacher's own vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minestream.config.mine_config import MineConfig
from minestream.config.rules import TEACHERS
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.prepare import frame_of
from minestream.inputs.dataset.vectors import pair_distances
from minestream.mining.candidates import first_candidates
from minestream.mining.negatives import Task, make_task
from minestream.search.constraints import limited_search
from minestream.search.context import SearchContext
from minestream.search.results import Found, Positives, Voted
from minestream.search.search import search_once
from minestream.search.searcher import Searcher
from minestream.system import ragged

if TYPE_CHECKING:
    from minestream.mining.driver import Driver

Anchors = NDArray[np.int32]


def open_teachers(driver: Driver, first: Searcher) -> list[Searcher]:
    """The searchers of all teachers, the first among them; `driver` closes the others."""
    loaded = first.loaded
    teachers = [first]
    for other in loaded.others:
        driver.held.callback(other.store.close)
        frame = frame_of(other.store, other.square, other.metric, first.workers)
        # Equal rows of the first embedding may differ here.
        rows = loaded.rows._replace(square=other.square)
        own = replace(loaded, store=other.store, rows=rows, frame=frame, equal=None, others=())
        teachers.append(driver.held.enter_context(first.by(own)))
    return teachers


def taught_search(
    settings: Sequence[SearchContext], config: MineConfig, groups: Sequence[Anchors], task: Task
) -> Iterator[Found]:
    """As limited_search(): of each group the negatives that the teachers agree on.

    settings : of each teacher's searches
    task : of the first; a search of each teacher follows the one before, so that one at a time needs memory
    """
    anchors, answers = np.concatenate(groups), []
    for setting in settings:
        own = task if setting is settings[0] else _own_task(setting, config, anchors, task)
        answers.append(list(limited_search(setting, groups, own.pairs, own.rule, own.constraints)))
    run = settings[0].loaded.run
    if config.candidates_teach and run is not None:
        answers.append(first_candidates(settings[0], run, config.metric, groups, task))
    first = 0
    for group, found in zip(groups, zip(*answers, strict=True), strict=True):
        chosen = task.chosen.of_anchors(first, first + group.size)
        yield agreed(settings[0].loaded, config, ragged.repeat(group, chosen.start), found)
        first += group.size


def _own_task(setting: SearchContext, config: MineConfig, anchors: Anchors, task: Task) -> Task:
    """The task of one teacher: the same pairs, whose positives are at its own distances."""
    loaded = setting.loaded

    def seen(some: Positives) -> Positives:
        own = ragged.repeat(anchors, some.start)
        return some._replace(x=pair_distances(loaded.store, loaded.rows.square, config.metric, own, some.slot))

    search = partial(search_once, replace(setting, timed=False))
    return make_task(loaded, config, anchors, seen(task.chosen), search, None, seen(task.every))


def agreed(loaded: Dataset, config: MineConfig, of_pair: Anchors, found: Sequence[Found]) -> Voted:
    """The negatives of each pair that enough teachers found: what most found first, then by (distance, key).

    of_pair : the anchor of each pair
    found : of each teacher
    """
    rows, teachers = loaded.store.rows, len(found)
    pair = np.concatenate([ragged.owners(each.start) for each in found])
    slot = np.concatenate([each.slot for each in found])
    teacher = np.repeat(np.arange(teachers), [each.slot.size for each in found])
    entry, place = np.unique(pair * rows + slot, return_inverse=True)
    by = np.zeros((entry.size, teachers), bool)
    by[place, teacher] = True
    enough = by.sum(axis=1) >= TEACHERS[config.teachers].least(teachers)
    entry, by = entry[enough], by[enough]
    pair, slot = entry // rows, (entry % rows).astype(np.int32)
    x = pair_distances(loaded.store, loaded.rows.square, config.metric, of_pair[pair], slot)
    order = np.lexsort((loaded.rows.rank[slot], x, -by.sum(axis=1), pair))
    nearer = np.zeros(of_pair.size, np.int32)
    return Voted(ragged.grouped(pair[order], of_pair.size), slot[order], x[order], nearer, by[order])
