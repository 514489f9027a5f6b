"""Ragged arrays: many lists in one array, where list i is entries start[i] ... start[i + 1] - 1.

`start` is int64[lists + 1] and begins with 0. It is a plain array because kernels read it.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.int64]
Value = TypeVar("Value", bound=np.generic)


def starts(lengths: ArrayLike) -> Numbers:
    """Where lists of these lengths start, int64[lists + 1]."""
    lengths = np.asarray(lengths)
    start = np.zeros(lengths.size + 1, np.int64)
    np.cumsum(lengths, out=start[1:])
    return start


def lengths(start: Numbers) -> Numbers:
    """The number of entries of each list, int64[lists]."""
    return np.diff(start)


def grouped(owner: NDArray[np.integer], lists: int) -> Numbers:
    """Where `lists` lists start, from the list number of every entry, in any order."""
    return starts(np.bincount(owner, minlength=lists))


def repeat(values: NDArray[Value], start: Numbers) -> NDArray[Value]:
    """The value of each list, repeated for each of its entries."""
    return np.repeat(values, lengths(start))


def owners(start: Numbers) -> Numbers:
    """The list number of each entry."""
    return repeat(np.arange(start.size - 1), start)


def nth(start: Numbers) -> Numbers:
    """The position of each entry in its list: 0, 1, 2, 0, 1, ..."""
    return np.arange(start[-1]) - repeat(start[:-1], start)


def spans(first: Numbers, lengths: Numbers) -> Numbers:
    """Ranges of integers, one after another: lengths[0] of them from first[0] on, lengths[1] from first[1] on, ..."""
    if (lengths == 1).all():
        return first.copy()
    start = starts(lengths)
    return repeat(first - start[:-1], start) + np.arange(start[-1])


def take(start: Numbers, lists: Numbers) -> tuple[Numbers, Numbers]:
    """Some of the lists, in any order: where they start, and the positions of their entries."""
    counts = start[lists + 1] - start[lists]
    return starts(counts), spans(start[lists], counts)


def kept(start: Numbers, keep: NDArray[np.bool_]) -> Numbers:
    """Where the same lists start when only the entries in `keep` remain."""
    return starts(keep)[start]


def joined(parts: list[Numbers]) -> Numbers:
    """Where the lists of all parts start when they are put together."""
    return starts(np.concatenate([np.empty(0, np.int64), *map(lengths, parts)]))


def below(start: Numbers, values: NDArray[Any], lists: Numbers, limits: NDArray[Any]) -> Numbers:
    """How many values of list lists[i] are below limits[i]; the values of each list ascend. Cost: by bisection."""
    low, high = start[lists], start[lists + 1]
    while (open_ := low < high).any():
        middle = (low + high) // 2
        less = np.zeros(low.size, bool)
        less[open_] = values[middle[open_]] < limits[open_]
        low, high = np.where(less, middle + 1, low), np.where(open_ & ~less, middle, high)
    return low - start[lists]


def runs(*columns: NDArray[Any]) -> Numbers:
    """The first row of every run of rows that are equal in all columns."""
    new = np.ones(columns[0].size, bool)
    new[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return np.flatnonzero(new)


def nth_of_run(*columns: NDArray[Any]) -> Numbers:
    """The position of each row in its run of rows that are equal in all columns."""
    return nth(np.append(runs(*columns), columns[0].size))
