"""--max-uses: each pair keeps some of its reserve of negatives, so that no row is a negative too often."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream.config.mine_config import MineConfig
from minestream.inputs.dataset.draws import Keys, prefixes
from minestream.kernels import draw, max_uses
from minestream.outputs.rows import count_pairs, dealt, full_from, keeps_empty
from minestream.system import ragged
from minestream.system.stats import ShardStats

TAG_USES = 5
Mask = NDArray[np.bool_]


class Reserves:
    """The reserves of all parts: the negatives of every pair, best first. Memory: 17 bytes a row of the parts.

    A pair without negatives has one row, without a distance; its negative is -1 here.
    """

    def __init__(self, paths: Sequence[Path], anchor_column: str) -> None:
        names = (anchor_column, "positive_row", "negative_row")
        columns: list[list[NDArray[np.int64]]] = [[], [], []]
        self.rows = []
        for path in paths:
            table = pq.read_table(path, columns=[*names, "distance_an"])
            none = np.isnan(table["distance_an"].to_numpy())
            self.rows.append(table.num_rows)
            for name, pieces in zip(names, columns, strict=True):
                pieces.append(table[name].to_numpy().astype(np.int64, copy=False))
            columns[2][-1] = np.where(none, -1, columns[2][-1])
        anchor, positive, self.negative = (np.concatenate(pieces) for pieces in columns)
        first = ragged.runs(anchor, positive)
        self.start = np.append(first, anchor.size)
        self.anchor, self.positive = anchor[first], positive[first]

    def turns(self, seed: int, keys: dict[str, Keys]) -> NDArray[np.int64]:
        """The pairs in order of draw 5; equal draws in key order."""
        of_anchor, of_candidate = keys["anchor"], keys["candidate"]
        out = np.empty(self.anchor.size, np.uint64)
        own = prefixes(seed, TAG_USES, of_anchor.draw_key[self.anchor], of_candidate.draw_key[self.positive])
        draw.draws(own, np.zeros(out.size, np.uint64), out)
        return np.lexsort((of_candidate.rank[self.positive], of_anchor.rank[self.anchor], out))


def kept_uses(config: MineConfig, paths: Sequence[Path], keys: dict[str, Keys], total: ShardStats) -> list[Mask]:
    """Which rows of each part stay; sets the counts and losses of `total` to those of what stays."""
    reserves = Reserves(paths, f"{config.anchor_role}_row")
    keep = np.zeros(reserves.negative.size, bool)
    used = np.zeros(keys["candidate"].rank.size + 1, np.int64)
    used[-1] = most = config.max_uses or 0  # -1 is never taken
    turns = reserves.turns(config.seed, keys)
    max_uses.deal_uses(turns, reserves.start, reserves.negative, most, config.negatives, used, keep)
    pair = ragged.owners(reserves.start)
    counts = ragged.lengths(ragged.kept(reserves.start, keep))
    without = total.pairs - counts.size
    total.full = total.short = total.empty = 0
    wanted = full_from(config, counts, reserves.anchor)
    count_pairs(total, counts, wanted)
    total.empty += without
    found = ragged.lengths(ragged.kept(reserves.start, reserves.negative >= 0))
    total.drop("hub cap", int((np.minimum(found, config.negatives) - np.minimum(counts, config.negatives)).sum()))
    if config.short_rows == "drop":
        keep &= (counts >= wanted)[pair]
    if config.negatives_per_anchor is not None:
        at = np.flatnonzero(keep)
        place = ragged.nth_of_run(pair[at])
        keep[at] = dealt(reserves.anchor[pair[at]], place, pair[at], config.negatives_per_anchor)
    if config.emit == "tuples":
        total.rows = counts.size if keeps_empty(config) else np.unique(pair[keep]).size
    else:
        total.rows = int(keep.sum())
    masks = np.split(keep, np.cumsum(reserves.rows)[:-1])
    _count_losses(config, paths, masks, total)
    return masks


def _count_losses(config: MineConfig, paths: Sequence[Path], masks: Sequence[Mask], total: ShardStats) -> None:
    sums, active_sums = [], []
    total.losses = total.active_rows = 0
    for table in kept_tables(paths, masks, ["distance_ap", "distance_an", "loss"]) if config.margin is not None else ():
        p, x, loss = (table[name].to_numpy() for name in ("distance_ap", "distance_an", "loss"))
        active = x < p + (config.margin or 0.0)
        stored = (loss if config.float64 else loss.astype(np.float32)).astype(np.float64)
        total.losses += stored.size
        total.active_rows += int(active.sum())
        sums.append(math.fsum(stored))
        active_sums.append(math.fsum(stored[active]))
    total.loss_sum, total.active_loss_sum = math.fsum(sums), math.fsum(active_sums)


def kept_tables(paths: Sequence[Path], masks: Sequence[Mask], names: list[str] | None = None) -> Iterator[pa.Table]:
    """The rows that stay, part by part."""
    for path, mask in zip(paths, masks, strict=True):
        yield pq.read_table(path, columns=names).filter(pa.array(mask))


def as_stored(table: pa.Table, float64: bool) -> pa.Table:
    """The same table with distances, losses and scores in the type that the output has."""
    if float64:
        return table
    fields = [
        field.with_type(pa.float32())
        if field.type == pa.float64() and field.name.startswith(("distance_", "loss", "draw_weight", "score_"))
        else field
        for field in table.schema
    ]
    return table.cast(pa.schema(fields), safe=False)
