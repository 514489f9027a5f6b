"""Engines: clusters that mine the shards of a run. Those are dask.py and ray.py, imported on use."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

from minestream.config.resources import Resources
from minestream.config.rules import ENGINES
from minestream.errors import UsageError

GUARD = 'mine in a script, under if __name__ == "__main__": since every worker imports that file'


def refuse_in_worker(resources: Resources) -> None:
    """Raise UsageError in a worker of dask that starts, and so imports the script that started it."""
    started = sys.modules.get("multiprocessing")
    if (resources.engine, resources.address) == ("dask", None) and started is not None:
        if hasattr(started.current_process(), "_inheriting"):
            raise UsageError("--engine dask: a worker that starts has come to this line, too", GUARD)


def engine_of(engine: str) -> Callable[..., AbstractContextManager[Any]]:
    """The function that opens the Workers of an engine, from (resources, how many to start without a cluster, note).

    Raises
    ------
    UsageError
        When the engine's packages are not installed.
    """
    try:
        module = import_module(ENGINES[engine].module or "")
    except ImportError as error:
        raise UsageError(f"--engine {engine}: {error}", f"pip install 'minestream[{engine}]'") from error
    workers: Callable[..., AbstractContextManager[Any]] = module.workers
    return workers
