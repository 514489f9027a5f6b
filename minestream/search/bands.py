"""Bands of distance as intervals of affinity, widened by the error of a screen."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.kernels import quantize, sweep
from minestream.kernels.types import FARTHEST, Pairs, Rule
from minestream.search.context import SearchContext
from minestream.system import ragged
from minestream.system.threads import slices

BEYOND = 1e300  # a linear distance in the frame that no row has, and whose sums are finite


def edges_of(
    setting: SearchContext, rule: Rule, pairs: Pairs, h: NDArray[np.float64], own: NDArray[np.float64]
) -> sweep.Edges:
    """The bands of all pairs as affinities, widened by the errors; unbounded edges are infinite."""
    metric = setting.metric
    scale, dot = setting.loaded.frame.scale, setting.loaded.frame.dot
    sign = -1.0 if rule.pick == FARTHEST else 1.0
    edges = np.empty((5, pairs.positive.size))

    def fill(anchors: slice) -> None:
        start = pairs.start[anchors.start : anchors.stop + 1]
        some = slice(int(start[0]), int(start[-1]))
        pair_h, pair_own = (np.repeat(each[anchors], np.diff(start)) for each in (h, own))

        def affinity(x: NDArray[np.float64], unbounded: float, outwards: float) -> NDArray[np.float64]:
            bounded = np.isfinite(x) & ((x > 0) | dot)
            with np.errstate(over="ignore"):  # an edge that no row reaches
                t = np.clip(metric.linear(np.where(bounded, x, 0.0)) * scale * scale, -BEYOND, BEYOND)
            slack = pair_own + 2.0**-48 * (np.abs(pair_h) + np.abs(t))
            return np.where(bounded, sign * (pair_h - t) + outwards * slack, unbounded)

        low, high = pairs.low[some], pairs.high[some]
        high_closed = np.where((high <= 0) & (not dot), np.finfo(float).tiny, high)
        farther, nearer = (high_closed, low) if sign > 0 else (low, high_closed)
        edges[0, some], edges[1, some] = affinity(farther, -np.inf, -1.0), affinity(nearer, np.inf, 1.0)
        edges[2, some], edges[3, some] = affinity(farther, -np.inf, 1.0), affinity(nearer, np.inf, -1.0)
        edges[4, some] = affinity(pairs.floor[some], np.inf, 1.0)

    setting.workers.run([partial(fill, part) for part in slices(h.size, setting.limits.threads)])
    return sweep.Edges._make([*edges, h, own])


def gate_offsets(terms: quantize.Terms | sweep.Edges, anchors: NDArray[Any], sign: float) -> NDArray[np.float64]:
    """What is added to a gate that stands for a distance, to make it an affinity of its anchor, float64[anchors]."""
    offsets: NDArray[np.float64] = sign * terms.h[anchors] - terms.own[anchors]
    return offsets


def moved(gate: NDArray[np.floating], offsets: NDArray[np.float64]) -> NDArray[np.float32]:
    """Gates moved by these offsets, never upwards by rounding; those that are infinite stay so."""
    affinity = (gate + offsets - 2.0**-48 * np.abs(offsets)).astype(np.float32)
    return np.where(np.isfinite(gate), np.nextafter(affinity, -np.inf), gate).astype(np.float32)


def move_gates(
    gates: sweep.Gates,
    pairs: Pairs,
    before: quantize.Terms,
    after: quantize.Terms,
    anchors: NDArray[np.int32],
    sign: float,
) -> None:
    """Convert the gates that the probe found to other codes of the same rows.

    Such a gate stands for a distance. As an affinity it moves with h, and with the anchor's share of the error.
    """
    offsets = gate_offsets(after, anchors, sign) - gate_offsets(before, anchors, sign)
    for gate in (gates.reach, gates.near):
        gate[:] = moved(gate, ragged.repeat(offsets, pairs.start))
