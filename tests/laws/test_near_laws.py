"""Laws of approximate runs: nearly all is all, wider loses nothing, the bound holds, worst data are mined exactly."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from looked import WIDTHS
from numpy.typing import NDArray

import minestream
from minestream.mining import approximate
from minestream.mining.looking import Looking
from minestream.mining.shards import Mining
from minestream.search.near import Schedule, near_cells
from minestream.system.recall import lower_bound

ROWS, LABELS, DIMENSION = 1_200, 12, 16


def table(vectors: NDArray[np.floating[Any]], labels: NDArray[np.integer[Any]]) -> pa.Table:
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), vectors.shape[1])
    return pa.table({"label": labels, "embedding": column})


def clusters(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Rows of clusters, which labels hardly tell apart."""
    rng = np.random.default_rng(seed)
    cluster = rng.integers(0, 40, ROWS)
    vectors = 1.5 * rng.normal(size=(40, DIMENSION))[cluster] + rng.normal(size=(ROWS, DIMENSION))
    return vectors, np.where(rng.random(ROWS) < 0.5, cluster % LABELS, rng.integers(0, LABELS, ROWS))


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few anchors as a test has are enough."""
    monkeypatch.setattr(approximate, "LEAST_ANCHORS", 100)
    monkeypatch.setattr(approximate, "CALIBRATED", 150)
    monkeypatch.setattr(approximate, "MEASURED", 150)


def mined(given: pa.Table, out: Path, **options: Any) -> tuple[pa.Table, Any]:
    """The rows, and what the report says of an approximate run."""
    rule: dict[str, Any] = {"band": "any", "negatives": 4, "overwrite": True, "progress": "none", **options}
    report = minestream.mine(given, out, **rule)
    return pq.read_table(out), report.to_dict()["result"]["approximate"]


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("emit", ["triplets", "tuples", "pairs"])
def test_all_but_one_in_n_is_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, emit: str) -> None:
    """No sample tells less than one in n from nothing: a run that is asked for so much looks at everything."""
    given = table(*clusters())
    every, _ = mined(given, tmp_path / "every.parquet", emit=emit)
    monkeypatch.setattr(approximate, "MOST_SHARE", 10.0)
    some, _ = mined(given, tmp_path / "some.parquet", emit=emit, approximate=0.9)
    found, facts = mined(given, tmp_path / "found.parquet", emit=emit, approximate=1 - 1 / ROWS)
    assert found.equals(every)
    assert facts["looked_at"] == 1.0
    assert not some.equals(every)


RULES: dict[str, dict[str, Any]] = {
    "nearest": {}, "tuples": {"emit": "tuples"}, "random": {"pick": "random"},
    "few of a label": {"max_per_negative_label": 1}, "hard": {"band": "hard", "positives": "hardest", "margin": 0.3},
}  # fmt: skip


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_more_cells_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: dict[str, Any]) -> None:
    """Whatever of the exact rows is found is found by every wider run, too."""
    given = table(*clusters())

    def entries(width: int | None) -> set[tuple[int, int, int]]:
        def looking_of(mining: Mining) -> Looking | None:
            near = near_cells(mining.loaded, mining.searcher.workers, 1)
            return None if width is None else Looking(Schedule(near, width))

        monkeypatch.setattr("minestream.mining.pipeline.looking_of", looking_of)
        columns, _ = mined(given, tmp_path / "out.parquet", approximate=width and 0.9, screen="i8", **rule)
        negatives = columns.to_pydict().get("negative_rows") or [[row] for row in columns["negative_row"].to_pylist()]
        pairs = zip(columns["anchor_row"].to_pylist(), columns["positive_row"].to_pylist(), negatives, strict=True)
        return {(anchor, positive, row) for anchor, positive, rows in pairs for row in rows}

    exact = entries(None)
    found = [exact & entries(width) for width in WIDTHS]
    assert all(one <= wider for one, wider in pairwise(found))
    assert len(found[0]) < len(found[-1])


def test_the_bound_of_a_whole_run_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The width is chosen by one sample and measured by another: what a run then says is wrong once in a hundred."""
    anchors, runs, target = 20_000, 400, 0.9
    rng = np.random.default_rng(0)
    reach = np.where(rng.random((anchors, 1)) < 0.15, rng.gamma(2.0, 12.0, (anchors, 1)), 6.0)
    every = rng.binomial(16, 1 - np.exp(-np.arange(34) / reach)) / 16  # share by anchor and width
    every = np.maximum.accumulate(every, axis=1)

    def exact_answers(_: object, some: NDArray[np.int32]) -> Any:
        def of(places: NDArray[np.int64]) -> Any:
            return exact_answers(None, some[places])

        return SimpleNamespace(anchors=some, of=of, shares=lambda *_: every[some])

    monkeypatch.setattr(approximate, "exact_answers", exact_answers)
    monkeypatch.setattr(approximate, "near_cells", lambda *_: np.zeros((anchors, 32), np.uint16))
    monkeypatch.setattr(approximate, "shares_of", lambda near: np.full(near.shape[1], 0.1))
    monkeypatch.setattr(approximate, "LEAST_ANCHORS", 1_000)
    bounds, truths = np.zeros(runs), np.zeros(runs)
    for seed in range(runs):
        config = SimpleNamespace(approximate=target, seed=seed, positives="hardest")
        limits = SimpleNamespace(threads=1)
        searcher = SimpleNamespace(limits=limits, workers=None, take_cell=lambda cell: None, reorder=lambda order: None)
        rows = SimpleNamespace(twin=np.full(anchors, -1))
        loaded = SimpleNamespace(labeled=True, store=SimpleNamespace(rows=anchors), rows=rows)
        mining = SimpleNamespace(config=config, anchors=np.arange(anchors), loaded=loaded, searcher=searcher)
        look: Any = approximate.looking_of(mining)  # type: ignore[arg-type]
        width = look.schedule.width
        bounds[seed] = lower_bound(look.measured.shares()[:, width])
        truths[seed] = every[:, width].mean()
    assert (bounds > truths).sum() <= 10  # four are expected; with more than ten it would be wrong: once in hundreds
    assert (truths < target).sum() <= 10
    assert 0 < (truths - bounds).mean() < 0.03


def worst(kind: str) -> tuple[pa.Table, dict[str, Any]]:
    """Rows of which near cells tell little, and options."""
    rng = np.random.default_rng(1)
    vectors, labels = clusters()
    isotropic = rng.normal(size=(ROWS, 64))
    if kind == "isotropic":
        return table(isotropic, labels), {}
    if kind == "one huge cell":
        return table(np.where(rng.random(ROWS)[:, None] < 0.9, isotropic[0], isotropic), labels), {}
    if kind == "all equal":
        return table(np.tile(isotropic[:1], (ROWS, 1)), labels), {"drop_duplicates_within": None}
    if kind == "one label":  # its anchors have negatives in few clusters, which are far
        cluster = np.abs(vectors).argmax(axis=1)
        return table(vectors, np.where(cluster == 3, rng.integers(1, LABELS, ROWS), 0)), {}
    return table(vectors * rng.lognormal(0.0, 2.0, (ROWS, 1)), labels), {"metric": "dot"}  # the longest are all's


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize("kind", ["isotropic", "one huge cell", "all equal", "one label", "lengths"])
def test_worst_data_are_mined_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    looks: list[Looking | None] = []
    itself = approximate.looking_of

    def looking_of(mining: Mining) -> Looking | None:
        looks.append(itself(mining))
        return looks[-1]

    monkeypatch.setattr("minestream.mining.pipeline.looking_of", looking_of)
    given, options = worst(kind)
    every, _ = mined(given, tmp_path / "every.parquet", **options)
    found, facts = mined(given, tmp_path / "found.parquet", approximate=0.95, **options)
    assert looks[-1] is not None
    assert looks[-1].schedule is None
    assert facts["exactly"] == looks[-1].why
    assert facts["exactly"].endswith("no time is saved")
    assert found.equals(every)
