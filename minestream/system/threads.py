"""Threads: a pool for kernels, which release the interpreter lock; one thread that reads ahead or writes behind."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
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


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; a thread makes the next one while the caller uses the last."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1, "minestream-ahead") as pool:
        future = pool.submit(next, source, end)
        while (item := future.result()) is not end:
            future = pool.submit(next, source, end)
            yield item  # type: ignore[misc]  # not `end`, which next() gives at the end only


def mapped(function: Callable[[Item], Made], items: Iterable[Item], threads: int) -> Iterator[Made]:
    """What a function makes of each item, in order; so many threads make the next ones while the caller uses one."""
    with ThreadPoolExecutor(threads, "minestream-ahead") as pool:
        coming: deque[Future[Made]] = deque()
        try:
            for item in items:
                coming.append(pool.submit(function, item))
                if len(coming) > threads:
                    yield coming.popleft().result()
            while coming:
                yield coming.popleft().result()
        finally:
            for future in coming:
                future.cancel()


class Behind:
    """Runs one task at a time in a thread while the caller goes on; an error is raised at the next call."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "minestream-behind")
        # Start the thread now: an interrupt while a pool starts one would leave a thread that nobody waits for.
        self._pool.submit(int).result()
        self._last: Future[None] | None = None

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                self.wait()  # after an interrupt here, shutdown still waits for the task
        finally:
            self._pool.shutdown()

    def run(self, task: Callable[[], None]) -> None:
        """Start a task once the last one is done."""
        self.wait()
        self._last = self._pool.submit(task)

    def wait(self) -> None:
        """Wait for the last task, and raise its error."""
        last, self._last = self._last, None
        if last is not None:
            last.result()


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
