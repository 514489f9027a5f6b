"""Mined rows as record batches while mining goes on: mine_batches for programs, and -o - for pipes."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any, Unpack

import pyarrow as pa

from minestream.config.border import public
from minestream.config.checks import HANDED_OUT, IN_WINDOWS, UNCUT, refuse
from minestream.config.command_line import with_command
from minestream.config.keywords import BatchOptions, PipeOptions
from minestream.config.parse import PIPE
from minestream.config.resolve import asked_options
from minestream.errors import UsageError
from minestream.inputs.tables import Sources
from minestream.mining.driver import Driver
from minestream.mining.estimates import estimated
from minestream.mining.outcome import with_left_out
from minestream.mining.pipeline import mine_shards
from minestream.mining.shards import Mining
from minestream.mining.stream.run import BATCH_ROWS, Stream
from minestream.outputs.gates import check_gates
from minestream.outputs.rows import emit
from minestream.system.pipes import write_pipe
from minestream.system.progress import Callback
from minestream.system.stats import Report, ShardStats, merged
from minestream.system.values import many

UNMARKED = "the rows are written, but the stream has no end mark: its reader sees that it is not complete"


@public(BatchOptions, progress="none")
def mine_batches(inputs: Any, **options: Unpack[BatchOptions]) -> pa.RecordBatchReader:
    """Mine, and return the rows as record batches while mining goes on.

    Parameters
    ----------
    inputs, **options
        As for mine(). --emit pairs and --order shuffled need a finishing pass over all rows and are refused.

    Returns
    -------
    pyarrow.RecordBatchReader
        Rows are mined as they are read; closing or dropping the reader stops the mining.
    """
    return _reader(_opened(inputs, {"progress": "none", **options}, None))


@public(PipeOptions)
def mine_pipe(inputs: Any, *, progress_callback: Callback | None = None, **options: Unpack[PipeOptions]) -> Report:
    """Mine and write the rows to standard output as an Arrow IPC stream, no faster than they are read.

    Parameters
    ----------
    inputs, progress_callback, **options
        As for mine_batches(). The stream gets its end mark only when all rows are written and no gate is missed.

    Returns
    -------
    Report
        A reader that stops early is no error; a note says so.
    """
    batches = _opened(inputs, options, progress_callback)
    driver = batches.driver
    with driver.held:
        if driver.resources.dry_run:
            plan = batches.report(complete=False)
            plan = estimated(batches.mining, plan, mine_shards) if isinstance(batches, Batches) else plan
            return with_left_out(plan)
        end = write_pipe(_reader(batches), lambda: check_gates(driver.resources, batches.total(), UNMARKED))
        if end.reader_left:
            batches.notes.append(f"the reader left after {many(end.rows, 'row')}: what it did not read is not mined")
        return with_left_out(batches.report(complete=True))


def _opened(
    inputs: Any, options: Mapping[str, Any], progress_callback: Callback | None
) -> Batches | Stream:  # fmt: skip
    config, resources, tables = asked_options(options, function="mine_batches")
    resources = with_command(resources, "mine", inputs, PIPE, options)
    refuse(UNCUT, resources, what="a stream of rows")
    refuse(HANDED_OUT, config)
    if config.window is not None:
        refuse(IN_WINDOWS, resources, what="--window")
    elif resources.resume or resources.overwrite:
        raise UsageError("a stream is neither resumed nor overwritten", "leave --resume and --overwrite out")
    with ExitStack() as failed:
        driver = failed.enter_context(Driver(config, resources, progress_callback))
        sources = driver.open(inputs, tables)
        batches = Batches(driver, sources) if config.window is None else Stream(driver, sources)
        failed.pop_all()
        return batches


def _reader(batches: Batches | Stream) -> pa.RecordBatchReader:
    """The rows as a reader, which can be read once."""

    def each() -> Iterator[pa.RecordBatch]:
        with batches.driver.held:
            for table in batches.tables():
                yield from table.to_batches(max_chunksize=BATCH_ROWS)

    rows = each()
    weakref.finalize(rows, batches.driver.held.close)  # a generator that was never started runs no cleanup
    return pa.RecordBatchReader.from_batches(batches.schema, rows)


class Batches:
    """Mines tables, and yields the rows of each shard when it is done."""

    def __init__(self, driver: Driver, sources: Sources) -> None:
        self.driver, self.mining = driver, Mining(driver, sources)
        self.schema, self.notes = self.mining.schema, self.mining.loaded.notes
        self._parts: list[ShardStats] = []

    def tables(self) -> Iterator[pa.Table]:
        """The rows of each shard."""
        self.mining.begin()
        for _, result in mine_shards(self.mining, range(len(self.mining.plan.shards))):
            table = emit(result)
            self._parts.append(result.stats)
            yield table

    def total(self) -> ShardStats:
        """Counters of what was mined so far."""
        return merged(self._parts)

    def report(self, complete: bool) -> Report:
        """The report of the run, or of a dry run."""
        return self.mining.report(PIPE, self._parts, complete)
