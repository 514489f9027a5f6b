"""What the machine has: free memory, and the name of its processor."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def free_bytes() -> int:
    """Bytes of memory that the machine, or the control group of this process, has free; at least 256 MiB."""
    pages = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    available = [pages, *_meminfo(), *_cgroup()]
    return max(2**28, min(available[1:]) if len(available) > 1 else pages)


def processor_name() -> str:
    """What the maker calls the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _meminfo() -> list[int]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
    except OSError:
        return []


def _cgroup() -> list[int]:
    found = []
    for limit, used in (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
        ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(int(Path(limit).read_text()) - int(Path(used).read_text()))
        except (OSError, ValueError):
            continue
    return [free for free in found if 0 < free < 2**50]
