"""What all searches of one dataset share: threads, the codes of its rows, how much is looked at together."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from minestream.config.metrics import METRICS
from minestream.config.resources import Resources, memory_budget, thread_count
from minestream.inputs.dataset.dataset import Loaded
from minestream.search.context import Limits, Setting
from minestream.search.course import CODE, Course
from minestream.search.screens import Codes, screens_of
from minestream.system.stats import Effort, ShardStats
from minestream.system.threads import Workers

MAX_BLOCK_ROWS = 32_768
MIN_BLOCK_ROWS = 1_024


class Searcher:
    """A dataset ready to be searched; a context manager.

    Parameters
    ----------
    loaded : Loaded
    metric : str
    resources : Resources
    scratch : Path
        Folder for codes that do not fit the memory.

    Attributes
    ----------
    limits : Limits
        How much is looked at together.
    workers : Workers
    effort : Effort
        How much work the searches were so far.
    """

    def __init__(self, loaded: Loaded, metric: str, resources: Resources, scratch: Path) -> None:
        self.loaded, self.metric, self.budget_bytes = loaded, METRICS[metric], memory_budget(resources)
        self.limits = limits_of(loaded, resources, self.budget_bytes)
        self.workers, self.effort = Workers(self.limits.threads), Effort()
        self._scratch = scratch
        self._codes: dict[str, Codes] = {}

    def __enter__(self) -> Searcher:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let threads and codes go."""
        self.workers.close()
        for codes in self._codes.values():
            codes.close()

    @property
    def screens(self) -> tuple[str, ...]:
        """The screens used so far."""
        return tuple(self._codes)

    @property
    def code_work(self) -> float:
        """The work of making the codes, while there are none."""
        store = self.loaded.store
        return float(CODE * store.rows * store.dimension if self.limits.screens and not self._codes else 0)

    def setting(self, stats: ShardStats, course: Course, *, timed: bool = True) -> Setting:
        """What searches that count into `stats`, and advance `course`, need."""
        return Setting(
            self.loaded, self.metric, self.limits, self.workers, stats, partial(self._codes_of, course), timed,
            self.effort, course,
        )  # fmt: skip

    def _codes_of(self, course: Course, screen: str) -> Codes:
        if screen not in self._codes:
            work, quarter = self.code_work, self.budget_bytes // 4
            self._codes[screen] = Codes(self.loaded, screen, self.workers, self.limits.threads, quarter, self._scratch)
            course.advance(work)
        return self._codes[screen]


def limits_of(loaded: Loaded, resources: Resources, budget_bytes: int) -> Limits:
    """The screens to choose from, and sizes of blocks and groups of anchors for a budget of bytes."""
    store = loaded.store
    per_row = store.row_bytes + 12 * store.dimension + 64
    block = min(MAX_BLOCK_ROWS, max(MIN_BLOCK_ROWS, budget_bytes // 16 // per_row))
    group = min(16_384, max(512, budget_bytes // 4 // (4_096 + 16 * store.dimension)))
    screens = screens_of(resources, store.rows, store.dimension)
    return Limits(thread_count(resources), resources.block_rows or int(block), int(group), screens)
