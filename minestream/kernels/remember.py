"""Candidates that are known beforehand, offered to the pairs of a search; and 128 bits for what a row holds."""

from __future__ import annotations

import numpy as np

from minestream.kernels.choose import Best, Pairs, Rows, Rule, offer
from minestream.kernels.compiled import kernel
from minestream.kernels.draw import GOLDEN, mix


@kernel
def offer_lists(
    rows: Rows, rule: Rule, pairs: Pairs, best: Best, anchors: np.ndarray, start: np.ndarray, slot: np.ndarray,
    x: np.ndarray, row: np.ndarray, positives: np.ndarray, at: np.ndarray,
) -> None:  # fmt: skip
    """Offer each anchor's list to all of its pairs; cost: the lengths of the lists, once a pair.

    Parameters
    ----------
    pairs, best : those of the anchors, int32[A]; the lists hold the wanted relation only
    start, slot, x : int64[n + 1], int32[], float64[], by slot of the anchor; x canonical
    row, positives, at : as offer() takes them; of `row` only the length is read
    """
    for i in range(anchors.size):
        a = anchors[i]
        for pair in range(pairs.start[i], pairs.start[i + 1]):
            for entry in range(start[a], start[a + 1]):
                offer(rows, rule, pairs, best, pair, a, slot[entry], x[entry], row, positives, at)


@kernel
def row_contents(bits: np.ndarray, out_content: np.ndarray) -> None:
    """Take every row's bits into its content: bits uint (m, d), out_content uint64 (m, 2), which holds where to begin.

    The two halves go through different chains, so that both meet by chance only.
    """
    for i in range(bits.shape[0]):
        one, other = out_content[i, 0], out_content[i, 1]
        for j in range(bits.shape[1]):
            word = np.uint64(bits[i, j])
            one = mix(one + GOLDEN + word)
            other = mix((other ^ word) * GOLDEN + np.uint64(j))
        out_content[i, 0], out_content[i, 1] = one, other
