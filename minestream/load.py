"""Reads a source once: vectors into the store, labels, groups and ids into codes, what is wrong into errors."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.config import MineConfig, anchor_share
from minestream.draws import anchor_draws, draw_keys, key_ranks
from minestream.errors import InputError
from minestream.kernels import codes, exact
from minestream.kernels.choose import FORBIDS_NEGATIVES, FORBIDS_POSITIVES, Rows
from minestream.metric import METRICS
from minestream.progress import Progress
from minestream.relation import (
    NO_CODES,
    UNLABELED,
    UNLABELED_WARNING_SHARE,
    Encoder,
    LabelReader,
    Labels,
    positive_counts,
)  # fmt: skip
from minestream.source import RowBatch, Source
from minestream.store import CarriedColumns, Store, release_memory

FORBIDS = {
    "both": FORBIDS_POSITIVES | FORBIDS_NEGATIVES,
    "positives": FORBIDS_POSITIVES,
    "negatives": FORBIDS_NEGATIVES,
}
PASS_ROWS = 16_384


@dataclass
class Loaded:
    """The rows that take part, by slot: their vectors, relation and outside values.

    Attributes
    ----------
    store : Store
    rows : Rows
        The relation as kernels read it.
    frame : codes.Frame
        How rows become float32 rows for the sweep.
    source_row : int64[n]
        Position of each slot in the unfiltered source.
    labels : Labels
    ids : pyarrow.Array or None
    carried : CarriedColumns or None
        By place of appending; `carried_place` int64[n] says where each slot is.
    positives : int64[n]
        How many positives each slot has (see relation.positive_counts).
    source_rows : int
        Rows of the source, before anything was dropped.
    dropped : dict of str to int
        Rows that take no part, by cause.
    notes : list of str
    """

    store: Store
    rows: Rows
    frame: codes.Frame
    source_row: NDArray[np.int64]
    labels: Labels
    ids: pa.Array | None
    carried: CarriedColumns | None
    carried_place: NDArray[np.int64]
    positives: NDArray[np.int64]
    source_rows: int
    dropped: dict[str, int]
    notes: list[str] = field(default_factory=list)

    def gather(self, slots: NDArray[np.int32]) -> NDArray[np.float64]:
        """The vectors of slots in any order, as float64 (m, d)."""
        unique, inverse = np.unique(slots, return_inverse=True)
        rows: NDArray[np.float64] = self.store.take(unique).astype(np.float64)[inverse]
        return rows


def load(source: Source, config: MineConfig, store_bytes: int, scratch: Path, progress: Progress) -> Loaded:
    """Read the source through.

    Raises
    ------
    InputError
        For rows that cannot be mined, duplicate ids, or labels that give no pair.
    CapacityError
        When scratch is full.
    """
    reader = _Reader(source, config, store_bytes, scratch)
    progress.stage("read", source.rows or 0, "rows")
    for batch in source.batches():
        reader.add(batch)
        progress.advance(len(batch.vectors))
    release_memory()
    loaded = reader.finish()
    release_memory()
    return loaded


class _Reader:
    """Gathers batches; finish() turns them into Loaded."""

    def __init__(self, source: Source, config: MineConfig, store_bytes: int, scratch: Path) -> None:
        self.source, self.config = source, config
        self.store = Store(source.dimension, source.dtype, store_bytes, scratch, source.rows)
        assert source.label_type is not None
        self.labels = LabelReader(source.label_type, config.unlabeled_value)
        self.groups = Encoder()
        self.carried = CarriedColumns(store_bytes // 2, scratch) if source.columns.carry else None
        self.ids: list[pa.Array] = []
        self.id_rows: list[NDArray[np.int64]] = []
        self.rows: list[NDArray[np.int64]] = []
        self.hashes: list[NDArray[np.uint64]] = []
        self.source_rows = 0
        self.unlabeled = 0
        self.minus_one = 0

    def add(self, batch: RowBatch) -> None:
        assert batch.labels is not None
        count = len(batch.vectors)
        labels, labeled = self.labels.labeled(batch.labels)
        rows = np.arange(batch.start_row, batch.start_row + count)
        if batch.ids is not None:
            good = pa.array(~batch.bad)
            self.ids.append(batch.ids.filter(good))
            self.id_rows.append(rows[~batch.bad])
        if pa.types.is_integer(labels.type):
            self.minus_one += pc.sum(pc.equal(pc.cast(labels, pa.int64(), safe=False), -1)).as_py() or 0
        keep = ~batch.bad & (labeled | (self.config.unlabeled == "negative"))
        self.unlabeled += int((~labeled & ~batch.bad).sum())
        mask = pa.array(keep)
        self.labels.add(labels.filter(mask))
        if batch.groups is not None:
            self.groups.add(batch.groups.filter(mask))
        if self.carried is not None and batch.carry is not None:
            self.carried.append(batch.carry.filter(mask))
        vectors = batch.vectors[keep] if not keep.all() else batch.vectors
        if vectors.dtype == np.float16:
            vectors = vectors.astype(np.float32)
        hashes = np.empty(len(vectors), np.uint64)
        exact.row_hashes(vectors, hashes)
        self.hashes.append(hashes)
        self.store.append(vectors)
        self.rows.append(rows[keep])
        self.source_rows += count

    def finish(self) -> Loaded:
        config, store = self.config, self.store
        store.seal()
        source_row = np.concatenate(self.rows)
        labels = self.labels.finish()
        group = self.groups.finish()[0] if self.source.columns.group else NO_CODES
        place = np.arange(source_row.size)
        dropped = {f"bad: {kind}": count for kind, count in self.source.bad_rows.items()}
        if config.unlabeled == "ignore" and self.unlabeled:
            dropped["unlabelled"] = self.unlabeled
        if self.carried is not None:
            self.carried.seal()
        hashes = np.concatenate(self.hashes)
        ids, replaced = self._unique_ids()
        if replaced.size:
            dropped["replaced: duplicate id"] = replaced.size
            keep = ~np.isin(source_row, replaced)
            store.keep(keep)
            source_row, labels, place, hashes = source_row[keep], labels.keep(keep), place[keep], hashes[keep]
            group = group[keep] if group.size else group
        own_ids = None if ids is None else ids.take(pa.array(np.searchsorted(self._id_rows, source_row)))
        forbids = FORBIDS[config.group_rule] if group.size else 0
        positives = positive_counts(labels, group, bool(forbids & FORBIDS_POSITIVES))
        self._refuse_labels(labels, positives, int(source_row.size))
        twin = _twins(store, hashes)
        store, square = _prepared(store, config.normalize)
        rows = Rows(
            labels.code, labels.set_start, labels.set_code, group, twin, key_ranks(own_ids, source_row.size),
            draw_keys(own_ids, source_row), square, forbids,
        )  # fmt: skip
        loaded = Loaded(
            store, rows, _frame(store, square, config.metric), source_row, labels, own_ids, self.carried, place,
            positives, self.source_rows, dropped,
        )  # fmt: skip
        if self.minus_one > UNLABELED_WARNING_SHARE * self.source_rows and config.unlabeled_value != "-1":
            share = self.minus_one / self.source_rows
            loaded.notes.append(
                f"{share:.0%} of the rows carry the label -1: if that means unlabelled, add --unlabeled-value -1"
            )
        return loaded

    def _unique_ids(self) -> tuple[pa.Array | None, NDArray[np.int64]]:
        """The ids of all good rows, and the source rows that a duplicate id replaces."""
        if not self.ids:
            return None, np.empty(0, np.int64)
        ids = pa.concat_arrays(self.ids)
        self._id_rows = np.concatenate(self.id_rows)
        if pc.count_distinct(ids).as_py() == len(ids):
            return ids, np.empty(0, np.int64)
        code = np.asarray(pc.dictionary_encode(ids).indices, np.int64)
        column, policy = self.source.columns.id, self.config.on_duplicate_ids
        if policy == "error":
            many = np.bincount(code)
            at = np.flatnonzero(many[code] > 1)
            first = [f"{ids[int(i)].as_py()!r} in rows {self._id_rows[np.flatnonzero(code == code[i])][:3].tolist()}"
                     for i in at[np.unique(code[at], return_index=True)[1][:3]]]  # fmt: skip
            raise InputError(
                f"column {column!r}: {(many > 1).sum():,} ids stand in more than one row: {'; '.join(first)}",
                "add --on-duplicate-ids last (or first), or name another --id",
            )
        order = code if policy == "first" else code[::-1]
        winner = np.unique(order, return_index=True)[1]
        winner = winner if policy == "first" else code.size - 1 - winner
        losers = np.ones(code.size, bool)
        losers[winner] = False
        return ids, self._id_rows[losers]

    def _refuse_labels(self, labels: Labels, positives: NDArray[np.int64], taking_part: int) -> None:
        column = self.source.columns.label
        used = np.unique(labels.members()[1])
        if not used.size:
            raise InputError(
                f"column {column!r}: no row that takes part has a label ({self.source_rows:,} rows read)",
                "name another --label, or check --unlabeled-value",
            )
        if used.size == 1 and not (labels.code == UNLABELED).any():
            raise InputError(
                f"column {column!r}: all {taking_part:,} rows carry one label, so there is no negative",
                "name another --label",
            )
        if self.config.emit != "pairs" and not positives.any():
            grouped = " outside its own group (see --group-rule)" if self.source.columns.group else ""
            raise InputError(
                f"column {column!r}: no label has two rows{grouped}, so no anchor has a positive",
                "name another --label: triplets need at least one label with two rows",
            )


def _twins(store: Store, hashes: NDArray[np.uint64]) -> NDArray[np.int32]:
    """A code per set of rows equal element by element, from equal hashes whose rows were compared."""
    _, first, inverse, counts = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    twin = first[inverse].astype(np.int32)  # the first slot with the hash
    doubtful = np.flatnonzero(counts[inverse] > 1)
    for at in range(0, doubtful.size, PASS_ROWS):
        slots = doubtful[at : at + PASS_ROWS]
        firsts, back = np.unique(twin[slots], return_inverse=True)
        differs = (store.take(slots) != store.take(firsts)[back]).any(axis=1)
        for collided in np.unique(hashes[slots[differs]]):
            members = np.flatnonzero(hashes == collided)
            _, first_of, set_of = np.unique(store.take(members), axis=0, return_index=True, return_inverse=True)
            twin[members] = members[first_of[set_of.reshape(-1)]]
    return twin


def _prepared(store: Store, normalize: bool) -> tuple[Store, NDArray[np.float64]]:
    """The store that distances are computed from (normalised rows if asked), and dot(a, a) of its rows."""
    square = np.empty(store.rows, np.float64)
    for first in range(0, store.rows, PASS_ROWS):
        end = min(store.rows, first + PASS_ROWS)
        exact.squares(store.block(first, end), square[first:end])
    if not normalize:
        return store, square
    unit = store.like(np.dtype(np.float64))
    for first in range(0, store.rows, PASS_ROWS):
        end = min(store.rows, first + PASS_ROWS)
        rows = np.empty((end - first, store.dimension), np.float64)
        exact.normalize(store.block(first, end), square[first:end].copy(), rows)
        exact.squares(rows, square[first:end])
        unit.append(rows)
    unit.seal()
    store.close()
    return unit, square


def _frame(store: Store, square: NDArray[np.float64], metric: str) -> codes.Frame:
    """Centre and scale of the rows, so that float32 keeps as many digits as it can."""
    unit_rows = METRICS[metric].unit_rows
    total = np.zeros(store.dimension)
    blocks = [(first, min(store.rows, first + PASS_ROWS)) for first in range(0, store.rows, PASS_ROWS)]
    for first, end in blocks:
        codes.coordinate_sums(store.block(first, end), square[first:end], unit_rows, total)
    centre = total / store.rows
    widest = max(codes.widest(store.block(first, end), square[first:end], unit_rows, centre) for first, end in blocks)
    scale = 2.0 ** -math.floor(math.log2(widest)) if widest > 0 else 1.0
    return codes.Frame(centre, scale, unit_rows, not METRICS[metric].translation_invariant)


def choose_anchors(loaded: Loaded, config: MineConfig) -> NDArray[np.int32]:
    """The slots mined for, ascending: those with a positive (pairs: with a label), thinned by the balance options."""
    able = loaded.rows.label >= 0 if config.emit == "pairs" else loaded.positives > 0
    draws = anchor_draws(config.seed, loaded.rows.draw_key)
    order = np.lexsort((loaded.rows.rank, draws))
    place = np.empty(order.size, np.int64)
    place[order] = np.arange(order.size)
    if config.anchors_per_label is not None:
        rows, codes = loaded.labels.members()
        rows, codes = rows[able[rows]], codes[able[rows]]
        sorting = np.lexsort((place[rows], codes))
        rows, codes = rows[sorting], codes[sorting]
        nth = np.arange(rows.size) - np.searchsorted(codes, codes)
        able = np.zeros_like(able)
        able[rows[nth < config.anchors_per_label]] = True
    slots = np.flatnonzero(able)
    wanted = anchor_share(config.anchors, slots.size)
    kept = slots[np.argsort(place[slots])[:wanted]]
    return np.sort(kept).astype(np.int32)
