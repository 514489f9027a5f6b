"""Ragged arrays: lists behind one another in one array, list i being entries start[i] ... start[i + 1] - 1.

`start` is int64[lists + 1] and begins with 0. It stays a plain array, since kernels read it.
"""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

Numbers = NDArray[np.int64]
Value = TypeVar("Value", bound=np.generic)


def starts(lengths: ArrayLike) -> Numbers:
    """Where lists of these lengths start."""
    lengths = np.asarray(lengths)
    start = np.zeros(lengths.size + 1, np.int64)
    np.cumsum(lengths, out=start[1:])
    return start


def lengths(start: Numbers) -> Numbers:
    """How many entries each list has."""
    return np.diff(start)


def grouped(owner: NDArray[np.integer], lists: int) -> Numbers:
    """Where `lists` lists start, given which of them each entry is in, in any order."""
    return starts(np.bincount(owner, minlength=lists))


def repeat(values: NDArray[Value], start: Numbers) -> NDArray[Value]:
    """The value of each list, once for every entry of it."""
    return np.repeat(values, lengths(start))


def owners(start: Numbers) -> Numbers:
    """Which list each entry is in."""
    return repeat(np.arange(start.size - 1), start)


def nth(start: Numbers) -> Numbers:
    """How many entries of the same list stand before each entry: 0, 1, 2, 0, 1, ..."""
    return np.arange(start[-1]) - repeat(start[:-1], start)


def spans(first: Numbers, lengths: Numbers) -> Numbers:
    """first[0], first[0] + 1, ... so many as lengths[0]; then those from first[1]; and so on."""
    start = starts(lengths)
    return repeat(first - start[:-1], start) + np.arange(start[-1])


def take(start: Numbers, lists: Numbers) -> tuple[Numbers, Numbers]:
    """Some of the lists, in any order: where they start behind one another, and which entries they are made of."""
    counts = start[lists + 1] - start[lists]
    return starts(counts), spans(start[lists], counts)


def kept(start: Numbers, keep: NDArray[np.bool_]) -> Numbers:
    """Where the same lists start once only the entries in `keep` are left."""
    return starts(keep)[start]


def joined(parts: list[Numbers]) -> Numbers:
    """Where the lists of all parts, behind one another, start."""
    return starts(np.concatenate([np.empty(0, np.int64), *map(lengths, parts)]))


def runs(*columns: NDArray[Any]) -> Numbers:
    """The first row of every run of rows that are equal in all columns."""
    new = np.ones(columns[0].size, bool)
    new[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return np.flatnonzero(new)


def nth_of_run(*columns: NDArray[Any]) -> Numbers:
    """How many rows just before each one are equal to it in all columns."""
    return nth(np.append(runs(*columns), columns[0].size))
