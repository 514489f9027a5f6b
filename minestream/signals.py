"""Interrupts that cannot be lost: Python drops a KeyboardInterrupt that lands in a destructor, so it is remembered."""

from __future__ import annotations

from types import FrameType

_asked: list[int] = []


def interrupt(number: int, frame: FrameType | None) -> None:
    """A signal handler that raises KeyboardInterrupt now, and again at the next check."""
    _asked.append(number)
    raise KeyboardInterrupt


def check() -> None:
    """Raise KeyboardInterrupt when a signal asked to stop."""
    if _asked:
        raise KeyboardInterrupt
