"""faiss IndexFlatIP: the fastest exact search that users have. It knows no labels."""

from __future__ import annotations

import os
from typing import Any

import faiss
import numpy as np
from settings import FAISS_BLOCK

from peers import brute

CLAIM = "the k rows nearest to every row, itself and its own label included"


def settle(threads: int) -> None:
    """As many threads, and the size of block that was asked for."""
    faiss.omp_set_num_threads(threads)
    if FAISS_BLOCK in os.environ:
        faiss.cvar.distance_compute_blas_database_bs = int(os.environ[FAISS_BLOCK])


def prepare(vectors: np.ndarray, labels: np.ndarray, threads: int) -> tuple[Any, np.ndarray]:
    """The index, and the unit rows it is asked for."""
    settle(threads)
    unit = brute.normalised(vectors)
    index = faiss.IndexFlatIP(unit.shape[1])
    index.add(unit)
    return index, unit


def search(prepared: tuple[Any, np.ndarray], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and rows, (n, k)."""
    index, unit = prepared
    return index.search(unit, k)  # type: ignore[no-any-return]


def pairs(found: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and negatives."""
    return brute.pairs_of(found[1])


def check(vectors: np.ndarray, labels: np.ndarray, k: int, found: tuple[np.ndarray, np.ndarray]) -> None:
    """Raise WrongAnswer unless these are the nearest rows."""
    brute.check_nearest(vectors, None, k, *found)
