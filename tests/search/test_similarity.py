"""The similarity filters."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from minestream.search import similarity


@pytest.mark.parametrize(("reference", "values"), [("min", [-1, 5]), ("max", [1e16, 5]), ("mean", [1 / 3, 5])])
def test_the_reference_of_a_list_is_exact_and_that_of_an_empty_one_nothing(reference: str, values: list[float]) -> None:
    s = np.array([1e16, 1, -1e16, 5]) if reference != "min" else np.array([0.5, 1, -1, 5])
    found = similarity.references(reference, s, np.array([0, 3, 3, 4]))
    assert found.tolist() == pytest.approx([values[0], np.nan, values[1]], abs=0, rel=0, nan_ok=True)


def test_each_filter_that_is_set_says_what_passes() -> None:
    rule = SimpleNamespace(max_similarity=0.9, min_similarity=None, absolute_margin=0.25, relative_margin=0.5)
    reference = np.array([-1.0, 0.5])
    found = {name: (low, np.asarray(high).tolist()) for name, low, high in similarity.bounds(rule, reference)}
    least = -np.inf
    assert found == {
        "max_similarity": (least, 0.9), "absolute_margin": (least, [-1.25, 0.25]),
        "relative_margin": (least, [-1.5, 0.25]),
    }  # fmt: skip


@pytest.mark.parametrize("bound", [1.0, 0.0, -1.0, 0.95, 1.0 - 2**-53, 1e-300, 0.1 + 0.2, 2.0, -1.5])
def test_filter_intervals_end_at_the_last_double_that_passes(bound: float) -> None:
    least = float(similarity.least_distance(lambda x: 1.0 - x <= bound, 1)[0])
    if np.isfinite(least):
        assert 1.0 - least <= bound
        assert least == 0 or not 1.0 - np.nextafter(least, -np.inf) <= bound
    else:
        assert bound < -1.0
    largest = float(similarity.largest_distance(lambda x: 1.0 - x >= bound, 1)[0])
    if largest >= 0:
        assert 1.0 - largest >= bound
        assert largest == 2.0 or not 1.0 - np.nextafter(largest, np.inf) >= bound
    else:
        assert bound > 1.0
