"""The standard streams: when a report or a note cannot be written, the work still goes on."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import IO, Any

from minestream.errors import FULL, CapacityError, MinestreamError, OutputError

_SILENT: ContextVar[bool] = ContextVar("silent", default=False)


@contextmanager
def silent() -> Iterator[None]:
    """Within the block `show` prints nothing; errors are told all the same."""
    token = _SILENT.set(True)
    try:
        yield
    finally:
        _SILENT.reset(token)


def secure() -> None:
    """Open the null device for every closed standard stream, so that no file opened later takes its number."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w" if number else "r", encoding="utf-8")  # noqa: SIM115 (lives as the process)
            setattr(sys, name, stream)


def give_up(stream: IO[Any]) -> None:
    """Send a stream to the null device; else what it still holds would fail again at the end of the process."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def refused(error: OSError) -> MinestreamError:
    """The error for the user when standard output cannot be written."""
    kind = CapacityError if error.errno in FULL else OutputError
    return kind(f"standard output cannot be written: {error.strerror}", "send it somewhere else")


def show(text: str, aside: bool = False) -> None:
    """Print on standard output, or `aside` on standard error; a reader who has left is no error."""
    if _SILENT.get():
        return None
    if aside:
        return tell(text)
    try:
        _print(text, sys.stdout)
    except OSError as error:
        give_up(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise refused(error) from error


def tell(text: str) -> None:
    """Print on standard error, if possible."""
    try:
        _print(text, sys.stderr)
    except OSError:
        give_up(sys.stderr)


def _print(text: str, stream: IO[str]) -> None:
    """Print, with escapes for characters that the stream cannot encode."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
