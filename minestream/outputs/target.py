"""The target of a run: where its output goes, and what stands there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from minestream.config.mine_config import MineConfig
from minestream.config.resources import Resources
from minestream.config.rules import HERE
from minestream.errors import OutputError, UsageError
from minestream.inputs.given import Given, refuse_inputs
from minestream.outputs.foreign import is_ours
from minestream.outputs.manifest import differences, read_json, read_manifest, refuse_differences
from minestream.system import interrupts
from minestream.system.paths import AnyPath, RemotePath, text_of

if TYPE_CHECKING:
    from minestream.outputs.run import Run


PUBLISHING = "complete.json"  # in the work folder: the manifest that a run is about to leave
ENDINGS = frozenset(  # of files: a folder of such a name would be taken for one
    (".parquet", ".pq", ".parq", ".arrow", ".arrows", ".feather", ".ipc", ".csv", ".tsv", ".txt", ".json", ".jsonl",
     ".trec", ".html", ".htm", ".npy", ".npz", ".pt", ".pkl", ".pickle", ".h5", ".hdf5", ".zip", ".gz", ".zst", ".xlsx",
     ".db", ".sqlite", ".duckdb", ".md", ".log",
     ".orc", ".avro", ".lance", ".xml", ".yaml", ".pdf", ".safetensors", ".index", ".faiss")
)  # fmt: skip
AGAIN = "--overwrite in place of --resume mines it again, another -o leaves it as it is"


def refuse_ending(place: AnyPath) -> None:
    """Raise UsageError when the name of a mined output has the ending of another kind of file."""
    if place.suffix.lower() in ENDINGS and place.suffix != ".parquet":
        raise UsageError(
            f"-o {place.name}: what is written is Parquet, not {place.suffix}",
            f"-o {place.parent / place.stem}.parquet is one file; a name without an ending is a folder of parts",
        )


class Target:
    """The places of one output (OUT, the folder of unfinished work, the manifest that stays) and what stands there."""

    final: AnyPath
    partial: AnyPath
    manifest: AnyPath
    shared = True  # whether workers of an engine reach the folder of unfinished work
    again = ""  # more about going on with unfinished work

    def __init__(self, out: AnyPath) -> None:
        self.final = out
        self.single = self.final.suffix == ".parquet"  # else a folder of parts
        self.partial = self.final.parent / f"{self.final.name}.partial"
        self.manifest = self.final.parent / f"{self.final.name}.manifest.json"

    def check(self, *, resume: bool | None, overwrite: bool) -> dict[str, Any] | None:
        """Look whether OUT can be written, before anything is read; leaves no file.

        Returns the manifest when `resume` finds the output complete (None: nothing is ever resumed); raises
        OutputError when OUT or unfinished work stands in the way, or the folder is missing or read-only.
        """
        self.refuse_place()
        self.refuse_foreign()
        unfinished = self.unfinished()
        done = read_manifest(self.manifest)
        nothing = done is not None and done.get("files") == []  # a slice without parts, of which no folder need be left
        if not self.occupied() and not (resume and nothing):
            self.refuse_other_manifest()
            if unfinished and not (resume or overwrite):
                config = unfinished.get("config")
                stream = isinstance(config, dict) and config.get("window") is not None  # whose rows are gone
                hint = f"{'' if stream else '--resume goes on with it, '}--overwrite starts afresh{self.again}"
                hint = "choose another name" if resume is None else hint
                raise OutputError(f"unfinished work lies in {self.partial}", hint)
            return None
        if resume and done and done.get("state") == "complete" and not (unfinished and differences(unfinished, done)):
            self.refuse_damaged(done)
            self.tidy()
            return done
        self.refuse_other_manifest()
        self.refuse_foreign_output()
        if not overwrite and not (resume and unfinished):
            also = "; --resume goes on with the unfinished work beside it" if unfinished and resume is not None else ""
            raise OutputError(f"{self.final} exists", f"--overwrite replaces it, another name leaves it as it is{also}")
        return None

    def check_unfinished(self, *, resume: bool, overwrite: bool) -> None:
        """As check(), just before a run begins; OutputError when another run has completed OUT since the first look."""
        if self.check(resume=resume, overwrite=overwrite) is not None:
            raise OutputError(f"another run has completed {self.final} meanwhile", "nothing is left to do")

    def refuse_inputs(self, given: Iterable[Given]) -> None:
        """Raise OutputError when the run would write over what it reads, or would read its output when run again."""
        self.refuse_place()
        first = "part-00000.parquet"
        written = [self.final if self.single else self.final / first, self.partial / "parts" / first]
        refuse_inputs(self.final, [self.final, self.partial, self.manifest], written, given)

    def refuse_damaged(self, done: dict[str, Any]) -> None:
        """Raise OutputError when files of a complete output are missing, or are not of the recorded size."""
        found = self.sizes()
        for file in done["files"]:
            size = found.get("" if self.single else file["name"])
            if size != file["bytes"]:
                what = "is missing" if size is None else f"has {size:,} bytes, recorded {file['bytes']:,}"
                self.refuse_foreign_output()
                raise OutputError(f"{self.final} is not what was written: {file['name']} {what}", AGAIN)

    def refuse_foreign_output(self) -> None:
        """Raise OutputError when something stands under OUT's name, or in its folder, that minestream did not write."""
        if not self.occupied():
            return
        if not self.final.is_dir():
            if not is_ours(self.final, next(iter(self.records().values()), None)):
                self._refuse(self.final)
            return
        records, sizes = self.records(), self.sizes()
        for path in self.final.iterdir():
            record = records.get(path.name)
            if not path.match("part-*.parquet"):
                what = f"{self.final} is a folder that holds other files, as {path.name}: not overwritten"
                raise OutputError(what, "choose another -o")
            if not (record and record["bytes"] == sizes.get(path.name)) and not is_ours(path, record):
                self._refuse(path)

    def refuse_other_manifest(self) -> None:
        """Raise OutputError when a file that is no manifest of ours stands where the manifest goes."""
        found = (read_json(self.manifest) or {}).keys()
        if self.manifest.exists() and not {"state", "config"} <= found and not is_ours(self.manifest):
            self._refuse(self.manifest)

    def _refuse(self, path: AnyPath) -> None:
        what = f"{path} exists, and minestream did not write it: it is never replaced"
        raise OutputError(what, "choose another name")

    def records(self) -> dict[str, dict[str, Any]]:
        """Records of the files that stand there: of the manifest, or of a run killed while publishing."""
        known = (read_manifest(place) or {} for place in (self.partial / PUBLISHING, self.manifest))
        files: list[dict[str, Any]] = next((found["files"] for found in known if found.get("state") == "complete"), [])
        return {file["name"]: file for file in files}

    def sizes(self) -> dict[str, int]:
        """The size of each file of the output by its name; of a single one under ""."""
        if not self.final.exists():
            return {}
        if not self.final.is_dir():
            return {"": self.final.stat().st_size}
        if isinstance(self.final, RemotePath):
            return self.final.sizes()
        return {path.name: path.stat().st_size for path in self.final.iterdir() if path.is_file()}

    @property
    def text(self) -> str:
        """OUT as target_of takes it."""
        return text_of(self.final)

    def unfinished(self) -> dict[str, Any] | None:
        """The manifest of unfinished work, if there is any."""
        return read_manifest(self.partial / "manifest.json")

    def resumable(self, plan: dict[str, Any]) -> dict[str, Any] | None:
        """As unfinished(); OutputError when that work was begun with other options, input or versions than `plan`."""
        found = self.unfinished()
        if found is not None:
            refuse_differences(f"the unfinished work in {self.partial} was begun otherwise", found, plan)
        return found

    def occupied(self) -> bool:
        """Whether something other than an empty folder stands under OUT's name."""
        return self.final.exists() and not (self.final.is_dir() and not any(self.final.iterdir()))

    @property
    def scratch(self) -> Path:
        """A local folder for temporary files of the run."""
        raise NotImplementedError

    def refuse_place(self) -> None:
        """Refuse a place where nothing can be written."""
        raise NotImplementedError

    def refuse_foreign(self) -> None:
        """Refuse a work folder that another process is writing, or that no run made."""
        raise NotImplementedError

    def remarks(self) -> list[str]:
        """What the user should know of the place, one line each."""
        return []

    def tidy(self) -> None:
        """Remove what a run killed just after publishing left beside its complete output."""
        raise NotImplementedError

    def start(self, stack: ExitStack, **how: Any) -> Run:
        """begin(), with `stack` to end the run; no interrupt comes between the two."""
        with interrupts.held():
            return stack.enter_context(self.begin(**how))

    def begin(self, *, resume: bool, overwrite: bool, **work: Any) -> Run:
        """Take the lock and start, or go on with the parts that are finished.

        Parameters
        ----------
        resume, overwrite : bool
        **work
            config, fingerprint, source (identities of the files), columns, parts (their number); others (CRC-32 of
            the columns that the identities leave out) and read (where the files lay), which the manifest alone holds.
        """
        raise NotImplementedError


def checked(
    output: Target, config: MineConfig, resources: Resources, given: Sequence[Given], look: Callable[[], object]
) -> dict[str, Any] | None:
    """Check that the output can be written; returns its manifest where --resume finds it complete.

    look : opens what would be mined; where the output exists, an error of files comes first
    """
    if resources.engine != HERE and not output.shared:
        raise UsageError(f"--engine {resources.engine} is not for {output.final}", "mine to a folder, and upload that")
    output.refuse_inputs(given)
    try:
        manifest = output.check(resume=resources.resume, overwrite=resources.overwrite)
    except OutputError as error:
        done = read_manifest(output.manifest)
        if error.args[0] != f"{output.final} exists" or done is None:
            raise
        if all(each.in_files for each in given):  # a stream would lose the rows that are looked at
            look()
        lines = differences(done, {**done, "config": config.to_dict()})
        otherwise = f", mined with other options: {'; '.join(lines[:3])}" if lines else ""
        raise OutputError(error.args[0] + otherwise, error.args[1]) from None
    if manifest is not None:
        what = f"{output.final} was mined otherwise"
        refuse_differences(what, manifest, {**manifest, "config": config.to_dict()}, AGAIN)
    return manifest
