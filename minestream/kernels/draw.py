"""Draws: the seeded hash that every random choice is made by, and the sort keys of the picks; unit distances."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from minestream.kernels.jit import kernel

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
FNV_BASIS = np.uint64(0xCBF29CE484222325)
FNV_PRIME = np.uint64(0x100000001B3)
SIGN_BIT = np.uint64(1 << 63)
WEIGHT_CUTOFF = 0.5  # distances below count as this one (Wu 2017)
WEIGHT_END = 1.4  # distances from here on are never picked


@intrinsic
def bits_of(typing_context: Any, value: Any) -> Any:
    """The bits of a float64 as uint64."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(64))

    return types.uint64(types.float64), codegen


@intrinsic
def float_of(typing_context: Any, bits: Any) -> Any:
    """The float64 with these bits."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.DoubleType())

    return types.float64(types.uint64), codegen


@kernel(inline=True)
def mix(z: np.uint64) -> np.uint64:
    """splitmix64's finaliser M."""
    z ^= z >> np.uint64(30)
    z *= MIX_1
    z ^= z >> np.uint64(27)
    z *= MIX_2
    z ^= z >> np.uint64(31)
    return z


@kernel
def draw_prefixes(
    seed: np.uint64, tag: np.uint64, anchor_keys: np.ndarray, positive_keys: np.ndarray, out_prefix: np.ndarray
) -> None:
    """The share of m (anchor, positive) pairs in draws: draw = mix(prefix + K(candidate)). All arrays uint64[m]."""
    for i in range(anchor_keys.size):
        of_anchor = mix(mix(seed + tag * GOLDEN) + anchor_keys[i] * GOLDEN)
        out_prefix[i] = mix(of_anchor + positive_keys[i] * GOLDEN)


@kernel
def draws(prefixes: np.ndarray, candidate_keys: np.ndarray, out_draw: np.ndarray) -> None:
    """The draws of m triples: all arrays uint64[m]."""
    for i in range(prefixes.size):
        out_draw[i] = mix(prefixes[i] + candidate_keys[i])


@kernel
def text_keys(offsets: np.ndarray, data: np.ndarray, out_key: np.ndarray) -> None:
    """FNV-1a 64 of m texts: offsets int64[m + 1] into data uint8[], out_key uint64[m]."""
    for i in range(out_key.size):
        h = FNV_BASIS
        for at in range(offsets[i], offsets[i + 1]):
            h = (h ^ np.uint64(data[at])) * FNV_PRIME
        out_key[i] = h


@kernel(inline=True)
def sortable(value: float) -> np.uint64:
    """An unsigned integer that orders as the float64 does; -0.0 counts as 0.0."""
    bits = bits_of(value + 0.0)
    return ~bits if bits & SIGN_BIT else bits | SIGN_BIT


@kernel(inline=True)
def value_of(key: np.uint64) -> float:
    """The float64 whose `sortable` is key."""
    return float_of(key ^ SIGN_BIT if key & SIGN_BIT else ~key)


@kernel(inline=True)
def unit_distance(metric: int, x: float) -> float:
    """The Euclidean distance of unit rows whose distance under the metric's code is x."""
    if metric == 0:
        return math.sqrt(2.0 * x)
    if metric == 1:
        return x
    if metric == 2:
        return math.sqrt(x)
    return math.sqrt(max(0.0, 2.0 + 2.0 * x))


@kernel(inline=True)
def of_unit_distance(metric: int, distance: float) -> float:
    """The distance x under the metric's code whose unit_distance is `distance`."""
    if metric == 1:
        return distance
    square = distance * distance
    return square if metric == 2 else square / 2 - (1.0 if metric == 3 else 0.0)


@kernel
def weighted_key(dimension: int, distance: float, draw: np.uint64) -> float:
    """log(-log u) - log w, smallest first: w is the inverse density of distances on the sphere (Wu 2017, 4.2)."""
    u = (float(draw >> np.uint64(11)) + 0.5) / 9007199254740992.0
    cut = max(distance, WEIGHT_CUTOFF)
    log_weight = (2 - dimension) * math.log(cut) - ((dimension - 3) / 2) * math.log(1 - cut * cut / 4)
    return math.log(-math.log(u)) - log_weight


@kernel
def weighted_keys(metric: int, dimension: int, x: np.ndarray, draws: np.ndarray, out_key: np.ndarray) -> None:
    """The keys of m draws at distances x float64[m]; infinite from WEIGHT_END on, which is never picked."""
    for i in range(x.size):
        distance = unit_distance(metric, x[i])
        out_key[i] = weighted_key(dimension, distance, draws[i]) if distance < WEIGHT_END else math.inf


@kernel
def log_draws(draws: np.ndarray, out: np.ndarray) -> None:
    """log(-log u) of m draws."""
    for i in range(draws.size):
        u = (float(draws[i] >> np.uint64(11)) + 0.5) / 9007199254740992.0
        out[i] = math.log(-math.log(u))


@kernel
def exponentials(exponent: np.ndarray, out: np.ndarray) -> None:
    """exp of m numbers."""
    for i in range(exponent.size):
        out[i] = math.exp(exponent[i])


@kernel
def weighted_reach(dimension: int, key: float) -> float:
    """The distance from which on no draw gives a key of at most `key`; at most WEIGHT_END."""
    likeliest = np.uint64(2**64 - 1)
    low, high = WEIGHT_CUTOFF, WEIGHT_END
    for _ in range(50):
        middle = (low + high) / 2
        if weighted_key(dimension, middle, likeliest) - 1e-9 <= key:
            low = middle
        else:
            high = middle
    return high


@kernel(inline=True)
def _before(one: int, other: int, key: np.ndarray, slot: np.ndarray, rank: np.ndarray) -> bool:
    """Whether one entry comes before another by (key, rank)."""
    return key[one] < key[other] or (key[one] == key[other] and rank[slot[one]] < rank[slot[other]])


@kernel(inline=True)
def _sift(entries: np.ndarray, key: np.ndarray, slot: np.ndarray, rank: np.ndarray, at: int, count: int) -> None:
    """Let an entry of a heap of `count`, whose first is the last by (key, rank), sink to where it belongs."""
    entry = entries[at]
    while 2 * at + 1 < count:
        child = 2 * at + 1
        if child + 1 < count and _before(entries[child], entries[child + 1], key, slot, rank):
            child += 1
        if not _before(entry, entries[child], key, slot, rank):
            break
        entries[at] = entries[child]
        at = child
    entries[at] = entry


@kernel
def least_of_runs(
    start: np.ndarray, key: np.ndarray, slot: np.ndarray, rank: np.ndarray, most: int, out_entry: np.ndarray
) -> int:
    """The first `most` entries of each run by (key, rank), in this order, run after run; returns how many there are.

    Cost: a comparison an entry, and for the few that are among the first so far the logarithm of `most`.

    Parameters
    ----------
    start : int64[runs + 1]
    key : uint64[m] or float64[m]
    slot : int32[m], into rank int64[n]
    out_entry : int64[m], filled from its beginning
    """
    to = 0
    for run in range(start.size - 1):
        first, end = start[run], start[run + 1]
        own = out_entry[to : to + min(most, end - first)]
        for e in range(own.size):
            own[e] = first + e
        for at in range(own.size // 2 - 1, -1, -1):
            _sift(own, key, slot, rank, at, own.size)
        for e in range(first + own.size, end):
            if _before(e, own[0], key, slot, rank):
                own[0] = e
                _sift(own, key, slot, rank, 0, own.size)
        for last in range(own.size - 1, 0, -1):
            own[0], own[last] = own[last], own[0]
            _sift(own, key, slot, rank, 0, last)
        to += own.size
    return to
