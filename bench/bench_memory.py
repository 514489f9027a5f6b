"""Does a run stay within --memory plus the process's own baseline, with the same bytes as with plenty?

python bench/bench_memory.py FILE.parquet[:ROWS[:LABELS]] ... [--memory 64MiB,256MiB,1GiB] [--runs 1] [OPTIONS of mine]

Files named as in JOBS are mined by the options that stand there, others by those given.
"""

from __future__ import annotations

import re
import tempfile
import zlib
from pathlib import Path
from statistics import median
from typing import Any

import data
import mining
from common import question_parser, rounded, write_results

BASELINE_BYTES = 260_000_000  # interpreter, numba, pyarrow and compiled kernels: LIBRARY_BYTES of the plan
PLENTY = "8GiB"
JOBS: dict[str, list[str]] = {
    "glove": ["--anchors", "20000"],
    "fashion": ["--anchors", "5000"],
    "debian": ["--label", "source", "-k", "8"],
    "debian-static": ["--label", "source", "-k", "4", "--carry", "text"],
    "wordnet-static": ["--label", "group", "--unlabeled-value", "-1", "-k", "32", "--emit", "tuples"],
}


def measure(source: Path, memory: str, runs: int, options: list[str], folder: Path) -> dict[str, Any]:
    """One row of results: seconds, peak bytes and a checksum of the output; of a refused run what it would need."""
    out = folder / f"{memory}.parquet"
    try:
        mined = [mining.mine(source, out, ["--memory", memory, *options]) for _ in range(runs)]
    except SystemExit as failed:
        needs = re.search(r"raise --memory to (\w+)", str(failed))
        if needs is None:
            raise
        return {"memory": memory, "needs": needs[1]}
    plan = mined[-1].report["result"]["plan"] | mined[-1].report["result"]["effort"]
    peak = max(run.peak_bytes for run in mined)
    return {
        "rows": plan["rows"], "dimension": plan["dimension"], "memory": memory, "memory_bytes": plan["memory_bytes"],
        "vectors_in": plan["vectors_in"], "seconds": median(run.seconds for run in mined), "peak_bytes": peak,
        "within": peak <= plan["memory_bytes"] + BASELINE_BYTES, "output_crc32": zlib.crc32(out.read_bytes()),
        "runs": runs,
    }  # fmt: skip


def main() -> None:
    """Every file by the settings asked for, and plenty; written to bench/results/memory.json."""
    parser = question_parser(__doc__, runs=1)
    parser.add_argument("file", nargs="+", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("--memory", default="64MiB,256MiB,1GiB")
    given, options = parser.parse_known_args()
    mining.warm_up()
    rows, same = [], True
    for file in given.file:
        with tempfile.TemporaryDirectory() as name:
            asked = options or JOBS.get(file.name, [])
            source = file.written(Path(name))
            own = [
                {"data": file.name, "options": " ".join(asked)} | measure(source, memory, given.runs, asked, Path(name))
                for memory in (*given.memory.split(","), PLENTY)
            ]
        own = [{name: own[-1][name] for name in ("data", "options", "rows", "dimension")} | row for row in own]
        print(*map(rounded, own), sep="\n", flush=True)
        same = same and len({row["output_crc32"] for row in own if "needs" not in row}) == 1
        rows += own
    print(f"same bytes: {same}")
    write_results(given.results, "memory", rows, same_bytes=same, baseline_bytes=BASELINE_BYTES)


if __name__ == "__main__":
    main()
