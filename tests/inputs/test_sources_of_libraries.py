"""Objects of other libraries as inputs, and mined output in a torch loader with forked workers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import partial
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


# ---------------------------------------------------------------- one keyword, the same kinds of tables


def frame(library: str, table: pa.Table) -> Any:
    found = VECTORS_OF[library](table)
    return found if hasattr(found, "__arrow_c_stream__") else pytest.skip("it has no Arrow stream")


def as_file(folder: Path, table: pa.Table) -> Path:
    path = folder / f"{abs(hash(str(table.schema)))}-{table.num_rows}.parquet"
    pq.write_table(table, path)
    return path


KINDS: dict[str, Callable[[Path, pa.Table], Any]] = {
    "a path": as_file, "a list of paths": lambda folder, table: [as_file(folder, table)],
    "a table": lambda folder, table: table, "a batch": lambda folder, table: table.to_batches()[0],
    "tables": lambda folder, table: [table.slice(0, 3), table.slice(3)],
    "a reader": lambda folder, table: table.to_reader(), "a protocol": lambda folder, table: Stream(table),
    "a dataset": lambda folder, table: ds.dataset(as_file(folder, table)),
    "a lazy frame": lambda folder, table: Lazy(table),
    "a frame of pandas": lambda folder, table: frame("pandas", table),
    "a frame of polars": lambda folder, table: frame("polars", table),
    "a list of pairs": lambda folder, table: list(zip(*(column.to_pylist() for column in table.columns), strict=True)),
    "an array of pairs": lambda folder, table: np.array(table.columns).T,
}  # fmt: skip
FEW = np.random.default_rng(4).standard_normal((24, 4)).astype(np.float32)
ITEMS = pa.table({"embedding": list(FEW), "label": [row % 6 for row in range(24)], "id": range(24)})
PAIRS = pa.table({"query_id": [0, 1, 2, 7], "positive_id": [3, 4, 5, 1]})
SCORED = pa.table({"query_id": np.repeat(range(24), 24), "document_id": np.tile(range(24), 24),
                   "score": np.arange(576.0)})  # fmt: skip
QUIET: dict[str, Any] = {"progress": "none"}
arrays: Any = partial(minestream.mine_arrays, FEW, ITEMS["label"], ids=ITEMS["id"])
batches: Any = partial(minestream.mine_batches, ITEMS)


def listed(given: Any) -> Any:
    """What mine makes of the pairs, and that verify takes them, too."""
    minestream.mine(ITEMS, "l.parquet", qrels=PAIRS, overwrite=True, **QUIET)
    return minestream.verify("l.parquet", source=ITEMS, qrels=given)["rows_compared"]


def mined(name: str) -> Callable[[Any], Any]:
    def call(given: Any) -> Any:
        minestream.mine(ITEMS, "k.parquet", overwrite=True, **QUIET, **{name: given})
        return pq.read_table("k.parquet").replace_schema_metadata()

    return call


def applied(given: Any) -> Any:
    minestream.apply(minestream.Linear(np.eye(4), np.zeros(4), {}), given, "a.parquet", overwrite=True)
    return pq.read_table("a.parquet")["embedding"].to_pylist()


def refiltered(given: Any) -> Any:
    minestream.mine(ITEMS, "m.parquet", overwrite=True, negatives=4, **QUIET)
    minestream.refilter("m.parquet", "r.parquet", scores=given, negatives=2, overwrite=True)
    return pq.read_table("r.parquet").replace_schema_metadata()


def compared(given: Any) -> Any:
    return minestream.compare(ITEMS, given)["near_duplicates"]["near"]


TAKERS: dict[str, tuple[pa.Table, Callable[[Any], Any]]] = {
    **{f"mine {name}": (table, mined(name)) for name, table in
       (("qrels", PAIRS), ("exclude", PAIRS), ("exclude_rows", ITEMS.select(["id"]).slice(0, 4)), ("corpus", ITEMS))},
    "mine": (ITEMS, lambda given: minestream.mine_batches(given).read_all()),
    "mine_batches qrels": (PAIRS, lambda given: batches(qrels=given).read_all()),
    "mine_batches exclude": (PAIRS, lambda given: batches(exclude=given).read_all()),
    "mine_arrays qrels": (PAIRS, lambda given: arrays(qrels=given).table()),
    "mine_arrays exclude": (PAIRS, lambda given: arrays(exclude=given).table()),
    "mine_arrays exclude_rows": (ITEMS.select(["id"]).slice(0, 4), lambda given: arrays(exclude_rows=given).table()),
    "refilter scores": (SCORED, refiltered), "apply": (ITEMS, applied), "compare": (ITEMS, compared),
    "profile": (ITEMS, lambda given: minestream.profile(given, **QUIET)["margins"]), "verify qrels": (PAIRS, listed),
    "fit": (ITEMS, lambda given: minestream.fit(given, "f.npz", epochs=1, overwrite=True, **QUIET).held_out_rows),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("taker", TAKERS)
def test_every_keyword_takes_the_same_kinds_of_tables(
    taker: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table, call = TAKERS[taker]
    if table is not PAIRS and kind.endswith("of pairs"):
        return
    assert call(KINDS[kind](tmp_path, table)) == call(table)


@pytest.mark.parametrize("kind", ["a frame of pandas", "a frame of polars", "a dataset", "a lazy frame"])
def test_what_is_no_stream_is_read_twice(kind: str, tmp_path: Path) -> None:
    table = ITEMS.append_column("second", ITEMS["embedding"])
    rules: list[dict[str, Any]] = [{"guide": "second", "absolute_margin": 0.01}, {"anchor_where": "id < 9"}]
    for each in rules:
        expected = minestream.mine_batches(table, **each).read_all()
        assert minestream.mine_batches(KINDS[kind](tmp_path, table), **each).read_all() == expected


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "pairs" not in kind and kind not in (
    "a reader", "a protocol", "a dataset", "a lazy frame")])  # fmt: skip
def test_a_corpus_of_any_kind_may_have_other_names(kind: str, tmp_path: Path) -> None:
    queries = ITEMS.rename_columns(["vector of the query", "label", "key"])
    given = KINDS[kind](tmp_path, ITEMS.drop_columns(["id"]))
    found = minestream.mine_batches(queries, corpus=given, embedding="vector of the query", id="key", label="label")
    assert found.read_all().num_rows > 0


@pytest.mark.parametrize("library", ["arrow", "pandas", "polars"])
def test_one_column_is_no_table_and_no_stream(library: str, tmp_path: Path) -> None:
    column = VECTORS_OF[library](ITEMS)["id"]
    calls: list[Callable[[], Any]] = [
        lambda: minestream.mine(column, tmp_path / "o.parquet"), lambda: minestream.profile(column),
        lambda: batches(exclude_rows=column), lambda: batches(qrels=column), lambda: batches(corpus=column),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(minestream.UsageError, match=r"is no table|is not understood") as refused:
            call()
        assert "stream" not in refused.value.message


def test_a_frame_that_arrow_cannot_hold_is_no_damaged_file(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    mixed = pandas.DataFrame({"embedding": list(FEW[:4]), "label": [0, 0, 1, 1], "text": [1, "a", 2, "b"]})
    twice = pandas.concat([mixed[["embedding", "label"]], mixed[["label"]]], axis=1)
    for given, word in ((mixed, "text"), (twice, "uplicate")):
        with pytest.raises(minestream.InputError, match=f"^a DataFrame cannot be read as a table: .*{word}") as refused:
            minestream.mine(given, tmp_path / "o.parquet")
        assert "file" not in str(refused.value)
    minestream.mine_batches(mixed.astype({"text": str}))


def test_names_of_frames_say_that_they_are_in_memory(digits: Path) -> None:
    with pytest.raises(minestream.InputError, match=r"^<memory>: no column 'other'"):
        minestream.mine_batches(frame("pandas", pq.read_table(digits)), label="other")
