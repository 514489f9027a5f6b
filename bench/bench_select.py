"""What do lists of candidates cost, and how long does each policy take to choose from them, beside mining it anew?

    python bench/bench_select.py [FILE.parquet[:COLUMN] ...] [--rows 1000000] [--queries 100000] [-k 2048] [--runs 1]

Beside the files, of which every row is an anchor by the labels in COLUMN (default: label), made queries among made rows
of 64 values, each with one known positive. Of each the lists are mined first (float64, so that what is chosen has the
bytes of mining), and then chosen from by twenty policies. One of them is mined anew, too, and its file compared.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import data
import mining
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from common import THREADS, launched, question_parser, rounded, write_results

MADE_VALUES, CENTRES, SPREAD, NEAR = 64, 20_000, 0.5, 0.15
POLICIES: tuple[tuple[str, ...], ...] = (
    ("-k", "7"),
    ("-k", "7", "--relative-margin", "0.05"),
    ("-k", "7", "--relative-margin", "0.1"),
    ("-k", "7", "--absolute-margin", "0.05"),
    ("-k", "7", "--max-similarity", "0.7"),
    ("-k", "7", "--max-similarity", "0.8", "--min-similarity", "0.3"),
    ("-k", "15", "--skip", "10", "--within-top", "210", "--pick", "random"),
    ("-k", "7", "--skip", "30", "--within-top", "200", "--pick", "random"),
    ("-k", "4", "--within-top", "10", "--pick", "random", "--relative-margin", "0.05"),
    ("-k", "16", "--within-top", "100", "--pick", "simans", "--simans-a", "50"),
    ("-k", "1", "--band", "semi-hard", "--margin", "0.2"),
    ("-k", "4", "--band", "violating", "--margin", "0.1"),
    ("-k", "4", "--band", "beyond"),
    ("-k", "50"),
    ("-k", "7", "--emit", "tuples"),
    ("-k", "7", "--max-uses", "20"),
    ("-k", "7", "--order", "shuffled"),
    ("-k", "7", "--max-positive-rank", "20"),
    ("-k", "7", "--min-positive-similarity", "0.5", "--rank-positives", "100"),
    ("-k", "4", "--buckets", "4"),
)


def made(folder: Path, queries: int, rows: int) -> list[str]:
    """Rows around centres, queries near some of them, and the options that name these."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((CENTRES, MADE_VALUES), np.float32)
    vectors = centres[rng.integers(0, CENTRES, rows)]
    vectors += SPREAD * rng.standard_normal(vectors.shape, np.float32)
    known = rng.permutation(rows)[:queries]
    near = vectors[known] + NEAR * rng.standard_normal((queries, MADE_VALUES), np.float32)
    for name, matrix in (("queries", near), ("rows", vectors)):
        values = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), MADE_VALUES)
        table = pa.table({"id": np.arange(len(matrix)), "embedding": values})
        pq.write_table(table, folder / f"{name}.parquet", row_group_size=data.ROW_GROUP_ROWS)
    pairs = pa.table({"query_id": np.arange(queries), "positive_id": known})
    pq.write_table(pairs, folder / "qrels.parquet")
    return ["--corpus", str(folder / "rows.parquet"), "--qrels", str(folder / "qrels.parquet")]


def digest(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ruled(policy: tuple[str, ...], labeled: bool) -> list[str]:
    """The options of a policy; of labels the lists hold all positives, and a rule takes one."""
    return [*policy, *([] if "--band" in policy else ["--band", "any"]), *(["--positives", "easiest"] * labeled)]


def selected(lists: Path, out: Path, rule: list[str]) -> mining.Reported:
    """One whole run of the command."""
    fixed = ["--overwrite", "--progress", "none", "--json", "--threads", str(THREADS)]
    run = launched(["-m", "minestream", "select", lists, "-o", out, *rule, *fixed])
    return mining.Reported(run, json.loads(run.printed))


def measure(name: str, source: Path, beside: list[str], k: int, runs: int) -> dict[str, Any]:
    """One row of results."""
    folder = source.parent
    lists, out = folder / "lists.parquet", folder / "chosen.parquet"
    labeled = "--label" in beside
    every = ["--positives", "all"] * labeled
    listed = mining.mine(source, lists, [*beside, *every, "--emit", "lists", "-k", str(k)])
    policies = []
    for policy in POLICIES:
        found = [selected(lists, out, ruled(policy, labeled)) for _ in range(runs)]
        counters = found[0].report["counters"]
        policies.append({
            "policy": " ".join(policy), "seconds": median(each.run.seconds for each in found),
            "peak_bytes": max(each.peak_bytes for each in found), "rows": counters["rows"],
            "undecided": counters["undecided"],
        })  # fmt: skip
        print(rounded(policies[-1]), flush=True)
    rule = ruled(POLICIES[7], labeled)
    again = mining.mine(source, folder / "mined.parquet", [*beside, *rule])
    selected(lists, out, rule)
    if digest(out) != digest(folder / "mined.parquet"):
        raise SystemExit(f"{name}: {' '.join(rule)} chosen from lists is not what is mined")
    anchors = listed.report["counters"]["anchors"]
    return {
        "data": name, "anchors": anchors, "k": k, "list_seconds": listed.seconds, "list_peak_bytes": listed.peak_bytes,
        "list_bytes": lists.stat().st_size, "bytes_a_candidate": lists.stat().st_size / (anchors * k),
        "policies": policies, "median_seconds": median(each["seconds"] for each in policies),
        "most_seconds": max(each["seconds"] for each in policies),
        "most_peak_bytes": max(each["peak_bytes"] for each in policies), "runs": runs,
        "mined_anew": " ".join(rule), "mined_anew_seconds": again.seconds,
    }  # fmt: skip


def main() -> None:
    """Measure the made table and every file; write bench/results/select.json."""
    parser = question_parser(__doc__, runs=1)
    parser.add_argument("files", nargs="*", metavar="FILE[:COLUMN]")
    parser.add_argument("--rows", type=int, default=1_000_000, help="made rows; 0: none (default 1000000)")
    parser.add_argument("--queries", type=int, default=100_000, help="made queries (default 100000)")
    parser.add_argument("-k", type=int, default=2_048, help="candidates of a list (default 2048)")
    given = parser.parse_args()
    mining.warm_up()
    rows = []
    for text in given.files:
        path, _, column = text.partition(":")
        label = ["--label", column or "label"]
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / Path(path).name
            source.symlink_to(Path(path).resolve())
            rows.append(measure(Path(path).stem, source, label, given.k, given.runs))
            print(rounded({name: value for name, value in rows[-1].items() if name != "policies"}), flush=True)
    if given.rows:
        with tempfile.TemporaryDirectory() as folder:
            beside = made(Path(folder), given.queries, given.rows)
            source = Path(folder) / "queries.parquet"
            name = f"made, {given.queries:,} queries among {given.rows:,} x {MADE_VALUES}"
            rows.append(measure(name, source, beside, given.k, given.runs))
            print(rounded({name: value for name, value in rows[-1].items() if name != "policies"}), flush=True)
    write_results(given.results, "select", rows)


if __name__ == "__main__":
    main()
