"""Time and memory stay bounded on rows that are hard to tell apart: beside Gaussian rows with the same labels."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Attack
from extremes import EXTREMES, gaussian
from worlds import World

KIND = "time and memory"
REPOSITORY = Path(__file__).parents[1]
MEMORY_MIB, PROCESS_MIB = 256, 250  # what is allowed for data, and what interpreter and libraries take (README)

CASES: dict[str, list[str]] = {
    "semi-hard": [],
    "nearest, 64": ["--band", "any", "-k", "64"],
    "hardest positives": ["--positives", "hardest", "--band", "violating"],
    "random picks": ["--pick", "random", "--positives", "random", "-k", "4"],
    "pairs": ["--emit", "pairs"],
    "dot": ["--metric", "dot", "--band", "any", "-k", "4"],
    "duplicates kept": ["--band", "any", "--drop-duplicates-within", "none", "-k", "4"],
    "window": ["--window", "2000", "--band", "any"],
    "all positives": ["--positives", "all", "--anchors", "500", "--band", "any"],
}
WORLDS = (
    "identical", "half identical", "tight classes", "integer ties", "big class", "collinear", "zero rows",
    "one endless row", "far clusters", "float32 offset",
)  # fmt: skip


class Effort(NamedTuple):
    """What one run took."""

    seconds: float
    peak_mib: float
    stats: dict[str, Any]


def beside(hard: World) -> World:
    """Gaussian rows of the same shape and type, with the same labels."""
    n, d = hard.embeddings.shape
    labels = np.array(hard.labels)
    rows = gaussian(n, d).embeddings + 2 * np.random.default_rng(0).normal(size=(int(labels.max()) + 1, d))[labels]
    return World(rows.astype(np.float32), hard.labels)


def write(some: World, path: Path) -> Path:
    vectors = np.ascontiguousarray(some.embeddings)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
    pq.write_table(pa.table({"embedding": column, "label": some.labels}), path)
    return path


def effort(source: Path, out: Path, options: list[str]) -> Effort:
    """One run in a process of its own."""
    command = [sys.executable, "-m", "minestream", "mine", str(source), "-o", str(out), "--json", "--overwrite"]
    command += ["--progress", "none", "--memory", f"{MEMORY_MIB}MiB", "--threads", "2", *options]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        told, errors = process.stdout.read(), process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, errors.decode()
    report = json.loads(told)
    return Effort(report["seconds"], usage.ru_maxrss / 1024, report["stats"])


if __name__ == "__main__":
    import tempfile

    rows = int(sys.argv[1])
    names = sys.argv[2].split(",") if len(sys.argv) > 2 and sys.argv[2] else WORLDS
    cases = sys.argv[3].split(",") if len(sys.argv) > 3 else CASES
    with tempfile.TemporaryDirectory() as folder:
        f = Path(folder)
        for name in names:
            hard = EXTREMES[name](rows)
            metrics = (
                []
                if "cosine" in hard.metrics and name in ("collinear", "tight classes")
                else ["--metric", "euclidean", "--margin", "0.5"]
            )
            paths = [write(w, f / f"{i}.parquet") for i, w in enumerate((hard, beside(hard)))]
            for case in cases:
                o = CASES[case]
                m = ["--margin", "0.5"] if "--metric" in o else metrics
                try:
                    a, b = (effort(p, f / "out.parquet", m + o) for p in paths)
                except AssertionError as e:
                    print(name, case, str(e)[-200:])
                    continue
                s = a.stats
                print(
                    f"{name:16} {case:18} {a.seconds:7.2f} {b.seconds:7.2f} {a.seconds / b.seconds:6.1f}x  {a.peak_mib:6.0f} {b.peak_mib:6.0f} MiB exact {s['exact_distances'] / rows:9.1f} {b.stats['exact_distances'] / rows:9.1f} surv {s['survivors'] / rows:9.1f} {b.stats['survivors'] / rows:9.1f} changed {s['screens_changed']}",
                    flush=True,
                )
