"""Does a linear embedding learned on mined triplets find better neighbours than the raw one, and which mining is best?

    python bench/bench_fit.py [FILE ...] [--identities FILE COLUMN] [--runs 3]

Of every file two fifths of the labels, drawn by the seed, are set aside: neither training nor the choice of the best
epoch sees them. On the rest `fit` runs once for each positive rule and band, and once with random triplets, of which
there are never fewer, for the same number of epochs. Figures are recall@1 among the rows of the labels set aside, less
that of the raw embeddings. --identities takes the values of another column as labels, those of a few rows each: what
the loss is for, beside classes of thousands.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import mean
from typing import Any

import data
import numpy as np
import pyarrow.parquet as pq
from common import question_parser, rounded, write_results

from minestream.learn.fitting import fit
from minestream.learn.linear import Linear
from minestream.mining.arrays import mine_arrays

EPOCHS = 10
ASIDE = 0.4  # of the labels
IDENTITY_ROWS, IDENTITIES_ROWS = (4, 60), 12_000  # of one, of all
POSITIVES = ("easiest", "random", "hardest")
BANDS = ("semi-hard", "hard", "violating", "any")
RANDOM = {"positives": "random", "band": "any", "pick": "random"}
CELLS: list[dict[str, str]] = [
    RANDOM,
    *({"positives": "easiest", "band": band, "pick": "random"} for band in BANDS),
    *({"positives": each, "band": band, "pick": "nearest"} for each in POSITIVES for band in BANDS),
]


def recall_at_1(rows: np.ndarray, labels: np.ndarray) -> float:
    """Share of the rows whose nearest other row has their label, by the miner itself."""
    found = mine_arrays(rows.astype(np.float32), labels, band="any", drop_duplicates_within="none", float64=True)
    return float((found.distance_ap < found.distance_an).mean())


def measure(name: str, rows: np.ndarray, labels: np.ndarray, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Every cell, on one split."""
    distinct = np.random.default_rng(seed).permutation(np.unique(labels))
    aside = np.isin(labels, distinct[: round(ASIDE * len(distinct))])
    training, model = folder / "training.parquet", folder / "linear.npz"
    data.write(training, rows[~aside], labels[~aside])
    raw = recall_at_1(rows[aside], labels[aside])
    found = []
    for cell in CELLS:
        report = fit(
            training, model, epochs=EPOCHS, patience=EPOCHS, seed=seed, overwrite=True, progress="none", **cell
        )  # type: ignore[arg-type]
        recall = recall_at_1(Linear.load(model).project(rows[aside]), labels[aside])
        found.append(
            {
                "data": name, "rows": len(rows), "dimension": rows.shape[1], "labels": len(distinct), "seed": seed,
                **cell, "aside_rows": int(aside.sum()), "raw": raw, "recall": recall, "gain": recall - raw,
                "held_out_raw": report.raw_recall_at_1, "held_out": report.epochs[report.best_epoch].recall_at_1,
                "best_epoch": report.best_epoch, "triplets": sum(each.triplets for each in report.epochs),
                "seconds": report.seconds,
            }
        )  # fmt: skip
        print(rounded(found[-1]), flush=True)
    return found


def identities(path: Path, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Vectors and labels of the rows of some values of a column, drawn always alike, that have few rows each."""
    table = pq.read_table(path, columns=[column, "embedding"])
    codes = table[column].combine_chunks().dictionary_encode().indices.to_numpy()
    counts = np.bincount(codes)
    able = np.flatnonzero((counts >= IDENTITY_ROWS[0]) & (counts <= IDENTITY_ROWS[1]))
    able = np.random.default_rng(0).permutation(able)
    chosen = np.isin(codes, able[: np.searchsorted(counts[able].cumsum(), IDENTITIES_ROWS)])
    return data.matrix(table["embedding"])[chosen], codes[chosen]


def cell_rows(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row of results for each file and cell, over the seeds."""
    rows = []
    for name in dict.fromkeys(row["data"] for row in found):
        of_file = [row for row in found if row["data"] == name]
        by_chance = {
            row["seed"]: row["gain"] for row in of_file if all(row[key] == value for key, value in RANDOM.items())
        }
        for cell in CELLS:
            runs = [row for row in of_file if all(row[key] == value for key, value in cell.items())]
            gains = [row["gain"] for row in runs]
            over = [row["gain"] - by_chance[row["seed"]] for row in runs]
            shared = {key: runs[0][key] for key in ("data", "rows", "dimension", "labels")}
            rows.append(
                {
                    **shared, **cell, "seeds": len(runs), "raw": mean(row["raw"] for row in runs),
                    "recall": mean(row["recall"] for row in runs), "gain": mean(gains), "least_gain": min(gains),
                    "largest_gain": max(gains), "over_random": mean(over), "least_over_random": min(over),
                    "triplets": mean(row["triplets"] for row in runs), "seconds": mean(row["seconds"] for row in runs),
                }
            )  # fmt: skip
    return rows


def main() -> None:
    """Measure each file, every run with a seed of its own; write bench/results/fit.json."""
    parser = question_parser(__doc__, runs=3)
    parser.add_argument("files", nargs="*", type=data.DataFile.parse, metavar="FILE", help=data.DATA_HELP)
    parser.add_argument("--identities", nargs=2, action="append", default=[], metavar=("FILE", "COLUMN"))
    given = parser.parse_args()
    found: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sets = [(each.name, data.read(each.written(folder))) for each in given.files]
        sets += [(f"{Path(path).stem}, {column}", identities(Path(path), column)) for path, column in given.identities]
        for name_of_set, (rows, labels) in sets:
            for seed in range(given.runs):
                found += measure(name_of_set, rows, labels, seed, folder)
    write_results(given.results, "fit", cell_rows(found), epochs=EPOCHS, aside=ASIDE, runs=found)


if __name__ == "__main__":
    main()
