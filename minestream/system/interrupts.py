"""Interrupts that cannot be lost, and break neither what takes a place nor what puts it in order again.

Python raises an interrupt wherever the main thread is. It drops one that lands in a destructor, so it is remembered;
one that lands while a place is taken or given back would leave half of it, so it is held until that is done; a second
one that follows soon would land in the clean-up after the first.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 5.0  # after an interrupt was raised: others are not
ENDING = (signal.SIGINT, signal.SIGTERM)
_asked: list[float] = []  # when
_holds: list[bool] = []  # one each held() that is open: whether an interrupt came meanwhile


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal handler that raises KeyboardInterrupt now, or when nothing holds it, and again at the next check."""
    now = time.monotonic()
    if not _asked or now - _asked[-1] > GRACE_SECONDS:
        _asked.append(now)
        if _holds:
            _holds[0] = True
        else:
            raise KeyboardInterrupt


@contextmanager
def handled() -> Iterator[None]:
    """What ends a job politely is an interrupt too: parts are kept, nothing half written stays. Afterwards none counts.

    The interpreter, while it shuts down, would let one end the process as if nothing had been said or done.
    """
    try:
        for number in ENDING:
            signal.signal(number, interrupt)
        yield
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def held() -> Iterator[None]:
    """What is done within is done whole: an interrupt that comes meanwhile is raised at its end, or by check()."""
    _holds.append(False)
    try:
        yield
    finally:
        came = _holds.pop()
    if came and not _holds:
        raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt when a signal asked to stop."""
    if _asked:
        raise KeyboardInterrupt
