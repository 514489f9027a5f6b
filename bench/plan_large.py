"""What would exact mining of ten million or a billion rows take, by a model of what was measured?

    python bench/plan_large.py [--results bench/results]

Seconds of the stages as measured in scaling.json (growing n, one machine), each as c n^e; the stages that multiply also
grow with d. The error of the model is that of predicting the largest measured run from the smaller ones alone. Nothing
of this is a measurement of large runs; what is said of machines counts rectangles (twice the products, README: Many
machines), and no straggler.
"""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from common import question_parser, rounded, write_results

LARGE = (10_000_000, 100_000_000, 1_000_000_000)
DIMENSION = 768
QUADRATIC = "sweep"
BYTES_AN_ITEM = 4
CORES_A_MACHINE = 32
SENSIBLE_CORE_HOURS = 10_000


def fitted(rows: list[dict[str, Any]], seconds: list[float]) -> tuple[float, float]:
    """log c and e of c n^e by least squares of the logarithms."""
    n = np.log([row["rows"] for row in rows])
    exponent, constant = np.polyfit(n, np.log(seconds), 1)
    return float(constant), float(exponent)


def sweep_and_rest(rows: list[dict[str, Any]]) -> tuple[list[float], list[float]]:
    """Seconds of the stage that multiplies, and of all others but the start of the process."""
    sweep = [row["stages"][QUADRATIC] for row in rows]
    rest = [row["seconds"] - row["stages"]["start"] - own for row, own in zip(rows, sweep, strict=True)]
    return sweep, rest


def predicted(rows: list[dict[str, Any]], n: int) -> float:
    """Seconds of a run over n rows, by all measured ones."""
    return sum(math.exp(c + e * math.log(n)) for c, e in (fitted(rows, part) for part in sweep_and_rest(rows)))


def plan(rows: list[dict[str, Any]], n: int) -> dict[str, Any]:
    """Pairs, bytes and core hours of one large run of DIMENSION coordinates.

    Products are taken at the rate of the largest measured run and as n^2, which is what they grow as where the fixed
    costs no longer count; coordinates in proportion. The rest is taken as n d.
    """
    largest = rows[-1]
    scale = n / largest["rows"]
    longer = DIMENSION / largest["dimension"]
    (*_, sweep), (*_, rest) = sweep_and_rest(rows)
    core_hours = largest["threads"] * (sweep * scale**2 + rest * scale) * longer / 3600
    machines = max(1, round(core_hours / CORES_A_MACHINE / 24))
    return {
        "rows": n, "dimension": DIMENSION, "pairs": n * (n - 1) // 2, "vectors_bytes": n * DIMENSION * BYTES_AN_ITEM,
        "core_hours_one_process": core_hours, "core_hours_many_machines": 2 * core_hours,
        "machines_for_a_day": 2 * machines, "bytes_read_by_them": 2 * machines * n * DIMENSION * BYTES_AN_ITEM,
        "sensible": 2 * core_hours <= SENSIBLE_CORE_HOURS,
    }  # fmt: skip


def main() -> None:
    """Fit, test on the largest measured run, predict; write bench/results/large.json."""
    given = question_parser(__doc__, runs=1).parse_args()
    scaling = json.loads((given.results / "scaling.json").read_text(encoding="utf-8"))
    rows = sorted((row for row in scaling["rows"] if row["axis"] == "rows"), key=lambda row: int(row["rows"]))
    *smaller, largest = rows
    foretold = predicted(smaller, largest["rows"])
    measured = largest["seconds"] - largest["stages"]["start"]
    exponents = dict(zip(("sweep", "rest"), (fitted(rows, part)[1] for part in sweep_and_rest(rows)), strict=True))
    limit = LARGE[0] * math.sqrt(SENSIBLE_CORE_HOURS / plan(rows, LARGE[0])["core_hours_many_machines"])
    plans = [plan(rows, n) for n in LARGE]
    error = foretold / measured - 1
    print(*map(rounded, plans), f"error on {largest['rows']:,} rows: {error:+.1%}", sep="\n")
    write_results(
        given.results, "large", plans, error_on_largest=error, largest_measured_rows=largest["rows"],
        exponents=exponents, sensible_core_hours=SENSIBLE_CORE_HOURS, sensible_rows=int(limit),
    )  # fmt: skip


if __name__ == "__main__":
    main()
