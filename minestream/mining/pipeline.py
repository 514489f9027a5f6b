"""The front door: source -> store -> shards -> positives -> negatives -> rows -> parts -> the output under its name."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Unpack

from minestream.config.border import public
from minestream.config.keywords import MineOptions
from minestream.config.mine_config import MineConfig
from minestream.config.parse import parse_slice
from minestream.config.resolve import asked_options
from minestream.config.resources import Resources, Tables
from minestream.errors import UsageError
from minestream.inputs.given import given_tables, marks_of
from minestream.inputs.tables import open_sources
from minestream.mining.engines import engine_of
from minestream.mining.engines.work import Work
from minestream.mining.estimates import estimated
from minestream.mining.publish import already, publish
from minestream.mining.shards import Mining
from minestream.mining.slices import slice_of, slice_target
from minestream.mining.stream.run import mine_stream
from minestream.outputs.origin import refuse_changes
from minestream.outputs.run import default_output
from minestream.outputs.stores import target_of
from minestream.outputs.target import Target, checked
from minestream.system.progress import Callback, reporter
from minestream.system.stats import Report


@public(MineOptions)
def mine(
    inputs: Any, out: str | Path | None = None, *, progress_callback: Callback | None = None,
    **options: Unpack[MineOptions],
) -> Report:  # fmt: skip
    """Mine triplets, pairs or tuples from embeddings into Parquet.

    Parameters
    ----------
    inputs : path, Arrow object, or list of them
        Parquet or Arrow IPC files, folders, globs, URIs of such, tables, readers; "-" is an Arrow stream on standard
        input.
    out : path or URI, optional
        A name ending in .parquet becomes one file, any other a folder of parts. Default: the first input's
        stem and the emit, in the working directory.
    progress_callback : callable, optional
        Receives the events of progress.py.
    **options
        How to mine, as keywords: every option of `minestream mine`.

    Returns
    -------
    Report

    Raises
    ------
    MinestreamError
        UsageError, InputError, CapacityError, OutputError, GateMissedError: see errors.py.

    Notes
    -----
    Cost: 2 A n d float32 operations for A anchors among n rows of d coordinates, on all threads.
    """
    config, resources, tables = asked_options(options)
    output = target_of(default_output(inputs, config.emit) if out is None else out, config.emit, resources.scratch)
    if config.window is not None:
        return mine_stream(inputs, output, config, resources, tables, progress_callback)
    if resources.shard is not None:
        output = slice_target(output, parse_slice(resources.shard), resources)
    return _mine_tables(inputs, output, config, resources, tables, progress_callback)


def _mine_tables(
    inputs: Any, output: Target, config: MineConfig, resources: Resources, tables: Tables,
    progress_callback: Callback | None,
) -> Report:  # fmt: skip
    """Mine tables, all shards or those of a slice, to an output."""
    began = time.perf_counter()
    given = given_tables(inputs, tables, resources)
    finished = None if resources.dry_run else checked(output, config, resources, given)
    read = [] if resources.dry_run else marks_of(given)
    if finished is not None and finished.get("read") == read and all(table.in_files for table in given):
        return already(output, finished)
    mine_left = engine_of(resources.engine)
    with ExitStack() as stack:
        progress = stack.enter_context(reporter(resources.progress, progress_callback))
        sources = open_sources(inputs, config, tables, resources)
        if finished is not None:
            refuse_changes(sources, f"{output.final} was mined from something else", finished, progress)
            return already(output, finished)
        miner = stack.enter_context(Mining(sources, config, resources, output.scratch, progress))
        if resources.dry_run:
            return estimated(miner, miner.report(None, [], began, complete=False))
        run = output.start(
            stack, resume=resources.resume, overwrite=resources.overwrite, config=config.to_dict(),
            fingerprint=config.fingerprint(), source=sources.identity(), columns=miner.columns(),
            parts=len(miner.plan.shards), others=sources.others(), read=read, **slice_of(miner),
        )  # fmt: skip
        todo = [index for index in run.indices if run.finished(index) is None]
        miner.begin(run.indices, todo)
        mine_left(Work(miner, run, todo, inputs, tables))
        return publish(miner, run, began)


def _refuse_one_side(corpus: Any, guide: Any, **of_corpus: Any) -> None:
    """Refuse what belongs to a corpus where there is none, and the guide's vectors of one table alone."""
    for name in (name for name, value in of_corpus.items() if value is not None and corpus is None):
        raise UsageError(f"{name} is given, and no corpus", "pass the vectors that it belongs to as corpus")
    if corpus is not None and (guide is None) != (of_corpus["corpus_guide"] is None):
        raise UsageError("guide and corpus_guide belong together where there is a corpus", "pass both, or neither")
