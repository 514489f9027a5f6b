"""Ray: its workers mine units; the unit of a worker that died goes to another."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager

import ray
from ray.exceptions import WorkerCrashedError

from minestream.config.resources import Resources, thread_count
from minestream.errors import TransientError
from minestream.mining.engines.deal import Ended, Job, Unit, Workers, no_cluster
from minestream.mining.engines.worker import mine_as_worker

CONNECT_SECONDS = 10
RETRIES = 3


@contextmanager
def workers(resources: Resources, started: int, _note: Callable[[str], None]) -> Iterator[Workers]:
    """The workers of the cluster at --address, or `started` of them started here."""
    with _cluster(resources.address, started, thread_count(resources)):
        machines = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
        machines = [cores for cores in machines if cores]
        share = resources.threads or min(machines)
        if resources.address is None:
            share = max(1, machines[0] // started)
        mined = ray.remote(mine_as_worker).options(
            num_cpus=share, max_retries=RETRIES, retry_exceptions=[TransientError], scheduling_strategy="SPREAD"
        )

        def submit(job: Job, unit: Unit) -> Future[Ended]:
            future: Future[Ended] = mined.remote(job, unit, share).future()
            return future

        yield Workers(max(1, sum(cores // share for cores in machines)), submit, WorkerCrashedError)


def _check_listening(address: str | None) -> None:
    """Raise OSError when nothing listens at the address: Ray itself would wait for minutes."""
    host, _, port = (address or "").rpartition("/")[2].rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()


@contextmanager
def _cluster(address: str | None, started: int, threads: int) -> Iterator[None]:
    """A connection to the cluster at `address`, or to a local one that ends with this block."""
    cores = started * max(1, threads // started)
    own = {} if address else {"num_cpus": cores, "include_dashboard": False}
    try:
        _check_listening(address)
        ray.init(address=address or "local", log_to_driver=False, logging_level="error", **own)
    except (OSError, RuntimeError, ValueError) as error:
        hint = "check that the cluster runs, its address, and that RAY_AUTH_MODE is what its machines have"
        raise no_cluster("Ray", address or "local", error, hint) from error
    try:
        yield
    finally:
        ray.shutdown()
