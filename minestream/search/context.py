"""What all searches of a run share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

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
class Lists:
    """Candidates of some anchors, each list by (distance, key order).

    Attributes
    ----------
    place : int32[n]
        The list of each slot; -1 for those that have none.
    start : int64[lists + 1]
    slot : int32[entries]
    x : float64[entries]
        Canonical distances.
    reach : float64[lists]
        Candidates that are not in the list are at least as far; inf where all are in it.
    alike : (int64[n + 1], int32[]) or None
        Sorted lists by slot of what are its duplicates, where the rows cannot tell: the rule of duplicates is then
        not looked at.
    """

    place: NDArray[np.int32]
    start: NDArray[np.int64]
    slot: NDArray[np.int32]
    x: NDArray[np.float64]
    reach: NDArray[np.float64]
    alike: tuple[NDArray[np.int64], NDArray[np.int32]] | None = None

    @property
    def longest(self) -> int:
        """The entries of the longest list."""
        return int(np.diff(self.start).max(initial=0))

    def bounds(self, anchors: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the lists of anchors begin and end, int64[A] each; an anchor without a list has an empty one."""
        place = self.place[anchors]
        first, end = self.start[place], self.start[place + 1]
        return first, np.where(place < 0, first, end)


Columns = tuple[NDArray[Any], ...]  # one-dimensional each, of any lengths


class Exchange(Protocol):
    """What several workers exchange, by names that all of them use in the same order."""

    def next_name(self) -> str:
        """A name for what the next search exchanges."""

    def offer(self, name: str, make: Callable[[int], Iterator[Columns]], to_all: bool = False) -> None:
        """Give each worker, by its number, what `make` makes for it, unless that is there.

        Or give all of them what `make` makes as the share of a worker of this number. Raises what `make` raises.
        """

    def collect(self, name: str, to_all: bool = False) -> list[Iterator[Columns]]:
        """What every worker offered under this name, to this one or to all; raises when some of it is missing."""


class AloneExchange(Exchange, Protocol):
    """The exchange of a slice: what the others offer to all, collect() makes where it is missing."""

    def give(self, name: str, to: int, columns: Iterator[Columns]) -> None:
        """Give another slice something."""

    def take(self, name: str, sender: int) -> Iterator[Columns] | None:
        """What another slice gave under this name; None where it is missing."""

    def wait(self, name: str, seconds: dict[int, float]) -> None:
        """Wait for what senders give that have begun: so many seconds for each that is missing, at most."""


class Share(NamedTuple):
    """A worker's share in searches that several make together, each its blocks of rows.

    Attributes
    ----------
    number, workers : int
    exchange : Exchange
    answer_bytes : int
        Of the answers of anchors that are searched together; the same for all.
    alone : AloneExchange, optional
        The exchange of a slice: the others may run at any time.
    owners : tuple of int
        Of the parts of slices, those of one after those of another; parts of workers are dealt in turn.
    """

    number: int
    workers: int
    exchange: Exchange
    answer_bytes: int
    alone: AloneExchange | None = None
    owners: tuple[int, ...] = ()

    def owns(self, part: int) -> bool:
        """Whether one of several parts is this worker's."""
        return (self.owners[part] if self.owners else part % self.workers) == self.number


@dataclass(frozen=True)
class SearchContext:
    """What all searches of a run share. They count into `stats` and `effort`; `codes` gives the codes of a screen,
    `cell` the cell of every slot.

    Only the slots `among`, bool[n], are candidates; None: all are. With `lists`, those in an anchor's list are all that
    it meets. With a `share`, search() is made together with other workers; where its groups have `owners`, every leg
    (order.py) is of one.
    """

    loaded: Dataset
    metric: Metric
    limits: Limits
    workers: Workers
    stats: ShardStats
    codes: Callable[[str], Codes]
    cell: Callable[[], NDArray[np.uint16]]
    timed: bool = True  # whether stages of a search are timed one by one
    effort: Effort = field(default_factory=Effort)
    meter: WorkMeter = field(default_factory=WorkMeter)
    among: NDArray[np.bool_] | None = None
    lists: Lists | None = None
    share: Share | None = None
    owners: tuple[int, ...] = ()

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
