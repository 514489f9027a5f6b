"""Parts and row groups that several threads make: the bytes are those of one, errors are raised, nobody is left."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import set_sizes
from worlds import clustered

from minestream.errors import CapacityError
from minestream.mining.pipeline import mine
from minestream.outputs import parquet, parts, run
from minestream.outputs.losses import exact_sum
from minestream.system.checksums import RowsCrc
from minestream.system.threads import ahead, mapped, run_each

THREADS = [1, 2, 4]
FULL = OSError(28, "No space left on device")


def rows_table(rows: int) -> pa.Table:
    """Columns of every kind that is written: nulls, texts, lists of each encoding, structs."""
    numbers = np.random.default_rng(rows).integers(0, 1 << 40, rows)
    few = [None if row % 11 == 0 else [*range(row % 5)] for row in range(rows)]
    return pa.table({
        "anchor_row": numbers, "flag": numbers % 2 == 0, "loss": (numbers / 7).astype(np.float32),
        "id": [None if row % 7 == 0 else "x" * (row % 30) for row in range(rows)],
        "negative_ids": pa.array(few, pa.list_(pa.int64())),
        "candidate_rows": pa.array([[row, row + 1] for row in range(rows)], pa.list_(pa.int64())),
        "candidate_distances": pa.array([[row / 3] for row in range(rows)], pa.list_(pa.float32())),
        "text": pa.array([{"a": row, "b": "q"} for row in range(rows)], pa.struct({"a": pa.int32(), "b": pa.string()})),
    })  # fmt: skip


def plainly(path: Path, table: pa.Table, cuts: list[int], metadata: dict[str, str], brief: bool) -> bytes:
    """The file as one writer of Arrow's makes it, row group after row group."""
    schema = pa.schema([pa.field(field.name, parquet.pinned_type(field.type)) for field in table.schema])
    encodings = {"candidate_rows.list.element": "DELTA_BINARY_PACKED"}
    encodings["candidate_distances.list.element"] = "BYTE_STREAM_SPLIT"
    with pq.ParquetWriter(
        path, schema, version="2.6", compression="lz4" if brief else "zstd", compression_level=None if brief else 3,
        use_dictionary=False, write_page_checksum=True, data_page_size=2**20, column_encoding=encodings,
    ) as writer:  # fmt: skip
        for first, end in zip([0, *cuts], [*cuts, table.num_rows], strict=True):
            if end > first:
                writer.write_table(table.slice(first, end - first).cast(schema).combine_chunks())
        writer.add_key_value_metadata(metadata)
    return path.read_bytes()


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("brief", [False, True])
@pytest.mark.parametrize("rows", [0, 1, 960, 6_000])
def test_row_groups_encoded_apart_are_those_of_one_writer(
    rows: int, brief: bool, threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 64)  # 15 groups are a longer list
    table, crc = rows_table(rows), RowsCrc(rows_table(rows).schema)
    crc.update(table)
    pieces = [table.slice(first, 100) for first in range(0, rows, 100)] or [table]
    record = parquet.write_rows(
        tmp_path / "x", table.schema, pieces, {"k": "v"}, lambda: {"pairs": 3}, brief=brief, threads=threads
    )
    metadata = {
        "k": "v",
        "minestream.counts": f'{{"pairs": 3, "rows": {rows}}}',
        "minestream.rows_crc32": record["crc32"],
    }
    assert (tmp_path / "x").read_bytes() == plainly(tmp_path / "y", table, [*range(64, rows, 64)], metadata, brief)
    assert record == {"rows": rows, "bytes": (tmp_path / "x").stat().st_size, "crc32": crc.value()}
    read = [*parquet.part_tables([tmp_path / "x", tmp_path / "y"], threads)]
    assert not rows or pa.concat_tables(read).equals(pa.concat_tables([pq.read_table(tmp_path / "x")] * 2))


@given(st.lists(st.integers(0, 40), max_size=5))
def test_checksums_of_pieces_join_to_that_of_the_whole(sizes: list[int]) -> None:
    table = rows_table(sum(sizes))
    whole, joined, end = RowsCrc(table.schema), RowsCrc(table.schema), table.num_rows
    whole.update(table)
    for size in sizes:  # from the last: what is joined was joined before
        piece = RowsCrc(table.schema)
        piece.update(table.slice(end - size, size))
        piece.join(joined)
        joined, end = piece, end - size
    assert joined.value() == whole.value()


@given(
    st.lists(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)),
    st.sampled_from([np.float32, np.float64]),
)
def test_sums_of_losses_are_rounded_once(values: list[float], dtype: Any) -> None:
    with np.errstate(over="ignore"):
        stored = np.array(values, dtype)
    if np.isfinite(stored).all():
        assert exact_sum([stored[:3], stored[3:]]) == math.fsum(stored.tolist())
    else:
        with np.errstate(invalid="ignore"):
            assert not math.isfinite(exact_sum([stored]))


# ---------------------------------------------------------------- threads beside the caller


def test_what_is_made_comes_in_order_and_is_not_made_long_before() -> None:
    made: list[int] = []

    def make(item: int) -> int:
        made.append(item)
        return item

    for number, seen in enumerate(mapped(make, range(20), 3)):
        assert seen == number
        assert max(made) <= number + 4
    assert sorted(made) == [*ahead([range(20)])] == [*mapped(int, range(20), 0)]


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("where", ["function", "items"])
@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_errors_are_raised_once_nothing_runs(threads: int, where: str, error: type[BaseException]) -> None:
    before, running = set(threading.enumerate()), [0]  # of an earlier test one may end meanwhile
    pause = threading.Event()

    def work(item: int) -> None:
        running[0] += 1
        if where == "function" and item == 5:
            raise error
        pause.wait(0.01)
        running[0] -= 1

    def items() -> Iterator[int]:
        for item in range(9):
            if where == "items" and item == 5:
                raise error
            yield item

    with pytest.raises(error):
        run_each(work, items(), threads)
    assert running[0] == (where == "function")
    assert before.issuperset(threading.enumerate())


# ---------------------------------------------------------------- runs


@pytest.fixture(scope="module")
def source() -> pa.Table:
    vectors, labels = clustered(7, [20] * 30, 8, dtype=np.float32)
    embedding = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 8)
    return pa.table({"embedding": embedding, "label": labels, "text": [f"text {row}" for row in range(600)]})


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    set_sizes(monkeypatch, PART_ANCHORS=64, ROW_GROUP_ROWS=300)


OPTIONS: dict[str, Any] = {"negatives": 4, "band": "any", "carry": "text", "progress": "none"}


def mined(source: Any, out: Path, **options: Any) -> dict[str, bytes]:
    mine(source, out, **OPTIONS | options)
    assert not [*out.parent.glob("*.partial")]
    return {path.name if out.is_dir() else "": path.read_bytes() for path in ([out], [*out.glob("*")])[out.is_dir()]}


@pytest.mark.parametrize("emit", ["triplets", "tuples", "pairs"])
@pytest.mark.parametrize("out", ["out.parquet", "out"])
def test_bytes_for_any_number_of_threads_with_a_writer_that_fails_between(
    emit: str, out: str, source: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, *more = (mined(source, tmp_path / f"{n}" / out, emit=emit, threads=n) for n in made_in(tmp_path, THREADS))
    assert more == [one, one]
    write, before = parts.write_rows, set(threading.enumerate())

    def failing(path: Path, *given: Any, **named: Any) -> dict[str, Any]:
        if path.name == "part-00005.parquet":
            raise FULL
        return write(path, *given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(parts, "write_rows", failing)
        with pytest.raises(CapacityError, match="no space left"):
            mine(source, tmp_path / out, emit=emit, threads=2, **OPTIONS)
    assert before.issuperset(threading.enumerate())
    kept = {path.name for path in (tmp_path / f"{out}.partial").glob("part-*.json")}
    assert {f"part-{index:05d}.json" for index in range(5)} <= kept
    assert "part-00005.json" not in kept
    with monkeypatch.context() as patched:  # a kill once every part is there
        patched.setattr(run.Run, "_put", lambda *_: (_ for _ in ()).throw(FULL))
        with pytest.raises(CapacityError):
            mine(source, tmp_path / out, emit=emit, threads=4, resume=True, **OPTIONS)
    assert mined(source, tmp_path / out, emit=emit, threads=1, resume=True) == one


def made_in(folder: Path, numbers: list[int]) -> Iterator[int]:
    for number in numbers:
        (folder / f"{number}").mkdir()
        yield number


def test_several_parts_are_in_the_making_at_once(
    source: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each writer waits for another: alone none of them would get on."""
    write, together = parts.write_rows, threading.Barrier(2)

    def waiting(path: Path, *given: Any, **named: Any) -> dict[str, Any]:
        together.wait(60)
        return write(path, *given, **named)

    monkeypatch.setattr(parts, "write_rows", waiting)
    mine(source, tmp_path / "out.parquet", threads=2, **OPTIONS)
