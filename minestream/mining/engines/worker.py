"""What a worker process of an engine does: it reads the input, mines units and writes their parts to OUT.partial."""

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
class LoadedJob:
    """The job whose input this process holds in memory."""

    key: str
    mining: Mining
    closing: ExitStack


_loaded: list[LoadedJob] = []  # at most one
_one_at_a_time = threading.Lock()  # a unit uses all threads of its worker, and dask runs several tasks in one worker


def mine_unit(job: Job, unit: Unit, threads: int | None = None) -> Unit:
    """Mine a unit in this process and write its parts; the input stays loaded for the next unit.

    Parameters
    ----------
    threads : int, optional
        Threads of this worker, unless the job has a number of them.
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
    """The job's input, loaded and cut into shards; that of an earlier job is closed first."""
    if not (_loaded and _loaded[0].key == job.key):
        if _loaded:
            _loaded.pop().closing.close()
            gc.collect()
        _loaded.append(_load(job, target, threads))
    return _loaded[0].mining


def _load(job: Job, target: Target, threads: int | None) -> LoadedJob:
    resources = replace(job.resources, threads=job.resources.threads or threads)
    with ExitStack() as stack:
        driver = stack.enter_context(Driver(job.config, resources))
        sources = driver.open(list(job.inputs), job.tables)
        # In the work folder, since the run removes there what a killed worker leaves.
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
        return LoadedJob(job.key, mining, stack.pop_all())
