"""Long lives and many callers: thousands of jobs in one process, threads, processes, forks, parts and files."""

from __future__ import annotations

import faulthandler
import gc
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jobs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from llvmlite.binding import ffi
from support import set_sizes

import minestream
from minestream.config.memory_plan import SEARCHING
from minestream.errors import MinestreamError
from minestream.kernels import sweep
from minestream.mining.plan import answer_bytes
from minestream.mining.shards import Mining
from minestream.search.screens import usable_screens
from minestream.search.sweep import Sweeping
from minestream.system.memory import release_memory

chaos = pytest.mark.chaos
LIB = Path(__file__).parents[1] / "lib"
KIND = "long runs and many callers"
GROWTH_BYTES = 6 << 20


@dataclass(frozen=True)
class Held:
    """What this process holds at a moment."""

    memory_bytes: int
    files: int
    threads: int
    temporary: tuple[str, ...]

    @classmethod
    def now(cls) -> Held:
        gc.collect()
        release_memory()
        with open("/proc/self/statm") as file:
            pages = int(file.read().split()[1])
        return cls(
            pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir("/proc/self/fd")), threading.active_count(),
            tuple(sorted(os.listdir(tempfile.gettempdir()))),
        )  # fmt: skip

    def assert_no_more_than(self, before: Held, memory_bytes: int = GROWTH_BYTES) -> None:
        """Fail when something was added since."""
        assert (self.files, self.threads, self.temporary) == (before.files, before.threads, before.temporary)
        assert self.memory_bytes - before.memory_bytes < memory_bytes


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for outputs; temporary files go to one beside it."""
    own = tmp_path / "temporary"
    own.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    place = tmp_path / "outputs"
    place.mkdir()
    return place


def expected_digests(folder: Path, names: list[str]) -> dict[str, str]:
    """The answer to each job, one called after another."""
    return {name: jobs.digest(jobs.JOBS[name], folder) for name in names}


# ---------------------------------------------------------------- one process


@pytest.mark.parametrize("count", [200, pytest.param(10_000, marks=chaos)])
def test_a_process_that_ran_many_jobs_holds_no_more_than_after_a_few(count: int, folder: Path, attack: Any) -> None:
    names = list(jobs.JOBS)
    for name in names:
        jobs.digest(jobs.JOBS[name], folder)  # so that "file" and others overwrite, as later
    expected = expected_digests(folder, names)
    before = None
    for number, name in enumerate(jobs.rounds(names, count)):
        if number == max(len(names), count // 10):
            before = Held.now()
        with attack(KIND, "a small job among thousands in one process"):
            assert jobs.digest(jobs.JOBS[name], folder) == expected[name]
    assert before is not None
    Held.now().assert_no_more_than(before)


VECTORS = np.random.default_rng(3).standard_normal((36_000, 64)).astype(np.float32)
FEW_LONG = VECTORS.reshape(9_000, 256)
ENDINGS: dict[str, dict[str, Any]] = {
    "done": {},
    "guided": {"guide": FEW_LONG[::-1].copy(), "absolute_margin": 0.0},
    "too many rows": {"max_rows": 1},
    "one label": {"labels": np.zeros(len(FEW_LONG), np.int64)},
    "no instructions": {"screen": "none"},
}


@pytest.mark.parametrize("count", [3, pytest.param(100, marks=chaos)])
@pytest.mark.parametrize("ending", list(ENDINGS))
def test_a_run_lets_its_scratch_go_however_it_ends(count: int, ending: str, folder: Path, attack: Any) -> None:
    options = {"labels": np.arange(len(FEW_LONG)) % 90, "memory": "16MiB", "anchors": 50} | ENDINGS[ending]
    before = None
    for _ in range(count):
        with attack(KIND, "a run with its vectors in scratch, ended well or not"):
            try:
                minestream.mine_arrays(FEW_LONG, **options)
            except MinestreamError:
                assert ending not in ("done", "guided"), "it fails"
            before = before or Held.now()
            Held.now().assert_no_more_than(before, 40 << 20)


@pytest.mark.parametrize("count", [4, pytest.param(100, marks=chaos)])
@pytest.mark.parametrize("kind", ["unread", "of a table", "of a stream", "of a file"])
def test_batches_left_half_way_leave_nothing(
    count: int, kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch, attack: Any
) -> None:
    set_sizes(monkeypatch, PART_ANCHORS=100)
    path = folder / "rows.parquet"
    pq.write_table(jobs.table(), path, row_group_size=50)
    options = {"window": 100, "batch_rows": 50} if kind in ("of a stream", "of a file") else {"screen": "f32"}
    before = None
    for _ in range(count):
        given = {"of a stream": jobs.stream(), "of a file": path}.get(kind, jobs.table())
        with attack(KIND, "rows abandoned half way by their reader"):
            reader = minestream.mine_batches(given, threads=2, **options)
            if kind != "unread":
                assert 0 < reader.read_next_batch().num_rows < 250
            del reader
            before = before or Held.now()
            Held.now().assert_no_more_than(before, 16 << 20)


def test_a_round_of_shards_is_let_go_before_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, PART_ANCHORS=64, ANCHOR_BYTES=1 << 16)  # so that 64 anchors fill a round
    alive: weakref.WeakSet[Sweeping] = weakref.WeakSet()
    held = []
    begin = Sweeping.__init__

    def beginning(self: Sweeping, *args: Any) -> None:
        held.append(len(alive))
        alive.add(self)
        begin(self, *args)

    monkeypatch.setattr(Sweeping, "__init__", beginning)
    minestream.mine_arrays(jobs.ROWS, jobs.LABELS, screen="f32", memory="16MiB")
    assert len(held) >= 5
    assert set(held) == {0}


def test_survivors_of_a_screen_are_let_go_before_those_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    room: list[int] = []
    survivors = sweep.Survivors

    def made(*arrays: np.ndarray[Any, Any]) -> Any:
        room.append(arrays[0].size)
        return survivors(*arrays)

    monkeypatch.setattr(sweep, "Survivors", made)
    set_sizes(monkeypatch, worth_changing=lambda *_: True)
    made._make = survivors._make  # type: ignore[attr-defined]
    mined = minestream.mine_arrays(VECTORS[:4_500], np.arange(4_500) % 90, screen="auto")
    several = len(usable_screens(VECTORS.shape[1])) > 1  # not every processor has dot products of bytes
    assert bool(mined.effort.screens_changed) == several
    assert room[::2] == [0] * (len(room) // 2) if several else room


@pytest.mark.parametrize("memory", ["24MiB", "48MiB", "1GiB"])
def test_answers_take_what_memory_has_left(memory: str, monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, PART_ANCHORS=256)
    held = []
    rounds = Mining.rounds

    def watched(self: Mining, todo: Any) -> Any:
        for together in rounds(self, todo):
            plan, anchors = self.searcher.plan, sum(map(self.anchors_of, together))
            others = plan.held(SEARCHING) - plan.bytes["answers"]
            held.append((len(together), others + answer_bytes(self.config, anchors, anchors), plan.memory))
        raise MinestreamError("seen")

    monkeypatch.setattr(Mining, "rounds", watched)
    with pytest.raises(MinestreamError, match="seen"):
        minestream.mine_arrays(VECTORS[:, :32].copy(), np.arange(len(VECTORS)) % 90, memory=memory, threads=1)
    assert all(taken <= budget for shards, taken, budget in held if shards > 1)
    assert (len(held) == 1) == (memory == "1GiB")


def test_every_positive_of_an_anchor_counts_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anchors with a thousand positives each are mined few at a time."""
    set_sizes(monkeypatch, PART_ANCHORS=256)
    rounds, sizes = Mining.rounds, []

    def watched(self: Mining, todo: Any) -> Any:
        sizes.append(len(next(rounds(self, todo))))
        raise MinestreamError("seen")

    monkeypatch.setattr(Mining, "rounds", watched)
    for positives in ("easiest", "all"):
        with pytest.raises(MinestreamError, match="seen"):
            minestream.mine_arrays(VECTORS, np.arange(len(VECTORS)) % 9, positives=positives, memory="256MiB")
    assert sizes[0] > 1
    assert sizes[1] == 1


# ---------------------------------------------------------------- many at once


@pytest.mark.parametrize("times", [1, pytest.param(20, marks=chaos)])
def test_eight_threads_get_the_answers_of_one(times: int, folder: Path, attack: Any) -> None:
    names = list(jobs.JOBS)
    expected = expected_digests(folder, names)
    before = Held.now()
    for turn in range(times):
        order = np.random.default_rng(turn).permutation(names * 2).tolist()
        for name, found in zip(order, jobs.digests(order, folder, 8), strict=True):
            with attack(KIND, "a job beside seven others in threads of one process"):
                assert found == expected[name], name
    held = Held.now()
    assert (held.files, held.threads, held.temporary) == (before.files, before.threads, before.temporary)


@pytest.mark.parametrize(
    ("processes", "names"),
    [(2, list(jobs.SCANNED)), pytest.param(4, list(jobs.JOBS), marks=chaos)],
    ids=["scanned", "every kind"],
)
def test_processes_and_threads_race_for_an_empty_cache(
    processes: int, names: list[str], folder: Path, attack: Any
) -> None:
    expected = expected_digests(folder, names)
    cache = folder / "cache"
    environment = os.environ | {"MINESTREAM_CACHE_DIR": str(cache)}
    running = []
    for number in range(processes):
        order = [*names[number:], *names[:number]]
        own = folder / f"process {number}"
        own.mkdir()
        command = [sys.executable, str(LIB / "jobs.py"), "8", *order]
        running.append((order, subprocess.Popen(command, cwd=own, env=environment, stdout=subprocess.PIPE, text=True)))
    for order, process in running:
        answers = json.loads(process.communicate(timeout=900)[0])
        for name, found in zip(order, answers, strict=True):
            with attack(KIND, "a job in 8 threads of several processes that share one empty kernel cache"):
                assert found == expected[name], name
    (code,) = filter(Path.is_dir, cache.iterdir())
    assert {path.name for path in cache.iterdir()} <= {code.name, "minestream-rates.json"}
    assert {path.suffix for path in code.iterdir()} <= {".kernel", ""}  # and the lock: nothing half written


def in_child(names: list[str], folder: str, send: Any) -> None:
    """The answers to jobs in a forked child; one that hangs says where."""
    faulthandler.dump_traceback_later(50)
    send.send([jobs.digest(jobs.JOBS[name], Path(folder)) for name in names])
    send.close()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("count", [2, pytest.param(50, marks=chaos)])
def test_forks_mine_while_threads_of_the_parent_do(count: int, folder: Path, attack: Any) -> None:
    names = ["default", "f32", "file", "batches", "fed", "profile", "inspected", "not finite"]
    expected = [expected_digests(folder, names)[name] for name in names]
    context = multiprocessing.get_context("fork")
    done = threading.Event()

    def mine_on() -> None:
        while not done.is_set():
            jobs.digest(jobs.JOBS["f32"], folder)

    beside = [threading.Thread(target=mine_on) for _ in range(3)]
    for thread in beside:
        thread.start()
    try:
        for number in range(count):
            own = folder / f"child {number}"
            own.mkdir()
            with attack(KIND, "a child forked while threads of its parent mine"):
                receive, send = context.Pipe(duplex=False)
                child = context.Process(target=in_child, args=(names, str(own), send))
                child.start()
                send.close()
                answered = receive.poll(60)
                if not answered:
                    child.kill()
                assert answered, "the forked child hangs"
                assert receive.recv() == expected
                child.join(30)
                assert child.exitcode == 0
    finally:
        done.set()
        for thread in beside:
            thread.join()


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_mines_while_a_thread_of_the_parent_is_in_llvm(folder: Path) -> None:
    expected, done, inside = expected_digests(folder, ["f32"]), threading.Event(), threading.Event()

    def hold() -> None:
        with ffi.lib._lock:
            inside.set()
            done.wait()

    beside = threading.Thread(target=hold)
    beside.start()
    assert inside.wait(10)
    try:
        (folder / "child").mkdir()
        receive, send = multiprocessing.get_context("fork").Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(
            target=in_child, args=(["f32"], str(folder / "child"), send)
        )
        child.start()
        answered = receive.poll(20)
        if not answered:
            child.kill()
        assert answered, "the forked child hangs"
        assert receive.recv() == [expected["f32"]]
    finally:
        done.set()
        beside.join()


# ---------------------------------------------------------------- many parts, many files


@pytest.mark.parametrize("parts", [150, pytest.param(2_000, marks=chaos)])
def test_a_part_among_thousands_costs_no_more_than_among_few(
    parts: int, folder: Path, monkeypatch: pytest.MonkeyPatch, attack: Any
) -> None:
    set_sizes(monkeypatch, PART_ANCHORS=1)

    def run(count: int) -> tuple[float, int]:
        """Seconds of the processor, and events."""
        rows = jobs.RNG.standard_normal((count, 8)).astype(np.float32)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 8)
        given = pa.table({"label": np.arange(count) % 5, "embedding": vectors})
        events: list[object] = []
        began = time.process_time()
        report = minestream.mine(given, folder / f"{count}.parquet", threads=1, progress_callback=events.append)
        assert report.stats.rows == pq.read_metadata(folder / f"{count}.parquet").num_rows
        assert minestream.mine(given, folder / f"{count}.parquet", threads=1, resume=True).already
        return time.process_time() - began, len(events)

    run(20)
    (few_seconds, _), (seconds, events) = run(parts // 5), run(parts)
    with attack(KIND, "a run of thousands of parts"):
        assert seconds / parts < 2.5 * few_seconds / (parts // 5)
        assert events < 2 * parts + 20


MINE_WITH_FEW_FILES = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv.pop(1)),) * 2)
from minestream.cli.main import main
sys.exit(main())
"""


@pytest.mark.parametrize(("files", "limit"), [(100, 48), pytest.param(2_000, 256, marks=chaos)])
def test_many_input_files_need_few_open_ones(files: int, limit: int, folder: Path, attack: Any) -> None:
    many = folder / "many"
    many.mkdir()
    rows = np.random.default_rng(6).standard_normal((10 * files, 8)).astype(np.float32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 8)
    whole = pa.table({"id": np.arange(10 * files), "label": np.arange(10 * files) % 10, "embedding": vectors})
    for number in range(files):
        pq.write_table(whole.slice(10 * number, 10), many / f"{number:05d}.parquet")
    pq.write_table(whole, folder / "whole.parquet")
    minestream.mine(folder / "whole.parquet", folder / "expected.parquet", progress="none")
    out = folder / "out.parquet"
    runs = [
        ["mine", str(many), "-o", str(out)],
        ["verify", str(out), "--source", str(many), "--sample", "5"],
        ["mine", str(many), "-o", str(folder / "where.parquet"), "--anchor-where", "label < 5"],
        ["profile", str(many)],
    ]
    for arguments in runs:
        with attack(KIND, "thousands of input files with few that may be open"):
            command = [sys.executable, "-c", MINE_WITH_FEW_FILES, str(limit), *arguments]
            done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
            assert done.returncode == 0, done.stderr
    assert pq.read_table(out).equals(pq.read_table(folder / "expected.parquet"))
