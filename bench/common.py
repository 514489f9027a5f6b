"""What every benchmark shares: where it ran, processes measured from outside, medians, and the file of results.

Only the standard library is imported here, so that a benchmark of processes stays small itself.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

BENCH = Path(__file__).resolve().parent
RESULTS = BENCH / "results"
THREADS = len(os.sched_getaffinity(0))
PAUSE_SECONDS = 0.1  # OpenBLAS's idle threads spin for tens of milliseconds, on the next contender's cores
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS")
UNUSUAL_VARIABLES = (  # the first two change the peers' BLAS, the last makes every process compile its modules anew
    "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "PYTHONDONTWRITEBYTECODE",
)  # fmt: skip
PACKAGES = (
    "minestream", "numpy", "numba", "llvmlite", "pyarrow", "faiss-cpu", "scikit-learn", "torch",
    "sentence-transformers", "datasets", "pytorch-metric-learning",
)  # fmt: skip


@dataclass(frozen=True)
class Run:
    """One process, from its start to its end.

    Attributes
    ----------
    seconds : float
    peak_bytes : int
        The most it had in memory.
    printed : str
        Its standard output.
    """

    seconds: float
    peak_bytes: int
    printed: str


def settled(threads: int) -> dict[str, str]:
    """The environment for a contender: BLAS and OpenMP with that many threads, and with their own choice of kernels."""
    kept = {name: value for name, value in os.environ.items() if name not in UNUSUAL_VARIABLES}
    return kept | dict.fromkeys(THREAD_VARIABLES, str(threads))


def settle_environment() -> None:
    """Start this script again unless its environment is settled.

    The libraries read these variables when they are loaded, so setting them later does nothing.
    """
    wanted = settled(THREADS)
    if wanted != dict(os.environ):
        os.execve(sys.executable, [sys.executable, *sys.argv], wanted)


def launched(
    command: Sequence[str | Path], *, threads: int = THREADS, variables: Mapping[str, str] | None = None
) -> Run:
    """Run a Python command line in a process of its own and measure it from outside.

    Parameters
    ----------
    command : arguments of the interpreter
    threads : BLAS and OpenMP threads it may use
    variables : set in its environment
    """
    whole = [sys.executable, *map(str, command)]
    time.sleep(PAUSE_SECONDS)
    done = subprocess.run(
        [sys.executable, "-S", str(BENCH / "launch.py"), *whole], env=settled(threads) | dict(variables or {}),
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"failed with exit code {done.returncode}: {' '.join(whole)}\n{done.stdout}{done.stderr}")
    printed, measured = done.stdout.rstrip().rsplit("\n", 1)
    return Run(printed=printed, **json.loads(measured))


def environment() -> dict[str, Any]:
    """Processor, cores, memory, versions, commit, load and date, as found."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "cpu": cpu_name(),
        "cores": THREADS,
        "memory_gib": round(pages / 2**30, 1),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": versions(),
        "commit": commit(),
        "load": [round(each, 2) for each in os.getloadavg()],
        "date": datetime.now(UTC).date().isoformat(),
    }


def versions() -> dict[str, str]:
    """The versions of what is installed of PACKAGES."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit that was measured, with -dirty for what is not committed; None outside of a checkout."""
    command = ["git", "-C", str(BENCH), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def cpu_name() -> str:
    """The processor's name for itself, or what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def interleaved(contenders: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each run of each contender, all in this process.

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


def median_ratio(slower: Sequence[float], faster: Sequence[float]) -> float:
    """Median over runs of slower / faster, paired by run."""
    return statistics.median(a / b for a, b in zip(slower, faster, strict=True))


def question_parser(question: str | None, *, runs: int) -> argparse.ArgumentParser:
    """A command line with what all benchmarks take; `question` is the docstring of the script."""
    parser = argparse.ArgumentParser(description=question, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=runs, help=f"runs of each contender, in turn (default {runs})")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the results (default bench/results)")
    return parser


def write_results(folder: Path, name: str, rows: list[dict[str, Any]], **more: Any) -> None:
    """Write `<folder>/<name>.json`: the environment, one object per measured row, and what else is given."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps({"environment": environment(), "rows": rounded(rows), **rounded(more)}, indent=1) + "\n")
    print(f"wrote {path}")


def rounded(value: Any) -> Any:
    """The value with every float in it cut to five digits: more was not measured."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value
