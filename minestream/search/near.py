"""The cells near each row, by which an approximate search decides what meets: by the vectors alone.

Whichever rows are searched for, the same rows have the same cells (cells.py).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.vectors import Store
from minestream.kernels.relation import NARROWER
from minestream.kernels.tile_shapes import host_tiles
from minestream.search.cells import ROWS_OF_CELL, TOGETHER, nearest_cells
from minestream.search.context import SearchContext
from minestream.system.threads import Workers

LISTED = 32  # cells of every row that are kept, the nearest
CELLS_OF_ROOT = 3  # cells: so many times the root of the rows, where finding them costs about as much as what meets
MOST_CELLS = 32_768


def cells_of_rows(rows: int) -> int:
    """How many cells so many rows have."""
    return max(1, min(MOST_CELLS, rows // 2, math.isqrt(CELLS_OF_ROOT**2 * rows)))


def cells_bytes(store: Store, threads: int) -> int:
    """What near_cells() takes beside what it finds, about: while it makes centres of a sample, or looks at all rows."""
    rows, dimension, read = store.rows, store.dimension, 0 if store.in_memory else store.row_bytes
    cells, code = cells_of_rows(rows), dimension if "i8" in host_tiles() else 4 * dimension
    together = min(rows, threads * min(TOGETHER, store.pass_rows))
    held = min(rows, ROWS_OF_CELL * cells) * (code + 16) + 16 * cells * dimension
    return held + max(26 * cells * dimension, together * (read + 2 * code + 320))


def near_cells(loaded: Dataset, workers: Workers, threads: int) -> NDArray[np.uint16]:
    """The cells near every slot, the nearest first: uint16[n, LISTED], or fewer where there are fewer.

    Cost: n^1.5 d operations of the screen.
    """
    return nearest_cells(loaded, workers, threads, cells_of_rows(loaded.store.rows), LISTED)


@dataclass(frozen=True)
class Schedule:
    """What looks at what: the cells near every slot, and of how many of them count.

    Attributes
    ----------
    near : uint16[n, k]
    width : int
        A row looks into the `width` nearest cells, and is a member of the nearest `members`.
    """

    near: NDArray[np.uint16]
    width: int

    @property
    def members(self) -> int:
        """Of how many cells a row is a member."""
        return members_of(self.width)

    def limit(self, setting: SearchContext) -> SearchContext:
        """The setting of searches among rows that look at each other."""
        rows = setting.loaded.rows._replace(near=self.near, width=self.width)
        return replace(setting, loaded=replace(setting.loaded, rows=rows))

    def looked_at(self, a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether pairs of slots look at each other: one looks into a cell of which the other is a member."""
        return widths_of(self.near, a, b) <= self.width

    @cached_property
    def share(self) -> float:
        """Products of pairs that meet, as a share of those of all pairs; a pair that meets twice counts twice."""
        return float(shares_of(self.near)[self.width - 1])


def members_of(width: int) -> int:
    """Of how many cells a row is a member that looks into `width`."""
    return max(1, width // NARROWER)


def shares_of(near: NDArray[np.uint16]) -> NDArray[np.float64]:
    """The share of all pairs, see Schedule.share, of every width from 1 on: float64[k]."""
    cells, rows = int(near.max(initial=0)) + 1, max(2, len(near))
    looking = np.cumsum([np.bincount(column, minlength=cells) for column in near.T], axis=0, dtype=np.float64)
    own = looking[[members_of(width) - 1 for width in range(1, len(looking) + 1)]]
    shares: NDArray[np.float64] = (own * (looking - (own + 1) / 2)).sum(axis=1) / (rows * (rows - 1) / 2)
    return shares


def widths_of(near: NDArray[np.uint16], a: NDArray[np.int32], b: NDArray[np.int32]) -> NDArray[np.int64]:
    """The least width at which pairs of slots look at each other, int64[m]; more than there are cells where none is."""
    listed = near.shape[1]
    needed = np.arange(1, listed + 1)
    member = np.array([next((w for w in needed if members_of(w) > place), listed + 1) for place in range(listed)])
    found = np.full(a.size, listed + 1)
    for of_one, of_other in ((near[a], near[b]), (near[b], near[a])):
        for place in range(members_of(listed)):
            same = of_one == of_other[:, place, None]
            looks = np.where(same.any(axis=1), same.argmax(axis=1) + 1, listed + 1)
            found = np.minimum(found, np.maximum(looks, member[place]))
    return found
