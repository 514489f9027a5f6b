"""Of labels that were swapped, how many stand at the top of the suspects that `profile` lists?

    python bench/bench_suspects.py FILE.parquet[:ROWS[:LABELS]] ... [--by FILE COLUMN] [--runs 3]

Of every file 2 % of the rows get another label, drawn by a seed among the labels of all rows; each run is another
seed. Precision at 50 and at the number planted; what is listed though nobody swapped it may be wrong all the same.
--by takes the values of another column as labels, such as many that have a few rows each, of the first rows of a file.
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
BY_ROWS = 20_000


def measure(name: str, vectors: np.ndarray, labels: np.ndarray, runs: int, folder: Path) -> dict[str, Any]:
    """One row of results."""
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
        "data": name, "rows": len(labels), "labels": len(np.unique(labels)), "planted": planted,
        "precision_at_50": median(at_top), "all_precision_at_50": at_top, "precision_at_planted": median(at_planted),
        "all_precision_at_planted": at_planted, "listed": median(listed), "runs": runs,
        "precision_above": {cut: median([each for each in shares if each is not None] or [math.nan])
                            for cut, shares in above.items()},
    }  # fmt: skip


def by_column(path: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and labels of the first rows of a file, by the values of a column."""
    table = pq.read_table(path, columns=[column, "embedding"]).slice(0, BY_ROWS)
    return data.matrix(table["embedding"]), table[column].combine_chunks().dictionary_encode().indices.to_numpy()


def main() -> None:
    """Measure every file and write bench/results/suspects.json."""
    parser = question_parser(__doc__, runs=3)
    parser.add_argument("files", nargs="+", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("--by", nargs=2, action="append", default=[], metavar=("FILE", "COLUMN"))
    given = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        sets = [(file.name, *data.read(file.written(folder))) for file in given.files]
        sets += [(f"{Path(path).stem}, {column}", *by_column(Path(path), column)) for path, column in given.by]
        for each in sets:
            rows.append(measure(*each, given.runs, folder))
            print(rounded(rows[-1]), flush=True)
    write_results(given.results, "suspects", rows)


if __name__ == "__main__":
    main()
