"""The source changes while it is read: an error, or the result of what was read; never a mixture, never a signal."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from attacked import INPUT, REPOSITORY, Ended, contents, rows_table

KIND = "changed source"
ROWS, DIMENSION = 3_000, 32
# Mines as the command does, and changes the source when so many rows are read, or when a stage begins.
MINE = """
import json, os, shutil, sys
import minestream
from minestream.errors import MinestreamError
from minestream.system.progress import Advanced, StageStarted

options, change, when = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3]

def told(event):
    global change
    now = event.stage if isinstance(event, StageStarted) else event.done if isinstance(event, Advanced) else None
    if change and (now == when or (when.isdigit() and event.stage == "read" and isinstance(event, Advanced)
                                   and now >= int(when))):
        exec(change)
        change = ""

try:
    minestream.mine("rows", "out.parquet", progress="none", batch_rows=64, threads=1, progress_callback=told, **options)
except MinestreamError as error:
    sys.exit(f"error: {error}\\nexit code {error.exit_code}")
"""
WRITERS: dict[str, Callable[[pa.Table, Path], None]] = {
    "Parquet": lambda table, path: pq.write_table(table, path, row_group_size=500),
    "Arrow IPC": lambda table, path: write_ipc(table, path, pa.ipc.new_file),
    "an Arrow IPC stream": lambda table, path: write_ipc(table, path, pa.ipc.new_stream),
    ".npy": lambda table, path: write_npy(table, path),
}
NAMES = {"Parquet": "a.parquet", "Arrow IPC": "a.arrow", "an Arrow IPC stream": "a.arrows", ".npy": "a.npy"}
CHANGES = {
    "cut to half": "os.truncate({file}, os.path.getsize({file}) // 2)",
    "cut to nothing": "os.truncate({file}, 0)",
    "removed": "os.remove({file})",
    "replaced by other rows": "os.replace('other', {file})",
    "replaced by rows of another type": "os.replace('wider', {file})",
    "written over": "open({file}, 'r+b').write(open('other', 'rb').read())",
    "rewritten": "shutil.copyfile('other', {file})",
}
MOMENTS = ("64", "1500", "mine", "publish")
FEW = [("Arrow IPC", "cut to half", "64"), (".npy", "replaced by rows of another type", "read")]


def write_ipc(table: pa.Table, path: Path, opener: Any) -> None:
    with pa.OSFile(str(path), "wb") as file, opener(file, table.schema) as writer:
        writer.write_table(table, 500)


def write_npy(table: pa.Table, path: Path) -> None:
    vectors = table["embedding"].combine_chunks()
    with open(path, "wb") as file:
        np.save(file, vectors.values.to_numpy().reshape(len(vectors), -1))


def doubled(table: pa.Table) -> pa.Table:
    """The same vectors as float64."""
    column = table["embedding"].combine_chunks()
    wide = pa.FixedSizeListArray.from_arrays(column.values.cast(pa.float64()), column.type.list_size)
    return table.set_column(table.column_names.index("embedding"), "embedding", wide)


def mined(folder: Path, kind: str, table: pa.Table, change: str, when: str) -> Ended:
    """Mine `table` from a file of some kind in a folder, with a change of the file on the way."""
    folder.mkdir()
    options, name, write = {}, NAMES[kind], WRITERS[kind]
    (folder / "rows").mkdir()
    rows, other = table, rows_table(ROWS, DIMENSION, seed=1)
    if kind == ".npy":
        pq.write_table(table.drop_columns("embedding"), folder / "rows" / "b.parquet")
        options = {"vectors": f"rows/{name}"}
    file = folder / "rows" / name
    write(rows, file)
    write(other, folder / "other")
    write(doubled(other), folder / "wider")
    for path in (file, folder / "other", folder / "wider"):
        os.utime(path, (1e9, 1e9))  # long ago, as files are
    inputs = "rows" if name.endswith((".parquet", ".npy")) else f"rows/{name}"
    script = MINE.replace('"rows", "out.parquet"', f'"{inputs}", "out.parquet"')
    command = [sys.executable, "-c", script, json.dumps(options), change.format(file=f"'rows/{name}'"), when]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "MINESTREAM_SCREEN": "scan"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def table() -> pa.Table:
    return rows_table(ROWS, DIMENSION)


@pytest.fixture(scope="module")
def expected(table: pa.Table, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """What comes of the rows when nothing changes, by the kind of file."""
    known: dict[str, Any] = {}

    def of(kind: str) -> Any:
        if kind not in known:
            folder = tmp_path_factory.mktemp("unchanged") / "work"
            mined(folder, kind, table, "", "").assert_told(0)
            known[kind] = contents(folder)["out.parquet"]
        return known[kind]

    return of


@pytest.mark.parametrize(
    ("kind", "change", "when"),
    [
        *FEW,
        *(
            pytest.param(kind, change, when, marks=pytest.mark.chaos)
            for kind in WRITERS for change in CHANGES for when in ("read", *MOMENTS) if (kind, change, when) not in FEW
        ),
    ],
)  # fmt: skip
def test_an_error_or_what_was_read(
    kind: str, change: str, when: str, table: pa.Table, expected: Callable[[str], Any], attack: Any, tmp_path: Path
) -> None:
    with attack(KIND, f"{kind}, {change}"):
        ended = mined(tmp_path / "work", kind, table, CHANGES[change], when)
        assert ended.code != -signal.SIGBUS
        ended.assert_plain()
        assert list((tmp_path / "work").glob("*.partial")) == []
        if ended.code == 0:
            assert contents(tmp_path / "work")["out.parquet"] == expected(kind)
        else:
            assert f"exit code {INPUT}" in ended.err, ended.err
            assert not (tmp_path / "work" / "out.parquet").exists()
        if when in ("mine", "publish"):
            assert ended.code == 0, ended.err
        elif not change.startswith("removed"):
            assert ended.code != 0
    shutil.rmtree(tmp_path / "work")
