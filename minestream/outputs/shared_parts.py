"""Parts that a worker writes into the unfinished work of a run that another process leads."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from minestream.errors import OutputError
from minestream.outputs.atomic import disk_errors, sync_folder, write_json
from minestream.outputs.manifest import read_json
from minestream.outputs.metadata import metadata_of
from minestream.outputs.run import Values, finished_part, part_file
from minestream.outputs.target import Target
from minestream.system.paths import AnyPath, RemotePath


class PartWriter(Protocol):
    """What parts are written to."""

    def finished(self, index: int) -> dict[str, Any] | None:
        """The record of a finished part, or None."""

    def write_part(self, index: int, tables: Iterable[pa.Table], stats: Values) -> None:
        """Write a part, of one table or more, then the record that says it is finished."""


class SharedParts:
    """The unfinished work of a run that another process leads, and holds the lock of.

    Two workers may write one part, when an engine gives a unit up that still runs: both write the same bytes, each
    under a name of its own first, so that nobody sees half of it.

    Parameters
    ----------
    target : Target
    plan : dict
        The manifest that the leader began with.
    """

    def __init__(self, target: Target, plan: dict[str, Any]) -> None:
        self._target, self._plan, self._metadata = target, plan, metadata_of(plan)

    def finished(self, index: int) -> dict[str, Any] | None:
        """The record of a finished part, or None."""
        return finished_part(self._target.partial, index)

    def write_part(self, index: int, tables: Iterable[pa.Table], stats: Values) -> None:
        """Write a part, then the record that says it is finished.

        Raises
        ------
        OutputError
            When the run is over, or another has begun in its place.
        """
        work = self._target.partial
        self._check_leader()
        folder = work if isinstance(work, Path) else self._target.scratch
        with disk_errors(folder), tempfile.TemporaryDirectory(prefix="part-", dir=folder) as own:
            part = Path(own) / f"part-{index:05d}.parquet"
            record = part_file(part, tables, self._metadata, stats)
            write_json(part.with_suffix(".json"), record)
            self._check_leader()
            put(part, work / "parts" / part.name)
            put(part.with_suffix(".json"), work / f"{part.stem}.json")

    def _check_leader(self) -> None:
        found = read_json(self._target.partial / "manifest.json") or {}
        if found.get("run") != self._plan["run"]:
            raise OutputError(f"the run that writes {self._target.final} is over", "nothing is to be done")


def put(path: Path, place: AnyPath) -> None:
    """Bring a finished file to its place."""
    if isinstance(place, RemotePath):
        place.upload(path)
    else:
        os.replace(path, place)
        sync_folder(place.parent)
