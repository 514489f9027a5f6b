"""Engines: clusters that mine the shards of a run. Those are dask.py and ray.py, imported on use."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import Any

from minestream.config.rules import ENGINES
from minestream.errors import UsageError


def engine_of(engine: str) -> Callable[..., AbstractContextManager[Any]]:
    """What opens the Workers of deal.py: (resources, how many to start where no cluster is named).

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
