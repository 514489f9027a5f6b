"""faiss IndexIVFFlat, trained, filled and searched: an approximate search by cells. It knows no labels."""

from __future__ import annotations

import os

import faiss
import numpy as np
from settings import BREADTH, INDEX

from peers import faiss_hnsw

CLAIM = faiss_hnsw.CLAIM
CELLS = "1024"
LEAST_BREADTH = 1
prepare, pairs, check = faiss_hnsw.prepare, faiss_hnsw.pairs, faiss_hnsw.check


def build(unit: np.ndarray) -> faiss.Index:
    """The cells, trained and filled."""
    cells = min(int(os.environ.get(INDEX, CELLS)), len(unit) // 40)
    index = faiss.index_factory(unit.shape[1], f"IVF{cells},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(unit)
    index.add(unit)
    return index


def look(index: faiss.Index, unit: np.ndarray, k: int, breadth: int) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and rows, (m, k)."""
    index.nprobe = breadth
    return index.search(unit, k)  # type: ignore[no-any-return]


def search(unit: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Train, fill, then similarities and rows, (n, k)."""
    return look(build(unit), unit, k, int(os.environ.get(BREADTH, "24")))
