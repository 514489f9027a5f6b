"""Small jobs of every kind, some of which fail: what long runs and many callers are made of.

python tests/lib/jobs.py THREADS NAME...     in one process, in threads of its own: digests of their answers, as JSON
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

import minestream
from minestream.errors import MinestreamError

RNG = np.random.default_rng(11)
ROWS = RNG.standard_normal((300, 12)).astype(np.float32)
LABELS = RNG.integers(0, 6, 300)
BAD_ROWS = np.where(np.arange(300)[:, None] == 250, np.float32(np.nan), ROWS)

Job = Callable[[Path], Any]


def table(rows: np.ndarray[Any, Any] = ROWS) -> pa.Table:
    """Rows with labels and a text."""
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    return pa.table(
        {"label": LABELS[: len(rows)], "embedding": vectors, "text": [f"row {n}" for n in range(len(rows))]}
    )


def arrays(rows: np.ndarray[Any, Any] = ROWS, **options: Any) -> Job:
    """A job of mine_arrays."""
    return lambda folder: minestream.mine_arrays(rows, LABELS, **{"threads": 2} | options).table()


def filed(name: str, **options: Any) -> Job:
    """A job of mine, whose answer is the bytes of its output."""

    def job(folder: Path) -> Any:
        out = folder / name
        minestream.mine(table(), out, progress="none", overwrite=True, threads=2, **options)
        return b"".join(file.read_bytes() for file in (sorted(out.iterdir()) if out.is_dir() else [out]))

    return job


def batches(folder: Path) -> Any:
    """Every row that mine_batches gives."""
    return minestream.mine_batches(table(), negatives=2, threads=2).read_all()


def abandoned(folder: Path) -> Any:
    """The first rows of a stream, whose rest is never asked for."""
    reader = minestream.mine_batches(stream(), window=64, threads=2)
    return reader.read_next_batch()


def stream() -> pa.RecordBatchReader:
    """The rows, a few at a time."""
    return pa.RecordBatchReader.from_batches(table().schema, table().to_batches(max_chunksize=50))


def fed(rows: np.ndarray[Any, Any], close: bool) -> Job:
    """Batches fed to a Miner, which is closed or dropped."""

    def job(folder: Path) -> Any:
        miner = minestream.Miner(100, threads=2)
        found = [miner.feed({"embedding": rows[at : at + 50], "label": LABELS[at : at + 50]}) for at in (0, 50, 250)]
        if close:
            miner.close()
        return pa.Table.from_batches(found)

    return job


def profiled(folder: Path) -> Any:
    """What a profile says, without its seconds and stages, and without the folder it ran in."""
    found = minestream.profile(table(ROWS[:80]), progress="none", threads=2)
    passing = ("seconds", "stages", "folder")
    return json.dumps({name: value for name, value in found.items() if name not in passing}, default=str).encode()


def called_back(folder: Path) -> Any:
    """A callback that fails stops its run."""

    def callback(event: object) -> None:
        raise MinestreamError("enough")

    return minestream.mine(table(), folder / "called.parquet", progress="none", progress_callback=callback)


def inspected(folder: Path) -> Any:
    """A sound output, verified and described."""
    out, source = folder / "inspected.parquet", folder / "source.parquet"
    pa.parquet.write_table(table(), source)
    minestream.mine(source, out, progress="none", overwrite=True, threads=2)
    minestream.verify(out, sample=2)
    return out.read_bytes() + str(minestream.describe(out)["rows"]).encode()


SCANNED: dict[str, Job] = {
    "default": arrays(),
    "pairs": arrays(emit="pairs"),
    "tuples": arrays(emit="tuples", negatives=3),
    "float64": arrays(ROWS.astype(np.float64), metric="euclidean", margin=2.0),
    "float16": arrays(ROWS.astype(np.float16), band="hard"),
    "random": arrays(pick="random", negatives=4),
    "all positives": arrays(positives="all", band="any"),
    "violating": arrays(band="violating", metric="sqeuclidean", margin=4.0),
    "no option": arrays(no_such_option=1),
    "one label": lambda folder: minestream.mine_arrays(ROWS, np.zeros(300, int)),
    "not finite": arrays(BAD_ROWS),
}
JOBS: dict[str, Job] = SCANNED | {
    "f32": arrays(screen="f32"),
    "i8": arrays(screen="i8", negatives=2),
    "i16": arrays(screen="i16", positives="hardest"),
    "int8": arrays((ROWS * 20).astype(np.int8), screen="f32", metric="dot", band="any"),
    "normalized": arrays(normalize=True, metric="euclidean", margin=0.5, screen="f32"),
    "file": filed("file.parquet", carry=["text"]),
    "folder": filed("folder", emit="pairs"),
    "shuffled": filed("shuffled.parquet", order="shuffled", max_uses=3),
    "batches": batches,
    "abandoned": abandoned,
    "fed": fed(ROWS, close=True),
    "fed and dropped": fed(ROWS, close=False),
    "fed a bad row": fed(BAD_ROWS, close=False),
    "profile": profiled,
    "inspected": inspected,
    "gate missed": filed("gate.parquet", require_rows=10**6),
    "called back": called_back,
    "no file": lambda folder: minestream.mine(folder / "missing.parquet", folder / "out.parquet", progress="none"),
    "no folder": lambda folder: minestream.mine(table(), folder / "missing" / "out.parquet", progress="none"),
}  # fmt: skip


def digest(job: Job, folder: Path) -> str:
    """What a job answers, as a short text: that of the same job is always the same."""
    try:
        answer = job(folder)
    except MinestreamError as error:
        return type(error).__name__
    if isinstance(answer, bytes):
        return f"{zlib.crc32(answer):08x}"
    rows = answer if isinstance(answer, pa.Table) else pa.Table.from_batches([answer])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_table(rows.combine_chunks())
    return f"{zlib.crc32(sink.getvalue()):08x}"


def digests(names: list[str], folder: Path, threads: int) -> list[str]:
    """The answers to some jobs, each in a folder of its own, so many of them at once."""
    places = [folder / str(number) for number in range(len(names))]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(digest, (JOBS[name] for name in names), places))


def rounds(names: list[str], count: int) -> Iterator[str]:
    """`count` names, in turn."""
    return (names[number % len(names)] for number in range(count))


if __name__ == "__main__":
    print(json.dumps(digests(sys.argv[2:], Path.cwd(), int(sys.argv[1]))))
