"""The pairs that batches are composed of, with their rows in the table that they are of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from minestream.errors import InputError
from minestream.inputs.dataset.dataset import Dataset, Table
from minestream.inputs.decode import as_array
from minestream.outputs.mined import MinedOutput, open_parquet, reading
from minestream.outputs.trainers.columns import anchor_role
from minestream.outputs.trainers.export import refuse
from minestream.system import ragged
from minestream.system.paths import readable

BATCH_ROWS = 16_384
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class MinedPairs:
    """Pairs, in the order of the mined output, or of the table, that they are from.

    Attributes
    ----------
    role : {"anchor", "query"}
    rows : int
        How many rows, of the mined output or the table, or pairs of --qrels, `first` numbers.
    first : int64[pairs]
        The number of each pair: of its first row in the mined output, of the anchor's row, or of the pair in --qrels.
    anchor, positive : int64[pairs]
        Their rows in the mined tables.
    start, negative : int64[pairs + 1], int64[entries]
        The rows of the negatives of each pair, as mined; start int64[0] where pairs come without.
    name : str
        What they are from, for messages.
    about : dict
        What manifests say of it: version, fingerprint, columns, source, config.
    column : function
        A column of that for each pair, by name (anchor_COL, positive_COL); None where there is none. With largest=True
        the largest value of a pair's rows, in place of the first.
    notes : tuple of str
    """

    role: str
    rows: int
    first: Numbers
    anchor: Numbers
    positive: Numbers
    start: Numbers
    negative: Numbers
    name: str
    about: Mapping[str, Any]
    column: Callable[..., pa.Array | None]
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many pairs there are."""
        return self.first.size


def read_pairs(found: MinedOutput) -> MinedPairs:
    """The pairs of a mined output of triplets or tuples. Takes 40 bytes a pair and 8 a negative.

    Raises
    ------
    UsageError
        For pairs without a direction (--emit pairs), and for triplets that are shuffled.
    """
    refuse(found)
    with reading(found.files[0], InputError):
        names = pq.read_schema(readable(found.files[0])).names
    role, lists = anchor_role(names), "negative_rows" in names
    columns = [f"{role}_row", "positive_row", "negative_rows" if lists else "negative_row"]
    anchors, positives, lengths, negatives = ([np.empty(0, np.int64)] for _ in range(4))
    for path in found.files:
        with reading(path, InputError), open_parquet(path) as file:
            for batch in file.iter_batches(BATCH_ROWS, columns=columns, use_threads=False):
                anchors.append(batch.column(0).to_numpy())
                positives.append(batch.column(1).to_numpy())
                negative = as_array(batch.column(2))
                if lists:
                    lengths.append(negative.value_lengths().to_numpy().astype(np.int64))
                    negative = negative.flatten()
                negatives.append(negative.to_numpy())
    anchor, positive, negative = (np.concatenate(each) for each in (anchors, positives, negatives))
    if lists:
        first, start = np.arange(anchor.size), ragged.starts(np.concatenate(lengths))
    else:
        first = ragged.runs(anchor, positive)
        start = np.append(first, anchor.size)
    own, told = (first, anchor[first], positive[first], start, negative), (str(found.path), found.about)
    return MinedPairs(role, anchor.size, *own, *told, partial(_column, found, first))


def _column(found: MinedOutput, first: Numbers, name: str, largest: bool = False) -> pa.Array | None:
    """A column of the mined output, or None where it has none of this name.

    first : the first row of each pair, whose value is taken; or the largest one of all its rows
    """
    values = []
    for path in found.files:
        with reading(path, InputError), open_parquet(path) as file:
            if name not in file.schema_arrow.names:
                return None
            values.append(file.read(columns=[name], use_threads=False).column(0))
    column = as_array(pa.chunked_array([chunk for each in values for chunk in each.chunks]))
    if largest and first.size:
        return pa.array(np.maximum.reduceat(column.to_numpy(), first))
    return column.take(pa.array(first))


def slots_of(loaded: Dataset, table: Table, rows: Numbers, what: str) -> NDArray[np.int32]:
    """The slots of rows of a table; InputError for a row that takes no part, which the mined table would have."""
    at = np.full(table.source_rows, -1, np.int32)
    at[loaded.source_row[table.first : table.end]] = np.arange(table.first, table.end, dtype=np.int32)
    slots: NDArray[np.int32] = at[rows] if not rows.size or rows.max() < at.size else np.full(rows.size, -1, np.int32)
    if (slots < 0).any():
        raise InputError(f"{what} holds rows that the embeddings do not have", "name what was mined: --source")
    return slots
