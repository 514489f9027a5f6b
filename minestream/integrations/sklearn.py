"""Exact mining as transformers of scikit-learn: rows and labels in, row numbers out.

triplets = make_pipeline(StandardScaler(), PCA(32), TripletMiner(negatives=5)).fit_transform(X, y)
"""

from __future__ import annotations

import warnings
from inspect import signature
from typing import Any, ClassVar, Self, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minestream.config.border import public, spelled, unknown_keyword
from minestream.config.keywords import EstimatorOptions
from minestream.config.mine_config import MineConfig
from minestream.config.resolve import OPTION_FIELDS, asked_options
from minestream.errors import UsageError
from minestream.integrations import extra
from minestream.mining.arrays import Mined, mine_arrays

with extra("sklearn"):
    from sklearn.base import BaseEstimator, TransformerMixin
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_is_fitted, validate_data

DTYPES = (np.float64, np.float32, np.float16, np.int8, np.uint8)  # of X; what is of another becomes the first
Int = NDArray[np.int64]


class _Miner(TransformerMixin, BaseEstimator):
    """Keeps the rows that it is fitted on, the candidates, with their labels."""

    _shape: ClassVar[dict[str, Any]]  # options that say what comes out

    def _set(self, given: Any) -> None:
        defaults = {name: each.default for name, each in signature(type(self)).parameters.items()}
        for name in given.keys() - defaults.keys():
            raise unknown_keyword(type(self).__name__, name, defaults)
        self.__dict__.update(defaults | given)

    def fit(self, X: ArrayLike, y: ArrayLike) -> Self:
        """Keep the rows of X (n, d) and their labels y (n,), integers or texts; the options are checked."""
        for remark in self._options()[1]:
            warnings.warn(spelled(remark), stacklevel=2)
        self._rows, self._labels = self._checked(X, y)
        return self

    def _given(self) -> dict[str, Any]:
        """What differs from the table: a default that was given would win over a preset."""
        given = {name: value for name, value in self.get_params().items() if value != OPTION_FIELDS[name].default}
        return given | self._shape

    def _options(self) -> tuple[MineConfig, tuple[str, ...]]:
        config, resources, _ = asked_options(self._given(), function=type(self).__name__)
        return config, tuple(resources.remarks)

    def _checked(self, X: ArrayLike, y: ArrayLike, reset: bool = True) -> tuple[NDArray[Any], NDArray[Any]]:
        rows, labels = validate_data(self, X, y, dtype=DTYPES, reset=reset)
        check_classification_targets(labels)
        return rows, labels.astype(np.int64) if labels.dtype.kind == "f" else labels

    def _mined(self, X: ArrayLike, y: ArrayLike | None) -> Mined:
        """What is mined for rows: for those it was fitted on among themselves."""
        check_is_fitted(self)
        if y is not None:
            rows, labels = self._checked(X, y, reset=False)
            return mine_arrays(rows, labels, corpus=self._rows, corpus_labels=self._labels, **self._given())
        if not np.array_equal(validate_data(self, X, dtype=DTYPES, reset=False), self._rows):
            raise UsageError("transform has no labels of these rows: it was fitted on others", "transform(X, y)")
        return mine_arrays(self._rows, self._labels, **self._given())

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.transformer_tags.preserves_dtype = []
        return tags


class TripletMiner(_Miner):
    """Triplets as an array (t, 3) of row numbers, int64: anchor, positive, negative, by anchor.

    Parameters
    ----------
    **options
        Those of mine_arrays() with their names and defaults: metric, margin, band, negatives (k), positives, ...

    Notes
    -----
    fit_transform(X, y), and transform(X) of the rows that it was fitted on, mines these among themselves;
    transform(X, y) mines for the rows of X, which the anchors number, among those it was fitted on, which the others
    number. A pipeline hands y to fit_transform alone.

    Of the checks of scikit-learn's check_estimator these fail. There are not as many triplets as rows:
    check_transformer_general, check_transformer_data_not_an_array. Other rows than those of fit need labels, which
    checks do not give: check_fit_idempotent, check_methods_sample_order_invariance, check_methods_subset_invariance.
    Rows of zeros have no cosine, which metric="euclidean" and on_bad_rows="drop" mend: check_estimators_dtypes.
    """

    _shape: ClassVar[dict[str, Any]] = {"emit": "triplets"}

    @public(EstimatorOptions)
    def __init__(self, **options: Unpack[EstimatorOptions]) -> None:
        self._set(options)

    def transform(self, X: ArrayLike, y: ArrayLike | None = None) -> Int:
        """The triplets of rows X (n, d) with labels y (n,): (t, 3) int64, of none (0, 3)."""
        found = self._mined(X, y)
        return np.column_stack([found.anchor if y is None else found.query, found.positive, found.negative])


class NearestNegatives(_Miner):
    """The nearest negatives of every row: row numbers (n, k), int64, and similarities (n, k), float64.

    Where a row has fewer, or no positive, -1 and NaN stand in their places. Similarities are those of the metric
    (cosine, dot), else minus the distance: larger is nearer.

    Parameters
    ----------
    **options
        Those of mine_arrays() with their names and defaults: metric, margin, negatives (k), max_similarity, ...; but
        `band` is "any" (None: that of `preset`, else semi-hard), and a row has one positive, which others are
        measured by.

    Notes
    -----
    Rows and labels are given as to TripletMiner. The checks that fail are the same but for those of as many rows.
    """

    _shape: ClassVar[dict[str, Any]] = {
        "emit": "tuples", "short_rows": "keep", "scores": "negative-distance", "float64": True,
    }  # fmt: skip

    @public(EstimatorOptions, band="any")
    def __init__(self, **options: Unpack[EstimatorOptions]) -> None:
        self._set(options)

    def _options(self) -> tuple[MineConfig, tuple[str, ...]]:
        config, remarks = super()._options()
        if config.positives == "all" or config.positives_per_anchor > 1:
            raise UsageError("NearestNegatives takes one positive a row", 'positives="easiest", "hardest" or "random"')
        return config, remarks

    def transform(self, X: ArrayLike, y: ArrayLike | None = None) -> tuple[Int, NDArray[np.float64]]:
        """The row numbers and similarities of the negatives of rows X (n, d) with labels y (n,), the nearest first."""
        config = self._options()[0]
        found = self._mined(X, y)
        rows = np.full((len(np.asarray(X)), config.negatives), -1)
        similarities = np.full(rows.shape, np.nan)
        anchors = found.anchor if y is None else found.query
        for anchor, negatives, scores in zip(anchors, found.negative_rows, found.scores, strict=True):
            rows[anchor, : len(negatives)] = negatives
            similarities[anchor, : len(negatives)] = scores[1:]  # the first is that of the positive
        return rows, similarities + 1 if config.metric == "cosine" else similarities
