"""Objects of other libraries as inputs, and mined output in a torch loader with forked workers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from support import written_sample

import minestream

EXAMPLES = Path(__file__).parent / "examples"


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
