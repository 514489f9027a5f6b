"""Ray: its workers mine units, each reading the source itself; the unit of a lost worker is done by another."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice

import ray
from ray.exceptions import RayTaskError, WorkerCrashedError

from minestream.engines.work import Work, mine_unit, no_cluster
from minestream.errors import MinestreamError, TransientError
from minestream.plan import thread_count

CONNECT_SECONDS = 10
RETRIES = 3


def run(work: Work) -> None:
    """Mine what is left on the workers of a cluster.

    Raises
    ------
    TransientError
        When a unit's workers died one after another.
    """
    if not work.todo:
        return
    resources = work.miner.resources
    with _cluster(resources.address, work.workers(), thread_count(resources)):
        machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        machines = [cores for cores in machines if cores]
        share = resources.threads or min(machines)
        if resources.address is None:
            share = max(1, machines[0] // work.workers())
        workers = max(1, sum(cores // share for cores in machines))
        job = ray.put(work.job(None if resources.address else workers))
        mined = ray.remote(mine_unit).options(
            num_cpus=share, max_retries=RETRIES, retry_exceptions=[TransientError], scheduling_strategy="SPREAD"
        )
        units = iter(work.units(workers))
        # No more units than workers at a time: the next one goes to whoever is free.
        running = [mined.remote(job, unit, share) for unit in islice(units, workers)]
        try:
            while running:
                (done,), running = ray.wait(running, num_returns=1)
                work.done(ray.get(done))
                running += [mined.remote(job, unit, share) for unit in islice(units, 1)]
        except RayTaskError as error:
            if isinstance(error.cause, MinestreamError):
                raise error.cause from None
            raise
        except WorkerCrashedError as error:
            raise TransientError(
                f"workers of Ray died while they mined: {error}",
                "look at their logs, give less --memory; finished parts are kept, --resume goes on with them",
            ) from error
        finally:
            for each in running:
                ray.cancel(each, force=True)


def _knock(address: str | None) -> None:
    """Raise OSError where nobody listens: Ray itself would wait for minutes."""
    host, _, port = (address or "").rpartition("/")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


@contextmanager
def _cluster(address: str | None, workers: int, threads: int) -> Iterator[None]:
    """A connection to the cluster at `address`, or to one that lives as long as this."""
    cores = workers * max(1, threads // workers)
    own = {} if address else {"num_cpus": cores, "include_dashboard": False}
    try:
        _knock(address)
        ray.init(address=address or "local", log_to_driver=False, logging_level="error", **own)
    except (OSError, RuntimeError, ValueError) as error:
        raise no_cluster("Ray", address or "local", error) from error
    try:
        yield
    finally:
        ray.shutdown()
