"""Where scratch files go: the folder that was asked for, or the system's for temporary files."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from minestream.errors import CapacityError, UsageError


def scratch_root(asked: str | None) -> Path:
    """The folder for scratch files.

    Raises
    ------
    UsageError
        When what is asked for is no folder.
    CapacityError
        When the system has none that can be written.
    """
    if asked and not os.path.isdir(asked):
        raise UsageError(f"--scratch {asked} is no folder", "make it first")
    with _refusals():
        return Path(asked or tempfile.gettempdir())


@contextmanager
def scratch_folder(asked: str | None) -> Iterator[Path]:
    """A folder of our own in scratch_root(asked), which goes away; raises as that does."""
    root = scratch_root(asked)
    with _refusals():
        folder = tempfile.TemporaryDirectory(dir=root)
    with folder as name:
        yield Path(name)


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        what = f"no folder for temporary files can be made: {error.strerror}"
        raise CapacityError(what, "free some space, or name another by --scratch or TMPDIR") from error
