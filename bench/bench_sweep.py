"""Is the search stage, alone, never slower than faiss's search from 50,000 rows on, even on data made to be hard?

    python bench/bench_sweep.py [FILE.parquet[:ROWS[:LABELS]] ...] [--rows 100000] [--dimension 128] [-k 16] [--runs 3]

On every file and on three synthetic sets of --rows x --dimension: isotropic Gaussian rows, every row a thousand times,
and tight classes as a trained model makes them. `ratio` is faiss IndexFlatIP's search over the stages sweep and refine;
`ratio_whole_search` over all that is neither start, reading, positives nor output, so codes and packing too. The answer
goes by the smaller of the two.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import data
import mining
from common import median_ratio, question_parser, rounded, write_results

PEER = "faiss_flat"
PROMISED_ROWS = 50_000


def measure(name: str, source: Path, k: int, runs: int, folder: Path) -> dict[str, Any]:
    """One row of results: the k nearest rows of other labels, by both."""
    out, options = folder / "out.parquet", mining.nearest(k)
    setting = mining.need(PEER, source, k)
    mined, peers = [], []
    for _ in range(runs):
        peers.append(mining.search(PEER, source, k, setting))
        mined.append(mining.mine(source, out, options))
    mining.verify(out, source)
    rows, dimension = peers[0].report["rows"], peers[0].report["dimension"]
    peer_seconds, report = [run.seconds for run in peers], mined[-1].report
    staged, whole = [run.staged_search_seconds for run in mined], [run.search_seconds for run in mined]
    ratios = median_ratio(peer_seconds, staged), median_ratio(peer_seconds, whole)
    return {
        "data": name, "rows": rows, "dimension": dimension, "k": k, "screen": report["result"]["effort"]["screen"],
        "search_seconds": median(staged), "whole_search_seconds": median(whole),
        "faiss_setting": setting, "faiss_seconds": median(peer_seconds),
        "ratio": ratios[0], "ratio_whole_search": ratios[1], "stages": mining.stage_medians(mined),
        "gf_eq": mining.billions(rows, dimension, median(staged)),
        "survivors_an_anchor": report["result"]["effort"]["survivors"] / report["counters"]["anchors"],
        "never_slower": min(ratios) >= 1 if rows >= PROMISED_ROWS else None, "runs": runs,
    }  # fmt: skip


def main() -> None:
    """Measure every file and set, write bench/results/sweep.json, and say whether the promise holds."""
    parser = question_parser(__doc__, runs=3)
    parser.add_argument("files", nargs="*", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("--rows", type=int, default=100_000, help="of the synthetic sets")
    parser.add_argument("--dimension", type=int, default=128, help="of the synthetic sets")
    parser.add_argument("-k", type=int, default=16)
    given = parser.parse_args()
    mining.warm_up()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for set_name, make in data.SYNTHETIC.items():
            data.write(folder / f"{set_name}.parquet", *make(given.rows, given.dimension))
        made = [data.DataFile(folder / f"{set_name}.parquet") for set_name in data.SYNTHETIC]
        for file in [*given.files, *made]:
            rows.append(measure(file.name, file.written(folder), given.k, given.runs, folder))
            print(rounded(rows[-1]), flush=True)
    slower = [row["data"] for row in rows if row["never_slower"] is False]
    print(f"slower than faiss: {', '.join(slower)}" if slower else "never slower where it is promised")
    write_results(given.results, "sweep", rows)


if __name__ == "__main__":
    main()
