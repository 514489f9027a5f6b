"""Anchors with more pairs than gates are told apart by: every positive of large labels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from support import CELLS, SCREENS, allowed, assert_sides_agree, drawn_options, fits
from test_properties import examples
from worlds import World

from minestream.config.resolve import split_options
from minestream.kernels.sweep import CROWDED
from minestream.mining.plan import cut_shards

SWEPT = tuple(screen for screen in SCREENS if screen != "scan")  # which knows no gates
CROWDED_CELLS = [cell for cell in CELLS if allowed(cell) and cell["emit"] != "pairs"]


@st.composite
def crowded_worlds(draw: st.DrawFn) -> World:
    """Two or three labels, one of which has more rows than that; on a coarse grid or anywhere, rows repeated."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = (
        [0] * (CROWDED + 2 + draw(st.integers(0, 20))) + [1] * draw(st.integers(5, 40)) + [2] * draw(st.integers(0, 9))
    )
    n, d = len(labels), draw(st.integers(1, 5))
    if draw(st.booleans()):
        rows: Any = rng.integers(1, 5, (n, d)).astype(draw(st.sampled_from(["float32", "int8"])))
    else:
        rows = rng.normal(size=(n, d)).astype(draw(st.sampled_from(["float32", "float64"])))
    if draw(st.booleans()):
        rows = rows[rng.integers(0, n, n)]
    groups = [None if g == 0 else g for g in rng.integers(0, 9, n).tolist()] if draw(st.booleans()) else None
    return World(rows, rng.permutation(labels).tolist(), groups=groups)


CROWDED_JOBS = (crowded_worlds(), st.sampled_from(CROWDED_CELLS), st.integers(0, 2**32 - 1))


@examples(6)
@given(*CROWDED_JOBS)
def test_many_pairs_of_an_anchor_find_what_the_reference_finds(world: World, cell: dict[str, str], seed: int) -> None:
    check(world, cell, seed)


@pytest.mark.slow
@examples(120)
@given(*CROWDED_JOBS)
def test_many_pairs_in_many_worlds(world: World, cell: dict[str, str], seed: int) -> None:
    check(world, cell, seed)


def check(world: World, cell: dict[str, str], seed: int) -> None:
    assume(fits(world, cell))
    options = drawn_options(world, cell, np.random.default_rng(seed))
    options |= {"anchors": "3", "anchors_per_label": None, "positives_per_anchor": len(world.labels)}
    if cell["pick"] == "nearest" and not options["skip"] and seed % 2:
        options["fallback"] = "farthest"
    assert_sides_agree(world, SWEPT, **options)


@pytest.mark.parametrize(
    ("band", "positives", "k", "fallback", "away"),
    [("semi-hard", "easiest", 3, "none", 0), ("hard", "all", 50, "none", 0), ("violating", "hardest", 50, "none", 0),
     ("hard", "all", 3, "farthest", 20)],
)  # fmt: skip
def test_ties_at_every_edge_of_many_bands(band: str, positives: str, k: int, fallback: str, away: int) -> None:
    """On a line, where most distances are ties; of each anchor every other row of its label is a positive."""
    rng = np.random.default_rng(5)
    labels = rng.permutation([0] * (CROWDED + 50) + [1] * 60)
    rows = rng.integers(1, 9, (len(labels), 1)) + away * labels[:, None]
    found = assert_sides_agree(
        World(rows.astype(np.float32), labels.tolist()), SWEPT, metric="euclidean", band=band, positives=positives,
        margin=1.5, negatives=k, anchors="4", positives_per_anchor=len(labels), drop_duplicates_within=None,
        fallback=fallback,
    )  # fmt: skip
    assert found


@pytest.mark.parametrize(
    ("options", "anchors"),
    [({"negatives": 16}, 16_384), ({"negatives": 17}, 8_192), ({"negatives": 64}, 4_096),
     ({"emit": "pairs", "negatives": 0}, 2_048), ({"positives": "all"}, 16),
     ({"positives": "all", "negatives": 64}, 1)],
)  # fmt: skip
def test_a_part_has_so_many_anchors(options: dict[str, Any], anchors: int) -> None:
    config, *_ = split_options({"margin": 0.2, **options})
    shards = cut_shards(config, np.full(40_000, 10_000))
    assert shards[0] == (0, anchors)
    assert shards[-1][1] == 40_000
    assert all(before[1] == after[0] for before, after in itertools.pairwise(shards))
