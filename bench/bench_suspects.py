"""Of labels that were swapped, how many stand at the top of the suspects that `profile` lists?

    python bench/bench_suspects.py FILE.parquet[:ROWS[:LABELS]] ... [--runs 3]

Of every file 2 % of the rows get another label, drawn by a seed among the labels of all rows; each run is another
seed. Precision at 50 and at the number planted; what is listed though nobody swapped it may be wrong all the same.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import data
import numpy as np
import pyarrow.parquet as pq
from common import question_parser, rounded, write_results

from minestream.insight.profiling import profile

SHARE = 0.02
CUTS = (0.0, 0.5, 0.75, 0.9)
TOP = 50
FIRST_SEED = 101


def measure(given: data.DataFile, runs: int, folder: Path) -> dict[str, Any]:
    """One row of results."""
    vectors, labels = data.read(given.written(folder))
    planted = round(SHARE * len(labels))
    at_top, at_planted, listed = [], [], []
    above: dict[str, list[float | None]] = {f"{cut:g}": [] for cut in CUTS}
    for seed in range(FIRST_SEED, FIRST_SEED + runs):
        generator = np.random.default_rng(seed)
        rows = generator.permutation(len(labels))[:planted]
        swapped = labels.copy()
        while (same := rows[swapped[rows] == labels[rows]]).size:
            swapped[same] = labels[generator.integers(0, len(labels), same.size)]
        data.write(folder / "swapped.parquet", vectors, swapped)
        profile(folder / "swapped.parquet", folder / "look", overwrite=True, sample=100)
        table = pq.read_table(folder / "look" / "suspects.parquet")
        suspects, suspicion = table["row"].to_numpy(), table["suspicion"].to_numpy()
        hits = np.isin(suspects, rows)
        for cut in CUTS:
            among = hits[suspicion >= cut]
            above[f"{cut:g}"].append(float(among.mean()) if among.size else None)
        at_top.append(int(hits[:TOP].sum()) / TOP)
        at_planted.append(int(hits[:planted].sum()) / planted)
        listed.append(len(suspects))
    return {
        "data": given.name, "rows": len(labels), "labels": len(np.unique(labels)), "planted": planted,
        "precision_at_50": median(at_top), "all_precision_at_50": at_top, "precision_at_planted": median(at_planted),
        "all_precision_at_planted": at_planted, "listed": median(listed), "runs": runs,
        "precision_above": {cut: median([each for each in shares if each is not None] or [math.nan])
                            for cut, shares in above.items()},
    }  # fmt: skip


def main() -> None:
    """Measure every file and write bench/results/suspects.json."""
    parser = question_parser(__doc__, runs=3)
    parser.add_argument("files", nargs="+", type=data.DataFile.parse, help=data.DATA_HELP)
    given = parser.parse_args()
    rows = []
    for file in given.files:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(measure(file, given.runs, Path(folder)))
        print(rounded(rows[-1]), flush=True)
    write_results(given.results, "suspects", rows)


if __name__ == "__main__":
    main()
