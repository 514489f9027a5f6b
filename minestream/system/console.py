"""The standard streams of a process: a report or a note that they do not take is lost, the work is not."""

from __future__ import annotations

import os
import sys
from typing import IO, Any

from minestream.errors import FULL, CapacityError, MinestreamError, OutputError


def secure() -> None:
    """Put the null device where a standard stream is closed: a file opened later would be written to in its place."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            stream = open(os.devnull, "w" if number else "r", encoding="utf-8")  # noqa: SIM115 (lives as the process)
            setattr(sys, name, stream)


def give_up(stream: IO[Any]) -> None:
    """Let a stream end in the null device: what it still holds would fail again when the interpreter closes it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def refused(error: OSError) -> MinestreamError:
    """What standard output does not take, as an error of ours."""
    kind = CapacityError if error.errno in FULL else OutputError
    return kind(f"standard output takes no more: {error.strerror}", "let it go somewhere else")


def show(text: str) -> None:
    """Print on standard output; a reader who left is no error."""
    try:
        _print(text, sys.stdout)
    except OSError as error:
        give_up(sys.stdout)
        if not isinstance(error, BrokenPipeError):
            raise refused(error) from error


def tell(text: str) -> None:
    """Print on standard error, if that can be."""
    try:
        _print(text, sys.stderr)
    except OSError:
        give_up(sys.stderr)


def _print(text: str, stream: IO[str]) -> None:
    """Print, with escapes for characters that the stream does not have."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), file=stream, flush=True)
