"""How long does mining take end to end, beside a whole exact search that only finds neighbours?

    python bench/bench_mine.py FILE.parquet [FILE.parquet ...] [--rows N] [--runs 3] [-k 16]

minestream is timed as a user starts it: a new process, Parquet in, Parquet out, warm kernel cache. The peer is timed
in this process and without reading or labels: its search alone. Runs are interleaved; ratios are of medians.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import median_ratio, settle_environment, write_results

settle_environment()

import numpy as np  # noqa: E402 (after the environment is settled)
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from peers import faiss_flat  # noqa: E402

THREADS = len(os.sched_getaffinity(0))


def read(path: Path, rows: int | None) -> pa.Table:
    """The id, label and embedding of a prefix of a file."""
    table = pq.read_table(path, columns=["id", "label", "embedding"])
    return table if rows is None else table.slice(0, rows)


def matrix(table: pa.Table) -> np.ndarray:
    """The embeddings (n, d)."""
    column = table["embedding"].combine_chunks()
    return np.array(column.flatten().to_numpy().reshape(-1, column.type.list_size), np.float32)


def mined(path: Path, folder: Path, options: list[str]) -> tuple[float, int]:
    """Seconds and peak bytes of one whole run of the command."""
    command = [sys.executable, "-m", "minestream", "mine", str(path), "-o", str(folder / "out.parquet"), "--overwrite",
               "--progress", "none", "--json", "--threads", str(THREADS), *options]  # fmt: skip
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise SystemExit(f"failed: {' '.join(command)}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024


def validate(unit: np.ndarray, k: int) -> None:
    """Compare the peer's similarities of 200 rows with float64 brute force before it is timed."""
    rows = np.linspace(0, len(unit) - 1, 200).astype(int)
    found = np.sort(faiss_flat.search(unit, k)[0][rows], axis=1)
    expected = np.sort(unit[rows].astype(np.float64) @ unit.T.astype(np.float64), axis=1)[:, -k:]
    if np.abs(found - expected).max() > 1e-5:
        raise SystemExit("the peer's answer is wrong: not timed")


def measure(path: Path, rows: int | None, k: int, runs: int) -> list[dict[str, Any]]:
    """The rows of one data set: nearest negatives, and the default command."""
    table = read(path, rows)
    unit = faiss_flat.prepare(matrix(table), THREADS)
    results = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = folder / path.name
        pq.write_table(table, source, row_group_size=8192)
        jobs = {"nearest": ["--band", "any", "-k", str(k)], "default": []}
        for options in jobs.values():
            mined(source, folder, [*options, "--anchors", "1"])  # warms the kernel cache
        validate(unit[:20_000], k)
        seconds: dict[str, list[float]] = {name: [] for name in (*jobs, "faiss")}
        peaks: dict[str, int] = {}
        for _ in range(runs):
            for job, options in jobs.items():
                seconds_taken, peaks[job] = mined(source, folder, options)
                seconds[job].append(seconds_taken)
            start = time.perf_counter()
            faiss_flat.search(unit, k)
            seconds["faiss"].append(time.perf_counter() - start)
    n, d = unit.shape
    for job in jobs:
        took = float(np.median(seconds[job]))
        results.append(
            {
                "data": path.stem, "rows": n, "dimension": d, "k": k if job == "nearest" else 1, "job": job,
                "minestream_seconds": took, "faiss_seconds": float(np.median(seconds["faiss"])),
                "ratio": median_ratio(seconds["faiss"], seconds[job]), "peak_bytes": peaks[job],
                "gf_eq": 2 * n * n * d / took / 1e9, "runs": runs,
            }
        )  # fmt: skip
        print(results[-1], flush=True)
    return results


def main() -> None:
    """Measure every file and write bench/results/mine.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--rows", type=int)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("-k", type=int, default=16)
    given = parser.parse_args()
    results = [row for path in given.files for row in measure(path, given.rows, given.k, given.runs)]
    print(write_results("mine", results))


if __name__ == "__main__":
    main()
