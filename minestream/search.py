"""The search: for every pair, the exact best candidates by one rule. Scan, or probe -> sweep -> refine.

Positives and negatives are found by the same search; only the rule differs. The probe sweeps a seeded sample first
and keeps nothing but the thresholds it gives; then every block of candidates is swept with gates that narrow from
block to block (kernels/drain.py), and what is left is made exact (refine). A pair that the sweep cannot certify is
swept again with more survivors kept, at most twice, and then scanned.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.errors import ForkedProcess
from minestream.kernels import drain, scan, sweep
from minestream.kernels.choose import (
    DUPLICATE,
    ELIGIBLE,
    FARTHEST,
    IN_GROUP,
    POSITIVE,
    RANDOM,
    TALLIES,
    WEIGHTED,
    WITHIN,
    Best,
    Pairs,
    Rule,
)  # fmt: skip
from minestream.kernels.tile import TILES, host_tile
from minestream.load import Loaded
from minestream.metric import METRICS, Metric
from minestream.progress import Progress
from minestream.stats import ShardStats

SCAN_ROWS = 4_096  # inputs up to here are scanned: fewer kernels to load, and as fast
STRIP_ROWS = 512
SCAN_STRIP_ROWS = 64
PROBE_SHARE = 0.04
PROBE_ROWS = 4_096  # at most: the blocks go on narrowing the gates from there
PROBE_STEP = 4  # the first step of the probe, in rows looked for; each further one is twice as long
BLOCK_SHARE = 0.25  # a block is at most this share of the rows seen before it, so that gates narrow in time
LEAST_BLOCK_ROWS = 2_048
UNIT_BYTES = 1 << 17  # packed anchors, and packed columns, of one unit of the sweep: both stay in the L2 cache
UNIT_PANELS = 16
BUFFER_ENTRIES = 1 << 15
RETRIES = (1, 4, 16)  # how many times the rows looked for are kept, try by try

ANCHOR_STATE_BYTES = 4_096  # survivors, gates and answers of an anchor, as planned for


@dataclass(frozen=True)
class Found:
    """The answer of a search, pair by pair in the pick's order.

    Attributes
    ----------
    start : int64[pairs + 1]
    slot : int32[found]
    x : float64[found]
        Canonical distances.
    nearer : int32[pairs]
        Candidates nearer than the band (where the rule counts them), up to NEARER_CAP.
    """

    start: NDArray[np.int64]
    slot: NDArray[np.int32]
    x: NDArray[np.float64]
    nearer: NDArray[np.int32]


@dataclass(frozen=True)
class Limits:
    """How much at a time: sizes that memory decides and no result depends on."""

    threads: int
    block_rows: int
    group_anchors: int
    scan: bool


class Workers:
    """Our threads. Kernels run on them outside the interpreter lock; a forked child may not use its parent's."""

    def __init__(self, threads: int) -> None:
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(threads, "minestream") if threads > 1 else None

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run all tasks; the first exception, or Ctrl-C, drops those that have not begun."""
        if os.getpid() != self._process:
            raise ForkedProcess(
                "this miner was started in the parent process",
                "start mining in the child, or use the spawn start method",
            )
        if self._pool is None:
            for task in tasks:
                task()
            return
        futures = [self._pool.submit(task) for task in tasks]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown()


def search(
    loaded: Loaded,
    metric_name: str,
    anchors: NDArray[np.int32],
    pairs: Pairs,
    rule: Rule,
    limits: Limits,
    workers: Workers,
    progress: Progress,
    stats: ShardStats,
) -> Found:
    """The best candidates of every pair of every anchor.

    Parameters
    ----------
    anchors : int32[A]
        Slots.
    pairs : Pairs
        CSR by anchor, bands in canonical distance, closed.
    rule : Rule

    Returns
    -------
    Found
        By pair, in the order of `pairs`.

    Notes
    -----
    Cost: 2 A n d float32 operations and about 3 (k + S) canonical distances a pair; the scan A n d in float64.
    """
    found = _Answers(pairs)
    left = np.arange(anchors.size)
    must_scan = rule.pick == WEIGHTED or (rule.pick == RANDOM and rule.skip > 0)
    if not (limits.scan or must_scan):
        frame = _Setting(loaded, METRICS[metric_name], rule, limits, workers, progress, stats)
        for attempt, widening in enumerate(RETRIES):
            if left.size:
                stats.resweeps += left.size if attempt else 0
                left = frame.sweep_all(anchors, pairs, left, widening, found)
        stats.scanned_anchors += left.size
    for group in _groups(left, limits.group_anchors):
        _scan_group(loaded, rule, anchors, pairs, group, limits, workers, progress, stats, found)
    return found.finish()


# ---------------------------------------------------------------- answers


class _Answers:
    """Collects what strips found, in any order of pairs."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs.positive.size
        self._pieces: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32], NDArray[np.float64]]] = []
        self._nearer = np.zeros(self._pairs, np.int32)

    def add(
        self, rule: Rule, rank: NDArray[np.int64], of_pair: NDArray[np.int64], best: Best, good: NDArray[np.bool_]
    ) -> None:
        """Take the answers of the pairs `of_pair[good]` over from a strip's lists."""
        chosen = _chosen(rule, rank, best, good)
        counts = np.zeros(of_pair.size, np.int64)
        np.add.at(counts, chosen[0], 1)
        self._pieces.append((of_pair[good], counts[good], best.slot[chosen], best.x[chosen]))
        self._nearer[of_pair[good]] = best.nearer[good]

    def finish(self) -> Found:
        """Everything, by pair."""
        counts = np.zeros(self._pairs, np.int64)
        for of_pair, count, _, _ in self._pieces:
            counts[of_pair] = count
        start = np.concatenate([[0], np.cumsum(counts)])
        slot, x = np.empty(start[-1], np.int32), np.empty(start[-1], np.float64)
        for of_pair, count, slots, distances in self._pieces:
            places = np.repeat(start[of_pair], count) + _counting(count)
            slot[places], x[places] = slots, distances
        return Found(start, slot, x, self._nearer)


def _counting(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... counts[0] - 1, 0, 1, ... counts[1] - 1, and so on."""
    ends = np.cumsum(counts)
    return np.arange(ends[-1] if ends.size else 0) - np.repeat(ends - counts, counts)


def _chosen(
    rule: Rule, rank: NDArray[np.int64], best: Best, good: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Places (pair, entry) of the answers in a strip's lists, in the pick's order."""
    filled = np.arange(best.key.shape[1])[None, :] < best.found[:, None]
    filled &= good[:, None]
    if rule.take == 0:
        pair, entry = np.nonzero(filled)
        order = np.lexsort((rank[best.slot[pair, entry]], best.key[pair, entry], pair))
        return pair[order], entry[order]
    if best.near_key.shape[1]:
        for near in range(best.near_key.shape[1]):
            listed = near < best.near_count
            filled &= ~(listed[:, None] & (best.slot == best.near_slot[:, near, None]))
        filled &= np.cumsum(filled, axis=1) <= rule.take
    else:
        filled[:, : rule.skip] = False
        filled[:, rule.skip + rule.take :] = False
    pair, entry = np.nonzero(filled)
    return pair, entry


def _empty_best(rule: Rule, pairs: int, capacity: int) -> Best:
    near = rule.skip if rule.pick in (RANDOM, WEIGHTED) else 0
    return Best(
        np.empty((pairs, capacity), np.uint64), np.empty((pairs, capacity), np.int32), np.empty((pairs, capacity)),
        np.zeros(pairs, np.int64), np.empty((pairs, near), np.uint64), np.empty((pairs, near), np.int32),
        np.zeros(pairs, np.int64), np.zeros(pairs, np.int32), np.zeros(TALLIES, np.int64),
    )  # fmt: skip


def _count_tally(stats: ShardStats, tally: NDArray[np.int64], wanted: int) -> None:
    if wanted == POSITIVE:
        return
    stats.eligible += int(tally[ELIGIBLE])
    stats.drop("group", int(tally[IN_GROUP]))
    stats.drop("duplicate", int(tally[DUPLICATE]))


def _groups(places: NDArray[np.int64], size: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, places.size, size):
        yield places[first : first + size]


def _sub_pairs(pairs: Pairs, places: NDArray[np.int64]) -> tuple[Pairs, NDArray[np.int64]]:
    """The pairs of some anchors, and which pairs they are."""
    counts = pairs.start[places + 1] - pairs.start[places]
    of_pair = np.repeat(pairs.start[places], counts) + _counting(counts)
    start = np.concatenate([[0], np.cumsum(counts)])
    return Pairs._make([start, *(field[of_pair] for field in pairs[1:])]), of_pair


def _gather(loaded: Loaded, slots: NDArray[np.int32]) -> NDArray[np.float64]:
    """Rows of slots in any order, as float64 (m, d)."""
    unique, inverse = np.unique(slots, return_inverse=True)
    return loaded.store.take(unique).astype(np.float64)[inverse]


def _positive_vectors(loaded: Loaded, rule: Rule, pairs: Pairs) -> NDArray[np.float64]:
    if rule.positive_duplicates != WITHIN or not pairs.positive.size:
        return np.empty((0, loaded.store.dimension))
    return _gather(loaded, pairs.positive)


# ---------------------------------------------------------------- scan


def _scan_group(
    loaded: Loaded,
    rule: Rule,
    anchors: NDArray[np.int32],
    pairs: Pairs,
    group: NDArray[np.int64],
    limits: Limits,
    workers: Workers,
    progress: Progress,
    stats: ShardStats,
    found: _Answers,
) -> None:
    """Scan the anchors at places `group` over all rows."""
    capacity = rule.take + rule.skip if rule.take else loaded.store.rows
    strips = []
    for places in _groups(group, SCAN_STRIP_ROWS):
        own, of_pair = _sub_pairs(pairs, places)
        slots = anchors[places]
        vectors = _gather(loaded, slots)
        positives = _positive_vectors(loaded, rule, own)
        strips.append((slots, vectors, positives, own, of_pair, _empty_best(rule, of_pair.size, capacity)))
    for first in range(0, loaded.store.rows, limits.block_rows):
        block = loaded.store.block(first, min(loaded.store.rows, first + limits.block_rows))

        def task(strip: Any, block: Any = block, first: int = first) -> Callable[[], None]:
            slots, vectors, positives, own, _, best = strip

            def run() -> None:
                scan.scan(loaded.rows, rule, own, best, slots, vectors, positives, block, first)
                progress.advance(slots.size * len(block))

            return run

        workers.run([task(strip) for strip in strips])
        stats.pairs_computed += group.size * len(block)
    for _, _, _, _, of_pair, best in strips:
        _count_tally(stats, best.tally, rule.wanted)
        found.add(rule, loaded.rows.rank, of_pair, best, np.ones(of_pair.size, bool))


# ---------------------------------------------------------------- sweep


class _Setting:
    """What all strips of one search share."""

    def __init__(
        self,
        loaded: Loaded,
        metric: Metric,
        rule: Rule,
        limits: Limits,
        workers: Workers,
        progress: Progress,
        stats: ShardStats,
    ) -> None:
        self.loaded, self.metric, self.rule, self.limits = loaded, metric, rule, limits
        self.workers, self.progress, self.stats = workers, progress, stats
        self.mirrored = rule.pick == FARTHEST
        self.by_label = rule.wanted == POSITIVE and loaded.rows.set_start.size == 0
        tile = TILES[host_tile()]
        self.tile_rows, self.tile_columns = tile.rows, tile.columns
        row_bytes = 4 * loaded.store.dimension
        self.unit_panels = (
            min(UNIT_PANELS, max(1, UNIT_BYTES // (row_bytes * tile.rows))),
            min(UNIT_PANELS, max(1, UNIT_BYTES // (row_bytes * tile.columns))),
        )

    def sweep_all(
        self, anchors: NDArray[np.int32], pairs: Pairs, left: NDArray[np.int64], widening: int, found: _Answers
    ) -> NDArray[np.int64]:
        """Sweep the anchors at places `left`; the places that could not be certified."""
        rule = self.rule
        wide = rule._replace(take=rule.take * widening, skip=rule.skip * widening) if widening > 1 else rule
        if self.by_label:
            left = left[np.argsort(self.loaded.rows.label[anchors[left]], kind="stable")]
        uncertain = []
        for group in _groups(left, self.limits.group_anchors):
            strips = [_StripState(self, wide, anchors, pairs, places) for places in _groups(group, STRIP_ROWS)]
            if rule.take:
                for block in self.probe_blocks():
                    self.workers.run([strip.sweeper(block, probing=True) for strip in strips])
                for strip in strips:
                    strip.forget()
            for block in self.blocks():
                self.workers.run([strip.sweeper(block) for strip in strips])
            self.workers.run([strip.refiner(rule) for strip in strips])
            for strip in strips:
                uncertain.append(strip.places[~strip.certified])
                good = np.repeat(strip.certified, np.diff(strip.pairs.start))
                found.add(rule, self.loaded.rows.rank, strip.of_pair, strip.best, good)
                strip.report(self.stats)
        return np.sort(np.concatenate(uncertain)) if uncertain else left[:0]

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

        self.workers.run([task(rows) for rows in _slices(m, self.limits.threads)])
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

        self.workers.run([task(panels) for panels in _slices(len(out), self.limits.threads)])


def _slices(count: int, parts: int) -> Iterable[slice]:
    edges = np.linspace(0, count, parts + 1).astype(int)
    return [slice(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True) if b > a]


def _padded(values: NDArray[Any], size: int, fill: Any) -> NDArray[Any]:
    out = np.full(size, fill, values.dtype)
    out[: values.size] = values
    return out


class _StripState:
    """Anchors swept together: their gates, what survived so far, and in the end their answers."""

    def __init__(
        self, setting: _Setting, rule: Rule, anchors: NDArray[np.int32], pairs: Pairs, places: NDArray[np.int64]
    ) -> None:
        self.setting, self.rule, self.places = setting, rule, places
        self.anchors = anchors[places]
        self.pairs, self.of_pair = _sub_pairs(pairs, places)
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
            self._sweep(block)
            if not probing:
                self.setting.progress.advance(self.anchors.size * block.slots.size)

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
            vectors = loaded.store.whole()
            at = self.kept.slot.astype(np.int64)
            if vectors is None:
                unique, at = np.unique(self.kept.slot, return_inverse=True)
                vectors = loaded.store.take(unique)
            capacity = self.rule.take + self.rule.skip if rule.take else int(np.diff(self.kept.start).max(initial=1))
            self.best = _empty_best(rule, self.of_pair.size, max(1, capacity))
            drain.refine(
                loaded.rows, self.rule, self.pairs, self.best, self.anchors, _gather(loaded, self.anchors),
                _positive_vectors(loaded, self.rule, self.pairs), self.edges, self.reach, self.kept, vectors, at,
            )  # fmt: skip
            self.certified = self._certified(rule)

        return task

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
        _count_tally(stats, self.tally, self.rule.wanted)
        _count_tally(stats, self.best.tally, self.rule.wanted)


def _edges(setting: _Setting, pairs: Pairs, h: NDArray[np.float64], own: NDArray[np.float64]) -> drain.Edges:
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
