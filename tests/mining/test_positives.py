"""Which positives are taken: duplicates of the anchor only while there is no other, at the threshold itself, too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import assert_sides_agree
from worlds import World

import minestream

OF_LINE: dict[str, Any] = {"metric": "euclidean", "band": "any"}
LISTED = [(0, 1), (0, 2)]


def mined(points: list[float], labels: list[str] | None, **options: Any) -> minestream.Mined:
    """Points on a line."""
    return minestream.mine_arrays(np.array(points, np.float32)[:, None], labels, **OF_LINE, **options)


@pytest.mark.parametrize(("within", "positive"), [(0.5, 1), (1.0, 2), (2.5, 1), (9.0, 1)])
@pytest.mark.parametrize("labels", [["a", "a", "a", "b"], None], ids=["labels", "a list"])
def test_a_positive_at_the_threshold_is_passed_over_while_there_is_another(
    labels: list[str] | None, within: float, positive: int
) -> None:
    """Of 1.0 and 2.5 around the anchor at 0.0; where both are too near, the nearer one is taken."""
    given: dict[str, Any] = {"positives": "easiest", "drop_duplicates_within": within, "drop_duplicates_of": "positive"}
    known = {} if labels else {"qrels": LISTED}
    rows = mined([0.0, 1.0, 2.5, 20.0], labels, **given, **known).table()
    assert [
        p for a, p in zip(rows["anchor_row"].to_pylist(), rows["positive_row"].to_pylist(), strict=True) if not a
    ] == [positive]


@pytest.mark.parametrize(("within", "counted"), [(0.5, 0), (1.0, 2), (1.5, 2), (0.0, 0)])
@pytest.mark.parametrize("labels", [["a", "a", "b"], None], ids=["labels", "a list"])
def test_positives_taken_for_want_of_another_are_counted(labels: list[str] | None, within: float, counted: int) -> None:
    known = {} if labels else {"qrels": LISTED[:1]}
    rule: dict[str, Any] = {"positives": "easiest", "drop_duplicates_of": "positive", "drop_duplicates_within": within}
    assert mined([0.0, 1.0, 20.0], labels, **rule, **known).stats.duplicate_positives == counted


def test_multiples_of_the_anchor_are_its_duplicates_and_taken_for_want_of_others() -> None:
    """They have one direction, and by rounding alone a distance that is not 0."""
    directions = np.random.default_rng(3).standard_normal((40, 24)).astype(np.float32).astype(np.float64)
    rows = np.concatenate([directions * times for times in (1, 3, 7)])  # exact
    world = World(rows, [*range(40)] * 3, list(range(120)))
    for count in (1, 2, 5):
        assert assert_sides_agree(world, positives="easiest", positives_per_anchor=count, band="any")
    found = minestream.mine_arrays(rows, world.labels, positives_per_anchor=2, band="any", float64=True)
    assert found.stats.duplicate_positives == 240
    assert max(found.table()["distance_ap"].to_pylist()) > 0.0, "no multiple differs, so nothing was tested"
