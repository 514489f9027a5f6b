"""Engines: clusters that mine the shards of a run. Each is a module with one function `run`, imported on use."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from minestream.config.rules import ENGINES
from minestream.errors import UsageError


def engine_of(engine: str) -> Callable[..., None]:
    """What mines what is left: (miner, run, todo, inputs, tables), as Work has them.

    Raises
    ------
    UsageError
        When the engine's packages are not installed.
    """
    try:
        module = import_module(ENGINES[engine].module or "")
    except ImportError as error:
        raise UsageError(f"--engine {engine}: {error}", f"pip install 'minestream[{engine}]'") from error
    run: Callable[..., None] = module.run
    return run
