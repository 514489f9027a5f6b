"""Our threads: kernels run on them in parallel, outside the interpreter lock; reading and writing go on beside them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from minestream.errors import ForkedProcessError
from minestream.system import interrupts

Item = TypeVar("Item")
APART_BYTES = 256


class Workers:
    """Our threads. Kernels run on them outside the interpreter lock; a forked child may not use its parent's."""

    def __init__(self, threads: int) -> None:
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(threads, "minestream") if threads > 1 else None

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run all tasks; the first exception, or Ctrl-C, drops those that have not begun."""
        if os.getpid() != self._process:
            raise ForkedProcessError(
                "this miner was started in the parent process",
                "start mining in the child, or use the spawn start method",
            )
        if self._pool is None:
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
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown()


def ahead(items: Iterable[Item]) -> Iterator[Item]:
    """The same items, each made by a thread of its own while the one before it is in use."""
    source, end = iter(items), object()
    with ThreadPoolExecutor(1, "minestream-ahead") as pool:
        future = pool.submit(next, source, end)
        while (item := future.result()) is not end:
            future = pool.submit(next, source, end)
            yield item  # type: ignore[misc]  # not `end`, which next() gives at the end only


class Behind:
    """Runs one task at a time in a thread of its own while its caller goes on; errors are raised at the next call."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, "minestream-behind")
        # An interrupt while a pool starts its thread would leave a thread that nobody waits for: it starts here, idle.
        self._pool.submit(int).result()
        self._last: Future[None] | None = None

    def __enter__(self) -> Behind:
        return self

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                self.wait()  # an interrupt lands here, and the task is waited for all the same
        finally:
            self._pool.shutdown()

    def run(self, task: Callable[[], None]) -> None:
        """Start a task when the one before it is done."""
        self.wait()
        self._last = self._pool.submit(task)

    def wait(self) -> None:
        """Wait for the last task, and raise its error."""
        last, self._last = self._last, None
        if last is not None:
            last.result()


def apart(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """A small array of zeros for one thread, on cache lines of its own: what two threads write must not share one."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    lines = np.zeros(size + 2 * APART_BYTES, np.uint8)
    own: NDArray[Any] = lines[APART_BYTES : APART_BYTES + size].view(dtype).reshape(shape)
    return own


def slices(count: int, parts: int) -> Iterable[slice]:
    """`count` things cut into at most `parts` even slices."""
    edges = np.linspace(0, count, parts + 1).astype(int)
    return [slice(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True) if b > a]
