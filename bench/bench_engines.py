"""What do dask and Ray cost over one process with as many cores, beyond their start-up, and are the bytes the same?

    python bench/bench_engines.py FILE.parquet[:ROWS[:LABELS]] [--workers 2] [--runs 1] [OPTIONS of mine]

Two jobs: the file as one table, where one process computes each product once for both of its rows and workers do not,
and the file as queries of itself (--corpus), where nothing is lost. Start-up is what an engine takes longer over the
bundled sample of digits, whose reading and mining take no time. It holds the import of minestream in each worker.
"""

from __future__ import annotations

import importlib.util
import tempfile
import zlib
from pathlib import Path
from statistics import median
from typing import Any

import data
import mining
from common import question_parser, rounded, write_results

from minestream.cli import main as run_command

PACKAGES = {"local": "minestream", "dask": "distributed", "ray": "ray"}


def seconds_of(source: Path, engine: list[str], runs: int, out: Path) -> tuple[float, int]:
    """Seconds of a run, from process start to its end, and a checksum of the output."""
    mined = [mining.mine(source, out, engine).seconds for _ in range(runs)]
    return median(mined), zlib.crc32(out.read_bytes())


def main() -> None:
    """Measure every engine that is installed on both jobs; write bench/results/engines.json."""
    parser = question_parser(__doc__, runs=1)
    parser.add_argument("file", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("--workers", type=int, default=2)
    given, options = parser.parse_known_args()
    engines = [engine for engine, package in PACKAGES.items() if importlib.util.find_spec(package)]
    mining.warm_up()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source, sample, out = given.file.written(folder), folder / "digits.parquet", folder / "out.parquet"
        run_command(["sample", str(sample)])
        asked = {
            engine: ["--engine", engine, *([] if engine == "local" else ["--workers", str(given.workers)])]
            for engine in engines
        }
        starts = {engine: seconds_of(sample, asked[engine], given.runs, out)[0] for engine in engines}
        for job, more in {"one table": [], "queries and corpus": ["--corpus", str(source)]}.items():
            found = {
                engine: seconds_of(source, [*asked[engine], *more, *options], given.runs, out) for engine in engines
            }
            local, crc = found["local"]
            for engine, (seconds, own_crc) in found.items():
                start = starts[engine] - starts["local"]
                rows.append(
                    {"data": given.file.name, "rows": data.rows_of(source), "dimension": data.dimension_of(source),
                     "job": job, "engine": engine, "workers": given.workers, "seconds": seconds,
                     "start_seconds": start, "overhead": (seconds - start) / local - 1, "same_bytes": own_crc == crc,
                     "runs": given.runs}
                )  # fmt: skip
                print(rounded(rows[-1]))
    write_results(given.results, "engines", rows)


if __name__ == "__main__":
    main()
