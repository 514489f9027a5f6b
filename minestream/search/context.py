"""What all searches of a run share."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minestream.config.metrics import Metric
from minestream.inputs.dataset.dataset import Dataset
from minestream.kernels.types import NEGATIVE
from minestream.search.work import WorkMeter
from minestream.system.stats import Effort, ShardStats
from minestream.system.threads import Workers

if TYPE_CHECKING:
    from minestream.search.screens import Codes


@dataclass(frozen=True)
class Limits:
    """Sizes that memory decides, and on which no result depends."""

    threads: int
    block_rows: int
    group_anchors: int
    screens: tuple[str, ...]  # the first is used until another is predicted to be faster; none: scan
    answer_bytes: int = 1 << 27
    survivor_bytes: int = 1 << 27  # of each thread


@dataclass(frozen=True)
class SearchContext:
    """What all searches of a run share. They count into `stats` and `effort`; `codes` gives the codes of a screen.

    Only the slots `among`, bool[n], are candidates; None: all are.
    """

    loaded: Dataset
    metric: Metric
    limits: Limits
    workers: Workers
    stats: ShardStats
    codes: Callable[[str], Codes]
    timed: bool = True  # whether stages of a search are timed one by one
    effort: Effort = field(default_factory=Effort)
    meter: WorkMeter = field(default_factory=WorkMeter)
    among: NDArray[np.bool_] | None = None

    def candidates(self, wanted: int) -> NDArray[np.bool_]:
        """The slots that may be POSITIVE or NEGATIVE, as wanted, to any anchor: a mask."""
        loaded = self.loaded
        mask = np.arange(loaded.store.rows) >= loaded.first_candidate
        if wanted == NEGATIVE and not loaded.unlabeled_negatives:
            mask &= loaded.rows.label >= 0
        return mask if self.among is None else mask & self.among

    def stage(self, name: str) -> AbstractContextManager[None]:
        """A context whose seconds count for a stage of the search."""
        return self.stats.stage(name) if self.timed else nullcontext()
