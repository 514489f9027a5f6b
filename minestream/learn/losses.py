"""Triplet, triplet-soft and contrastive loss of rows, with their gradients."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.config.border import public
from minestream.config.metrics import METRICS
from minestream.config.names import nearest_value
from minestream.config.option import of_type
from minestream.errors import InputError, UsageError
from minestream.inputs.decode import bad_rows
from minestream.kernels import distances, loss
from minestream.learn.linear import array_of, matrix_of
from minestream.outputs.losses import Distances
from minestream.system.threads import Workers, slices

Rows = NDArray[np.float64]
REDUCTIONS = ("mean", "mean-active", "none")
CONTRASTIVE_METRICS = ("euclidean", "cosine")
CONVENTION = "the convention here is 1 (True) = similar, 0 (False) = dissimilar"
TASK_VALUES = 2**18  # of one table, for each task: about a millisecond of work


@dataclass(frozen=True)
class LossResult:
    """A loss and its gradients.

    Attributes
    ----------
    value : float or float64[m]
        The mean, or with reduction "none" the loss of every row.
    gradients : tuple of float64 (m, d)
        The gradient of `value` by each table of rows, in the order of the arguments; with "none", row i is the
        gradient of value i.
    active : float
        Share of active rows, in 0..1. A triplet is active when x < p + m, a pair when its loss is above 0.
    """

    value: float | Distances
    gradients: tuple[Rows, ...]
    active: float


@public()
def triplet_loss(
    anchor: Any, positive: Any, negative: Any, margin: float, *, metric: str = "sqeuclidean", normalize: bool = False,
    reduction: str = "mean", soft: bool = False, threads: int | None = None,
) -> LossResult:  # fmt: skip
    """max(0, (p + m) - x), or with `soft` log(1 + exp((p - x) + m)), and its gradients.

    Parameters
    ----------
    anchor, positive, negative : array (m, d)
        Row i of each is triplet i. Any float type, int8 or uint8; computed in float64.
    margin : float
        m, in units of the metric (squared for sqeuclidean); p = d(anchor, positive), x = d(anchor, negative).
    metric : {"sqeuclidean", "euclidean", "cosine", "dot"}
    normalize : bool
        Divide every row by its norm first; the gradients are by the rows as given.
    reduction : {"mean", "mean-active", "none"}
        The mean over all rows; over the active rows, 0 when there are none; or one value for each row.
    soft : bool
        Softplus instead of the hinge.
    threads : int, optional
        Default: the cores this process may use. Changes no bit.

    Returns
    -------
    LossResult

    Raises
    ------
    UsageError, InputError
        For an unknown name; for rows that differ in shape, are not finite, or are zero where the metric or
        `normalize` needs a direction.

    Notes
    -----
    Squared Euclidean, active: 2 (n - p), 2 (p - a), 2 (a - n); zeros when inactive. Euclidean and cosine distances
    have no slope at 0: there the distance counts as constant. Cost: about 20 m d operations, 6 m d float64.
    Source: Schroff 2015 (FaceNet), 3.1.
    """
    _check(metric, tuple(METRICS), reduction, margin)
    tables = _matrices({"anchor": anchor, "positive": positive, "negative": negative}, metric, normalize)
    kernel = partial(loss.triplets, METRICS[metric].code, soft, float(margin))
    return _computed(tables, normalize, kernel, reduction, threads)


@public()
def contrastive_loss(
    left: Any, right: Any, similar: Any, margin: float, *, metric: str = "euclidean", normalize: bool = False,
    reduction: str = "mean", threads: int | None = None,
) -> LossResult:  # fmt: skip
    """y D^2 + (1 - y) max(m - D, 0)^2, y = 1 for similar pairs, and its gradients.

    Parameters
    ----------
    left, right : array (m, d)
        Row i of each is pair i. Any float type, int8 or uint8; computed in float64.
    similar : array of length m
        1 or True: similar; 0 or False: dissimilar. Other values are refused, since some libraries mean the opposite.
    margin : float
        m: dissimilar pairs are pushed apart until D >= m.
    metric : {"euclidean", "cosine"}
        The distance D.
    normalize, reduction, threads
        As for triplet_loss.

    Returns
    -------
    LossResult

    Raises
    ------
    UsageError, InputError
        As for triplet_loss, and for a value of `similar` that is neither 0 nor 1.

    Notes
    -----
    Euclidean: similar 2 (x1 - x2); dissimilar with D < m: -2 (m - D) (x1 - x2) / D, 0 at D = 0. Cost: about 12 m d
    operations, 4 m d float64. Source: Hadsell 2006, 2.1.
    """
    _check(metric, CONTRASTIVE_METRICS, reduction, margin)
    tables = _matrices({"left": left, "right": right}, metric, normalize)
    kernel = partial(loss.contrasts, METRICS[metric].code, float(margin))
    return _computed(tables, normalize, kernel, reduction, threads, _similar(similar, len(tables[0])))


def _check(metric: str, metrics: tuple[str, ...], reduction: str, margin: float) -> None:
    for name, value, known in (("metric", metric, metrics), ("reduction", reduction, REDUCTIONS)):
        if value not in known:
            raise UsageError(f"{name}={value!r}", nearest_value(name, str(value), list(known)))
    if not np.isfinite(of_type("--margin", "float", margin)):
        raise UsageError(f"margin={margin!r}", "it must be a finite number")


def _similar(given: Any, count: int) -> NDArray[np.bool_]:
    """The labels of pairs as bools; raises InputError unless they follow the convention."""
    labels = array_of("similar", given)
    if labels.shape != (count,):
        raise InputError(f"similar has shape {labels.shape}, there are {count} pairs", CONVENTION)
    if labels.dtype.kind not in "biuf" or not np.isin(labels, (0, 1)).all():
        wrong = labels[~np.isin(labels, (0, 1))][:3].tolist() if labels.dtype.kind in "iuf" else str(labels.dtype)
        raise InputError(f"similar holds {wrong}", CONVENTION)
    return labels.astype(np.bool_)


def _matrices(given: dict[str, Any], metric: str, normalize: bool) -> tuple[Rows, ...]:
    """The tables of a loss as float64 (m, d), checked; raises InputError unless all have one shape."""
    tables = tuple(_matrix(name, each, METRICS[metric].unit_rows or normalize) for name, each in given.items())
    if len({table.shape for table in tables}) > 1:
        shapes = ", ".join(f"{name} {table.shape}" for name, table in zip(given, tables, strict=True))
        raise InputError(f"rows of different shapes: {shapes}", "row i of each belongs together")
    return tables


def _matrix(name: str, given: Any, needs_direction: bool) -> Rows:
    """One table as float64 (m, d), checked."""
    rows = np.ascontiguousarray(matrix_of(name, given), np.float64)
    for kind, at in bad_rows(rows, needs_direction).items():
        raise InputError(f"{name}: {kind} in row {int(at[0])} ({len(at)} such rows)", "leave such rows out")
    return rows


def _computed(
    tables: tuple[Rows, ...], normalize: bool, kernel: Callable[..., None], reduction: str, threads: int | None,
    similar: NDArray[np.bool_] | None = None,
) -> LossResult:  # fmt: skip
    """Run the kernel of a loss over ranges of rows, on our threads, and reduce its values and gradients."""
    rows, dimension = tables[0].shape
    values, active = np.empty(rows), np.empty(rows, np.bool_)
    gradients = tuple(np.zeros((rows, dimension)) for _ in tables)

    def task(part: slice) -> None:
        given = used = tuple(table[part] for table in tables)
        squares = given_squares = _squares(given)
        if normalize:
            used = tuple(np.empty_like(table) for table in given)
            for table, square, unit in zip(given, given_squares, used, strict=True):
                distances.normalize(table, square, unit)
            squares = _squares(used)
        slopes = tuple(gradient[part] for gradient in gradients)
        labels = () if similar is None else (similar[part],)
        kernel(used, *labels, squares, values[part], active[part], slopes)
        if normalize:
            for unit, square, slope in zip(used, given_squares, slopes, strict=True):
                loss.through_norm(unit, square, slope)

    parts = list(slices(rows, max(1, rows * dimension // TASK_VALUES)))
    with closing(Workers(min(threads or len(os.sched_getaffinity(0)), max(1, len(parts))))) as workers:
        workers.run([partial(task, part) for part in parts])
    return _reduced(values, active, gradients, reduction)


def _squares(tables: tuple[Rows, ...]) -> NDArray[np.float64]:
    """dot(a, a) of every row of every table: float64 (tables, m)."""
    out = np.empty((len(tables), len(tables[0])))
    for table, square in zip(tables, out, strict=True):
        distances.squares(table, square)
    return out


def _reduced(values: Distances, active: NDArray[np.bool_], gradients: tuple[Rows, ...], reduction: str) -> LossResult:
    """The result under a reduction, from the values and gradients of every row; the mean of no rows is 0."""
    share = float(active.mean()) if active.size else 0.0
    if reduction == "none":
        return LossResult(values, gradients, share)
    counted = active if reduction == "mean-active" else np.ones_like(active)
    count = max(1, int(counted.sum()))
    weights = (counted / count)[:, None]
    for gradient in gradients:
        gradient *= weights
    return LossResult(math.fsum(values[counted]) / count, gradients, share)
