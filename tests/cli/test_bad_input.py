"""What `minestream mine` says to inputs and options it cannot take: in words, by exit code, leaving nothing behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream.cli.main import main
from minestream.errors import InputError
from minestream.inputs import opened
from minestream.inputs.source import open_source
from minestream.inputs.where import parse_where

REPOSITORY = Path(__file__).parents[2]
ROWS = 30
USAGE, INPUT, CAPACITY, OUTPUT, DEFECT, INTERRUPTED = 2, 3, 4, 5, 70, 130

Table = dict[str, Any]


def vectors(values: Any = None, dtype: Any = np.float32) -> pa.Array:
    """A column of vectors; rows 1 apart on a grid unless given."""
    matrix = np.arange(1, 3 * ROWS + 1).reshape(ROWS, 3) if values is None else np.asarray(values)
    return pa.FixedSizeListArray.from_arrays(pa.array(matrix.astype(dtype).reshape(-1)), matrix.shape[1])


def good(**changes: Any) -> Table:
    columns: Table = {"embedding": vectors(), "label": [i % 3 for i in range(ROWS)], "id": list(range(ROWS))}
    return {name: values for name, values in (columns | changes).items() if values is not None}


def with_value(row: int, value: float, dtype: Any = np.float32) -> Table:
    matrix = np.arange(1.0, 3 * ROWS + 1).reshape(ROWS, 3).astype(dtype)
    matrix[row] = value
    return good(embedding=vectors(matrix, dtype))


def write(path: Path, columns: Table) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path)
    return path


def everything_in(folder: Path) -> dict[str, bytes | None]:
    """Every path below a folder with its content, hidden ones too."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `minestream mine`, or another command; what it said, after its exit code and the folder were checked."""
    monkeypatch.chdir(tmp_path)

    def check(code: int, *arguments: str, words: list[str], out: list[str] | None = None, command: str = "mine") -> str:
        before = everything_in(tmp_path)
        for to in (["-o", "out.parquet"], ["-o", "out"], []) if out is None else (out,):
            assert main([command, *arguments, *to, "--progress", "none"]) == code
            said = capsys.readouterr()
            assert not said.out
            assert said.err.startswith("error: ")
            assert "hint: " in said.err or code == USAGE
            for word in words:
                assert word in said.err, f"{word!r} is not in {said.err!r}"
            assert everything_in(tmp_path) == before
        return said.err

    return check


TABLES: dict[str, tuple[Table, list[str], list[str]]] = {
    "no labels": (good(label=None), [], ["rows.parquet", "no label column", "int64"]),
    "a column that is not there": (good(), ["--label", "lable"], ["lable", "label"]),
    "nan": (with_value(7, np.nan), [], ["rows.parquet", "embedding", "row 7", "--on-bad-rows"]),
    "zero norm, normalised": (
        with_value(7, 0.0), ["--metric", "euclidean", "--band", "any", "--normalize"], ["row 7", "zero"]
    ),
    "no label has two rows": (good(label=list(range(ROWS))), [], ["label", "two rows"]),
    "one label": (good(label=[5] * ROWS), [], ["label", "one label"]),
    "no label at all": (good(label=pa.array([None] * ROWS, pa.int64())), [], ["label", "--unlabeled-value"]),
    "duplicate ids": (good(id=[0, *range(ROWS - 1)]), [], ["column 'id'", "0 in rows 0 and 1", "--on-duplicate-ids"]),
    "weighted in two dimensions": (
        good(embedding=vectors(np.arange(1, 61).reshape(ROWS, 2))), ["--pick", "weighted"], ["--pick weighted", "3"]
    ),
    "its own group only": (
        good(camera=[i % 3 for i in range(ROWS)]), ["--group-column", "camera"], ["label", "--group-rule"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TABLES)
def test_tables_that_are_refused(name: str, refused: Callable[..., str]) -> None:
    columns, options, words = TABLES[name]
    write(Path("rows.parquet"), columns)
    refused(INPUT, "rows.parquet", *options, words=words)


ZEROS, ONES = np.zeros((4, 3), np.float32), np.eye(4, 3, dtype=np.float32) + 1
PAIRED = {"qrels": [(0, 1)]}
LABELED = {"labels": [0, 0, 1, 1]}
BOTH_LABELED = LABELED | {"corpus_labels": [0, 0, 1, 1]}
NONE_LEFT: dict[str, tuple[Any, dict[str, Any], str]] = {
    "bad rows, listed pairs": (ZEROS, PAIRED, "none of the 4 rows takes part; dropped in all: 4 bad: zero norm"),
    "bad rows, labels": (ZEROS, LABELED, "none of the 4 rows takes part"),
    "a bad corpus, listed pairs": (ONES, PAIRED | {"corpus": ZEROS}, "of the corpus takes part"),
    "both bad, listed pairs": (ZEROS, PAIRED | {"corpus": ZEROS}, "of the queries takes part; .* 8 bad"),
    "bad queries, labels": (ZEROS, BOTH_LABELED | {"corpus": ONES}, "of the queries takes part"),
    "a bad corpus, labels": (ONES, BOTH_LABELED | {"corpus": ZEROS}, "of the corpus takes part"),
    "all excluded, listed pairs": (ONES, PAIRED | {"exclude_rows": pa.table({"row": range(4)})}, "4 excluded"),
    "all excluded, labels": (ONES, LABELED | {"exclude_rows": pa.table({"row": range(4)})}, "4 excluded"),
}


@pytest.mark.parametrize("name", NONE_LEFT)
def test_rows_that_are_all_dropped(name: str) -> None:
    rows, options, words = NONE_LEFT[name]
    with pytest.raises(InputError, match=words):
        minestream.mine_arrays(rows, on_bad_rows="drop", **options)


def test_a_stream_keeps_the_rows_that_were_looked_at_for_a_vector() -> None:
    batches = [
        pa.record_batch({"embedding": pa.array(rows, pa.list_(pa.float32())), "label": [0, 0, 1, 1]})
        for rows in ([None] * 4, [None, [], [1.0, None], None], *((np.eye(4) + at).tolist() for at in range(2)))
    ]
    stream = pa.RecordBatchReader.from_batches(batches[0].schema, batches)
    found, expected = (
        minestream.mine_batches(rows, on_bad_rows="drop", band="any", negatives=2).read_all()
        for rows in (stream, pa.Table.from_batches(batches))
    )
    assert set(expected["anchor_row"].to_pylist()) == set(range(8, 16))
    assert found["negative_row"].equals(expected["negative_row"])


LENGTHS: dict[str, tuple[list[Any], str]] = {
    "the first row": ([[1.0], [1.0, 2.0], [2.0, 1.0], [2.0, 2.0]], "row 0 has 1"),
    "rows of two lengths": ([[1.0, 2.0], [1.0], [2.0, 1.0], [2.0, 2.0, 3.0]], "row 0 has 2, rows 1, 3 have 1, 3"),
    "one with null elements": ([[1.0, 2.0], [None], [2.0, 1.0], [2.0, 2.0, 3.0]], "null elements in row 1"),
}


@pytest.mark.parametrize("rows_of_a_group", [1, 2, 8])
@pytest.mark.parametrize("name", LENGTHS)
def test_rows_of_another_length_are_dropped_however_a_file_is_cut(
    name: str, rows_of_a_group: int, tmp_path: Path
) -> None:
    (rows, words), path = LENGTHS[name], tmp_path / "rows.parquet"
    table = pa.table({"embedding": pa.array([*rows, *[[3.0, 4.0]] * 4], pa.list_(pa.float32()))})
    pq.write_table(table, path, row_group_size=rows_of_a_group)
    source = open_source(path, require_label=None, on_bad_rows="drop", batch_rows=3)
    bad = np.concatenate([batch.bad for batch in source.batches()])
    assert bad.tolist() == [len(row) != 2 or None in row for row in rows] + [False] * 4
    kinds = {"another length": sum(len(row) != 2 and None not in row for row in rows)}
    assert source.bad_rows == kinds | ({"null elements": 1} if "null" in name else {})
    if rows_of_a_group == 8:
        with pytest.raises(InputError, match=words) as refused:
            list(open_source(path, require_label=None).batches())
        assert 'on_bad_rows="drop"' in refused.value.hint


@pytest.mark.parametrize("rows_of_a_group", [1, 3, 40])
@pytest.mark.parametrize("bad", ["error", "drop"])
def test_vectors_have_the_length_of_those_that_meet_the_condition(
    bad: str, rows_of_a_group: int, tmp_path: Path
) -> None:
    rows = [None, [], *[[1.0, 2.0]] * 20, *[[1.0, 2.0, float(at)] for at in range(8)], None]
    model = ["none"] * 2 + ["small"] * 20 + ["large"] * 8 + ["none"]
    table = pa.table({"embedding": pa.array(rows, pa.list_(pa.float32())), "model": model})
    pq.write_table(table, tmp_path / "rows.parquet", row_group_size=rows_of_a_group)
    where = parse_where("model == 'large'", "--where")
    source = open_source(tmp_path / "rows.parquet", require_label=None, where=where, on_bad_rows=bad)
    assert source.dimension == 3
    assert [row for batch in source.batches() for row in batch.rows.tolist()] == list(range(22, 30))
    assert not source.bad_rows
    none = parse_where("model == 'huge'", "--where")
    with pytest.raises(InputError, match="no row meets where"):
        open_source(tmp_path / "rows.parquet", require_label=None, where=none, on_bad_rows=bad)


def test_rows_of_which_none_holds_a_vector() -> None:
    table = pa.table({"embedding": pa.array([None, [], [None]], pa.list_(pa.float32())), "label": [0, 0, 1]})
    with pytest.raises(InputError, match="column 'embedding': none of 3 rows holds a vector"):
        minestream.mine_batches(table, on_bad_rows="drop")


def test_a_stream_of_dropped_rows() -> None:
    table = pa.table({"embedding": vectors(ZEROS), "label": [0, 0, 1, 1]})
    with pytest.raises(InputError, match="none of the 4 rows of the stream takes part; dropped: 4 bad: zero norm"):
        minestream.mine_batches(table, window=4, on_bad_rows="drop").read_all()


def test_nothing_says_what_belongs_together(refused: Callable[..., str]) -> None:
    texts = [f"text {row}" for row in range(ROWS)]
    for name in ("queries", "corpus"):
        write(Path(f"{name}.parquet"), {"embedding": vectors(), "id": list(range(ROWS)), "text": texts})
    for tables in (["queries.parquet", "--corpus", "corpus.parquet"], ["queries.parquet"]):
        said = refused(INPUT, *tables, words=["text (string, 30 distinct values", "--label COL"])
        assert 0 < said.index("--qrels PAIRS") < said.index("--label COL")
    with pytest.raises(InputError, match="qrels="):
        minestream.mine_arrays(ONES, corpus=ONES)


@pytest.mark.parametrize("command", ["mine", "profile", "fit"])
def test_free_text_is_no_label_though_a_few_texts_are_repeated(command: str, refused: Callable[..., str]) -> None:
    """As where none is repeated: a forgotten --qrels or --label, not 26 labels of one row each."""
    texts = [f"text {min(row, 26)}" for row in range(ROWS)]
    write(Path("texts.parquet"), {"embedding": vectors(), "id": list(range(ROWS)), "text": texts})
    words = ["no label column found; candidates: text (string, 27 distinct values in 30 rows)", "--label COL"]
    out = {"mine": None, "profile": [], "fit": ["-o", "out.npz"]}[command]
    refused(INPUT, "texts.parquet", words=words, out=out, command=command)


@pytest.mark.parametrize("values", [24, 15, 2])
def test_a_column_with_repeated_values_is_a_label_still(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"embedding": vectors(), "id": range(ROWS), "kind": [f"{row % values}" for row in range(ROWS)]})
    found = open_source(table)
    assert (found.columns.label, found.notes) == ("kind", [])
    monkeypatch.setattr(opened, "_COUNTED_ROWS", ROWS - 1)  # too many to count: it is said
    many = open_source(table)
    assert many.columns.label == "kind"
    assert many.notes == ["column 'kind' is taken as the label, as no other can be: --label COL names another"]
    assert open_source(table, label="kind").notes == []


OPTIONS: dict[str, tuple[list[str], list[str]]] = {
    "an unknown metric": (["--metric", "cosin"], ["cosin", "cosine"]),
    "an unknown band": (["--band", "semi-hrad"], ["semi-hard"]),
    "a share that is none": (["--anchors", "half"], ["--anchors", "half"]),
    "a size that is none": (["--memory", "lots"], ["--memory", "lots"]),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_are_refused(name: str, refused: Callable[..., str]) -> None:
    write(Path("rows.parquet"), good())
    options, words = OPTIONS[name]
    refused(USAGE, "rows.parquet", *options, words=words)


def test_a_plan_that_does_not_fit(refused: Callable[..., str]) -> None:
    write(Path("rows.parquet"), good())
    refused(CAPACITY, "rows.parquet", "--memory", "1MB", words=["--memory", "16MiB"])
    said = refused(CAPACITY, "rows.parquet", "--max-rows", "3", words=["--max-rows 3", "30"])
    assert "hint: thin the anchors" in said, "one negative of one positive is the least"
    for options, lower in (
        (["-k", "2"], "--negatives"), (["-k", "2", "--emit", "tuples"], ""),
        (["-k", "2", "--positives", "random", "--positives-per-anchor", "2"], "--negatives or --positives-per-anchor"),
    ):  # fmt: skip
        hint = f"hint: {f'lower {lower}, ' if lower else ''}thin the anchors"
        refused(CAPACITY, "rows.parquet", "--max-rows", "3", *options, words=[hint])


# ---------------------------------------------------------------- outputs


def test_no_space_in_scratch(refused: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    columns = {"embedding": vectors(rng.normal(size=(5000, 256)), np.float64), "label": np.arange(5000) % 9}
    write(Path("rows.parquet"), columns)

    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    words = ["scratch", "free", "--scratch", "--memory"]
    refused(CAPACITY, "rows.parquet", "--memory", "16MiB", words=words, out=["-o", "out.parquet"])


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT to a process, which POSIX only has")
def test_the_process_itself(tmp_path: Path) -> None:
    """Exit codes as a shell sees them: of an error, and of SIGINT in the middle of mining."""
    command = [sys.executable, "-m", "minestream", "mine", "rows.parquet", "-o", "out.parquet", "--progress", "none"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "MINESTREAM_SCREEN": "scan"}
    write(tmp_path / "rows.parquet", with_value(7, np.nan))
    found = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert found.returncode == INPUT
    assert found.stderr.startswith("error: ")
    assert "Traceback" not in found.stderr

    rng = np.random.default_rng(0)
    big = {"embedding": vectors(rng.normal(size=(60_000, 64))), "label": np.arange(60_000) % 999}
    write(tmp_path / "rows.parquet", big)
    slow = [*command, "--threads", "1"]  # by the scan: minutes, were it not ended
    process = subprocess.Popen(slow, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not (tmp_path / "out.parquet.partial").exists():
            assert time.monotonic() < deadline, "mining did not begin"
            assert process.poll() is None
            time.sleep(0.05)
        while process.poll() is None:  # again, as one does: Python drops an interrupt that falls into a __del__
            assert time.monotonic() < deadline, "an interrupt does not end the run"
            process.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                process.wait(2)
        _, said = process.communicate()
    finally:
        process.kill()
        process.wait()
    assert process.returncode == INTERRUPTED
    said = said.replace(", as 4 are mined together (a smaller --memory: fewer)", "")  # unless mining has not begun
    assert said == "error: interrupted\nhint: no part was finished: the next run begins again\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["rows.parquet"]
