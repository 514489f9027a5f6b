"""What `profile` counts around every anchor: canonical distances to all rows, sorted, then counted exactly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.kernels.distances import COSINE, distance, uses_differences
from minestream.kernels.jit import kernel
from minestream.kernels.relation import relation, relations
from minestream.kernels.types import NEGATIVE, POSITIVE, Rows

CHUNK_ROWS = 64  # rows that all anchors of a strip meet before the next ones: they stay in the cache
MOST_BUCKETS = 65_536
BUCKET_ROWS = 2  # values a bucket, on average
FEW = 32  # buckets of more values are sorted: ties and outliers put everything into one
SUM_BITS = 62  # sums are of whole units, so that they do not depend on the order of rows
FIRST_RANK, LAST_RANK = -1, 2**31 - 1  # before, and beyond, all that are as far


class Spread(NamedTuple):
    """Distances of one kind in buckets of equal width; sorted, but for negatives of buckets of a few."""

    x: NDArray[np.float64]  # [n]
    rank: NDArray[np.int32]  # [n]
    total: NDArray[np.int64]  # [n + 1] sums of the first i, in units
    start: NDArray[np.int32]  # [MOST_BUCKETS + 2]: bucket b is start[b] ... start[b + 1] - 1


class Panel(NamedTuple):
    """Scratch of strip_distances()."""

    coordinates: NDArray[np.float64]  # [d, CHUNK_ROWS]
    totals: NDArray[np.float64]  # [2, CHUNK_ROWS]


class Room(NamedTuple):
    """The distances of one anchor by kind, and what spreading them needs besides."""

    positives: Spread
    negatives: Spread
    kind: NDArray[np.int8]  # [n] by slot
    bucket: NDArray[np.int32]  # [n] by slot
    scale: NDArray[np.float64]  # [5]: the least distance, buckets a distance of 1, how many buckets, units a distance
    # of 1, the largest distance that is summed: one far row would else leave the sums of all others few units
    place: NDArray[np.int64]  # [n] of positives: how many negatives are not farther


class Counts(NamedTuple):
    """What is counted of each of A anchors, for M margins and B bins."""

    positives: NDArray[np.int64]  # [A]
    negatives: NDArray[np.int64]  # [A]
    precision: NDArray[np.float64]  # [A] average precision at R = positives; 0 without any
    positive_bins: NDArray[np.int64]  # [A, B]
    negative_bins: NDArray[np.int64]  # [A, B]
    hard: NDArray[np.int64]  # [A] triplets with x <= p
    semi_hard: NDArray[np.int64]  # [A, M] p < x < p + m
    loss: NDArray[np.float64]  # [A, M] sums of max(0, p + m - x)
    within: NDArray[np.int64]  # [A, M] negatives nearer than m
    served: NDArray[np.int64]  # [A, M] semi-hard negatives of the nearest positive


@kernel
def _add_chunk(differences: bool, anchor: np.ndarray, other: np.ndarray, panel: np.ndarray, total: np.ndarray) -> None:
    """The sums over coordinates, in their order, of two anchors and CHUNK_ROWS rows.

    anchor, other float64[d], panel (d, CHUNK_ROWS), total (2, CHUNK_ROWS). Two at a time, and four coordinates: what
    is read of the panel, and the sums, serve more than one product.
    """
    d, ours, theirs = anchor.size, total[0], total[1]
    for q in range(CHUNK_ROWS):
        ours[q] = theirs[q] = 0.0
    for j in range(0, d - 3, 4):
        a, b, c, e = anchor[j], anchor[j + 1], anchor[j + 2], anchor[j + 3]
        f, g, h, i = other[j], other[j + 1], other[j + 2], other[j + 3]
        if differences:
            for q in range(CHUNK_ROWS):
                s, t, u, v = panel[j, q], panel[j + 1, q], panel[j + 2, q], panel[j + 3, q]
                ours[q] = (((ours[q] + (a - s) ** 2) + (b - t) ** 2) + (c - u) ** 2) + (e - v) ** 2
                theirs[q] = (((theirs[q] + (f - s) ** 2) + (g - t) ** 2) + (h - u) ** 2) + (i - v) ** 2
        else:
            for q in range(CHUNK_ROWS):
                s, t, u, v = panel[j, q], panel[j + 1, q], panel[j + 2, q], panel[j + 3, q]
                ours[q] = (((ours[q] + a * s) + b * t) + c * u) + e * v
                theirs[q] = (((theirs[q] + f * s) + g * t) + h * u) + i * v
    for j in range(d // 4 * 4, d):
        for q in range(CHUNK_ROWS):
            t, u = anchor[j] - panel[j, q], other[j] - panel[j, q]
            ours[q] += t * t if differences else anchor[j] * panel[j, q]
            theirs[q] += u * u if differences else other[j] * panel[j, q]


@kernel
def _write_chunk(metric: int, total: np.ndarray, anchor_square: float, square: np.ndarray, out_x: np.ndarray) -> None:
    if metric == COSINE:  # a loop of its own, which the compiler makes vector code of
        for q in range(out_x.size):
            out_x[q] = distance(COSINE, total[q], anchor_square, square[q])
    else:
        for q in range(out_x.size):
            out_x[q] = distance(metric, total[q], anchor_square, square[q])


@kernel
def strip_distances(
    metric: int, anchors: np.ndarray, anchor_square: np.ndarray, vectors: np.ndarray, square: np.ndarray,
    first_slot: int, panel: Panel, out_x: np.ndarray,
) -> None:  # fmt: skip
    """Canonical distances of a strip of anchors to a block of rows. Cost: S m d in float64.

    Of 64 rows the coordinates are put side by side once for all anchors. The additions of a pair, and so its value,
    are those of exact.distances_to.

    Parameters
    ----------
    anchors, anchor_square : float64 (S, d), float64[S]
    vectors : (m, d) of any stored dtype, the rows of slots first_slot ...
    square : float64[n], by slot
    panel : Panel, scratch
    out_x : float64 (S, n), by slot
    """
    m, d = vectors.shape
    for first in range(0, m, CHUNK_ROWS):
        count = min(CHUNK_ROWS, m - first)
        for q in range(CHUNK_ROWS):
            row = vectors[first + min(q, count - 1)]  # the last chunk is filled up by its last row
            for j in range(d):
                panel.coordinates[j, q] = np.float64(row[j])
        slot = first_slot + first
        own = square[slot : slot + count]
        last = anchors.shape[0] - 1
        for i in range(0, last + 1, 2):
            other = min(i + 1, last)  # an odd one meets them twice
            _add_chunk(uses_differences(metric), anchors[i], anchors[other], panel.coordinates, panel.totals)
            _write_chunk(metric, panel.totals[0], anchor_square[i], own, out_x[i, slot : slot + count])
            if other > i:
                _write_chunk(metric, panel.totals[1], anchor_square[other], own, out_x[other, slot : slot + count])


@kernel(inline=True)
def _before(x: float, rank: int, other_x: float, other_rank: int) -> bool:
    return x < other_x or (x == other_x and rank < other_rank)


@kernel
def _heap_sort(x: np.ndarray, rank: np.ndarray, first: int, end: int) -> None:
    count = end - first
    top = count // 2
    while count > 1:
        if top > 0:
            top -= 1  # the heap is made from its last parent up
        else:
            count -= 1
            last = first + count
            x[first], x[last] = x[last], x[first]
            rank[first], rank[last] = rank[last], rank[first]
        parent = top
        own_x, own_rank = x[first + parent], rank[first + parent]
        while 2 * parent + 1 < count:
            child = first + 2 * parent + 1
            if child + 1 < first + count and _before(x[child], rank[child], x[child + 1], rank[child + 1]):
                child += 1
            if not _before(own_x, own_rank, x[child], rank[child]):
                break
            x[first + parent], rank[first + parent] = x[child], rank[child]
            parent = child - first
        x[first + parent], rank[first + parent] = own_x, own_rank


@kernel(inline=True)
def _bucket(scale: np.ndarray, x: float) -> int:
    """An increasing function of x: every operation rounds monotonically."""
    return int(max(0.0, min(scale[2] - 1.0, (x - scale[0]) * scale[1])))


@kernel(inline=True)
def _units(scale: np.ndarray, x: float) -> int:
    return int((min(x, scale[4]) - scale[0]) * scale[3])


@kernel
def _scale_buckets(x: np.ndarray, kind: np.ndarray, margin: float, scale: np.ndarray) -> None:
    """Buckets of equal width over all distances of an anchor, and units; one of width 0 where those overflow."""
    low, high, far = np.inf, -np.inf, -np.inf
    for b in range(x.size):
        low, high = min(low, x[b]), max(high, x[b])
        far = max(far, x[b] if kind[b] == POSITIVE else -np.inf)
    buckets = max(1, min(MOST_BUCKETS, x.size // BUCKET_ROWS))
    units = 2.0 ** (SUM_BITS - np.ceil(np.log2(x.size + 1.0)))
    far = max(low, min(high, far + margin))  # negatives beyond every positive's margin are in no sum
    width = buckets / (high - low) if high > low else 0.0
    unit = units / (far - low) if far > low else 0.0
    if not width < np.inf or not high - low < np.inf:
        width, buckets = 0.0, 1
    scale[0], scale[1], scale[2] = low, width, buckets
    scale[3], scale[4] = (unit if unit < np.inf else 0.0), far


@kernel
def _sort_crowded(values: Spread, scale: np.ndarray, few: int) -> None:
    """Sort the buckets of more than `few` values; and sum up."""
    buckets = int(scale[2])
    for b in range(buckets):
        first, end = int(values.start[b]), int(values.start[b + 1])
        if end - first > few:
            _heap_sort(values.x, values.rank, first, end)
    values.total[0] = 0
    for i in range(int(values.start[buckets])):
        values.total[i + 1] = values.total[i] + _units(scale, values.x[i])


@kernel
def spread_kinds(rows: Rows, slot: int, x: np.ndarray, margin: float, room: Room) -> None:
    """Put an anchor's distances to its positives and to its negatives into buckets; positives are sorted.

    Parameters
    ----------
    slot, x : int, float64[n]
        The anchor, and its distances by slot.
    margin : float
        The largest: sums are of negatives less than it beyond a positive.
    room : Room
        Written.
    """
    positives, negatives = room.positives, room.negatives
    relations(rows, slot, room.kind)
    _scale_buckets(x, room.kind, margin, room.scale)
    buckets = int(room.scale[2])
    positives.start[: buckets + 2] = 0
    negatives.start[: buckets + 2] = 0
    for b in range(x.size):
        bucket = _bucket(room.scale, x[b])
        room.bucket[b] = bucket
        if room.kind[b] == NEGATIVE:
            negatives.start[bucket + 2] += 1
        elif room.kind[b] == POSITIVE:
            positives.start[bucket + 2] += 1
    for b in range(1, buckets):
        negatives.start[b + 1] += negatives.start[b]
        positives.start[b + 1] += positives.start[b]
    for b in range(x.size):
        at = room.bucket[b] + 1  # where the next of a bucket goes is, after the last, where the bucket ends
        if room.kind[b] == NEGATIVE:
            place = negatives.start[at]
            negatives.x[place], negatives.rank[place] = x[b], rows.rank[b]
            negatives.start[at] += 1
        elif room.kind[b] == POSITIVE:
            place = positives.start[at]
            positives.x[place], positives.rank[place] = x[b], rows.rank[b]
            positives.start[at] += 1
    _sort_crowded(negatives, room.scale, FEW)
    _sort_crowded(positives, room.scale, 1)


@kernel
def _search_crowded(values: Spread, at: int, end: int, bound: float, bound_rank: int) -> int:
    """The first place of a sorted bucket that is not before (bound, bound_rank)."""
    while at < end:
        middle = (at + end) // 2
        if _before(values.x[middle], values.rank[middle], bound, bound_rank):
            at = middle + 1
        else:
            end = middle
    return at


@kernel
def count_below(values: Spread, scale: np.ndarray, bound: float, closed: bool) -> tuple[int, int]:
    """How many values are less than `bound`, or equal to it if `closed`, and their sum in units.

    One bucket is looked into, without branches.
    """
    bucket = _bucket(scale, bound)
    first, end = int(values.start[bucket]), int(values.start[bucket + 1])
    if end - first > FEW:
        at = _search_crowded(values, first, end, bound, LAST_RANK if closed else FIRST_RANK)
        return at, values.total[at]
    count, total = first, values.total[first]
    for i in range(first, end):
        x = values.x[i]
        below = int(x < bound) | (int(x == bound) & int(closed))
        count += below
        total += below * _units(scale, x)
    return count, total


@kernel
def count_before(values: Spread, scale: np.ndarray, bound: float, bound_rank: int) -> int:
    """How many values are before (bound, bound_rank) in (distance, key order)."""
    bucket = _bucket(scale, bound)
    first, end = int(values.start[bucket]), int(values.start[bucket + 1])
    if end - first > FEW:
        return _search_crowded(values, first, end, bound, bound_rank)
    count = first
    for i in range(first, end):
        count += _before(values.x[i], values.rank[i], bound, bound_rank)
    return count


@kernel
def _count_bins(values: Spread, scale: np.ndarray, count: int, edges: np.ndarray, out_bins: np.ndarray) -> None:
    """Values of each bin, closed below and open above; the first and the last hold what lies outside, too."""
    before = 0
    for b in range(out_bins.size):
        end = count if b + 1 == out_bins.size else count_below(values, scale, edges[b + 1], False)[0]
        out_bins[b] = end - before
        before = end


@kernel
def _precision(room: Room, p: int) -> float:
    """Average precision at R = p: of the first R neighbours by (distance, key order)."""
    positives, negatives = room.positives, room.negatives
    total = 0.0
    for i in range(p):
        before, _ = count_below(negatives, room.scale, positives.x[i], False)
        if before < room.place[i]:  # negatives as far: their keys decide
            before = count_before(negatives, room.scale, positives.x[i], positives.rank[i])
        if before + i >= p:
            break
        total += (i + 1) / (before + i + 1)
    return total / p if p else 0.0


@kernel
def _count_margin(room: Room, p: int, margin: float, k: int, a: int, out: Counts) -> None:
    """The triplets of one anchor at one margin."""
    positives, negatives = room.positives, room.negatives
    loss, semi_hard, low, unit = 0.0, 0, room.scale[0], room.scale[3]
    for i in range(p):
        last, bound = room.place[i], positives.x[i] + margin
        beyond, total = count_below(negatives, room.scale, bound, False)
        inside = max(0, beyond - last)
        semi_hard += inside
        loss += beyond * (bound - low) - (total / unit if unit else 0.0)
        if i == 0:
            out.served[a, k] = inside
    out.semi_hard[a, k], out.loss[a, k] = semi_hard, max(0.0, loss)
    out.within[a, k], _ = count_below(negatives, room.scale, margin, False)


@kernel
def count_strip(
    rows: Rows, slots: np.ndarray, x: np.ndarray, edges: np.ndarray, margins: np.ndarray, room: Room, first: int,
    out: Counts,
) -> None:  # fmt: skip
    """Count what lies around a strip of anchors. Cost: some 15 ns a pair, a look-up for each positive and margin.

    Parameters
    ----------
    slots : int32[S], the anchors
    x : float64 (S, n), their distances to all rows
    edges : float64[B + 1], ascending
    margins : float64[M], above 0
    room : Room
        Scratch.
    first : int
        Where the strip's anchors stand in `out`.
    """
    positives, negatives, largest = room.positives, room.negatives, 0.0
    for margin in margins:
        largest = max(largest, margin)
    for i in range(slots.size):
        spread_kinds(rows, slots[i], x[i], largest, room)
        buckets = int(room.scale[2])
        p, n = int(positives.start[buckets]), int(negatives.start[buckets])
        a = first + i
        out.positives[a], out.negatives[a] = p, n
        _count_bins(positives, room.scale, p, edges, out.positive_bins[a])
        _count_bins(negatives, room.scale, n, edges, out.negative_bins[a])
        hard = 0
        for j in range(p):
            room.place[j], _ = count_below(negatives, room.scale, positives.x[j], True)
            hard += room.place[j]
        out.hard[a] = hard
        out.precision[a] = _precision(room, p)
        for k in range(margins.size):
            _count_margin(room, p, margins[k], k, a, out)


@kernel
def count_relations(rows: Rows, first: int, end: int, out_positives: np.ndarray, out_negatives: np.ndarray) -> None:
    """How many positives and negatives the slots first ... end - 1 have: int64[n] each. Cost: n a slot."""
    for a in range(first, end):
        for b in range(rows.label.size):
            kind = relation(rows, a, b)
            if kind == POSITIVE:
                out_positives[a] += 1
            elif kind == NEGATIVE:
                out_negatives[a] += 1
