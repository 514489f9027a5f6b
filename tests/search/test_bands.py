"""Bands as affinities: outer edges let through all that lies in a band, inner ones nothing else, neither by much."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from minestream.config.metrics import METRICS
from minestream.kernels import quantize, sweep
from minestream.kernels.types import FARTHEST, IGNORE, NEAREST, NEGATIVE, Pairs, Rule
from minestream.search.bands import BEYOND, edges_of, move_gates
from minestream.system.threads import Workers

H, OWN = np.array([0.5, 2.0]), np.array([1e-4, 3e-4])  # of two anchors: t = h - affinity, and their shares of the error
SCALE = 4.0


def edges(metric: str, pick: int, low: list[float], high: list[float], floor: list[float]) -> sweep.Edges:
    """Of the first pair of the first anchor and the others of the second."""
    frame = quantize.Frame(np.zeros(2), SCALE, metric == "cosine", metric == "dot")
    setting: Any = SimpleNamespace(
        metric=METRICS[metric],
        loaded=SimpleNamespace(frame=frame),
        workers=Workers(1),
        limits=SimpleNamespace(threads=2),
    )
    rule = Rule(NEGATIVE, pick, 1, 0, IGNORE, IGNORE, 0.0, False, METRICS[metric].code)
    start, count = np.array([0, 1, len(low)]), len(low)
    pairs = Pairs(
        start, np.full(count, -1, np.int32), np.array(low), np.array(high), np.array(floor), np.zeros(count, np.uint64)
    )
    return edges_of(setting, rule, pairs, H, OWN)


def affinity(metric: str, pick: int, anchor: int, x: float) -> float:
    """The exact one of a row at distance x."""
    t = {"cosine": x, "euclidean": x * x / 2, "sqeuclidean": x / 2, "dot": x}[metric] * SCALE**2
    return t - float(H[anchor]) if pick == FARTHEST else float(H[anchor]) - t


@pytest.mark.parametrize("pick", [NEAREST, FARTHEST])
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "sqeuclidean", "dot"])
def test_edges_are_widened_by_the_error_and_by_little_more(metric: str, pick: int) -> None:
    low, high, floor = [0.25, 0.5, 0.125], [0.75, 0.625, 1.5], [0.125, 0.25, 0.0625]
    found = edges(metric, pick, low, high, floor)
    for pair, anchor in enumerate((0, 1, 1)):
        ends = [affinity(metric, pick, anchor, x) for x in (low[pair], high[pair])]
        least, most, own = min(ends), max(ends), float(OWN[anchor])
        assert least - own * 1.01 < found.far[pair] < least - own
        assert most + own < found.near[pair] < most + own * 1.01
        assert least + own < found.surely_far[pair] < least + own * 1.01
        assert most - own * 1.01 < found.surely_near[pair] < most - own
        counted = affinity(metric, pick, anchor, floor[pair]) + own
        assert counted < found.floor[pair] < counted + own * 0.01
    assert found.h is H
    assert found.own is OWN


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "sqeuclidean", "dot"])
def test_edges_without_an_end_are_infinite(metric: str) -> None:
    none = [-np.inf] * 2
    for pick in (NEAREST, FARTHEST):
        found = edges(metric, pick, none, [np.inf] * 2, none)
        assert (found.far == -np.inf).all()
        assert (found.surely_far == -np.inf).all()
        assert (found.near == np.inf).all()
        assert (found.surely_near == np.inf).all()
        assert (found.floor == np.inf).all()
    zero = edges(metric, NEAREST, [0.0] * 2, [1.0] * 2, [0.0] * 2)
    assert np.isfinite(zero.near).all() == np.isfinite(zero.floor).all() == (metric == "dot")


@pytest.mark.parametrize("pick", [NEAREST, FARTHEST])
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "sqeuclidean"])
def test_a_band_up_to_0_holds_rows_that_are_equal_and_no_others(metric: str, pick: int) -> None:
    found = edges(metric, pick, [-np.inf] * 2, [0.0, -1.0], [-np.inf] * 2)
    for pair in (0, 1):
        equal, own = affinity(metric, pick, pair, 0.0), float(OWN[pair])
        if pick == NEAREST:
            assert equal - own * 1.01 < found.far[pair] < equal - own
            assert equal + own < found.surely_far[pair]
        else:
            assert equal + own < found.near[pair] < equal + own * 1.01
            assert found.surely_near[pair] < equal - own


def test_edges_that_no_row_reaches_are_finite() -> None:
    found = edges("euclidean", NEAREST, [1e200] * 2, [1e300] * 2, [-np.inf] * 2)
    assert (found.near < -BEYOND / 2).all()
    assert np.isfinite(found.near).all()
    assert np.isfinite(found.far).all()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_moved_gates_stand_for_the_same_distance(sign: float) -> None:
    start, rng = np.array([0, 2, 3]), np.random.default_rng(2)
    pairs = Pairs(start, *([np.zeros(3)] * 5))  # type: ignore[list-item]
    before, after = (
        quantize.Terms(rng.normal(size=4), rng.random(4) / 100, *([np.zeros(4, np.float32)] * 6))  # type: ignore[list-item]
        for _ in range(2)
    )
    anchors, of_pair, t = np.array([3, 1], np.int32), np.array([3, 3, 1]), np.array([0.5, 0.75, 1.5])

    def gate(terms: quantize.Terms) -> Any:
        return sign * (terms.h[of_pair] - t) - terms.own[of_pair]

    reach = np.nextafter(gate(before).astype(np.float32), np.float32(-np.inf))
    near = np.array([np.inf, -np.inf, reach[2]], np.float32)
    gates: Any = SimpleNamespace(reach=reach, near=near)
    move_gates(gates, pairs, before, after, anchors, sign)
    for moved in (reach, near[2:]):
        exact = gate(after)[-moved.size :]
        assert (moved < exact).all()
        assert np.allclose(moved, exact, atol=1e-6)
    assert near[:2].tolist() == [np.inf, -np.inf]
