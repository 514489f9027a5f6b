"""How long does mining take end to end, beside a whole exact search that only finds neighbours?

    python bench/bench_mine.py FILE.parquet[:ROWS[:LABELS]] ... [--runs 3] [-k 16]

minestream is timed as a user starts it: a new process, Parquet in, Parquet out, warm kernel cache. The peer, faiss
IndexFlatIP, is timed without start, reading and index: its search for k neighbours alone, whatever the job, at the
fastest of the settings that bench/settings.py tries; once as it is installed, too. Each run is a process of its own;
runs are interleaved and ratios paired. Some anchors of every output are verified, untimed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import data
import mining
import settings
from common import median_ratio, question_parser, rounded, write_results

PEER = "faiss_flat"


def jobs(k: int) -> dict[str, list[str]]:
    """The options of each job: as exact search, as most users start, and as in-batch mining."""
    return {
        "nearest": mining.nearest(k),
        "default": [],
        "bulk": ["--positives", "random", "--positives-per-anchor", "4"],
    }


def measure(given: data.DataFile, k: int, runs: int, folder: Path) -> list[dict[str, Any]]:
    """The rows of one data set, one a job."""
    source = given.written(folder)
    out = folder / "out.parquet"
    setting = mining.need(PEER, source, k)
    plain = mining.search(PEER, source, k, settings.PLAIN)
    peers = []
    mined: dict[str, list[mining.Mined]] = {job: [] for job in jobs(k)}
    for run in range(runs):
        peers.append(mining.search(PEER, source, k, setting))
        for job, options in jobs(k).items():
            mined[job].append(mining.mine(source, out, options))
            if run == 0:
                mining.verify(out, source)
    about = {"faiss_setting": setting, "faiss_plain_seconds": plain.seconds}
    return [figures(given.name, job, k, mined[job], peers) | about for job in mined]


def figures(name: str, job: str, k: int, mined: list[mining.Mined], peers: list[mining.Searched]) -> dict[str, Any]:
    """One row of results; k is the peer's."""
    report = mined[-1].report
    stats, anchors, effort = report["counters"], report["counters"]["anchors"], report["result"]["effort"]
    rows, dimension = peers[0].report["rows"], peers[0].report["dimension"]
    seconds, peer_seconds = [run.seconds for run in mined], [run.seconds for run in peers]
    sweep = [run.sweep_seconds for run in mined]
    return {
        "data": name, "rows": rows, "dimension": dimension, "job": job, "k": report["configuration"]["negatives"],
        "seconds": median(seconds), "all_seconds": seconds, "stages": mining.stage_medians(mined),
        "faiss_k": k, "faiss_seconds": median(peer_seconds), "all_faiss_seconds": peer_seconds,
        "ratio": median_ratio(peer_seconds, seconds),
        "sweep_ratio": median_ratio(peer_seconds, sweep) if min(sweep) > 0 else None,
        "peak_bytes": max(run.peak_bytes for run in mined),
        "faiss_peak_bytes": max(run.peak_bytes for run in peers),
        "gf_eq": mining.billions(rows, dimension, median(seconds)), "screen": effort["screen"],
        "screens_changed": effort["screens_changed"],
        "mined_rows": stats["rows"], "pairs": stats["pairs"], "short": stats["short"], "empty": stats["empty"],
        "survivors_an_anchor": effort["survivors"] / anchors,
        "exact_distances_an_anchor": effort["exact_distances"] / anchors,
        "tiles": effort["tiles"], "tiles_hit": effort["tiles_hit"] / effort["tiles"] if effort["tiles"] else None,
        "runs": len(mined),
    }  # fmt: skip


def main() -> None:
    """Measure every file and write bench/results/mine.json."""
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
    write_results(given.results, "mine", rows)


if __name__ == "__main__":
    main()
