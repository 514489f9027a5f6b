"""The similarity filters: the references of margins, and the similarities that pass, also as distances."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from minestream.config.mine_config import MineConfig

Floats = NDArray[np.float64]
Interval = tuple[Floats, Floats]
FILTERS: dict[str, Callable[[float, Floats], tuple[float | Floats, float | Floats]]] = {
    "max_similarity": lambda bound, reference: (-math.inf, bound),
    "min_similarity": lambda bound, reference: (bound, math.inf),
    "absolute_margin": lambda margin, reference: (-math.inf, reference - margin),
    "relative_margin": lambda share, reference: (-math.inf, reference - np.abs(reference) * share),
}  # the option -> the lowest and the highest similarity that passes
REDUCERS: dict[str, Callable[[Floats], float]] = {
    "min": lambda s: float(s.min()),
    "max": lambda s: float(s.max()),
    "mean": lambda s: math.fsum(s) / s.size,
}


def similarity(metric: str, x: Floats) -> Floats:
    """Similarity of canonical distances: 1 - x for cosine, -x for dot."""
    return 1.0 - x if metric == "cosine" else -x


def references(reference: str, s: Floats, start: NDArray[np.int64]) -> Floats:
    """The similarity that margins are measured from, for each list of similarities; NaN for an empty one."""
    reduce = REDUCERS[reference]
    return np.array([reduce(s[a:b]) if b > a else math.nan for a, b in pairwise(start.tolist())], np.float64)


def bounds(rule: object, reference: Floats) -> Iterator[tuple[str, float | Floats, float | Floats]]:
    """The filters set in the fields of `rule`, each with the lowest and the highest similarity that passes."""
    given = ((name, getattr(rule, name)) for name in FILTERS)
    return ((name, *FILTERS[name](value, reference)) for name, value in given if value is not None)


def filter_interval(config: MineConfig, reference: Floats) -> Interval:
    """The closed interval of distances that pass the filters, for every pair."""
    most, least = np.full(reference.size, np.inf), np.full(reference.size, -np.inf)
    for _, low, high in bounds(config, reference):
        most, least = np.minimum(most, high), np.maximum(least, low)
    if config.metric == "dot":
        return -most, -least
    return least_distance(lambda x: 1.0 - x <= most, most.size), largest_distance(
        lambda x: 1.0 - x >= least, least.size
    )


def positive_interval(config: MineConfig) -> tuple[float, float]:
    """The closed interval of distances that --min-positive-similarity and --max-positive-similarity let through."""
    least, most = (
        default if bound is None else bound
        for bound, default in ((config.min_positive_similarity, -np.inf), (config.max_positive_similarity, np.inf))
    )
    if config.metric != "cosine":
        return -most, -least
    low, high = least_distance(lambda x: 1.0 - x <= most, 1), largest_distance(lambda x: 1.0 - x >= least, 1)
    return float(low[0]), float(high[0])


def simans_exponents(config: MineConfig, p: Floats, x: Floats) -> Floats:
    """The logarithms of the weights of --pick simans, for negatives at distances x and their positives at p."""
    gap = (similarity(config.metric, x) - similarity(config.metric, p)) - config.simans_b
    return -(config.simans_a * (gap * gap))


def least_distance(holds: Callable[[Floats], NDArray[np.bool_]], count: int) -> Floats:
    """The least cosine distance, 0 to 2, from which on a predicate holds; inf where it never does.

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
    """The largest cosine distance, 0 to 2, up to which a predicate holds; -inf where it never does."""
    beyond = least_distance(lambda x: ~holds(x), count)
    return np.where(np.isinf(beyond), 2.0, np.where(beyond == 0, -np.inf, np.nextafter(beyond, -np.inf)))
