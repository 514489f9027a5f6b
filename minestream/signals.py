"""Interrupts that cannot be lost, and do not break the clean-up that one before them began.

Python drops a KeyboardInterrupt that lands in a destructor, so it is remembered; a second one that follows soon would
land in what puts things in order after the first.
"""

from __future__ import annotations

import time
from types import FrameType

GRACE_SECONDS = 5.0  # after an interrupt was raised: others are not

_asked: list[float] = []  # when


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal handler that raises KeyboardInterrupt now, and again at the next check."""
    now = time.monotonic()
    if not _asked or now - _asked[-1] > GRACE_SECONDS:
        _asked.append(now)
        raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt when a signal asked to stop."""
    if _asked:
        raise KeyboardInterrupt
