"""The sweep of one search: strips of anchors against blocks of candidates, probe -> sweep -> refine.

The probe sweeps a seeded sample first and keeps nothing but the thresholds it gives; then every block of candidates
is swept with gates that narrow from block to block (kernels/drain.py); what is left at the end is made exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.answers import Answers, count_tally, empty_best, groups_of, sub_pairs
from minestream.kernels import drain, sweep
from minestream.kernels.choose import FARTHEST, POSITIVE, RANDOM, TALLIES, WITHIN, Pairs, Rule
from minestream.kernels.tile import TILES, host_tile
from minestream.load import Loaded
from minestream.metric import Metric
from minestream.progress import Progress
from minestream.stats import ShardStats
from minestream.workers import Workers, slices

STRIP_ROWS = 512
PROBE_SHARE = 0.04
PROBE_ROWS = 1_024  # at most: the blocks go on narrowing the gates from there (4,096: 4 % more work at 64,000 rows)
PROBE_STEP = 4  # the first step of the probe, in rows looked for; each further one is twice as long
BLOCK_SHARE = 0.25  # a block is at most this share of the rows seen before it, so that gates narrow in time
LEAST_BLOCK_ROWS = 2_048
UNIT_BYTES = 1 << 18  # packed anchors, and packed columns, of one unit of the sweep: both stay in the L2 cache
UNIT_PANELS = (64, 16)  # at most, of rows and of columns: a unit that passes whole must fit the buffer
BUFFER_ENTRIES = 1 << 15


@dataclass(frozen=True)
class Limits:
    """How much at a time: sizes that memory decides and no result depends on."""

    threads: int
    block_rows: int
    group_anchors: int
    scan: bool


def positive_vectors(loaded: Loaded, rule: Rule, pairs: Pairs) -> NDArray[np.float64]:
    """The vectors of the pairs' positives, float64 (pairs, d); none unless the rule compares distances to them."""
    if rule.positive_duplicates != WITHIN or not pairs.positive.size:
        return np.empty((0, loaded.store.dimension))
    return loaded.gather(pairs.positive)


@dataclass(frozen=True)
class Setting:
    """What all searches of a shard share."""

    loaded: Loaded
    metric: Metric
    limits: Limits
    workers: Workers
    progress: Progress
    stats: ShardStats


class Sweeping:
    """What all strips of one search share."""

    def __init__(self, setting: Setting, rule: Rule) -> None:
        self.rule = rule
        self.loaded, self.metric, self.limits = setting.loaded, setting.metric, setting.limits
        self.workers, self.progress, self.stats = setting.workers, setting.progress, setting.stats
        loaded = setting.loaded
        self.mirrored = rule.pick == FARTHEST
        self.by_label = rule.wanted == POSITIVE and loaded.rows.set_start.size == 0
        tile = TILES[host_tile()]
        self.tile_rows, self.tile_columns = tile.rows, tile.columns
        row_bytes = 4 * loaded.store.dimension
        self.unit_panels = (
            min(UNIT_PANELS[0], max(1, 3 * UNIT_BYTES // (row_bytes * tile.rows))),
            min(UNIT_PANELS[1], max(1, UNIT_BYTES // (row_bytes * tile.columns))),
        )

    def sweep_all(
        self, anchors: NDArray[np.int32], pairs: Pairs, left: NDArray[np.int64], widening: int, found: Answers
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Sweep the anchors at places `left`: the places to sweep again with more kept, and those to scan."""
        rule = self.rule
        wide = rule._replace(take=rule.take * widening, skip=rule.skip * widening) if widening > 1 else rule
        if self.by_label:
            left = left[np.argsort(self.loaded.rows.label[anchors[left]], kind="stable")]
        uncertain, crowded = [left[:0]], [left[:0]]
        for group in groups_of(left, self.limits.group_anchors):
            strips = [Strip(self, wide, anchors, pairs, places) for places in groups_of(group, STRIP_ROWS)]
            if rule.take:
                for block in self.probe_blocks():
                    self.workers.run([strip.sweeper(block, probing=True) for strip in strips])
                for strip in strips:
                    strip.forget()
            for block in self.blocks():
                self.workers.run([strip.sweeper(block) for strip in strips])
            self.workers.run([strip.refiner(rule) for strip in strips])
            for strip in strips:
                uncertain.append(strip.places[~strip.certified & ~strip.reach.crowded])
                crowded.append(strip.places[strip.reach.crowded])
                good = np.repeat(strip.certified, np.diff(strip.pairs.start))
                found.add(rule, self.loaded.rows.rank, strip.of_pair, strip.best, good)
                strip.report(self.stats)
        return np.sort(np.concatenate(uncertain)), np.sort(np.concatenate(crowded))

    def probe_blocks(self) -> Iterator[sweep.Block]:
        """A seeded sample of the rows, in steps of growing length."""
        n = self.loaded.store.rows
        step = max(2 * self.tile_columns, PROBE_STEP * (self.rule.take + self.rule.skip))
        count = min(n, max(step, min(PROBE_ROWS, int(n * PROBE_SHARE))))
        sample = np.random.default_rng(0).permutation(n)[:count].astype(np.int32)
        first = 0
        while first < count:
            slots = np.sort(sample[first : min(first + step, first + self.limits.block_rows)])
            yield self.packed(slots, self.loaded.store.take(slots))
            first, step = first + slots.size, first + slots.size

    def blocks(self) -> Iterator[sweep.Block]:
        """All rows in order, in blocks that grow with what was seen."""
        n, first = self.loaded.store.rows, 0
        while first < n:
            rows = min(self.limits.block_rows, max(LEAST_BLOCK_ROWS, int((first + PROBE_ROWS) * BLOCK_SHARE)))
            end = min(n, first + rows)
            yield self.packed(np.arange(first, end, dtype=np.int32), self.loaded.store.block(first, end))
            first = end

    def prepared(self, slots: NDArray[np.int32], vectors: NDArray[Any]) -> sweep.Prepared:
        """Rows in the frame, prepared by all threads."""
        m, d = vectors.shape
        out = sweep.Prepared(
            np.empty((m, d), np.float32), np.empty(m), np.empty(m, np.float32), np.empty(m, np.float32), np.empty(m)
        )
        square = self.loaded.rows.square[slots]

        def task(rows: slice) -> Callable[[], None]:
            part = sweep.Prepared._make(field[rows] for field in out)
            return lambda: sweep.prepare(self.loaded.frame, vectors[rows], square[rows], self.mirrored, part)

        self.workers.run([task(rows) for rows in slices(m, self.limits.threads)])
        return out

    def packed(self, slots: NDArray[np.int32], vectors: NDArray[Any]) -> sweep.Block:
        """A block of candidates, sorted by label where only like labels meet."""
        ready = self.prepared(slots, vectors)
        order = np.arange(slots.size)
        if self.by_label:
            order = np.argsort(self.loaded.rows.label[slots], kind="stable")
        panels = -(-slots.size // self.tile_columns)
        padded = panels * self.tile_columns
        out = np.empty((panels, vectors.shape[1], self.tile_columns), np.float32)
        self.pack(ready.z, order, False, out)
        return sweep.Block(
            out,
            _padded(ready.bias[order], padded, sweep.PAD),
            _padded(self.loaded.rows.label[slots[order]], padded, np.int32(-3)),
            _padded(ready.slack[order], padded, np.float32(0)),
            _padded(slots[order], padded, np.int32(0)),
            float(ready.slack.max(initial=0.0)),
        )

    def pack(self, z: NDArray[np.float32], order: NDArray[np.int64], negate: bool, out: NDArray[np.float32]) -> None:
        """pack_panels by all threads."""
        width = out.shape[2]

        def task(panels: slice) -> Callable[[], None]:
            rows = order[panels.start * width : panels.stop * width]
            return lambda: sweep.pack_panels(z, rows, negate, out[panels])

        self.workers.run([task(panels) for panels in slices(len(out), self.limits.threads)])


def _padded(values: NDArray[Any], size: int, fill: Any) -> NDArray[Any]:
    out = np.full(size, fill, values.dtype)
    out[: values.size] = values
    return out


class Strip:
    """Anchors swept together: their gates, what survived so far, and in the end their answers."""

    def __init__(
        self, setting: Sweeping, rule: Rule, anchors: NDArray[np.int32], pairs: Pairs, places: NDArray[np.int64]
    ) -> None:
        self.setting, self.rule, self.places = setting, rule, places
        self.anchors = anchors[places]
        self.pairs, self.of_pair = sub_pairs(pairs, places)
        count, pair_count = self.anchors.size, self.of_pair.size
        unique, inverse = np.unique(self.anchors, return_inverse=True)
        ready = setting.prepared(unique.astype(np.int32), setting.loaded.store.take(unique))
        self.h = ready.h[inverse]
        self.edges = _edges(setting, self.pairs, self.h, ready.own[inverse])
        panels = -(-count // setting.tile_rows)
        packed = np.empty((panels, setting.loaded.store.dimension, setting.tile_rows), np.float32)
        sweep.pack_panels(ready.z, inverse, setting.mirrored, packed)
        code = _padded(setting.loaded.rows.label[self.anchors], panels * setting.tile_rows, np.int32(-2))
        bounds = np.zeros((2, panels), np.int64)
        self.strip = sweep.Strip(self.anchors, packed, code, bounds[0], bounds[1])
        self.reach = drain.Reach(np.full(pair_count, -np.inf), np.zeros(pair_count, bool), np.zeros(count, bool))
        self.gates = sweep.Gates(
            np.empty(count, np.float32), np.empty(count, np.float32), np.empty(pair_count, np.float32),
            np.empty(pair_count, np.float32), np.zeros(count, np.int64), np.full(pair_count, 2**64 - 1, np.uint64),
        )  # fmt: skip
        drain.set_all_gates(rule, self.pairs, self.edges, self.reach, self.gates)
        self.progress_counts = np.zeros(4, np.int64)
        self.tally = np.zeros(TALLIES, np.int64)
        self.survivors = self.values = 0
        self.forget()

    def forget(self) -> None:
        """Drop what survived and keep the thresholds: the probe's rows come again."""
        count = self.anchors.size
        self.kept = drain.Kept(
            np.zeros(count + 1, np.int64), np.empty(0, np.int32), np.empty(0, np.float32), np.empty(0, np.float32)
        )
        self.tally[:] = 0
        self.survivors = 0

    def sweeper(self, block: sweep.Block, probing: bool = False) -> Callable[[], None]:
        """The task of sweeping one block."""

        def task() -> None:
            before = int(self.progress_counts[1])
            self._sweep(block)
            if not probing:
                tile = self.setting.tile_rows * self.setting.tile_columns
                self.setting.progress.advance((int(self.progress_counts[1]) - before) * tile)

        return task

    def _sweep(self, block: sweep.Block) -> None:
        setting, rows = self.setting, self.setting.loaded.rows
        self._bound_panels(block)
        tile_gates = np.empty((4, self.strip.code.size), np.float32)
        unit_rows, unit_columns = setting.unit_panels
        room = unit_rows * unit_columns * setting.tile_rows * setting.tile_columns
        size = room + BUFFER_ENTRIES
        found = sweep.Survivors(
            np.empty(size, np.int32), np.empty(size, np.int32), np.empty(size, np.float32), np.empty(size, np.float32)
        )
        mask = np.zeros(setting.tile_rows, np.uint64)
        affinity = np.empty(setting.tile_rows * setting.tile_columns, np.float32)
        unit = 0
        while unit >= 0:
            sweep.open_gates(self.rule, rows, self.gates, block.largest_slack, tile_gates)
            unit = sweep.sweep(
                rows, self.rule, self.pairs, self.strip, self.gates, block, tile_gates, setting.unit_panels, unit,
                mask, affinity, found, self.progress_counts, self.tally,
            )  # fmt: skip
            self._drain(found, int(self.progress_counts[0]))

    def _drain(self, found: sweep.Survivors, count: int) -> None:
        if not count:
            return
        self.survivors += count
        size = int(self.kept.start[-1]) + count
        out = drain.Kept(
            np.empty(self.anchors.size + 1, np.int64), np.empty(size, np.int32), np.empty(size, np.float32),
            np.empty(size, np.float32),
        )  # fmt: skip
        size = drain.drain(
            self.setting.loaded.rows, self.rule, self.pairs, self.anchors, self.edges, self.reach, self.gates,
            self.kept,
            found, count, out,
        )  # fmt: skip
        self.kept = drain.Kept(out.start, out.slot[:size].copy(), out.low[:size].copy(), out.high[:size].copy())

    def _bound_panels(self, block: sweep.Block) -> None:
        """Which column panels each row panel meets: all, or those that hold its labels."""
        width, height = self.setting.tile_columns, self.setting.tile_rows
        if not self.setting.by_label:
            self.strip.last_panel[:] = len(block.panels)
            return
        real = block.bias > sweep.PAD
        codes = block.code[real]
        firsts = np.arange(0, self.anchors.size, height)
        lasts = np.minimum(firsts + height, self.anchors.size) - 1
        labels = self.strip.code
        self.strip.first_panel[:] = np.searchsorted(codes, labels[firsts]) // width
        self.strip.last_panel[:] = -(-np.searchsorted(codes, labels[lasts], side="right") // width)

    def refiner(self, rule: Rule) -> Callable[[], None]:
        """The task of making the survivors exact, by the rule as asked for."""

        def task() -> None:
            loaded = self.setting.loaded
            capacity = self.rule.take + self.rule.skip if rule.take else int(np.diff(self.kept.start).max(initial=1))
            self.best = empty_best(rule, self.of_pair.size, max(1, capacity))
            anchor_vectors = loaded.gather(self.anchors)
            positives = positive_vectors(loaded, self.rule, self.pairs)
            for first, last, vectors, at in self._gathered():
                drain.refine(
                    loaded.rows, self.rule, self.pairs, self.best, self.anchors, anchor_vectors, positives, self.edges,
                    self.reach, self.kept, first, last, vectors, at,
                )  # fmt: skip
            self.certified = self._certified(rule)

        return task

    def _gathered(self) -> Iterator[tuple[int, int, NDArray[Any], NDArray[np.int64]]]:
        """Ranges of anchors, rows that hold the vectors of their survivors, and which row each survivor has there."""
        store, start = self.setting.loaded.store, self.kept.start
        whole = store.whole()
        if whole is not None:
            yield 0, self.anchors.size, whole, self.kept.slot.astype(np.int64)
            return
        first = 0
        while first < self.anchors.size:
            last = int(np.searchsorted(start, start[first] + self.setting.limits.block_rows, side="right")) - 1
            last = max(last, first + 1)
            unique, at = np.unique(self.kept.slot[start[first] : start[last]], return_inverse=True)
            yield first, last, store.take(unique), at
            first = last

    def _certified(self, rule: Rule) -> NDArray[np.bool_]:
        """Anchors all of whose pairs are proven: enough found within reach, or the whole band was open."""
        target = rule.take + rule.skip
        if rule.pick == RANDOM:
            narrowed = self.gates.cut < np.uint64(2**64 - 1)
        else:
            narrowed = self.reach.threshold > -np.inf
        short = np.zeros(self.of_pair.size, bool)
        if rule.take:
            short = narrowed & ((self.best.found < target) | self._beyond_reach(target))
        bad = np.zeros(self.anchors.size, np.int64)
        np.add.at(bad, np.repeat(np.arange(self.anchors.size), np.diff(self.pairs.start)), short)
        certified: NDArray[np.bool_] = (bad == 0) & ~self.reach.crowded
        return certified

    def _beyond_reach(self, target: int) -> NDArray[np.bool_]:
        """Pairs whose target-th answer lies where not every row was kept for them (only where enough were found).

        Thresholds count rows that may turn out to lie within T of the positive, and rows kept for another pair of
        the anchor are offered too: then enough answers can be found without those in between.
        """
        if self.rule.positive_duplicates != WITHIN:
            return np.zeros(self.of_pair.size, bool)
        if self.rule.pick == RANDOM:
            beyond: NDArray[np.bool_] = self.best.key[:, target - 1] > self.gates.cut
            return beyond
        enough = self.best.found >= target
        x = np.where(enough, self.best.x[:, target - 1], 0.0)
        scale = self.setting.loaded.frame.scale
        of_anchor = np.repeat(np.arange(self.anchors.size), np.diff(self.pairs.start))
        h, t = self.h[of_anchor], self.setting.metric.linear(x) * scale * scale
        # A row not kept lies, canonically, below the threshold less its anchor's share of the error.
        least = self.reach.threshold - self.edges.own[of_anchor] + 2.0**-48 * (np.abs(h) + np.abs(t))
        return enough & (h - t < least)

    def report(self, stats: ShardStats) -> None:
        """Add this strip's counts."""
        stats.survivors += self.survivors
        stats.pairs_computed += int(self.progress_counts[1]) * self.setting.tile_rows * self.setting.tile_columns
        count_tally(stats, self.tally, self.rule.wanted)
        count_tally(stats, self.best.tally, self.rule.wanted)


def _edges(setting: Sweeping, pairs: Pairs, h: NDArray[np.float64], own: NDArray[np.float64]) -> drain.Edges:
    """Bands as affinities; unbounded edges are infinite."""
    metric, scale = setting.metric, setting.loaded.frame.scale
    of_anchor = np.repeat(np.arange(h.size), np.diff(pairs.start))
    h, own_pair = h[of_anchor], own[of_anchor]
    dot = setting.loaded.frame.dot

    def affinity(x: NDArray[np.float64], unbounded: float, outwards: float) -> NDArray[np.float64]:
        bounded = np.isfinite(x) & ((x > 0) | dot)
        t = metric.linear(np.where(bounded, x, 0.0)) * scale * scale
        slack = own_pair + 2.0**-48 * (np.abs(h) + np.abs(t))
        return np.where(bounded, h - t + outwards * slack, unbounded)

    high_closed = np.where((pairs.high <= 0) & (not dot), np.finfo(float).tiny, pairs.high)
    return drain.Edges(
        affinity(high_closed, -np.inf, -1.0), affinity(pairs.low, np.inf, 1.0), affinity(high_closed, -np.inf, 1.0),
        affinity(pairs.low, np.inf, -1.0), affinity(pairs.floor, np.inf, 1.0), own,
    )  # fmt: skip
