"""What meets in the cells near each row."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.distances import prefetch_row
from minestream.kernels.jit import kernel
from minestream.kernels.sweep import (
    Scratch,
    Screening,
    Side,
    Survivors,
    keep_survivors,
    may_hold_pairs,
    open_gates,
    set_side,
)
from minestream.kernels.tile import address, tile, tile_shape
from minestream.kernels.types import Problem
from minestream.kernels.units import Units, next_unit

CELL, FIRST, END, COLUMN, COLUMN_END, TRIANGLE, MUTUAL = range(7)  # of a job, see Meetings
JOB = 7
KINDS = 3  # of lanes: anchors that are candidates too, anchors only, candidates only
LISTS = 2 * KINDS  # of a cell: members of each kind, then those who look into it only
AHEAD = 12  # rows that the memory is asked for before they are packed
APART = 1 << 40  # so far behind all rows stands what is none of them


@kernel(inline=True)
def _list_of(near: np.ndarray, slot: np.ndarray, lane: int, place: int, counted: tuple[int, int, int, int]) -> int:
    """The list of a cell that a lane stands in by the cell at a place of those near it, see Meeting.lane_start."""
    _, members, both, anchors = counted
    return LISTS * int(near[slot[lane], place]) + KINDS * (place >= members) + (lane >= both) + (lane >= anchors)


@kernel
def count_lanes(
    near: np.ndarray, slot: np.ndarray, lanes: np.ndarray, counted: tuple[int, int, int, int], out: np.ndarray
) -> None:
    """Count some lanes of each list of a cell.

    Parameters
    ----------
    near : uint16[n, k], cells near each slot
    slot : int32[all lanes]
    lanes : int64[m]
    counted : width, members, both, anchors
        A row looks into so many of the nearest cells, and is a member of so many; how many of the first lanes hold
        anchors that are candidates too, and how many hold anchors.
    out : int64[LISTS * cells]
    """
    for lane in lanes:
        for place in range(counted[0]):
            out[_list_of(near, slot, lane, place, counted)] += 1


@kernel
def put_lanes(
    near: np.ndarray, slot: np.ndarray, lanes: np.ndarray, counted: tuple[int, int, int, int], at: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    """Put the lanes that count_lanes() counted into their lists, in order.

    Parameters
    ----------
    at : int64[LISTS * cells], where the next lane of each list belongs; moved
    out : int32[all lanes * width]
    """
    for lane in lanes:
        for place in range(counted[0]):
            own = _list_of(near, slot, lane, place, counted)
            out[at[own]] = lane
            at[own] += 1


class Meetings(NamedTuple):
    """What meets: in a job rows lane[FIRST : END] and columns lane[COLUMN : COLUMN_END], members of the job's CELL.

    In a TRIANGLE both are members, and a pair is met where its row stands first in `lane`. Rows are anchors that look
    for columns; where that is MUTUAL, all are anchors and candidates.
    """

    lane: NDArray[np.int32]
    job: NDArray[np.int64]  # [jobs, JOB]
    words: NDArray[np.uint32]  # [m, words] codes
    at: NDArray[np.int64]  # [lanes] which of them is that of each lane
    flip: np.uint32  # of row codes
    sign: float  # of row scales
    slack: float  # the largest of any lane


@kernel(inline=True)
def _packed(
    problem: Problem, screening: Screening, meetings: Meetings, job: np.ndarray, room: Side, rows: bool
) -> Side:
    """Pack the rows or the columns of a job into the room of a side."""
    first, end = (job[FIRST], job[END]) if rows else (job[COLUMN], job[COLUMN_END])
    looking = rows or job[MUTUAL] > 0
    lane, words, width = meetings.lane[first:end], room.panels.shape[1], room.panels.shape[2]
    count = (end - first + width - 1) // width
    panels = room.panels[:count]
    flip = meetings.flip if rows else np.uint32(0)
    out = panels.view(np.uint32)
    for p in range(count):
        for r in range(width):
            at = p * width + r
            if at + AHEAD < lane.size:
                prefetch_row(meetings.words, meetings.at[lane[at + AHEAD]])
            if at < lane.size:
                row = meetings.at[lane[at]]
                for j in range(words):
                    out[p, j, r] = meetings.words[row, j] ^ flip
            else:
                for j in range(words):
                    out[p, j, r] = np.uint32(0)
    side = Side(
        0, end - first, lane, room.unit, panels, room.terms[:count], room.start[:count], room.labels[:count],
        room.twins[:count], room.parents[:count],
    )  # fmt: skip
    set_side(screening.lanes, side, meetings.sign if rows else 1.0)
    open_gates(problem.rule, problem.pairs, screening.gates, looking, meetings.slack, side)
    return side


@kernel
def meet(
    problem: Problem, screening: Screening, meetings: Meetings, rooms: tuple[Side, Side], jobs: Units, out: Survivors,
    scratch: Scratch,
) -> int:  # fmt: skip
    """As sweep(), of jobs instead of units: gather and multiply what meets, and keep what passes the gates of either.

    Cost: 2 d a pair that meets, and the gathering of both sides.

    Parameters
    ----------
    rooms : sides that the largest job fits into
    jobs : Units
    """
    left_room, right_room = rooms
    tile_rows, tile_columns = tile_shape(address(left_room.panels, 0))
    words, terms = left_room.panels.shape[1], left_room.terms.shape[1]
    held: int = -1
    right = right_room
    found, number = 0, next_unit(jobs, scratch.control, scratch.tiles)
    while number >= 0:
        job = meetings.job[number]
        rows, columns = job[END] - job[FIRST], job[COLUMN_END] - job[COLUMN]
        if found + 2 * rows * columns > out.anchor.size:
            break
        left = _packed(problem, screening, meetings, job, left_room, True)
        ahead, column = job[COLUMN] - job[FIRST] if job[TRIANGLE] else APART, int(2 * job[COLUMN] + job[MUTUAL])
        if held != column:
            right, held = _packed(problem, screening, meetings, job, right_room, False), column
        for j in range(right.panels.shape[0]):
            of_column = right.lane[j * tile_columns :]
            for i in range(left.panels.shape[0]):
                behind = ahead + j * tile_columns - i * tile_rows
                if behind + tile_columns - 1 <= 0:
                    continue
                if not may_hold_pairs(problem, left, right, i, j):
                    continue
                scratch.tiles[0] += 1
                passed = tile(
                    address(left.panels, i * words * tile_rows), address(right.panels, j * words * tile_columns),
                    address(scratch.control, 0), address(left.terms, i * terms * tile_rows),
                    address(right.terms, j * terms * tile_columns), address(right.start, 2 * j * tile_columns),
                    address(scratch.masks, 0), address(scratch.masks, tile_rows), address(scratch.products, 0),
                )  # fmt: skip
                if passed != 0:
                    scratch.tiles[1] += 1
                    of_row, where = left.lane[i * tile_rows :], (job[CELL], behind)
                    found = keep_survivors(problem, screening, of_row, of_column, where, found, out, scratch)
        jobs.own[0] += 1
        number = next_unit(jobs, scratch.control, scratch.tiles)
    return found
