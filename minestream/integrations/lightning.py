"""Composed batches for Lightning's Trainer.

Trainer(max_epochs=3).fit(model, datamodule=MinedDataModule("hard.parquet", "batches.parquet", fetch=texts_of))
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from minestream.errors import UsageError
from minestream.integrations import extra

with extra("lightning"):
    import torch.utils.data as data
    from lightning.pytorch import LightningDataModule

    from minestream.integrations.torch import BatchSampler, MinedDataset, Row

AnyFile = str | os.PathLike[str]


class MinedDataModule(LightningDataModule):
    """Trains on the batches of `minestream batch`: epoch e on composed epoch e, begun again after the last.

    Parameters
    ----------
    path : path
        A mined file or folder.
    batches : path
        The batches that were composed of it.
    columns, fetch
        As of MinedDataset.
    **loader
        Of the DataLoader: collate_fn, num_workers, pin_memory, ...

    Notes
    -----
    Rank and number of ranks are those of the trainer. Every rank has as many batches, its own, and every pair is seen
    once, whatever use_distributed_sampler is. A training that goes on from a checkpoint has the batches of its epoch,
    from the first. For validation add a val_dataloader in a subclass.

    Raises
    ------
    UsageError
        When the batches are of another number of rows, or the trainer has overfit_batches.
    """

    def __init__(
        self, path: AnyFile, batches: AnyFile, columns: Sequence[str] | None = None,
        fetch: Callable[[Row], Any] | None = None, **loader: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        self._path, self._batches, self._columns, self._fetch = path, batches, columns, fetch
        self._loader = {"collate_fn": data.default_collate, **loader}

    @cached_property
    def rows(self) -> MinedDataset:
        """The rows of the mined output, read once in every process."""
        return MinedDataset(self._path, self._columns, self._fetch)

    def train_dataloader(self) -> data.DataLoader[Any]:
        """A loader of the batches of this rank."""
        trainer = self.trainer
        if trainer is not None and trainer.overfit_batches:
            raise UsageError("overfit_batches takes rows in place of composed batches", "use limit_train_batches")
        dealt = (trainer and trainer.distributed_sampler_kwargs) or {"rank": 0, "num_replicas": 1}
        sampler = _Sampler(self._batches, dealt["rank"], dealt["num_replicas"], trainer.current_epoch if trainer else 0)
        sampler.refuse_other_rows(len(self.rows))
        return data.DataLoader(_Lists(self.rows), batch_size=None, sampler=sampler, **self._loader)


class _Lists(data.Dataset[Any]):
    """A dataset whose items are lists of rows."""

    def __init__(self, rows: MinedDataset) -> None:
        self._rows = rows

    def __getitem__(self, numbers: list[int]) -> list[Any]:
        return [self._rows[number] for number in numbers]


class _Sampler(BatchSampler, data.DistributedSampler[Any]):
    """Lists of rows as the items of a sampler.

    Lightning tells a batch_sampler no epoch, and refuses one for several ranks, but leaves a DistributedSampler alone.
    """

    def __len__(self) -> int:
        """The number of batches, where epochs have the same: Lightning asks once, and ends each when it is reached."""
        counts = {self._batches.count(epoch) for epoch in range(self._batches.epochs)}
        if len(counts) > 1:
            raise TypeError(f"epochs have {sorted(counts)} batches")
        return counts.pop()

    def refuse_other_rows(self, count: int) -> None:
        if self._batches.pair_rows != count:
            raise UsageError(
                f"{self._batches.path} is of {self._batches.pair_rows:,} rows, and the mined output has {count:,}",
                "give the output that the batches were composed of",
            )
