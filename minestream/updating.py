"""`update`: bring an output up to date with a source that has changed, at the cost of what has changed."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from minestream._version import VERSION
from minestream.config import MineConfig, Resources, Tables, split_options
from minestream.contents import MinedOutput, mined_output
from minestream.errors import InputError, UsageError
from minestream.miner import Mining
from minestream.pipeline import mine_configs
from minestream.places import RemotePath
from minestream.progress import Callback
from minestream.recorded import entries, find
from minestream.refreshing import DEFAULT_RESERVE, Changes
from minestream.reserve import Reserve, keys_of, read_reserve, reserve_path
from minestream.reserving import about_of, agrees, left_out, remember
from minestream.shaped import config_of
from minestream.sink import Output
from minestream.stats import Report

TAKEN = ("vectors", "memory", "scratch", "threads", "progress", "screen", "block_rows", "batch_rows", "reserve")
TABLES = {"corpus": "corpus", "known positives": "qrels", "excluded pairs": "exclude", "excluded rows": "exclude_rows"}
GUIDES = ("guide_queries", "guide_corpus")


@dataclass(frozen=True)
class Update:
    """What an update did.

    Attributes
    ----------
    output : str
    unchanged : bool
        The source is as it was: nothing was done.
    full : str
        Why everything was mined again; empty where it was not.
    changes : Changes or None
        Of the rows that take part; None where nothing was remembered of them.
    anchors, searched : int
        Anchors of this run, and those whose neighbours were looked for among all rows.
    pairs_computed, pairs_in_full : int
        Distances computed, and those of a full run.
    seconds : float
    report : Report
        As of `mine`.
    """

    output: str
    unchanged: bool
    full: str
    changes: Changes | None
    anchors: int
    searched: int
    pairs_computed: int
    pairs_in_full: int
    seconds: float
    report: Report

    def to_dict(self) -> dict[str, Any]:
        """By name, as JSON holds it."""
        return asdict(self) | {"report": self.report.to_dict()}


def update(
    out: str | os.PathLike[str], source: Any = None, *, corpus: Any = None, qrels: Any = None,
    progress_callback: Callback | None = None, **options: Any,
) -> Update:  # fmt: skip
    """Bring a mined output up to date: the bytes of a full run on the source as it is now.

    Parameters
    ----------
    out : path
        The output, which is replaced when its successor is whole.
    source, corpus, qrels : path or list of them, optional
        The tables as they are now, if not where they were, beside `out` or here. Of a folder every file counts.
    progress_callback : callable, optional
        As of mine().
    **options
        memory, threads, scratch, progress, vectors as of mine(); reserve: as of mine(), default that of `out`.

    Returns
    -------
    Update

    Raises
    ------
    MinestreamError
        InputError when the rows were embedded by another model: another dimension or type; and as of mine().

    Notes
    -----
    Cost: reading the source, and of n rows, C of them new or changed, some 3 C n distances; anchors whose lists do not
    decide them are searched for in full, and so is everything without a reserve file.
    """
    for name in options:
        if name not in TAKEN:
            raise UsageError(f"update takes no option {name!r}", f"it mines as before; it takes {', '.join(TAKEN)}")
    began = time.perf_counter()
    mined = mined_output(out)
    if isinstance(mined.path, RemotePath):
        raise UsageError(f"{mined.path} lies in an object store: update works on local disks", "mine again")
    config, resources = _config(mined), replace(split_options(options)[1], overwrite=True)
    given = {"": source, "corpus": corpus, "known positives": qrels}
    inputs, vectors = _inputs(mined, source)
    if vectors:
        resources = replace(resources, vectors=resources.vectors or vectors)
    step, tables = _Step(mined, config, resources), _tables(mined, given)
    report = mine_configs(inputs, [step.output], [config], resources, tables, progress_callback, step.prepare)[0]
    return step.told(report, time.perf_counter() - began)


def _config(mined: MinedOutput) -> MineConfig:
    """The configuration that an output was mined with."""
    return config_of(mined.about["config"], mined.path, InputError).resolved()


def _inputs(mined: MinedOutput, source: Any) -> tuple[Any, Any]:
    """INPUT as it is now, and the files of vectors beside it; as given, or one file found by its name.

    Of several files the names alone do not tell which have come since.
    """
    recorded = [entry["name"] for entry in entries(mined, "")]
    files = [name for name in recorded if not name.endswith(".npy")]
    if source is not None:
        return source, []
    if len(files) > 1:
        raise UsageError(
            f"{mined.path} was mined from {len(files):,} files; which count now?",
            "name them, or their folder: --source",
        )
    paths = find(mined, "", {})
    return paths[: len(files)], paths[len(files) :]


def _tables(mined: MinedOutput, given: Mapping[str, Any]) -> Tables:
    """The tables beside INPUT, found again."""
    found: dict[str, Any] = {field: find(mined, role, given) for role, field in TABLES.items() if entries(mined, role)}
    if mined.about["config"]["guide_tables"]:
        found |= dict(zip(GUIDES, ([path] for path in find(mined, "guide", given)), strict=False))
    return Tables(**{field: paths[0] if len(paths) == 1 else paths for field, paths in found.items()})


class _Step:
    """What an update does between reading and mining, and what it then tells of it."""

    def __init__(self, mined: MinedOutput, config: MineConfig, resources: Resources) -> None:
        self.mined, self.config = mined, config
        assert not isinstance(mined.path, RemotePath)
        self.path = mined.path
        self.output = Output(self.path, config.emit)
        self.full = "nothing is to be remembered (--reserve 0)" if resources.reserve == 0 else left_out(config)
        self.old = None if self.full else read_reserve(reserve_path(self.path))
        self.amount = resources.reserve or (self.old.about["reserve"] if self.old else DEFAULT_RESERVE)
        self.changes: Changes | None = None
        self.began = time.perf_counter()
        self.miner: Mining | None = None

    def prepare(self, miner: Mining) -> Report | None:
        """Compare with what is remembered, and bring that up to date; the report where there is nothing to do."""
        self.miner = miner
        self._refuse_other_vectors(miner)
        if self._unchanged(miner):
            return replace(miner.report(self.output.final, [], self.began), already=True)
        if not self.full:
            here = about_of(miner, self.amount)
            old = self.old if self.old and agrees(self.old, here) else None
            missing = "nothing is remembered of another configuration" if self.old else "there was no reserve file"
            self.changes = remember(miner, reserve_path(self.path), old, here)
            self.full = self.changes.full if old else missing
        return None

    def _unchanged(self, miner: Mining) -> bool:
        """Whether the source is byte for byte what was mined, in every column that counts."""
        about, columns = self.mined.about, miner.source.columns
        unseen = columns.carry or columns.group or columns.version  # of these there is no checksum
        same = about["source"] == miner.source.identity() and about["columns"] == miner.columns()
        return bool(same and about["version"] == VERSION and not unseen)

    def _refuse_other_vectors(self, miner: Mining) -> None:
        """Raise InputError when what stands under the old ids cannot be compared with what was mined."""
        old = self.old.about if self.old else (self.mined.manifest or {}).get("report", {}).get("source", {})
        now = miner.source
        for what, then, here in (
            ("{} values", old.get("dimension"), now.dimension), ("values of type {}", old.get("dtype"), str(now.dtype))
        ):  # fmt: skip
            if then is not None and then != here:
                raise InputError(
                    f"{_known_ids(self.old, miner)} now have {what.format(here)} where {self.mined.path} was mined "
                    f"from {what.format(then)}",
                    "another model needs a run of its own: minestream mine, to another OUT",
                )

    def told(self, report: Report, seconds: float) -> Update:
        """The outcome."""
        assert self.miner is not None
        remembered, anchors = self.miner.remembered, int(self.miner.anchors.size)
        searched = len(remembered.left) if remembered else 0 if report.already else anchors
        return Update(
            str(self.output.final), report.already, self.full, self.changes, anchors, searched,
            report.effort.get("pairs_computed", 0), self.miner.pairs_in_full, seconds, report,
        )  # fmt: skip


def _known_ids(old: Reserve | None, miner: Mining) -> str:
    """How many of the known ids are there still, in words."""
    if old is None:
        return "the rows"
    key = keys_of(miner.loaded)
    still = len(set(old.key.to_pylist()) & set(key.to_pylist()))
    return f"{still:,} of {len(old.key):,} known ids"
