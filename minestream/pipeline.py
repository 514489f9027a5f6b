"""The front door: source -> store -> shards -> positives -> negatives -> rows -> parts -> the output under its name."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.config import MineConfig, Resources, short_share, split_options
from minestream.emit import Picture, emit, schema_of
from minestream.errors import GateMissed, InputError, UsageError, nearest_name
from minestream.finish import finishing_pass, summed
from minestream.kernels import cache_note
from minestream.load import Loaded, choose_anchors, load
from minestream.negatives import negative_pairs, negative_rule
from minestream.plan import MAX_BLOCK_ROWS, MIN_BLOCK_ROWS, Plan, make_plan, memory_budget, thread_count
from minestream.positives import choose_positives
from minestream.progress import Callback, Progress, reporter
from minestream.search import ANCHOR_STATE_BYTES, SCAN_ROWS, Found, Limits, Workers, search
from minestream.sink import Output, Run, default_output, refuse_differences
from minestream.source import Source, arrays_source, open_source
from minestream.stats import Report, ShardStats, merged

SCREENS = ("auto", "scan", "f32")


def mine(
    inputs: Any, out: str | Path | None = None, *, progress_callback: Callback | None = None, **options: Any
) -> Report:
    """Mine triplets, pairs or tuples from embeddings into Parquet.

    Parameters
    ----------
    inputs : path, Arrow object, or list of them
        Parquet or Arrow IPC files, folders, globs, tables, readers.
    out : path, optional
        A name ending in .parquet becomes one file, any other a folder of parts. Default: the first input's
        stem and the emit, in the working directory.
    progress_callback : callable, optional
        Receives the events of progress.py.
    **options
        Every option of `minestream mine`, as keywords: the fields of MineConfig and Resources.

    Returns
    -------
    Report

    Raises
    ------
    MinestreamError
        UsageError, InputError, CapacityError, OutputError, GateMissed: see errors.py.

    Notes
    -----
    Cost: 2 A n d float32 operations for A anchors among n rows of d coordinates, on all threads.
    """
    began = time.perf_counter()
    config, resources = split_options(options)
    output = Output(default_output(inputs, config.emit) if out is None else Path(out))
    finished = output.check(resume=resources.resume, overwrite=resources.overwrite)
    if finished is not None:
        refuse_differences(f"{output.final}", finished, {**finished, "config": config.to_dict()})
        return _already(output, finished)
    with ExitStack() as stack:
        progress = stack.enter_context(reporter(resources.progress, progress_callback))
        source = _open(inputs, config, resources)
        miner = stack.enter_context(Miner(source, config, resources, output.final.parent, progress))
        if resources.dry_run:
            return miner.report(None, [], began, complete=False)
        run = stack.enter_context(
            output.begin(
                resume=resources.resume, overwrite=resources.overwrite, config=config.to_dict(),
                fingerprint=config.fingerprint(), source=source.identity(), columns=miner.columns(),
                parts=len(miner.plan.shards),
            )
        )  # fmt: skip
        for index in range(len(miner.plan.shards)):
            if run.finished(index) is None:
                table, stats = miner.mine_shard(index)
                with stats.stage("write"):
                    run.write_part(index, table, stats.to_dict())
        return _publish(miner, run, output, began)


def _publish(miner: Miner, run: Run, output: Output, began: float) -> Report:
    """Check the gates, run the finishing pass if there is one, and put the output under its name."""
    config = miner.config
    parts = [ShardStats.from_dict(record["stats"]) for record in run.parts()]
    total = merged(parts)
    paths = [run.part_path(index) for index in range(len(parts))]
    rows = finishing_pass(paths, emit=config.emit, order=config.order, seed=config.seed, keys=miner.keys())
    if rows is not None and config.emit == "pairs":
        rows = summed(rows, total)
    if config.emit != "pairs":
        _check_gates(miner.resources, total)

    def counts() -> dict[str, int]:  # pairs are counted by the finishing pass, before anything is published
        _check_gates(miner.resources, total)
        return total.answer()

    miner.progress.stage("publish", len(parts), "parts")
    run.publish(counts=counts, replace_parts=rows, extra=lambda: miner.report(output.final, [total], began).to_dict())
    return miner.report(output.final, [total], began)


def _check_gates(resources: Resources, total: ShardStats) -> None:
    if resources.require_rows is not None and total.rows < resources.require_rows:
        raise GateMissed(
            f"{total.rows:,} rows came out, --require-rows asks for {resources.require_rows:,}",
            "nothing was published; the parts are kept: --resume with another gate publishes them",
        )
    share = short_share(resources.max_short)
    looked_for = total.full + total.short + total.empty
    if share is not None and looked_for and (total.short + total.empty) / looked_for > share:
        raise GateMissed(
            f"{(total.short + total.empty) / looked_for:.2%} of the pairs are short, --max-short allows {share:.2%}",
            "nothing was published; the parts are kept: --resume with another gate publishes them",
        )


def _already(output: Output, manifest: dict[str, Any]) -> Report:
    told = manifest["report"]
    return Report(
        str(output.final), told["config"], told["columns"], told["source"], told["plan"],
        ShardStats.from_dict({k: v for k, v in told["stats"].items() if not k.startswith("mean_")}),
        (f"{output.final} is already complete",), told["seconds"], True, True,
    )  # fmt: skip


def _open(inputs: Any, config: MineConfig, resources: Resources) -> Source:
    return open_source(
        inputs, embedding=config.embedding, label=config.label, id=config.id, group_column=config.group_column,
        carry=config.carry, vectors=resources.vectors, metric=config.metric, normalize=config.normalize,
        on_bad_rows=config.on_bad_rows, batch_rows=resources.batch_rows,
    )  # fmt: skip


def screen_of(resources: Resources) -> str:
    """The arithmetic that proposes: as asked for, or by MINESTREAM_SCREEN, else auto."""
    screen = os.environ.get("MINESTREAM_SCREEN", "auto") if resources.screen == "auto" else resources.screen
    if screen not in SCREENS:
        raise UsageError(f"no screen {screen!r}", nearest_name(screen, list(SCREENS)))
    return screen


class Miner:
    """One source loaded and planned: mines any of its shards.

    Parameters
    ----------
    source : Source
        Read once, here.
    config, resources : MineConfig, Resources
    scratch : Path
        Folder for vectors that do not fit, unless resources name another.
    progress : Progress
    """

    def __init__(
        self, source: Source, config: MineConfig, resources: Resources, scratch: Path, progress: Progress
    ) -> None:
        self.source, self.config, self.resources, self.progress = source, config, resources, progress
        self.reading = ShardStats()
        self._scratch = Path(resources.scratch) if resources.scratch else scratch
        if not self._scratch.is_dir():
            raise UsageError(f"--scratch {self._scratch} is no folder", "make it first")
        budget = memory_budget(resources)
        screen = screen_of(resources)
        with self.reading.stage("read"):
            self.loaded: Loaded = load(source, config, budget // 2, self._scratch, progress)
        store = self.loaded.store
        scan = screen == "scan" or (screen == "auto" and store.rows <= SCAN_ROWS)
        self.anchors = choose_anchors(self.loaded, config)
        self.plan: Plan = make_plan(
            config, resources, rows=store.rows, dimension=store.dimension, row_bytes=store.row_bytes,
            positives=self.loaded.positives[self.anchors], in_memory=store.in_memory, scan=scan, budget_bytes=budget,
        )  # fmt: skip
        self.limits = _limits(store.dimension, store.row_bytes, resources, budget, scan)
        self.workers = Workers(self.limits.threads)
        self.schema = schema_of(self.loaded, config)
        self._check_weighted()
        for note in self.notes():
            progress.note(note)
        progress.stage("mine", self.plan.facts["pairs_to_compute"], "pairs")

    def __enter__(self) -> Miner:
        return self

    def __exit__(self, *error: object) -> None:
        self.workers.close()
        self.loaded.store.close()

    def mine_shard(self, index: int) -> tuple[pa.Table, ShardStats]:
        """One shard's journey: positives, negatives, rows."""
        config, loaded, stats = self.config, self.loaded, ShardStats()
        first, end = self.plan.shards[index]
        anchors = self.anchors[first:end]

        def find(slots: NDArray[np.int32], pairs: Any, rule: Any) -> Found:
            return search(loaded, config.metric, slots, pairs, rule, self.limits, self.workers, self.progress, stats)

        with stats.stage("positives"):
            chosen = choose_positives(loaded, config, anchors, find)
        with stats.stage("negatives"):
            found = find(anchors, negative_pairs(loaded, config, anchors, chosen), negative_rule(config))
        with stats.stage("rows"):
            table = emit(Picture(loaded, config, anchors, chosen, found, stats))
        return table, stats

    def columns(self) -> dict[str, Any]:
        """The input columns used, by role."""
        found = self.source.columns
        return {
            "embedding": found.embedding, "label": found.label, "id": found.id, "group": found.group,
            "carry": list(found.carry),
        }  # fmt: skip

    def keys(self) -> Keys:
        """K and key order by source row, for a shuffled order."""
        rows = self.loaded.rows
        draw_key = np.zeros(self.loaded.source_rows, np.uint64)
        rank = np.zeros(self.loaded.source_rows, np.int64)
        draw_key[self.loaded.source_row], rank[self.loaded.source_row] = rows.draw_key, rows.rank
        return Keys(draw_key, rank)

    def notes(self) -> list[str]:
        """What the user should know, one line each."""
        notes = list(self.loaded.notes)
        if self.config.margin is None:
            notes.append("no --margin: the loss column is left out")
        if cache_note():
            notes.append(cache_note())
        return notes

    def report(self, output: Path | None, parts: list[ShardStats], began: float, complete: bool = True) -> Report:
        """What the run did."""
        loaded, source = self.loaded, self.source
        about = {
            "rows": loaded.source_rows, "dimension": source.dimension, "dtype": str(source.dtype),
            "dropped": loaded.dropped, "rows_taking_part": loaded.store.rows,
        }  # fmt: skip
        total = merged([self.reading, *parts])
        return Report(
            None if output is None else str(output), self.config.to_dict(), self.columns(), about, self.plan.facts,
            total,
            tuple(self.notes()), time.perf_counter() - began, complete,
        )  # fmt: skip

    def _check_weighted(self) -> None:
        if self.config.pick == "weighted" and self.source.dimension < 3:
            raise InputError(
                f"--pick weighted needs vectors of 3 coordinates or more, these have {self.source.dimension}",
                "the density of distances on a circle has no such weight; use --pick random",
            )


@dataclass(frozen=True)
class Keys:
    """K and key order of every source row."""

    draw_key: NDArray[np.uint64]
    rank: NDArray[np.int64]


def _limits(dimension: int, row_bytes: int, resources: Resources, budget: int, scan: bool) -> Limits:
    """Sizes of blocks and groups of anchors for a budget of bytes."""
    per_row = row_bytes + 12 * dimension + 64
    block = min(MAX_BLOCK_ROWS, max(MIN_BLOCK_ROWS, budget // 16 // per_row))
    per_anchor = ANCHOR_STATE_BYTES + 16 * dimension
    group = min(16_384, max(512, budget // 4 // per_anchor))
    return Limits(thread_count(resources), resources.block_rows or int(block), int(group), scan)


# ---------------------------------------------------------------- arrays and batches


SHORT_NAMES = {
    "anchor": "anchor_row", "positive": "positive_row", "negative": "negative_row", "left": "left_row",
    "right": "right_row",
}  # fmt: skip


@dataclass
class Mined:
    """What mine_arrays found: each column is an attribute (`anchor` for anchor_row), a writable array by row.

    Attributes
    ----------
    stats : ShardStats
        The funnel.
    """

    _table: pa.Table
    stats: ShardStats

    def table(self) -> pa.Table:
        """The rows as the files hold them."""
        return self._table

    def __getattr__(self, name: str) -> NDArray[Any]:
        column = SHORT_NAMES.get(name, name)
        if name.startswith("_") or column not in self._table.column_names:
            raise AttributeError(f"no column {name!r}; there are {', '.join(self._table.column_names)}")
        values = np.array(self._table[column].combine_chunks().to_numpy(zero_copy_only=False))
        self.__dict__[name] = values
        return values

    def torch(self) -> dict[str, Any]:
        """The numeric columns as torch tensors, by short name; torch must have been imported by the caller.

        Raises
        ------
        UsageError
            When it was not.
        """
        torch = sys.modules.get("torch")
        if torch is None:
            raise UsageError("torch is not imported", "import torch before calling .torch()")
        short = {column: name for name, column in SHORT_NAMES.items()}
        numeric = [f.name for f in self._table.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
        columns = [name for name in numeric if self._table[name].null_count == 0]
        return {short.get(name, name): torch.from_numpy(getattr(self, name)) for name in columns}


def mine_arrays(embeddings: Any, labels: Any, *, ids: Any = None, groups: Any = None, **options: Any) -> Mined:
    """Mine arrays in memory.

    Parameters
    ----------
    embeddings : array (n, d)
        NumPy, torch (any device; bfloat16 becomes float32), or lists.
    labels : array or list of length n
        Ints, strings, or lists of them; None is unlabelled.
    ids, groups : array or list of length n, optional
    **options
        As for mine().

    Returns
    -------
    Mined
    """
    options.setdefault("progress", "none")
    config, resources = split_options(options)
    source = arrays_source(
        embeddings, labels, ids=ids, groups=groups, metric=config.metric, normalize=config.normalize,
        on_bad_rows=config.on_bad_rows, batch_rows=resources.batch_rows,
    )  # fmt: skip
    with ExitStack() as stack:
        progress = stack.enter_context(reporter(resources.progress, None))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        miner = stack.enter_context(Miner(source, config, resources, folder, progress))
        parts = [miner.mine_shard(index) for index in range(len(miner.plan.shards))]
        total = merged(stats for _, stats in parts)
        table = pa.concat_tables([table for table, _ in parts])
        if config.emit == "pairs" or config.order == "shuffled":
            table = _finished_in_memory(miner, parts, total, folder)
        return Mined(table, total)


def _finished_in_memory(
    miner: Miner, parts: list[tuple[pa.Table, ShardStats]], total: ShardStats, folder: Path
) -> pa.Table:
    """The finishing pass over parts written to a temporary folder."""
    config = miner.config
    run = Output(folder / "mined").begin(
        resume=False, overwrite=False, config=config.to_dict(), fingerprint=config.fingerprint(),
        source=miner.source.identity(), columns=miner.columns(), parts=len(parts),
    )  # fmt: skip
    with run:
        for index, (table, stats) in enumerate(parts):
            run.write_part(index, table, stats.to_dict())
        paths = [run.part_path(index) for index in range(len(parts))]
        rows = finishing_pass(paths, emit=config.emit, order=config.order, seed=config.seed, keys=miner.keys())
        assert rows is not None
        rows = summed(rows, total) if config.emit == "pairs" else rows
        return pa.concat_tables([parts[0][0].slice(0, 0), *rows])


def mine_batches(inputs: Any, **options: Any) -> pa.RecordBatchReader:
    """Mine and hand the rows out as record batches while mining goes on.

    Parameters
    ----------
    inputs, **options
        As for mine(). --emit pairs and --order shuffled need a finishing pass over all rows and are refused.

    Returns
    -------
    pyarrow.RecordBatchReader
        Reading it mines; closing it, or dropping it, stops the mining.
    """
    config, resources = split_options({"progress": "none", **options})
    if config.emit == "pairs" or config.order == "shuffled":
        what = "--emit pairs" if config.emit == "pairs" else "--order shuffled"
        raise UsageError(f"{what} needs all rows before the first can be handed out", "use mine() or mine_arrays()")
    source = _open(inputs, config, resources)
    stack = ExitStack()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    progress = stack.enter_context(reporter(resources.progress, None))
    try:
        miner = stack.enter_context(Miner(source, config, resources, folder, progress))
    except BaseException:
        stack.close()
        raise

    def batches() -> Iterator[pa.RecordBatch]:
        with stack:
            for index in range(len(miner.plan.shards)):
                yield from miner.mine_shard(index)[0].to_batches()

    return pa.RecordBatchReader.from_batches(miner.schema, batches())


def warmup(dtype: Any = np.float32) -> float:
    """Compile, or load from the cache, every kernel that mining rows of `dtype` runs; returns the seconds it took."""
    began = time.perf_counter()
    vectors = np.random.default_rng(0).standard_normal((64, 8)).astype(dtype)
    labels = np.arange(64) % 4
    screens: tuple[Callable[[], Mined], ...] = (
        lambda: mine_arrays(vectors, labels, screen="scan"),
        lambda: mine_arrays(vectors, labels, screen="f32"),
    )
    for run in screens:
        run()
    return time.perf_counter() - began
