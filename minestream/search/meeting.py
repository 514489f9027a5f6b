"""The approximate sweep: only rows that are near the same cell meet. Gates, certificates and rules are the sweep's.

Members of a cell meet each other, then those that only look into it. Cells are near those with near numbers, so that
what is gathered for a step stays in the cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from minestream.kernels import near, sweep
from minestream.kernels.types import Pairs, Rule
from minestream.search.context import SearchContext
from minestream.search.near import members_of
from minestream.search.order import any_left, dealt, ranges_among, sorted_by
from minestream.search.sweep import Sweeping
from minestream.system import ragged
from minestream.system.threads import slices

Places = NDArray[np.int64]
STEPS = 12  # of what meets, at least: gates narrow after each
STEP_ROWS = 1 << 18  # rows gathered for a step, at most
READ_BLOCKS = 2  # and blocks of different rows, where they are read from scratch: so many there is room for


class Meeting(Sweeping):
    """One search among rows that look at each other; see Rows.near."""

    def __init__(self, setting: SearchContext, groups: Sequence[NDArray[np.int32]], pairs: Pairs, rule: Rule) -> None:
        super().__init__(setting, groups, pairs, rule)
        self.lane, self.lane_start = self._listed()
        self.at = self.order.slot.astype(np.int64)  # of codes that are in memory

    def _listed(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        """The lanes of each cell, int32[], and where each kind of its members, and of those who look in, begins.

        The latter is int64[4, 2, cells]: anchors that are candidates too, anchors only, candidates only, and the end.
        """
        rows, order = self.loaded.rows, self.order
        cells, lists = int(rows.near.max(initial=0)) + 1, near.LISTS
        counted = rows.width, members_of(rows.width), order.both, order.anchors
        keys = [each for each in (self.lanes.code, self.lanes.parent) if each.size]
        by = sorted_by(*keys)  # so that many a tile is of one label, or parent, alone
        parts = [by[part] for part in slices(by.size, self.threads)]
        counts, lane = np.zeros((len(parts), lists * cells), np.int64), np.empty(by.size * rows.width, np.int32)
        count, put = (partial(kernel, rows.near, order.slot) for kernel in (near.count_lanes, near.put_lanes))
        self.workers.run([partial(count, part, counted, own) for part, own in zip(parts, counts, strict=True)])
        start = ragged.starts(counts.T.ravel())  # of a list the lanes of the first part come first, as in `by`
        at = start[:-1].reshape(-1, len(parts)).T.copy()  # moved, and `start` is not
        self.workers.run([partial(put, part, counted, own, lane) for part, own in zip(parts, at, strict=True)])
        first = start[:: len(parts)]
        begins = [first[kind : kind + lists * cells : near.KINDS] for kind in range(near.KINDS + 1)]
        return lane, np.stack(begins).reshape(-1, cells, 2).swapaxes(1, 2)

    def sweep_strides(self) -> Iterator[int]:
        """Sweep, once all anchors have their first gates; yields as run(), when all answers are final."""
        jobs = self._cut(self._jobs())  # however large a cell is, no step gathers more than there is room for
        rows, columns = np.diff(jobs[:, near.FIRST : near.TRIANGLE])[:, ::2].T
        gathered, most = rows + columns, STEP_ROWS
        fresh = (np.diff(jobs[:, [near.CELL, near.COLUMN]], axis=0, prepend=-1) != 0).any(axis=1)
        if not (self.codes.store.in_memory and self.loaded.store.in_memory):
            gathered, most = rows + columns * fresh, READ_BLOCKS * self.setting.limits.block_rows
        step = np.cumsum(gathered) // max(1, min(most, int(gathered.sum()) // STEPS))
        edges = sorted({0, *(np.flatnonzero(np.diff(step)) + 1).tolist(), len(jobs)})  # 0 alone where nothing meets
        work = (self.work.products + self.work.survivors) / max(1, int(gathered.sum()))
        slack = float(self.lanes.slack.max(initial=0))
        for first, end in itertools.pairwise(edges):
            self._meet(jobs[first:end], slack)
            self.setting.meter.advance(work * int(gathered[first:end].sum()))
        yield from range(self.order.group_start.size - 1)

    def _jobs(self) -> NDArray[np.int64]:
        """What meets, cell by cell, see near.Meetings: members first, then those who look in.

        Each are anchors that are candidates too, then anchors only, then candidates only: an anchor meets candidates.
        """
        cell = np.arange(self.lane_start.shape[2])
        of_members, of_others = (tuple(self.lane_start[:, looking]) for looking in (0, 1))

        def jobs_of(rows: tuple[Places, ...], triangle: bool) -> Places:
            (a, b, c, d), (m, n, o, p) = rows, of_members
            kinds = [(a, b, m, n, triangle, 1), (b, c, m, n, 0, 0), (a, c, o, p, 0, 0)]
            kinds += [] if triangle else [(n, o, a, b, 0, 0), (m, o, c, d, 0, 0)]
            columns = [[np.broadcast_to(each, cell.shape) for each in (cell, *kind)] for kind in kinds]
            return np.stack([np.stack(kind, axis=1) for kind in columns], axis=1).reshape(-1, near.JOB)

        jobs = np.concatenate([jobs_of(of_members, True), jobs_of(of_others, False)])
        return jobs[(jobs[:, near.FIRST] < jobs[:, near.END]) & (jobs[:, near.COLUMN] < jobs[:, near.COLUMN_END])]

    def _cut(self, jobs: NDArray[np.int64]) -> NDArray[np.int64]:
        """The jobs in pieces that fit the rooms and the buffer."""
        tile = self.codes.tile
        for ends, size in (
            ([near.COLUMN, near.COLUMN_END], self.unit_panels[1] * tile.columns),
            ([near.FIRST, near.END], self.unit_panels[0] * tile.rows),
        ):
            start = ragged.starts(-(-np.diff(jobs[:, ends])[:, 0] // size))
            first, end = jobs[:, ends].T
            jobs, place = jobs[ragged.owners(start)], ragged.nth(start)
            jobs[:, ends[0]] = ragged.repeat(first, start) + place * size
            jobs[:, ends[1]] = np.minimum(ragged.repeat(end, start), jobs[:, ends[0]] + size)
        below = (jobs[:, near.TRIANGLE] > 0) & (jobs[:, near.COLUMN_END] - 1 <= jobs[:, near.FIRST])
        return jobs[~below]

    def _meet(self, jobs: NDArray[np.int64], slack: float) -> None:
        """Do some jobs, of lanes with at most so much slack, and refine survivors whenever buffers are full."""
        jobs, lanes = self._cut(jobs), self._lanes(jobs)
        words = self.codes.store.whole()
        if words is None:
            some = np.unique(lanes)
            words, self.at[some] = self.codes.rows_of(self.order.slot[some], self.workers, self.threads)
        sign = self.codes.row_sign(self.mirrored)
        flip = np.uint32(self.codes.row_flip(self.mirrored))
        meetings = near.Meetings(self.lane, jobs, words, self.at, flip, sign, slack)
        units = dealt(len(jobs), self.threads)
        ranges = ranges_among(lanes, self.order.anchors, self.threads)
        while any_left(units):
            ranges.bounds[:] = 0
            with self.setting.stage("sweep"):
                rooms = [(self._room(True), self._room(False)) for _ in units]
                meet = [partial(near.meet, self.problem, self.screening, meetings, room) for room in rooms]
                self.workers.run([self.sweeper(meet[thread], thread, own, ranges) for thread, own in enumerate(units)])
                del rooms, meet
            with self.setting.stage("refine"):
                self._refine(ranges)

    def _lanes(self, jobs: NDArray[np.int64]) -> NDArray[np.int32]:
        """The lanes that meet in some jobs, each as often as it does."""
        ends = (near.FIRST, near.END), (near.COLUMN, near.COLUMN_END)
        return np.concatenate([self.lane[first:end] for each in ends for first, end in jobs[:, each].tolist()])

    def _room(self, rows: bool) -> sweep.Side:
        """Room for one side of the largest job."""
        tile, count = self.codes.tile, self.unit_panels[0 if rows else 1]
        panels = np.empty((count, self.codes.words, tile.rows if rows else tile.columns), np.uint32)
        return self.codes.side(slice(0, 0), panels, 1, self.intervals)
