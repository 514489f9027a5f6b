"""A stream from end to end: rows are read as they come, mined within a window, and written or handed out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa

from minestream.config.checks import IN_WINDOWS, refuse
from minestream.config.memory_plan import encoders
from minestream.config.mine_config import MineConfig
from minestream.config.parse import PIPE
from minestream.config.resources import Resources, Tables, memory_budget, thread_count
from minestream.inputs.given import given_tables, marks_of
from minestream.inputs.tables import Sources
from minestream.mining.driver import Driver
from minestream.mining.plan import PART_ANCHORS, PART_ROWS
from minestream.mining.stream.latency import Latencies
from minestream.mining.stream.miner import PIECE_ROWS, StreamMiner, window_bytes, window_facts
from minestream.outputs.parquet import part_tables
from minestream.outputs.run import Run
from minestream.outputs.target import Target
from minestream.system.progress import Callback
from minestream.system.stats import Report, ShardStats

BATCH_ROWS = 16_384  # handed out at once at most


def mine_stream(
    inputs: Any, output: Target, config: MineConfig, resources: Resources, tables: Tables, callback: Callback | None
) -> Report:
    """Mine a stream within a window and write the output; see pipeline.mine.

    Raises
    ------
    UsageError
        For an option that needs the whole stream before anything is mined.
    """
    driver = Driver(config, resources, callback)
    refuse(IN_WINDOWS, resources, what="--window")
    given = given_tables(inputs, tables, resources)
    if not resources.dry_run:
        output.refuse_inputs(given)
        output.check(resume=False, overwrite=resources.overwrite)
    with driver:
        read = [] if resources.dry_run else marks_of(given)
        stream = Stream(driver, driver.open(inputs, tables))
        if resources.dry_run:
            return stream.report(False, output.final)
        source, miner = stream.source, stream.miner
        for note in (*source.notes, *resources.remarks):
            driver.progress.note(note)
        run = output.start(
            driver.held, resume=False, overwrite=resources.overwrite, config=config.to_dict(),
            fingerprint=config.fingerprint(), source=[], columns=stream.columns(), parts=0, read=read,
        )  # fmt: skip
        parts = StreamParts(run, miner, part_rows(config))
        for table in stream.tables():
            parts.add(table)
        parts.finish()
        run.ended(source=source.identity(), others=source.others())
        rows = None if output.single else part_tables(map(run.part_path, range(parts.written)))
        files = run.publish(
            counts=miner.stats.answer, extra=lambda: stream.report(True, output.final).record(), replace_parts=rows,
            threads=encoders(memory_budget(resources) - window_bytes(config, source), thread_count(resources)),
        )  # fmt: skip
        return replace(stream.report(True, output.final), files=files)


def part_rows(config: MineConfig) -> int:
    """How many rows of the stream make a part; it depends on the configuration alone."""
    most = (config.window or 0) if config.positives == "all" else config.positives_per_anchor
    rows = PART_ANCHORS
    while rows > 1 and rows * most * config.negatives > PART_ROWS:
        rows //= 2
    return max(rows, PIECE_ROWS)


class StreamParts:
    """Writes the output rows of a stream as parts: one for every `rows` rows of the stream.

    Attributes
    ----------
    written : int
        Parts so far; an interrupted run leaves them in OUT.partial.
    """

    def __init__(self, run: Run, miner: StreamMiner, rows: int) -> None:
        self._run, self._miner, self._rows = run, miner, rows
        self._tables: list[pa.Table] = []
        self.written = 0

    def add(self, table: pa.Table) -> None:
        """Add the output rows of the stream up to miner.rows; they never cross the edge of a part."""
        self._tables.append(table)
        if self._miner.rows % self._rows == 0:
            self._write()

    def finish(self) -> None:
        """Write the rows that are left."""
        if self._tables or not self.written:
            self._write()

    def _write(self) -> None:
        tables, self._tables = [self._miner.schema.empty_table(), *self._tables], []
        rows = sum(table.num_rows for table in tables)
        self._run.plan["parts"] = self.written + 1
        self._run.write_part(self.written, tables, lambda: {"rows": rows})
        self.written += 1


class Stream:
    """A stream and its window.

    Parameters
    ----------
    driver : Driver
        Holds the window.
    sources : Sources
        Of one table.
    """

    def __init__(self, driver: Driver, sources: Sources) -> None:
        self.driver, self.source = driver, sources.anchors
        self.miner = driver.held.enter_context(closing(StreamMiner(self.source, driver.config, driver.resources)))
        self.schema, self.notes, self.latencies = self.miner.schema, self.source.notes, Latencies()

    def tables(self) -> Iterator[pa.Table]:
        """Read the stream, and yield the output rows of its batches; see also batches.Batches."""
        self.driver.progress.stage("mine", self.source.rows or 0, "rows")
        for batch in self.source.batches():
            seconds, began = 0.0, time.perf_counter()
            for table in self.miner.mined(batch):
                seconds += time.perf_counter() - began
                yield table
                began = time.perf_counter()
            self.latencies.add(seconds)
            self.driver.progress.advance(len(batch.vectors))
        self.miner.refuse_none(self.source)

    def total(self) -> ShardStats:
        """Counters of what was mined so far."""
        return self.miner.stats

    def columns(self) -> dict[str, Any]:
        """The input columns used, by role."""
        found = self.source.columns
        return {
            "embedding": found.embedding, "label": found.label, "id": found.id, "group": found.group,
            "carry": list(found.carry),
        }  # fmt: skip

    def report(self, complete: bool, output: object = PIPE) -> Report:
        """The report of the run, or of a dry run."""
        source, miner, config = self.source, self.miner, self.driver.config
        about = {
            "rows": miner.rows if complete else source.rows or 0, "dimension": source.dimension,
            "dtype": str(source.dtype),
            "dropped": {f"bad: {kind}": count for kind, count in source.bad_rows.items()} | miner.dropped,
            "rows_taking_part": miner.taken if complete else source.rows or 0,
            "without_positive": miner.taken - miner.stats.anchors if complete and config.emit != "pairs" else 0,
        }  # fmt: skip
        recorded = {
            "config": config.to_dict(), "columns": self.columns(), "source": about,
            "plan": {"window_bytes": window_bytes(config, source)}
            | (self.latencies.facts() if complete else window_facts(config, source, self.driver.resources)),
        }  # fmt: skip
        notes = (*source.notes, *miner.notes())
        return self.driver.report(output if complete else None, recorded, miner.stats, notes=notes, complete=complete)
