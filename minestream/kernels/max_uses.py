"""Deals negatives out so that none is used too often."""

from __future__ import annotations

import numpy as np

from minestream.kernels.jit import kernel


@kernel
def deal_uses(
    order: np.ndarray,
    start: np.ndarray,
    negative: np.ndarray,
    most: int,
    take: int,
    uses: np.ndarray,
    out_keep: np.ndarray,
) -> None:
    """Let each pair, in turn, take the first `take` of its negatives that were taken fewer than `most` times.

    Parameters
    ----------
    order : int64[pairs], the turns
    start, negative : int64[pairs + 1], int64[entries]: the reserve of each pair, best first, none twice
    uses : int64[candidates], counted up
    out_keep : bool[entries]
    """
    for turn in range(order.size):
        pair = order[turn]
        taken = 0
        for entry in range(start[pair], start[pair + 1]):
            if taken == take:
                break
            if uses[negative[entry]] < most:
                uses[negative[entry]] += 1
                out_keep[entry] = True
                taken += 1
