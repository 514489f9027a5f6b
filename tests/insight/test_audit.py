"""describe and verify, on outputs that the reference made and the sink wrote."""

from __future__ import annotations

import inspect
import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import minestream
from minestream import reference
from minestream.cli import printing
from minestream.config.mine_config import MineConfig
from minestream.config.resolve import resolved
from minestream.errors import InputError, VerifyMismatchError
from minestream.inputs.source import open_source
from minestream.insight import describe, verify
from minestream.outputs import parquet
from minestream.outputs import run as sink

ROWS = 90


def source_table(*, ids: bool = True, seed: int = 0) -> pa.Table:
    """Four overlapping classes, some rows without a label, a text to carry."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, ROWS)
    vectors = rng.normal(size=(4, 5))[labels] + 1.5 * rng.normal(size=(ROWS, 5))
    columns: dict[str, Any] = {
        "embedding": pa.array(list(vectors.astype(np.float32)), pa.list_(pa.float32(), 5)),
        "label": pa.array([None if i % 9 == 0 else int(v) for i, v in enumerate(labels)], pa.int64()),
        "text": [f"text {i}" for i in range(ROWS)],
    }
    if ids:
        columns["id"] = pa.array([f"id{i * 7 % ROWS:03d}" for i in range(ROWS)])
    return pa.table(columns)


def output_columns(config: MineConfig, data: pa.Table, **only: Any) -> tuple[pa.Table, dict[str, int]]:
    """What mining `data` gives, as a table with the output's types."""
    known = inspect.signature(reference.mine).parameters
    rules = {name: value for name, value in config.to_dict().items() if name in known}
    if config.emit == "pairs":
        rules["short_rows"] = None
    if config.anchors and not config.anchors.endswith("%"):
        rules["anchors"] = int(config.anchors)
    mined = reference.mine(
        np.array(data["embedding"].to_pylist(), np.float32),
        labels=only.pop("labels", data["label"].to_pylist()),
        ids=data["id"].to_pylist() if "id" in data.column_names else None,
        **{**rules, **only},
    )
    columns = dict(mined.columns)
    for name in config.carry:
        values = data[name].to_pylist()
        for end in ("anchor", "positive", "negative"):
            if f"{end}_row" in columns:
                columns[f"{end}_{name}"] = [values[row] for row in columns[f"{end}_row"]]
            else:
                columns[f"{end}_{name}s"] = [[values[row] for row in rows] for rows in columns[f"{end}_rows"]]
    number = pa.float64() if config.float64 else pa.float32()
    kinds = {"harder": pa.int32(), "scores": pa.list_(number), "losses": pa.list_(number)}
    kinds |= dict.fromkeys(("distance_ap", "distance_an", "distance_pn", "distance", "loss"), number)
    table = pa.table({name: pa.array(values, kinds.get(name)) for name, values in columns.items()})
    return table, mined.counts


def mine_output(
    folder: Path,
    out: str = "mined.parquet",
    *,
    parts: int = 2,
    data: pa.Table | None = None,
    only: Any = (),
    **options: Any,
) -> Path:
    """Write a source and its output, with the reference as the engine."""
    data = source_table() if data is None else data
    pq.write_table(data, folder / "in.parquet")
    config = resolved(MineConfig(**options))
    opened = open_source(folder / "in.parquet", on_bad_rows=config.on_bad_rows)
    list(opened.batches())
    table, counts = output_columns(config, data, **dict(only))
    found = {"embedding": "embedding", "label": "label", "id": opened.columns.id, "group": None}
    with sink.Output(folder / out).begin(
        resume=False, overwrite=True, config=config.to_dict(), fingerprint=config.fingerprint(),
        source=opened.identity(), columns=found, parts=parts,
    ) as run:  # fmt: skip
        edges = np.linspace(0, table.num_rows, parts + 1).astype(int)
        for index in range(parts):
            piece = table.slice(edges[index], edges[index + 1] - edges[index])
            run.write_part(index, [piece], lambda rows=piece.num_rows: {"rows": rows})
        run.publish(counts=lambda: counts, extra=lambda: {"seconds": 1.0})
    return folder / out


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Alter a mined file as someone would who also renews its checksum; the manifest goes."""
    metadata = {k.decode(): v.decode() for k, v in pq.read_metadata(path).metadata.items()}
    table = change(pq.read_table(path))
    kept = {k: v for k, v in metadata.items() if k.startswith("minestream.") and k != "minestream.rows_crc32"}
    parquet.write_rows(path, table.schema, [table], kept, lambda: json.loads(kept["minestream.counts"]))
    path.with_name(path.name + ".manifest.json").unlink(missing_ok=True)


def with_value(name: str, row: int, value: Any) -> Callable[[pa.Table], pa.Table]:
    def change(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        values[row] = value
        place = table.column_names.index(name)
        return table.set_column(place, name, pa.array(values, table[name].type))

    return change


CONFIGS: dict[str, dict[str, Any]] = {
    "default": {},
    "shuffled": {"order": "shuffled", "seed": 3, "negatives": 2},
    "random, carried": {"pick": "random", "positives": "random", "negatives": 3, "carry": ("text",)},
    "some anchors": {"anchors": "40%", "anchors_per_label": 9},
    "a number of anchors": {"anchors": "7", "positives": "all"},
    "soft, swapped": {"loss": "triplet-soft", "swap": True, "float64": True},
    "no loss": {"metric": "euclidean", "band": "any"},
    "tuples": {"emit": "tuples", "negatives": 2, "short_rows": "keep"},
    "soft tuples": {"emit": "tuples", "loss": "triplet-soft", "negatives": 2},
    "pairs": {"emit": "pairs", "negatives": 3},
    "shuffled pairs": {"emit": "pairs", "negatives": 2, "order": "shuffled"},
    "all pairs": {"emit": "pairs", "negatives": 0, "band": "any", "metric": "euclidean", "margin": 1.0},
    "unlabelled negatives": {"unlabeled": "negative", "negatives": 2},
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("out", ["mined.parquet", "mined"])
def test_what_the_reference_gives_is_verified(tmp_path: Path, name: str, out: str) -> None:
    path = mine_output(tmp_path, out, parts=3, **CONFIGS[name])
    found = verify.verify(path, sample=30)
    assert found["differences"] == []
    assert found["anchors"] == 30
    assert found["anchors_absent"] >= 1 or "pairs" in name
    assert found["rows_compared"] > 0
    assert found.get("pairs_not_checked", 0) == 0
    assert verify.verify(path.with_name(path.name + ".manifest.json"), sample=5, seed=9)["differences"] == []
    json.dumps(describe.describe(path))


def test_every_column_is_compared(tmp_path: Path) -> None:
    columns = pq.read_schema(mine_output(tmp_path, carry=("text",), swap=True)).names
    other = {"int64": 89, "int32": 77, "float": 0.123, "string": "another"}
    for name in columns:
        path = mine_output(tmp_path, carry=("text",), swap=True)
        kind = str(pq.read_schema(path).field(name).type)
        rewrite(path, with_value(name, 4, other[kind]))
        with pytest.raises(VerifyMismatchError, match="expected") as caught:
            verify.verify(path, sample=ROWS)
        if name not in ("anchor_row", "anchor_id"):
            assert f"mined.parquet: row 4, column {name}: expected" in str(caught.value)


@pytest.mark.parametrize("name", ["default", "shuffled", "tuples", "pairs"])
def test_missing_added_and_moved_rows_are_found(tmp_path: Path, name: str) -> None:
    changes: list[Callable[[pa.Table], pa.Table]] = [
        lambda table: pa.concat_tables([table.slice(0, 3), table.slice(4)]),
        lambda table: table.slice(0, table.num_rows - 1),
        lambda table: pa.concat_tables([table, table.slice(2, 1)]),
        lambda table: pa.concat_tables([table.slice(1, 1), table.slice(0, 1), table.slice(2)]),
    ]
    for change in changes:
        path = mine_output(tmp_path, **CONFIGS[name])
        rewrite(path, change)
        with pytest.raises(VerifyMismatchError):
            verify.verify(path, sample=ROWS)


def test_anchors_that_vanished_are_looked_at_before_rows_that_have_no_positive(tmp_path: Path) -> None:
    labels = [row if row > 9 else row % 2 for row in range(ROWS)]  # nearly all are alone with theirs
    data = source_table()
    data = data.set_column(data.column_names.index("label"), "label", pa.array(labels))
    path = mine_output(tmp_path, data=data, band="any")
    gone = pq.read_table(path)["anchor_row"][0]
    rewrite(path, lambda table: table.filter(pc.not_equal(table["anchor_row"], gone)))
    with pytest.raises(VerifyMismatchError, match="column anchor_id: expected"):
        verify.verify(path, sample=12)


def test_a_pair_that_neither_end_picks_is_found(tmp_path: Path) -> None:
    path = mine_output(tmp_path, emit="pairs", negatives=1, margin=0.3)

    def add(table: pa.Table) -> pa.Table:
        ends = set(zip(table["left_row"].to_pylist(), table["right_row"].to_pylist(), strict=True))
        pair = next((i, j) for i in range(1, 9) for j in range(i + 1, 9) if (i, j) not in ends)
        rows = [*table.to_pylist(), {**table.to_pylist()[0], "left_row": pair[0], "right_row": pair[1]}]
        by_ends = sorted(rows, key=lambda row: (row["left_row"], row["right_row"]))
        return pa.Table.from_pylist(by_ends, table.schema)

    rewrite(path, add)
    with pytest.raises(VerifyMismatchError, match="neither end picks it"):
        verify.verify(path, sample=ROWS)


def alter_in_place(path: Path) -> None:
    """One value changed with pyarrow, everything else kept: metadata, encoding."""
    metadata = pq.read_metadata(path).metadata
    table = with_value("negative_row", 3, ROWS - 1)(pq.read_table(path))
    pq.write_table(table.replace_schema_metadata(metadata), path)


@pytest.mark.parametrize("out", ["mined.parquet", "mined"])
def test_one_altered_value_fails_the_checksum(tmp_path: Path, out: str) -> None:
    path = mine_output(tmp_path, out)
    file = path if path.is_file() else path / "part-00001.parquet"
    alter_in_place(file)
    with pytest.raises(VerifyMismatchError, match="CRC-32") as caught:
        verify.verify(path, sample=0)
    assert file.name in str(caught.value)
    assert caught.value.exit_code == 1


def test_flipped_bytes_are_found(tmp_path: Path) -> None:
    path = mine_output(tmp_path)
    raw = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(5)
    raw[column.data_page_offset + column.total_compressed_size - 2] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(VerifyMismatchError, match="cannot be read as Parquet") as caught:
        verify.verify(path, sample=0)
    assert "it is damaged" in caught.value.hint
    path.write_bytes(raw[:-20])
    with pytest.raises(VerifyMismatchError) as caught:  # cut or changed: one exit code
        verify.verify(path, sample=0)
    assert "it is damaged" in caught.value.hint


def test_parts_are_compared_with_the_manifest(tmp_path: Path) -> None:
    path = mine_output(tmp_path, "mined", parts=3)
    with pytest.raises(InputError, match="one part of a folder"):
        verify.verify(path / "part-00000.parquet", sample=1)
    os.rename(path / "part-00002.parquet", tmp_path / "kept")
    with pytest.raises(VerifyMismatchError, match=r"mined: part-00002\.parquet is missing"):
        verify.verify(path, sample=0)
    with pytest.raises(InputError, match=r"part-00002\.parquet is missing"):  # else what it holds would be less
        describe.describe(path)
    for name in ("part-00000.parquet", "part-00001.parquet"):
        (path / name).rename(tmp_path / name)
    with pytest.raises(VerifyMismatchError, match=r"mined: part-00000\.parquet is missing"):
        verify.verify(path, sample=0)
    for name in ("part-00000.parquet", "part-00001.parquet"):
        (tmp_path / name).rename(path / name)
    os.rename(path / "part-00001.parquet", path / "part-00002.parquet")
    (tmp_path / "mined.manifest.json").unlink()
    with pytest.raises(VerifyMismatchError, match=r"part-00001\.parquet is missing"):
        verify.verify(path, sample=0)


# ---------------------------------------------------------------- the source


def test_the_source_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mine_output(tmp_path)
    elsewhere, other = tmp_path / "elsewhere", tmp_path / "other"
    elsewhere.mkdir()
    other.mkdir()
    os.rename(tmp_path / "in.parquet", elsewhere / "in.parquet")
    with pytest.raises(InputError, match=r"in\.parquet.* is not in") as caught:
        verify.verify(path, sample=5)
    assert "source" in str(caught.value)
    assert verify.verify(path, sample=0)["rows"] > 0
    monkeypatch.chdir(elsewhere)
    verify.verify(path, sample=5)
    monkeypatch.chdir(other)
    for source in (elsewhere, str(elsewhere / "in.parquet"), [elsewhere / "in.parquet"]):
        assert verify.verify(path, sample=5, source=source)["anchors"] == 5
    os.rename(elsewhere / "in.parquet", elsewhere / "renamed.parquet")
    assert verify.verify(path, sample=5, source=elsewhere)["anchors"] == 5


def test_another_source_is_refused(tmp_path: Path) -> None:
    path = mine_output(tmp_path)
    pq.write_table(source_table(seed=1), tmp_path / "in.parquet")
    with pytest.raises(InputError, match=r"is not what was mined: in\.parquet: its contents changed") as caught:
        verify.verify(path, sample=5)
    assert caught.value.exit_code == 3


def test_carried_columns_of_tuples_are_compared(tmp_path: Path) -> None:
    path = mine_output(tmp_path, emit="tuples", negatives=2, carry=("text",))
    assert verify.verify(path, sample=20)["differences"] == []
    rewrite(path, with_value("negative_texts", 1, ["text 1", "text 2"]))
    with pytest.raises(VerifyMismatchError, match="row 1, column negative_texts"):
        verify.verify(path, sample=ROWS)


def test_an_arrow_source_is_read_once_unless_columns_are_carried(tmp_path: Path) -> None:
    path = mine_output(tmp_path)
    stream = pa.RecordBatchReader.from_batches(source_table().schema, source_table().to_batches(max_chunksize=7))
    assert verify.verify(path, sample=5, source=stream)["anchors"] == 5
    longer = pa.concat_tables([source_table(), source_table()])
    for other in (longer, pa.RecordBatchReader.from_batches(longer.schema, longer.to_batches())):
        with pytest.raises(InputError, match=f"is not what was mined: rows: .*, recorded {ROWS}"):
            verify.verify(path, sample=5, source=other)


def test_labels_that_mean_none(tmp_path: Path) -> None:
    data = source_table()
    values = [label.as_py() for label in data["label"]]
    marked = data.set_column(1, "label", pa.array([-1 if v is None else v for v in values]))
    path = mine_output(tmp_path, data=marked, unlabeled_value="-1", only={"labels": values})
    assert verify.verify(path, sample=ROWS)["differences"] == []


def test_bad_rows_and_duplicate_ids_take_no_part(tmp_path: Path) -> None:
    data = source_table()
    ids, vectors = data["id"].to_pylist(), data["embedding"].to_pylist()
    ids[20] = ids[40]
    vectors[5] = [0.0] * 5
    data = data.set_column(data.column_names.index("id"), "id", pa.array(ids))
    data = data.set_column(0, "embedding", pa.array(vectors, data["embedding"].type))
    for rule, left_out in (("last", 20), ("first", 40)):
        takes_part = np.ones(ROWS, bool)
        takes_part[[5, left_out]] = False
        path = mine_output(
            tmp_path, data=data, on_bad_rows="drop", on_duplicate_ids=rule, only={"takes_part": takes_part}
        )
        assert verify.verify(path, sample=ROWS)["differences"] == []


# ---------------------------------------------------------------- describe


def test_describe_says_what_is_in_a_file(tmp_path: Path) -> None:
    path = mine_output(tmp_path, band="violating", negatives=4)
    found = describe.describe(path)
    table = pq.read_table(path)
    losses = table["loss"].to_pylist()
    assert found["rows"] == found["counts"]["rows"] == table.num_rows
    assert found["mean_loss"] == math.fsum(losses) / len(losses)
    assert found["active_fraction"] == 1.0
    assert found["mean_active_loss"] == found["mean_loss"]
    assert found["quantiles_of"] == "every value"
    for name in ("distance_ap", "distance_an", "loss"):
        values = np.sort(table[name].to_numpy())
        assert found["quantiles"][name]["min"] == values[0]
        assert found["quantiles"][name]["median"] == values[(len(values) - 1) // 2]
        assert found["quantiles"][name]["max"] == values[-1]
    assert "share a label" in found["labels"]
    assert "max(0, (p + m) - x)" in found["loss"]
    assert found["report"] == {"seconds": 1.0}
    assert describe.describe(tmp_path / "mined.parquet.manifest.json") == found


def test_describe_works_without_the_manifest(tmp_path: Path) -> None:
    path = mine_output(tmp_path, "mined", parts=3, band="any", negatives=5)
    found = describe.describe(path)
    assert 0 < found["active_fraction"] < 1
    assert found["mean_active_loss"] > found["mean_loss"] > 0
    (tmp_path / "mined.manifest.json").unlink()
    alone = describe.describe(path)
    assert alone["counts"] == {"rows": found["rows"]}
    assert {**alone, "counts": 0} == {k: v for k, v in {**found, "counts": 0}.items() if k != "report"}


def test_quantiles_of_many_values_are_of_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = mine_output(tmp_path, "mined", parts=3, band="any", negatives=5)
    exact = describe.describe(path)["quantiles"]["loss"]
    monkeypatch.setattr(describe, "SAMPLED_VALUES", 100)
    found = describe.describe(path)
    assert found["quantiles_of"] == "a random sample of at most 100 values"
    for name in ("min", "max"):
        assert found["quantiles"]["loss"][name] == exact[name]
    assert abs(found["quantiles"]["loss"]["median"] - exact["median"]) < 0.2


def test_a_damaged_file_is_an_input_error(tmp_path: Path) -> None:
    path = mine_output(tmp_path)
    raw = bytearray(path.read_bytes())
    column = pq.read_metadata(path).row_group(0).column(pq.read_schema(path).get_field_index("loss"))
    raw[column.data_page_offset + column.total_compressed_size - 2] ^= 0x10
    path.write_bytes(raw)
    with pytest.raises(InputError, match="cannot be read as Parquet"):
        describe.describe(path)


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("out", ["mined.parquet", "mined"])
def test_the_description_fits_a_screen(tmp_path: Path, name: str, out: str) -> None:
    path = mine_output(tmp_path, out, **CONFIGS[name])
    for _ in range(2):
        text = printing.describe_text(describe.describe(path))
        assert text.count("\n") < 45
        for changed in ("order shuffled", "swap yes", "float64 yes", "unlabeled negative"):
            option, value = changed.split()
            wanted = {"yes": True}.get(value, value)
            assert (changed in text) == (CONFIGS[name].get(option) == wanted)
        path.with_name(f"{out}.manifest.json").unlink(missing_ok=True)


def test_active_rows_of_soft_losses_are_those_within_the_margin(tmp_path: Path) -> None:
    options: dict[str, Any] = {"band": "any", "negatives": 5}
    hinge = describe.describe(mine_output(tmp_path, **options))
    soft = describe.describe(mine_output(tmp_path, loss="triplet-soft", **options))
    assert soft["active_rows"] == hinge["active_rows"] < hinge["rows"]
    tuples = describe.describe(mine_output(tmp_path, emit="tuples", loss="triplet-soft", **options))
    assert tuples["active_rows"] is None


@pytest.mark.parametrize("what", ["nothing", "text", "other", "empty", "unfinished"])
def test_what_is_no_output_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "text":
        path.write_text("text")
    elif what == "other":
        pq.write_table(pa.table({"a": [1]}), path)
    elif what == "empty":
        path.mkdir()
    elif what == "unfinished":
        (tmp_path / "unfinished.partial").mkdir()
    with pytest.raises(InputError) as caught:
        describe.describe(path)
    assert ("resume=True" in str(caught.value)) == (what == "unfinished")


def test_rows_that_no_file_holds_are_verified_as_the_hint_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = source_table(ids=False)
    vectors, labels = np.stack(table["embedding"].to_numpy()), table["label"].to_numpy() % 4
    labels = np.nan_to_num(labels).astype(np.int64)
    np.save("v.npy", vectors)
    minestream.mine("v.npy", "m.parquet", labels=labels, progress="none")
    for source in (None, "v.npy", pa.table({"embedding": list(vectors), "label": labels})):
        with pytest.raises(InputError, match=r"m\.parquet was mined of labels that no file holds: <memory>") as caught:
            minestream.verify("m.parquet", source=source)
        given = caught.value.hint.partition("source=")[2]
        found = minestream.verify("m.parquet", source=eval(given, {"pyarrow": pa, "labels": labels}))
        assert found["rows_compared"] > 0
    with pytest.raises(InputError, match="not what was mined"):
        minestream.verify("m.parquet", source=eval(given, {"pyarrow": pa, "labels": labels[::-1]}))
    assert minestream.verify("m.parquet", sample=0)["rows"] > 0
    minestream.mine(table, "t.parquet", progress="none")
    with pytest.raises(
        InputError, match="was mined of rows that no file holds: <memory>\nname the mined input with source"
    ):
        minestream.verify("t.parquet")
    assert minestream.verify("t.parquet", source=table)["rows_compared"] > 0
