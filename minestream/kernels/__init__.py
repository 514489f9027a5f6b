"""Compiled loops over arrays. They know nothing of files or options; a metric is a number.

This file chooses the folder that compiled kernels are kept in, and imports neither numpy nor numba.
"""

from __future__ import annotations

import os
import stat
import tempfile
from functools import cache
from pathlib import Path

CACHE_VARIABLE = "MINESTREAM_CACHE_DIR"


@cache
def cache_root() -> Path | None:
    """The folder for compiled kernels, chosen once per process, or None when no folder can be written.

    Returns
    -------
    pathlib.Path or None
        The first of these that can be created and written, by this user and root alone: `$MINESTREAM_CACHE_DIR`;
        `$XDG_CACHE_HOME/minestream` (or `~/.cache/minestream`); a folder in the temporary directory that
        this user owns and nobody else may enter.

    Notes
    -----
    What is loaded from this folder is run, so whoever may write to it is trusted: a folder that group or others may
    write to, or that somebody else owns, is passed over.
    """
    asked = os.environ.get(CACHE_VARIABLE)
    if asked and (folder := _made(_asked_folder(asked))):
        return folder
    base = os.environ.get("XDG_CACHE_HOME")
    parent = Path(base if base and os.path.isabs(base) else os.path.expanduser("~/.cache"))
    if parent.is_absolute() and (folder := _made(parent / "minestream")):
        return folder
    user = os.getuid() if hasattr(os, "getuid") else "user"
    try:
        return _made(Path(tempfile.gettempdir()) / f"minestream-{user}", shared=True)
    except OSError:  # not one place for temporary files
        return None


def cache_note() -> str:
    """One line to print when compiled kernels cannot be kept, or not where they were asked to be; else ""."""
    asked, root = os.environ.get(CACHE_VARIABLE), cache_root()
    if root is None:
        return f"no writable cache folder: kernels are compiled anew by every process; set {CACHE_VARIABLE}"
    if asked and root != _asked_folder(asked):
        return f"{CACHE_VARIABLE} ({asked}) is not used: it must be a folder that only you can write to; {root} is"
    return ""


def _asked_folder(asked: str) -> Path:
    return Path(os.path.expanduser(asked)).absolute()


def _made(folder: Path, shared: bool = False) -> Path | None:
    """The folder, made where it is missing; None where it is not ours alone. In a `shared` one names may be taken."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat() if shared else folder.stat()
        if not _is_ours(found, 0o077 if shared else 0o022):
            return None
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return None
    return folder


def _is_ours(found: os.stat_result, forbidden: int) -> bool:
    """Whether it is a folder of this user, or of root, without `forbidden` permissions."""
    if not hasattr(os, "getuid"):
        return True
    owned = found.st_uid in (os.getuid(), 0)
    return stat.S_ISDIR(found.st_mode) and owned and not found.st_mode & forbidden
