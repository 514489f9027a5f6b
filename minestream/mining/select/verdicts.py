"""Verdicts about candidates, as of a judge that looked at them: false negatives become positives, or are taken out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.config.commands import VERDICTS
from minestream.errors import InputError
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.decode import as_array, decode_plain
from minestream.inputs.files import open_inputs
from minestream.kernels.listed import scores_of
from minestream.mining.positives import Given
from minestream.mining.select.reading import Piece
from minestream.mining.select.scored import ids_of
from minestream.outputs.trainers.scores import ScoreTable
from minestream.system import ragged
from minestream.system.stats import ShardStats
from minestream.system.values import many, verb

CODES = {name: code for code, name in enumerate(VERDICTS)}
PROMOTED, DROPPED = CODES["positive"], CODES["drop"]
VERDICT, OF_POSITIVES = "verdict", "of positives"


class Verdicts:
    """A table query_id, document_id, verdict.

    Parameters
    ----------
    given : path, list of paths or Arrow object
    loaded : Dataset

    Raises
    ------
    InputError
        For a missing column, another verdict, or two for one pair.
    """

    def __init__(self, given: Any, loaded: Dataset) -> None:
        self._loaded, self._counts = loaded, Counter[str]()
        table = _as_scores(given)
        queries, documents = (ids_of(loaded, each) for each in loaded.tables)
        self._known = [(queries[:0], documents[:0], np.zeros(0, bool))]  # what no anchor has, has its columns too
        scores = ScoreTable(table, (queries.type, documents.type))
        self._start, self._slot, self._code = scores.by_slot(queries, documents)
        self._rows, self.about = table.num_rows, scores.about

    def note(self) -> str:
        """What became of the table's rows, in a line."""
        told = ", ".join(f"{self._counts[name]:,} {name}" for name in CODES)
        known, rest = self._counts[OF_POSITIVES], self._rows - sum(self._counts.values())
        if known:
            told += f"; {many(known, 'row')} of it {verb(known, 'are')} of positives, which stay"
        return f"--verdicts: {told}" + (f"; {rest:,} of no candidate" if rest else "")

    def judged(self, piece: Piece, stats: ShardStats) -> Piece:
        """The lists without what was dropped, and with false negatives among the positives."""
        lists, given = piece.lists, piece.positives
        code = self._codes(piece.anchors, lists.bounds(piece.anchors), lists.slot)
        known = ragged.grouped(given.anchor, piece.anchors.size)
        of_positives = self._codes(piece.anchors, (known[:-1], known[1:]), given.slot)
        self._counts[OF_POSITIVES] += int(np.isfinite(of_positives).sum())
        for name, value in CODES.items():
            self._counts[name] += int((code == value).sum())
        promoted, keep = np.flatnonzero(code == PROMOTED), ~((code == PROMOTED) | (code == DROPPED))
        stats.drop("--verdicts: drop", int((code == DROPPED).sum()))
        stats.drop("--verdicts: positive, and so no negative", promoted.size)
        owner = ragged.owners(lists.start)
        anchor = np.concatenate([given.anchor, owner[promoted]])
        order = np.argsort(anchor, kind="stable")
        positives = Given(
            anchor[order], np.concatenate([given.slot, lists.slot[promoted]])[order],
            np.concatenate([given.x, lists.x[promoted]])[order], None,
        )  # fmt: skip
        self._remember(piece, positives, order >= given.anchor.size)
        # Which candidates are duplicates of a promoted one no list says: vectors are read, which tell.
        lists = replace(lists, start=ragged.kept(lists.start, keep), slot=lists.slot[keep], x=lists.x[keep], alike=None)
        return Piece(piece.anchors, lists, positives)

    def _codes(
        self, anchors: NDArray[np.int32], bounds: tuple[NDArray[np.int64], NDArray[np.int64]], slot: NDArray[np.int32]
    ) -> NDArray[np.float64]:
        """The verdict on every entry of the anchors' lists; NaN where there is none."""
        code = np.full(slot.size, np.nan)
        start, at = ragged.take(self._start, anchors.astype(np.int64))
        candidate = slot - np.int32(self._loaded.first_candidate)
        scores_of(*bounds, candidate, start, self._slot[at], self._code[at], code)
        return code

    def _remember(self, piece: Piece, positives: Given, promoted: NDArray[np.bool_]) -> None:
        queries, documents = (ids_of(self._loaded, each) for each in self._loaded.tables)
        left = queries.take(pa.array(piece.anchors[positives.anchor] - self._loaded.tables[0].first))
        right = documents.take(pa.array(positives.slot - self._loaded.first_candidate))
        self._known.append((left, right, promoted))

    def qrels(self) -> Iterator[pa.Table]:
        """All positives, old and new: query_id, positive_id, score (1), promoted."""
        for left, right, promoted in self._known:
            score = pa.array(np.ones(len(left), np.int64))
            yield pa.table({"query_id": left, "positive_id": right, "score": score, "promoted": pa.array(promoted)})


def _as_scores(given: Any) -> pa.Table:
    """The table with the code of each verdict as score."""
    tables = []
    for each in open_inputs(given):
        if VERDICT not in each.schema.names:
            what = f"{each.name}: no column {VERDICT!r}; there are {', '.join(each.schema.names)}"
            raise InputError(what, f"--verdicts takes query_id, document_id and {VERDICT}: {', '.join(VERDICTS)}")
        names = [name for name in each.schema.names if name != VERDICT]
        row = 0
        for batch in each.read([*names, VERDICT], 65_536):
            texts = as_array(decode_plain(batch.column(len(names)))).cast(pa.string())
            code = pc.index_in(texts, value_set=pa.array(list(CODES)))
            if code.null_count:
                at = int(np.flatnonzero(np.asarray(code.is_null()))[0])
                what = f"{each.name}: row {row + at}: there is no verdict {texts[at].as_py()!r}"
                raise InputError(what, f"it is one of {', '.join(VERDICTS)}")
            columns = {name: batch.column(place) for place, name in enumerate(names) if name != "score"}
            tables.append(pa.table(columns | {"score": code.cast(pa.float64())}))
            row += batch.num_rows
    if not tables:
        raise InputError("--verdicts: no verdicts", "check how the table was written")
    return pa.concat_tables(tables)
