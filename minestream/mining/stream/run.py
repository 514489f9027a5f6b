"""Streams from end to end: rows as they come, mined within a window, into parts, one output or record batches."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa

from minestream.config.checks import IN_WINDOWS, refuse
from minestream.config.mine_config import MineConfig
from minestream.config.parse import PIPE
from minestream.config.resources import Resources, Tables
from minestream.inputs.given import given_tables, marks_of
from minestream.inputs.tables import Sources
from minestream.mining.driver import Driver
from minestream.mining.plan import PART_ANCHORS, PART_ROWS
from minestream.mining.stream.latency import Latencies
from minestream.mining.stream.miner import PIECE_ROWS, Windowed, bank_bytes, window_facts
from minestream.outputs.parquet import part_tables
from minestream.outputs.run import Run
from minestream.outputs.target import Target
from minestream.system.progress import Callback
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
        source, windowed = stream.source, stream.windowed
        for note in (*source.notes, *resources.remarks):
            driver.progress.note(note)
        driver.progress.stage("mine", source.rows or 0, "rows")
        run = output.start(
            driver.held, resume=False, overwrite=resources.overwrite, config=config.to_dict(),
            fingerprint=config.fingerprint(), source=[], columns=stream.columns(), parts=0, read=read,
        )  # fmt: skip
        parts = Parts(run, windowed, part_rows(config))
        for batch in source.batches():
            start = time.perf_counter()
            for table in windowed.mined(batch):
                parts.add(table)
            stream.latencies.add(time.perf_counter() - start)
            driver.progress.advance(len(batch.vectors))
        windowed.refuse_none(source)
        parts.finish()
        run.ended(source=source.identity(), others=source.others())
        rows = None if output.single else part_tables(map(run.part_path, range(parts.written)))
        files = run.publish(
            counts=windowed.stats.answer, extra=lambda: stream.report(True, output.final).record(), replace_parts=rows
        )
        return replace(stream.report(True, output.final), files=files)


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
        tables, self._tables = [self._windowed.schema.empty_table(), *self._tables], []
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
        self.windowed = driver.held.enter_context(closing(Windowed(self.source, driver.config, driver.resources)))
        self.schema, self.notes, self.latencies = self.windowed.schema, self.source.notes, Latencies()

    def tables(self) -> Iterator[pa.Table]:
        """The rows mined for each batch, for who reads them while the stream comes; see batches.Batches."""
        self.driver.progress.stage("mine", self.source.rows or 0, "rows")
        for batch in self.source.batches():
            start = time.perf_counter()
            tables = list(self.windowed.mined(batch))
            self.latencies.add(time.perf_counter() - start)
            yield from tables
            self.driver.progress.advance(len(batch.vectors))
        self.windowed.refuse_none(self.source)

    def total(self) -> ShardStats:
        """What was mined so far."""
        return self.windowed.stats

    def columns(self) -> dict[str, Any]:
        """The input columns used, by role."""
        found = self.source.columns
        return {
            "embedding": found.embedding, "label": found.label, "id": found.id, "group": found.group,
            "carry": list(found.carry),
        }  # fmt: skip

    def report(self, complete: bool, output: object = PIPE) -> Report:
        """What the run did."""
        source, windowed, config = self.source, self.windowed, self.driver.config
        about = {
            "rows": windowed.rows if complete else source.rows or 0, "dimension": source.dimension,
            "dtype": str(source.dtype),
            "dropped": {f"bad: {kind}": count for kind, count in source.bad_rows.items()} | windowed.dropped,
            "rows_taking_part": windowed.taken if complete else source.rows or 0,
            "without_positive": windowed.taken - windowed.stats.anchors if complete and config.emit != "pairs" else 0,
        }  # fmt: skip
        recorded = {
            "config": config.to_dict(), "columns": self.columns(), "source": about,
            "plan": {"bank_bytes": bank_bytes(config, source)}
            | (self.latencies.facts() if complete else window_facts(config, source, self.driver.resources)),
        }  # fmt: skip
        notes = (*source.notes, *windowed.notes())
        return self.driver.report(
            output if complete else None, recorded, windowed.stats, notes=notes, complete=complete
        )
