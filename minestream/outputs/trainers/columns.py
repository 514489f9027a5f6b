"""Native triplets of whole anchors, and the columns that each trainer format makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.config.trainer_formats import RESCORED, ROLES
from minestream.errors import InputError
from minestream.inputs.decode import as_array, lists_from
from minestream.outputs.trainers.texts import Texts, no_text
from minestream.system import ragged

SPACE = r"^$|[\s\x0b\x1c-\x1f\x85\p{Z}]"  # what str.split() would cut an id at, or lose
Rows = NDArray[np.int64]
Columns = dict[str, Any]
Getter = Callable[[str, Rows], pa.Array]


def anchor_role(names: Iterable[str]) -> str:
    """What the columns of native rows call the anchor."""
    return "query" if "query_row" in names else "anchor"


@dataclass(frozen=True)
class Scoring:
    """Which scores a conversion gives.

    Attributes
    ----------
    offset : float or None
        The score is `offset` minus the distance; None: the scores of refilter's table, as they are.
    kind : pyarrow.DataType
        Of the scores.
    """

    offset: float | None
    kind: pa.DataType

    @classmethod
    def of(cls, scores: str, metric: str, float64: bool) -> Scoring | None:
        """The scoring that --scores names; None for "none"."""
        if scores == "none":
            return None
        offset = None if scores == RESCORED else 1.0 if (scores, metric) == ("similarity", "cosine") else 0.0
        return cls(offset, pa.float64() if float64 else pa.float32())

    def column(self, role: str) -> str:
        """The native column of the positive or the negative that scores are made of."""
        return f"{'score' if self.offset is None else 'distance'}_{'ap' if role == 'positive' else 'an'}"


@dataclass(frozen=True)
class Block:
    """Native triplets of whole anchors: P pairs, M negatives; `at` are positions of its rows."""

    table: pa.Table
    texts: Texts
    scoring: Scoring | None  # None: no scores
    k: int  # negatives of a full pair

    @cached_property
    def anchor(self) -> str:
        """What columns call the anchor."""
        return anchor_role(self.table.column_names)

    @cached_property
    def rows(self) -> dict[str, Rows]:
        """Source rows by role."""
        names = (self.anchor, *ROLES[1:])
        return {role: self.table[f"{name}_row"].to_numpy() for role, name in zip(ROLES, names, strict=True)}

    @cached_property
    def pairs(self) -> Rows:
        """The first row of every pair."""
        return ragged.runs(self.rows["anchor"], self.rows["positive"])

    @cached_property
    def anchors(self) -> Rows:
        """The first row of every anchor."""
        return ragged.runs(self.rows["anchor"])

    @cached_property
    def all(self) -> Rows:
        """Every row."""
        return np.arange(self.table.num_rows)

    @cached_property
    def distinct(self) -> Rows:
        """The rows where an anchor meets a negative for the first time; of rescored rows, the best score first."""
        order = np.lexsort((self.rows["negative"], self.rows["anchor"]))  # stable
        found = np.sort(order[ragged.runs(self.rows["anchor"][order], self.rows["negative"][order])])
        if "score_an" not in self.table.column_names:
            return found
        score = self.table["score_an"].to_numpy()[found]
        return found[np.lexsort((-score, self.owners(found)))]

    def owners(self, at: Rows) -> Rows:
        """Which anchor each of `at` belongs to: 0, 1, ..."""
        return np.searchsorted(self.anchors, at, side="right") - 1

    def of_anchor(self, at: Rows) -> Rows:
        """How many of `at` each anchor has."""
        return np.bincount(self.owners(at), minlength=self.anchors.size)

    def ids(self, role: str, at: Rows) -> pa.Array:
        """Ids, or row numbers where there are none."""
        name = f"{self.anchor if role == 'anchor' else role}_id"
        if name not in self.table.column_names:
            return pa.array(self.rows[role][at], pa.int64())
        return as_array(self.table[name]).take(pa.array(at))

    def named(self, role: str, at: Rows) -> pa.Array:
        """Ids as strings."""
        return self.ids(role, at).cast(pa.string())

    def _called(self, role: str, at: int) -> str:
        """What messages call a row of a table: its role, its id where it has one, its number."""
        name, row = self.anchor if role == "anchor" else role, self.rows[role][at]
        if f"{name}_id" not in self.table.column_names:
            return f"{name} in row {row}"
        return f"{name} {self.table[f'{name}_id'][at].as_py()!r} (row {row})"

    def text(self, role: str, at: Rows) -> pa.Array:
        """Texts, none of them null."""
        rows, column = self.rows[role][at], self.texts[role]
        if isinstance(column, str):
            found = as_array(self.table[column]).take(pa.array(at))
        else:
            found = column.take(rows).column(0).combine_chunks()
        if found.type != pa.string():
            raise no_text(f"the text of the {role}", found.type)
        if found.null_count:
            first = at[np.flatnonzero(found.is_null().to_numpy(zero_copy_only=False))[0]]
            raise InputError(f"the text of {self._called(role, first)} is null", "fill it, or mine without such rows")
        return found

    def score(self, role: str, at: Rows) -> pa.Array:
        """Scores of the positive or the negative of rows."""
        assert self.scoring is not None
        values = self.table[self.scoring.column(role)].to_numpy()[at].astype(np.float64)
        if self.scoring.offset is not None:
            values = self.scoring.offset - values
        elif np.isnan(values).any():
            first = at[np.flatnonzero(np.isnan(values))[0]]
            raise InputError(
                f"{self._called(role, first)} of {self._called('anchor', first)} has no score: it was kept by "
                "--missing-scores keep",
                "refilter with --missing-scores drop, or export with other --scores",
            )
        return pa.array(values).cast(self.scoring.kind, safe=False)


def led(first: Rows, rest: Rows, get: Getter) -> pa.Array:
    """Lists of what `get` gives for a positive, then for its negatives; all lists have the same length."""
    width = rest.size // max(1, first.size)
    both = pa.concat_arrays([get("positive", first), get("negative", rest)])
    order = np.column_stack([np.arange(first.size), first.size + np.arange(rest.size).reshape(first.size, width)])
    return lists_from(np.full(first.size, width + 1), both.take(pa.array(order.ravel())))


class Documents:
    """The documents of every anchor: its positives, then its distinct negatives."""

    def __init__(self, block: Block) -> None:
        self.block, at = block, np.concatenate([block.pairs, block.distinct])
        self.order = np.argsort(block.owners(at), kind="stable")
        self.at, self.lengths = at[self.order], block.of_anchor(at)

    def get(self, of_role: Getter) -> pa.Array:
        """What `of_role` gives for the documents."""
        both = [of_role("positive", self.block.pairs), of_role("negative", self.block.distinct)]
        return pa.concat_arrays(both).take(pa.array(self.order))

    def judged(self, label: str, score: str) -> tuple[str, pa.Array]:
        """The column that says how good the documents are, and its name: labels, or scores."""
        if self.block.scoring is None:
            return label, pa.array((self.order < self.block.pairs.size).astype(np.int64))
        return score, self.get(self.block.score)


def _st_triplets(block: Block) -> Columns:
    columns = {role: block.text(role, block.all) for role in ROLES}
    return columns if block.scoring is None else columns | {"scores": led(block.all, block.all, block.score)}


def _st_tuples(block: Block) -> Columns:
    negatives = block.text("negative", block.all)
    columns = {role: block.text(role, block.pairs) for role in ROLES[:2]}
    columns |= {f"negative_{place + 1}": negatives.take(pa.array(block.pairs + place)) for place in range(block.k)}
    return columns if block.scoring is None else columns | {"scores": led(block.pairs, block.all, block.score)}


def _st_labeled_pairs(block: Block) -> Columns:
    documents = Documents(block)
    name, values = documents.judged("label", "score")
    return {"anchor": block.text("anchor", documents.at), "document": documents.get(block.text), name: values}


def _st_labeled_lists(block: Block) -> Columns:
    documents = Documents(block)
    name, values = documents.judged("labels", "scores")
    columns = {
        "query": block.text("anchor", block.anchors),
        "documents": lists_from(documents.lengths, documents.get(block.text)),
    }
    return columns | {name: lists_from(documents.lengths, values)}


def _sides(block: Block, names: tuple[str, str], get: Getter) -> Columns:
    """For every anchor the list of its positives, and the list of its distinct negatives."""
    sides = zip(names, ROLES[1:], (block.pairs, block.distinct), strict=True)
    return {name: lists_from(block.of_anchor(at), get(role, at)) for name, role, at in sides}


def _flagembedding(block: Block) -> Columns:
    columns = {"query": block.text("anchor", block.anchors)} | _sides(block, ("pos", "neg"), block.text)
    return columns if block.scoring is None else columns | _sides(block, ("pos_scores", "neg_scores"), block.score)


def _tevatron(block: Block) -> Columns:
    columns = {"query_id": block.named("anchor", block.anchors), "query_text": block.text("anchor", block.anchors)}
    return columns | _sides(block, ("positive_document_ids", "negative_document_ids"), block.named)


def _trec(block: Block) -> Columns:
    score = block.score("negative", block.distinct)
    order = np.lexsort((-score.to_numpy(), block.owners(block.distinct)))
    at = block.distinct[order]
    ids = {"qid": block.named("anchor", at), "docid": block.named("negative", at)}
    for name, values in ids.items():
        wrong = values.filter(pc.match_substring_regex(values, SPACE))
        if len(wrong):
            raise InputError(f"{name} {wrong[0].as_py()!r} is empty or holds white space", "such lines need other ids")
    return ids | {"score": score.take(pa.array(order))}


def _pylate(block: Block) -> Columns:
    lists_of = {"document_ids": block.ids, "scores": block.score}
    columns = {"query_id": block.ids("anchor", block.pairs)}
    return columns | {name: led(block.pairs, block.all, get) for name, get in lists_of.items()}


def _pml(block: Block) -> Columns:
    return {f"{role}_idx": pa.array(block.rows[role], pa.int64()) for role in ROLES}


SHAPES: dict[str, Callable[[Block], Columns]] = {
    "st-triplets": _st_triplets,
    "st-tuples": _st_tuples,
    "st-labeled-pairs": _st_labeled_pairs,
    "st-labeled-lists": _st_labeled_lists,
    "flagembedding": _flagembedding,
    "tevatron": _tevatron,
    "trec": _trec,
    "pylate": _pylate,
    "pml": _pml,
}
