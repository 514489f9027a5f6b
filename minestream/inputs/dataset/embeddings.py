"""Other embeddings of the rows, read and put in the order of slots: the guide (`--guide`), and those of teachers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.config.memory_plan import MemoryPlan
from minestream.config.mine_config import MineConfig
from minestream.errors import InputError
from minestream.inputs.beside import Beside
from minestream.inputs.dataset.dataset import Embedding
from minestream.inputs.dataset.labels import NO_ROWS
from minestream.inputs.dataset.prepare import prepared
from minestream.inputs.dataset.table_reader import TableReader, refuse_shared
from minestream.inputs.dataset.vectors import Store
from minestream.inputs.pairs import like_ids
from minestream.system.threads import Workers
from minestream.system.values import many, verb

if TYPE_CHECKING:
    from minestream.inputs.row_batch import RowBatch
    from minestream.inputs.source import Source


@dataclass(frozen=True)
class _Read:
    """The rows of one table: the vectors of the good `rows` (ascending) are in the store from `first` on.

    count : number of all rows; bad : the bad rows, by kind; ids : of the good rows, where it is joined by id
    """

    first: int
    rows: NDArray[np.int64]
    count: int
    bad: dict[str, NDArray[np.int64]]
    ids: pa.Array | None


class EmbeddingReader:
    """Reads another embedding before the tables, because a row whose other vector is bad is a bad row.

    Attributes
    ----------
    dropped : list of Counter
        Number of rows of each table that it makes take no part, by cause.
    """

    def __init__(self, beside: Beside, config: MineConfig, plan: MemoryPlan, scratch: Path) -> None:
        sources = beside.sources
        dtype = np.result_type(*(source.dtype for source in sources))
        rows = None if any(source.rows is None for source in sources) else sum(source.rows or 0 for source in sources)
        self._store = Store.of_rows(sources[0].dimension, dtype, plan.vector_rows, scratch, rows)
        self.beside, self._config, self._plan = beside, config, plan
        self._tables = [self._read(source) for source in sources]
        self._store.seal()
        self.dropped = [Counter[str]() for _ in sources]

    def _read(self, source: Source) -> _Read:
        first, rows, count = self._store.rows, [NO_ROWS], 0
        bad: dict[str, NDArray[np.int64]] = {}
        ids: list[pa.Array] = []
        for batch in source.batches(self._plan.batch_rows, self._plan.readers, self._plan.ahead):
            good = ~batch.bad
            self._store.place(batch.vectors, None if good.all() else good)()
            rows.append(batch.rows[good])
            if self.beside.by_id and batch.ids is not None:
                ids.append(batch.ids.filter(pa.array(good)))
            for kind, places in batch.kinds.items():
                bad[kind] = np.concatenate([bad.get(kind, NO_ROWS), batch.rows[places]])
            count += good.size
        every = pa.concat_arrays(ids) if ids else None
        if every is not None:
            refuse_shared(every, np.concatenate(rows), source)
        return _Read(first, np.concatenate(rows), count + source.left_out, bad, every)

    def marked(self, side: int, batches: Iterator[RowBatch]) -> Iterator[RowBatch]:
        """Yield the batches of a table, with rows marked as bad if their vector here is bad."""
        for batch in batches:
            bad = batch.bad.copy()
            for kind, rows in self._tables[side].bad.items() if not self.beside.by_id else ():
                found, cause = np.isin(batch.rows, rows) & ~bad, f"bad {self.beside.role}: {kind}"
                if found.any():
                    self.dropped[side][cause] += int(found.sum())
                bad |= found
            yield replace(batch, bad=bad)

    def lacking(self, side: int, reader: TableReader) -> NDArray[np.bool_]:
        """Which rows that a reader holds have no vector here, because a table of its own does not have their ids.

        Raises
        ------
        InputError
            For such rows, unless bad rows are dropped.
        """
        if not self.beside.by_id:
            return np.zeros(reader.source_row.size, bool)
        lost = self._joined(side, reader.own_ids()) < 0
        if lost.any() and self._config.on_bad_rows == "error":
            name, ids = self.beside.sources[side].name, reader.own_ids()
            first = "" if ids is None else f", the first is {ids[int(np.argmax(lost))].as_py()!r}"
            raise InputError(
                f"{name}: {many(int(lost.sum()), 'row')} {verb(int(lost.sum()), 'have')} no vector there{first}",
                "leave such rows out with --on-bad-rows drop",
            )
        return lost

    def _joined(self, side: int, ids: pa.Array | None) -> NDArray[np.int64]:
        """The row of the store for each id; -1 for unknown ones."""
        read, name = self._tables[side], self.beside.sources[side].name
        if read.ids is None or ids is None:
            return np.full(0 if ids is None else len(ids), -1)
        place = pc.index_in(ids, value_set=like_ids(read.ids, ids, name, "rows", [])).fill_null(-1)
        at = np.asarray(place, np.int64)
        return np.where(at < 0, -1, at + read.first)

    def embedding(self, readers: list[TableReader], workers: Workers) -> Embedding:
        """The embedding by slot.

        Raises
        ------
        InputError
            If a column has another number of rows.
        """
        places = []
        for side, (read, reader) in enumerate(zip(self._tables, readers, strict=True)):
            if self.beside.by_id:
                places.append(self._joined(side, reader.own_ids()))
                continue
            if read.count != reader.source_rows:
                what = f"{many(read.count, 'vector')} for {many(reader.source_rows, 'row')}"
                raise InputError(f"the {self.beside.role} has {what}", "give one a row")
            places.append(read.first + np.searchsorted(read.rows, reader.source_row))
        store = arranged(self._store, np.concatenate(places))
        return Embedding(self.beside.name, *prepared(store, self._config.normalize, workers), self._config.metric)


def arranged(store: Store, places: NDArray[np.int64]) -> Store:
    """The store of some rows of another, which is closed, in this order."""
    if (np.diff(places) > 0).all():
        keep = np.zeros(store.rows, bool)
        keep[places] = True
        if not keep.all():
            store.keep(keep)
        return store
    found = store.like(store.dtype)
    for first in range(0, places.size, store.pass_rows):
        unique, inverse = np.unique(places[first : first + store.pass_rows], return_inverse=True)
        found.append(store.take(unique)[inverse])
    found.seal()
    store.close()
    return found
