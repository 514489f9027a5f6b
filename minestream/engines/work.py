"""What engines share: the work that is left, the units it is dealt out in, and how a worker process does one."""

from __future__ import annotations

import gc
import os
import secrets
import socket
import tempfile
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from minestream.config import MineConfig, Resources, Tables
from minestream.emit import Picture, emit
from minestream.errors import InputError, TransientError, UsageError
from minestream.guests import PartWriter, SharedParts
from minestream.miner import Mining
from minestream.mirror import target_of
from minestream.plan import memory_budget, thread_count
from minestream.progress import reporter
from minestream.remote import is_remote, local_text
from minestream.sink import Run
from minestream.sources import open_sources
from minestream.target import Target, differences

LOCAL_WORKERS = 2
ROUNDS = 2  # a unit takes at most this share of a worker's part of what is left

Unit = tuple[int, ...]


def write_parts(runs: Sequence[PartWriter], index: int, pictures: Sequence[Picture]) -> None:
    """Write one shard's part of every run that has not got it yet."""
    for run, picture in zip(runs, pictures, strict=True):
        if run.finished(index) is None:
            table = emit(picture)  # which counts, too
            run.write_part(index, table, picture.stats.to_dict())


@dataclass(frozen=True)
class Job:
    """What a worker process must know: paths and options, nothing large."""

    inputs: tuple[str, ...]
    configs: tuple[MineConfig, ...]
    resources: Resources
    tables: Tables
    outputs: tuple[str, ...]
    plans: tuple[dict[str, Any], ...]
    key: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True)
class Work:
    """The work of a run that is left.

    Attributes
    ----------
    miner : Mining
        The source, loaded and planned.
    runs : sequence of Run
        One a configuration.
    todo : list of int
        Shards that are not finished in every run.
    inputs : Any
        As the user gave them.
    tables : Tables
    """

    miner: Mining
    runs: Sequence[Run]
    todo: list[int]
    inputs: Any
    tables: Tables

    def workers(self) -> int:
        """Worker processes to start where no cluster is given."""
        return self.miner.resources.workers or LOCAL_WORKERS

    def job(self, started_here: int | None) -> Job:
        """The job for workers; `started_here` of them share this machine's threads and memory with this process."""
        resources = replace(self.miner.resources, progress="none", resume=False, overwrite=False)
        if started_here is not None:
            threads = max(1, thread_count(resources) // started_here)
            memory = max(2**24, memory_budget(resources) // (started_here + 1))
            resources = replace(resources, threads=threads, memory=str(memory))
        return Job(
            paths_of(self.inputs), tuple(self.miner.configs), resources, absolute_tables(self.tables),
            tuple(absolute(run.target.text) for run in self.runs), tuple(run.plan for run in self.runs),
        )  # fmt: skip

    def units(self, workers: int) -> list[Unit]:
        """What is left as units, the costliest first.

        Shards of one unit share their products, so units are large while much is left, and small at the end, where
        a late one would keep all others waiting.
        """
        left = sorted(self.todo, key=lambda index: (-self.miner.pairs_of(index), index))
        units = []
        while left:
            size = -(-len(left) // (ROUNDS * workers))
            units.append(tuple(sorted(left[:size])))
            left = left[size:]
        return units

    def done(self, unit: Unit) -> None:
        """Take note of a unit that a worker finished."""
        for index in unit:
            for run in self.runs:
                run.collect(index)
            self.miner.progress.advance(self.miner.pairs_of(index))


def paths_of(inputs: Any) -> tuple[str, ...]:
    """INPUT as paths that hold in another process.

    Raises
    ------
    UsageError
        For what is no path.
    """
    every = inputs if isinstance(inputs, list | tuple) else [inputs]
    if not all(isinstance(each, str | os.PathLike) and os.fspath(each) != "-" for each in every):
        raise UsageError("workers of an engine read INPUT themselves: it must be files", "write it to a file first")
    return tuple(absolute(each) for each in every)


def absolute(path: str | os.PathLike[str]) -> str:
    """A path that does not depend on the working directory; a URI of a store as it is."""
    return os.fspath(path) if is_remote(path) else os.path.abspath(local_text(os.fspath(path)))


def absolute_tables(tables: Tables) -> Tables:
    """The tables beside INPUT, likewise."""
    named = {name: getattr(tables, name) for name in tables.__slots__}
    return replace(tables, **{name: absolute(path) for name, path in named.items() if path is not None})


def no_cluster(engine: str, address: str, error: Exception) -> TransientError:
    """The error for a cluster that does not answer."""
    return TransientError(
        f"no workers of {engine} at {address}: {error}", "check that the cluster runs, and its address"
    )


# ---------------------------------------------------------------- in a worker process


@dataclass
class Held:
    """The job whose source a worker process holds, with what it was loaded for."""

    key: str
    miner: Mining
    closing: ExitStack


_loaded: list[Held] = []  # at most one
_one_at_a_time = threading.Lock()  # a unit has threads of its own; workers of dask run several tasks at a time


def mine_unit(job: Job, unit: Unit, threads: int | None = None) -> Unit:
    """Mine a unit in this process and write its parts; the source stays loaded for the next.

    Parameters
    ----------
    threads : int, optional
        The worker's share, unless the job says how many.
    """
    with _one_at_a_time:
        scratch = job.resources.scratch
        targets = [target_of(out, config.emit, scratch) for out, config in zip(job.outputs, job.configs, strict=True)]
        shared = [SharedParts(target, plan) for target, plan in zip(targets, job.plans, strict=True)]
        todo = [index for index in unit if any(parts.finished(index) is None for parts in shared)]
        if todo:
            for index, pictures in _miner(job, targets[0], threads).mine_shards(todo):
                write_parts(shared, index, pictures)
    return unit


def _miner(job: Job, target: Target, threads: int | None) -> Mining:
    """The source of a job, loaded and planned; that of another job is let go."""
    if not (_loaded and _loaded[0].key == job.key):
        if _loaded:
            _loaded.pop().closing.close()
            gc.collect()
        _loaded.append(_load(job, target, threads))
    return _loaded[0].miner


def _load(job: Job, target: Target, threads: int | None) -> Held:
    resources = replace(job.resources, threads=job.resources.threads or threads)
    with ExitStack() as stack:
        progress = stack.enter_context(reporter("none", None))
        sources = open_sources(list(job.inputs), job.configs[0], job.tables, resources)
        # In the work folder the leader clears up what a killed worker leaves.
        folder = target.partial if isinstance(target.partial, Path) else target.scratch
        own = tempfile.TemporaryDirectory(dir=folder, prefix=f"worker-{os.getpid()}-", ignore_cleanup_errors=True)
        scratch = Path(stack.enter_context(own))
        miner = stack.enter_context(Mining(sources, job.configs, resources, scratch, progress))
        for plan in job.plans:
            found = {"source": sources.identity(), "columns": miner.columns(), "parts": len(miner.plan.shards)}
            lines = differences(plan, {**plan, **found})
            if lines:
                raise InputError(
                    f"the worker on {socket.gethostname()} reads other data than this process:\n  "
                    + "\n  ".join(lines),
                    "give paths that lead to the same files on every machine",
                )
        return Held(job.key, miner, stack.pop_all())
