"""Labels, sets of labels and groups as codes, and the number of positives of each row."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.inputs.decode import without_hidden
from minestream.kernels.types import FORBIDS_POSITIVES, Rows
from minestream.system import ragged

UNLABELED = -1
NO_ROWS: NDArray[np.int64] = np.empty(0, np.int64)
NO_CODES: NDArray[np.int32] = np.empty(0, np.int32)
NO_LEVELS: NDArray[np.int32] = np.empty((0, 0), np.int32)
UNLABELED_WARNING_SHARE = 0.2


class Encoder:
    """Values of a column as int32 codes in order of appearance, -1 for null; holds only codes and distinct values."""

    def __init__(self) -> None:
        self._pieces: list[pa.Array] = []

    def add(self, values: pa.Array) -> None:
        """Add the next rows of the column."""
        if pa.types.is_boolean(values.type):
            values = values.cast(pa.int8())
        self._pieces.append(pc.dictionary_encode(values))

    def finish(self) -> tuple[NDArray[np.int32], pa.Array]:
        """The codes of all rows, int32[n], and the values by code (bools as int8)."""
        if not self._pieces:
            return NO_CODES, pa.array([], pa.int8())
        unified = pa.chunked_array(self._pieces).unify_dictionaries()
        codes = [np.asarray(piece.indices.fill_null(UNLABELED)) for piece in unified.chunks]
        values = unified.chunk(unified.num_chunks - 1).dictionary
        return np.concatenate(codes).astype(np.int32), values


def without_value(labels: pa.Array, text: str | None) -> pa.Array:
    """Labels in which those written as `text` are null; in lists each element is compared."""
    if text is None:
        return labels
    if pa.types.is_list(labels.type) or pa.types.is_large_list(labels.type):
        return without_hidden(labels, without_value(labels.flatten(), text))
    hit = pc.fill_null(pc.equal(labels.cast(pa.string()), text), False)
    return pc.if_else(hit, pa.scalar(None, labels.type), labels)


@dataclass(frozen=True)
class Labels:
    """The labels of all rows.

    Attributes
    ----------
    code : int32[n]
        Equal for equal labels, or equal sets of labels; -1 without a label.
    set_start, set_code : int64[n + 1], int32[]
        The sorted label codes of each row; empty for single labels.
    values : pyarrow.Array
        Labels for the output: by code for single labels, by row for lists.
    levels : int32[coarser levels, n]
        Of hierarchical labels, whose codes are those of whole paths: a code of the path down to each coarser level, -1
        where a value on it is null.
    level_names : tuple of str
        The columns of these levels.
    """

    code: NDArray[np.int32]
    set_start: NDArray[np.int64]
    set_code: NDArray[np.int32]
    values: pa.Array
    levels: NDArray[np.int32] = field(default_factory=lambda: NO_LEVELS, kw_only=True)
    level_names: tuple[str, ...] = field(default=(), kw_only=True)

    @property
    def multiple(self) -> bool:
        """Whether a row may have several labels."""
        return self.set_start.size > 0

    def members(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """Row and label code of every label of every row, two arrays."""
        if self.multiple:
            return ragged.owners(self.set_start), self.set_code
        rows = np.flatnonzero(self.code >= 0)
        return rows, self.code[rows]

    def take(self, rows: NDArray[np.integer]) -> pa.Array:
        """The labels of `rows`, as they are in the input."""
        if self.multiple:
            return self.values.take(pa.array(rows))
        codes = self.code[rows]
        return self.values.take(pa.array(codes, mask=codes < 0))

    def keep(self, mask: NDArray[np.bool_]) -> Labels:
        """The labels of the rows in `mask`."""
        if not self.multiple:
            return replace(self, code=self.code[mask], levels=self.levels[:, mask[: self.levels.shape[1]]])
        start, at = ragged.take(self.set_start, np.flatnonzero(mask))
        return Labels(self.code[mask], start, self.set_code[at], self.values.filter(pa.array(mask)))

    def below(self, names: tuple[str, ...], parents: Sequence[NDArray[np.int32]]) -> Labels:
        """Single labels as the leaves of paths, by names and codes (-1: null) of the coarser levels, coarse to fine.

        A null on the way is a value of the path like any other, so that rows of one path stay positives of each other.
        """
        path, known, levels = np.zeros(self.code.size, np.int64), np.ones(self.code.size, bool), []
        for codes in parents:
            path = _joined(path, codes)[1]
            known &= codes >= 0
            levels.append(np.where(known, path, UNLABELED))
        first, leaf = _joined(path, self.code)
        code = np.where(self.code >= 0, leaf, UNLABELED).astype(np.int32)
        values, held = self.take(first), np.array(levels, np.int32)
        return Labels(code, NO_ROWS, NO_CODES, values, levels=held, level_names=names)

    def shared_level(self, left: NDArray[np.integer], right: NDArray[np.integer]) -> pa.Array:
        """The name of the finest coarser level that the rows of each pair share; null where they share none."""
        shared = (self.levels[:, left] == self.levels[:, right]) & (self.levels[:, left] >= 0)
        count = shared.sum(axis=0)  # of a shared level all coarser ones are shared
        return pa.array(self.level_names).take(pa.array(count - 1, mask=count == 0))


def _joined(path: NDArray[np.int64], codes: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Codes of pairs of a path and a code of its next value: the first row of each, and the code of each row."""
    both = path * (int(codes.max(initial=-1)) + 2) + codes + 1
    _, first, code = np.unique(both, return_index=True, return_inverse=True)
    return first, code


class LabelReader:
    """Collects the labels of a source batch by batch.

    Attributes
    ----------
    rows, unlabeled, minus_one, emptied : int
        Number of rows; of rows without a label; of rows with label -1; of labels equal to the unlabelled value.
    """

    def __init__(self, kind: pa.DataType, unlabeled_value: str | None, levels: Sequence[str] = ()) -> None:
        self.kind = kind
        self.multiple = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        self.rows = self.unlabeled = self.minus_one = self.emptied = 0
        self._unlabeled_value = unlabeled_value
        self._encoder, self._parents = Encoder(), [Encoder() for _ in levels]
        self._levels = tuple(levels)
        self._lists: list[pa.Array] = []

    def labeled(self, labels: pa.Array) -> tuple[pa.Array, NDArray[np.bool_]]:
        """The labels in which the unlabelled value is null, and which rows have a label, bool[m]."""
        before = self._nulls(labels)
        labels = without_value(labels, self._unlabeled_value)
        self.emptied += self._nulls(labels) - before
        if self.multiple:
            mask = np.zeros(len(labels), bool)
            mask[np.asarray(pc.list_parent_indices(labels))[~np.asarray(labels.flatten().is_null())]] = True
        else:
            mask = ~np.asarray(labels.is_null())
            if pa.types.is_integer(labels.type):
                self.minus_one += pc.sum(pc.equal(pc.cast(labels, pa.int64(), safe=False), -1)).as_py() or 0
        self.rows += len(labels)
        self.unlabeled += int((~mask).sum())
        return labels, mask

    def _nulls(self, labels: pa.Array) -> int:
        return int((labels.flatten() if self.multiple else labels).null_count)

    def notes(self, unlabeled: str, labels: Labels | None = None) -> list[str]:
        """Warnings about the labels read, one line each; more can be found if all `labels` are given."""
        found = []
        if self._unlabeled_value is not None and self.rows and not self.emptied:
            found.append(
                f"--unlabeled-value has no effect: no row has the label {self._unlabeled_value!r} ({self.kind})"
            )
        if unlabeled == "negative" and self.rows and not self.unlabeled:
            found.append("--unlabeled negative has no effect: every row has a label")
        share = self.minus_one / max(1, self.rows)
        if share > UNLABELED_WARNING_SHARE or (self.minus_one and labels is not None and self._largest(labels) == -1):
            most = "" if share > UNLABELED_WARNING_SHARE else ", more than any other"
            found.append(
                f"{share:.0%} of the rows carry the label -1{most}: if that means unlabelled, add --unlabeled-value -1"
            )
        return found

    def _largest(self, labels: Labels) -> object:
        """The label of most rows; None if two share the first place."""
        counts = np.bincount(labels.code[labels.code >= 0], minlength=1)
        largest = np.flatnonzero(counts == counts.max())
        return labels.values[int(largest[0])].as_py() if largest.size == 1 and counts.max() else None

    def add(self, labels: pa.Array, parents: Sequence[pa.Array] = ()) -> None:
        """Add the next rows that take part, with labels from `labeled`, and their values at the coarser levels."""
        for encoder, values in zip(self._parents, parents, strict=True):
            encoder.add(without_value(values, self._unlabeled_value))
        if self.multiple:
            self._lists.append(labels)
        else:
            self._encoder.add(labels)

    def finish(self) -> Labels:
        """All labels read."""
        if not self.multiple:
            code, values = self._encoder.finish()
            found = Labels(code, NO_ROWS, NO_CODES, values.cast(self.kind))
            return found.below(self._levels, [each.finish()[0] for each in self._parents]) if self._parents else found
        lists = pa.concat_arrays(self._lists) if self._lists else pa.array([], self.kind)
        encoder = Encoder()
        encoder.add(lists.flatten())
        flat, _ = encoder.finish()
        parents = np.asarray(pc.list_parent_indices(lists), np.int64)
        known = flat >= 0
        both = np.unique(np.stack([parents[known], flat[known].astype(np.int64)], axis=1), axis=0)
        start = ragged.grouped(both[:, 0], len(lists))
        codes = both[:, 1].astype(np.int32)
        return Labels(_set_codes(start, codes), start, codes, lists)


def _set_codes(start: NDArray[np.int64], codes: NDArray[np.int32]) -> NDArray[np.int32]:
    """A code for each distinct set of labels, -1 for the empty set; int32[rows]."""
    known: dict[bytes, int] = {b"": UNLABELED}
    out = np.empty(start.size - 1, np.int32)
    for i in range(out.size):
        out[i] = known.setdefault(codes[start[i] : start[i + 1]].tobytes(), len(known) - 1)
    return out


def positive_counts(labels: Labels, rows: Rows, first_candidate: int) -> NDArray[np.int64]:
    """An upper bound of the positives of each row among the slots from `first_candidate` on, int64[n]; 0 if none.

    Pairs that share several labels, or are listed and share a label, count more than once. With two tables
    (first_candidate > 0) the rows of the second have none, or those among the first where each searches the other.
    """
    n = labels.code.size
    second = np.arange(n) >= first_candidate
    counts = _by_label(labels, rows, second)
    if rows.apart:
        counts[second] = _by_label(labels, rows, ~second)[second]
    counts += _by_list(rows, n) - _barred_by_label(labels, rows, n)
    if first_candidate and not rows.apart:
        counts[first_candidate:] = 0
    return counts


def _groups_forbid(rows: Rows) -> bool:
    return bool(rows.group.size and rows.group_forbids & FORBIDS_POSITIVES)


def _by_label(labels: Labels, rows: Rows, candidates: NDArray[np.bool_]) -> NDArray[np.int64]:
    member, codes = labels.members()
    if not member.size:
        return np.zeros(labels.code.size, np.int64)
    candidate = candidates[member]
    per_member = np.bincount(codes[candidate], minlength=int(codes.max()) + 1)[codes] - candidate
    if _groups_forbid(rows):
        in_group = rows.group[member] >= 0
        key = codes.astype(np.int64) * (int(rows.group.max()) + 1) + rows.group[member]
        _, inverse = np.unique(key[in_group], return_inverse=True)
        together = np.bincount(inverse, weights=candidate[in_group])[inverse].astype(np.int64)
        per_member[in_group] -= together - candidate[in_group]
    return np.bincount(member, weights=per_member, minlength=labels.code.size).astype(np.int64)


def listed_pairs(start: NDArray[np.int64], members: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Sorted lists as pairs of slots, two int64 arrays."""
    return ragged.owners(start), members.astype(np.int64)


def usable_known(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The listed positives that are not excluded, as sorted pairs of slots, two int64 arrays."""
    left, right = listed_pairs(rows.known_start, rows.known)
    if not rows.barred_start.size:
        return left, right
    n = rows.barred_start.size - 1
    barred_left, barred_right = listed_pairs(rows.barred_start, rows.barred)
    keep = ~np.isin(left * n + right, barred_left * n + barred_right)
    return left[keep], right[keep]


def _by_list(rows: Rows, n: int) -> NDArray[np.int64]:
    if not rows.known_start.size:
        return np.zeros(n, np.int64)
    return np.bincount(usable_known(rows)[0], minlength=n)


def _barred_by_label(labels: Labels, rows: Rows, n: int) -> NDArray[np.int64]:
    """How often _by_label counted excluded pairs, int64[n]."""
    if not rows.barred_start.size:
        return np.zeros(n, np.int64)
    left, right = listed_pairs(rows.barred_start, rows.barred)
    if _groups_forbid(rows):
        apart = (rows.group[left] < 0) | (rows.group[left] != rows.group[right])
        left, right = left[apart], right[apart]
    return np.bincount(left, weights=shared_labels(labels, left, right), minlength=n).astype(np.int64)


def shared_labels(labels: Labels, left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.int64]:
    """How many labels the rows of each pair of slots share."""
    if labels.multiple:
        sets = [set(labels.set_code[a:b].tolist()) for a, b in itertools.pairwise(labels.set_start.tolist())]
        return np.array([len(sets[a] & sets[b]) for a, b in zip(left.tolist(), right.tolist(), strict=True)], np.int64)
    return np.asarray((labels.code[left] == labels.code[right]) & (labels.code[left] >= 0), np.int64)
