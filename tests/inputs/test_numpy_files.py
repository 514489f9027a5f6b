"""NumPy's files as inputs: .npy with labels from another file, .npz."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import written_sample

import minestream
from minestream.cli.main import main
from minestream.errors import InputError, MinestreamError, UsageError
from minestream.inputs.source import open_source

ROWS = ["anchor_row", "positive_row", "negative_row", "distance_ap", "distance_an", "loss", "harder"]


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pa.Table:
    """The digits, also as v.npy, y.npy and rows.parquet (all but the vectors) in the working directory."""
    monkeypatch.chdir(tmp_path)
    table = pq.read_table(written_sample(tmp_path))
    np.save("v.npy", np.stack(table["embedding"].to_numpy()))
    np.save("y.npy", table["label"].to_numpy())
    pq.write_table(table.drop_columns("embedding"), "rows.parquet")
    return table


def mined(inputs: Any, **options: Any) -> pa.Table:
    minestream.mine(inputs, "o.parquet", progress="none", overwrite=True, **options)
    return pq.read_table("o.parquet")


def test_vectors_and_labels_of_two_files_give_the_rows_of_one_table(digits: pa.Table) -> None:
    expected = mined("digits.parquet")
    assert mined("v.npy", labels="rows.parquet").equals(expected)
    checked = minestream.verify("o.parquet")
    assert checked["anchors"] == 100
    assert mined(["v.npy"], labels="y.npy").equals(
        expected.select([n for n in expected.column_names if "_id" not in n])
    )
    assert minestream.verify("o.parquet", source=["y.npy", "v.npy"])["anchors"] == 100
    with pytest.raises(InputError, match="the source is not what was mined"):
        minestream.verify("o.parquet", source=["rows.parquet", "v.npy"])


@pytest.mark.parametrize(
    "labels", [np.array, list, pa.array, lambda y: pa.chunked_array([y[:9], y[9:]]), lambda y: pa.table({"label": y})],
    ids=["array", "list", "Arrow", "chunked", "table"]
)  # fmt: skip
def test_labels_may_be_in_memory(labels: Callable[[Any], Any], digits: pa.Table) -> None:
    found = mined("v.npy", labels=labels(digits["label"].to_numpy()))
    assert found.select(ROWS).equals(mined("digits.parquet").select(ROWS))


@pytest.mark.parametrize("kind", ["int8", ">i4", "uint16", "U", "bool"])
def test_labels_of_every_plain_type(kind: str, digits: pa.Table) -> None:
    values = digits["label"].to_numpy() % 2 if kind == "bool" else digits["label"].to_numpy()
    np.save("y.npy", values.astype(kind))
    table = digits.set_column(1, "label", pa.array(values.astype(kind).astype(np.dtype(kind).newbyteorder("="))))
    assert mined("v.npy", labels="y.npy").select(ROWS).equals(mined(table).select(ROWS))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_is_a_table_of_its_arrays(save: Callable[..., None], digits: pa.Table) -> None:
    columns = {name: digits[name].to_numpy() for name in ("id", "label")}
    save("d.npz", embedding=np.load("v.npy"), **columns)
    assert mined("d.npz", carry="label", batch_rows=100).equals(mined("digits.parquet", carry="label"))
    assert minestream.verify("o.parquet", source="d.npz")["anchors"] == 100
    save("d.npz", embedding=np.load("v.npy"), label=columns["label"][:-1])
    with pytest.raises(InputError, match=r"d\.npz: .* embedding has 1,797, label has 1,796"):
        mined("d.npz")


def test_queries_and_corpus_are_arrays_with_listed_positives(digits: pa.Table) -> None:
    vectors, pairs = np.load("v.npy"), pa.table({"query_id": range(50), "positive_id": range(50, 100)})
    digits = digits.set_column(0, "id", pa.array(range(len(digits))))
    np.save("q.npy", vectors[:50])
    pq.write_table(digits.slice(0, 50).select(["id"]), "ids.parquet")
    np.savez("c.npz", embedding=vectors, id=digits["id"].to_numpy())
    table = mined("q.npy", labels="ids.parquet", corpus="c.npz", qrels=pairs)
    corpus = digits.select(["id", "embedding"])
    assert table.equals(mined(corpus.slice(0, 50), corpus=corpus, qrels=pairs))


def test_other_commands_take_them(digits: pa.Table, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"progress": "none"}
    found = minestream.profile("v.npy", labels="y.npy", **options), minestream.profile("digits.parquet", **options)
    assert len({str(each["recommended"]) for each in found}) == 1
    fitted = [minestream.fit(inputs, f"{name}.npz", epochs=1, **more, **options)
              for name, inputs, more in (("a", "v.npy", {"labels": "y.npy"}), ("b", "digits.parquet", {}))]  # fmt: skip
    assert fitted[0].epochs == fitted[1].epochs
    minestream.apply("a.npz", "v.npy", "applied.parquet")
    assert pq.read_table("applied.parquet").column_names == ["vectors"]
    assert minestream.compare("v.npy", "v.npy")["near_duplicates"]["equal"] == len(digits)
    for index in (1, 2):
        slice_of: dict[str, Any] = {"shard": f"{index}/2", "order": "shuffled"}
        minestream.mine("v.npy", "s.parquet", labels="y.npy", **slice_of, **options)
    minestream.merge("s.parquet", source="v.npy", labels="y.npy", **options)
    assert pq.read_table("s.parquet").equals(mined("v.npy", labels="y.npy", order="shuffled"))
    assert main(["repeat", "o.parquet", "-o", "again.parquet", "-q"]) == 0
    assert Path("again.parquet").read_bytes() == Path("o.parquet").read_bytes()


def test_texts_of_the_other_file_are_exported(digits: pa.Table) -> None:
    texts = [f"text {row}" for row in range(len(digits))]
    pq.write_table(pa.table({"label": digits["label"], "text": texts}), "rows.parquet")
    rows = mined("v.npy", labels="rows.parquet", label="label")
    minestream.export("o.parquet", "e.parquet", emit="st-triplets", text="text")
    assert pq.read_table("e.parquet")["anchor"].to_pylist() == [texts[row] for row in rows["anchor_row"].to_pylist()]


def test_arrays_of_a_store(digits: pa.Table) -> None:
    fsspec = pytest.importorskip("fsspec")
    store = fsspec.filesystem("memory")
    for name in ("v.npy", "y.npy"):
        store.pipe(f"/arrays/{name}", Path(name).read_bytes())
    expected = mined("v.npy", labels="y.npy")
    assert mined("memory://arrays/v.npy", labels="memory://arrays/y.npy").equals(expected)
    with pytest.raises(InputError, match=r"y\.npy and memory://arrays/v\.npy: a file of a store and a local one"):
        mined("memory://arrays/v.npy", labels="y.npy")


def test_what_cannot_be_mined_is_answered(digits: pa.Table) -> None:
    np.save("short.npy", np.arange(100))
    np.save("objects.npy", np.array([1, "a", None] * 599, object))
    np.save("dates.npy", np.zeros(1797, [("a", "i4")]))
    np.save("cube.npy", np.zeros((3, 3, 3)))
    np.save("floats.npy", np.linspace(0, 1, 1797))
    Path("text.npy").write_text("hello")
    Path("text.npz").write_text("hello")
    cases: list[tuple[Any, dict[str, Any], type[MinestreamError], str]] = [
        ("v.npy", {"labels": "short.npy"}, InputError, r"v\.npy: 1,797 vectors, short\.npy: 100 labels"),
        ("v.npy", {}, InputError, r'v\.npy: no label column found.*name the file of its labels with labels="FILE"'),
        ("y.npy", {}, InputError, r"y\.npy: no embedding column .*labels without vectors"),
        ("y.npy", {"labels": "v.npy"}, InputError, r"one dimension: v\.npy has shape \(1797, 64\)"),
        ("v.npy", {"labels": "v.npy", "vectors": "v.npy"}, UsageError, "labels and vectors exclude each other"),
        ("digits.parquet", {"labels": "label"}, UsageError, 'not digits.parquet.*its columns: label="label"'),
        (digits, {"labels": "y.npy"}, UsageError, "beside an INPUT of .npy vectors, not a Table"),
        ("v.npy", {"labels": "objects.npy"}, InputError, r"objects\.npy: an array of Python objects.*astype\(str\)"),
        ("v.npy", {"labels": "dates.npy"}, InputError, r"dates\.npy: values of type \[\('a'"),
        ("v.npy", {"labels": "floats.npy"}, InputError, r"floats\.npy.*float labels compare badly"),
        ("cube.npy", {}, InputError, r"cube\.npy: an array of shape \(3, 3, 3\), not 2-D"),
        ("text.npy", {}, InputError, r"text\.npy: no \.npy array"),
        ("text.npz", {}, InputError, r"text\.npz: unreadable or truncated: no archive"),
        ("gone.npy", {"labels": "y.npy"}, InputError, r"gone\.npy: does not exist"),
        ("v.npy", {"labels": [1] * 5}, InputError, "1,797 vectors.* 5 labels"),
    ]  # fmt: skip
    for inputs, options, kind, words in cases:
        with pytest.raises(kind, match=f"(?s){words}"):
            mined(inputs, **options)


def test_an_array_that_is_cut_or_changes_is_noticed(digits: pa.Table) -> None:
    source = open_source("y.npy", vectors="v.npy", batch_rows=500)
    batches = source.batches()
    next(batches)
    Path("v.npy").write_bytes(Path("v.npy").read_bytes()[:-5])
    with pytest.raises(InputError, match=r"v\.npy: unreadable or truncated: it ends within rows 1500 to 1796"):
        list(batches)
