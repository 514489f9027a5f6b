"""The guide (`--guide`): a second embedding of every row, whose similarities must pass the filters too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from minestream.config.memory_plan import MemoryPlan
from minestream.config.mine_config import MineConfig
from minestream.errors import InputError
from minestream.inputs.dataset.dataset import Guide
from minestream.inputs.dataset.labels import NO_ROWS
from minestream.inputs.dataset.prepare import prepared
from minestream.inputs.dataset.vectors import Store
from minestream.system.threads import Workers
from minestream.system.values import many

if TYPE_CHECKING:
    from minestream.inputs.dataset.dataset import Table
    from minestream.inputs.source import RowBatch, Source


@dataclass(frozen=True)
class _Read:
    """The guide's rows of one table: the vectors of the good `rows` (ascending) are in the store from `first` on.

    count : number of all rows; bad : the bad rows, by kind
    """

    first: int
    rows: NDArray[np.int64]
    count: int
    bad: dict[str, NDArray[np.int64]]


class GuideReader:
    """Reads the guide before the tables, because a row with a bad guide vector is a bad row.

    Attributes
    ----------
    dropped : list of Counter
        Number of rows of each table that `marked` has marked, by cause.
    """

    def __init__(self, guides: Sequence[Source], config: MineConfig, plan: MemoryPlan, scratch: Path) -> None:
        dtype = np.result_type(*(guide.dtype for guide in guides))
        rows = None if any(guide.rows is None for guide in guides) else sum(guide.rows or 0 for guide in guides)
        self._store = Store.of_rows(guides[0].dimension, dtype, plan.vector_rows, scratch, rows)
        self._config, self._batch_rows = config, plan.batch_rows
        self._tables = [self._read(guide) for guide in guides]
        self._store.seal()
        self.dropped = [Counter[str]() for _ in guides]

    def _read(self, guide: Source) -> _Read:
        first, rows, count = self._store.rows, [NO_ROWS], 0
        bad: dict[str, NDArray[np.int64]] = {}
        for batch in guide.batches(self._batch_rows):
            good = ~batch.bad
            self._store.append(batch.vectors[good].astype(self._store.dtype, copy=False))
            rows.append(batch.rows[good])
            for kind, places in batch.kinds.items():
                bad[kind] = np.concatenate([bad.get(kind, NO_ROWS), batch.rows[places]])
            count += good.size
        return _Read(first, np.concatenate(rows), count + guide.left_out, bad)

    def marked(self, side: int, batches: Iterator[RowBatch]) -> Iterator[RowBatch]:
        """Yield the batches of a table, with rows marked as bad if their guide vector is bad."""
        for batch in batches:
            bad = batch.bad.copy()
            for kind, rows in self._tables[side].bad.items():
                found, cause = np.isin(batch.rows, rows) & ~bad, f"bad guide: {kind}"
                if found.any():
                    self.dropped[side][cause] += int(found.sum())
                bad |= found
            yield replace(batch, bad=bad)

    def guide(
        self, tables: Sequence[Table], source_rows: Sequence[NDArray[np.int64]], workers: Workers
    ) -> Guide:  # fmt: skip
        """The guide by slot.

        Raises
        ------
        InputError
            If the guide has another number of rows.
        """
        places = []
        for read, table, of_slot in zip(self._tables, tables, source_rows, strict=True):
            if read.count != table.source_rows:
                raise InputError(
                    f"the guide has {many(read.count, 'vector')} for {many(table.source_rows, 'row')}", "give one a row"
                )
            places.append(read.first + np.searchsorted(read.rows, of_slot))
        store, square = prepared(self._store, self._config.normalize, workers)
        return Guide(store, square, np.concatenate(places), self._config.metric)
