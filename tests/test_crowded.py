"""Anchors with more pairs than gates are told apart by: every positive of large labels."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st
from support import CELLS, SCREENS, allowed, assert_sides_agree, drawn_options, fits
from test_properties import examples
from worlds import World

from minestream.kernels.gates import CROWDED

CROWDED_CELLS = [cell for cell in CELLS if allowed(cell) and cell["positives"] == "all" and cell["emit"] != "pairs"]


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


@examples(40)
@given(crowded_worlds(), st.sampled_from(CROWDED_CELLS), st.integers(0, 2**32 - 1))
def test_many_pairs_of_an_anchor_find_what_the_reference_finds(world: World, cell: dict[str, str], seed: int) -> None:
    assume(fits(world, cell))
    options = drawn_options(world, cell, np.random.default_rng(seed)) | {"anchors": "5", "anchors_per_label": None}
    assert_sides_agree(world, SCREENS, **options)
