"""Damaged files, columns and headers of bytes that are none: an error in words, or the rows that pyarrow reads."""

from __future__ import annotations

import os
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest
from attacks import CARRY, DAMAGED_BYTES, HOSTILE_INPUT, INPUT, MANIFESTS_AND_NAMES, QUIET, SECONDS, all_of, seeds_of
from awkward import LABELS, NUMBERS, vectors
from hostile import FORMATS, ROWS, SUFFIXES, Outcome, Victim, damaged, table, whole
from tally import Attack

import minestream
from minestream.cli.main import main
from minestream.errors import MinestreamError


@pytest.mark.parametrize(
    ("form", "seeds"),
    [case for form in [*FORMATS, "Arrow stream on standard input"] for case in seeds_of(form, 12, 1500)],
)
def test_damaged_inputs(form: str, seeds: range, victim: Victim, tmp_path: Path, attack: Attack) -> None:
    """What is mined of a damaged file is what pyarrow reads of it."""
    piped = form.endswith("standard input")
    of = "Arrow stream" if piped else form

    def meet(seed: int) -> tuple[str, str, Callable[[], Outcome]]:
        what, content = damaged(whole(of), np.random.default_rng([seed, list(FORMATS).index(of), piped]))
        folder = tmp_path / str(seed)
        bad = f"bad{SUFFIXES[of]}"

        def run() -> Outcome:
            folder.mkdir()
            pq.write_table(table(), folder / "rows.parquet")
            (folder / bad).write_bytes(content)
            inputs = ["rows.parquet", "--vectors", bad] if of == "NumPy" else ["-" if piped else bad]
            arguments = ["mine", *inputs, "-o", "out.parquet", *CARRY, *QUIET]
            found = victim.survive(folder, *arguments, compare=True, stdin=bad if piped else "")
            shutil.rmtree(folder)
            return found

        return DAMAGED_BYTES, f"{form}: {what}", run

    all_of(seeds, attack, meet)


def test_text_offsets_beyond_their_buffer(victim: Victim, tmp_path: Path, attack: Attack) -> None:
    """Arrow's own reader of IPC takes them, and a process that uses such a text dies."""
    offsets = np.arange(ROWS + 1, dtype=np.int32)
    offsets[ROWS // 2] = 2_000_000_000
    text = pa.Array.from_buffers(pa.string(), ROWS, [None, pa.py_buffer(offsets), pa.py_buffer(b"x" * ROWS)])
    for name in ("label", "id", "text"):
        rows = table()
        batch = rows.set_column(rows.schema.names.index(name), name, text).combine_chunks().to_batches()[0]
        for opener, file in ((pa.ipc.new_file, "bad.arrow"), (pa.ipc.new_stream, "bad.arrows")):
            with opener(tmp_path / file, batch.schema) as to:
                to.write_batch(batch)
            with attack(DAMAGED_BYTES, f"text offsets beyond their buffer: {name}s"):
                arguments = ["mine", file, "-o", "out.parquet", *CARRY, *QUIET]
                assert victim.survive(tmp_path, *arguments, codes=(3,)).code == 3


def test_a_column_whose_name_is_no_text(folder: Path, refusal: Callable[..., str], attack: Attack) -> None:
    rows = table().append_column("beside", pa.array([{"within": row} for row in range(ROWS)]))
    with pa.ipc.new_stream("whole.arrows", rows.schema) as file:
        file.write_table(rows)
    for name in (b"beside", b"label"):
        content = Path("whole.arrows").read_bytes()
        Path("bad.arrows").write_bytes(content.replace(name, b"\xff" + name[1:]))
        with attack(MANIFESTS_AND_NAMES, "column names of bytes that are no text"):
            refusal((INPUT,), "mine", "bad.arrows", "-o", "out.parquet", *QUIET)
    Path("bad.arrows").write_bytes(Path("whole.arrows").read_bytes().replace(b"within", b"\xffithin"))
    with attack(MANIFESTS_AND_NAMES, "column names of bytes that are no text"):
        assert "embedding" in refusal(
            (INPUT,), "mine", "bad.arrows", "-o", "out.parquet", "--embedding", "beside", *QUIET
        )
        assert main(["mine", "bad.arrows", "-o", "out.parquet", *QUIET]) == 0


@pytest.mark.parametrize("column", ["label", "id", "text"])
def test_texts_that_are_no_utf8(column: str, folder: Path, refusal: Callable[..., str], attack: Attack) -> None:
    """Neither reader of pyarrow looks; what came of them could not be read as text by anyone."""
    bad = pa.array([b"\xff%d" % (row % 5 if column == "label" else row) for row in range(ROWS)])
    rows = table()
    rows = rows.set_column(rows.schema.names.index(column), column, bad.view(pa.string()))
    pq.write_table(rows, "bad.parquet")
    with pa.ipc.new_file("bad.arrow", rows.schema) as file:
        file.write_table(rows)
    for name in ("bad.parquet", "bad.arrow"):
        with attack(MANIFESTS_AND_NAMES, "texts that are no UTF-8"):
            assert "UTF8" in refusal((INPUT,), "mine", name, "-o", "out.parquet", "--carry", "text", *QUIET)


def test_fewer_rows_than_none(folder: Path, refusal: Callable[..., str], attack: Attack) -> None:
    with pa.ipc.new_file("bad.arrow", table().schema) as file:
        file.write_table(table())
    content = Path("bad.arrow").read_bytes()
    lengths = ROWS.to_bytes(8, "little"), (-ROWS).to_bytes(8, "little", signed=True)
    assert lengths[0] in content
    Path("bad.arrow").write_bytes(content.replace(*lengths))
    with attack(MANIFESTS_AND_NAMES, "a negative number of rows"):
        refusal((INPUT,), "mine", "bad.arrow", "-o", "out.parquet", *QUIET)


HEADER = b"{'descr': '<f4', 'fortran_order': False, 'shape': (60, 4), }"
HEADERS = [
    b"{'descr': '<f4', 'fortran_order': False, 'shape': (60, 4", b"(" * 50, b"{'descr': '<f4'}", b"[1]", b"\xff", b"",
    HEADER.replace(b"60, 4", b"-60, -4"), HEADER.replace(b"60, 4", b"2**63, 4"), HEADER.replace(b"(60, 4)", b"(60,)"),
    HEADER.replace(b"60, 4", b"9223372036854775807, 9223372036854775807"), HEADER.replace(b"<f4", b"|O"),
    HEADER.replace(b"<f4", b"no type"), HEADER.replace(b"'<f4'", b"[('x', '<f4')]"), b"__import__('os').getpid()",
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS, ids=range(len(HEADERS)))
def test_headers_of_arrays(header: bytes, folder: Path, refusal: Callable[..., str], attack: Attack) -> None:
    text = header + b"\n"
    content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + np.zeros((60, 4), np.float32).tobytes()
    Path("bad.npy").write_bytes(content)
    with attack(MANIFESTS_AND_NAMES, "headers of .npy files"):
        refusal((INPUT, 4), "mine", "rows.parquet", "--vectors", "bad.npy", "-o", "out.parquet", *QUIET)


def test_many_columns_are_looked_at_soon(folder: Path) -> None:
    rows = pa.table({"embedding": vectors(), "id": NUMBERS} | {f"c{i}": LABELS for i in range(10_000)})
    pq.write_table(rows, "wide.parquet")
    began = time.monotonic()
    with pytest.raises(MinestreamError, match="and 9988 more"):
        minestream.mine("wide.parquet", "out.parquet", progress="none")
    assert time.monotonic() - began < SECONDS


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


def test_no_file_is_unpickled(folder: Path, attack: Attack, capsys: pytest.CaptureFixture[str]) -> None:
    bomb, exploded = np.array([[Bomb(folder / "exploded")]], object), folder / "exploded"
    np.save("bomb.npy", bomb, allow_pickle=True)
    np.savez("bomb.npz", weights=bomb, mean=bomb, about=bomb)
    Path("plain.npy").write_bytes(pickle.dumps(bomb))
    commands = [["mine", "rows.parquet", "--vectors", name] for name in ("bomb.npy", "plain.npy")]
    commands += [["apply", name, "rows.parquet", "-o", "out.parquet"] for name in ("bomb.npz", "plain.npy")]
    for command in commands:
        with attack(HOSTILE_INPUT, "a pickle in place of vectors or a model"):
            assert main(command) == INPUT
            assert not exploded.exists()
            assert "error: " in capsys.readouterr().err
    pickle.loads(Path("plain.npy").read_bytes())
    assert exploded.exists(), "the bomb is none"
