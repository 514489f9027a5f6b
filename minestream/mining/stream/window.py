"""The window: the most recent rows of a stream, in bounded memory, in the form that a search reads.

Labels, groups, ids and equal vectors are compared by 128-bit hashes; columns for the output are kept as Arrow data.
Everything about a row is dropped with the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.config.metrics import METRICS
from minestream.config.mine_config import MineConfig
from minestream.errors import InputError
from minestream.inputs.dataset.dataset import FORBIDS, Table
from minestream.inputs.dataset.draws import draw_keys
from minestream.inputs.dataset.labels import NO_CODES, NO_ROWS, LabelReader, Labels
from minestream.inputs.dataset.prepare import compared
from minestream.inputs.dataset.vectors import Store
from minestream.inputs.row_batch import RowBatch
from minestream.inputs.source import Source
from minestream.kernels import distances, quantize, window
from minestream.kernels.types import Rows
from minestream.mining.stream.ring import ArrowRows, Coder, Ring, hashed, value_hashes, vector_hashes
from minestream.search.windows import WindowCodes, WindowDataset
from minestream.system import ragged

NEVER = np.iinfo(np.int64).max


class WindowVectors(Store):
    """The vectors of the window as searches read them."""

    def __init__(self, vectors: NDArray[Any]) -> None:
        super().__init__(vectors.shape[1], vectors.dtype, max(1, vectors.nbytes), Path())
        self._array, self.rows = vectors, len(vectors)


@dataclass(frozen=True)
class WindowTable(Table):
    """The ids and carried columns of the rows in the window."""

    arrow: ArrowRows
    id_column: str | None
    carry: tuple[str, ...]

    def take_ids(self, slots: NDArray[np.int32]) -> pa.Array | None:
        """The ids of slots."""
        return None if self.id_column is None else self.arrow.take([ID], slots)[ID].combine_chunks()

    def take_carried(self, slots: NDArray[np.int32]) -> pa.Table | None:
        """The carried columns of slots."""
        found = self.arrow.take([CARRY + name for name in self.carry], slots)
        return found.rename_columns(list(self.carry)) if self.carry else None


@dataclass(frozen=True)
class WindowLabels(Labels):
    """The labels of the rows in the window."""

    arrow: ArrowRows

    def take(self, rows: NDArray[np.integer]) -> pa.Array:
        """The labels of `rows` as they stand in the input."""
        return self.arrow.take([LABEL], rows)[LABEL].combine_chunks()


ID, LABEL, CARRY = "id", "label", "carry "  # columns for the output; a carried one is called CARRY + its name


class Window:
    """The rows of a stream that may still be candidates.

    Parameters
    ----------
    source : Source
        Describes the rows of the stream; nothing is read from it.
    config : MineConfig
        With a window.

    Attributes
    ----------
    labels : LabelReader
    unlabeled, replaced : int
        Rows so far that took no part because they have no label, or because a later row of their id replaced them.
    taken : int
        Rows so far that took part.
    """

    def __init__(self, source: Source, config: MineConfig) -> None:
        columns = source.columns
        self._config, self._columns = config, columns
        self._window_rows = config.window or 0
        self.labels = LabelReader(source.label_type or pa.int8(), config.unlabeled_value)
        self.unlabeled = self.replaced = self.taken = 0
        stored = np.dtype(np.float32) if source.dtype == np.float16 else source.dtype
        self._vectors = Ring(np.float64 if config.normalize else stored, (source.dimension,))
        self._codes = Ring(np.float32, (source.dimension,))
        metric = METRICS[config.metric]
        self._frame = quantize.Frame(
            np.zeros(source.dimension), 1.0, metric.unit_rows, not metric.translation_invariant
        )
        kinds = {"row": np.int64, "label": np.int32, "twin": np.int32, "square": np.float64, "key": np.uint64}
        kinds |= {"h": np.float64, "own": np.float64, "bias": np.float32, "slack": np.float32}
        kinds |= {"group": np.int32} if columns.group else {}
        kinds |= {"id": np.int32, "until": np.int64} if columns.id else {}
        kinds |= {"sets": np.int64} if self.labels.multiple else {}
        self._rings = {name: Ring(kind) for name, kind in kinds.items()}
        self._sets = Ring(np.int32)  # the sorted codes of every row's set of labels, one behind another
        self._coders = {name: Coder() for name in ("label", "set", "twin", "group", "id")}
        self._last = np.full(0, -1, np.int64)  # for each code of an id the number of its last row, among all rows taken
        shown = [pa.field(ID, source.id_type)] if columns.id else []
        shown += [pa.field(LABEL, self.labels.kind)]
        shown += [pa.field(CARRY + name, source.schema.field(name).type) for name in columns.carry]
        self._arrow = ArrowRows(pa.schema(shown))

    def __len__(self) -> int:
        return len(self._vectors.rows)

    @property
    def has_ids(self) -> bool:
        """Whether there is a column of ids."""
        return self._columns.id is not None

    def evict(self, before: int) -> None:
        """Drop the rows whose number in the stream is below `before`."""
        count = int(np.searchsorted(self._rings["row"].rows, before))
        for name, coder in self._coders.items():
            if name in self._rings:
                coder.drop(self._rings[name].rows[:count])
        if self.labels.multiple:
            codes = int(self._rings["sets"].rows[:count].sum())
            self._coders["set"].drop(self._sets.rows[:codes])
            self._sets.drop(codes)
        self._arrow.drop(count)
        for ring in (self._vectors, self._codes, *self._rings.values()):
            ring.drop(count)

    @property
    def _all_rings(self) -> list[Ring]:
        return [self._vectors, self._codes, self._sets, *self._rings.values()]

    def reserve(self, rows: int) -> None:
        """Make room for `rows` rows."""
        for ring in (self._vectors, self._codes, *self._rings.values()):
            ring.reserve(rows)

    def snapshot(self) -> tuple[Any, ...]:
        """The state that `restore` takes; it takes memory until `commit`."""
        every: list[Ring | Coder | ArrowRows] = [*self._all_rings, *self._coders.values(), self._arrow]
        parts = [(part, part.snapshot()) for part in every]
        until = self._rings["until"].rows.copy() if self._columns.id else None
        return parts, until, self._last.copy(), (self.unlabeled, self.replaced, self.taken)

    def restore(self, saved: tuple[Any, ...]) -> None:
        """Undo everything since `snapshot`."""
        parts, until, self._last, (self.unlabeled, self.replaced, self.taken) = saved
        for part, before in parts:
            part.restore(before)
        if until is not None:
            self._rings["until"].rows[:] = until

    def commit(self) -> None:
        """Forget the snapshot."""
        for ring in self._all_rings:
            ring.commit()

    def append(self, batch: RowBatch) -> None:
        """Add the rows of a batch that take part.

        Raises
        ------
        InputError
            For an id that occurs twice within a window, unless --on-duplicate-ids is last.
        """
        given = pa.nulls(len(batch.vectors), self.labels.kind) if batch.labels is None else batch.labels
        labels, labeled = self.labels.labeled(given)
        keep = ~batch.bad & (labeled | (self._config.unlabeled == "negative"))
        self.unlabeled += int((~labeled & ~batch.bad & ~keep).sum())
        rows = batch.rows[keep]
        mask = pa.array(keep)
        labels = labels.filter(mask)
        ids = None if batch.ids is None else batch.ids.filter(mask)
        if batch.ids is not None:
            named = ~batch.bad | (self._config.on_duplicate_ids == "last")  # the id of a bad row is no error
            self._append_ids(batch.ids.filter(pa.array(named)), batch.rows[named], keep[named])
        self._append_labels(labels)
        if batch.groups is not None:
            self._rings["group"].append(self._coders["group"].add(*value_hashes(batch.groups.filter(mask))))
        self._append_vectors(batch.vectors[keep])
        self._rings["row"].append(rows)
        self._rings["key"].append(draw_keys(ids, rows))
        shown = [ids] if ids is not None else []
        shown += [labels, *(column.filter(mask) for column in (batch.carry.columns if batch.carry else ()))]
        self._arrow.append(pa.record_batch(shown, self._shown_names))
        self.taken += rows.size

    @property
    def _shown_names(self) -> list[str]:
        return [*([ID] if self._columns.id else []), LABEL, *(CARRY + name for name in self._columns.carry)]

    def _append_vectors(self, vectors: NDArray[Any]) -> None:
        vectors = vectors.astype(np.float32) if vectors.dtype == np.float16 else np.array(vectors)
        square = np.empty(len(vectors))
        distances.squares(vectors, square)
        if self._config.normalize:
            unit = np.empty(vectors.shape, np.float64)
            distances.normalize(vectors, square.copy(), unit)
            distances.squares(unit, square)
            vectors = unit
        hashes = vector_hashes(compared(vectors, METRICS[self._config.metric].unit_rows))
        self._rings["twin"].append(self._coders["twin"].add(hashes, np.arange(len(hashes))))
        self._vectors.append(vectors)
        self._rings["square"].append(square)
        n, values = len(vectors), np.empty(vectors.shape, np.float32)
        bias, mirrored, slack, scale = (np.empty(n, np.float32) for _ in range(4))
        tail, start = np.empty(n, np.float32), np.empty((n, 2), np.int32)
        terms = quantize.Terms(np.empty(n), np.empty(n), bias, mirrored, slack, scale, tail, start)
        quantize.float_codes(self._frame, vectors, square, values, terms)
        self._codes.append(values)
        for name in ("h", "own", "bias", "slack"):
            self._rings[name].append(getattr(terms, name))

    def _append_labels(self, labels: pa.Array) -> None:
        if not self.labels.multiple:
            self._rings["label"].append(self._coders["label"].add(*value_hashes(labels)))
            return
        hashes, at = value_hashes(labels.flatten())
        code = self._coders["set"].add(hashes, at)
        parent = np.asarray(pc.list_parent_indices(labels), np.int64)
        both, first = np.unique(np.stack([parent, code.astype(np.int64)], axis=1), axis=0, return_index=True)
        again = np.ones(code.size, bool)
        again[first] = False
        self._coders["set"].drop(code[again])  # a label given twice counts once
        both = both[both[:, 1] >= 0]
        counts = np.bincount(both[:, 0], minlength=len(labels))
        named: list[list[bytes]] = [[] for _ in range(len(labels))]
        for row, place in zip(parent.tolist(), at.tolist(), strict=True):
            named[row] += [hashes[place]] if place >= 0 else []
        sets = [hashed(b"".join(sorted(set(each)))) for each in named]
        self._rings["label"].append(self._coders["label"].add(sets, np.where(counts > 0, np.arange(counts.size), -1)))
        self._rings["sets"].append(counts)
        self._sets.append(both[:, 1].astype(np.int32))

    def _append_ids(self, ids: pa.Array, rows: NDArray[np.int64], keep: NDArray[np.bool_]) -> None:
        """Find the earlier rows that these rows replace, kept or not; `number` counts all rows taken."""
        code = self._coders["id"].add(*value_hashes(ids))
        if self._coders["id"].codes > self._last.size:
            self._last = np.concatenate([self._last, np.full(self._coders["id"].codes, -1, np.int64)])
        number = self.taken + np.cumsum(keep) - keep  # of a row that is not kept: that of the next kept one
        standing = np.where(keep, number, -1)
        order = np.argsort(code, kind="stable")
        earlier = self._last[code[order]]
        same = np.flatnonzero(code[order][1:] == code[order][:-1])
        earlier[same + 1] = standing[order][same]
        before = np.empty(rows.size, np.int64)
        before[order] = earlier
        self._last[code] = standing  # of equal codes the last is kept
        first = self.taken - len(self)
        there = before >= first
        held = np.concatenate([self._rings["row"].rows, rows[keep]])
        near = np.flatnonzero(there)[rows[there] - held[before[there] - first] <= self._window_rows]
        if near.size and self._config.on_duplicate_ids == "error":
            at = int(near[0])
            other = int(held[before[at] - first])
            raise InputError(
                f"column {self._columns.id!r}: the id {ids[at].as_py()!r} stands in rows {other} and {int(rows[at])}, "
                f"which is within the window of {self._window_rows:,} rows",
                "--on-duplicate-ids last lets a row replace the one before it; or name another --id",
            )
        self._coders["id"].drop(code[~keep])
        self.replaced += near.size
        self._rings["id"].append(code[keep])
        self._rings["until"].append(np.full(int(keep.sum()), NEVER))
        self._rings["until"].rows[before[there] - first] = number[there]

    def loaded(self, anchors: int = 0) -> WindowDataset:
        """The rows as a search reads them, valid until rows are added; the last `anchors` of them are searched for."""
        rings = {name: ring.rows for name, ring in self._rings.items()}
        n = len(self)
        rows, vectors = rings["row"], self._vectors.rows
        oldest = np.arange(n)
        oldest[n - anchors :] = np.searchsorted(rows, rows[n - anchors :] - self._window_rows)
        until = NO_ROWS
        if self.replaced:
            until = np.where(rings["until"] == NEVER, NEVER, rings["until"] - (self.taken - n))
        set_start, set_code = NO_ROWS, NO_CODES
        if self.labels.multiple:
            set_start, set_code = ragged.starts(rings["sets"]), self._sets.rows
        group = rings.get("group", NO_CODES)
        relation = Rows(
            rings["label"], set_start, set_code, NO_ROWS, NO_CODES, NO_ROWS, NO_CODES, group, rings["twin"],
            np.arange(n), rings["key"], rings["square"], FORBIDS[self._config.group_rule] if group.size else 0, oldest,
            until,
        )  # fmt: skip
        positives = np.zeros(n, np.int64)
        window.count_positives(relation, np.arange(n - anchors, n).astype(np.int32), positives[n - anchors :])
        table = WindowTable(0, n, None, None, NO_ROWS, 0, self._arrow, self._columns.id, self._columns.carry)
        labels = WindowLabels(rings["label"], set_start, set_code, pa.nulls(0), self._arrow)
        own = WindowCodes(self._codes.rows, rings["h"], rings["own"], rings["bias"], rings["slack"])
        return WindowDataset(
            WindowVectors(vectors), relation, self._frame, (table, table), rows, labels,
            self._columns.label is not None, positives, None, {}, False, codes=own,
        )  # fmt: skip
