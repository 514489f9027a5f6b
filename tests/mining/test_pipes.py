"""Real processes joined by real pipes: whole streams, killed ends, readers that leave."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import written_sample

from minestream.errors import InputError, UsageError
from minestream.mining.arrays import mine_arrays
from minestream.mining.pipeline import mine
from minestream.system.pipes import read_pipe, write_pipe

MINE = [sys.executable, "-m", "minestream", "mine", "--progress", "none"]
PRODUCER = """
import os, signal, sys
import pyarrow as pa, pyarrow.parquet as pq
table, stop = pq.read_table(sys.argv[1]), int(sys.argv[2])
writer = pa.ipc.new_stream(sys.stdout.buffer, table.schema)
for number, batch in enumerate(table.to_batches(max_chunksize=100)):
    if number == stop:
        sys.stdout.buffer.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    writer.write_batch(batch)
writer.close()
"""
WITHOUT = -1


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written_sample(tmp_path_factory.mktemp("pipes"))


def producer(path: Path, stop: int = WITHOUT) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PRODUCER, str(path), str(stop)], stdout=subprocess.PIPE)


def rows_of(table: pa.Table) -> pa.Table:
    return table.replace_schema_metadata()


def test_from_a_pipe_to_a_pipe(digits: Path, tmp_path: Path) -> None:
    mine(digits, tmp_path / "mined.parquet", progress="none", negatives=2)
    with producer(digits) as first:
        done = subprocess.run([*MINE, "-", "-o", "-", "-k", "2"], stdin=first.stdout, capture_output=True, check=True)
    found = pa.ipc.open_stream(io.BytesIO(done.stdout)).read_all()
    assert rows_of(found).equals(rows_of(pq.read_table(tmp_path / "mined.parquet")))
    assert b"triplets     3,594" in done.stderr


def test_from_a_pipe_to_a_file(digits: Path, tmp_path: Path) -> None:
    mine(digits, tmp_path / "expected.parquet", progress="none")
    with producer(digits) as first:
        subprocess.run([*MINE, "-", "-o", "found.parquet"], stdin=first.stdout, cwd=tmp_path, check=True)
    expected, found = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("expected", "found"))
    assert rows_of(found).equals(rows_of(expected))


@pytest.mark.parametrize("stop", [0, 3])
def test_a_killed_writer_leaves_no_output(digits: Path, tmp_path: Path, stop: int) -> None:
    with producer(digits, stop) as first:
        done = subprocess.run(
            [*MINE, "-", "-o", "out.parquet"], stdin=first.stdout, cwd=tmp_path, capture_output=True, check=False
        )
    assert done.returncode == 3
    assert b"Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_killed_writer_leaves_no_end_mark(digits: Path) -> None:
    with producer(digits, 3) as first:
        done = subprocess.run([*MINE, "-", "-o", "-"], stdin=first.stdout, capture_output=True, check=False)
    assert done.returncode == 3
    assert b"end mark" in done.stderr
    assert not done.stdout


def test_a_killed_miner_leaves_its_reader_without_an_end_mark(digits: Path) -> None:
    command = [*MINE, str(digits), "-o", "-", "--positives", "all", "-k", "16"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as miner:
        assert miner.stdout is not None
        stream = read_pipe(miner.stdout)  # type: ignore[arg-type]
        batch = stream.read_next_batch()
        os.kill(miner.pid, signal.SIGKILL)
        whole = mine_arrays_of(digits, positives="all", negatives=16)
        with pytest.raises(InputError, match="without its end mark"):
            stream.read_all()
    assert batch.num_rows < len(whole)
    assert rows_of(whole).schema.equals(batch.schema.remove_metadata())


def mine_arrays_of(path: Path, **options: object) -> pa.Table:
    table = pq.read_table(path)
    vectors = table["embedding"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)
    return mine_arrays(vectors, table["label"].to_numpy(), ids=table["id"].to_numpy(), **options).table()


@pytest.mark.parametrize("kill", [True, False])
def test_a_reader_that_leaves_ends_the_miner_cleanly(digits: Path, kill: bool) -> None:
    command = [*MINE, str(digits), "-o", "-", "--positives", "all", "-k", "16"]
    script = "import sys, time; sys.stdin.buffer.read(1000); time.sleep(60 * int(sys.argv[1]))"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as miner:
        reader = subprocess.Popen([sys.executable, "-c", script, str(int(kill))], stdin=miner.stdout)
        assert miner.stdout is not None
        assert miner.stderr is not None
        miner.stdout.close()  # only the reader holds the end now
        if kill:
            time.sleep(1)
            reader.kill()
        reader.wait()
        told = miner.stderr.read()
    assert miner.returncode == 0
    assert b"the reader left after" in told
    assert b"Traceback" not in told


def test_a_slow_reader_holds_the_miner_back() -> None:
    read, write = os.pipe()
    made = []

    def batches() -> pa.RecordBatchReader:
        schema = pa.schema([("x", pa.int64())])

        def rows() -> object:
            for number in range(100):
                made.append(number)
                yield pa.record_batch({"x": pa.array(range(10_000))})

        return pa.RecordBatchReader.from_batches(schema, rows())

    with os.fdopen(write, "wb") as target, os.fdopen(read, "rb") as source:
        thread = threading.Thread(target=lambda: (write_pipe(batches(), lambda: None, target), target.close()))
        thread.start()
        time.sleep(0.3)
        assert len(made) < 5  # a pipe holds 64 KiB
        assert sum(batch.num_rows for batch in read_pipe(source)) == 1_000_000
        thread.join()


def test_gates_and_options_of_a_pipe(digits: Path) -> None:
    done = subprocess.run([*MINE, str(digits), "-o", "-", "--require-rows", "9999"], capture_output=True, check=False)
    assert done.returncode == 6
    with pytest.raises(InputError, match="without its end mark"):
        read_pipe(io.BufferedReader(io.BytesIO(done.stdout))).read_all()  # type: ignore[arg-type]
    for options in (["--order", "shuffled"], ["--resume"], ["--emit", "pairs"]):
        assert subprocess.run([*MINE, str(digits), "-o", "-", *options], capture_output=True).returncode == 2
    assert subprocess.run([*MINE, "-"], stdin=subprocess.DEVNULL, capture_output=True).returncode == 2
    assert subprocess.run([*MINE, "-", "-o", "-"], stdin=subprocess.DEVNULL, capture_output=True).returncode == 3
    with pytest.raises(UsageError, match="standard input"):
        mine(["-", "other.parquet"])


# ---------------------------------------------------------------- consumers of mine_batches


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"PAR1" + bytes(40) + b"PAR1", "it is a Parquet file"),
        (b"ARROW1\0\0" + bytes(40), "it is an Arrow IPC file"),
        (b"id,label\n0,1\n" * 9, "no Arrow IPC stream: "),
    ],
)
def test_files_in_a_pipe_are_named(content: bytes, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        read_pipe(io.BufferedReader(io.BytesIO(content)))  # type: ignore[arg-type]
    assert ("name the file" in caught.value.hint) == ("it is" in what)
