"""How far a run is: never past its total, never all before the end; and how long it will take, by measured rates."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numba.core.compiler_lock import global_compiler_lock
from support import set_sizes
from worlds import clustered

import minestream
from minestream.config.resolve import split_options
from minestream.config.resources import Tables
from minestream.kernels import jit
from minestream.mining import estimates, pipeline, rates, shards
from minestream.mining import projections as projecting
from minestream.mining.driver import Driver
from minestream.mining.projections import approximate_seconds
from minestream.mining.shards import Mining
from minestream.search.work import Work, WorkMeter
from minestream.system import progress
from minestream.system.progress import Advanced, Event, Finished, Lines, Progress, StageStarted

ROWS, D = 900, 8
QUIET: dict[str, Any] = {"progress": "none", "threads": 2}
JOBS: dict[str, dict[str, Any]] = {
    "sweep": {"screen": "f32"},
    "scan": {"screen": "scan"},
    "pairs": {"screen": "f32", "emit": "pairs", "margin": 0.2, "negatives": 4},
    "second look": {"screen": "f32", "max_per_negative_label": 1, "negatives": 14, "band": "any"},
    "all looked at": {"screen": "f32", "max_per_negative_label": 1, "negatives": 3, "pick": "random"},
    "fallback": {"screen": "f32", "band": "semi-hard", "margin": 1e-3, "fallback": "farthest"},
    "slice": {"screen": "f32", "shard": "1/2"},
}


@pytest.fixture
def table() -> pa.Table:
    vectors, labels = clustered(5, [ROWS // 15] * 15, D)
    return pa.table({"embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), D), "label": labels})


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, PART_ANCHORS=128)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that rates are kept in."""
    (tmp_path / "cache").mkdir()
    monkeypatch.setattr(rates, "cache_root", lambda: tmp_path / "cache")
    return tmp_path / "cache"


def told_of(events: list[Event], stage: str) -> list[Advanced]:
    """What was told of a stage: counts that grow, and never past the total."""
    told = [event for event in events if isinstance(event, Advanced) and event.stage == stage]
    (begun,) = [event for event in events if isinstance(event, StageStarted) and event.stage == stage]
    counts = [begun.before, *(event.done for event in told)]
    assert counts == sorted(counts)
    assert {event.total for event in told} == {begun.total}
    assert counts[-1] <= begun.total
    return told


@pytest.fixture
def at_each_search(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The share of the work that was done whenever a search began."""
    shares: list[float] = []
    begin = WorkMeter.begin

    def noted(meter: WorkMeter, work: float) -> None:
        begin(meter, work)
        shares.append(meter.done / meter.total)

    monkeypatch.setattr(WorkMeter, "begin", noted)
    return shares


# ---------------------------------------------------------------- how far it is


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.usefixtures("small_parts")
def test_progress_ends_at_its_total_and_not_before(
    job: str, table: pa.Table, tmp_path: Path, at_each_search: list[float]
) -> None:
    events: list[Event] = []
    minestream.mine(table, tmp_path / "out", **QUIET, **JOBS[job], progress_callback=events.append)
    told = told_of(events, "mine")
    assert told[-1].done == told[-1].total == (512 if job == "slice" else ROWS)
    assert told[-1].unit == "anchors"
    assert (len(at_each_search) > 2) == (job in ("second look", "all looked at", "fallback"))
    assert max(at_each_search) < 1, "a search begins, and all was told to be done"


def test_progress_of_anchors_that_are_no_candidates(tmp_path: Path) -> None:
    """Twice as many anchors as candidates, and they do not meet each other."""
    vectors = np.random.default_rng(1).standard_normal((6, 4)).astype(np.float32)
    table = pa.table({"embedding": list(vectors), "label": [0, 0, 0, 1, 0, 1], "new": [1, 1, 1, 1, 0, 0]})
    events: list[Event] = []
    options: dict[str, Any] = {"anchor_where": "new == 1", "candidate_where": "new == 0", "band": "any"}
    minestream.mine(table, tmp_path / "out.parquet", **QUIET, **options, screen="f32", progress_callback=events.append)
    told = told_of(events, "mine")
    assert told[-1].done == told[-1].total == 4


def test_progress_of_two_tables(table: pa.Table, tmp_path: Path) -> None:
    events: list[Event] = []
    corpus = table.slice(200)
    minestream.mine(
        table.slice(0, 200), tmp_path / "out.parquet", corpus=corpus, **QUIET, progress_callback=events.append
    )
    assert told_of(events, "mine")[-1].done == 200
    assert told_of(events, "read")[-1].done == ROWS


def test_progress_of_a_profile(table: pa.Table, tmp_path: Path) -> None:
    events: list[Event] = []
    minestream.profile(table, tmp_path / "profile", **QUIET, progress_callback=events.append)
    assert told_of(events, "neighbours")[-1].done == ROWS
    told = told_of(events, "profile")
    assert told[-1].done == told[-1].total


@pytest.mark.usefixtures("small_parts")
def test_a_resumed_run_counts_what_it_does_itself(
    table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(Exception):
        """Raised in the middle."""

    def stop(event: Event) -> None:
        if len(list((tmp_path / "out.partial").glob("part-*.json"))) >= 3:
            raise Stop

    monkeypatch.setattr("minestream.mining.shards.Mining.rounds", lambda self, todo: ([index] for index in todo))
    options: dict[str, Any] = {**QUIET, "screen": "scan", "threads": 1}
    with pytest.raises(Stop):
        minestream.mine(table, tmp_path / "out", **options, progress_callback=stop)
    finished = 128 * len(list((tmp_path / "out.partial").glob("part-*.json")))
    events: list[Event] = []
    minestream.mine(table, tmp_path / "out", **options, resume=True, progress_callback=events.append)
    assert StageStarted("mine", ROWS, "anchors", finished) in events
    told = told_of(events, "mine")
    assert told[-1].done == ROWS
    assert told[0].rate(2.0) == (told[0].done - finished) / 2.0


def test_work_that_nobody_planned_makes_the_total_grow() -> None:
    events: list[Event] = []
    with Progress(Lines(), events.append) as progress:
        progress.stage("mine", 100, "anchors")
        meter = WorkMeter(progress, 100)
        meter.plan(60)
        meter.begin_stage(40)
        meter.begin(30)
        meter.advance(30)
        meter.begin_stage(20)  # what was left of the 40 is not needed
        assert meter.total == 50
        meter.begin(20)
        meter.begin(50)
        assert meter.total == 100.0
        meter.advance(20)
        meter.advance(1e9)
        meter.finish()
    assert [event.done for event in events if isinstance(event, Advanced)] == [50, 100]
    assert events[-1] == Finished()


def test_a_search_that_turns_out_longer_or_shorter_says_so() -> None:
    meter = WorkMeter()
    meter.plan(100)
    meter.begin_stage(100)
    meter.begin(100)
    meter.advance(40)
    meter.revise(20)
    assert meter.total == 120
    meter.revise(-1e9)
    assert meter.total == meter.done == 40, "what is done stays done"


def test_survivors_planned_wrongly_are_corrected_by_those_seen(
    table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left: dict[float, list[float]] = {}
    advance = WorkMeter.advance
    monkeypatch.setattr("minestream.search.order.LEAST_ROWS", 64)
    monkeypatch.setattr("minestream.config.memory_plan.MOST_SWEPT_ROWS", 64)
    for planned in (0.3, 3, 30):

        def noted(meter: WorkMeter, work: float, planned: float = planned) -> None:
            advance(meter, work)
            left.setdefault(planned, []).append(meter.total - meter.done)

        monkeypatch.setattr("minestream.search.work.SURVIVORS", planned)
        monkeypatch.setattr(WorkMeter, "advance", noted)
        minestream.mine(table, tmp_path / str(planned), **QUIET, screen="f32", negatives=8, band="any")
    few, some, many = (np.array(left[planned]) for planned in left)
    assert few.size == some.size == many.size > 100
    assert many[0] > 1.5 * some[0] > 1.5 * 1.2 * few[0], "as planned"
    late = few.size * 3 // 4
    np.testing.assert_allclose(few[late], some[late], rtol=0.05)
    np.testing.assert_allclose(many[late], some[late], rtol=0.05)


# ---------------------------------------------------------------- how long it takes yet


def test_time_left_is_by_the_anchors_of_this_run(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with Progress(Lines(lambda: now[0])) as progress:
        progress.stage("mine", 1000, "anchors", 500)
        now[0] = 10.0
        progress.advance(100)
    assert capsys.readouterr().err.endswith(" mine: 60 %, 600 of 1.0 k anchors, 10 anchors/s, 40 s left\n")


def test_nothing_is_said_of_the_time_left_in_the_first_two_seconds() -> None:
    event = Advanced("mine", 10, 100, "anchors")
    assert event.left(1.9) is None
    assert event.left(2.0) == 18.0
    assert Advanced("mine", 10, 100, "anchors", before=10).left(2.0) is None
    assert Advanced("read", 10, 0, "rows").left(2.0) is None


@pytest.mark.parametrize("mode", ["lines", "bar"])
def test_compiling_is_neither_time_of_mining_nor_a_rate(
    mode: str, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kernels that mining is the first to need: 3,000 seconds by the clock of the lock, then 9 at each step."""
    now, shown, kept = [0.0], [], []
    counts_text = progress.counts_text

    def compiling(event: Event) -> None:
        if isinstance(event, StageStarted) and event.stage == "mine":
            with global_compiler_lock, jit._compile_lock:
                now[0] += 3000.0
        elif isinstance(event, Advanced):
            now[0] += 9.0

    def noted(event: Advanced, seconds: float) -> str:
        shown.append(seconds)
        return counts_text(event, seconds)

    monkeypatch.setattr(progress, "counts_text", noted)
    monkeypatch.setattr(shards, "keep_rate", lambda kind, work, seconds: kept.append(seconds))
    for name in ("perf_counter", "monotonic"):
        monkeypatch.setattr(time, name, lambda: now[0])
    options = QUIET | {"progress": mode, "screen": "scan"}
    minestream.mine(table, tmp_path / "out.parquet", **options, progress_callback=compiling)
    monkeypatch.undo()
    assert 9 <= shown[-1] <= kept[0] < 3000, "seconds of mining"


def test_the_clock_stands_still_while_kernels_are_compiled() -> None:
    before = jit.running_seconds()
    with global_compiler_lock, jit._compile_lock:
        within = [jit.running_seconds()]
        time.sleep(0.01)
        within.append(jit.running_seconds())
    assert within[0] == within[1]
    assert before <= within[0] <= jit.running_seconds()


# ---------------------------------------------------------------- rates, kept


def test_a_rate_is_kept_and_half_of_it_replaced(folder: Path) -> None:
    assert rates.kept_rate("a") is None
    rates.keep_rate("a", 1000.0, 1.0)
    rates.keep_rate("b", 7.0, 1.0)
    assert rates.kept_rate("a") == 1000.0
    rates.keep_rate("a", 1000.0, 0.5)
    assert (rates.kept_rate("a"), rates.kept_rate("b")) == (1500.0, 7.0)
    rates.keep_rate("c", 1000.0, 0.01)
    assert rates.kept_rate("c") is None
    assert [path.name for path in folder.iterdir()] == [rates.FILE]


def test_rates_that_were_kept_first_are_forgotten(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rates, "MOST", 2)
    for kind in "abac":
        rates.keep_rate(kind, 5.0, 1.0)
    assert [rates.kept_rate(kind) for kind in "abc"] == [None, 5.0, 5.0]


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"\xff\x00", b'{"a": "fast"}', b'{"a": -1}', b'{"a": NaN}', b'{"a": Infinity}', b"[" * 10**5],
)
def test_a_damaged_file_of_rates_is_none_and_is_written_anew(folder: Path, content: bytes) -> None:
    (folder / rates.FILE).write_bytes(content)
    assert rates.kept_rate("a") is None
    rates.keep_rate("a", 10.0, 1.0)
    assert rates.kept_rate("a") == 10.0


@pytest.mark.parametrize("place", ["none", "read only", "gone"])
def test_rates_are_left_out_where_no_folder_takes_them(
    place: str, folder: Path, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "LEAST_SECONDS", 0.0)
    if place == "none":
        monkeypatch.setattr(rates, "cache_root", lambda: None)
    elif place == "gone":
        folder.rmdir()
    else:

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(30, "Read-only file system")

        monkeypatch.setattr(Path, "write_text", refuse)
    minestream.mine(table, tmp_path / "out.parquet", **QUIET)
    report = minestream.mine(table, tmp_path / "out.parquet", **QUIET, dry_run=True)
    assert report.plan["projected_seconds"] > 0
    assert not folder.exists() or not list(folder.iterdir())


# ---------------------------------------------------------------- the seconds of a dry run


def dry(table: pa.Table, tmp_path: Path, **options: Any) -> float:
    report = minestream.mine(table, tmp_path / "out.parquet", **QUIET, **options, dry_run=True)
    assert not report.complete
    return float(report.plan["projected_seconds"])


def test_a_dry_run_goes_by_the_rate_of_runs_of_its_kind(
    folder: Path, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rates, "LEAST_SECONDS", 0.0)
    minestream.mine(table, tmp_path / "out.parquet", **QUIET, screen="f32")
    monkeypatch.setattr(estimates, "sampled_seconds", None)  # which is not called
    assert dry(table, tmp_path, screen="f32") < 5


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, float]]:
    """What is mined for estimates: of how many anchors, in how many seconds."""
    mine_some, found = estimates._mine_some, []

    def noted(miner: Any, count: int, mine: Any) -> tuple[float, float]:
        sample = mine_some(miner, count, mine)
        found.append((count, sample[1]))
        return sample

    monkeypatch.setattr(estimates, "_mine_some", noted)
    return found


def test_a_dry_run_without_a_rate_mines_a_few_anchors(
    folder: Path, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: list[tuple[int, float]]
) -> None:
    events: list[Event] = []
    for screen in ("scan", "f32"):
        dry(table, tmp_path, screen=screen, progress_callback=events.append)
        assert told_of(events, "read")[-1].done == ROWS, "what is mined for the estimate is no progress"
        events.clear()
    mined = [count for count, _ in samples]
    assert mined[:2] == mined[3:5] == [64, 1_024]
    assert min(mined[2], mined[5]) > ROWS, "so short a run is mined whole"
    monkeypatch.setattr(estimates, "SAMPLE_WORK", 1.0)
    dry(table, tmp_path, screen="f32")
    assert [count for count, _ in samples[-3:]] == [64, 64, 256]
    assert not list(folder.iterdir())
    assert not list(tmp_path.glob("out*"))


def test_what_every_search_costs_is_not_taken_for_work(
    folder: Path, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10 of work take 1 s, and 110 take 3 s: so 5,010 take 101 s."""
    sampled = iter([(10.0, 60.0), (10.0, 1.0), (110.0, 3.0)])
    monkeypatch.setattr(estimates, "_mine_some", lambda miner, count, mine: next(sampled))
    monkeypatch.setattr("minestream.mining.shards.Mining.work", lambda miner, parts: 5010.0)
    monkeypatch.setattr(estimates, "SAMPLE_ANCHORS", (16, 64))
    assert 101 <= dry(table, tmp_path) < 111  # and reading


def test_the_seconds_of_a_sample_are_not_those_of_compiling(
    folder: Path, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, samples: list[tuple[int, float]]
) -> None:
    """Kernels that the sample is the first to need: 3,000 seconds of compiling by the clock of the lock."""
    now = [0.0]

    def compiling(result: Any) -> None:
        with jit._compile_lock:
            now[0] += 3000.0

    monkeypatch.setattr(estimates, "emit", compiling)
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    dry(table, tmp_path, screen="f32")
    assert [seconds for _, seconds in samples] == pytest.approx([0.0, 0.0, 0.0], abs=1e-6)
    assert now[0] > 0


@pytest.mark.parametrize("anchors", ["1", "17", "257"])
def test_a_dry_run_of_few_anchors(anchors: str, folder: Path, table: pa.Table, tmp_path: Path) -> None:
    assert 0 < dry(table, tmp_path, screen="f32", anchors=anchors) < 60


def test_a_dry_run_of_a_slice_counts_the_slice(
    small_parts: None, folder: Path, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "kept_rate", lambda kind: 1e6)
    whole, half = dry(table, tmp_path), dry(table, tmp_path, shard="1/2")
    assert 0.4 * whole < half < 0.7 * whole


def test_a_dry_run_compares_ways_and_cores(
    folder: Path, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "kept_rate", lambda kind: 1e6)
    cores = len(os.sched_getaffinity(0))

    def projected(**options: Any) -> dict[tuple[str, int], dict[str, Any]]:
        report = minestream.mine(table, tmp_path / "out.parquet", **QUIET | options, dry_run=True)
        return {(each["way"], each["cores"]): each for each in report.plan["projections"]}

    few = projected(threads=1)
    assert list(few) == [("exact", 1)], "so few anchors are mined exactly"
    assert few["exact", 1]["scratch_bytes"] == 0
    monkeypatch.setattr(projecting, "known_share", lambda rows: 0.3)
    monkeypatch.setattr(projecting, "most_share", lambda anchors: 0.2)
    assert list(projected(threads=1)) == [("exact", 1)], "no time is saved"
    monkeypatch.setattr(projecting, "most_share", lambda anchors: 0.4)
    both = projected(threads=64 * cores)
    assert list(both) == [(way, count) for count in (cores, 64 * cores) for way in ("exact", "approximate 0.95")]
    for way in ("exact", "approximate 0.95"):
        here, there = both[way, cores], both[way, 64 * cores]
        assert 1 / 64 < there["seconds"] / here["seconds"] < 1
        assert there["enough_bytes"] >= here["enough_bytes"]
    assert ("approximate 0.8", 1) in projected(threads=1, approximate=0.8)
    assert ("approximate 0.95", 1) not in projected(threads=1, max_uses=3), "which is not for approximate runs"
    assert projected(threads=1, memory="16MiB", screen="f32")["exact", 1]["scratch_bytes"] == 0


def test_an_approximate_run_is_projected_to_save_more_of_more_rows(
    folder: Path, table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table of n rows as if it had more: of few rows nothing is saved, of ten million nearly all products."""
    config, resources, _ = split_options(QUIET | {"screen": "f32"})
    with Driver(config, resources) as driver:
        mining = Mining(driver, driver.open(table, Tables()))
        assert approximate_seconds(mining, 10.0) <= 10.0
        shares = []
        for rows in (10**5, 10**6, 10**7):
            mining.loaded = SimpleNamespace(store=SimpleNamespace(rows=rows, dimension=384))
            monkeypatch.setattr(projecting, "search_work", lambda *_, rows=rows, **__: Work(0.0, 200.0 * rows**2, 0.0))
            monkeypatch.setattr(Mining, "work", lambda self, parts, rows=rows: 200.0 * rows**2 + 1e7 * rows)
            shares.append(approximate_seconds(mining, 1e6) / 1e6)
    assert shares[0] > 2 * shares[1] > 4 * shares[2]


@pytest.mark.parametrize(("memory", "expected"), [("16MiB", 2), ("64MiB", 8)])
def test_a_dry_run_and_an_interrupt_say_how_many_parts_are_mined_together(
    memory: str, expected: int, small_parts: None, folder: Path, table: pa.Table, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of 8 parts whose answers take 1.5 MiB each; a quarter of the memory is for those mined together."""
    monkeypatch.setattr(Mining, "_answer_bytes", lambda *_: 3 << 19)
    monkeypatch.setattr(estimates, "kept_rate", lambda kind: 1e9)
    options = QUIET | {"memory": memory, "screen": "f32"}
    planned = minestream.mine(table, tmp_path / "out.parquet", **options, dry_run=True)
    assert (planned.plan["shards"], planned.plan["shards_together"]) == (8, expected)
    every = minestream.mine(table, tmp_path / "out", **QUIET, negatives=0, emit="pairs", dry_run=True)
    assert every.plan["shards_together"] == 1, "the memory has no say there"
    mine_round, rounds = pipeline._mine_round, []

    def interrupted(mining: Any, shards: Any, meter: Any, share: Any) -> Any:
        rounds.append(len(shards))
        if len(rounds) > 1 or expected == 8:
            raise KeyboardInterrupt
        return mine_round(mining, shards, meter, share)

    monkeypatch.setattr(pipeline, "_mine_round", interrupted)
    with pytest.raises(KeyboardInterrupt) as stopped:
        minestream.mine(table, tmp_path / "out.parquet", **options)
    assert set(rounds) == {expected}
    said = "no part was finished, as 8 are mined together" if expected == 8 else "finished parts are kept"
    assert stopped.value.__notes__[0].startswith(said)


def test_a_sample_tells_how_long_the_run_is(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the processor's time, as machines may be busy; bench_estimate.py measures real jobs by the clock."""
    vectors = np.random.default_rng(3).standard_normal((6000, 16)).astype(np.float32)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 16)
    many = pa.table({"embedding": embedding, "label": np.arange(6000) % 50})
    options: dict[str, Any] = {"screen": "f32", "emit": "tuples", "negatives": 8}
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    monkeypatch.setattr(estimates, "SAMPLE_WORK", 4e9)
    monkeypatch.setattr(estimates, "kept_rate", lambda kind: None)
    minestream.mine(many, tmp_path / "out.parquet", **QUIET, **options)  # loads what the first run of a process does
    options["overwrite"] = True
    estimate = min(dry(many, tmp_path, **options) for _ in range(3))
    seconds = min(minestream.mine(many, tmp_path / "out.parquet", **QUIET, **options).seconds for _ in range(5))
    assert 1 / 2 < estimate / seconds < 2
