"""sentence-transformers mine_hard_negatives, with faiss, as its documentation recommends (relative_margin = 0.05).

A stub model looks vectors up, so that no time goes into encoding. The texts are row numbers. It knows no labels: of
every row it is told one positive, the nearest row with its label, and takes all others for negatives.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from datasets import Dataset, disable_progress_bars
from sentence_transformers.util import mine_hard_negatives

from peers import brute, faiss_flat

CLAIM = "k rows at least 5 % less similar than the positive, among the 10 k + 2 nearest; their labels are not looked at"
MARGIN = 0.05
OVERFETCH = 10  # it fetches 10 k + 2 neighbours of a row with one positive, and filters those
EDGE_SHARE = 0.01  # rows whose answer may hang on the rounding of a similarity beside the margin


class StubModel:
    """What mine_hard_negatives asks of a model."""

    device = torch.device("cpu")

    def __init__(self, unit: np.ndarray) -> None:
        self._unit = unit

    def encode_query(self, texts: list[str], **options: Any) -> np.ndarray:
        """The rows that the texts name."""
        return self._unit[np.array(texts, np.int64)]

    encode_document = encode_query

    def get_embedding_dimension(self) -> int:
        """Coordinates of a row."""
        return int(self._unit.shape[1])

    def similarity_pairwise(self, left: np.ndarray, right: np.ndarray) -> torch.Tensor:
        """The similarity of each row to the one beside it."""
        return torch.from_numpy(np.einsum("ij,ij->i", left, right))


class Prepared(NamedTuple):
    """The arguments of the miner, but for k."""

    pairs: Dataset
    model: Any  # a StubModel is all that the miner needs
    corpus: list[str]


class Found(NamedTuple):
    """The rows of its answer, and what it was told."""

    triplets: Dataset
    positive: np.ndarray  # of each row; -1 where the label has no other


def prepare(vectors: np.ndarray, labels: np.ndarray, threads: int) -> Prepared:
    """Texts, and the nearest row with the same label as the positive of each."""
    faiss_flat.settle(threads)
    torch.set_num_threads(threads)
    disable_progress_bars()
    unit = brute.normalised(vectors)
    positive = nearest_alike(unit, labels)
    anchors = np.flatnonzero(positive >= 0)
    columns = {"anchor": anchors.astype(str).tolist(), "positive": positive[anchors].astype(str).tolist()}
    return Prepared(Dataset.from_dict(columns), StubModel(unit), np.arange(len(unit)).astype(str).tolist())


def nearest_alike(unit: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The nearest other row with the same label, -1 where there is none; int64 (n,)."""
    positive = np.full(len(unit), -1)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        for first in range(0, len(rows), brute.BLOCK_ROWS):
            own = rows[first : first + brute.BLOCK_ROWS]
            block = unit[own] @ unit[rows].T
            block[np.arange(len(own)), first + np.arange(len(own))] = -np.inf
            positive[own] = rows[block.argmax(axis=1)] if len(rows) > 1 else -1
    return positive


def search(prepared: Prepared, k: int) -> Found:
    """Its triplets: at most k an anchor."""
    triplets = mine_hard_negatives(
        prepared.pairs, prepared.model, corpus=prepared.corpus, num_negatives=k, relative_margin=MARGIN,
        use_faiss=True, verbose=False,
    )  # fmt: skip
    positive = np.full(len(prepared.corpus), -1)
    positive[np.array(prepared.pairs["anchor"], np.int64)] = np.array(prepared.pairs["positive"], np.int64)
    return Found(triplets, positive)


def pairs(found: Found) -> tuple[np.ndarray, np.ndarray]:
    """Anchors and negatives."""
    return np.array(found.triplets["anchor"], np.int64), np.array(found.triplets["negative"], np.int64)


def check(vectors: np.ndarray, labels: np.ndarray, k: int, found: Found) -> None:
    """Raise WrongAnswer unless almost all rows have the negatives that CLAIM says."""
    similarity = brute.similarities(vectors)
    anchors, negatives = pairs(found)
    wrong = 0
    for anchor in np.flatnonzero(found.positive >= 0):
        reference = similarity[anchor, found.positive[anchor]]
        fetched = np.argsort(-similarity[anchor])[: OVERFETCH * k + 2]
        fetched = fetched[fetched != found.positive[anchor]]
        own = similarity[anchor, fetched]
        expected = own[own <= reference - abs(reference) * MARGIN][:k]
        answer = np.sort(similarity[anchor, negatives[anchors == anchor]])[::-1]
        wrong += len(answer) != len(expected) or np.abs(answer - expected).max(initial=0) > brute.TOLERANCE
    if wrong > EDGE_SHARE * len(vectors):
        raise brute.WrongAnswer(f"{wrong} of {len(vectors)} rows have other negatives than it says it takes")
