"""Writing files whole or not at all: renames, flushes, locks, errors of the disk."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from minestream.errors import FULL, CapacityError, OutputError, TransientError
from minestream.system.paths import AnyPath, RemotePath

PASSING = (errno.EIO, errno.ETIMEDOUT)


@contextmanager
def disk_errors(path: Path, needed_bytes: int | None = None) -> Iterator[None]:
    """Turn errors of the disk that holds `path` into CapacityError, TransientError or OutputError."""
    try:
        yield
    except OSError as error:
        if error.errno in FULL:
            what = "no larger file is allowed (ulimit -f)" if error.errno == errno.EFBIG else "no space left"
            needed = "" if needed_bytes is None else f"about {needed_bytes:,} bytes are needed, "
            free = shutil.disk_usage(path.parent).free
            raise CapacityError(
                f"{what} while writing {path.name}: {needed}{free:,} bytes are free in {path.parent}", "free some space"
            ) from error
        if error.errno in PASSING:
            raise TransientError(f"writing {path} failed: {error.strerror}", "try again") from error
        if error.errno is None:  # not of the system: a reader's, or one of ours
            raise
        hint = "check its folder, then try again"
        raise OutputError(f"writing {path} failed: {error.strerror}", hint) from error


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: AnyPath, values: dict[str, Any], temporary: Path | None = None) -> None:
    """Write `values` whole or not at all; on a disk under the name `temporary` first."""
    text = json.dumps(values, indent=1, sort_keys=True)
    if isinstance(path, RemotePath):
        path.write_bytes(text.encode())
        return
    temporary = temporary or path.with_suffix(".tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


def take_lock(handle: int, final: Path) -> None:
    """Lock an open file until it is closed, or raise OutputError when another process holds the lock."""
    with suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # A run that ended meanwhile took the folder, and this lock with it, away.
        if os.fstat(handle).st_nlink:
            return
    raise OutputError(f"another process is writing {final}", "wait for it, or choose another name")
