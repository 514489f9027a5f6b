"""Composed batches dealt to ranks: every pair once, and as many batches on each."""

from __future__ import annotations

import json
from itertools import chain, groupby
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream import InputError, UsageError
from minestream.integrations.batches import Batches

QUIET = {"progress": "none"}


def written(path: Path, epochs: list[list[int]]) -> Path:
    """A file of batches of these sizes, an epoch a list; the rows of an epoch are 0, 3, 6, ... in another order."""
    rows = []
    for epoch, sizes in enumerate(epochs):
        pairs = iter((3 * np.random.default_rng(epoch).permutation(sum(sizes))).tolist())
        rows += [(epoch, batch, next(pairs)) for batch, size in enumerate(sizes) for _ in range(size)]
    epoch, batch, row = zip(*rows, strict=True)
    about = {"minestream.batches": json.dumps({"batch_size": max(map(max, epochs))})}
    columns = {"epoch": pa.array(epoch, pa.int32()), "batch": pa.array(batch, pa.int32()), "pair_row": pa.array(row)}
    pq.write_table(pa.table(columns).replace_schema_metadata(about), path)
    return path


def listed(batches: Batches, epoch: int = 0) -> list[list[int]]:
    return [rows.tolist() for rows in batches.of(epoch)]


def in_file(path: Path, epoch: int = 0) -> list[list[int]]:
    """The batches of an epoch as the file has them."""
    rows = [row for row in pq.read_table(path).to_pylist() if row["epoch"] == epoch]
    return [[row["pair_row"] for row in own] for _, own in groupby(rows, key=lambda row: row["batch"])]


def test_one_rank_gets_the_batches_of_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "b.parquet", [[4, 4, 2, 4], [4, 4, 4], [1]])
    batches = Batches(path)
    assert (batches.epochs, batches.batch_size) == (3, 4)
    for epoch in range(3):
        assert listed(batches, epoch) == in_file(path, epoch)
        assert batches.count(epoch) == len(in_file(path, epoch))


def test_epochs_begin_again(tmp_path: Path) -> None:
    path = written(tmp_path / "b.parquet", [[4, 4, 4], [4, 4]])
    batches = Batches(path)
    assert listed(batches, 0) != listed(batches, 1)
    for epoch in range(6):
        assert listed(batches, epoch) == in_file(path, epoch % 2)
        assert batches.count(epoch) == (3, 2)[epoch % 2]


@pytest.mark.parametrize("sizes", [[4] * 6, [4] * 7, [4] * 5, [3], [4, 4, 4, 1], [1, 4, 4, 4, 4, 2, 4, 1], [4, 4]])
@pytest.mark.parametrize("world", [1, 2, 3])
def test_ranks_share_every_pair_once(sizes: list[int], world: int, tmp_path: Path) -> None:
    """As many batches on each, none of them empty, each of one batch of the file; batches that go round are whole."""
    path = written(tmp_path / "b.parquet", [sizes, sizes[::-1]])
    for epoch in (0, 1):
        dealt = [listed(Batches(path, rank, world), epoch) for rank in range(world)]
        composed = in_file(path, epoch)
        assert {len(own) for own in dealt} == {Batches(path, 0, world).count(epoch)} == {-(-len(sizes) // world)}
        assert sorted(row for own in dealt for rows in own for row in rows) == sorted(chain(*composed))
        assert all(rows for own in dealt for rows in own)
        assert all(any(set(rows) <= set(batch) for batch in composed) for own in dealt for rows in own)
        whole = [own[step] for step in range(len(sizes) // world) for own in dealt]
        assert whole == [batch for batch in composed if batch in whole]  # in their order
        assert len(whole) == len(sizes) // world * world


def test_the_last_batches_are_those_divided_where_all_are_full(tmp_path: Path) -> None:
    path = written(tmp_path / "b.parquet", [[4] * 5])
    composed = in_file(path)
    first, second = (listed(Batches(path, rank, 2)) for rank in (0, 1))
    assert first == [composed[0], composed[2], composed[4][:2]]
    assert second == [composed[1], composed[3], composed[4][2:]]


def test_what_minestream_batch_writes_is_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=240).astype(np.float32)), 4)
    pq.write_table(pa.table({"label": np.arange(60) // 4, "embedding": vectors}), tmp_path / "rows.parquet")
    mined, path = tmp_path / "mined.parquet", tmp_path / "b.parquet"
    minestream.mine(tmp_path / "rows.parquet", mined, emit="tuples", band="any", negatives=2, **QUIET)
    found = minestream.batch(mined, path, batch_size=5, epochs=2, keep_last=True, **QUIET)
    assert Batches(path).batch_size == 5
    for epoch in (0, 1):
        dealt = [listed(Batches(path, rank, 2), epoch) for rank in (0, 1)]
        assert listed(Batches(path), epoch) == in_file(path, epoch)
        assert len(in_file(path, epoch)) == found["batches"][epoch]
        seen = sorted(row for own in dealt for rows in own for row in rows)
        assert seen == sorted(chain(*in_file(path, epoch)))
        assert len(set(seen)) == len(seen)
    with pytest.raises(InputError, match=r"mined\.parquet holds no composed batches"):
        Batches(mined)


@pytest.mark.parametrize(("rank", "world"), [(2, 2), (-1, 2), (0, 0), (1, 1)])
def test_ranks_that_there_are_not(rank: int, world: int, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"rank {rank} is none of {world}"):
        Batches(written(tmp_path / "b.parquet", [[4]]), rank, world)


def test_too_few_pairs_for_the_ranks(tmp_path: Path) -> None:
    """A rank without a pair would wait for the others, or they for it: said before the training."""
    path = written(tmp_path / "b.parquet", [[2, 2, 2, 2], [2, 2, 2, 2, 2]])
    with pytest.raises(UsageError, match=r"b\.parquet: epoch 1 .* 4 ranks"):
        Batches(path, 0, 4)


def test_files_that_hold_no_batches(tmp_path: Path) -> None:
    pq.write_table(pa.table({"epoch": [0], "batch": [0], "pair_row": [0]}), tmp_path / "foreign.parquet")
    with pytest.raises(InputError, match=r"foreign\.parquet holds no composed batches"):
        Batches(tmp_path / "foreign.parquet")
    (tmp_path / "text.parquet").write_text("text")
    with pytest.raises(InputError, match=r"text\.parquet cannot be read"):
        Batches(tmp_path / "text.parquet")
    with pytest.raises(InputError, match=r"absent\.parquet"):
        Batches(tmp_path / "absent.parquet")
