"""Which batch each pair gets in an epoch."""

from __future__ import annotations

import math
from collections import Counter
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.batching.methods import AGAIN, BATCHES, Method, Plan, arranged
from minestream.kernels import batching
from minestream.system import ragged

Numbers = NDArray[np.int64]
PROGRESS = 0.9  # of the pairs that may be left, for another turn to be worth it
UNPLACED = "no batch without their false negatives was found"
UNFILLED = "their batch would not be full (--keep-last keeps it)"
HARDER = "their bucket comes in a later epoch (--hardness-schedule)"
BEYOND = "the smallest stratum has no more batches (--equal)"


class Ends(NamedTuple):
    """How an epoch ends."""

    keep_last: bool  # whether batches that are not full stay
    equal: bool  # whether all strata have as many batches as the smallest


class Epoch(NamedTuple):
    """The batches of one epoch: the pairs of batch b are pair[start[b]:start[b + 1]]."""

    start: Numbers
    pair: Numbers
    left_out: Counter[str]  # pairs by cause
    fullest: int  # the pairs of the fullest batch, even if it was left out; of equal strata, in the least full of them


def composed(plan: Plan, method: Method, size: int, ends: Ends, epoch: int, share: float) -> Epoch:
    """The batches of an epoch, in the order of their draws.

    size : pairs of a batch
    share : of the communities, those that stay together; of the buckets, where there are some, those that take part
    """
    left_out = Counter[str]()
    if plan.bucket is None:
        order, leader = arranged(plan, method.groups(plan, epoch), epoch, share)
    else:
        order, leader = arranged(plan, method.groups(plan, epoch), epoch, 1.0)
        easy = plan.bucket[order] < max(1, math.ceil(share * (int(plan.bucket.max(initial=0)) + 1)))
        order, left_out[HARDER] = order[easy], int((~easy).sum())
    strata: list[list[NDArray[np.int64]]] = []
    fullest = []
    for number in range(int(plan.stratum.max(initial=-1)) + 1):
        own = order[plan.stratum[order] == number]
        put, without = _put(plan, own, leader, size, ends, epoch)
        left_out[UNPLACED] += without
        fullest.append(max((batch.size for batch in put), default=0))
        if not ends.keep_last:
            left_out[UNFILLED] += sum(batch.size for batch in put if batch.size < size)
            put = [batch for batch in put if batch.size == size]
        strata.append(put)
    if ends.equal:
        least = min(map(len, strata), default=0)
        left_out[BEYOND] += sum(batch.size for own in strata for batch in own[least:])
        strata = [own[:least] for own in strata]
    batches = list(chain.from_iterable(strata))
    first = np.array([batch[0] for batch in batches], np.int64)
    rank = np.empty(plan.stratum.size, np.int64)
    rank[plan.draws.shuffled(epoch, BATCHES, np.arange(rank.size))] = np.arange(rank.size)
    batches = [batches[at] for at in np.argsort(rank[first]).tolist()]
    pair = np.concatenate([np.empty(0, np.int64), *batches])
    return Epoch(
        ragged.starts([batch.size for batch in batches]),
        pair,
        +left_out,
        (min if ends.equal else max)(fullest, default=0),
    )


def _put(
    plan: Plan, order: Numbers, leader: Numbers, size: int, ends: Ends, epoch: int
) -> tuple[list[Numbers], int]:  # fmt: skip
    """The batches of the pairs in `order`, and how many pairs have no place.

    Pairs that fit no open batch are tried again, by chance, while that places some; then by exchanges. Where batches
    that are not full are kept, the rest makes more of them: of two that share no batch each has its own.
    """
    size = min(size, order.size + 1)  # larger batches are as little full, and take memory
    batch = np.empty(plan.stratum.size, np.int64)
    opened = batching.none_open(size)
    placed, left, alone = [np.empty(0, np.int64)], order, np.arange(batch.size)
    while left.size:
        batching.fill(plan.slots, left, leader, False, opened, batch)
        before, placed, left = left.size, [*placed, left[batch[left] >= 0]], left[batch[left] < 0]
        if left.size > PROGRESS * before:
            break
        left, leader = plan.draws.shuffled(epoch, AGAIN, left), alone
    start, order = _by_batch(np.concatenate(placed), batch, opened)
    counts = ragged.lengths(start)
    by_size = np.argsort(-counts, kind="stable")
    kept = int((counts == size).sum())
    needed = kept + -(-int(counts[by_size[kept:]].sum()) // size)
    members = np.full((needed, size), -1)
    some, at = ragged.take(start, by_size[:needed])
    members[ragged.owners(some), ragged.nth(some)] = order[at]
    _, at = ragged.take(start, by_size[needed:])
    homeless, counts = np.concatenate([left, order[at]]), counts[by_size[:needed]]
    without = homeless[: batching.settle(plan.slots, homeless, kept, members, counts)]
    batches = [row[:count] for row, count in zip(members, counts.tolist(), strict=True)]
    if not ends.keep_last or not without.size:
        return batches, without.size
    opened = batching.none_open(size)
    batching.fill(plan.slots, without, alone, True, opened, batch)
    start, order = _by_batch(without, batch, opened)
    return [*batches, *np.split(order, start[1:-1])], 0


def _by_batch(pairs: Numbers, batch: Numbers, opened: batching.Open) -> tuple[Numbers, Numbers]:
    """Pairs as lists, one a batch of those that were opened: start, members."""
    order = pairs[np.argsort(batch[pairs], kind="stable")]
    return ragged.grouped(batch[order], int(opened.counts[1])), order
