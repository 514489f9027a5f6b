"""`fit`: a linear embedding learned on triplets that are mined again for each epoch, judged on held-out labels."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import pyarrow as pa
import pyarrow.types as pat
from numpy.typing import NDArray

from minestream._version import VERSION
from minestream.config.border import public
from minestream.config.commands import Learning, own_options
from minestream.config.effects import idle
from minestream.config.keywords import FitOptions
from minestream.config.resolve import asked_options
from minestream.config.resources import Resources
from minestream.errors import InputError
from minestream.inputs.dataset.labels import LabelReader
from minestream.inputs.files import rows_and_vectors
from minestream.inputs.given import given_tables
from minestream.inputs.source import Source, open_source
from minestream.learn.linear import plain_floats, write_npz
from minestream.learn.trainer import Epoch, FitConfig, Trainer
from minestream.outputs.single_file import ending_in, publishing
from minestream.system.progress import Callback, Progress, reporter

RULE = ("metric", "normalize", "margin", "band", "pick", "negatives", "positives", "positives_per_anchor")
EXAMPLES = 5  # of the labels held out
READ = (
    "embedding",
    "label",
    "id",
    "vector_type",
    "dims",
    "on_bad_rows",
    "metric",
    "normalize",
)  # the options for reading the rows


@dataclass(frozen=True)
class FitReport:
    """What `fit` did.

    Attributes
    ----------
    path : str
    epochs : tuple of Epoch
    best_epoch : int
        The epoch whose W was kept: the highest recall@1, then the lowest held-out loss, then the first.
    raw_recall_at_1 : float
        Recall@1 of the held-out rows as given.
    held_out_labels, held_out_rows, training_rows, dropped_rows : int
        Dropped rows have no label, or a bad embedding. The rows of all three are those that were read.
    dimension : int
        Of the learned embedding.
    seconds : float
    held_out_examples : tuple of str
        The first of the labels held out.
    notes : tuple of str
        That a label may mean unlabelled; that there is nothing to gain; options that have no effect.
    left_out : dict of str to int
        The dropped rows by cause, as mine() names it.
    training_anchors : int
        Rows trained on whose label another of them has; the rest can only be negatives.
    """

    path: str
    epochs: tuple[Epoch, ...]
    best_epoch: int
    raw_recall_at_1: float
    held_out_labels: int
    held_out_rows: int
    training_rows: int
    dropped_rows: int
    dimension: int
    seconds: float
    held_out_examples: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    training_anchors: int = 0

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON; the rows held out are among those left out."""
        left_out = {**self.left_out, "held out": self.held_out_rows}
        return asdict(self) | {"epochs": [asdict(each) for each in self.epochs], "left_out": left_out}


@public(FitOptions, refuses=True)
def fit(
    inputs: Any, out: str | Path, *, dimension: int | None = None, center: bool = False, epochs: int = 20,
    optimizer: str = "adam", learning_rate: float = 1e-3, step_rows: int = 512, validation: float = 0.2,
    patience: int = 5, seed: int = 0, progress_callback: Callback | None = None, **options: Unpack[FitOptions],
) -> FitReport:  # fmt: skip
    """Learn a linear embedding x -> W (x - mean) by triplet loss; each epoch mines triplets of the projected rows.

    Parameters
    ----------
    inputs : path, Arrow object, or list of them
        As for mine(), with one label for each row. Rows without a label are left out, counted.
    out : path
        The .npz file to write; `apply` uses it.
    dimension : int, optional
        Coordinates of the learned embedding. Default: as many as the rows have, and training begins with the rows
        as they are. Fewer: it begins with the principal directions of the training rows.
    center : bool
        Subtract the mean of the training rows first.
    epochs, patience : int
        At most so many epochs; training stops after `patience` epochs without a better one.
    optimizer : {"adam", "sgd"}
    learning_rate : float
    step_rows : int
        Triplets in a step.
    validation : float
        Share of the labels whose rows are held out: at least two labels, drawn by the seed among those of two rows
        or more.
    seed : int
        For the split, every draw and the order of the triplets.
    progress_callback : callable, optional
    **options
        As for mine(). threads, memory and progress do not change the result.

    Returns
    -------
    FitReport

    Raises
    ------
    MinestreamError
        UsageError, InputError, CapacityError, OutputError: see errors.py.

    Notes
    -----
    The best epoch is chosen by the held-out labels, so their recall is a little too good: judge a result by labels
    that fit has not seen at all. All rows are in memory. Cost of an epoch: a run of mine() over the training rows
    and one over the held-out rows, and 18 d e operations for each triplet.
    """
    began = time.perf_counter()
    rule, resources, tables = asked_options(options, seed=seed)
    config = FitConfig(
        dimension=dimension, center=center, epochs=epochs, optimizer=optimizer, learning_rate=learning_rate,
        step_rows=step_rows, validation=validation, patience=patience, seed=seed,
        mining={name: getattr(rule, name) for name in RULE},
    )  # fmt: skip
    config.check()
    asked = {"patience": None if patience == own_options(Learning)["patience"].default else patience}
    notes = (*resources.remarks, *idle("fit", asked, patience=patience, epochs=epochs))
    place = ending_in(".npz", out, "fit")
    with (
        publishing(place, resources.overwrite, given_tables(inputs, tables, resources)) as draft,
        reporter(resources.progress, progress_callback) as shown,
    ):
        rows, vectors = rows_and_vectors(inputs, resources)
        reading = {name: getattr(rule, name) for name in READ}
        source = open_source(rows, vectors=vectors, require_label="only", **reading)
        report = _trained(config, resources, source, rule.unlabeled_value, shown, draft.path)
    return replace(report, path=str(place), seconds=time.perf_counter() - began, notes=(*report.notes, *notes))


def _trained(
    config: FitConfig, resources: Resources, source: Source, unlabeled_value: str | None, shown: Progress, path: Path
) -> FitReport:
    """Train, write the embedding of the best epoch to `path`, and report."""
    vectors, reader = _read(source, unlabeled_value)
    labels = reader.finish()
    notes = [*source.notes, *reader.notes("ignore", labels)]
    for note in notes:
        shown.note(note)
    with closing(Trainer(config, resources, vectors, labels.values.take(pa.array(labels.code)))) as trainer:
        epochs, best = trainer.run(shown)
    about: dict[str, Any] = {
        "version": VERSION, "config": asdict(config), "source": source.identity(),
        "epochs": [asdict(each) for each in epochs], "best_epoch": best,
        "dims": source.options.dims, "vector_type": source.options.vector_type, "unlabeled_value": unlabeled_value,
    }  # fmt: skip
    write_npz(path, replace(trainer.best, about=about))
    dropped = {f"bad: {kind}": count for kind, count in source.bad_rows.items()} | {"unlabelled": reader.unlabeled}
    return FitReport(
        path=str(path), epochs=tuple(epochs), best_epoch=best, raw_recall_at_1=trainer.raw_recall,
        held_out_labels=len(trainer.held_labels), held_out_rows=len(trainer.held_rows),
        training_rows=len(trainer.rows), dropped_rows=sum(dropped.values()),
        dimension=len(trainer.best.weights), seconds=0.0, notes=(*notes, *trainer.notes()),
        held_out_examples=tuple(map(str, trainer.held_labels[:EXAMPLES])),
        left_out={why: count for why, count in dropped.items() if count},
        training_anchors=int((np.bincount(trainer.codes)[trainer.codes] > 1).sum()),
    )  # fmt: skip


def _read(source: Source, unlabeled_value: str | None) -> tuple[NDArray[Any], LabelReader]:
    """The good rows that have a label, and what read their labels."""
    kind = source.label_type
    if kind is None or pat.is_nested(kind):
        raise InputError(f"labels of type {kind}: fit needs one label a row", "name another column with --label")
    if source.columns.levels:
        raise InputError("fit learns from labels of one level", f"name the finest: --label {source.columns.label}")
    vectors, reader = [], LabelReader(kind, unlabeled_value)
    for each in source.batches():
        assert each.labels is not None
        labels, kept = reader.labeled(each.labels.filter(pa.array(~each.bad)))
        vectors.append(plain_floats(each.vectors[~each.bad][kept]))
        reader.add(labels.filter(pa.array(kept)))
    return np.concatenate(vectors), reader
