"""Run one peer on one file and print JSON: the seconds of its search alone, and what its answer is worth.

    python bench/peer.py NAME FILE.parquet[:ROWS[:LABELS]] [-k 16] [--threads N] [--check]

NAME is a module of bench/peers. --check compares its answer with float64 brute force instead; a package that is not
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
from settings import BREADTHS

RECALL_ROWS = 1_000
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


def main() -> None:
    """Measure or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("file", type=data.DataFile.parse, help=data.DATA_HELP)
    parser.add_argument("-k", type=int, default=16)
    parser.add_argument("--threads", type=int, default=THREADS)
    parser.add_argument("--check", action="store_true")
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
    print(json.dumps(measured(peer, vectors, labels, given.k, given.threads)))


if __name__ == "__main__":
    main()
