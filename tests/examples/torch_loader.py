"""Mined triplets as a torch IterableDataset, read by two forked workers: `torch_loader.py EMBEDDINGS MINED`.

Each worker reads its share of the row groups; vectors are looked up by row in one memory that all workers share.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

ROLES = ("anchor_row", "positive_row", "negative_row")


class Triplets(IterableDataset):
    """Row numbers of (anchor, positive, negative), int64 (m, 3), part by part."""

    def __init__(self, mined: str) -> None:
        self.mined = mined

    def __iter__(self) -> Iterator[torch.Tensor]:
        worker = get_worker_info()
        number, workers = (worker.id, worker.num_workers) if worker else (0, 1)
        groups = [group for part in ds.dataset(self.mined).get_fragments() for group in part.split_by_row_group()]
        for group in groups[number::workers]:
            for batch in group.to_batches(columns=list(ROLES), batch_size=4096):
                yield torch.stack([torch.from_numpy(batch[role].to_numpy().copy()) for role in ROLES], dim=1)


def main() -> None:
    """Go through all triplets once; say how many there were, and their mean loss."""
    embeddings, mined = sys.argv[1:]
    column = pq.read_table(embeddings)["embedding"].combine_chunks()
    vectors = torch.from_numpy(column.flatten().to_numpy().reshape(len(column), -1).copy()).float()
    vectors = torch.nn.functional.normalize(vectors).share_memory_()
    loader = DataLoader(Triplets(mined), batch_size=None, num_workers=2, multiprocessing_context="fork")
    count, total = 0, 0.0
    for rows in loader:
        anchor, positive, negative = vectors[rows].unbind(dim=1)
        count += len(rows)
        total += torch.relu((anchor * (negative - positive)).sum(dim=1) + 0.2).sum().item()
    print(f"{count} triplets, mean loss {total / count:.4f}")


if __name__ == "__main__":
    main()
