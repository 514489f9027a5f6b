"""dask.distributed: its workers mine units, each reading the source itself; a lost worker's unit goes to another."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

from distributed import Client, LocalCluster, as_completed, get_worker
from distributed.scheduler import KilledWorker

from minestream.engines.work import Job, Unit, Work, mine_unit, no_cluster
from minestream.errors import TransientError

CONNECT_SECONDS = 10
WORKERS_SECONDS = 120
RETRIES = 2  # of a unit that failed; one whose worker died is given to another by the scheduler, three times


def run(work: Work) -> None:
    """Mine what is left on the workers of a cluster.

    Raises
    ------
    TransientError
        When a unit's workers died one after another.
    """
    if not work.todo:
        return
    address = work.miner.resources.address
    with _client(address, work.workers()) as client:
        workers = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        job = work.job(None if address else workers)
        units = iter(work.units(workers))
        # No more units than workers at a time: the next one goes to whoever is free.
        running = as_completed([_submit(client, job, unit) for unit in islice(units, workers)], loop=client.loop)
        try:
            for future in running:
                work.done(future.result())
                running.update([_submit(client, job, unit) for unit in islice(units, 1)])
        except KilledWorker as error:
            raise TransientError(
                f"workers of dask died while they mined: {error}",
                "look at their logs, give less --memory; finished parts are kept, --resume goes on with them",
            ) from error
        finally:
            client.cancel(list(running.futures), force=True)


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


def _submit(client: Client, job: Job, unit: Unit) -> Any:
    return client.submit(_mined, job, unit, pure=False, retries=RETRIES)


def _mined(job: Job, unit: Unit) -> Unit:
    return mine_unit(job, unit, get_worker().state.nthreads)
