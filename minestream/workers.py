"""Our threads: kernels run on them in parallel, outside the interpreter lock."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait

import numpy as np

from minestream import signals
from minestream.errors import ForkedProcess


class Workers:
    """Our threads. Kernels run on them outside the interpreter lock; a forked child may not use its parent's."""

    def __init__(self, threads: int) -> None:
        self._process = os.getpid()
        self._pool = ThreadPoolExecutor(threads, "minestream") if threads > 1 else None

    def run(self, tasks: Sequence[Callable[[], None]]) -> None:
        """Run all tasks; the first exception, or Ctrl-C, drops those that have not begun."""
        if os.getpid() != self._process:
            raise ForkedProcess(
                "this miner was started in the parent process",
                "start mining in the child, or use the spawn start method",
            )
        if self._pool is None:
            for task in tasks:
                signals.check()
                task()
            return
        signals.check()
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


def slices(count: int, parts: int) -> Iterable[slice]:
    """`count` things cut into at most `parts` even slices."""
    edges = np.linspace(0, count, parts + 1).astype(int)
    return [slice(a, b) for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True) if b > a]
