"""Work cut into slices, and run by a pool of threads."""

from __future__ import annotations

import threading
from contextlib import closing

import pytest

from minestream.system.threads import Workers, shrinking, slices


@pytest.mark.parametrize("count", [0, 1, 2, 7, 16, 100, 1_001])
@pytest.mark.parametrize("parts", [1, 2, 3, 16])
def test_slices_are_of_even_size_and_cover_everything(count: int, parts: int) -> None:
    found = list(slices(count, parts))
    assert [i for part in found for i in range(count)[part]] == list(range(count))
    assert len(found) == min(count, parts)
    sizes = {part.stop - part.start for part in found}
    assert not sizes or (min(sizes) and max(sizes) - min(sizes) <= 1)


@pytest.mark.parametrize("count", [0, 1, 2, 7, 100, 1_001])
@pytest.mark.parametrize("threads", [1, 2, 32])
def test_shrinking_pieces_cover_everything_and_end_small(count: int, threads: int) -> None:
    found = list(shrinking(count, threads))
    assert [i for first, end in found for i in range(first, end)] == list(range(count))
    sizes = [end - first for first, end in found]
    assert sizes == sorted(sizes, reverse=True)
    assert all(size <= max(1, count // (2 * threads)) for size in sizes)
    assert sizes[-threads:] == [1] * min(count, threads)


def test_one_task_wakes_no_thread_and_two_do() -> None:
    ran: list[str] = []
    with closing(Workers(2)) as workers:
        workers.run([lambda: ran.append(threading.current_thread().name)])
        assert ran == [threading.current_thread().name]
        workers.run([lambda: ran.append(threading.current_thread().name)] * 2)
    assert all(name.startswith("minestream") for name in ran[1:])
    assert len(ran) == 3
