"""Mining arrays in memory: mine_arrays, and warmup."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.config.border import public
from minestream.config.checks import UNCUT, refuse
from minestream.config.derived import needs_finishing
from minestream.config.keywords import ArrayOptions
from minestream.config.resolve import asked_options, refuse_without_tables
from minestream.config.resources import Resources
from minestream.errors import UsageError
from minestream.inputs.beside import Beside
from minestream.inputs.files import MEMORY
from minestream.inputs.given import GUIDE
from minestream.inputs.read_options import ReadOptions
from minestream.inputs.runs import read_run
from minestream.inputs.source import arrays_source
from minestream.inputs.tables import Sources, excluded_rows, listed_pairs
from minestream.kernels import quantize
from minestream.mining.driver import Driver
from minestream.mining.outcome import with_left_out
from minestream.mining.pipeline import mine_shards
from minestream.mining.shards import Mining
from minestream.mining.stream.miner import Miner
from minestream.outputs.finish import finished_rows
from minestream.outputs.parquet import write_rows
from minestream.outputs.rows import emit
from minestream.search.screens import SCAN_ROWS, screens_of
from minestream.system.memory import scratch_errors
from minestream.system.stats import Effort, ShardStats, merged
from minestream.system.values import many

ROWS_SHOWN = 10  # in a notebook
LEFT_OUT = "left out: "  # how the notes on rows that take no part begin
SHORT_NAMES = {
    "anchor": "anchor_row", "query": "query_row", "positive": "positive_row", "negative": "negative_row",
    "left": "left_row", "right": "right_row",
}  # fmt: skip


@dataclass(repr=False, eq=False)
class Mined:
    """The result of mine_arrays: each column is an attribute (`anchor` for anchor_row), a writable array by row.

    len() is the number of rows; dir() lists the columns.

    Attributes
    ----------
    stats : ShardStats
        Counters: anchors, pairs, rows and so on.
    effort : Effort
        How much work the search was.
    notes : tuple of str
        What was left out, and notes about the options and the rows, one line each.
    """

    _table: pa.Table
    stats: ShardStats
    effort: Effort
    notes: tuple[str, ...] = ()

    def table(self) -> pa.Table:
        """The rows as a table, with the columns of an output file."""
        return self._table

    def __getattr__(self, name: str) -> NDArray[Any]:
        column = SHORT_NAMES.get(name, name)
        if name.startswith("_") or column not in self._table.column_names:
            raise AttributeError(f"no column {name!r}; there are {', '.join(self._table.column_names)}")
        values = np.array(self._table[column].combine_chunks().to_numpy(zero_copy_only=False))
        self.__dict__[name] = values
        return values

    def __dir__(self) -> list[str]:
        short = {column: name for name, column in SHORT_NAMES.items()}
        return sorted({*super().__dir__(), *(short.get(name, name) for name in self._table.column_names)})

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __repr__(self) -> str:
        left_out = "".join(f"; {note}" for note in self.notes if note.startswith(LEFT_OUT))
        columns = ", ".join(self._table.column_names)
        return f"Mined({many(len(self), 'row')} of {many(self.stats.pairs, 'pair')}: {columns}{left_out})"

    def _repr_html_(self) -> str:
        """The first rows as a table, and the notes, for a notebook."""
        names = self._table.column_names
        rows = [names, *(map(str, row.values()) for row in self._table.slice(0, ROWS_SHOWN).to_pylist())]
        cells = ("".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows)
        table = f"<table>{''.join(f'<tr>{row}</tr>' for row in cells)}</table>"
        notes = (note for note in self.notes if not note.startswith(LEFT_OUT))  # those stand in the line above
        return "".join([f"<p>{escape(repr(self))}</p>", table, *(f"<p>{escape(note)}</p>" for note in notes)])

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame; pandas is imported when this is called.

        Raises
        ------
        UsageError
            When it is not installed.
        """
        _imported("pandas")
        return self._table.to_pandas()

    def to_polars(self) -> Any:
        """The rows as a polars DataFrame; polars is imported when this is called.

        Raises
        ------
        UsageError
            When it is not installed.
        """
        return _imported("polars").from_arrow(self._table)

    def torch(self) -> dict[str, Any]:
        """The numeric columns as torch tensors, by short name.

        Raises
        ------
        UsageError
            When the caller has not imported torch.
        """
        torch = sys.modules.get("torch")
        if torch is None:
            raise UsageError("torch is not imported", "import torch before calling .torch()")
        short = {column: name for name, column in SHORT_NAMES.items()}
        numeric = [f.name for f in self._table.schema if pa.types.is_integer(f.type) or pa.types.is_floating(f.type)]
        columns = [name for name in numeric if self._table[name].null_count == 0]
        return {short.get(name, name): torch.from_numpy(getattr(self, name)) for name in columns}


def _imported(library: str) -> Any:
    try:
        return import_module(library)
    except ImportError as error:
        raise UsageError(f"{library} cannot be imported: {error}", f"pip install {library}") from error


@public(ArrayOptions, progress="none")
def mine_arrays(
    embeddings: Any, labels: Any = None, *, ids: Any = None, groups: Any = None, corpus: Any = None,
    corpus_labels: Any = None, corpus_ids: Any = None, corpus_groups: Any = None, guide: Any = None,
    corpus_guide: Any = None, **options: Unpack[ArrayOptions],
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
        The rows that positives and negatives are taken from; `embeddings` are then the queries.
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
        corpus, labels=(labels, corpus_labels), ids=(ids, corpus_ids), groups=(groups, corpus_groups),
        guide=(guide, corpus_guide),
    )  # fmt: skip
    asked: dict[str, Any] = {"progress": "none", **options}
    asked |= ({"corpus": MEMORY} if corpus is not None else {}) | ({"guide": "guide"} if guide is not None else {})
    config, resources, tables = asked_options(
        asked, *(["group_column"] if groups is not None else []), function="mine_arrays"
    )
    refuse(UNCUT, resources, what="arrays")

    reading = ReadOptions.of(
        config.to_dict(), batch_rows=resources.batch_rows, require_label=not config.listed_positives
    )

    def numbered(vectors: Any, ids: Any) -> Any:
        listed = any(each is not None for each in (tables.qrels, tables.exclude, tables.candidates))
        return range(len(vectors)) if listed and ids is None else ids

    notes: list[str] = []
    known, barred = listed_pairs(tables.qrels, tables.exclude, config, notes)
    excluded = excluded_rows(tables, ids is not None or corpus_ids is not None)
    unlabeled = replace(reading, require_label=None, dims=None)
    guides = [arrays_source(each, None, unlabeled, name="guide") for each in (guide, corpus_guide) if each is not None]
    run = None if tables.candidates is None else read_run(tables.candidates)
    sources = Sources(
        arrays_source(embeddings, labels, reading, ids=numbered(embeddings, ids), groups=groups),
        None if corpus is None else
        arrays_source(corpus, corpus_labels, reading, ids=numbered(corpus, corpus_ids), groups=corpus_groups),
        known, barred, excluded, run, (Beside(GUIDE, tuple(guides)),) if guides else (), notes=notes,
        numbered=ids is None or (corpus is not None and corpus_ids is None),
    )  # fmt: skip
    with Driver(config, resources) as driver:
        mining = Mining(driver, sources)
        mining.begin()
        with mining.recording_rate():
            shards = mine_shards(mining, range(len(mining.plan.shards)))
            parts = [(emit(result), result.stats) for _, result in shards]
        total = merged(stats for _, stats in parts)
        table = pa.concat_tables([table for table, _ in parts])
        if needs_finishing(config):
            table = _finished_in_memory(mining, parts, total, driver.scratch())
        return Mined(table, total, mining.searcher.effort, with_left_out(mining.report(None, [total])).notes)


def _refuse_one_side(corpus: Any, **both: tuple[Any, Any]) -> None:
    """Raise UsageError for arrays of a corpus without a corpus, and for what only one of two tables has; ids may."""
    for name, (ours, theirs) in both.items():
        if corpus is None and theirs is not None:
            raise UsageError(f"corpus_{name} is given, and no corpus", "pass the vectors that it belongs to as corpus")
        if corpus is not None and name != "ids" and (ours is None) != (theirs is None):
            what = f"{name} and corpus_{name} belong together where there is a corpus"
            neither = "with qrels neither" if name == "labels" else "neither"
            raise UsageError(what, f"pass {'corpus_' * (theirs is None)}{name}= too, one a row, or {neither}")


def _finished_in_memory(
    mining: Mining, parts: list[tuple[pa.Table, ShardStats]], total: ShardStats, folder: Path
) -> pa.Table:
    """The rows after the finishing pass, over parts that are written to a temporary folder."""
    paths = [folder / f"part-{index:05d}.parquet" for index in range(len(parts))]
    with scratch_errors(folder):
        for path, (table, _) in zip(paths, parts, strict=True):
            write_rows(path, table.schema, [table], {})
    found = list(finished_rows(mining.config, paths, mining.keys(), total, mining.searcher.plan.bytes["room"]) or ())
    return pa.concat_tables(found) if found else parts[0][0].slice(0, 0)


def warmup(dtype: Any = np.float32, *, window: bool = False) -> float:
    """Compile, or load from the cache, every kernel that mining rows of `dtype` uses; returns the seconds it took.

    Those of a screen that is asked for, and that the processor would not choose, are compiled when it is used.

    window : also those of `--window` and Miner
    """
    began = time.perf_counter()
    vectors, labels = np.random.default_rng(0).standard_normal((64, 8)).astype(dtype), np.arange(64) % 4
    screens = screens_of(Resources(), SCAN_ROWS + 1, 8)
    for screen in ("scan", *screens):
        mine_arrays(vectors, labels, screen=screen)
    if screens:
        crowd = np.tile(vectors, (10, 1))
        mine_arrays(crowd, np.arange(len(crowd)) % 2, positives="all", anchors="1", screen=screens[0])
        quantize.rotate_parts(quantize.rotation_signs(8), 4, np.eye(8))
    if window:
        Miner(32).feed({"embedding": vectors, "label": labels})
    return time.perf_counter() - began
