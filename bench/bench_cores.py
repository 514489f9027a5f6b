"""How much faster would a run be on many cores, by what its stages do on one thread and on two?

    python bench/bench_cores.py FILE.parquet[:ROWS[:LABELS]] [--options="--band any -k 16"] [--rows 1000000] [--runs 3]

Of two threads, seconds in which one waits are twice the stage's seconds less those of the processor: that is what does
not divide. The rest of a stage is taken to divide by the threads. Stages, and what does not divide of them, grow with
rows as they do from half of the file to all of it. All from 8 threads on is a model.
"""

from __future__ import annotations

import json
import math
import shlex
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import data
import mining
from common import launched, question_parser, rounded, write_results

from minestream.config.memory_plan import most_swept

THREADS = (1, 2, 8, 32, 64)
PASSES = 3  # over the codes of a block: they are read, and written and read as panels
STAGED = """
import contextlib, io, json, sys, time
began = time.perf_counter()
from minestream.cli.main import main
from minestream.system.stats import WAITED, ShardStats
spent, plain = {}, ShardStats.stage
@contextlib.contextmanager
def stage(self, name):
    before = time.perf_counter(), time.process_time()
    with plain(self, name):
        yield
    if name != WAITED:
        own = spent.setdefault(name, [0.0, 0.0])
        own[0] += time.perf_counter() - before[0]
        own[1] += time.process_time() - before[1]
ShardStats.stage = stage
with contextlib.redirect_stdout(io.StringIO()):
    code = main(sys.argv[1:])
spent["start and rest"] = [
    all_of_it - sum(own[at] for own in spent.values())
    for at, all_of_it in enumerate((time.perf_counter() - began, time.process_time()))
]
print(json.dumps({"code": code, "stages": spent}))
"""
Stages = dict[str, tuple[float, float]]


def staged(path: Path, out: Path, options: list[str], threads: int, runs: int) -> Stages:
    """Medians of the seconds of each stage, and of its processor seconds."""
    fixed = ["--overwrite", "--progress", "none", "--threads", str(threads)]
    command: list[str | Path] = ["-c", STAGED, "mine", path, "-o", out, *fixed, *options]
    found = [json.loads(launched(command, threads=threads).printed.splitlines()[-1])["stages"] for _ in range(runs)]
    return {name: (median(run[name][0] for run in found), median(run[name][1] for run in found)) for name in found[0]}


def undivided(name: str, one: Stages, two: Stages) -> float:
    """Seconds of a stage that do not divide."""
    alone, (wall, busy) = one[name][0], two[name]
    return min(alone, max(0.0, 2 * wall - busy))


def exponent_of(half: float, whole: float) -> float:
    """How seconds grow with rows, 0 ... 2, by those of half of the rows and of all."""
    return min(2.0, max(0.0, math.log2(max(whole, 1e-6) / max(half, 1e-6))))


def stage_row(name: str, half: list[Stages], whole: list[Stages], times: float) -> dict[str, Any]:
    """What one stage does, of which runs with one and two threads are given, and would at so many times the rows."""
    alone, serial = whole[0][name][0], undivided(name, *whole)
    exponent = exponent_of(half[0][name][0], alone)
    large = alone * times**exponent
    return {
        "stage": name, "one_thread_seconds": alone, "two_thread_seconds": whole[1][name][0],
        "undivided_seconds": serial, "exponent": exponent, "large_seconds": large,
        "large_undivided_seconds": min(large, serial * times ** exponent_of(undivided(name, *half), serial)),
    }  # fmt: skip


def seconds_of(stages: list[dict[str, Any]], threads: int) -> float:
    """Seconds of a large run on so many threads."""
    return sum(
        stage["large_undivided_seconds"] + (stage["large_seconds"] - stage["large_undivided_seconds"]) / threads
        for stage in stages
    )


def main() -> None:
    """Measure half of a file and all of it; write bench/results/cores.json."""
    parser = question_parser(__doc__, runs=3)
    parser.add_argument("file", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("--options", default="", help="of mine")
    parser.add_argument("--rows", type=int, default=1_000_000, help="of the large run (default 1,000,000)")
    given = parser.parse_args()
    mining.warm_up()
    with tempfile.TemporaryDirectory() as folder:
        path, out, options = given.file.written(Path(folder)), Path(folder) / "out.parquet", shlex.split(given.options)
        rows, dimension = data.rows_of(path), data.dimension_of(path)
        half_path = data.DataFile(path, rows // 2).written(Path(folder))
        half, whole = (
            [staged(each, out, options, threads, given.runs) for threads in (1, 2)] for each in (half_path, path)
        )
    stages = [stage_row(name, half, whole, given.rows / rows) for name in whole[0]]
    traffic = PASSES * dimension * given.rows / 2  # of a row, in bytes, were a block of one row
    alone = seconds_of(stages, 1)
    runs = [
        {
            "threads": threads,
            "seconds": took,
            "times": alone / took,
            "bytes_a_second": traffic * given.rows / most_swept(threads) / took,
        }
        for threads, took in ((threads, seconds_of(stages, threads)) for threads in THREADS)
    ]
    print(*map(rounded, stages), *map(rounded, runs), sep="\n")
    write_results(
        given.results, "cores", stages, data=given.file.name, file_rows=rows, dimension=dimension,
        large_rows=given.rows, options=given.options, traffic_a_row=traffic / most_swept(1), runs=runs,
        repeated=given.runs,
    )  # fmt: skip


if __name__ == "__main__":
    main()
