"""Runs of the command line that are attacked: real processes, whose files are looked at after each attack."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).parents[3]
HOOKS = Path(__file__).parent / "hooks"
SECONDS = 300.0
USAGE, INPUT, CAPACITY, OUTPUT, TRANSIENT, INTERRUPTED = 2, 3, 4, 5, 75, 130


def rows_table(rows: int, dimension: int, seed: int = 0) -> pa.Table:
    """Labelled clusters of twenty rows or so."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, rows // 20, rows)
    centres = rng.standard_normal((rows // 20, dimension))
    vectors = (centres[label] + 0.3 * rng.standard_normal((rows, dimension))).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), dimension)
    return pa.table({"id": np.arange(rows), "label": label, "embedding": column})


def write_rows(path: Path, rows: int, dimension: int, seed: int = 0) -> Path:
    """Such rows as a Parquet file of several row groups."""
    pq.write_table(rows_table(rows, dimension, seed), path, row_group_size=8_192)
    return path


def contents(folder: Path) -> dict[str, Any]:
    """The files below a folder by name: their bytes, of a manifest all but the report of how the run went."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = str(path.relative_to(folder))
            found[name] = path.read_bytes()
            if name.endswith(".manifest.json"):
                found[name] = {key: value for key, value in json.loads(found[name]).items() if key != "report"}
    return found


def records(partial: Path) -> dict[str, tuple[int, int]]:
    """The parts in a work folder that are finished: when each was written, and which file it is."""
    found = {}
    for record in sorted(partial.glob("part-*.json")):
        part = partial / "parts" / f"{record.stem}.parquet"
        with suppress(FileNotFoundError):
            if part.stat().st_size == json.loads(record.read_text())["bytes"]:
                found[part.name] = (part.stat().st_mtime_ns, part.stat().st_ino)
    return found


@dataclass
class Ended:
    """How a process ended."""

    code: int
    out: str
    err: str

    def assert_told(self, code: int, *words: str) -> None:
        """Fail unless it ended with an exit code, in words and without a traceback."""
        assert self.code == code, f"exit code {self.code}, expected {code}: {self.err}"
        self.assert_plain()
        for word in words:
            assert word in self.err, f"{word!r} is not in {self.err!r}"

    def assert_plain(self, told: bool = True) -> None:
        """Fail on a traceback, on words of the interpreter, on an end by a signal, and on an error that is not told."""
        assert self.code >= 0, f"ended by signal {-self.code}: {self.err}"
        for word in ("Traceback", "Exception ignored", "Fatal"):
            assert word not in self.err, self.err
        assert not told or self.code == 0 or "error: " in self.err, (
            f"exit code {self.code} without a word: {self.err!r}"
        )


@dataclass
class Job:
    """A command that works in a folder of its own, which nothing else writes to.

    Attributes
    ----------
    folder : Path
    arguments : list of str
        Of minestream; they are given relative to the folder.
    environment : dict
        Beside that of the tests.
    log : Path
        Where the changes of files are noted.
    """

    folder: Path
    arguments: list[str]
    environment: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.log = self.folder.parent / f"{self.folder.name}.log"

    def start(self, *more: str, moment: int | str = 0, before: Callable[[], Any] | None = None, **how: Any) -> Process:
        """Start it; it ends by SIGKILL before its change of files number `moment`, or whose line matches that."""
        how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
        self.log.unlink(missing_ok=True)
        process = subprocess.Popen(
            self.command(*more), cwd=self.folder, env=self.surroundings(moment), text=True, preexec_fn=before, **how
        )
        return Process(process)

    def command(self, *more: str) -> list[str]:
        """The whole command line."""
        return [sys.executable, "-m", "minestream", *self.arguments, *more]

    def surroundings(self, moment: int | str = 0) -> dict[str, str]:
        """The environment of the process."""
        paths = [str(HOOKS), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
        own = {
            "PYTHONPATH": os.pathsep.join(filter(None, paths)), "CHAOS_LOG": str(self.log),
            "CHAOS_FOLDER": str(self.folder), "CHAOS_MOMENT": str(moment),
        }  # fmt: skip
        return os.environ | own | self.environment

    def run(self, *more: str, **how: Any) -> Ended:
        """Start it and wait for its end."""
        return self.start(*more, **how).ended()

    def changes(self) -> list[str]:
        """The changes of files of the last process."""
        return self.log.read_text().splitlines() if self.log.exists() else []

    def rewritten(self) -> set[str]:
        """The parts that the last process put in their place."""
        names = (change.removeprefix("os.rename ") for change in self.changes() if change.startswith("os.rename "))
        return {Path(name).name for name in names if Path(name).parent.name == "parts"}


@dataclass
class Process:
    """A process that runs."""

    popen: subprocess.Popen[str]

    def ended(self) -> Ended:
        """How it ends, which is waited for."""
        try:
            out, err = self.popen.communicate(timeout=SECONDS)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            raise
        return Ended(self.popen.returncode, out or "", err or "")

    def wait_for(self, there: Callable[[], Any], seconds: float = SECONDS) -> bool:
        """Wait until `there` holds; False where the process ended before."""
        deadline = time.monotonic() + seconds
        while not there():
            if self.popen.poll() is not None:
                return False
            assert time.monotonic() < deadline, "it did not come"
            time.sleep(0.0005)
        return True

    def killed_after(self, seconds: float, number: int = signal.SIGKILL) -> bool:
        """Send a signal after some seconds; False where the process ended before."""
        try:
            self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.popen.send_signal(number)
            if number == signal.SIGKILL:
                self.popen.wait()
                return self.popen.returncode != 0
            return True
        return False


class Whole(NamedTuple):
    """What an undisturbed run leaves in its folder, the seconds it took, and the changes of files it made."""

    folder: Path
    files: dict[str, Any]
    seconds: float
    changes: list[str]


Undisturbed = Callable[[list[str]], Whole]
