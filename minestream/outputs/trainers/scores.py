"""A table of scores for pairs of ids: read, checked, looked up."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import NDArray

from minestream.errors import InputError, nearest
from minestream.inputs.columns import plain
from minestream.inputs.decode import Place, as_array, decode_ids, decode_plain
from minestream.inputs.files import open_inputs
from minestream.inputs.opened import Input
from minestream.inputs.pairs import GRADE, LEFT, RIGHT, is_text_table, read_text_table, refuse_values
from minestream.system import ragged
from minestream.system.checksums import Checksum

# What a table of scores may call its columns: what --qrels may.
SCORE_COLUMNS: dict[str, tuple[str, ...]] = {
    "query_id": LEFT,
    "document_id": tuple(dict.fromkeys(("document_id", *RIGHT))),
    "score": GRADE,
}
Rows = NDArray[np.int64]
Numbers = NDArray[np.float64]


class ScoreTable:
    """Scores by the ids of query and document, in memory.

    Parameters
    ----------
    given : path, list of paths or Arrow object
    kinds : (pyarrow.DataType, pyarrow.DataType)
        Types of the mined ids of anchors and of documents.
    """

    def __init__(self, given: Any, kinds: tuple[pa.DataType, pa.DataType]) -> None:
        self.notes: list[str] = []
        inputs = _opened(given)
        self.name = inputs[0].name
        named = [_columns(each) for each in inputs]
        self.columns = named[0][:2]
        types = [
            [plain(each.schema.field(own[end]).type) for each, own in zip(inputs, named, strict=True)]
            for end in range(2)
        ]
        self._kinds = [self._common(name, *each) for name, *each in zip(SCORE_COLUMNS, kinds, types, strict=False)]
        ids: tuple[list[pa.Array], list[pa.Array]] = ([], [])
        values = [np.empty(0)]
        for each, own in zip(inputs, named, strict=True):
            row = 0
            for batch in each.read(own, 65_536):
                place = Place(each.name, row, row)
                for held, name, kind in zip(ids, own, self._kinds, strict=False):
                    held.append(decode_ids(batch.column(name), name, place).cast(kind))
                values.append(_finite(batch.column(own[2]), own[2], place))
                row += batch.num_rows
        columns = [pa.chunked_array(held, kind) for held, kind in zip(ids, self._kinds, strict=True)]
        self.about = _identity(self.name, np.concatenate(values))
        self._sets = [column.unique() for column in columns]
        keys, score = self._keys(columns), np.concatenate(values)
        order = np.argsort(keys, kind="stable")
        self._sorted, self._score = keys[order], score[order]
        self._refuse_doubles(columns, order)

    def _common(self, name: str, mined: pa.DataType, theirs: list[pa.DataType]) -> pa.DataType:
        """The type in which ids are compared: the mined one, or text where only one side is text."""
        texts = {kind == pa.string() for kind in (*theirs, mined)}
        if len(texts) == 1:
            return mined
        here = ", ".join(sorted(set(map(str, theirs))))
        self.notes.append(f"{name}: {mined} in the mined rows, {here} here: compared as text")
        return pa.string()

    def _keys(self, columns: list[Any]) -> Rows:
        """One number for each pair of ids; -1 where one of them is nowhere in the table."""
        query, document = (
            pc.index_in(column, value_set=known).fill_null(-1).to_numpy().astype(np.int64)
            for column, known in zip(columns, self._sets, strict=True)
        )
        return np.where((query < 0) | (document < 0), -1, query * len(self._sets[1]) + document)

    def _refuse_doubles(self, columns: list[Any], order: Rows) -> None:
        differs = (np.diff(self._sorted) == 0) & (np.diff(self._score) != 0)
        if differs.any():
            rows = np.sort(order[np.flatnonzero(differs)[0] :][:2])
            names = [column[int(rows[0])].as_py() for column in columns]
            raise InputError(
                f"{self.name}: query {names[0]!r} and document {names[1]!r} have two scores, in rows {rows.tolist()}",
                "keep one score for each of them",
            )

    def by_slot(self, queries: Any, documents: Any) -> tuple[Rows, NDArray[np.int32], Numbers]:
        """All scores by query: where each query's start, and ascending places among the documents with their scores.

        queries, documents : ids, none twice
        """
        at = [
            np.asarray(pc.index_in(known.cast(kind), value_set=as_array(ids).cast(kind)).fill_null(-1), np.int64)
            for known, ids, kind in zip(self._sets, (queries, documents), self._kinds, strict=True)
        ]
        query, document = np.divmod(self._sorted, max(1, len(self._sets[1])))
        left, right = at[0][query], at[1][document]
        known = np.flatnonzero((left >= 0) & (right >= 0))
        order = known[np.lexsort((right[known], left[known]))]
        first = ragged.runs(left[order], right[order])  # a pair may stand twice, with one score
        order = order[first]
        return ragged.grouped(left[order], len(queries)), right[order].astype(np.int32), self._score[order]

    def of(self, queries: Any, documents: Any) -> Numbers:
        """The scores of pairs of mined ids; NaN where there is none."""
        columns = [as_array(ids).cast(kind) for ids, kind in zip((queries, documents), self._kinds, strict=True)]
        keys = self._keys(columns)
        if not self._sorted.size:
            return np.full(keys.size, np.nan)
        at = np.searchsorted(self._sorted, keys).clip(max=self._sorted.size - 1)
        return np.where(self._sorted[at] == keys, self._score[at], np.nan)


def _opened(given: Any) -> list[Input]:
    """The tables of scores; one of text has its scores as numbers."""
    refuse_values(given, "--scores", '{"query_id": [...], "document_id": [...], "score": [...]})')
    if not is_text_table(given):
        return open_inputs(given)
    table, name = read_text_table(given)
    if "grade" in table.column_names:
        place = table.column_names.index("grade")
        try:
            table = table.set_column(place, "grade", table["grade"].cast(pa.float64()))
        except pa.ArrowInvalid as error:
            raise InputError(f"{name}: a score is no number: {str(error)[:80]}", "mend this line") from error
    names = {"left": "query_id", "right": "document_id", "grade": "score"}
    (found,) = open_inputs(table.rename_columns([names[column] for column in table.column_names]))
    return [replace(found, name=name)]


def _columns(each: Input) -> list[str]:
    """The names that a table has for query_id, document_id and score."""
    found = []
    for meant, known in SCORE_COLUMNS.items():
        name = next((name for name in known if name in each.schema.names), None)
        if name is None:
            others = ", ".join(name for name in known[:6] if name != meant)
            raise InputError(
                f"{each.name}: no column {meant!r}; there are {', '.join(each.schema.names)}",
                f"{nearest(meant, each.schema.names)}call it {meant} (also known: {others})",
            )
        kind = plain(each.schema.field(name).type)
        wanted = "a number" if meant == "score" else "an int or a string"
        fits = pat.is_floating(kind) if meant == "score" else kind == pa.string()
        if not (fits or pat.is_integer(kind)):
            raise InputError(f"{each.name}: column {name!r} is {kind}, not {wanted}", "cast it, or name others")
        found.append(name)
    return found


def _identity(name: str, scores: Numbers) -> dict[str, Any]:
    """What the output records about the table: its name without its folder, its rows, the CRC-32 of its scores."""
    crc = Checksum()
    crc.add(scores)
    return {"name": os.path.basename(name), "rows": scores.size, "crc32": {"score": crc.value()}}


def _finite(array: pa.Array, name: str, place: Place) -> Numbers:
    values: Numbers = decode_plain(array).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(~np.isfinite(values))  # nulls are NaN here
    if wrong.size:
        raise place.refusal(name, "a score that is null or not finite", wrong, "leave such rows out, or score again")
    return values
