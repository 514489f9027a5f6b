"""The scan: canonical distances of every anchor to every row, with the rules on each: small inputs, last resort."""

from __future__ import annotations

import numpy as np

from minestream.kernels.distances import distances_to
from minestream.kernels.jit import kernel
from minestream.kernels.relation import relation
from minestream.kernels.select import offer
from minestream.kernels.types import (
    GROUP_NEGATIVE,
    GROUP_POSITIVE,
    IN_GROUP,
    NEGATIVE,
    POSITIVE,
    WITHIN,
    Best,
    Pairs,
    Rows,
    Rule,
)

CHUNK_ROWS = 64  # rows that all anchors meet before the next ones: they stay in the cache


@kernel
def _scan(
    rows: Rows,
    rule: Rule,
    pairs: Pairs,
    best: Best,
    anchors: np.ndarray,
    anchor_vectors: np.ndarray,
    positives: np.ndarray,
    positive_at: np.ndarray,
    vectors: np.ndarray,
    at: np.ndarray,
    slots: np.ndarray,
    total: np.ndarray,
    x: np.ndarray,
    row: np.ndarray,
) -> None:
    """scan() with its scratch; at, slots int64[m], int32[m]: the rows of the block and their slots."""
    for first in range(0, at.size, CHUNK_ROWS):
        end = min(at.size, first + CHUNK_ROWS)
        for i in range(anchors.size):
            a = anchors[i]
            distances_to(
                rule.metric, anchor_vectors[i], rows.square[a], vectors, rows.square, at[first:end], slots[first:end],
                total,
                x,
            )  # fmt: skip
            for c in range(end - first):
                b = slots[first + c]
                kind = relation(rows, a, b)
                if kind != rule.wanted:
                    if (kind == GROUP_POSITIVE and rule.wanted == POSITIVE) or (
                        kind == GROUP_NEGATIVE and rule.wanted == NEGATIVE
                    ):
                        best.tally[IN_GROUP] += 1
                    continue
                if rule.positive_duplicates == WITHIN:
                    for j in range(row.size):
                        row[j] = np.float64(vectors[at[first + c], j])
                for pair in range(pairs.start[i], pairs.start[i + 1]):
                    offer(rows, rule, pairs, best, pair, a, b, x[c], row, positives, positive_at)


@kernel(allocates=True)
def scan(
    rows: Rows,
    rule: Rule,
    pairs: Pairs,
    best: Best,
    anchors: np.ndarray,
    anchor_vectors: np.ndarray,
    positives: np.ndarray,
    positive_at: np.ndarray,
    vectors: np.ndarray,
    slots: np.ndarray,
) -> None:
    """Offer some rows of a block to every pair of every anchor. Cost: A m d in float64.

    Parameters
    ----------
    anchors : int32[A], slots
    anchor_vectors : float64 (A, d)
    positives, positive_at : float64 (m, d), int64[pairs], as in choose.offer
    vectors : (rows, d) of any stored dtype, the rows of slots[0] ... slots[m - 1]
    slots : int32[m], ascending
    """
    _scan(
        rows, rule, pairs, best, anchors, anchor_vectors, positives, positive_at, vectors,
        slots.astype(np.int64) - slots[0], slots, np.empty(8, np.float64), np.empty(CHUNK_ROWS, np.float64),
        np.empty(vectors.shape[1], np.float64),
    )  # fmt: skip
