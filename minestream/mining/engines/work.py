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
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from minestream.config.mine_config import MineConfig
from minestream.config.parse import Slice
from minestream.config.resources import Resources, Tables, memory_budget, thread_count
from minestream.errors import InputError, TransientError, UsageError
from minestream.mining.driver import Driver
from minestream.mining.pipeline import mine_shards, write_part
from minestream.mining.shards import Mining
from minestream.mining.slices import owned_shards
from minestream.outputs.manifest import differences
from minestream.outputs.run import Run
from minestream.outputs.shared_parts import SharedParts
from minestream.outputs.stores import target_of
from minestream.outputs.target import Target
from minestream.system import interrupts
from minestream.system.paths import RemotePath
from minestream.system.stores import is_remote, local_text

LOCAL_WORKERS = 1  # threads of one process share products, processes do not
ROUNDS = 2  # a unit takes at most this share of a worker's part of what is left
LOOK_SECONDS = 3.0
Unit = tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """What a worker process must know: paths and options, nothing large."""

    inputs: tuple[str, ...]
    config: MineConfig
    resources: Resources
    tables: Tables
    output: str
    plan: dict[str, Any]
    key: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True)
class Work:
    """The work of a run that is left.

    Attributes
    ----------
    miner : Mining
        The source, loaded and planned.
    run : Run
    todo : list of int
        Shards that are not finished.
    inputs : Any
        As the user gave them.
    tables : Tables
    """

    miner: Mining
    run: Run
    todo: list[int]
    inputs: Any
    tables: Tables
    told: set[int] = field(default_factory=set)

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
            paths_of(self.inputs), self.miner.config, resources, absolute_tables(self.tables),
            absolute(self.run.target.text), self.run.plan,
        )  # fmt: skip

    def units(self, workers: int) -> list[Unit]:
        """What is left as units, the costliest first.

        Shards of one unit share their start and, in one table, their products: workers of one machine, which are
        equally fast, get a unit each. Else units are large while much is left, and small at the end, where a late one
        would keep all others waiting.
        """
        costs = [self.miner.pairs_of(index) for index in self.todo]
        if self.miner.resources.address is None:
            slices = (owned_shards(costs, Slice(place + 1, workers)) for place in range(workers))
            return [tuple(self.todo[place] for place in owned) for owned in slices if owned]
        left = [index for _, index in sorted(zip(costs, self.todo, strict=True), key=lambda each: (-each[0], each[1]))]
        units: list[Unit] = []
        while left:
            size = -(-len(left) // (ROUNDS * workers))
            units.append(tuple(sorted(left[:size])))
            left = left[size:]
        return units

    def done(self, unit: Unit) -> None:
        """Take over a unit that a worker finished."""
        for index in unit:
            self.run.collect(index)

    def look(self) -> None:
        """Tell of the parts that have appeared."""
        folder = self.run.target.partial
        names = set(folder.files() if isinstance(folder, RemotePath) else os.listdir(folder))
        for index in self.todo:
            if index not in self.told and f"part-{index:05d}.json" in names:
                self.told.add(index)
                self.miner.progress.advance(self.miner.anchors_of(index))


class Cluster(Protocol):
    """Workers of an engine; a task of theirs is whatever stands for it there."""

    def submit(self, unit: Unit) -> Any:
        """Have a unit mined."""

    def wait(self, running: Sequence[Any], seconds: float) -> list[Any]:
        """The tasks that ended, waiting so long for the first."""

    def result(self, task: Any) -> Unit:
        """The unit that is mined; its error is raised."""

    def cancel(self, running: Sequence[Any]) -> None:
        """Give up what has not ended."""


def deal(work: Work, workers: int, cluster: Cluster) -> None:
    """Have all units mined, no more than workers at a time: the next one goes to whoever is free."""
    units = iter(work.units(workers))
    running = [cluster.submit(unit) for unit in islice(units, workers)]
    try:
        while running:
            for task in cluster.wait(running, LOOK_SECONDS):
                running.remove(task)
                work.done(cluster.result(task))
                running += [cluster.submit(unit) for unit in islice(units, 1)]
            interrupts.check()
            work.look()
    finally:
        cluster.cancel(running)


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


def no_cluster(
    engine: str, address: str, error: Exception, hint: str = "check that the cluster runs, and its address"
) -> TransientError:
    """The error for a cluster that does not answer."""
    return TransientError(f"no workers of {engine} at {address}: {error}", hint)


def lost_workers(engine: str, error: Exception) -> TransientError:
    """The error for a unit whose workers died one after another."""
    return TransientError(
        f"workers of {engine} died while they mined: {error}",
        "look at their logs, give less --memory; finished parts are kept, --resume goes on with them",
    )


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
        target = target_of(job.output, job.config.emit, job.resources.scratch)
        shared = SharedParts(target, job.plan)
        if todo := [index for index in unit if shared.finished(index) is None]:
            for index, picture in mine_shards(_miner(job, target, threads), todo):
                write_part(shared, index, picture)
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
        driver = stack.enter_context(Driver(job.config, resources))
        sources = driver.open(list(job.inputs), job.tables)
        # In the work folder the leader clears up what a killed worker leaves.
        folder = target.partial if isinstance(target.partial, Path) else target.scratch
        own = tempfile.TemporaryDirectory(dir=folder, prefix=f"worker-{os.getpid()}-", ignore_cleanup_errors=True)
        scratch = Path(driver.held.enter_context(own))
        miner = Mining(driver, sources, scratch)
        found = {"source": sources.identity(), "columns": miner.columns(), "parts": len(miner.plan.shards)}
        if lines := differences(job.plan, {**job.plan, **found}):
            raise InputError(
                f"the worker on {socket.gethostname()} reads other data than this process:\n  " + "\n  ".join(lines),
                "give paths that lead to the same files on every machine",
            )
        return Held(job.key, miner, stack.pop_all())
