"""Training of a linear embedding: which labels are held out, and what an epoch mines, learns and is judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import NDArray

from minestream.config.commands import Learning, check_own
from minestream.config.resources import Resources, thread_count
from minestream.errors import InputError, UsageError
from minestream.inputs.dataset.draws import anchor_draws, draw_keys
from minestream.kernels import linear
from minestream.learn.linear import Linear
from minestream.learn.losses import triplet_loss
from minestream.mining.arrays import Mined, mine_arrays
from minestream.system.progress import Progress
from minestream.system.threads import Workers, slices
from minestream.system.values import many, verb

FIRST_DECAY, SECOND_DECAY, TINY = 0.9, 0.999, 1e-8
PRINCIPAL_ROUNDS = 30
LARGEST_WEIGHT = 1e15  # rows are mined as float32
LEAST_LABELS = 2  # held out, and trained on: one label has no negatives
NOTHING_TO_GAIN = (
    "nothing to gain: with the rows as given, the nearest row of every held-out row has its label (recall@1 1.0000)"
)
Numbers = NDArray[np.float64]
Codes = NDArray[np.int64]


@dataclass(frozen=True)
class Epoch:
    """The figures of one epoch; epoch 0 is the embedding that training begins with.

    Attributes
    ----------
    epoch : int
    triplets : int
        Mined, and trained on.
    loss, active : float or None
        Mean loss and share of active triplets during training; None for epoch 0.
    held_out_loss : float
        Mean loss of each held-out row with its nearest positive and its nearest negative.
    recall_at_1 : float
        The share of held-out rows whose nearest held-out row has their label, of those that have a positive. A
        negative exactly as near as the positive counts as nearer.
    """

    epoch: int
    triplets: int
    loss: float | None
    active: float | None
    held_out_loss: float
    recall_at_1: float

    def line(self) -> str:
        """The figures in one line."""
        trained = "before training"
        if self.loss is not None:
            trained = f"{many(self.triplets, 'triplet')}, loss {self.loss:.4f}, {self.active:.0%} active"
        return f"epoch {self.epoch}: {trained}; held-out loss {self.held_out_loss:.4f}, recall@1 {self.recall_at_1:.4f}"


@dataclass(frozen=True, kw_only=True)
class FitConfig(Learning):
    """The options that change the weights; see `fit`."""

    seed: int
    mining: dict[str, Any]

    def check(self) -> None:
        """Raise UsageError for values out of range, and without a margin."""
        check_own(Learning, **{spec.name: getattr(self, spec.name) for spec in fields(Learning)})
        if self.mining["margin"] is None:
            raise UsageError(
                f"--metric {self.mining['metric']} needs a --margin", "it depends on the scale of the rows"
            )


def held_out(labels: pa.Array, share: float, seed: int) -> tuple[Codes, NDArray[np.bool_]]:
    """A code for the label of every row, and which rows are held out: all rows of some labels.

    Labels are drawn by their value, so that more rows of the same labels do not change the draw. A label of one row is
    never held out: it could only be a negative.
    """
    distinct = pc.unique(labels)
    distinct = distinct.take(pc.sort_indices(distinct))
    codes = np.asarray(pc.index_in(labels, distinct), np.int64)
    able = np.flatnonzero(np.bincount(codes, minlength=len(distinct)) > 1)
    if able.size < 2 * LEAST_LABELS:
        raise InputError(
            f"{many(able.size, 'label')} {verb(able.size, 'have')} two rows: fit holds some out and needs "
            f"{LEAST_LABELS} on either side",
            f"give at least {2 * LEAST_LABELS} such labels",
        )
    keyed = distinct if pat.is_string(distinct.type) else distinct.cast(pa.int64())
    draws = anchor_draws(seed, draw_keys(keyed, np.arange(len(distinct))))[able]
    wanted = min(max(LEAST_LABELS, round(share * able.size)), able.size - LEAST_LABELS)
    chosen = np.zeros(len(distinct), np.bool_)
    chosen[able[np.argsort(draws, kind="stable")[:wanted]]] = True
    return codes, chosen[codes]


class Trainer:
    """Rows to train on and rows held out, the weights, and the state of the optimizer.

    Attributes
    ----------
    rows, held_rows : float32 or float64 (m, d)
    codes, held_codes : int64[m]
        The codes of their labels.
    held_labels : list
        The labels held out, in order.
    learned, best : Linear
        The embedding now, and that of the best epoch.
    raw_recall : float
        Recall@1 of the held-out rows as given.
    """

    def __init__(self, config: FitConfig, resources: Resources, vectors: NDArray[Any], labels: pa.Array) -> None:
        codes, held = held_out(labels, config.validation, config.seed)
        self.config, self.resources = config, resources
        self.rows, self.codes = vectors[~held], codes[~held]
        self.held_rows, self.held_codes = vectors[held], codes[held]
        self.held_labels = sorted(pc.unique(labels.filter(pa.array(held))).to_pylist())
        self._threads = thread_count(resources)
        self._workers = Workers(self._threads)
        self.learned = self.best = self._start()
        self._first = np.zeros_like(self.learned.weights)
        self._second = np.zeros_like(self.learned.weights)
        self._steps = 0
        self.raw_recall = self._judged(self.held_rows)[1]

    def close(self) -> None:
        """End the threads."""
        self._workers.close()

    def _start(self) -> Linear:
        """The embedding that training begins with: the identity, or the principal directions of the rows."""
        coordinates = self.rows.shape[1]
        dimension = self.config.dimension or coordinates
        if dimension > coordinates:
            raise UsageError(
                f"--dimension {dimension}, and the rows have {coordinates} coordinates", "a linear map adds none"
            )
        mean = np.zeros(coordinates)
        if self.config.center:
            mean = np.add.reduce(self.rows.astype(np.float64), axis=0) / len(self.rows)
        weights = np.eye(coordinates)
        if dimension < coordinates:
            weights = self._principal(Linear(weights, mean, {}).transform(self.rows, self._workers), dimension)
        return Linear(weights, mean, {})

    def _principal(self, rows: Numbers, dimension: int) -> Numbers:
        """The principal directions (about zero) by subspace iteration from seeded rows: float64 (e, d), orthonormal."""
        moments = self._outer(rows, rows)
        cells = np.arange(dimension * rows.shape[1])
        weights = anchor_draws(self.config.seed, cells.astype(np.uint64)).astype(np.float64) / 2.0**63 - 1.0
        weights = weights.reshape(dimension, -1)
        for _ in range(PRINCIPAL_ROUNDS):
            weights = Linear(moments, np.zeros(len(moments)), {}).transform(weights, self._workers)
            linear.orthonormalize(weights)
        return weights

    def _outer(self, left: Numbers, right: Numbers) -> Numbers:
        """left^T right; each cell is summed in the order of the rows, whatever the threads."""
        out = np.zeros((left.shape[1], right.shape[1]))
        parts = slices(left.shape[1], self._threads)
        self._workers.run([partial(linear.add_outer, left, right, each.start, each.stop, out) for each in parts])
        return out

    def run(self, progress: Progress) -> tuple[list[Epoch], int]:
        """Train; returns every epoch, and the number of the best."""
        loss, recall = self._judged(self.learned.transform(self.held_rows, self._workers))
        epochs, best = [Epoch(0, 0, None, None, loss, recall)], 0
        for note in (*self.notes(), epochs[0].line()):
            progress.note(note)
        for number in range(1, self.config.epochs + 1):
            epochs.append(self._epoch(number))
            progress.note(epochs[-1].line())
            last, leader = ((each.recall_at_1, -each.held_out_loss) for each in (epochs[-1], epochs[best]))
            if last > leader:
                best, self.best = number, self.learned
            if number - best >= self.config.patience:
                break
        return epochs, best

    def notes(self) -> tuple[str, ...]:
        """What to know before the training: whether there is nothing to gain."""
        return (NOTHING_TO_GAIN,) if self.raw_recall == 1 else ()

    def _epoch(self, number: int) -> Epoch:
        """Mine triplets, take a step for each group of them, judge the weights."""
        mined = self._mined(
            self.learned.transform(self.rows, self._workers), self.codes, seed=self.config.seed + number,
            **self.config.mining,
        )  # fmt: skip
        triplets = np.column_stack([mined.anchor, mined.positive, mined.negative]).astype(np.int64)
        order = np.argsort(
            anchor_draws(self.config.seed + number, np.arange(len(triplets)).astype(np.uint64)), kind="stable"
        )
        groups = [order[at : at + self.config.step_rows] for at in range(0, len(order), self.config.step_rows)]
        steps = [(len(group), *self._step(triplets[group])) for group in groups]
        count = max(1, len(triplets))
        mean, active = (math.fsum(step[0] * step[at] for step in steps) / count for at in (1, 2))
        loss, recall = self._judged(self.learned.transform(self.held_rows, self._workers))
        return Epoch(number, len(triplets), mean, active, loss, recall)

    def _step(self, triplets: NDArray[np.int64]) -> tuple[float, float]:
        """Take one step down the gradient of the mean loss; returns that loss and the share of active triplets."""
        taken = [self.rows[triplets[:, role]] for role in range(3)]
        mining = self.config.mining
        anchor, positive, negative = (self.learned.transform(rows, self._workers) for rows in taken)
        rule = {"metric": mining["metric"], "normalize": mining["normalize"]}
        found = triplet_loss(anchor, positive, negative, mining["margin"], threads=1, **rule)
        centred = np.concatenate(taken).astype(np.float64) - self.learned.mean
        slope = self._outer(np.concatenate(found.gradients), centred)
        weights = self.learned.weights - self._move(slope)
        if not np.abs(weights).max() < LARGEST_WEIGHT:
            raise UsageError("the weights grow beyond bounds", "give a smaller --learning-rate")
        self.learned = replace(self.learned, weights=weights)
        return float(found.value), found.active

    def _move(self, slope: Numbers) -> Numbers:
        """What the optimizer subtracts from the weights."""
        rate = self.config.learning_rate
        if self.config.optimizer == "sgd":
            return rate * slope
        self._steps += 1
        self._first = FIRST_DECAY * self._first + (1 - FIRST_DECAY) * slope
        self._second = SECOND_DECAY * self._second + (1 - SECOND_DECAY) * slope * slope
        first = self._first / (1 - FIRST_DECAY**self._steps)
        second = self._second / (1 - SECOND_DECAY**self._steps)
        return rate * first / (np.sqrt(second) + TINY)

    def _judged(self, rows: NDArray[Any]) -> tuple[float, float]:
        """Mean loss and recall@1 of held-out rows, each with its nearest positive and its nearest negative."""
        mining = {name: self.config.mining[name] for name in ("metric", "normalize", "margin")}
        found = self._mined(
            rows, self.held_codes, band="any", positives="easiest", negatives=1, drop_duplicates_within="none",
            float64=True, **mining,
        )  # fmt: skip
        return math.fsum(found.loss) / len(found.loss), float((found.distance_ap < found.distance_an).mean())

    def _mined(self, rows: NDArray[Any], codes: Codes, **options: Any) -> Mined:
        return mine_arrays(
            rows.astype(np.float32), codes, threads=self._threads, memory=self.resources.memory, **options
        )
