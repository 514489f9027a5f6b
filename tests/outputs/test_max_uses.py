"""A cap of uses that binds nowhere changes neither rows nor counts; one that binds says what it took."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minestream
from minestream.system.stats import ShardStats

POINTS = np.array([0.0, 1.0, 4.0, 2.0, 3.0], np.float32)[:, None]
LABELS = ["a", "a", "a", "b", "c"]
OPTIONS: dict[str, Any] = {
    "metric": "euclidean", "margin": 1.0, "positives": "all", "negatives": 3, "band": "beyond", "scores": "none",
    "drop_duplicates_within": "none",
}  # fmt: skip
SUMS = ("pairs", "rows", "full", "short", "empty", "losses", "active_rows", "loss_sum", "active_loss_sum")


def mined(**options: Any) -> tuple[Any, ShardStats]:
    """Rows and counts of the points."""
    found = minestream.mine_arrays(POINTS, LABELS, **OPTIONS | options)
    return found.table(), found.stats


@pytest.mark.parametrize("short_rows", ["keep", "drop"])
@pytest.mark.parametrize("emit", ["triplets", "tuples"])
def test_a_cap_that_binds_nowhere_changes_nothing(emit: str, short_rows: str) -> None:
    """Some pairs have no negative beyond the positive, and some negatives lie on the margin itself."""
    plain, counted = mined(emit=emit, short_rows=short_rows, negatives=2)
    capped, again = mined(emit=emit, short_rows=short_rows, negatives=2, max_uses=99)
    shown = [name for name in plain.column_names if name != "harder"]
    assert capped.select(shown).equals(plain.select(shown))
    assert counted.empty
    assert counted.short
    assert {name: getattr(again, name) for name in SUMS} == {name: getattr(counted, name) for name in SUMS}
    assert again.dropped == counted.dropped, "the cap took nothing, so nothing is counted as taken by it"


def test_rows_on_the_margin_are_not_active() -> None:
    """Of 0 and 1 with the negative at 2: from 0 it is as far as the positive and the margin, from 1 nearer."""
    rows = np.array([0.0, 1.0, 2.0], np.float32)[:, None]
    for cap in (None, 9):
        given: dict[str, Any] = {"metric": "euclidean", "margin": 1.0, "band": "any", "max_uses": cap}
        stats = minestream.mine_arrays(rows, ["a", "a", "b"], **given).stats
        assert (stats.losses, stats.active_rows, stats.loss_sum) == (2, 1, 1.0)


def test_what_a_cap_takes_is_counted() -> None:
    """Six rows have a pair each, and every row is a negative once at most."""
    rows = np.array([0.0, 1.0, 2.0, 3.0, 10.0, 11.0], np.float32)[:, None]
    given: dict[str, Any] = {"metric": "euclidean", "margin": 1.0, "band": "any", "anchors": None, "max_uses": 1}
    found = minestream.mine_arrays(rows, ["a"] * 4 + ["b"] * 2, **given)
    used = found.table()["negative_row"].to_pylist()
    assert len(used) == len(set(used)) == found.stats.rows
    assert found.stats.dropped["hub cap"] == found.stats.pairs - found.stats.rows
    assert found.stats.full + found.stats.empty == found.stats.pairs
