"""Outputs in an object store: made in a local folder, then copied object by object.

A store has no rename, no lock and, through pyarrow, no way to abort an upload. So every object is made whole on
a local disk first, where an attempt to upload it can be repeated, and appears when its upload completes. While a
run works, ``OUT.partial/`` holds the same as on a disk: ``manifest.json``, finished parts, their records. OUT comes
next, ``OUT.manifest.json`` last; a folder is complete when its manifest is there.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pyarrow as pa

from minestream.errors import MinestreamError, OutputError
from minestream.outputs.atomic import disk_errors, take_lock
from minestream.outputs.manifest import plan_of, read_json, refuse_differences
from minestream.outputs.run import Output, Run, Values
from minestream.outputs.target import Target, refuse_ending
from minestream.system import interrupts
from minestream.system.memory import scratch_root
from minestream.system.paths import AnyPath, RemotePath, place_of

STALE_SECONDS = 300
REFRESH_SECONDS = 60
STAGED, LEFT_SECONDS = "minestream-output-", 86_400
_HELD: set[str] = set()  # the tokens of this process: in a container the next one may have its number


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
        return RemoteOutput(place, scratch)
    return Output(place)


class Lease:
    """An object that says who is writing an output; one that is not renewed every minute is stale.

    Stores offer no lock: two runs that begin within the same second may both believe they hold it, and clocks
    must agree within some minutes. A run looks before each part whether it still holds its lease.
    """

    def __init__(self, place: RemotePath, final: RemotePath) -> None:
        self._place, self._final = place, final
        self._token = secrets.token_hex(8)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True, name="minestream-lease")

    def refuse_other(self) -> None:
        """Raise OutputError when another process holds the lease."""
        age = self._place.age_seconds()
        if age is not None and age < STALE_SECONDS and not _is_gone(read_json(self._place) or {}):
            raise OutputError(
                f"another process is writing {self._final}, or was killed less than {STALE_SECONDS // 60} minutes ago",
                "wait for it, or choose another -o",
            )

    def take(self) -> None:
        """Write the object, and keep it fresh until `stop`."""
        self.refuse_other()
        _HELD.add(self._token)
        try:
            self._write()
            self.check()
        except BaseException:
            self.release()
            raise
        self._thread.start()

    def _write(self) -> None:
        held = {"host": socket.gethostname(), "process": os.getpid(), "token": self._token}
        self._place.write_bytes(json.dumps(held).encode())

    def _refresh(self) -> None:
        while not self._ended.wait(REFRESH_SECONDS):
            with suppress(MinestreamError):  # the next time may do, and the holder looks by itself
                self.check()
                self._write()

    def check(self) -> None:
        """Raise OutputError when another process took the lease."""
        if (read_json(self._place) or {}).get("token") != self._token:
            raise OutputError(f"another process took over {self._final}", "let one of them finish")

    def stop(self) -> None:
        """Stop renewing the object."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def release(self) -> None:
        """Remove the object, if the lease is still held."""
        self.stop()
        _HELD.discard(self._token)
        with suppress(MinestreamError):  # it becomes stale by itself
            self.check()
            self._place.unlink(missing_ok=True)


def _is_gone(held: dict[str, Any]) -> bool:
    """Whether a lease belongs to a process of this machine that has ended."""
    process = held.get("process")
    if held.get("host") != socket.gethostname() or not isinstance(process, int):
        return False
    if process == os.getpid():
        return held.get("token") not in _HELD
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass
    return False


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

    def lease(self) -> Lease:
        """A lease for this output, not taken yet."""
        return Lease(self.partial / "lock", self.final)

    def refuse_foreign(self) -> None:
        """Refuse a work folder that another process is writing, or that no run made."""
        self.lease().refuse_other()
        if set(self.partial.files()) - {"lock"} and self.unfinished() is None:
            raise OutputError(f"{self.partial} is in the way and is not minestream's", "move it, or choose another -o")

    def tidy(self) -> None:
        """Remove what a run killed just after publishing left beside its complete output."""
        self.partial.remove_all()

    def begin(self, *, resume: bool, overwrite: bool, **work: Any) -> Run:
        """Take the lease and start, or fetch the finished parts and go on with them."""
        self.check(resume=resume, overwrite=overwrite)
        unfinished = self.unfinished() if resume else None
        if unfinished is None:
            self.partial.remove_all()
        else:
            as_stored = json.loads(json.dumps(plan_of(work)))
            refuse_differences(f"the unfinished work in {self.partial} was begun otherwise", unfinished, as_stored)
        lease = self.lease()
        with ExitStack() as failed:
            lease.take()
            failed.callback(self.leave, lease, keep=unfinished is not None)
            folder, guard = stage(self.scratch)
            failed.callback(unstage, folder, guard)
            staged = Output(folder / self.final.name)
            if unfinished is not None:
                self._fetch(staged.partial)
            run = staged.begin(resume=True, overwrite=False, **work)
            (self.partial / "manifest.json").upload(staged.partial / "manifest.json")
            failed.pop_all()
        return MirroredRun(run, self, lease, guard, may_replace=resume or overwrite)

    def leave(self, lease: Lease, *, keep: bool) -> None:
        """End a run that was not published; `keep` says whether the unfinished work stays."""
        lease.stop()
        if not keep:
            with suppress(MinestreamError):  # what ended the run is reported
                self.partial.remove_all()
        lease.release()

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


def stage(scratch: Path) -> tuple[Path, int]:
    """A new folder in `scratch`, and the open file whose lock shows that its process is alive."""
    sweep(scratch)
    with disk_errors(scratch / STAGED):
        folder = Path(tempfile.mkdtemp(prefix=STAGED, dir=scratch))
        return folder, guarded(folder)


def unstage(folder: Path, guard: int) -> None:
    """Remove such a folder and release its lock."""
    shutil.rmtree(folder, ignore_errors=True)
    os.close(guard)


def guarded(folder: Path) -> int:
    """The open and locked lock file of a folder; OutputError while another process holds the lock."""
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        take_lock(handle, folder)
    except BaseException:
        os.close(handle)
        raise
    return handle


def sweep(scratch: Path) -> None:
    """Remove folders in `scratch` that are more than a day old and whose process has ended."""
    for folder in scratch.glob(f"{STAGED}*"):
        with suppress(OSError, OutputError):
            if time.time() - folder.stat().st_mtime > LEFT_SECONDS:
                unstage(folder, guarded(folder))


class MirroredRun(Run):
    """A run in a local folder, whose finished parts and output are written to a store too.

    Parameters
    ----------
    run : Run
        In the local folder; this one takes its place.
    remote : RemoteOutput
    lease : Lease
        Taken; released at the end.
    guard : int
        The open file that locks the local folder.
    may_replace : bool
    """

    def __init__(self, run: Run, remote: RemoteOutput, lease: Lease, guard: int, *, may_replace: bool) -> None:
        super().__init__(run.output, run.lock, run.plan, may_replace=True)
        self._remote, self._lease, self._guard, self._may_replace_remote = remote, lease, guard, may_replace
        self._mirrored = len(self.parts())

    def __exit__(self, *error: object) -> None:
        """Remove the local folder and release the lease; finished parts stay in the store, if any."""
        with interrupts.held():
            super().__exit__(*error)
            unstage(self.output.final.parent, self._guard)
            self._remote.leave(self._lease, keep=self._mirrored > 0)

    @property
    def target(self) -> Target:
        """The output in the store."""
        return self._remote

    def collect(self, index: int) -> None:
        """Fetch a part that a worker finished."""
        path = self.part_path(index)
        with disk_errors(self.folder):
            for name in (f"parts/{path.name}", f"{path.stem}.json"):
                (self._remote.partial / name).download(self.folder / name)
        self._mirrored += 1

    def write_part(self, index: int, tables: Iterable[pa.Table], stats: Values) -> None:
        """Write a part here and in the store, the record that says it is finished last."""
        super().write_part(index, tables, stats)
        self._lease.check()
        path = self.part_path(index)
        for name in (f"parts/{path.name}", f"{path.stem}.json"):
            (self._remote.partial / name).upload(self.folder / name)
        self._mirrored += 1

    def publish(self, *, counts: Values, extra: Values, replace_parts: Iterable[pa.Table] | None = None) -> None:
        """Finish the output here, then write it to the store, its manifest last, and remove the unfinished work."""
        super().publish(counts=counts, extra=extra, replace_parts=replace_parts)
        self._lease.check()
        remote, local = self._remote, self.output
        if remote.occupied() and not self._may_replace_remote:
            raise OutputError(f"{remote.final} appeared during the run; the parts are kept", "--resume replaces it")
        remote.refuse_foreign_output()
        if remote.final.is_dir() or not remote.single:
            self._remove_old()
        for path in [local.final] if remote.single else sorted(local.final.iterdir()):
            (remote.final if remote.single else remote.final / path.name).upload(path)
        remote.manifest.upload(local.manifest)
        self._lease.stop()
        remote.partial.remove_all()

    def _remove_old(self) -> None:
        """Remove what an upload would not replace; its manifest first, so that nothing half removed looks whole."""
        remote = self._remote
        remote.manifest.unlink(missing_ok=True)
        if remote.final.is_dir():
            remote.final.remove_all()
        else:
            remote.final.unlink(missing_ok=True)
