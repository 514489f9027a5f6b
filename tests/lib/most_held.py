"""The most bytes that NumPy and Arrow take, by tracemalloc and Arrow's pool: of a call, or of each phase of a run."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest

from minestream.config.memory_plan import FINISHING, READING, SEARCHING
from minestream.outputs import parquet
from minestream.system.progress import Event, StageStarted

PHASES = {"read": READING, "mine": SEARCHING, "publish": FINISHING}
POOLS: list[pa.MemoryPool] = []  # what Arrow made in one must not outlive it


class Peaks:
    """The most bytes of each phase of a run, beyond what there was before."""

    def __init__(self) -> None:
        self.of: dict[str, int] = {}
        self.base, self.phase, self._first, self._arrow = tracemalloc.get_traced_memory()[0], "", len(POOLS), 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, StageStarted):
            self.turn_to(PHASES.get(event.stage, ""))

    def turn_to(self, phase: str) -> None:
        if self.phase:
            most = tracemalloc.get_traced_memory()[1] - self.base + self._arrow + (POOLS[-1].max_memory() or 0)
            self.of[self.phase] = max(most, self.of.get(self.phase, 0))
        self._arrow = sum(pool.bytes_allocated() for pool in POOLS[self._first :])
        POOLS.append(pa.proxy_memory_pool(pa.system_memory_pool()))
        pa.set_memory_pool(POOLS[-1])
        tracemalloc.reset_peak()
        self.phase = phase

    def turning(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function: the most of NumPy and of Arrow before, within and after it are added up one by one."""

        def called(*given: Any) -> Any:
            self.turn_to(self.phase)
            result = function(*given)
            self.turn_to(self.phase)
            return result

        return called


@contextmanager
def peaks() -> Iterator[Peaks]:
    """What is allocated in the block."""
    pool = pa.default_memory_pool()
    tracemalloc.start(1)
    try:
        yield Peaks()
    finally:
        tracemalloc.stop()
        pa.set_memory_pool(pool)


def alone(call: Callable[[], Any]) -> tuple[Any, int]:
    """What a call returns, and the most bytes that it takes beyond what there was."""
    with peaks() as found, pytest.MonkeyPatch.context() as patch:
        for of, name in ((parquet, "_encoded"), (pa, "concat_arrays")):  # rows move from NumPy to Arrow there
            patch.setattr(of, name, found.turning(getattr(of, name)))
        found.turn_to("alone")
        result = call()
        found.turn_to("")
    return result, found.of["alone"]
