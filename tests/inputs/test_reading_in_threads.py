"""What several threads read is what one reads: rows, checksums, counts, and the first error by place."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import GeneratorType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minestream.config import memory_plan
from minestream.config.resolve import split_options
from minestream.config.resources import Tables
from minestream.errors import InputError
from minestream.inputs import numpy_files, parquet_files, source
from minestream.inputs.dataset.vectors import Store
from minestream.inputs.source import open_source
from minestream.inputs.where import parse_where
from minestream.mining.driver import Driver
from minestream.system.checksums import Checksum
from minestream.system.threads import ahead, mapped

ROWS, BAD = 300, {7: np.nan, 133: 0.0, 291: np.inf}
MANY = {"threads": 4, "ahead": 2}


@pytest.fixture(autouse=True)
def _short_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (parquet_files, numpy_files):
        monkeypatch.setattr(module, "RUN_ROWS", 24)


def rows(bad: dict[int, float] | None = None) -> pa.Table:
    values = np.random.default_rng(0).integers(1, 100, (ROWS, 4)).astype(np.float32)
    for row, value in (bad or {}).items():
        values[row] = value
    return pa.table({
        "embedding": pa.FixedSizeListArray.from_arrays(values.reshape(-1), 4), "label": np.arange(ROWS) % 7,
        "id": [f"row {row:0{row % 9}d}" for row in range(ROWS)], "text": ["word " * (row % 5) for row in range(ROWS)],
        "part": np.arange(ROWS) // 50,
    })  # fmt: skip


def files(folder: Path, content: pa.Table) -> Path:
    """One row group of many rows, many groups of few, and a file of one group for each few rows."""
    folder.mkdir(exist_ok=True)
    pq.write_table(content.slice(0, 100), folder / "a.parquet")
    pq.write_table(content.slice(100, 100), folder / "b.parquet", row_group_size=9)
    for first in range(200, ROWS, 10):
        pq.write_table(content.slice(first, 10), folder / f"c{first}.parquet")
    return folder


def arrays(folder: Path, content: pa.Table) -> tuple[Path, Path]:
    """Rows in Parquet, cut otherwise than their vectors in .npy files."""
    folder.mkdir(exist_ok=True)
    vectors = content["embedding"].combine_chunks().flatten().to_numpy().reshape(ROWS, 4)
    for first, end in ((0, 110), (110, ROWS)):
        np.save(folder / f"{first:03d}.npy", vectors[first:end])
    pq.write_table(content.drop_columns("embedding"), folder / "rows.parquet", row_group_size=70)
    return folder / "rows.parquet", folder


KINDS: dict[str, Callable[[Path, pa.Table], dict[str, Any]]] = {
    "files": lambda folder, content: {"inputs": files(folder, content)},
    "some groups": lambda folder, content: {
        "inputs": files(folder, content), "where": parse_where("part != 2 and part != 4", "--where"), "every_id": False
    },
    "every id": lambda folder, content: {
        "inputs": files(folder, content), "where": parse_where("part != 2 and label != 3", "--where"), "every_id": True
    },
    "arrays": lambda folder, content: dict(zip(("inputs", "vectors"), arrays(folder, content), strict=True)),
    "table": lambda folder, content: {"inputs": content},
    "stream": lambda folder, content: {
        "inputs": pa.RecordBatchReader.from_batches(content.schema, content.to_batches(31))
    },
}  # fmt: skip


def read(given: dict[str, Any], **threads: int) -> Any:
    """All that a pass over a source tells."""
    opened = open_source(given["inputs"], batch_rows=16, on_bad_rows="drop", id="id", carry=["text"],
                         **{name: value for name, value in given.items() if name != "inputs"})  # fmt: skip
    batches = list(opened.batches(**threads))
    found = [*batches, *opened.outside]
    for each in found:
        assert [int(text.split()[1]) for text in each.ids.to_pylist()] == each.rows.tolist()
    assert sum(len(each.rows) for each in found) == ROWS or not given.get("every_id")
    return (
        [(each.rows.tolist(), each.vectors.tolist(), each.labels, each.ids, each.carry) for each in batches],
        [list(each.kinds) for each in batches], opened.identity(), opened.others(), opened.bad_rows, opened.left_out,
        [(each.rows.tolist(), each.ids) for each in opened.outside],
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_rows_checksums_and_counts(kind: str, tmp_path: Path) -> None:
    make = partial(KINDS[kind], tmp_path / "in", rows(BAD))
    one = read(make())
    assert sum(one[4].values()) > 0
    for threads, more in ((2, 2), (4, 2), (4, 5)):
        assert read(make(), threads=threads, ahead=more) == one


def test_checksums_are_those_of_the_whole_column(tmp_path: Path) -> None:
    """However many pieces they are joined of."""
    content = rows()
    whole = open_source(content.combine_chunks(), id="id")
    list(whole.batches())
    cut = open_source(content, id="id", batch_rows=7)
    list(cut.batches(threads=3))
    assert cut.identity() == whole.identity()
    some, more, last, every = (Checksum() for _ in range(4))
    for part, between in ((some, slice(0, 30)), (more, slice(30, 31)), (last, slice(31, ROWS)), (every, slice(ROWS))):
        part.add(content["id"].combine_chunks()[between])
    more.join(last)
    some.join(more)
    assert some.value() == every.value()


@pytest.mark.parametrize("in_scratch", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_the_same_dataset(in_scratch: bool, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors are copied by several threads, into memory or scratch, without the rows that take no part."""
    monkeypatch.setattr(memory_plan, "MOST_BATCH_ROWS", 16)
    monkeypatch.setattr(memory_plan, "PAGE_BYTES", 1 << 10)
    content = rows(BAD)
    labels = np.ma.masked_array(np.arange(ROWS) % 7, np.arange(ROWS) % 11 == 3)
    content = content.set_column(1, "label", pa.array(labels))
    if dtype == "float16":
        values = content["embedding"].combine_chunks().flatten().cast(pa.float16())
        content = content.set_column(0, "embedding", pa.FixedSizeListArray.from_arrays(values, 4))
    path, found = files(tmp_path / "in", content), []
    if in_scratch:
        monkeypatch.setattr(Store, "of_rows", partial(spilling, 60))
    for threads in (1, 2, 4):
        options = {"threads": threads, "memory": "64MiB", "on_bad_rows": "drop", "scratch": str(tmp_path)}
        config, resources, _ = split_options(options | {"progress": "none"})
        with Driver(config, resources) as driver:
            loaded, searcher = driver.dataset(driver.open(path, Tables()))
            assert searcher.plan.readers == threads
            assert loaded.store.in_memory != in_scratch
            vectors = loaded.store.block(0, loaded.store.rows).tolist()
            found.append(
                (vectors, loaded.dropped, [field.tolist() for field in loaded.rows[:3]], loaded.rows.square.tolist())
            )
    assert found[1] == found[0]
    assert found[2] == found[0]


def spilling(most_rows: int, dimension: int, dtype: Any, *_: Any) -> Store:
    """A store that is full after some rows, and knows not how many come."""
    return Store(dimension, dtype, most_rows * dimension * 4, Path("/tmp"))


def test_the_first_error_is_that_of_the_first_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where a bad row further on is found first."""
    path = files(tmp_path / "in", rows({133: 0.0, 145: np.nan, 291: np.inf}))
    later, check = threading.Event(), source.bad_rows
    waited: list[bool] = []

    def checked(vectors: np.ndarray, *more: Any) -> Any:
        found = check(vectors, *more)
        if "zero norm" in found:
            waited.append(later.wait(5))
        elif found:
            later.set()
        return found

    errors = []
    for threads in (1, 2, 4):
        monkeypatch.setattr(source, "bad_rows", checked if threads == 4 else check)
        with pytest.raises(InputError) as caught:
            list(open_source(path, id="id").batches(threads=threads, ahead=2))
        errors.append(str(caught.value))
    assert waited == [True]  # the later one had been found
    assert "b.parquet: column 'embedding': zero norm in row 33 (in the whole source: 133)" in errors[0]
    assert errors[1:] == errors[:1] * 2


def test_rows_of_a_cut_file_have_their_numbers(tmp_path: Path) -> None:
    """Also where a condition has left out row groups before them."""
    path = files(tmp_path / "in", rows({193: 0.0}))
    where = parse_where("part != 2", "--where")
    with pytest.raises(InputError, match=r"b.parquet.*row 93 \(in the whole source: 193\)"):
        list(open_source(path, id="id", where=where).batches(**MANY))


@pytest.mark.parametrize(("bad", "words"), [(133, "zero norm in row 33 "), (291, "b.parquet: unreadable or truncated")])
def test_a_damaged_page_and_a_bad_row(bad: int, words: str, tmp_path: Path) -> None:
    """What comes first is refused: the bad row before the page, or the page before the bad row."""
    path = files(tmp_path / "in", rows({bad: 0.0}))
    with pq.ParquetFile(path / "b.parquet") as file:
        begin = file.metadata.row_group(8).column(0).dictionary_page_offset
    raw = bytearray((path / "b.parquet").read_bytes())
    raw[begin : begin + 40] = bytes(40)
    (path / "b.parquet").write_bytes(raw)
    for threads in ({}, {"threads": 2, "ahead": 2}, {"threads": 4, "ahead": 5}):
        with pytest.raises(InputError, match=words):
            list(open_source(path, id="id").batches(**threads))


def test_a_stream_is_read_by_the_thread_that_asks(tmp_path: Path) -> None:
    seen, content = set(), rows()

    def batches() -> Any:
        for batch in content.to_batches(20):
            seen.add(threading.get_ident())
            yield batch

    list(open_source(pa.RecordBatchReader.from_batches(content.schema, batches()), id="id").batches(**MANY))
    assert seen == {threading.get_ident()}


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("most", [1, 2, 4])
def test_items_of_runs_stay_in_order_and_few_are_made_ahead(threads: int, most: int) -> None:
    lengths, made, used, beyond = [3, 0, 1, 9, 2, 2, 1, 1, 0, 7], [0], 0, 0

    def run(number: int, length: int) -> Any:
        for item in range(length):
            made[0] += 1
            yield number, item

    for number, item in ahead((run(*each) for each in enumerate(lengths)), threads, most):
        assert (number, item) == [(n, i) for n, length in enumerate(lengths) for i in range(length)][used]
        used += 1
        beyond = max(beyond, made[0] - used)
    assert used == sum(lengths)
    assert beyond <= threads * most + max(most, 2)


def test_an_error_comes_after_the_items_before_it() -> None:
    def runs() -> Any:
        yield [1, 2]
        yield (6 // x for x in (2, 0))
        raise LookupError

    assert until(ZeroDivisionError, ahead(runs(), 4, 5)) == [1, 2, 3]
    assert until(LookupError, mapped(type, runs(), 3)) == [list, GeneratorType]


def until(error: type[Exception], items: Any) -> list[Any]:
    """The items before an error."""
    found = []
    with suppress(error):
        while True:
            found.append(next(items))
    return found
