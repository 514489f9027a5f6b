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
from minestream.config.mine_config import MineConfig
from minestream.errors import InputError
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.decode import as_array, decode_plain
from minestream.inputs.files import open_inputs
from minestream.inputs.pairs import csr
from minestream.kernels.listed import scores_of
from minestream.mining.positives import Given, are_duplicates
from minestream.mining.select.reading import Piece
from minestream.mining.select.scored import ids_of
from minestream.outputs.lists import duplicates_of_positives
from minestream.outputs.trainers.scores import ScoreTable
from minestream.search.context import Lists
from minestream.system import ragged
from minestream.system.stats import ShardStats
from minestream.system.values import many, verb

CODES = {name: code for code, name in enumerate(VERDICTS)}
PROMOTED, DROPPED = CODES["positive"], CODES["drop"]
VERDICT, OF_POSITIVES = "verdict", "of positives"
Places = NDArray[np.int64]


class Verdicts:
    """A table query_id, document_id, verdict.

    Parameters
    ----------
    given : path, list of paths or Arrow object
    loaded : Dataset
        With its vectors: no list says which rows are duplicates of a promoted one.
    config : MineConfig
        Of the choice; its metric and duplicates are those of the lists.

    Raises
    ------
    InputError
        For a missing column, another verdict, or two for one pair.
    """

    def __init__(self, given: Any, loaded: Dataset, config: MineConfig) -> None:
        self._loaded, self._config, self._counts = loaded, config, Counter[str]()
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
        owner, new = ragged.owners(lists.start)[promoted], lists.slot[promoted]
        anchor = np.concatenate([given.anchor, owner])
        order = np.argsort(anchor, kind="stable")
        anchor, slot = anchor[order], np.concatenate([given.slot, new])[order]
        x = np.concatenate([given.x, lists.x[promoted]])[order]
        duplicate = are_duplicates(self._loaded, self._config, piece.anchors[anchor], slot, x)
        positives = Given(anchor, slot, x, duplicate)
        self._remember(piece, positives, order >= given.anchor.size)
        lists = replace(
            lists, start=ragged.kept(lists.start, keep), slot=lists.slot[keep], x=lists.x[keep],
            alike=self._alike(lists, ragged.grouped(owner, piece.anchors.size), new),
        )  # fmt: skip
        return Piece(piece.anchors, lists, positives)

    def _alike(self, lists: Lists, start: Places, promoted: NDArray[np.int32]) -> tuple[Places, NDArray[np.int32]]:
        """What the lists say of duplicates of positives, and which candidates are duplicates of promoted ones.

        start : where the promoted ones of each anchor begin
        """
        told, duplicates = lists.alike or (np.empty(0, np.int64), promoted[:0])
        near = (start, promoted), (lists.start, lists.slot)
        by_anchor, place, candidate = duplicates_of_positives(self._loaded, self._config, *near)
        anchor = ragged.owners(by_anchor)
        left = np.concatenate([ragged.owners(told), promoted[start[anchor] + place]])
        right = np.concatenate([duplicates, lists.slot[lists.start[anchor] + candidate]])
        return csr(self._loaded.store.rows, left.astype(np.int64), right.astype(np.int64), both_ways=False)

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
