"""Objects of other libraries as inputs, and mined output in a torch loader with forked workers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support import written_sample

import minestream

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_sample(tmp_path_factory.mktemp("sources"))


def rows_of(source: Any) -> pa.Table:
    return minestream.mine_batches(source).read_all().replace_schema_metadata()


@pytest.fixture(scope="module")
def expected(digits: Path) -> pa.Table:
    return rows_of(digits)


class Stream:
    """Nothing but the protocol."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


PLAIN = {
    "table": pq.read_table,
    "protocol": lambda path: Stream(pq.read_table(path)),
    "reader": lambda path: ds.dataset(path).scanner(batch_size=100).to_reader(),
    "pyarrow dataset": ds.dataset,
    "scanner": lambda path: ds.dataset(path).scanner(batch_size=64),
    "cut batches": lambda path: pa.Table.from_batches(pq.read_table(path).to_batches(max_chunksize=7)),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_arrow_objects_give_the_rows_of_the_file(kind: str, digits: Path, expected: pa.Table) -> None:
    assert rows_of(PLAIN[kind](digits)).equals(expected)


def polars_frame(path: Path) -> Any:
    return pytest.importorskip("polars").read_parquet(path)


def duckdb_relation(path: Path) -> Any:
    return pytest.importorskip("duckdb").sql(f"select * from '{path}'")


def pandas_frame(path: Path) -> Any:
    frame = pytest.importorskip("pandas").read_parquet(path)
    if not hasattr(frame, "__arrow_c_stream__"):
        pytest.skip("this pandas has no Arrow stream")
    return frame


def hugging_face_dataset(path: Path) -> Any:
    return pytest.importorskip("datasets").Dataset.from_parquet(str(path), keep_in_memory=True)


def lance_dataset(path: Path) -> Any:
    lance = pytest.importorskip("lance")
    return lance.write_dataset(pq.read_table(path), str(path.with_suffix(".lance")), mode="overwrite")


LIBRARIES = {each.__name__: each for each in (polars_frame, duckdb_relation, pandas_frame, hugging_face_dataset,
                                              lance_dataset)}  # fmt: skip


@pytest.mark.peers
@pytest.mark.parametrize("kind", LIBRARIES)
def test_libraries_give_the_rows_of_the_file(kind: str, digits: Path, expected: pa.Table) -> None:
    assert rows_of(LIBRARIES[kind](digits)).equals(expected)


def test_numpy_arrays(digits: Path, expected: pa.Table) -> None:
    table = pq.read_table(digits)
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    mined = minestream.mine_arrays(vectors, table["label"].to_numpy(), ids=table["id"].to_numpy())
    assert mined.table().replace_schema_metadata().equals(expected)
    assert np.array_equal(mined.anchor, expected["anchor_row"].to_numpy())


@pytest.mark.peers
def test_an_iterable_dataset_with_forked_workers(digits: Path, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    minestream.mine(digits, tmp_path / "mined", progress="none", negatives=2)
    command = [sys.executable, str(EXAMPLES / "torch_loader.py"), str(digits), str(tmp_path / "mined")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    rows = ds.dataset(tmp_path / "mined").count_rows()
    assert f"{rows} triplets" in done.stdout


# ---------------------------------------------------------------- datasets in parts, lazy frames, packed tensors


class Splits(dict[str, Any]):
    """What load_dataset returns without a split."""


class Split:
    def select_columns(self, names: list[str]) -> Any:
        raise AssertionError("it is not read")


def test_a_dictionary_of_datasets_is_refused_with_the_way_to_one() -> None:
    with pytest.raises(minestream.UsageError, match="Splits holds several datasets: train, test") as refused:
        minestream.mine_batches(Splits(train=Split(), test=Split()))
    assert refused.value.hint == "pass one of them: dataset['train']"


class Streamed:
    """An IterableDataset by its methods: no length, tables of Arrow on request."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def select_columns(self, names: list[str]) -> Any:
        return Streamed(self._table.select(names))

    def with_format(self, kind: str) -> Any:
        assert kind == "arrow"
        return self

    def iter(self, batch_size: int) -> Any:
        return (self._table.slice(at, 100) for at in range(0, len(self._table), 100))


def test_an_iterable_dataset_is_read_as_a_stream(digits: Path, expected: pa.Table) -> None:
    assert rows_of(Streamed(pq.read_table(digits))).equals(expected)


class Lazy:
    """A LazyFrame of polars by its methods."""

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def limit(self, rows: int) -> Any:
        return Lazy(self._table.slice(0, rows))

    def select(self, names: list[str]) -> Any:
        return Lazy(self._table.select(names))

    def collect(self) -> Any:
        return self

    def to_arrow(self) -> pa.Table:
        return self._table

    def collect_batches(self, *, chunk_size: int, maintain_order: bool) -> Any:
        assert maintain_order
        return (Lazy(self._table.slice(at, chunk_size)) for at in range(0, len(self._table), chunk_size))


def test_a_lazy_frame_is_collected_in_batches(digits: Path, expected: pa.Table) -> None:
    assert rows_of(Lazy(pq.read_table(digits))).equals(expected)


def test_a_lazy_frame_of_polars_gives_the_rows_of_the_file(digits: Path, expected: pa.Table) -> None:
    polars = pytest.importorskip("polars")
    assert rows_of(polars.scan_parquet(digits)).equals(expected)


class Packed:
    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"is_quantized": True}, "tensor.dequantize()"),
        ({"is_sparse": True}, "tensor.to_dense()"),
        ({"layout": "torch.sparse_csr"}, "tensor.to_dense()"),
        ({"toarray": None, "nnz": 3}, "matrix.toarray()"),
    ],
)
def test_packed_arrays_are_refused_with_code(facts: dict[str, Any], code: str) -> None:
    with pytest.raises(minestream.UsageError) as refused:
        minestream.mine_arrays(Packed(**facts), [0, 1])
    assert refused.value.hint == f"convert it: {code}"


ROWS = np.ones((4, 3), np.float32)
STRANGERS: dict[str, tuple[Any, str]] = {
    "a dict of columns": ({"embedding": ROWS}, "pyarrow.table({name: list(values) for name"),
    "a generator": ((row for row in ROWS), "pyarrow.RecordBatchReader.from_batches(schema, batches)"),
    "an array": (ROWS, "minestream.mine_arrays(embeddings, labels)"),
    "a sparse matrix": (Packed(toarray=None, nnz=3), "matrix.toarray()"),
    "splits": (Splits(train=Split()), "dataset['train']"),
}


@pytest.mark.parametrize("name", STRANGERS)
def test_what_is_no_table_is_refused_with_code(name: str, digits: Path, tmp_path: Path) -> None:
    given, code = STRANGERS[name]
    for call in (
        lambda: minestream.mine(given, tmp_path / "out.parquet"),
        lambda: minestream.mine_batches(digits, corpus=given),
        lambda: minestream.mine_batches(given, window=9),
        lambda: minestream.compare(digits, given),
        lambda: minestream.profile(given),
        lambda: minestream.fit(given, tmp_path / "model.npz"),
    ):
        with pytest.raises(minestream.UsageError) as refused:
            call()
        assert code in refused.value.hint, call


@pytest.mark.parametrize("given", [Lazy(pa.table({})), Streamed(pa.table({})), [{"embedding": ROWS[0]}] * 4, None, 5])
def test_tables_are_no_arrays_of_vectors(given: Any) -> None:
    with pytest.raises(minestream.UsageError, match="are no array of vectors") as refused:
        minestream.mine_arrays(given, [0, 1, 0, 1])
    assert "minestream.mine or mine_batches" in refused.value.hint
    for call in (lambda: minestream.mine_arrays(Splits(train=Split()), [0]), lambda: minestream.Miner(9).feed(
            Splits(train=Split()))):  # fmt: skip
        with pytest.raises(minestream.UsageError, match="holds several datasets"):
            call()


VECTORS_OF: dict[str, Callable[[pa.Table], Any]] = {
    "arrow": lambda table: table,
    "pandas": lambda table: pytest.importorskip("pandas") and table.to_pandas(),
    "polars": lambda table: pytest.importorskip("polars").from_arrow(table),
    "hugging face": lambda table: pytest.importorskip("datasets").Dataset(table),
}


@pytest.mark.parametrize("kind", VECTORS_OF)
def test_vectors_of_tables_are_brought_by_the_hint(kind: str) -> None:
    table = VECTORS_OF[kind](pa.table({"embedding": list(np.eye(4, dtype=np.float32)), "label": [0, 0, 1, 1]}))
    with pytest.raises(minestream.UsageError, match="are no array of vectors") as refused:
        minestream.mine_arrays(table, [0, 0, 1, 1])
    vectors = eval(refused.value.hint.split("vectors: ")[1], {"numpy": np, "table": table})
    assert vectors.dtype == np.float32
    assert np.array_equal(vectors, np.eye(4))
    with pytest.raises(minestream.InputError, match="label") as mistaken:
        minestream.mine_arrays(np.eye(4), table)
    assert "\n" not in mistaken.value.message
