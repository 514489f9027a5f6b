"""What happens to a process: interrupts, closed streams, a false clock, a second run, too little memory."""

from __future__ import annotations

import os
import random
import resource
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from attacked import CAPACITY, INPUT, INTERRUPTED, Ended, Job, Undisturbed, contents, rows_table
from test_kills import Halfway, arguments_of

from minestream.cli.main import main

KINDS = ["one file", "a folder of parts"]
SIGNALS = {"SIGINT": signal.SIGINT, "SIGTERM": signal.SIGTERM}


def assert_interrupted(ended: Ended, halfway: Halfway, whole: dict[str, Any]) -> None:
    """Fail unless a run that was asked to stop did so in words, and left finished parts alone, or finished."""
    ended.assert_plain()
    assert ended.code in (0, INTERRUPTED), ended
    if ended.code == 0:
        assert contents(halfway.folder) == whole
        return
    assert "interrupted" in ended.err
    halfway.assert_whole()
    partial = halfway.folder / f"{halfway.out}.partial"
    allowed = {"lock", "manifest.json", "parts"} | {f"{Path(part).stem}.json" for part in halfway.kept}
    assert {path.name for path in partial.glob("*")} <= allowed
    assert bool(halfway.kept) or not partial.exists()
    assert list(halfway.folder.glob(".*")) == []


@pytest.mark.parametrize(
    ("name", "times"), [("SIGTERM", 1), *(pytest.param(name, 50, marks=pytest.mark.chaos) for name in SIGNALS)]
)
def test_asked_to_stop(
    name: str, times: int, rows: Path, drawn: random.Random, undisturbed: Undisturbed, attack: Any, tmp_path: Path
) -> None:
    """At any moment once Python has started: it ends by the exit code of an interrupt, and --resume goes on."""
    for number in range(times):
        arguments = arguments_of(KINDS[number % 2], rows)
        whole = undisturbed(arguments)
        job = Job(tmp_path / f"{number}", arguments)
        with attack(name, "at a random moment"):
            process, halfway = job.start(), Halfway(job.folder, whole.files)
            assert process.wait_for(job.changes)
            process.killed_after(drawn.uniform(0, whole.seconds), SIGNALS[name])
            assert_interrupted(process.ended(), halfway, whole.files)
            job.run("--resume").assert_told(0)
            assert not halfway.kept.keys() & job.rewritten()
            assert contents(job.folder) == whole.files
        shutil.rmtree(job.folder)


@pytest.mark.parametrize("times", [1, pytest.param(40, marks=pytest.mark.chaos)])
def test_asked_again_and_again(
    times: int, rows: Path, drawn: random.Random, undisturbed: Undisturbed, attack: Any, tmp_path: Path
) -> None:
    """A hammer of interrupts, from up to a tenth of a second after the output's place was taken."""
    arguments = arguments_of("one file", rows)
    whole = undisturbed(arguments).files
    for number in range(times):
        job = Job(tmp_path / f"{number}", arguments)
        with attack("SIGINT", "a dozen, soon after the output's place was taken"):
            process = job.start()
            assert process.wait_for((job.folder / "out.parquet.partial").exists)
            time.sleep(drawn.uniform(0, 0.1))
            for _ in range(12):
                process.popen.send_signal(signal.SIGINT)
                time.sleep(drawn.uniform(0, 0.01))
            assert_interrupted(process.ended(), Halfway(job.folder, whole), whole)
        shutil.rmtree(job.folder)


def test_asked_to_stop_while_anchors_have_many_pairs(attack: Any, tmp_path: Path) -> None:
    """Thousands of pairs an anchor keep no interrupt waiting: it ends long before the run would."""
    few_labels = rows_table(12_000, 4).set_column(1, "label", pa.array(np.arange(12_000) % 3))
    pq.write_table(few_labels, tmp_path / "rows.parquet")
    job = Job(tmp_path / "job", ["mine", str(tmp_path / "rows.parquet"), "-o", "out", "--positives", "all"])
    with attack("SIGTERM", "while anchors have thousands of pairs"):
        process = job.start("--memory", "256MiB")
        assert process.wait_for(lambda: list((job.folder / "out.partial" / "parts").glob("*.parquet")))
        process.popen.send_signal(signal.SIGTERM)
        began = time.monotonic()
        process.ended().assert_told(INTERRUPTED, "interrupted")
        assert time.monotonic() - began < 60
        assert list((job.folder / "out.partial").glob("part-*.json"))


# ---------------------------------------------------------------- standard streams


def closed(*numbers: int) -> dict[str, Any]:
    """Streams of a process that are closed when it starts."""
    return {"before": lambda: [os.close(number) for number in numbers]}


def left(*names: str) -> dict[str, Any]:
    """Streams of a process that are pipes which nobody reads any more."""
    reader, writer = os.pipe()
    os.close(reader)
    return dict.fromkeys(names, writer)


def full(*names: str) -> dict[str, Any]:
    """Streams of a process that are a full disk."""
    return dict.fromkeys(names, os.open("/dev/full", os.O_WRONLY))


STREAMS: dict[str, tuple[Callable[[], dict[str, Any]], int]] = {
    "standard output closed": (lambda: closed(1), 0),
    "standard error closed": (lambda: closed(2), 0),
    "all standard streams closed": (lambda: closed(0, 1, 2), 0),
    "standard output that nobody reads": (lambda: left("stdout"), 0),
    "standard error that nobody reads": (lambda: left("stderr"), 0),
    "standard output full": (lambda: full("stdout"), CAPACITY),
    "standard error full": (lambda: full("stderr"), 0),
    "both full": (lambda: full("stdout", "stderr"), CAPACITY),
}


@pytest.mark.parametrize(
    "streams", ["both full", *(pytest.param(streams, marks=pytest.mark.chaos) for streams in list(STREAMS)[:-1])]
)
def test_streams(streams: str, few_rows: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path) -> None:
    """The rows are mined all the same, and what is wrong with the input ends in its own exit code."""
    how, code = STREAMS[streams]
    told = ["--metric", "euclidean", "--band", "any", "--progress", "lines"]  # tells that there is no margin
    job = Job(tmp_path / "work", ["mine", str(few_rows), "-o", "out.parquet", *told])
    whole = undisturbed(job.arguments).files
    with attack("streams", streams):
        ended = job.run(**how())
        assert ended.code == code
        ended.assert_plain(told="stderr" not in how() and "error" not in streams)
        assert contents(job.folder) == whole
        assert job.run("--label", "none", "-o", "other.parquet", **how()).code == INPUT
        assert contents(job.folder) == whole


def test_errors_are_not_told_among_rows(few_rows: Path, attack: Any, tmp_path: Path) -> None:
    """With standard error closed, what would be told there is not written into the stream of rows."""
    job = Job(tmp_path / "work", ["mine", str(few_rows), "-o", "-"])
    surroundings = {"cwd": job.folder, "env": job.surroundings()}
    whole = subprocess.check_output(job.command("--metric", "euclidean", "--band", "any"), **surroundings)
    with attack("streams", "standard error closed, rows to standard output"):
        told = ["--metric", "euclidean", "--band", "any", "--progress", "lines"]  # tells that there is no margin
        ended = job.run(*told, "--label", "none", **closed(2))
        assert (ended.code, ended.out) == (INPUT, "")
        assert subprocess.check_output(job.command(*told), preexec_fn=lambda: os.close(2), **surroundings) == whole


@pytest.mark.parametrize(("what", "code"), [("full", CAPACITY), pytest.param("left", 0, marks=pytest.mark.chaos)])
def test_rows_that_nobody_takes(what: str, code: int, few_rows: Path, attack: Any, tmp_path: Path) -> None:
    job = Job(tmp_path / "work", ["mine", str(few_rows), "-o", "-", "--progress", "none"])
    with attack("streams", f"rows to standard output, which is {what}"):
        ended = job.run(**(full if what == "full" else left)("stdout"))
        assert ended.code == code
        ended.assert_plain()


# ---------------------------------------------------------------- clocks, and memory


@pytest.mark.chaos
@pytest.mark.parametrize("offsets", ["0 86400 -86400", "-2e9 2e9 0"])
def test_a_clock_that_jumps(offsets: str, rows: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path) -> None:
    """Back and forth every fifth of a second, by a day or by decades; killed once, and resumed."""
    arguments = arguments_of("one file", rows)
    job = Job(tmp_path / "work", arguments, {"CHAOS_CLOCK": offsets})
    with attack("clock", "jumps back and forth during the run"):
        assert job.run(moment="os.rename .*/part-00001.parquet").code == -signal.SIGKILL
        job.run("--resume").assert_told(0)
        assert "part-00000.parquet" not in job.rewritten()
        assert contents(job.folder) == undisturbed(arguments).files


# By which libraries end the process themselves: the C library (127), what is written in C++, LLVM (SIGABRT).
ABORTS = {"cannot allocate memory for thread-local data": 127, "std::bad_alloc": -6, "LLVM ERROR: out of memory": -6}
LEAST_MEGABYTES = 640  # with less not even the libraries can be loaded


@pytest.mark.chaos
@pytest.mark.parametrize("megabytes", range(LEAST_MEGABYTES, 1_700, 40))
def test_too_little_memory(megabytes: int, rows: Path, undisturbed: Undisturbed, attack: Any, tmp_path: Path) -> None:
    """Of the addresses that a process may use: it ends as such, or finishes; then --resume does with more."""
    arguments = arguments_of("one file", rows)
    whole = undisturbed(arguments).files
    job, limit = Job(tmp_path / "work", arguments), megabytes << 20
    with attack("memory", "a limit on what the process may use"):
        ended = job.run(before=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)))
        aborted = next((code for words, code in ABORTS.items() if words in ended.err), None)
        assert ended.code in ((0, CAPACITY) if aborted is None else (aborted,)), ended
        assert ended.code != CAPACITY or "error: " in ended.err  # the interpreter may tell of destructors before
        Halfway(job.folder, whole).assert_whole()
        job.run("--resume").assert_told(0)
        assert contents(job.folder) == whole


def test_threads_that_cannot_start(
    few_rows: Path, attack: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with attack("memory", "no thread can be started"):
        assert main(["mine", str(few_rows), "-o", str(tmp_path / "out.parquet")]) == CAPACITY
        assert "--threads" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []
