"""The plan of the memory: whatever is asked for, what is held at one moment is no more than --memory."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import minestream
from minestream.config.memory_plan import (
    ALWAYS,
    LEAST_BATCH_ROWS,
    LEAST_SURVIVOR_BYTES,
    PAGE_BYTES,
    READING,
    SEARCHING,
    SWEPT_ROWS,
    Job,
    batches_held,
    memory_plan,
)
from minestream.errors import CapacityError

ROWS, DIMENSION = 6_000, 16

jobs = st.builds(
    Job,
    rows=st.one_of(st.none(), st.integers(0, 10**7)),
    vector_bytes=st.integers(1, 2**17),
    threads=st.integers(1, 128),
    given_bytes=st.sampled_from([0, 0, 4, 400, 2**16]),
    code_bytes=st.lists(st.integers(4, 2**16), max_size=2).map(tuple),
    carried=st.integers(0, 2),
    in_memory=st.one_of(st.none(), st.booleans()),
    id_bytes=st.integers(0, 2**26),
    answer_bytes=st.integers(0, 2**27),
    part_bytes=st.integers(0, 2**26),
)


@settings(max_examples=500, deadline=None)
@given(st.integers(2**24, 2**34), jobs)
@example(2**26, Job(rows=400_000, vector_bytes=200, threads=2, code_bytes=(200,), answer_bytes=7_143_424))
@example(2**30, Job(rows=200_000, vector_bytes=3_072, given_bytes=1_536, threads=8, code_bytes=(384, 1_536), carried=2))
def test_no_phase_takes_more_than_there_is(memory: int, job: Job) -> None:
    plan = memory_plan(memory, job)
    assert all(size >= 0 for size in plan.bytes.values())
    assert sum(plan.code_bytes) == plan.bytes["codes"]
    assert job.carried * plan.carried_bytes <= plan.bytes["carried"]
    if job.in_memory is None and job.rows is not None:
        assert (plan.bytes["vectors"] > 0) == (0 < job.rows <= plan.vector_rows)
    with suppress(CapacityError):
        plan.check()
        assert max(map(plan.held, ALWAYS)) <= memory
    memory_plan(plan.enough(), job).check()
    least = plan.bytes["rows"] + job.answer_bytes + job.part_bytes + job.threads * LEAST_SURVIVOR_BYTES
    smallest = PAGE_BYTES + LEAST_BATCH_ROWS * batches_held(1, 1) * (job.vector_bytes + 64)
    least += max(SWEPT_ROWS[0] * job.block_row_bytes(False, False), smallest)
    if job.in_memory is not True and memory >= 2 * least:
        plan.check()  # nothing is refused that would go from scratch


def test_carried_columns_leave_room_for_vectors_before_they_are_normalised() -> None:
    job = Job(rows=498, vector_bytes=1, threads=1, given_bytes=65_536, carried=1)
    memory_plan(53_189_226, job).check()


def test_what_fits_stays_in_memory() -> None:
    """Half of the memory for vectors, as ever, and the codes beside them."""
    job = Job(rows=100_000, vector_bytes=1_000, threads=4, code_bytes=(250, 1_000))
    plan = memory_plan(512 << 20, job)
    assert plan.bytes["vectors"] == 10**8
    assert plan.code_bytes == (25_000_000, 10**8)
    assert plan.block_rows == 16_384
    assert memory_plan(150 << 20, job).bytes["vectors"] == 0


def test_a_plan_that_cannot_fit_is_refused() -> None:
    job = Job(rows=1_000_000, vector_bytes=100, threads=2, code_bytes=(100,))
    with pytest.raises(CapacityError, match=r"memory of 67,108,864 bytes is too small: .*labels, ids and order"):
        memory_plan(64 << 20, job).check()


@pytest.mark.parametrize("memory", [1 << 20, 8 << 20, 16 << 20])
def test_the_memory_that_the_hint_names_is_enough(memory: int) -> None:
    job = Job(rows=60_000, vector_bytes=256, threads=2, code_bytes=(64, 256), answer_bytes=7_143_424, part_bytes=10**7)
    with pytest.raises(CapacityError) as caught:
        memory_plan(memory, job).check()
    named = re.search(r"memory to (\d+)MiB", caught.value.hint)
    assert named is not None
    memory_plan(int(named[1]) << 20, job).check()


@pytest.fixture(scope="module")
def table() -> pa.Table:
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal(ROWS * DIMENSION).astype(np.float32)
    return pa.table({
        "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors), DIMENSION),
        "label": np.arange(ROWS) % 300, "id": [f"row {row}" for row in range(ROWS)], "text": ["words"] * ROWS,
    })  # fmt: skip


JOBS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scan": {"screen": "scan"},
    "carried": {"carry": "text", "normalize": True},
    "tuples": {"emit": "tuples", "negatives": 7},
    "pairs": {"emit": "pairs", "negatives": 5, "order": "shuffled"},
    "all positives": {"positives": "all"},
    "two tables": {"corpus": True, "carry": "text"},
    "window": {"window": 1_000},
}


@pytest.mark.parametrize("memory", ["16MiB", "64MiB", "1GiB"])
@pytest.mark.parametrize("name", JOBS)
def test_a_dry_run_says_who_gets_what(name: str, memory: str, table: pa.Table, tmp_path: Path) -> None:
    options = dict(JOBS[name])
    if options.pop("corpus", False):
        options["corpus"] = table
    if "window" not in options:
        options["screen"] = options.get("screen", "f32")
    if name == "all positives" and memory == "16MiB":  # the pairs of one part take more
        with pytest.raises(CapacityError, match="answers of the anchors mined together"):
            minestream.mine(table, tmp_path / "out.parquet", memory=memory, dry_run=True, progress="none", **options)
        return
    report = minestream.mine(
        table, tmp_path / "out.parquet", memory=memory, dry_run=True, progress="none", threads=2, **options
    )
    told = report.plan["memory"]
    assert told
    if "window" not in options:
        assert 16 << 20 <= report.plan["enough_bytes"] <= report.plan["memory_bytes"]
    for phase in ALWAYS:
        taken = sum(each["bytes"] for each in told if each["when"] == "always" or phase in each["when"])
        assert 0 < taken <= report.plan["memory_bytes"]
    if name == "carried":
        assert any("carried" in each["what"] for each in told)
    if "window" not in options:
        assert {READING, SEARCHING} <= {each["when"] for each in told}


@pytest.mark.parametrize("name", ["plain", "all positives"])
def test_what_a_dry_run_says_is_enough_is_the_least(name: str, table: pa.Table, tmp_path: Path) -> None:
    def mined(memory: int, dry: bool) -> Any:
        asked = {**JOBS[name], "memory": str(memory), "screen": "f32", "dry_run": dry}
        return minestream.mine(table, tmp_path / "out.parquet", threads=2, progress="none", **asked)

    enough = mined(1 << 30, dry=True).plan["enough_bytes"]
    assert enough % 2**20 == 0
    assert mined(enough, dry=False).stats.rows
    if enough > 16 << 20:
        with pytest.raises(CapacityError, match=f"raise memory to {enough >> 20}MiB"):
            mined(enough - 2**20, dry=True)


def test_vectors_in_scratch_leave_more_for_answers() -> None:
    """The fewer anchors are mined at a time, the more often all rows are read again."""
    job = Job(rows=10**6, vector_bytes=4_000, threads=2, code_bytes=(1_000, 2_000), answer_bytes=10**7)
    read, held = (memory_plan(2**33, replace(job, in_memory=each)) for each in (False, True))
    assert held.bytes["answers"] <= 2**31 < 2**32 - 10**6 < read.bytes["answers"] <= 2**32
    assert [each > 0 for each in read.code_bytes] == [True, True]
    seldom = memory_plan(2**32, replace(job, in_memory=False, approximate=True))
    assert [each > 0 for each in seldom.code_bytes] == [True, False]
    assert seldom.bytes["answers"] > 1.9 * memory_plan(2**32, replace(job, in_memory=False)).bytes["answers"]
