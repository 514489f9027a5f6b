"""New rows against everything: what an item is to itself, a night without rows, and which version of a row counts."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from worlds import clustered

import minestream
from minestream.errors import InputError, UsageError
from minestream.search.screens import usable_screens

SCREENS = ("scan", *reversed(usable_screens(8)))
ROWS, NEW = 300, 40


def items(places: Any, fixed: bool = True, **more: Any) -> pa.Table:
    """Some rows of one world, with ids that say which they are."""
    vectors, labels = clustered(71, [20] * 15, 8)
    vectors[1::50] = vectors[::50]  # twins
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors[places].reshape(-1)), 8)
    names = [f"item {place}" for place in places]
    return pa.table(
        {
            "embedding": embedding if fixed else embedding.cast(pa.list_(pa.float32())),
            "label": pa.array([labels[place] for place in places], pa.int32()),
            "id": pa.array(names, pa.string()),
            "text": pa.array(names, pa.string()),
            **more,
        }
    )


def mined(inputs: Any, out: Path, **options: Any) -> pa.Table:
    minestream.mine(inputs, out, progress="none", overwrite=True, **options)
    return pq.read_table(out).replace_schema_metadata()


# ---------------------------------------------------------------- new anchors against everything


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("options", [{}, {"negatives": 3, "positives_per_anchor": 2}, {"band": "hard"}])
def test_new_rows_find_what_they_find_as_rows_of_everything(
    screen: str, options: dict[str, Any], tmp_path: Path
) -> None:
    """So their own entries among everything are neither positive nor negative."""
    everything = items(np.random.default_rng(72).permutation(ROWS))
    new = everything.slice(ROWS - NEW)
    given = {"screen": screen, "negatives": 1, "drop_duplicates_of": "both", **options}
    found = mined(new, tmp_path / "new.parquet", corpus=everything, shared_ids=True, **given)
    whole = mined(everything, tmp_path / "all.parquet", **given)
    expected = whole.filter(pa.array(whole["anchor_row"].to_numpy() >= ROWS - NEW))
    assert found.num_rows > NEW // 3
    assert found["query_id"].to_pylist() == expected["anchor_id"].to_pylist()
    assert found["query_row"].to_pylist() == (expected["anchor_row"].to_numpy() - (ROWS - NEW)).tolist()
    for name in ("positive_id", "negative_id", "positive_row", "negative_row", "distance_ap", "distance_an", "harder"):
        assert found[name].to_pylist() == expected[name].to_pylist(), name


def test_shared_ids_need_ids_of_one_type(tmp_path: Path) -> None:
    everything = items(np.arange(ROWS))
    for new in (everything.drop_columns(["id"]), everything.set_column(2, "id", pa.array(range(ROWS)))):
        with pytest.raises(InputError, match="shared_ids=True"):
            mined(new, tmp_path / "out.parquet", corpus=everything, shared_ids=True)


# ---------------------------------------------------------------- a night without rows


@pytest.mark.parametrize("screen", SCREENS)
@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("options", [{}, {"emit": "tuples"}, {"order": "shuffled", "band": "any"}])
def test_no_new_rows_are_an_empty_output(screen: str, fixed: bool, options: dict[str, Any], tmp_path: Path) -> None:
    everything, new, out = items(np.arange(ROWS)), tmp_path / "new.parquet", tmp_path / "out.parquet"
    pq.write_table(everything, tmp_path / "all.parquet")
    given = {"corpus": tmp_path / "all.parquet", "shared_ids": True, "carry": "text", "screen": screen, **options}
    pq.write_table(items(np.arange(NEW), fixed), new)
    schema = mined(new, out, **given).schema
    pq.write_table(items(np.arange(0), fixed), new)
    found = mined(new, out, **given)
    assert (found.num_rows, found.schema) == (0, schema)
    assert minestream.describe(out)["rows"] == 0
    assert minestream.verify(out)["differences"] == []
    folder = tmp_path / "out"
    mined(new, folder, **given)
    assert [path.name for path in folder.iterdir()] == ["part-00000.parquet"]


def test_no_rows_are_refused_where_there_is_nothing_else(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no rows"):
        mined(items(np.arange(0)), tmp_path / "out.parquet")
    with pytest.raises(InputError, match="no rows"):
        mined(items(np.arange(9)), tmp_path / "out.parquet", corpus=items(np.arange(0)))


# ---------------------------------------------------------------- versions

DAY = datetime.datetime(2026, 1, 1)
VERSIONS: dict[str, pa.Array] = {
    "number": pa.array([3, 1, 2, 2, None, 0]),
    "float": pa.array([3.5, 1.0, 2.0, 2.0, float("nan"), -1.0]),
    "time": pa.array([DAY.replace(day=d) if d else None for d in (4, 1, 3, 3, 0, 2)], pa.timestamp("ns")),
    "text": pa.array(["2026-03", "2026-01", "2026-02", "2026-02", None, "2025"]),
}
KEPT = [0, 3, 5]  # of rows 0-1, 2-3, 4-5, which share an id: the newest; the last of equals; any before none


@pytest.mark.parametrize("kind", VERSIONS)
def test_the_newest_row_of_an_id_counts(kind: str, tmp_path: Path) -> None:
    places = np.concatenate([np.repeat(np.arange(3), 2), np.arange(3, ROWS)])
    versions = VERSIONS[kind].take(pa.array([*range(6), *[0] * (ROWS - 3)]))
    table = items(places, version=versions)
    vectors = np.asarray(table["embedding"].combine_chunks().flatten()).reshape(-1, 8).copy()
    vectors[:6] += np.arange(6)[:, None].astype(np.float32) / 50
    table = table.set_column(0, "embedding", pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 8))
    source, out = tmp_path / "rows.parquet", tmp_path / "out.parquet"
    pq.write_table(table, source)
    given = {"on_duplicate_ids": "last", "band": "any", "batch_rows": 4}
    found = mined(source, out, version_column="version", **given)
    assert [row for row in sorted(set(found["anchor_row"].to_pylist())) if row < 6] == KEPT
    assert minestream.verify(out, sample=ROWS)["differences"] == []
    last = mined(source, out, **given)
    assert [row for row in sorted(set(last["anchor_row"].to_pylist())) if row < 6] == [1, 3, 5]


def test_versions_that_cannot_be_asked(tmp_path: Path) -> None:
    table = items(np.arange(ROWS), version=pa.array([[1]] * ROWS))
    with pytest.raises(UsageError, match='on_duplicate_ids="error" does not use it'):
        mined(table, tmp_path / "out.parquet", version_column="text")
    with pytest.raises(InputError, match="cannot be the version"):
        mined(table, tmp_path / "out.parquet", version_column="version", on_duplicate_ids="last")


def test_a_frame_without_rows_is_given_types_as_the_guide_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    pandas = pytest.importorskip("pandas")
    pq.write_table(items(range(ROWS)), "products.parquet")
    new = pandas.read_parquet("products.parquet")[:0]
    new.to_parquet("new.parquet")
    for given in (new, "new.parquet"):
        with pytest.raises(InputError, match="cannot be the embedding: its type is null") as refused:
            minestream.mine(given, "none.parquet", corpus="products.parquet", shared_ids=True, progress="none")
        assert "minestream help inputs" in refused.value.hint
    (page,) = [path for path in (Path(minestream.__file__).parent / "guide").iterdir() if path.name == "inputs.md"]
    (code,) = re.findall(r"`(pyarrow\.Table\.from_pandas\(.*\))`", page.read_text())
    table = eval(code, {"pyarrow": pa, "new": new})
    found = mined(table, Path("none.parquet"), corpus="products.parquet", shared_ids=True)
    assert found.num_rows == 0
    assert found.schema == mined(items(range(9)), Path("some.parquet"), corpus="products.parquet").schema
