"""What do windows of ranks, ranks of positives, several teachers and both directions cost, beside plain mining?

    python bench/bench_rules.py FILE.parquet SECOND.parquet [--queries 100000] [--rows 1000000] [--runs 1]

FILE and SECOND hold embeddings of the same rows, with ids. Every row of FILE is an anchor, by its labels; made queries
among made rows of 64 values have one known positive each.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import mining
import pyarrow as pa
import pyarrow.parquet as pq
from bench_select import made
from common import question_parser, rounded, write_results

PLAIN = ("--band", "any", "-k", "7")
RULES: dict[str, tuple[str, ...]] = {
    "plain": PLAIN,
    "7 of ranks 31 to 200": (*PLAIN, "--skip", "30", "--within-top", "200", "--pick", "random"),
    "SimANS of the top 100": (*PLAIN, "--within-top", "100", "--pick", "simans", "--simans-a", "50"),
    "positive within the top 20": (*PLAIN, "--max-positive-rank", "20"),
    "ranks of positives to 100": (*PLAIN, "--rank-positives", "100"),
}
TEACHERS = {"two teachers": (*PLAIN, "--embedding", "embedding", "--embedding", "second")}
BOTH = {"both directions": (*PLAIN, "--both-directions")}


def joined(path: Path, second: Path, out: Path) -> None:
    """One file of the rows, with both embeddings."""
    own, other = pq.read_table(path), pq.read_table(second, columns=["id", "embedding"])
    if own["id"] != other["id"]:
        raise SystemExit(f"{path} and {second} are not of the same rows")
    pq.write_table(own.append_column("second", other["embedding"]), out, row_group_size=8_192)


def halves(path: Path, folder: Path) -> list[str]:
    """A file's rows as two tables, by their parity, and the option that names the second."""
    table = pq.read_table(path)
    for name, first in (("even", 0), ("odd", 1)):
        rows = table.take(pa.array(range(first, table.num_rows, 2)))
        pq.write_table(rows, folder / f"{name}.parquet", row_group_size=8_192)
    return ["--corpus", str(folder / "odd.parquet")]


def measure(name: str, source: Path, rules: dict[str, tuple[str, ...]], beside: list[str], runs: int) -> Any:
    """Rows of results, a rule each."""
    for rule, options in rules.items():
        every = [mining.mine(source, source.with_name("out.parquet"), [*beside, *options]) for _ in range(runs)]
        row = {
            "data": name, "rule": rule, "options": " ".join(options), "seconds": median(each.seconds for each in every),
            "peak_bytes": max(each.peak_bytes for each in every), "runs": runs,
            "anchors": every[0].report["counters"]["anchors"], "rows": every[0].report["counters"]["rows"],
        }  # fmt: skip
        print(rounded(row), flush=True)
        yield row


def main() -> None:
    """Measure every rule; write bench/results/rules.json."""
    parser = question_parser(__doc__, runs=1)
    parser.add_argument("files", nargs=2, type=Path, metavar="FILE")
    parser.add_argument("--queries", type=int, default=100_000, help="made queries; 0: none (default 100000)")
    parser.add_argument("--rows", type=int, default=1_000_000, help="made rows (default 1000000)")
    given = parser.parse_args()
    mining.warm_up()
    rows = []
    with tempfile.TemporaryDirectory() as text:
        folder, (path, second) = Path(text), given.files
        both = folder / "both.parquet"
        joined(path, second, both)
        label = ["--label", "label"]
        rows += measure(path.stem, both, RULES, [*label, "--embedding", "embedding"], given.runs)
        rows += measure(path.stem, both, TEACHERS, label, given.runs)
        corpus = [*halves(path, folder), *label]
        name = f"{path.stem} in two tables"
        rows += measure(name, folder / "even.parquet", {"plain": PLAIN} | BOTH, corpus, given.runs)
        rows += measure(f"{name}, exchanged", folder / "odd.parquet", {"plain": PLAIN},
                        ["--corpus", str(folder / "even.parquet"), *label], given.runs)  # fmt: skip
        if given.queries:
            beside = made(folder, given.queries, given.rows)
            name = f"made, {given.queries:,} queries among {given.rows:,} x 64"
            rows += measure(name, folder / "queries.parquet", RULES, beside, given.runs)
    write_results(given.results, "rules", rows)


if __name__ == "__main__":
    main()
