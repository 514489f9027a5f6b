"""Damaged files, and a process that meets them one by one: it may not crash, hang, eat the machine or answer wrongly.

`python tests/lib/hostile.py` is that process: command lines come as JSON on standard input, what became of them goes to
standard output. `Victim` starts it, and starts another when one dies.
"""

from __future__ import annotations

import io
import json
import os
import resource
import select
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

REPOSITORY = Path(__file__).parents[2]
ROWS, DIMENSION = 60, 4
CASE_SECONDS = 30.0
MEMORY_BYTES = 2 << 30  # beyond what the process has when it is ready
STATISTICS = Path("/proc/self/statm")  # Linux only tells, and limits, what a process has
EDGE_NUMBERS = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**64 - 1)

DEEP: list[Any] = []
for _ in range(900):
    DEEP = [DEEP]
HOSTILE_VALUES: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63, 10**400, -(2**63), 0.5, float("nan"), float("inf"), "", "x", "1", "cosine",
    "../../secret", "/etc/passwd", "\x1b[31m", "\ud800", "\0", "x" * 100_000, [], [[]], [1], ["../x"], {}, {"x": 1},
    {"name": "../secret.parquet"}, DEEP,
)  # fmt: skip

Random = np.random.Generator
Write = Callable[[pa.Table], bytes]

# ---------------------------------------------------------------- whole files


def table(labels: pa.DataType | None = None, listed: bool = False) -> pa.Table:
    """Rows of every kind of column that is read: vectors, labels (of texts), ids, a text to carry."""
    labels = labels or pa.string()
    rng = np.random.default_rng(1)
    flat = pa.array(rng.normal(size=ROWS * DIMENSION).astype(np.float32))
    vectors: pa.Array = pa.FixedSizeListArray.from_arrays(flat, DIMENSION)
    if listed:
        vectors = vectors.cast(pa.list_(pa.float32()))
    names = [f"label {row % 5}" for row in range(ROWS)]
    label = pa.array([[name, "all"] for name in names] if pa.types.is_list(labels) else names)
    return pa.table({
        "embedding": vectors,
        "label": label.dictionary_encode() if pa.types.is_dictionary(labels) else label.cast(labels),
        "id": pa.array([f"id-{row:04d}" for row in range(ROWS)]),
        "text": pa.array([None if row % 7 == 0 else "text " * (row % 4) for row in range(ROWS)]),
    })  # fmt: skip


def _parquet(**options: Any) -> Write:
    def write(rows: pa.Table) -> bytes:
        pq.write_table(rows, file := io.BytesIO(), row_group_size=25, **options)
        return file.getvalue()

    return write


def _ipc(streamed: bool, compression: str | None = None) -> Write:
    def write(rows: pa.Table) -> bytes:
        file, options = io.BytesIO(), pa.ipc.IpcWriteOptions(compression=compression)
        with (pa.ipc.new_stream if streamed else pa.ipc.new_file)(file, rows.schema, options=options) as to:
            to.write_table(rows, max_chunksize=25)
        return file.getvalue()

    return write


def _npy(dtype: Any) -> Write:
    def write(rows: pa.Table) -> bytes:
        vectors = rows["embedding"].combine_chunks().flatten().to_numpy()
        np.save(file := io.BytesIO(), vectors.reshape(-1, DIMENSION).astype(dtype))
        return file.getvalue()

    return write


DICTIONARY = pa.dictionary(pa.int32(), pa.string())
FORMATS: dict[str, list[tuple[Write, pa.Table]]] = {
    "Parquet": [
        (_parquet(compression="none", use_dictionary=False), table()),
        (_parquet(compression="snappy", store_schema=False), table(listed=True)),
        (_parquet(compression="zstd", data_page_version="2.0", write_page_index=True), table(DICTIONARY)),
        (_parquet(compression="none", use_dictionary=False, use_byte_stream_split=["embedding.list.element"],
                  column_encoding={"label": "DELTA_BYTE_ARRAY", "id": "DELTA_LENGTH_BYTE_ARRAY"}), table()),
        (_parquet(compression="gzip", write_page_checksum=True), table(pa.list_(pa.string()), listed=True)),
    ],
    "Arrow file": [(_ipc(False), table(DICTIONARY)), (_ipc(False, "zstd"), table(pa.list_(pa.string()), listed=True)),
                   (_ipc(False), table(pa.large_string(), listed=True))],
    "Arrow stream": [(_ipc(True), table(pa.list_(pa.string()), listed=True)), (_ipc(True, "lz4"), table(DICTIONARY)),
                     (_ipc(True), table(pa.string_view()))],
    "NumPy": [(_npy(np.float32), table()), (_npy(np.float64), table())],
}  # fmt: skip
SUFFIXES = {"Parquet": ".parquet", "Arrow file": ".arrow", "Arrow stream": ".arrows", "NumPy": ".npy"}


@cache
def whole(form: str) -> tuple[bytes, ...]:
    """The undamaged files of a format."""
    return tuple(write(rows) for write, rows in FORMATS[form])


# ---------------------------------------------------------------- damage


def _place(content: bytes, rng: Random) -> int:
    """A place in a file: half of the time near one of its ends, where headers and footers are."""
    size = len(content)
    near = int(min(size, 2048) * rng.random() ** 2)
    return int(rng.choice([near, max(0, size - 1 - near), rng.integers(size), rng.integers(size)]))


def _range(content: bytes, rng: Random) -> tuple[int, int]:
    start = _place(content, rng)
    return start, min(len(content), start + int(2 ** (10 * rng.random())))


def flipped_bits(content: bytes, rng: Random, _: bytes) -> bytes:
    """A few bits flipped."""
    found = bytearray(content)
    for _ in range(int(rng.integers(1, 9))):
        found[_place(content, rng)] ^= 1 << int(rng.integers(8))
    return bytes(found)


def cut_short(content: bytes, rng: Random, _: bytes) -> bytes:
    """The end is missing."""
    return content[: _place(content, rng)]


def zeroed_range(content: bytes, rng: Random, _: bytes) -> bytes:
    """A range of zeros, as a file system leaves after a crash."""
    start, end = _range(content, rng)
    return content[:start] + bytes(end - start) + content[end:]


def range_of_the_same_file(content: bytes, rng: Random, _: bytes) -> bytes:
    """A range copied to another place of the file."""
    start, end = _range(content, rng)
    to = _place(content, rng)
    return content[:to] + content[start:end] + content[to + end - start :]


def range_of_another_file(content: bytes, rng: Random, donor: bytes) -> bytes:
    """A range of another file of the format."""
    start, end = _range(donor, rng)
    to = _place(content, rng)
    return content[:to] + donor[start:end] + content[to + end - start :]


def range_missing(content: bytes, rng: Random, _: bytes) -> bytes:
    """A range taken out: all that follows has moved."""
    start, end = _range(content, rng)
    return content[:start] + content[end:]


def lying_numbers(content: bytes, rng: Random, _: bytes) -> bytes:
    """Numbers of 1 to 8 bytes overwritten by the largest, the smallest, or one a little off: lengths and offsets."""
    found = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        width = int(rng.choice([1, 2, 4, 8]))
        at = max(0, min(_place(content, rng), len(content) - width))
        old = int.from_bytes(found[at : at + width], "little")
        new = int(rng.choice([old + 1, old - 1, old * 2, -1])) if old < 2**62 and rng.random() < 0.4 else 0
        lie = new or EDGE_NUMBERS[int(rng.integers(len(EDGE_NUMBERS)))]
        found[at : at + width] = (lie % 2 ** (8 * width)).to_bytes(width, "little")
    return bytes(found)


DAMAGE = {
    "flipped bits": flipped_bits, "cut short": cut_short, "a range of zeros": zeroed_range,
    "a range copied from elsewhere in it": range_of_the_same_file, "a range of another file": range_of_another_file,
    "a range missing": range_missing, "lying lengths and offsets": lying_numbers,
}  # fmt: skip


def damaged(files: Sequence[bytes], rng: Random) -> tuple[str, bytes]:
    """What was done to one of some files, and its bytes."""
    name = list(DAMAGE)[int(rng.integers(len(DAMAGE)))]
    own, other = (files[int(rng.integers(len(files)))] for _ in range(2))
    return name, DAMAGE[name](own, rng, other)


def twisted(value: Any, rng: Random) -> Any:
    """A value of JSON in which something is missing, of another type, out of range, or leads elsewhere."""
    inner = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    if not len(inner) or rng.random() < 0.1:
        return HOSTILE_VALUES[int(rng.integers(len(HOSTILE_VALUES)))]
    found = value.copy()
    place = inner[int(rng.integers(len(inner)))]
    if rng.random() < 0.15:
        del found[place]
    else:
        found[place] = twisted(found[place], rng)
    return found


# ---------------------------------------------------------------- the process that meets them


@dataclass
class Outcome:
    """What became of a command line."""

    code: int = -1
    said: str = ""
    raised: str = ""  # a traceback: none may be
    differs: str = ""  # in what the rows are not those of what pyarrow reads
    left: list[str] = field(default_factory=list)  # what lies in its folder that was not there


class Victim:
    """A process that runs command lines, and its successors; a context manager."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self.met = 0

    def __enter__(self) -> Victim:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def run(self, folder: Path, *arguments: str, compare: bool = False, stdin: str = "") -> Outcome:
        """Run a command line in `folder`; AssertionError where the process dies or does not answer.

        compare : whether rows that are mined must be those of what pyarrow reads from the same file
        """
        self.met += 1
        job = {"folder": str(folder), "arguments": arguments, "compare": compare, "stdin": stdin}
        answer = self._answer(json.dumps(job))
        return Outcome(**answer)

    def survive(self, folder: Path, *arguments: str, codes: tuple[int, ...] = (0, 2, 3, 4, 5), **how: Any) -> Outcome:
        """The same; AssertionError unless it ends as every command must: in an error in words, or rightly."""
        found = self.run(folder, *arguments, **how)
        assert not found.raised, found.raised
        assert found.code in codes, f"exit code {found.code}: {found.said}"
        assert not found.differs, found.differs
        if found.code:
            assert found.said.startswith("error: "), found.said
            assert not found.left, f"left behind: {found.left}"
        return found

    def _answer(self, line: str) -> dict[str, Any]:
        if self._process is None:
            environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONFAULTHANDLER": ""}
            self._process = subprocess.Popen(
                [sys.executable, __file__], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
            assert self._line(120.0) == "ready"
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode() + b"\n")
        self._process.stdin.flush()
        found: dict[str, Any] = json.loads(self._line(CASE_SECONDS))
        return found

    def _line(self, seconds: float) -> str:
        process = self._process
        assert process is not None
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], seconds)[0]:
            process.kill()
            self._end()
            raise AssertionError(f"no answer within {seconds:g} seconds")
        line = process.stdout.readline()
        if not line:
            raise AssertionError(f"the process died: {self._end()}")
        return line.decode().strip()

    def _end(self) -> int:
        assert self._process is not None
        process, self._process = self._process, None
        return process.wait()


def read_whole(path: Path, names: list[str]) -> pa.Table:
    """The columns of a file as pyarrow reads them."""
    head = path.read_bytes()[:6]
    if head.startswith(b"PAR1") or (head != b"ARROW1" and path.suffix == ".parquet"):
        return pq.ParquetFile(path).read(names, use_threads=False)
    with pa.OSFile(str(path)) as file:
        if head == b"ARROW1":
            schema = pa.ipc.open_file(file).schema
        else:
            schema = pa.ipc.open_stream(file).schema
    options = pa.ipc.IpcReadOptions(included_fields=[schema.get_field_index(name) for name in names])
    with pa.OSFile(str(path)) as file:
        opened = pa.ipc.open_file if head == b"ARROW1" else pa.ipc.open_stream
        return opened(file, options=options).read_all().select(names)


def difference(path: Path, mined: Path, vectors: Path | None) -> str:
    """In what the mined rows are not those of the table that pyarrow reads from the same file."""
    import minestream

    columns = json.loads(pq.read_metadata(mined).metadata[b"minestream.columns"])
    roles = {role: columns[role] for role in ("embedding", "label", "id") if columns[role]}
    names = {role: name for role, name in roles.items() if not (vectors and role == "embedding")}
    try:
        rows = read_whole(path, [*names.values(), *columns["carry"]]).rename_columns([*names, *columns["carry"]])
        if vectors:
            matrix = np.load(vectors)
            flat = pa.array(matrix.astype(matrix.dtype.newbyteorder("=")).reshape(-1))
            rows = rows.append_column("embedding", pa.FixedSizeListArray.from_arrays(flat, matrix.shape[1]))
        rows.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        return f"rows were mined of what pyarrow does not read: {error}"
    other = mined.with_name("other.parquet")
    try:
        minestream.mine(rows, other, carry=columns["carry"], **dict(zip(roles, roles, strict=True)), progress="none")
        same = pq.read_table(mined).equals(pq.read_table(other))
    finally:
        other.unlink(missing_ok=True)
        other.with_name("other.parquet.manifest.json").unlink(missing_ok=True)
    return "" if same else "other rows than those of the table that pyarrow reads"


def answer(job: dict[str, Any]) -> Outcome:
    """Run a command line in this process."""
    from minestream.cli.main import main

    folder, found, said = Path(job["folder"]), Outcome(), io.StringIO()
    os.chdir(folder)
    before = {str(path) for path in folder.rglob("*")}
    standard_input = sys.stdin
    try:
        if job["stdin"]:
            sys.stdin = io.TextIOWrapper(open(job["stdin"], "rb"))  # noqa: SIM115 (closed with the wrapper)
        with redirect_stdout(io.StringIO()), redirect_stderr(said):
            found.code = main(job["arguments"])
    except BaseException:
        found.raised = traceback.format_exc()
    finally:
        if sys.stdin is not standard_input:
            sys.stdin.close()
        sys.stdin = standard_input
    found.said = said.getvalue()
    found.left = sorted({str(path) for path in folder.rglob("*")} - before)
    if found.code == 0 and job["compare"]:
        arguments = job["arguments"]
        vectors = Path(arguments[arguments.index("--vectors") + 1]) if "--vectors" in arguments else None
        mined = Path(arguments[arguments.index("-o") + 1])
        try:
            found.differs = difference(Path(job["stdin"] or arguments[1]), mined, vectors)
        except Exception:
            found.differs = traceback.format_exc()
    return found


def serve() -> None:
    """Answer command lines until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # what libraries print while they die
    import minestream

    mined = minestream.mine_arrays(np.eye(6, 4, dtype=np.float32) + 1, [1, 2] * 3, ids=list(range(6)))  # compiles
    assert mined.table().num_rows
    if STATISTICS.exists():
        size = int(STATISTICS.read_text().split()[0]) * resource.getpagesize() + MEMORY_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", file=answers)
    for line in sys.stdin:
        print(json.dumps(vars(answer(json.loads(line)))), file=answers)


if __name__ == "__main__":
    serve()
