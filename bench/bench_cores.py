"""How much faster would a run be on many cores? Runs with as many threads, on the cores that there are.

    python bench/bench_cores.py FILE.parquet[:ROWS[:LABELS]] [--options="--band any -k 16"] [--threads 8 32] [--runs 2]

Threads of a run that has more of them than there are cores take turns. Every few milliseconds those are counted that
run or wait for a core. Of the time until then they had as many cores as there are, or as they are; had each one of its
own, it would have been that many times shorter. Where other processes took a share of the cores, all is shorter by that
share. So these seconds hold what does not divide, threads that wait for the last one, and what more threads do more of.

They are too many where threads wait for each other often: who is woken waits for its turn, milliseconds in which
others end what there is to do, and with a core of its own it would not. So there is a second figure, too few: all
divides but the moments of a run with two threads in which at most one could run. What cores share is in neither: the
bandwidth of the memory, caches, the clock rate. Linux only.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import data
import mining
from common import THREADS as CORES
from common import question_parser, rounded, settled, write_results

ONE, TWO, MORE = 1, 2, [8, 32, 64]  # threads
INTERVAL_SECONDS = 0.004
REST = "start and rest"
RUNNING = b"RD"  # runs or waits for a core; waits for memory
STAGED = f"""
import contextlib, io, json, sys, threading, time
marks, within = [], ["{REST}"]
from minestream.cli.main import main
from minestream.system.stats import WAITED, ShardStats
plain = ShardStats.stage
@contextlib.contextmanager
def stage(self, name):
    own = name != WAITED and threading.current_thread() is threading.main_thread()
    if own:
        within.append(name)
        marks.append((time.perf_counter(), name))
    with plain(self, name):
        yield
    if own:
        within.pop()
        marks.append((time.perf_counter(), within[-1]))
ShardStats.stage = stage
with contextlib.redirect_stdout(io.StringIO()):
    code = main(sys.argv[2:])
with open(sys.argv[1], "w") as file:
    json.dump(marks, file)
sys.exit(code)
"""


class Moment(NamedTuple):
    """What a process did since the moment before."""

    end: float  # by time.perf_counter
    seconds: float
    busy: float  # processor seconds
    running: int  # threads that could run, at its end


def moments(process: subprocess.Popen[bytes]) -> Iterator[Moment]:
    """Watch a process until it ends."""
    clock = (~process.pid << 3) | 2  # of its processor seconds, as clock_getcpuclockid() makes it
    tasks, states = Path(f"/proc/{process.pid}/task"), dict[str, int]()
    before, busy_before = time.perf_counter(), 0.0
    while process.poll() is None:
        try:
            running, busy = sum(_running(tasks, task, states) for task in os.listdir(tasks)), time.clock_gettime(clock)
        except OSError:  # it has ended
            break
        now = time.perf_counter()
        yield Moment(now, now - before, busy - busy_before, running)
        before, busy_before = now, busy
        time.sleep(INTERVAL_SECONDS)
    for descriptor in states.values():
        os.close(descriptor)


def _running(tasks: Path, task: str, states: dict[str, int]) -> bool:
    """Whether a thread can run; `states` are open files."""
    try:
        if task not in states:
            states[task] = os.open(tasks / task / "stat", os.O_RDONLY)
        stat = os.pread(states[task], 512, 0)
    except OSError:  # the thread has ended
        if task in states:
            os.close(states.pop(task))
        return False
    return stat[stat.rindex(b")") + 2] in RUNNING


class Stage(NamedTuple):
    """Seconds of a stage: had each thread a core; of these, in which at most one could run; of the processor."""

    seconds: float
    alone: float
    busy: float


def staged(path: Path, out: Path, options: Sequence[str], threads: int) -> dict[str, Stage]:
    """The stages of one run."""
    fixed = ["--overwrite", "--progress", "none", "--threads", str(threads)]
    told = out.with_suffix(".json")
    command = [sys.executable, "-c", STAGED, str(told), "mine", str(path), "-o", str(out), *fixed, *options]
    with subprocess.Popen(command, env=settled(1)) as process:
        seen = list(moments(process))
    if process.returncode:
        raise SystemExit(f"failed with exit code {process.returncode}: {' '.join(command[4:])}")
    marks = [(0.0, REST), *map(tuple, json.loads(told.read_text())), (float("inf"), REST)]
    seconds, alone, busy = Counter[str](), Counter[str](), Counter[str]()
    at, cores_used = 0, 0.0
    for moment in seen:
        while marks[at + 1][0] <= moment.end:
            at += 1
        name, cores = marks[at][1], min(moment.running, CORES)
        took = moment.seconds * cores / moment.running if cores else moment.seconds
        seconds[name] += took
        alone[name] += took * (moment.running <= 1)
        busy[name] += moment.busy
        cores_used += cores * moment.seconds
    share = sum(busy.values()) / cores_used
    return {name: Stage(share * seconds[name], share * alone[name], busy[name]) for name in seconds}


def medians(runs: Sequence[dict[str, Stage]]) -> dict[str, Stage]:
    """The medians of several runs."""
    nothing = Stage(0.0, 0.0, 0.0)
    names = list(dict.fromkeys(name for run in runs for name in run))
    return {
        name: Stage._make(map(median, zip(*(run.get(name, nothing) for run in runs), strict=True))) for name in names
    }


def seconds_of(run: dict[str, Stage]) -> list[float]:
    """Of each stage."""
    return [stage.seconds for stage in run.values()]


def main() -> None:
    """Measure a file with all numbers of threads; write bench/results/cores.json."""
    parser = question_parser(__doc__, runs=2)
    parser.add_argument("file", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("--options", default="", help="of mine")
    parser.add_argument("--threads", type=int, nargs="*", default=MORE, help="besides 1 and 2")
    given = parser.parse_args()
    mining.warm_up()
    with tempfile.TemporaryDirectory() as folder:
        path, out, options = given.file.written(Path(folder)), Path(folder) / "out.parquet", shlex.split(given.options)
        rows, dimension = data.rows_of(path), data.dimension_of(path)
        found = {
            threads: medians([staged(path, out, options, threads) for _ in range(given.runs)])
            for threads in (ONE, TWO, *given.threads)
        }
    stages: list[dict[str, Any]] = [
        {"stage": name, "threads": threads, **stage._asdict()}
        for threads, run in found.items()
        for name, stage in run.items()
    ]
    alone, undivided = (sum(each) for each in (seconds_of(found[ONE]), (each.alone for each in found[TWO].values())))
    runs = [
        {
            "threads": threads, "seconds": took, "times": alone / took,
            "times_at_most": alone / (undivided + max(0.0, alone - undivided) / threads),
        }
        for threads, run in found.items()
        for took in [sum(seconds_of(run))]
    ]  # fmt: skip
    print(*map(rounded, stages), *map(rounded, runs), sep="\n")
    write_results(
        given.results, "cores", stages, data=given.file.name, file_rows=rows, dimension=dimension,
        options=given.options, runs=runs, repeated=given.runs,
    )  # fmt: skip


if __name__ == "__main__":
    main()
