"""The losses: the seeds' printed numbers, gradients by finite differences and by autograd, reductions, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minestream.config.metrics import METRICS
from minestream.errors import InputError, UsageError
from minestream.kernels.distances import COSINE, DOT, EUCLIDEAN, SQEUCLIDEAN
from minestream.learn import losses
from minestream.learn.losses import LossResult, contrastive_loss, triplet_loss
from minestream.outputs import losses as outputs_losses

A1, A2, B1, B2 = (0.8, 0.2), (0.75, 0.25), (0.1, 0.9), (0.15, 0.85)
TRIPLETS = (
    np.array([[1.0, 0.9, 1.1], [0.0, 0.1, -0.1]]),
    np.array([[1.1, 1.0, 1.0], [0.05, 0.1, 0.0]]),
    np.array([[3.0, -2.0, 0.0], [-1.0, 1.0, 1.0]]),
)
STEP = 1e-6

Loss = Callable[..., LossResult]


def every_loss() -> list[tuple[str, Loss, dict[str, Any], int]]:
    """Name, function, options and number of tables of each loss, metric and normalisation."""
    found: list[tuple[str, Loss, dict[str, Any], int]] = []
    for normalize in (False, True):
        for metric in METRICS:
            for soft in (False, True):
                options = {"metric": metric, "normalize": normalize, "soft": soft}
                found.append((f"triplet {metric} {normalize=} {soft=}", triplet_loss, options, 3))
        for metric in losses.CONTRASTIVE_METRICS:
            options = {"metric": metric, "normalize": normalize}
            found.append((f"contrastive {metric} {normalize=}", contrastive_loss, options, 2))
    return found


EVERY_LOSS = every_loss()
CASES = pytest.mark.parametrize(
    ("loss", "options", "tables"), [c[1:] for c in EVERY_LOSS], ids=[c[0] for c in EVERY_LOSS]
)


def beside(loss: Loss, rows: int) -> tuple[Any, ...]:
    """What the loss takes between the rows and the margin."""
    return () if loss is triplet_loss else (np.arange(rows) % 2,)


# ---------------------------------------------------------------- the seeds


def test_trace_table() -> None:
    """The seed rounds D to the digits that it prints before it squares: .0230 and .0331 are of .8485."""
    left, right, similar = [A1, A1, A2, B1], [A2, B1, B2, B2], [1, 0, 0, 1]
    printed = np.array([0.0707, 0.9899, 0.8485, 0.0707])
    np.testing.assert_allclose(np.linalg.norm(np.subtract(left, right), axis=1), printed, atol=5e-5)
    table = outputs_losses.contrastive(printed, np.array(similar, bool), 1.0)
    assert np.round(table, 4).tolist() == [0.0050, 0.0001, 0.0230, 0.0050]
    assert round(table.sum(), 4) == 0.0331
    found = contrastive_loss(left, right, similar, 1.0, reduction="none")
    np.testing.assert_allclose(found.value, table, atol=1e-5)
    assert np.round(found.value, 4)[[0, 1, 3]].tolist() == [0.0050, 0.0001, 0.0050]


@pytest.mark.parametrize(
    ("margin", "printed", "value"),
    [(0.5, 0.0, 0.0), (1.0, 0.0001, 0.0001), (1.5, 0.2601, 0.2602), (2.0, 1.0203, 1.0202)],
)
def test_margin_sensitivity(margin: float, printed: float, value: float) -> None:
    """D is 0.98995; the seed prints what 0.99 gives at 1.5 and 0.9899 at 2: one off in the last digit."""
    found = contrastive_loss([A1], [B1], [0], margin).value
    assert round(found, 4) == value
    assert found == pytest.approx(printed, abs=1.01e-4)


@pytest.mark.parametrize(
    ("margin", "raw", "unit"), [(0.5, 0.0, 0.0), (3.1, 0.046250, 1.663413), (14.0, 5.701250, 12.563413)]
)
def test_triplet_means(margin: float, raw: float, unit: float) -> None:
    assert round(triplet_loss(*TRIPLETS, margin).value, 6) == raw
    assert round(triplet_loss(*TRIPLETS, margin, normalize=True).value, 6) == unit


def test_gradients_of_an_active_triplet() -> None:
    a, p, n = TRIPLETS
    found = triplet_loss(a, p, n, 3.1, reduction="none")
    ga, gp, gn = found.gradients
    assert found.value[0] == 0.0
    assert not any(gradient[0].any() for gradient in found.gradients)
    assert found.active == 0.5
    np.testing.assert_array_equal(ga[1], 2 * (n - p)[1])
    np.testing.assert_array_equal(gp[1], 2 * (p - a)[1])
    np.testing.assert_array_equal(gn[1], 2 * (a - n)[1])


def test_gradients_of_pairs() -> None:
    x1, x2 = np.array([A1, A1, A2]), np.array([A2, B1, B2])
    left, right = contrastive_loss(x1, x2, [True, False, False], 1.0, reduction="none").gradients
    d = np.linalg.norm(x1 - x2, axis=1)[:, None]
    wanted = np.where([[True], [False], [False]], 2 * (x1 - x2), -2 * (1.0 - d) * (x1 - x2) / d)
    np.testing.assert_allclose(left, wanted, rtol=1e-13)
    np.testing.assert_array_equal(right, -left)


def test_a_dissimilar_pair_beyond_the_margin_rests() -> None:
    """The seed's exercise: D = 1.5 gives nothing at m = 1, and (2 - 1.5)^2 at m = 2."""
    at_one, at_two = (contrastive_loss([[0.0]], [[1.5]], [0], m) for m in (1.0, 2.0))
    assert (at_one.value, at_one.active, at_one.gradients[0].item()) == (0.0, 0.0, 0.0)
    assert (at_two.value, at_two.gradients[0].item(), at_two.gradients[1].item()) == (0.25, 1.0, -1.0)


def test_pairs_of_ten_thousand() -> None:
    n = 10_000
    assert math.comb(n, 2) == 49_995_000
    assert round(0.005 * math.comb(n, 2)) == 249_975


# ---------------------------------------------------------------- gradients


@CASES
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), scale=st.sampled_from([0.1, 1.0, 3.0]), d=st.integers(2, 5))
def test_finite_differences(loss: Loss, options: dict[str, Any], tables: int, seed: int, scale: float, d: int) -> None:
    generator = np.random.default_rng(seed)
    rows = [scale * generator.normal(size=(4, d)) + 0.3 * scale for _ in range(tables)]
    margin = float(generator.uniform(0.2, 1.5))
    extra = beside(loss, 4)

    def values(changed: list[np.ndarray]) -> np.ndarray:
        found = loss(*changed, *extra, margin, reduction="none", **options).value
        assert isinstance(found, np.ndarray)
        return found

    found = loss(*rows, *extra, margin, reduction="none", **options)
    for table, gradient in enumerate(found.gradients):
        for j in range(d):
            step = np.zeros((4, d))
            step[:, j] = STEP * scale
            up, down = ([*rows[:table], rows[table] + sign * step, *rows[table + 1 :]] for sign in (1, -1))
            slopes = [(values(up) - found.value) / step[:, j], (found.value - values(down)) / step[:, j]]
            measured = (slopes[0] + slopes[1]) / 2
            # Where the hinge lies within a step the two sides differ, and no difference is the gradient.
            smooth = np.abs(slopes[0] - slopes[1]) < 1e-3 * (1 + np.abs(measured))
            np.testing.assert_allclose(gradient[smooth, j], measured[smooth], rtol=2e-4, atol=2e-6 * (1 + scale))


@CASES
def test_reductions(loss: Loss, options: dict[str, Any], tables: int) -> None:
    generator = np.random.default_rng(1)
    rows = [generator.normal(size=(40, 3)) for _ in range(tables)]
    extra = beside(loss, 40)
    each, mean, active = (
        loss(*rows, *extra, 0.4, reduction=name, **options) for name in ("none", "mean", "mean-active")
    )
    assert isinstance(each.value, np.ndarray)
    assert mean.value == math.fsum(each.value) / 40
    assert 0 < each.active <= 1
    if not options.get("soft"):
        assert each.active == (each.value > 0).mean()
        assert math.isclose(active.value, each.value.sum() / (each.value > 0).sum())
        np.testing.assert_allclose(active.gradients[0], each.gradients[0] / (each.value > 0).sum())
    np.testing.assert_allclose(mean.gradients[0], each.gradients[0] / 40)


@CASES
def test_threads_change_no_bit(loss: Loss, options: dict[str, Any], tables: int) -> None:
    generator = np.random.default_rng(2)
    rows = [generator.normal(size=(9000, 64)).astype(np.float32) for _ in range(tables)]
    one, two = (loss(*rows, *beside(loss, 9000), 0.4, threads=threads, **options) for threads in (1, 2))
    assert one.value == two.value
    assert all(np.array_equal(a, b) for a, b in zip(one.gradients, two.gradients, strict=True))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.int8])
def test_rows_of_any_type_are_computed_in_float64(dtype: Any) -> None:
    rows = [np.array(values, dtype) for values in ([[1, 2]], [[2, 4]], [[3, -1]])]
    wide = [values.astype(np.float64) for values in rows]
    given_type, widened = triplet_loss(*rows, 20.0), triplet_loss(*wide, 20.0)
    assert given_type.value == widened.value
    assert given_type.gradients[0].dtype == np.float64


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("metric", losses.CONTRASTIVE_METRICS)
def test_distance_zero_has_gradient_zero(metric: str, normalize: bool) -> None:
    rows = np.array([[0.3, 0.4], [0.1, 0.7]])
    pairs = contrastive_loss(rows, rows, [0, 1], 1.0, metric=metric, normalize=normalize, reduction="none")
    assert pairs.value.tolist() == [1.0, 0.0]
    assert not any(gradient.any() for gradient in pairs.gradients)
    triplets = triplet_loss(rows, rows, rows, 1.0, metric=metric, normalize=normalize)
    assert triplets.value == 1.0
    assert not any(gradient.any() for gradient in triplets.gradients)


def test_zero_rows_have_a_euclidean_distance() -> None:
    assert contrastive_loss([[0.0, 0.0]], [[3.0, 4.0]], [1], 1.0).value == 25.0


def test_softplus_does_not_overflow() -> None:
    found = triplet_loss([[0.0], [0.0]], [[1e3], [0.0]], [[0.0], [1e3]], 1.0, soft=True, reduction="none")
    assert found.value.tolist() == [1e6 + 1, 0.0]
    assert found.gradients[1].tolist() == [[2e3], [0.0]]


def test_no_rows_have_a_mean_of_zero() -> None:
    none = np.empty((0, 3))
    for reduction in ("mean", "mean-active"):
        assert triplet_loss(none, none, none, 0.2, reduction=reduction).value == 0.0
    far = triplet_loss([[0.0]], [[0.0]], [[9.0]], 0.2, reduction="mean-active")
    assert (far.value, far.active, far.gradients[0].item()) == (0.0, 0.0, 0.0)


def test_values_are_those_of_mined_rows() -> None:
    """One loss, two ways to it: from distances as they are mined, and from rows."""
    generator = np.random.default_rng(3)
    a, p, n = (generator.normal(size=(50, 4)) for _ in range(3))
    for soft, of_distances in ((False, outputs_losses.triplet), (True, outputs_losses.triplet_soft)):
        found = triplet_loss(a, p, n, 0.7, metric="euclidean", soft=soft, reduction="none")
        distances = [np.sqrt(((a - b) ** 2)[:, None].cumsum(axis=-1)[:, 0, -1]) for b in (p, n)]
        np.testing.assert_array_equal(found.value, of_distances(*distances, 0.7))


def test_metric_codes() -> None:
    codes = {"cosine": COSINE, "euclidean": EUCLIDEAN, "sqeuclidean": SQEUCLIDEAN, "dot": DOT}
    assert {name: metric.code for name, metric in METRICS.items()} == codes


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("similar", [[1, 2], [-1, 1], [0.5, 1], ["yes", "no"], [1], [[1, 0]], [float("nan"), 1]])
def test_labels_of_another_convention_are_refused(similar: Any) -> None:
    rows = np.ones((2, 2))
    with pytest.raises(InputError, match="1 \\(True\\) = similar, 0 \\(False\\) = dissimilar"):
        contrastive_loss(rows, rows, similar, 1.0)


@pytest.mark.parametrize("similar", [[1, 0], [True, False], [1.0, 0.0], np.array([1, 0], np.uint8)])
def test_labels_of_the_convention(similar: Any) -> None:
    found = contrastive_loss([[0.0], [0.0]], [[0.5], [0.5]], similar, 2.0, reduction="none")
    assert found.value.tolist() == [0.25, 2.25]


@pytest.mark.parametrize(
    ("changed", "error", "text"),
    [
        ({"metric": "manhattan"}, UsageError, "metric"),
        ({"reduction": "sum"}, UsageError, "reduction"),
        ({"margin": float("nan")}, UsageError, "margin"),
        ({"positive": np.ones((2, 3))}, InputError, "different shapes"),
        ({"positive": np.ones(2)}, InputError, "positive is float64"),
        ({"positive": np.ones((2, 2), complex)}, InputError, "complex"),
        ({"negative": np.array([[1.0, np.inf], [1, 1]])}, InputError, "negative: not finite in row 0"),
        ({"negative": np.array([[1.0, 1], [0, 0]]), "metric": "cosine"}, InputError, "zero norm in row 1"),
        ({"negative": np.array([[1.0, 1], [0, 0]]), "normalize": True}, InputError, "zero norm in row 1"),
    ],
)
def test_refusals(changed: dict[str, Any], error: type[Exception], text: str) -> None:
    arguments = {"anchor": np.ones((2, 2)), "positive": np.ones((2, 2)), "negative": np.ones((2, 2)), "margin": 0.2}
    with pytest.raises(error, match=text):
        triplet_loss(**{**arguments, **changed})


@pytest.mark.parametrize("metric", ["dot", "sqeuclidean"])
def test_contrastive_metrics(metric: str) -> None:
    with pytest.raises(UsageError, match="metric"):
        contrastive_loss(np.ones((1, 2)), np.ones((1, 2)), [1], 1.0, metric=metric)


# ---------------------------------------------------------------- a peer


@pytest.mark.peers
@CASES
def test_torch_autograd(loss: Loss, options: dict[str, Any], tables: int) -> None:
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(4)
    rows = [generator.normal(size=(64, 6)) for _ in range(tables)]
    tensors = [torch.tensor(each, requires_grad=True) for each in rows]
    used = [torch.nn.functional.normalize(each) for each in tensors] if options["normalize"] else tensors

    def distance(a: Any, b: Any) -> Any:
        if options["metric"] == "cosine":
            return 1 - torch.nn.functional.cosine_similarity(a, b)
        if options["metric"] == "dot":
            return -(a * b).sum(1)
        square = ((a - b) ** 2).sum(1)
        return square.sqrt() if options["metric"] == "euclidean" else square

    extra = beside(loss, 64)
    if loss is triplet_loss:
        z = distance(used[0], used[1]) - distance(used[0], used[2]) + 0.5
        values = torch.nn.functional.softplus(z) if options["soft"] else torch.relu(z)
    else:
        d, similar = distance(*used), torch.tensor(extra[0] == 1)
        values = torch.where(similar, d**2, torch.relu(0.5 - d) ** 2)
    values.mean().backward()
    found = loss(*rows, *extra, 0.5, **options)
    np.testing.assert_allclose(found.value, values.mean().item(), rtol=1e-12)
    for gradient, tensor in zip(found.gradients, tensors, strict=True):
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-9, atol=1e-14)
