"""torch in bfloat16: as torch_topk, with half the bytes; similarities have three digits."""

from __future__ import annotations

import numpy as np
import torch

from peers import brute, torch_topk

CLAIM = "about the k nearest rows of other labels of every row"
pairs = torch_topk.pairs


def prepare(vectors: np.ndarray, labels: np.ndarray, threads: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit rows and labels as tensors."""
    unit, known = torch_topk.prepare(vectors, labels, threads)
    return unit.to(torch.bfloat16), known


def search(prepared: tuple[torch.Tensor, torch.Tensor], k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarities and rows, (n, k); -inf where a row has fewer."""
    return torch_topk.search(prepared, k)


def check(vectors: np.ndarray, labels: np.ndarray, k: int, found: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Raise WrongAnswer unless most of these are among the nearest rows of other labels."""
    brute.check_recall(vectors, labels, k, found[1].numpy())
