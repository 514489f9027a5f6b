"""The sink: bytes that depend on rows alone, whole files only, resume, one writer at a time."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minestream.config.mine_config import MineConfig
from minestream.config.resolve import resolved
from minestream.errors import CapacityError, OutputError, TransientError, speaking_options
from minestream.outputs import parquet
from minestream.outputs import run as sink
from minestream.outputs import run as writer
from minestream.system import checksums

CONFIG = resolved(MineConfig())
SOURCE = [{"name": "in.parquet", "rows": 9, "crc32": {"vectors": 1}}]
COUNTS = {"anchors": 9, "pairs": 9, "full": 9, "short": 0, "empty": 0}


def rows_table(rows: int, start: int = 0) -> pa.Table:
    """Every kind of column there is, with nulls."""
    numbers = range(start, start + rows)
    return pa.table(
        {
            "anchor_row": pa.array(numbers, pa.int64()),
            "anchor_id": pa.array([None if i % 7 == 0 else f"é{i}" for i in numbers], pa.string()),
            "rows": pa.array([None if i % 5 == 0 else list(range(i % 4)) for i in numbers], pa.list_(pa.int64())),
            "loss": pa.array([None if i % 11 == 0 else i / 3 for i in numbers], pa.float32()),
            "flag": pa.array([None if i % 3 == 0 else i % 2 == 0 for i in numbers], pa.bool_()),
            "two": pa.array([None if i % 6 == 0 else [i, -i] for i in numbers], pa.list_(pa.float32(), 2)),
            "words": pa.array([None if i % 4 == 0 else ["a", None] for i in numbers], pa.list_(pa.string())),
            "harder": pa.array([None] * rows, pa.int32()),
        }
    )


def begin(out: Path, *, resume: bool = False, overwrite: bool = False, parts: int = 3, **changed: Any) -> sink.Run:
    config = {**CONFIG.to_dict(), **changed.pop("config", {})}
    return sink.Output(out).begin(
        resume=resume, overwrite=overwrite, config=config, parts=parts,
        fingerprint=changed.pop("fingerprint", "f" * 16), source=changed.pop("source", SOURCE),
        columns={"embedding": "embedding"},
    )  # fmt: skip


def mine_all(out: Path, *, sizes: tuple[int, ...] = (5, 0, 4), **options: Any) -> sink.Run:
    with begin(out, parts=len(sizes), **options) as run:
        for index, size in enumerate(sizes):
            if run.finished(index) is None:
                stats = {"anchors": 3, "rows": size, "seconds": {"x": 1.5}}
                run.write_part(index, [rows_table(size, 100 * index)], lambda stats=stats: stats)
        run.publish(counts=lambda: COUNTS, extra=lambda: {"notes": ["note"]})
    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- the pinned writer


def written(path: Path, tables: list[pa.Table]) -> tuple[dict[str, Any], bytes]:
    record = parquet.write_rows(path, tables[0].schema, tables, {"minestream.version": "x"})
    return record, path.read_bytes()


@pytest.fixture
def small_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 64)


@pytest.mark.usefixtures("small_row_groups")
@pytest.mark.parametrize(
    ("most_bytes", "rows"), [(1, 130), (3_000, 300), (1 << 24, 300), pytest.param(1, 300, marks=pytest.mark.slow)]
)
def test_bytes_do_not_depend_on_the_cut(
    most_bytes: int, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", most_bytes)
    table = rows_table(rows)
    whole = written(tmp_path / "whole", [table])
    for size in (1, 7, 63, 64, 65, 200):
        cut = [table.slice(start, size) for start in range(0, rows, size)]
        assert written(tmp_path / "cut", cut) == whole
        assert written(tmp_path / "cut", [pa.concat_tables(cut)]) == whole
    assert written(tmp_path / "again", list(parquet.part_tables([tmp_path / "whole"]))) == whole
    assert pq.read_table(tmp_path / "whole").equals(table.cast(pq.read_schema(tmp_path / "whole")))


@pytest.mark.usefixtures("small_row_groups")
def test_row_groups_checksums_and_encodings_are_pinned(tmp_path: Path) -> None:
    written(tmp_path / "x", [rows_table(150)])
    metadata = pq.read_metadata(tmp_path / "x")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [64, 64, 22]
    column = metadata.row_group(0).column(0)
    assert (column.compression, column.has_dictionary_page) == ("ZSTD", False)
    raw = bytearray((tmp_path / "x").read_bytes())
    raw[column.data_page_offset + column.total_compressed_size - 1] ^= 1
    (tmp_path / "x").write_bytes(raw)
    with pytest.raises(OSError, match="CRC"):
        pq.ParquetFile(tmp_path / "x", page_checksum_verification=True).read()


def test_foreign_schema_metadata_is_left_out(tmp_path: Path) -> None:
    plain, marked = rows_table(3), rows_table(3).replace_schema_metadata({"pandas": "{}"})
    assert written(tmp_path / "a", [plain])[1] == written(tmp_path / "b", [marked])[1]


def test_rows_crc_is_that_of_the_bytes() -> None:
    table = pa.table({"a": pa.array([1, None, 3], pa.int16()), "s": ["xy", None, "z"]})
    crc = checksums.RowsCrc(table.schema)
    crc.update(table)
    streams = [
        b"\1\0\1", np.array([1, 0, 3], "<i2").tobytes(),
        b"\1\0\1", np.array([2, 0, 1], "<i4").tobytes(), b"xyz",
    ]  # fmt: skip
    expected = zlib.crc32(b"".join(zlib.crc32(stream).to_bytes(4, "little") for stream in streams))
    assert crc.value() == f"{expected:08x}"


@pytest.mark.parametrize("column", rows_table(1).column_names)
def test_rows_crc_sees_every_value_and_null(column: str) -> None:
    table, other = rows_table(60), rows_table(60, 1)
    place = table.column_names.index(column)
    changed = table.set_column(place, column, other.column(column))
    values = []
    for one in (table, changed):
        crc = checksums.RowsCrc(one.schema)
        crc.update(one)
        values.append(crc.value())
    assert (values[0] == values[1]) == (column == "harder")


@pytest.mark.parametrize(
    "array",
    [
        pa.array(["xy", None, "z"]), pa.array([1, None, 3]), pa.array([[1, 2], None, [], [None]]),
        pa.array([True, None, False]),
    ],
)  # fmt: skip
def test_the_checksum_of_a_column_is_that_of_rows_of_it_alone_however_cut(array: pa.Array) -> None:
    whole = checksums.RowsCrc(pa.schema({"a": array.type}))
    whole.update(pa.table({"a": array}))
    pieces = checksums.Checksum()
    for row in range(len(array)):
        pieces.add(array.slice(row, 1))
    assert f"{pieces.value():08x}" == whole.value()


@pytest.mark.parametrize("kind", [pa.large_string(), pa.binary(), pa.large_binary()], ids=str)
def test_the_checksum_of_text_is_that_of_its_bytes_however_wide_its_offsets_are(kind: pa.DataType) -> None:
    values = []
    for each in (pa.string(), kind):
        crc = checksums.Checksum()
        crc.add(pa.array(["xy", None, "z"], each))
        values.append(crc.value())
    assert values[0] == values[1]


# ---------------------------------------------------------------- one output


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_publish_leaves_the_output_and_its_manifest(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    run = mine_all(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, f"{name}.manifest.json"])
    files = [out] if run.output.single else sorted(out.iterdir())
    if not run.output.single:
        assert [file.name for file in files] == [f"part-{i:05d}.parquet" for i in range(3)]
    assert pa.concat_tables([pq.read_table(file) for file in files]).num_rows == 9
    metadata = {k.decode(): v.decode() for k, v in pq.read_metadata(files[0]).metadata.items()}
    assert json.loads(metadata["minestream.config"]) == CONFIG.to_dict()
    assert json.loads(metadata["minestream.source"]) == SOURCE
    assert "same" in metadata["minestream.labels"] or "share a label" in metadata["minestream.labels"]
    assert metadata["minestream.loss"].startswith("triplet: max(0, (p + m) - x)")
    assert json.loads(metadata["minestream.counts"])["rows"] == (9 if run.output.single else 5)
    assert "seconds" not in metadata["minestream.counts"]
    assert str(tmp_path) not in json.dumps(metadata)
    manifest = json.loads((tmp_path / f"{name}.manifest.json").read_text())
    assert manifest["state"] == "complete"
    assert manifest["counts"]["rows"] == 9
    assert manifest["report"] == {"notes": ["note"]}
    assert [file["crc32"] for file in manifest["files"]] == [
        pq.read_metadata(file).metadata[b"minestream.rows_crc32"].decode() for file in files
    ]


def test_finishing_rows_replace_the_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink, "FINISHED_PART_ROWS", 4)
    for name, rows in (("a", 11), ("b", 8), ("c", 0)):
        with begin(tmp_path / name, parts=1) as run:
            run.write_part(0, [rows_table(5)], dict)
            table = rows_table(rows)
            run.publish(counts=dict, replace_parts=[table.slice(i, 3) for i in range(0, rows, 3)], extra=dict)
        files = sorted((tmp_path / name).iterdir())
        sizes = [pq.read_metadata(file).num_rows for file in files]
        assert sizes == {"a": [4, 4, 3], "b": [4, 4], "c": [0]}[name]
        assert json.loads(pq.read_metadata(files[-1]).metadata[b"minestream.counts"]) == {"rows": sizes[-1]}


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_what_a_finishing_pass_counts_is_published(tmp_path: Path, name: str) -> None:
    seen = {"pairs": 0}

    def pass_on() -> Iterator[pa.Table]:
        yield rows_table(4)
        seen["pairs"] = 4

    with begin(tmp_path / name, parts=1) as run:
        run.write_part(0, [rows_table(5)], dict)
        run.publish(counts=lambda: dict(seen), replace_parts=pass_on(), extra=lambda: {"pairs": seen["pairs"]})
    manifest = json.loads((tmp_path / f"{name}.manifest.json").read_text())
    assert manifest["counts"] == {"pairs": 4, "rows": 4}
    assert manifest["report"] == {"pairs": 4}
    if name == "out.parquet":
        assert json.loads(pq.read_metadata(tmp_path / name).metadata[b"minestream.counts"]) == manifest["counts"]


def test_an_unfinished_run_is_not_published(tmp_path: Path) -> None:
    with begin(tmp_path / "out") as run:
        run.write_part(0, [rows_table(2)], dict)
        with pytest.raises(OutputError, match="1 of 3"):
            run.publish(counts=dict, extra=dict)


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_an_existing_output_needs_overwrite(tmp_path: Path, name: str) -> None:
    out = tmp_path / name
    mine_all(out)
    with pytest.raises(OutputError, match="exists") as caught:
        sink.Output(out).check(resume=False, overwrite=False)
    assert "overwrite=True" in str(caught.value)
    complete = sink.Output(out).check(resume=True, overwrite=False)
    assert complete is not None
    assert complete["counts"]["rows"] == 9
    with pytest.raises(OutputError, match="another run has completed"):  # between check and begin
        begin(out, resume=True)
    old = pq.read_table(out)
    with begin(out, overwrite=True, parts=1) as run:
        run.write_part(0, [rows_table(2)], dict)
        assert pq.read_table(out).equals(old), "the old output stays until the new one is published"
        run.publish(counts=dict, extra=dict)
    assert pq.read_table(out).num_rows == 2


def test_an_output_of_the_other_kind_is_replaced(tmp_path: Path) -> None:
    mine_all(tmp_path / "a.parquet")
    mine_all(tmp_path / "b")
    os.rename(tmp_path / "a.parquet", tmp_path / "out")
    os.rename(tmp_path / "b", tmp_path / "out.parquet")
    for name in ("out", "out.parquet"):
        with pytest.raises(OutputError, match="exists"):
            begin(tmp_path / name)
        mine_all(tmp_path / name, overwrite=True)
        assert pq.read_table(tmp_path / name).num_rows == 9


def test_a_folder_of_other_files_is_never_removed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    mine_all(tmp_path / "out")  # an empty folder is no output
    (tmp_path / "out" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="other files"):
        sink.Output(tmp_path / "out").check(resume=False, overwrite=True)
    (tmp_path / "o.partial").mkdir()
    (tmp_path / "o.partial" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="in the way"):
        begin(tmp_path / "o", overwrite=True)
    assert (tmp_path / "o.partial" / "notes.txt").exists()


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder"):
        sink.Output(tmp_path / "none" / "out").check(resume=False, overwrite=False)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_read_only_is_left_for_another_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may write anywhere
    with pytest.raises(OutputError, match="its folder is read-only, or another user's\nchoose another place"):
        sink.Output(tmp_path / "out").check(resume=False, overwrite=False)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_device_or_pipe_is_refused(tmp_path: Path, overwrite: bool) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="a device or a pipe, no file"):
        sink.Output(tmp_path / "pipe").check(resume=False, overwrite=overwrite)
    assert (tmp_path / "pipe").is_fifo()


# ---------------------------------------------------------------- resume


def test_resume_keeps_finished_parts(tmp_path: Path) -> None:
    with begin(tmp_path / "out") as run:
        run.write_part(1, [rows_table(0, 100)], lambda: {"rows": 0})
    with pytest.raises(OutputError) as caught:
        sink.Output(tmp_path / "out").check(resume=False, overwrite=False)
    assert "resume=True" in str(caught.value)
    assert "overwrite=True" in str(caught.value)
    assert sink.Output(tmp_path / "out").check(resume=True, overwrite=False) is None
    with begin(tmp_path / "out", resume=True) as run:
        assert [run.finished(i) is not None for i in range(3)] == [False, True, False]
        assert run.finished(1)["stats"] == {"rows": 0}
    with begin(tmp_path / "out", overwrite=True) as run:
        assert run.parts() == []


def test_a_run_without_a_part_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no"), begin(tmp_path / "out"):
        raise RuntimeError("no")
    assert not list(tmp_path.iterdir())


def test_a_damaged_part_is_not_finished(tmp_path: Path) -> None:
    with begin(tmp_path / "out") as run:
        for index in (0, 1):
            run.write_part(index, [rows_table(5)], dict)
        with open(run.part_path(0), "ab") as file:
            file.write(b"x")
        (run.folder / "part-00001.json").write_text("{")
        assert (run.finished(0), run.finished(1)) == (None, None)


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"config": {"margin": 0.3}}, "margin: 0.2 -> 0.3"),
        ({"source": [{**SOURCE[0], "rows": 8}]}, "source file in.parquet: rows 8, recorded 9"),
        ({"source": [{**SOURCE[0], "crc32": {"vectors": 2}}]}, "in.parquet: its contents changed (vectors)"),
        ({"source": [{**SOURCE[0], "name": "b.parquet"}]}, "source file b.parquet: new"),
        ({"source": []}, "source file in.parquet: gone"),
        ({"parts": 4}, "parts: 3 -> 4"),
    ],
)
def test_a_resume_of_other_work_names_the_difference(tmp_path: Path, changed: dict[str, Any], line: str) -> None:
    with begin(tmp_path / "out") as run:
        run.write_part(0, [rows_table(5)], dict)
    with pytest.raises(OutputError, match="begun otherwise") as caught:
        begin(tmp_path / "out", resume=True, **changed)
    assert line in str(caught.value)
    with begin(tmp_path / "out", resume=True) as run:
        assert run.finished(0) is not None


FOLDERS = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "lib")]

KILLED = """
import os, signal, sys
from pathlib import Path
sys.path[:0] = {tests!r}
import test_sink as t
from minestream.outputs import run as sink
calls = 0
def kill_at(name, real):
    def wrapped(*args, **options):
        global calls
        calls += 1
        if calls == {moment}:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **options)
    return wrapped
for name in ("fsync", "replace", "rename"):
    setattr(os, name, kill_at(name, getattr(os, name)))
sink.shutil.rmtree = kill_at("rmtree", sink.shutil.rmtree)
t.mine_all(Path({out!r}), resume=True)
"""


@pytest.mark.parametrize("name", ["out.parquet", "out"])
def test_kill_9_at_any_moment_then_resume(tmp_path: Path, name: str) -> None:
    (tmp_path / "whole").mkdir()
    mine_all(tmp_path / "whole" / name)
    expected = contents(tmp_path / "whole")
    tests, killed = FOLDERS, 0
    for moment in (1, 5, 9, 20, 22, 23, 24, 25, 26, 27):
        folder = tmp_path / str(moment)
        folder.mkdir()
        script = KILLED.format(tests=tests, out=str(folder / name), moment=moment)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        killed += done.returncode != 0
        if sink.Output(folder / name).check(resume=True, overwrite=False) is None:
            mine_all(folder / name, resume=True)
        assert contents(folder) == expected
    assert killed >= 8


# ---------------------------------------------------------------- other processes, full disks


def test_two_processes_cannot_write_one_output(tmp_path: Path) -> None:
    script = f"""
import sys
sys.path[:0] = {FOLDERS!r}
import test_sink as t
from pathlib import Path
from minestream.errors import OutputError
try:
    t.begin(Path({str(tmp_path / "out")!r}), resume=True)
except OutputError as error:
    sys.exit(str(error))
"""
    with begin(tmp_path / "out") as run:
        run.write_part(0, [rows_table(5)], dict)
        done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
        assert "another process is writing" in done.stderr
        assert run.finished(0) is not None
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_row_group_ends_with_the_row_that_reaches_its_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_BYTES", 100)
    texts = ["x" * 36, None, "y" * 56, "z" * 200, "", ""]  # and four bytes for the length of each
    lists = [[], None, [], [], [1] * 12, [2]]  # as of each list
    written(tmp_path / "x", [pa.table({"text": texts, "list": pa.array(lists, pa.list_(pa.int64()))})])
    metadata = pq.read_metadata(tmp_path / "x")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [3, 1, 1, 1]


def failing(number: int, after: int) -> Callable[[int], None]:
    calls = [0]

    def fsync(handle: int) -> None:
        calls[0] += 1
        if calls[0] > after:
            raise OSError(number, os.strerror(number))

    return fsync


def test_a_full_disk_keeps_the_finished_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with begin(tmp_path / "out.parquet") as run:
        for index in range(2):
            run.write_part(index, [rows_table(5)], dict)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing(errno.ENOSPC, 0))
            with pytest.raises(CapacityError, match=r"no space left .* bytes are free"):
                run.write_part(2, [rows_table(5)], dict)
            patched.setattr(os, "fsync", failing(errno.EIO, 0))
            with pytest.raises(TransientError, match="try again"):
                run.write_part(2, [rows_table(5)], dict)
            patched.setattr(os, "fsync", failing(errno.EFBIG, 0))
            with pytest.raises(CapacityError, match="ulimit"):
                run.write_part(2, [rows_table(5)], dict)
            patched.setattr(os, "fsync", failing(errno.ESTALE, 0))
            with pytest.raises(OutputError, match="check its folder"):
                run.write_part(2, [rows_table(5)], dict)
        run.write_part(2, [rows_table(5)], dict)
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", failing(errno.ENOSPC, 0))
            with pytest.raises(CapacityError):
                run.publish(counts=dict, extra=dict)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet.partial"]
    mine_all(tmp_path / "out.parquet", resume=True)
    assert pq.read_table(tmp_path / "out.parquet").num_rows == 15


@pytest.mark.parametrize("error", [CapacityError("no space left"), TransientError("it failed"), KeyboardInterrupt()])
@pytest.mark.parametrize(
    ("parts", "together", "said"),
    [
        (0, 1, "no part was finished: the next run begins again"),
        (0, 8, "no part was finished, as 8 are mined together (a smaller memory: fewer): the next run begins again"),
        (1, 8, "finished parts are kept: resume=True goes on from there"),
    ],
)
def test_what_ends_a_run_says_whether_parts_are_kept(
    tmp_path: Path, error: BaseException, parts: int, together: int, said: str
) -> None:
    error = type(error)(*error.args)
    run = begin(tmp_path / "out.parquet")
    run.together = together
    for index in range(parts):
        run.write_part(index, [rows_table(5)], dict)
    run.__exit__(type(error), error, None)
    assert error.__notes__ == [said]
    assert (tmp_path / "out.parquet.partial").exists() == (parts > 0)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("data/a.parquet", "a.pairs.parquet"),
        (["data/b.parquet", "data/a.parquet"], "b.pairs.parquet"),
        ("data", "data.pairs.parquet"),
        ("data/*.parquet", "a.pairs.parquet"),
        (Path("data"), "data.pairs.parquet"),
        (pa.table({}), "minestream.pairs.parquet"),
        ([pa.table({})], "minestream.pairs.parquet"),
    ],
)
def test_default_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: Any, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for file in ("a", "b"):
        (tmp_path / "data" / f"{file}.parquet").touch()
    assert writer.default_output(given, "pairs") == Path(name)


@pytest.mark.parametrize(
    ("window", "hint"),
    [(None, "--resume goes on with it, --overwrite starts afresh"), (9, "--overwrite starts afresh")],
)
def test_only_what_can_go_on_is_said_to(tmp_path: Path, window: int | None, hint: str) -> None:
    """The rows of a stream are gone."""
    with suppress(KeyboardInterrupt), begin(tmp_path / "out", config={"window": window}) as run:
        run.write_part(0, [rows_table(3)], dict)
        raise KeyboardInterrupt
    with speaking_options():
        with pytest.raises(OutputError, match="unfinished work lies in") as caught:
            begin(tmp_path / "out", config={"window": window})
        assert caught.value.hint == hint


def test_a_run_that_cannot_begin_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, values: dict[str, Any]) -> None:
        path.with_suffix(".tmp").touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr("minestream.outputs.run.write_json", full)
        with pytest.raises(CapacityError):
            begin(tmp_path / "out.parquet")
    assert list(tmp_path.iterdir()) == []
    with begin(tmp_path / "out.parquet") as run:
        run.write_part(0, [rows_table(3)], dict)
    kept = sorted(path.name for path in (tmp_path / "out.parquet.partial").rglob("*"))
    with monkeypatch.context() as patched:
        patched.setattr("minestream.outputs.run.write_json", full)
        with pytest.raises(CapacityError):
            begin(tmp_path / "out.parquet", resume=True)
    assert sorted(path.name for path in (tmp_path / "out.parquet.partial").rglob("*")) == kept
