"""scikit-learn NearestNeighbors, brute force, over unit rows: Euclidean, since that is its fast path."""

from __future__ import annotations

import os

import numpy as np
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from peers import brute

CLAIM = "the k rows nearest to every row, itself and its own label included"


def prepare(vectors: np.ndarray, labels: np.ndarray, threads: int) -> tuple[NearestNeighbors, np.ndarray]:
    """The fitted searcher, and the unit rows it is asked for."""
    if len(os.sched_getaffinity(0)) > threads:  # it takes a thread a core, whatever n_jobs says
        threadpool_limits(threads)
    unit = brute.normalised(vectors)
    return NearestNeighbors(algorithm="brute", metric="euclidean").fit(unit), unit


def search(prepared: tuple[NearestNeighbors, np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Distances and rows, (n, k)."""
    searcher, unit = prepared
    return searcher.kneighbors(unit, k)  # type: ignore[no-any-return]


def pairs(found: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and negatives."""
    return brute.pairs_of(found[1])


def check(vectors: np.ndarray, labels: np.ndarray, k: int, found: tuple[np.ndarray, np.ndarray]) -> None:
    """Raise WrongAnswer unless these are the nearest rows."""
    distances, rows = found
    brute.check_nearest(vectors, None, k, 1 - np.square(distances) / 2, rows)
