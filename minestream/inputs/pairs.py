"""Pairs and rows listed in tables: known positives, excluded pairs, excluded rows."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.errors import InputError, MinestreamError, UsageError, nearest_name
from minestream.inputs.agreement import common_column
from minestream.inputs.decode import decode_plain
from minestream.inputs.files import is_readable, open_inputs
from minestream.inputs.opened import Input
from minestream.system import ragged
from minestream.system.checksums import Checksum
from minestream.system.paths import open_text
from minestream.system.stores import shown, unreadable
from minestream.system.values import many, verb

LEFT = ("query_id", "query-id", "qid", "query", "anchor_id", "left_id", "id_1", "id1")
RIGHT = ("positive_id", "corpus-id", "corpus_id", "document_id", "docid", "doc_id", "pid", "right_id", "id_2", "id2")
GRADE = ("score", "grade", "relevance", "rel", "label")
ROW_ID, ROW_NUMBER = ("id", "row_id", "query_id", "document_id"), "row"
TEXT_SUFFIXES = (".tsv", ".txt", ".qrels", ".trec", ".qrel")
BATCH_ROWS = 65_536
_WHOLE_NUMBER = re.compile("0|-?[1-9][0-9]{0,18}")
Places = NDArray[np.int64]


@dataclass(frozen=True)
class ListedPairs:
    """Pairs of ids, as a table lists them.

    Attributes
    ----------
    name : str
        The name of the table, for messages.
    left, right : pyarrow.Array
        Ids, int64 or string, without nulls.
    grade : float64 array or None
    left_out : dict of str to int
        How many pairs of the table are not among these, by cause.
    row : int64 array or None
        Which of the table's pairs these are; None: all.
    """

    name: str
    left: pa.Array
    right: pa.Array
    grade: NDArray[np.float64] | None
    left_out: Mapping[str, int] = field(default_factory=dict)
    row: Places | None = None

    def graded(self, least: float) -> tuple[ListedPairs, int]:
        """The pairs with a grade of at least `least`, or without grades, and how many are left out."""
        if self.grade is None:
            return self, 0
        keep = self.grade >= least
        mask, low = pa.array(keep), int((~keep).sum())
        why = {f"graded below --min-grade {least:g}": low} if low else {}
        pairs = self.left.filter(mask), self.right.filter(mask), self.grade[keep]
        return ListedPairs(self.name, *pairs, why, np.flatnonzero(keep)), low

    def identity(self, role: str) -> dict[str, Any]:
        """The entry in the source identity: name, rows, and the CRC-32 of the columns."""
        grade = {} if self.grade is None else {"grade": pa.array(self.grade)}
        return _identity(self.name, role, {"left": self.left, "right": self.right, **grade})


def _identity(name: str, role: str, columns: dict[str, Any]) -> dict[str, Any]:
    """An entry of the source identity: name, role, rows, and the CRC-32 of the columns."""
    sums = {column: Checksum() for column in columns}
    for column, values in columns.items():
        sums[column].add(values)
    rows = len(next(iter(columns.values())))
    crcs = {column: crc.value() for column, crc in sums.items()}
    return {"name": os.path.basename(name), "role": role, "rows": rows, "crc32": crcs}


def read_pairs(given: Any, option: str) -> ListedPairs:
    """Read a table of pairs: Parquet, Arrow, TSV with a header (BEIR), TREC qrels text, or a list or array of pairs.

    Raises
    ------
    InputError
        For missing columns, wrong types, null ids, grades that are not numbers, or no pairs.
    """
    given = _pairs_table(given)
    if is_text_table(given):
        table, name = read_text_table(given)
    else:
        refuse_values(given, option, '{"query_id": [...], "positive_id": [...]}), or a list of such pairs')
        opened = open_inputs(given)
        table, name = _read_columns(opened, option), opened[0].name
    if not table.num_rows:
        raise InputError(f"{name}: no pairs ({option})", "check how it was written")
    left, right = (ids_of(table, column, name) for column in ("left", "right"))
    grade = grades_of(table["grade"], name) if "grade" in table.column_names else None
    return ListedPairs(name, left, right, grade)


def refuse_values(given: Any, option: str, columns: str) -> None:
    """UsageError for an object that is not a table, with the code that makes one."""
    if not is_readable(given):
        raise UsageError(f"{option}: a {type(given).__name__} is no table", f"give it pyarrow.table({columns}")


def _pairs_table(given: Any) -> Any:
    """A list of (query id, positive id), or an array of two columns, as a table; else unchanged, but out of a list."""
    if isinstance(given, list | tuple) and len(given) == 1 and not isinstance(given[0], list | tuple):
        given = given[0]
    if getattr(given, "ndim", 0) == 2 and given.shape[1] == 2 and hasattr(given, "tolist"):
        given = given.tolist()
    if isinstance(given, list | tuple) and all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in given):
        return pa.table({"query_id": [left for left, _ in given], "positive_id": [right for _, right in given]})
    return given


def is_text_table(given: Any, *more: str) -> bool:
    """Whether the file's name says that it holds pairs in lines of text; `more` are suffixes that say so too."""
    return isinstance(given, str | os.PathLike) and Path(shown(given)).suffix.lower() in (*TEXT_SUFFIXES, *more)


def lines_of(given: str | os.PathLike[str], path: str) -> list[tuple[int, list[str]]]:
    """The lines of a file of text that hold something, by number, each as its fields."""
    try:
        with open_text(given) as file:
            return [(number, line.split()) for number, line in enumerate(file) if line.strip()]
    except MinestreamError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(path, error) from error


def read_text_table(given: str | os.PathLike[str]) -> tuple[pa.Table, str]:
    """The columns left, right and maybe grade, as text, and the name of the file.

    Lines of `query 0 document grade` (TREC), or tab-separated ones under a header that names the columns (BEIR).
    """
    path = shown(given)
    return _read_text(given, path), path


def _read_text(given: str | os.PathLike[str], path: str) -> pa.Table:
    try:
        with open_text(given) as file:
            first = file.readline()
            file.seek(0)
            names = [name.strip().lower() for name in first.split("\t")]
            rows = list(csv.reader(file, delimiter="\t")) if set(names) & {*LEFT, *RIGHT} else []
            lines = [] if rows else [(number, line.split()) for number, line in enumerate(file) if line.strip()]
    except MinestreamError:
        raise
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise unreadable(path, error) from error
    if rows:
        found = {role: column_named(names, known, role, path) for role, known in (("left", LEFT), ("right", RIGHT))}
        graded = next((name for name in GRADE if name in names), None)
        found |= {"grade": graded} if graded else {}
        whole = [row for row in rows[1:] if row]
        bad = next((number for number, row in enumerate(whole, 2) if len(row) != len(names)), None)
        if bad is not None:
            raise InputError(f"{path}: line {bad} does not have the {len(names)} fields of the header", "fix this line")
        return pa.table({role: [row[names.index(name)] for row in whole] for role, name in found.items()})
    bad_line = next((number for number, fields in lines if len(fields) != 4), None)
    if bad_line is not None:
        raise InputError(
            f"{path}: line {bad_line + 1} is not `query 0 document grade`",
            "TREC qrels have four fields a line; a tab-separated file needs a header: query-id corpus-id score",
        )
    return pa.table({"left": [f[0] for _, f in lines], "right": [f[2] for _, f in lines],
                     "grade": [f[3] for _, f in lines]})  # fmt: skip


def column_named(names: list[str], known: tuple[str, ...], role: str, where: str) -> str:
    """The first of the `known` names among `names`; InputError if there is none."""
    found = next((name for name in known if name in names), None)
    if found is None:
        what = "query" if role == "left" else "positive"
        raise InputError(
            f"{where}: no column of the {what} ids; there are {', '.join(names)}",
            f"call it {known[0]} (also known: {', '.join(known[1:4])})",
        )
    return found


def _read_columns(opened: list[Input], option: str) -> pa.Table:
    """The columns left, right and, if there is one, grade."""
    names = opened[0].schema.names
    known_right: tuple[str, ...] = (*RIGHT, "negative_id") if option == "--exclude" else RIGHT
    if option == "--exclude" and "positive_id" in names and {"negative_id", "negative_ids"} & {*names}:
        raise InputError(
            f"{opened[0].name}: positives and negatives (--exclude), and one kind of pair is meant",
            "without the column positive_id the negatives are excluded (negative_id, one a row), else the positives "
            "without theirs",
        )
    chosen = {"left": column_named(names, LEFT, "left", opened[0].name),
              "right": column_named(names, known_right, "right", opened[0].name)}  # fmt: skip
    graded = next((name for name in GRADE if name in names), None)
    if graded is not None and option == "--qrels":
        chosen["grade"] = graded
    columns = list(chosen.values())
    return pa.table([gathered(opened, name) for name in columns], list(chosen))


def gathered(opened: list[Input], name: str) -> pa.ChunkedArray:
    """A column of all inputs, in one plain type that holds the values of all."""
    for each in opened:
        if (count := each.schema.names.count(name)) > 1:
            raise InputError(f"{each.name}: {count} columns are named {name!r}", "rename all but one of them")
        if not count:
            raise InputError(
                f"{each.name}: no column {name!r}, which {opened[0].name} has", "write it with one name in all files"
            )
    kind = common_column(opened, name)
    pieces = (decode_plain(batch.column(0)) for each in opened for batch in each.read([name], BATCH_ROWS))
    return pa.chunked_array([piece.cast(kind) for piece in pieces], kind)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return pa.concat_arrays([pa.array([], column.type), *column.chunks])


def ids_of(table: pa.Table, column: str, name: str) -> pa.Array:
    """Ids as int64 or string; InputError for other types and for nulls."""
    values = _whole(table[column])
    kind = values.type
    if not (pa.types.is_integer(kind) or pa.types.is_string(kind)):
        to = "int64" if pa.types.is_floating(kind) else "string"
        raise InputError(
            f"{name}: ids of type {kind}", f"ids are ints or strings: cast them, column.cast(pyarrow.{to}())"
        )
    if values.null_count:
        raise InputError(f"{name}: {many(values.null_count, 'pair')} with a null id", "drop these pairs")
    try:
        return values.cast(pa.int64() if pa.types.is_integer(kind) else pa.string())
    except pa.ArrowInvalid as error:
        raise InputError(
            f"{name}: ids beyond int64: {error}", "write them as texts: column.cast(pyarrow.string())"
        ) from error


def grades_of(column: pa.ChunkedArray, name: str) -> NDArray[np.float64]:
    """Numbers as float64; InputError for what is none, and for nulls."""
    values = _whole(column)
    try:
        grades = np.asarray(values.cast(pa.float64()).fill_null(float("nan")), np.float64)
    except pa.ArrowException as error:
        raise InputError(
            f"{name}: the grades are of type {values.type}, and not all are numbers: {str(error)[:80]}",
            "grades are numbers; without a grade column every pair is a positive",
        ) from None
    bad = np.flatnonzero(np.isnan(grades))
    if bad.size:
        raise InputError(
            f"{name}: {many(bad.size, 'grade')} {verb(bad.size, 'are')} NaN or null, the first in pair {bad[0]}",
            "fill or drop them",
        )
    return grades


@dataclass(frozen=True)
class ListedRows:
    """Excluded rows, by id or by position."""

    name: str
    ids: pa.Array | None
    rows: Places | None

    def identity(self) -> dict[str, Any]:
        """The entry in the source identity: name, rows, and the CRC-32 of the ids or positions."""
        return _identity(self.name, "excluded rows", {"rows": pa.array(self.rows) if self.ids is None else self.ids})


def read_rows(given: Any, by_id: bool) -> ListedRows:
    """Read a table of rows: its ids or, for an input without ids, its row numbers."""
    refuse_values(given, "--exclude-rows", '{"id": [...]})' if by_id else '{"row": [...]})')
    opened = open_inputs(given)
    names = opened[0].schema.names
    wanted = ROW_ID if by_id else (ROW_NUMBER,)
    column = next((name for name in wanted if name in names), None)
    if column is None:
        suspects = [each.name for each in opened if Path(each.name).name == "suspects.parquet"]
        if suspects and len(opened) > 1:
            raise InputError(f"--exclude-rows {shown(given)}: a folder of several tables", f"name one: {suspects[0]}")
        raise InputError(
            f"{opened[0].name}: no column {wanted[0]!r} (--exclude-rows)",
            f"{nearest_name(wanted[0], names)}; rows are named by {'id' if by_id else 'position'}",
        )
    table, name = pa.table([gathered(opened, column)], ["left"]), opened[0].name
    ids = ids_of(table, "left", name)
    if by_id:
        return ListedRows(name, ids, None)
    if not pa.types.is_integer(ids.type):
        raise InputError(f"{name}: column {column!r} is {ids.type}, and it names rows by number", "cast it to int64")
    return ListedRows(name, None, np.asarray(ids, np.int64))


def cast_ids(values: pa.Array, kind: pa.DataType) -> pa.Array | None:
    """`values` cast to `kind`, the type of the ids they refer to, or None if the cast would change a value."""
    try:
        cast = values.cast(kind)
    except pa.ArrowException:
        return None
    return cast if cast.cast(values.type).equals(values) else None


def all_among(values: pa.Array, ids: pa.Array | None) -> bool:
    """Whether each of `values` is one of `ids`, as the type of these."""
    same = None if ids is None else cast_ids(values, ids.type)
    return same is not None and bool(pc.all(pc.is_in(same, ids)).as_py())


def like_ids(values: pa.Array, ids: pa.Array, name: str, what: str, notes: list[str]) -> pa.Array:
    """`values` cast exactly to the type of `ids`, those of `what` they refer to, with a note; else InputError."""
    if values.type == ids.type:
        return values
    cast = cast_ids(values, ids.type)
    if cast is None:
        every = values.to_pylist()
        first = next((value for value in every if not _WHOLE_NUMBER.fullmatch(str(value))), every[0])
        raise InputError(
            f"{name}: it names {what} by ids that are {values.type} like {first!r}, and those there are {one_of(ids)}",
            "write both with one type, for example as texts: column.cast(pyarrow.string())",
        )
    notes.append(f"{os.path.basename(name)}: ids of {what} cast from {values.type} to {ids.type}, without loss")
    return cast


def one_of(ids: pa.Array | None) -> str:
    """The type and the first of the ids, for messages."""
    return "none" if ids is None or not len(ids) else f"{ids.type} like {ids[0].as_py()!r}"


def places_of(
    values: pa.Array, ids: pa.Array | None, name: str, what: str, policy: str, notes: list[str],
    exchanged: Callable[[], bool],
) -> Places:  # fmt: skip
    """The position of each value in `ids`, -1 for unknown ones where these are not refused.

    exchanged : whether the pairs fit the tables the other way round

    Raises
    ------
    InputError
        If the rows have no ids, the types do not agree, or ids are unknown and the policy is error.
    """
    if ids is None:
        raise InputError(f"{name}: it names {what} by id, and these have no id column", "name one with --id")
    same = like_ids(values, ids, name, what, notes)
    places = np.asarray(pc.index_in(same, value_set=ids).fill_null(-1), np.int64)
    unknown = np.flatnonzero(places < 0)
    none, check = unknown.size == places.size, "check that it belongs to this input"
    if none and exchanged():
        check = "the other table has them: exchange INPUT and --corpus, or the names of the two columns"
    elif none and pa.types.is_integer(values.type) and set(values.to_pylist()) <= set(range(len(ids))):
        check = "they look like row numbers: where rows have ids, pairs are of these"
    elif none and what == "the rows":
        check += "; where INPUT is paired with other rows: minestream mine INPUT --corpus TABLE"
    if unknown.size and policy == "error":
        raise InputError(
            f"{name}: {unknown.size:,} of {many(places.size, 'id')} {verb(unknown.size, 'are')} not among {what}, the "
            f"first is {values[int(unknown[0])].as_py()!r}; these are {one_of(ids)}",
            check if none else f"{check}, or leave such pairs out with --on-missing-ids drop",
        )
    if none:
        raise InputError(
            f"{name}: none of its {places.size:,} ids, {one_of(values)}, is among {what}: these are {one_of(ids)}",
            check,
        )
    return places


def csr(rows: int, left: Places, right: Places, both_ways: bool) -> tuple[Places, NDArray[np.int32]]:
    """Pairs as sorted lists without repeats: start int64[rows + 1], members int32; `both_ways`: under both rows."""
    if both_ways:
        left, right = np.concatenate([left, right]), np.concatenate([right, left])
    own = left != right
    key = np.unique(left[own] * rows + right[own])
    return ragged.grouped(key // rows, rows), (key % rows).astype(np.int32)
