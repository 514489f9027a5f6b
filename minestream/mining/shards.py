"""A dataset with its anchors, cut into shards: which are mined together, what work that is, what is told of it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream._version import VERSION
from minestream.config.mine_config import MineConfig
from minestream.errors import CapacityError, InputError, UsageError
from minestream.inputs.dataset.draws import Keys
from minestream.inputs.tables import Sources
from minestream.kernels.tile_shapes import host_cpu
from minestream.mining.anchors import choose_anchors
from minestream.mining.driver import Driver
from minestream.mining.negatives import negative_rule, planned_searches
from minestream.mining.plan import ROW_STATE_BYTES, Plan, make_plan, projected_rows
from minestream.mining.rates import keep_rate
from minestream.outputs.rows import schema_of
from minestream.search.course import ROW
from minestream.search.order import GROUP_ROWS
from minestream.search.screens import SCREENS
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


class Works(NamedTuple):
    """The work of one round: the searches for positives, those for negatives, the rows; see course.py."""

    positives: float
    negatives: float
    rows: float


class Mining:
    """A dataset with its anchors, cut into shards.

    Parameters
    ----------
    driver : Driver
        Holds what this opens.
    sources : Sources
        Read once, here.
    beside : Path, optional
        Folder for what does not fit the memory; see Driver.dataset.

    Attributes
    ----------
    loaded, searcher : Loaded, Searcher
        The dataset, and what searches it.
    anchors : int32[A]
        The slots mined for.
    plan : Plan
        Its shards are ranges of `anchors`.
    schema : pa.Schema
        Of the rows.
    work_done : float
        So far; see course.py.
    """

    def __init__(self, driver: Driver, sources: Sources, beside: Path | None = None) -> None:
        self.driver, self.sources, self.progress = driver, sources, driver.progress
        self.config, self.resources, self.work_done = driver.config, driver.resources, 0.0
        if self.config.window is not None:
            raise UsageError("--window is not for arrays", "use mine, mine_batches or Miner")
        if not sources.labeled:
            _refuse_without_labels(self.config)
        self.loaded, self.searcher = driver.dataset(sources, beside)
        self._budget = self.searcher.budget_bytes
        self.anchors = choose_anchors(self.loaded, self.config)
        store, positives = self.loaded.store, self.loaded.positives[self.anchors]
        candidates = store.rows - self.loaded.first_candidate
        self._pairs = candidates + (np.full(positives.size, candidates) if self.loaded.labels.multiple else positives)
        self.plan: Plan = make_plan(
            self.config, self.resources, rows=store.rows, dimension=store.dimension, row_bytes=store.row_bytes,
            positives=positives, pairs=int(self._pairs.sum()), in_memory=store.in_memory,
            screens=self.searcher.limits.screens, budget_bytes=self._budget,
        )  # fmt: skip
        self.schema = schema_of(self.loaded, self.config)
        self._check_weighted()
        self._check_memory()
        for note in self.notes():
            self.progress.note(note)

    @property
    def kind(self) -> str:
        """What the speed of a run hangs on, but for the data: rates are kept by it."""
        means = self.plan.means
        return (
            f"{host_cpu()[0]}, minestream {VERSION}, {means['threads']} threads, {means['screen']}, vectors in "
            f"{means['vectors_in']}, {self.sources.dimension} coordinates, options {self.config.fingerprint()}"
        )

    @contextmanager
    def learning(self) -> Iterator[None]:
        """Keep how much is mined a second in the block: later estimates go by it."""
        began = time.perf_counter()
        yield
        keep_rate(self.kind, self.work_done, time.perf_counter() - began)

    def begin(self, every: Sequence[int] | None = None, todo: Sequence[int] | None = None) -> None:
        """The stage of mining begins: of the shards `every` (None: all) those of `todo` are left (None: all)."""
        own = range(len(self.plan.shards)) if every is None else every
        total = sum(map(self.anchors_of, own))
        left = total if todo is None else sum(map(self.anchors_of, todo))
        self.progress.stage("mine", total, "anchors", total - left)

    def anchors_of(self, index: int) -> int:
        """How many anchors one shard has."""
        return int(np.ptp(self.plan.shards[index]))

    def slots_of(self, index: int) -> NDArray[np.int32]:
        """The anchors of one shard."""
        return self.anchors[slice(*self.plan.shards[index])]

    def work(self, todo: Sequence[int]) -> float:
        """What mining some shards is; see course.py."""
        return self.searcher.code_work + sum(sum(self.works(shards)) for shards in self.rounds(todo))

    def works(self, shards: Sequence[int]) -> Works:
        """The work of one round."""
        anchors = np.concatenate([self.slots_of(index) for index in shards])
        rows = projected_rows(self.config, self.loaded.positives[anchors]).sum()
        rule = negative_rule(self.config)
        swept = bool(self.searcher.limits.screens)
        positives, negatives = planned_searches(self.loaded, self.config, anchors, rule, swept)
        return Works(positives, negatives, float(rows) * ROW)

    def rounds(self, todo: Sequence[int]) -> Iterator[list[int]]:
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
        config, anchors = self.config, self.slots_of(index)
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
        return self.sources.columns_used()

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
        return self.driver.notes(self.sources, self.searcher)

    def report(self, output: object, parts: list[ShardStats], complete: bool = True) -> Report:
        """What the run did, with its seconds so far."""
        loaded, sources = self.loaded, self.sources
        source = {
            "rows": loaded.source_rows, "dimension": sources.dimension, "dtype": str(sources.dtype),
            "dropped": loaded.dropped, "rows_taking_part": loaded.rows_taking_part,
        }  # fmt: skip
        recorded = {
            "config": self.config.to_dict(), "columns": self.columns(), "source": source,
            "plan": dict(self.plan.facts) if complete else self.plan.facts | self.plan.means,
        }  # fmt: skip
        total = merged([self.driver.reading, *parts])
        used = {"screen": ", ".join(self.searcher.screens)} if self.searcher.screens else {}
        return self.driver.report(
            output, recorded, total, notes=(*self.notes(), *total.notes()), complete=complete,
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
        if self.config.pick == "weighted" and self.sources.dimension < 3:
            raise InputError(
                f"--pick weighted needs vectors of 3 coordinates or more, these have {self.sources.dimension}",
                "the density of distances on a circle has no such weight; use --pick random",
            )
