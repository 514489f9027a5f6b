"""The search by the sweep: tiles of all lanes in steps that grow, and gates that narrow after each step.

First the probe looks at the candidates around each anchor, which gives it a gate. Then each stride of anchors meets
all lanes from itself on, and one product serves both sides. When a group has met all rows, its answers are final.
"""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.kernels import crowded, gates, probe, refine, sweep
from minestream.kernels.ahead import compile_ahead, compiles
from minestream.kernels.refine import Ranges
from minestream.kernels.types import (
    FARTHEST,
    NEAREST,
    NEGATIVE,
    POSITIVE,
    RANDOM,
    TALLIES,
    WEIGHTED,
    WITHIN,
    Best,
    Pairs,
    Problem,
    Rule,
)
from minestream.kernels.units import Units
from minestream.search.bands import edges_of, move_gates
from minestream.search.context import SearchContext
from minestream.search.gathering import Gathering
from minestream.search.order import Order, Span, any_left, dealt, ranges_of, strides_of
from minestream.search.results import Found, count_tally, empty_best, found_of, groups_of, joined, sub_pairs, taken_of
from minestream.search.screens import Codes, filled, packing, worth_changing
from minestream.search.work import rows_around, search_work, survivor_work
from minestream.system import ragged
from minestream.system.threads import ahead, slices, taken

AROUND_SPANS = 8  # in which it looks, at most
AROUND_LANES = 4  # times as many lanes, among which those of other labels are sought
UNIT_BYTES = (1 << 17, 3 << 16)  # packed rows, and packed columns, of one unit: both stay in the L2 cache
UNIT_PANELS = (64, 16)  # at most: a unit that passes whole must fit the buffer
BUFFER_ENTRIES, SURVIVOR_BYTES = 1 << 18, 12
MOST_INTERVALS = 8  # of an anchor's gate that the tile compares
TAKEN_ENTRIES = 1 << 18
SAMPLE = 256  # pairs, and lanes, by which the first screen is chosen
TASK_SURVIVORS = 1 << 16  # refined by one task, or a few more: an interrupt waits for those that have begun
COMPILERS = 2  # other processes that compile, at most
ANSWERED_PAIRS = 2_048  # whose lists are sorted together


class Sweeping:
    """One search: the slots of all anchors of all groups, their pairs (CSR by anchor), and the rule."""

    def __init__(self, setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule) -> None:
        self.setting, self.rule, self.loaded = setting, rule, setting.loaded
        self.workers, self.effort, self.threads = setting.workers, setting.effort, setting.limits.threads
        self.mirrored = rule.pick == FARTHEST
        self.screens = deque(setting.limits.screens)
        codes = setting.codes(self.screens.popleft())
        self.blocks: Container[tuple[int, int]] | None = None  # of two legs that are swept here; None: all
        self.order = Order(setting, groups, rule, setting.cell())
        self.parent = self.loaded.rows.parent[: None if rule.wanted == NEGATIVE else 0]  # what negatives must share
        self.pairs, _ = sub_pairs(pairs, self.order.place)
        self.around_rows = rows_around(self.loaded, np.concatenate(groups), rule)
        self.crowded = bool((ragged.lengths(self.pairs.start) > sweep.CROWDED).any())
        self.best = empty_best(rule, self.pairs.positive.size, rule.take + rule.skip if rule.take else 0)
        self.problem = Problem(self.loaded.rows, rule, self.pairs, self.best)
        count, pair_count = self.order.anchors, self.pairs.positive.size
        self.gates = sweep.Gates(
            np.empty(count, np.float32), np.empty(count, np.float32), np.empty(pair_count, np.float32),
            np.empty(pair_count, np.float32), np.zeros(count, np.int64), np.full(pair_count, sweep.UNGATED),
            np.full(pair_count, 2**64 - 1, np.uint64), np.full(pair_count, np.inf),
            np.full(pair_count, -np.inf if rule.skip else np.inf, np.float32), np.empty(count),
        )  # fmt: skip
        self.gathering = Gathering(setting, self.order.slot, self.pairs, rule)
        self.taken: list[list[refine.Taken]] = [[] for _ in groups]
        self.tally = np.zeros(TALLIES, np.int64)
        self.exact = np.zeros(2, np.int64)
        self.tiles = np.zeros(2, np.int64)
        self.lock = threading.Lock()  # of the counters
        self.survivors = self.refined = 0  # since the last report; and all that were made exact
        self.swept = np.zeros(2, np.int64)  # tiles, and distances made exact in vain
        self.work = search_work(self.loaded, np.concatenate(groups), self.pairs.positive.size, rule, swept=True)
        setting.meter.begin(sum(self.work))
        self.use(codes)

    def use(self, codes: Codes) -> None:
        """Sweep with the codes of this screen."""
        self.codes, terms, slot = codes, codes.terms, self.order.slot
        bias = terms.mirrored if self.mirrored else terms.bias
        rows, take = self.loaded.rows, partial(taken, workers=self.workers, threads=self.threads)
        *fields, start = take([rows.label, rows.twin, terms.scale, bias, terms.slack, terms.tail, terms.start], slot)
        if not codes.tile.unsigned_rows:
            start[:] = 0
        self.lanes = sweep.Lanes._make([slot, *fields, start, self.parent[slot[: self.parent.size]]])
        own = slot[: self.order.anchors]
        h, error = take([terms.h, terms.own], own)
        edges = edges_of(self.setting, self.rule, self.pairs, h, error)
        self.screening = sweep.Screening(self.loaded.frame, self.lanes, edges, self.gates)
        self.gates.nearest[:] = h - error
        # int8 compares lower ends only: its gates are hulls.
        most_pairs = int(ragged.lengths(self.pairs.start).max(initial=1))
        by_key = self.rule.pick in (RANDOM, WEIGHTED)
        self.intervals = 1 if codes.name == "i8" or by_key else min(MOST_INTERVALS, most_pairs)
        tile, row_bytes = codes.tile, 4 * codes.words
        self.unit_panels = (
            min(UNIT_PANELS[0], max(1, UNIT_BYTES[0] // (row_bytes * tile.rows))),
            min(UNIT_PANELS[1], max(1, UNIT_BYTES[1] // (row_bytes * tile.columns))),
        )
        most = self.setting.limits.survivor_bytes // SURVIVOR_BYTES
        while 4 * math.prod(self.unit_panels) * tile.rows * tile.columns > most and max(self.unit_panels) > 1:
            self.unit_panels = max(1, self.unit_panels[0] // 2), max(1, self.unit_panels[1] // 2)
        unit = 2 * math.prod(self.unit_panels) * tile.rows * tile.columns
        size = min(unit + BUFFER_ENTRIES, max(2 * unit, most))
        for entries in (0, size):  # the room of another screen is let go before it is made anew
            shape = (self.threads, entries)
            self.found = sweep.Survivors(
                np.empty(shape, np.int32), np.empty(shape, np.int32), np.empty(shape, np.float32)
            )
        if self.threads > 1 and compiles(refine.refine):
            compile_ahead(self._later_calls(), min(COMPILERS, self.threads - 1))
        self.set_gates()

    def set_gates(self, kernel: Callable[[Problem, sweep.Screening, int, int], None] = gates.set_all_gates) -> None:
        """Have all threads set the gates of all anchors: by their bands and the best so far, or as the kernel does."""
        parts = slices(self.order.anchors, self.threads)
        self.workers.run([partial(kernel, self.problem, self.screening, p.start, p.stop) for p in parts])

    def _later_calls(self) -> list[tuple[Any, tuple[Any, ...]]]:
        """The kernels that take longest to compile and are not called first, with arguments as they will have."""
        left, right = [self._side(0, 0, rows=rows) for rows in (True, False)]
        ranges, none = ranges_of([(0, 0)], 0, self.threads), np.empty(0, np.int64)
        out = sweep.Survivors._make(field[0] for field in self.found)
        into, scratch = (self.problem, self.screening), self.codes.scratch(self.intervals)
        refined = (self.found, ranges, self.gathering.of_lanes(left.lane, left.lane), 0, none)
        return [
            (refine.refine, (*into, *refined)),
            (sweep.sweep, (*into, left, right, dealt(1, 1)[0], out, scratch)),
            (refine.partition, (out, 0, ranges.first, ranges.bounds[0])),
        ]

    def _reconsider(self, tiles: int, vain: int) -> None:
        """Go on with the next screen where that is predicted, from all steps so far, to be faster.

        tiles, vain : of the last step, tiles multiplied, and distances made exact that a sharper screen would not let
            through.
        """
        if not self.screens:
            return
        self.swept += np.array([tiles, vain])
        tiles, vain = self.swept.tolist()
        values = tiles * self.codes.tile.rows * self.codes.tile.columns
        if worth_changing(self.codes.name, self.screens[0], self.loaded.store.dimension, values, vain):
            self._change()

    def begin_sharp(self) -> None:
        """Change to the next screen before the first step where so many products are expected to pass in vain.

        Those are about as many as lie within the error of the near end of a window, which a sample tells. Where anchors
        have many pairs, all that passes becomes exact whatever the screen.
        """
        pairs, slot = self.pairs, self.order.slot
        each = pairs.positive.size / max(1, self.order.anchors)
        ends = np.isfinite(self.screening.edges.near).any()
        if self.rule.pick != NEAREST or not ends or each > MOST_INTERVALS:
            return
        pair, lane = (np.linspace(0, n - 1, SAMPLE).astype(np.int64) for n in (pairs.positive.size, self.order.rows))
        anchor = np.searchsorted(pairs.start, pair, side="right") - 1
        while self.screens:
            edges, lanes = self.screening.edges, self.lanes
            rows, others = self.codes.values(slot[anchor]), self.codes.values(slot[lane])
            beyond = edges.near[pair, None] - np.einsum("ad,bd->ab", rows, others) - lanes.bias[lane]
            vain = (np.abs(beyond) < edges.own[anchor, None] + lanes.slack[lane]).mean() * each
            if not worth_changing(self.codes.name, self.screens[0], self.loaded.store.dimension, 1, vain):
                return
            self._change()

    def _change(self) -> None:
        """Go on with the next screen."""
        anchors, before = self.order.slot[: self.order.anchors], self.codes.terms
        codes = self.setting.codes(self.screens.popleft())
        move_gates(self.gates, self.pairs, before, codes.terms, anchors, -1.0 if self.mirrored else 1.0)
        self.swept[:] = 0
        self.effort.screens_changed += 1
        del self.screening  # its edges, before there are others
        self.use(codes)

    def run(self) -> Iterator[int]:
        """Probe and sweep; yields the number of each group, in order, when its answers are final."""
        self.begin_sharp()
        self.probe_spans(self.order.spans)
        del self.order.key
        yield from self.sweep_strides()

    def sweep_strides(self) -> Iterator[int]:
        """Sweep, once all anchors have their first gates; yields as run()."""
        strides = strides_of(self.order.spans, self.around_rows, self.setting.limits.block_rows)
        done, strides = 0, [stride for stride in strides if self._spans_from(stride)]
        products, survivors = self._works(strides)
        each, share, before = survivor_work(self.loaded), 1.0, self.refined
        for number, stride in enumerate(strides):
            self._sweep_rows(stride, products[number] + share * survivors[number])
            expected, share = share, each * (self.refined - before) / max(each, survivors[: number + 1].sum())
            self.setting.meter.revise((share - expected) * survivors[number + 1 :].sum())
            if number + 1 == len(strides) or strides[number + 1].leg > stride.leg:
                yield from range(done, stride.leg + 1)
                done = stride.leg + 1
        yield from range(done, self.order.group_start.size - 1)

    def _works(self, strides: Sequence[Span]) -> NDArray[np.float64]:
        """float64[2, strides]: the share of each stride in the work of products, and in that of survivors.

        An anchor has as many survivors each time that the rows seen grow by the same factor.
        """
        shares = np.zeros((2, len(strides)))
        kind = (self.lanes.parent if self.parent.size else self.lanes.code) + 1  # 0: without one
        kinds = int(kind.max(initial=0)) + 1
        for number, stride in enumerate(strides):
            first, end, candidates = stride.first, stride.end, stride.candidates
            own, met = np.bincount(kind[first:end], minlength=kinds), np.zeros(kinds)
            for span in self._spans_from(stride):
                met += np.bincount(kind[max(first, span.first) : span.end], minlength=kinds)
            met -= own * stride.may_meet(stride) / 2  # of two of the stride one product serves both
            rows, seen, alike = end - first, self.around_rows + first + 1, own @ met
            later = (self.order.anchors - end) * candidates * math.log1p(rows / seen)
            shares[:, number] = (
                alike if self.parent.size or self.rule.wanted == POSITIVE else rows * met.sum() - alike,
                later + rows * math.log1p(self.order.rows / seen),
            )
        products, survivors = shares / np.maximum(shares.sum(axis=1, keepdims=True), 1.0)
        return np.stack([self.work.products * products, self.work.survivors * survivors])

    def probe_spans(self, spans: Sequence[Span]) -> None:
        """First gates of the anchors of some spans, from the candidates around each of them."""
        slack, size = float(self.lanes.slack.max(initial=0)), self.setting.limits.block_rows
        for own in spans:
            number = self.order.spans.index(own)
            others = [*self.order.spans[number:], *self.order.spans[:number]]
            others = [span for span in others if span.candidates and own.may_meet(span)][:AROUND_SPANS]
            every = sum(span.end - span.first for span in others)
            for start in range(own.first, own.end if self.rule.take and own.anchors else own.first, size):
                left = self._side(start, min(start + size, own.end), rows=True)
                sweep.open_gates(self.rule, self.pairs, self.gates, True, slack, left)
                for span in others:
                    self._probe_span(left, span, self.around_rows * (span.end - span.first) / every, size)
                self.setting.meter.advance(self.work.probe * left.lanes / self.order.anchors)
        self.best.found[:] = 0
        self.best.near_count[:] = 0

    def _probe_span(self, left: sweep.Side, span: Span, rows: float, size: int) -> None:
        """Look at so many candidates of a span around each anchor of the left side, which is of one span, too.

        size : rows packed at a time
        """
        tile = self.codes.tile
        middle = left.first + tile.rows * np.arange(len(left.panels)) + tile.rows // 2
        at = self.order.around(np.minimum(middle, left.first + left.lanes - 1), span)  # ascending
        margin, step = min(math.ceil(AROUND_LANES * rows / 2), size // 4), max(1, size // 2)
        reach = math.ceil(rows / tile.columns)
        for first in range(int(at[0]), int(at[-1]) + 1, step):
            begin, end = np.searchsorted(at, [first, first + step]).tolist()
            if begin == end:
                continue
            first = max(span.first, int(at[begin]) - margin)
            right = self._side(first, min(span.end, int(at[end - 1]) + margin + 1), rows=False)
            sweep.open_gates(self.rule, self.pairs, self.gates, False, 0.0, right)
            seen = right.lane[: None if self.rule.positive_duplicates == WITHIN else 0]
            vectors = self.gathering.of_lanes(seen, left.lane)
            around = probe.Around(begin, (at - first) // tile.columns, reach, np.empty(0))
            with self.setting.stage("sweep"):
                units = dealt(end - begin, self.threads)
                self.workers.run([self._prober(left, right, own, around, vectors) for own in units])
            del right  # before another is made

    def _prober(
        self, left: sweep.Side, right: sweep.Side, units: Units, around: probe.Around, vectors: refine.Vectors
    ) -> Callable[[], None]:
        """The task of one thread."""
        scratch, screening = self.codes.scratch(self.intervals), self.screening._replace(exact=False)
        around = around._replace(row=np.empty(self.loaded.store.dimension))

        def task() -> None:
            probe.probe(self.problem, screening, left, right, units, around, vectors, scratch)
            with self.lock:
                self.tiles += scratch.tiles

        return task

    def _sweep_rows(self, stride: Span, work: float) -> None:
        """Sweep a stride, which is so much work, against all lanes from its first on."""
        first, end, candidates = stride.first, stride.end, stride.candidates
        left, codes = self._side(first, end, rows=True), self.codes
        itself = (end - first) / 2 if stride.may_meet(stride) else 0.0  # of two of its rows one product serves both
        blocks = self._blocks(stride)
        each = work / max(1.0, sum(block.end - block.first for block in blocks) - itself)
        for block, held in self._with_codes(blocks):
            if codes is self.codes:
                right = self._side(block.first, block.end, rows=False, held=held)
            else:  # the screen has changed
                if left.panels.dtype != self.codes.screen.word:
                    left = self._side(first, end, rows=True)
                right = self._side(block.first, block.end, rows=False)
            self._step(left, right, looking=block.candidates, looked_for=block.anchors and candidates)
            own = max(0, min(end, block.end) - block.first)
            self.setting.meter.advance(each * (block.end - block.first - own / 2))
            del right  # before the next is made

    def _blocks(self, stride: Span) -> list[Span]:
        """The lanes that a stride meets, in blocks of one span; without those of other labels, or parents, only."""
        size = self.setting.limits.block_rows
        blocks = [
            span._replace(first=start, end=min(span.end, start + size))
            for span in self._spans_from(stride)
            for start in range(max(stride.first, span.first), span.end, size)
        ]
        rows, kind = self.loaded.rows, self.lanes.parent
        if self.rule.wanted == POSITIVE and not (rows.set_start.size or rows.known_start.size):
            kind = self.lanes.code
        if not kind.size:
            return blocks
        least, largest = kind[stride.first : stride.end].min(), kind[stride.first : stride.end].max()
        every = [kind[block.first : block.end] for block in blocks]
        alike = [each.max() >= least and each.min() <= largest for each in every]
        return list(itertools.compress(blocks, alike))

    def _with_codes(self, blocks: list[Span]) -> Iterator[tuple[Span, tuple[NDArray[np.uint32], NDArray[np.int64]]]]:
        """Blocks of lanes with their codes, read ahead."""
        codes, slot = self.codes, self.order.slot
        held = ((block, codes.rows_of(slot[block.first : block.end])) for block in blocks)
        return held if codes.store.in_memory else ahead([held])

    def _spans_from(self, stride: Span) -> list[Span]:
        """The spans with lanes from the first of a stride on that can form pairs with its rows, and do so here."""
        later = [span for span in self.order.spans if span.end > stride.first and stride.may_meet(span)]
        return [span for span in later if self.blocks is None or (stride.leg, span.leg) in self.blocks]

    def _side(
        self, first: int, end: int, rows: bool, held: tuple[NDArray[np.uint32], NDArray[np.int64]] | None = None
    ) -> sweep.Side:
        codes, tile = self.codes, self.codes.tile
        width = tile.rows if rows else tile.columns
        flip = codes.row_flip(self.mirrored) if rows else 0
        words, at = held or codes.rows_of(self.order.slot[first:end])
        panels, pack = packing(words, at, width, flip)
        side = codes.side(slice(first, end), panels, self.unit_panels[0 if rows else 1], self.intervals)
        sign = codes.row_sign(self.mirrored) if rows else 1.0
        return filled(side, pack, self.lanes, sign, self.workers, self.threads)

    def _step(self, left: sweep.Side, right: sweep.Side, looking: bool, looked_for: bool) -> None:
        """Sweep one rectangle (or triangle), and refine survivors whenever buffers are full."""
        units = dealt(-(-len(left.panels) // left.unit) * -(-len(right.panels) // right.unit), self.threads)
        slack = [float(self.lanes.slack[side.first : side.first + side.lanes].max()) for side in (left, right)]
        tiles, vain = int(self.tiles[0]), int(self.exact[0] - self.exact[1])
        ranges = ranges_of([(s.first, s.first + s.lanes) for s in (left, right)], self.order.anchors, self.threads)
        while any_left(units):
            sweep.open_gates(self.rule, self.pairs, self.gates, looking, slack[1], left)
            sweep.open_gates(self.rule, self.pairs, self.gates, looked_for, slack[0], right)
            ranges.bounds[:] = 0
            with self.setting.stage("sweep"):
                multiply = partial(sweep.sweep, self.problem, self.screening, left, right)
                self.workers.run([self.sweeper(multiply, *own, ranges) for own in enumerate(units)])
                del multiply  # and what it holds, before the screen changes
            with self.setting.stage("refine"):
                self._refine(ranges)
        self._reconsider(int(self.tiles[0]) - tiles, int(self.exact[0] - self.exact[1]) - vain)

    def sweeper(
        self, multiply: sweep.Multiply, thread: int, units: Units, ranges: Ranges
    ) -> Callable[[], None]:  # fmt: skip
        """The task of one thread: unit after unit until none is left or its buffer is full."""
        out = sweep.Survivors._make(field[thread] for field in self.found)
        scratch = self.codes.scratch(self.intervals, checked=True)

        def task() -> None:
            found = multiply(units, out, scratch)
            refine.partition(out, found, ranges.first, ranges.bounds[thread])
            with self.lock:
                self.tiles += scratch.tiles
                self.tally += scratch.tally

        return task

    def _refine(self, ranges: Ranges) -> None:
        """Make survivors exact."""
        total = int(ranges.bounds[:, -1].sum())
        if not total:
            return
        self.survivors += total
        self.refined += total
        vectors = self.gathering.of_survivors(self.found, ranges.bounds)
        if not self.rule.take:
            self.workers.run([self._refiner(self._collect, ranges, vectors, each) for each in range(ranges.first.size)])
            return
        for kernel in (refine.refine, crowded.refine_crowded) if self.crowded else (refine.refine,):
            ranges.taken[0] = 0
            tasks = min(ranges.first.size, self.threads + total // TASK_SURVIVORS)
            self.workers.run([self._refiner(kernel, ranges, vectors, TASK_SURVIVORS) for _ in range(tasks)])

    def _refiner(
        self, kernel: Callable[..., None], ranges: Ranges, vectors: refine.Vectors, part: int
    ) -> Callable[[], None]:
        exact, tally = np.zeros(2, np.int64), np.zeros(TALLIES, np.int64)
        own = self.problem._replace(best=self.best._replace(tally=tally))

        def task() -> None:
            kernel(own, self.screening, self.found, ranges, vectors, part, exact)
            with self.lock:
                self.exact += exact
                self.tally += tally

        return task

    def _collect(
        self, problem: Problem, screening: sweep.Screening, found: sweep.Survivors, ranges: Ranges,
        vectors: refine.Vectors, place: int, exact: NDArray[np.int64],
    ) -> None:  # fmt: skip
        """Keep all that is eligible of the survivors of a range, as refine.refine() does what is best of them."""
        size, first = TAKEN_ENTRIES, int(ranges.first[place])
        while first < ranges.end[place]:
            out = refine.Taken(
                np.empty(size, np.int64), np.empty(size, np.int32), np.empty(size), np.empty(size, np.uint64)
            )
            first, written = refine.collect(problem, screening, found, ranges, (place, first), vectors, out, exact)
            if written:
                with self.lock:
                    self._keep(refine.Taken._make(field[:written] for field in out))
            elif first < ranges.end[place]:
                size *= 4

    def _keep(self, piece: refine.Taken) -> None:
        """Add taken candidates to the groups of their pairs."""
        anchor = np.searchsorted(self.pairs.start, piece.pair, side="right") - 1
        group = np.searchsorted(self.order.group_start, self.order.place[anchor], side="right") - 1
        for index in np.unique(group):
            self.taken[index].append(refine.Taken._make(field[group == index] for field in piece))

    def answers(self, group: int) -> Found:
        """The answers of a group, in the order of its pairs."""
        _, pair = ragged.take(self.pairs.start, self.order.lanes_of(group))
        if self.rule.take:  # the lists are copied few at a time
            return joined(self.workers.made(self._found_of, groups_of(pair, ANSWERED_PAIRS)))
        pieces, self.taken[group] = self.taken[group], []
        return taken_of(self.loaded.rows.rank, pair, pieces, self.best.nearer[pair])

    def _found_of(self, pair: NDArray[np.int64]) -> Found:
        """The answers of some pairs."""
        return found_of(self.rule, self.loaded.rows.rank, self.best_of(pair))

    def best_of(self, pair: NDArray[np.int64]) -> Best:
        """The lists of some pairs, copied."""
        fields = {name: field[pair] for name, field in self.best._asdict().items() if name != "tally"}
        return self.best._replace(**fields)

    def report(self) -> None:
        """Add the counters since the last report to the effort; those of tiles only where stages are timed."""
        tile = self.codes.tile
        self.effort.pairs_computed += int(self.tiles[0]) * tile.rows * tile.columns
        if self.setting.timed:
            self.effort.tiles += int(self.tiles[0])
            self.effort.tiles_hit += int(self.tiles[1])
            self.effort.survivors += self.survivors
            self.effort.exact_distances += int(self.exact[0])
        count_tally(self.effort, self.tally, self.rule.wanted)
        self.survivors = 0
        for counter in (self.tiles, self.exact, self.tally):
            counter[:] = 0
