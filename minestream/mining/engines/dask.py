"""dask.distributed: its workers mine units; the unit of a worker that died goes to another."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from distributed import Client, LocalCluster, get_worker
from distributed.scheduler import KilledWorker

from minestream.config.resources import Resources
from minestream.mining.engines.deal import Job, Unit, Workers, no_cluster
from minestream.mining.engines.worker import mine_unit

CONNECT_SECONDS = 10
WORKERS_SECONDS = 120
RETRIES = 2  # of a unit that failed; when its worker dies, the scheduler gives it to another, three times at most


@contextmanager
def workers(resources: Resources, started: int) -> Iterator[Workers]:
    """The workers of the cluster at --address, or `started` of them started here."""
    with _client(resources.address, started) as client:
        count = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        executor = client.get_executor(pure=False, retries=RETRIES)
        yield Workers(count, partial(executor.submit, _mined), KilledWorker)


@contextmanager
def _client(address: str | None, started: int) -> Iterator[Client]:
    """A client of the cluster at `address`, or of a local one that ends with this block."""
    if address is not None:
        try:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
            client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except OSError as error:  # of which a timeout is one
            raise no_cluster("dask", address, error) from error
        with client:
            yield client
        return
    # minestream itself bounds memory; one thread, since a unit starts its threads itself.
    with (
        LocalCluster(
            n_workers=started, threads_per_worker=1, memory_limit=0, dashboard_address=None, silence_logs=logging.ERROR
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        yield client


def _mined(job: Job, unit: Unit) -> Unit:
    return mine_unit(job, unit, get_worker().state.nthreads)
