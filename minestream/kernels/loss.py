"""Losses that need exp and log1p: scalar libm calls, so that every platform path gives the same bits."""

from __future__ import annotations

import math

import numpy as np

from minestream.kernels.compiled import kernel


@kernel
def softplus(z: np.ndarray, out: np.ndarray) -> None:
    """log(1 + exp(z)) without overflow: z and out float64[m]."""
    for i in range(z.size):
        out[i] = max(z[i], 0.0) + math.log1p(math.exp(-abs(z[i])))
