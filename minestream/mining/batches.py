"""Mined rows as record batches while mining goes on: for a program, and for a pipe."""

from __future__ import annotations

import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Unpack

import pyarrow as pa

from minestream.config.border import public
from minestream.config.checks import HANDED_OUT, UNCUT, refuse
from minestream.config.keywords import BatchOptions, PipeOptions
from minestream.config.mine_config import MineConfig
from minestream.config.parse import PIPE
from minestream.config.resolve import asked_options
from minestream.config.resources import Resources, Tables
from minestream.errors import UsageError
from minestream.inputs.tables import open_sources
from minestream.mining.estimates import estimated
from minestream.mining.shards import Mining
from minestream.mining.stream.run import BATCH_ROWS, StreamBatches
from minestream.outputs.gates import check_gates
from minestream.outputs.rows import emit
from minestream.system.memory import scratch_folder
from minestream.system.pipes import write_pipe
from minestream.system.progress import Callback, reporter
from minestream.system.stats import Report, ShardStats, merged

UNMARKED = "the rows are out; the stream has no end mark, so that its reader knows"


@public(BatchOptions, progress="none")
def mine_batches(inputs: Any, **options: Unpack[BatchOptions]) -> pa.RecordBatchReader:
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
    return _opened(inputs, {"progress": "none", **options}, None)[0].reader()


@public(PipeOptions)
def mine_pipe(inputs: Any, *, progress_callback: Callback | None = None, **options: Unpack[PipeOptions]) -> Report:
    """Mine and write the rows to standard output as an Arrow IPC stream, no faster than they are read.

    Parameters
    ----------
    inputs, progress_callback, **options
        As for mine_batches(). The stream ends with its mark only when all rows are out and no gate is missed.

    Returns
    -------
    Report
        A reader that left early is no error: a note says so.
    """
    began = time.perf_counter()
    batches, resources = _opened(inputs, options, progress_callback)
    if resources.dry_run:
        plan = batches.report(began, complete=False)
        return estimated(batches.miner, plan) if isinstance(batches, Batches) else plan
    end = write_pipe(batches.reader(), lambda: check_gates(resources, batches.total(), UNMARKED))
    if end.reader_left:
        batches.notes.append(f"the reader left after {end.rows:,} rows: what it did not read is not mined")
    return batches.report(began, complete=True)


def _opened(
    inputs: Any, options: Mapping[str, Any], progress_callback: Callback | None
) -> tuple[Batches | StreamBatches, Resources]:
    config, resources, tables = asked_options(options)
    refuse(UNCUT, resources, what="a stream of rows")
    refuse(HANDED_OUT, config)
    if config.window is not None:
        return StreamBatches(inputs, config, resources, tables), resources
    if resources.resume or resources.overwrite:
        raise UsageError("a stream is neither resumed nor overwritten", "leave --resume and --overwrite out")
    return Batches(inputs, config, resources, tables, progress_callback), resources


class Batches:
    """What is mined of tables, read out as shards are done."""

    def __init__(
        self, inputs: Any, config: MineConfig, resources: Resources, tables: Tables, progress_callback: Callback | None
    ) -> None:
        self.notes: list[str] = []
        self._parts: list[ShardStats] = []
        with ExitStack() as stack:
            folder = stack.enter_context(scratch_folder(resources.scratch))
            progress = stack.enter_context(reporter(resources.progress, progress_callback))
            sources = open_sources(inputs, config, tables, resources)
            self.miner = stack.enter_context(Mining(sources, config, resources, folder, progress))
            self._held = stack.pop_all()

    def reader(self) -> pa.RecordBatchReader:
        """The rows; once."""
        batches = self._batches()
        weakref.finalize(batches, self._held.close)  # one that was never read from runs no finally of its own
        return pa.RecordBatchReader.from_batches(self.miner.schema, batches)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        with self._held:
            self.miner.begin()
            for _, picture in self.miner.mine_shards(range(len(self.miner.plan.shards))):
                table = emit(picture)
                self._parts.append(picture.stats)
                yield from table.to_batches(max_chunksize=BATCH_ROWS)

    def total(self) -> ShardStats:
        """What was mined so far."""
        return merged(self._parts)

    def report(self, began: float, complete: bool) -> Report:
        """What was done."""
        self._held.close()
        self.miner.loaded.notes.extend(self.notes)
        return self.miner.report(Path(PIPE), self._parts, began, complete)
