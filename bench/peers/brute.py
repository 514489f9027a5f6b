"""What peers are checked against: float64 brute force, block by block."""

from __future__ import annotations

import numpy as np

BLOCK_ROWS = 512
TOLERANCE = 1e-5  # of a similarity computed in float32
LEAST_RECALL = 0.8  # of an approximate search that works


class WrongAnswer(Exception):
    """A peer that does not compute what it claims is not timed."""


def normalised(vectors: np.ndarray) -> np.ndarray:
    """Rows divided by their norms, float32, in place; rows of zeros stay."""
    norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float32))
    norms[norms == 0] = 1
    vectors /= norms[:, None]
    return vectors


def similarities(vectors: np.ndarray) -> np.ndarray:
    """All cosine similarities in float64 (n, n): of samples only."""
    exact = vectors.astype(np.float64)
    norms = np.linalg.norm(exact, axis=1, keepdims=True)
    exact /= np.where(norms == 0, 1, norms)
    return exact @ exact.T


def nearest(vectors: np.ndarray, labels: np.ndarray | None, k: int) -> np.ndarray:
    """Similarities of the k nearest rows of every row, descending, float64 (n, k); with labels only of other labels."""
    found = similarities(vectors)
    if labels is not None:
        found[labels[:, None] == labels[None, :]] = -np.inf
    return -np.sort(-found, axis=1)[:, :k]


def check_nearest(vectors: np.ndarray, labels: np.ndarray | None, k: int, found: np.ndarray, rows: np.ndarray) -> None:
    """Compare similarities (n, k) and the rows they belong to with brute force.

    Raises
    ------
    WrongAnswer
        When a similarity is off by more than TOLERANCE, or a row has another one than was said.
    """
    expected = nearest(vectors, labels, k)
    if found.shape != expected.shape or not np.allclose(found, expected, rtol=0, atol=TOLERANCE):
        raise WrongAnswer("the similarities are not those of the nearest rows")
    named = np.take_along_axis(similarities(vectors), rows, axis=1)
    if not np.allclose(np.where(np.isfinite(found), named, found), found, rtol=0, atol=TOLERANCE):
        raise WrongAnswer("the rows do not have the similarities that were said")


def recall(vectors: np.ndarray, labels: np.ndarray | None, k: int, found: np.ndarray, of: np.ndarray) -> float:
    """The share of the nearest rows that were found (n, k), for the rows `of`; a row is no answer to itself.

    With labels the nearest are the k of other labels, without them the k - 1 others.
    """
    unit = normalised(vectors.astype(np.float32))
    hits = total = 0
    for first in range(0, len(of), BLOCK_ROWS):
        own = of[first : first + BLOCK_ROWS]
        block = unit[own].astype(np.float64) @ unit.T.astype(np.float64)
        block[np.arange(len(own)), own] = -np.inf
        if labels is not None:
            block[labels[own][:, None] == labels[None, :]] = -np.inf
        wanted = k if labels is not None else k - 1
        edge = -np.partition(-block, wanted - 1, axis=1)[:, wanted - 1]
        named = np.take_along_axis(block, np.maximum(found[own], 0), axis=1)
        hits += int(((named >= edge[:, None] - TOLERANCE) & (found[own] >= 0)).sum(axis=1).clip(max=wanted).sum())
        total += wanted * len(own)
    return hits / total


def check_recall(vectors: np.ndarray, labels: np.ndarray | None, k: int, rows: np.ndarray) -> None:
    """Raise WrongAnswer unless an approximate answer (n, k) has most of the nearest rows."""
    share = recall(vectors, labels, k, rows, np.arange(len(vectors)))
    if share < LEAST_RECALL:
        raise WrongAnswer(f"only {share:.1%} of the nearest rows were found")


def pairs_of(rows: np.ndarray, valid: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Neighbours (n, k) as anchors and negatives, without the anchor itself and what is not `valid`."""
    anchors = np.repeat(np.arange(len(rows)), rows.shape[1])
    others = rows.ravel()
    kept = anchors != others
    if valid is not None:
        kept &= valid.ravel()
    return anchors[kept], others[kept]
