"""What was found, as rows of the output: triplets, pairs or tuples, with their losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.answers import Found
from minestream.config import MineConfig
from minestream.kernels import exact
from minestream.kernels.choose import NEARER_CAP
from minestream.load import Loaded
from minestream.losses import TRIPLET_LOSSES, contrastive
from minestream.metric import METRICS
from minestream.negatives import counts_nearer
from minestream.positives import Chosen
from minestream.stats import ShardStats

Slots = NDArray[np.int32]
Distances = NDArray[np.float64]

HARDER_BANDS = ("any", "hard", "violating")  # without a lower edge: the place in the band says how many are nearer


@dataclass(frozen=True)
class Picture:
    """One shard's answer: its anchors, their positives, and the negatives of every pair."""

    loaded: Loaded
    config: MineConfig
    anchors: Slots
    chosen: Chosen
    found: Found
    stats: ShardStats

    @property
    def decimals(self) -> pa.DataType:
        """The type of distances and losses."""
        return pa.float64() if self.config.float64 else pa.float32()


def emit(picture: Picture) -> pa.Table:
    """The rows of one shard, in the order of its part; counts them, and the time, into the shard's stats."""
    with picture.stats.stage("rows"):
        return EMITTERS[picture.config.emit](picture)


def schema_of(loaded: Loaded, config: MineConfig) -> pa.Schema:
    """The schema of the output."""
    nobody = np.empty(0, np.int32)
    nothing, start = np.empty(0, np.float64), np.zeros(1, np.int64)
    found = Found(start, nobody, nothing, nobody)
    return emit(Picture(loaded, config, nobody, Chosen(start, nobody, nothing), found, ShardStats())).schema


# ---------------------------------------------------------------- columns


def _named(loaded: Loaded, role: str, slots: Slots) -> dict[str, pa.Array]:
    return {} if loaded.ids is None else {f"{role}_id": loaded.ids.take(pa.array(slots))}


def _rows_of(loaded: Loaded, slots: Slots) -> pa.Array:
    return pa.array(loaded.source_row[slots], pa.int64())


def _carried(loaded: Loaded, role: str, slots: Slots) -> dict[str, pa.Array]:
    if loaded.carried is None:
        return {}
    table = loaded.carried.take(loaded.carried_place[slots])
    return {f"{role}_{name}": table[name].combine_chunks() for name in table.column_names}


def _plain(array: Any) -> pa.Array:
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _table(columns: dict[str, Any]) -> pa.Table:
    return pa.table({name: _plain(column) for name, column in columns.items()})


def _lists(lengths: NDArray[np.int64], values: pa.Array) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), _plain(values))


def _decimals(values: Distances, kind: pa.DataType) -> pa.Array:
    return pa.array(values).cast(kind, safe=False)


def _distances(loaded: Loaded, metric: str, left: Slots, right: Slots) -> Distances:
    """Canonical distances of pairs of slots."""
    out = np.empty(left.size, np.float64)
    square = loaded.rows.square
    for first in range(0, left.size, 65_536):
        a, b = left[first : first + 65_536], right[first : first + 65_536]
        unique, at = np.unique(np.concatenate([a, b]), return_inverse=True)
        rows = loaded.store.take(unique)
        exact.paired_distances(
            METRICS[metric].code,
            rows[at[: a.size]],
            square[a],
            rows[at[a.size :]],
            square[b],
            out[first : first + a.size],
        )
    return out


# ---------------------------------------------------------------- triplets and tuples


@dataclass(frozen=True)
class _Flat:
    """One entry a (anchor, positive, negative), in output order."""

    pair: NDArray[np.int64]
    place: NDArray[np.int64]  # among the pair's negatives
    anchor: Slots
    positive: Slots
    negative: Slots
    p: Distances
    x: Distances


def _flat(picture: Picture) -> _Flat:
    """All triplets that are written; counts full, short and empty pairs."""
    config, chosen, found = picture.config, picture.chosen, picture.found
    counts = np.diff(found.start)
    wanted = config.negatives
    stats = picture.stats
    stats.anchors += picture.anchors.size
    stats.pairs += counts.size
    stats.full += int((counts >= wanted).sum())
    stats.empty += int((counts == 0).sum())
    stats.short += int(((counts > 0) & (counts < wanted)).sum())
    pair = np.repeat(np.arange(counts.size), counts)
    place = np.arange(pair.size) - found.start[pair]
    anchor_of_pair = np.repeat(np.arange(picture.anchors.size), np.diff(chosen.start))
    keep = np.ones(pair.size, bool)
    if config.short_rows == "drop":
        keep &= counts[pair] >= wanted
    if config.negatives_per_anchor is not None:
        keep[keep] = _dealt(anchor_of_pair[pair[keep]], place[keep], pair[keep], config.negatives_per_anchor)
    pair, place = pair[keep], place[keep]
    return _Flat(
        pair,
        place,
        picture.anchors[anchor_of_pair[pair]],
        chosen.slot[pair],
        found.slot[keep],
        chosen.x[pair],
        found.x[keep],
    )


def _dealt(
    anchor: NDArray[np.int64], place: NDArray[np.int64], pair: NDArray[np.int64], most: int
) -> NDArray[np.bool_]:
    """Which entries an anchor keeps when it deals out `most`: every pair's first, then every pair's second, ..."""
    order = np.lexsort((pair, place, anchor))
    sorted_anchor = anchor[order]
    nth = np.arange(order.size) - np.searchsorted(sorted_anchor, sorted_anchor)
    keep = np.empty(order.size, bool)
    keep[order] = nth < most
    return keep


def _losses(picture: Picture, flat: _Flat, nearest_to: Distances) -> Distances | None:
    config = picture.config
    if config.margin is None or config.loss is None:
        return None
    return TRIPLET_LOSSES[config.loss](flat.p, nearest_to, config.margin)


def _count_losses(picture: Picture, stored: pa.Array, active: NDArray[np.bool_]) -> None:
    values = np.asarray(stored, np.float64)
    picture.stats.losses += values.size
    picture.stats.active_rows += int(active.sum())
    picture.stats.loss_sum += math.fsum(values)
    picture.stats.active_loss_sum += math.fsum(values[active])


def _harder(picture: Picture, flat: _Flat) -> pa.Array:
    """How many of the anchor's negatives precede each one; null where the scan does not know."""
    config = picture.config
    if config.pick == "nearest" and config.band in HARDER_BANDS:
        before = np.zeros(flat.pair.size, np.int64)
    elif counts_nearer(config):
        before = picture.found.nearer[flat.pair].astype(np.int64)
        first = picture.found.start[:-1][np.diff(picture.found.start) > 0]
        picture.stats.nearer_pairs += first.size
        picture.stats.nearer_passed_over += int(picture.found.nearer[np.diff(picture.found.start) > 0].sum())
    else:
        return pa.nulls(flat.pair.size, pa.int32())
    harder = np.minimum(before + config.skip + flat.place, NEARER_CAP)
    return pa.array(harder.astype(np.int32))


def _emit_triplets(picture: Picture) -> pa.Table:
    loaded, config = picture.loaded, picture.config
    flat = _flat(picture)
    roles = {"anchor": flat.anchor, "positive": flat.positive, "negative": flat.negative}
    columns: dict[str, Any] = {}
    for role, slots in roles.items():
        columns |= _named(loaded, role, slots)
    columns |= {f"{role}_row": _rows_of(loaded, slots) for role, slots in roles.items()}
    columns["distance_ap"] = _decimals(flat.p, picture.decimals)
    columns["distance_an"] = _decimals(flat.x, picture.decimals)
    nearest_to = flat.x
    if config.swap:
        distance_pn = _distances(loaded, config.metric, flat.positive, flat.negative)
        columns["distance_pn"] = _decimals(distance_pn, picture.decimals)
        nearest_to = np.minimum(flat.x, distance_pn)
    losses = _losses(picture, flat, nearest_to)
    if losses is not None and config.margin is not None:
        columns["loss"] = _decimals(losses, picture.decimals)
        _count_losses(picture, columns["loss"], flat.x < flat.p + config.margin)
    columns["harder"] = _harder(picture, flat)
    columns["anchor_label"] = loaded.labels.take(flat.anchor)
    columns["negative_label"] = loaded.labels.take(flat.negative)
    for role, slots in roles.items():
        columns |= _carried(loaded, role, slots)
    picture.stats.rows += flat.pair.size
    return _table(columns)


def _emit_tuples(picture: Picture) -> pa.Table:
    loaded, config = picture.loaded, picture.config
    flat = _flat(picture)
    pairs, first, lengths = np.unique(flat.pair, return_index=True, return_counts=True)
    single = {"anchor": flat.anchor[first], "positive": flat.positive[first]}
    columns: dict[str, Any] = {}
    for role, slots in single.items():
        columns |= _named(loaded, role, slots)
    if loaded.ids is not None:
        columns["negative_ids"] = _lists(lengths, loaded.ids.take(pa.array(flat.negative)))
    if config.scores != "none":
        columns["scores"] = _scores(picture, flat, first, lengths)
    losses = _losses(picture, flat, flat.x)
    if losses is not None and config.margin is not None:
        stored = _decimals(losses, picture.decimals)
        columns["losses"] = _lists(lengths, stored)
        _count_losses(picture, stored, flat.x < flat.p + config.margin)
    columns |= {f"{role}_row": _rows_of(loaded, slots) for role, slots in single.items()}
    columns["negative_rows"] = _lists(lengths, _rows_of(loaded, flat.negative))
    for role, slots in single.items():
        columns |= _carried(loaded, role, slots)
    for name, values in _carried(loaded, "negative", flat.negative).items():
        columns[f"{name}s"] = _lists(lengths, values)
    picture.stats.rows += pairs.size
    return _table(columns)


def _scores(picture: Picture, flat: _Flat, first: NDArray[np.int64], lengths: NDArray[np.int64]) -> pa.Array:
    """The positive's and the negatives' similarity or negative distance, a list a tuple."""
    order = np.argsort(np.concatenate([first * 2, np.arange(flat.pair.size) * 2 + 1]), kind="stable")
    x = np.concatenate([flat.p[first], flat.x])[order]
    similar = picture.config.scores == "similarity" and picture.config.metric == "cosine"
    return _lists(lengths + 1, _decimals(1.0 - x if similar else -x, picture.decimals))


# ---------------------------------------------------------------- pairs


def _emit_pairs(picture: Picture) -> pa.Table:
    """The pairs that this shard's anchors picked, each once, by (left_row, right_row)."""
    loaded, config, chosen, found = picture.loaded, picture.config, picture.chosen, picture.found
    counts = np.diff(found.start)
    wanted = config.negatives
    picture.stats.anchors += picture.anchors.size
    picture.stats.full += int((counts >= wanted).sum())
    picture.stats.empty += int((counts == 0).sum()) if wanted else 0
    picture.stats.short += int(((counts > 0) & (counts < wanted)).sum())
    of_positive = np.repeat(picture.anchors, np.diff(chosen.start))
    this = np.concatenate([of_positive, np.repeat(picture.anchors, counts)])
    other = np.concatenate([chosen.slot, found.slot])
    distance = np.concatenate([chosen.x, found.x])
    similar = np.arange(this.size) < of_positive.size
    left, right = np.minimum(this, other), np.maximum(this, other)  # slots are in row order
    order = np.lexsort((right, left))
    fresh = np.ones(order.size, bool)
    fresh[1:] = (np.diff(left[order]) != 0) | (np.diff(right[order]) != 0)
    order = order[fresh]
    left, right, distance, similar = left[order], right[order], distance[order], similar[order]
    roles = {"left": left, "right": right}
    columns: dict[str, Any] = {}
    for role, slots in roles.items():
        columns |= _named(loaded, role, slots)
    columns |= {f"{role}_row": _rows_of(loaded, slots) for role, slots in roles.items()}
    columns["label"] = pa.array(similar.astype(np.int64))
    columns["distance"] = _decimals(distance, picture.decimals)
    if config.margin is not None:
        columns["loss"] = _decimals(contrastive(distance, similar, config.margin), picture.decimals)
    for role, slots in roles.items():
        columns |= _carried(loaded, role, slots)
    picture.stats.rows += order.size
    return _table(columns)


EMITTERS: dict[str, Callable[[Picture], pa.Table]] = {
    "triplets": _emit_triplets,
    "pairs": _emit_pairs,
    "tuples": _emit_tuples,
}
