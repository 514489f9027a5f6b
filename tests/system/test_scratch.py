"""Where scratch files go, and what is said when they can go nowhere."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jobs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream.cli.main import main
from minestream.errors import CapacityError, MinestreamError, OutputError, UsageError

CALLS: dict[str, Callable[..., Any]] = {
    "mine_arrays": lambda **options: minestream.mine_arrays(jobs.ROWS, jobs.LABELS, emit="pairs", **options),
    "mine_batches": lambda **options: minestream.mine_batches(jobs.table(), **options).read_all(),
    "profile": lambda **options: minestream.profile(jobs.table(), progress="none", **options),
    "compare": lambda **options: minestream.compare(jobs.table(), jobs.table(), **options),
}


@pytest.fixture
def no_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the disk of every candidate is full or read-only."""

    def none() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", none)


@pytest.mark.usefixtures("no_temporary_folder")
@pytest.mark.parametrize("call", list(CALLS))
def test_no_temporary_folder_is_said_and_scratch_takes_its_place(call: str, tmp_path: Path, attack: Any) -> None:
    with attack("full disk", "no folder for temporary files"):
        with pytest.raises(CapacityError, match=r"temporary files.*\n.*scratch"):
            CALLS[call]()
        CALLS[call](scratch=str(tmp_path))
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("call", list(CALLS))
def test_a_scratch_folder_that_is_missing_is_refused(call: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        CALLS[call](scratch=str(tmp_path / "missing"))


def beyond_memory(**options: Any) -> None:
    """Mine rows whose vectors do not fit into --memory, and go to a file in scratch."""
    vectors = np.random.default_rng(0).standard_normal((6_000, 1_024)).astype(np.float32)
    rows = pa.table({"label": np.arange(6_000) % 90, "embedding": list(vectors)})
    minestream.mine_batches(rows, memory="20MiB", anchors=50, **options).read_all()


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.EACCES, OutputError, "cannot be written: Permission denied"),
        (errno.EROFS, OutputError, "cannot be written: Read-only"), (errno.EPERM, OutputError, "cannot be written"),
        (errno.ENOSPC, CapacityError, "cannot take more data: no space left"),
        (errno.EDQUOT, CapacityError, "cannot take more data: no space left"),
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    ("made", "call"), [("TemporaryDirectory", CALLS["mine_arrays"]), ("TemporaryFile", beyond_memory)]
)
def test_a_scratch_folder_that_nobody_may_write_is_not_called_full(
    made: str, call: Callable[..., Any], number: int, kind: type[MinestreamError], words: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, made, refuse)
    with pytest.raises(kind, match=f"the scratch folder {tmp_path} {words}") as caught:
        call(scratch=str(tmp_path))
    assert ("bytes are free" in str(caught.value)) == (kind is CapacityError)


@pytest.mark.usefixtures("no_temporary_folder")
def test_the_command_line_says_so_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pq.write_table(jobs.table(), tmp_path / "rows.parquet")
    assert main(["profile", str(tmp_path / "rows.parquet")]) == CapacityError.exit_code
    assert "temporary files" in capsys.readouterr().err
