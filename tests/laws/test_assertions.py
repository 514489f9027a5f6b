"""The assertion helpers are tested themselves: a comparison that cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from assertions import assert_same_rows, first_difference, plain, table_columns
from support import AXES, CELLS, allowed, assert_sides_agree, reference_rows
from worlds import WORLDS

from minestream.config.mine_config import MineConfig
from minestream.config.resolve import resolved


def columns() -> dict[str, list[Any]]:
    return {
        "anchor_row": [0, 0, 3],
        "distance": [np.float32(0.1), np.float32(0.5), np.float32(2.0)],
        "harder": [None, 0, 1],
        "scores": [[np.float32(0.1), np.float32(-1.0)], [], [np.float32(3.0)]],
        "label": ["a", None, "b"],
    }


def table(**changes: Any) -> pa.Table:
    kinds = {
        "anchor_row": pa.int64(), "distance": pa.float32(), "harder": pa.int32(), "scores": pa.list_(pa.float32()),
        "label": pa.string(),
    }  # fmt: skip
    values = {**columns(), **changes}
    return pa.table({name: pa.array(values[name], kinds[name]) for name in kinds})


def test_equal_tables_pass() -> None:
    assert_same_rows(columns(), table())
    assert_same_rows({name: [] for name in columns()}, table().slice(0, 0))


def test_chunks_make_no_difference() -> None:
    assert_same_rows(columns(), pa.concat_tables([table().slice(0, 1), table().slice(1)]))


def rounded(found: pa.Table) -> pa.Table:
    """Distances as the reference would have them in double: 0.1 is another number than float32's 0.1."""
    return found.set_column(1, "distance", pa.array([0.1, 0.5, 2.0], pa.float64()))


CHANGES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "an int": lambda t: t.set_column(0, "anchor_row", pa.array([0, 0, 4], pa.int64())),
    "a float in its last place": lambda t: table(
        distance=[np.float32(0.1), np.nextafter(np.float32(0.5), np.float32(1.0)), np.float32(2.0)]
    ),
    "double for float": rounded,
    "a null": lambda t: table(harder=[0, 0, 1]),
    "a value where null is right": lambda t: table(harder=[None, None, 1]),
    "within a list": lambda t: table(scores=[[0.1, -1.5], [], [3.0]]),
    "a longer list": lambda t: table(scores=[[0.1, -1.0], [3.0], [3.0]]),
    "a list for null": lambda t: table(scores=[[0.1, -1.0], None, [3.0]]),
    "a text": lambda t: table(label=["a", None, "B"]),
    "the order of rows": lambda t: t.take(pa.array([1, 0, 2])),
    "the order of columns": lambda t: t.select(["distance", "anchor_row", "harder", "scores", "label"]),
    "a missing row": lambda t: t.slice(0, 2),
    "a row too many": lambda t: pa.concat_tables([t, t.slice(2)]),
    "a missing column": lambda t: t.drop_columns(["harder"]),
    "a column too many": lambda t: t.append_column("loss", pa.array([0.0, 0.0, 0.0])),
    "another name": lambda t: t.rename_columns(["anchor_row", "distance_an", "harder", "scores", "label"]),
    "nan": lambda t: table(distance=[float("nan"), 0.5, 2.0]),
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_change_is_found(name: str) -> None:
    changed = CHANGES[name](table())
    with pytest.raises(AssertionError):
        assert_same_rows(columns(), changed)


def test_the_difference_is_named() -> None:
    message = first_difference(columns(), table(harder=[None, 0, 7]))
    assert message.startswith("harder, row 2: 7, expected 1")
    assert "'anchor_row': (3, 3)" in message
    assert first_difference(columns(), table()) == ""


def test_plain_values() -> None:
    assert plain(np.float32(0.5)) == 0.5
    assert plain([np.int64(3), None, (np.float64(1.0),)]) == [3, None, [1.0]]
    assert table_columns(table())["label"] == ["a", None, "b"]


def test_both_sides_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """assert_sides_agree fails when the sides are not asked the same thing."""
    world = WORLDS["blobs"]()
    assert assert_sides_agree(world, negatives=2) > 0
    wrong = reference_rows(world, resolved(MineConfig(negatives=3)))
    monkeypatch.setattr("support.reference_rules", lambda config: {**config_rules(config), "negatives": 3})
    assert wrong
    with pytest.raises(AssertionError):
        assert_sides_agree(world, negatives=2)


def test_counts_are_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minestream.system.stats.ShardStats.answer", lambda self: {"rows": self.rows})
    with pytest.raises(AssertionError):
        assert_sides_agree(WORLDS["blobs"]())


def config_rules(config: MineConfig) -> dict[str, Any]:
    from minestream.reference import NAMES

    kept = (*NAMES, "margin")
    return {name: value for name, value in config.to_dict().items() if name in kept}


def test_the_cells_are_the_whole_product() -> None:
    assert len(CELLS) == np.prod([len(names) for names in AXES.values()]) == 4 * 6 * 4 * 4 * 3
    assert sum(map(allowed, CELLS)) == 2 * (4 * 6 * 4 * 4 - 2 * 6 * 4) + 2 * 2 * 4  # simans: of similarities
