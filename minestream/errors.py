"""Error classes: each message says what is wrong, where, and what to do; each class has its exit code."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from pathlib import Path
from traceback import extract_tb
from typing import ClassVar

# Characters that control a terminal or reverse the direction of text, and lone surrogates.
_CONTROL = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "verify found a difference, or a damaged file",
    2: "usage: an option or a combination of options",
    3: "input: a file, a column or a row",
    4: "capacity: memory, scratch or output space, or --max-rows",
    5: "output: exists, is an input, cannot be written; or a resume differs",
    6: "a gate was missed (--require-rows, --max-short)",
    70: "a defect of minestream: please report it",
    75: "transient input or output failure: try again",
    130: "interrupted",
}
TRACEBACK = "MINESTREAM_TRACEBACK"  # the environment variable that asks for the traceback of a defect
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # errors of a disk that is full
SPEAKS_OPTIONS = ContextVar("speaks options", default=False)


@contextmanager
def speaking_options() -> Iterator[None]:
    """Within it errors and notes name command-line options; elsewhere they name Python's keywords."""
    before = SPEAKS_OPTIONS.set(True)
    try:
        yield
    finally:
        SPEAKS_OPTIONS.reset(before)


class MinestreamError(Exception):
    """Base of every error a user can cause or meet.

    Parameters
    ----------
    message : str
        What is wrong, and where.
    hint : str, optional
        What to do about it.
    """

    exit_code: ClassVar[int] = 70

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__()
        self.args = message, hint  # set here, since OSError would take them as errno and strerror

    @staticmethod
    def spelled(text: str) -> str:
        """A text that names options, in the caller's words; config/border.py replaces this."""
        return text

    @property
    def message(self) -> str:
        """What is wrong, and where."""
        return self.spelled(self.args[0])

    @property
    def hint(self) -> str:
        """What to do about it, or nothing."""
        return self.spelled(self.args[1])

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class VerifyMismatchError(MinestreamError):
    """A mined file differs from its checksums or from what the reference derives."""

    exit_code = 1


class UsageError(MinestreamError, ValueError):
    """An option, or a combination of options, that means nothing here."""

    exit_code = 2


class InputError(MinestreamError, ValueError):
    """A file, column or row that cannot be mined."""

    exit_code = 3


class CapacityError(MinestreamError):
    """A plan that does not fit, or space that ran out."""

    exit_code = 4


class OutputError(MinestreamError, OSError):
    """An output that exists, is locked, or does not match what is resumed."""

    exit_code = 5


class GateMissedError(MinestreamError):
    """The run is complete but missed a gate: nothing is published, the parts are kept."""

    exit_code = 6


class TransientError(MinestreamError, OSError):
    """Input or output failed in a way that may pass."""

    exit_code = 75


class RunInterruptedError(MinestreamError):
    """The run was interrupted: finished parts are kept, if there are any."""

    exit_code = 130


class DefectError(MinestreamError):
    """A bug in minestream, never the user's mistake."""

    exit_code = 70


class ForkedProcessError(MinestreamError, RuntimeError):
    """A call that cannot work in a forked child process."""

    exit_code = 2


# Former names, kept for one more version.
VerifyMismatch, GateMissed, ForkedProcess = VerifyMismatchError, GateMissedError, ForkedProcessError
Interrupted, Defect = RunInterruptedError, DefectError


def defect(error: BaseException) -> DefectError:
    """An unforeseen error as a DefectError, which says where it was raised and how to report it."""
    frames = extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return DefectError(
        f"this should not have happened: {type(error).__name__}: {error}{where}",
        f"a defect of minestream: please report it with the command, what it prints with {TRACEBACK}=1 set, "
        "and what `minestream doctor` prints",
    )


def printable(text: str) -> str:
    """Text for a terminal, with control characters as escapes: names and labels in files may hold anything."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def is_text(text: str) -> bool:
    """Whether UTF-8 can hold a text: texts of Python may have lone surrogates."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def is_near(flag: str, other: str) -> bool:
    """Whether one option may be meant by another: it begins so, or looks so without its dashes."""
    return other.startswith(flag) or bool(get_close_matches(flag.lstrip("-"), [other.lstrip("-")]))


def nearest(name: str, known: list[str]) -> str:
    """The question whether the nearest of `known` is meant, with a space behind it; "" where none is near."""
    close = get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}? " if close else ""


def nearest_name(name: str, known: list[str]) -> str:
    """A remedy line for an unknown `name`: the nearest of `known`, then all of them."""
    return f"{nearest(name, known)}known: {', '.join(known)}"
