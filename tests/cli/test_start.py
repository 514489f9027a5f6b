"""What the process of the command line sets up."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import minestream
from minestream.__main__ import start

DIGITS = Path(minestream.__file__).parent / "data" / "digits.parquet"


def test_arrow_gives_free_memory_back_unless_the_user_chose_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minestream.cli.main.main", lambda: 0)
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "mimalloc")
    assert start() == 0
    assert os.environ["ARROW_DEFAULT_MEMORY_POOL"] == "mimalloc"
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL")
    assert start() == 0
    assert os.environ["ARROW_DEFAULT_MEMORY_POOL"] == "system"


COMMAND = """
import sys
from minestream.__main__ import start
assert start() == 0
print("pandas" in sys.modules)
import pyarrow as pa
print(pa.table({"a": [1]}).to_pandas().a.sum())
"""


def test_pandas_is_not_loaded_for_nothing(tmp_path: Path) -> None:
    """Arrow looks for it; whoever else asks for it finds it."""
    pytest.importorskip("pandas")
    asked = ["mine", str(DIGITS), "-o", str(tmp_path / "out.parquet"), "--anchors", "10", "--quiet"]
    done = subprocess.run([sys.executable, "-c", COMMAND, *asked], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "1"]
