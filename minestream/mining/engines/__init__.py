"""Engines: what has the shards of a run mined. Each is a module that is imported on use, with one function `run`."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from minestream.config.rules import ENGINES
from minestream.errors import UsageError

if TYPE_CHECKING:
    from minestream.mining.engines.work import Work


def engine_of(engine: str) -> Callable[[Work], None]:
    """What does all work that is left.

    Raises
    ------
    UsageError
        When the engine's packages are not installed.
    """
    about = ENGINES[engine]
    try:
        module = import_module(about.module)
    except ImportError as error:
        raise UsageError(f"--engine {engine}: {error}", f"pip install 'minestream[{engine}]'") from error
    run: Callable[[Work], None] = module.run
    return run
