"""Outputs in an object store: made in a local folder, then copied object by object.

A store has no rename, no lock and, through pyarrow, no way to abort an upload. So every object is made whole on
a local disk first, where an attempt to upload it can be repeated, and appears when its upload completes. While a
run works, ``OUT.partial/`` holds the same as on a disk: ``manifest.json``, finished parts, their records. OUT comes
next, ``OUT.manifest.json`` last; a folder is complete when its manifest is there. The token in the manifest says which
run may write, see parts.py.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from contextlib import ExitStack, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from minestream.errors import MinestreamError, OutputError
from minestream.outputs.atomic import disk_errors, take_lock, write_json
from minestream.outputs.card import MARK, card
from minestream.outputs.manifest import plan_of
from minestream.outputs.run import EXCHANGE, Output, Run
from minestream.outputs.target import Target, refuse_ending
from minestream.system import interrupts
from minestream.system.memory import scratch_root
from minestream.system.paths import AnyPath, RemotePath, place_of
from minestream.system.stores import HUB, address_of

STAGED, LEFT_SECONDS = "minestream-output-", 86_400
REPLACES = "replaces"  # in the manifest of unfinished work: whether the run that writes it may replace an output


def target_of(out: str | os.PathLike[str] | RemotePath, scratch: str | None = None) -> Target:
    """The target that a path or URI names; `scratch` is where a remote one is made.

    Raises
    ------
    UsageError
        For a name that ends as files of another kind do.
    """
    place = place_of(out, OutputError)
    refuse_ending(place)
    return target_at(place, scratch)


def target_at(place: AnyPath, scratch: str | None = None) -> Target:
    """The target at a place, whatever its name."""
    if isinstance(place, RemotePath):
        return (HubOutput if address_of(place.uri).scheme == HUB else RemoteOutput)(place, scratch)
    return Output(place)


class RemoteOutput(Target):
    """An output in an object store.

    Parameters
    ----------
    out : RemotePath
    scratch : str, optional
        Local folder for the parts and the file in the making. Default: the system's temporary folder.
    """

    final: RemotePath
    partial: RemotePath
    manifest: RemotePath
    again = "; another run that still writes it stops then"

    def __init__(self, out: RemotePath, scratch: str | None = None) -> None:
        super().__init__(out)
        self._scratch = scratch

    @property
    def scratch(self) -> Path:
        """The given scratch folder, or the system's temporary folder."""
        return scratch_root(self._scratch)

    def refuse_place(self) -> None:
        """Refuse a missing bucket, and an OUT that names a bucket alone."""
        if not self.final.name:
            raise OutputError(f"cannot write {self.final}: a bucket alone", "name an object: BUCKET/NAME.parquet")
        bucket = self.final
        while bucket.name:
            bucket = bucket.parent
        if bucket.bucketed and not bucket.exists():
            raise OutputError(f"cannot write {self.final}: no such bucket", "check the name, or make it first")

    def refuse_foreign(self) -> None:
        """Refuse a work folder that no run made; parts alone are what a run that was taken over wrote last."""
        if self.unfinished() is None and not all(map(_may_be_left, self.partial.files())):
            raise OutputError(
                f"{self.partial} is in the way and is not minestream's", "move it, or choose another name"
            )

    def tidy(self) -> None:
        """Remove what a run killed just after publishing left beside its complete output."""
        self.partial.remove_all()

    def put_beside(self, ready: Path, manifest: dict[str, Any]) -> None:
        """Write what else belongs to the output that stands there, before its manifest: nothing."""

    def begin(self, *, resume: bool, overwrite: bool, **work: Any) -> Run:
        """Put the token of this run there, which takes the output over, and go on with the finished parts."""
        self.check_unfinished(resume=resume, overwrite=overwrite)
        plan = plan_of(work)
        unfinished = self.resumable(plan) if resume else None
        if unfinished is None:
            self.partial.remove_all()
        with ExitStack() as failed:
            failed.callback(self.leave, plan)
            write_json(self.partial / "manifest.json", {**plan, REPLACES: resume or overwrite})
            folder = stage(self.scratch)
            failed.callback(shutil.rmtree, folder, ignore_errors=True)
            staged = Output(folder / self.final.name)
            if unfinished is not None:
                self._fetch(staged.partial)
            made_in = staged.begin(resume=True, overwrite=False, **plan)
            failed.pop_all()
        return RemoteRun(staged, made_in.lock, plan, may_replace=resume or overwrite, target=self)

    def leave(self, plan: dict[str, Any]) -> None:
        """End a run that was not published: finished parts stay; what another run took over is left alone."""
        with suppress(MinestreamError):  # what ended the run is reported
            names = self.partial.files()
            kept = any(fnmatch(name, each) for name in names for each in ("part-*.json", f"{EXCHANGE}/*.arrows"))
            if not kept and (self.unfinished() or {}).get("run") == plan["run"]:
                self.partial.remove_all()

    def _fetch(self, folder: Path) -> None:
        """Bring the finished parts and their records into a local work folder."""
        (folder / "parts").mkdir(parents=True)
        (folder / "lock").touch()
        names = self.partial.files()
        with disk_errors(folder):
            for name in ["manifest.json", *(name for name in names if fnmatch(name, "part-*.json"))]:
                part = f"parts/{Path(name).stem}.parquet"
                if part in names:
                    (self.partial / part).download(folder / part)
                (self.partial / name).download(folder / name)


class HubOutput(RemoteOutput):
    """An output in a dataset of the Hugging Face Hub, where every write is a commit.

    Nothing but the output, the card of the dataset and the manifest goes there: parts stay in a local folder, and
    there is no unfinished work to go on with.
    """

    shared = False

    def _card(self) -> RemotePath:
        """Where the card is: the Hub shows that of the dataset's own folder alone."""
        return self._dataset() / "README.md"

    def _dataset(self) -> RemotePath:
        place = self.final
        while address_of(place.uri).key.count("/") > 1:
            place = place.parent
        return place

    def _name(self) -> str:
        """The name of the output in the dataset."""
        return "/".join(address_of(self.final.uri).key.split("/")[2:])

    def refuse_place(self) -> None:
        """Refuse what is no file or folder of a dataset that is there."""
        if address_of(self.final.uri).authority != "datasets" or not self._name():
            raise OutputError(f"cannot write {self.final}", "name a file of a dataset: hf://datasets/USER/NAME/FILE")
        dataset = self._dataset()
        if not dataset.exists():
            raise OutputError(
                f"cannot write {self.final}: no dataset {dataset}", "make it first, and log in: hf auth login"
            )

    def remarks(self) -> list[str]:
        """That the card stays as it is, where it is another's."""
        with suppress(FileNotFoundError):
            text = self._card().read_bytes().decode("utf-8", "replace")
            if f"{MARK}{self._name()} -->" not in text:
                return [f"{self._card()} is of something else, and stays as it is: the output has no card"]
        return []

    def put_beside(self, ready: Path, manifest: dict[str, Any]) -> None:
        """Write the card, unless another stands there."""
        if not self.remarks():
            files = [ready] if self.single else sorted(ready.iterdir())
            schema = pq.read_schema(files[0]) if files else pa.schema([])
            self._card().write_bytes(card(self._name(), manifest, schema).encode())

    def begin(self, *, resume: bool, overwrite: bool, **work: Any) -> Run:
        """Start in a local folder."""
        self.check(resume=resume, overwrite=overwrite)
        folder, plan = stage(self.scratch), plan_of(work)
        with ExitStack() as failed:
            failed.callback(shutil.rmtree, folder, ignore_errors=True)
            staged = Output(folder / self.final.name)
            made_in = staged.begin(resume=False, overwrite=False, **plan)
            failed.pop_all()
        self.partial = staged.partial  # type: ignore[assignment]  # where parts go
        return RemoteRun(staged, made_in.lock, plan, may_replace=resume or overwrite, target=self)

    def leave(self, plan: dict[str, Any]) -> None:
        """End a run that was not published: nothing is there."""

    def tidy(self) -> None:
        """There is no unfinished work to remove."""


def _may_be_left(name: str) -> bool:
    return fnmatch(name, "part-*.json") or fnmatch(name, "parts/part-*.parquet")


def stage(scratch: Path) -> Path:
    """A new folder in `scratch`; those of runs that were killed more than a day ago are removed."""
    for folder in scratch.glob(f"{STAGED}*"):
        with suppress(OSError):
            if time.time() - folder.stat().st_mtime > LEFT_SECONDS and not _is_at_work(folder):
                shutil.rmtree(folder, ignore_errors=True)
    with disk_errors(scratch / STAGED):
        return Path(tempfile.mkdtemp(prefix=STAGED, dir=scratch))


def _is_at_work(folder: Path) -> bool:
    """Whether the run that such a folder belongs to is alive: then it holds the lock within."""
    for lock in folder.glob("*.partial/lock"):
        try:
            with open(lock, "rb") as file:
                take_lock(file.fileno(), folder)
        except OutputError:
            return True
    return False


class RemoteRun(Run):
    """A run whose output is made in a local folder and goes to a store; so does every part once it is finished."""

    target: RemoteOutput

    def __exit__(self, *error: object) -> None:
        """Remove the local folder; finished parts stay in the store, if any."""
        with interrupts.held():
            super().__exit__(*error)
            shutil.rmtree(self.folder.parent, ignore_errors=True)
            self.target.leave(self.plan)

    def collect(self, index: int) -> None:
        """Fetch a part that a worker finished."""
        self.check()
        path = self.part_path(index)
        with disk_errors(self.folder):
            for name in (f"parts/{path.name}", f"{path.stem}.json"):
                (self.target.partial / name).download(self.folder / name)

    def _put(self, ready: Path, manifest: dict[str, Any]) -> None:
        """Write the output to the store, its manifest last, and remove the unfinished work."""
        remote = self.target
        self.check()
        if remote.final.is_dir() or not remote.single:
            self._remove_old()
        check = self.check
        for path in [ready] if remote.single else sorted(ready.iterdir()):
            check()
            (remote.final if remote.single else remote.final / path.name).upload(path)
            check = self._check_sent
        check()
        remote.put_beside(ready, manifest)
        write_json(remote.manifest, manifest)
        remote.tidy()

    def _check_sent(self) -> None:
        """As check(), once an object is there: a run that began with this one, and may replace nothing, finds it."""
        found = self.target.unfinished()
        if found is None or found.get(REPLACES, True):
            self.check()

    def _remove_old(self) -> None:
        """Remove what an upload would not replace; its manifest first, so that nothing half removed looks whole."""
        remote = self.target
        remote.manifest.unlink(missing_ok=True)
        if remote.final.is_dir():
            remote.final.remove_all()
        else:
            remote.final.unlink(missing_ok=True)
