"""Columns of every layout that Arrow has, in every role: nulls, offsets, slices, views, dictionaries, runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from minestream.errors import InputError
from minestream.inputs.dataset.labels import LabelReader
from minestream.inputs.pairs import read_pairs, read_rows
from minestream.inputs.source import open_source
from minestream.inputs.where import parse_where


def runs(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Values run-end encoded, each a run."""
    return pa.RunEndEncodedArray.from_arrays(pa.array(range(1, len(values) + 1), pa.int32()), pa.array(values, kind))


def behind_nulls(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Lists of two, with values behind the null ones."""
    given = pa.array([value for row in values for value in (row or [99, 98])], pa.int64())
    given = given.dictionary_encode() if pa.types.is_dictionary(kind) else given.cast(kind)
    mask = pa.array([row is None for row in values])
    return pa.ListArray.from_arrays(pa.array(range(0, 2 * len(values) + 1, 2), pa.int32()), given, mask=mask)


def two_each(values: list[Any], kind: pa.DataType) -> pa.Array:
    given = pa.array([value for row in values for value in (row or [99, 98])], kind)
    return pa.FixedSizeListArray.from_arrays(given, 2, mask=pa.array([row is None for row in values]))


def from_behind(values: list[Any], make: Callable[..., pa.Array]) -> pa.Array:
    """Views of lists that lie in reverse order, with values between them that belong to none."""
    kept = [row or [] for row in values]
    flat: list[int] = []
    offsets: list[int] = []
    for row in reversed(kept):
        flat += [77, *row]
        offsets.append(len(flat) - len(row))
    sizes = [len(row) for row in kept]
    return make(offsets[::-1], sizes, pa.array(flat, pa.int64()), pa.array([row is None for row in values]))


LISTS = [[1, 2], None, [2, 3], [3, 1], None, [1, 2]]
WORDS = ["a", None, "é", "a", "b", None]
NUMBERS = [3, None, -1, 3, 0, 7]
LAYOUTS: dict[str, tuple[list[Any], Callable[[list[Any]], pa.Array]]] = {
    "list": (LISTS, lambda v: pa.array(v, pa.list_(pa.int64()))),
    "list with values behind nulls": (LISTS, lambda v: behind_nulls(v, pa.int64())),
    "fixed-size list": (LISTS, lambda v: two_each(v, pa.int64())),
    "large list": (LISTS, lambda v: pa.array(v, pa.large_list(pa.int64()))),
    "list view": (LISTS, lambda v: from_behind(v, lambda o, s, f, m: pa.ListViewArray.from_arrays(
        pa.array(o, pa.int32()), pa.array(s, pa.int32()), f, mask=m))),
    "large list view": (LISTS, lambda v: from_behind(v, lambda o, s, f, m: pa.LargeListViewArray.from_arrays(
        pa.array(o, pa.int64()), pa.array(s, pa.int64()), f, mask=m))),
    "list of a dictionary": (LISTS, lambda v: behind_nulls(v, pa.dictionary(pa.int8(), pa.int64()))),
    "runs of lists": (LISTS, lambda v: runs(v, pa.list_(pa.int64()))),
    "dictionary of lists": (LISTS, lambda v: pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 2, 3, None, 0]), pa.array([v[0], None, v[2], v[3]], pa.list_(pa.int64())))),
    "text": (WORDS, lambda v: pa.array(v)),
    "large text": (WORDS, lambda v: pa.array(v, pa.large_string())),
    "view of text": (WORDS, lambda v: pa.array(v, pa.string_view())),
    "dictionary": (WORDS, lambda v: pa.array(v).dictionary_encode()),
    "dictionary with a null value": (WORDS, lambda v: pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 2, 0, 3, None]), pa.array(["a", None, "é", "b"]))),
    "dictionary of views": (WORDS, lambda v: pa.DictionaryArray.from_arrays(
        pa.array([0, None, 1, 0, 2, None]), pa.array(["a", "é", "b"], pa.string_view()))),
    "runs of text": (WORDS, lambda v: runs(v, pa.string())),
    "extension type": (WORDS, lambda v: pa.ExtensionArray.from_storage(pa.json_(), pa.array(v))),
    "int8": (NUMBERS, lambda v: pa.array(v, pa.int8())),
    "runs of numbers": (NUMBERS, lambda v: runs(v, pa.int32())),
}  # fmt: skip


def batch_of(column: pa.Array, cut: slice, **more: Any) -> pa.Table:
    """A table that is a slice of a longer one."""
    count = len(column)
    vectors = pa.array(np.random.default_rng(0).normal(size=(count, 3)).tolist(), pa.list_(pa.float32(), 3))
    return pa.table({"embedding": vectors, "value": column, **more}).slice(cut.start, cut.stop - cut.start)


@pytest.mark.parametrize("cut", [slice(0, 6), slice(1, 5)], ids=["whole", "slice"])
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_is_read_in_every_role(name: str, cut: slice) -> None:
    values, make = LAYOUTS[name]
    column, expected = make(values), values[cut]
    assert column.to_pylist() == values or name == "extension type"
    table = batch_of(column, cut, keep=pa.array([row != 3 for row in range(6)]))
    lists = isinstance(values[0], list)
    for where in (None, parse_where("keep", "--where")):
        wanted = [value for row, value in enumerate(expected) if where is None or row + cut.start != 3]
        source = open_source(table, label="value", carry=("value",), where=where)
        (batch,) = source.batches()
        assert batch.labels is not None
        assert batch.carry is not None
        assert batch.labels.to_pylist() == batch.carry["value"].to_pylist() == wanted
        batch.labels.validate(full=True)
        reader = LabelReader(batch.labels.type, None)
        labels, labeled = reader.labeled(batch.labels)
        assert labeled.tolist() == [value is not None for value in wanted]
        reader.add(labels)
        rows, _ = reader.finish().members()
        assert rows.size == sum(len(value) if lists else 1 for value in wanted if value is not None)
        if lists:
            continue
        (batch,) = open_source(table, group_column="value", require_label=None, where=where).batches()
        assert batch.groups is not None
        assert batch.groups.to_pylist() == wanted
        with pytest.raises(InputError, match="null id in row"):
            list(open_source(table, id="value", require_label=None, where=where).batches())
        known = pa.table({"query_id": column.slice(2, 3), "positive_id": column.slice(2, 3)})
        assert read_pairs(known, "--qrels").left.to_pylist() == values[2:5]
        listed = read_rows(pa.table({"id": column.slice(2, 3)}), True).ids
        assert listed is not None
        assert listed.to_pylist() == values[2:5]
        text = next(value for value in wanted if value is not None)
        same = open_source(table, require_label=None, where=parse_where(f"value == {text!r}", "--where"))
        found = [row + cut.start for batch in same.batches() for row in batch.rows.tolist()]
        assert found == [row for row in range(cut.start, cut.stop) if values[row] == text]


VECTOR_LAYOUTS: dict[str, Callable[[Any], pa.Array]] = {
    "large list": lambda rows: pa.array(rows, pa.large_list(pa.float32())),
    "list view": lambda rows: pa.array(rows, pa.list_view(pa.float32())),
    "large list view": lambda rows: pa.array(rows, pa.large_list_view(pa.float32())),
    "dictionary": lambda rows: pa.DictionaryArray.from_arrays(
        pa.array(range(len(rows))), pa.array(rows, pa.list_(pa.float32()))),
    "runs": lambda rows: runs(rows, pa.list_(pa.float32())),
    "fixed-size list": lambda rows: pa.array(rows, pa.list_(pa.float32(), 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", VECTOR_LAYOUTS)
def test_vectors_of_every_layout_and_rows_without_one(name: str) -> None:
    rows: list[Any] = np.arange(1, 19, dtype=np.float32).reshape(6, 3).tolist()
    rows[2] = None
    rows[4] = [1.0, None, 2.0]
    for cut in (slice(0, 6), slice(1, 6)):
        column = VECTOR_LAYOUTS[name](rows).slice(cut.start, 6)
        source = open_source(pa.table({"embedding": column}), require_label=None, on_bad_rows="drop")
        (batch,) = source.batches()
        good = [row for row in range(cut.start, 6) if row not in (2, 4)]
        assert (np.flatnonzero(~batch.bad) + cut.start).tolist() == good
        assert batch.vectors[~batch.bad].tolist() == [rows[row] for row in good]
        assert source.bad_rows == {"null embedding": 1, "null elements": 1}
        with pytest.raises(InputError, match=f"null embedding in row {2 - cut.start}"):
            list(open_source(pa.table({"embedding": column}), require_label=None).batches())


def test_lists_of_pairs_and_rows_of_two_widths_are_one() -> None:
    tables = [pa.table({"query_id": pa.array([1, 2], kind), "positive_id": pa.array([5, 6], pa.uint8()), "id": [7, 8]})
              for kind in (pa.int32(), pa.int64())]  # fmt: skip
    assert read_pairs(tables, "--qrels").left.to_pylist() == [1, 2, 1, 2]
    listed = read_rows(tables, True).ids
    assert listed is not None
    assert listed.to_pylist() == [7, 8, 7, 8]
    tables[1] = tables[1].set_column(0, "query_id", pa.array(["1", "2"]))
    with pytest.raises(InputError, match="'query_id' has different types: <memory> 0 has int32, <memory> 1 has string"):
        read_pairs(tables, "--qrels")
    with pytest.raises(InputError, match="<memory> 1: no column 'query_id', which <memory> 0 has"):
        read_pairs([tables[0], tables[1].drop_columns(["query_id"])], "--qrels")
    with pytest.raises(InputError, match="null id"):
        read_rows(pa.table({"row": pa.array([1, None])}), False)
