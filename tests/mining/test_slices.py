"""Which parts each slice of a run mines: every part once, and the work shared evenly, by the costs alone."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

import minestream
from minestream.cli.main import main
from minestream.config.parse import Slice
from minestream.errors import OutputError
from minestream.mining.slices import owned_shards


def shared(costs: list[int], slices: int) -> list[list[int]]:
    """The parts of each slice."""
    return [owned_shards(costs, Slice(number, slices)) for number in range(1, slices + 1)]


@pytest.mark.parametrize(
    ("costs", "parts"),
    [
        ([5, 3, 3, 2, 1], [[0, 3], [1, 2, 4]]),
        ([1, 1, 1, 1, 4], [[4], [0, 1, 2, 3]]),
        ([2, 2, 2, 2], [[0, 2], [1, 3]]),
        ([7], [[0], []]),
        ([], [[], []]),
    ],
)
def test_the_costliest_go_first_each_to_the_slice_with_the_least(costs: list[int], parts: list[list[int]]) -> None:
    assert shared(costs, 2) == parts


@pytest.mark.parametrize("slices", [1, 3, 8])
def test_each_part_has_one_slice_and_no_slice_has_much_more_than_another(slices: int) -> None:
    costs = np.random.default_rng(slices).integers(1, 1000, 200).tolist()
    parts = shared(costs, slices)
    assert sorted(part for own in parts for part in own) == list(range(200))
    loads = [sum(costs[part] for part in own) for own in parts]
    assert max(loads) - min(loads) <= min(costs) + 1000 // slices


@pytest.mark.parametrize(("slices", "few"), [(2, True), (1, False)])
def test_a_slice_says_what_it_has_and_how_all_become_one(slices: int, few: bool, tmp_path: Path) -> None:
    rows = pa.table({"embedding": np.random.default_rng(0).normal(size=(40, 4)).tolist(), "label": [0, 1] * 20})
    out = tmp_path / "whole"
    found = [minestream.mine(rows, out, shard=f"{number + 1}/{slices}") for number in range(slices)]
    for number, report in enumerate(found):
        note = report.notes[-1]
        assert note.startswith(f"slice {number + 1} of {slices} has {int(number == 0)} of 1 part")
        assert ("more slices than parts" in note) == few
        assert note.endswith(f"when all slices are there, minestream.merge makes {out}")
    assert not any("slice" in note for note in minestream.merge(out).notes)


def test_a_second_cut_of_one_output_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    rows = pa.table({"embedding": np.random.default_rng(0).normal(size=(40, 4)).tolist(), "label": [0, 1] * 20})
    minestream.mine(rows, tmp_path / "whole", shard="1/3", progress="none")
    for more in ({}, {"overwrite": True}, {"dry_run": True}):
        with pytest.raises(OutputError, match=r"holds slice-001-of-003, of another cut.*\n.*shard=.*I/3"):
            minestream.mine("nothing.parquet", tmp_path / "whole", shard="1/2", progress="none", **more)
    assert {path.name for path in tmp_path.iterdir()} == {"whole.slices"}
    minestream.mine(rows, tmp_path / "whole", shard="2/3", progress="none")


@pytest.mark.parametrize("emit", ["triplets", "pairs"])
def test_after_a_slice_comes_the_one_that_is_missing_then_merge(
    emit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    minestream.sample("my rows.parquet")
    command, followed = f"mine 'my rows.parquet' --emit {emit} -o out.parquet --shard 1/3", []
    for _ in range(4):
        assert main([*shlex.split(command), "--progress", "none"]) == 0
        command = re.findall(r"\nnext +minestream (.*)", capsys.readouterr().out)[-1]
        followed.append(command.split("--shard ")[-1][:3] if "--shard" in command else command.split()[0])
    assert followed == ["2/3", "3/3", "merge", "describe"]
    assert Path("out.parquet").is_file()
