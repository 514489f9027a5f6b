"""Manifests and metadata of another shape, names that no file can have: each is an error in words."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from awkward import LABELS, NUMBERS, vectors
from hostile import ROWS, table
from tally import Attack

import minestream
from minestream.cli.main import main
from minestream.errors import MinestreamError
from minestream.outputs.manifest import Maybe, fits
from minestream.outputs.run import Run

KIND = "hostile manifests and names"
QUIET = ["--progress", "none"]
USAGE, INPUT, OUTPUT = 2, 3, 5
SECONDS = 60.0  # against minutes, or for ever

Change = Callable[[dict[str, Any]], Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    pq.write_table(table(), "rows.parquet")
    return tmp_path


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line that must be refused with one of some exit codes, soon; what it says."""

    def check(codes: tuple[int, ...], *arguments: str) -> str:
        capsys.readouterr()
        began = time.monotonic()
        assert main(list(arguments)) in codes
        assert time.monotonic() - began < SECONDS
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        return said

    return check


def put(path: str, *place: Any, value: Any = None) -> Change:
    """The change that puts a value at a place, `path` being its name in a test."""

    def change(found: dict[str, Any]) -> None:
        inner: Any = found
        for name in place[:-1]:
            inner = inner[name]
        inner[place[-1]] = value

    change.__name__ = path
    return change


DEEP: list[Any] = []
for _ in range(900):
    DEEP = [DEEP]
CHANGES = [
    put("source a number", "source", value=1), put("source of numbers", "source", value=[1]),
    put("source without names", "source", value=[{}]), put("a role that is a number", "source", 0, "role", value=5),
    put("config a list", "config", value=[]), put("columns a text", "columns", value="x"),
    put("parts a text", "parts", value="many"), put("parts beyond counting", "parts", value=10**400),
    put("fingerprint nothing", "fingerprint"), put("a fingerprint that is no text", "fingerprint", value="\ud800"),
    put("something deep", "source", value=DEEP),
]  # fmt: skip
OF_SLICES = [
    *CHANGES, put("10^18 slices", "slice", "of", value=10**18), put("10^18 parts", "parts", value=10**18),
    put("slices of texts", "slice", "of", value="x"), put("no slice", "slice"),
    put("a slice of nothing", "slice", value={}),
    put("files nothing", "files"), put("files of numbers", "files", value=[1]), put("no files", "files", value=[]),
    put("a report of nothing", "report", value={}), put("no statistics", "files", 0, "stats"),
    put("statistics of texts", "files", 0, "stats", "anchors", value="x"),
    put("sizes of texts", "files", 0, "bytes", value=""),
    put("an unknown option", "config", "new", value=1), put("an unknown metric", "config", "metric", value="far"),
    put("a metric that is a list", "config", "metric", value=["cosine"]),
    put("k a text", "config", "negatives", value="k"),
    put("a negative part", "slice", "parts", value=[-1]),
]  # fmt: skip


def named(change: Change) -> str:
    return change.__name__


@pytest.mark.parametrize("change", OF_SLICES, ids=named)
def test_slices_are_merged_by_whole_manifests(
    change: Change, folder: Path, refused: Callable[..., str], attack: Attack
) -> None:
    for each in ("1/2", "2/2"):
        assert main(["mine", "rows.parquet", "-o", "out.parquet", "--shard", each, *QUIET]) == 0
    for path in Path("out.parquet.slices").glob("*.manifest.json"):
        manifest = json.loads(path.read_text())
        with suppress(IndexError):  # a slice without parts
            change(manifest)
        path.write_text(json.dumps(manifest))
    with attack(KIND, f"a slice's manifest: {named(change)}"):
        refused((OUTPUT,), "merge", "out.parquet", *QUIET)
        assert not Path("out.parquet").exists()


OF_RECORDS = [
    put("bytes a text", "bytes", value="x"), put("no statistics", "stats"), put("statistics a list", "stats", value=[]),
    put("statistics of texts", "stats", "anchors", value="x"),
    put("statistics of lists", "stats", "dropped", value=[1]),
    put("a statistic that is nothing", "stats", "anchors"),
    put("another CRC-32", "crc32", value="00000000"), put("rows nothing", "rows"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "change"),
    [("manifest", each) for each in CHANGES] + [("part-00000", each) for each in OF_RECORDS],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_no_run_goes_on_with_half_a_record(
    name: str, change: Change, folder: Path, monkeypatch: pytest.MonkeyPatch, attack: Attack
) -> None:
    """It is mined afresh, as where there is none."""

    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Run, "publish", stop)
        assert main(["mine", "rows.parquet", "-o", "out.parquet", *QUIET]) == 130
    assert main(["mine", "rows.parquet", "-o", "expected.parquet", *QUIET]) == 0
    path = Path(f"out.parquet.partial/{name}.json")
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    with attack(KIND, f"the {name} of unfinished work: {named(change)}"):
        assert main(["mine", "rows.parquet", "-o", "out.parquet", "--resume", *QUIET]) in (0, OUTPUT)
        if Path("out.parquet").exists():
            assert pq.read_table("out.parquet").equals(pq.read_table("expected.parquet"))


METADATA: dict[str, dict[str, str]] = {
    "config that is no JSON": {"config": "{"}, "config a list": {"config": "[]"},
    "a metric that there is not": {"config": '{"metric": "far"}'},
    "an option of another type": {"config": '{"swap": 1}'},
    "JSON deeper and deeper": {"config": "[" * 100_000}, "counts of texts": {"counts": '{"rows": "x"}'},
    "counts beyond counting": {"counts": '{"rows": 1' + "0" * 400 + "}"}, "source of numbers": {"source": "[1]"},
    "source without names": {"source": "[{}]"}, "columns a number": {"columns": "1"}, "no version": {"version": ""},
}  # fmt: skip


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize("command", ["describe", "verify"])
def test_what_a_file_says_of_itself(
    command: str, name: str, folder: Path, refused: Callable[..., str], attack: Attack
) -> None:
    assert main(["mine", "rows.parquet", "-o", "out.parquet", *QUIET]) == 0
    Path("out.parquet.manifest.json").unlink()
    found = {key: value for key, value in pq.read_metadata("out.parquet").metadata.items() if b"minestream." in key}
    found |= {f"minestream.{key}".encode(): value.encode() for key, value in METADATA[name].items()}
    if name == "no version":
        del found[b"minestream.version"]
    pq.write_table(pq.read_table("out.parquet").replace_schema_metadata(found), "out.parquet")
    with attack(KIND, f"what a mined file says of itself: {name}"):
        refused((INPUT,), command, "out.parquet")


def test_shapes() -> None:
    shape = {"a": int, "b": Maybe([str]), str: (int, float)}
    for good in ({"a": 1}, {"a": 0, "b": None}, {"a": -1, "b": ["x"], "c": 0.5}, {"a": 2**63 - 1}):
        assert fits(good, shape), good
    for bad in (
        {},
        {"a": True},
        {"a": 2**63},
        {"a": 1.0},
        {"a": 1, "b": "x"},
        {"a": 1, "b": [1]},
        {"a": 1, "c": "x"},
        [],
        1,
    ):
        assert not fits(bad, shape), bad


# ---------------------------------------------------------------- names

BYTES = b"bad\xff.parquet"
LONG = "x" * 240 + ".parquet"


@pytest.mark.parametrize("name", [os.fsdecode(BYTES), "file://[x/rows.parquet", "a\0b.parquet"], ids=ascii)
@pytest.mark.parametrize("option", ["input", "out", "corpus", "qrels", "scratch", "vectors"])
def test_names_that_no_file_can_have(
    option: str, name: str, folder: Path, refused: Callable[..., str], attack: Attack
) -> None:
    inputs = [name] if option == "input" else ["rows.parquet", f"--{option}", name]
    out = [] if option in ("out", "input") else ["-o", "out.parquet"]
    with attack(KIND, "names that no file can have"):
        refused((USAGE, INPUT, OUTPUT), "mine", *inputs, *out, *QUIET)


def test_a_folder_with_a_name_that_is_no_text(folder: Path, refused: Callable[..., str], attack: Attack) -> None:
    Path("in").mkdir()
    (folder / "in" / os.fsdecode(BYTES)).write_bytes(Path("rows.parquet").read_bytes())
    with attack(KIND, "names that no file can have"):
        assert "\\udcff" in refused((INPUT,), "mine", "in", *QUIET)


def test_names_that_are_too_long(folder: Path, refused: Callable[..., str], attack: Attack) -> None:
    Path(LONG).write_bytes(Path("rows.parquet").read_bytes())
    for command in (["mine", LONG], ["mine", "rows.parquet", "-o", LONG], ["mine", "rows.parquet", "-o", "x" * 5000]):
        with attack(KIND, "names that are too long"):
            assert "long" in refused((OUTPUT,), *command, *QUIET)


def test_a_column_whose_name_is_no_text(folder: Path, refused: Callable[..., str], attack: Attack) -> None:
    rows = table().append_column("beside", pa.array([{"within": row} for row in range(ROWS)]))
    with pa.ipc.new_stream("whole.arrows", rows.schema) as file:
        file.write_table(rows)
    for name in (b"beside", b"label"):
        content = Path("whole.arrows").read_bytes()
        Path("bad.arrows").write_bytes(content.replace(name, b"\xff" + name[1:]))
        with attack(KIND, "column names of bytes that are no text"):
            refused((INPUT,), "mine", "bad.arrows", "-o", "out.parquet", *QUIET)
    Path("bad.arrows").write_bytes(Path("whole.arrows").read_bytes().replace(b"within", b"\xffithin"))
    with attack(KIND, "column names of bytes that are no text"):
        assert "embedding" in refused(
            (INPUT,), "mine", "bad.arrows", "-o", "out.parquet", "--embedding", "beside", *QUIET
        )
        assert main(["mine", "bad.arrows", "-o", "out.parquet", *QUIET]) == 0


@pytest.mark.parametrize("column", ["label", "id", "text"])
def test_texts_that_are_no_utf8(column: str, folder: Path, refused: Callable[..., str], attack: Attack) -> None:
    """Neither reader of pyarrow looks; what came of them could not be read as text by anyone."""
    bad = pa.array([b"\xff%d" % (row % 5 if column == "label" else row) for row in range(ROWS)])
    rows = table()
    rows = rows.set_column(rows.schema.names.index(column), column, bad.view(pa.string()))
    pq.write_table(rows, "bad.parquet")
    with pa.ipc.new_file("bad.arrow", rows.schema) as file:
        file.write_table(rows)
    for name in ("bad.parquet", "bad.arrow"):
        with attack(KIND, "texts that are no UTF-8"):
            assert "UTF8" in refused((INPUT,), "mine", name, "-o", "out.parquet", "--carry", "text", *QUIET)


def test_fewer_rows_than_none(folder: Path, refused: Callable[..., str], attack: Attack) -> None:
    with pa.ipc.new_file("bad.arrow", table().schema) as file:
        file.write_table(table())
    content = Path("bad.arrow").read_bytes()
    lengths = ROWS.to_bytes(8, "little"), (-ROWS).to_bytes(8, "little", signed=True)
    assert lengths[0] in content
    Path("bad.arrow").write_bytes(content.replace(*lengths))
    with attack(KIND, "a negative number of rows"):
        refused((INPUT,), "mine", "bad.arrow", "-o", "out.parquet", *QUIET)


def test_parquet_columns_whose_names_are_no_text(folder: Path, refused: Callable[..., str], attack: Attack) -> None:
    assert main(["mine", "rows.parquet", "-o", "out.parquet", *QUIET]) == 0
    Path("out.parquet").write_bytes(Path("out.parquet").read_bytes().replace(b"distance_ap", b"\xff\xfestance_ap"))
    for command in ("describe", "verify"):
        with attack(KIND, "column names of bytes that are no text"):
            refused((INPUT, 1), command, "out.parquet")


HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (60, 4), }"
HEADERS = [
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (60, 4", b"(" * 50, b"{'descr': '<f4'}", b"[1]", b"\xff", b"",
    HEADER.replace(b"60, 4", b"-60, -4"), HEADER.replace(b"60, 4", b"2**63, 4"), HEADER.replace(b"(60, 4)", b"(60,)"),
    HEADER.replace(b"60, 4", b"9223372036854775807, 9223372036854775807"), HEADER.replace(b"<f4", b"|O"),
    HEADER.replace(b"<f4", b"no type"), HEADER.replace(b"'<f4'", b"[('x', '<f4')]"), b"__import__('os').getpid()",
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_headers_of_arrays(header: bytes, folder: Path, refused: Callable[..., str], attack: Attack) -> None:
    text = header + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + np.zeros((60, 4), np.float32).tobytes()
    Path("bad.npy").write_bytes(content)
    with attack(KIND, "headers of .npy files"):
        refused((INPUT, 4), "mine", "rows.parquet", "--vectors", "bad.npy", "-o", "out.parquet", *QUIET)


def test_many_columns_are_looked_at_soon(folder: Path) -> None:
    rows = pa.table({"embedding": vectors(), "id": NUMBERS} | {f"c{i}": LABELS for i in range(10_000)})
    pq.write_table(rows, "wide.parquet")
    began = time.monotonic()
    with pytest.raises(MinestreamError, match="and 9988 more"):
        minestream.mine("wide.parquet", "out.parquet", progress="none")
    assert time.monotonic() - began < SECONDS
