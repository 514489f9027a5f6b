"""faiss IndexIVFFlat, trained, filled and searched: an approximate search by cells. It knows no labels."""

from __future__ import annotations

import os

import faiss
import numpy as np
from settings import BREADTH

from peers import faiss_hnsw

CLAIM = faiss_hnsw.CLAIM
CELLS = 1024
prepare, pairs, check = faiss_hnsw.prepare, faiss_hnsw.pairs, faiss_hnsw.check


def search(unit: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Train, fill, then similarities and rows, (n, k)."""
    index = faiss.index_factory(unit.shape[1], f"IVF{min(CELLS, len(unit) // 40)},Flat", faiss.METRIC_INNER_PRODUCT)
    index.train(unit)
    index.add(unit)
    index.nprobe = int(os.environ.get(BREADTH, "24"))
    return index.search(unit, k)  # type: ignore[no-any-return]
