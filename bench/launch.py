"""Run a command; print, on a last line behind what it prints, its seconds and peak bytes as JSON.

    python -S bench/launch.py PROGRAM ARGUMENT...

A process of its own because Linux counts into a child's peak what its parent had in memory when it started the child:
a benchmark that holds arrays would measure itself.
"""

from __future__ import annotations

import json
import os
import sys
import time


def main() -> None:
    """Start, wait, print; leaves with the command's exit code when that is not 0."""
    start = time.perf_counter()
    child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
    _, status, usage = os.wait4(child, 0)
    seconds = time.perf_counter() - start
    code = os.waitstatus_to_exitcode(status)
    if code:
        sys.exit(code if code > 0 else 128 - code)
    print("\n" + json.dumps({"seconds": seconds, "peak_bytes": usage.ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
