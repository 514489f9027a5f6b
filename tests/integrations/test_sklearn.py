"""Transformers for scikit-learn: what they give, their parameters, and which of its checks they pass."""

from __future__ import annotations

import pickle
import warnings
from inspect import signature
from typing import Any

import numpy as np
import pytest

import minestream
from minestream import UsageError
from minestream.config.keywords import EstimatorOptions
from minestream.config.resolve import OPTION_FIELDS

pytestmark = pytest.mark.peers
pytest.importorskip("sklearn", minversion="1.6")

from sklearn.base import clone  # noqa: E402
from sklearn.datasets import load_digits  # noqa: E402
from sklearn.decomposition import PCA  # noqa: E402
from sklearn.exceptions import NotFittedError  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import StandardScaler  # noqa: E402
from sklearn.utils.estimator_checks import check_estimator  # noqa: E402

from minestream.integrations.sklearn import NearestNegatives, TripletMiner  # noqa: E402

KINDS = [TripletMiner, NearestNegatives]
SIMILARITY: dict[str, Any] = {
    "cosine": lambda a, b: (a @ b.T) / np.linalg.norm(a, axis=1)[:, None] / np.linalg.norm(b, axis=1),
    "dot": lambda a, b: a @ b.T,
    "euclidean": lambda a, b: -np.linalg.norm(a[:, None] - b, axis=2),
    "sqeuclidean": lambda a, b: -np.square(a[:, None] - b).sum(axis=2),
}


def rows_of(count: int = 40, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 5)), rng.integers(0, 4, count)


# ---------------------------------------------------------------- what they give


@pytest.mark.parametrize("options", [{}, {"positives": "all", "negatives": 3}, {"metric": "dot", "band": "hard"}])
def test_triplets_are_those_of_mine_arrays(options: dict[str, Any]) -> None:
    X, y = rows_of()
    found = TripletMiner(**options).fit_transform(X, y)
    expected = minestream.mine_arrays(X, y, **options)
    assert found.dtype == np.int64
    assert found.tolist() == np.array([expected.anchor, expected.positive, expected.negative]).T.tolist()
    assert len(found) > 20
    fitted = TripletMiner(**options).fit(X, y)
    assert np.array_equal(fitted.transform(X), found)
    assert np.array_equal(fitted.transform(X.tolist()), found)
    assert np.array_equal(pickle.loads(pickle.dumps(fitted)).transform(X), found)


@pytest.mark.parametrize("metric", SIMILARITY)
@pytest.mark.parametrize("other", [False, True])
def test_nearest_negatives_are_those_of_brute_force(metric: str, other: bool) -> None:
    """Among the rows of fit, and for others; those without a positive, and places that are left, are empty."""
    (X, y), k = rows_of(), 35
    y[7] = 9  # of no other row
    Q, of = rows_of(30, seed=1) if other else (X, y)
    of[3] = 8 + (not other)
    y[8] = y[8] if other else 9
    miner = NearestNegatives(metric=metric, negatives=k).fit(X, y)
    rows, similarities = miner.transform(Q, of) if other else miner.transform(Q)
    assert (rows.shape, rows.dtype) == ((len(Q), k), np.int64)
    assert (similarities.shape, similarities.dtype) == ((len(Q), k), np.float64)
    every = SIMILARITY[metric](Q, X)
    for row in range(len(Q)):
        alone = (y == of[row]).sum() < (1 if other else 2)
        order = [] if alone else [each for each in np.argsort(-every[row]) if y[each] != of[row]][:k]
        assert rows[row].tolist() == order + [-1] * (k - len(order))
        assert np.allclose(similarities[row, : len(order)], every[row, order], atol=1e-12)
        assert np.isnan(similarities[row, len(order) :]).all()
    assert (rows[:, 0] == -1).sum() == 1 if other else (rows[:, 0] >= 0).all()
    assert (rows[:, -1] == -1).any()


def test_triplets_of_other_rows_name_rows_of_both() -> None:
    (X, y), (Q, of) = rows_of(), rows_of(25, seed=1)
    found = TripletMiner().fit(X, y).transform(Q, of)
    expected = minestream.mine_arrays(Q, of, corpus=X, corpus_labels=y)
    assert found.tolist() == np.array([expected.query, expected.positive, expected.negative]).T.tolist()
    assert (y[found[:, 1]] == of[found[:, 0]]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_other_rows_need_labels(kind: Any) -> None:
    X, y = rows_of()
    miner = kind()
    with pytest.raises(NotFittedError):
        miner.transform(X)
    miner.fit(X, y)
    for others in (X[:-1], X[::-1], X + 1):
        with pytest.raises(UsageError, match="no labels of these rows"):
            miner.transform(others)


def test_labels_that_there_are() -> None:
    X, y = rows_of()
    expected = TripletMiner().fit_transform(X, y)
    texts = np.array(["a", "b", "c", "d"])[y]
    for labels in (y.astype(float), y.tolist(), texts, texts.astype(object), texts.tolist()):
        assert np.array_equal(TripletMiner().fit_transform(X, labels), expected)
    some = np.where(np.arange(40) < 20, y, -1)  # as semi-supervised estimators mark rows without a label
    assert np.array_equal(
        TripletMiner(unlabeled_value=-1).fit_transform(X, some), TripletMiner().fit_transform(X[:20], y[:20])
    )
    with pytest.raises(ValueError, match="continuous"):
        TripletMiner().fit(X, y + 0.5)
    for kind in KINDS:
        with pytest.raises(ValueError, match="carry one label"):
            kind().fit_transform(X, np.zeros(40, int))
        with pytest.raises(ValueError, match="requires y to be passed"):
            kind().fit(X, None)


def test_rows_of_zeros_are_left_out_where_that_is_asked_for() -> None:
    X, y = rows_of()
    X[5] = 0
    with pytest.raises(ValueError, match=r'zero norm in row 5\n.*on_bad_rows="drop"'):
        NearestNegatives().fit_transform(X, y)
    rows, similarities = NearestNegatives(on_bad_rows="drop", negatives=2).fit_transform(X, y)
    assert rows[5].tolist() == [-1, -1]
    assert (np.delete(rows, 5, axis=0) >= 0).all()
    assert np.isnan(similarities).sum() == 2


def test_a_pipeline() -> None:
    X, y = load_digits(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), PCA(16), TripletMiner(band="hard", negatives=2))
    triplets = pipeline.fit_transform(X, y)  # (t, 3): rows of anchors, positives, negatives

    candidates = NearestNegatives(metric="dot", negatives=5).fit(X, y)
    rows, similarities = candidates.transform(X)  # (n, 5) each; -1 and NaN where there is none
    rows, similarities = candidates.transform(X[:9] / 2, y[:9])  # other rows, with their labels

    assert rows.shape == similarities.shape == (9, 5)
    anchors, positives, negatives = triplets.T
    assert len(triplets) > 100
    assert (y[anchors] == y[positives]).all()
    assert (y[anchors] != y[negatives]).all()
    nearest = make_pipeline(StandardScaler(), NearestNegatives(negatives=3))
    rows, similarities = nearest.fit_transform(X, y)
    assert (y[rows] != y[:, None]).all()
    assert (np.diff(similarities) <= 0).all()
    assert np.array_equal(nearest.transform(X)[0], rows)
    scaler, miner = nearest
    others = miner.transform(scaler.transform(X[:50] + 0.1), y[:50])
    assert others[0].shape == (50, 3)


# ---------------------------------------------------------------- parameters


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_are_the_options_of_the_table(kind: Any) -> None:
    own = {"band": "any"} if kind is NearestNegatives else {}
    given = {name: each.default for name, each in signature(kind).parameters.items()}
    assert given == {name: OPTION_FIELDS[name].default for name in EstimatorOptions.__annotations__} | own
    assert kind().get_params() == given
    assert {"metric", "margin", "band", "negatives", "positives", "seed"} <= given.keys()
    miner = kind(metric="dot", margin=0.5).set_params(negatives=4)
    assert clone(miner).get_params() == given | {"metric": "dot", "margin": 0.5, "negatives": 4}
    assert repr(miner) == f"{kind.__name__}(margin=0.5, metric='dot', negatives=4)"
    X, y = rows_of()
    assert clone(miner.fit(X, y)).get_params() == miner.get_params()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_refused_and_what_is_remarked(kind: Any) -> None:
    X, y = rows_of()
    with pytest.raises(UsageError, match=f"{kind.__name__} has no option 'bnad'\n.*band"):
        kind(bnad="any")
    with pytest.raises(ValueError, match="Invalid parameter 'bnad'"):
        kind().set_params(bnad="any")
    with pytest.raises(UsageError, match="band has no value 'hrad'"):
        kind(band="hrad").fit(X, y)
    with pytest.raises(UsageError, match="margin"):
        kind(metric="euclidean", band="semi-hard").fit(X, y)
    with pytest.warns(UserWarning, match="seed has no effect"):
        kind(seed=3).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kind().fit(X, y)


@pytest.mark.parametrize("options", [{"positives": "all"}, {"positives_per_anchor": 2}, {"preset": "facenet"}])
def test_nearest_negatives_have_one_positive(options: dict[str, Any]) -> None:
    X, y = rows_of()
    with pytest.raises(UsageError, match="one positive a row"):
        NearestNegatives(**options).fit(X, y)


def test_a_preset_has_its_band_where_none_is_given() -> None:
    X, y = rows_of()
    own = NearestNegatives(preset="easy-positive", band=None).fit_transform(X, y)
    for expected, same in (("beyond", True), ("any", False)):
        found = NearestNegatives(band=expected).fit_transform(X, y)
        assert np.array_equal(own[0], found[0]) == same


# ---------------------------------------------------------------- the checks of scikit-learn

OTHER_ROWS = {"fit_idempotent", "methods_sample_order_invariance", "methods_subset_invariance"}  # without labels
NO_COSINE = {"estimators_dtypes"}  # of a row of zeros
AS_MANY = {"transformer_general", "transformer_data_not_an_array"}  # triplets as rows


@pytest.mark.parametrize(("miner", "expected"), [
    (TripletMiner(), OTHER_ROWS | NO_COSINE | AS_MANY),
    (TripletMiner(on_bad_rows="drop"), OTHER_ROWS | AS_MANY),
    (NearestNegatives(), OTHER_ROWS | NO_COSINE),
    (NearestNegatives(metric="euclidean"), OTHER_ROWS),
], ids=repr)  # fmt: skip
def test_checks_fail_where_that_is_said(miner: Any, expected: set[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of checks that are skipped
        results = check_estimator(miner, on_fail=None, on_skip=None)
    failed = {each["check_name"].removeprefix("check_") for each in results if each["status"] == "failed"}
    assert failed == expected
    assert len([each for each in results if each["status"] == "passed"]) > 35
    documented = " ".join((TripletMiner.__doc__ or "").split())
    assert all(f"check_{name}" in documented for name in failed)
