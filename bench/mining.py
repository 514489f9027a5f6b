"""Runs of `minestream mine` and of peers, each in a process of its own, and what their reports hold."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import settings
from common import BENCH, THREADS, Run, launched

TELLING = {"MINESTREAM_EFFORT": "1"}  # the report says how the search went, too
BESIDE_SEARCH = ("read", "positives", "rows", "write")
CHECK_ROWS = 5_000
TRIED_ROWS, TRIED_RUNS = 20_000, 2  # of a trial of settings
VERIFIED_ANCHORS = 20


def nearest(k: int) -> list[str]:
    """The options that ask for what exact search gives: the k nearest rows of other labels."""
    return ["--band", "any", "-k", str(k)]


@dataclass(frozen=True)
class Reported:
    """One process and the JSON that it printed."""

    run: Run
    report: dict[str, Any]

    @property
    def peak_bytes(self) -> int:
        """The most the process had in memory."""
        return self.run.peak_bytes


class Mined(Reported):
    """One whole run of the command, from process start to finished Parquet; `report` is what --json prints."""

    @property
    def seconds(self) -> float:
        """From process start to its end."""
        return self.run.seconds

    @property
    def stages(self) -> dict[str, float]:
        """Seconds by stage, with what lies before and between them: `start` (interpreter, imports) and `rest`."""
        staged: dict[str, float] = self.report["seconds"]["stages"]
        inside = self.report["seconds"]["total"]
        return staged | {"start": self.seconds - inside, "rest": inside - sum(staged.values())}

    @property
    def sweep_seconds(self) -> float:
        """The stage that multiplies; 0 where nothing was swept."""
        return self.stages.get("sweep", 0.0)

    @property
    def staged_search_seconds(self) -> float:
        """The stages sweep and refine."""
        return self.sweep_seconds + self.stages.get("refine", 0.0)

    @property
    def search_seconds(self) -> float:
        """All that is neither start, reading, positives, rows nor writing: codes and packing too."""
        return self.seconds - sum(self.stages.get(name, 0.0) for name in ("start", *BESIDE_SEARCH))


class Searched(Reported):
    """One run of a peer: `report` holds the seconds of its search alone."""

    @property
    def seconds(self) -> float:
        """Its search; neither start nor reading nor preparing."""
        seconds: float = self.report["seconds"]
        return seconds


def mine(
    path: Path, out: Path, options: Sequence[str], *, threads: int = THREADS, variables: Mapping[str, str] | None = None
) -> Mined:
    """Run `minestream mine` as a user starts it."""
    fixed = ["--overwrite", "--progress", "none", "--json", "--threads", str(threads)]
    command: list[str | Path] = ["-m", "minestream", "mine", path, "-o", out, *fixed, *options]
    run = launched(command, threads=threads, variables=TELLING | dict(variables or {}))
    return Mined(run, json.loads(run.printed))


def warm_up() -> None:
    """Compile every kernel that a job may come to need: one whose screen changes half-way needs both."""
    launched(["-c", "import minestream; minestream.warmup()"])


def verify(out: Path, source: Path) -> None:
    """Derive some anchors of a mined file again with the reference; ends the program at any difference."""
    launched(["-m", "minestream", "verify", out, "--sample", str(VERIFIED_ANCHORS), "--source", source])


def search(peer: str, path: Path | str, k: int, setting: settings.Setting, *, threads: int = THREADS) -> Searched:
    """Run a peer on a file."""
    command = [BENCH / "peer.py", peer, path, "-k", str(k), "--threads", str(threads)]
    run = launched(command, threads=threads, variables=setting)
    return Searched(run, json.loads(run.printed.splitlines()[-1]))


def check(peer: str, path: Path, k: int, setting: settings.Setting = settings.PLAIN) -> str | None:
    """Compare a peer with float64 brute force on a sample; the package that it lacks, or None when all is well."""
    run = launched([BENCH / "peer.py", peer, f"{path}:{CHECK_ROWS}", "-k", str(k), "--check"], variables=setting)
    missing: str | None = json.loads(run.printed.splitlines()[-1])["missing"]
    return missing


def fastest(peer: str, path: Path, k: int, threads: int = THREADS) -> settings.Setting:
    """The setting of a peer that is fastest on a sample of a file; of equal ones the plainer."""

    def seconds(setting: settings.Setting) -> float:
        try:
            sample = f"{path}:{TRIED_ROWS}"
            return min(search(peer, sample, k, setting, threads=threads).seconds for _ in range(TRIED_RUNS))
        except SystemExit:  # kernels that this processor cannot run
            return float("inf")

    best, least = settings.PLAIN, seconds(settings.PLAIN)
    for variable, values in settings.TRIED.get(peer, {}).items():
        timed = {value: seconds(best | {variable: value}) for value in values}
        value = min(timed, key=timed.__getitem__)
        if timed[value] < least:
            best, least = best | {variable: value}, timed[value]
    return best


def need(peer: str, path: Path, k: int, threads: int = THREADS) -> settings.Setting:
    """The fastest setting of a peer, at which its answer is right; ends a benchmark that is nothing without it."""
    if missing := check(peer, path, k):
        raise SystemExit(f"{peer} needs {missing}: pip install -e '.[bench]'")
    setting = fastest(peer, path, k, threads)
    check(peer, path, k, setting)
    print(f"{peer}: fastest with {setting or 'nothing set'}", flush=True)
    return setting


def reaching(peer: str, path: Path, k: int, setting: settings.Setting, recall: float) -> settings.Setting | None:
    """The setting at which an approximate search should be fastest at this recall; None where none reaches it."""
    found = []
    for index in settings.INDEXES[peer]:
        own = setting | {settings.INDEX: index}
        command = [BENCH / "peer.py", peer, path, "-k", str(k), "--threads", str(THREADS), "--recall", str(recall)]
        told = json.loads(launched(command, variables=own).printed.splitlines()[-1])
        if told["breadth"] is not None:
            found.append((told["seconds"], own | {settings.BREADTH: str(told["breadth"])}))
    best = min(found, key=lambda each: each[0])[1] if found else None
    print(f"{peer}: at a recall of {recall:.3f} fastest with {best}", flush=True)
    return best


def stage_medians(runs: Sequence[Mined]) -> dict[str, float]:
    """The median over runs of every stage."""
    return {name: statistics.median(run.stages[name] for run in runs) for name in runs[0].stages}


def billions(rows: int, dimension: int, seconds: float) -> float:
    """GF-eq: what a full float32 scan of all pairs would have to run at, in 10^9 operations a second."""
    return 2.0 * rows * rows * dimension / seconds / 1e9
