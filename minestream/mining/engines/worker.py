"""How a worker process mines a unit: it reads the source itself and writes parts into the work of the run."""

from __future__ import annotations

import gc
import os
import socket
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from minestream.errors import InputError
from minestream.mining.driver import Driver
from minestream.mining.engines.deal import Job, Unit
from minestream.mining.pipeline import mine_shards, write_part
from minestream.mining.shards import Mining
from minestream.outputs.manifest import differences
from minestream.outputs.parts import PartWriter
from minestream.outputs.stores import target_of
from minestream.outputs.target import Target


@dataclass
class Held:
    """The job whose source a worker process holds, with what it was loaded for."""

    key: str
    mining: Mining
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
        target = target_of(job.output, job.resources.scratch)
        parts = PartWriter(target, job.plan)
        parts.check()
        if todo := [index for index in unit if parts.finished(index) is None]:
            for index, result in mine_shards(_miner(job, target, threads), todo):
                write_part(parts, index, result)
    return unit


def _miner(job: Job, target: Target, threads: int | None) -> Mining:
    """The source of a job, loaded and planned; that of another job is let go."""
    if not (_loaded and _loaded[0].key == job.key):
        if _loaded:
            _loaded.pop().closing.close()
            gc.collect()
        _loaded.append(_load(job, target, threads))
    return _loaded[0].mining


def _load(job: Job, target: Target, threads: int | None) -> Held:
    resources = replace(job.resources, threads=job.resources.threads or threads)
    with ExitStack() as stack:
        driver = stack.enter_context(Driver(job.config, resources))
        sources = driver.open(list(job.inputs), job.tables)
        # In the work folder the leader clears up what a killed worker leaves.
        folder = target.partial if isinstance(target.partial, Path) else target.scratch
        own = tempfile.TemporaryDirectory(dir=folder, prefix=f"worker-{os.getpid()}-", ignore_cleanup_errors=True)
        scratch = Path(driver.held.enter_context(own))
        mining = Mining(driver, sources, scratch)
        found = {"source": sources.identity(), "columns": mining.columns(), "parts": len(mining.plan.shards)}
        if lines := differences(job.plan, {**job.plan, **found}):
            raise InputError(
                f"the worker on {socket.gethostname()} reads other data than this process:\n  " + "\n  ".join(lines),
                "give paths that lead to the same files on every machine",
            )
        return Held(job.key, mining, stack.pop_all())
