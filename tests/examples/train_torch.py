"""Train a small embedding on mined triplets with plain PyTorch and pytorch-metric-learning: seconds on a CPU.

Run `minestream sample digits.parquet` first: it reads that file in the working directory.
"""

import numpy as np
import pyarrow.parquet as pq
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.losses import TripletMarginLoss

import minestream

digits = pq.read_table("digits.parquet")
pixels = torch.tensor(np.stack(digits["embedding"].to_numpy()))
labels = torch.tensor(digits["label"].to_numpy())
train, held_out = slice(0, 1200), slice(1200, None)


def show(epoch: int, losses: np.ndarray, embedded: torch.Tensor) -> None:
    """Print what was mined, and how many held-out rows have their label on the nearest other row."""
    unit = torch.nn.functional.normalize(embedded[held_out])
    nearest = (unit @ unit.T).fill_diagonal_(-2).argmax(1)
    recall = (labels[held_out][nearest] == labels[held_out]).float().mean()
    print(f"epoch {epoch}: {len(losses):,} triplets, mean loss {losses.mean():.4f}, recall@1 held out {recall:.3f}")


torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 8))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_function = TripletMarginLoss(margin=0.2, distance=CosineSimilarity())

for epoch in range(8):
    with torch.no_grad():
        embedded = model(pixels)
    found = minestream.mine_arrays(embedded[train], labels[train], positives="random", positives_per_anchor=4)
    show(epoch, found.loss, embedded)
    triplets = found.torch()
    rows = torch.stack([triplets["anchor"], triplets["positive"], triplets["negative"]])
    for batch in rows[:, torch.randperm(rows.shape[1])].split(256, dim=1):
        indices = tuple(torch.arange(batch.numel()).view(3, -1))  # of anchors, positives, negatives in the batch
        loss = loss_function(model(pixels[train][batch.flatten()]), indices_tuple=indices)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
