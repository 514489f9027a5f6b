"""What do dask and Ray cost over one process with as many cores, beyond their start-up, and are the bytes the same?

    python bench/bench_engines.py FILE.parquet[:ROWS[:LABELS]] [--workers 1 2] [--runs 1] [OPTIONS of mine]

Two jobs: the file as one table, where one process computes each product once for both of its rows and several do not,
and the file as queries of itself (--corpus), where nothing is lost. Each engine has one worker with all threads, and
two that share them; slices are two processes without any engine, and their merge: what the cutting alone costs.
Start-up is what an engine takes longer over the bundled sample of digits, whose reading and mining take no time.
"""

from __future__ import annotations

import importlib.util
import tempfile
import time
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from shutil import rmtree
from statistics import median
from typing import Any

import data
import mining
from common import THREADS, launched, question_parser, rounded, write_results

from minestream.cli.main import main as run_command

PACKAGES = {"local": "minestream", "slices": "minestream", "dask": "distributed", "ray": "ray"}
WORKERS = {"local": (1,), "slices": (2,), "dask": (1, 2), "ray": (1, 2)}


def mine_slices(source: Path, out: Path, workers: int, options: Sequence[str]) -> float:
    """Seconds of as many processes at once, a slice and a share of the threads each, and of the merge."""
    began = time.perf_counter()

    def mine(number: int) -> None:
        shard = ["--shard", f"{number}/{workers}", *options]
        mining.mine(source, out, shard, threads=max(1, THREADS // workers))

    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(mine, range(1, workers + 1)))
    launched(["-m", "minestream", "merge", out, "--overwrite", "--progress", "none"])
    seconds = time.perf_counter() - began
    rmtree(out.parent / f"{out.name}.slices")
    return seconds


def seconds_of(engine: str, workers: int, source: Path, out: Path, options: Sequence[str]) -> float:
    """Seconds of a run, from process start to its end."""
    if engine == "slices":
        return mine_slices(source, out, workers, options)
    asked = [] if engine == "local" else ["--engine", engine, "--workers", str(workers)]
    return mining.mine(source, out, [*asked, *options]).seconds


def main() -> None:
    """Measure every engine that is installed on both jobs, runs interleaved; write bench/results/engines.json."""
    parser = question_parser(__doc__, runs=1)
    parser.add_argument("file", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers to measure")
    given, options = parser.parse_known_args()
    ways = [
        (engine, workers)
        for engine, package in PACKAGES.items()
        if importlib.util.find_spec(package)
        for workers in WORKERS[engine]
        if engine == "local" or workers in given.workers
    ]
    mining.warm_up()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, sample, out = given.file.written(folder), folder / "digits.parquet", folder / "out.parquet"
        run_command(["sample", str(sample)])
        jobs = {"one table": [], "queries and corpus": ["--corpus", str(source)]}
        measured: dict[tuple[str, str, int], list[float]] = {}
        sums: dict[tuple[str, str, int], int] = {}
        for _ in range(given.runs):
            for way in ways:
                measured.setdefault(("start", *way), []).append(seconds_of(*way, sample, out, []))
                for job, more in jobs.items():
                    measured.setdefault((job, *way), []).append(seconds_of(*way, source, out, [*more, *options]))
                    sums[job, *way] = zlib.crc32(out.read_bytes())
        for job in jobs:
            local = median(measured[job, "local", 1])
            for way in ways:
                seconds = median(measured[job, *way])
                start = median(measured["start", *way]) - median(measured["start", "local", 1])
                rows.append(
                    {"data": given.file.name, "rows": data.rows_of(source), "dimension": data.dimension_of(source),
                     "job": job, "engine": way[0], "workers": way[1], "seconds": seconds, "start_seconds": start,
                     "overhead": (seconds - start) / local - 1,
                     "same_bytes": sums[job, *way] == sums[job, "local", 1], "runs": given.runs,
                     "all_seconds": measured[job, *way]}
                )  # fmt: skip
                print(rounded(rows[-1]))
    write_results(given.results, "engines", rows)


if __name__ == "__main__":
    main()
