"""How do exact and approximate runs grow, beside approximate indexes that know no rules?

    python bench/bench_scale.py FILE.parquet [--rows 60000 120000 1000000] [--recall 0.95] [-k 16] [--runs 3]

Rows beyond those of the file are copies of it with noise, so that none is equal to another and near rows stay near.
Whole runs of minestream, exact and with --approximate, which reports the recall that it measured; of the peers, at
several breadths, building the index and searching alone count, and their recall is that of a sample; from --peer-rows
on there are none, as building takes hours. What dry runs foretold, which came first, stands beside.
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
from settings import BREADTH, BREADTHS, CORES, Setting

from minestream.kernels import cache_root
from minestream.mining.rates import FILE

EXACT, PEERS = "faiss_flat", ("faiss_hnsw", "faiss_ivf")
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
    among = () if blas is None else PEERS
    blas = blas or {}
    peers = [(name, at) for name in among for at in BREADTHS[name] if not mining.check(name, source, k, blas)]
    mined: dict[str, list[mining.Mined]] = {way: [] for way in ways}
    searched: dict[tuple[str, int], list[mining.Searched]] = {peer: [] for peer in peers}
    for _ in range(runs):
        for way, options in ways.items():
            mined[way].append(mining.mine(source, source.with_name("out.parquet"), [*mining.nearest(k), *options]))
        for (name, at), found in searched.items():
            found.append(mining.search(name, source, k, blas | {BREADTH: str(at)}))
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
    for (name, at), runs_of in searched.items():
        rows.append(shape | {
            "contender": f"{name} {at}", "seconds": median(run.seconds for run in runs_of),
            "recall": runs_of[-1].report["recall"], "peak_bytes": max(run.peak_bytes for run in runs_of),
        })  # fmt: skip
    return rows


def main() -> None:
    """Measure every size and write bench/results/scale.json."""
    parser = question_parser(__doc__, runs=3)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[60_000, 120_000, 1_000_000])
    parser.add_argument("--recall", type=float, default=0.95)
    parser.add_argument("-k", type=int, default=16)
    parser.add_argument("--peer-rows", type=int, default=200_000, help="no peers from here on (default 200,000)")
    given = parser.parse_args()
    mining.warm_up()
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
