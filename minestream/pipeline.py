"""The front door: source -> store -> shards -> positives -> negatives -> rows -> parts -> the output under its name."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.config import MineConfig, Resources, Tables, asked_options, refuse_without_tables
from minestream.emit import emit
from minestream.engines import engine_of
from minestream.engines.work import Work
from minestream.errors import GateMissed, UsageError
from minestream.estimates import estimated
from minestream.finish import Shape, finished_rows, needs_finishing
from minestream.formats import SAME_TEXT, Counts, as_lines, convert
from minestream.given import given_tables, marks_of
from minestream.inputs import MEMORY
from minestream.listed import pairs_table
from minestream.machines import parse_slice, refuse_machines
from minestream.miner import Mining
from minestream.mirror import target_of
from minestream.padding import LoadedTexts
from minestream.progress import Callback, reporter
from minestream.recorded import refuse_changes
from minestream.rules import EMITS
from minestream.scratch import scratch_folder
from minestream.screens import usable_screens
from minestream.sink import Output, Run
from minestream.slices import slice_of, slice_target
from minestream.source import Source, arrays_source
from minestream.sources import Sources, excluded_rows, listed_pairs, open_sources
from minestream.stats import Effort, Report, ShardStats, merged
from minestream.streams import mine_stream
from minestream.target import Target, checked, report_of
from minestream.trainers import FORMATS
from minestream.values import short_share
from minestream.window import Miner
from minestream.writer import default_output


def mine(
    inputs: Any, out: str | Path | None = None, *, progress_callback: Callback | None = None, **options: Any
) -> Report:
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
    config, resources, tables = asked_options(options)
    output = target_of(default_output(inputs, config.emit) if out is None else out, config.emit, resources.scratch)
    if config.window is not None:
        refuse_machines(resources, "--window")
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


def publish(miner: Mining, run: Run, began: float) -> Report:
    """Check the gates, run the finishing pass if there is one, and put the output under its name."""
    config, parts = miner.config, [ShardStats.from_dict(record["stats"]) for record in run.every_part()]
    total = merged(parts)
    paths = [run.part_path(index) for index in run.indices]
    sliced = miner.resources.shard is not None  # what is finished of all parts is left to the merge
    rows = None if sliced else finished_rows(config, paths, miner.keys(), total, trainer_shape(miner, config, total))
    if not (config.emit == "pairs" or config.emit in FORMATS or config.max_uses is not None):  # counted late
        check_gates(miner.resources, total)

    def counts() -> dict[str, int]:  # pairs and uses are counted by the finishing pass, before anything is published
        check_gates(miner.resources, total)
        return total.answer()

    def report() -> Report:
        return miner.report(run.target.final, [total], began)

    miner.progress.stage("publish", len(parts), "parts")
    run.publish(counts=counts, replace_parts=rows, extra=lambda: report().to_dict())
    return report()


def trainer_shape(miner: Mining, config: MineConfig, total: ShardStats) -> Shape | None:
    """What makes a trainer's rows of triplets, counting them into `total`; None where triplets are what is wanted."""
    loaded = miner.loaded
    if config.emit not in FORMATS:
        return None

    def shape(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
        counts = Counts()
        rows = convert(
            config.emit, tables, k=config.negatives, metric=config.metric, scores=config.scores,
            float64=config.float64, short_rows=config.short_rows, texts=LoadedTexts(loaded, config), counts=counts,
        )  # fmt: skip
        yield from rows if EMITS[config.emit].suffix == ".parquet" else as_lines(config.emit, rows)
        total.rows, total.repeated = counts.rows, counts.repeated
        total.drop("short pairs", counts.dropped)
        total.drop(SAME_TEXT, counts.same_text)

    return shape


KEPT = "nothing was published; the parts are kept: --resume with another gate publishes them"


def check_gates(resources: Resources, total: ShardStats, hint: str = KEPT) -> None:
    """Raise GateMissed when too few rows came out, or too many pairs are short."""
    if resources.require_rows is not None and total.rows < resources.require_rows:
        raise GateMissed(f"{total.rows:,} rows came out, --require-rows asks for {resources.require_rows:,}", hint)
    share = short_share(resources.max_short)
    looked_for = total.full + total.short + total.empty
    if share is not None and looked_for and (total.short + total.empty) / looked_for > share:
        raise GateMissed(
            f"{(total.short + total.empty) / looked_for:.2%} of the pairs are short, --max-short allows {share:.2%}",
            hint,
        )


def already(output: Target, manifest: dict[str, Any]) -> Report:
    """The report of an output that --resume found complete."""
    told = report_of(manifest, output.final)
    return Report(
        str(output.final), told["config"], told["columns"], told["source"], told["plan"],
        ShardStats.from_dict(told["stats"]),
        (), told["seconds"], True, True,
    )  # fmt: skip


SHORT_NAMES = {
    "anchor": "anchor_row", "query": "query_row", "positive": "positive_row", "negative": "negative_row",
    "left": "left_row", "right": "right_row",
}  # fmt: skip


@dataclass
class Mined:
    """What mine_arrays found: each column is an attribute (`anchor` for anchor_row), a writable array by row.

    Attributes
    ----------
    stats : ShardStats
        The funnel.
    effort : Effort
        How much work it was.
    notes : tuple of str
        What to know of the options given and of the rows read, one line each.
    """

    _table: pa.Table
    stats: ShardStats
    effort: Effort
    notes: tuple[str, ...] = ()

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


def mine_arrays(
    embeddings: Any, labels: Any = None, *, ids: Any = None, groups: Any = None, corpus: Any = None,
    corpus_labels: Any = None, corpus_ids: Any = None, corpus_groups: Any = None, guide: Any = None,
    corpus_guide: Any = None, **options: Any,
) -> Mined:  # fmt: skip
    """Mine arrays in memory.

    Parameters
    ----------
    embeddings : array (n, d)
        NumPy, torch (any device; bfloat16 becomes float32), or lists.
    labels : array or list of length n
        Ints, strings, or lists of them; None is unlabelled. Not needed with `qrels`.
    ids, groups : array or list of length n, optional
    corpus : array (m, d), optional
        Where positives and negatives come from; `embeddings` are then the queries.
    corpus_labels, corpus_ids, corpus_groups : array or list of length m, optional
    guide, corpus_guide : arrays (n, e), (m, e), optional
        A second embedding: see --guide.
    **options
        As for mine(). `qrels` and `exclude` may be lists of pairs of ids; without ids these are row numbers.

    Returns
    -------
    Mined
    """
    refuse_without_tables(options)
    _refuse_one_side(
        corpus, guide, corpus_labels=corpus_labels, corpus_ids=corpus_ids, corpus_groups=corpus_groups,
        corpus_guide=corpus_guide,
    )  # fmt: skip
    options.setdefault("progress", "none")
    listed = {name: pairs_table(options[name]) for name in ("qrels", "exclude") if options.get(name) is not None}
    options |= (
        listed | ({"corpus": MEMORY} if corpus is not None else {}) | ({"guide": "guide"} if guide is not None else {})
    )
    config, resources, tables = asked_options(options, *(["group_column"] if groups is not None else []))
    refuse_machines(resources, "arrays")

    def opened(vectors: Any, labels: Any, ids: Any, groups: Any, needs_label: bool | None, **name: str) -> Source:
        return arrays_source(
            vectors, labels, ids=ids, groups=groups, metric=config.metric, normalize=config.normalize,
            on_bad_rows=config.on_bad_rows, batch_rows=resources.batch_rows, require_label=needs_label, **name,
        )  # fmt: skip

    def numbered(vectors: Any, ids: Any) -> Any:
        return range(len(vectors)) if listed and ids is None else ids

    needs_label = not config.listed_positives
    notes: list[str] = []
    known, barred = listed_pairs(listed.get("qrels"), listed.get("exclude"), config, notes)
    excluded = excluded_rows(tables, ids is not None or corpus_ids is not None)
    guides = [opened(each, None, None, None, None, name="guide") for each in (guide, corpus_guide) if each is not None]
    sources = Sources(
        opened(embeddings, labels, numbered(embeddings, ids), groups, needs_label),
        None
        if corpus is None
        else opened(corpus, corpus_labels, numbered(corpus, corpus_ids), corpus_groups, needs_label),
        known, barred, excluded, tuple(guides), notes=notes,
        numbered=ids is None or (corpus is not None and corpus_ids is None),
    )  # fmt: skip
    with ExitStack() as stack:
        progress = stack.enter_context(reporter(resources.progress, None))
        folder = stack.enter_context(scratch_folder(resources.scratch))
        miner = stack.enter_context(Mining(sources, config, resources, folder, progress))
        miner.begin()
        shards = miner.mine_shards(range(len(miner.plan.shards)))
        with miner.learning():
            parts = [(emit(picture), picture.stats) for _, picture in shards]
        total = merged(stats for _, stats in parts)
        table = pa.concat_tables([table for table, _ in parts])
        if needs_finishing(config):
            table = _finished_in_memory(miner, parts, total, folder)
        return Mined(table, total, miner.effort, (*miner.notes(), *total.notes()))


def _refuse_one_side(corpus: Any, guide: Any, **of_corpus: Any) -> None:
    """Refuse what belongs to a corpus where there is none, and the guide's vectors of one table alone."""
    for name in (name for name, value in of_corpus.items() if value is not None and corpus is None):
        raise UsageError(f"{name} is given, and no corpus", "pass the vectors that it belongs to as corpus")
    if corpus is not None and (guide is None) != (of_corpus["corpus_guide"] is None):
        raise UsageError("guide and corpus_guide belong together where there is a corpus", "pass both, or neither")


def _finished_in_memory(
    miner: Mining, parts: list[tuple[pa.Table, ShardStats]], total: ShardStats, folder: Path
) -> pa.Table:
    """The finishing pass over parts written to a temporary folder."""
    config = miner.config
    run = Output(folder / "mined", config.emit).begin(
        resume=False, overwrite=False, config=config.to_dict(), fingerprint=config.fingerprint(),
        source=miner.source.identity(), columns=miner.columns(), parts=len(parts),
    )  # fmt: skip
    with run:
        for index, (table, stats) in enumerate(parts):
            run.write_part(index, table, stats.to_dict())
        paths = [run.part_path(index) for index in range(len(parts))]
        rows = finished_rows(config, paths, miner.keys(), total, trainer_shape(miner, config, total))
        found = list(rows or ())
        return pa.concat_tables(found) if found else parts[0][0].slice(0, 0)


def warmup(dtype: Any = np.float32, *, window: bool = False) -> float:
    """Compile, or load from the cache, every kernel that mining rows of `dtype` runs; returns the seconds it took.

    window : whether those of windows (`--window`, Miner) too
    """
    began = time.perf_counter()
    vectors, labels = np.random.default_rng(0).standard_normal((64, 8)).astype(dtype), np.arange(64) % 4
    for screen in ("scan", *usable_screens(8)):
        mine_arrays(vectors, labels, screen=screen)
    if window:
        Miner(32).feed({"embedding": vectors, "label": labels})
    return time.perf_counter() - began
