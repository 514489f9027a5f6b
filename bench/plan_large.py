"""What would runs of ten and a hundred million rows take on many cores, by a model of what was measured?

    python bench/plan_large.py [--results bench/results]

Every stage of the runs in scale.json grows on from the largest as it grew from the smallest to it, at least as n and at
most as n^2, the products of an exact run as n^2. On more cores all divides as --dry-run says of mining, and memory
holds all. The error of the model is that of foretelling the largest measured run from the others. Nothing of this is a
measurement of large runs.
"""

from __future__ import annotations

import json
import math
from typing import Any

from common import THREADS, question_parser, rounded, write_results

from minestream.mining.projections import on_cores

LARGE = (10_000_000, 100_000_000)
CORES = 32
WAYS = ("exact", "approximate")
BYTES_AN_ITEM = 4


def predicted(rows: list[dict[str, Any]], n: int) -> float:
    """Seconds of a run over n rows, by measured ones of one way."""
    smallest, largest = rows[0], rows[-1]
    seconds = 0.0
    for stage, took in largest["stages"].items():
        before, grown = smallest["stages"].get(stage, 0.0), math.log(largest["rows"] / smallest["rows"])
        exponent = math.log(took / before) / grown if before and took else 1.0
        if stage == "sweep" and largest["contender"] == WAYS[0]:
            exponent = 2.0
        factor = (n / largest["rows"]) ** min(2.0, max(1.0, exponent))
        seconds += took * (1.0 if stage == "start" else factor)
    return seconds


def main() -> None:
    """Test the model on the largest measured run, predict; write bench/results/large.json."""
    given = question_parser(__doc__, runs=1).parse_args()
    scale = json.loads((given.results / "scale.json").read_text(encoding="utf-8"))
    plans, errors = [], {}
    for way in WAYS:
        rows = sorted((row for row in scale["rows"] if row["contender"] == way), key=lambda row: int(row["rows"]))
        *smaller, largest = rows
        errors[way] = predicted(smaller, largest["rows"]) / largest["seconds"] - 1
        plans += [
            {"way": way, "rows": n, "dimension": largest["dimension"], "cores": CORES,
             "seconds": predicted(rows, n) * on_cores(THREADS, CORES),
             "vectors_bytes": n * largest["dimension"] * BYTES_AN_ITEM}
            for n in LARGE
        ]  # fmt: skip
    print(*map(rounded, plans), f"errors on {largest['rows']:,} rows: {errors}", sep="\n")
    write_results(given.results, "large", plans, errors=errors, largest_measured_rows=largest["rows"])


if __name__ == "__main__":
    main()
