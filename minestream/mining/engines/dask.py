"""dask.distributed: its workers mine units, each reading the source itself; a lost worker's unit goes to another."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import distributed
from distributed import Client, LocalCluster, get_worker
from distributed.scheduler import KilledWorker

from minestream.mining.engines.work import Job, Unit, Work, deal, lost_workers, mine_unit, no_cluster

CONNECT_SECONDS = 10
WORKERS_SECONDS = 120
RETRIES = 2  # of a unit that failed; one whose worker died is given to another by the scheduler, three times


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
    address = work.miner.resources.address
    with _client(address, work.workers()) as client:
        workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        deal(work, workers, Dask(client, work.job(None if address else workers)))


class Dask:
    """The workers of a client."""

    def __init__(self, client: Client, job: Job) -> None:
        self._client, self._job = client, job

    def submit(self, unit: Unit) -> Any:
        """Have a unit mined."""
        return self._client.submit(_mined, self._job, unit, pure=False, retries=RETRIES)

    def wait(self, running: Sequence[Any], seconds: float) -> list[Any]:
        """Those that ended, waiting so long for the first."""
        try:
            with self._client.as_current():
                return list(distributed.wait(running, timeout=seconds, return_when="FIRST_COMPLETED").done)
        except TimeoutError:
            return []

    def result(self, future: Any) -> Unit:
        """The unit that is mined; its error is raised."""
        try:
            unit: Unit = future.result()
        except KilledWorker as error:
            raise lost_workers("dask", error) from error
        return unit

    def cancel(self, running: Sequence[Any]) -> None:
        """Give up what has not ended."""
        self._client.cancel(running, force=True)


@contextmanager
def _client(address: str | None, workers: int) -> Iterator[Client]:
    """A client of the cluster at `address`, or of one that lives as long as this."""
    if address is not None:
        try:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except OSError as error:  # of which a timeout is one
            raise no_cluster("dask", address, error) from error
        with client:
            yield client
        return
    # Memory is bounded by ourselves; one thread, as a unit has threads of its own.
    with (
        LocalCluster(
            n_workers=workers, threads_per_worker=1, memory_limit=0, dashboard_address=None, silence_logs=logging.ERROR
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _mined(job: Job, unit: Unit) -> Unit:
    return mine_unit(job, unit, get_worker().state.nthreads)
