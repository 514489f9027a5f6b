"""Lists: a row an anchor with its positives and its nearest candidates, from which any rule can choose later."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.config.mine_config import MineConfig
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.vectors import pair_distances
from minestream.inputs.decode import lists_from
from minestream.search.results import Found, Positives
from minestream.system import ragged

LIST_ENTRIES = 1 << 18  # candidates of lists that are made at a time
NEAREST = 256  # of longer lists so many candidates stand in columns of their own, too: most rules read no others
PRECISIONS = {"float64": pa.float64(), "float32": pa.float32(), "float16": pa.float16()}
Places = NDArray[np.int64]
Slots = tuple[Places, NDArray[np.int32]]


def list_columns(
    loaded: Dataset, config: MineConfig, anchors: NDArray[np.int32], positives: Positives, found: Found
) -> dict[str, Any]:
    """The columns of lists: positives in the order of their rule, candidates by (distance, key order).

    positive_ranks : 1 + how many candidates are nearer; null where the list ends before that is known
    positive_is_anchor : whether a positive is a duplicate of its anchor
    duplicate_positives, duplicate_candidates : places in both lists, of candidates that are duplicates of a positive
    candidate_count, nearest_rows, nearest_distances : how many candidates there are, and the first NEAREST of them once
        more; where lists may be longer
    """
    counts, of = ragged.lengths(positives.start), ragged.lengths(found.start)
    ranks, known = _ranks(positives, found, config.negatives)
    own, twin = ragged.repeat(anchors, positives.start), loaded.rows.twin
    columns: dict[str, Any] = {}
    if config.list_ids and loaded.tables[1].ids is not None:
        columns["positive_ids"] = lists_from(counts, loaded.tables[1].take_ids(positives.slot))
        columns["candidate_ids"] = lists_from(of, loaded.tables[1].take_ids(found.slot))
    columns["positive_rows"] = lists_from(counts, pa.array(loaded.source_row[positives.slot], pa.int64()))
    columns["positive_distances"] = lists_from(counts, pa.array(positives.x))
    columns["positive_ranks"] = lists_from(counts, pa.array(ranks.astype(np.int32), mask=~known))
    columns["positive_is_anchor"] = lists_from(counts, pa.array(twin[own] == twin[positives.slot]))
    rows = pa.array(loaded.source_row[found.slot], pa.int64())
    distances = pa.array(found.x).cast(pa.float32() if config.list_precision == "float32" else pa.float64(), safe=False)
    if config.list_precision == "float16":
        distances = pa.array(found.x.astype(np.float16))
    columns["candidate_rows"] = lists_from(of, rows, filled=True)
    columns["candidate_distances"] = lists_from(of, distances, filled=True)
    near = (positives.start, positives.slot), (found.start, found.slot)
    start, positive, candidate = duplicates_of_positives(loaded, config, *near)
    for name, places in (("positives", positive), ("candidates", candidate)):
        columns[f"duplicate_{name}"] = lists_from(ragged.lengths(start), pa.array(places.astype(np.int32)))
    if config.negatives > NEAREST:
        few = np.minimum(of, NEAREST)
        first = pa.array(ragged.spans(found.start[:-1], few))
        columns["candidate_count"] = pa.array(of.astype(np.int32))
        for name, values in (("rows", rows), ("distances", distances)):
            columns[f"nearest_{name}"] = lists_from(few, values.take(first), filled=True)
    return columns


def _ranks(positives: Positives, found: Found, most: int) -> tuple[Places, NDArray[np.bool_]]:
    """The rank of every positive, and whether it is known; `most`: how long lists may be."""
    ranks, known = np.empty(positives.x.size, np.int64), np.ones(positives.x.size, bool)
    for i in range(positives.start.size - 1):
        own, x = slice(positives.start[i], positives.start[i + 1]), found.x[found.start[i] : found.start[i + 1]]
        ranks[own] = 1 + np.searchsorted(x, positives.x[own])
        if x.size >= most:
            known[own] = positives.x[own] <= x[-1]
    return ranks, known


def duplicates_of_positives(
    loaded: Dataset, config: MineConfig, positives: Slots, candidates: Slots
) -> tuple[Places, Places, Places]:  # fmt: skip
    """By anchor the candidates that --drop-duplicates-within makes duplicates of a positive: places in both lists.

    positives, candidates : of each anchor, where its own begin, int64[A + 1], and the slots of all
    """
    within, twin = config.drop_duplicates_within, loaded.rows.twin
    (positive_start, positive), (start, candidate) = positives, candidates
    of_positive, of_candidate = ragged.owners(positive_start), ragged.owners(start)
    if within is None or config.drop_duplicates_of == "anchor":
        one = other = np.empty(0, np.int64)
    elif within == 0:
        keys = [owner * twin.size + twin[slot] for owner, slot in ((of_positive, positive), (of_candidate, candidate))]
        some = np.flatnonzero(np.isin(keys[1], keys[0]))
        order = np.argsort(keys[0], kind="stable")
        first, end = (np.searchsorted(keys[0][order], keys[1][some], side) for side in ("left", "right"))
        one, other = order[ragged.spans(first, end - first)], np.repeat(some, end - first)
    else:
        each = ragged.lengths(start)[of_positive]
        one, other = np.repeat(np.arange(of_positive.size), each), ragged.spans(start[of_positive], each)
        x = pair_distances(loaded.store, loaded.rows.square, config.metric, positive[one], candidate[other])
        one, other = one[x <= within], other[x <= within]
    owner = of_positive[one]
    order = np.lexsort((other, one))
    one, other, owner = one[order], other[order], owner[order]
    by_anchor = ragged.grouped(owner, positive_start.size - 1)
    return by_anchor, one - positive_start[owner], other - start[owner]
