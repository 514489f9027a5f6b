"""Candidates from elsewhere (`--candidates`): as lists that a search looks among, and as one more teacher."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from minestream.inputs.dataset.dataset import Run
from minestream.inputs.dataset.vectors import pair_distances
from minestream.kernels.types import NEAREST
from minestream.mining.negatives import Task
from minestream.search.constraints import Constraints, limited_search
from minestream.search.context import Lists, SearchContext
from minestream.search.results import Found
from minestream.system import ragged


def among_candidates(setting: SearchContext, run: Run, metric: str, anchors: NDArray[np.int32]) -> SearchContext:
    """The setting of searches that meet nothing but the candidates of some anchors."""
    loaded = setting.loaded
    start, at = ragged.take(run.start, anchors.astype(np.int64))
    owner, slot = ragged.owners(start), run.slot[at]
    if not loaded.unlabeled_negatives:
        kept = loaded.rows.label[slot] >= 0
        owner, slot = owner[kept], slot[kept]
    x = pair_distances(loaded.store, loaded.rows.square, metric, anchors[owner], slot)
    order = np.lexsort((loaded.rows.rank[slot], x, owner))
    place = np.full(loaded.store.rows, -1, np.int32)
    place[anchors] = np.arange(anchors.size)
    reach = np.full(anchors.size, np.inf)
    lists = Lists(place, ragged.grouped(owner, anchors.size), slot[order], x[order], reach)
    return replace(setting, lists=lists)


def first_candidates(
    setting: SearchContext, run: Run, metric: str, groups: Sequence[NDArray[np.int32]], task: Task
) -> list[Found]:  # fmt: skip
    """Of each group the first k candidates of every pair, in the order of the run, that pass band and filters."""
    anchors = np.concatenate(groups)
    listed = among_candidates(setting, run, metric, anchors)
    most = int(ragged.lengths(run.start).max(initial=1))
    rule = task.rule._replace(pick=NEAREST, take=max(1, most), skip=0, count_nearer=False)
    every = limited_search(listed, groups, task.pairs, rule, Constraints(task.constraints.guided))
    found, first = [], 0
    for group, passing in zip(groups, every, strict=True):
        chosen = task.chosen.of_anchors(first, first + group.size)
        found.append(_first(run, ragged.repeat(group, chosen.start), passing, task.rule.take))
        first += group.size
    return found


def _first(run: Run, of_pair: NDArray[np.int32], passing: Found, take: int) -> Found:
    """The first `take` of what passes for each pair, by their places in the run; of_pair: the anchor of each pair."""
    pair, rows = ragged.owners(passing.start), run.start.size - 1
    listed = ragged.owners(run.start) * rows + run.slot
    by_key = np.argsort(listed)
    place = by_key[np.searchsorted(listed, of_pair[pair].astype(np.int64) * rows + passing.slot, sorter=by_key)]
    order = np.lexsort((place, pair))
    order = order[ragged.nth_of_run(pair[order]) < take]
    start = ragged.grouped(pair[order], of_pair.size)
    return Found(start, passing.slot[order], passing.x[order], passing.nearer)
