"""Scratch folders, and giving memory back to the system."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from minestream.errors import FULL, CapacityError, OutputError, UsageError

FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def scratch_root(asked: str | None) -> Path:
    """The folder for scratch files.

    Raises
    ------
    UsageError
        When `asked` is no folder.
    CapacityError
        When the system has no writable folder for temporary files.
    """
    if asked and not os.path.isdir(asked):
        raise UsageError(f"--scratch {str(asked)!r} is no folder", "make it first")
    try:
        return Path(asked or tempfile.gettempdir())
    except OSError as error:
        what = f"no folder for temporary files can be made: {error.strerror}"
        raise CapacityError(what, "free some space, or name another by --scratch or TMPDIR") from error


@contextmanager
def scratch_folder(asked: str | None) -> Iterator[Path]:
    """A new folder in scratch_root(asked), removed at the end; raises what scratch_root and scratch_errors raise."""
    root = scratch_root(asked)
    with scratch_errors(root):
        folder = tempfile.TemporaryDirectory(dir=root)
    with folder as name:
        yield Path(name)


def release_memory() -> None:
    """Give memory that Arrow and the C library no longer use back to the system, where it lets us."""
    pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


@contextmanager
def scratch_errors(folder: Path) -> Iterator[None]:
    """Raise CapacityError when the scratch folder is full, OutputError when nobody may write there."""
    try:
        yield
    except OSError as error:
        if error.errno in FORBIDDEN:
            hint = "--scratch or TMPDIR names another"
            raise OutputError(f"the scratch folder {folder} cannot be written: {error.strerror}", hint) from error
        free = f"; {shutil.disk_usage(folder).free:,} bytes are free" if folder.exists() else ""
        why = "no space left" if error.errno in FULL else error.strerror or str(error)
        raise CapacityError(
            f"the scratch folder {folder} cannot take more data: {why}{free}",
            "point --scratch to a folder with more space, or raise --memory",
        ) from error
