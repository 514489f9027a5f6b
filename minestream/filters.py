"""Filters on similarity, as closed intervals of canonical distances: then every search applies them inside the scan."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from minestream.config import MineConfig
from minestream.positives import Chosen

Floats = NDArray[np.float64]
Interval = tuple[Floats, Floats]


def similarity(metric: str, x: Floats) -> Floats:
    """Similarity of canonical distances: 1 - x for cosine, -x for dot."""
    return 1.0 - x if metric == "cosine" else -x


def reference_similarity(config: MineConfig, chosen: Chosen, p: Floats, every: Chosen, every_p: Floats) -> Floats:
    """What margins are measured from, for every chosen pair.

    Parameters
    ----------
    chosen, p : the pairs, and their distances (own, or the guide's)
    every, every_p : all positives of the same anchors, and theirs; read unless the reference is pair
    """
    s = similarity(config.metric, p)
    if config.reference == "pair":
        return s
    of_every = similarity(config.metric, every_p)
    own = zip(every.start[:-1].tolist(), every.start[1:].tolist(), strict=True)
    reduce = REDUCERS[config.reference]
    values = np.array([reduce(of_every[first:end]) if end > first else math.nan for first, end in own], np.float64)
    return np.repeat(values, np.diff(chosen.start))


REDUCERS: dict[str, Callable[[Floats], float]] = {
    "min": lambda s: float(s.min()),
    "max": lambda s: float(s.max()),
    "mean": lambda s: math.fsum(s) / s.size,
}


def filter_interval(config: MineConfig, reference: Floats) -> Interval:
    """The closed interval of distances that the filters let through, for every pair."""
    most, least = np.full(reference.size, np.inf), np.full(reference.size, -np.inf)
    if config.max_similarity is not None:
        most = np.minimum(most, config.max_similarity)
    if config.absolute_margin is not None:
        most = np.minimum(most, reference - config.absolute_margin)
    if config.relative_margin is not None:
        most = np.minimum(most, reference - np.abs(reference) * config.relative_margin)
    if config.min_similarity is not None:
        least = np.maximum(least, config.min_similarity)
    if config.metric == "dot":
        return -most, -least
    return least_distance(lambda x: 1.0 - x <= most, most.size), largest_distance(
        lambda x: 1.0 - x >= least, least.size
    )


def least_distance(holds: Callable[[Floats], NDArray[np.bool_]], count: int) -> Floats:
    """The least cosine distance, 0 to 2, at which a predicate holds that holds from there on; inf where it never does.

    By bisection over the bits of doubles, which are ordered as the numbers are. Cost: 62 evaluations.
    """
    low, high = np.zeros(count, np.int64), np.full(count, np.float64(2.0).view(np.int64))
    never = ~holds(np.full(count, 2.0))
    while (low < high).any():
        middle = low + (high - low) // 2
        good = holds(middle.view(np.float64))
        high, low = np.where(good, middle, high), np.where(good, low, np.minimum(middle + 1, high))
    return np.where(never, np.inf, high.view(np.float64))


def largest_distance(holds: Callable[[Floats], NDArray[np.bool_]], count: int) -> Floats:
    """The largest cosine distance, 0 to 2, at which a predicate holds that holds up to there; or -inf."""
    beyond = least_distance(lambda x: ~holds(x), count)
    return np.where(np.isinf(beyond), 2.0, np.where(beyond == 0, -np.inf, np.nextafter(beyond, -np.inf)))
