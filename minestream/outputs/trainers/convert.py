"""Conversion of native triplets to trainer formats: one pass, a few thousand rows in memory, however they are cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.config.trainer_formats import FORMATS, ROLES
from minestream.errors import UsageError
from minestream.inputs.decode import as_array
from minestream.outputs.trainers.columns import SHAPES, Block, Scoring, anchor_role
from minestream.outputs.trainers.texts import Texts
from minestream.system import ragged

TEXT_CODE = "text_code"  # a column of blocks: equal numbers for negatives of equal texts
BLOCK_ROWS = 16_384  # triplets shaped at once: their texts are in memory, a role in one Arrow array of at most 2 GiB
COMPARED_ROWS = 2**23  # 64 MiB of hashes


@dataclass
class Counts:
    """What a conversion did."""

    rows: int = 0  # written
    pairs: int = 0  # read
    short: int = 0  # pairs with fewer than k negatives, but some
    empty: int = 0  # pairs with none, which are left out
    dropped: int = 0  # pairs left out: the empty ones, and by the rule the short ones
    repeated: int = 0  # negatives written again to fill a row
    same_text: int = 0  # negatives left out: they have the text of their anchor or of one of its positives
    same_text_positives: int = 0  # pairs whose positive has the text of the anchor
    repeated_texts: int = 0  # negatives written with the text of another of their pair, or, joined, of their anchor
    equal_rows: int = 0  # rows that have the texts and the label of an earlier one, of the first COMPARED_ROWS
    joined: int = 0  # anchors with the negatives of several positives, where the format joins them

    def leave_out_empty(self, count: int) -> None:
        """Count pairs that have no negative."""
        self.pairs, self.empty, self.dropped = self.pairs + count, self.empty + count, self.dropped + count


def without_equal_texts(block: Block, counts: Counts) -> pa.Table:
    """The rows without negatives that have the text of their anchor or of one of its positives; with codes of texts.

    They are the same item under another id, and as a trainer reads them they say the opposite of the other rows.
    """
    places = block.anchors, block.pairs, block.all
    texts = [block.text(role, at) for role, at in zip(ROLES, places, strict=True)]
    encoded = pa.chunked_array(texts).dictionary_encode().unify_dictionaries()
    each = [np.asarray(chunk.indices, np.int64) for chunk in encoded.chunks if len(chunk)]
    codes = np.split(np.concatenate([*each, np.empty(0, np.int64)]), np.cumsum([at.size for at in places])[:-1])
    count = max((int(code.max()) for code in codes if code.size), default=0) + 1
    anchor, positive, negative = (block.owners(at) * count + code for at, code in zip(places, codes, strict=True))
    counts.same_text_positives += int((anchor[block.owners(block.pairs)] == positive).sum())
    same = np.isin(negative, np.concatenate([anchor, positive]))
    table = block.table.append_column(TEXT_CODE, pa.array(codes[2]))
    if not same.any():
        return table
    pair = np.searchsorted(block.pairs, block.all, side="right")
    gone = block.pairs.size - np.unique(pair[~same]).size  # whose negatives all go
    counts.same_text += int(same.sum())
    counts.leave_out_empty(gone)
    return table.filter(pa.array(~same))


def repeated_texts(block: Block, unit: NDArray[np.int64]) -> int:
    """How many negatives of `unit`s, numbered from 0 row by row, have a text that another of its negatives has."""
    rows, codes = block.rows["negative"], block.table[TEXT_CODE].to_numpy()
    of_rows, of_texts = (np.unique(unit * (each.max(initial=0) + 1) + each).size for each in (rows, codes))
    return of_rows - of_texts


def row_hashes(table: pa.Table) -> NDArray[np.uint64]:
    """A hash of the texts and the label of every row, whatever its scores; none where rows hold lists of texts."""
    found = np.zeros(table.num_rows, np.uint64)
    for column in map(as_array, table.columns):
        listed = pa.types.is_list(column.type)
        if pa.types.is_floating(column.type.value_type if listed else column.type):
            continue
        if listed:
            return found[:0]
        if not pa.types.is_integer(column.type):
            encoded = column.dictionary_encode()
            column = pa.array([*map(hash, encoded.dictionary.to_pylist())], pa.int64()).take(encoded.indices)
        found = found * np.uint64(0x9E3779B97F4A7C15) + column.to_numpy().astype(np.uint64)
    return found


def fitted(block: Block, rule: str, counts: Counts) -> pa.Table:
    """The rows of a block, k of each pair at most; short pairs are kept, dropped or repeated, as the rule says."""
    first, k = block.pairs, block.k
    lengths = ragged.lengths(np.append(first, block.table.num_rows))
    have = np.minimum(lengths, k)
    short = int((have < k).sum())
    counts.pairs += have.size
    counts.short += short
    if (have == lengths).all() and (rule == "keep" or not short):
        return block.table
    if rule == "repeat":
        counts.repeated += int((k - have).sum())
        return block.table.take(pa.array((first[:, None] + np.arange(k) % have[:, None]).ravel()))
    if rule == "drop":
        counts.dropped += short
        first, have = first[have == k], have[have == k]
    return block.table.take(pa.array(ragged.spans(first, have)))


def whole_anchors(tables: Iterable[pa.Table], block_rows: int = BLOCK_ROWS) -> Iterator[pa.Table]:
    """The same rows in tables that end where an anchor ends, of about `block_rows` rows unless an anchor has more."""
    held: list[pa.Table] = []
    rows, due = 0, block_rows
    for table in tables:
        held.append(table)
        rows += table.num_rows
        if rows > due:
            joined = pa.concat_tables(held)
            starts = ragged.runs(joined[f"{anchor_role(joined.column_names)}_row"].to_numpy())
            wanted = np.searchsorted(starts, np.arange(block_rows, rows, block_rows)).clip(max=starts.size - 1)
            ends = np.unique(starts[wanted]).tolist()
            for first, end in pairwise([0, *ends]):
                if end > first:
                    yield joined.slice(first, end - first)
            held = [joined.slice(ends[-1])]
            rows = held[0].num_rows
            due = max(block_rows, 2 * rows)  # a large anchor is not looked through again for every table
    if held:
        yield pa.concat_tables(held)


def convert(
    name: str, tables: Iterable[pa.Table], *, k: int, scoring: Scoring | None, short_rows: str,
    texts: Texts, counts: Counts,
) -> Iterator[pa.Table]:  # fmt: skip
    """Rows of a trainer format, made of native triplets.

    Parameters
    ----------
    name : str
        A key of FORMATS.
    tables : iterable of pyarrow.Table
        Triplets in the order of the native output, cut anywhere.
    k : int
        Negatives of a full pair; where a pair has more, the first k are taken.
    scoring : Scoring or None
        The scores that the rows get; None: no scores.
    short_rows : {"keep", "drop", "repeat"}
    texts : Texts
        Of the roles whose texts the format holds.
    counts : Counts
        Filled while the tables are read.

    Yields
    ------
    pyarrow.Table
        At least one, though it may hold no rows, unless there was no table.

    Raises
    ------
    UsageError
        When the rows lack the distances that scores are made of.
    InputError
        For a null text that is needed, naming the row; for ids that do not fit.

    Notes
    -----
    Holds the triplets and texts of about 16,384 rows, or of one anchor if it has more.
    """
    hashes = [np.empty(0, np.uint64)]
    for table in whole_anchors(_needed(table, texts) for table in tables):
        if scoring is not None and scoring.column("positive") not in table.column_names:
            raise UsageError("the mined rows hold no distances to score by", "--scores none, or mine triplets")
        if "negative" in FORMATS[name].texts:
            table = without_equal_texts(Block(table, texts, scoring, k), counts)
        block = Block(fitted(Block(table, texts, scoring, k), short_rows, counts), texts, scoring, k)
        if FORMATS[name].joins:
            counts.joined += int((block.of_anchor(block.pairs) > 1).sum())
        if TEXT_CODE in block.table.column_names:
            starts = block.anchors if FORMATS[name].joins else block.pairs
            counts.repeated_texts += repeated_texts(block, np.searchsorted(starts, block.all, side="right"))
        shaped = pa.table(SHAPES[name](block))
        if "negative" in FORMATS[name].texts and counts.rows < COMPARED_ROWS:
            hashes.append(row_hashes(shaped))
        counts.rows += shaped.num_rows
        yield shaped
    every = np.concatenate(hashes)
    counts.equal_rows = every.size - np.unique(every).size


def _needed(table: pa.Table, texts: Texts) -> pa.Table:
    anchor = anchor_role(table.column_names)
    names = {f"{role}_{what}" for role in (anchor, *ROLES[1:]) for what in ("id", "row")}
    names |= {"distance_ap", "distance_an", "score_ap", "score_an"}
    names |= {column for column in texts.values() if isinstance(column, str)}
    return table.select([name for name in table.column_names if name in names])


def as_lines(name: str, tables: Iterable[pa.Table]) -> Iterator[list[str]]:
    """Converted rows as lines, table by table.

    Floats are the shortest text of their float32; the keys of JSON stand in column order.
    """
    for table in tables:
        columns = [_as_text(column).to_pylist() for column in table.columns]
        yield LINES[FORMATS[name].suffix](table.column_names, zip(*columns, strict=True))


def _json_lines(names: list[str], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    return [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows]


def _tab_lines(names: list[str], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    return ["\t".join(map(str, row)) for row in rows]


LINES: dict[str, Callable[[list[str], Iterable[tuple[Any, ...]]], list[str]]] = {
    ".jsonl": _json_lines,
    ".trec": _tab_lines,
}


def _as_text(column: pa.ChunkedArray) -> pa.Array:
    """A column whose float32 are the float64 that print alike; other columns as they are."""
    array = as_array(column)
    if pa.types.is_list(array.type):
        return pa.ListArray.from_arrays(array.offsets, _as_text(array.values))
    return array.cast(pa.string()).cast(pa.float64()) if array.type == pa.float32() else array
