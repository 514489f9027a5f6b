"""The plan of the memory beside what is really held, by tracemalloc and Arrow's pool, row by row of its table."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from most_held import alone, peaks
from support import set_sizes

import minestream
from minestream.config import memory_plan
from minestream.config.memory_plan import (
    FINISHING,
    GROUP_BYTES,
    MADE_BYTES,
    READING,
    SEARCHING,
    TABLE,
    TERMS_BYTES,
    encoders,
)
from minestream.config.mine_config import MineConfig
from minestream.config.resolve import split_options
from minestream.config.resources import Tables
from minestream.inputs import parquet_files
from minestream.inputs.dataset.table_reader import TableReader
from minestream.kernels.types import IGNORE, NEAREST, NEGATIVE, Rule
from minestream.mining.driver import Driver, job_of
from minestream.mining.pipeline import mine_shards, write_parts
from minestream.mining.shards import Mining
from minestream.mining.stream.miner import window_bytes
from minestream.outputs.finish import finished_rows
from minestream.outputs.parquet import ROW_GROUP_BYTES, part_tables, write_rows
from minestream.outputs.rows import ShardResult, emitted
from minestream.search.near import near_cells
from minestream.search.results import Found, one_pair_each
from minestream.search.screens import Codes
from minestream.search.sweep import Sweeping
from minestream.search.work import WorkMeter
from minestream.system.stats import ShardStats

PYTHON_BYTES = 1 << 14  # of Python's own objects, which other tests of the process have or have not made before


@contextmanager
def opened(given: pa.Table, folder: Path, **options: Any) -> Iterator[Mining]:
    """A run that has read its rows and mined nothing yet."""
    options = {"scratch": str(folder), "threads": 2, "progress": "none", "band": "any", "screen": "f32"} | options
    config, resources, _ = split_options(options)
    with Driver(config, resources) as driver:
        yield Mining(driver, driver.open(given, Tables()))


def table(rows: int, dimension: int) -> pa.Table:
    vectors = np.random.default_rng(0).standard_normal(rows * dimension).astype(np.float32)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors), dimension)
    return pa.table({"embedding": embedding, "label": np.arange(rows) % (rows // 10)})


def measured(
    folder: Path, rows: int, dimension: int, given: Any = None, **options: Any
) -> tuple[dict[str, int], dict[str, int]]:  # fmt: skip
    """The peaks of a run by phase, and the bytes of its plan by row of TABLE."""
    fixed = {"progress": "none", "overwrite": True, "threads": 2} | options
    kernels = {name: value for name, value in fixed.items() if name != "carry"} | {"memory": "1GiB"}
    minestream.mine(table(5_000, dimension), folder / "out.parquet", **kernels)  # loads them
    given = given or table(rows, dimension)
    with peaks() as found:
        report = minestream.mine(given, folder / "out.parquet", progress_callback=found, **fixed)
        found.turn_to("")
    told = {each["what"]: each["bytes"] for each in report.effort["memory"]}
    return found.of, {name: told.get(what, 0) for name, (what, _) in TABLE.items()}


def held(plan: dict[str, int], phase: str) -> int:
    return sum(size for name, size in plan.items() if phase in TABLE[name][1])


PARTS: dict[str, tuple[int, int, dict[str, Any]]] = {  # the lengths of ids and of carried texts, and options
    "triplets": (0, 0, {"negatives": 12, "margin": 0.1, "swap": True, "float64": True}),
    "ids": (45, 0, {"negatives": 16}),
    "texts": (17, 120, {"negatives": 28}),
    "tuples": (0, 1_200, {"negatives": 60, "emit": "tuples", "anchors": "1000"}),
    "pairs": (45, 0, {"negatives": 100, "emit": "pairs", "anchors": "1500"}),
    "ranks": (0, 0, {"negatives": 9, "within_top": 100, "pick": "random"}),
    "reserves": (17, 0, {"negatives": 28, "max_uses": 1_000}),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part is written while the answers of the next are taken: both are measured alone, and added up."""
    *lengths, options = PARTS[name]
    given = table(9_000, 8)
    for column, length in zip(("id", "text"), lengths, strict=True):
        if length:
            given = given.append_column(column, pa.array([f"{row:0{length}d}" for row in range(9_000)]))
    options = options | ({"carry": "text"} if lengths[1] else {})
    fixed = {"progress": "none", "band": "any", "screen": "f32", "threads": 2}
    minestream.mine(given.slice(0, 1_900), tmp_path / "first.parquet", **fixed | options)  # loads the kernels
    answers, seen = Sweeping.answers, []

    def taking(self: Sweeping, group: int) -> Found:
        found, taken = alone(lambda: answers(self, group))
        seen.append(taken)
        return found

    monkeypatch.setattr(Sweeping, "answers", taking)
    with opened(given, tmp_path, memory="256MiB", **options) as mining:
        _, result = next(mine_shards(mining, [0]))
        found = sum(field.nbytes for field in (result.found.start, result.found.slot, result.found.x))
        rows = emitted(result)
        _, written = alone(lambda: write_rows(tmp_path / "part.parquet", mining.schema, rows, {}))
        planned = mining.searcher.job.part_bytes
    assert 0.6 * planned < max(seen) + found + written <= planned


def test_several_parts_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as there are threads, each with many rows at a time; their answers are not measured."""
    set_sizes(monkeypatch, PART_ANCHORS=900)
    options: dict[str, Any] = {"negatives": 28, "margin": 0.1, "swap": True, "float64": True, "threads": 4}
    with opened(table(9_000, 8), tmp_path, memory="512MiB", **options) as mining, peaks() as found:
        job, plan = mining.searcher.job, mining.searcher.plan
        results = [*mine_shards(mining, range(10))]

        def write(index: int, result: ShardResult) -> None:
            write_rows(tmp_path / f"{index}", mining.schema, emitted(result), {})

        found.turn_to(SEARCHING)
        write_parts(mining, results, write)
        found.turn_to("")
    assert (plan.writers, plan.made_bytes) == (4, MADE_BYTES)
    assert plan.bytes["parts"] == 4 * (job.part_bytes + MADE_BYTES)
    print("XX", plan.bytes["parts"], found.of[SEARCHING])
    assert 0.3 * plan.bytes["parts"] < found.of[SEARCHING] <= plan.bytes["parts"]


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_row_groups_encoded_at_a_time(threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the size they have: they take as much less."""
    set_sizes(monkeypatch, ROW_GROUP_BYTES=1 << 19)
    rng, paths = np.random.default_rng(0), [tmp_path / f"{part}" for part in range(6)]
    for path in paths:
        lists = pa.FixedSizeListArray.from_arrays(pa.array(rng.integers(0, 1 << 62, 60_000)), 6)
        rows = pa.table({"row": rng.integers(0, 1 << 62, 10_000), "rows": lists.cast(pa.list_(pa.int64()))})
        write_rows(path, rows.schema, [rows], {}, brief=True)
    with peaks() as found:
        found.turn_to(FINISHING)
        write_rows(tmp_path / "out", rows.schema, part_tables(paths, -(-threads // 4)), {}, threads=threads)
        found.turn_to("")
    most = (threads + 1) * GROUP_BYTES * (1 << 19) // ROW_GROUP_BYTES
    assert 0.3 * most < found.of[FINISHING] <= most
    assert encoders(2 * (threads + 1) * GROUP_BYTES, 64) == threads


ANSWERS: dict[str, dict[str, Any]] = {
    "anchors": {},
    "pairs": {"positives": "random", "positives_per_anchor": 9, "band": "semihard", "screen": "auto"},
    "answers": {"negatives": 40},
    "skipped": {"skip": 40, "pick": "random"},
    "ranks": {"within_top": 90, "skip": 40, "pick": "random"},
    "ranks of positives": {"rank_positives": 40},
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to where answers are taken, mining more anchors takes what the plan reckons with for them."""
    answers, given, seen = Sweeping.answers, table(9_000, 8), []

    def taking(self: Sweeping, group: int) -> Found:
        if self.rule.wanted == NEGATIVE:
            raise InterruptedError
        return answers(self, group)

    def mine(mining: Mining) -> None:
        with pytest.raises(InterruptedError):
            next(mine_shards(mining, [0]))

    monkeypatch.setattr(Sweeping, "answers", taking)
    options = {"negatives": 1, "memory": "2GiB", "block_rows": 512} | ANSWERS[name]
    for anchors in (50, 1_000, 4_000):  # the first loads the kernels
        with opened(given, tmp_path, anchors=str(anchors), **options) as mining:
            _, taken = alone(partial(mine, mining))
            seen.append((taken, mining.searcher.job.answer_bytes))
    (_, (less, few), (more, many)) = seen
    assert 0.6 * (many - few) < more - less <= many - few


def test_long_texts_are_written_few_rows_at_a_time(tmp_path: Path) -> None:
    """What is made and written of rows that carry 8 KB each stays within the plan."""
    given = table(5_000, 2).append_column("text", pa.array(["words " * 1_365] * 5_000))
    options = {"memory": "96MiB", "carry": "text", "anchors": "1000", "negatives": 4, "band": "any"}
    of, plan = measured(tmp_path, 5_000, 2, given=given, **options)
    assert of[SEARCHING] <= held(plan, SEARCHING) < 96 << 20


GROWING: dict[str, tuple[str, tuple[str, ...], int, tuple[int, int], float, dict[str, Any]]] = {
    "rows": (SEARCHING, ("rows",), 2, (60_000, 2), 1.1, {"memory": "64MiB"}),
    "vectors": (READING, ("vectors",), 16, (20_000, 256), 1.3, {"memory": "128MiB"}),
    "given": (READING, ("given", "vectors"), 16, (20_000, 256), 1.3, {"memory": "256MiB", "normalize": True}),
}


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_with_the_rows(name: str, tmp_path: Path) -> None:
    """From a small table to a large one the peak grows as the plan says; were the row half of what it is, by more."""
    phase, rows, dimension, large, most, options = GROWING[name]
    options = options | {"anchors": "50", "band": "any", "block_rows": 1_024}
    (peak, plan), (more, planned) = (measured(tmp_path, *size, **options) for size in ((20_000, dimension), large))
    grown, expected = more[phase] - peak[phase], sum(planned[row] - plan[row] for row in rows)
    assert 0.75 * expected < grown < most * expected


def test_batches(tmp_path: Path) -> None:
    """Of a file with one large row group, read into scratch."""
    pq.write_table(table(20_000, 256), tmp_path / "in.parquet")
    options = {"memory": "16MiB", "anchors": "50", "band": "any", "screen": "f32"}
    of, plan = measured(tmp_path, 20_000, 256, given=tmp_path / "in.parquet", **options)
    assert held(plan, READING) - plan["batches"] / 2 < of[READING] <= held(plan, READING)


@pytest.mark.parametrize("threads", [2, 4])
@pytest.mark.parametrize("group", [1_024, 10_000])
def test_batches_of_several_threads(
    threads: int, group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    """Of small row groups and of large ones, where what uses the rows is slower than what reads them."""
    for module, name, size in ((memory_plan, "MOST_BATCH_ROWS", 1_024), (parquet_files, "RUN_ROWS", 1_024),
                               (memory_plan, "PAGE_BYTES", 4 << 20), (memory_plan, "MOST_AHEAD", 5)):  # fmt: skip
        monkeypatch.setattr(module, name, size)
    add = TableReader.add
    monkeypatch.setattr(TableReader, "add", lambda *given: (time.sleep(0.02), add(*given))[1])
    pq.write_table(table(40_000, 256), tmp_path / "in.parquet", row_group_size=group, use_dictionary=False)
    options = {"memory": "512MiB", "anchors": "50", "band": "any", "screen": "f32", "threads": threads}
    of, plan = measured(tmp_path, 40_000, 256, given=tmp_path / "in.parquet", **options)
    assert plan["batches"] == memory_plan.reading_bytes(threads, 5, 1_024 * (4 * 256 + 64))
    assert plan["vectors"] + plan["batches"] / 4 < of[READING] <= plan["vectors"] + plan["rows"] + plan["batches"]


BLOCKS = {  # the dimension, pairs of an anchor, what each takes, whether vectors are in memory, whether codes are
    "rows": (4, 8, 1, True, True),
    "codes": (256, 1, 1, True, True),
    "vectors read": (256, 1, 30, False, True),  # so many that survivors name all rows
    "both read": (256, 1, 30, False, False),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks(name: str, tmp_path: Path) -> None:
    """Sweeping with larger blocks takes what the plan reckons with for their rows."""
    dimension, each, take, in_memory, codes_in_memory = BLOCKS[name]
    given, rule, seen = table(17_500, dimension), Rule(NEGATIVE, NEAREST, take, 0, IGNORE, IGNORE, 0.0, False, 0), []
    for size, count in ((2_048, 300), (2_048, 9_000), (4_096, 9_000)):  # the first loads the kernels
        anchors, single = np.arange(count, dtype=np.int32), one_pair_each(count * each)
        pairs = single._replace(start=single.start[::each], positive=np.zeros(count * each, np.int32))
        with opened(given, tmp_path, memory="1GiB" if in_memory else "16MiB", block_rows=size, screen="f32") as mining:
            searcher = mining.searcher
            assert searcher.loaded.store.in_memory == in_memory
            codes = Codes(mining.loaded, "f32", searcher.workers, 2, 1 << 40 if codes_in_memory else 1, tmp_path)
            setting = replace(searcher.setting(ShardStats(), WorkMeter()), codes=lambda _, codes=codes: codes)
            _, taken = alone(lambda: deque(Sweeping(setting, [anchors], pairs, rule).run()))  # noqa: B023
            codes.close()
        seen.append((taken, size * searcher.job.block_row_bytes(in_memory, codes_in_memory)))
    (_, (less, few), (more, many)) = seen
    assert 0.6 * (many - few) < more - less <= many - few + PYTHON_BYTES


def test_codes(tmp_path: Path) -> None:
    """They are in memory where the plan has room for them, with the terms that are reckoned with for every row."""
    with opened(table(9_000, 64), tmp_path, memory="256MiB") as mining:
        codes = mining.searcher.setting(ShardStats(), WorkMeter()).codes("f32")
        assert sum(field.nbytes for field in codes.terms) == 9_000 * TERMS_BYTES
        assert codes.store.in_memory
        assert 9_000 * codes.store.row_bytes == mining.searcher.plan.bytes["codes"]


@pytest.mark.parametrize(("dimension", "memory"), [(24, "1GiB"), (256, "1GiB"), (256, "64MiB"), (256, "32MiB")])
def test_cells(dimension: int, memory: str, tmp_path: Path) -> None:
    """Finding them takes what the plan says, or a little less: from memory or scratch, many rows or few at a time."""
    for rows in (5_000, 20_000):  # the first loads the kernels
        with opened(table(rows, dimension), tmp_path, memory=memory, approximate=0.9) as mining:
            assert mining.loaded.store.in_memory == (memory != "32MiB" or rows == 5_000)
            near, taken = alone(lambda: near_cells(mining.loaded, mining.searcher.workers, 2))
            planned = mining.searcher.plan.bytes["cells"]
    assert 0.6 * planned < taken - near.nbytes <= planned


@pytest.mark.parametrize("dimension", [4, 64])
def test_window(dimension: int) -> None:
    """A longer window takes what is reckoned with for its rows."""
    seen = []
    for window in (256, 2_048, 6_144):  # the first loads the kernels
        given = table(3 * window, dimension)
        with minestream.Miner(window=window, threads=2, band="any", negatives=1, positives="hardest") as miner:
            _, taken = alone(lambda: [miner.feed(batch) for batch in given.to_batches(2_048)])  # noqa: B023
            assert miner._like is not None
            seen.append((taken, window_bytes(miner._config, miner._like)))
    (_, (less, few), (more, many)) = seen
    assert 0.6 * (many - few) < more - less <= many - few + PYTHON_BYTES


@pytest.mark.parametrize(("tables", "share"), [(1, 0.9), (2, 0.9), (2, 1.5)])
def test_carried(tables: int, share: float, tmp_path: Path) -> None:
    """What is carried stays in memory up to what the plan has for it, of all tables together."""

    def read(length: int) -> tuple[int, int]:
        given = table(5_000, 2).append_column("text", pa.array([f"{row:0{length}d}" for row in range(5_000)]))
        options = {"memory": "64MiB", "scratch": str(tmp_path), "carry": "text", "threads": 2, "progress": "none"}
        config, resources, others = split_options(options | ({"corpus": given} if tables == 2 else {}))
        with Driver(config, resources) as driver:
            sources = driver.open(given, others)
            plan = memory_plan.memory_plan(64 << 20, job_of(sources, config, resources))
            loaded, _ = driver.dataset(sources)
            batches = [batch for each in loaded.each_table() if each.carried for batch in each.carried._batches]
            return plan.bytes["carried"], sum(batch.nbytes for batch in batches)

    planned, _ = read(10)
    planned, held = read(int(share * planned / tables / 5_000))
    assert held <= planned
    assert held > 0.8 * planned or share > 1


def test_survivors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The buffers take what the plan says, all threads together."""
    seen, use = [], Sweeping.use

    def using(self: Sweeping, codes: Any) -> None:
        use(self, codes)
        seen.append(sum(field.nbytes for field in self.found))

    monkeypatch.setattr(Sweeping, "use", using)
    _, plan = measured(tmp_path, 9_000, 2, memory="64MiB", anchors="50")
    assert plan["survivors"] / 2 < seen[-1] <= plan["survivors"]


def test_rows_put_in_order(tmp_path: Path) -> None:
    """Pairs with every column there is: a row put in order takes what the plan reckons with."""
    rows, room = 400_000, 48 << 20
    left = np.sort(np.random.default_rng(0).integers(0, 50_000, rows))
    ids = pa.array([f"document {row:08d}" for row in range(rows)])
    pairs = pa.table({
        "left_id": ids, "right_id": ids, "left_row": left, "right_row": left + 1 + np.arange(rows) % 40_000,
        "label": left % 2, "distance": left.astype(np.float32), "loss": left.astype(np.float32),
    })  # fmt: skip
    pq.write_table(pairs, tmp_path / "part.parquet", row_group_size=16_384)
    config = MineConfig(emit="pairs")
    with peaks() as found:
        found.turn_to(FINISHING)
        for _ in finished_rows(config, [tmp_path / "part.parquet"], {}, ShardStats(), room) or ():
            pass
        found.turn_to("")
    assert room / 2 < found.of[FINISHING] <= room
