"""Parts, atomic renames, the manifest, resume, and the final file or folder.

While a run works, everything lies in ``OUT.partial/``: ``lock``, ``manifest.json``,
``parts/part-00000.parquet``, and the record ``part-00000.json`` of each finished part. Publishing moves
``parts/`` to OUT, or streams the parts into one file, and leaves ``OUT.manifest.json`` beside it. Whatever
has its final name is whole: every file is written under another name, flushed to the disk and renamed.
"""

from __future__ import annotations

import glob
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from minestream.errors import CapacityError, MinestreamError, OutputError, TransientError
from minestream.outputs.atomic import disk_errors, sync_folder, take_lock, write_json
from minestream.outputs.manifest import plan_of, read_json
from minestream.outputs.metadata import metadata_of
from minestream.outputs.mined import holds
from minestream.outputs.parquet import part_tables, schema_ahead, stretches, write_rows
from minestream.outputs.parts import PartWriter, Values
from minestream.outputs.target import PUBLISHING, Target
from minestream.system import interrupts
from minestream.system.stores import is_remote, local_text, shown

EXCHANGE = "exchange"  # in OUT.partial: what workers that search together have made for each other
FINISHED_PART_ROWS = 4_194_304
READ_SHARE = 4  # a row group of a part is read in a quarter of the time that it takes to encode one
Records = tuple[dict[str, Any], ...]  # {name, rows, bytes, crc32} of files


class Output(Target):
    """An output on a local disk."""

    final: Path
    partial: Path
    manifest: Path

    def __init__(self, out: str | Path) -> None:
        super().__init__(Path(out))

    @property
    def scratch(self) -> Path:
        """The folder that the output goes to."""
        return self.final.parent

    def refuse_place(self) -> None:
        """Refuse a folder that is missing or read-only, and a name that is too long."""
        parent = self.final.parent
        try:
            self.manifest.lstat()
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            raise OutputError(f"cannot write {self.final}: {error.strerror}", "choose another name") from error
        if not self.final.name:
            raise OutputError(
                f"cannot write {self.final}: it is a folder that is there", "name a file, or a new folder"
            )
        if self.final.exists() and not (self.final.is_file() or self.final.is_dir()):
            what = f"cannot write {self.final}: it is a device or a pipe, no file"
            raise OutputError(what, "-o - writes an Arrow stream to standard output: minestream mine ... -o - > PLACE")
        if not parent.is_dir():
            raise OutputError(
                f"cannot write {self.final}: no folder {parent}", "make the folder first, or choose another place"
            )
        if not os.access(parent, os.W_OK | os.X_OK):
            what = f"cannot write {self.final}: its folder is read-only, or another user's"
            raise OutputError(what, "choose another place")

    def refuse_foreign(self) -> None:
        """Refuse a work folder that another process writes, or that no run made."""
        lock = self.partial / "lock"
        if lock.exists() and not self.partial.is_symlink():
            with open(lock, "rb") as file:
                take_lock(file.fileno(), self.final)
        elif self.partial.is_symlink() or (
            self.partial.exists() and (not self.partial.is_dir() or any(self.partial.iterdir()))
        ):
            raise OutputError(
                f"{self.partial} is in the way and is not minestream's", "move it, or choose another name"
            )

    def occupied(self) -> bool:
        """Whether something other than an empty folder stands under OUT's name; a broken link is something."""
        return self.final.is_symlink() or super().occupied()

    def begin(self, *, resume: bool, overwrite: bool, **work: Any) -> Run:
        """Take the lock and start, or go on with the parts that are finished.

        Raises OutputError when another process holds the lock, or the unfinished work has another config or source.
        """
        plan = plan_of(work)
        self.check_unfinished(resume=resume, overwrite=overwrite)
        with disk_errors(self.partial):
            lock = self._lock()
            kept = resume and self.unfinished() is not None
            try:
                if kept:
                    self.resumable(plan)
                    self._forget_damaged()
                self.clear(keep_parts=kept)
                (self.partial / "parts").mkdir(exist_ok=True)
                write_json(self.partial / "manifest.json", plan)
            except BaseException:
                with suppress(OSError):  # the first error is raised
                    self.clear(keep_parts=True) if kept else self.discard()
                os.close(lock)
                raise
        return Run(self, lock, plan, may_replace=resume or overwrite)

    def _forget_damaged(self) -> None:
        """Forget damaged parts, so that they are mined again. Cost: one pass over the parts."""
        for path in self.partial.glob("part-*.json"):
            if not holds(self.partial / "parts" / f"{path.stem}.parquet", read_json(path) or {}):
                path.unlink()

    def _lock(self) -> int:
        """An open handle that holds the lock on OUT.partial, which is made when missing."""
        self.partial.mkdir(exist_ok=True)
        handle = os.open(self.partial / "lock", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            take_lock(handle, self.final)
        except BaseException:
            os.close(handle)
            raise
        return handle

    def tidy(self) -> None:
        """Remove what a run killed just after publishing left beside its complete output."""
        if self.partial.exists():
            handle = self._lock()
            self.discard()
            os.close(handle)

    def clear(self, *, keep_parts: bool) -> None:
        """Remove what is half written, or all unfinished work; only under the lock."""
        kept = {"lock", "manifest.json", "parts", EXCHANGE} if keep_parts else {"lock"}
        for path in self.partial.iterdir():
            if path.name not in kept and not (keep_parts and path.match("part-*.json")):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    def discard(self) -> None:
        """Remove the work folder, the lock last: what a kill leaves would look foreign without; only under the lock."""
        self.clear(keep_parts=False)
        (self.partial / "lock").unlink(missing_ok=True)
        with suppress(OSError):  # another process has made its own lock there
            self.partial.rmdir()


class Run(PartWriter):
    """The right to write one output; a context manager that leaves the parts for --resume unless published.

    Parameters
    ----------
    output : Output
        Where the output is made.
    lock : int, optional
        The open file whose lock is held.
    plan : dict
        The manifest it begins with.
    may_replace : bool
    target : Target, optional
        Where the output goes in the end. Default: `output`.
    """

    def __init__(
        self, output: Output, lock: int | None, plan: dict[str, Any], *, may_replace: bool, target: Target | None = None
    ) -> None:
        super().__init__(target or output, plan, output.partial)
        self.output, self.lock, self.folder = output, lock, output.partial  # a run's own scratch may lie there too
        self._may_replace = may_replace
        self.together = 1  # parts that are finished together, as --memory has it

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *error: object) -> None:
        """Release the lock; finished parts stay for --resume, and without any nothing stays. The error says which."""
        with interrupts.held():
            if self.lock is not None:
                kept = bool(self.parts()) or any(self.folder.glob(f"{EXCHANGE}/*/*.arrows"))
                with suppress(OSError):  # the error that ended the run is raised
                    self.output.clear(keep_parts=True) if kept else self.output.discard()
                self._release()
                if isinstance(end := error[1], KeyboardInterrupt | CapacityError | TransientError):
                    end.add_note(MinestreamError.spelled(self._to_go_on(kept and self.target.shared)))

    def _to_go_on(self, kept: bool) -> str:
        """What to do after an end that is nobody's mistake."""
        if not kept:
            many = f", as {self.together} are mined together (a smaller --memory: fewer)" * (self.together > 1)
            return f"no part was finished{many}: the next run begins again"
        if self.plan["config"]["window"] is not None:
            return "a stream is not resumed: --overwrite begins again"
        return "finished parts are kept: --resume goes on from there"

    def _release(self) -> None:
        if self.lock is not None:
            os.close(self.lock)
            self.lock = None

    def part_path(self, index: int) -> Path:
        """Where part `index` lies."""
        return self.folder / "parts" / f"part-{index:05d}.parquet"

    @property
    def indices(self) -> Sequence[int]:
        """The parts that are this run's: all, or those of a slice."""
        owned: Sequence[int] = self.plan["slice"]["parts"] if "slice" in self.plan else range(self.plan["parts"])
        return owned

    def collect(self, index: int) -> None:
        """Take over a part that a worker finished: on a disk it is there already."""

    def parts(self) -> list[dict[str, Any]]:
        """The records of the finished parts, in order."""
        found = (self.finished(index) for index in self.indices)
        return [record for record in found if record is not None]

    def every_part(self) -> list[dict[str, Any]]:
        """The records of all parts; OutputError when one is missing, as when somebody removed it meanwhile."""
        records = self.parts()
        if len(records) != len(self.indices):
            what = f"{len(records)} of {len(self.indices)} parts are in {self.folder}: the others were removed"
            raise OutputError(what, "--resume mines them again")
        return records

    def ended(self, **read: list[dict[str, Any]]) -> None:
        """Record what was read, which of a stream is known at its end only; parts written before do not hold it."""
        self.plan.update(read)
        self._metadata = metadata_of(self.plan)

    def publish(
        self, *, counts: Values, extra: Values, replace_parts: Iterable[pa.Table] | None = None, threads: int = 1
    ) -> Records:
        """Put the output under its name, write the manifest, and remove the unfinished work; returns its files.

        `replace_parts` are the rows of a finishing pass, which take the place of the parts' rows. `counts` (sums
        over the whole run, but for the rows, which are counted here) and `extra` (the report, for the manifest)
        are asked after the last row is written, when a finishing pass has counted too. `threads`: see write_rows.
        """
        records = self.every_part()
        if self.target.occupied() and not self._may_replace:
            what = f"{self.target.final} appeared during the run; the parts are kept"
            raise OutputError(what, "--resume replaces it")
        self.target.refuse_foreign_output()
        with disk_errors(self.output.final, sum(record["bytes"] for record in records)):
            ready = self.folder / "parts"
            files = [
                {"name": self.part_path(index).name, **record}
                for index, record in zip(self.indices, records, strict=True)
            ]
            if self.output.single:
                ready, files = self._one_file(replace_parts, counts, threads)
            elif replace_parts is not None:
                ready, files = self._finished_parts(replace_parts, threads)
            recorded = ("name", "rows", "bytes", "crc32", *(("stats",) if "slice" in self.plan else ()))
            manifest = {
                **{name: value for name, value in self.plan.items() if name != "run"},
                "state": "complete",
                "counts": {**counts(), "rows": sum(file["rows"] for file in files)},
                "files": [{name: file[name] for name in recorded} for file in files],
                "report": extra(),
            }
            with interrupts.held():
                self._put(ready, manifest)
                self.output.discard()
                self._release()
        return tuple(files)

    def _one_file(
        self, rows: Iterable[pa.Table] | None, counts: Values, threads: int
    ) -> tuple[Path, list[dict[str, Any]]]:
        """All rows as one file in the work folder."""
        path = self.folder / "single.tmp"
        with closing(part_tables(map(self.part_path, range(self.plan["parts"])), -(-threads // READ_SHARE))) as parts:
            schema, every = schema_ahead(parts if rows is None else rows, self.part_path(0))
            record = write_rows(path, schema, every, self._metadata, counts, threads=threads)
        return path, [{"name": self.output.final.name, **record}]

    def _finished_parts(self, rows: Iterable[pa.Table], threads: int) -> tuple[Path, list[dict[str, Any]]]:
        """The rows of a finishing pass as a folder of parts in the work folder."""
        folder, files = self.folder / "finished", []
        schema, rows = schema_ahead(rows, self.part_path(0))
        folder.mkdir()
        for index, tables in enumerate(stretches(rows, FINISHED_PART_ROWS)):
            name = f"part-{index:05d}.parquet"
            files.append({"name": name, **write_rows(folder / name, schema, tables, self._metadata, threads=threads)})
        sync_folder(folder)
        return folder, files

    def _put(self, ready: Path, manifest: dict[str, Any]) -> None:
        """Bring a file or folder under OUT's name; nothing here needs space once the manifest is written.

        A folder cannot be replaced in one step, so its manifest comes first: without OUT it means nothing,
        but OUT without it would not be known to be complete, and its parts have left the work folder.
        """
        output, complete = self.output, self.folder / PUBLISHING
        write_json(complete, manifest)
        if os.path.lexists(output.final) and (output.final.is_dir() or not output.single):
            os.rename(output.final, self.folder / "replaced")
        if output.single:
            os.replace(ready, output.final)
        os.replace(complete, output.manifest)
        if not output.single:
            os.rename(ready, output.final)
        sync_folder(output.final.parent)


def default_output(inputs: Any, emit: str) -> Path:
    """OUT when none is given, in the working directory: `<stem>.<emit>.parquet`.

    The stem is that of the first input file, a folder's name, or minestream for an input that is no path.
    """
    first = inputs[0] if isinstance(inputs, list | tuple) and inputs else inputs
    if not isinstance(first, str | os.PathLike):
        return Path(f"minestream.{emit}.parquet")
    if is_remote(first):
        pieces = [piece for piece in shown(first).split("/") if not glob.has_magic(piece)]
        return Path(f"{Path(pieces[-1]).stem}.{emit}.parquet")
    first = local_text(os.fspath(first))
    matches = [] if os.path.exists(first) else sorted(glob.glob(first, recursive=True))
    path = Path(matches[0] if matches else first)
    return Path(f"{path.resolve().name if path.is_dir() else path.stem}.{emit}.parquet")
