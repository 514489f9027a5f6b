"""Windows of a stream: what is counted of the rows before each row."""

from __future__ import annotations

import numpy as np

from minestream.kernels.choose import POSITIVE, Rows, relation
from minestream.kernels.compiled import kernel


@kernel
def count_positives(rows: Rows, anchors: np.ndarray, out_count: np.ndarray) -> None:
    """How many positives each anchor has in its window: anchors int32[A], out_count int64[A]."""
    plain = rows.set_start.size + rows.group.size + rows.until.size == 0
    for i in range(anchors.size):
        a = anchors[i]
        count = 0
        if plain:  # a loop that becomes vector code
            label = rows.label[a]
            for b in range(rows.oldest[a], a):
                count += 1 if rows.label[b] == label else 0
            out_count[i] = count if label >= 0 else 0
        else:
            for b in range(rows.oldest[a], a):
                count += 1 if relation(rows, a, b) == POSITIVE else 0
            out_count[i] = count
