"""A search that several workers make together: each unordered pair of blocks of rows is computed by one of them.

Every worker knows all anchors and their pairs. Those of a leg (order.py) are a block; a pair of blocks is dealt to one
worker by sizes alone, since the order of lanes may differ from processor to processor. A search for negatives takes two
exchanges: the first gates of each anchor, from the worker that probed it; then the best that each worker found for
each pair, which the owner of the anchor merges by (key, rank), whatever the order. A search for positives is dealt by
labels, whose rows meet no others, and all workers get the answers.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.kernels import gates as kernel_gates
from minestream.kernels.select import insert_lists
from minestream.kernels.types import NEARER_CAP, POSITIVE, Pairs, Rule
from minestream.search.bands import gate_offsets, moved
from minestream.search.context import Columns, SearchContext, Share
from minestream.search.order import legs_of
from minestream.search.results import NOTHING, Found, empty_best, found_of, joined, sub_pairs
from minestream.search.search import search_once
from minestream.search.sweep import Sweeping
from minestream.system import ragged

FEW_ANCHORS = 4_096  # whose positives every worker finds
OTHERS = -1  # the leg of rows that are no anchors


def dealt_blocks(sizes: Sequence[int], others: int, workers: int) -> list[dict[tuple[int, int], int]]:
    """The pairs of blocks of each worker, with their products: the largest first, to the worker with fewest so far.

    sizes : of the blocks of anchors; `others`: rows that are none, block OTHERS, which meet anchors only
    """
    pairs = combinations_with_replacement(range(len(sizes)), 2)
    cost = {(i, j): sizes[i] * sizes[j] // (2 if i == j else 1) for i, j in pairs}
    cost |= {(i, OTHERS): size * others for i, size in enumerate(sizes) if others}
    dealt: list[dict[tuple[int, int], int]] = [{} for _ in range(workers)]
    loads = [(0, number) for number in range(workers)]
    for pair in sorted(cost, key=lambda pair: (-cost[pair], pair)):
        load, number = loads[0]
        dealt[number][pair] = cost[pair]
        heapq.heapreplace(loads, (load + cost[pair], number))
    return dealt


def shared_search(
    setting: SearchContext, share: Share, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule
) -> Iterator[Found]:
    """As search(), for a worker's own groups; what it yields of the others has no pairs.

    Cost: beside its share of the products, that of merging as many lists of each pair as there are workers.
    """
    name, exchange = share.exchange.next_name(), share.exchange
    sizes = np.array([group.size for group in groups])
    legs, leg = np.unique(legs_of(sizes), return_inverse=True)  # a leg is named by its last group

    def probed(_: int) -> Iterator[Columns]:
        sweeping = Sweeping(setting, groups, pairs, rule)
        own = [number for number in range(legs.size) if share.owns(number)]
        sweeping.begin_sharp()
        sweeping.probe_spans([span for span in sweeping.order.spans if span.leg in legs[own]])
        sweeping.report()
        return (_first_gates(sweeping, group) for group in np.flatnonzero(np.isin(leg, own)).tolist())

    @cache
    def swept() -> Sweeping:
        sweeping = Sweeping(setting, groups, pairs, rule)
        sweeping.begin_sharp()
        for letter in exchange.collect(f"{name}-gates", to_all=True):
            for group, *columns in letter:
                _take_gates(sweeping, int(group[0]), *columns)
        kernel_gates.set_all_gates(sweeping.problem, sweeping.screening)
        dealt = dealt_blocks(
            np.bincount(leg, sizes).astype(int).tolist(), sweeping.order.rows - sweeping.order.anchors, share.workers
        )
        names = [*legs.tolist(), OTHERS]
        sweeping.blocks = {(names[i], names[j]) for i, j in dealt[share.number]}
        for _ in sweeping.sweep_strides():
            pass
        sweeping.report()
        return sweeping

    exchange.offer(f"{name}-gates", probed, to_all=True)
    parts = range(sizes.size)
    exchange.offer(f"{name}-lists", lambda to: (_lists(swept(), part) for part in parts[to :: share.workers]))
    letters = exchange.collect(f"{name}-lists")
    swept.cache_clear()
    edges = ragged.starts(sizes)
    for part in parts:
        if share.owns(part):
            count = int(pairs.start[edges[part + 1]] - pairs.start[edges[part]])
            yield _merged(rule, setting.loaded.rows.rank, count, [next(letter) for letter in letters])
        else:
            yield NOTHING


def _offsets(sweeping: Sweeping, group: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The pairs of a group, and by how much each one's gate as an affinity exceeds that as a distance, negated."""
    lanes, sign = sweeping.order.lanes_of(group), -1.0 if sweeping.mirrored else 1.0
    start, pair = ragged.take(sweeping.pairs.start, lanes)
    return pair, ragged.repeat(gate_offsets(sweeping.screening.edges, lanes, sign), start)


def _first_gates(sweeping: Sweeping, group: int) -> Columns:
    """The first gates of a group's pairs; those that stand for distances without what depends on the codes."""
    (pair, offsets), gates = _offsets(sweeping, group), sweeping.gates
    reach, near = (gate[pair].astype(np.float64) for gate in (gates.reach, gates.near))
    reach, near = (np.where(np.isfinite(gate), gate - offsets, gate) for gate in (reach, near))
    return np.array([group]), reach, near, gates.cut[pair], gates.key[pair]


def _take_gates(sweeping: Sweeping, group: int, *columns: NDArray[Any]) -> None:
    """Let the anchors of a group begin with these gates, which _first_gates() made."""
    (pair, offsets), gates = _offsets(sweeping, group), sweeping.gates
    reach, near, gates.cut[pair], gates.key[pair] = columns
    gates.reach[pair], gates.near[pair] = moved(reach, offsets), moved(near, offsets)


def _lists(sweeping: Sweeping, group: int) -> Columns:
    """The best found for a group's pairs, and how many are nearer."""
    _, pair = ragged.take(sweeping.pairs.start, sweeping.order.lanes_of(group))
    best = sweeping.best_of(pair)
    columns: list[NDArray[Any]] = [best.nearer]
    for count, fields in (
        (best.found, (best.key, best.slot, best.x)),
        (best.near_count, (best.near_key, best.near_slot, best.near_x)),
    ):
        filled = np.arange(fields[0].shape[1]) < count[:, None]
        columns += [count, *(field[filled] for field in fields)]
    return tuple(columns)


def _merged(rule: Rule, rank: NDArray[np.int64], pairs: int, letters: Sequence[Columns]) -> Found:
    """The answers of so many pairs from what the workers found, of which no two found the same."""
    best = empty_best(rule, pairs, rule.take + rule.skip)
    nearer = np.zeros(pairs, np.int64)
    for each in letters:
        nearer += each[0]
        insert_lists(rank, best, False, *each[1:5])
        if best.near_key.shape[1]:
            insert_lists(rank, best, True, *each[5:])
    best.nearer[:] = np.minimum(nearer, NEARER_CAP)
    return found_of(rule, rank, best)


def shared_once(setting: SearchContext, share: Share, anchors: NDArray[np.int32], pairs: Pairs, rule: Rule) -> Found:
    """As search_once(), for every worker the answers of all anchors, each found by one of them."""
    if anchors.size < FEW_ANCHORS:
        return search_once(setting, anchors, pairs, rule)
    name, exchange = share.exchange.next_name(), share.exchange
    dealt = dealt_places(setting, anchors, share.workers)

    def answers(_: int) -> Iterator[Columns]:
        places, rows = dealt[share.number], setting.loaded.rows
        own, alone = anchors[places], setting
        if rule.wanted == POSITIVE and not (rows.set_start.size or rows.known_start.size):
            of_label = np.zeros(int(rows.label.max(initial=-1)) + 2, bool)  # the last: of rows without a label
            of_label[rows.label[own]] = True
            alone = replace(setting, among=of_label[rows.label])
        found = search_once(alone, own, sub_pairs(pairs, places)[0], rule)
        yield ragged.lengths(found.start), found.slot, found.x, found.nearer

    exchange.offer(name, answers, to_all=True)
    parts = [
        Found(ragged.starts(length), slot, x, nearer)
        for letter in exchange.collect(name, to_all=True)
        for length, slot, x, nearer in letter
    ]
    _, of_place = ragged.take(pairs.start, np.concatenate(dealt))
    back = np.empty(of_place.size, np.int64)
    back[of_place] = np.arange(of_place.size)
    return joined(parts).of(back)


def dealt_places(setting: SearchContext, anchors: NDArray[np.int32], workers: int) -> list[NDArray[np.int64]]:
    """The places of the anchors of each worker: labels together, but for large ones, and about the same work."""
    loaded = setting.loaded
    label = loaded.rows.label[anchors]
    order = np.lexsort((anchors, label))
    work = ragged.starts(loaded.positives[anchors[order]] + 1)
    edges = np.append(ragged.runs(label[order]), anchors.size)
    first, size = (np.repeat(each, np.diff(edges)) for each in (work[edges[:-1]], np.diff(work[edges])))
    before = np.where(2 * workers * size < work[-1], first, work[:-1])
    return [order[before * workers // work[-1] == number] for number in range(workers)]
