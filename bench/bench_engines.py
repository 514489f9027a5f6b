"""What do dask and Ray cost over one process with as many cores, beyond their start-up, and are the bytes the same?

    python bench/bench_engines.py FILE.parquet[:ROWS[:LABELS]] [--workers 1 2] [--runs 1] [OPTIONS of mine]

Two jobs: the file as one table, where a product serves both of its rows, also among workers and slices that search
together, and the file as queries of itself (--corpus). Each engine has one worker with all threads, and as many as are
asked for that share them; slices are as many processes at once without any engine, and their merge. Start-up is what an
engine takes longer over the bundled sample of digits, whose reading and mining take no time; products are those of all
processes over those of one.
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
LEAST = {"local": 1, "slices": 2, "dask": 1, "ray": 1}  # workers


def products_of(mined: mining.Mined) -> int:
    """The products of two rows that a run computed."""
    products: int = mined.report["result"]["effort"]["pairs_computed"]
    return products


def mine_slices(source: Path, out: Path, workers: int, options: Sequence[str]) -> tuple[float, int]:
    """Seconds of as many processes at once, a slice and a share of the threads each, and of the merge; products."""
    began = time.perf_counter()

    def mine(number: int) -> int:
        shard = ["--shard", f"{number}/{workers}", *options]
        return products_of(mining.mine(source, out, shard, threads=max(1, THREADS // workers)))

    with ThreadPoolExecutor(workers) as pool:
        products = sum(pool.map(mine, range(1, workers + 1)))
    launched(["-m", "minestream", "merge", out, "--overwrite", "--progress", "none"])
    seconds = time.perf_counter() - began
    rmtree(out.parent / f"{out.name}.slices")
    return seconds, products


def measured_of(engine: str, workers: int, source: Path, out: Path, options: Sequence[str]) -> tuple[float, int]:
    """Seconds of a run, from process start to its end, and its products."""
    if engine == "slices":
        return mine_slices(source, out, workers, options)
    asked = [] if engine == "local" else ["--engine", engine, "--workers", str(workers)]
    mined = mining.mine(source, out, [*asked, *options])
    return mined.seconds, products_of(mined)


def main() -> None:
    """Measure every engine that is installed on both jobs, runs interleaved; write bench/results/engines.json."""
    parser = question_parser(__doc__, runs=1)
    parser.add_argument("file", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("--jobs", choices=("table", "corpus"), nargs="+", default=["table", "corpus"])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of workers to measure")
    given, options = parser.parse_known_args()
    ways = [
        (engine, workers)
        for engine, package in PACKAGES.items()
        if importlib.util.find_spec(package)
        for workers in ([1] if engine == "local" else given.workers)
        if workers >= LEAST[engine]
    ]
    mining.warm_up()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, sample, out = given.file.written(folder), folder / "digits.parquet", folder / "out.parquet"
        run_command(["sample", str(sample)])
        every = {"table": ("one table", []), "corpus": ("queries and corpus", ["--corpus", str(source)])}
        jobs = dict(every[name] for name in given.jobs)
        measured: dict[tuple[str, str, int], list[float]] = {}
        sums: dict[tuple[str, str, int], int] = {}
        products: dict[tuple[str, str, int], int] = {}
        for _ in range(given.runs):
            for way in ways:
                measured.setdefault(("start", *way), []).append(measured_of(*way, sample, out, [])[0])
                for job, more in jobs.items():
                    seconds, products[job, *way] = measured_of(*way, source, out, [*more, *options])
                    measured.setdefault((job, *way), []).append(seconds)
                    sums[job, *way] = zlib.crc32(out.read_bytes())
        for job in jobs:
            local = median(measured[job, "local", 1])
            for way in ways:
                seconds = median(measured[job, *way])
                start = median(measured["start", *way]) - median(measured["start", "local", 1])
                rows.append(
                    {"data": given.file.name, "rows": data.rows_of(source), "dimension": data.dimension_of(source),
                     "job": job, "engine": way[0], "workers": way[1], "seconds": seconds, "start_seconds": start,
                     "overhead": (seconds - start) / local - 1, "over_local": seconds / local,
                     "products": products[job, *way] / products[job, "local", 1],
                     "same_bytes": sums[job, *way] == sums[job, "local", 1], "runs": given.runs,
                     "all_seconds": measured[job, *way]}
                )  # fmt: skip
                print(rounded(rows[-1]))
    write_results(given.results, "engines", rows)


if __name__ == "__main__":
    main()
