"""Composed batches in Lightning's Trainer: epoch by epoch, on one rank and on two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import minestream
from minestream import UsageError

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]
torch = pytest.importorskip("torch")
L = pytest.importorskip("lightning")

from minestream.integrations.lightning import MinedDataModule  # noqa: E402
from minestream.integrations.torch import BatchSampler, MinedDataset  # noqa: E402

QUIET = {"progress": "none"}
TRAINED_WITHIN = 200  # seconds for two processes to start, train and end on a machine with other work
QUIETLY = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}
Pair = tuple[int, int]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a mined output with its texts, batches of two epochs, and batches of another output."""
    folder = tmp_path_factory.mktemp("world")
    rng = np.random.default_rng(0)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=4 * 93).astype(np.float32)), 4)
    table = {"label": np.arange(93) // 3, "embedding": vectors, "text": [f"text {row}" for row in range(93)]}
    pq.write_table(pa.table(table), folder / "rows.parquet")
    mine = {"emit": "tuples", "band": "any", "carry": "text", **QUIET}
    minestream.mine(folder / "rows.parquet", folder / "hard.parquet", **mine)
    minestream.mine(folder / "rows.parquet", folder / "other.parquet", positives="all", **mine)
    how = {"batch_size": 5, "epochs": 2, "keep_last": True, **QUIET}
    for name in ("hard", "other"):
        minestream.batch(folder / f"{name}.parquet", folder / f"batches-of-{name}.parquet", **how)
    return folder


def pair_of(row: dict[str, Any]) -> Any:
    return torch.tensor([row["anchor_row"], row["positive_row"]])


class Model(L.LightningModule):  # type: ignore[misc]  # of a library that is not there when types are checked
    """Keeps the pairs of each batch by epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(2, 1), {}
        self.validated = 0

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-5)

    def training_step(self, batch: Any, number: int) -> Any:
        self.seen.setdefault(self.current_epoch, []).append([tuple(pair) for pair in batch.tolist()])
        return self.layer(batch.float()).square().mean()

    def validation_step(self, batch: Any, number: int) -> None:
        self.validated += 1


def composed(batches: Path) -> dict[int, list[list[Pair]]]:
    """The pairs of each batch of each epoch of a file."""
    epochs: dict[int, dict[int, list[Pair]]] = {}
    for row in pq.read_table(batches).to_pylist():
        pairs = epochs.setdefault(row["epoch"], {}).setdefault(row["batch"], [])
        pairs.append((row["anchor_row"], row["positive_row"]))
    return {epoch: list(found.values()) for epoch, found in epochs.items()}


def trainer(folder: Path, **options: Any) -> Any:
    return L.Trainer(
        **{"default_root_dir": folder, "enable_checkpointing": False, "max_epochs": 3, **QUIETLY, **options}
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_every_epoch_has_its_batches(
    workers: int, world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(world)
    model, epochs, more = Model(), composed(Path("batches-of-hard.parquet")), {"persistent_workers": workers > 0}
    before = model.layer.weight.clone()
    rows = MinedDataModule("hard.parquet", "batches-of-hard.parquet", fetch=pair_of, num_workers=workers, **more)
    fitted = trainer(tmp_path)
    fitted.fit(model, datamodule=rows)
    assert model.seen == {0: epochs[0], 1: epochs[1], 2: epochs[0]}
    assert epochs[0] != epochs[1]
    assert fitted.num_training_batches == len(epochs[0]) == len(epochs[1])
    assert not torch.equal(model.layer.weight, before)


def test_a_training_that_goes_on_has_the_batches_of_its_epoch(world: Path, tmp_path: Path) -> None:
    batches = world / "batches-of-hard.parquet"
    rows = {"path": world / "hard.parquet", "batches": batches, "fetch": pair_of}
    first, then, epochs = Model(), Model(), composed(batches)
    begun = trainer(tmp_path, max_epochs=1)
    begun.fit(first, datamodule=MinedDataModule(**rows))
    begun.save_checkpoint(tmp_path / "one.ckpt")
    trainer(tmp_path, max_epochs=2).fit(then, datamodule=MinedDataModule(**rows), ckpt_path=tmp_path / "one.ckpt")
    assert then.seen == {1: epochs[1]}


class WithValidation(MinedDataModule):
    def val_dataloader(self) -> Any:
        return torch.utils.data.DataLoader(torch.zeros(1, 2))


@pytest.mark.parametrize("fewer", [0, 1])
def test_epochs_with_other_numbers_of_batches_are_whole(fewer: int, world: Path, tmp_path: Path) -> None:
    """The second with more, and with fewer, than the first; and validation at the end of each."""
    about = pq.read_metadata(world / "batches-of-hard.parquet").metadata
    table = pq.read_table(world / "batches-of-hard.parquet")
    less = (table["epoch"].to_numpy() == fewer) & (table["batch"].to_numpy() > 15)
    pq.write_table(table.filter(pa.array(~less)).replace_schema_metadata(about), tmp_path / "b.parquet")
    model, epochs = Model(), composed(tmp_path / "b.parquet")
    assert len(epochs[fewer]) < len(epochs[1 - fewer])
    rows = WithValidation(world / "hard.parquet", tmp_path / "b.parquet", fetch=pair_of)
    trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0).fit(model, datamodule=rows)
    assert model.seen == epochs
    assert model.validated == 2


def test_what_a_row_is(world: Path) -> None:
    """By default a dict of columns, collated as torch does; without a trainer those of one rank."""
    rows = MinedDataModule(world / "hard.parquet", world / "batches-of-hard.parquet", ["anchor_row", "anchor_text"])
    batch = next(iter(rows.train_dataloader()))
    assert batch.keys() == {"anchor_row", "anchor_text"}
    assert batch["anchor_text"] == [f"text {row}" for row in batch["anchor_row"].tolist()]
    lists = MinedDataModule(world / "hard.parquet", world / "batches-of-hard.parquet", fetch=pair_of, collate_fn=list)
    assert {type(batch) for batch in lists.train_dataloader()} == {list}
    assert [len(batch) for batch in lists.train_dataloader()] == [len(b) for b in composed(lists._batches)[0]]


def test_what_is_refused(world: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"batches-of-other\.parquet is of \d+ rows, and the mined output has 93"):
        MinedDataModule(world / "hard.parquet", world / "batches-of-other.parquet").train_dataloader()
    rows = MinedDataModule(world / "hard.parquet", world / "batches-of-hard.parquet", fetch=pair_of)
    with pytest.raises(UsageError, match="overfit_batches"):
        trainer(tmp_path, overfit_batches=1).fit(Model(), datamodule=rows)


# ---------------------------------------------------------------- two ranks


def train(world: Path, folder: Path, kind: str) -> None:
    """In each of two processes: the second is started by Lightning."""
    torch.set_num_threads(1)
    model, rows = Model(), MinedDataModule(world / "hard.parquet", world / "batches-of-hard.parquet", fetch=pair_of)
    options = {"devices": 2, "strategy": "ddp", "max_epochs": 2, "use_distributed_sampler": kind == "by default"}
    fitted = trainer(folder, **options)
    fitted.fit(model, datamodule=rows)
    seen = [model.seen, model.layer.weight.tolist()]
    (folder / f"seen-{fitted.global_rank}.json").write_text(json.dumps(seen))


@pytest.mark.parametrize("kind", ["by default", "without samplers of Lightning"])
def test_two_ranks_train_on_every_pair_once(kind: str, world: Path, tmp_path: Path) -> None:
    """As many batches each: their number is odd, so that one would wait for the other."""
    epochs = composed(world / "batches-of-hard.parquet")
    assert len(epochs[0]) % 2 == len(epochs[1]) % 2 == 1
    command = [sys.executable, __file__, str(world), str(tmp_path), kind]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        said = process.communicate(timeout=TRAINED_WITHIN)[0].decode()
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said
    (one, weights), (other, same) = (json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in (0, 1))
    for epoch in ("0", "1"):
        assert len(one[epoch]) == len(other[epoch]) == (len(epochs[int(epoch)]) + 1) // 2
        pairs = Counter(tuple(pair) for batch in one[epoch] + other[epoch] for pair in batch)
        assert pairs == Counter(pair for batch in epochs[int(epoch)] for pair in batch)
    assert one["0"] != one["1"]
    assert weights == same


def test_a_batch_sampler_alone_would_not_do(world: Path, tmp_path: Path) -> None:
    """What the module is for, beside ranks: Lightning tells no batch_sampler its epoch."""
    sampler = BatchSampler(world / "batches-of-hard.parquet")
    loader = torch.utils.data.DataLoader(MinedDataset(world / "hard.parquet", fetch=pair_of), batch_sampler=sampler)
    model = Model()
    trainer(tmp_path, max_epochs=2).fit(model, loader)
    assert model.seen[0] == model.seen[1]


if __name__ == "__main__":
    train(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
