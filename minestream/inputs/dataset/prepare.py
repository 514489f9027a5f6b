"""Twins, norms and the frame of the screens, computed once before any search."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream.config.metrics import METRICS
from minestream.inputs.dataset.vectors import Store, Unread
from minestream.kernels import distances, quantize
from minestream.system.threads import Workers, slices

USUAL_TIMES = 4.0  # times the median norm: for the centre, longer rows count as if they had this length
LEAST_SHARE = 2.0**-60  # of the centre: rows that differ by less differ by rounding, and |centre| must fit a float32
PARTS = 16  # of the rows that are looked at together, whatever the threads: sums do not depend on them
LEAST_WIDTH = 2.0**-470  # below, what canonical distances lose to underflow is more than the screens' bound allows for


def compared(rows: NDArray[Any], by_direction: bool) -> NDArray[Any]:
    """Rows (m, d) in the form in which equal ones are equal element by element: -0.0 becomes 0.0.

    By direction, each is divided by its largest absolute value. Quotients are rounded correctly, so exact multiples
    become equal, whatever the factor; divided by their norms they might not.
    """
    values: NDArray[Any] = rows + rows.dtype.type(0)
    if not by_direction:
        return values
    values = values.astype(np.float64)
    largest = np.abs(values).max(axis=1, keepdims=True)
    return values / np.where(largest > 0, largest, 1.0) + 0.0


def _each_part(store: Store, workers: Workers, task: Callable[[NDArray[Any], slice], None]) -> None:
    """Run a task on all rows, part by part: given vectors and their slots; block by block of those in scratch."""
    tasks: list[Callable[[], None]] = []
    for first in range(0, store.rows, store.pass_rows):
        block = store.block(first, min(store.rows, first + store.pass_rows))
        parts = ((block[part], slice(first + part.start, first + part.stop)) for part in slices(len(block), PARTS))
        tasks += [partial(task, *part) for part in parts]
        if not store.in_memory:
            workers.run(tasks)
            tasks = []
    workers.run(tasks)


def twins(store: Store, by_direction: bool, workers: Workers) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Two int32[n] codes: equal for duplicates, and equal for rows that are equal element by element."""
    hashes = np.empty(store.rows, np.uint64)
    _each_part(store, workers, lambda rows, slots: distances.row_hashes(rows, by_direction, hashes[slots]))
    twin = _coded(store, np.arange(store.rows), by_direction, hashes)
    if not by_direction:
        return twin, twin
    equal = np.arange(store.rows, dtype=np.int32)
    crowded = np.flatnonzero(np.bincount(twin, minlength=store.rows)[twin] > 1)
    hashes = hashes[: crowded.size]
    for at in range(0, crowded.size, store.pass_rows):
        part = slice(at, at + store.pass_rows)
        distances.row_hashes(store.take(crowded[part]), False, hashes[part])
    equal[crowded] = _coded(store, crowded, False, hashes)
    return twin, equal


def _coded(
    store: Store, slots: NDArray[np.int64], by_direction: bool, hashes: NDArray[np.uint64]
) -> NDArray[np.int32]:  # fmt: skip
    """For each of ascending slots the first slot with an equal row, found by hash and then compared."""
    found, ordered = slots.astype(np.int32), np.sort(hashes)
    repeated = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not repeated.size:
        return found
    shared = np.flatnonzero(repeated[np.searchsorted(repeated[:-1], hashes)] == hashes)
    slots, hashes = slots[shared], hashes[shared]
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    place = first[inverse]  # the first with the hash
    for at in range(0, place.size, store.pass_rows):
        some = np.arange(at, min(place.size, at + store.pass_rows))
        firsts, back = np.unique(place[some], return_inverse=True)
        ours, theirs = (compared(store.take(slots[each]), by_direction) for each in (some, firsts))
        differs = (ours != theirs[back]).any(axis=1)
        for collided in np.unique(hashes[some[differs]]):
            members = np.flatnonzero(hashes == collided)
            rows = compared(store.take(slots[members]), by_direction)
            _, first_of, set_of = np.unique(rows, axis=0, return_index=True, return_inverse=True)
            place[members] = members[first_of[set_of.reshape(-1)]]
    found[shared] = slots[place]
    return found


def prepared(store: Store, normalize: bool, workers: Workers) -> tuple[Store, NDArray[np.float64]]:
    """The store that distances are computed from, normalised if asked, and dot(a, a) of its rows, float64[n]."""
    square = np.empty(store.rows, np.float64)
    _each_part(store, workers, lambda rows, slots: distances.squares(rows, square[slots]))
    if not normalize:
        return store, square
    unit = store.like(np.dtype(np.float64))
    for first in range(0, store.rows, store.pass_rows):
        end = min(store.rows, first + store.pass_rows)
        rows = np.empty((end - first, store.dimension), np.float64)
        distances.normalize(store.block(first, end), square[first:end].copy(), rows)
        distances.squares(rows, square[first:end])
        unit.append(rows)
    unit.seal()
    store.close()
    return unit, square


class Prepared(NamedTuple):
    """What is computed of all rows first; of vectors that are not read, what says nothing."""

    store: Store
    square: NDArray[np.float64]
    twin: NDArray[np.int32]
    equal: NDArray[np.int32] | None


def prepare(store: Store, normalize: bool, metric: str, workers: Workers) -> Prepared:
    """The store that distances are computed from, with norms and twins."""
    if isinstance(store, Unread):
        return Prepared(store, np.ones(store.rows), np.arange(store.rows, dtype=np.int32), None)
    store, square = prepared(store, normalize, workers)
    return Prepared(store, square, *twins(store, METRICS[metric].unit_rows, workers))


def frame_of(store: Store, square: NDArray[np.float64], metric: str, workers: Workers) -> quantize.Frame:
    """Centre and scale of the rows, so that float32 keeps as many digits as it can."""
    unit_rows = METRICS[metric].unit_rows
    if isinstance(store, Unread):
        return quantize.Frame(np.zeros(store.dimension), 1.0, unit_rows, not METRICS[metric].translation_invariant)
    # Otherwise one very long row would pull the centre away from all others.
    longest = USUAL_TIMES * math.sqrt(float(np.median(square[square > 0]))) if square.any() else math.inf
    sums: dict[int, NDArray[np.float64]] = {}
    widths: list[float] = []

    def add(rows: NDArray[Any], slots: slice) -> None:
        sums[slots.start] = np.zeros(store.dimension)
        quantize.coordinate_sums(rows, square[slots], unit_rows, longest, sums[slots.start])

    _each_part(store, workers, add)
    centre = np.sum([sums[first] for first in sorted(sums)], axis=0) / store.rows
    _each_part(
        store, workers, lambda rows, slots: widths.append(quantize.widest(rows, square[slots], unit_rows, centre))
    )
    widest = max(*widths, LEAST_SHARE * float(np.abs(centre).max()), LEAST_WIDTH)
    scale = 2.0 ** -math.floor(math.log2(widest))
    return quantize.Frame(centre, scale, unit_rows, not METRICS[metric].translation_invariant)
