"""One run, in its order: sources -> dataset -> plan -> shards -> positives -> negatives -> rows -> parts -> publish.

`mine` takes the options apart, `_mine_tables` is the run, `mine_shards` what happens to its anchors. The rows of a
stream go another way, within a window: stream/run.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from minestream.config.border import public
from minestream.config.command_line import with_command
from minestream.config.keywords import MineOptions
from minestream.config.mine_config import MineConfig
from minestream.config.parse import parse_slice
from minestream.config.resolve import asked_options
from minestream.config.resources import Resources, Tables
from minestream.config.rules import HERE
from minestream.inputs.given import given_tables, marks_of
from minestream.mining.driver import Driver
from minestream.mining.engines.deal import mine_on_workers
from minestream.mining.estimates import estimated
from minestream.mining.negatives import make_task
from minestream.mining.positives import choose_positives, last_resorts
from minestream.mining.publish import already, publish
from minestream.mining.shards import Mining
from minestream.mining.slices import slice_of, slice_target
from minestream.mining.stream.run import mine_stream
from minestream.outputs.origin import refuse_changes
from minestream.outputs.parts import PartWriter
from minestream.outputs.rows import ShardResult, emitted
from minestream.outputs.run import Run, default_output
from minestream.outputs.stores import target_of
from minestream.outputs.target import Target, checked
from minestream.search.constraints import limited_search
from minestream.search.search import search_once
from minestream.search.work import WorkMeter
from minestream.system.memory import release_memory
from minestream.system.progress import Callback
from minestream.system.stats import Report, ShardStats
from minestream.system.threads import Behind


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
    place = default_output(inputs, config.emit) if out is None else out
    resources = with_command(resources, "mine", inputs, place, options)
    output = target_of(place, resources.scratch)
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
    driver = Driver(config, resources, progress_callback)
    given = given_tables(inputs, tables, resources)
    finished = None if resources.dry_run else checked(output, config, resources, given)
    read = [] if resources.dry_run else marks_of(given)
    if finished is not None and finished.get("read") == read and all(table.in_files for table in given):
        return already(output, finished, given)
    with driver:
        sources = driver.open(inputs, tables)
        if finished is not None:
            refuse_changes(sources, f"{output.final} was mined from something else", finished, driver.progress)
            return already(output, finished, given)
        mining = Mining(driver, sources, output.scratch)  # reads the dataset, chooses the anchors, plans the shards
        if resources.dry_run:
            return estimated(mining, mining.report(None, [], complete=False), mine_shards)
        run = output.start(
            driver.held, resume=resources.resume, overwrite=resources.overwrite, config=config.to_dict(),
            fingerprint=config.fingerprint(), source=sources.identity(), columns=mining.columns(),
            parts=len(mining.plan.shards), others=sources.others(), read=read, **slice_of(mining),
        )  # fmt: skip
        todo = [index for index in run.indices if run.finished(index) is None]
        mining.begin(run.indices, todo)
        if resources.engine == HERE:
            _mine_here(mining, run, todo)
        else:
            mine_on_workers(mining, run, todo, inputs, tables)
        return publish(mining, run)


def _mine_here(mining: Mining, run: Run, todo: Sequence[int]) -> None:
    """Mine shards in this process: the part of one is written while the next is mined."""
    with mining.learning(), Behind() as writing:
        for index, result in mine_shards(mining, todo):
            writing.run(partial(write_part, run, index, result))


def write_part(run: PartWriter, index: int, result: ShardResult) -> None:
    """Write the rows of one shard as its part, unless another worker has meanwhile."""
    if run.finished(index) is None:
        run.write_part(index, emitted(result), result.stats.to_dict)


def mine_shards(mining: Mining, todo: Sequence[int]) -> Iterator[tuple[int, ShardResult]]:
    """Find the positives and the negatives of the anchors of some shards; each shard is handed out when it is done.

    Shards are swept together, as many as memory holds the answers of: of two anchors one product serves both.
    """
    meter = WorkMeter(mining.progress, sum(map(mining.anchors_of, todo)))
    meter.plan(mining.work(todo))
    for number, shards in enumerate(mining.rounds(todo)):
        if number:
            release_memory()
        yield from _mine_together(mining, shards, meter)
    meter.finish()
    mining.work_done += meter.done


def _mine_together(mining: Mining, shards: Sequence[int], meter: WorkMeter) -> Iterator[tuple[int, ShardResult]]:
    """One round of shards; what it holds is let go at its end, before the next begins."""
    loaded, config, stats, works = mining.loaded, mining.config, ShardStats(), mining.works(shards)
    setting = mining.searcher.setting(stats, meter)
    groups = [mining.slots_of(index) for index in shards]
    anchors = np.concatenate(groups)

    meter.begin_stage(works.positives)
    with stats.stage("positives"):
        search = partial(search_once, replace(setting, timed=False))
        positives = choose_positives(loaded, config, anchors, search)
        task = make_task(loaded, config, anchors, positives, search)  # the band around each pair, filters, rule

    meter.begin_stage(works.negatives)
    negatives = limited_search(setting, groups, task.pairs, task.rule, task.constraints)
    first = 0
    for index, group in zip(shards, groups, strict=True):
        chosen, found = task.chosen.of_anchors(first, first + group.size), next(negatives)
        stats.duplicate_positives += last_resorts(loaded, config, group, chosen)
        yield index, ShardResult(loaded, config, group, chosen, found, stats.taken())
        meter.advance(works.rows * group.size / max(1, anchors.size))
        first += group.size
    meter.begin_stage(0.0)
