"""Lists by other scores: a table's, or a formula of several and of the similarity, in place of the distance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from minestream.config.metrics import METRICS
from minestream.config.mine_config import MineConfig
from minestream.errors import InputError, UsageError
from minestream.inputs.dataset.dataset import Dataset, Table
from minestream.inputs.formula import Formula
from minestream.kernels.listed import find_entries, scores_of
from minestream.mining.positives import Given
from minestream.mining.select.reading import Piece
from minestream.outputs.trainers.scores import ScoreTable
from minestream.search.results import Found, Positives, Scored
from minestream.search.similarity import similarity
from minestream.system import ragged
from minestream.system.stats import ShardStats

SIMILARITY, ALONE = "sim", "score"  # the names of the similarity, and of a table that is given without one
SAY = "score_ap and score_an (of tuples: scores) are {by}; distance, loss and harder are of the mined embeddings"
Numbers = NDArray[np.float64]


class AskedScores(NamedTuple):
    """The tables of scores by name, the formula, and what becomes of what has no score."""

    tables: dict[str, Any]
    by: Formula
    text: str
    missing: str


def asked_scores(given: Any, by: str | None, missing: str) -> AskedScores | None:
    """The scores that are asked for; None where there are none.

    given : a table, or several: NAME=TABLE, a dict, a list of these; of tables without names it is one table
    """
    if given is None or (isinstance(given, Sequence) and not isinstance(given, str) and not given):
        if by is not None:
            raise UsageError(f"--by {by} names scores", "give their table: --scores NAME=TABLE")
        return None
    tables: dict[str, Any] = {}
    several = list(given) if isinstance(given, list | tuple) else [given]
    alone = not any(isinstance(each, dict) or _named(each)[0] != ALONE for each in several)
    for each in [given] if alone else several:
        for name, table in (each if isinstance(each, dict) else dict([_named(each)])).items():
            if name in tables or name == SIMILARITY:
                raise UsageError(
                    f"--scores: {name!r} is taken", "name each table: --scores ce=TABLE --scores bm25=TABLE"
                )
            tables[name] = table
    if by is None and len(tables) > 1:
        example = " + ".join(f"{1 / len(tables):.2g}*{name}" for name in tables)
        raise UsageError(f"--scores names {len(tables)} tables, which --by is to combine", f'--by "{example}"')
    text = next(iter(tables)) if by is None else by
    formula = Formula(text, [*tables, SIMILARITY], "--by")
    return AskedScores(tables, formula, text, missing)


def _named(each: Any) -> tuple[str, Any]:
    if isinstance(each, str):
        name, equals, table = each.partition("=")
        if equals and name.isidentifier():
            return name, table
    return ALONE, each


class Scoring:
    """Scores of the candidates and positives of lists.

    Parameters
    ----------
    asked : AskedScores
    loaded : Dataset
    metric : str
        Of the lists, for the similarity.

    Attributes
    ----------
    notes : list of str
    about : dict
        What the output records about the tables.
    """

    def __init__(self, asked: AskedScores, loaded: Dataset, metric: str) -> None:
        self._asked, self._metric, self._first = asked, metric, loaded.first_candidate
        self._rank = loaded.rows.rank
        self.notes: list[str] = []
        queries, documents = (ids_of(loaded, table) for table in loaded.tables)
        self._scores, tables = {}, []
        for name, given in asked.tables.items():
            table = ScoreTable(given, (queries.type, documents.type))
            self.notes += table.notes
            tables.append(table.about | {"scores": name})
            self._scores[name] = table.by_slot(queries, documents)
        self.about = tables[0] | ({"with": tables[1:]} if len(tables) > 1 else {})

    def config(self, config: MineConfig) -> MineConfig:
        """The rule as it judges scores: they are inner products, whose distance is their negative."""
        within = None if config.drop_duplicates_within is None else 0.0
        return replace(config, metric="dot", drop_duplicates_within=within)

    def scored(self, piece: Piece, stats: ShardStats) -> Piece:
        """The lists with minus the score as distance, sorted by it and, where equal, in key order.

        What has no score is left out, or refused.
        """
        lists, given = piece.lists, piece.positives
        first, end = lists.bounds(piece.anchors)
        score = self._of(piece.anchors, first, end, lists.slot, lists.x)
        start = ragged.grouped(given.anchor, piece.anchors.size)
        own = self._of(piece.anchors, start[:-1], start[1:], given.slot, given.x)
        scored, known = np.isfinite(score), np.isfinite(own)
        if self._asked.missing == "error" and not (scored.all() and known.all()):
            lost, of = (int((~each).sum()) for each in (scored, known))
            raise InputError(
                f"--scores: {lost:,} of {scored.size:,} candidates and {of:,} of {known.size:,} positives of the first "
                "lists have no score",
                "score them too, mine shorter lists, or --missing-scores drop: choose among what has a score",
            )
        stats.drop("no score", int((~scored).sum()))
        entry = np.flatnonzero(scored)
        owner = ragged.owners(lists.start)[entry]
        entry = entry[np.lexsort((self._rank[lists.slot[entry]], -score[entry], owner))]
        lists = replace(
            lists, start=ragged.kept(lists.start, scored), slot=lists.slot[entry], x=-score[entry],
            reach=np.full(lists.reach.size, np.inf),
        )  # fmt: skip
        duplicate = None if given.duplicate is None else given.duplicate[known]
        return Piece(piece.anchors, lists, Given(given.anchor[known], given.slot[known], -own[known], duplicate))

    def rescored(self, piece: Piece, chosen: Positives, found: Found) -> tuple[Positives, Found]:
        """The answers with the distances of the lists, and their scores beside.

        piece : the lists before they were scored
        """
        x, of_chosen = piece.lists.x, ragged.owners(chosen.start)
        first, _ = piece.lists.bounds(piece.anchors)
        entry = np.empty(found.slot.size, np.int64)
        find_entries(first, piece.lists.slot, of_chosen[ragged.owners(found.start)], found.slot, entry)
        given, own = piece.positives, np.empty(chosen.slot.size, np.int64)
        start = ragged.grouped(given.anchor, piece.anchors.size)
        find_entries(start[:-1], given.slot, of_chosen, chosen.slot, own)
        scored = Scored(found.start, found.slot, x[entry], found.nearer, -found.x)
        return chosen._replace(x=given.x[own], score=-chosen.x), scored

    def _of(
        self, anchors: NDArray[np.int32], first: NDArray[np.int64], end: NDArray[np.int64], slot: NDArray[np.int32],
        x: Numbers,
    ) -> Numbers:  # fmt: skip
        """The value of the formula for entries of lists, which lie at distances x."""
        named: dict[str, Numbers] = {}
        for name in self._asked.by.names & self._scores.keys():
            start, scored, score = self._scores[name]
            own, at = ragged.take(start, anchors.astype(np.int64))
            named[name] = np.full(slot.size, np.nan)
            scores_of(first, end, slot - np.int32(self._first), own, scored[at], score[at], named[name])
        if SIMILARITY in self._asked.by.names:
            named[SIMILARITY] = similarity(self._metric, x) if METRICS[self._metric].similarity else -x
        return np.broadcast_to(self._asked.by.value(named), slot.shape)


def ids_of(loaded: Dataset, table: Table) -> pa.Array:
    """The ids of a table; the numbers of its rows where it has none."""
    return pa.array(loaded.source_row[table.first : table.end]) if table.ids is None else table.ids
