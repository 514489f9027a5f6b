"""What a worker process of an engine does: it reads the input, mines units and writes their parts to OUT.partial."""

from __future__ import annotations

import gc
import os
import socket
import tempfile
import threading
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from minestream.errors import InputError
from minestream.inputs.tables import Sources
from minestream.mining.driver import Driver
from minestream.mining.engines.attached import attached
from minestream.mining.engines.deal import Ended, Job, Unit
from minestream.mining.engines.exchange import FileExchange, WaitingError
from minestream.mining.engines.together import Shared
from minestream.mining.pipeline import mine_shards, write_part, write_parts
from minestream.mining.shards import Mining
from minestream.outputs.manifest import differences
from minestream.outputs.parts import PartWriter
from minestream.outputs.rows import ShardResult
from minestream.outputs.run import EXCHANGE
from minestream.outputs.stores import target_of
from minestream.outputs.target import Target
from minestream.search.context import Share
from minestream.system.lean import lean


@dataclass
class LoadedJob:
    """The job whose input this process holds in memory."""

    key: str
    mining: Mining
    scratch: Path
    closing: ExitStack


_loaded: list[LoadedJob] = []  # at most one
_one_at_a_time = threading.Lock()  # a unit uses all threads of its worker, and dask runs several tasks in one worker


def mine_unit(job: Job, unit: Unit, threads: int | None = None) -> Ended:
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
        todo = [index for index in unit if job.shared is not None or parts.finished(index) is None]
        if not todo:
            return Ended(unit)
        loaded = _miner(job, target, threads)
        effort = loaded.mining.searcher.effort
        before = effort.pairs_computed
        if job.shared is not None:
            ended = _mine_share(job.shared, unit[0], loaded, parts)
        else:
            write_parts(loaded.mining, mine_shards(loaded.mining, todo), partial(write_part, parts))
            ended = Ended(unit)
    return ended._replace(computed=effort.pairs_computed - before)


def mine_as_worker(job: Job, unit: Unit, threads: int | None = None) -> Ended:
    """mine_unit() in a worker process, which is kept lean where the run has started it for itself."""
    with lean() if job.resources.address is None else nullcontext():
        return mine_unit(job, unit, threads)


def _mine_share(shared: Shared, number: int, loaded: LoadedJob, parts: PartWriter) -> Ended:
    """Go on with a share of a search until another worker has to make something first."""
    folder = parts.target.partial / EXCHANGE / shared.key
    exchange = FileExchange(folder, number, shared.workers, loaded.scratch)
    share, done = Share(number, shared.workers, exchange, shared.answer_bytes), list[int]()

    def write(index: int, result: ShardResult) -> None:
        write_part(parts, index, result)
        done.append(index)

    try:
        write_parts(loaded.mining, mine_shards(loaded.mining, shared.todo, share), write)
    except WaitingError as waiting:
        return Ended(tuple(done), missing=str(waiting))
    return Ended(tuple(done))


def _miner(job: Job, target: Target, threads: int | None) -> LoadedJob:
    """The job, with its input loaded and cut into shards; that of an earlier job is closed first."""
    if not (_loaded and _loaded[0].key == job.key):
        if _loaded:
            _loaded.pop().closing.close()
            gc.collect()
        _loaded.append(_load(job, target, threads))
    return _loaded[0]


def _load(job: Job, target: Target, threads: int | None) -> LoadedJob:
    resources = replace(job.resources, threads=job.resources.threads or threads)
    with ExitStack() as stack:
        driver = stack.enter_context(Driver(job.config, resources))
        driver.attached = None if job.attached is None else attached(Path(job.attached))
        sources = driver.open(list(job.inputs), job.tables)
        # In the work folder, since the run removes there what a killed worker leaves.
        folder = target.partial if isinstance(target.partial, Path) else target.scratch
        own = tempfile.TemporaryDirectory(dir=folder, prefix=f"worker-{os.getpid()}-", ignore_cleanup_errors=True)
        scratch = Path(driver.held.enter_context(own))
        mining = Mining(driver, sources, scratch)
        if driver.attached is None:
            _refuse_other_data(job, sources, mining)
        return LoadedJob(job.key, mining, scratch, stack.pop_all())


def _refuse_other_data(job: Job, sources: Sources, mining: Mining) -> None:
    """Raise InputError where this machine has other files than the run has read."""
    found = {"source": sources.identity(), "columns": mining.columns(), "parts": len(mining.plan.shards)}
    if lines := differences(job.plan, {**job.plan, **found}):
        raise InputError(
            f"the worker on {socket.gethostname()} reads other data than this process:\n  " + "\n  ".join(lines),
            "give paths that lead to the same files on every machine",
        )
