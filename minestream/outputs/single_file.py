"""Writing one file whole, under another name, and renaming it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from minestream.errors import OutputError, UsageError
from minestream.inputs.given import Given, refuse_inputs
from minestream.outputs.atomic import disk_errors, sync_folder, write_json
from minestream.outputs.stores import target_at
from minestream.outputs.target import Target
from minestream.system.memory import scratch_folder
from minestream.system.paths import AnyPath, RemotePath, place_of
from minestream.system.stats import ShardStats


@dataclass
class Draft:
    """A file in the making.

    Attributes
    ----------
    path : Path
        Where it is written.
    target : Target
        Where it goes.
    manifest : dict, optional
        To lie beside it.
    spent : ShardStats
        The seconds by stage.
    """

    path: Path
    target: Target
    manifest: dict[str, Any] | None = None
    spent: ShardStats = field(default_factory=ShardStats)

    def told(self, record: dict[str, Any]) -> dict[str, Any]:
        """What a function returns of its file: the place, the record {rows, bytes, crc32}, the seconds by stage."""
        final = self.target.final
        return {"output": str(final), "written": [{"name": final.name, **record}], "stages": self.spent.seconds}

    def refuse_inputs(self, given: Iterable[Given]) -> None:
        """Raise OutputError when one of the tables is the file that will be replaced, or would be read with it."""
        refuse_inputs(self.target.final, [self.target.final, self.target.manifest], [self.target.final], given)


def ending_in(suffix: str, out: str | os.PathLike[str] | RemotePath, what: str, option: str = "-o ") -> AnyPath:
    """The place to write to; UsageError when its name does not end in `suffix`."""
    place = place_of(out, OutputError)
    if place.suffix != suffix:
        raise UsageError(
            f"{what} writes {suffix} files, not {place.name}", f"{option}{place.parent / (place.stem + suffix)}"
        )
    return place


@contextmanager
def publishing(out: AnyPath, overwrite: bool, given: Iterable[Given]) -> Iterator[Draft]:
    """A file to write. It takes the name `out` if all goes well; otherwise it is removed and `out` stays as it was.

    `given` is what is read, none of which is written over.
    """
    with ExitStack() as stack:
        if isinstance(out, RemotePath):
            draft = Draft(stack.enter_context(scratch_folder(None)) / out.name, target_at(out))
        else:
            draft = Draft(out.with_name(f".{out.name}.{os.getpid()}.tmp"), target_at(out))
            stack.callback(draft.path.unlink, missing_ok=True)
        draft.refuse_inputs(given)
        draft.target.check(resume=None, overwrite=overwrite)
        if out.is_dir():
            raise OutputError(f"{out} is a folder", "give the name of a file")
        with disk_errors(draft.path if isinstance(out, RemotePath) else out):
            yield draft
            draft.target.check(resume=None, overwrite=overwrite)  # of what appeared meanwhile
            draft.target.manifest.unlink(missing_ok=True)  # of what is replaced
            if isinstance(out, RemotePath):
                out.upload(draft.path)
            else:
                os.replace(draft.path, out)
                sync_folder(out.parent)
            if draft.manifest is not None:
                write_json(draft.target.manifest, draft.manifest, draft.path)
