"""One source, loaded and planned, that mines any of its shards: positives, negatives, rows."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.answers import Found
from minestream.config import MineConfig, Resources
from minestream.emit import Picture, emit, schema_of
from minestream.errors import InputError, UsageError, nearest_name
from minestream.kernels import cache_note
from minestream.kernels.compiled import compiles_first
from minestream.load import Loaded, choose_anchors, load
from minestream.metric import METRICS
from minestream.negatives import negative_pairs, negative_rule
from minestream.plan import MAX_BLOCK_ROWS, MIN_BLOCK_ROWS, Plan, make_plan, memory_budget, thread_count
from minestream.positives import choose_positives
from minestream.progress import Progress
from minestream.search import SCAN_ROWS, search
from minestream.source import Source
from minestream.stats import Report, ShardStats, merged
from minestream.strips import Limits, Setting
from minestream.workers import Workers

SCREENS = ("auto", "scan", "f32")
ANCHOR_STATE_BYTES = 4_096  # survivors, gates and answers of an anchor, as planned for


def screen_of(resources: Resources) -> str:
    """The arithmetic that proposes: as asked for, or by MINESTREAM_SCREEN, else auto."""
    screen = os.environ.get("MINESTREAM_SCREEN", "auto") if resources.screen == "auto" else resources.screen
    if screen not in SCREENS:
        raise UsageError(f"no screen {screen!r}", nearest_name(screen, list(SCREENS)))
    return screen


class Miner:
    """One source loaded and planned: mines any of its shards.

    Parameters
    ----------
    source : Source
        Read once, here.
    config, resources : MineConfig, Resources
    scratch : Path
        Folder for vectors that do not fit, unless resources name another.
    progress : Progress
    """

    def __init__(
        self, source: Source, config: MineConfig, resources: Resources, scratch: Path, progress: Progress
    ) -> None:
        self.source, self.config, self.resources, self.progress = source, config, resources, progress
        self.reading = ShardStats()
        self._scratch = Path(resources.scratch) if resources.scratch else scratch
        if not self._scratch.is_dir():
            raise UsageError(f"--scratch {self._scratch} is no folder", "make it first")
        if compiles_first():
            progress.note("compiling kernels for this processor, once: some 10 to 20 seconds")
        budget = memory_budget(resources)
        screen = screen_of(resources)
        with self.reading.stage("read"):
            self.loaded: Loaded = load(source, config, budget // 2, self._scratch, progress)
        store = self.loaded.store
        scan = screen == "scan" or (screen == "auto" and store.rows <= SCAN_ROWS)
        self.anchors = choose_anchors(self.loaded, config)
        positives = self.loaded.positives[self.anchors]
        everything = scan or self.loaded.labels.multiple
        self._pairs = store.rows + (np.full(positives.size, store.rows) if everything else positives + 1)
        self.plan: Plan = make_plan(
            config, resources, rows=store.rows, dimension=store.dimension, row_bytes=store.row_bytes,
            positives=positives, pairs=int(self._pairs.sum()), in_memory=store.in_memory, scan=scan,
            budget_bytes=budget,
        )  # fmt: skip
        self.limits = _limits(store.dimension, store.row_bytes, resources, budget, scan)
        self.workers = Workers(self.limits.threads)
        self.schema = schema_of(self.loaded, config)
        self._check_weighted()
        for note in self.notes():
            progress.note(note)
        progress.stage("mine", self.plan.facts["pairs_to_compute"], "pairs")

    def __enter__(self) -> Miner:
        return self

    def __exit__(self, *error: object) -> None:
        self.workers.close()
        self.loaded.store.close()

    def mine_shard(self, index: int) -> tuple[pa.Table, ShardStats]:
        """One shard's journey: positives, negatives, rows."""
        config, loaded, stats = self.config, self.loaded, ShardStats()
        first, end = self.plan.shards[index]
        anchors = self.anchors[first:end]
        setting = Setting(loaded, METRICS[config.metric], self.limits, self.workers, self.progress, stats)

        def find(slots: NDArray[np.int32], pairs: Any, rule: Any) -> Found:
            return search(setting, slots, pairs, rule)

        with stats.stage("positives"):
            chosen = choose_positives(loaded, config, anchors, find)
        with stats.stage("negatives"):
            found = find(anchors, negative_pairs(loaded, config, anchors, chosen), negative_rule(config))
        with stats.stage("rows"):
            table = emit(Picture(loaded, config, anchors, chosen, found, stats))
        return table, stats

    def pairs_of(self, index: int) -> int:
        """Pairs to compute for one shard."""
        first, end = self.plan.shards[index]
        return int(self._pairs[first:end].sum())

    def columns(self) -> dict[str, Any]:
        """The input columns used, by role."""
        found = self.source.columns
        return {
            "embedding": found.embedding, "label": found.label, "id": found.id, "group": found.group,
            "carry": list(found.carry),
        }  # fmt: skip

    def keys(self) -> Keys:
        """K and key order by source row, for a shuffled order."""
        rows = self.loaded.rows
        draw_key = np.zeros(self.loaded.source_rows, np.uint64)
        rank = np.zeros(self.loaded.source_rows, np.int64)
        draw_key[self.loaded.source_row], rank[self.loaded.source_row] = rows.draw_key, rows.rank
        return Keys(draw_key, rank)

    def notes(self) -> list[str]:
        """What the user should know, one line each."""
        notes = [*self.source.notes, *self.loaded.notes]
        if self.config.margin is None:
            notes.append("no --margin: the loss column is left out")
        if cache_note():
            notes.append(cache_note())
        return notes

    def report(self, output: Path | None, parts: list[ShardStats], began: float, complete: bool = True) -> Report:
        """What the run did."""
        loaded, source = self.loaded, self.source
        about = {
            "rows": loaded.source_rows, "dimension": source.dimension, "dtype": str(source.dtype),
            "dropped": loaded.dropped, "rows_taking_part": loaded.store.rows,
        }  # fmt: skip
        total = merged([self.reading, *parts])
        return Report(
            None if output is None else str(output), self.config.to_dict(), self.columns(), about, self.plan.facts,
            total,
            tuple(self.notes()), time.perf_counter() - began, complete,
        )  # fmt: skip

    def _check_weighted(self) -> None:
        if self.config.pick == "weighted" and self.source.dimension < 3:
            raise InputError(
                f"--pick weighted needs vectors of 3 coordinates or more, these have {self.source.dimension}",
                "the density of distances on a circle has no such weight; use --pick random",
            )


@dataclass(frozen=True)
class Keys:
    """K and key order of every source row."""

    draw_key: NDArray[np.uint64]
    rank: NDArray[np.int64]


def _limits(dimension: int, row_bytes: int, resources: Resources, budget: int, scan: bool) -> Limits:
    """Sizes of blocks and groups of anchors for a budget of bytes."""
    per_row = row_bytes + 12 * dimension + 64
    block = min(MAX_BLOCK_ROWS, max(MIN_BLOCK_ROWS, budget // 16 // per_row))
    per_anchor = ANCHOR_STATE_BYTES + 16 * dimension
    group = min(16_384, max(512, budget // 4 // per_anchor))
    return Limits(thread_count(resources), resources.block_rows or int(block), int(group), scan)
