"""--approximate: how wide a run looks, and how much of what an exact run would write it finds.

Width: of some anchors, drawn by the seed, the exact negatives are known; the least width is taken at which the share of
them that is looked at is, with 99 % confidence, at least what was asked for. Where that is too wide, the run is exact.
Positives: the nearest are looked for in so many cells that hardly any is missed, where that saves comparisons.
Recall: other anchors are mined exactly before the rest, and compared with what the run writes for them. So cells,
widths and both samples depend on the data, the options and the seed alone.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from minestream.config.rules import EMITS
from minestream.inputs.dataset.vectors import pair_distances
from minestream.kernels.types import Pairs
from minestream.mining.looking import Exact, Looking
from minestream.mining.negatives import make_task
from minestream.mining.positives import choose_positives, deserving_positives
from minestream.outputs.losses import TRIPLET_LOSSES, contrastive
from minestream.search.constraints import limited_search
from minestream.search.near import Schedule, near_cells, shares_of
from minestream.search.results import Found, Positives, joined, sub_pairs
from minestream.search.search import search_once
from minestream.search.work import WorkMeter
from minestream.system import ragged
from minestream.system.recall import LOSS, NEGATIVES, POSITIVES, counted, lower_bound
from minestream.system.stats import ShardStats

if TYPE_CHECKING:
    from minestream.mining.shards import Mining

LEAST_ANCHORS = 60_000  # so many are mined exactly as fast: see most_share
CALIBRATED = 1_000  # anchors by which the width is chosen
MEASURED = 2_700  # others, by which recall is measured: its bound is within .01 of it whatever the anchors' shares
POSITIVES_MISSED = 0.2  # of what may be missed: what lacks its positive counts as missed
MOST_SHARE = 0.25  # of all pairs, since a pair that is gathered takes four times as long: with more, all are looked at


def most_share(anchors: int) -> float:
    """The share of all pairs up to which time is saved: cells and samples take as long as so few anchors, exactly."""
    return MOST_SHARE * (1 - LEAST_ANCHORS / anchors)


def looking_of(mining: Mining) -> Looking | None:
    """How the run looks; None where it is exact. Cost: the cells, and the exact answers of both samples."""
    target, loaded, limits = mining.config.approximate, mining.loaded, mining.searcher.limits
    if target is None:
        return None
    if mining.anchors.size <= LEAST_ANCHORS:
        return Looking(None, why=f"up to {LEAST_ANCHORS:,} anchors are mined exactly as fast")
    if lower_bound(np.ones(CALIBRATED)) < target:
        return Looking(None, why=f"{target:g} is more than {CALIBRATED:,} anchors can show, even if nothing is missed")
    most, twin = most_share(mining.anchors.size), loaded.rows.twin
    if (np.bincount(twin[twin >= 0], minlength=1).max() / twin.size) ** 2 > most:  # they share their cells
        return Looking(None, why="too many rows are equal: no time is saved")
    drawn = np.random.default_rng([mining.config.seed % 2**64, 11]).permutation(mining.anchors)[: CALIBRATED + MEASURED]
    near = near_cells(loaded, mining.searcher.workers, limits.threads)
    mining.searcher.take_cell(near[:, 0].copy())
    looked_at = shares_of(near)
    if looked_at[0] > most:
        return Looking(None, why="too many rows lie in the same cells: no time is saved")
    exact = exact_answers(mining, np.sort(drawn))
    calibrating = np.isin(exact.anchors, drawn[:CALIBRATED])
    calibrated, measured = (exact.of(np.flatnonzero(own)) for own in (calibrating, ~calibrating))
    positives = _positives_of(mining, calibrated, near, looked_at)
    shares, others = (some.shares(near, positives) for some in (calibrated, measured))
    if not shares.size:
        return Looking(None, why="the rules leave no negative by which to tell how far to look")
    for width in range(1, near.shape[1] + 1):
        if shares[:, width].mean() < target or lower_bound(shares[:, width]) < target:
            continue
        if looked_at[width - 1] > most:
            break
        if not others.size or others[:, width].mean() >= target:  # else the target is missed, and more cells help
            mining.searcher.reorder(np.argsort(near[:, 0], kind="stable"))
            return Looking(Schedule(near, width), positives, measured)
    return Looking(None, why=f"{target:g} of the negatives of an anchor lie in too many cells: no time is saved")


def _positives_of(
    mining: Mining, exact: Exact, near: NDArray[np.uint16], looked_at: NDArray[np.float64]
) -> Schedule | None:  # fmt: skip
    """Where positives are looked for: so wide that they are at most a fifth of what is missed; None: everywhere.

    Only the nearest positives are looked for near their anchors, and only where that takes less than all of the label.
    """
    target, loaded, config = mining.config.approximate or 1.0, mining.loaded, mining.config
    if config.positives != "easiest" or not loaded.labeled:
        return None
    within_labels = float(loaded.positives[mining.anchors].sum()) / max(1, mining.anchors.size * loaded.store.rows)
    reached = exact.reached(near)
    for width in range(1, near.shape[1] + 1):
        if looked_at[width - 1] > within_labels / 2:
            return None
        if (reached <= width).mean() >= 1 - (1 - target) * POSITIVES_MISSED:
            return Schedule(near, width)
    return None


def exact_answers(mining: Mining, anchors: NDArray[np.int32]) -> Exact:
    """The exact negatives of all pairs of some anchors, ascending."""
    loaded, config = mining.loaded, mining.config
    setting = mining.searcher.setting(ShardStats(), WorkMeter(), timed=False)
    search = partial(search_once, setting)
    deserving = deserving_positives(loaded, config, anchors, search)
    positives = choose_positives(loaded, config, anchors, search, deserving)
    task = make_task(loaded, config, anchors, positives, search, deserving)
    found = joined(list(limited_search(setting, [anchors], task.pairs, task.rule, task.constraints)))
    return Exact(anchors, positives, task.chosen, task.pairs, found)


def count_recall(
    mining: Mining, stats: ShardStats, anchors: NDArray[np.int32], chosen: Positives, pairs: Pairs, found: Found
) -> None:  # fmt: skip
    """Count, where a run is approximate, how much was found of the measured ones among a shard's anchors.

    chosen : their positives
    pairs : theirs, whose answers `found` are
    """
    if mining.looking is None:
        return
    counts, exact = mining.looking.counts(anchors.size), mining.looking.measured
    if exact is not None:
        places = np.flatnonzero(np.isin(anchors, exact.anchors))
        some, own = sub_pairs(pairs, places)
        counts |= _recalls(mining, exact, anchors[places], some, found.of(own))
        if mining.looking.positives is not None:
            counts |= _recall_of_positives(exact, anchors[places], chosen.of(places), mining.loaded.store.rows)
    for name, count in counts.items():
        stats.recalls[name] = stats.recalls.get(name, 0) + count


def _recall_of_positives(
    exact: Exact, anchors: NDArray[np.int32], chosen: Positives, rows: int
) -> dict[str, int]:  # fmt: skip
    """The share of its exact positives that was chosen of each of some anchors, as counters."""
    wanted = exact.taken.of(np.searchsorted(exact.anchors, anchors))
    keys, among = (ragged.owners(each.start) * rows + each.slot for each in (wanted, chosen))
    return _shares(POSITIVES, ragged.owners(wanted.start), np.ones(keys.size), np.isin(keys, among))


def _recalls(
    mining: Mining, exact: Exact, anchors: NDArray[np.int32], chosen: Pairs, found: Found
) -> dict[str, int]:  # fmt: skip
    """The share of its exact rows, and of their losses, that was found of each of some anchors, as counters.

    chosen : their pairs, whose answers `found` are; a row whose positive is another is not found
    """
    config, loaded, rows = mining.config, mining.loaded, mining.loaded.store.rows
    pairs, at = sub_pairs(exact.pairs, np.searchsorted(exact.anchors, anchors))
    keys, among = (ragged.owners(each.start) * rows + each.positive for each in (pairs, chosen))
    same = _places(keys, among)  # of each exact pair, that of the run
    told = exact.found.of(at)
    least = config.negatives if config.short_rows == "drop" else 1
    of_entry = ragged.owners(told.start)
    anchor, pair = ragged.owners(pairs.start)[of_entry], at[of_entry]
    written = (ragged.lengths(told.start) >= least)[of_entry]
    hit = np.isin(same[of_entry] * rows + told.slot, ragged.owners(found.start) * rows + found.slot)
    hit &= (np.append(ragged.lengths(found.start), 0) >= least)[same[of_entry]]
    counts = _shares(NEGATIVES, anchor, written * 1.0, hit)
    if config.margin is None or config.loss is None:
        return counts
    if EMITS[config.emit].per_anchor:
        loss = contrastive(told.x, np.zeros(told.x.size, bool), config.margin)
    else:
        x, positives = told.x, exact.taken
        if config.swap:
            ends = positives.slot[pair], told.slot
            x = np.minimum(x, pair_distances(loaded.store, loaded.rows.square, config.metric, *ends))
        loss = TRIPLET_LOSSES[config.loss](positives.x[pair], x, config.margin)
    return counts | _shares(LOSS, anchor, written * loss, hit)


def _places(keys: NDArray[np.int64], among: NDArray[np.int64]) -> NDArray[np.int64]:
    """Where each key stands among others, none of which is there twice; -1 where it is not."""
    order = np.argsort(among)
    found = np.append(order, -1)[np.searchsorted(among, keys, sorter=order)]
    return np.where(np.append(among, -1)[found] == keys, found, -1)


def _shares(
    kind: str, anchor: NDArray[np.int64], weight: NDArray[np.floating[Any]], hit: NDArray[np.bool_]
) -> dict[str, int]:
    """The share of the weight of each anchor that was hit, as counters; none of anchors without any."""
    every = np.bincount(anchor, weight)
    some = np.bincount(anchor, weight * hit)
    return counted(kind, some[every > 0] / every[every > 0])
