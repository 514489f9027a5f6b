"""The driver of a run: opens what the run needs, in order, and closes all of it however the run ends."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.config.effects import lacking
from minestream.config.memory_plan import TERMS_BYTES, Job, memory_plan
from minestream.config.mine_config import MineConfig
from minestream.config.resources import Resources, Tables, memory_budget, thread_count
from minestream.config.rules import EMITS
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.load import load
from minestream.inputs.given import GUIDE, Given, given_tables, tables_read
from minestream.inputs.read_options import Needed
from minestream.inputs.tables import Sources, open_sources
from minestream.kernels import cache_note
from minestream.kernels.jit import compiles_first, running_seconds
from minestream.mining.plan import PART_ROWS, largest_part
from minestream.search.screens import SCREENS, Codes, code_bytes, screens_of
from minestream.search.searcher import Searcher
from minestream.system.memory import scratch_folder, scratch_root
from minestream.system.progress import Callback, Progress, reporter
from minestream.system.stats import Report, ShardStats


class Driver:
    """Opens and closes what one run needs; a context manager.

    Parameters
    ----------
    config : MineConfig
    resources : Resources
    callback : callable, optional
        Receives the events of progress.py.
    bare : bool
        Whether vectors are left unread.

    Attributes
    ----------
    began : float
        The time of the start, by time.perf_counter.
    progress : Progress
    held : ExitStack
        Closes at the end of the run what was entered into it.
    reading : ShardStats
        The seconds of reading the input.
    attached : (Dataset, Codes) or None
        What another process has read and encoded, in place of reading.
    """

    progress: Progress

    def __init__(
        self, config: MineConfig, resources: Resources, callback: Callback | None = None, bare: bool = False
    ) -> None:
        self.began = time.perf_counter()
        self.config, self.resources, self._callback, self._bare = config, resources, callback, bare
        self.held, self.reading = ExitStack(), ShardStats()
        self._given: list[Given] = []
        self._sources: Sources | None = None
        self.attached: tuple[Dataset, Codes, NDArray[np.uint16]] | None = None

    def __enter__(self) -> Driver:
        self.progress = self.held.enter_context(reporter(self.resources.progress, self._callback, running_seconds))
        return self

    def __exit__(self, *error: Any) -> bool | None:
        return self.held.__exit__(*error)

    def open(self, inputs: Any, tables: Tables, label: Needed = True) -> Sources:
        """Open the input and find its columns; raises as open_sources."""
        self._given = given_tables(inputs, tables, self.resources)
        self._sources = open_sources(inputs, self.config, tables, self.resources, label, self._bare)
        return self._sources

    def scratch(self) -> Path:
        """A temporary folder that is removed at the end of the run."""
        return self.held.enter_context(scratch_folder(self.resources.scratch))

    def dataset(self, sources: Sources, beside: Path | None = None) -> tuple[Dataset, Searcher]:
        """Read every row once: the dataset, and the object that searches it; raises as load().

        beside : folder for vectors that do not fit into the memory, unless --scratch names one; None: scratch()
        """
        if compiles_first():
            self.progress.note("compiling kernels for this processor, once: half a minute if it is idle")
        asked = self.resources.scratch
        scratch = scratch_root(asked) if asked else beside or self.scratch()
        memory, job = memory_budget(self.resources), job_of(sources, self.config, self.resources)
        with self.reading.stage("read"):
            if self.attached is None:
                loaded = load(sources, self.config, memory_plan(memory, job), scratch, self.progress, self.reading)
            else:
                loaded, codes, cell = self.attached
        self.held.callback(loaded.store.close)
        searcher = self.held.enter_context(Searcher(loaded, self.config.metric, self.resources, scratch, memory, job))
        if self.attached is not None:
            searcher.take_codes(codes)
            searcher.take_cell(cell)
        return loaded, searcher

    def notes(self, sources: Sources, searcher: Searcher) -> list[str]:
        """Notes for the user, one line each."""
        config = self.config
        notes = list(dict.fromkeys(note for source in sources for note in source.notes)) + searcher.loaded.notes
        notes += self.resources.remarks
        if all(source.columns.id is None for source in sources):
            notes += lacking("there are no ids", config)
        if config.margin is None and EMITS[config.emit].losses:
            notes.append("no --margin: the loss column is left out")
        if config.margin is not None and config.two_tables and config.band == "any" and not config.similarity_filters:
            notes.append("--margin fills the loss column and selects nothing; did you mean --absolute-margin?")
        if cache_note():
            notes.append(cache_note())
        asked, screens = self.resources.screen, searcher.limits.screens
        if asked in SCREENS and asked not in screens:
            notes.append(
                f"screen {asked!r} is not for this processor, or not for rows of this length: {screens[0]!r} is used"
            )
        return notes

    def report(self, output: object, recorded: dict[str, Any], stats: ShardStats, **more: Any) -> Report:
        """The report of the run so far; see Report.of."""
        asked: dict[str, Any] = {"command": self.resources.command, "folder": self.resources.folder}
        asked["inputs"] = self.inputs(recorded["source"])
        return Report.of(output, recorded, stats, seconds=time.perf_counter() - self.began, **asked, **more)

    def inputs(self, read: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """The tables read, as --json lists them; `read`: the rows where a source, a stream, does not know them."""
        sizes = {
            name: {"rows": each.rows, "dimension": each.dimension, "dtype": str(each.dtype)}
            for name, each in zip(("INPUT", "--corpus"), self._sources or (), strict=False)
        }
        counted = {"INPUT": read.get("queries", read.get("rows")), "--corpus": read.get("corpus")}
        for name, size in sizes.items():
            size["rows"] = counted[name] if size["rows"] is None else size["rows"]
        return tables_read(self._given, sizes)


def job_of(sources: Sources, config: MineConfig, resources: Resources) -> Job:
    """What the memory plan depends on, before the rows are read."""
    rows, dimension = sources.rows, sources.dimension
    expected = PART_ROWS if rows is None else rows  # the number of rows of a stream is not known
    given = [(each.sources[0].dimension, each.sources[0].dtype) for each in sources.beside]
    each = [coordinates * max(4, dtype.itemsize) for coordinates, dtype in [(dimension, sources.dtype), *given]]
    each, dimension = ([], 0) if sources.bare else (each, dimension)
    unit = 8 * (dimension + sum(coordinates for coordinates, _ in given))
    joined = sum(held for held, other in zip(each[1:], sources.beside, strict=True) if other.by_id)
    searched = [dimension, *(other.sources[0].dimension for other in sources.beside if other.role != GUIDE)]
    codes = [[code_bytes(screen, width) for screen in screens_of(resources, expected, width)] for width in searched]
    codes[1:] = [[code + TERMS_BYTES for code in other] for other in codes[1:]]
    answers, part = largest_part(config, expected)
    return Job(
        rows=rows, vector_bytes=unit if config.normalize else sum(each), threads=thread_count(resources),
        given_bytes=sum(each) if config.normalize else joined,
        code_bytes=tuple(map(sum, zip_longest(*codes, fillvalue=0))),
        carried=sum(bool(source.columns.carry) for source in sources), answer_bytes=answers, part_bytes=part,
        approximate=config.approximate is not None, read_bytes=max(source.row_bytes for source in sources),
    )  # fmt: skip
