"""Two small things to learn from nothing: short texts by their source, and pictures of clothes by their class.

Each sets some labels aside: training never sees them, and recall@1 among their rows is the figure.
"""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import data
import numpy as np
import pyarrow.parquet as pq
import torch
from torch import nn

WORDS = 1 << 17  # words are hashed to so many
WIDTH = 96  # of embedded texts
TEXTS_OF_A_SOURCE = (2, 40)
ASIDE = 0.3  # of the labels
PICTURES, PICTURE_PAIRS = 12_000, 2_048  # rows there are, and pairs an epoch
AT_ONCE = 4_096  # rows that are embedded together


class Task:
    """Rows with labels, of which some are set aside, and a model that embeds them.

    Attributes
    ----------
    label : int (n,)
    training, aside : int
        Rows of the labels that are learned, and of the others.
    """

    name: str
    epochs: int
    cells: int  # of the approximate search
    label: np.ndarray
    training: np.ndarray
    aside: np.ndarray

    def split(self, seed: int) -> None:
        """Set labels aside."""
        labels = np.unique(self.label)
        aside = np.random.default_rng(seed).permutation(labels)[: round(ASIDE * labels.size)]
        held = np.isin(self.label, aside)
        self.training, self.aside = np.flatnonzero(~held), np.flatnonzero(held)

    def pairs(self, rng: np.random.Generator) -> np.ndarray:
        """The (anchor, positive) rows of an epoch, int (pairs, 2): of one label each."""
        raise NotImplementedError

    def model(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        """A new model and what trains it."""
        raise NotImplementedError

    def forward(self, model: nn.Module, rows: np.ndarray) -> torch.Tensor:
        """The embedded rows, of length 1."""
        raise NotImplementedError

    def embedded(self, model: nn.Module, rows: np.ndarray) -> np.ndarray:
        """The embedded rows as float32, without gradients."""
        with torch.no_grad():
            parts = [self.forward(model, rows[at : at + AT_ONCE]) for at in range(0, rows.size, AT_ONCE)]
        return torch.cat(parts).numpy()


class Texts(Task):
    """Descriptions of packages; those built from one source are alike. Hashed words, averaged: no word is known."""

    name, epochs, cells = "texts", 6, 12

    def __init__(self, path: Path) -> None:
        table = pq.read_table(path, columns=["source", "text"])
        source = table["source"].combine_chunks().dictionary_encode().indices.to_numpy()
        count = np.bincount(source)[source]
        kept = np.flatnonzero((count >= TEXTS_OF_A_SOURCE[0]) & (count <= TEXTS_OF_A_SOURCE[1]))
        self.label = np.unique(source[kept], return_inverse=True)[1]
        texts = table["text"].take(kept).to_pylist()
        words = [[zlib.crc32(word.encode()) % WORDS for word in re.findall(r"[a-z0-9+]+", text.lower())] or [0]
                 for text in texts]  # fmt: skip
        self.words = [np.array(each, np.int64) for each in words]

    def pairs(self, rng: np.random.Generator) -> np.ndarray:
        """Two texts of each source."""
        mixed = rng.permutation(self.training)
        mixed = mixed[np.argsort(self.label[mixed], kind="stable")]
        first = np.flatnonzero(np.diff(self.label[mixed], prepend=-1))
        return rng.permutation(np.stack([mixed[first], mixed[first + 1]], axis=1))

    def model(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        bag = nn.EmbeddingBag(WORDS, WIDTH, mode="mean", sparse=True)
        nn.init.normal_(bag.weight, std=0.1)
        return bag, torch.optim.SparseAdam(list(bag.parameters()), lr=0.01)

    def forward(self, model: nn.Module, rows: np.ndarray) -> torch.Tensor:
        words = [self.words[row] for row in rows]
        start = np.cumsum([0, *map(len, words[:-1])])
        found: torch.Tensor = model(torch.from_numpy(np.concatenate(words)), torch.from_numpy(start))
        return nn.functional.normalize(found)


class Pictures(Task):
    """Pictures of 28 x 28 points by class, in a small convolutional network."""

    name, epochs, cells = "pictures", 5, 40

    def __init__(self, path: Path) -> None:
        table = pq.read_table(path, columns=["label", "embedding"])
        some = data.sample_rows(table.num_rows, PICTURES)
        self.label = table["label"].to_numpy()[some]
        self.points = torch.from_numpy(data.matrix(table["embedding"])[some].reshape(-1, 1, 28, 28))

    def pairs(self, rng: np.random.Generator) -> np.ndarray:
        """Some rows, each with another of its class."""
        anchor = rng.permutation(self.training)[:PICTURE_PAIRS]
        of_class = {label: self.training[self.label[self.training] == label] for label in np.unique(self.label)}
        positive = anchor.copy()
        while (same := np.flatnonzero(positive == anchor)).size:
            positive[same] = [rng.choice(of_class[self.label[row]]) for row in anchor[same]]
        return np.stack([anchor, positive], axis=1)

    def model(self) -> tuple[nn.Module, torch.optim.Optimizer]:
        layers = nn.Sequential(
            nn.Conv2d(1, 12, 5, stride=2, padding=2), nn.ReLU(), nn.Conv2d(12, 24, 3, stride=2, padding=1), nn.ReLU(),
            nn.Flatten(), nn.Linear(24 * 49, 48),
        )  # fmt: skip
        return layers, torch.optim.Adam(layers.parameters(), lr=0.001)

    def forward(self, model: nn.Module, rows: np.ndarray) -> torch.Tensor:
        return nn.functional.normalize(model(self.points[torch.from_numpy(rows)]))
