"""Is an exact run slower than approximate searches that come near it, and how near do they come?

    python bench/bench_approximate.py FILE.parquet[:ROWS[:LABELS]] ... [-k 16] [--runs 3]

Whole runs of minestream for the k nearest negatives, beside approximate searches at several breadths: of these building
the index and searching count, neither start nor reading, at the fastest BLAS of those that are tried for faiss. Their
recall is that of a sample of the rows, against float64 brute force. They know no labels, but for torch.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import data
import mining
from common import median_ratio, question_parser, rounded, write_results
from settings import BREADTH, BREADTHS, CORES, Setting

EXACT = "faiss_flat"  # whose fastest BLAS the others get
Contender = tuple[str, int]


def measure(given: data.DataFile, k: int, runs: int, folder: Path) -> list[dict[str, Any]]:
    """The rows of one data set, one for each peer and breadth."""
    source, out = given.written(folder), folder / "out.parquet"
    blas: Setting = {name: value for name, value in mining.need(EXACT, source, k).items() if name == CORES}
    present = [name for name in BREADTHS if not mining.check(name, source, k, blas)]
    searched: dict[Contender, list[mining.Searched]] = {(name, at): [] for name in present for at in BREADTHS[name]}
    mined: list[mining.Mined] = []
    for _ in range(runs):
        mined.append(mining.mine(source, out, mining.nearest(k)))
        for (name, breadth), found in searched.items():
            found.append(mining.search(name, source, k, blas | {BREADTH: str(breadth)}))
    seconds = [run.seconds for run in mined]
    return [{"data": given.name, **row(contender, k, found, seconds)} for contender, found in searched.items()]


def row(contender: Contender, k: int, found: list[mining.Searched], seconds: list[float]) -> dict[str, Any]:
    """One row of results; `seconds` are minestream's."""
    report, peer_seconds = found[-1].report, [run.seconds for run in found]
    return {
        "rows": report["rows"], "dimension": report["dimension"], "k": k, "seconds": median(seconds),
        "contender": contender[0], "breadth": contender[1], "recall": report["recall"],
        "peer_seconds": median(peer_seconds), "ratio": median_ratio(peer_seconds, seconds),
        "peer_peak_bytes": max(run.peak_bytes for run in found), "runs": len(found),
    }  # fmt: skip


def main() -> None:
    """Measure every file and write bench/results/approximate.json."""
    parser = question_parser(__doc__, runs=3)
    parser.add_argument("files", nargs="+", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("-k", type=int, default=16)
    given = parser.parse_args()
    mining.warm_up()
    rows = []
    for file in given.files:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(file, given.k, given.runs, Path(folder))
        print(*map(rounded, found), sep="\n", flush=True)
        rows += found
    write_results(given.results, "approximate", rows)


if __name__ == "__main__":
    main()
