"""Run one peer on one file and print JSON: the seconds of its search alone, and what its answer is worth.

    python bench/peer.py NAME FILE.parquet[:ROWS[:LABELS]] [-k 16] [--threads N] [--check] [--recall R]

NAME is a module of bench/peers. --recall looks for the least breadth at which an approximate search has this recall for
a sample, and foretells its seconds. --check compares its answer with float64 brute force instead; a package that is not
installed is printed as "missing".
"""

from __future__ import annotations

import argparse
import importlib
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import data
import numpy as np
from common import BENCH, THREADS
from peers import brute
from settings import BREADTHS, TRIED_BREADTHS

RECALL_ROWS = 1_000
TRIED_ROWS = 500
NAMES = sorted(path.stem for path in (BENCH / "peers").glob("*_*.py") if path.stem != "__init__")


def loaded(name: str, given: data.DataFile) -> tuple[Any, np.ndarray, np.ndarray]:
    """The peer, and as many rows of the file as it can take."""
    peer = importlib.import_module(f"peers.{name}")
    with tempfile.TemporaryDirectory() as folder:
        vectors, labels = data.read(given.written(Path(folder)))
    most = getattr(peer, "most_rows", len)(labels)
    if most < len(labels):
        chosen = data.sample_rows(len(labels), most)
        vectors, labels = vectors[chosen], labels[chosen]
    return peer, vectors, labels


def measured(peer: Any, vectors: np.ndarray, labels: np.ndarray, k: int, threads: int) -> dict[str, Any]:
    """Seconds of the search, and how many of its answers are rows of another label than the anchor's."""
    prepared = peer.prepare(vectors, labels, threads)
    start = time.perf_counter()
    found = peer.search(prepared, k)
    seconds = time.perf_counter() - start
    anchors, negatives = peer.pairs(found)
    approximate = peer.__name__.split(".")[-1] in BREADTHS
    return {
        "recall": recall(peer, vectors, labels, k, found[1]) if approximate else None,
        "seconds": seconds, "rows": len(vectors), "dimension": vectors.shape[1], "answers": len(anchors),
        "usable": int(np.count_nonzero(labels[anchors] != labels[negatives])), "claim": peer.CLAIM, "missing": None,
    }  # fmt: skip


def recall(peer: Any, vectors: np.ndarray, labels: np.ndarray, k: int, rows: Any) -> float:
    """The share of the nearest rows that an approximate search found, for a sample of the rows."""
    known = labels if "other labels" in peer.CLAIM else None
    return brute.recall(vectors, known, k, np.asarray(rows), data.sample_rows(len(vectors), RECALL_ROWS))


def narrowest(peer: Any, vectors: np.ndarray, k: int, threads: int, target: float) -> dict[str, Any]:
    """The least breadth that reaches a recall for a sample, None where none does; its seconds, were all looked for."""
    unit = peer.prepare(vectors, np.zeros(len(vectors)), threads)
    start = time.perf_counter()
    index = peer.build(unit)
    built = time.perf_counter() - start
    some = data.sample_rows(len(unit), TRIED_ROWS)
    rows = np.full((len(unit), k), -1)
    for breadth in (each for each in TRIED_BREADTHS if each >= peer.LEAST_BREADTH):
        start = time.perf_counter()
        rows[some] = peer.look(index, unit[some], k, breadth)[1]
        seconds = built + (time.perf_counter() - start) * len(unit) / len(some)
        if brute.recall(unit, None, k, rows, some) >= target:
            return {"breadth": breadth, "seconds": seconds}
    return {"breadth": None, "seconds": None}


def main() -> None:
    """Measure, check, or look for a breadth."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("file", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("-k", type=int, default=16)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--recall", type=float)
    given = parser.parse_args()
    try:
        peer, vectors, labels = loaded(given.name, given.file)
    except ModuleNotFoundError as error:
        print(json.dumps({"missing": error.name}))
        return
    if given.check:
        found = peer.search(peer.prepare(vectors.copy(), labels, given.threads), given.k)
        peer.check(vectors, labels, given.k, found)
        print(json.dumps({"missing": None}))
        return
    if given.recall is not None:
        print(json.dumps(narrowest(peer, vectors, given.k, given.threads, given.recall)))
        return
    print(json.dumps(measured(peer, vectors, labels, given.k, given.threads)))


if __name__ == "__main__":
    main()
