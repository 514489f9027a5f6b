"""Does it matter which rows a model is trained on against each other? Two models, trained from nothing in nine ways.

    python bench/bench_proof.py DEBIAN.parquet FASHION.parquet [--runs 5]

The texts of the first file are learned by their source, the pictures of the second by their class, with the loss that
takes the rest of the batch for negatives. Every way makes as many steps, but for the control of compute, which makes
half as many again. Three tenths of the labels are set aside; the figure is recall@1 among their rows. Mining and
composing are minestream's own, before each epoch but the first. Each run draws labels, pairs and weights anew, alike
for all ways. The approximate neighbours are those of an inverted file, whose cells lie around rows drawn by chance.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import data
import numpy as np
import pyarrow.parquet as pq
import torch
from bench_fit import recall_at_1
from common import THREADS, question_parser, write_results
from tasks import Pictures, Task, Texts

import minestream
from minestream.integrations.batches import Batches

BATCH = 64
TEMPERATURE = 0.07
POOL = 256  # pairs among which the hardest negative is looked for, where not among all
QUIET: dict[str, Any] = {"overwrite": True, "progress": "none", "threads": 1}


class Epoch(NamedTuple):
    """What an epoch is trained on.

    Attributes
    ----------
    pairs : int (m, 2)
        Anchors and positives, rows of the task.
    batches : list of int arrays
        The pairs that meet.
    negative : int (m,) or None
        The mined row of each pair; -1: none.
    missed : float
        The share of pairs whose negative is not the hardest, of an approximate search.
    """

    pairs: np.ndarray
    batches: list[np.ndarray]
    negative: np.ndarray | None = None
    missed: float = 0.0


class Ends(NamedTuple):
    """Both ends of the pairs of an epoch, embedded, their labels, and how many cells an approximate search makes."""

    pairs: np.ndarray
    anchor: np.ndarray
    positive: np.ndarray
    label: np.ndarray
    cells: int


def as_they_come(count: int) -> list[np.ndarray]:
    """Full batches of pairs in their order."""
    return [np.arange(at, at + BATCH) for at in range(0, count - BATCH + 1, BATCH)]


def mined(ends: Ends, folder: Path, **options: Any) -> tuple[Path, Epoch]:
    """The pairs of the miner: each anchor with a positive of its label, and with the hardest negative there is."""
    tables, out = [folder / name for name in ("anchors.parquet", "positives.parquet")], folder / "mined.parquet"
    rows = np.arange(len(ends.label))
    data.write(tables[0], ends.anchor, ends.label, rows)
    data.write(tables[1], ends.positive, ends.label, rows + rows.size)
    how = {"band": "any", "positives": "random", "emit": "tuples"} | options
    minestream.mine(tables[0], out, corpus=tables[1], **how, **QUIET)
    found = pq.read_table(out, columns=["query_row", "positive_row", "negative_rows"])
    anchor, positive = found["query_row"].to_numpy(), found["positive_row"].to_numpy()
    pairs = np.stack([ends.pairs[anchor, 0], ends.pairs[positive, 1]], axis=1)
    negative = ends.pairs[np.array([each[0] for each in found["negative_rows"].to_pylist()]), 1]
    return out, Epoch(pairs, as_they_come(len(pairs)), negative)


def at_random(ends: Ends, folder: Path) -> Epoch:
    """Nothing is looked for."""
    return Epoch(ends.pairs, as_they_come(len(ends.pairs)))


def exact(ends: Ends, folder: Path) -> Epoch:
    """The hardest negative of each pair."""
    return mined(ends, folder)[1]


def with_margin(ends: Ends, folder: Path) -> Epoch:
    """The hardest that is at most 95 % as similar as the positive."""
    return mined(ends, folder, relative_margin=0.05)[1]


def composed_and_mined(ends: Ends, folder: Path) -> Epoch:
    """The hardest negatives, in batches of pairs that are near each other."""
    out, found = mined(ends, folder)
    minestream.batch(out, folder / "batches.parquet", batch_size=BATCH, false_negatives="off", **QUIET)
    return found._replace(batches=list(Batches(folder / "batches.parquet").of()))


def composed(ends: Ends, folder: Path) -> Epoch:
    """Batches of pairs that are near each other, without mined negatives."""
    return composed_and_mined(ends, folder)._replace(negative=None)


def similarity(ends: Ends, anchors: np.ndarray, positives: np.ndarray) -> np.ndarray:
    """Of some anchors with the positives of some pairs; those of one label are out of the question."""
    found: np.ndarray = ends.anchor[anchors] @ ends.positive[positives].T
    found[ends.label[anchors][:, None] == ends.label[positives]] = -np.inf
    return found


def in_pools(ends: Ends, folder: Path) -> Epoch:
    """The hardest negative among some pairs drawn by chance."""
    negative = np.empty(len(ends.pairs), np.int64)
    for at in range(0, negative.size, POOL):
        pool = np.arange(at, min(negative.size, at + POOL))
        negative[pool] = ends.pairs[pool[similarity(ends, pool, pool).argmax(axis=1)], 1]
    return Epoch(ends.pairs, as_they_come(len(ends.pairs)), negative)


def approximate(probes: int) -> Callable[[Ends, Path], Epoch]:
    """The hardest negative in the cells that are nearest to the anchor."""

    def search(ends: Ends, folder: Path) -> Epoch:
        every = np.arange(len(ends.pairs))
        centres = ends.positive[np.random.default_rng(0).permutation(every)[: ends.cells]]
        cell = (ends.positive @ centres.T).argmax(axis=1)
        near = np.argsort(-(ends.anchor @ centres.T), axis=1)[:, :probes]
        best, place = np.full(every.size, -np.inf, np.float32), np.full(every.size, -1)
        for number in range(ends.cells):
            anchors, inside = np.flatnonzero((near == number).any(axis=1)), np.flatnonzero(cell == number)
            if anchors.size and inside.size:
                found = similarity(ends, anchors, inside)
                at = found.argmax(axis=1)
                value = found[np.arange(anchors.size), at]
                better = value > best[anchors]
                best[anchors[better]], place[anchors[better]] = value[better], inside[at[better]]
        true = np.concatenate([similarity(ends, some, every).max(axis=1) for some in np.array_split(every, 8)])
        negative = np.where(place < 0, -1, ends.pairs[place, 1])
        return Epoch(ends.pairs, as_they_come(every.size), negative, float((best < true).mean()))

    return search


class Way(NamedTuple):
    """One row of WAYS."""

    prepare: Callable[[Ends, Path], Epoch]
    share: float = 1.0  # of the epochs


WAYS = {
    "random batches": Way(at_random),
    "random batches, 1.5 times the steps": Way(at_random, 1.5),
    "composed batches": Way(composed),
    "hardest negative of 256 drawn": Way(in_pools),
    "approximate, 1 cell searched": Way(approximate(1)),
    "approximate, 3 cells searched": Way(approximate(3)),
    "exact": Way(exact),
    "exact, 5 % margin": Way(with_margin),
    "exact, composed batches": Way(composed_and_mined),
}


def loss_of(task: Task, model: torch.nn.Module, epoch: Epoch, batch: np.ndarray) -> torch.Tensor:
    """Cross entropy of each anchor's own positive among those of the batch and its mined rows, but for its label's."""
    anchors, columns = epoch.pairs[batch, 0], epoch.pairs[batch, 1]
    if epoch.negative is not None:
        mined_rows = epoch.negative[batch]
        columns = np.concatenate([columns, mined_rows[mined_rows >= 0]])
    scores = task.forward(model, anchors) @ task.forward(model, columns).T / TEMPERATURE
    false = task.label[anchors][:, None] == task.label[columns]
    false[np.arange(batch.size), np.arange(batch.size)] = False
    return torch.nn.functional.cross_entropy(
        scores.masked_fill(torch.from_numpy(false), -torch.inf), torch.arange(batch.size)
    )


def trained(task: Task, way: Way, seed: int, folder: Path) -> dict[str, float]:
    """Train a model one way; recall@1 among the rows set aside, and how much an approximate search missed."""
    began = time.perf_counter()
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    model, optimizer = task.model()
    missed = []
    for number in range(round(task.epochs * way.share)):
        pairs = task.pairs(rng)
        epoch = Epoch(pairs, as_they_come(len(pairs)))
        if number and way.prepare is not at_random:
            anchor, positive = (task.embedded(model, pairs[:, end]) for end in (0, 1))
            ends = Ends(pairs, anchor, positive, task.label[pairs[:, 0]], task.cells)
            epoch = way.prepare(ends, folder)
            missed.append(epoch.missed)
        for batch in epoch.batches:
            optimizer.zero_grad()
            loss_of(task, model, epoch, batch).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    recall = recall_at_1(task.embedded(model, task.aside), task.label[task.aside])
    return {"recall": recall, "found": 1.0 - mean(missed or [0.0]), "seconds": time.perf_counter() - began}


def measure(job: tuple[Task, int]) -> list[dict[str, Any]]:
    """Every way, with one seed."""
    task, seed = job
    torch.set_num_threads(1)
    task.split(seed)
    with tempfile.TemporaryDirectory() as folder:
        return [
            {"task": task.name, "way": name, "seed": seed, **trained(task, way, seed, Path(folder))}
            for name, way in WAYS.items()
        ]


def summed(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a task and way, over the seeds."""
    rows = []
    for task in dict.fromkeys(row["task"] for row in found):
        of_task = [row for row in found if row["task"] == task]
        chance = {row["seed"]: row["recall"] for row in of_task if row["way"] == next(iter(WAYS))}
        for way in WAYS:
            runs = [row for row in of_task if row["way"] == way]
            gains = [row["recall"] - chance[row["seed"]] for row in runs]
            rows.append(
                {
                    "task": task, "way": way, "seeds": len(runs), "recall": mean(row["recall"] for row in runs),
                    "gain": mean(gains), "least_gain": min(gains), "largest_gain": max(gains),
                    "found": mean(row["found"] for row in runs), "seconds": mean(row["seconds"] for row in runs),
                }
            )  # fmt: skip
    return rows


def main() -> None:
    """Train on both files, every run with a seed of its own; write bench/results/proof.json."""
    parser = question_parser(__doc__, runs=5)
    parser.add_argument("texts", type=Path, metavar="DEBIAN")
    parser.add_argument("pictures", type=Path, metavar="FASHION")
    given = parser.parse_args()
    began = time.perf_counter()
    tasks: list[Task] = [Texts(given.texts), Pictures(given.pictures)]
    jobs = [(task, seed) for task in tasks for seed in range(given.runs)]
    with multiprocessing.get_context("spawn").Pool(THREADS) as pool:
        found = [row for rows in pool.imap(measure, jobs, chunksize=1) for row in rows]
    rows = summed(found)
    for row in rows:
        print(f"{row['task']:18} {row['way']:36} {row['recall']:.4f} {row['gain']:+.4f}")
    seconds = time.perf_counter() - began
    write_results(given.results, "proof", rows, batch=BATCH, pool=POOL, seconds=seconds, runs=found)


if __name__ == "__main__":
    main()
