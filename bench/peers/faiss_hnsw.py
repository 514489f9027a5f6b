"""faiss IndexHNSWFlat, built and searched: an approximate search by a graph. It knows no labels."""

from __future__ import annotations

import os

import faiss
import numpy as np
from settings import BREADTH, INDEX

from peers import brute

CLAIM = "about the k rows nearest to every row, itself and its own label included"
LINKS = "32"  # of a row
LEAST_BREADTH = 16  # k: with less it is k all the same


def prepare(vectors: np.ndarray, labels: np.ndarray, threads: int) -> np.ndarray:
    """The unit rows."""
    faiss.omp_set_num_threads(threads)
    return brute.normalised(vectors)


def build(unit: np.ndarray) -> faiss.Index:
    """The graph."""
    index = faiss.IndexHNSWFlat(unit.shape[1], int(os.environ.get(INDEX, LINKS)), faiss.METRIC_INNER_PRODUCT)
    index.add(unit)
    return index


def look(index: faiss.Index, unit: np.ndarray, k: int, breadth: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and rows, (m, k)."""
    index.hnsw.efSearch = breadth
    return index.search(unit, k)  # type: ignore[no-any-return]


def search(unit: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Build, then similarities and rows, (n, k)."""
    return look(build(unit), unit, k, int(os.environ.get(BREADTH, "64")))


def pairs(found: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and negatives."""
    return brute.pairs_of(found[1])


def check(vectors: np.ndarray, labels: np.ndarray, k: int, found: tuple[np.ndarray, np.ndarray]) -> None:
    """Raise WrongAnswer unless most of these are among the nearest rows."""
    brute.check_recall(vectors, None, k, found[1])
