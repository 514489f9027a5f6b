"""The losses of mined rows, from distances."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.kernels import loss

Distances = NDArray[np.float64]
LEAST_POWER = -1_074  # of two, of a float64


def triplet(p: Distances, x: Distances, margin: float) -> Distances:
    """max(0, (p + m) - x), in this order: above 0 exactly when x < p + m. Shape of p and x; float64."""
    return np.maximum(0.0, (p + margin) - x)


def triplet_soft(p: Distances, x: Distances, margin: float) -> Distances:
    """softplus((p - x) + m), without overflow. Shape of p and x; float64."""
    out = np.empty(p.size)
    loss.softplus((p - x) + margin, out)
    return out


def contrastive(distance: Distances, similar: NDArray[np.bool_], margin: float) -> Distances:
    """y D^2 + (1 - y) max(m - D, 0)^2 with y = 1 for similar pairs (Hadsell 2006). Shape of distance; float64."""
    gap = np.maximum(margin - distance, 0.0)
    return np.where(similar, distance * distance, gap * gap)


TRIPLET_LOSSES: dict[str, Callable[[Distances, Distances, float], Distances]] = {
    "triplet": triplet,
    "triplet-soft": triplet_soft,
}


def exact_sum(pieces: Iterable[NDArray[np.floating[Any]]]) -> float:
    """The sum of float32 or float64 values, rounded once: it depends neither on their order nor on the pieces."""
    total = 0
    for values in pieces:
        if not np.isfinite(values).all():
            return float(values.sum())
        part, power = np.frexp(values.astype(np.float64))
        whole = np.ldexp(part, 53).astype(np.int64)  # values = whole * 2^(power - 53)
        for half, shift in ((whole >> 26, 26), (whole & (1 << 26) - 1, 0)):  # their sums are exact up to 2^26 values
            sums = np.bincount(power - LEAST_POWER, half)
            total += sum(int(sums[at]) << at + shift for at in np.flatnonzero(sums).tolist())
    return total / (1 << 53 - LEAST_POWER)
