"""Are the seconds of --dry-run, and the time left that the progress line tells, near what a run then takes?

    python bench/bench_estimate.py [FILE ...] [--runs 1]

FILE is one of fashion, glove, wordnet-static, debian-static and debian (see README.md here); digits is always there.
Each job is estimated and then run, in processes of their own. An estimate is made where no rate is kept, so that it
mines a few anchors, and from the second run on also by the rate that the run before left. Seconds are the report's.

The time left is compared with what was left, from a tenth of the stage on, wherever it is told (not in the first
two seconds) and more than a second was left.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from importlib.resources import files
from pathlib import Path
from statistics import median
from typing import Any

import mining
from common import launched, question_parser, rounded, write_results

JOBS: dict[str, tuple[str, list[str]]] = {
    "digits": ("digits", []),
    "fashion": ("fashion", []),
    "glove": ("glove", ["--anchors", "20000"]),
    "wordnet by group": ("wordnet-static", ["--label", "group", "--unlabeled-value", "-1", "-k", "32"]),
    "debian-static pairs": ("debian-static", ["--emit", "pairs", "--label", "source", "--margin", "0.3"]),
    "debian": ("debian", ["--label", "source", "-k", "8"]),
}
WITHIN = 2.0  # of the seconds of a run
ETA_WITHIN = 1.5

TIMED = """
import json, sys, time
from minestream.cli import main as cli
from minestream.system import progress
events, told = [], progress.Progress._send
def send(self, event):
    events.append((time.perf_counter(), event))
    told(self, event)
progress.Progress._send = send
code = cli.main(sys.argv[1:])
begun = [at for at, event in events if isinstance(event, progress.StageStarted) and event.stage == "mine"][-1]
seen = [(at - begun, event) for at, event in events if isinstance(event, progress.Advanced) and event.stage == "mine"]
whole = seen[-1][0]
late = [(at, event.left(at)) for at, event in seen if whole / 10 <= at < whole - 1]
ratios = [left / (whole - at) for at, left in late if left is not None]
print(json.dumps({"ratios": ratios, "over": any(event.done > event.total for _, event in seen), "stage": whole}))
sys.exit(code)
"""


def estimate(command: list[str | Path]) -> float:
    """The seconds that a dry run tells."""
    plan = json.loads(launched(["-m", "minestream", *command, "--dry-run"]).printed)
    return float(plan["result"]["plan"]["projected_seconds"])


def measure(source: Path, job: str, runs: int, work: Path) -> dict[str, Any]:
    """The row of one job: what was estimated before each run, and what it took."""
    rates = work / "cache" / "minestream-rates.json"
    data, options = JOBS[job]
    out = work / "out.parquet"
    command: list[str | Path] = ["mine", source, "-o", out, "--json", "--overwrite", "--progress", "none", *options]
    estimates, seconds, stages, ratios, by_rate, etas, over = [], [], [], [], [], [], False
    for number in range(runs):
        kept = estimate(command) if number else None
        rates.unlink(missing_ok=True)
        estimates.append(estimate(command))
        printed = launched(["-c", TIMED, *command]).printed.rstrip()
        report, told = map(json.loads, printed.rsplit("\n", 1))
        seconds.append(report["seconds"]["total"])
        ratios.append(estimates[-1] / seconds[-1])
        by_rate += [] if kept is None else [kept / seconds[-1]]
        stages.append(told["stage"])
        etas += told["ratios"]
        over = over or told["over"]
    return {
        "job": job, "data": data, "options": " ".join(options), "runs": runs, "estimated_seconds": median(estimates),
        "seconds": median(seconds), "all_ratios": ratios, "all_ratios_by_rate": by_rate,
        "within": all(1 / WITHIN <= each <= WITHIN for each in ratios + by_rate), "stage_seconds": median(stages),
        "eta_least": min(etas, default=None), "eta_most": max(etas, default=None),
        "eta_within": all(1 / ETA_WITHIN <= each <= ETA_WITHIN for each in etas), "passes_its_total": over,
    }  # fmt: skip


def main() -> None:
    """Measure every job and write bench/results/estimate.json."""
    parser = question_parser(__doc__, runs=1)
    parser.add_argument("file", nargs="*", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "cache").mkdir(mode=0o700)
        os.environ["MINESTREAM_CACHE_DIR"] = str(work / "cache")
        mining.warm_up()
        (work / "digits.parquet").write_bytes(files("minestream").joinpath("data", "digits.parquet").read_bytes())
        sources = {path.stem: path for path in (work / "digits.parquet", *given.file)}
        rows = []
        for job, (data, _) in JOBS.items():
            if data in sources:
                rows.append(measure(sources[data], job, given.runs, work))
                print(rounded(rows[-1]), flush=True)
    write_results(given.results, "estimate", rows, limit=WITHIN, eta_limit=ETA_WITHIN)
    sys.exit(0 if all(row["within"] and row["eta_within"] and not row["passes_its_total"] for row in rows) else 1)


if __name__ == "__main__":
    main()
