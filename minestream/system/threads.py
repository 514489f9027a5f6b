"""Threads: a pool for kernels, which release the interpreter lock, and threads that work beside the caller."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import closing
from itertools import repeat, takewhile
from threading import Barrier
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from minestream.errors import ForkedProcessError
from minestream.system import interrupts

Item = TypeVar("Item")
Made = TypeVar("Made")
APART_BYTES = 256


class Workers:
    """A pool of threads for kernels; a forked child must not use its parent's."""

    def __init__(self, threads: int) -> None:
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(threads, "minestream") if threads > 1 else None

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run all tasks; the first exception, or Ctrl-C, cancels those that have not begun."""
        if os.getpid() != self._process:
            raise ForkedProcessError(
                "this miner was started in the parent process",
                "start mining in the child, or use the spawn start method",
            )
        if self._pool is None or len(tasks) < 2:
            for task in tasks:
                interrupts.check()
                task()
            return
        interrupts.check()
        futures = [self._pool.submit(task) for task in tasks]
        try:
            for future in wait(futures, return_when=FIRST_EXCEPTION).done:
                future.result()
        finally:
            for future in futures:
                future.cancel()
            wait(futures)

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def mapped(function: Callable[[Item], Made], items: Iterable[Item], threads: int) -> Generator[Made]:
    """What a function makes of each item, in order; so many threads make the next ones while the caller uses one.

    An error of the function, or of the items, is raised once no thread runs; so is Ctrl-C. Who may leave the loop
    early closes the generator. With 0 threads the caller makes each when it asks for it.
    """
    if not threads:
        yield from map(function, items)
        return
    pool, started = ThreadPoolExecutor(threads, "minestream-beside"), Barrier(threads + 1)
    coming: deque[Future[Made]] = deque()
    try:
        # Start the threads now: an interrupt while a pool starts one would leave a thread that nobody waits for.
        for _ in range(threads):
            pool.submit(started.wait)
        started.wait()
        for item in items:
            coming.append(pool.submit(function, item))
            if len(coming) > threads:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        started.abort()
        pool.shutdown()


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; a thread makes the next one while the caller uses the last."""
    source, end = iter(items), object()
    with closing(mapped(lambda _: next(source, end), repeat(None), 1)) as made:
        yield from takewhile(lambda item: item is not end, made)


def run_each(function: Callable[[Item], None], items: Iterable[Item], threads: int) -> None:
    """Call a function with each item in so many threads; raises as mapped()."""
    deque(mapped(function, items, threads), 0)


def apart(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array of zeros for one thread, which shares no cache line with another array."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    lines = np.zeros(size + 2 * APART_BYTES, np.uint8)
    own: NDArray[Any] = lines[APART_BYTES : APART_BYTES + size].view(dtype).reshape(shape)
    return own


def slices(count: int, parts: int) -> Iterable[slice]:
    """At most `parts` slices of even size that together cover `count` things."""
    parts = max(1, min(count, parts))
    return [slice(count * part // parts, count * (part + 1) // parts) for part in range(parts if count else 0)]


def shrinking(count: int, threads: int) -> Iterator[tuple[int, int]]:
    """Pieces (first, end) of `count` things, that many threads take one by one so that all end together.

    Each is half of a thread's share of what is left, so the last are of one thing.
    """
    first = 0
    while first < count:
        end = first + max(1, (count - first) // (2 * threads))
        yield first, end
        first = end
