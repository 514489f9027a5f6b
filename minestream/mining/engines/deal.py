"""Mining with an engine, on the side of the run: deals the shards out to workers, and collects their parts."""

from __future__ import annotations

import os
import re
import secrets
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, islice
from typing import Any, NamedTuple

from minestream.config.memory_plan import memory_plan
from minestream.config.mine_config import MineConfig
from minestream.config.parse import Slice
from minestream.config.resources import Resources, Tables, memory_budget, thread_count
from minestream.errors import MinestreamError, OutputError, TransientError, UsageError
from minestream.inputs.listing import listed
from minestream.mining.engines import engine_of
from minestream.mining.engines.attached import leave
from minestream.mining.engines.together import Shared, shared_of
from minestream.mining.shards import Mining
from minestream.mining.slices import owned_shards
from minestream.outputs.run import EXCHANGE, Run
from minestream.system import interrupts
from minestream.system.paths import RemotePath
from minestream.system.stores import is_remote, local_text

LOCAL_WORKERS = 1  # threads of one process share products, processes do not
ROUNDS = 2  # the remaining shards are cut into this many units for each worker
POLL_SECONDS = 3.0
MOST_TURNS = 3  # in which the same is missing
Unit = tuple[int, ...]  # shards that a worker mines together; of a shared job one number: which share of it


class Ended(NamedTuple):
    """The end of a unit: the parts that are finished, the products computed, and what others have to make first."""

    parts: Unit
    computed: int = 0
    missing: str = ""


@dataclass(frozen=True)
class Job:
    """What a worker process needs to know: paths and options, nothing large."""

    inputs: tuple[str, ...]
    config: MineConfig
    resources: Resources
    tables: Tables
    output: str
    plan: dict[str, Any]
    shared: Shared | None = None  # how the workers search together
    attached: str | None = None  # the file of what this process has read, for workers on the same machine
    key: str = field(default_factory=lambda: secrets.token_hex(8))


@dataclass(frozen=True)
class Workers:
    """The workers of an engine.

    Attributes
    ----------
    count : int
    submit : function
        Has a worker mine a unit of a job. Units that have not ended are given up when the workers are closed.
    lost : type of error
        The engine's error for a unit whose workers died one after another.
    """

    count: int
    submit: Callable[[Job, Unit], Future[Ended]]
    lost: type[Exception]


def mine_on_workers(mining: Mining, run: Run, todo: list[int], inputs: Any, tables: Tables) -> None:
    """Mine the shards `todo` on an engine: each worker has one unit at a time, and takes the next when it is done.

    Raises
    ------
    MinestreamError
        The error of a worker; TransientError when a unit's workers died one after another.
    """
    resources, reported = mining.resources, set[int]()
    opened = engine_of(resources.engine)
    if not todo:
        return
    started = resources.workers or LOCAL_WORKERS
    job = job_of(mining, run, inputs, tables, None if resources.address else started)
    beside = (resources.vectors, resources.labels, *(getattr(tables, name) for name in tables.__slots__))
    every = chain.from_iterable(each.values() if isinstance(each, dict) else [each] for each in (inputs, *beside))
    given = [path for each in every if each is not None for path in listed(each)]
    typed = typed_paths(given, run.target.text)
    if resources.address is None:
        job = replace(job, attached=leave(mining, run.folder))
    with opened(resources, started, mining.progress.note) as workers:
        job = replace(job, shared=shared_of(mining, run, todo, workers.count, answer_bytes(mining, job)))

        def ended(units: Iterable[Unit]) -> Iterator[Ended]:
            left = iter(units)
            running = {workers.submit(job, unit) for unit in islice(left, workers.count)}
            while running:
                done, running = wait(running, POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    yield _result(future, workers.lost, resources.engine, typed)
                    running |= {workers.submit(job, unit) for unit in islice(left, 1)}
                interrupts.check()
                _report_parts(mining, run, todo, reported)

        if job.shared is None:
            _collect(mining, run, ended(units_of(mining, todo, workers.count)))
        else:
            _take_turns(mining, run, partial(ended, [(number,) for number in range(job.shared.workers)]))


def _collect(mining: Mining, run: Run, every: Iterable[Ended]) -> set[str]:
    """Collect the parts of units as they end, and count their products; what they miss."""
    missing = set[str]()
    for each in every:
        mining.searcher.effort.pairs_computed += each.computed
        for index in each.parts:
            run.collect(index)
        missing |= {each.missing} if each.missing else set()
    return missing


def _take_turns(mining: Mining, run: Run, turn: Callable[[], Iterable[Ended]]) -> None:
    """Give every share of a search its turn, until none misses what another has to make.

    Raises
    ------
    OutputError
        When the same is missing turn after turn.
    """
    turns = Counter[frozenset[str]]()
    while missing := frozenset(_collect(mining, run, turn())):
        turns[missing] += 1
        if turns[missing] == MOST_TURNS:
            raise OutputError(f"{run.target.partial / EXCHANGE} is damaged again and again", "mine to another disk")


def answer_bytes(mining: Mining, job: Job) -> int:
    """What the plan of memory of a worker gives to answers."""
    searcher, resources = mining.searcher, job.resources
    own = replace(searcher.job, threads=resources.threads or searcher.job.threads)
    return int(memory_plan(memory_budget(resources), own).bytes["answers"])


def job_of(mining: Mining, run: Run, inputs: Any, tables: Tables, started_here: int | None) -> Job:
    """The job for the workers; `started_here` of them share this machine's threads and memory with this process."""
    resources = replace(mining.resources, progress="none", resume=False, overwrite=False)
    if started_here is not None:
        threads = max(1, thread_count(resources) // started_here)
        memory = max(2**24, memory_budget(resources) // (started_here + 1))
        resources = replace(resources, threads=threads, memory=str(memory))
    arrays = {name: getattr(resources, name) for name in ("vectors", "labels")}
    moved: dict[str, Any] = {name: paths_of(each) for name, each in arrays.items() if each is not None}
    resources = replace(resources, **moved)
    beside = {name: getattr(tables, name) for name in tables.__slots__}
    tables = replace(tables, **{name: reached(table) for name, table in beside.items() if table is not None})
    return Job(paths_of(inputs), mining.config, resources, tables, absolute(run.target.text), run.plan)


def reached(table: Any) -> Any:
    """A table, or those of each name, as absolute paths."""
    return {name: [*paths_of(each)] for name, each in table.items()} if isinstance(table, dict) else absolute(table)


def units_of(mining: Mining, todo: list[int], workers: int) -> list[Unit]:
    """The shards `todo` as units, the costliest first.

    Shards of one unit share the preparation and, in one table, their products. Workers of one machine are equally
    fast, so each gets one unit. In a cluster units are large at first and small at the end, where one slow unit
    would keep all workers waiting.
    """
    costs = [mining.pairs_of(index) for index in todo]
    if mining.resources.address is None:
        slices = (owned_shards(costs, Slice(place + 1, workers)) for place in range(workers))
        return [tuple(todo[place] for place in owned) for owned in slices if owned]
    left = [index for _, index in sorted(zip(costs, todo, strict=True), key=lambda each: (-each[0], each[1]))]
    units: list[Unit] = []
    while left:
        size = -(-len(left) // (ROUNDS * workers))
        units.append(tuple(sorted(left[:size])))
        left = left[size:]
    return units


def _result(future: Future[Ended], lost: type[Exception], engine: str, typed: dict[str, str]) -> Ended:
    """How a unit ended; raises the error of its worker, with paths as the user typed them."""
    try:
        return future.result()
    except (lost, CancelledError) as error:
        raise TransientError(
            f"workers of {engine} died while they mined: {error}", "look at their logs, give less --memory"
        ) from error
    except Exception as error:  # Ray raises an error of its own, whose cause is the worker's
        found = getattr(error, "cause", None) or error
        if not isinstance(found, MinestreamError):
            raise
        if typed:
            paths = re.compile(rf"(?<![\w.-])({'|'.join(map(re.escape, sorted(typed, key=len, reverse=True)))})")
            found.args = tuple(paths.sub(lambda match: typed[match[0]], text) for text in found.args)
        raise found from None


def _report_parts(mining: Mining, run: Run, todo: list[int], reported: set[int]) -> None:
    """Report the progress of parts that have appeared since the last time."""
    folder = run.target.partial
    names = set(folder.files() if isinstance(folder, RemotePath) else os.listdir(folder))
    for index in todo:
        if index not in reported and f"part-{index:05d}.json" in names:
            reported.add(index)
            mining.progress.advance(mining.anchors_of(index))


def paths_of(inputs: Any) -> tuple[str, ...]:
    """INPUT as absolute paths, for other processes.

    Raises
    ------
    UsageError
        For an input that is no path.
    """
    every = listed(inputs)
    if not all(isinstance(each, str | os.PathLike) and os.fspath(each) != "-" for each in every):
        raise UsageError("workers of an engine read INPUT themselves: it must be files", "write it to a file first")
    return tuple(absolute(each) for each in every)


def absolute(path: str | os.PathLike[str]) -> str:
    """An absolute path; URIs of stores stay as they are."""
    return os.fspath(path) if is_remote(path) else os.path.abspath(os.path.expanduser(local_text(os.fspath(path))))


def typed_paths(given: Iterable[str | os.PathLike[str]], output: str) -> dict[str, str]:
    """The absolute paths that workers get, each with the path that the user typed; of a glob pattern, its folder."""
    local = [os.path.expanduser(local_text(os.fspath(path))) for path in given if not is_remote(os.fspath(path))]
    typed = [path if os.path.exists(path) else os.path.dirname(re.split("[*?[]", path)[0]) for path in local]
    typed += [] if is_remote(output) else [output]
    # For a pattern in the working directory the files are named without any folder.
    return {os.path.abspath(path) if path else os.path.abspath("") + os.sep: path.rstrip("/") for path in typed}


def no_cluster(
    engine: str, address: str, error: Exception, hint: str = "check that the cluster runs, and its address"
) -> TransientError:
    """The error for a cluster that does not answer."""
    return TransientError(f"no workers of {engine} at {address}: {error}", hint)
