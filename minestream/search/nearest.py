"""The k nearest candidates of every anchor, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.config.memory_plan import ANCHOR_BYTES, ANSWER_BYTES, PAIR_BYTES
from minestream.kernels.types import IGNORE, NEAREST, NEGATIVE, Rule
from minestream.search.results import joined, one_pair_each
from minestream.search.search import search
from minestream.search.searcher import Searcher
from minestream.search.work import WorkMeter, search_work
from minestream.system import ragged
from minestream.system.progress import Progress
from minestream.system.stats import ShardStats

TOGETHER = 16_384  # anchors whose answers come together
NONE = np.int32(-1)


class Neighbors(NamedTuple):
    """The k nearest of every anchor by (distance, key order); NONE and inf where there are fewer."""

    slot: NDArray[np.int32]  # (anchors, k)
    x: NDArray[np.float64]  # canonical distances


def nearest(
    searcher: Searcher, anchors: NDArray[np.int32], k: int, kinds: Sequence[int] = (NEGATIVE,),
    progress: Progress | None = None, among: NDArray[np.bool_] | None = None,
) -> list[Neighbors]:  # fmt: skip
    """The k nearest candidates of every anchor, of each kind.

    Parameters
    ----------
    searcher : Searcher
        Of the dataset.
    anchors : int32[A]
        Slots, none twice.
    k : int
    kinds : sequence of {POSITIVE, NEGATIVE}
        The relation of the neighbors to the anchor; each kind is a search.
    progress : Progress, optional
        Advanced by the anchors done.
    among : bool[n], optional
        The slots that may be neighbors. Default: all candidates.

    Raises
    ------
    CapacityError
        When the answers do not fit the memory beside the rows.
    """
    searcher.settle(anchors.size * (ANCHOR_BYTES + PAIR_BYTES + (ANSWER_BYTES + 12 * (len(kinds) + 2)) * k), 0)
    searcher.plan.check()
    rules = [Rule(kind, NEAREST, k, 0, IGNORE, IGNORE, 0.0, False, searcher.metric.code) for kind in kinds]
    swept = bool(searcher.limits.screens)
    works = [sum(search_work(searcher.loaded, anchors, anchors.size, rule, swept)) for rule in rules]
    meter = WorkMeter(progress, anchors.size)
    meter.plan(sum(works))
    setting = replace(searcher.setting(ShardStats(), meter, timed=False), among=among)
    groups = np.split(anchors, range(TOGETHER, anchors.size, TOGETHER))
    neighbors = []
    for rule, work in zip(rules, works, strict=True):
        meter.begin_stage(work)
        slot, x = np.full((anchors.size, k), NONE), np.full((anchors.size, k), np.inf)
        found = joined(list(search(setting, groups, one_pair_each(anchors.size), rule)))
        at = ragged.owners(found.start), ragged.nth(found.start)
        slot[at], x[at] = found.slot, found.x
        neighbors.append(Neighbors(slot, x))
    meter.finish()
    return neighbors
