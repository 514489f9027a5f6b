"""What can go wrong, as classes: each says what, where and what to do, and carries the command line's exit code."""

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

# What steers a terminal, reverses what follows, or is no character at all.
_STEERING = re.compile("[\0-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
EXIT_CODES: dict[int, str] = {
    0: "done",
    1: "verify found a difference",
    2: "usage: an option or a combination of options",
    3: "input: a file, a column or a row",
    4: "capacity: memory, scratch or output space",
    5: "output: exists, is an input, cannot be written; or a resume differs",
    6: "a gate was missed (--require-rows, --max-short)",
    70: "a defect of minestream: please report it",
    75: "transient input or output failure: try again",
    130: "interrupted",
}
TRACEBACK = "MINESTREAM_TRACEBACK"  # the variable that asks for where a defect was met
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk says that takes no more


SPEAKS_OPTIONS = ContextVar("speaks options", default=False)


@contextmanager
def speaking_options() -> Iterator[None]:
    """Within it errors and notes name options as the command line does; elsewhere they name Python's keywords."""
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
        self.args = message, hint  # set here, since an OSError would take them for its errno and strerror

    @staticmethod
    def spelled(text: str) -> str:
        """What is written with options, in the words of whoever reads it: config/border.py says how."""
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
    """The run was interrupted: finished parts are kept."""

    exit_code = 130


class DefectError(MinestreamError):
    """Something that no rule of minestream foresees: never the user's mistake."""

    exit_code = 70


class ForkedProcessError(MinestreamError, RuntimeError):
    """Something that cannot work in a forked child was asked of one."""

    exit_code = 2


# Former names, for one version more.
VerifyMismatch, GateMissed, ForkedProcess = VerifyMismatchError, GateMissedError, ForkedProcessError
Interrupted, Defect = RunInterruptedError, DefectError


def defect(error: BaseException) -> DefectError:
    """An error that nothing here foresees, with its place, and what to do about it."""
    frames = extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return DefectError(
        f"this should not have happened: {type(error).__name__}: {error}{where}",
        f"a defect of minestream: please report it with the command and what it prints with {TRACEBACK}=1 set",
    )


def printable(text: str) -> str:
    """Text for a terminal: names and labels of files may hold anything, and control characters appear as escapes."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def is_text(text: str) -> bool:
    """Whether a file can hold it: Python's own texts may have lone surrogates, which UTF-8 has not."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def nearest_name(name: str, known: list[str]) -> str:
    """A remedy line for an unknown `name`: the nearest of `known`, then all of them."""
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    suggestion = f"did you mean {close[0]!r}? " if close else ""
    return f"{suggestion}known: {', '.join(known)}"
