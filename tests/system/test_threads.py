"""Work cut into slices, and run by a pool of threads."""

from __future__ import annotations

import threading
from contextlib import closing

import numpy as np
import pytest

from minestream.system.threads import Workers, slices, taken


@pytest.mark.parametrize("count", [0, 1, 2, 7, 16, 100, 1_001])
@pytest.mark.parametrize("parts", [1, 2, 3, 16])
def test_slices_are_of_even_size_and_cover_everything(count: int, parts: int) -> None:
    found = list(slices(count, parts))
    assert [i for part in found for i in range(count)[part]] == list(range(count))
    assert len(found) == min(count, parts)
    sizes = {part.stop - part.start for part in found}
    assert not sizes or (min(sizes) and max(sizes) - min(sizes) <= 1)


def test_one_task_wakes_no_thread_and_two_do() -> None:
    ran: list[str] = []
    with closing(Workers(2)) as workers:
        workers.run([lambda: ran.append(threading.current_thread().name)])
        assert ran == [threading.current_thread().name]
        workers.run([lambda: ran.append(threading.current_thread().name)] * 2)
    assert all(name.startswith("minestream") for name in ran[1:])
    assert len(ran) == 3


@pytest.mark.parametrize("count", [0, 1, 1_000])
def test_rows_of_several_fields_are_taken_together(count: int) -> None:
    rng = np.random.default_rng(0)
    fields, at = [rng.random(50), rng.integers(0, 9, (50, 2), np.int32)], rng.integers(0, 50, count)
    with closing(Workers(3)) as workers:
        found = taken(fields, at, workers, 3)
    assert [(each.dtype, each.tolist()) for each in found] == [(each.dtype, each[at].tolist()) for each in fields]


@pytest.mark.parametrize("count", [0, 1, 40])
def test_what_is_made_of_each_comes_in_order(count: int) -> None:
    with closing(Workers(3)) as workers:
        assert workers.made(lambda item: 2 * item, range(count)) == [2 * item for item in range(count)]
