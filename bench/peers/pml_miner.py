"""pytorch-metric-learning TripletMarginMiner, semi-hard, over all rows as one batch: it lists every triplet first."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.miners import TripletMarginMiner

from peers import brute

CLAIM = "every triplet inside the margin whose negative is less similar than its positive"
MARGIN = 0.2
MOST_BYTES = 2**31
TRIPLET_BYTES = 64  # three int64, copied once, and the distances
Triplets = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def most_rows(labels: np.ndarray) -> int:
    """Rows whose triplets, n^3 times the share that has two labels in the right places, fit MOST_BYTES."""
    share = np.unique(labels, return_counts=True)[1] / len(labels)
    triplets = float((share**2 * (1 - share)).sum())
    return int((MOST_BYTES / (1 + TRIPLET_BYTES * triplets)) ** (1 / 3))


def prepare(vectors: np.ndarray, labels: np.ndarray, threads: int) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """The miner, rows and labels."""
    torch.set_num_threads(threads)
    miner = TripletMarginMiner(margin=MARGIN, type_of_triplets="semihard", distance=CosineSimilarity())
    return miner, torch.from_numpy(vectors), torch.from_numpy(labels)


def search(prepared: tuple[Any, torch.Tensor, torch.Tensor], k: int) -> Triplets:
    """Anchors, positives, negatives; it has no k."""
    miner, vectors, labels = prepared
    return miner(vectors, labels)  # type: ignore[no-any-return]


def pairs(found: Triplets) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and negatives, one of each triplet."""
    return found[0].numpy(), found[2].numpy()


def check(vectors: np.ndarray, labels: np.ndarray, k: int, found: Triplets) -> None:
    """Raise WrongAnswer unless all triplets are semi-hard, and as many as brute force counts."""
    similarity = brute.similarities(vectors)
    anchors, positives, negatives = (each.numpy() for each in found)
    gap = similarity[anchors, positives] - similarity[anchors, negatives]
    if gap.min(initial=0) < -brute.TOLERANCE or gap.max(initial=0) > MARGIN + brute.TOLERANCE:
        raise brute.WrongAnswer("a triplet is not semi-hard")
    if (labels[anchors] != labels[positives]).any() or (labels[anchors] == labels[negatives]).any():
        raise brute.WrongAnswer("a triplet has the wrong labels")
    least, most = (count(similarity, labels, sign * brute.TOLERANCE) for sign in (-1, 1))
    if not least <= len(anchors) <= most:
        raise brute.WrongAnswer(f"{len(anchors)} triplets, brute force counts {least} to {most}")


def count(similarity: np.ndarray, labels: np.ndarray, slack: float) -> int:
    """Semi-hard triplets, the band made wider by `slack` at both ends."""
    total = 0
    for anchor, label in enumerate(labels):
        alike = labels == label
        other = np.sort(similarity[anchor, ~alike])
        alike[anchor] = False
        own = similarity[anchor, alike]
        first = np.searchsorted(other, own - MARGIN - slack, side="left")
        end = np.searchsorted(other, own + slack, side="left")
        total += int(np.maximum(end - first, 0).sum())
    return total
