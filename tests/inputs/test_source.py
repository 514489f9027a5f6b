"""Inputs: what is read, what is found, what is refused and how it is said."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from minestream.config.mine_config import MineConfig
from minestream.errors import InputError, TransientError, UsageError
from minestream.inputs.read_options import ReadOptions
from minestream.inputs.row_batch import RowBatch
from minestream.inputs.source import Source, arrays_source, open_source
from minestream.inputs.where import parse_where
from minestream.mining.arrays import mine_arrays

DTYPES = ("float16", "float32", "float64", "int8")
LAYOUTS = ("fixed", "list", "large_list")


def matrix(rows: int = 12, width: int = 3, dtype: str = "float32", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 100, (rows, width)).astype(dtype)


def column(values: np.ndarray, layout: str = "fixed") -> pa.Array:
    rows, width = values.shape
    flat = pa.array(values.reshape(-1))
    if layout == "fixed":
        return pa.FixedSizeListArray.from_arrays(flat, width)
    offsets = np.arange(rows + 1) * width
    if layout == "list":
        return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), flat)
    return pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), flat)


def table(values: np.ndarray | None = None, layout: str = "fixed", **columns: Any) -> pa.Table:
    values = matrix() if values is None else values
    default = {"label": np.arange(len(values)) % 3, "id": np.arange(len(values)) + 100}
    return pa.table({"embedding": column(values, layout), **default, **columns})


def write(path: Path, content: pa.Table | None = None, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table() if content is None else content, path, **options)
    return path


def everything(source: Source) -> RowBatch:
    found = list(source.batches())

    def joined(name: str) -> Any:
        arrays = [getattr(batch, name) for batch in found]
        return None if arrays[0] is None else pa.chunked_array(arrays)

    carry = [batch.carry for batch in found]
    return RowBatch(
        0,
        np.concatenate([batch.vectors for batch in found]),
        joined("labels"),
        joined("ids"),
        joined("groups"),
        None if carry[0] is None else pa.Table.from_batches(carry),
        np.concatenate([batch.bad for batch in found]),
    )


def refused(*words: str) -> Any:
    """An InputError whose text holds every one of `words`."""
    return pytest.raises(InputError, match="(?s)" + "".join(f"(?=.*{word})" for word in words))


# ---------------------------------------------------------------- types


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["parquet", "ipc", "ipc stream", "table", "reader"])
def test_every_embedding_type(tmp_path: Path, dtype: str, layout: str, kind: str) -> None:
    values = matrix(dtype=dtype)
    content = table(values, layout)
    source: Any = content
    if kind == "parquet":
        source = write(tmp_path / "a.parquet", content)
    elif kind.startswith("ipc"):
        source = tmp_path / "a.arrow"
        opener = pa.ipc.new_file if kind == "ipc" else pa.ipc.new_stream
        with opener(source, content.schema) as sink:
            sink.write_table(content, max_chunksize=5)
    elif kind == "reader":
        source = content.to_reader(max_chunksize=5)
    opened = open_source(source, batch_rows=4)
    assert (opened.dimension, opened.dtype) == (3, np.dtype(dtype))
    assert opened.rows == (None if kind in ("ipc stream", "reader") else 12)
    assert opened.id_type == pa.int64()
    assert opened.label_type == pa.int64()
    starts = [int(batch.rows[0]) for batch in open_source(content, batch_rows=4).batches()]
    assert starts == [0, 4, 8]
    got = everything(opened)
    assert got.vectors.dtype == np.dtype(dtype)
    assert got.vectors.flags.c_contiguous
    np.testing.assert_array_equal(got.vectors, values)
    assert got.labels.to_pylist() == content["label"].to_pylist()
    assert got.ids.to_pylist() == content["id"].to_pylist()
    assert not got.bad.any()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_slices_and_pieces_keep_their_offsets(tmp_path: Path, layout: str) -> None:
    values = matrix(30)
    words = pa.array([f"w{i}" * (i % 4) for i in range(30)])
    whole = table(values, layout, label=words, id=pa.array([f"k{i}" for i in range(30)]))
    sliced = whole.slice(5, 20)
    pieces = pa.concat_tables([whole.slice(5, 7), whole.slice(12, 13)])
    with pa.ipc.new_file(tmp_path / "s.arrow", whole.schema) as sink:
        for batch in pieces.to_batches():
            sink.write_batch(batch)
    identities = []
    for content in (sliced, pieces, tmp_path / "s.arrow", sliced.combine_chunks()):
        source = open_source(content, batch_rows=6)
        got = everything(source)
        np.testing.assert_array_equal(got.vectors, values[5:25])
        assert got.labels.to_pylist() == words.to_pylist()[5:25]
        identities.append(source.identity()[0]["crc32"])
    assert all(identity == identities[0] for identity in identities)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([1, None, 3], pa.int16()), pa.int16()),
        (pa.array([1, 2, 3], pa.uint64()), pa.uint64()),
        (pa.array(["a", None, "b"]), pa.string()),
        (pa.array(["a", None, "b"], pa.large_string()), pa.string()),
        (pa.array(["a", None, "b"], pa.string_view()), pa.string()),
        (pa.array(["a", None, "b"]).dictionary_encode(), pa.string()),
        (pa.array([True, None, False]), pa.bool_()),
        (pa.array([[1, 2], None, []], pa.list_(pa.int32())), pa.list_(pa.int32())),
        (pa.array([["a"], [None], []], pa.large_list(pa.large_string())), pa.list_(pa.string())),
        (pa.array([["a"], None, ["b"]], pa.list_(pa.dictionary(pa.int8(), pa.string()))), pa.list_(pa.string())),
    ],
)
def test_every_label_type(values: pa.Array, expected: pa.DataType) -> None:
    source = open_source(table(matrix(3), label=values))
    got = everything(source)
    assert source.label_type == got.labels.type == expected
    assert got.labels.to_pylist() == values.to_pylist()
    assert source.identity()[0]["crc32"]["labels"] > 0


@pytest.mark.parametrize("kind", [pa.int8(), pa.uint64(), pa.string(), pa.large_string()])
def test_every_id_type(kind: pa.DataType) -> None:
    source = open_source(table(matrix(3), id=pa.array([3, 1, 2]).cast(kind)))
    got = everything(source)
    expected = pa.int64() if pa.types.is_integer(kind) else pa.string()
    assert source.id_type == got.ids.type == expected
    assert [int(value) for value in got.ids.to_pylist()] == [3, 1, 2]


def test_a_tensor_extension_column_is_an_embedding() -> None:
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(matrix())
    np.testing.assert_array_equal(everything(open_source(table(embedding=tensors))).vectors, matrix())


def test_groups_and_carried_columns(tmp_path: Path) -> None:
    content = table(camera=pa.array(["x", "y"] * 6).dictionary_encode(), text=[f"t{i}" for i in range(12)])
    source = open_source(write(tmp_path / "a.parquet", content), group_column="camera", carry=["text", "label"])
    got = everything(source)
    assert source.columns.carry == ("text", "label")
    assert source.schema.names == ["label", "id", "camera", "text"]
    assert got.groups.to_pylist() == ["x", "y"] * 6
    assert got.carry.column_names == ["text", "label"]
    assert got.carry["text"].to_pylist() == content["text"].to_pylist()


# ---------------------------------------------------------------- detection

FLOATS = column(matrix(4))
WORDS = pa.array(["a", "a", "b", "b"])
NUMBERS = pa.array([7, 8, 9, 10])


@pytest.mark.parametrize(
    ("columns", "given", "found"),
    [
        ({"embedding": FLOATS, "label": WORDS, "id": NUMBERS}, {}, ("embedding", "label", "id")),
        ({"emb": FLOATS, "y": WORDS, "qid": NUMBERS}, {}, ("emb", "y", "qid")),
        ({"Vector": FLOATS, "Class": WORDS, "_ID": NUMBERS}, {}, ("Vector", "Class", "_ID")),
        ({"Label": WORDS, "label": NUMBERS, "vector": FLOATS}, {}, ("vector", "label", None)),
        ({"y": WORDS, "label": WORDS, "vector": FLOATS, "x": FLOATS}, {}, ("vector", "label", None)),
        ({"features": FLOATS, "species": WORDS}, {}, ("features", "species", None)),
        ({"features": FLOATS, "odd": pa.array([True, False] * 2)}, {}, ("features", "odd", None)),
        ({"features": FLOATS, "species": WORDS, "doc_id": NUMBERS}, {}, ("features", "species", "doc_id")),
        ({"embedding": NUMBERS, "vector": FLOATS, "label": WORDS}, {}, ("vector", "label", None)),
        ({"vector": FLOATS, "v2": FLOATS, "label": WORDS}, {"embedding": "v2"}, ("v2", "label", None)),
        ({"vector": FLOATS, "pid": WORDS}, {"label": "pid"}, ("vector", "pid", None)),
        ({"vector": FLOATS, "label": WORDS, "id": NUMBERS, "key": WORDS}, {"id": "key"},
         ("vector", "label", "key")),
        ({"vector": FLOATS, "text": WORDS, "kind": WORDS}, {"carry": ["text"]}, ("vector", "kind", None)),
        ({"vector": FLOATS, "kind": WORDS}, {"require_label": False}, ("vector", None, None)),
        ({"vector": FLOATS, "label": WORDS}, {"require_label": False}, ("vector", "label", None)),
    ],
)  # fmt: skip
def test_columns_are_found(columns: dict[str, Any], given: dict[str, Any], found: tuple[Any, ...]) -> None:
    got = open_source(pa.table(columns), **given).columns
    assert (got.embedding, got.label, got.id) == found


FIXED = pa.FixedSizeListArray.from_arrays
SPARK = pa.array(
    [{"type": 1, "size": None, "indices": None, "values": [1.0]}] * 4,
    pa.struct(
        [("type", pa.int8()), ("size", pa.int32()), ("indices", pa.list_(pa.int32())),
         ("values", pa.list_(pa.float64()))]
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("columns", "given", "words"),
    [
        ({"a": FLOATS, "b": FLOATS, "label": WORDS}, {},
         ["several columns may be the embedding", "a .*float", 'embedding="a"']),
        ({"embedding": FLOATS, "a": WORDS, "b": NUMBERS}, {},
         ["several columns may be the label", r"a \(string, 2 distinct values in 4 rows", 'label="a"']),
        ({"embedding": FLOATS, "a": pa.array(list("abca")), "b": WORDS}, {},
         ["several columns may be the label", 'name one: label="b"']),
        ({"embedding": FLOATS, "title": pa.array(list("abcd"))}, {},
         ["no label", "title .*4 distinct values in 4 rows"]),
        ({"embedding": FLOATS}, {}, ["no label column found", "embedding"]),
        ({"embedding": FLOATS, "label": WORDS}, {"label": "lable"},
         ["no column 'lable'", "label", "did you mean 'label'"]),
        ({"embedding": FLOATS, "label": WORDS}, {"carry": ["texts"]}, ["no column 'texts'", "carry"]),
        ({"embedding": FLOATS, "label": WORDS}, {"group_column": "embedding"}, ["cannot be the group"]),
        ({"embedding": FLOATS, "label": WORDS, "s": SPARK}, {"carry": "s"}, ["cannot be the carry"]),
        ({"embedding": pa.array([b"1234"] * 4), "label": WORDS}, {},
         ["'embedding' cannot be the embedding", "binary", 'vector_type="float32"']),
        ({"embedding": WORDS, "label": WORDS}, {}, ["string", "json.loads"]),
        ({"features": SPARK, "label": WORDS}, {}, ["no embedding", "vector_to_array"]),
        ({"vector": SPARK, "label": WORDS}, {}, ["struct", 'struct_field\\(column, "values"\\)']),
        ({"vector": FIXED(pa.array(range(8), pa.uint16()), 2), "label": WORDS}, {}, ["uint16", "float32", "bf16"]),
        ({"vector": FIXED(pa.array(range(8), pa.int64()), 2), "label": WORDS}, {}, ["int64", "float32"]),
        ({"vector": pa.array([[[1.0]]] * 4), "label": WORDS}, {}, ["several vectors a row"]),
        ({"dim_0": pa.array([1.0] * 4), "dim_1": pa.array([1.0] * 4), "label": WORDS}, {},
         ["2 columns hold one float", "column_stack"]),
        ({"embedding": FLOATS, "label": pa.array([1.0] * 4)}, {}, ["cannot be the label", "double", "int64"]),
        ({"embedding": FLOATS, "label": pa.array([[1.0]] * 4)}, {}, ["cannot be the label", "float labels"]),
        ({"embedding": FLOATS, "label": WORDS, "id": pa.array([1.0] * 4)}, {"id": "id"},
         ["cannot be the id", "float ids"]),
        ({"embedding": FLOATS, "label": WORDS, "id": pa.array([b"x"] * 4)}, {"id": "id"},
         ["cannot be the id", "pyarrow.string"]),
        ({"embedding": FLOATS, "label": WORDS, "id": pa.array([1, None, None, 2])}, {},
         ["'id'", "null id in rows 1, 2", "id"]),
        ({"embedding": FLOATS, "label": WORDS, "id": pa.array([1, 2, 3, 2**63], pa.uint64())}, {},
         ["beyond int64 in row 3", "string"]),
    ],
)  # fmt: skip
def test_columns_are_refused(columns: dict[str, Any], given: dict[str, Any], words: list[str]) -> None:
    with refused(*words):
        list(open_source(pa.table(columns), **given).batches())


def test_an_unusable_column_that_nobody_named_is_noted() -> None:
    floats, words = pa.array([1.0] * 4), {"embedding": FLOATS, "label": WORDS}
    for columns, found in (
        ({**words, "id": floats}, (None, ["column 'id' is double: not used as ids"])),
        ({**words, "id": pa.array([b"x"] * 4)}, (None, ["column 'id' is binary: not used as ids"])),
        ({**words, "id": floats, "pid": NUMBERS}, ("pid", ["column 'id' is double: not used as ids"])),
        ({**words, "id": NUMBERS}, ("id", [])),
    ):
        source = open_source(pa.table(columns))
        assert (source.columns.id, source.notes) == found
    unlabelled = open_source(pa.table({"embedding": FLOATS, "label": floats}), require_label=False)
    assert (unlabelled.columns.label, unlabelled.notes) == (None, ["column 'label' is double: not used as labels"])
    with refused("cannot be the id", "float ids"):
        arrays_source(matrix(4), [0, 0, 1, 1], ids=[1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("__index_level_0__", None),
        ("__index_level_0__", {"index_columns": ["__index_level_0__"]}),
        ("product", {"index_columns": ["product"]}),
        ("Unnamed: 0", {"index_columns": [{"kind": "range"}]}),
        ("", {}),
    ],
)
def test_the_index_of_a_frame_is_no_label_unless_it_is_named(name: str, told: Any) -> None:
    about = None if told is None else {"pandas": json.dumps(told)}
    both = pa.table({"embedding": FLOATS, name: [0, 0, 1, 1]}).replace_schema_metadata(about)
    for given in (both, both.to_reader()):
        with refused("no label column found; columns: embedding", "which rows belong together"):
            open_source(given)
    assert open_source(both, label=name).columns.label == name
    assert open_source(both.append_column("kind", WORDS)).columns.label == "kind"


def test_no_cast_is_advised_where_no_column_could_be_the_label() -> None:
    with pytest.raises(InputError) as raised:
        open_source(pa.table({"embedding": FLOATS}))
    assert raised.value.hint.endswith('which rows belong together with label="COL"')


@pytest.mark.parametrize("told", ["", "[]", "{}", "3", '{"index_columns": 3}', '{"index_columns": [3, null]}', "\xff"])
def test_an_index_that_has_the_name_of_a_role_has_it_whatever_else_is_told(told: str) -> None:
    columns = {"embedding": FLOATS, "id": NUMBERS, "label": WORDS}
    about = {"pandas": '{"index_columns": ["id", "label"]}'}
    for given in (about, {"pandas": told}):
        found = open_source(pa.table(columns).replace_schema_metadata(given)).columns
        assert (found.id, found.label) == ("id", "label")


def test_two_columns_of_one_name() -> None:
    twice = pa.Table.from_arrays([FLOATS, WORDS, WORDS], names=["embedding", "label", "label"])
    with refused("2 columns are named 'label'", "rename"):
        open_source(twice)


def test_options_that_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be carried"):
        open_source(table(), carry=["embedding"])
    np.save(tmp_path / "v.npy", matrix())
    with pytest.raises(UsageError, match="exclude each other"):
        open_source(table(), vectors=str(tmp_path / "v.npy"), embedding="embedding")
    with pytest.raises(UsageError, match="did you mean 'drop'"):
        open_source(table(), on_bad_rows="drops")
    with pytest.raises(UsageError, match="at least 1"):
        open_source(table(), batch_rows=0)


# ---------------------------------------------------------------- rows that cannot be


def lists(*rows: Any, kind: pa.DataType | None = None) -> pa.Array:
    return pa.array(list(rows), kind or pa.list_(pa.float32()))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (lists([1, 2], [1], [3, 4], [1, 2, 3]), ["different lengths", "row 0 has 2", "rows 1, 3 have 1, 3"]),
        (lists([1, 2], None, [3, 4], None), ["null embedding in rows 1, 3", 'on_bad_rows="drop"']),
        (lists([1, 2], None, [3, 4], [5, 6], kind=pa.list_(pa.float32(), 2)), ["null embedding in row 1"]),
        (lists([1, 2], [1, None], [3, 4], [None, None]), ["null elements in rows 1, 3"]),
        (lists([], [], [], []), ["length 0"]),
        (FIXED(pa.array(np.ones(4 * 16385, "f4")), 16385), ["16385", "over 16384"]),
    ],
)
@pytest.mark.parametrize("on_disk", [True, False])
def test_rows_that_are_refused(tmp_path: Path, values: pa.Array, words: list[str], on_disk: bool) -> None:
    content: Any = pa.table({"embedding": values, "label": WORDS})
    if on_disk:
        content = write(tmp_path / "bad.parquet", content)
    with refused("bad.parquet" if on_disk else "<memory>", "'embedding'", *words):
        list(open_source(content).batches())


@pytest.mark.parametrize("length", [1, 16384])
def test_the_shortest_and_the_longest_vectors(length: int) -> None:
    rows = pa.table({"embedding": FIXED(pa.array(np.ones(2 * length, "f4")), length), "label": [0, 0]})
    assert everything(open_source(rows)).vectors.shape == (2, length)


def test_ragged_over_batches_and_row_numbers_over_files(tmp_path: Path) -> None:
    ragged = pa.table({"embedding": lists(*[[1.0, 2.0]] * 20, *[[1.0]] * 4), "label": [0] * 24})
    with refused("different lengths", "first rows have 2", "row 20", "have 1"):
        list(open_source(ragged, batch_rows=2).batches())
    values = matrix(6)
    values[[2, 4]] = np.nan
    write(tmp_path / "a.parquet")
    write(tmp_path / "b.parquet", table(values))
    with refused("b.parquet", "'embedding'", r"rows 2, 4 \(in the whole source: 14, 16\)", 'on_bad_rows="drop"'):
        list(open_source(tmp_path).batches())


@pytest.mark.parametrize(
    ("dtype", "value", "metric", "kind", "hint"),
    [
        ("float32", np.nan, "dot", "not finite", 'on_bad_rows="drop"'),
        ("float64", np.inf, "euclidean", "not finite", 'on_bad_rows="drop"'),
        ("float16", np.inf, "cosine", "not finite", "65504"),
        ("float32", 0, "cosine", "zero norm", "no direction"),
        ("int8", 0, "cosine", "zero norm", "no direction"),
        ("float64", 1e80, "dot", "norm out of range", "rescale"),
        ("float64", 1e-80, "euclidean", "norm out of range", "rescale"),
        ("float64", 1e200, "dot", "norm out of range", "rescale"),
        ("float64", 1e-200, "cosine", "zero norm", "no direction"),
    ],
)
def test_bad_rows(dtype: str, value: float, metric: str, kind: str, hint: str) -> None:
    values = matrix(8, dtype=dtype)
    values[[3, 6]] = value
    with refused("<memory>", "'embedding'", f"{kind} in rows 3, 6", hint):
        list(open_source(table(values), metric=metric).batches())
    source = open_source(table(values), metric=metric, on_bad_rows="drop", batch_rows=4)
    got = everything(source)
    assert source.bad_rows == {kind: 2}
    assert np.flatnonzero(got.bad).tolist() == [3, 6]
    assert not got.vectors[got.bad].any()
    np.testing.assert_array_equal(got.vectors[~got.bad], values[~got.bad])
    everything(source)
    assert source.bad_rows == {kind: 2}


def test_rows_that_are_not_bad() -> None:
    values = matrix(8)
    values[2] = 0
    assert not everything(open_source(table(values), metric="dot")).bad.any()
    with refused("zero norm in row 2"):
        list(open_source(table(values), metric="dot", normalize=True).batches())
    for value in (1e-30, 1e-12, 1e17, 1e19, 3e38):
        values[2] = value
        assert not everything(open_source(table(values))).bad.any()


def test_at_most_five_rows_are_named() -> None:
    values = np.zeros((9, 2), np.float32)
    with refused("rows 0, 1, 2, 3, 4 and at least 4 more"):
        list(open_source(table(values)).batches())


# ---------------------------------------------------------------- files


def names(source: Source) -> list[str]:
    everything(source)
    return [entry["name"] for entry in source.identity()]


def test_folders_globs_and_their_order(tmp_path: Path) -> None:
    for name in ("b/2.parquet", "b/10.parquet", "a/x/1.parquet", ".hidden/h.parquet", "b/.part.parquet",
                 "_temporary/t.parquet"):  # fmt: skip
        write(tmp_path / name)
    (tmp_path / "b/_SUCCESS").touch()
    (tmp_path / "b/notes.txt").write_text("no")
    expected = ["a/x/1.parquet", "b/10.parquet", "b/2.parquet"]
    assert names(open_source(tmp_path)) == expected
    assert names(open_source(str(tmp_path / "**/*.parquet"))) == expected
    assert names(open_source([tmp_path / "b", tmp_path / "a"])) == expected
    assert names(open_source([tmp_path / "b/2.parquet", str(tmp_path / "b/*.parquet")])) == ["10.parquet", "2.parquet"]
    assert names(open_source(tmp_path / "b/2.parquet")) == ["2.parquet"]
    assert open_source(tmp_path).rows == 36


def test_a_few_rows_of_other_columns_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minestream.inputs.source.PEEKED_ROWS", 5)
    parts = [write(tmp_path / f"{n}.parquet", table(text=[f"{n} {row}" for row in range(12)])) for n in range(3)]
    source = open_source([str(part) for part in parts])
    assert source.stored.names == ["embedding", "label", "id", "text"]
    for rows in ([], [3, 4, 26, 35], [30], [0, 12, 24]):
        seen = dict(source.peek(["text"], np.array(rows, np.int64)))
        assert seen == {row: {"text": f"{row // 12} {row % 12}"} for row in rows}
    assert not list(open_source(table().to_reader()).peek(["id"], np.array([1])))


def test_a_hidden_parent_folder_does_not_hide_its_files(tmp_path: Path) -> None:
    write(tmp_path / ".cache/a.parquet")
    assert names(open_source(tmp_path / ".cache")) == ["a.parquet"]


def test_a_path_with_brackets_is_a_path(tmp_path: Path) -> None:
    assert names(open_source(write(tmp_path / "a[1].parquet"))) == ["a[1].parquet"]


def test_files_of_no_rows_beside_others(tmp_path: Path) -> None:
    for layout in LAYOUTS:
        write(tmp_path / "a.parquet", table(layout=layout).slice(0, 0))
        write(tmp_path / "b.parquet", table(layout=layout))
        source = open_source(tmp_path)
        assert len(everything(source).vectors) == 12
        assert [entry["rows"] for entry in source.identity()] == [0, 12]


def test_files_that_are_refused(tmp_path: Path) -> None:
    good = write(tmp_path / "good.parquet", table(matrix(500)))
    content = good.read_bytes()
    cases: dict[str, tuple[bytes, list[str]]] = {
        "cut.parquet": (content[:-20], ["cut.parquet", "unreadable or truncated"]),
        "text.parquet": (b"hello, this is no such file", ["text.parquet", "unreadable or truncated"]),
        "empty.parquet": (b"", ["empty.parquet", "unreadable or truncated"]),
        "empty.arrow": (b"", ["empty.arrow", "unreadable or truncated"]),
        "table.csv": (b"a,b\n1,2\n", ["table.csv", "no embedding column found"]),
        "v.npy": (b"\x93NUMPY", ["v.npy", "unreadable or truncated"]),
    }
    for name, (raw, words) in cases.items():
        (tmp_path / name).write_bytes(raw)
        with refused(*words):
            open_source(tmp_path / name)
    with refused("gone.parquet", "does not exist"):
        open_source(tmp_path / "gone.parquet")
    with refused("no file matches", "pattern"):
        open_source(str(tmp_path / "*.nothing"))
    (tmp_path / "none").mkdir()
    with refused("none", "no \\*.parquet"):
        open_source(tmp_path / "none")
    with refused("no input"):
        open_source([])
    with pytest.raises(UsageError, match="dict"):
        open_source({"a": 1})


def test_pages_that_are_damaged_after_the_footer_was_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", table(matrix(5000)), compression="zstd")
    raw = bytearray(path.read_bytes())
    raw[100 : len(raw) // 2] = bytes(len(raw) // 2 - 100)
    path.write_bytes(raw)
    with refused("a.parquet"):
        list(open_source(path).batches())


def test_a_cut_ipc_file_and_stream(tmp_path: Path) -> None:
    content = table(matrix(500))
    for opener, name in ((pa.ipc.new_file, "f.arrow"), (pa.ipc.new_stream, "s.arrow")):
        with opener(tmp_path / name, content.schema) as sink:
            sink.write_table(content)
        raw = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(raw[: len(raw) // 2])
        with refused(name, "unreadable or truncated"):
            list(open_source(tmp_path / name).batches())


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (PermissionError(errno.EACCES, "Permission denied"), InputError, "permission"),
        (OSError(errno.EINVAL, "Invalid argument"), InputError, "unreadable or truncated.*Invalid argument"),
        (OSError("Corrupt snappy compressed data"), InputError, "unreadable or truncated.*snappy"),
        (OSError(errno.EIO, "Input/output error"), TransientError, "Input/output error.*try again"),
        (OSError(errno.ESTALE, "Stale file handle"), TransientError, "Stale.*try again"),
        (TimeoutError(errno.ETIMEDOUT, "Timed out"), TransientError, "Timed out.*try again"),
        (ConnectionResetError(errno.ECONNRESET, "Reset"), TransientError, "Reset.*try again"),
    ],
)
def test_a_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, kind: type[Exception], words: str
) -> None:
    path = write(tmp_path / "a.parquet")
    opened = open_source(path)

    def fail(*args: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(pq, "ParquetFile", fail)
    for attempt in (lambda: open_source(path), lambda: list(opened.batches())):
        with pytest.raises(kind, match=f"(?s)a.parquet.*{words}"):
            attempt()


def test_npy_that_fails_while_it_is_read(tmp_path: Path) -> None:
    rows = write(tmp_path / "a.parquet", table().drop_columns("embedding"))
    np.save(tmp_path / "v.npy", matrix())
    opened = open_source(rows, vectors=tmp_path / "v.npy", batch_rows=5)
    (tmp_path / "v.npy").write_bytes((tmp_path / "v.npy").read_bytes()[:-5])
    with refused("v.npy", "truncated", "rows 10 to 11"):
        list(opened.batches())


def test_a_file_that_changes_between_opening_and_reading(tmp_path: Path) -> None:
    opened = open_source(write(tmp_path / "a.parquet"))
    write(tmp_path / "a.parquet", table().slice(0, 7))
    with refused("a.parquet", "changed while it was read"):
        list(opened.batches())


def test_what_minestream_wrote_is_refused(tmp_path: Path) -> None:
    content = table().replace_schema_metadata({"minestream.version": "1"})
    write(tmp_path / "out/part-0.parquet", content)
    for given in (tmp_path / "out/part-0.parquet", tmp_path / "out", content):
        with refused("written by minestream", "output"):
            open_source(given)


@pytest.mark.parametrize("kind", ["parquet", "table", "reader", "list reader"])
def test_no_rows(tmp_path: Path, kind: str) -> None:
    empty = table(layout="list" if kind == "list reader" else "fixed").slice(0, 0)
    source: Any = {"parquet": write(tmp_path / "a.parquet", empty), "table": empty}.get(kind) or empty.to_reader()
    with refused("no rows"):
        list(open_source(source).batches())


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (table(matrix(width=4)), ["different lengths", "a.parquet has 3", "b.parquet has 4"]),
        (table(matrix(width=4), "list"), ["different lengths", "a.parquet has 3", "b.parquet has 4"]),
        (table(matrix(dtype="float64")), ["element types", "a.parquet has float32", "b.parquet has float64"]),
        (table().drop_columns("label"), ["b.parquet", "no column 'label'"]),
        (table(label=["x"] * 12), ["'label' has different types", "a.parquet has int64", "b.parquet has string"]),
    ],
)
@pytest.mark.parametrize("layout", ["fixed", "list"])
def test_files_that_disagree(tmp_path: Path, other: pa.Table, words: list[str], layout: str) -> None:
    write(tmp_path / "a.parquet", table(layout=layout))
    write(tmp_path / "b.parquet", other)
    with refused(*words):
        list(open_source(tmp_path).batches())


def test_only_needed_columns_are_read(tmp_path: Path) -> None:
    content = table(big=[f"text {i}" for i in range(12)])
    path = write(tmp_path / "a.parquet", content, compression=None)
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"text 3", b"\xff\xff\xff\xff\xff\xff"))
    assert len(everything(open_source(path)).vectors) == 12


# ---------------------------------------------------------------- objects, .npy, arrays


class Stream:
    """Anything that speaks the Arrow stream protocol."""

    def __init__(self, content: pa.Table) -> None:
        self._content = content

    def __arrow_c_stream__(self, requested_schema: Any = None) -> Any:
        return self._content.__arrow_c_stream__(requested_schema)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrow_objects(layout: str) -> None:
    content = table(layout=layout)
    pieces = [content.slice(0, 5), content.slice(5)]
    for thing in (content, content.to_batches()[0], content.to_reader(), Stream(content), pieces):
        source = open_source(thing, batch_rows=5)
        np.testing.assert_array_equal(everything(source).vectors, matrix())
    assert [entry["name"] for entry in source.identity()] == ["<memory> 0", "<memory> 1"]
    stream = open_source(content.to_reader())
    assert names(stream) == ["<stream>"]
    with pytest.raises(UsageError, match="once"):
        list(stream.batches())
    table_source = open_source(content)
    assert names(table_source) == names(table_source) == ["<memory>"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ["<", ">"])
def test_npy_beside_parquet(tmp_path: Path, dtype: str, order: str) -> None:
    values = matrix(30, dtype=dtype)
    stored = values.astype(values.dtype.newbyteorder(order))
    for name, piece in (("v0.npy", stored[:7]), ("v1.npy", stored[7:7]), ("v2.npy", stored[7:])):
        np.save(tmp_path / name, piece)
    rows = table(values).drop_columns("embedding")
    write(tmp_path / "a.parquet", rows.slice(0, 11))
    write(tmp_path / "b.parquet", rows.slice(11))
    source = open_source(tmp_path, vectors=str(tmp_path / "v*.npy"), batch_rows=5)
    assert (source.dimension, source.dtype, source.rows) == (3, np.dtype(dtype), 30)
    got = everything(source)
    assert got.vectors.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(got.vectors, values)
    assert got.ids.to_pylist() == rows["id"].to_pylist()
    assert [(e["name"], e["rows"], sorted(e["crc32"])) for e in source.identity()] == [
        ("a.parquet", 11, ["ids", "labels"]),
        ("b.parquet", 19, ["ids", "labels"]),
        ("v0.npy", 7, ["vectors"]),
        ("v1.npy", 0, ["vectors"]),
        ("v2.npy", 23, ["vectors"]),
    ]


def test_npy_that_is_refused(tmp_path: Path) -> None:
    rows = write(tmp_path / "a.parquet", table().drop_columns("embedding"))
    values = matrix()
    cases: dict[str, tuple[Any, list[str]]] = {
        "long": (matrix(13), ["long.npy", "13 vectors", "a.parquet", "12 rows", "aligned"]),
        "flat": (values[:, 0], ["flat.npy", "2-D"]),
        "ints": (values.astype("int64"), ["ints.npy", "int64", "float32"]),
        "order": (np.asfortranarray(values), ["order.npy", "Fortran"]),
        "bad": (np.where(np.arange(12)[:, None] == 4, np.nan, values), ["bad.npy", "not finite in row 4"]),
    }
    for name, (array, words) in cases.items():
        np.save(tmp_path / f"{name}.npy", array)
        with refused(*words):
            list(open_source(rows, vectors=tmp_path / f"{name}.npy").batches())
    (tmp_path / "cut.npy").write_bytes((tmp_path / "bad.npy").read_bytes()[:-5])
    with refused("cut.npy", "truncated"):
        open_source(rows, vectors=tmp_path / "cut.npy")
    stream = table().drop_columns("embedding")
    for count in (11, 13):
        np.save(tmp_path / "n.npy", matrix(count))
        with refused("n.npy", f"{count} vectors", "12 rows"):
            list(open_source(stream.to_reader(), vectors=tmp_path / "n.npy", batch_rows=5).batches())


class Tensor:
    """What a torch tensor looks like from outside."""

    def __init__(self, values: np.ndarray, dtype: str = "torch.float32") -> None:
        self.values, self.dtype = values, dtype

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def float(self) -> Tensor:
        return Tensor(self.values.astype(np.float32))

    def numpy(self) -> np.ndarray:
        assert self.dtype != "torch.bfloat16"
        return self.values


def test_arrays() -> None:
    values = matrix()
    labels = np.arange(12) % 3
    tensor, ids = Tensor(labels, "torch.int64"), list("abcdefghijkl")
    tensors = [Tensor(values), Tensor(values, "torch.bfloat16"), [Tensor(row) for row in values]]
    for given in (values, np.asfortranarray(values), list(values), values.astype(">f4"), *tensors):
        source = arrays_source(given, tensor, ids=ids, groups=labels)
        got = everything(source)
        assert got.vectors.dtype == np.float32
        np.testing.assert_array_equal(got.vectors, values)
        assert got.labels.to_pylist() == got.groups.to_pylist() == labels.tolist()
        assert source.columns.group == "group"
    assert names(source) == ["<memory>"]
    assert arrays_source(values.tolist(), labels).dtype == np.float64
    assert arrays_source([[1, 2], [3, 4]], [0, 0]).dtype == np.float64
    assert arrays_source(values, [[1], [2, 3], None] * 4).label_type == pa.list_(pa.int64())
    assert arrays_source(values, None, require_label=False).columns.label is None
    assert np.shares_memory(next(iter(arrays_source(values, labels).batches())).vectors, values)


@pytest.mark.parametrize(
    ("embeddings", "labels", "words"),
    [
        (np.ones(4, "f4"), [0] * 4, ["shape \\(4,\\)"]),
        (np.ones((4, 0), "f4"), [0] * 4, ["length 0"]),
        (np.ones((0, 4), "f4"), [], ["no rows"]),
        ([], [], ["no rows"]),
        ([[1.0], [1.0, 2.0]], [0, 0], ["different lengths", "row 1 has 2"]),
        (np.ones((4, 2), "i8"), [0] * 4, ["int64", "astype\\(numpy.float32\\)"]),
        (np.ones((4, 2), "f4"), [0] * 3, ["label", "3 values for 4"]),
        (np.ones((4, 2), "f4"), None, ["no labels"]),
        (np.ones((4, 2), "f4"), np.zeros(4), ["cannot be the label", "float labels"]),
        (np.ones((4, 2), "f4"), np.zeros((4, 2), int), ["labels have one dimension", "multi-labels: "]),
        (np.ones((4, 2), "f4"), [0, "a", 1, 2], ["label", "cannot be read"]),
    ],
)
def test_arrays_that_are_refused(embeddings: Any, labels: Any, words: list[str]) -> None:
    with refused(*words):
        arrays_source(embeddings, labels)


# ---------------------------------------------------------------- identity


def identity(content: Any, batch_rows: int = 8192) -> list[dict[str, Any]]:
    source = open_source(content, batch_rows=batch_rows)
    everything(source)
    return source.identity()


LABELS = {
    "ints": pa.array([1, None, 3] * 4),
    "strings": pa.array(["ab", None, "", "c"] * 3),
    "bools": pa.array([True, None, False] * 4),
    "lists": pa.array([[1, 2], None, [], [None]] * 3, pa.list_(pa.int64())),
    "string lists": pa.array([["a", "bc"], None, [], [None]] * 3, pa.list_(pa.string())),
}


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_identity_does_not_depend_on_how_rows_are_cut(tmp_path: Path, labels: str, layout: str) -> None:
    content = table(layout=layout, label=LABELS[labels], id=[f"key {i}" * (i % 3 + 1) for i in range(12)])
    found = []
    for group_rows in (1, 5, 12):
        path = write(tmp_path / "a.parquet", content, row_group_size=group_rows)
        found += [identity(path, batch_rows) for batch_rows in (1, 5, 7, 100)]
    assert all(each == found[0] for each in found)
    assert found[0][0]["crc32"] == identity(content, 5)[0]["crc32"]


@pytest.mark.parametrize(
    ("changed", "kind"),
    [
        (table(matrix() + (np.arange(36).reshape(12, 3) == 17)), "vectors"),
        (table(label=[0, 1, 2] * 3 + [0, 1, 1]), "labels"),
        (table(label=pa.array([None, 1, 2] + [0, 1, 2] * 3)), "labels"),
        (table(id=[*range(100, 111), 7]), "ids"),
    ],
)
def test_identity_changes_with_one_value(changed: pa.Table, kind: str) -> None:
    before, after = (identity(each)[0]["crc32"] for each in (table(), changed.cast(table().schema)))
    assert {key for key in before if before[key] != after[key]} == {kind}


def test_identity_tells_where_strings_and_lists_end() -> None:
    for one, other in (
        (["ab", "c"] * 6, ["a", "bc"] * 6),
        ([None, ""] * 6, ["", None] * 6),
        ([[1, 2], [3]] * 6, [[1], [2, 3]] * 6),
        ([[], None] * 5 + [[1], [1]], [None, []] * 5 + [[1], [1]]),
    ):
        assert identity(table(label=one)) != identity(table(label=other))


def test_identity_is_of_what_the_file_holds_and_known_after_a_pass() -> None:
    values = matrix()
    values[3] = np.nan
    dropped = open_source(table(values), on_bad_rows="drop")
    with pytest.raises(UsageError, match="full pass"):
        dropped.identity()
    everything(dropped)
    values[3] = 0
    zeroed = open_source(table(values), on_bad_rows="drop")
    everything(zeroed)
    assert dropped.identity() != zeroed.identity()
    next(iter(dropped.batches()))
    with pytest.raises(UsageError, match="full pass"):
        dropped.identity()


def test_identity_names_do_not_depend_on_the_place(tmp_path: Path) -> None:
    for place in ("here", "there/deeper"):
        for name in ("x/a.parquet", "y/a.parquet"):
            write(tmp_path / place / name)
    assert identity(tmp_path / "here") == identity(tmp_path / "there/deeper")


@pytest.mark.parametrize("size", [1e-200, 1e-310])
def test_rows_whose_squares_underflow_are_out_of_range(size: float) -> None:
    vectors = np.full((6, 3), size)
    with pytest.raises(InputError, match="norm out of range"):
        mine_arrays(vectors, [0, 0, 0, 1, 1, 1], metric="euclidean", margin=1.0)


# ---------------------------------------------------------------- rows without a vector, types that differ


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_without_a_vector_are_dropped_and_counted(layout: str, dtype: str) -> None:
    values = matrix(dtype=dtype)
    rows: list[list[Any] | None] = values.tolist()
    rows[0], rows[5], rows[11] = None, [None, *rows[5][1:]], None  # type: ignore[index]
    if layout != "fixed":
        rows[7] = []
    element = pa.from_numpy_dtype(np.dtype(dtype))
    kinds = {"fixed": pa.list_(element, 3), "list": pa.list_(element), "large_list": pa.large_list(element)}
    content = table().set_column(0, "embedding", pa.array(rows, kinds[layout]))
    for cut in (content, pa.concat_tables([content.slice(0, 1), content.slice(1, 4), content.slice(5)])):
        for batch_rows in (1, 5, 100):
            source = open_source(cut, on_bad_rows="drop", batch_rows=batch_rows)
            found = everything(source)
            empty = {} if layout == "fixed" else {"empty embedding": 1}
            assert source.bad_rows == {"null embedding": 2, "null elements": 1, **empty}
            assert np.flatnonzero(found.bad).tolist() == sorted({0, 5, 11} | ({7} if empty else set()))
            assert np.array_equal(found.vectors[~found.bad], values[~found.bad])
            assert not found.vectors[found.bad].any()
    with refused("embedding", 'on_bad_rows="drop"'):
        everything(open_source(content))


def test_a_null_vector_has_another_checksum_than_a_zero_one() -> None:
    sums = []
    for first in (None, [0.0, 0.0, 0.0]):
        content = table().set_column(
            0, "embedding", pa.array([first, *matrix().tolist()[1:]], pa.list_(pa.float32(), 3))
        )
        source = open_source(content, on_bad_rows="drop")
        everything(source)
        sums.append(source.identity()[0]["crc32"]["vectors"])
    assert sums[0] != sums[1]


@pytest.mark.parametrize(
    ("one", "other", "both"),
    [
        ("int32", "int64", "int64"), ("uint8", "int16", "int16"), ("int8", "uint32", "int64"),
        ("string", "large_string", "string"),
    ],
)  # fmt: skip
def test_types_that_differ_from_file_to_file_meet_in_a_wider_one(
    tmp_path: Path, one: str, other: str, both: str
) -> None:
    for name, kind in (("a", one), ("b", other)):
        content = table(label=pa.array(range(12)).cast(kind), group=pa.array(range(12)).cast(kind))
        write(tmp_path / f"{name}.parquet", content)
    found = everything(open_source(tmp_path, group_column="group", carry=("label",)))
    assert str(found.labels.type) == str(found.groups.type) == str(found.carry["label"].type) == both
    assert found.labels.cast("string").to_pylist() == [str(n) for n in range(12)] * 2


@pytest.mark.parametrize("kind", [pa.int32(), pa.string(), pa.list_(pa.int64())])
def test_a_file_without_any_value_takes_the_type_of_the_others(tmp_path: Path, kind: pa.DataType) -> None:
    """Writers give a column without a value the type null, that of lists without an element a list of it."""
    full = [[n % 3] for n in range(12)] if pa.types.is_list(kind) else [n % 3 for n in range(12)]
    nothing = pa.array([[]] * 12) if pa.types.is_list(kind) else pa.nulls(12)
    values = pa.array(full, kind) if pa.types.is_list(kind) else pa.array(full).cast(kind)
    for name, labels in (("a", nothing), ("b", values)):
        notes = pa.nulls(12) if name == "a" else pa.array(range(12))
        write(tmp_path / f"{name}.parquet", table(label=labels, note=notes))
    found = everything(open_source(tmp_path, carry=("note",)))
    assert (found.labels.type, found.carry["note"].type) == (kind, pa.int64())
    assert found.labels.to_pylist() == [*nothing.to_pylist(), *values.to_pylist()]
    for condition, rows in {"note is None": 12, "note > 5": 6, "note not in (1, 2)": 10, "note == note": 12}.items():
        assert len(everything(open_source(tmp_path, where=parse_where(condition, "--where"))).labels) == rows
    found = everything(
        open_source(tmp_path / "a.parquet", carry=("note",), where=parse_where("note is None", "--where"))
    )
    assert found.carry["note"].null_count == 12


def test_rows_without_any_label_of_one_type() -> None:
    vectors = matrix(2)
    for labels in ([None, None], [[], []], [[], None], pa.nulls(2)):
        with refused("no row that takes part has a label"):
            mine_arrays(vectors, labels)
        options: dict[str, Any] = {"qrels": [(0, 5)], "band": "any", "unlabeled": "negative"}
        found = mine_arrays(vectors, labels, corpus=matrix(9), corpus_labels=[None] * 9, **options)
        assert found.table()["negative_label"].null_count == found.table().num_rows == 1
    found = mine_arrays(vectors, [[], []], corpus=vectors, corpus_labels=[["x"], ["y"]])
    assert (found.stats.rows, found.table().schema.field("query_label").type) == (0, pa.list_(pa.string()))


def test_queries_and_corpus_may_have_integers_of_two_widths() -> None:
    queries, corpus = matrix(seed=1), matrix(seed=2)
    kinds = {"int32": np.arange(12, dtype=np.int32) % 3, "int64": np.arange(12, dtype=np.int64) % 3}
    rows = [
        mine_arrays(queries, kinds[one], corpus=corpus, corpus_labels=kinds[other], band="any").table()
        for one, other in (("int32", "int64"), ("int64", "int64"), ("int64", "int32"))
    ]
    assert rows[0].equals(rows[1])
    assert rows[1].equals(rows[2])
    with refused("labels of the queries are int64", "string"):
        mine_arrays(queries, kinds["int64"], corpus=corpus, corpus_labels=["x"] * 12)


LABEL_LISTS = [[1, 2], None, [], [3], None, [1], [2, 3], None, [3], [1, None], [2], [1, 2]]


def hidden_lists(kind: str) -> pa.Array:
    """The lists above, with values behind the null ones."""
    values = [[7, 8] if each is None else each for each in LABEL_LISTS]
    mask = pa.array([each is None for each in LABEL_LISTS])
    whole = pa.array(values, pa.list_(pa.int64()))
    if kind == "large_list":
        return pa.LargeListArray.from_arrays(whole.offsets.cast(pa.int64()), whole.values, mask=mask)
    found = pa.ListArray.from_arrays(whole.offsets, whole.values, mask=mask)
    return found if kind == "list" else pa.concat_arrays([pa.array([[9]], pa.list_(pa.int64())), found]).slice(1)


@pytest.mark.parametrize("kind", ["list", "large_list", "slice"])
def test_values_behind_null_lists_are_no_labels(kind: str) -> None:
    def rows(labels: pa.Array) -> list[Any]:
        content = table(label=labels)
        return mine_arrays(matrix(), content["label"], band="any", negatives=3).table().to_pylist()

    assert rows(hidden_lists(kind)) == rows(pa.array(LABEL_LISTS, pa.list_(pa.int64())))


def test_null_fixed_size_lists_are_unlabelled() -> None:
    flat = pa.array(np.arange(24) % 5)
    mask = np.arange(12) % 4 == 0
    fixed = pa.FixedSizeListArray.from_arrays(flat, 2, mask=pa.array(mask))
    clean = pa.array([None if hide else fixed[row].as_py() for row, hide in enumerate(mask)], pa.list_(pa.int64()))
    one, other = (mine_arrays(matrix(), labels, band="any").table() for labels in (fixed, clean))
    assert one.equals(other)


# ---------------------------------------------------------------- .npy files beside files of rows


def shards(folder: Path, rows: dict[str, int], vectors: dict[str, int]) -> Source:
    for name, count in rows.items():
        write(folder / f"{name}.parquet", table(matrix(count)).drop_columns("embedding"))
    for name, count in vectors.items():
        np.save(folder / f"{name}.npy", matrix(count))
    return open_source(folder, vectors=str(folder / "*.npy"))


@pytest.mark.parametrize(
    ("rows", "vectors", "note"),
    [
        (["m_01", "m_02", "m_10"], ["v_01", "v_02", "v_10"], "v_01.npy with m_01.parquet, v_02.npy with m_02.parquet"),
        (["m_1", "m_2", "m_10"], ["v_1", "v_2", "v_10"], "v_1.npy with m_1.parquet, v_10.npy with m_10.parquet"),
        (["m_1", "m_2"], ["v_000", "v_001"], "v_000.npy with m_1.parquet, v_001.npy with m_2.parquet"),
        (["first", "second"], ["a", "b"], "a.npy with first.parquet, b.npy with second.parquet"),
        (["m"], ["v_0", "v_1"], "vectors of 2 .npy files go with the rows of 1 inputs"),
    ],
)
def test_files_of_vectors_and_rows_are_paired_and_said(
    tmp_path: Path, rows: list[str], vectors: list[str], note: str
) -> None:
    counts = [12 * len(vectors) // len(rows)] * len(rows)
    source = shards(tmp_path, dict(zip(rows, counts, strict=True)), dict.fromkeys(vectors, 12))
    assert [each for each in source.notes if note in each]


def test_files_whose_numbers_and_order_disagree_are_refused(tmp_path: Path) -> None:
    with refused("img_0002.npy", "meta_10.parquet", "as many digits"):
        shards(tmp_path, dict.fromkeys(("meta_1", "meta_2", "meta_10"), 12), dict.fromkeys(
            ("img_0001", "img_0002", "img_0010"), 12))  # fmt: skip


DISAGREE: dict[str, tuple[list[str], list[str], str]] = {
    "rows of one file": (["m"], ["v_1", "v_2", "v_10"], "v_10.npy: it comes before v_2.npy by name, not by number"),
    "one file of vectors": (["m_9", "m_10"], ["v"], "m_10.parquet: it comes before m_9.parquet by name"),
    "one is missing": (["m_0", "m_1", "m_3"], ["v_0", "v_1", "v_2"], "v_2.npy: .*m_3.parquet, by their numbers"),
    "beside a version": (["v2_meta_2", "v2_meta_10"], ["img_02", "img_10"], "goes with .*v2_meta_10.parquet"),
}
AGREE: dict[str, tuple[list[str], list[str]]] = {
    "both without zeros": (["m_1", "m_2", "m_10"], ["v_1", "v_2", "v_10"]),
    "a version": (["m_7", "m_8"], ["v2_7", "v2_8"]),
    "from another number on": (["m_0", "m_1"], ["v_1", "v_2"]),
    "no numbers": (["a", "b"], ["x", "y"]),
    "texts and numbers": (["test_1", "train_1"], ["test", "train"]),
    "dates and parts": (["2024-01-02_1", "2024-01-02_2"], ["v_1", "v_2"]),
}


@pytest.mark.parametrize("case", DISAGREE)
def test_numbers_that_disagree_with_the_order_of_the_names_are_refused(case: str, tmp_path: Path) -> None:
    rows, vectors, message = DISAGREE[case]
    with pytest.raises(InputError, match=message):
        shards(tmp_path, dict.fromkeys(rows, 12 * len(vectors) // len(rows)), dict.fromkeys(vectors, 12))


@pytest.mark.parametrize("case", AGREE)
def test_numbers_that_agree_pair_files(case: str, tmp_path: Path) -> None:
    rows, vectors = AGREE[case]
    source = shards(tmp_path, dict.fromkeys(rows, 12), dict.fromkeys(vectors, 12))
    pairs = ", ".join(f"{v}.npy with {r}.parquet" for v, r in zip(sorted(vectors), sorted(rows), strict=True))
    assert f"vectors: {pairs}" in source.notes


def test_files_that_go_together_have_as_many_rows(tmp_path: Path) -> None:
    with refused("v1.npy: 11 vectors", "m1.parquet: 12 rows"):
        shards(tmp_path, {"m1": 12, "m2": 11}, {"v1": 11, "v2": 12})


# ---------------------------------------------------------------- ReadOptions


def test_what_a_configuration_says_is_how_its_tables_are_read() -> None:
    config = MineConfig(label="kind", carry=("text",), metric="dot", normalize=True, on_bad_rows="drop", where="a > 1")
    options = ReadOptions.of(config.to_dict(), id="key", batch_rows=7)
    assert (options.label, options.id, [*options.carry], options.batch_rows) == ("kind", "key", ["text"], 7)
    assert (options.metric, options.normalize, options.on_bad_rows, options.where) == ("dot", True, "drop", None)


def test_a_guide_is_read_as_its_table_is() -> None:
    where = parse_where("a > 1", "--where")
    options = ReadOptions(label="kind", carry=("text",), metric="dot", on_bad_rows="drop", batch_rows=7, where=where)
    guide = ReadOptions(
        embedding="other", id="key", metric="dot", on_bad_rows="drop", batch_rows=7, where=where, require_label=None
    )
    assert options.beside("other", "key") == guide
