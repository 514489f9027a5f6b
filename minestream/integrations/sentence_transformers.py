"""Composed batches for the trainers of sentence-transformers.

args = SentenceTransformerTrainingArguments("model", batch_sampler=batch_sampler("batches.parquet", train))
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch.distributed as dist
from sentence_transformers.base.sampler import DefaultBatchSampler
from torch.utils.data import RandomSampler

from minestream.errors import UsageError
from minestream.integrations.batches import Batches

AnyFile = str | os.PathLike[str]


class batch_sampler:  # noqa: N801 (it is called as a function)
    """The batches of `minestream batch`, as `batch_sampler` of the training arguments.

    Parameters
    ----------
    batches : path, or dict of paths by name of a dataset
    datasets : Dataset, or dict of them
        What the trainer gets as train_dataset, the same objects: it asks for the batches of each dataset by itself
        and tells no name. Their rows are those of the mined files (or of --qrels), all and in their order.

    Notes
    -----
    Epoch e of the training has the batches of composed epoch e, begun again after the last. The trainer plans with
    the number of batches of the fullest epoch. With several processes each has as many batches: whole rounds of full
    ones, and the rest is left out with a warning; in one process drop_last leaves out what is not full. A dataset
    that is not named here, such as an eval_dataset, has the trainer's own batches, with a warning.

    Raises
    ------
    UsageError
        When a dataset has another number of rows than `pair_row` numbers, or the trainer another batch size.
    """

    def __init__(self, batches: AnyFile | Mapping[str, AnyFile], datasets: Any | Mapping[str, Any]) -> None:
        files = batches if isinstance(batches, Mapping) else {"": batches}
        named = datasets if isinstance(batches, Mapping) else {"": datasets}
        if files.keys() != named.keys():
            raise UsageError(f"batches of {sorted(files)}, datasets {sorted(named)}", "name a file for each dataset")
        self._known: list[tuple[Batches, Any]] | None = [(Batches(files[name]), named[name]) for name in files]
        for composed, dataset in self._known:
            if len(dataset) != composed.pair_rows:
                raise UsageError(
                    f"{composed.path} is of {composed.pair_rows:,} rows, and the dataset has {len(dataset):,}",
                    "give the rows that pair_row numbers, all and in their order, or compose batches of these",
                )

    def __getstate__(self) -> dict[str, Any]:
        """The trainer saves its arguments with each model: datasets do not go along."""
        return {"_known": None}

    def __call__(self, dataset: Any, **how: Any) -> DefaultBatchSampler:
        """The batches of one dataset, as the trainer asks for them."""
        if self._known is None:
            raise UsageError("saved arguments hold no batches", "set their batch_sampler anew")
        for composed, own in self._known:
            if own is dataset:
                return ComposedBatches(composed, dataset, **how)
        if any(len(own) == len(dataset) for _, own in self._known):
            raise UsageError("the trainer has a copy of a dataset", "give batch_sampler the very object that it gets")
        what = f"no file of batches for a dataset of {len(dataset):,} rows: it has the trainer's own"
        warnings.warn(what, stacklevel=2)
        return DefaultBatchSampler(RandomSampler(dataset, generator=how.get("generator")), **how)


class ComposedBatches(DefaultBatchSampler):
    """The batches of one dataset; see batch_sampler."""

    def __init__(self, batches: Batches, dataset: Any, **how: Any) -> None:
        super().__init__(dataset, **how)
        self._batches, self._ranks = batches, dist.get_world_size() if dist.is_initialized() else 1
        self._begun = self._seeded()
        if self.batch_size != batches.batch_size:
            raise UsageError(
                f"{batches.path} has batches of {batches.batch_size}, the trainer of {self.batch_size}",
                f"per_device_train_batch_size={batches.batch_size}, or compose batches of {self.batch_size}",
            )
        counts = [len(self._of(epoch)) for epoch in range(batches.epochs)]
        left_out = sum(map(batches.count, range(batches.epochs))) - sum(counts)
        self._count = max(counts)
        if min(counts) == 0:
            raise UsageError(
                f"{batches.path} has too few full batches for {self._ranks} processes", "compose smaller ones"
            )
        if left_out and self._ranks > 1:
            warnings.warn(f"{batches.path}: {left_out:,} batches make no full round of {self._ranks}", stacklevel=2)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        """The batches of the trainer's epoch; where it mixes datasets, the seed of the generator alone tells it."""
        return iter(self._of(self.epoch + self._seeded() - self._begun))

    def _seeded(self) -> int:
        return self.generator.initial_seed() if self.generator else 0

    def _of(self, epoch: int) -> list[list[int]]:
        """The batches of an epoch, in the order in which processes take turns."""
        rows = [batch.tolist() for batch in self._batches.of(epoch)]
        if self._ranks > 1 or self.drop_last:  # what several processes share out are full batches
            rows = [batch for batch in rows if len(batch) == self.batch_size]
        return rows[: len(rows) - len(rows) % self._ranks]
