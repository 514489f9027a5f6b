"""Keys of rows and their order, which break ties and seed every draw."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.kernels import draw

TAG_POSITIVES, TAG_NEGATIVES, TAG_ANCHORS = 1, 2, 3


def draw_keys(ids: pa.Array | None, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The key of every row, uint64[n]: the bits of its id, the hash of a text id, or the row number."""
    if ids is None:
        return rows.astype(np.uint64)
    if not pa.types.is_string(ids.type):
        return np.array(ids, np.int64).view(np.uint64)  # a copy, since read-only arrays would compile kernels again
    texts = ids.cast(pa.large_string())
    _, offsets, data = texts.buffers()
    start = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    letters = np.frombuffer(data, np.uint8) if data is not None else np.empty(0, np.uint8)
    out = np.empty(len(texts), np.uint64)
    draw.text_keys(start, letters, out)
    return out


def key_ranks(ids: pa.Array | None, count: int) -> NDArray[np.int64]:
    """The rank of every row in key order, int64[n]: ints by value, strings by UTF-8 bytes, else by row number."""
    if ids is None:
        return np.arange(count, dtype=np.int64)
    order = np.asarray(pc.sort_indices(ids), np.int64)
    rank = np.empty(count, np.int64)
    rank[order] = np.arange(count)
    return rank


def prefixes(
    seed: int, tag: int, anchor_keys: NDArray[np.uint64], positive_keys: NDArray[np.uint64]
) -> NDArray[np.uint64]:
    """The part of the draws of m (anchor, positive) pairs that does not depend on the candidate, uint64[m]."""
    out = np.empty(anchor_keys.size, np.uint64)
    draw.draw_prefixes(np.uint64(seed % 2**64), np.uint64(tag), anchor_keys, positive_keys, out)
    return out


def anchor_draws(seed: int, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Draw 3 of every row, uint64[n]."""
    zeros = np.zeros(keys.size, np.uint64)
    out = np.empty(keys.size, np.uint64)
    draw.draws(prefixes(seed, TAG_ANCHORS, keys, zeros), zeros, out)
    return out


@dataclass(frozen=True)
class Keys:
    """Keys (draw_key uint64[rows]) and key order (rank int64[rows]) of the source rows of one table."""

    draw_key: NDArray[np.uint64]
    rank: NDArray[np.int64]
