"""The target of a run: the places of its output, what stands there, and how its manifests differ."""

from __future__ import annotations

import json
import secrets
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from minestream import signals
from minestream._version import VERSION
from minestream.errors import OutputError
from minestream.places import AnyPath, text_of
from minestream.rules import EMITS
from minestream.shaped import COMPLETE, REPORT, WORK, fits

if TYPE_CHECKING:
    from minestream.sink import Run


def read_json(path: AnyPath) -> dict[str, Any] | None:
    """The object in a JSON file, or None when there is none or it is not whole."""
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def read_manifest(path: AnyPath) -> dict[str, Any] | None:
    """The manifest in a file, or None when there is none or it is not what one is."""
    found = read_json(path)
    complete = found is not None and found.get("state") == "complete"
    return found if fits(found, COMPLETE if complete else WORK) else None


def report_of(manifest: dict[str, Any], place: AnyPath) -> dict[str, Any]:
    """The report in the manifest of a complete output; OutputError where there is none."""
    report: dict[str, Any] = manifest["report"]
    if not fits(report, REPORT):
        raise OutputError(f"the manifest of {place} holds no report", "mine it again with --overwrite")
    return report


def plan_of(work: dict[str, Any]) -> dict[str, Any]:
    """The manifest of a run that begins; `run` tells its workers from those of a run before it."""
    about = {"state": "working", "version": VERSION, "pyarrow": pa.__version__, "run": secrets.token_hex(8)}
    return about | work


def facts(manifest: dict[str, Any]) -> dict[str, Any]:
    """What must be equal for two runs to be the same work, by the name a user knows it by."""
    files = {f"{file.get('role') or 'source'} file {file['name']}": file for file in manifest.get("source", [])}
    about = {name: manifest.get(name) for name in ("version", "pyarrow", "columns", "parts")}
    return {**manifest.get("config", {}), **files, **about}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two manifests, a line each."""
    before, after = facts(old), facts(new)
    lines = []
    for name in before | after:
        if isinstance((before | after)[name], dict) and " file " in name:
            words = "gone" if name not in after else "new" if name not in before else "its contents changed"
        else:
            words = f"{before.get(name)!r} -> {after.get(name)!r}"
        if before.get(name) != after.get(name):
            lines.append(f"{name}: {words}")
    return lines


def refuse_differences(name: str, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise OutputError when the work recorded by manifest `old` is not that of `new`."""
    lines = differences(old, new)
    if lines:
        raise OutputError(f"{name} was begun otherwise:\n  " + "\n  ".join(lines), "--overwrite starts afresh")


class Target:
    """The places of one output (OUT, the folder of unfinished work, the manifest that stays) and what stands there."""

    final: AnyPath
    partial: AnyPath
    manifest: AnyPath

    def __init__(self, out: AnyPath, emit: str = "triplets") -> None:
        self.final = out
        self.lines = EMITS[emit].suffix != ".parquet"  # of text
        self.single = self.lines or self.final.suffix == ".parquet"  # else a folder of parts
        if self.lines and self.final.suffix == ".parquet":
            raise OutputError(f"{self.final}: --emit {emit} writes lines", f"end the name in {EMITS[emit].suffix}")
        self.partial = self.final.parent / f"{self.final.name}.partial"
        self.manifest = self.final.parent / f"{self.final.name}.manifest.json"

    def check(self, *, resume: bool, overwrite: bool) -> dict[str, Any] | None:
        """Look whether OUT can be written, before anything is read; leaves no file.

        Returns the manifest when `resume` finds the output complete; raises OutputError when OUT or unfinished
        work stands in the way, or the folder it goes to is missing or read-only.
        """
        self.refuse_place()
        self.refuse_foreign()
        unfinished = self.unfinished()
        done = read_manifest(self.manifest)
        nothing = done is not None and done.get("files") == []  # a slice without parts, of which no folder need be left
        if not self.occupied() and not (resume and nothing):
            if unfinished and not (resume or overwrite):
                raise OutputError(
                    f"unfinished work lies in {self.partial}", "--resume goes on with it, --overwrite starts afresh"
                )
            return None
        if resume and done and done.get("state") == "complete" and not (unfinished and differences(unfinished, done)):
            self.tidy()
            return done
        if not overwrite and not (resume and unfinished):
            also = "; --resume goes on with the unfinished work beside it" if unfinished else ""
            raise OutputError(f"{self.final} exists", f"--overwrite replaces it{also}")
        if self.final.is_dir() and not all(path.match("part-*.parquet") for path in self.final.iterdir()):
            raise OutputError(f"{self.final} is a folder that holds other files: not overwritten", "choose another -o")
        return None

    @property
    def text(self) -> str:
        """What names OUT to target_of."""
        return text_of(self.final)

    def unfinished(self) -> dict[str, Any] | None:
        """The manifest of unfinished work, if there is any."""
        return read_manifest(self.partial / "manifest.json")

    def occupied(self) -> bool:
        """Whether something other than an empty folder stands under OUT's name."""
        return self.final.exists() and not (self.final.is_dir() and not any(self.final.iterdir()))

    @property
    def scratch(self) -> Path:
        """A local folder for what a run sets aside."""
        raise NotImplementedError

    def refuse_place(self) -> None:
        """Refuse a place where nothing can be written."""
        raise NotImplementedError

    def refuse_foreign(self) -> None:
        """Refuse a work folder that another process writes, or that no run made."""
        raise NotImplementedError

    def tidy(self) -> None:
        """Remove what a run killed just after publishing left beside its complete output."""
        raise NotImplementedError

    def start(self, stack: ExitStack, **how: Any) -> Run:
        """begin(), to be ended with `stack`: no interrupt falls between the two."""
        with signals.held():
            return stack.enter_context(self.begin(**how))

    def begin(self, *, resume: bool, overwrite: bool, **work: Any) -> Run:
        """Take the lock and start, or go on with the parts that are finished.

        Parameters
        ----------
        resume, overwrite : bool
        **work
            config, fingerprint, source (identities of the files), columns, parts (their number).
        """
        raise NotImplementedError
