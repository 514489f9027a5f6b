"""Streams from end to end: rows as they come, mined within a window, into parts, one output or record batches."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pyarrow as pa

from minestream.config.checks import IN_WINDOWS, refuse
from minestream.config.mine_config import MineConfig
from minestream.config.parse import PIPE
from minestream.config.resources import Resources, Tables
from minestream.inputs.given import given_tables, marks_of
from minestream.inputs.source import Source
from minestream.inputs.tables import open_sources
from minestream.mining.plan import PART_ANCHORS, PART_ROWS
from minestream.mining.stream.latency import Latencies
from minestream.mining.stream.miner import PIECE_ROWS, Windowed, bank_bytes
from minestream.outputs.parquet import part_tables
from minestream.outputs.run import Run
from minestream.outputs.target import Target
from minestream.system.progress import Callback, reporter
from minestream.system.stats import Report, ShardStats

BATCH_ROWS = 16_384  # handed out at once, at most


def mine_stream(
    inputs: Any, output: Target, config: MineConfig, resources: Resources, tables: Tables, callback: Callback | None
) -> Report:
    """Mine a stream within a window into an output; see pipeline.mine.

    Raises
    ------
    UsageError
        For an option that asks for the end of the stream before it is there.
    """
    began = time.perf_counter()
    refuse(IN_WINDOWS, resources, what="--window")
    given = given_tables(inputs, tables, resources)
    if not resources.dry_run:
        output.refuse_inputs(given)
        output.check(resume=False, overwrite=resources.overwrite)
    with ExitStack() as stack:
        progress = stack.enter_context(reporter(resources.progress, callback))
        read = [] if resources.dry_run else marks_of(given)
        source = open_sources(inputs, config, tables, resources).anchors
        windowed = stack.enter_context(closing(Windowed(source, config, resources)))
        latencies = Latencies()

        def report(complete: bool = True) -> Report:
            return _report(str(output.final), config, source, windowed, latencies, began, complete)

        if resources.dry_run:
            return report(complete=False)
        for note in (*source.notes, *resources.remarks):
            progress.note(note)
        progress.stage("mine", source.rows or 0, "rows")
        run = output.start(
            stack, resume=False, overwrite=resources.overwrite, config=config.to_dict(),
            fingerprint=config.fingerprint(), source=[], columns=_columns(source), parts=0, read=read,
        )  # fmt: skip
        parts = Parts(run, windowed, part_rows(config))
        for batch in source.batches():
            start = time.perf_counter()
            for table in windowed.mined(batch):
                parts.add(table)
            latencies.add(time.perf_counter() - start)
            progress.advance(len(batch.vectors))
        windowed.refuse_none(source)
        parts.finish()
        run.ended(source=source.identity(), others=source.others())
        rows = None if output.single else part_tables(map(run.part_path, range(parts.written)))
        run.publish(counts=windowed.stats.answer, extra=lambda: report().to_dict(), replace_parts=rows)
        return report()


class StreamBatches:
    """What is mined of a stream within a window, read out while the stream comes; see batches.Batches."""

    def __init__(self, inputs: Any, config: MineConfig, resources: Resources, tables: Tables) -> None:
        refuse(IN_WINDOWS, resources, what="--window")
        self.config, self.notes = config, list[str]()
        self.source = open_sources(inputs, config, tables, resources).anchors
        self._windowed = Windowed(self.source, config, resources)
        self._latencies = Latencies()

    def reader(self) -> pa.RecordBatchReader:
        """The rows; once."""
        batches = self._batches()
        weakref.finalize(batches, self._windowed.close)  # one that was never read from runs no finally of its own
        return pa.RecordBatchReader.from_batches(self._windowed.schema, batches)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with closing(self._windowed):
            for batch in self.source.batches():
                start = time.perf_counter()
                tables = list(self._windowed.mined(batch))
                self._latencies.add(time.perf_counter() - start)
                for table in tables:
                    yield from table.to_batches(max_chunksize=BATCH_ROWS)
            self._windowed.refuse_none(self.source)

    def total(self) -> ShardStats:
        """What was mined so far."""
        return self._windowed.stats

    def report(self, began: float, complete: bool) -> Report:
        """What was done."""
        self._windowed.close()
        self.source.notes.extend(self.notes)
        return _report(PIPE, self.config, self.source, self._windowed, self._latencies, began, complete)


def part_rows(config: MineConfig) -> int:
    """How many rows of the stream one part is mined for: by the configuration alone."""
    most = (config.window or 0) if config.positives == "all" else config.positives_per_anchor
    rows = PART_ANCHORS
    while rows > 1 and rows * most * config.negatives > PART_ROWS:
        rows //= 2
    return max(rows, PIECE_ROWS)


class Parts:
    """Writes what is mined of a stream as parts, cut by the rows of the stream.

    Attributes
    ----------
    written : int
        Parts so far; an interrupted run leaves them in OUT.partial.
    """

    def __init__(self, run: Run, windowed: Windowed, rows: int) -> None:
        self._run, self._windowed, self._rows = run, windowed, rows
        self._tables: list[pa.Table] = []
        self._told = ShardStats()
        self.written = 0

    def add(self, table: pa.Table) -> None:
        """Take what was mined for the rows up to windowed.rows, which cross no edge of a part."""
        self._tables.append(table)
        if self._windowed.rows % self._rows == 0:
            self._write()

    def finish(self) -> None:
        """No more rows come."""
        if self._tables or not self.written:
            self._write()

    def _write(self) -> None:
        table = pa.concat_tables([self._windowed.schema.empty_table(), *self._tables])
        self._tables = []
        self._run.plan["parts"] = self.written + 1
        self._run.write_part(self.written, table, {"rows": table.num_rows})
        self.written += 1


def _columns(source: Source) -> dict[str, Any]:
    """The input columns used, by role."""
    found = source.columns
    return {
        "embedding": found.embedding, "label": found.label, "id": found.id, "group": found.group,
        "carry": list(found.carry),
    }  # fmt: skip


def _report(
    output: str, config: MineConfig, source: Source, windowed: Windowed, latencies: Latencies, began: float,
    complete: bool,
) -> Report:  # fmt: skip
    """What the run did."""
    bad = {f"bad: {kind}": count for kind, count in source.bad_rows.items()}
    about = {
        "rows": windowed.rows if complete else source.rows or 0, "dimension": source.dimension,
        "dtype": str(source.dtype), "dropped": bad | windowed.dropped,
        "rows_taking_part": windowed.taken if complete else source.rows or 0,
    }  # fmt: skip
    plan = {"bank_bytes": bank_bytes(config, source)} | (latencies.facts() if complete else {})
    path = output if complete else None
    seconds = time.perf_counter() - began
    return Report(
        path, config.to_dict(), _columns(source), about, plan, windowed.stats,
        (*source.notes, *windowed.notes()), seconds, complete,
    )  # fmt: skip
