"""Which pairs belong together: the methods that batches are composed by."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.inputs.dataset.draws import prefixes
from minestream.kernels import batching, draw
from minestream.kernels.batching import Communities, Near, PairSlots
from minestream.kernels.types import NEGATIVE
from minestream.search.nearest import nearest
from minestream.search.searcher import Searcher
from minestream.system import ragged
from minestream.system.progress import Progress

TAG_BATCHES = 5
EXCHANGES = 2  # passes; a third moves next to nothing
NEAREST_WEIGHT = 5_040  # of the nearest; half as much of the second, a third of the third
ORDER, GROUPS, KEPT, BATCHES, AGAIN = range(5)  # what is drawn for each pair in an epoch
Numbers = NDArray[np.int64]


class Draws:
    """Draws 5 of the pairs, uint64[pairs]: by the seed, the keys of anchor and positive, the epoch and the purpose."""

    def __init__(self, slots: PairSlots, seed: int) -> None:
        keys, rank = slots.rows.draw_key, slots.rows.rank
        self._prefix = prefixes(seed, TAG_BATCHES, keys[slots.anchor], keys[slots.positive])
        self._ties = rank[slots.positive], rank[slots.anchor]

    def of(self, epoch: int, purpose: int) -> NDArray[np.uint64]:
        """The draws of all pairs."""
        out = np.empty(self._prefix.size, np.uint64)
        draw.draws(self._prefix, np.full(out.size, 8 * epoch + purpose, np.uint64), out)
        return out

    def shuffled(self, epoch: int, purpose: int, pairs: Numbers) -> Numbers:
        """Some pairs in the order of their draws; pairs of equal draws by key order."""
        ties = (each[pairs] for each in self._ties)
        return pairs[np.lexsort((*ties, self.of(epoch, purpose)[pairs]))]


class Groups(NamedTuple):
    """Lists of pairs."""

    start: Numbers  # [lists + 1]
    pair: Numbers


class Plan(NamedTuple):
    """What batches are composed of, and how large the communities are."""

    searcher: Searcher
    slots: PairSlots
    draws: Draws
    stratum: Numbers  # [pairs]
    near: Near | None  # where the method asks for them
    group_size: int
    bucket: Numbers | None = None  # [pairs] of hardness, where the mined rows have some


def near_pairs(
    searcher: Searcher, slots: PairSlots, stratum: Numbers, count: int, skip: int, progress: Progress
) -> Near:  # fmt: skip
    """The pairs near each pair: those whose positives are nearest to its anchor among all that may be its negatives.

    Parameters
    ----------
    stratum : int64[pairs]
        Only pairs of one stratum are near.
    count, skip : int
        How many positives, behind how many that are left out.

    Notes
    -----
    A pair is also near those that it is near to, which stand behind its own. Cost: one exact search of the anchors
    among the positives; 40 count bytes a pair.
    """
    anchors, own = np.unique(slots.anchor, return_inverse=True)
    among = np.zeros(searcher.loaded.store.rows, bool)
    among[slots.positive] = True
    progress.stage("neighbors", anchors.size, "anchors")
    slot = nearest(searcher, anchors, skip + count, (NEGATIVE,), progress, among)[0].slot[:, skip:][own]
    by_positive = np.argsort(slots.positive, kind="stable")
    start = ragged.grouped(slots.positive, among.size)  # of each slot the pairs whose positive it is
    owner, place = np.nonzero(slot >= 0)
    found = slot[owner, place]
    # Of many pairs with one positive the anchors take different ones.
    pair = by_positive[start[found] + own[owner] % (start[found + 1] - start[found])]
    same = stratum[owner] == stratum[pair]
    owner, pair, weight = owner[same], pair[same], np.maximum(1, NEAREST_WEIGHT // (1 + place[same]))
    owner, pair, weight = np.concatenate([owner, pair]), np.concatenate([pair, owner]), np.tile(weight, 2)
    order = np.argsort(owner, kind="stable")
    return Near(ragged.grouped(owner, stratum.size), pair[order], weight[order])


def _alone(plan: Plan, epoch: int) -> Groups:
    pairs = np.arange(plan.stratum.size)
    return Groups(np.arange(pairs.size + 1), pairs)


def _of_cells(plan: Plan, epoch: int) -> Groups:
    """Cut from the pairs in the order of the cells of their anchors; within a cell by draw."""
    cell = plan.searcher.cell()
    pairs = plan.draws.shuffled(epoch, ORDER, np.arange(plan.stratum.size))
    pairs = pairs[np.lexsort((cell[plan.slots.anchor[pairs]], plan.stratum[pairs]))]
    first = np.flatnonzero(ragged.nth_of_run(plan.stratum[pairs]) % plan.group_size == 0)
    return Groups(np.append(first, pairs.size), pairs)


def _grown(plan: Plan, epoch: int) -> Groups:
    """Communities in the graph of near pairs: grown, what is left of others put together, improved by exchanges."""
    assert plan.near is not None
    order = plan.draws.shuffled(epoch, ORDER, np.arange(plan.stratum.size))
    group = np.full(order.size, -1)
    count = batching.grow(plan.slots, *plan.near[:2], order, np.empty(plan.group_size, np.int64), group)
    left = np.flatnonzero(np.bincount(group, minlength=count)[group] < plan.group_size)
    left = left[np.lexsort((group[left], plan.stratum[left]))]
    opened = batching.none_open(plan.group_size, count)
    batching.fill(plan.slots, left, np.arange(group.size), False, opened, group)
    alone = group < 0
    group[alone] = opened.counts[1] + np.arange(alone.sum())
    group = np.unique(group, return_inverse=True)[1]
    start, members = ragged.grouped(group, int(group.max(initial=-1)) + 1), np.argsort(group, kind="stable")
    inside, met = np.zeros(start.size - 1, np.int64), np.empty(batching.NEAR, np.int64)
    parts = Communities(start, members, group, np.argsort(members), inside, met)
    for _ in range(EXCHANGES):
        batching.exchange(plan.slots, plan.near, members.copy(), parts)
    return Groups(start, members)


class Method(NamedTuple):
    """How one of METHODS of config/batching.py composes."""

    groups: Callable[[Plan, int], Groups]  # of all pairs, in an epoch
    whole: bool = False  # whether a community is a batch, unless --group-size says another size


METHODS: dict[str, Method] = {
    "graph": Method(_grown),
    "nearest": Method(_grown, whole=True),
    "cluster": Method(_of_cells, whole=True),
    "random": Method(_alone),
}


def arranged(plan: Plan, groups: Groups, epoch: int, share: float) -> tuple[Numbers, Numbers]:
    """The pairs in the order in which they are put into batches, so that those of a group stand together; and whose.

    share : of the groups, those that stay together; the pairs of the others come one by one among them
    Groups that are not full come last: they would shift those behind them across the ends of batches.
    """
    lengths = ragged.lengths(groups.start)
    kept = plan.draws.of(epoch, KEPT)[groups.pair[groups.start[:-1]]] < share * 2.0**64
    group = ragged.owners(groups.start)
    leader = np.where(kept[group], groups.pair[groups.start[:-1]][group], groups.pair)  # whose draw counts
    leaders = np.empty(leader.size, np.int64)
    leaders[groups.pair] = leader
    last = kept[group] & (lengths[group] < plan.group_size)
    turn = np.empty(groups.pair.size, np.int64)  # of each pair among all
    turn[plan.draws.shuffled(epoch, GROUPS, np.arange(turn.size))] = np.arange(turn.size)
    return groups.pair[np.lexsort((ragged.nth(groups.start), turn[leader], last))], leaders
