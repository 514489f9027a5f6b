"""What do other searches and miners take for the same rows, and how many usable negatives do they return?

    python bench/bench_peers.py FILE.parquet[:ROWS[:LABELS]] [-k 16] [--runs 3]

Every exact peer of bench/peers is compared with float64 brute force first, then timed at its fastest setting: its
search alone, in a process of its own, in turn with whole runs of minestream for the k nearest negatives. A usable
answer is a row of another label than the anchor's. A peer that cannot take all rows gets a seeded sample, and
minestream is timed on that too.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import data
import mining
from common import question_parser, rounded, write_results
from peer import NAMES
from settings import BREADTHS, Setting


def usable_peers(source: Path, k: int) -> tuple[dict[str, Setting], list[dict[str, Any]]]:
    """The exact peers that work here, each with its fastest setting; a row of results for each that is missing."""
    found, missing = {}, []
    for name in (each for each in NAMES if each not in BREADTHS):
        package = mining.check(name, source, k)
        if package is None:
            found[name] = mining.need(name, source, k)
        else:
            print(f"{name}: not measured, {package} is not installed")
            missing.append({"contender": name, "missing": package})
    return found, missing


def peer_row(name: str, k: int, runs: list[mining.Searched]) -> dict[str, Any]:
    """One row of results of a peer."""
    report, seconds = runs[-1].report, median(run.seconds for run in runs)
    rows, dimension = report["rows"], report["dimension"]
    return {
        "contender": name, "claim": report["claim"], "rows": rows, "dimension": dimension, "k": k, "seconds": seconds,
        "gf_eq": mining.billions(rows, dimension, seconds), "answers": report["answers"], "usable": report["usable"],
        "usable_an_anchor": report["usable"] / rows, "peak_bytes": max(run.peak_bytes for run in runs),
        "runs": len(runs),
    }  # fmt: skip


def own_row(k: int, runs: list[mining.Mined]) -> dict[str, Any]:
    """One row of results of minestream: whole runs, and the search in them."""
    report, seconds = runs[-1].report, median(run.seconds for run in runs)
    rows, dimension = report["result"]["plan"]["rows"], report["result"]["plan"]["dimension"]
    return {
        "contender": "minestream", "claim": "the k nearest rows of other labels, as Parquet: the whole run",
        "rows": rows, "dimension": dimension, "k": k, "seconds": seconds,
        "search_seconds": median(run.search_seconds for run in runs),
        "gf_eq": mining.billions(rows, dimension, seconds), "answers": report["counters"]["rows"],
        "usable": report["counters"]["rows"], "usable_an_anchor": report["counters"]["rows"] / rows,
        "peak_bytes": max(run.peak_bytes for run in runs), "runs": len(runs),
    }  # fmt: skip


def measure(given: data.DataFile, k: int, runs: int, folder: Path) -> list[dict[str, Any]]:
    """All contenders on one file."""
    source, out, options = given.written(folder), folder / "out.parquet", mining.nearest(k)
    peers, rows = usable_peers(source, k)
    searched: dict[str, list[mining.Searched]] = {name: [] for name in peers}
    mined: dict[int, list[mining.Mined]] = {}
    for _ in range(runs):
        for name, setting in peers.items():
            searched[name].append(mining.search(name, source, k, setting))
        for count in {data.rows_of(source), *(each[-1].report["rows"] for each in searched.values())}:
            sample = data.DataFile(source, count).written(folder)
            mined.setdefault(count, []).append(mining.mine(sample, out, options))
    rows += [peer_row(name, k, each) for name, each in searched.items()]
    return rows + [own_row(k, each) for each in mined.values()]


def main() -> None:
    """Compare all and write bench/results/peers.json."""
    parser = question_parser(__doc__, runs=3)
    parser.add_argument("file", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("-k", type=int, default=16)
    given = parser.parse_args()
    mining.warm_up()
    with tempfile.TemporaryDirectory() as folder:
        rows = measure(given.file, given.k, given.runs, Path(folder))
    print(*map(rounded, rows), sep="\n")
    write_results(given.results, "peers", [{"data": given.file.name} | row for row in rows])


if __name__ == "__main__":
    main()
