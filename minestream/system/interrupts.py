"""Interrupts that are neither lost nor break into work that must be done whole.

Python raises an interrupt wherever the main thread is. It drops one that lands in a destructor, so we remember it. One
that lands while an output folder is claimed or released would leave that half done, so we delay it. A second one soon
after would land in the clean-up after the first, so we ignore it. One that lands in a constructor of a library leaves
an object whose destructor fails, which Python would print a traceback of, so we ignore those.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

GRACE_SECONDS = 5.0  # after an interrupt, in which further ones are ignored
ENDING = (signal.SIGINT, signal.SIGTERM)
_asked: list[float] = []  # the times of the interrupts
_holds: list[bool] = []  # for each open held(): whether an interrupt came meanwhile


def interrupt(number: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt now, or when held() ends, and again at the next check(); a signal handler."""
    now = time.monotonic()
    if not _asked or now - _asked[-1] > GRACE_SECONDS:
        _asked.append(now)
        if _holds:
            _holds[0] = True
        else:
            raise KeyboardInterrupt


def _told(failed: sys.UnraisableHookArgs) -> None:
    """Print a traceback of a destructor that failed, but not after an interrupt, which the run tells itself."""
    if not _asked:
        sys.__unraisablehook__(failed)


@contextmanager
def handled() -> Iterator[None]:
    """Take SIGTERM as an interrupt as well: finished parts stay, nothing half written does. Ignore both afterwards.

    During its shutdown the interpreter would let a signal end the process as if nothing had been done.
    """
    try:
        for number in ENDING:
            signal.signal(number, interrupt)
        sys.unraisablehook = _told
        yield
    finally:
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def held() -> Iterator[None]:
    """Delay interrupts to the end of the block, or to a check() within it."""
    _holds.append(False)
    try:
        yield
    finally:
        came = _holds.pop()
    if came and not _holds:
        raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt if an interrupt has come."""
    if _asked:
        raise KeyboardInterrupt
