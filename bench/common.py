"""What every benchmark shares: a settled environment, where it ran, medians, and the file of results."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
BLAS_THREADS = 2
PAUSE_SECONDS = 0.1  # OpenBLAS's idle threads spin for tens of milliseconds, on the next contender's cores
PACKAGES = ("minestream", "numpy", "numba", "llvmlite", "pyarrow", "faiss-cpu", "scikit-learn", "torch")


def settle_environment() -> None:
    """Start this script again unless BLAS has its two threads and picks its own kernels.

    The libraries read these variables when they are loaded, so setting them later does nothing.
    """
    threads = dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), str(BLAS_THREADS))
    wanted = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"} | threads
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.argv], wanted)


def environment() -> dict[str, Any]:
    """Processor, cores, memory, versions and date, as found."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": round(pages / 2**30, 1),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": versions,
        "blas_threads": BLAS_THREADS,
        "date": datetime.now(UTC).date().isoformat(),
    }


def cpu_name() -> str:
    """The processor's name for itself, or what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def interleaved(contenders: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each contender.

    They take turns within every run, so that a slow minute of the machine hits all of them; each is called
    once before, untimed.
    """
    for contend in contenders.values():
        contend()
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(runs):
        for name, contend in contenders.items():
            time.sleep(PAUSE_SECONDS)
            start = time.perf_counter()
            contend()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def median_ratio(slower: list[float], faster: list[float]) -> float:
    """Median over runs of slower / faster, paired by run."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def write_results(name: str, rows: list[dict[str, Any]]) -> Path:
    """Write `results/<name>.json`: the environment and one object per measured row."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"environment": environment(), "rows": rows}, indent=1) + "\n")
    return path
