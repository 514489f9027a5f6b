"""The scan: canonical distances of every anchor to every row, with the rules on each: small inputs, last resort."""

from __future__ import annotations

import numpy as np

from minestream.kernels.choose import (
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
    offer,
    relation,
)  # fmt: skip
from minestream.kernels.compiled import kernel
from minestream.kernels.exact import distance, uses_differences

COLUMNS = 32  # rows whose distances are computed side by side, one SIMD lane each


@kernel
def _widen(vectors: np.ndarray, first: int, out_columns: np.ndarray) -> int:
    """Up to COLUMNS rows as float64, transposed: out_columns float64 (d, COLUMNS); returns how many."""
    count = min(COLUMNS, vectors.shape[0] - first)
    for j in range(vectors.shape[1]):
        for c in range(count):
            out_columns[j, c] = np.float64(vectors[first + c, j])
        for c in range(count, COLUMNS):
            out_columns[j, c] = 0.0
    return count


@kernel
def _totals(metric: int, anchor: np.ndarray, columns: np.ndarray, out_total: np.ndarray) -> None:
    """The sums over coordinates of one anchor to COLUMNS rows; vector lanes are rows, so each sum keeps its order."""
    for c in range(COLUMNS):
        out_total[c] = 0.0
    if uses_differences(metric):
        for j in range(anchor.size):
            for c in range(COLUMNS):
                t = anchor[j] - columns[j, c]
                out_total[c] += t * t
    else:
        for j in range(anchor.size):
            for c in range(COLUMNS):
                out_total[c] += anchor[j] * columns[j, c]


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
    first_slot: int,
    columns: np.ndarray,
    total: np.ndarray,
    row: np.ndarray,
) -> None:
    """scan() with its scratch."""
    d = vectors.shape[1]
    for first in range(0, vectors.shape[0], COLUMNS):
        count = _widen(vectors, first, columns)
        for i in range(anchors.size):
            a = anchors[i]
            _totals(rule.metric, anchor_vectors[i], columns, total)
            for c in range(count):
                b = first_slot + first + c
                kind = relation(rows, a, b)
                if kind != rule.wanted:
                    if (kind == GROUP_POSITIVE and rule.wanted == POSITIVE) or (
                        kind == GROUP_NEGATIVE and rule.wanted == NEGATIVE
                    ):
                        best.tally[IN_GROUP] += 1
                    continue
                x = distance(rule.metric, total[c], rows.square[a], rows.square[b])
                if rule.positive_duplicates == WITHIN:
                    for j in range(d):
                        row[j] = columns[j, c]
                for pair in range(pairs.start[i], pairs.start[i + 1]):
                    offer(rows, rule, pairs, best, pair, a, b, x, row, positives, positive_at)


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
    first_slot: int,
) -> None:
    """Offer every row of a block to every pair of every anchor. Cost: A m d in float64.

    Parameters
    ----------
    anchors : int32[A], slots
    anchor_vectors : float64 (A, d)
    positives, positive_at : float64 (m, d), int64[pairs], as in choose.offer
    vectors : (m, d) of any stored dtype, the rows of slots first_slot ...
    """
    d = vectors.shape[1]
    columns, total = np.empty((d, COLUMNS), np.float64), np.empty(COLUMNS, np.float64)
    row = np.empty(d, np.float64)
    _scan(
        rows, rule, pairs, best, anchors, anchor_vectors, positives, positive_at, vectors, first_slot, columns, total,
        row,
    )  # fmt: skip
