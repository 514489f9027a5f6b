"""Exact miners for pytorch-metric-learning: of a batch or a memory of theirs, and of a window that the miner keeps.

miner = WindowMiner(window=65_536, band="semi-hard", positives="random")
loss = loss_function(embeddings, labels, miner(embeddings, labels), miner.ref_emb, miner.ref_labels)
"""

from __future__ import annotations

from typing import Any, Unpack

from minestream.config.keywords import ArrayOptions, WindowOptions
from minestream.config.resolve import asked_options
from minestream.errors import UsageError
from minestream.integrations import extra
from minestream.mining.arrays import mine_arrays
from minestream.mining.stream.miner import Miner

with extra("pytorch-metric-learning"):
    import torch
    from pytorch_metric_learning.miners import BaseMiner

Rows = tuple[torch.Tensor, ...]


class TripletMiner(BaseMiner):
    """Mines the triplets of a batch, or of a batch and a memory: `CrossBatchMemory(loss, size, miner=TripletMiner())`.

    Parameters
    ----------
    **options
        Those of mine_arrays() but emit: band, negatives, positives, metric, margin, ...

    Attributes
    ----------
    notes : tuple of str
        Of the last batch: what was left out, and notes about the options.

    Notes
    -----
    With `positives="all"` and as many negatives as there are rows, the bands violating, hard, semi-hard and easy are
    the types all, hard, semihard and easy of TripletMarginMiner. Their distance by default is `metric="euclidean",
    normalize=True`, their CosineSimilarity `metric="cosine"`.

    A CrossBatchMemory holds the anchor itself, and removes the triplets whose positive that is. It is taken as one
    only where others are too few, or with `positives="all"`.
    """

    def __init__(self, **options: Unpack[ArrayOptions]) -> None:
        super().__init__()
        self._options = _of_triplets(options)
        asked_options(self._options, function="TripletMiner")  # now, not at the first batch
        self.notes: tuple[str, ...] = ()

    def mine(self, embeddings: Any, labels: Any, ref_emb: Any, ref_labels: Any) -> Rows:
        """The rows of anchors in the batch, of positives and negatives in ref_emb."""
        memory = {} if ref_emb is embeddings else {"corpus": ref_emb, "corpus_labels": ref_labels}
        known, counts = (torch.cat([labels, ref_labels]) if memory else labels).unique(return_counts=True)
        positives = torch.isin(labels, ref_labels) if memory else counts > 1
        if (
            len(known) < 2 or not positives.any()
        ):  # which mine_arrays takes for wrong labels, and is a batch like others
            return tuple(labels.new_empty(0, dtype=torch.int64) for _ in range(3))
        found = mine_arrays(embeddings, labels, **memory, **self._options)
        self.notes = found.notes
        rows = found.query if memory else found.anchor, found.positive, found.negative
        return tuple(torch.from_numpy(each).to(embeddings.device) for each in rows)


class WindowMiner(BaseMiner):
    """Mines each row of a batch among the `window` rows before it, of this batch and of those before.

    The losses take its triplets with `ref_emb` and `ref_labels`, in which they number positives and negatives.

    Parameters
    ----------
    window : int
        Rows that are remembered, as they were embedded then.
    **options
        Those of Miner() but emit: band, negatives, positives, metric, margin, ...

    Attributes
    ----------
    ref_emb, ref_labels : tensors
        The rows of the last batch, behind them those of the window that its triplets name; without gradients.

    Notes
    -----
    The triplets are those of a CrossBatchMemory of window + 1 rows that is fed row by row, however the rows are cut
    into batches. A state_dict does not hold the window: a loaded miner begins anew.
    """

    def __init__(self, window: int, **options: Unpack[WindowOptions]) -> None:
        super().__init__()
        self._miner = Miner(window, **_of_triplets(options))
        self._window, self._seen = window, 0
        self._kept: Rows = ()  # vectors and labels: row r at r mod window

    @property
    def notes(self) -> list[str]:
        """Notes about the options and the rows so far, one line each."""
        return self._miner.notes

    def mine(self, embeddings: Any, labels: Any, ref_emb: Any, ref_labels: Any) -> Rows:
        """The rows of anchors in the batch, of positives and negatives in the ref_emb of this object."""
        if ref_emb is not embeddings:
            raise UsageError("WindowMiner takes no ref_emb: it keeps rows itself", "TripletMiner takes a memory")
        table = self._miner.feed({"embedding": embeddings, "label": labels})
        first, self._seen = self._seen, self._seen + len(embeddings)
        anchor, *others = (
            torch.from_numpy(table[name].to_numpy(zero_copy_only=False).copy()).to(embeddings.device)
            for name in ("anchor_row", "positive_row", "negative_row")
        )
        batch = embeddings, labels
        self._kept = self._kept or tuple(each.new_zeros((self._window, *each.shape[1:])) for each in batch)
        before = torch.cat(others).unique()
        before = before[before < first]
        self.ref_emb, self.ref_labels = (
            torch.cat([new, old[before % self._window]]) for new, old in zip(batch, self._kept, strict=True)
        )
        last = torch.arange(max(first, self._seen - self._window), self._seen, device=embeddings.device)
        for new, old in zip(batch, self._kept, strict=True):
            old[last % self._window] = new[last - first]
        placed = (torch.searchsorted(before, rows) + len(embeddings) for rows in others)
        return anchor - first, *(
            torch.where(rows < first, place, rows - first) for rows, place in zip(others, placed, strict=True)
        )


def _of_triplets(options: Any) -> Any:
    if options.get("emit", "triplets") != "triplets":
        raise UsageError(f"a miner gives triplets, not {options['emit']}", "leave emit out")
    return {**options, "emit": "triplets"}
