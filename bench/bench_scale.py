"""How do exact and approximate runs grow, beside approximate indexes that know no rules?

    python bench/bench_scale.py FILE.parquet [--rows 60000 120000 1000000] [--recall 0.95] [-k 16] [--runs 3]
    python bench/bench_scale.py --worst [60000 200000] [--dimension 128] ...

Rows beyond those of the file are copies of it with noise, so that none is equal to another and near rows stay near.
Whole runs of minestream, exact and with --approximate, which reports the recall that it measured; of the peers building
the index and searching alone count. They are measured at the recall of the approximate run: with the index, of those
in settings.py, that is fastest there, at the least breadth that reaches it; from --peer-rows on there are none, as
building takes hours. What dry runs foretold, which came first, stands beside.

--worst instead takes synthetic rows of which near cells tell nothing: an approximate run then is exact, and should not
be much longer than one.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import data
import mining
import numpy as np
from common import THREADS, launched, median_ratio, question_parser, rounded, write_results
from settings import BREADTH, CORES, INDEX, Setting

from minestream.kernels import cache_root
from minestream.mining.rates import FILE

EXACT, PEERS = "faiss_flat", ("faiss_hnsw", "faiss_ivf")
WORST_ROWS = (60_000, 200_000)
NOISE = 0.2  # length of the noise beside rows of length 1: less than the distance of most rows to their nearest


def grown(source: Path, rows: int, folder: Path) -> Path:
    """The first so many of the rows of a file in a seeded order, then of its copies with noise."""
    vectors, labels = data.read(source)
    order = data.sample_rows(len(vectors), min(rows, len(vectors)))
    copies = -(-rows // len(vectors))
    generator = np.random.default_rng(0)
    parts = [vectors[order]]
    for copy in range(1, copies):
        more = vectors[: min(len(vectors), rows - copy * len(vectors))]
        length = np.sqrt(np.square(more).sum(axis=1, keepdims=True))
        noise = generator.standard_normal(more.shape, np.float32) / np.float32(more.shape[1] ** 0.5)
        parts.append(more + np.float32(NOISE) * length * noise)
    kept = np.concatenate([labels[order], *(labels[: len(part)] for part in parts[1:])])
    path = folder / f"{source.stem}-{rows}.parquet"
    data.write(path, np.concatenate(parts), kept)
    return path


def foretold(source: Path, k: int, target: float) -> dict[str, float]:
    """What a dry run says of both ways, on as many cores as there are, where no rate of other runs is kept."""
    root = cache_root()
    if root is not None:
        (root / FILE).unlink(missing_ok=True)
    asked = [*mining.nearest(k), "--threads", str(THREADS), "--json", "--dry-run"]
    seconds: dict[str, float] = {}
    for way, options in (("exact", []), ("approximate", ["--approximate", str(target)])):
        plan = json.loads(launched(["-m", "minestream", "mine", source, *asked, *options]).printed)["result"]["plan"]
        seconds[way] = plan["projected_seconds"]
    return seconds


def measure(source: Path, k: int, target: float, runs: int, blas: Setting | None) -> list[dict[str, Any]]:
    """The rows of one size, one for each contender; without peers where `blas` is None."""
    ways = {"exact": [], "approximate": ["--approximate", str(target)]}
    projected = foretold(source, k, target)
    peers = {} if blas is None else peers_of(source, k, ways["approximate"], blas)
    mined: dict[str, list[mining.Mined]] = {way: [] for way in ways}
    searched: dict[str, list[mining.Searched]] = {peer: [] for peer in peers}
    for _ in range(runs):
        for way, options in ways.items():
            mined[way].append(mining.mine(source, source.with_name("out.parquet"), [*mining.nearest(k), *options]))
        for name, each in searched.items():
            each.append(mining.search(name, source, k, peers[name]))
    shape = {"rows": data.rows_of(source), "dimension": data.dimension_of(source), "k": k, "runs": runs}
    rows = []
    for way, found in mined.items():  # an exact run measures no recall
        facts = found[-1].report["result"]["approximate"] or {}
        recall = facts.get("recall", {"share": 1.0, "at_least": 1.0})
        rows.append(shape | {
            "contender": way, "seconds": median(run.seconds for run in found),
            "recall": recall["share"], "at_least": recall["at_least"],
            "looked_at": facts.get("looked_at", 1.0), "projected_seconds": projected[way],
            "peak_bytes": max(run.peak_bytes for run in found),
            "stages": mining.stage_medians(found),
        })  # fmt: skip
    for name, runs_of in searched.items():
        rows.append(shape | {
            "contender": name, "index": peers[name][INDEX], "breadth": peers[name][BREADTH],
            "seconds": median(run.seconds for run in runs_of),
            "recall": runs_of[-1].report["recall"], "peak_bytes": max(run.peak_bytes for run in runs_of),
        })  # fmt: skip
    return rows


def peers_of(source: Path, k: int, asked: list[str], blas: Setting) -> dict[str, Setting]:
    """The peers there are, and the settings at which they reach the recall of an approximate run."""
    present = [name for name in PEERS if not mining.check(name, source, k, blas)]
    run = mining.mine(source, source.with_name("out.parquet"), [*mining.nearest(k), *asked])
    facts = run.report["result"]["approximate"]
    recall = facts["recall"]["share"] if "recall" in facts else float(asked[-1])
    settings = {name: mining.reaching(name, source, k, blas, recall) for name in present}
    return {name: setting for name, setting in settings.items() if setting is not None}


def worst(name: str, source: Path, k: int, target: float, runs: int) -> dict[str, Any]:
    """The row of one synthetic set: exact and approximate runs in turn."""
    ways = {"exact": [], "approximate": ["--approximate", str(target)]}
    found: dict[str, list[mining.Mined]] = {way: [] for way in ways}
    for _ in range(runs):
        for way, options in ways.items():
            found[way].append(mining.mine(source, source.with_name("out.parquet"), [*mining.nearest(k), *options]))
    seconds = {way: [run.seconds for run in each] for way, each in found.items()}
    run = found["approximate"][-1]
    return {
        "data": name, "rows": data.rows_of(source), "dimension": data.dimension_of(source), "k": k, "runs": runs,
        "exact_seconds": median(seconds["exact"]), "seconds": median(seconds["approximate"]),
        "ratio": median_ratio(seconds["approximate"], seconds["exact"]),
        "measuring_seconds": run.stages.get("measuring", 0.0), "why": run.report["result"]["approximate"]["exactly"],
    }  # fmt: skip


def measure_worst(given: argparse.Namespace) -> None:
    """Measure every synthetic set and write bench/results/worst.json."""
    rows = []
    for count in given.worst or WORST_ROWS:
        for name, make in data.WORST.items():
            with tempfile.TemporaryDirectory() as folder:
                source = Path(folder) / "in.parquet"
                data.write(source, *make(count, given.dimension))
                rows.append(worst(name, source, given.k, given.recall, given.runs))
            print(rounded(rows[-1]), flush=True)
    write_results(given.results, "worst", rows, target=given.recall)


def main() -> None:
    """Measure every size and write bench/results/scale.json, or worst.json."""
    parser = question_parser(__doc__, runs=3)
    parser.add_argument("file", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, nargs="+", default=[60_000, 120_000, 1_000_000])
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("-k", type=int, default=16)
    parser.add_argument("--peer-rows", type=int, default=200_000, help="no peers from here on (default 200,000)")
    parser.add_argument("--worst", type=int, nargs="*", help="instead: synthetic sets (60000 and 200000 rows)")
    parser.add_argument("--dimension", type=int, default=128, help="of the synthetic sets")
    given = parser.parse_args()
    if (given.file is None) == (given.worst is None):
        parser.error("either a FILE or --worst is measured")
    mining.warm_up()
    if given.worst is not None:
        measure_worst(given)
        return
    blas: Setting = {}
    if min(given.rows) < given.peer_rows:
        blas = {name: value for name, value in mining.need(EXACT, given.file, given.k).items() if name == CORES}
    rows = []
    for count in given.rows:
        with tempfile.TemporaryDirectory() as folder:
            own = blas if count < given.peer_rows else None
            found = measure(grown(given.file, count, Path(folder)), given.k, given.recall, given.runs, own)
        print(*map(rounded, found), sep="\n", flush=True)
        rows += found
    write_results(given.results, "scale", rows, data=given.file.stem, target=given.recall)


if __name__ == "__main__":
    main()
