"""Vectors in scratch: a search reads those that its survivors name, and the rows mined are the same."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from minestream import mine
from minestream.inputs.dataset.vectors import Store
from minestream.kernels.refine import Vectors
from minestream.kernels.sweep import Survivors
from minestream.mining import approximate
from minestream.search.gathering import Gathering
from minestream.search.order import ranges_among

ROWS, DIMENSION = 6_000, 64
RULES: dict[str, dict[str, Any]] = {
    "nearest": {}, "approximate": {"approximate": 0.9, "block_rows": 512}, "random": {"pick": "random"},
    "within": {"drop_duplicates_within": 0.05, "drop_duplicates_of": "both"},
    "all": {"emit": "pairs", "negatives": 0, "band": "violating", "margin": 0.1},
}  # fmt: skip


def table() -> pa.Table:
    """Labels of four rows, which lie in clusters of other sizes."""
    rng = np.random.default_rng(0)
    vectors = 1.5 * rng.normal(size=(60, DIMENSION))[rng.integers(0, 60, ROWS)] + rng.normal(size=(ROWS, DIMENSION))
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.astype(np.float32).ravel()), DIMENSION)
    return pa.table({"label": np.arange(ROWS) // 4, "embedding": column})


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_no_row_is_read_that_no_survivor_names(
    rule: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And where distances to positives are needed, those of the survivors' anchors."""
    ordered = set[bool]()
    here, read = threading.local(), list[int]()  # answers are written meanwhile
    monkeypatch.setattr(approximate, "LEAST_ANCHORS", 100)
    plain, take = Gathering.of_survivors, Store.take

    def of_survivors(self: Gathering, found: Survivors, bounds: NDArray[np.int64]) -> Vectors:
        pieces = [(found.anchor[b, :n], found.candidate[b, :n]) for b, n in enumerate(bounds[:, -1].tolist())]
        anchors, candidates = (np.unique(np.concatenate(each)) for each in zip(*pieces, strict=True))
        lanes = np.union1d(anchors, candidates)
        slots = set(self.slot[lanes].tolist())
        if self.positive_at.size:
            pairs = [np.arange(*self.pairs.start[a : a + 2]) for a in anchors.tolist()]
            slots |= set(self.pairs.positive[np.concatenate(pairs)].tolist())
        here.named = slots
        vectors = plain(self, found, bounds)
        here.named = None
        rows = self.setting.loaded.store.block(0, ROWS)
        assert np.array_equal(vectors.row[vectors.at[lanes]], rows[self.slot[lanes]])
        return vectors

    def watched(self: Store, slots: NDArray[Any], *rest: Any) -> NDArray[Any]:
        if getattr(here, "named", None) is not None:
            assert set(slots.tolist()) == here.named
            assert (np.diff(self.places(slots)) > 0).all()
            ordered.add(self._place is not None)
            read.append(slots.size)
        return take(self, slots, *rest)

    begin, outs = Store.__init__, []
    options = {"emit": "tuples", "band": "any", "negatives": 5, "screen": "i8", "block_rows": 1_024} | rule

    def small(self: Store, dimension: int, dtype: Any, budget_bytes: int, *rest: Any) -> None:
        begin(self, dimension, dtype, 10 * dimension, *rest)

    for where in ("memory", "scratch"):
        report = mine(table(), tmp_path / f"{where}.parquet", progress="none", threads=2, **options)
        assert report.effort["vectors_in"] == where
        outs.append((tmp_path / f"{where}.parquet").read_bytes())
        for owner, name, patch in (
            (Store, "__init__", small), (Store, "take", watched), (Gathering, "of_survivors", of_survivors)
        ):  # fmt: skip
            monkeypatch.setattr(owner, name, patch)
    assert len(read) > 5
    assert max(read) <= 2 * options["block_rows"]
    assert outs[0] == outs[1]
    assert ordered == ({False, True} if "approximate" in rule else {False})


@pytest.mark.parametrize("lanes", [[], [5] * 40, range(0, 100, 9), [*range(50), *range(20, 30)] * 7])
def test_ranges_of_lanes_that_meet(lanes: Sequence[int]) -> None:
    """All anchors are in one; none holds many more than its share of the lanes, unless it is of one anchor."""
    ranges = ranges_among(np.array(lanes, np.int32), 100, 2)
    assert [*ranges.first, 100] == [0, *ranges.end]
    assert ranges.bounds.shape == (2, ranges.first.size + 1)
    for begin, end in zip(ranges.first.tolist(), ranges.end.tolist(), strict=True):
        assert end > begin
        held = sum(begin <= lane < end for lane in lanes)
        assert held <= 1.5 * max(len(lanes) / 16, lanes.count(begin)) + 2
