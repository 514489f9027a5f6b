"""Does a run much larger than its --memory stay within it, and flat, from the first minute to the last?

    python bench/bench_long.py [SIZE ...] [--dimension 128] [--folder FOLDER] [OPTIONS of mine]

A SIZE is ROWS:MEMORY, or ROWS:MEMORY:ANCHORS for a run that mines for some of the rows only.

Rows are made in a stream: classes of 50 around centres that lie in groups, with noise. Memory is that of the process
and its children, sampled while it runs, scratch that of its files, named or not. A sample of the rows is verified.
Writes bench/results/long.json, and a picture of the largest run.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import data
import mining
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from bench_memory import BASELINE_BYTES
from common import THREADS, question_parser, rounded, settled, write_results

CLASS_ROWS = 50
GROUP_CLASSES = 50
CLASS_SPREAD, NOISE = 0.8, 0.9  # beside groups whose centres have length 1
SAMPLE_SECONDS = 0.25
POINTS = 200
SIZES = ("200000:205MiB", "1000000:1GiB")
SCALAR = pa.schema([("id", pa.int64()), ("label", pa.int32())])


def write_clustered(path: Path, rows: int, dimension: int) -> None:
    """A file of rows in shuffled classes; what is in memory does not grow with it but for labels and centres."""
    rng = np.random.default_rng(7)
    classes = max(2, rows // CLASS_ROWS)
    labels = rng.permutation(np.arange(rows, dtype=np.int32) % classes)
    scale = np.arange(1, dimension + 1, dtype=np.float32) ** np.float32(-0.3)  # few directions hold most of the spread
    scale /= np.linalg.norm(scale)
    groups = rng.standard_normal((-(-classes // GROUP_CLASSES), dimension), np.float32)
    centres = groups[np.arange(classes) // GROUP_CLASSES]
    centres = (centres + CLASS_SPREAD * rng.standard_normal((classes, dimension), np.float32)) * scale
    schema = SCALAR.append(pa.field("embedding", pa.list_(pa.float32(), dimension)))
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, data.ROW_GROUP_ROWS):
            own = labels[first : first + data.ROW_GROUP_ROWS]
            vectors = centres[own] + NOISE * scale * rng.standard_normal((own.size, dimension), np.float32)
            flat = pa.array(vectors.astype(np.float32).reshape(-1))
            arrays = [
                pa.array(np.arange(first, first + own.size)), pa.array(own),
                pa.FixedSizeListArray.from_arrays(flat, dimension),
            ]  # fmt: skip
            writer.write_table(pa.table(arrays, schema=schema))


def family(process: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield process
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):
            for child in Path(f"/proc/{process}/task/{thread}/children").read_text().split():
                yield from family(int(child))


def status_bytes(process: int, name: str) -> int:
    """VmRSS or VmHWM of a process; 0 when it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0


def unnamed_bytes(process: int) -> int:
    """What files without a name that a process holds open take on the disk."""
    total = 0
    with suppress(OSError):
        for name in os.listdir(f"/proc/{process}/fd"):
            with suppress(OSError):
                found = os.stat(f"/proc/{process}/fd/{name}")
                total += found.st_blocks * 512 if found.st_nlink == 0 else 0
    return total


def folder_bytes(folder: Path) -> int:
    """What the files below a folder take on the disk."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.stat(os.path.join(place, name)).st_blocks * 512
    return total


@dataclass
class Watched:
    """One run, watched from outside.

    Attributes
    ----------
    seconds : float
    peak_bytes : int
        The most that the process had in memory, by the kernel's own count, or it and its children by ours.
    printed : str
    series : list of (seconds, memory bytes, scratch bytes)
    """

    seconds: float = 0.0
    peak_bytes: int = 0
    printed: str = ""
    series: list[tuple[float, int, int]] = field(default_factory=list)


def watched(command: list[str | Path], folder: Path) -> Watched:
    """Run a command of the package whose files lie in `folder`, and sample it."""
    found, start = Watched(), time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        whole = [sys.executable, "-m", "minestream", *map(str, command)]
        with subprocess.Popen(whole, env=settled(THREADS) | mining.TELLING, stdout=output) as child:
            while child.poll() is None:
                running = list(family(child.pid))
                memory = sum(status_bytes(process, "VmRSS") for process in running)
                scratch = sum(map(unnamed_bytes, running)) + folder_bytes(folder)
                found.series.append((time.perf_counter() - start, memory, scratch))
                found.peak_bytes = max(found.peak_bytes, memory, status_bytes(child.pid, "VmHWM"))
                time.sleep(SAMPLE_SECONDS)
        found.seconds = time.perf_counter() - start
        output.seek(0)
        found.printed = output.read()
    if child.returncode:
        raise SystemExit(f"failed with exit code {child.returncode}: {' '.join(whole)}\n{found.printed}")
    return found


def thinned(series: list[tuple[float, int, int]]) -> list[list[float]]:
    """At most POINTS points: of each stretch its last time and its largest sizes."""
    stretches = np.array_split(np.array(series), min(POINTS, len(series)))
    return [[float(part[-1, 0]), *part[:, 1:].max(axis=0).tolist()] for part in stretches]


def growth(series: list[tuple[float, int, int]]) -> float:
    """Memory in the last fifth of a run over that in its second fifth: medians, so that no moment decides."""
    memory = [point[1] for point in series]
    fifth = max(1, len(memory) // 5)
    return median(memory[-fifth:]) / median(memory[fifth : 2 * fifth])


def measure(size: str, dimension: int, options: list[str], folder: Path) -> dict[str, Any]:
    """One row of results."""
    count, memory, *anchors = size.split(":")
    rows, options = int(count), [*options, *(f"--anchors={each}" for each in anchors)]
    source, place = folder / f"rows-{rows}.parquet", folder / "out"
    place.mkdir(exist_ok=True)
    write_clustered(source, rows, dimension)
    out = place / "mined.parquet"
    fixed = ["--memory", memory, "--progress", "none", "--json", "--overwrite"]
    run = watched(["mine", source, "-o", out, *fixed, *options], place)
    report = json.loads(run.printed)
    plan, stats = report["result"]["plan"] | report["result"]["effort"], report["counters"]
    began = time.perf_counter()
    mining.verify(out, source)
    verified_seconds = time.perf_counter() - began
    found = {
        "rows": rows, "dimension": dimension, "source_bytes": source.stat().st_size, "memory": memory,
        "memory_bytes": plan["memory_bytes"], "options": options, "anchors": plan["anchors"],
        "threads": plan["threads"], "screen": plan["screen"], "vectors_in": plan["vectors_in"],
        "vectors_bytes": plan["vectors_bytes"], "pairs": plan["pairs_to_compute"], "rows_out": stats["rows"],
        "out_bytes": out.stat().st_size, "seconds": run.seconds, "stages": report["seconds"]["stages"],
        "pairs_a_second": plan["pairs_to_compute"] / run.seconds, "peak_bytes": run.peak_bytes,
        "within": run.peak_bytes <= plan["memory_bytes"] + BASELINE_BYTES, "growth": growth(run.series),
        "scratch_bytes": max(point[2] for point in run.series), "verified_anchors": mining.VERIFIED_ANCHORS,
        "verified_seconds": verified_seconds, "series": thinned(run.series),
    }  # fmt: skip
    source.unlink()
    return found


def plot(row: dict[str, Any], path: Path) -> None:
    """Memory and scratch over time, as SVG with its text as text."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "minestream", "font.size": 9}
    from matplotlib import pyplot as plt

    seconds, memory, scratch = zip(*row["series"], strict=True)
    minutes = [each / 60 for each in seconds]
    figure, axes = plt.subplots(figsize=(8, 3), layout="constrained")
    axes.plot(minutes, [each / 2**20 for each in memory], "C0-", label="memory of the process")
    axes.plot(minutes, [each / 2**20 for each in scratch], "C1--", label="scratch and output on the disk")
    axes.axhline((row["memory_bytes"] + BASELINE_BYTES) / 2**20, color="C3", linewidth=1, label="promised at most")
    axes.set(xlabel="minutes", ylabel="MiB", title=f"{row['rows']:,} x {row['dimension']}, --memory {row['memory']}")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def main() -> None:
    """Measure every size; write bench/results/long.json and long.svg."""
    parser = question_parser(__doc__, runs=1)
    parser.add_argument("sizes", nargs="*", metavar="SIZE", default=SIZES, help=f"default: {' '.join(SIZES)}")
    parser.add_argument("--dimension", type=int, default=128)
    parser.add_argument("--folder", type=Path, help="for the files of the run (default: a temporary one)")
    given, options = parser.parse_known_args()
    mining.warm_up()
    rows = []
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        for size in given.sizes:
            rows.append(measure(size, given.dimension, options, Path(name)))
            print(rounded({key: value for key, value in rows[-1].items() if key != "series"}), flush=True)
    write_results(given.results, "long", rows, baseline_bytes=BASELINE_BYTES)
    plot(rows[-1], given.results / "long.svg")


if __name__ == "__main__":
    main()
