"""The guide: a second embedding of every row, whose similarities have a say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.config import MineConfig
from minestream.errors import InputError
from minestream.kernels import exact
from minestream.metric import METRICS
from minestream.prepare import prepared
from minestream.store import Store

if TYPE_CHECKING:
    from minestream.reader import Table
    from minestream.source import Source

PAIRS_AT_ONCE = 65_536


def pair_distances(
    store: Store, square: NDArray[np.float64], metric: str, left: NDArray[np.integer], right: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Canonical distances of pairs of rows of a store; square float64[n]: dot(a, a) of each."""
    out = np.empty(left.size, np.float64)
    for first in range(0, left.size, PAIRS_AT_ONCE):
        a, b = left[first : first + PAIRS_AT_ONCE], right[first : first + PAIRS_AT_ONCE]
        unique, at = np.unique(np.concatenate([a, b]), return_inverse=True)
        rows = store.take(unique)
        exact.paired_distances(
            METRICS[metric].code, rows[at[: a.size]], square[a], rows[at[a.size :]], square[b],
            out[first : first + a.size],
        )  # fmt: skip
    return out


@dataclass(frozen=True)
class Guide:
    """The guide's vectors: `place` int64[n] says where in the store each slot's is."""

    store: Store
    square: NDArray[np.float64]
    place: NDArray[np.int64]
    metric: str

    def distances(self, left: NDArray[np.int32], right: NDArray[np.int32]) -> NDArray[np.float64]:
        """Canonical distances of pairs of slots."""
        return pair_distances(self.store, self.square, self.metric, self.place[left], self.place[right])


def load_guide(
    guides: Sequence[Source], config: MineConfig, tables: Sequence[Table], source_rows: Sequence[NDArray[np.int64]],
    store_bytes: int, scratch: Path,
) -> Guide:  # fmt: skip
    """Read the guide's vectors of every table; joined by id where they stand in tables of their own.

    store_bytes, scratch : as for Store

    Raises
    ------
    InputError
        For rows without a vector, ids that are not unique, another number of rows.
    """
    dtype = np.result_type(*(guide.dtype for guide in guides))
    rows = None if any(guide.rows is None for guide in guides) else sum(guide.rows or 0 for guide in guides)
    store = Store(guides[0].dimension, dtype, store_bytes, scratch, rows)
    places = []
    for guide, table, of_slot in zip(guides, tables, source_rows, strict=True):
        first, ids = store.rows, []
        for batch in guide.batches():
            store.append(batch.vectors.astype(store.dtype, copy=False))
            ids += [] if batch.ids is None else [batch.ids]
        at = _joined(pa.concat_arrays(ids) if ids else None, table) if config.guide_tables else of_slot
        places.append(first + at)
    store.seal()
    store, square = prepared(store, config.normalize)
    return Guide(store, square, np.concatenate(places), config.metric)


def _joined(ids: pa.Array | None, table: Table) -> NDArray[np.int64]:
    """Where the guide has the vector of each row of a table."""
    if ids is None or table.ids is None:
        raise InputError("the guide's tables are joined by id, and an id column is missing", "name it with --id")
    if ids.type != table.ids.type:
        raise InputError(
            f"the guide's ids are {ids.type}, those of the rows {table.ids.type}", "write both with one type"
        )
    if pc.count_distinct(ids).as_py() != len(ids):
        raise InputError("the guide's ids are not unique", "keep one vector an id")
    at = np.asarray(pc.index_in(table.ids, value_set=ids).fill_null(-1), np.int64)
    missing = np.flatnonzero(at < 0)
    if missing.size:
        first = table.ids[int(missing[0])].as_py()
        raise InputError(
            f"the guide has no vector of {missing.size:,} rows, the first is id {first!r}", "embed them too"
        )
    return at
