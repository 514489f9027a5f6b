"""torch: a block of similarities by matrix product, like labels masked, topk. What mining scripts write by hand."""

from __future__ import annotations

import numpy as np
import torch

from peers import brute

CLAIM = "the k nearest rows of other labels of every row"
BLOCK_ROWS = 1024


def prepare(vectors: np.ndarray, labels: np.ndarray, threads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows and labels as tensors."""
    torch.set_num_threads(threads)
    return torch.from_numpy(brute.normalised(vectors)), torch.from_numpy(labels)


def search(prepared: tuple[torch.Tensor, torch.Tensor], k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarities and rows, (n, k); -inf where a row has fewer."""
    unit, labels = prepared
    similarities = torch.empty(len(unit), k, dtype=unit.dtype)
    rows = torch.empty(len(unit), k, dtype=torch.int64)
    for first in range(0, len(unit), BLOCK_ROWS):
        own = slice(first, first + BLOCK_ROWS)
        block = unit[own] @ unit.T
        block.masked_fill_(labels[own, None] == labels[None, :], -torch.inf)
        torch.topk(block, k, out=(similarities[own], rows[own]))
    return similarities, rows


def pairs(found: tuple[torch.Tensor, torch.Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and negatives."""
    return brute.pairs_of(found[1].numpy(), (found[0] > -torch.inf).numpy())


def check(vectors: np.ndarray, labels: np.ndarray, k: int, found: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Raise WrongAnswer unless these are the nearest rows of other labels."""
    brute.check_nearest(vectors, labels, k, found[0].numpy(), found[1].numpy())
