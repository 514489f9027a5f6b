"""A dataset ready to be searched: threads, the codes of its rows, the plan of memory."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from minestream.config.memory_plan import Job, memory_plan
from minestream.config.metrics import METRICS
from minestream.config.resources import Resources
from minestream.inputs.dataset.dataset import Dataset
from minestream.search.cells import cell_of
from minestream.search.context import Limits, SearchContext
from minestream.search.near import cells_bytes
from minestream.search.screens import Codes, screens_of
from minestream.search.work import CODE, WorkMeter
from minestream.system.stats import Effort, ShardStats
from minestream.system.threads import Workers

SCAN_ANCHORS = (512, 16_384)  # scanned together, at least and at most
SCAN_CODES = 64 << 20  # of rows that are scanned


class Searcher:
    """A dataset ready to be searched; a context manager.

    Parameters
    ----------
    loaded : Dataset
    metric : str
    resources : Resources
    scratch : Path
        Folder for codes that do not fit the memory.
    memory : int
        --memory.
    job : Job
        What the plan of memory depends on.

    Attributes
    ----------
    plan : MemoryPlan
    limits : Limits
        Sizes by that plan.
    workers : Workers
    effort : Effort
        The work of all searches so far.
    """

    def __init__(
        self, loaded: Dataset, metric: str, resources: Resources, scratch: Path, memory: int, job: Job
    ) -> None:
        self.loaded, self.metric, self.resources = loaded, METRICS[metric], resources
        self._metric = metric
        self.memory, self.job = memory, job
        self.settle(0, 0)
        self.workers, self.effort = Workers(self.limits.threads), Effort()
        self._scratch = scratch
        self._codes: dict[str, Codes] = {}
        self._cell: NDArray[np.uint16] | None = None

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def settle(self, answer_bytes: int, part_bytes: int) -> None:
        """Plan the memory again, for the part that takes most; see Job."""
        loaded, store = self.loaded, self.loaded.store
        ids = sum(table.ids.nbytes for table in loaded.each_table() if table.ids is not None)
        ids += loaded.labels.levels.nbytes
        self.job = replace(
            self.job, rows=store.rows, in_memory=store.in_memory, id_bytes=max(0, ids - 8 * store.rows),
            answer_bytes=answer_bytes, part_bytes=part_bytes,
            cells_bytes=cells_bytes(store, self.job.threads) if self.job.approximate else 0,
        )  # fmt: skip
        self.plan = memory_plan(self.memory, self.job)
        answers, (least, most) = self.plan.bytes["answers"], SCAN_ANCHORS
        self.limits = Limits(
            self.job.threads, self.resources.block_rows or self.plan.block_rows,
            min(most, max(least, answers // (4_096 + 16 * store.dimension))),
            screens_of(self.resources, store.rows, store.dimension), answers,
            self.plan.bytes["survivors"] // self.job.threads,
        )  # fmt: skip

    def by(self, loaded: Dataset) -> Searcher:
        """A searcher of the same rows by other vectors, in the same memory, which counts into the same effort."""
        other = Searcher(loaded, self._metric, self.resources, self._scratch, self.memory, self.job)
        other.effort = self.effort
        return other

    def reorder(self, order: NDArray[np.integer]) -> None:
        """Put vectors and codes that are in scratch in this order; see Store.reorder."""
        for store in (self.loaded.store, *(codes.store for codes in self._codes.values())):
            store.reorder(order)

    def close(self) -> None:
        """Stop the threads and release the codes."""
        self.workers.close()
        for codes in self._codes.values():
            codes.close()

    @property
    def screens(self) -> tuple[str, ...]:
        """The screens used so far."""
        return tuple(self._codes)

    @property
    def code_work(self) -> float:
        """The work of making the codes; 0 once they are made."""
        store = self.loaded.store
        return float(CODE * store.rows * store.dimension if self.limits.screens and not self._codes else 0)

    def setting(self, stats: ShardStats, meter: WorkMeter, *, timed: bool = True) -> SearchContext:
        """The setting of searches that count into `stats` and advance `meter`."""
        return SearchContext(
            self.loaded, self.metric, self.limits, self.workers, stats, partial(self._codes_of, meter), self.cell,
            timed, self.effort, meter,
        )  # fmt: skip

    def take_codes(self, codes: Codes) -> None:
        """Use codes that were made before, of the same rows."""
        self._codes[codes.name] = codes

    def take_cell(self, cell: NDArray[np.uint16]) -> None:
        """Use the cell of every slot that was found before, of the same rows."""
        self._cell = cell

    def cell(self) -> NDArray[np.uint16]:
        """The cell of every slot, uint16[n], found once."""
        if self._cell is None:
            self._cell = cell_of(self.loaded, self.workers, self.limits.threads)
        return self._cell

    def codes(self) -> Codes:
        """The codes of the first screen; of rows so few that they are scanned those of float32."""
        return self._codes_of(WorkMeter(), next(iter(self.limits.screens), "f32"))

    def _codes_of(self, meter: WorkMeter, screen: str) -> Codes:
        if screen not in self._codes:
            screens, work = self.limits.screens, self.code_work
            most = self.plan.code_bytes[screens.index(screen)] if screens else SCAN_CODES
            self._codes[screen] = Codes(self.loaded, screen, self.workers, self.limits.threads, most, self._scratch)
            meter.advance(work)
        return self._codes[screen]
