"""Datasets and samplers for torch: in one process, in workers, and in two that train together."""

from __future__ import annotations

import gc
import os
import pickle
import time
import warnings
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream import InputError, UsageError

pytestmark = pytest.mark.peers
torch = pytest.importorskip("torch")
data = pytest.importorskip("torch.utils.data")

from minestream.integrations import torch as ours  # noqa: E402 (it needs torch)

QUIET = {"progress": "none"}
FACES = "anchor_row", "positive_row"
TRAINED_WITHIN = 150  # seconds for two processes to start, train and end on a machine with other work
Row = dict[str, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of mined outputs: tuples.parquet, b.parquet of it, a folder `parts` of several, and `none.parquet`."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=4 * 93).astype(np.float32)), 4)
    names = pa.array([f"s{row % 3}" for row in range(93)]).dictionary_encode()
    table = pa.table({"id": [f"r{row}" for row in range(93)], "label": np.arange(93) // 3, "embedding": vectors})
    pq.write_table(table.append_column("source", names), folder / "rows.parquet")
    mine = {"band": "any", "negatives": 2, "carry": "source", **QUIET}
    minestream.mine(folder / "rows.parquet", folder / "tuples.parquet", emit="tuples", **mine)
    minestream.mine(folder / "rows.parquet", folder / "triplets.parquet", emit="triplets", **mine)
    about = pq.read_metadata(folder / "triplets.parquet").metadata
    triplets = pq.read_table(folder / "triplets.parquet").replace_schema_metadata(about)
    (folder / "parts").mkdir()
    for part, (first, rows) in enumerate([(0, 70), (70, 70), (140, 0), (140, len(triplets) - 141)]):
        pq.write_table(triplets.slice(first, rows), folder / "parts" / f"part-0000{part}.parquet")
    pq.write_table(triplets.slice(0, 0), folder / "none.parquet")
    minestream.batch(folder / "tuples.parquet", folder / "b.parquet", batch_size=5, epochs=2, keep_last=True, **QUIET)
    return folder


def rows_of(path: Path) -> list[Row]:
    files = sorted(path.glob("part-*.parquet")) if path.is_dir() else [path]
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def place_of(row: Row) -> str:
    """What names a row of the triplets."""
    return f"{row['anchor_row']} {row['positive_row']} {row['negative_row']}"


def anchor_of(row: Row) -> str:
    return f"text of {row['anchor_id']}"


# ---------------------------------------------------------------- MinedDataset


@pytest.mark.parametrize("name", ["tuples.parquet", "parts"])
def test_rows_are_those_of_the_file(name: str, world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ours, "READ_ROWS", 16)
    expected = rows_of(world / name)
    dataset = ours.MinedDataset(world / name)
    assert len(dataset) == len(expected) > 32
    assert [dataset[at] for at in range(len(dataset))] == expected
    assert list(dataset) == expected
    for at in (-1, -len(expected), np.int64(17), np.int32(-17)):
        assert dataset[at] == expected[at]
    for at in (len(expected), -len(expected) - 1):
        with pytest.raises(IndexError, match=f"row {at} of {len(expected)}"):
            dataset[at]
    if name == "parts":
        assert len(list((world / name).glob("part-*.parquet"))) > 2


def test_columns_and_fetch(world: Path) -> None:
    expected = rows_of(world / "tuples.parquet")
    some = ours.MinedDataset(world / "tuples.parquet", columns=FACES)
    assert some[5] == {name: expected[5][name] for name in FACES}
    texts = ours.MinedDataset(world / "tuples.parquet", fetch=anchor_of)
    assert texts[-2] == anchor_of(expected[-2])
    for kind in (ours.MinedDataset, lambda *given: list(ours.MinedIterable(*given))):
        with pytest.raises(InputError, match=r"tuples\.parquet has no column text"):
            kind(world / "tuples.parquet", ["anchor_row", "text"])


def test_an_output_without_rows(world: Path) -> None:
    dataset = ours.MinedDataset(world / "none.parquet")
    assert len(dataset) == 0
    assert list(dataset) == []
    with pytest.raises(IndexError, match="row 0 of 0"):
        dataset[0]
    stream = ours.MinedIterable(world / "none.parquet", buffer=4)
    assert (len(stream), list(stream)) == (0, [])
    for kind in (ours.MinedDataset, ours.MinedIterable):
        with pytest.raises(InputError, match=r"none\.parquet has no column text"):
            list(kind(world / "none.parquet", columns=["text"]))
        with pytest.raises(InputError, match="absent"):
            kind(world / "absent.parquet")


def test_pickled_it_has_the_same_rows(world: Path) -> None:
    dataset = ours.MinedDataset(world / "tuples.parquet", fetch=anchor_of)
    fresh, used = pickle.dumps(dataset), (dataset[0], pickle.dumps(dataset))[1]
    assert len(used) == len(fresh)  # no rows go along
    assert list(pickle.loads(used)) == list(dataset)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_have_the_same_rows(context: str, world: Path) -> None:
    expected = [anchor_of(row) for row in rows_of(world / "parts")]
    dataset = ours.MinedDataset(world / "parts", fetch=anchor_of)
    assert dataset[0] == expected[0]  # opened before the workers are
    loader = data.DataLoader(
        dataset, batch_size=7, num_workers=2, multiprocessing_context=context, collate_fn=list, timeout=100
    )
    assert [row for batch in loader for row in batch] == expected
    assert list(dataset) == expected


def test_the_copy_goes_with_the_object(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not with a pickled copy of it, nor in a forked process that lets go of its own."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dataset = ours.MinedDataset(world / "tuples.parquet")
    assert len(list(tmp_path.iterdir())) == 1
    copied = pickle.loads(pickle.dumps(dataset))
    assert copied[0] == dataset[0]
    del copied
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads
        child = os.fork()
    if child == 0:
        del dataset
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(tmp_path.iterdir())) == 1
    assert pickle.loads(pickle.dumps(dataset))[1] == dataset[1]
    del dataset
    gc.collect()
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="no column"):
        ours.MinedDataset(world / "tuples.parquet", columns=["text"])
    gc.collect()
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- MinedIterable


@pytest.mark.parametrize("buffer", [1, 9])
@pytest.mark.parametrize(("ranks", "workers"), [(1, 0), (1, 2), (2, 0), (4, 0), (4, 2)])
def test_every_row_goes_once_to_a_rank_and_worker(ranks: int, workers: int, buffer: int, world: Path) -> None:
    expected = [place_of(row) for row in rows_of(world / "parts")]
    streams = [
        ours.MinedIterable(world / "parts", fetch=place_of, rank=rank, world_size=ranks, buffer=buffer)
        for rank in range(ranks)
    ]
    seen = [list(data.DataLoader(each, batch_size=None, num_workers=workers, timeout=100 * (workers > 0)))
            for each in streams]  # fmt: skip
    assert [len(rows) for rows in seen] == [len(each) for each in streams] == [len(expected) // ranks] * ranks
    assert len(set(expected)) == len(expected)
    gone_round = expected[: len(expected) // ranks * ranks]
    assert Counter(row for rows in seen for row in rows) == Counter(gone_round)
    for rank, rows in enumerate(seen):
        assert set(rows) == set(gone_round[rank::ranks])
        assert (rows == gone_round[rank::ranks]) == (buffer == 1)


def test_rows_do_not_go_round_ranks(world: Path) -> None:
    """So that the test above is of a remainder, too."""
    assert len(rows_of(world / "parts")) % 4 != 0


def test_the_order_is_drawn_by_seed_and_epoch(world: Path) -> None:
    def order(seed: int, epoch: int, buffer: int = 20) -> list[Any]:
        stream = ours.MinedIterable(world / "parts", fetch=place_of, buffer=buffer, seed=seed)
        stream.set_epoch(epoch)
        assert list(stream) == list(stream)
        return list(stream)

    expected = [place_of(row) for row in rows_of(world / "parts")]
    orders = [order(seed, epoch, buffer) for seed in (0, 1) for epoch in (0, 1) for buffer in (20, 10_000)]
    assert len(set(map(tuple, [*orders, expected]))) == len(orders) + 1
    assert all(sorted(each) == sorted(expected) for each in orders)
    assert order(1, 1) == order(1, 1)
    assert order(1, 1, 1) == expected


@pytest.mark.parametrize("lasting", [False, True])
def test_workers_hear_of_the_epoch(lasting: bool, world: Path) -> None:
    """Those that last from epoch to epoch, too."""
    stream = ours.MinedIterable(world / "parts", fetch=place_of, buffer=20)
    loader = data.DataLoader(stream, batch_size=None, num_workers=2, persistent_workers=lasting, timeout=100)
    orders = []
    for epoch in (0, 1, 0):
        stream.set_epoch(epoch)
        orders.append(list(loader))
    assert orders[0] == orders[2] != orders[1]


def test_rows_of_a_stream_are_those_of_the_file(world: Path) -> None:
    assert list(ours.MinedIterable(world / "tuples.parquet")) == rows_of(world / "tuples.parquet")
    some = ours.MinedIterable(world / "tuples.parquet", columns=FACES, rank=1, world_size=2)
    assert list(some)[1] == {name: rows_of(world / "tuples.parquet")[3][name] for name in FACES}


@pytest.mark.parametrize("wrong", [{"rank": 2, "world_size": 2}, {"rank": -1}, {"world_size": 0}, {"buffer": 0}])
def test_streams_that_there_are_not(wrong: dict[str, int], world: Path) -> None:
    with pytest.raises(UsageError, match=r"rank .* buffer"):
        ours.MinedIterable(world / "parts", **wrong)


# ---------------------------------------------------------------- BatchSampler


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_yields_the_batches_of_the_file(workers: int, world: Path) -> None:
    sampler = ours.BatchSampler(world / "b.parquet")
    loader = data.DataLoader(
        ours.MinedDataset(world / "tuples.parquet"), batch_sampler=sampler, collate_fn=list, num_workers=workers,
        persistent_workers=workers > 0, timeout=100 * (workers > 0),
    )  # fmt: skip
    composed: dict[int, dict[int, list[Any]]] = {0: {}, 1: {}}
    for row in rows_of(world / "b.parquet"):
        composed[row["epoch"]].setdefault(row["batch"], []).append([row[name] for name in FACES])
    for epoch in (0, 1, 2):
        sampler.set_epoch(epoch)
        seen = [[[row[name] for name in FACES] for row in batch] for batch in loader]
        assert seen == list(composed[epoch % 2].values())
        assert len(loader) == len(sampler) == len(seen)
    assert composed[0] != composed[1]
    assert list(ours.BatchSampler(world / "b.parquet", epoch=1)) != list(ours.BatchSampler(world / "b.parquet"))


def train(rank: int, world: Path, epochs: int) -> None:
    """One of two processes that train a linear model together; it writes the rows that it saw, and its weights."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{world}/meeting", rank=rank, world_size=2, timeout=timedelta(seconds=60)
    )
    model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-5)
    sampler = ours.BatchSampler(world / "b.parquet", rank, 2)
    loader = data.DataLoader(ours.MinedDataset(world / "tuples.parquet", FACES), batch_sampler=sampler)
    seen: list[list[tuple[int, int]]] = []
    for epoch in range(epochs):
        sampler.set_epoch(epoch)
        seen.append([])
        for batch in loader:
            seen[-1] += zip(*(batch[name].tolist() for name in FACES), strict=True)
            rows = torch.stack([batch[name] for name in FACES], dim=1).float()
            optimizer.zero_grad()
            model(rows).square().mean().backward()
            optimizer.step()
    weights = [each.detach().tolist() for each in model.parameters()]
    dist.barrier()  # torch aborts now and then when a process ends while its model still has to do with the other
    del model, optimizer
    dist.destroy_process_group()
    (world / f"seen-{rank}.pickle").write_bytes(pickle.dumps((seen, weights)))


def test_two_processes_train_on_every_pair_once(world: Path) -> None:
    """The number of batches is odd, so that one rank would wait for the other if it had one more."""
    counts = [len(ours.BatchSampler(world / "b.parquet", epoch=epoch)) for epoch in (0, 1)]
    assert all(count % 2 for count in counts), counts
    context = torch.multiprocessing.spawn(train, (world, 2), nprocs=2, join=False)
    until = time.monotonic() + TRAINED_WITHIN
    try:
        while not context.join(timeout=1):
            assert time.monotonic() < until, "they do not end"
    finally:
        for process in context.processes:
            process.kill()
    (one, weights), (other, same) = (pickle.loads((world / f"seen-{rank}.pickle").read_bytes()) for rank in (0, 1))
    every = Counter(tuple(row[name] for name in FACES) for row in rows_of(world / "tuples.parquet"))
    for epoch in (0, 1):
        assert Counter(one[epoch] + other[epoch]) == every
    assert weights == same
