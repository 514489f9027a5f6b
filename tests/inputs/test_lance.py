"""Lance datasets as inputs, by path: the rows are those of the same table as Parquet."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import written_sample

import minestream
from minestream.cli.main import main
from minestream.errors import InputError, UsageError


@pytest.fixture
def digits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pa.Table:
    """The digits, also as d.lance in the working directory, in pieces of 300 rows."""
    lance = pytest.importorskip("lance")
    monkeypatch.chdir(tmp_path)
    table = pq.read_table(written_sample(tmp_path))
    lance.write_dataset(table, "d.lance", max_rows_per_file=300)
    return table


def mined(inputs: Any, **options: Any) -> pa.Table:
    minestream.mine(inputs, "o.parquet", progress="none", overwrite=True, **options)
    return pq.read_table("o.parquet")


@pytest.mark.parametrize("name", ["d.lance", "d.lance/", "*.lance"])
def test_a_dataset_gives_the_rows_of_its_table(name: str, digits: pa.Table) -> None:
    options: dict[str, Any] = {"carry": "label", "where": "label < 8", "batch_rows": 100}
    assert mined(name, **options).equals(mined("digits.parquet", **options))
    mined(name)
    assert minestream.verify("o.parquet")["anchors"] == 100
    assert main(["repeat", "o.parquet", "-o", "again.parquet", "-q"]) == 0
    assert Path("again.parquet").read_bytes() == Path("o.parquet").read_bytes()


def test_dims_and_a_corpus_of_datasets(digits: pa.Table) -> None:
    options: dict[str, Any] = {"shared_ids": True, "on_bad_rows": "drop", "dims": 20}
    found = mined("d.lance", corpus="d.lance", **options)
    assert found.equals(mined("digits.parquet", corpus="digits.parquet", **options))


def test_a_change_is_noticed_when_a_run_is_resumed(digits: pa.Table) -> None:
    import lance

    run = ["mine", "d.lance", "-o", "o.parquet", "--resume", "-q"]
    assert [main(run), main(run)] == [0, 0]
    lance.write_dataset(digits.slice(0, 10), "d.lance", mode="append")
    assert main(run) == 5


def test_what_is_no_dataset_is_answered(
    digits: pa.Table, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    os.mkdir("empty.lance")
    with pytest.raises(InputError, match=r"empty\.lance: unreadable or truncated"):
        mined("empty.lance")
    with pytest.raises(InputError, match=r"gone\.lance: (does not exist|unreadable)"):
        mined("gone.lance")
    with pytest.raises(UsageError, match=r"what is written is Parquet, not \.lance"):
        minestream.mine("d.lance", "x.lance", progress="none")
    monkeypatch.setitem(sys.modules, "lance", None)
    assert main(["mine", "d.lance", "-o", "p.parquet"]) == 2
    assert "d.lance: lance cannot be imported" in (said := capsys.readouterr().err)
    assert "pip install 'minestream[lance]'" in said


def test_bad_rows_are_named(digits: pa.Table) -> None:
    import lance

    rows = np.stack(digits["embedding"].to_numpy())
    rows[700, 3] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 64)
    lance.write_dataset(digits.set_column(2, "embedding", column), "bad.lance")
    with pytest.raises(InputError, match=r"bad\.lance: column 'embedding': not finite in row 700"):
        mined("bad.lance")
