"""Threads: a pool for kernels, which release the interpreter lock, and threads that work beside the caller."""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from itertools import islice
from threading import Barrier
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from minestream.errors import ForkedProcessError
from minestream.system import interrupts

Item = TypeVar("Item")
Made = TypeVar("Made")
Some = tuple[deque[Item], Exception | None]  # items of a run, and the error that ends it
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

    def made(self, function: Callable[[Item], Made], items: Iterable[Item]) -> list[Made]:
        """What a function makes of each item, in order; raises as run()."""
        made: dict[int, Made] = {}

        def task(place: int, item: Item) -> None:
            made[place] = function(item)

        self.run([partial(task, *each) for each in enumerate(items)])
        return [made[place] for place in range(len(made))]

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()


def ahead(runs: Iterable[Iterable[Item]], threads: int = 1, most: int = 1) -> Generator[Item]:
    """The items of runs, one run after another; threads make the next ones while the caller uses the last.

    An error is raised where it occurs, after the items before it, and once no thread runs; Ctrl-C is raised then too.
    Who may leave the loop early closes the generator.

    threads : how many runs are made items of at the same time, each by one thread
    most : items of a run that are made before its turn comes; 2 or more where runs are short, since one with fewer has
        come to its end
    """
    pool, started = ThreadPoolExecutor(threads, "minestream-beside"), Barrier(threads + 1)
    sources = map(iter, _failing_last(runs))

    def begun(run: Iterator[Item], count: int = most) -> tuple[Iterator[Item], int, Future[Some[Item]]]:
        return run, count, pool.submit(_some, run, count)

    try:
        # Start the threads now: an interrupt while a pool starts one would leave a thread that nobody waits for.
        for _ in range(threads):
            pool.submit(started.wait)
        started.wait()
        coming = deque(map(begun, islice(sources, threads)))
        while coming:
            run, count, future = coming.popleft()
            made, error = future.result()
            if error is None and len(made) == count:
                coming.appendleft(begun(run, min(most, 2)))
            else:
                coming.extend(map(begun, islice(sources, 1)))
            del future
            while made:
                yield made.popleft()
            if error is not None:
                raise error
    finally:
        started.abort()
        pool.shutdown(cancel_futures=True)


def _some(run: Iterator[Item], most: int) -> Some[Item]:
    """The next items of a run, and the error that ends it."""
    made: deque[Item] = deque()
    try:
        made.extend(islice(run, most))
    except Exception as error:
        return made, error
    return made, None


def _failing_last(runs: Iterable[Iterable[Item]]) -> Iterator[Iterable[Item]]:
    """The same runs; an error in place of a run becomes one that raises it."""
    try:
        yield from runs
    except Exception as error:
        yield _failing(error)


def _failing(error: Exception) -> Iterator[Any]:
    yield from ()
    raise error


def mapped(function: Callable[[Item], Made], items: Iterable[Item], threads: int) -> Generator[Made]:
    """What a function makes of each item, in order, as ahead() does; with 0 threads when the caller asks for it."""
    yield from ahead((map(function, [item]) for item in items), threads, most=2) if threads else map(function, items)


def run_each(function: Callable[[Item], None], items: Iterable[Item], threads: int) -> None:
    """Call a function with each item in so many threads; raises as mapped()."""
    deque(mapped(function, items, threads), 0)


def apart(shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """An array of zeros for one thread, which shares no cache line with another array."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    lines = np.zeros(size + 2 * APART_BYTES, np.uint8)
    own: NDArray[Any] = lines[APART_BYTES : APART_BYTES + size].view(dtype).reshape(shape)
    return own


def taken(
    fields: Iterable[NDArray[Any]], at: NDArray[np.integer], workers: Workers, threads: int
) -> list[NDArray[Any]]:
    """The rows `at` of each field, taken by all threads."""
    fields = list(fields)
    out = [np.empty((at.size, *field.shape[1:]), field.dtype) for field in fields]

    def task(part: slice) -> None:
        for field, rows in zip(fields, out, strict=True):
            np.take(field, at[part], axis=0, out=rows[part], mode="clip")  # without a copy

    workers.run([partial(task, part) for part in slices(at.size, threads)])
    return out


def slices(count: int, parts: int) -> Iterable[slice]:
    """At most `parts` slices of even size that together cover `count` things."""
    parts = max(1, min(count, parts))
    return [slice(count * part // parts, count * (part + 1) // parts) for part in range(parts if count else 0)]
