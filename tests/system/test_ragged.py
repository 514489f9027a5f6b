"""Ragged arrays against lists of lists of Python."""

from __future__ import annotations

from itertools import chain, groupby, pairwise
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from minestream.system import ragged

lists_of_lists = st.lists(st.lists(st.integers(-9, 9), max_size=4), max_size=6)


def packed(lists: list[list[int]]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    return ragged.starts([len(each) for each in lists]), np.array([*chain(*lists)], np.int64)


def unpacked(start: np.ndarray[Any, Any], entries: np.ndarray[Any, Any]) -> list[list[int]]:
    assert start.dtype == np.int64
    assert (start[0], start[-1]) == (0, len(entries))
    return [entries[first:end].tolist() for first, end in pairwise(start)]


@given(lists_of_lists)
def test_lists_come_back(lists: list[list[int]]) -> None:
    start, entries = packed(lists)
    assert unpacked(start, entries) == lists
    assert ragged.lengths(start).tolist() == [len(each) for each in lists]


@given(lists_of_lists)
def test_of_every_entry_its_list_and_its_place_there(lists: list[list[int]]) -> None:
    start, _ = packed(lists)
    values = np.array([f"{number}" for number in range(len(lists))], object)
    assert ragged.owners(start).tolist() == [owner for owner, each in enumerate(lists) for _ in each]
    assert ragged.nth(start).tolist() == [place for each in lists for place in range(len(each))]
    assert ragged.repeat(values, start).tolist() == [f"{owner}" for owner, each in enumerate(lists) for _ in each]


@given(lists_of_lists, st.data())
def test_some_lists_in_any_order(lists: list[list[int]], data: st.DataObject) -> None:
    wanted = data.draw(st.lists(st.integers(0, len(lists) - 1))) if lists else []
    start, entries = packed(lists)
    taken, at = ragged.take(start, np.array(wanted, np.int64))
    assert unpacked(taken, entries[at]) == [lists[number] for number in wanted]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), max_size=6))
def test_spans_are_ranges_behind_one_another(ranges: list[tuple[int, int]]) -> None:
    first, lengths = np.array(ranges, np.int64).reshape(-1, 2).T
    assert ragged.spans(first, lengths).tolist() == [*chain(*(range(a, a + length) for a, length in ranges))]


@given(lists_of_lists)
def test_only_some_entries(lists: list[list[int]]) -> None:
    start, entries = packed(lists)
    keep = entries > 0
    assert unpacked(ragged.kept(start, keep), entries[keep]) == [[x for x in each if x > 0] for each in lists]


@given(st.lists(lists_of_lists, max_size=3))
def test_lists_of_several_behind_one_another(parts: list[list[list[int]]]) -> None:
    starts, entries = zip(*map(packed, [[], *parts]), strict=True)
    assert unpacked(ragged.joined(list(starts)), np.concatenate(entries)) == [*chain(*parts)]


def test_nothing_joined_is_no_list() -> None:
    assert ragged.joined([]).tolist() == [0]


@given(st.lists(st.integers(0, 4)))
def test_entries_by_their_list_in_any_order(owner: list[int]) -> None:
    start = ragged.grouped(np.array(owner, np.int64), 6)
    assert unpacked(start, np.sort(np.array(owner, np.int64))) == [[own] * owner.count(own) for own in range(6)]


@given(st.lists(st.tuples(st.integers(0, 2), st.booleans())))
def test_runs_of_equal_rows(rows: list[tuple[int, bool]]) -> None:
    columns = np.array([row[0] for row in rows], np.int32), np.array([row[1] for row in rows], bool)
    runs = [len([*run]) for _, run in groupby(rows)]
    assert ragged.runs(*columns).tolist() == ragged.starts(runs)[:-1].tolist()
    assert ragged.nth_of_run(*columns).tolist() == [place for run in runs for place in range(run)]


@given(lists_of_lists, st.data())
def test_how_many_are_below(lists: list[list[int]], data: st.DataObject) -> None:
    lists = [sorted(each) for each in lists]
    asked = data.draw(st.lists(st.tuples(st.integers(0, len(lists) - 1), st.integers(-10, 10)))) if lists else []
    start, entries = packed(lists)
    owners, limits = (np.array(each, np.int64) for each in zip(*asked, strict=True)) if asked else (start[:0],) * 2
    expected = [sum(value < limit for value in lists[owner]) for owner, limit in asked]
    assert ragged.below(start, entries, owners, limits).tolist() == expected
