"""dask.distributed: its workers mine units; the unit of a worker that died goes to another."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from distributed import Client, LocalCluster, get_worker
from distributed.scheduler import KilledWorker

from minestream.config.resources import Resources
from minestream.errors import UsageError
from minestream.mining.engines import GUARD
from minestream.mining.engines.deal import Ended, Job, Unit, Workers, no_cluster
from minestream.mining.engines.worker import mine_as_worker

CONNECT_SECONDS = 10
QUIET_SECONDS, WORKERS_SECONDS = 4, 120
RETRIES = 2  # of a unit that failed; when its worker dies, the scheduler gives it to another, three times at most


@contextmanager
def workers(resources: Resources, started: int, note: Callable[[str], None]) -> Iterator[Workers]:
    """The workers of the cluster at --address, or `started` of them started here; `note` tells of a long wait."""
    with _client(resources.address, started, note) as client:
        count = max(1, len(client.scheduler_info(n_workers=-1)["workers"]))
        executor = client.get_executor(pure=False, retries=RETRIES)
        yield Workers(count, partial(executor.submit, _mined), KilledWorker)


@contextmanager
def _client(address: str | None, started: int, note: Callable[[str], None]) -> Iterator[Client]:
    """A client of the cluster at `address`, or of a local one that ends with this block."""
    if address is not None:
        try:
            client = Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
            try:
                client.wait_for_workers(1, timeout=QUIET_SECONDS)
            except TimeoutError:
                note(f"waiting for a worker of dask at {address}, {WORKERS_SECONDS} s at most")
                client.wait_for_workers(1, timeout=WORKERS_SECONDS)
        except OSError as error:  # of which a timeout is one
            raise no_cluster("dask", address, error) from error
        with client:
            yield client
        return
    # minestream itself bounds memory; one thread, since a unit starts its threads itself.
    try:
        cluster = LocalCluster(
            n_workers=started, threads_per_worker=1, memory_limit=0, dashboard_address=None, silence_logs=logging.ERROR
        )
    except RuntimeError:  # which says no more, and its causes neither
        raise UsageError("--engine dask: no worker starts here", GUARD) from None
    with cluster, Client(cluster, set_as_default=False) as client:
        yield client


def _mined(job: Job, unit: Unit) -> Ended:
    return mine_as_worker(job, unit, get_worker().state.nthreads)
