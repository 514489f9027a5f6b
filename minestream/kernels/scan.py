"""The scan: canonical distances of every anchor to every row, with the rules on each: small inputs, last resort."""

from __future__ import annotations

import numpy as np

from minestream.kernels.distances import distances_to, load_row
from minestream.kernels.jit import kernel
from minestream.kernels.relation import lost_to_group, relation
from minestream.kernels.select import offer
from minestream.kernels.types import IN_GROUP, WITHIN, Problem, Strip

CHUNK_ROWS = 64  # rows that all anchors meet before the next ones: they stay in the cache


@kernel
def _scan(
    problem: Problem, strip: Strip, vectors: np.ndarray, at: np.ndarray, slots: np.ndarray, x: np.ndarray,
    row: np.ndarray,
) -> None:  # fmt: skip
    """scan() with its scratch; at, slots int64[m], int32[m]: the rows of the block and their slots."""
    rows, rule, pairs, best = problem
    for first in range(0, at.size, CHUNK_ROWS):
        end = min(at.size, first + CHUNK_ROWS)
        for i in range(strip.slot.size):
            a = strip.slot[i]
            distances_to(
                rule.metric, strip.vector[i], rows.square[a], vectors, rows.square, at[first:end], slots[first:end], x
            )
            for c in range(end - first):
                b = slots[first + c]
                kind = relation(rows, a, b)
                if kind != rule.wanted:
                    best.tally[IN_GROUP] += lost_to_group(kind, rule.wanted)
                    continue
                if rule.positive_duplicates == WITHIN:
                    load_row(vectors, at[first + c], row)
                for pair in range(pairs.start[i], pairs.start[i + 1]):
                    offer(problem, pair, a, b, x[c], row, strip.positive, strip.positive_at)


@kernel(allocates=True)
def scan(problem: Problem, strip: Strip, vectors: np.ndarray, slots: np.ndarray) -> None:
    """Offer some rows of a block to every pair of every anchor. Cost: A m d in float64.

    Parameters
    ----------
    problem : Problem, with pairs of the strip's anchors
    strip : Strip
    vectors : (rows, d) of any stored dtype, the rows of slots[0] ... slots[m - 1]
    slots : int32[m], ascending
    """
    at, x, row = slots.astype(np.int64) - slots[0], np.empty(CHUNK_ROWS), np.empty(vectors.shape[1])
    _scan(problem, strip, vectors, at, slots, x, row)
