"""What `profile` counts around one anchor, from its distances to all rows, exactly."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.profile import Counts, count_margins
from minestream.kernels.types import NEGATIVE, POSITIVE
from minestream.system import ragged

Floats = NDArray[np.float64]
SUM_BITS = 62  # sums are of whole units, which add up to the same in any order


def count_anchor(
    x: Floats, kind: NDArray[np.int8], rank: NDArray[np.int64], equal: NDArray[np.bool_], edges: Floats,
    margins: Floats, a: int, out: Counts,
) -> None:  # fmt: skip
    """Count what lies around the anchor at place `a` of a batch.

    Parameters
    ----------
    x, kind, rank, equal : float64[n], int8[n], int64[n], bool[n]
        Of all rows: the distance to the anchor, what they are to it, their places in key order, and whether they equal
        it: mining takes such a positive only if there is no other.
    edges : float64[B + 1]
        Ascending.
    margins : float64[M]
        Above 0.
    out : Counts
        Written at `a`.
    """
    positives, negatives = (np.sort(x[kind == each]) for each in (POSITIVE, NEGATIVE))
    nearer, hard = (np.searchsorted(negatives, positives, side) for side in ("left", "right"))
    out.positives[a], out.negatives[a], out.hard[a] = positives.size, negatives.size, hard.sum()
    out.positive_bins[a], out.negative_bins[a] = _bins(positives, edges), _bins(negatives, edges)
    tied = positives[(nearer < hard) & (nearer + np.arange(nearer.size) < nearer.size)]
    if tied.size:  # a negative is as far as a positive: their keys decide
        near = np.flatnonzero(((kind == POSITIVE) | (kind == NEGATIVE)) & (x <= tied[-1]))
        positive = kind[near[np.lexsort((rank[near], x[near]))]] == POSITIVE
        before = np.cumsum(~positive)[positive]
        nearer[: before.size] = before
    out.precision[a] = _precision(nearer)
    low, unit, total = _sums(x, negatives, float(positives[-1] + margins.max()) if positives.size else -math.inf)
    taken = x[(kind == POSITIVE) & ~equal]
    easiest = int(np.searchsorted(positives, taken.min())) if taken.size else 0
    count_margins(positives, negatives, hard, total, (low, unit), margins, (a, easiest), out)


def _bins(values: Floats, edges: Floats) -> NDArray[np.int64]:
    """Ascending values by bin, closed below and open above; the first and the last bin hold what lies outside, too."""
    return np.diff(np.searchsorted(values, edges[1:-1]), prepend=0, append=values.size)


def _precision(nearer: NDArray[np.int64]) -> float:
    """Average precision at R = the number of positives, from how many negatives come before each."""
    found = np.arange(1, nearer.size + 1)
    hits = found / (nearer + found)
    return float(np.cumsum(hits[nearer + found <= nearer.size])[-1:].sum() / max(1, nearer.size))


def _sums(x: Floats, negatives: Floats, farthest: float) -> tuple[float, float, NDArray[np.int64]]:
    """The least distance, units a distance of 1, and int64[n + 1], the sum of the first i negatives, less it, in units.

    Whole units add up to the same in any order. Negatives count as at most `farthest`, beyond which no loss reaches:
    one far row would leave the others few units.
    """
    low, high = float(x.min()), float(x.max())
    far = max(low, min(high, farthest))
    unit = 2.0 ** (SUM_BITS - math.ceil(math.log2(x.size + 1.0))) / (far - low) if far > low else 0.0
    if unit == math.inf:
        unit = 0.0
    units = np.minimum(negatives, far)
    units -= low
    units *= unit
    return low, unit, ragged.starts(units.astype(np.int64))
