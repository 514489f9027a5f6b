"""How do time and memory grow: in rows, in coordinates, with threads, with k, and under a smaller --memory?

    python bench/bench_scaling.py FILE.parquet [--rows N] [--axes rows threads ...] [--runs 3]

One quantity changes at a time, on seeded samples of one file: rows from an eighth of N (default: the file) to N; at
half of N leading coordinates from an eighth of them to all, threads, and memory; at a quarter k, whose output is long.
Beside the nearest negatives it times faiss IndexFlatIP's search alone, at the fastest of its settings, but not under
--memory, which it has not. Writes scaling.json, with the exponents in rows by least squares on logarithms, and a
picture of each quantity.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import linear_regression, median
from typing import Any

import data
import mining
from common import THREADS, median_ratio, question_parser, rounded, write_results
from settings import Setting

PEER = "faiss_flat"
SHARES = (8, 4, 2, 1)
COUNTS = (1, 16, 100, 1000)
MEMORIES = ("4GiB", "512MiB", "256MiB", "128MiB")
TITLES = {
    "rows": "rows",
    "dimension": "coordinates",
    "threads": "threads",
    "k": "negatives an anchor (k)",
    "memory": "--memory in MiB",
}
GROWING = ("rows", "dimension", "k")  # whose seconds are drawn on a logarithmic scale
LINES = (
    ("seconds", "minestream, whole run", "C0o-"),
    ("search_seconds", "its search", "C0s--"),
    ("faiss_seconds", "faiss, search alone", "C1^-"),
)
PEAKS = (("peak_bytes", "minestream", "C0o-"), ("faiss_peak_bytes", "faiss", "C1^-"))
EXPONENTS = {"sweep": "sweep_seconds", "whole": "seconds", "faiss": "faiss_seconds"}


@dataclass(frozen=True)
class Case:
    """One setting; `axis` is what changes from case to case."""

    axis: str
    rows: int
    dimension: int
    threads: int = THREADS
    k: int = 16
    memory: str = MEMORIES[0]

    @property
    def value(self) -> int:
        """Where the case stands on its axis; of memory in MiB."""
        if self.axis == "memory":
            return int(self.memory[:-3]) * (1024 if self.memory.endswith("GiB") else 1)
        value: int = getattr(self, self.axis)
        return value


def cases(rows: int, dimension: int) -> Iterator[Case]:
    """All settings."""
    for share in SHARES:
        yield Case("rows", rows // share, dimension)
    half = Case("dimension", rows // 2, dimension)
    for share in SHARES:
        yield replace(half, dimension=max(1, dimension // share))
    for threads in sorted({1, THREADS}):
        yield replace(half, axis="threads", threads=threads)
    for k in COUNTS:
        yield replace(half, axis="k", rows=rows // 4, k=k)
    for memory in MEMORIES:
        yield replace(half, axis="memory", memory=memory)


def measure(case: Case, file: Path, runs: int, setting: Setting, folder: Path) -> dict[str, Any]:
    """One row of results."""
    dimension = None if case.dimension == data.dimension_of(file) else case.dimension
    source = data.DataFile(file, case.rows).written(folder, dimension)
    out, options = folder / "out.parquet", [*mining.nearest(case.k), "--memory", case.memory]
    mined, peers = [], []
    for _ in range(runs):
        if case.axis != "memory":
            peers.append(mining.search(PEER, source, case.k, setting, threads=case.threads))
        mined.append(mining.mine(source, out, options, threads=case.threads))
    source.unlink()
    seconds, peer_seconds = [run.seconds for run in mined], [run.seconds for run in peers]
    effort = mined[-1].report["result"]["effort"]
    return {
        "axis": case.axis, "value": case.value, "rows": case.rows, "dimension": case.dimension,
        "threads": case.threads, "k": case.k, "memory": case.memory, "seconds": median(seconds),
        "sweep_seconds": median(run.sweep_seconds for run in mined),
        "search_seconds": median(run.staged_search_seconds for run in mined), "stages": mining.stage_medians(mined),
        "faiss_setting": setting, "faiss_seconds": median(peer_seconds) if peers else None,
        "ratio": median_ratio(peer_seconds, seconds) if peers else None,
        "peak_bytes": max(run.peak_bytes for run in mined),
        "faiss_peak_bytes": max(run.peak_bytes for run in peers) if peers else None,
        "screen": effort["screen"], "vectors_in": effort["vectors_in"],
        "survivors_an_anchor": effort["survivors"] / case.rows, "runs": runs,
    }  # fmt: skip


def exponent(rows: list[dict[str, Any]], name: str) -> float | None:
    """b of seconds = a n^b over the axis of rows, as far as the stage was there: small inputs are not swept."""
    points = [(row["rows"], row[name]) for row in rows if row["axis"] == "rows" and row[name]]
    if len(points) < 2:
        return None
    logarithms = [[math.log(value) for value in column] for column in zip(*points, strict=True)]
    return linear_regression(*logarithms).slope


def plot(rows: list[dict[str, Any]], axis: str, path: Path) -> None:
    """Seconds and peak memory over one axis, as SVG with its text as text."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "minestream", "font.size": 9}
    from matplotlib import pyplot as plt
    from matplotlib.ticker import NullFormatter, NullLocator

    own = sorted((row for row in rows if row["axis"] == axis), key=lambda row: row["value"])
    at = [row["value"] for row in own]

    def draw(side: Any, name: str, unit: float, style: str, label: str) -> None:
        points = [(row["value"], row[name] / unit) for row in own if row[name]]  # small inputs are not swept
        if points:
            side.plot(*zip(*points, strict=True), style, label=label)

    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    for name, label, style in LINES:
        draw(left, name, 1, style, label)
    for name, label, style in PEAKS:
        draw(right, name, 2**20, style, label)
    if axis in GROWING:
        left.set_yscale("log")
    else:
        left.set_ylim(bottom=0)
    right.set_ylim(bottom=0)
    for each, title in ((left, "seconds"), (right, "peak memory, MiB")):
        each.set(xscale="log", xlabel=TITLES[axis], ylabel=title, xticks=at, xticklabels=map(str, at))
        each.xaxis.set_minor_locator(NullLocator())
        each.yaxis.set_major_formatter("{x:g}")
        each.yaxis.set_minor_formatter(NullFormatter())
        each.grid(alpha=0.3)
        each.legend()
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = question_parser(__doc__, runs=3)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rows", type=int, help="the largest number of rows (default: all of the file)")
    parser.add_argument("--axes", nargs="+", choices=list(TITLES), default=list(TITLES), help="default: all")
    return parser.parse_args()


def main() -> None:
    """Measure every case, write bench/results/scaling.json and the pictures."""
    given = arguments()
    mining.warm_up()
    setting = mining.need(PEER, given.file, max(COUNTS))
    most = min(given.rows or data.rows_of(given.file), data.rows_of(given.file))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for case in cases(most, data.dimension_of(given.file)):
            if case.axis not in given.axes:
                continue
            rows.append({"data": given.file.stem} | measure(case, given.file, given.runs, setting, Path(folder)))
            print(rounded(rows[-1]), flush=True)
    exponents = {what: exponent(rows, name) for what, name in EXPONENTS.items()}
    print("exponents in rows:", rounded(exponents))
    write_results(given.results, "scaling", rows, exponents=exponents)
    for axis in given.axes:
        plot(rows, axis, given.results / f"scaling-{axis}.svg")


if __name__ == "__main__":
    main()
