"""The parts of a run: written whole, by the process that leads it and by workers, to a folder or a store.

In ``OUT.partial/`` a part is ``parts/part-00000.parquet``; its record ``part-00000.json``, which comes second, says
that it is finished. The manifest there holds a token of the run that writes it. Stores have no locks: whoever begins
or resumes a run puts a new token there, and a writer that finds another one stops.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa

from minestream.errors import OutputError
from minestream.outputs.atomic import disk_errors, sync_folder, write_json
from minestream.outputs.manifest import RECORD, fits, read_json, work_digest
from minestream.outputs.metadata import metadata_of
from minestream.outputs.parquet import write_rows
from minestream.outputs.target import Target
from minestream.system.paths import AnyPath, RemotePath
from minestream.system.stats import ShardStats

Values = Callable[[], dict[str, Any]]


class PartWriter:
    """Writes the parts of one run.

    Two workers may write one part, when an engine gives up a unit that is still being mined: both write the same
    bytes, each under a separate name first, so nobody sees half a part.

    Parameters
    ----------
    target : Target
    plan : dict
        The manifest that the run began with.
    kept : Path, optional
        A local work folder in which parts stay too, when the target is a store: publishing needs them.
    """

    def __init__(self, target: Target, plan: dict[str, Any], kept: Path | None = None) -> None:
        self.target, self.plan = target, plan
        self._work: AnyPath = kept or target.partial
        self._metadata, self._digest = metadata_of(plan), work_digest(plan)

    def finished(self, index: int) -> dict[str, Any] | None:
        """The record {rows, bytes, crc32, stats, work} of a finished part, or None.

        A record of other work is none: a run that another took over may still have been writing its last part.
        """
        record = read_json(self._work / f"part-{index:05d}.json")
        part = self._work / "parts" / f"part-{index:05d}.parquet"
        if record is None or not fits(record, RECORD) or record.get("work") != self._digest or not part.exists():
            return None
        return record if part.stat().st_size == record["bytes"] else None

    def write_part(self, index: int, tables: Iterable[pa.Table], stats: Values) -> None:
        """Write a part, of one table or more, then the record that says it is finished.

        `stats` is asked after the last table.

        Raises
        ------
        CapacityError
            When the disk is full.
        OutputError
            When the run is over, or another took its output over.
        """
        self.check()
        folder = self._work if isinstance(self._work, Path) else self.target.scratch
        with disk_errors(folder), tempfile.TemporaryDirectory(prefix="part-", dir=folder) as own:
            part = Path(own) / f"part-{index:05d}.parquet"
            record = self._write(part, tables, stats)
            self.check()
            for work in dict.fromkeys((self.target.partial, self._work)):
                place = work / "parts" / part.name
                if isinstance(place, RemotePath):
                    place.upload(part)
                else:
                    os.replace(part, place)
                    sync_folder(place.parent)
                self.record(work, index, record, Path(own) / "record")

    def _write(self, part: Path, tables: Iterable[pa.Table], stats: Values) -> dict[str, Any]:
        """Write the file of a part; its record."""
        tables = iter(tables)
        first = next(tables)

        def counts() -> dict[str, Any]:
            counted = stats()
            return {name: counted[name] for name in ShardStats().answer() if name in counted}

        rows, brief = chain([first], tables), self.target.single
        return {**write_rows(part, first.schema, rows, self._metadata, counts, brief=brief), "stats": stats()}

    def record(self, work: AnyPath, index: int, record: dict[str, Any], temporary: Path | None = None) -> None:
        """Say in a work folder that the part that lies there is finished."""
        write_json(work / f"part-{index:05d}.json", {**record, "work": self._digest}, temporary)

    def check(self) -> None:
        """Raise OutputError when this run no longer writes the output."""
        final, found = self.target.final, read_json(self.target.partial / "manifest.json")
        if found is None:
            what = f"the run that writes {final} is over, or its unfinished work was removed"
            raise OutputError(what, "mine again with --resume, which goes on with the finished parts")
        if found.get("run") != self.plan["run"]:
            raise OutputError(
                f"another run took over {final}, and this one stops: the output and its parts are left to the other",
                "let that run finish, or end it and go on here with --resume",
            )
