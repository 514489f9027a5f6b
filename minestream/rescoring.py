"""Mined rows filtered again by other scores, such as a cross-encoder's, without a new scan."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat
from numpy.typing import NDArray

from minestream.columns import plain
from minestream.contents import mined_output
from minestream.conversion import ending_in, metadata_like, publishing, refuse, triplets
from minestream.decode import Place, decode_ids, decode_plain
from minestream.errors import InputError, UsageError, nearest_name
from minestream.formats import whole_anchors
from minestream.given import Given
from minestream.inputs import Input, open_inputs
from minestream.places import text_of
from minestream.shapes import anchor_role, as_array, changes
from minestream.writer import write_rows

BLOCK_ROWS = 131_072
SCORE_COLUMNS = ("query_id", "document_id", "score")
OF_POSITIVES: dict[str, Callable[[list[float]], float]] = {
    "min": min,
    "max": max,
    "mean": lambda scores: math.fsum(scores) / len(scores),
}

Rows = NDArray[np.int64]
Numbers = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Which negatives stay: the filters of mining, with s_n and s_p read from a table."""

    negatives: int
    max_similarity: float | None = None
    min_similarity: float | None = None
    absolute_margin: float | None = None
    relative_margin: float | None = None
    reference: str = "pair"

    def check(self) -> None:
        """Raise UsageError for what means nothing."""
        if self.negatives < 1:
            raise UsageError("--negatives must be at least 1", "-k is how many negatives of a pair stay")
        for name in ("max_similarity", "min_similarity", "absolute_margin", "relative_margin"):
            value = getattr(self, name)
            if value is not None and not math.isfinite(value):
                raise UsageError(f"--{name.replace('_', '-')} must be a finite number, not {value}")
        if self.reference != "pair" and self.reference not in OF_POSITIVES:
            raise UsageError(
                f"--reference has no value {self.reference!r}", nearest_name(self.reference, ["pair", *OF_POSITIVES])
            )
        if self.reference != "pair" and self.absolute_margin is None and self.relative_margin is None:
            raise UsageError(
                f"--reference {self.reference} is what margins are measured from",
                "give --relative-margin or --absolute-margin",
            )
        low, high = self.min_similarity, self.max_similarity
        if low is not None and high is not None and low > high:
            raise UsageError(
                "--min-similarity is above --max-similarity: the window can select nothing", "exchange them"
            )

    def limits(self, reference: Numbers) -> Iterator[tuple[str, Any, Any]]:
        """The filters that are on, each with the lowest and the highest score that passes."""
        if self.max_similarity is not None:
            yield "max_similarity", -math.inf, self.max_similarity
        if self.min_similarity is not None:
            yield "min_similarity", self.min_similarity, math.inf
        if self.absolute_margin is not None:
            yield "absolute_margin", -math.inf, reference - self.absolute_margin
        if self.relative_margin is not None:
            yield "relative_margin", -math.inf, reference - np.abs(reference) * self.relative_margin


def refilter(
    mined: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    scores: Any,
    negatives: int,
    relative_margin: float | None = None,
    absolute_margin: float | None = None,
    max_similarity: float | None = None,
    min_similarity: float | None = None,
    reference: str = "pair",
    emit: str = "triplets",
    overwrite: bool = False,
) -> dict[str, Any]:
    """Filter mined rows by the scores of a table and keep the best-scored negatives of each pair.

    Parameters
    ----------
    mined : path
        A mined file or folder of triplets or tuples, with ids.
    out : path
        The .parquet file to write: triplets of the same columns and score_ap, score_an.
    scores : path, list of paths or Arrow object
        Columns query_id, document_id, score, larger = more similar; one row for each mined anchor with each of its
        positives and negatives. Ids of another type than the mined ones are compared as text.
    negatives : int
        How many negatives of a pair stay, by score descending, then as mined.
    relative_margin, absolute_margin, max_similarity, min_similarity : float, optional
        As in mining, float64: s_n <= reference - abs(reference) r; s_n <= reference - g; bounds of s_n, closed.
    reference : {"pair", "min", "max", "mean"}
        Over the scores of the anchor's positives that were mined and have one.
    emit : {"triplets"}
    overwrite : bool

    Returns
    -------
    dict
        output, mined, the rule, notes, and the funnel: candidates = without_positive_score + without_score + dropped
        by each filter + beyond_k + rows; pairs = pairs_without_score + full + short + empty.

    Raises
    ------
    UsageError, InputError, OutputError
        For a rule that means nothing, rows without ids, scores that do not fit or are not finite or are of other
        rows; an output that exists.

    Notes
    -----
    Holds the scores: 16 bytes a row and each id once. O(rows log rows).
    """
    rule = Rule(
        negatives=negatives, relative_margin=relative_margin, absolute_margin=absolute_margin,
        max_similarity=max_similarity, min_similarity=min_similarity, reference=reference,
    )  # fmt: skip
    rule.check()
    found, place = mined_output(mined), ending_in(".parquet", out, "refilter")
    refuse(found)
    if emit != "triplets":
        raise UsageError(f"refilter writes triplets, not {emit}", f"minestream export {place} --emit {emit}")
    first = next(triplets(found))
    names = [f"{anchor_role(first.column_names)}_id", "positive_id", "negative_id"]
    if not set(names) <= set(first.column_names):
        raise InputError(f"{found.path} has no ids to join scores by", "mine with --id")
    with publishing(place, overwrite, [Given("MINED", text_of(found.path)), Given("--scores", scores)]) as draft:
        table = ScoreTable(scores, (first.schema.field(names[0]).type, first.schema.field(names[2]).type))
        funnel = Funnel(rule, table, names)
        changed = {
            "config": found.about["config"] | {"negatives": negatives, "emit": emit, "short_rows": "keep"},
            "refilter": asdict(rule),
        }
        tables = (funnel.filtered(each) for each in whole_anchors(triplets(found), BLOCK_ROWS))
        schema = funnel.filtered(first).schema
        write_rows(draft.path, schema, tables, metadata_like(found, **changed), funnel.answer)
        funnel.refuse_nothing()
    told = {"output": str(place), "mined": str(found.path), "rule": asdict(rule), "notes": table.notes}
    return told | funnel.counts


# ---------------------------------------------------------------- the scores


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
        inputs = open_inputs(given)
        self.name = inputs[0].name
        for each in inputs:
            _check_columns(each)
        self._kinds = [self._common(inputs, name, kind) for name, kind in zip(SCORE_COLUMNS[:2], kinds, strict=True)]
        ids: tuple[list[pa.Array], list[pa.Array]] = ([], [])
        values = [np.empty(0)]
        for each in inputs:
            row = 0
            for batch in each.read(list(SCORE_COLUMNS), 65_536):
                place = Place(each.name, row, row)
                for held, name, kind in zip(ids, SCORE_COLUMNS, self._kinds, strict=False):
                    held.append(decode_ids(batch.column(name), name, place).cast(kind))
                values.append(_finite(batch.column("score"), place))
                row += batch.num_rows
        columns = [pa.chunked_array(held, kind) for held, kind in zip(ids, self._kinds, strict=True)]
        self._sets = [column.unique() for column in columns]
        keys, score = self._keys(columns), np.concatenate(values)
        order = np.argsort(keys, kind="stable")
        self._sorted, self._score = keys[order], score[order]
        self._refuse_doubles(columns, order)

    def _common(self, inputs: list[Input], name: str, mined: pa.DataType) -> pa.DataType:
        """The type in which ids are compared: their own if it is one, else text."""
        theirs = {plain(each.schema.field(name).type) for each in inputs}
        texts = {kind == pa.string() for kind in (*theirs, mined)}
        if len(texts) == 1:
            return mined
        self.notes.append(f"{name}: {mined} in the mined rows, {', '.join(map(str, theirs))} here: compared as text")
        return pa.string()

    def _keys(self, columns: list[Any]) -> Rows:
        """One number for a pair of ids; negative where either has no score at all."""
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

    def of(self, queries: Any, documents: Any) -> Numbers:
        """The scores of pairs of mined ids; NaN where there is none."""
        columns = [as_array(ids).cast(kind) for ids, kind in zip((queries, documents), self._kinds, strict=True)]
        keys = self._keys(columns)
        if not self._sorted.size:
            return np.full(keys.size, np.nan)
        at = np.searchsorted(self._sorted, keys).clip(max=self._sorted.size - 1)
        return np.where(self._sorted[at] == keys, self._score[at], np.nan)


def _check_columns(each: Input) -> None:
    for name in SCORE_COLUMNS:
        if name not in each.schema.names:
            raise InputError(f"{each.name}: no column {name!r}", nearest_name(name, each.schema.names))
        kind = plain(each.schema.field(name).type)
        wanted = "a number" if name == "score" else "an int or a string"
        fits = pat.is_floating(kind) if name == "score" else kind == pa.string()
        if not (fits or pat.is_integer(kind)):
            raise InputError(f"{each.name}: column {name!r} is {kind}, not {wanted}", "cast it, or name others")


def _finite(array: pa.Array, place: Place) -> Numbers:
    values: Numbers = decode_plain(array).cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
    wrong = np.flatnonzero(~np.isfinite(values))  # nulls are NaN here
    if wrong.size:
        raise place.refusal("score", "a score that is null or not finite", wrong, "leave such rows out, or score again")
    return values


# ---------------------------------------------------------------- the funnel


class Funnel:
    """Filters blocks of whole anchors and counts what becomes of pairs and candidates."""

    def __init__(self, rule: Rule, table: ScoreTable, names: list[str]) -> None:
        self._rule, self._table, self._names = rule, table, names
        self.counts: dict[str, Any] = dict.fromkeys(
            ("anchors", "pairs", "pairs_without_score", "candidates", "without_positive_score", "without_score"), 0
        )
        self.counts["dropped"] = {name: 0 for name, *_ in rule.limits(np.empty(0))}
        self.counts |= dict.fromkeys(("beyond_k", "rows", "full", "short", "empty"), 0)

    def answer(self) -> dict[str, int]:
        """The counts that the file itself carries."""
        return {name: self.counts[name] for name in ("anchors", "pairs", "full", "short", "empty")}

    def refuse_nothing(self) -> None:
        """Raise InputError when no mined pair has a score."""
        if self.counts["pairs"] and self.counts["pairs"] == self.counts["pairs_without_score"]:
            raise InputError(
                f"{self._table.name}: none of the {self.counts['pairs']:,} mined pairs has a score",
                f"query_id is to hold {self._names[0]}, document_id positive_id and negative_id, of one spelling",
            )

    def filtered(self, table: pa.Table) -> pa.Table:
        """The rows of whole anchors that stay, pair by pair by score, with their scores."""
        anchor = table[self._names[0].replace("_id", "_row")].to_numpy()
        first = changes(anchor, table["positive_row"].to_numpy())
        lengths = np.diff(np.append(first, table.num_rows))
        pair = np.repeat(np.arange(first.size), lengths)
        queries, positives, negatives = (table[name] for name in self._names)
        positive = self._table.of(queries.take(pa.array(first)), positives.take(pa.array(first)))
        score = self._table.of(queries, negatives)
        reference = self._references(positive, anchor[first])
        keep = self._passing(positive[pair], score, reference[pair])
        at = np.flatnonzero(keep)
        at = at[np.lexsort((-score[at], pair[at]))]
        at = at[np.arange(at.size) - np.searchsorted(pair[at], pair[at]) < self._rule.negatives]
        self._count(anchor, positive, np.bincount(pair[at], minlength=first.size), int(keep.sum()))
        columns = {"score_ap": positive[pair[at]], "score_an": score[at]}
        rows = table.take(pa.array(at))
        for name, values in columns.items():
            rows = rows.append_column(name, pa.array(values).cast(pa.float32(), safe=False))
        return rows

    def _references(self, positive: Numbers, anchor: Rows) -> Numbers:
        """What the margins of each pair are measured from; pairs without a score have no say."""
        if self._rule.reference == "pair":
            return positive
        of_anchor = np.full(positive.size, np.nan)
        scored = np.flatnonzero(~np.isnan(positive))
        make = OF_POSITIVES[self._rule.reference]
        for at in np.split(scored, changes(anchor[scored])[1:]):
            of_anchor[at] = make(positive[at].tolist()) if at.size else np.nan
        return of_anchor

    def _passing(self, positive: Numbers, score: Numbers, reference: Numbers) -> NDArray[np.bool_]:
        counts = self.counts
        keep = ~np.isnan(positive)
        counts["candidates"] += keep.size
        counts["without_positive_score"] += keep.size - int(keep.sum())
        counts["without_score"] += int((keep & np.isnan(score)).sum())
        keep &= ~np.isnan(score)
        for name, low, high in self._rule.limits(reference):
            passes = (score >= low) & (score <= high)
            counts["dropped"][name] += int((keep & ~passes).sum())
            keep &= passes
        return keep

    def _count(self, anchor: Rows, positive: Numbers, left: Rows, kept: int) -> None:
        scored = left[~np.isnan(positive)]
        rows, wanted = int(left.sum()), self._rule.negatives
        more = {
            "anchors": changes(anchor).size, "pairs": left.size, "pairs_without_score": left.size - scored.size,
            "beyond_k": kept - rows, "rows": rows, "full": int((scored == wanted).sum()),
            "short": int(((scored > 0) & (scored < wanted)).sum()), "empty": int((scored == 0).sum()),
        }  # fmt: skip
        for name, count in more.items():
            self.counts[name] += count
