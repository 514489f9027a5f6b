"""Vectors as bytes, bf16, other integers; and --dims: the rows are those of the same numbers as plain lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import in_turns, written_sample

import minestream
from minestream.config.resolve import split_options
from minestream.errors import InputError, MinestreamError, UsageError
from minestream.inputs.source import open_source

RNG = np.random.default_rng(17)
BITS = (RNG.standard_normal((120, 6)).astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)  # of bf16
WIDE = (BITS.astype(np.uint32) << 16).view(np.float32)
LABELS = np.arange(120) % 7
FLAT = pa.array(BITS.ravel())
NUMBERS = RNG.integers(0, 128, (120, 6))


def lists(values: np.ndarray[Any, Any]) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def table(column: pa.Array, name: str = "embedding") -> pa.Table:
    return pa.table({name: column, "label": LABELS})


def mined(inputs: Any, **options: Any) -> pa.Table:
    minestream.mine(inputs, "o.parquet", progress="none", overwrite=True, **options)
    return pq.read_table("o.parquet")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


BF16: dict[str, pa.Array] = {
    "binary": pa.array([row.tobytes() for row in BITS]),
    "fixed binary": pa.array([row.tobytes() for row in BITS], pa.binary(12)),
    "large binary": pa.array([row.tobytes() for row in BITS], pa.large_binary()),
    "dictionary": pa.array([row.tobytes() for row in BITS]).dictionary_encode(),
    "uint16": pa.ListArray.from_arrays(pa.array(range(0, 721, 6), pa.int32()), FLAT),
    "large uint16": pa.LargeListArray.from_arrays(pa.array(range(0, 721, 6)), FLAT),
    "fixed uint16": lists(BITS),
    "fixed int16": lists(BITS.view(np.int16)),
}


@pytest.mark.parametrize("name", BF16)
def test_bf16_is_widened_exactly(name: str) -> None:
    pq.write_table(table(BF16[name]), "in.parquet")
    assert mined("in.parquet", vector_type="bf16", batch_rows=50).equals(mined(table(lists(WIDE))))
    mined("in.parquet", vector_type="bf16")
    assert minestream.verify("o.parquet", sample=30)["anchors"] == 30
    (batch,) = open_source("in.parquet", vector_type="bf16", where=None).batches()
    assert batch.vectors.dtype == np.float32
    np.testing.assert_array_equal(batch.vectors, WIDE)


def test_every_bit_pattern_of_bf16_keeps_its_value() -> None:
    every = np.arange(2**16, dtype=np.uint16)
    source = open_source(pa.table({"embedding": lists(every[:, None])}), vector_type="bf16", require_label=None,
                         on_bad_rows="drop", metric="dot", batch_rows=2**16)  # fmt: skip
    (batch,) = source.batches()
    torch = pytest.importorskip("torch")
    expected = torch.from_numpy(every.view(np.int16)).view(torch.bfloat16).float().numpy()[:, None]
    np.testing.assert_array_equal(batch.vectors[~batch.bad], expected[~batch.bad])
    assert np.isfinite(expected[~batch.bad]).all()


def test_bf16_of_arrays(tmp_path: Path) -> None:
    np.save("v.npy", BITS)
    np.save("y.npy", LABELS)
    expected = mined(table(lists(WIDE)))
    assert mined("v.npy", labels="y.npy", vector_type="bf16").equals(expected)
    np.savez("d.npz", embedding=BITS, label=LABELS)
    assert mined("d.npz", vector_type="bf16").equals(expected)


BYTES: dict[str, np.ndarray[Any, Any]] = {
    "float16": WIDE.astype(np.float16), "float32": WIDE, "float64": WIDE.astype(np.float64) + 1e-12,
    "int8": NUMBERS.astype(np.int8) - 64, "uint8": NUMBERS.astype(np.uint8) * 2,
}  # fmt: skip


@pytest.mark.parametrize("kind", BYTES)
def test_bytes_are_what_they_are_declared_to_be(kind: str) -> None:
    values = BYTES[kind].astype(BYTES[kind].dtype.newbyteorder("<"))
    compared = values.astype(np.float32) if kind == "uint8" else values
    column = pa.array([row.tobytes() for row in values])
    (batch,) = open_source(table(column), vector_type=kind).batches()
    assert batch.vectors.dtype == compared.dtype
    np.testing.assert_array_equal(batch.vectors, compared)


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int8", "uint8"])
@pytest.mark.parametrize("stored", [pa.int8(), pa.int32(), pa.int64(), pa.uint16()])
def test_whole_numbers_are_numbers(kind: str, stored: pa.DataType) -> None:
    column = pa.array(NUMBERS.tolist(), pa.list_(stored))
    (batch,) = open_source(table(column), vector_type=kind).batches()
    np.testing.assert_array_equal(batch.vectors, NUMBERS)
    assert batch.vectors.dtype == ("float32" if kind == "uint8" else kind)


def test_uint8_needs_no_declaration() -> None:
    values = NUMBERS.astype(np.uint8)
    expected = mined(table(lists(values.astype(np.float32))))
    assert mined(table(lists(values))).equals(expected)
    assert mined(table(pa.array(values.tolist(), pa.list_(pa.uint8())))).equals(expected)
    found = minestream.mine_arrays(values, LABELS).table()
    assert found["negative_row"].equals(expected["negative_row"])
    assert [float(x) for x in minestream.mine_arrays(values, LABELS).distance_an] == expected["distance_an"].to_pylist()


def test_bad_rows_of_other_storage_are_named_and_dropped() -> None:
    rows: list[Any] = [row.tobytes() for row in BITS]
    rows[3], rows[7], rows[8] = None, b"", rows[8][:10]
    with pytest.raises(InputError, match="column 'embedding': null embedding in row 3"):
        mined(table(pa.array(rows)), vector_type="bf16")
    source = open_source(table(pa.array(rows)), vector_type="bf16", on_bad_rows="drop")
    (batch,) = source.batches()
    assert np.flatnonzero(batch.bad).tolist() == [3, 7, 8]
    assert source.bad_rows == {"null embedding": 1, "empty embedding": 1, "another length": 1}
    values = NUMBERS.tolist()
    values[5][1] = None
    with pytest.raises(InputError, match="null elements in row 5"):
        mined(table(pa.array(values, pa.list_(pa.uint8()))))


REFUSED: list[tuple[pa.Array, str, str]] = [
    (lists(WIDE), "bf16", r"cannot be the embedding.*vector_type=\"bf16\" is for bytes and lists of uint16"),
    (lists(NUMBERS), "bf16", "cannot be the embedding.*uint16"),
    (lists(WIDE), "float64", "bytes and lists of whole numbers: leave it out"),
    (pa.array([row.tobytes() for row in BITS], pa.binary(12)), "float64", "12 bytes a row are no whole number of"),
    (pa.array([b"1234"] * 60 + [b"123"] * 60), "float32", "no whole number of float32 in rows 60, 61, "),
    (pa.array([[1, 2]] * 119 + [[1, 300]]), "uint8", "no uint8: .*300.* in row 119"),
    (pa.array([[1, 2]] * 119 + [[1, 2**24 + 1]]), "float32", "no float32: .* in row 119"),
]  # fmt: skip


@pytest.mark.parametrize(("column", "kind", "words"), REFUSED)
def test_what_is_no_such_number_is_refused(column: pa.Array, kind: str, words: str) -> None:
    with pytest.raises(InputError, match=f"(?s)embedding.*{words}"):
        mined(table(column), vector_type=kind, batch_rows=50)


def test_a_type_is_no_option_for_arrays_and_known_by_name() -> None:
    with pytest.raises(UsageError, match="vector_type is not for arrays"):
        minestream.mine_arrays(WIDE, LABELS, vector_type="bf16")  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="vector_type has no value 'bfloat16'"):
        mined(table(BF16["binary"]), vector_type="bfloat16")


def test_fit_and_apply_read_what_is_declared() -> None:
    pq.write_table(table(BF16["binary"]), "bf16.parquet")
    pq.write_table(table(lists(WIDE)), "wide.parquet")
    reports = [minestream.fit(f"{name}.parquet", f"{name}.npz", epochs=1, progress="none", **more)
               for name, more in (("bf16", {"vector_type": "bf16"}), ("wide", {}))]  # fmt: skip
    assert reports[0].epochs == reports[1].epochs
    applied = []
    for model in ("bf16", "wide"):
        minestream.apply(f"{model}.npz", f"{model}.parquet", f"{model}-out.parquet")
        applied.append(pq.read_table(f"{model}-out.parquet")["embedding"])
    minestream.apply("bf16.npz", "wide.parquet", "other.parquet")
    assert applied[0].equals(applied[1])
    assert pq.read_table("other.parquet")["embedding"].equals(applied[0])


# ---------------------------------------------------------------- --dims


@pytest.fixture
def digits(tmp_path: Path) -> pa.Table:
    return pq.read_table(written_sample(tmp_path))


def prefix(rows: pa.Table, dims: int) -> pa.Table:
    values = np.stack(rows["embedding"].to_numpy())[:, :dims]
    at = rows.column_names.index("embedding")
    return rows.set_column(at, "embedding", lists(np.ascontiguousarray(values)))


RULES: list[dict[str, Any]] = [
    {}, {"metric": "euclidean", "margin": 5.0}, {"metric": "dot", "band": "any"},
    {"metric": "dot", "band": "any", "normalize": True}, {"emit": "pairs"}, {"emit": "tuples", "negatives": 3},
]  # fmt: skip


@in_turns(dims=[3, 20, 64], rules=RULES)
def test_dims_are_those_of_shorter_vectors(dims: int, rules: dict[str, Any], digits: pa.Table) -> None:
    expected = mined(prefix(digits, dims), on_bad_rows="drop", **rules)
    assert mined("digits.parquet", dims=dims, on_bad_rows="drop", **rules).equals(expected)
    assert minestream.verify("o.parquet", sample=20)["anchors"] == 20


def few(rows: pa.Table) -> None:
    rows.slice(0, 300).to_pandas().to_json("in.jsonl", orient="records", lines=True)


FORMS: dict[str, Callable[[pa.Table], Any]] = {
    "in.parquet": lambda rows: pq.write_table(
        rows.set_column(2, "embedding", rows["embedding"].cast(pa.list_(pa.float32()))), "in.parquet"),
    "in.jsonl": few,
    "in.npz": lambda rows: np.savez(
        "in.npz", embedding=np.stack(rows["embedding"].to_numpy()), id=rows["id"], label=rows["label"]),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_dims_of_every_form(name: str, digits: pa.Table) -> None:
    pytest.importorskip("pandas")
    FORMS[name](digits)
    rows = digits.slice(0, 300) if name == "in.jsonl" else digits
    rules: dict[str, Any] = {"metric": "euclidean", "band": "any"}
    expected = mined(prefix(rows, 30), **rules).select(["anchor_row", "negative_row", "distance_an"])
    assert mined(name, dims=30, **rules).select(expected.column_names).equals(expected)


def test_dims_of_a_corpus_of_arrays_and_of_windows(digits: pa.Table) -> None:
    short, values, labels = prefix(digits, 9), np.stack(digits["embedding"].to_numpy()), digits["label"].to_numpy()
    options: dict[str, Any] = {"corpus": "digits.parquet", "shared_ids": True, "on_bad_rows": "drop"}
    assert mined("digits.parquet", dims=9, **options).equals(mined(short, **{**options, "corpus": short}))
    found = minestream.mine_arrays(values, labels, dims=9, on_bad_rows="drop")
    assert found.table().equals(minestream.mine_arrays(values[:, :9].copy(), labels, on_bad_rows="drop").table())
    rows = mined("digits.parquet", dims=9, window=200, on_bad_rows="drop")
    assert rows.equals(mined(short, window=200, on_bad_rows="drop"))
    miner = minestream.Miner(200, dims=9, on_bad_rows="drop")
    fed = pa.Table.from_batches([miner.feed(batch) for batch in digits.to_batches(max_chunksize=100)])
    assert fed["negative_row"].to_pylist() == rows["negative_row"].to_pylist()


def test_other_commands_honour_dims(digits: pa.Table) -> None:
    pq.write_table(prefix(digits, 12), "short.parquet")
    quiet: dict[str, Any] = {"progress": "none", "on_bad_rows": "drop"}
    reports = [minestream.profile("digits.parquet", dims=12, **quiet), minestream.profile("short.parquet", **quiet)]
    assert reports[0]["margins"] == reports[1]["margins"]
    found = [minestream.compare(each, each, **more, on_bad_rows="drop")
             for each, more in (("digits.parquet", {"dims": 12}), ("short.parquet", {}))]  # fmt: skip
    for key in ("labels", "ids", "near_duplicates", "nearest_distance"):
        assert found[0][key] == found[1][key]
    fits = [minestream.fit(each, f"{name}.npz", epochs=1, **more, **quiet)
            for name, each, more in (("a", "digits.parquet", {"dims": 12}), ("b", "short.parquet", {}))]  # fmt: skip
    assert fits[0].epochs == fits[1].epochs
    assert minestream.apply("a.npz", "digits.parquet", "a.parquet")["dimension"] == 12
    minestream.apply("b.npz", "short.parquet", "b.parquet")
    assert pq.read_table("a.parquet")["embedding"].equals(pq.read_table("b.parquet")["embedding"])


def test_dims_beyond_the_vectors_and_other_lengths_are_refused(digits: pa.Table) -> None:
    with pytest.raises(InputError, match=r"digits\.parquet: column 'embedding': dims=65 of vectors of 64 values"):
        mined("digits.parquet", dims=65)
    with pytest.raises(UsageError, match="dims must be at least 1"):
        mined("digits.parquet", dims=0)
    ragged = pa.table({"embedding": [[1.0, 2.0, 3.0]] * 8 + [[1.0, 2.0]], "label": [0, 1, 2] * 3})
    with pytest.raises(InputError, match="row 0 has 3, row 8 has 2"):
        mined(ragged, dims=2)
    late = pa.table({"embedding": [[1.0, 2.0, np.nan], [3.0, 1.0, 2.0], [1.0, 2.5, 0.0]], "label": [0, 0, 1]})
    assert mined(late, dims=2, band="any").num_rows == 2  # what is cut off may be anything
    with pytest.raises(MinestreamError, match="not finite in row 0"):
        mined(late, band="any")


def test_dims_are_recorded_and_noted(digits: pa.Table) -> None:
    prints = {split_options({"dims": dims})[0].fingerprint() for dims in (None, 8, 64)}
    assert len(prints) == 3
    report = minestream.mine("digits.parquet", "o.parquet", dims=8, progress="none", on_bad_rows="drop")
    assert report.config["dims"] == 8
    assert not any("dims" in note for note in report.notes)
    options: dict[str, Any] = {"metric": "dot", "band": "any", "progress": "none", "overwrite": True}
    noted = minestream.mine("digits.parquet", "o.parquet", dims=8, **options).notes
    assert [note for note in noted if note.startswith("dims takes the first values as they are: normalize=True")]
    noted = minestream.mine("digits.parquet", "o.parquet", dims=8, normalize=True, on_bad_rows="drop", **options).notes
    assert not any("dims" in note for note in noted)


@pytest.mark.parametrize("way", ["arrays", "tables"])
def test_dims_are_not_of_the_guide(way: str) -> None:
    rows = RNG.standard_normal((60, 8)).astype(np.float32)
    guide, labels = rows[:, :2] + 0.1, np.arange(60) % 4
    rules: dict[str, Any] = {"absolute_margin": 0.0, "band": "any"}

    def found(values: np.ndarray[Any, Any], **more: Any) -> list[int]:
        if way == "arrays":
            return list(minestream.mine_arrays(values, labels, guide=guide, **rules, **more).negative)
        given = pa.table({"embedding": lists(values), "guide": lists(guide), "label": labels})
        return list(mined(given, embedding="embedding", guide="guide", **rules, **more)["negative_row"].to_pylist())

    assert found(rows, dims=5) == found(np.ascontiguousarray(rows[:, :5]))


def test_a_guide_of_bytes_is_not_answered_with_an_option_that_it_has_not() -> None:
    given = pa.table({"embedding": lists(WIDE), "guide": BF16["binary"], "label": LABELS})
    with pytest.raises(InputError, match="'guide' cannot be the guide: its type is binary") as raised:
        mined(given, embedding="embedding", guide="guide", absolute_margin=0.0, band="any")
    assert "vector_type" not in str(raised.value)
