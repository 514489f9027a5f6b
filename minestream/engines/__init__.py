"""Engines: what has the shards of a run mined. Each is a module that is imported on use, with one function `run`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from minestream.errors import UsageError

if TYPE_CHECKING:
    from minestream.engines.work import Work

HERE = "local"


@dataclass(frozen=True, slots=True)
class Engine:
    """A row of ENGINES: its line of help, its module, whether it has a cluster of workers."""

    help: str
    module: str
    clusters: bool = True


ENGINES = {
    HERE: Engine("this process", "minestream.engines.local", clusters=False),
    "dask": Engine("worker processes of dask.distributed (pip install minestream[dask])", "minestream.engines.dask"),
    "ray": Engine("worker processes of Ray (pip install minestream[ray])", "minestream.engines.ray"),
}


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
