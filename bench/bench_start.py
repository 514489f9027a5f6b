"""How long is a small job, with kernels to compile and without, and does a second run compile nothing?

    python bench/bench_start.py [--runs 3]

The job is the bundled sample of 1,797 digits, once as it runs by itself (small inputs are scanned) and once through the
sweep, whose kernels every larger input needs. Cold means an empty MINESTREAM_CACHE_DIR.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import mining
from common import launched, question_parser, rounded, write_results

from minestream.kernels.tile_shapes import host_tiles

COUNTED = """
import contextlib, io, json, sys
from minestream.cli.main import main
with contextlib.redirect_stdout(io.StringIO()):
    code = main(sys.argv[1:])
from minestream.kernels.jit import compile_counts
print(json.dumps({"code": code, "loaded": compile_counts()[0], "compiled": compile_counts()[1]}))
"""


def counted(sample: Path, out: Path, variables: dict[str, str]) -> dict[str, int]:
    """How many kernels one more run loads and compiles."""
    command: list[str | Path] = ["-c", COUNTED, "mine", sample, "-o", out, "--overwrite", "--progress", "none"]
    found: dict[str, int] = json.loads(launched(command, variables=variables).printed)
    return found


def measure(job: str, screen: str, sample: Path, runs: int, folder: Path) -> dict[str, Any]:
    """One row of results."""
    out, cold, warm = folder / "out.parquet", [], []
    for run in range(runs):
        variables = {"MINESTREAM_CACHE_DIR": str(folder / f"{job}-{run}"), "MINESTREAM_SCREEN": screen}
        cold.append(mining.mine(sample, out, [], variables=variables))
        warm.append(mining.mine(sample, out, [], variables=variables))
    again = counted(sample, out, variables)
    return {
        "job": job, "screen": screen, "cold_seconds": median(run.seconds for run in cold),
        "warm_seconds": median(run.seconds for run in warm),
        "cold_peak_bytes": max(run.peak_bytes for run in cold),
        "warm_peak_bytes": max(run.peak_bytes for run in warm),
        "loaded_again": again["loaded"], "compiled_again": again["compiled"], "runs": runs,
    }  # fmt: skip


def main() -> None:
    """Measure --help, the scan and the sweep; write bench/results/start.json."""
    given = question_parser(__doc__, runs=3).parse_args()
    fastest = "i8" if "i8" in host_tiles() else "f32"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sample = folder / "digits.parquet"
        launched(["-m", "minestream", "sample", sample])
        shown = [launched(["-m", "minestream", "--help"]).seconds for _ in range(given.runs)]
        rows = [
            measure(job, screen, sample, given.runs, folder) for job, screen in (("scan", "auto"), ("sweep", fastest))
        ]
    help_seconds = median(shown)
    print(*map(rounded, rows), f"--help: {help_seconds:.2f} s", sep="\n")
    write_results(given.results, "start", rows, help_seconds=help_seconds)


if __name__ == "__main__":
    main()
