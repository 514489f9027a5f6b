"""Ray: its workers mine units, each reading the source itself; the unit of a lost worker is done by another."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayTaskError, WorkerCrashedError

from minestream.config.resources import thread_count
from minestream.errors import MinestreamError, TransientError
from minestream.mining.engines.work import Job, Unit, Work, deal, lost_workers, mine_unit, no_cluster

CONNECT_SECONDS = 10
RETRIES = 3


def run(*left: Any) -> None:
    """Mine what is left, the fields of a Work, on the workers of a cluster.

    Raises
    ------
    TransientError
        When a unit's workers died one after another.
    """
    work = Work(*left)
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
        deal(work, workers, Ray(work.job(None if resources.address else workers), share))


class Ray:
    """The workers of the cluster this process is connected to, `share` cores each."""

    def __init__(self, job: Job, share: int) -> None:
        self._job, self._share = ray.put(job), share
        self._mined = ray.remote(mine_unit).options(
            num_cpus=share, max_retries=RETRIES, retry_exceptions=[TransientError], scheduling_strategy="SPREAD"
        )

    def submit(self, unit: Unit) -> Any:
        """Have a unit mined."""
        return self._mined.remote(self._job, unit, self._share)

    def wait(self, running: Sequence[Any], seconds: float) -> list[Any]:
        """Those that ended, waiting so long for the first."""
        done: list[Any] = ray.wait(list(running), num_returns=1, timeout=seconds)[0]
        return done

    def result(self, reference: Any) -> Unit:
        """The unit that is mined; its error is raised."""
        try:
            unit: Unit = ray.get(reference)
        except RayTaskError as error:
            if isinstance(error.cause, MinestreamError):
                raise error.cause from None
            raise
        except WorkerCrashedError as error:
            raise lost_workers("Ray", error) from error
        return unit

    def cancel(self, running: Sequence[Any]) -> None:
        """Give up what has not ended."""
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
        hint = "check that the cluster runs, its address, and that RAY_AUTH_MODE is what its machines have"
        raise no_cluster("Ray", address or "local", error, hint) from error
    try:
        yield
    finally:
        ray.shutdown()
