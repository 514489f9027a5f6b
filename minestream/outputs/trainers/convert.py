"""Conversion of native triplets to trainer formats: one pass, a few thousand rows in memory, however they are cut."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.config.trainer_formats import FORMATS, RESCORED, ROLES, chosen
from minestream.errors import UsageError
from minestream.inputs.decode import as_array
from minestream.outputs.trainers.columns import SHAPES, Block, Scoring, anchor_role
from minestream.outputs.trainers.texts import CarriedTexts, Texts
from minestream.system import ragged

BLOCK_ROWS = 16_384  # triplets shaped at once: their texts are in memory, a role in one Arrow array of at most 2 GiB
Rows = NDArray[np.int64]


@dataclass
class Counts:
    """What a conversion did: rows written; pairs read, those with fewer than k negatives, those left out; entries.

    `same_text` are negatives left out because they have the text of their anchor or of one of its positives.
    """

    rows: int = 0
    pairs: int = 0
    short: int = 0
    dropped: int = 0
    repeated: int = 0
    same_text: int = 0


# ---------------------------------------------------------------- equal texts

SAME_TEXT = "same text as the anchor or a positive"


def without_equal_texts(block: Block, counts: Counts) -> pa.Table:
    """The rows without negatives that have the text of their anchor or of one of its positives.

    They are the same item under another id, and as a trainer reads them they say the opposite of the other rows.
    """
    places = block.anchors, block.pairs, block.all
    texts = [block.text(role, at) for role, at in zip(ROLES, places, strict=True)]
    encoded = pa.chunked_array(texts).dictionary_encode().unify_dictionaries()
    each = [np.asarray(chunk.indices, np.int64) for chunk in encoded.chunks if len(chunk)]
    codes = np.split(np.concatenate([*each, np.empty(0, np.int64)]), np.cumsum([at.size for at in places])[:-1])
    count = max((int(code.max()) for code in codes if code.size), default=0) + 1
    anchor, positive, negative = (
        (np.searchsorted(block.anchors, at, side="right") - 1) * count + code
        for at, code in zip(places, codes, strict=True)
    )
    same = np.isin(negative, np.concatenate([anchor, positive]))
    if not same.any():
        return block.table
    pair = np.searchsorted(block.pairs, block.all, side="right")
    gone = block.pairs.size - np.unique(pair[~same]).size  # whose negatives all go
    counts.same_text += int(same.sum())
    counts.pairs, counts.short, counts.dropped = counts.pairs + gone, counts.short + gone, counts.dropped + gone
    return block.table.filter(pa.array(~same))


@dataclass(frozen=True)
class Fitting:
    """A block whose pairs are to have k negatives, or at most k; counts what it does to them."""

    block: Block
    counts: Counts

    @cached_property
    def have(self) -> Rows:
        """How many negatives each pair has, k at most."""
        return np.minimum(self.lengths, self.block.k)

    @cached_property
    def lengths(self) -> Rows:
        """How many rows each pair has."""
        return ragged.lengths(np.append(self.first, self.block.table.num_rows))

    @property
    def first(self) -> Rows:
        """The first row of each pair."""
        return self.block.pairs

    def fit(self, rule: str) -> pa.Table:
        """The rows that the rule for short pairs leaves and adds."""
        short = int((self.have < self.block.k).sum())
        self.counts.pairs += self.have.size
        self.counts.short += short
        unchanged = (self.have == self.lengths).all() and (rule == "keep" or not short)
        return self.block.table if unchanged else FITTINGS[rule](self)

    def some(self, pairs: NDArray[np.bool_]) -> pa.Table:
        """The rows of some pairs."""
        return self.block.table.take(pa.array(ragged.spans(self.first[pairs], self.have[pairs])))

    def keep(self) -> pa.Table:
        """All pairs, as they are."""
        return self.some(np.ones(self.first.size, bool))

    def drop(self) -> pa.Table:
        """The full pairs."""
        self.counts.dropped += int((self.have < self.block.k).sum())
        return self.some(self.have == self.block.k)

    def repeat(self) -> pa.Table:
        """All pairs, their own negatives over again."""
        self.counts.repeated += int((self.block.k - self.have).sum())
        at = self.first[:, None] + np.arange(self.block.k) % self.have[:, None]
        return self.block.table.take(pa.array(at.ravel()))


FITTINGS: dict[str, Callable[[Fitting], pa.Table]] = {
    "keep": Fitting.keep,
    "drop": Fitting.drop,
    "repeat": Fitting.repeat,
}


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
    name: str,
    tables: Iterable[pa.Table],
    *,
    k: int,
    metric: str,
    scores: str | None = None,
    rescored: bool = False,
    float64: bool = False,
    short_rows: str | None = None,
    texts: Texts | CarriedTexts | None = None,
    counts: Counts | None = None,
) -> Iterator[pa.Table]:
    """Native triplets as rows of a trainer format.

    Parameters
    ----------
    name : str
        A key of FORMATS.
    tables : iterable of pyarrow.Table
        Triplets in the order of the native output, cut anywhere.
    k : int
        Negatives of a full pair; of more the first k are taken.
    metric : str
    scores : {"rescored", "similarity", "negative-distance", "none"}, optional
        Those of refilter's table, or computed in float64 from the stored distance. Default: the format's; where it has
        scores and the rows are rescored, those.
    rescored : bool
        Whether the rows come from refilter and have its columns score_ap and score_an.
    float64 : bool
        Whether scores are kept as double rather than float32.
    short_rows : {"keep", "drop", "repeat"}, optional
        Default: the format's.
    texts : Texts or CarriedTexts, optional
        Needed by the formats that hold texts.
    counts : Counts, optional
        Filled while the tables are read.

    Yields
    ------
    pyarrow.Table
        At least one, though it may hold no rows, unless there was no table.

    Raises
    ------
    UsageError
        At the call, for what the format cannot carry or lacks.
    InputError
        For a null text that is needed, naming the row; for ids that do not fit.

    Notes
    -----
    Holds the triplets and texts of about 16,384 rows, or of one anchor if it has more.
    """
    scores, short_rows = chosen(name, metric, scores, short_rows, rescored)
    if FORMATS[name].needs_text and texts is None:
        raise UsageError(f"--emit {name} holds texts", "name their column: --text COL")
    offset = None if scores == RESCORED else 1.0 if (scores, metric) == ("similarity", "cosine") else 0.0
    scoring = None if scores == "none" else Scoring(offset, pa.float64() if float64 else pa.float32())
    told = Counts() if counts is None else counts

    def converted() -> Iterator[pa.Table]:
        for table in whole_anchors(_needed(table, texts) for table in tables):
            if scoring is not None and scoring.column("positive") not in table.column_names:
                raise UsageError("the mined rows hold no distances to score by", "--scores none, or mine triplets")
            if "negative" in FORMATS[name].texts:
                table = without_equal_texts(Block(table, texts, scoring, k), told)
            fitting = Fitting(Block(table, texts, scoring, k), told)
            shaped = pa.table(SHAPES[name](Block(fitting.fit(short_rows), texts, scoring, k)))
            told.rows += shaped.num_rows
            yield shaped

    return converted()


def _needed(table: pa.Table, texts: Texts | CarriedTexts | None) -> pa.Table:
    anchor = anchor_role(table.column_names)
    names = {f"{role}_{what}" for role in (anchor, *ROLES[1:]) for what in ("id", "row")}
    names |= {"distance_ap", "distance_an", "score_ap", "score_an"}
    if isinstance(texts, CarriedTexts):
        names |= {f"{anchor}_{texts.query}", *(f"{role}_{texts.document}" for role in ROLES[1:])}
    return table.select([name for name in table.column_names if name in names])


def as_lines(name: str, tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Converted rows of a format of lines as tables of one column, the lines; `writer.write_lines` writes them.

    Floats are the shortest text of their float32; the keys of JSON stand in column order.
    """
    for table in tables:
        columns = [_told(column).to_pylist() for column in table.columns]
        lines = LINES[FORMATS[name].suffix](table.column_names, zip(*columns, strict=True))
        yield pa.table({"line": pa.array(lines, pa.string())})


def _json_lines(names: list[str], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    return [json.dumps(dict(zip(names, row, strict=True)), ensure_ascii=False) for row in rows]


def _tab_lines(names: list[str], rows: Iterable[tuple[Any, ...]]) -> list[str]:
    return ["\t".join(map(str, row)) for row in rows]


LINES: dict[str, Callable[[list[str], Iterable[tuple[Any, ...]]], list[str]]] = {
    ".jsonl": _json_lines,
    ".trec": _tab_lines,
}


def _told(column: pa.ChunkedArray) -> pa.Array:
    """float32 as the float64 of the same shortest text; other columns as they are."""
    array = as_array(column)
    if pa.types.is_list(array.type):
        return pa.ListArray.from_arrays(array.offsets, _told(array.values))
    return array.cast(pa.string()).cast(pa.float64()) if array.type == pa.float32() else array
