"""The order of the rows in a search."""

from __future__ import annotations

import numpy as np
import pytest

from minestream.search.order import sorted_by


@pytest.mark.parametrize("rows", [0, 1, 5, 1_000])
@pytest.mark.parametrize("largest", [0, 1, 2**20, 2**31, 2**62])
def test_rows_are_sorted_as_by_each_key_in_turn(rows: int, largest: int) -> None:
    """Whether one number holds all keys, or not, and of equal rows the first stays first."""
    rng = np.random.default_rng(rows)
    keys = [rng.integers(-largest, largest + 1, rows) for _ in range(3)]
    keys += [rng.integers(0, 3, rows).astype(np.int32), rng.integers(0, 2, rows).astype(bool)]
    assert sorted_by(*keys).tolist() == np.lexsort(keys).tolist()
