"""One run of `mine`, from the options to the published output, in the order of this file:

1. `mine` separates the options: which rows come out (MineConfig), how they are computed (Resources), the tables beside
   INPUT (Tables). A stream with --window goes to stream/run.py from here.
2. `_mine_tables` checks that the output can be written, opens the input (inputs/), reads it into the dataset
   (inputs/dataset/), chooses the anchors and cuts them into shards (Mining in shards.py), and takes the output
   (outputs/run.py). Shards that --resume finds finished are left out.
3. `_mine_here` mines the shards in this process; with --engine, workers do the same (engines/).
4. `mine_shards` finds the positives of the anchors (positives.py), what negatives must satisfy (negatives.py), and the
   negatives (search/), for as many shards at a time as memory allows.
5. `write_part` makes rows of each shard's result (outputs/rows.py) and writes them as a part (outputs/parts.py),
   several parts at a time.
   With --both-directions the run has two outputs (ways.py), whose shards are searched together.
6. `publish` (publish.py) checks the gates, makes what depends on all rows (outputs/finish.py), and gives the output its
   name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from minestream.config.border import public
from minestream.config.command_line import with_command
from minestream.config.keywords import MineOptions
from minestream.config.mine_config import MineConfig
from minestream.config.parse import parse_slice
from minestream.config.resolve import asked_options
from minestream.config.resources import Resources, Tables
from minestream.config.rules import HERE
from minestream.inputs.given import given_tables, marks_of
from minestream.kernels.types import NEGATIVE, Pairs, Rule
from minestream.mining.approximate import count_recall, looking_of
from minestream.mining.candidates import among_candidates
from minestream.mining.driver import Driver
from minestream.mining.engines import refuse_in_worker
from minestream.mining.engines.deal import mine_on_workers
from minestream.mining.engines.together import slice_share
from minestream.mining.estimates import estimated
from minestream.mining.negatives import make_task
from minestream.mining.outcome import with_left_out
from minestream.mining.positives import Search, choose_positives, count_duplicate_positives, deserving_positives
from minestream.mining.publish import finished_report
from minestream.mining.shards import Mining
from minestream.mining.slices import slice_target
from minestream.mining.stream.run import mine_stream
from minestream.mining.teachers import taught_search
from minestream.mining.ways import Part, begun, in_turn, joined, part_of, published, ways_of
from minestream.outputs.origin import refuse_changes
from minestream.outputs.parts import PartWriter
from minestream.outputs.rows import ShardResult, emitted
from minestream.outputs.run import default_output
from minestream.outputs.stores import target_of
from minestream.outputs.target import Target, checked
from minestream.search.constraints import limited_search
from minestream.search.context import SearchContext, Share
from minestream.search.results import Found, sub_pairs
from minestream.search.search import search_once
from minestream.search.shared import shared_once
from minestream.search.work import WorkMeter
from minestream.system.memory import release_memory
from minestream.system.progress import Callback
from minestream.system.stats import Report, ShardStats
from minestream.system.threads import run_each


@public(MineOptions)
def mine(
    inputs: Any, out: str | Path | None = None, *, progress_callback: Callback | None = None,
    **options: Unpack[MineOptions],
) -> Report:  # fmt: skip
    """Mine triplets, pairs or tuples from embeddings into Parquet.

    Parameters
    ----------
    inputs : path, Arrow object, or list of them
        Parquet, Arrow IPC, CSV, JSON lines or NumPy files, folders, globs, URIs of such, tables, readers; "-" is an
        Arrow stream on standard input.
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
    resources = replace(resources, remarks=(*resources.remarks, *output.remarks()))
    if config.window is not None:
        return with_left_out(mine_stream(inputs, output, config, resources, tables, progress_callback))
    if resources.shard is not None:
        output = slice_target(output, parse_slice(resources.shard), resources)
    return with_left_out(_mine_tables(inputs, output, config, resources, tables, progress_callback))


def _mine_tables(
    inputs: Any, output: Target, config: MineConfig, resources: Resources, tables: Tables,
    progress_callback: Callback | None,
) -> Report:  # fmt: skip
    """Mine tables, all of their shards or those of a slice, into an output."""
    refuse_in_worker(resources)
    driver = Driver(config, resources, progress_callback)
    given = given_tables(inputs, tables, resources)
    look = partial(driver.open, inputs, tables)
    ways = ways_of(output, config, resources, [] if resources.dry_run else marks_of(given))
    finished = [None if resources.dry_run else checked(way.output, way.config, resources, given, look) for way in ways]

    def reports(made: Iterable[Report] = ()) -> Report:  # of each output: it was there, or is made
        new = iter(made)
        each = zip(ways, finished, strict=True)
        return joined(
            next(new) if old is None else finished_report(way.output, old, given, resources) for way, old in each
        )

    as_read = all(found and found.get("read") == way.read for way, found in zip(ways, finished, strict=True))
    if as_read and all(table.in_files for table in given):
        return reports()
    with driver:  # closes all that the run opens
        sources = driver.open(inputs, tables)
        if None not in finished:
            for way, found in zip(ways, finished, strict=True):
                what = f"{way.output.final} was mined from something else"
                refuse_changes(way.sources(sources), what, found or {}, driver.progress)
            return reports()
        mining = Mining(driver, sources, output.scratch)  # reads the dataset, chooses the anchors, plans the shards
        if resources.dry_run:
            return estimated(mining, mining.report(None, [], complete=False), mine_shards)
        for way, found in zip(ways, finished, strict=True):
            if found is not None:  # it stays, if it is of these tables and meets the gates
                way.same(found, sources)
                finished_report(way.output, found, given, resources)
        parts = begun(mining, ways, finished)
        todo = in_turn(parts)
        mining.begin([shard for part in parts for shard in part.shards], todo)
        if resources.engine == HERE:
            _mine_here(mining, parts, todo)
        else:
            mine_on_workers(mining, parts[0].run, todo, inputs, tables)
        return reports(published(mining, parts))


def _mine_here(mining: Mining, parts: Sequence[Part], todo: Sequence[int]) -> None:
    """Mine shards in this process."""
    for part in parts:
        part.run.together = mining.together(todo)
    share, shards = slice_share(mining, parts[0].run, list(todo)) if parts else (None, todo)
    results = mine_shards(mining, shards, share)
    with mining.recording_rate() if share is None else nullcontext():
        write_parts(mining, results, lambda index, result: write_part(*part_of(parts, index), result))


def write_parts(
    mining: Mining, results: Iterable[tuple[int, ShardResult]], write: Callable[[int, ShardResult], None]
) -> None:  # fmt: skip
    """Write the part of each shard, as many at a time as there are threads and memory; the next is mined meanwhile."""
    plan = mining.searcher.plan
    run_each(lambda made: write(made[0], replace(made[1], room=plan.made_bytes)), results, plan.writers)


def write_part(run: PartWriter, index: int, result: ShardResult) -> None:
    """Write the rows of one shard as its part, unless another worker has written it meanwhile."""
    if run.finished(index) is None:
        run.write_part(index, emitted(result), result.stats.to_dict)


def mine_shards(
    mining: Mining, todo: Sequence[int], share: Share | None = None
) -> Iterator[tuple[int, ShardResult]]:  # fmt: skip
    """Find the positives and negatives of the anchors of some shards; yields each shard when it is done.

    As many shards are searched together as memory holds the results of: one product of two anchors serves both.

    share : of this worker, in the search of all of them; it yields its own shards
    """
    with mining.driver.reading.stage("measuring") if mining.config.approximate else nullcontext():
        mining.looking = mining.looking or looking_of(mining)
    own = todo if share is None else [index for place, index in enumerate(todo) if share.owns(place)]
    meter = WorkMeter(mining.progress, sum(map(mining.anchors_of, own)))
    meter.plan(mining.work(todo))
    rounds = mining.rounds(todo) if share is None else mining.rounds(todo, share.answer_bytes)
    for number, shards in enumerate(rounds):
        if number:
            release_memory()
        yield from _mine_round(mining, shards, meter, share)
    meter.finish()
    mining.work_done += meter.done


def _searched(every: Search, some: Search, anchors: NDArray[np.int32], pairs: Pairs, rule: Rule) -> Found:
    """The answers of one group, whose negatives are among some candidates, its positives among all."""
    return (some if rule.wanted == NEGATIVE else every)(anchors, pairs, rule)


def _where_negatives_are(setting: SearchContext, config: MineConfig, anchors: NDArray[np.int32]) -> SearchContext:
    """The setting of searches for negatives: of every teacher the candidates alone, unless they teach, too."""
    run = setting.loaded.run
    return setting if run is None or config.candidates_teach else among_candidates(setting, run, config.metric, anchors)


def _mine_round(
    mining: Mining, shards: Sequence[int], meter: WorkMeter, share: Share | None
) -> Iterator[tuple[int, ShardResult]]:  # fmt: skip
    """Mine one round of shards; its memory is freed before the next round begins."""
    loaded, config, stats, work = mining.loaded, mining.config, ShardStats(), mining.round_work(shards)
    every, looking = mining.searcher.setting(stats, meter), mining.looking
    setting = looking.schedule.limit(every) if looking and looking.schedule else every
    of_shards = [mining.slots_of(index) for index in shards]
    anchors = np.concatenate(of_shards)

    meter.begin_stage(work.positives)
    with stats.stage("positives"):
        setting = _where_negatives_are(setting, config, anchors)
        anywhere, here = (partial(search_once, replace(each, timed=False)) for each in (every, setting))
        search: Search = partial(_searched, anywhere, here)
        if share is not None:  # of an exact search among all rows
            search, setting = partial(shared_once, anywhere.args[0], share), replace(setting, share=share)
        deserving = deserving_positives(loaded, config, anchors, search)
        nearest = looking.positive_search(every, search) if looking else search
        positives = choose_positives(loaded, config, anchors, nearest, deserving)
        task = make_task(loaded, config, anchors, positives, search, deserving)  # the band of every pair, filters, rule

    meter.begin_stage(work.negatives)
    if config.taught:
        others = [teacher.setting(stats, meter) for teacher in mining.teachers[1:]]
        settings = [setting, *(_where_negatives_are(other, config, anchors) for other in others)]
        negatives = taught_search(settings, config, of_shards, task)
    else:
        negatives = limited_search(setting, of_shards, task.pairs, task.rule, task.constraints)
    first = 0
    for place, (index, own) in enumerate(zip(shards, of_shards, strict=True)):
        found = next(negatives)
        if share is not None and not share.owns(place):
            first += own.size
            continue
        chosen = task.chosen.of_anchors(first, first + own.size)
        deserving.count_into(stats, first, first + own.size, positives.of_anchors(first, first + own.size))
        stats.duplicate_positives += count_duplicate_positives(loaded, config, own, chosen)
        pairs, _ = sub_pairs(task.pairs, np.arange(first, first + own.size))
        count_recall(mining, stats, own, chosen, pairs, found)
        yield index, ShardResult(mining.direction_of(index).loaded, config, own, chosen, found, stats.taken())
        meter.advance(work.rows * own.size / max(1, anchors.size))
        first += own.size
    meter.begin_stage(0.0)
