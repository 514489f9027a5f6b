"""The dataset: everything that was read, in the form that searching and mining use."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.inputs.dataset.carried import CarriedColumns
from minestream.inputs.dataset.labels import Labels
from minestream.inputs.dataset.vectors import Store, pair_distances
from minestream.kernels import quantize
from minestream.kernels.types import FORBIDS_NEGATIVES, FORBIDS_POSITIVES, Rows


@dataclass(frozen=True)
class Embedding:
    """Vectors of the rows by slot, with dot(a, a) of each: of the guide, or of a teacher."""

    name: str
    store: Store
    square: NDArray[np.float64]
    metric: str

    def distances(self, left: NDArray[np.int32], right: NDArray[np.int32]) -> NDArray[np.float64]:
        """Canonical distances of pairs of slots, float64[m]."""
        return pair_distances(self.store, self.square, self.metric, left, right)


@dataclass(frozen=True)
class Run:
    """Candidates from elsewhere: those of each slot, slot[start[a] : start[a + 1]], the first one first."""

    start: NDArray[np.int64]
    slot: NDArray[np.int32]


FORBIDS = {
    "both": FORBIDS_POSITIVES | FORBIDS_NEGATIVES,
    "positives": FORBIDS_POSITIVES,
    "negatives": FORBIDS_NEGATIVES,
}


@dataclass
class Dataset:
    """The rows that take part, by slot: vectors, labels, known and excluded pairs, ids, carried columns.

    Attributes
    ----------
    store : Store
    rows : Rows
        Labels, groups and listed pairs in the form that kernels read.
    frame : quantize.Frame
        How rows are converted to float32 for the sweep.
    tables : (Table, Table)
        The tables of anchors and of candidates; the same object if there is one.
    source_row : int64[n]
        Position of each slot in its unfiltered table.
    labels : Labels
    labeled : bool
        Whether there is a label column.
    positives : int64[n]
        Number of positives of each slot (see labels.positive_counts); 0 for rows that are no anchors.
    guide : Embedding or None
    others : tuple of Embedding
        Of the teachers behind the first, whose vectors are in `store`.
    name : str
        What columns call the first embedding.
    run : Run or None
    dropped, dropped_queries : dict of str to int
        Number of rows that take no part, by cause: of all tables, and of the first.
    one_input : bool
        Whether both tables are rows of one input.
    notes : list of str
    group_values : pyarrow.Array or None
        By code of rows.group.
    unlabeled_negatives : bool
        Whether rows without a label, where any take part, may be negatives.
    listed : dict
        By option what became of the pairs of a list: how many it has, how many are used, why others are left out.
    both : bool
        Whether the rows of either table are anchors, and those of the other their candidates.
    equal : int32[n] or None
        Equal for rows that are equal element by element, so that their distances from any row are equal; None:
        unknown. Rows with equal rows.twin are duplicates, which under cosine may differ in length.
    """

    store: Store
    rows: Rows
    frame: quantize.Frame
    tables: tuple[Table, Table]
    source_row: NDArray[np.int64]
    labels: Labels
    labeled: bool
    positives: NDArray[np.int64]
    guide: Embedding | None
    dropped: dict[str, int]
    one_input: bool
    notes: list[str] = field(default_factory=list)
    group_values: pa.Array | None = None
    unlabeled_negatives: bool = True
    equal: NDArray[np.int32] | None = None
    listed: dict[str, dict[str, Any]] = field(default_factory=dict)
    dropped_queries: dict[str, int] = field(default_factory=dict)
    both: bool = False
    others: tuple[Embedding, ...] = ()
    name: str = ""
    run: Run | None = None

    def table(self, role: str) -> Table:
        """The table that holds the rows of a role."""
        return self.tables[0] if role in ("anchor", "query", "left") else self.tables[1]

    @property
    def first_candidate(self) -> int:
        """The first slot of the candidates."""
        return 0 if self.both else self.tables[1].first

    @property
    def in_memory(self) -> bool:
        """Whether nothing lies in scratch."""
        stores = [self.store, *(each.store for each in (self.guide, *self.others) if each is not None)]
        carried = [table.carried for table in self.tables if table.carried is not None]
        return all(store.in_memory for store in stores) and all(columns.in_memory for columns in carried)

    def candidates_of(self, anchors: NDArray[np.int32]) -> NDArray[np.int64]:
        """How many rows are candidates of each anchor, itself among them: int64[A]."""
        own, other = (table.end - table.first for table in self.tables)
        return np.where(self.both & (anchors >= self.tables[1].first), own, other)

    def views(self) -> list[Dataset]:
        """The same rows as each table's anchors see them: one, or of both directions two."""
        if not self.both:
            return [self]
        queries = np.arange(self.store.rows) < self.tables[1].first
        other = {cause: count - self.dropped_queries.get(cause, 0) for cause, count in self.dropped.items()}
        return [
            replace(self, both=False, positives=np.where(queries, self.positives, 0)),
            replace(
                self, both=False, positives=np.where(queries, 0, self.positives), tables=self.tables[::-1],
                dropped_queries={cause: count for cause, count in other.items() if count},
            ),
        ]  # fmt: skip

    @property
    def source_rows(self) -> int:
        """Number of rows of all tables, before anything was dropped."""
        each = [table.source_rows for table in self.each_table()]
        return each[0] if self.one_input else sum(each)

    @property
    def rows_taking_part(self) -> int:
        """Number of rows that are anchors or candidates."""
        return np.unique(self.source_row).size if self.one_input else self.store.rows

    def each_table(self) -> list[Table]:
        """The tables, one or two."""
        return list(self.tables[: 1 if self.tables[0] is self.tables[1] else 2])

    @property
    def carried_row_bytes(self) -> int:
        """What is carried of a row, and its id, on average, in the table where that is most."""
        return max(table.carried_row_bytes for table in self.each_table())

    def gather(self, slots: NDArray[np.int32]) -> NDArray[np.float64]:
        """The vectors of slots in any order, as float64 (m, d)."""
        unique, inverse = np.unique(slots, return_inverse=True)
        rows: NDArray[np.float64] = self.store.take(unique).astype(np.float64)[inverse]
        return rows


@dataclass(frozen=True)
class Table:
    """Ids and carried columns of the rows of one table, which are slots `first` ... `end` - 1."""

    first: int
    end: int
    ids: pa.Array | None
    carried: CarriedColumns | None
    carried_place: NDArray[np.int64]
    source_rows: int  # before anything was dropped

    def take_ids(self, slots: NDArray[np.int32]) -> pa.Array | None:
        """The ids of slots."""
        return None if self.ids is None else self.ids.take(pa.array(slots - self.first))

    @property
    def carried_row_bytes(self) -> int:
        """What is carried of a row, and its id, on average."""
        ids = 0 if self.ids is None else self.ids.nbytes // max(1, len(self.ids))
        return ids + (0 if self.carried is None else self.carried.row_bytes)

    def take_carried(self, slots: NDArray[np.int32]) -> pa.Table | None:
        """The carried columns of slots."""
        return None if self.carried is None else self.carried.take(self.carried_place[slots - self.first])
