"""One source, loaded and planned, that mines any of its shards: positives, negatives, rows."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from minestream._version import VERSION
from minestream.config.effects import lacking
from minestream.config.mine_config import MineConfig
from minestream.config.resources import Resources, memory_budget
from minestream.errors import CapacityError, InputError, UsageError
from minestream.inputs.dataset.dataset import Loaded
from minestream.inputs.dataset.draws import Keys
from minestream.inputs.dataset.load import load
from minestream.inputs.tables import Sources
from minestream.kernels import cache_note
from minestream.kernels.jit import compiles_first
from minestream.kernels.tile_shapes import host_cpu
from minestream.mining.anchors import choose_anchors
from minestream.mining.negatives import make_task, negative_rule, planned_searches
from minestream.mining.plan import ROW_STATE_BYTES, Plan, make_plan, projected_rows
from minestream.mining.positives import last_resorts
from minestream.mining.rates import keep_rate
from minestream.outputs.rows import Picture, schema_of
from minestream.search.constraints import limited_search
from minestream.search.course import ROW, Course
from minestream.search.order import GROUP_ROWS
from minestream.search.screens import SCREENS
from minestream.search.search import search_once
from minestream.search.searcher import Searcher
from minestream.system.memory import release_memory, scratch_root
from minestream.system.paths import AnyPath
from minestream.system.progress import Progress
from minestream.system.stats import Report, ShardStats, merged

ANCHOR_STATE_BYTES = 432  # gates, edges, lanes and answers of an anchor, and of a pair: as measured
PAIR_STATE_BYTES = 160
SURVIVORS_BYTES = 16 << 20  # of each thread, with what it gathers of them


def _refuse_without_labels(config: MineConfig) -> None:
    """Refuse what only labels give a meaning."""
    if config.anchors_per_label is not None:
        raise UsageError(
            "--anchors-per-label counts anchors by their labels, and no labels are used",
            "name them with --label, or limit all anchors: --anchors",
        )
    if config.listed_positives and config.group_rule != "negatives":
        raise UsageError(
            f"--group-rule {config.group_rule} keeps positives apart, and those that --qrels lists are never left out",
            "leave it out, then groups keep negatives apart; it has a meaning for labels: --label",
        )


class Mining:
    """One source loaded and planned: mines any of its shards.

    Parameters
    ----------
    source : Sources
        Read once, here.
    config : MineConfig
    resources : Resources
    scratch : Path
        Folder for vectors that do not fit, unless resources name another.
    progress : Progress
    """

    def __init__(
        self, source: Sources, config: MineConfig, resources: Resources, scratch: Path, progress: Progress
    ) -> None:
        if config.window is not None:
            raise UsageError("--window is not for arrays", "use mine, mine_batches or Miner")
        if not source.labeled:
            _refuse_without_labels(config)
        self.source, self.config, self.resources, self.progress = source, config, resources, progress
        self.reading, self._work_done = ShardStats(), 0.0
        self._scratch = scratch_root(resources.scratch) if resources.scratch else scratch
        if compiles_first():
            progress.note("compiling kernels for this processor, once: half a minute or so")
        self._budget = memory_budget(resources)
        with self.reading.stage("read"):
            self.loaded: Loaded = load(source, config, self._budget // 2, self._scratch, progress, self.reading)
        store = self.loaded.store
        self.searcher = Searcher(self.loaded, config.metric, resources, self._scratch)
        self.anchors = choose_anchors(self.loaded, config)
        positives = self.loaded.positives[self.anchors]
        candidates = store.rows - self.loaded.first_candidate
        self._pairs = candidates + (np.full(positives.size, candidates) if self.loaded.labels.multiple else positives)
        self.plan: Plan = make_plan(
            config, resources, rows=store.rows, dimension=store.dimension, row_bytes=store.row_bytes,
            positives=positives, pairs=int(self._pairs.sum()), in_memory=store.in_memory,
            screens=self.searcher.limits.screens, budget_bytes=self._budget,
        )  # fmt: skip
        self.schema = schema_of(self.loaded, config)
        self._check_weighted()
        self._check_memory()
        for note in self.notes():
            progress.note(note)

    def __enter__(self) -> Mining:
        return self

    def __exit__(self, *error: object) -> None:
        self.searcher.close()
        self.loaded.store.close()

    def mine_shards(self, todo: Sequence[int]) -> Iterator[tuple[int, Picture]]:
        """The journey of some shards: positives, negatives; each handed out when it is done.

        Shards are swept together, as many as memory holds the answers of: of two anchors one product serves both.
        """
        course = Course(self.progress, sum(map(self.anchors_of, todo)))
        course.plan(self.work(todo))
        for number, shards in enumerate(self._rounds(todo)):
            if number:
                release_memory()
            yield from self._mined_together(shards, course)
        course.finish()
        self._work_done += course.done

    @property
    def kind(self) -> str:
        """What the speed of a run hangs on, but for the data: rates are kept by it."""
        means = self.plan.means
        return (
            f"{host_cpu()[0]}, minestream {VERSION}, {means['threads']} threads, {means['screen']}, vectors in "
            f"{means['vectors_in']}, {self.source.dimension} coordinates, options {self.config.fingerprint()}"
        )

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Keep how much was mined a second in the block: later estimates go by it."""
        began = time.perf_counter()
        yield
        keep_rate(self.kind, self._work_done, time.perf_counter() - began)

    def begin(self, every: Sequence[int] | None = None, todo: Sequence[int] | None = None) -> None:
        """The stage of mining begins: of the shards `every` (None: all) those of `todo` are left (None: all)."""
        own = range(len(self.plan.shards)) if every is None else every
        total = sum(map(self.anchors_of, own))
        left = total if todo is None else sum(map(self.anchors_of, todo))
        self.progress.stage("mine", total, "anchors", total - left)

    def anchors_of(self, index: int) -> int:
        """Anchors of one shard."""
        return int(np.ptp(self.plan.shards[index]))

    def work(self, todo: Sequence[int]) -> float:
        """What mining some shards is; see course.py."""
        return self.searcher.code_work + sum(sum(self._round_works(shards)) for shards in self._rounds(todo))

    def _round_works(self, shards: Sequence[int]) -> tuple[float, float, float]:
        """The work of the searches for positives, of those for negatives, and of the rows."""
        anchors = np.concatenate([self.anchors[slice(*self.plan.shards[index])] for index in shards])
        rows = projected_rows(self.config, self.loaded.positives[anchors]).sum()
        rule = negative_rule(self.config)
        swept = bool(self.searcher.limits.screens)
        positives, negatives = planned_searches(self.loaded, self.config, anchors, rule, swept)
        return positives, float(rows) * ROW, negatives

    def _mined_together(self, shards: Sequence[int], course: Course) -> Iterator[tuple[int, Picture]]:
        """One run of shards; what it holds is let go at its end, before the next begins."""
        loaded, stats = self.loaded, ShardStats()
        positives, rows, negatives = self._round_works(shards)
        setting = self.searcher.setting(stats, course)
        groups = [self.anchors[slice(*self.plan.shards[index])] for index in shards]
        anchors = np.concatenate(groups)
        course.turn_to(positives)
        with stats.stage("positives"):
            task = make_task(loaded, self.config, anchors, partial(search_once, replace(setting, timed=False)))
        course.turn_to(negatives)
        found = limited_search(setting, groups, task.pairs, task.rule, task.limits)
        first = 0
        for index, group in zip(shards, groups, strict=True):
            end = first + group.size
            chosen, answers = task.chosen.of_anchors(first, end), next(found)
            stats.duplicate_positives += last_resorts(loaded, self.config, group, chosen)
            yield index, Picture(loaded, self.config, group, chosen, answers, stats.taken())
            course.advance(rows * group.size / max(1, anchors.size))
            first = end
        course.turn_to(0.0)

    def _rounds(self, todo: Sequence[int]) -> Iterator[list[int]]:
        """Shards in runs whose answers so far fit the memory that is left; of answers without bound GROUP_ROWS."""
        bounded = self.config.negatives > 0
        costs = [self._state_bytes(index) if bounded else int(np.ptp(self.plan.shards[index])) for index in todo]
        most = self._answers_bytes() if bounded else GROUP_ROWS
        together: list[int] = []
        held = 0
        for index, cost in zip(todo, costs, strict=True):
            if together and held + cost > most:
                yield together
                together, held = [], 0
            together.append(index)
            held += cost
        if together:
            yield together

    def _state_bytes(self, index: int) -> int:
        """What the anchors and pairs of a shard take while they are mined."""
        config, anchors = self.config, self.anchors[slice(*self.plan.shards[index])]
        each = 1 if config.emit == "pairs" else max(1, config.positives_per_anchor)
        every = config.positives == "all" and config.emit != "pairs"
        pairs = int(self.loaded.positives[anchors].sum()) if every else anchors.size * each
        per_pair = PAIR_STATE_BYTES + 20 * (config.negatives + config.skip)
        return anchors.size * ANCHOR_STATE_BYTES + pairs * per_pair

    def _answers_bytes(self) -> int:
        """What answers may take of the memory: a quarter, and no more than is left beside all else."""
        store, quarter = self.loaded.store, self._budget // 4
        limits, held = self.searcher.limits, store.rows * (ROW_STATE_BYTES + store.row_bytes * store.in_memory)
        for screen in limits.screens:
            codes = store.rows * store.dimension * np.dtype(SCREENS[screen].dtype).itemsize
            held += codes if codes <= quarter else 0
        return min(quarter, self._budget - held - limits.threads * SURVIVORS_BYTES)

    def pairs_of(self, index: int) -> int:
        """Pairs to compute for one shard."""
        first, end = self.plan.shards[index]
        return int(self._pairs[first:end].sum())

    def columns(self) -> dict[str, Any]:
        """The input columns used, by role."""
        return self.source.columns_used()

    def keys(self) -> dict[str, Keys]:
        """K and key order by source row, of anchors and candidates, for draws over the whole output."""
        return {role: self._keys_of(role) for role in ("anchor", "candidate")}

    def _keys_of(self, role: str) -> Keys:
        loaded, table = self.loaded, self.loaded.table(role)
        own = slice(table.first, table.end)
        draw_key, rank = np.zeros(table.source_rows, np.uint64), np.zeros(table.source_rows, np.int64)
        at = loaded.source_row[own]
        draw_key[at], rank[at] = loaded.rows.draw_key[own], loaded.rows.rank[own]
        return Keys(draw_key, rank)

    def notes(self) -> list[str]:
        """What the user should know, one line each."""
        notes = [note for source in self.source for note in source.notes] + self.loaded.notes
        notes += self.resources.remarks
        if all(source.columns.id is None for source in self.source):
            notes += lacking("there are no ids", self.config)
        if self.config.margin is None:
            notes.append("no --margin: the loss column is left out")
        config = self.config
        if config.margin is not None and config.two_tables and config.band == "any" and not config.similarity_filters:
            notes.append("--margin fills the loss column and selects nothing; did you mean --absolute-margin?")
        if cache_note():
            notes.append(cache_note())
        asked, screens = self.resources.screen, self.searcher.limits.screens
        if asked in SCREENS and asked not in screens:
            notes.append(
                f"screen {asked!r} is not for this processor, or not for rows of this length: {screens[0]!r} is used"
            )
        return notes

    def report(self, output: AnyPath | None, parts: list[ShardStats], began: float, complete: bool = True) -> Report:
        """What the run did."""
        loaded, source = self.loaded, self.source
        about = {
            "rows": loaded.source_rows, "dimension": source.dimension, "dtype": str(source.dtype),
            "dropped": loaded.dropped, "rows_taking_part": loaded.rows_taking_part,
        }  # fmt: skip
        total = merged([self.reading, *parts])
        used = {"screen": ", ".join(self.searcher.screens)} if self.searcher.screens else {}
        return Report(
            None if output is None else str(output), self.config.to_dict(), self.columns(), about,
            dict(self.plan.facts) if complete else self.plan.facts | self.plan.means, total,
            (*self.notes(), *total.notes()), time.perf_counter() - began, complete,
            effort=self.plan.means | used | asdict(self.searcher.effort),
        )  # fmt: skip

    def _check_memory(self) -> None:
        shards = range(len(self.plan.shards))
        most = max(map(self._state_bytes, shards)) if self.config.negatives else 0
        if most > self._budget:
            raise CapacityError(
                f"the pairs of one part take {most:,} bytes, more than --memory of {self._budget:,}",
                "raise --memory, or take fewer: --positives-per-anchor, --negatives, --skip",
            )

    def _check_weighted(self) -> None:
        if self.config.pick == "weighted" and self.source.dimension < 3:
            raise InputError(
                f"--pick weighted needs vectors of 3 coordinates or more, these have {self.source.dimension}",
                "the density of distances on a circle has no such weight; use --pick random",
            )
