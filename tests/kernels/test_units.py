"""Units of work that threads take from each other without the interpreter."""

from __future__ import annotations

from contextlib import closing
from functools import partial

import numpy as np
import pytest

from minestream.kernels.jit import kernel
from minestream.kernels.tile import CHECKED, STOPPED, control_of
from minestream.kernels.units import CHECK_WORDS, Units, next_unit
from minestream.search.order import any_left, dealt
from minestream.system.threads import Workers


@kernel
def take(
    units: Units, control: np.ndarray, tiles: np.ndarray, most: int, out_times: np.ndarray, out_left: np.ndarray
) -> None:
    """Take up to so many units; how often each was taken, and how much of its piece was left then."""
    unit = next_unit(units, control, tiles)
    while unit >= 0 and most > 0:
        out_times[unit] += 1
        out_left[unit] = units.own[1] - unit
        most -= 1
        units.own[0] += 1
        unit = next_unit(units, control, tiles)


@pytest.mark.parametrize("count", [1, 2, 7, 100, 10_001])
@pytest.mark.parametrize("threads", [1, 2, 32])
@pytest.mark.parametrize("most", [3, 10_001])
def test_each_unit_is_done_once_whoever_stops_early(count: int, threads: int, most: int) -> None:
    times, left, units = np.zeros(count, np.int64), np.zeros(count, np.int64), dealt(count, threads)
    assert len(units) == min(count, threads)
    with closing(Workers(4)) as workers:
        while any_left(units):
            before = int(times.sum())
            workers.run([partial(take, own, control_of(1), np.zeros(2, np.int64), most, times, left) for own in units])
            assert times.sum() - before <= most * len(units)
    assert times.tolist() == [1] * count


def test_pieces_are_half_of_a_share_of_what_is_left() -> None:
    times, left, (own, *_) = np.zeros(1_000, np.int64), np.zeros(1_000, np.int64), dealt(1_000, 4)
    take(own, control_of(1), np.zeros(2, np.int64), 1_000, times, left)
    assert times.tolist() == [1] * 1_000
    first, found = 0, []
    while first < 1_000:
        found.append(int(left[first]))
        first += found[-1]
    assert found[:3] == [125, 109, 95]
    assert found == sorted(found, reverse=True)
    assert found[-8:] == [1] * 8


@pytest.mark.parametrize("beyond", [-1, 0])
def test_tiles_are_checked_while_what_they_save_is_more_than_that_takes(beyond: int) -> None:
    control, nothing = control_of(20, prefix=20 - CHECK_WORDS, checked=True), np.zeros(8, np.int64)
    control[STOPPED] = 100 + beyond
    for most in (0, 1, 7):
        take(dealt(8, 1)[0], control, np.array([100, 0]), most, nothing, nothing)
        assert control[CHECKED] == (beyond == 0)


def test_tiles_are_checked_at_first() -> None:
    control, nothing = control_of(20, prefix=10, checked=True), np.zeros(8, np.int64)
    take(dealt(8, 1)[0], control, np.zeros(2, np.int64), 1, nothing, nothing)
    assert control[CHECKED]
