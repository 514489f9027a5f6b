"""Where a sample says how far many candidates reach, the answers are those of the scan, whatever the sample holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import minestream
from minestream.search import swept
from minestream.search.sweep import Sweeping

ROWS = 400


def world() -> dict[str, Any]:
    """Rows of few labels in blobs, some of them equal; of the first label there are few."""
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(12, 6))[rng.integers(0, 12, ROWS)] + 0.4 * rng.normal(size=(ROWS, 6))
    vectors[100:160] = vectors[:60]
    labels = np.where(rng.random(ROWS) < 0.9, rng.integers(1, 5, ROWS), 0)
    return {"embeddings": vectors.astype(np.float32), "labels": labels, "progress": "none"}


@pytest.mark.parametrize("options", [
    {}, {"band": "semi-hard", "margin": 0.4}, {"band": "violating", "margin": 0.4}, {"band": "beyond"},
    {"skip": 7}, {"positives_per_anchor": 3}, {"drop_duplicates_within": 0.05},
    {"max_similarity": 0.6}, {"metric": "euclidean"}, {"anchors": "20%"},
    {"within_top": 60, "pick": "random", "negatives": 5},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("deviations", [-2, 0, 4])  # too few in the sample, half the time, hardly ever
def test_a_sample_changes_no_answer(options: dict[str, Any], deviations: int, monkeypatch: pytest.MonkeyPatch) -> None:
    given = world() | {"negatives": 40, "band": "any"} | options
    truth = minestream.mine_arrays(**given, screen="scan").table()
    again, repeated = swept._again, []
    monkeypatch.setattr(swept, "MANY", 20)
    monkeypatch.setattr(swept, "SHARE", 5)
    monkeypatch.setattr(swept, "DEVIATIONS", deviations)
    monkeypatch.setattr(swept, "_again", lambda *all: repeated.append(all[-1].sum()) or again(*all))
    assert minestream.mine_arrays(**given, screen="f32").table().equals(truth)
    if not options:  # bands may hold fewer than are wanted
        assert (sum(repeated) > ROWS / 4) == (deviations <= 0)


def test_the_sample_saves_exact_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, counted = np.random.default_rng(4), [0]
    given = {"embeddings": rng.normal(size=(6_000, 8)), "labels": rng.integers(0, 900, 6_000), "band": "any"}
    report = Sweeping.report

    def counting(sweeping: Sweeping) -> None:
        counted[-1] += int(sweeping.exact[0])
        report(sweeping)

    monkeypatch.setattr(Sweeping, "report", counting)
    for many in (128, 10**9):
        monkeypatch.setattr(swept, "MANY", many)
        minestream.mine_arrays(**given, negatives=1_200, anchors="2%", screen="f32", progress="none")
        counted.append(0)
    sampled, plain = (count - 120 * 1_200 for count in counted[:2])  # beyond those that are taken
    assert 0 < sampled < plain / 2
