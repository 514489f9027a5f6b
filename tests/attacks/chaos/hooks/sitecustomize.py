"""Python loads this first in an attacked process: it notes what is done to files, ends it there, lies about the time.

CHAOS_LOG is where changes of the files under CHAOS_FOLDER are noted, a line each, the first when the command is loaded;
before change CHAOS_MOMENT, a number from 1 or what its line must match, the process ends by SIGKILL. CHAOS_CLOCK is a
list of seconds by which time.time() is off, each for a while.
"""

import os
import re
import signal
import sys
import time
from contextlib import suppress

CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.link", "os.truncate"}
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
JUMP_SECONDS = 0.2


def watch(folder: str, log: int, moment: str) -> None:
    """Note every change under `folder` and end the process before change number `moment`."""
    count = 0

    def noticed(event: str, args: tuple[object, ...]) -> None:
        nonlocal count
        if event == "import" and args[0] == "minestream.cli":
            paths = [folder]
        elif event in CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & WRITES):
            paths = [os.path.abspath(os.fspath(path)) for path in args[:2] if isinstance(path, str | os.PathLike)]
        else:
            return
        if any(str(path).startswith(folder) for path in paths):
            count += 1
            line = f"{event} {paths[-1] if event == 'os.rename' else paths[0]}"
            with suppress(OSError):  # a limit on the size of files is one on this file, too
                os.write(log, f"{line}\n".encode())
            if count == int(moment) if moment.isdigit() else re.search(moment, line):
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(noticed)


def falsify(offsets: list[float]) -> None:
    """Let time.time() jump by each of `offsets` in turn; the monotonic clock goes on."""
    real, started = time.time, time.monotonic()
    time.time = lambda: real() + offsets[int((time.monotonic() - started) / JUMP_SECONDS) % len(offsets)]


if "CHAOS_LOG" in os.environ:
    watch(
        os.environ["CHAOS_FOLDER"],
        os.open(os.environ["CHAOS_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666),
        os.environ["CHAOS_MOMENT"],
    )
if "CHAOS_CLOCK" in os.environ:
    falsify([float(each) for each in os.environ["CHAOS_CLOCK"].split()])
