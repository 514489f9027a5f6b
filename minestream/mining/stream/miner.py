"""Mining of a stream: every row is an anchor, and its candidates are the rows just before it, within a window."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, Unpack

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.config.border import public, spelled
from minestream.config.checks import IN_WINDOWS, refuse
from minestream.config.effects import lacking
from minestream.config.keywords import WindowOptions
from minestream.config.memory_plan import TABLE
from minestream.config.metrics import METRICS
from minestream.config.mine_config import MineConfig
from minestream.config.resolve import asked_options
from minestream.config.resources import Resources, memory_budget, thread_count
from minestream.errors import CapacityError, InputError, UsageError
from minestream.inputs.columns import Candidates, Columns
from minestream.inputs.files import STREAM, refuse_splits, table_of
from minestream.inputs.read_options import ReadOptions, find_columns
from minestream.inputs.row_batch import RowBatch
from minestream.inputs.source import Source, open_source
from minestream.mining.negatives import make_task
from minestream.mining.positives import choose_positives, deserving_positives
from minestream.mining.stream.latency import Latencies
from minestream.mining.stream.window import Window
from minestream.outputs.rows import ShardResult, emit, schema_of
from minestream.search.constraints import limited_search
from minestream.search.context import Limits, SearchContext
from minestream.search.screens import Codes
from minestream.search.search import search_once
from minestream.system.stats import ShardStats
from minestream.system.threads import Workers

PIECE_ROWS = 2_048  # rows mined at a time, cut at multiples of it: so a large batch does not need more memory
GROUP_ANCHORS = 512
ROW_BYTES = 352  # of a row in the window, besides its vector, id and carried columns; half of it for equal vectors


class StreamMiner:
    """Mines the rows of a stream as they come.

    Parameters
    ----------
    source : Source
        Describes the rows; the batches may come from it or from others like it.
    config : MineConfig
        With a window.
    resources : Resources

    Attributes
    ----------
    schema : pa.Schema
        Of the tables that `mined` yields.
    stats : ShardStats
        Counters of what was mined so far.
    rows : int
        Rows seen so far, whether they take part or not.
    dropped : dict of str to int
        Rows that took no part, by cause; bad rows are counted by the source.
    """

    def __init__(self, source: Source, config: MineConfig, resources: Resources) -> None:
        _refuse_large(config, source, memory_budget(resources))
        if config.pick == "weighted" and source.dimension < 3:
            raise InputError(
                f"--pick weighted needs vectors of 3 coordinates or more, these have {source.dimension}",
                "the density of distances on a circle has no such weight; use --pick random",
            )
        self._config, self._remarks = config, resources.remarks
        self._window = Window(source, config)
        threads = thread_count(resources)
        self._workers = Workers(threads)
        self._limits = Limits(threads, (config.window or 0) + PIECE_ROWS, GROUP_ANCHORS, ())
        self.schema = schema_of(self._window.loaded(), config)
        self.stats = ShardStats()
        self.rows = 0
        self._broken = False

    @property
    def dropped(self) -> dict[str, int]:
        """Rows that took no part, or were replaced before their window ended, by cause."""
        counts = {"unlabelled": self._window.unlabeled, "replaced: duplicate id": self._window.replaced}
        return {cause: count for cause, count in counts.items() if count}

    @property
    def taken(self) -> int:
        """Rows that took part."""
        return self._window.taken

    def refuse_none(self, source: Source) -> None:
        """Raise InputError for a stream that has ended and whose rows were all dropped."""
        dropped = {f"bad: {kind}": count for kind, count in source.bad_rows.items()} | self.dropped
        if dropped and not self.taken:
            causes = ", ".join(f"{count:,} {cause}" for cause, count in dropped.items())
            raise InputError(
                f"none of the {self.rows:,} rows of the stream takes part; dropped: {causes}",
                "there is nothing to mine: check how the stream was written",
            )

    def notes(self) -> list[str]:
        """Notes for the user about the rows so far, one line each."""
        notes = [*self._remarks, *self._window.labels.notes(self._config.unlabeled)]
        return notes + ([] if self._window.has_ids else lacking("there are no ids", self._config))

    def close(self) -> None:
        """End the threads."""
        self._workers.close()

    @contextmanager
    def transaction(self, rows: int) -> Iterator[None]:
        """Mine `rows` rows within the block; if anything is raised, it is as if none of them had come."""
        if self._broken:
            raise UsageError("this Miner was interrupted while it removed rows again", "start another one")
        self._broken = True
        self._window.evict(self.rows - (self._config.window or 0))
        self._window.reserve(min(rows, PIECE_ROWS))  # first: a snapshot needs arrays that stay where they are
        saved = self._window.snapshot(), copy.deepcopy(self.stats), self.rows
        self._broken = False
        try:
            yield
        except BaseException:
            self._broken = True
            window, self.stats, self.rows = saved
            self._window.restore(window)
            self._broken = False
            raise
        finally:
            self._window.commit()

    def mined(self, batch: RowBatch) -> Iterator[pa.Table]:
        """Yield the output rows of the next batch, in order; they do not depend on how the stream is cut."""
        first = 0
        while first < len(batch.vectors):
            end = first + PIECE_ROWS - int(batch.rows[first]) % PIECE_ROWS  # pieces cross no edge of a part
            yield self._mined(_piece(batch, first, end))
            first = end

    def _mined(self, piece: RowBatch) -> pa.Table:
        config, window = self._config, self._window
        window.evict(int(piece.rows[0]) - (config.window or 0))
        before = window.taken
        window.append(piece)
        self.rows = int(piece.rows[-1]) + 1
        loaded = window.loaded(window.taken - before)
        anchors = np.flatnonzero(loaded.positives > 0).astype(np.int32)
        if not anchors.size:
            return self.schema.empty_table()
        stats = ShardStats()
        setting = SearchContext(loaded, METRICS[config.metric], self._limits, self._workers, stats, _no_codes, _no_cell)
        with stats.stage("positives"):
            search = partial(search_once, replace(setting, timed=False))
            deserving = deserving_positives(loaded, config, anchors, search)
            chosen = choose_positives(loaded, config, anchors, search, deserving)
            task = make_task(loaded, config, anchors, chosen, search, deserving)
            deserving.count_into(stats, 0, anchors.size, chosen)
        with stats.stage("negatives"):
            (found,) = limited_search(setting, [anchors], task.pairs, task.rule, task.constraints)
        table = emit(ShardResult(loaded, config, anchors, task.chosen, found, stats))
        self.stats.add(stats)
        return table


def _no_codes(screen: str) -> Codes:
    raise NotImplementedError(f"a window is scanned, {screen} is not asked for")


def _no_cell() -> NDArray[np.uint16]:
    raise NotImplementedError("a window is scanned, cells are not asked for")


def window_bytes(config: MineConfig, source: Source) -> int:
    """The bytes that the rows of a window take, without ids, labels and carried columns."""
    stored = 8 if config.normalize else 4 if source.dtype == np.float16 else source.dtype.itemsize
    row_bytes = source.dimension * (stored + 8) + ROW_BYTES  # 8: the screen's codes, as rows and as panels
    return 2 * ((config.window or 0) + PIECE_ROWS) * row_bytes


def window_facts(config: MineConfig, source: Source, resources: Resources) -> dict[str, Any]:
    """How a stream uses --memory, as a dry run prints it."""
    what, _ = TABLE["window"]
    table = [{"what": what, "bytes": window_bytes(config, source), "when": "always"}]
    return {"memory_bytes": memory_budget(resources), "memory": table}


def _refuse_large(config: MineConfig, source: Source, budget: int) -> None:
    """Raise CapacityError for a window whose rows do not fit into the memory."""
    wanted = window_bytes(config, source)
    if wanted > budget:
        raise CapacityError(
            f"a window of {config.window:,} rows takes {wanted:,} bytes, --memory allows {budget:,}",
            "a smaller --window, or more --memory",
        )


def _piece(batch: RowBatch, first: int, end: int) -> RowBatch:
    """The rows first ... end - 1 of a batch."""
    cut: dict[str, Any] = {
        name: column[first:end]
        for name in ("rows", "vectors", "labels", "ids", "groups", "carry", "bad")
        if (column := getattr(batch, name)) is not None
    }
    return replace(batch, **cut)


class Miner:
    """Mines the batches of a training loop among the rows fed before: an exact cross-batch memory.

    Parameters
    ----------
    window : int
        The candidates of a row are this many rows fed before it.
    **options
        The options of mine() that work with a window: band, k (`negatives`), positives, metric, margin, threads, ...

    Raises
    ------
    UsageError
        For an option that a window cannot have.

    Notes
    -----
    The output rows do not depend on how the rows are cut into batches. Memory: twice the rows of the window, and one
    batch. Cost: window d operations in float64 a row. Call it from one thread at a time.
    """

    @public(WindowOptions)
    def __init__(self, window: int, **options: Unpack[WindowOptions]) -> None:
        self._config, self._resources, _ = asked_options({**options, "window": window}, function="Miner")
        refuse(IN_WINDOWS, self._resources, what="--window")
        self._reading = ReadOptions.of(self._config.to_dict(), version_column=None)
        self._miner: StreamMiner | None = None
        self._like: Source | None = None
        self._latencies = Latencies()
        self._closed = False

    def __enter__(self) -> Miner:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def feed(self, batch: Any) -> pa.RecordBatch:
        """Mine the rows of a batch, and keep them as candidates.

        Parameters
        ----------
        batch : RecordBatch, Table, or dict of arrays by column
            With the columns that mine() takes: embeddings (n, d), labels and, if there are any, ids, groups and carried
            columns. Arrays may be NumPy, torch or Arrow arrays, or lists. Every batch has the same columns and types.

        Returns
        -------
        pyarrow.RecordBatch
            The rows that mine() would write, with the same schema each time; row numbers count over all batches.

        Raises
        ------
        InputError
            For a batch that cannot be mined. After any error it is as if this batch had not been fed.
        """
        if self._closed:
            raise UsageError("this Miner is closed", "start another one")
        began = time.perf_counter()
        table = self._fed(batch)
        self._latencies.add(time.perf_counter() - began)
        return table.combine_chunks().to_batches()[0] if table.num_rows else _no_rows(table.schema)

    def _fed(self, batch: Any) -> pa.Table:
        if self._miner is not None and _is_empty(batch):
            return self._miner.schema.empty_table()
        table = _as_table(batch, self._config)
        source = _source_of(table, self._reading, None if self._like is None else self._like.columns)
        _refuse_unlike(self._like or source, source)
        batches = list(source.batches())  # all are checked before the first is mined
        miner = self._miner or StreamMiner(source, self._config, self._resources)
        seen, found = miner.rows, [miner.schema.empty_table()]
        try:
            with miner.transaction(table.num_rows):
                for rows in batches:
                    found += miner.mined(replace(rows, rows=seen + rows.rows))
                miner.rows = seen + table.num_rows
            if table.num_rows:
                self._like, self._miner = self._like or source, miner
        finally:
            if miner is not self._miner:
                miner.close()
        return pa.concat_tables(found)

    @property
    def stats(self) -> ShardStats:
        """Counters of what was mined so far."""
        return ShardStats() if self._miner is None else self._miner.stats

    @property
    def notes(self) -> list[str]:
        """Notes about the options and the rows fed so far, one line each."""
        return [] if self._miner is None else list(map(spelled, self._miner.notes()))

    def latency(self) -> dict[str, Any]:
        """The number of batches fed so far, and the median, 99th percentile and maximum of their seconds."""
        return self._latencies.facts()

    def close(self) -> None:
        """End the threads and free the memory."""
        self._closed = True
        if self._miner is not None:
            self._miner.close()
            self._miner = None


def _no_rows(schema: pa.Schema) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in schema], schema=schema)


def _as_table(batch: Any, config: MineConfig) -> pa.Table:
    """A batch as a table."""
    if isinstance(batch, pa.Table | pa.RecordBatch):
        return pa.table(batch)
    refuse_splits(batch)
    if not isinstance(batch, Mapping) or not all(isinstance(name, str) for name in batch):
        raise UsageError(
            f"a batch of type {type(batch).__name__} is not understood",
            "feed a pyarrow RecordBatch or Table, or a dict of arrays by column",
        )
    names = [config.embedding] if config.embedding else [name for name, values in batch.items() if _is_matrix(values)]
    if len(names) != 1 or names[0] not in batch:
        raise InputError(
            f"{STREAM}: {len(names)} of the columns {', '.join(map(repr, batch))} hold vectors",
            "name the one of the embeddings: embedding=...",
        )
    others = {name: values for name, values in batch.items() if name != names[0]}
    table = table_of(batch[names[0]], others, may_be_empty=True)
    return table.rename_columns([names[0], *table.column_names[1:]])


def _is_empty(batch: Any) -> bool:
    """Whether a batch has no rows."""
    if isinstance(batch, pa.Table | pa.RecordBatch):
        return not len(batch)
    return isinstance(batch, Mapping) and bool(batch) and all(_length(values) == 0 for values in batch.values())


def _length(values: Any) -> int | None:
    """How many rows a column has; None for a value that is no column."""
    shape: Any = getattr(values, "shape", None)
    if shape is not None:
        return int(shape[0]) if len(shape) else None
    return len(values) if hasattr(values, "__len__") else None


def _is_matrix(values: Any) -> bool:
    return len(getattr(values, "shape", ())) == 2


def _source_of(table: pa.Table, options: ReadOptions, columns: Columns | None) -> Source:
    """A batch as a source; `columns` are found by names and types alone, so they are the same for every batch."""
    if columns is None:
        columns, _ = find_columns(Candidates(STREAM, table.schema), options)
    return open_source(
        table, options, embedding=columns.embedding, label=columns.labels, id=columns.id, group_column=columns.group,
        require_label=None, may_be_empty=True,
    )  # fmt: skip


def _refuse_unlike(first: Source, source: Source) -> None:
    """Raise InputError for a batch whose dimension, dtype or schema is not that of the first."""
    for what in ("dimension", "dtype", "schema"):
        ours, theirs = getattr(first, what), getattr(source, what)
        if ours != theirs:
            raise InputError(
                f"{STREAM}: the {what} of this batch is {theirs}, that of the first was {ours}",
                "every batch needs the columns and types of the first",
            )
