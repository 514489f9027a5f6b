"""`fit`: a linear embedding learned on triplets that are mined anew each epoch, judged on labels it never saw."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.types as pat
from numpy.typing import NDArray

from minestream._version import VERSION
from minestream.config.border import public
from minestream.config.effects import idle
from minestream.config.resolve import OPTION_FIELDS, asked_options
from minestream.errors import InputError
from minestream.inputs.given import Given
from minestream.inputs.source import Source, open_source
from minestream.learn.linear import plain_floats
from minestream.learn.trainer import Epoch, FitConfig, Trainer
from minestream.outputs.single_file import publishing
from minestream.outputs.trainers.export import ending_in
from minestream.system.progress import Callback, reporter

PATIENCE = 5


@dataclass(frozen=True)
class FitReport:
    """What `fit` did.

    Attributes
    ----------
    path : str
    epochs : tuple of Epoch
    best_epoch : int
        The one whose W was kept: the highest recall@1, then the lowest held-out loss, then the first.
    raw_recall_at_1 : float
        That of the held-out rows as given.
    held_out_labels, held_out_rows, training_rows, dropped_rows : int
        Dropped rows have no label, or are bad rows.
    dimension : int
        Of the learned embedding.
    seconds : float
    notes : tuple of str
        Options that have no effect.
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
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Every field, as JSON holds it."""
        return asdict(self) | {"epochs": [asdict(each) for each in self.epochs]}


@public()
def fit(
    inputs: Any, out: str | Path, *, dimension: int | None = None, center: bool = False, epochs: int = 20,
    optimizer: str = "adam", learning_rate: float = 1e-3, step_rows: int = 512, validation: float = 0.2,
    patience: int = PATIENCE, embedding: str | None = None, label: str | None = None, id: str | None = None,
    on_bad_rows: str = "error", metric: str = "cosine", normalize: bool = False, margin: float | None = None,
    band: str = "semi-hard", pick: str = "nearest", negatives: int = 1, positives: str = "easiest",
    positives_per_anchor: int = 1, seed: int = 0, threads: int | None = None, memory: str = "auto",
    overwrite: bool = False, progress: str = "auto", progress_callback: Callback | None = None,
) -> FitReport:  # fmt: skip
    """Learn a linear embedding x -> W (x - mean) by triplet loss; triplets are mined on the projected rows each epoch.

    Parameters
    ----------
    inputs : path, Arrow object, or list of them
        As for mine(); one label a row. Rows without a label are left out.
    out : path
        The .npz file to write; `apply` uses it.
    dimension : int, optional
        Coordinates of the learned embedding. Default: as many as there are, beginning with the rows as they are;
        fewer begin with the principal directions of the training rows.
    center : bool
        Take the mean of the training rows off first.
    epochs, patience : int
        Most epochs; training stops after `patience` of them without a better one.
    optimizer : {"adam", "sgd"}
    learning_rate : float
    step_rows : int
        Triplets of a step.
    validation : float
        Share of the labels of two rows and more, drawn by the seed, whose rows are held out (at least two labels).
    embedding, label, id, on_bad_rows, metric, normalize, margin, band, pick, negatives, positives, positives_per_anchor
        As for mine().
    seed : int
        Of the split, of every draw and of the order of the steps.
    threads, memory, overwrite, progress, progress_callback
        As for mine(). They change no bit of the result.

    Returns
    -------
    FitReport

    Raises
    ------
    MinestreamError
        UsageError, InputError, CapacityError, OutputError: see errors.py.

    Notes
    -----
    The best epoch is chosen by the held-out labels, so their recall flatters it a little: judge a result by labels
    that fit has not seen at all. All rows are in memory. Cost of an epoch: a run of mine() over the training rows
    and one over the held-out rows, and 18 d e operations a triplet.
    """
    began = time.perf_counter()
    mining = {
        "metric": metric, "normalize": normalize, "margin": margin, "band": band, "pick": pick,
        "negatives": negatives, "positives": positives, "positives_per_anchor": positives_per_anchor,
    }  # fmt: skip
    asked = {name: value for name, value in mining.items() if value != OPTION_FIELDS[name].default}
    resolved, resources, _ = asked_options(asked, seed=seed, threads=threads, memory=memory)
    config = FitConfig(
        dimension, center, epochs, optimizer, learning_rate, step_rows, validation, patience, seed,
        {name: getattr(resolved, name) for name in mining},
    )  # fmt: skip
    config.check()
    notes = idle("fit", {"patience": None if patience == PATIENCE else patience}, patience=patience, epochs=epochs)
    place = ending_in(".npz", out, "fit")
    with (
        publishing(place, overwrite, [Given("INPUT", inputs)]) as draft,
        reporter(progress, progress_callback) as shown,
    ):
        source = open_source(
            inputs, embedding=embedding, label=label, id=id, metric=metric, normalize=normalize,
            on_bad_rows=on_bad_rows,
        )  # fmt: skip
        trainer = Trainer(config, resources, *_read(source))
        try:
            epochs_done, best = trainer.run(shown)
        finally:
            trainer.close()
        about: dict[str, Any] = {
            "version": VERSION, "config": asdict(config), "source": source.identity(),
            "epochs": [asdict(each) for each in epochs_done], "best_epoch": best,
        }  # fmt: skip
        replace(trainer.best, about=about).save(draft.path)
        held, trained = len(trainer.held_rows), len(trainer.rows)
        dropped = sum(entry["rows"] for entry in about["source"]) - held - trained
        return FitReport(
            str(place), tuple(epochs_done), best, trainer.raw_recall, len(np.unique(trainer.held_codes)), held, trained,
            dropped, len(trainer.best.weights), time.perf_counter() - began, (*resources.remarks, *notes),
        )  # fmt: skip


def _read(source: Source) -> tuple[NDArray[Any], pa.Array]:
    """Rows that have a label, and the labels."""
    kind = source.label_type
    if kind is None or pat.is_nested(kind):
        raise InputError(f"labels of type {kind}: fit needs one label a row", "name another column with --label")
    vectors, labels = [], []
    for each in source.batches():
        assert each.labels is not None
        kept = ~each.bad & each.labels.is_valid().to_numpy(zero_copy_only=False)
        vectors.append(plain_floats(each.vectors[kept]))
        labels.append(each.labels.filter(pa.array(kept)))
    return np.concatenate(vectors), pa.concat_arrays(labels)
