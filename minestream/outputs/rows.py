"""The rows of the output, made of what the search found: triplets, pairs or tuples, with their losses."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.config.derived import counts_nearer, knows_harder, part_emit
from minestream.config.memory_plan import PART_ROW_BYTES
from minestream.config.mine_config import MineConfig
from minestream.config.rules import BANDS, NEVER_EDGE
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.vectors import pair_distances
from minestream.inputs.decode import as_array, lists_from
from minestream.kernels.draw import exponentials
from minestream.kernels.types import NEARER_CAP
from minestream.outputs.lists import LIST_ENTRIES, list_columns
from minestream.outputs.losses import TRIPLET_LOSSES, contrastive, exact_sum
from minestream.outputs.taught import nothing_found, teacher_columns
from minestream.search.results import Found, Positives, Scored
from minestream.search.similarity import simans_exponents
from minestream.system import ragged
from minestream.system.stats import ShardStats

Slots = NDArray[np.int32]
Distances = NDArray[np.float64]
TEXT_NAMES = ("text", "passage", "document", "content", "sentence", "body")  # of carried columns that say what a row is
PIECE_ROWS, LEAST_ROWS, PIECE_BYTES = 8_192, 256, 4 << 20  # made at a time: fewer rows where much is carried


def piece_rows(carried: int, room: int = 0) -> int:
    """How many rows are made at a time where so many bytes of an input row are carried; more in so many bytes more."""
    row = PART_ROW_BYTES + 3 * carried
    return min(PIECE_ROWS, max(LEAST_ROWS, PIECE_BYTES // row)) + room // (2 * row)


@dataclass(frozen=True)
class ShardResult:
    """One shard's answer: its anchors, their positives, and the negatives of every pair.

    `losses` gathers, of what was made so far, the losses and which are active: one sum goes over those of a shard.
    `room` is how many bytes more than the fewest its rows may take while they are made.
    """

    loaded: Dataset
    config: MineConfig
    anchors: Slots
    chosen: Positives
    found: Found
    stats: ShardStats
    losses: list[tuple[NDArray[np.floating[Any]], NDArray[np.bool_]]] = field(default_factory=list)
    room: int = 0

    @property
    def decimals(self) -> pa.DataType:
        """The type of distances and losses."""
        # --max-uses chooses once all parts are there, and then compares distances with the margin again.
        return pa.float64() if self.config.float64 or self.config.max_uses is not None else pa.float32()

    def pieces(self) -> Iterator[ShardResult]:
        """The same answer for few anchors at a time, of piece_rows() or one anchor; at least one."""
        pairs, start = self.chosen.start, self.found.start
        rows = pairs + start[pairs]  # before each anchor, at most: a pair without negatives may be a row
        first, most = 0, piece_rows(self.loaded.carried_row_bytes, self.room)
        while first < self.anchors.size or not first:
            end = max(first + 1, int(np.searchsorted(rows, rows[first] + most, side="right")) - 1)
            end = min(end, self.anchors.size)
            found = self.found.of(np.arange(pairs[first], pairs[end]))
            yield replace(self, anchors=self.anchors[first:end], chosen=self.chosen.of_anchors(first, end), found=found)
            first = max(1, end)


def emit(result: ShardResult) -> pa.Table:
    """The rows of one shard at once; see emitted()."""
    return pa.concat_tables(emitted(result))


def emitted(result: ShardResult) -> Iterator[pa.Table]:
    """The rows of one shard, in the order of its part; adds their counts and the time to the shard's stats.

    One table or more, so that memory need not hold all of them; the stats are whole after the last.
    """
    stats, tables = result.stats, EMITTERS[part_emit(result.config)](result)
    while True:
        with stats.stage("rows"):
            table = next(tables, None)
        if table is None:
            break
        yield table
    stats.loss_sum += exact_sum(values for values, _ in result.losses)
    stats.active_loss_sum += exact_sum(values[active] for values, active in result.losses)


def schema_of(loaded: Dataset, config: MineConfig) -> pa.Schema:
    """The schema of a part."""
    nobody = np.empty(0, np.int32)
    nothing, start = np.empty(0, np.float64), np.zeros(1, np.int64)
    found = nothing_found(loaded, config)
    chosen = Positives(start, nobody, nothing)
    return emit(ShardResult(loaded, config, nobody, chosen, found, ShardStats())).schema


def _ends(loaded: Dataset, roles: dict[str, Slots]) -> dict[str, Any]:
    """The columns of ids, where the input has some, and of source rows, of every role."""
    ids = {f"{role}_id": loaded.table(role).take_ids(slots) for role, slots in roles.items()}
    rows = {f"{role}_row": pa.array(loaded.source_row[slots], pa.int64()) for role, slots in roles.items()}
    return {name: found for name, found in ids.items() if found is not None} | rows


def _carried(result: ShardResult, roles: dict[str, Slots]) -> dict[str, Any]:
    """The carried columns of every role whose table has them."""
    columns: dict[str, Any] = {}
    for role, slots in roles.items() if result.config.carry else ():
        table = result.loaded.table(role).take_carried(slots)
        if table is not None:
            columns |= {f"{role}_{name}": table[name].combine_chunks() for name in result.config.carry}
    return columns


def _table(columns: dict[str, Any]) -> pa.Table:
    return pa.table({name: as_array(column) for name, column in columns.items()})


def _decimals(values: Distances, kind: pa.DataType) -> pa.Array:
    return pa.array(values).cast(kind, safe=False)


@dataclass(frozen=True)
class _Flat:
    """One entry a (anchor, positive, negative), in output order; x is NaN for a pair without negatives, entry is -1."""

    pair: NDArray[np.int64]
    place: NDArray[np.int64]  # among the pair's negatives
    anchor: Slots
    positive: Slots
    negative: Slots
    p: Distances
    x: Distances
    entry: NDArray[np.int64]  # of the answers


def _flat(result: ShardResult) -> _Flat:
    """All triplets that are written; counts full, short and empty pairs."""
    config, chosen, found = result.config, result.chosen, result.found
    counts, anchor_of_pair = ragged.lengths(found.start), ragged.owners(chosen.start)
    wanted = full_from(config, counts, anchor_of_pair)
    result.stats.anchors += result.anchors.size
    result.stats.pairs += counts.size
    count_pairs(result.stats, counts, wanted)
    start = ragged.starts(np.maximum(counts, 1)) if keeps_empty(config) else found.start
    pair, place = ragged.owners(start), ragged.nth(start)
    real = counts[pair] > 0
    negative, x = chosen.slot[pair], np.full(pair.size, np.nan)
    negative[real], x[real] = found.slot, found.x
    entry = np.where(real, np.cumsum(real) - 1, -1)
    keep = np.ones(pair.size, bool)
    final = config.max_uses is None  # else this is a reserve
    if final and config.short_rows == "drop":
        keep &= (counts >= wanted)[pair]
    if final and config.negatives_per_anchor is not None:
        keep[keep] = dealt(anchor_of_pair[pair[keep]], place[keep], pair[keep], config.negatives_per_anchor)
    pair, place = pair[keep], place[keep]
    anchor = result.anchors[anchor_of_pair[pair]]
    return _Flat(pair, place, anchor, chosen.slot[pair], negative[keep], chosen.x[pair], x[keep], entry[keep])


def keeps_empty(config: MineConfig) -> bool:
    """Whether a pair without negatives is written too, as a tuple with an empty list."""
    return config.emit == "tuples" and config.short_rows == "keep"


def full_from(config: MineConfig, counts: NDArray[np.int64], anchor: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many negatives make each pair full: k, or some where its anchor has all that --negatives-per-anchor allows.

    counts, anchor : of each pair the number of its negatives, and whose it is
    """
    wanted = np.full(counts.size, config.negatives)
    if config.negatives_per_anchor is not None and counts.size:
        wanted[np.bincount(anchor, weights=counts)[anchor] >= config.negatives_per_anchor] = 1
    return wanted


def count_pairs(stats: ShardStats, counts: NDArray[np.int64], wanted: NDArray[np.int64] | int) -> None:
    """Count full, short and empty pairs by their numbers of negatives; where none is wanted, all are full."""
    stats.full += int((counts >= wanted).sum())
    stats.empty += int(((counts == 0) & (counts < wanted)).sum())
    stats.short += int(((counts > 0) & (counts < wanted)).sum())


def dealt(anchor: NDArray[np.int64], place: NDArray[np.int64], pair: NDArray[np.int64], most: int) -> NDArray[np.bool_]:
    """Which entries an anchor keeps when it deals out `most`: every pair's first, then every pair's second, ..."""
    order = np.lexsort((pair, place, anchor))
    keep = np.empty(order.size, bool)
    keep[order] = ragged.nth_of_run(anchor[order]) < most
    return keep


def _losses(result: ShardResult, flat: _Flat, nearest_to: Distances) -> dict[str, pa.Array]:
    """The column of losses, which are counted as they are stored; none without a margin or a loss."""
    config, stats = result.config, result.stats
    if config.margin is None or config.loss is None:
        return {}
    stored = _decimals(TRIPLET_LOSSES[config.loss](flat.p, nearest_to, config.margin), result.decimals)
    if config.max_uses is not None:  # these are reserves
        return {"loss": stored}
    real = ~np.isnan(stored)
    values, active = np.asarray(stored)[real], (flat.x < flat.p + config.margin)[real]
    stats.losses += values.size
    stats.active_rows += int(active.sum())
    result.losses.append((values, active))
    return {"loss": stored}


def _count_equal(result: ShardResult, flat: _Flat, columns: dict[str, Any]) -> None:
    """Count negatives that are their anchor or positive under another id: by distance, and by text."""
    config, stats = result.config, result.stats
    if config.max_uses is not None:  # these are reserves
        return
    if config.metric != "dot":
        stats.at_anchor += int((flat.x == 0).sum())
    for name in (name for name in config.carry if name.lower() in TEXT_NAMES):
        anchor, positive, negative = (
            columns[f"{role}_{name}"] for role in (config.anchor_role, "positive", "negative")
        )
        if pa.types.is_string(negative.type) and pa.types.is_string(anchor.type):
            same = pc.or_kleene(pc.equal(negative, anchor), pc.equal(negative, positive))
            stats.same_text += pc.sum(same).as_py() or 0


def _harder(result: ShardResult, flat: _Flat) -> pa.Array:
    """How many of the anchor's negatives are nearer than each one; null where the search does not count them."""
    config = result.config
    if isinstance(result.found, Scored):
        return pa.nulls(flat.pair.size, pa.int32())
    if knows_harder(config) and BANDS[config.band].low == NEVER_EDGE:  # the place in the band is the number nearer
        before = np.zeros(flat.pair.size, np.int64)
    elif counts_nearer(config):
        before = result.found.nearer[flat.pair].astype(np.int64)
        has = ragged.lengths(result.found.start) > 0
        result.stats.nearer_pairs += int(has.sum())
        result.stats.nearer_passed_over += int(result.found.nearer[has].sum())
    else:
        return pa.nulls(flat.pair.size, pa.int32())
    harder = np.minimum(before + config.skip + flat.place, NEARER_CAP)
    return pa.array(harder.astype(np.int32))


def _draw_weights(result: ShardResult, flat: _Flat) -> dict[str, pa.Array]:
    """The column of the weights that negatives were drawn by."""
    if not result.config.draw_weights:
        return {}
    weights = np.empty(flat.x.size)
    exponentials(simans_exponents(result.config, flat.p, flat.x), weights)
    return {"draw_weight": _decimals(weights, result.decimals)}


def _score_columns(result: ShardResult, flat: _Flat) -> dict[str, pa.Array]:
    """The columns of the scores by which rows were chosen, where these are not distances."""
    own, found = result.chosen.score, result.found
    if own is None or not isinstance(found, Scored):
        return {}
    score = np.full(flat.x.size, np.nan)
    real = ~np.isnan(flat.x)
    score[real] = found.score[(found.start[flat.pair] + flat.place)[real]]
    return {"score_ap": _decimals(own[flat.pair], result.decimals), "score_an": _decimals(score, result.decimals)}


def _positive_rank(result: ShardResult, flat: _Flat) -> dict[str, pa.Array]:
    """The column of the ranks of positives, where it is asked for."""
    if result.config.rank_cap is None:
        return {}
    rank = np.empty(0, np.int32) if result.chosen.rank is None else result.chosen.rank  # None: there are no positives
    return {"positive_rank": pa.array(rank[flat.pair], pa.int32())}


def _taught(result: ShardResult, flat: _Flat) -> dict[str, Any]:
    return teacher_columns(
        result.loaded, result.config, result.found, flat.entry, flat.anchor, flat.negative, flat.x, result.decimals
    )


def _emit_triplets(result: ShardResult) -> Iterator[pa.Table]:
    return map(_triplets, result.pieces())


def _emit_tuples(result: ShardResult) -> Iterator[pa.Table]:
    return map(_tuples, result.pieces())


def _triplets(result: ShardResult) -> pa.Table:
    loaded, config = result.loaded, result.config
    flat = _flat(result)
    roles = {config.anchor_role: flat.anchor, "positive": flat.positive, "negative": flat.negative}
    columns = _ends(loaded, roles)
    columns["distance_ap"] = _decimals(flat.p, result.decimals)
    columns["distance_an"] = _decimals(flat.x, result.decimals)
    nearest_to = flat.x
    if config.swap:
        distance_pn = pair_distances(loaded.store, loaded.rows.square, config.metric, flat.positive, flat.negative)
        columns["distance_pn"] = _decimals(distance_pn, result.decimals)
        nearest_to = np.minimum(flat.x, distance_pn)
    columns |= _losses(result, flat, nearest_to)
    columns["harder"] = _harder(result, flat)
    columns |= _draw_weights(result, flat) | _positive_rank(result, flat)
    if loaded.labeled:
        columns[f"{config.anchor_role}_label"] = loaded.labels.take(flat.anchor)
        columns["negative_label"] = loaded.labels.take(flat.negative)
    if loaded.labels.level_names:
        columns["shared_level"] = loaded.labels.shared_level(flat.anchor, flat.negative)
    columns |= _taught(result, flat) | _carried(result, roles) | _score_columns(result, flat)
    _count_equal(result, flat, columns)
    result.stats.rows += flat.pair.size
    return _table(columns)


def _tuples(result: ShardResult) -> pa.Table:
    loaded, config = result.loaded, result.config
    flat = _flat(result)
    roles = {config.anchor_role: flat.anchor, "positive": flat.positive, "negative": flat.negative}
    columns = _ends(loaded, roles) | {"distance_ap": pa.array(flat.p), "distance_an": pa.array(flat.x)}
    taught = _taught(result, flat)
    columns |= _losses(result, flat, flat.x) | _draw_weights(result, flat) | _positive_rank(result, flat)
    columns |= taught | _carried(result, roles) | _score_columns(result, flat)
    _count_equal(result, flat, columns)
    tuples = tuples_of(config, _table(columns), ~np.isnan(flat.x), list(taught))
    result.stats.rows += tuples.num_rows
    return tuples


def tuples_of(
    config: MineConfig, triplets: pa.Table, kept: NDArray[np.bool_], taught: Sequence[str] = ()
) -> pa.Table:  # fmt: skip
    """Tuples, made of triplets that are sorted by pair: one row a pair. Distances are float64.

    kept : which triplets the lists hold; a pair without any is a row of empty lists, or no row (keeps_empty)
    taught : columns about each negative, of which there are lists too
    """
    role = config.anchor_role
    anchor, positive = (triplets[f"{name}_row"].to_numpy() for name in (role, "positive"))
    first = ragged.runs(anchor, positive)
    lengths = ragged.lengths(ragged.kept(np.append(first, anchor.size), kept))
    stays = np.full(first.size, keeps_empty(config)) | (lengths > 0)
    first, lengths = first[stays], lengths[stays]
    decimals = pa.float64() if config.float64 else pa.float32()
    single, there = triplets.take(pa.array(first)), set(triplets.column_names)
    triplets = triplets.filter(pa.array(kept))
    columns: dict[str, Any] = {
        f"{name}_id": single[f"{name}_id"] for name in (role, "positive") if f"{name}_id" in there
    }
    if "negative_id" in there:
        columns["negative_ids"] = lists_from(lengths, triplets["negative_id"])
    if "score_ap" in there:
        both = np.insert(triplets["score_an"].to_numpy(), ragged.starts(lengths)[:-1], single["score_ap"].to_numpy())
        columns["scores"] = lists_from(lengths + 1, _decimals(both.astype(np.float64), decimals))
    elif config.scores != "none":
        p, x = single["distance_ap"].to_numpy(), triplets["distance_an"].to_numpy()
        columns["scores"] = _scores(config, p, x, lengths, decimals)
    if "loss" in there:
        columns["losses"] = lists_from(lengths, triplets["loss"].cast(decimals, safe=False))
    if "draw_weight" in there:
        columns["draw_weights"] = lists_from(lengths, triplets["draw_weight"].cast(decimals, safe=False))
    columns |= {name: single[name] for name in ("positive_rank",) if name in there}
    columns |= {f"{name}_row": single[f"{name}_row"] for name in (role, "positive")}
    columns["negative_rows"] = lists_from(lengths, triplets["negative_row"])
    columns |= {name: lists_from(lengths, triplets[name]) for name in taught}
    columns |= {
        f"{name}_{carried}": single[f"{name}_{carried}"] for name in (role, "positive") for carried in config.carry
    }
    columns |= {f"negative_{name}s": lists_from(lengths, triplets[f"negative_{name}"]) for name in config.carry}
    return _table(columns)


def _scores(config: MineConfig, p: Distances, x: Distances, lengths: NDArray[np.int64], kind: pa.DataType) -> pa.Array:
    """Similarity or negative distance of the positive, then of the negatives: one list a tuple."""
    both = np.insert(x, ragged.starts(lengths)[:-1], p)
    similar = config.scores == "similarity" and config.metric == "cosine"
    return lists_from(lengths + 1, _decimals(1.0 - both if similar else -both, kind))


def _emit_pairs(result: ShardResult) -> Iterator[pa.Table]:
    """The pairs that this shard's anchors picked, each once, by (left_row, right_row)."""
    loaded, config, chosen, found = result.loaded, result.config, result.chosen, result.found
    result.stats.anchors += result.anchors.size
    count_pairs(result.stats, ragged.lengths(found.start), config.negatives)
    of_positive = ragged.repeat(result.anchors, chosen.start)
    this = np.concatenate([of_positive, ragged.repeat(result.anchors, found.start)])
    other = np.concatenate([chosen.slot, found.slot])
    distance = np.concatenate([chosen.x, found.x])
    similar = np.arange(this.size) < of_positive.size
    left, right = np.minimum(this, other), np.maximum(this, other)  # slots are in row order
    order = np.lexsort((right, left))
    order = order[ragged.runs(left[order], right[order])]
    most = piece_rows(loaded.carried_row_bytes, result.room)
    for first in range(0, max(1, order.size), most):
        at = order[first : first + most]
        roles = {"left": left[at], "right": right[at]}
        columns = _ends(loaded, roles)
        columns["label"] = pa.array(similar[at].astype(np.int64))
        columns["distance"] = _decimals(distance[at], result.decimals)
        if config.margin is not None:
            columns["loss"] = _decimals(contrastive(distance[at], similar[at], config.margin), result.decimals)
        columns |= _carried(result, roles)
        result.stats.rows += at.size
        result.stats.similar_pairs += int(similar[at].sum())
        yield _table(columns)


def _emit_lists(result: ShardResult) -> Iterator[pa.Table]:
    """A row an anchor: its positives, and its nearest candidates."""
    loaded, config, found = result.loaded, result.config, result.found
    result.stats.anchors += result.anchors.size
    result.stats.pairs += result.chosen.slot.size
    count_pairs(result.stats, ragged.lengths(found.start), config.negatives)
    entries = np.maximum(found.start, result.chosen.start)
    first, most = 0, LIST_ENTRIES
    while first < result.anchors.size or not first:
        end = max(first + 1, int(np.searchsorted(entries, entries[first] + most, side="right")) - 1)
        end = min(end, result.anchors.size)
        anchors, chosen = result.anchors[first:end], result.chosen.of_anchors(first, end)
        roles = {config.anchor_role: anchors}
        columns = _ends(loaded, roles)
        if loaded.labeled:
            columns[f"{config.anchor_role}_label"] = loaded.labels.take(anchors)
        lists = list_columns(loaded, config, anchors, chosen, found.of(np.arange(first, end)))
        columns = {name: each for name, each in (columns | lists).items() if "_id" in name} | columns | lists
        result.stats.rows += anchors.size
        yield _table(columns)
        first = max(1, end)


EMITTERS: dict[str, Callable[[ShardResult], Iterator[pa.Table]]] = {
    "triplets": _emit_triplets,
    "pairs": _emit_pairs,
    "tuples": _emit_tuples,
    "lists": _emit_lists,
}
