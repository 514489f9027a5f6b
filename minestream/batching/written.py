"""The rows of composed batches, and how near the negatives in them are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.batching.batches import Epoch
from minestream.batching.methods import Plan
from minestream.batching.pairs import MinedPairs
from minestream.inputs.dataset.vectors import pair_distances
from minestream.inputs.decode import lists_from
from minestream.kernels import batching
from minestream.system import ragged

PIECE_ROWS = 65_536
MEASURED = 1 << 21  # distances by which batches are measured


def tables(
    plan: Plan, pairs: MinedPairs, negatives: NDArray[np.int32], epochs: Iterator[Epoch], mask: bool
) -> Iterator[pa.Table]:
    """The rows of all epochs, batch by batch, as tables of whole batches; at least one.

    negatives : int32[entries], slots of `pairs.negative`
    """
    for number, epoch in enumerate(epochs):
        edges = [0]
        while edges[-1] < epoch.start.size - 1:
            within = int(np.searchsorted(epoch.start, epoch.start[edges[-1]] + PIECE_ROWS, side="right")) - 1
            edges.append(max(edges[-1] + 1, within))
        for first, end in zip(edges, [*edges[1:], edges[-1]], strict=True):
            if end > first or len(edges) == 1:
                yield _table(plan, pairs, negatives, (number, first, end), epoch, mask)


def _table(
    plan: Plan, pairs: MinedPairs, negatives: NDArray[np.int32], which: tuple[int, int, int], epoch: Epoch, mask: bool
) -> pa.Table:  # fmt: skip
    """Batches first ... end - 1 of epoch `number`: which = (number, first, end)."""
    number, first, end = which
    loaded, slots, role = plan.searcher.loaded, plan.slots, pairs.role
    start = epoch.start[first : end + 1] - epoch.start[first]
    pair = epoch.pair[epoch.start[first] : epoch.start[end]]
    ends = {role: slots.anchor[pair], "positive": slots.positive[pair]}
    columns: dict[str, Any] = {
        "epoch": np.full(pair.size, number, np.int32), "batch": (first + ragged.owners(start)).astype(np.int32),
        "place": ragged.nth(start).astype(np.int32), "pair_row": pairs.first[pair],
    }  # fmt: skip
    columns |= {f"{name}_id": loaded.table(name).take_ids(slot) for name, slot in ends.items()}
    columns |= {f"{role}_row": pairs.anchor[pair], "positive_row": pairs.positive[pair]}
    if pairs.start.size:
        own, entry = ragged.take(pairs.start, pair)
        ids = loaded.table("negative").take_ids(negatives[entry])
        columns["negative_ids"] = None if ids is None else lists_from(ragged.lengths(own), ids)
        columns["negative_rows"] = lists_from(ragged.lengths(own), pa.array(pairs.negative[entry]))
    if mask:
        columns["false_negatives"] = _marked(plan, start, pair)
    return pa.table({name: pa.array(column) if isinstance(column, np.ndarray) else column
                     for name, column in columns.items() if column is not None})  # fmt: skip


def _false(plan: Plan, members: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which positives of a batch are false negatives of which anchors, bool[m, m], even where those may meet."""
    out = np.empty((members.size, members.size), bool)
    batching.mark(plan.slots._replace(related=True), members, out)
    return out


def _marked(plan: Plan, start: NDArray[np.int64], pair: NDArray[np.int64]) -> pa.Array:
    """Of each row the places in its batch whose positives are false negatives of its anchor: list<int32>."""
    places = [np.nonzero(_false(plan, pair[a:b])) for a, b in zip(start[:-1].tolist(), start[1:].tolist(), strict=True)]
    row = np.concatenate([np.empty(0, np.int64), *(at + a for (at, _), a in zip(places, start.tolist(), strict=False))])
    place = np.concatenate([np.empty(0, np.int64), *(found for _, found in places)])
    return lists_from(np.bincount(row, minlength=pair.size), pa.array(place.astype(np.int32)))


def nearest_in_batch(plan: Plan, metric: str, epoch: Epoch) -> float | None:
    """The mean distance of anchors to the nearest negative in their batch, of batches spread evenly; None: no batch."""
    loaded, slots, sizes = plan.searcher.loaded, plan.slots, ragged.lengths(epoch.start)
    if not sizes.size:
        return None
    few = min(sizes.size, max(1, MEASURED // max(1, int(sizes.max()) ** 2)))
    found = []
    for batch in np.linspace(0, sizes.size - 1, few).astype(np.int64).tolist():
        members = epoch.pair[epoch.start[batch] : epoch.start[batch + 1]]
        left, right = np.repeat(slots.anchor[members], members.size), np.tile(slots.positive[members], members.size)
        x = pair_distances(loaded.store, loaded.rows.square, metric, left, right).reshape(members.size, -1)
        x[_false(plan, members) | np.eye(members.size, dtype=bool)] = np.inf
        found.append(x.min(axis=1))
    nearest = np.concatenate(found)
    return float(nearest[np.isfinite(nearest)].mean()) if np.isfinite(nearest).any() else None
