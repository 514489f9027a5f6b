"""Filtering mined rows again by other scores, such as a cross-encoder's, without a new search."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.config import checks
from minestream.config.border import public
from minestream.config.commands import Refiltering, check_own
from minestream.config.effects import turned_round
from minestream.config.option import check_value
from minestream.config.parse import short_share
from minestream.config.resolve import OPTION_FIELDS
from minestream.config.resources import Resources
from minestream.config.trainer_formats import FORMATS
from minestream.errors import InputError, UsageError
from minestream.inputs.given import Given
from minestream.outputs.gates import check_gates
from minestream.outputs.mined import RESCORING, MinedOutput, mined_output
from minestream.outputs.parquet import write_rows
from minestream.outputs.single_file import ending_in, publishing
from minestream.outputs.trainers.columns import anchor_role
from minestream.outputs.trainers.convert import whole_anchors
from minestream.outputs.trainers.export import metadata_like, refuse, triplets
from minestream.outputs.trainers.scores import ScoreTable
from minestream.search.similarity import bounds, references
from minestream.system import ragged
from minestream.system.paths import AnyPath, text_of
from minestream.system.stats import ShardStats
from minestream.system.values import many, verb

BLOCK_ROWS = 131_072
SCORES = ("score_ap", "score_an")
SAY = "score_ap and score_an are the scores of the table; distance, loss and harder are of the mined embeddings"
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

    def __post_init__(self) -> None:
        """Raise UsageError for a rule that means nothing."""
        for spec in fields(self):
            check_value(OPTION_FIELDS[spec.name], getattr(self, spec.name))
        checks.refuse(checks.REFILTER, self)


@public()
def refilter_rows(
    mined: str | os.PathLike[str], out: str | os.PathLike[str], *, scores: Any, negatives: int,
    relative_margin: float | None = None, absolute_margin: float | None = None, max_similarity: float | None = None,
    min_similarity: float | None = None, reference: str = "pair", missing_scores: str = "error",
    require_rows: int | None = None, max_short: str | float | None = None, emit: str = "triplets",
    overwrite: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Filter mined rows by the scores of a table: refilter() of triplets and tuples."""
    rule = Rule(
        negatives=negatives, relative_margin=relative_margin, absolute_margin=absolute_margin,
        max_similarity=max_similarity, min_similarity=min_similarity, reference=reference,
    )  # fmt: skip
    gates = _checked(missing_scores, require_rows, max_short)
    found, place = mined_output(mined), ending_in(".parquet", out, "refilter")
    ids = _ids(found, emit, place)
    with publishing(place, overwrite, [Given("MINED", text_of(found.path)), Given("--scores", scores)]) as draft:
        with draft.spent.stage("scores"):
            table = ScoreTable(scores, (ids.field(0).type, ids.field(2).type))
        funnel = Funnel(rule, table, ids.names, missing_scores, found.about["config"]["float64"])
        with draft.spent.stage("rows"):
            record = _written(draft.path, found, funnel, _metadata(found, rule, table, missing_scores))
        check_gates(gates, funnel.stats(), "nothing was written: score more pairs, or filter less")
    said = {"mined": str(found.path), "rule": asdict(rule), "missing_scores": missing_scores, "table": table.about}
    return draft.told(record) | said | {"notes": [*table.notes, *turned_round(relative_margin)]} | funnel.counts


def _written(path: Path, found: MinedOutput, funnel: Funnel, metadata: dict[str, str]) -> dict[str, Any]:
    """Write the rows that stay; returns their {rows, bytes, crc32}."""
    kept = (funnel.filtered(each) for each in whole_anchors(triplets(found), BLOCK_ROWS))
    record = write_rows(path, funnel.filtered(next(triplets(found))).schema, kept, metadata, funnel.answer)
    funnel.refuse_missing()
    return record


def _ids(found: MinedOutput, emit: str, place: AnyPath) -> pa.Schema:
    """The id columns of anchor, positive and negative; raises for rows that cannot be filtered and for another emit."""
    refuse(found)
    if emit != "triplets":
        then = f", and then: minestream export {place} --emit {emit}" if emit in FORMATS else ""
        raise UsageError(f"refilter writes triplets, not {emit}", f"leave it out{then}")
    schema = next(triplets(found)).schema
    names = [f"{anchor_role(schema.names)}_id", "positive_id", "negative_id"]
    if not set(names) <= set(schema.names):
        raise InputError(f"{found.path} has no ids to join scores by", "mine with --id")
    return pa.schema([schema.field(name) for name in names])


def _metadata(found: MinedOutput, rule: Rule, table: ScoreTable, missing_scores: str) -> dict[str, str]:
    """The metadata of the mined output, and by which table and rule its rows were chosen, now and before."""
    rescoring = {"table": table.about, "rule": asdict(rule), "missing_scores": missing_scores, "scores": SAY}
    changed = {
        "config": found.about["config"] | {"negatives": rule.negatives, "emit": "triplets", "short_rows": "keep"},
        RESCORING: rescoring | {"before": found.about.get(RESCORING)},
    }
    return metadata_like(found, **changed)


def _checked(missing_scores: str, require_rows: int | None, max_short: str | float | None) -> Resources:
    """The gates; UsageError when one of the three options has no such value."""
    check_own(Refiltering, missing_scores=missing_scores)
    gates = Resources(require_rows=require_rows, max_short=None if max_short is None else str(max_short))
    short_share(gates.max_short)
    check_value(OPTION_FIELDS["require_rows"], require_rows)
    return gates


class Funnel:
    """Filters blocks of whole anchors and counts pairs and candidates; refilter says how they add up."""

    def __init__(self, rule: Rule, table: ScoreTable, names: list[str], missing: str, float64: bool) -> None:
        self._rule, self._table, self._names, self._missing = rule, table, names, missing
        self._kind = pa.float64() if float64 else pa.float32()
        self._any_scored = False
        self._first_missing: list[Any] = []  # the ids of the first pair without a score
        self.counts: dict[str, Any] = dict.fromkeys(
            ("anchors", "pairs", "pairs_without_score", "candidates", "without_positive_score", "without_score"), 0
        )
        self.counts["dropped"] = {name: 0 for name, *_ in bounds(rule, np.empty(0))}
        self.counts |= dict.fromkeys(("beyond_k", "rows", "full", "short", "empty"), 0)

    def answer(self) -> dict[str, int]:
        """The counts that go into the file."""
        return {name: self.counts[name] for name in ("anchors", "pairs", "full", "short", "empty")}

    def stats(self) -> ShardStats:
        """The counts that gates look at."""
        counts = self.counts
        left_out = counts["pairs_without_score"] if self._missing == "drop" else 0
        return ShardStats(
            rows=counts["rows"], full=counts["full"], short=counts["short"], empty=counts["empty"] + left_out
        )

    def refuse_missing(self) -> None:
        """Raise InputError when no mined row has a score, or some lack one and that is an error."""
        counts, name = self.counts, self._table.name
        if counts["candidates"] and not self._any_scored:
            query, document = self._table.columns
            raise InputError(
                f"{name}: none of the {counts['candidates']:,} mined rows has a score",
                f"{query} is to hold {self._names[0]}, {document} positive_id and negative_id, of one spelling",
            )
        lost = counts["without_positive_score"] + counts["without_score"]
        if lost and self._missing == "error":
            query, document = self._first_missing
            alone = counts["pairs_without_score"]
            positives = f"{alone:,} of {counts['pairs']:,} positives {verb(alone, 'do')}"
            raise InputError(
                f"{name}: {lost:,} of {many(counts['candidates'], 'mined row')} {verb(lost, 'lack')} a score "
                f"({positives}); the first is that of query {query!r} with document {document!r}",
                "score every mined anchor with its positives and negatives, or --missing-scores drop or keep",
            )
        if counts["pairs"] == counts["pairs_without_score"] > 0 and self._missing == "drop":
            raise InputError(
                f"{name}: none of the {counts['pairs']:,} mined positives has a score, so that no row would stay",
                "score the positives too, or --missing-scores keep",
            )

    def filtered(self, table: pa.Table) -> pa.Table:
        """The rows of whole anchors that stay, pair by pair by score, with their scores."""
        anchor = table[self._names[0].replace("_id", "_row")].to_numpy()
        first = ragged.runs(anchor, table["positive_row"].to_numpy())
        pair = ragged.owners(np.append(first, table.num_rows))
        queries, positives, negatives = (table[name] for name in self._names)
        positive = self._table.of(queries.take(pa.array(first)), positives.take(pa.array(first)))
        score = self._table.of(queries, negatives)
        reference = self._references(positive, anchor[first])
        keep = self._passing(positive[pair], score, reference[pair])
        self._any_scored |= not (np.isnan(positive).all() and np.isnan(score).all())
        self._note_missing(np.isnan(positive[pair]), np.isnan(score), (queries, positives, negatives))
        at = np.flatnonzero(keep)
        at = at[np.lexsort((-score[at], pair[at]))]  # NaN goes last
        at = at[ragged.nth_of_run(pair[at]) < self._rule.negatives]
        self._count(anchor, positive, np.bincount(pair[at], minlength=first.size), int(keep.sum()))
        rows = table.drop_columns([name for name in SCORES if name in table.column_names]).take(pa.array(at))
        for name, values in zip(SCORES, (positive[pair[at]], score[at]), strict=True):
            rows = rows.append_column(name, pa.array(values, from_pandas=True).cast(self._kind, safe=False))
        return rows

    def _note_missing(self, positive: NDArray[np.bool_], negative: NDArray[np.bool_], ids: tuple[Any, ...]) -> None:
        """Keep the ids of the first row whose positive, or else negative, has no score."""
        if not self._first_missing and (lost := np.flatnonzero(positive | negative)).size:
            first = int(lost[0])
            self._first_missing = [ids[0][first].as_py(), ids[1 if positive[first] else 2][first].as_py()]

    def _references(self, positive: Numbers, anchor: Rows) -> Numbers:
        """The score that the margins of each pair are measured from; NaN where the anchor has none."""
        if self._rule.reference == "pair":
            return positive
        start, known = np.append(ragged.runs(anchor), anchor.size), ~np.isnan(positive)
        return ragged.repeat(references(self._rule.reference, positive[known], ragged.kept(start, known)), start)

    def _passing(self, positive: Numbers, score: Numbers, reference: Numbers) -> NDArray[np.bool_]:
        """Which rows pass the filters; counts those that do not, by the reason."""
        counts = self.counts
        scored = ~np.isnan(positive)
        counts["candidates"] += scored.size
        counts["without_positive_score"] += scored.size - int(scored.sum())
        counts["without_score"] += int((scored & np.isnan(score)).sum())
        keep = np.ones(scored.size, bool) if self._missing == "keep" else scored & ~np.isnan(score)
        for name, low, high in bounds(self._rule, reference):
            passes = ~((score < low) | (score > high))  # also what has no score to judge
            counts["dropped"][name] += int((keep & ~passes).sum())
            keep &= passes
        return keep

    def _count(self, anchor: Rows, positive: Numbers, left: Rows, kept: int) -> None:
        anchors, scored = ragged.runs(anchor).size, left if self._missing == "keep" else left[~np.isnan(positive)]
        rows, wanted = int(left.sum()), self._rule.negatives
        more = {
            "anchors": anchors, "pairs": left.size, "pairs_without_score": int(np.isnan(positive).sum()),
            "beyond_k": kept - rows, "rows": rows, "full": int((scored == wanted).sum()),
            "short": int(((scored > 0) & (scored < wanted)).sum()), "empty": int((scored == 0).sum()),
        }  # fmt: skip
        for name, count in more.items():
            self.counts[name] += count
