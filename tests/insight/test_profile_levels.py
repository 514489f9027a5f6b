"""How labels of several levels are spread, as `profile` says it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import minestream
from minestream.cli.profile_text import profile_text
from minestream.inputs.dataset.labels import LabelReader
from minestream.insight.levels import level_text, levels_of


def test_each_level_has_its_values_its_largest_and_those_with_one_leaf() -> None:
    reader = LabelReader(pa.string(), None, ("shop", "shelf"))
    shops, shelves = ["x", "x", "x", "y", None, "y"], ["1", "1", "2", "1", "1", None]
    reader.add(pa.array(["tea", "nut", "tea", "tea", "tea", "nut"]), [pa.array(shops), pa.array(shelves)])
    found = levels_of(reader.finish(), "kind")
    assert [entry["level"] for entry in found] == ["shop", "shelf", "kind"]
    assert [entry["values"] for entry in found] == [2, 3, 6]  # x, y; x/1, x/2, y/1; as many paths
    assert [entry["null_rows"] for entry in found] == [1, 2, 0]
    assert [entry["largest_rows"] for entry in found] == [3, 2, 1]
    assert [entry["largest_share"] for entry in found] == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert [entry["alone_rows"] for entry in found] == [0, 2, 0]  # x/2 and y/1 hold one leaf
    assert level_text(found[1]) == (
        "shelf", "3 values",
        "the largest has 33.3% of the rows (2); 2 rows under a value with one leaf: no negatives at it; 2 without one",
    )  # fmt: skip


def test_a_profile_tells_them_in_text_json_and_html(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    leaf = rng.integers(0, 6, 90)
    table = pa.table({"embedding": list(rng.standard_normal((90, 4))), "top": leaf // 2, "label": leaf})
    found = minestream.profile(table, tmp_path / "p", label=["top", "label"])
    assert [(entry["level"], entry["values"]) for entry in found["levels"]] == [("top", 3), ("label", 6)]
    assert "level top" in profile_text(found)
    assert "the largest has" in (tmp_path / "p" / "report.html").read_text()
    one = minestream.profile(table, label="label")
    assert [entry["level"] for entry in one["levels"]] == ["label"]
    assert "level label" not in profile_text(one)
