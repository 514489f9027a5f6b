"""A search that several workers make together: each unordered pair of blocks of rows is computed by one of them.

Every worker knows all anchors and their pairs. Those of a leg (order.py) are a block; a pair of blocks is dealt to one
worker by sizes alone, since the order of lanes may differ from processor to processor. A search for negatives takes two
exchanges: how far each anchor has to look, from its worker, which has probed it and computed pairs of its own blocks;
then the best that each worker found for each pair, which the owner of the anchor merges by (key, rank), whatever the
order. Slices only probe before the first, since any may run alone. A search for positives is dealt by
labels, whose rows meet no others, and all workers get the answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property, partial
from itertools import accumulate, combinations_with_replacement
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.kernels import gates
from minestream.kernels.select import insert_lists
from minestream.kernels.types import NEARER_CAP, POSITIVE, Pairs, Rule
from minestream.search.bands import gate_offsets, moved
from minestream.search.context import AloneExchange, Columns, SearchContext, Share
from minestream.search.order import legs_of
from minestream.search.results import NOTHING, Found, empty_best, found_of, joined, sub_pairs
from minestream.search.search import search_once
from minestream.search.sweep import Sweeping
from minestream.search.work import PRODUCT, survivor_work
from minestream.system import ragged

FEW_ANCHORS = 4_096  # whose positives every worker finds
ANCHOR = 25  # rows made exact take as long as what a search for positives does of an anchor beside its products
OTHERS = -1  # the leg of rows that are no anchors
Blocks = dict[tuple[int, int], int]  # pairs of legs, with their products


def dealt_blocks(
    sizes: Sequence[int], others: int, workers: int, owners: Sequence[int] = (), without: Sequence[Blocks] = ()
) -> list[Blocks]:  # fmt: skip
    """The pairs of blocks of each worker, with their products: the largest first, to the worker with fewest so far.

    sizes : of the blocks of anchors; `others`: rows that are none, block OTHERS, which meet anchors only
    owners : of the blocks, where a pair of blocks has to go to the owner of one of them
    without : pairs that are not dealt
    """
    dealt: list[Blocks] = [{} for _ in range(workers)]
    loads, every, cost = [0] * workers, range(workers), _products(sizes, others)
    left = cost.keys() - set().union(*without)
    for pair in sorted(left, key=lambda pair: (-cost[pair], pair)):
        able = {owners[block] for block in pair if block != OTHERS} if owners else every
        number = min(able, key=lambda number: (loads[number], number))
        dealt[number][pair] = cost[pair]
        loads[number] += cost[pair]
    return dealt


def own_blocks(sizes: Sequence[int], others: int, workers: int, owners: Sequence[int]) -> list[Blocks]:
    """Of each worker pairs of blocks that are its own alone, about as many products as each of them can have.

    Each block with itself comes first, then blocks that are near in line.
    """
    own: list[Blocks] = [{} for _ in range(workers)]
    cost = _products(sizes, others)
    for i, j in sorted(cost, key=lambda pair: (pair[1] != OTHERS and pair[1] - pair[0], pair)):
        if j == OTHERS or owners[i] == owners[j]:
            own[owners[i]][i, j] = cost[i, j]
    most = min(sum(blocks.values()) for blocks in own)
    sums = [dict(zip(blocks, accumulate(blocks.values()), strict=True)) for blocks in own]
    return [
        {pair: each for pair, each in blocks.items() if so_far[pair] - each / 2 < most}
        for blocks, so_far in zip(own, sums, strict=True)
    ]


def _products(sizes: Sequence[int], others: int) -> Blocks:
    """All pairs of blocks with their products."""
    pairs = combinations_with_replacement(range(len(sizes)), 2)
    cost = {(i, j): sizes[i] * sizes[j] // (2 if i == j else 1) for i, j in pairs}
    return cost | {(i, OTHERS): size * others for i, size in enumerate(sizes) if others}


def shared_search(
    setting: SearchContext, share: Share, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule
) -> Iterator[Found]:
    """As search(), for a worker's own groups; what it yields of the others has no pairs.

    Cost: beside its share of the products, that of merging as many lists of each pair as there are workers.
    """
    joint = _Joint(setting, share, groups, pairs, rule)
    letters = joint.of_workers() if share.alone is None else joint.of_slices(share.alone)
    edges = ragged.starts(joint.sizes)
    for part in range(joint.sizes.size):
        if share.owns(part):
            count = int(pairs.start[edges[part + 1]] - pairs.start[edges[part]])
            yield _merged(rule, setting.loaded.rows.rank, count, [next(letter) for letter in letters])
        else:
            yield NOTHING


class _Joint:
    """One search that several make together: its legs, whose they are, and how pairs of them are dealt."""

    def __init__(
        self, setting: SearchContext, share: Share, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule
    ) -> None:  # fmt: skip
        self.share, self.exchange, self.name = share, share.exchange, share.exchange.next_name()
        self.sizes = np.array([group.size for group in groups])
        self.legs, self.leg = np.unique(legs_of(self.sizes, share.owners), return_inverse=True)  # by their last groups
        owners = [share.owners[leg] for leg in self.legs] if share.owners else np.arange(self.legs.size) % share.workers
        self.owner = np.array(owners, np.int64)
        self._sweeping = partial(Sweeping, replace(setting, owners=share.owners), groups, pairs, rule)
        self._gates, self._lists = f"{self.name}-gates", f"{self.name}-lists"

    @cached_property
    def _probing(self) -> Sweeping:
        sweeping = self._sweeping()
        sweeping.begin_sharp()
        return sweeping

    def _probed(self, worker: int) -> Sweeping:
        """A sweep in which the anchors of a worker have their first gates."""
        sweeping, legs = self._probing, self.legs[self.owner == worker]
        sweeping.probe_spans([span for span in sweeping.order.spans if span.leg in legs])
        sweeping.report()
        return sweeping

    def _gates_in(self, sweeping: Sweeping, worker: int) -> Iterator[Columns]:
        """The gates of a worker's anchors."""
        own = np.isin(self.leg, np.flatnonzero(self.owner == worker))
        return (_first_gates(sweeping, group) for group in np.flatnonzero(own).tolist())

    def _gated(self) -> Sweeping:
        """A sweep whose anchors have the gates that all workers found."""
        letters = self.exchange.collect(self._gates, to_all=True)
        for begun in ("_probing", "_begun"):
            self.__dict__.pop(begun, None)  # its memory
        sweeping = self._sweeping()
        sweeping.begin_sharp()
        for letter in letters:
            for group, *columns in letter:
                _take_gates(sweeping, int(group[0]), *columns)
        sweeping.set_gates()
        return sweeping

    def _dealt(self, sweeping: Sweeping) -> tuple[list[Blocks], list[Blocks]]:
        """The pairs of legs of each worker, by their names, with their products: what it begins with, and the rest."""
        sizes, others = np.bincount(self.leg, self.sizes), sweeping.order.rows - sweeping.order.anchors
        given = sizes.astype(int).tolist(), others, self.share.workers
        if self.share.alone is None:
            begun = own_blocks(*given, self.owner.tolist())
            dealt = begun, dealt_blocks(*given, without=begun)
        else:
            dealt = [], dealt_blocks(*given, self.owner.tolist() if self.share.owners else ())
        names = [*self.legs.tolist(), OTHERS]
        named = [[{(names[i], names[j]): cost for (i, j), cost in own.items()} for own in each] for each in dealt]
        return named[0], named[1]

    @cached_property
    def _begun(self) -> Sweeping:
        """The sweep of what this worker begins with: pairs of its own legs.

        What its anchors find there says how far they still look, so that fewer rows of other workers pass their gates.
        """
        sweeping = self._probed(self.share.number)
        _sweep(sweeping, self._dealt(sweeping)[0][self.share.number])
        sweeping.set_gates(gates.keep_gates)
        return sweeping

    def of_workers(self) -> list[Iterator[Columns]]:
        """What every worker found for the parts of this one, when all have ended theirs."""
        number, workers, begun = self.share.number, self.share.workers, f"{self.name}-begun"

        @cache
        def swept() -> Sweeping:
            sweeping = self._gated()
            _sweep(sweeping, self._dealt(sweeping)[1][number])
            return sweeping

        def lists(sweeping: Callable[[], Sweeping], to: int) -> Iterator[Columns]:
            return (_lists(sweeping(), part) for part in range(to, self.sizes.size, workers))

        self.exchange.offer(self._gates, lambda _: self._gates_in(self._begun, number), to_all=True)
        self.exchange.offer(begun, partial(lists, lambda: self._begun))
        self.exchange.offer(self._lists, partial(lists, swept))
        return self.exchange.collect(begun) + self.exchange.collect(self._lists)

    def of_slices(self, exchange: AloneExchange) -> list[Iterator[Columns]]:
        """What was found for the parts of this slice, here and by the others as far as they have come.

        Of the pairs of blocks of two slices each is dealt a half. The half that another has not made when this one is
        done with its own, it makes itself, and gives it to the other, which may not have begun. So it never computes
        more than its anchors against all rows, and waits only for what has begun, and no longer than making it takes.
        """
        exchange.offer(self._gates, lambda worker: self._gates_in(self._probed(worker), worker), to_all=True)
        number, sweeping, owners = self.share.number, self._gated(), self.share.owners
        dealt, others = self._dealt(sweeping)[1], {*owners} - {number}
        lists, rest = self._lists, f"{self.name}-rest"
        theirs = {other: _touching(dealt[other], number, owners) for other in others}
        made = {other: letter for other in others if (letter := exchange.take(rest, other)) is not None}
        left = dealt[number].keys() - {pair for other in made for pair in _touching(dealt[number], other, owners)}

        def give(name: str, to: Iterable[int]) -> None:
            for other in to:
                parts = (part for part, owner in enumerate(owners) if owner == other)
                exchange.give(name, other, (_lists(sweeping, part) for part in parts))

        began = time.perf_counter()
        _sweep(sweeping, left)
        give(lists, others - made.keys())
        each = (time.perf_counter() - began) / max(1, sum(dealt[number][pair] for pair in left))
        exchange.wait(lists, {other: each * sum(pairs.values()) for other, pairs in theirs.items()})
        taken = {other: letter for other in others if (letter := exchange.take(lists, other)) is not None}
        missing = others - taken.keys()
        _forget(sweeping, [part for part, owner in enumerate(owners) if owner != number])
        _sweep(sweeping, {pair for other in missing for pair in theirs[other]})
        give(rest, missing)
        own = [_lists(sweeping, part) for part, owner in enumerate(owners) if owner == number]
        return [iter(own), *made.values(), *taken.values()]


def _touching(pairs: Blocks, other: int, owners: Sequence[int]) -> Blocks:
    """Those pairs of legs of which one is another worker's."""
    return {pair: cost for pair, cost in pairs.items() if any(leg >= 0 and owners[leg] == other for leg in pair)}


def _sweep(sweeping: Sweeping, blocks: Container[tuple[int, int]]) -> None:
    """Sweep some pairs of legs."""
    sweeping.blocks = blocks
    for _ in sweeping.sweep_strides():
        pass
    sweeping.report()


def _forget(sweeping: Sweeping, groups: Sequence[int]) -> None:
    """Begin the lists of some groups anew; their gates stay as they are."""
    for group in groups:
        _, pair = ragged.take(sweeping.pairs.start, sweeping.order.lanes_of(group))
        for counts in (sweeping.best.found, sweeping.best.near_count, sweeping.best.nearer):
            counts[pair] = 0


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

    def answers(worker: int) -> Iterator[Columns]:
        places, rows = dealt[worker], setting.loaded.rows
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
    each = ANCHOR * survivor_work(loaded) / (loaded.store.dimension + PRODUCT)
    work = ragged.starts(loaded.positives[anchors[order]] + round(each))
    edges = np.append(ragged.runs(label[order]), anchors.size)
    first, size = (np.repeat(each, np.diff(edges)) for each in (work[edges[:-1]], np.diff(work[edges])))
    before = np.where(2 * workers * size < work[-1], first, work[:-1])
    return [order[before * workers // work[-1] == number] for number in range(workers)]
