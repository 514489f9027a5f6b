"""Engines: clusters that mine the shards of a run. Those are dask.py and ray.py, imported on use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

from minestream.config.rules import ENGINES
from minestream.errors import UsageError


def engine_of(engine: str) -> Callable[..., AbstractContextManager[Any]]:
    """The function that opens the Workers of an engine, from (resources, how many to start without a cluster).

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
