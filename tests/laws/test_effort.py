"""Time and memory stay bounded on rows that are hard to tell apart: beside Gaussian rows with the same labels.

Time is measured and told (`-rP` shows it), never asserted; memory, and how much is looked at in full, is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from extremes import EXTREMES, gaussian
from tally import Attack
from worlds import World

KIND = "time and memory"
REPOSITORY = Path(__file__).parents[2]
MEMORY_MIB, PROCESS_MIB = 256, 250  # what is allowed for data, and what interpreter and libraries take (README)

CASES: dict[str, list[str]] = {
    "semi-hard": [],
    "64 nearest": ["--band", "any", "-k", "64"],
    "hardest positives": ["--positives", "hardest", "--band", "violating"],
    "random picks": ["--pick", "random", "--positives", "random", "-k", "4"],
    "pairs": ["--emit", "pairs"],
    "dot": ["--metric", "dot", "--band", "any", "-k", "4"],
    "duplicates kept": ["--band", "any", "--drop-duplicates-within", "none", "-k", "4"],
    "window": ["--window", "2000", "--band", "any"],
    "all positives": ["--positives", "all", "--anchors", "20", "--band", "any"],
    "all positives, semi-hard": ["--positives", "all", "--anchors", "20"],
}
WORLDS = (
    "identical", "half identical", "tight classes", "integer ties", "big class", "zero rows", "one long row",
    "one endless row", "far clusters", "float32 offset",
)  # fmt: skip
ROWS = {"identical": 100_000, "tight classes": 100_000}
USUAL_ROWS = 50_000
# Of a case, the most distances that an anchor may need in full where a screen tells rows apart, or knows equal ones.
FEW_EXACT = [
    ("identical", "duplicates kept", 30),
    ("identical", "random picks", 1),  # all of them duplicates, which are no negatives
    ("half identical", "duplicates kept", 60),
    ("one endless row", "semi-hard", 60),
    ("one long row", "semi-hard", 60),
]


class Effort(NamedTuple):
    """What one run took."""

    seconds: float  # of processors: others may be at work beside
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


# What the system says of a child that ended is at least what its parent, who may be large, had when it started it.
MEASURED = """
import json, pathlib, resource, sys
from minestream.cli.main import main
code = main()
status = dict(line.split(":", 1) for line in pathlib.Path("/proc/self/status").read_text().splitlines())
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([usage.ru_utime + usage.ru_stime, int(status["VmHWM"].split()[0]) / 1024]), file=sys.stderr)
sys.exit(code)
"""


def effort(source: Path, out: Path, options: list[str]) -> Effort:
    """One run in a process of its own."""
    command = [sys.executable, "-c", MEASURED, "mine", str(source), "-o", str(out), "--json", "--overwrite"]
    command += ["--progress", "none", "--memory", f"{MEMORY_MIB}MiB", "--threads", "2", *options]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "MINESTREAM_EFFORT": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    seconds, peak_mib = json.loads(ended.stderr.splitlines()[-1])
    told = json.loads(ended.stdout)
    return Effort(seconds, peak_mib, told["counters"] | told["result"]["effort"])


def options_for(name: str, case: str) -> list[str]:
    """Euclidean where rows of all lengths, or of none, are what is hard."""
    if "dot" in CASES[case]:
        return ["--margin", "0.5", *CASES[case]]
    by_direction = name == "tight classes"
    return [*CASES[case]] if by_direction else ["--metric", "euclidean", "--margin", "0.5", *CASES[case]]


@pytest.mark.chaos
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", WORLDS)
def test_hard_rows_take_bounded_memory(name: str, case: str, attack: Attack, tmp_path: Path) -> None:
    hard = EXTREMES[name](ROWS.get(name, USUAL_ROWS))
    rows = len(hard.labels)
    sources = [write(some, tmp_path / f"{at}.parquet") for at, some in enumerate((hard, beside(hard)))]
    with attack(KIND, f"{name}: memory stays within --memory and that of the process"):
        found, usual = (effort(source, tmp_path / "out.parquet", options_for(name, case)) for source in sources)
        print(
            f"{name}, {case}, {rows:,} rows: {found.seconds:.1f} CPU seconds, Gaussian {usual.seconds:.1f}, "
            f"{found.seconds / usual.seconds:.1f} times; {found.peak_mib:.0f} MiB, Gaussian {usual.peak_mib:.0f} MiB; "
            f"an anchor {found.stats['survivors'] / rows:.0f} survivors, {found.stats['exact_distances'] / rows:.0f} "
            f"exact distances, Gaussian {usual.stats['survivors'] / rows:.0f} and "
            f"{usual.stats['exact_distances'] / rows:.0f}"
        )
        assert found.peak_mib < MEMORY_MIB + PROCESS_MIB


@pytest.mark.parametrize(("name", "case", "most"), FEW_EXACT)
def test_few_distances_are_made_exact(name: str, case: str, most: int, attack: Attack, tmp_path: Path) -> None:
    rows = 6_000
    source = write(EXTREMES[name](rows), tmp_path / "rows.parquet")
    with attack(KIND, f"{name}, {case}: few distances are made exact"):
        found = effort(source, tmp_path / "out.parquet", options_for(name, case))
        assert (found.stats["rows"] > 0) == (most > 1)
        assert found.stats["exact_distances"] < most * rows
        assert found.peak_mib < MEMORY_MIB + PROCESS_MIB


def test_every_positive_of_large_labels_takes_bounded_memory(attack: Attack, tmp_path: Path) -> None:
    """Ten thousand pairs an anchor: each part holds as many rows as are mined together."""
    rng = np.random.default_rng(3)
    world = World(rng.normal(size=(40_000, 8)).astype(np.float32), rng.integers(0, 4, 40_000).tolist())
    source = write(world, tmp_path / "rows.parquet")
    with attack(KIND, "1.6 million pairs of 160 anchors: memory stays within --memory and that of the process"):
        found = effort(source, tmp_path / "out.parquet", ["--positives", "all", "--anchors", "160"])
        assert found.stats["pairs"] > 1_500_000
        assert found.peak_mib < MEMORY_MIB + PROCESS_MIB
