"""How long does `minestream batch` compose an epoch, by which method, and how much nearer are the negatives of a batch?

    python bench/bench_batch.py [FILE.parquet[:COLUMN] ...] [--rows 1000000] [--batch-size 64] [--runs 1]

Of each file every row with its easiest positive is a pair, by the labels in COLUMN (default: label); beside the files,
as many made rows of 16 values, in pairs. The pairs are mined first and are not part of the time. The search for near
pairs, where a method needs one, is told apart: it is one more exact search of the anchors.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import data
import mining
import numpy as np
from common import THREADS, launched, question_parser, rounded, write_results

METHODS = ("graph", "nearest", "cluster", "random")
MADE_VALUES, MADE_SPREAD = 16, 0.3


def made_pairs(path: Path, rows: int) -> None:
    """Rows in pairs of one label: a centre each, with noise."""
    rng = np.random.default_rng(0)
    centres = np.repeat(rng.normal(size=(rows // 2, MADE_VALUES)).astype(np.float32), 2, axis=0)
    noise = MADE_SPREAD * rng.standard_normal(centres.shape, np.float32)
    data.write(path, centres + noise, np.repeat(np.arange(rows // 2), 2))


def composed(mined: Path, out: Path, method: str, batch_size: int) -> mining.Reported:
    """One whole run of the command."""
    fixed = ["--overwrite", "--progress", "none", "--json", "--threads", str(THREADS)]
    how = ["--method", method, "--batch-size", str(batch_size)]
    run = launched(["-m", "minestream", "batch", mined, "-o", out, *how, *fixed])
    return mining.Reported(run, json.loads(run.printed))


def measure(name: str, mined: Path, method: str, batch_size: int, runs: int) -> dict[str, Any]:
    """One row of results."""
    every = [composed(mined, mined.with_name("batches.parquet"), method, batch_size) for _ in range(runs)]
    stages = [each.report["seconds"]["stages"] for each in every]
    return {
        "data": name, "method": method, "batch_size": batch_size, "pairs": every[0].report["counters"]["pairs"],
        "left_out": sum(each["count"] for each in every[0].report["left_out"]),
        "similarity_ratio": every[0].report["result"]["hardness"]["similarity_ratio"],
        "seconds": median(each.run.seconds for each in every),
        "search_seconds": median(each["search"] for each in stages),
        "compose_seconds": median(each["compose"] for each in stages),
        "peak_bytes": max(each.peak_bytes for each in every), "runs": runs,
    }  # fmt: skip


def main() -> None:
    """Measure every method on every file; write bench/results/batch.json."""
    parser = question_parser(__doc__, runs=1)
    parser.add_argument("files", nargs="*", metavar="FILE[:COLUMN]")
    parser.add_argument("--rows", type=int, default=1_000_000, help="made rows; 0: none (default 1000000)")
    parser.add_argument("--batch-size", type=int, default=64)
    given = parser.parse_args()
    mining.warm_up()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(Path(path), column or "label") for path, _, column in (each.partition(":") for each in given.files)]
        if given.rows:
            jobs.append((Path(folder) / "made.parquet", "label"))
            made_pairs(jobs[-1][0], given.rows)
        for path, column in jobs:
            mined = Path(folder) / f"{path.stem}.pairs.parquet"
            mining.mine(path, mined, ["--label", column, "--band", "any", "--emit", "tuples"])
            for method in METHODS:
                rows.append(measure(f"{path.stem} by {column}", mined, method, given.batch_size, given.runs))
                print(rounded(rows[-1]), flush=True)
    write_results(given.results, "batch", rows)


if __name__ == "__main__":
    main()
