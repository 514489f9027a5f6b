"""The tables that were mined, found again and read into the arguments of reference.mine()."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.errors import InputError
from minestream.inputs.beside import open_again
from minestream.inputs.files import vectors_among
from minestream.inputs.given import GUIDE, OF_CORPUS, TEACHER
from minestream.inputs.pairs import ListedPairs, read_pairs, read_rows
from minestream.inputs.runs import read_run
from minestream.inputs.source import Source
from minestream.outputs.manifest import config_of
from minestream.outputs.mined import MinedOutput
from minestream.outputs.origin import OWN_TABLE, PATHS, entries, find, is_split, open_recorded, same, same_files

Rows = NDArray[np.int64]
Standing = Callable[[list[Any], list[int | None] | None, str], NDArray[np.bool_]]


class TableRows:
    """All rows of one table that was mined; raises InputError when it is another table.

    standing : reference.standing, which verify.py alone may import
    """

    def __init__(self, mined: MinedOutput, role: str, paths: list[Any], standing: Standing) -> None:
        config, recorded = mined.about["config"], entries(mined, role)
        self.source = open_recorded(mined, role, paths)
        self._carry = config["carry"]
        self.count = sum(entry["rows"] for entry in recorded if "vectors" in entry["crc32"])
        same("rows", self.count, self.source.rows or self.count, PATHS[role])
        self.vectors = np.empty((self.count, self.source.dimension), self.source.dtype)
        self.takes_part = np.zeros(self.count, bool)
        columns: dict[str, list[Any]] = {}
        self.levels: dict[str, list[Any]] = {name: [None] * self.count for name in self.source.columns.levels}
        versions: list[tuple[Rows, pa.Array]] = []
        for batch in self.source.batches():
            same("rows", self.count, max(self.count, int(batch.rows[-1]) + 1), PATHS[role])
            self.vectors[batch.rows], self.takes_part[batch.rows] = batch.vectors, ~batch.bad
            for name in ("labels", "ids", "groups"):
                if (array := getattr(batch, name)) is not None:
                    values = columns.setdefault(name, [None] * self.count)
                    for row, value in zip(batch.rows.tolist(), array.to_pylist(), strict=True):
                        values[row] = value
            for name, array in zip(self.levels, batch.parents, strict=True):
                for row, value in zip(batch.rows.tolist(), array.to_pylist(), strict=True):
                    self.levels[name][row] = value
            versions += [] if batch.versions is None else [(batch.rows, batch.versions)]
        same_files(recorded, self.source.identity(), PATHS[role])
        if config["unlabeled_value"] is not None:
            columns["labels"] = [without(config["unlabeled_value"], label) for label in columns.get("labels", [])]
            self.levels = {name: without(config["unlabeled_value"], values) for name, values in self.levels.items()}
        self.labels = columns.get("labels") or None
        self.ids, self.groups = columns.get("ids"), columns.get("groups")
        if self.ids is not None:
            for each in self.source.outside:
                for row, value in zip(each.rows.tolist(), each.ids.to_pylist(), strict=True):
                    self.ids[row] = value
                versions += [] if each.versions is None else [(each.rows, each.versions)]
            # Rows whose ids were not read take no part; they all get one empty id.
            nobody = type(next(each for each in self.ids if each is not None))()
            self.ids = [nobody if each is None else each for each in self.ids]
            if config["on_duplicate_ids"] != "error" and config.get("window") is None:
                ages = version_ranks(self.count, versions)
                self.takes_part &= standing(self.ids, ages, config["on_duplicate_ids"])

    def row_of(self) -> dict[str, int]:
        """The rows that take part, by the text of their ids."""
        return {str(self.ids[row]): row for row in np.flatnonzero(self.takes_part).tolist()} if self.ids else {}

    def carried(self, rows: Rows) -> dict[str, dict[int, Any]]:
        """The carried values of the sorted `rows`, by column and row; reads the table again."""
        found: dict[str, dict[int, Any]] = {name: {} for name in self._carry}
        for batch in self.source.batches() if found else ():
            assert batch.carry is not None
            low, high = np.searchsorted(rows, [batch.rows[0], batch.rows[-1] + 1])
            taken = batch.carry.take(pa.array(np.searchsorted(batch.rows, rows[low:high])))
            for name, values in found.items():
                values |= zip(rows[low:high].tolist(), taken.column(name).to_pylist(), strict=True)
        return found


def version_ranks(count: int, versions: list[tuple[Rows, pa.Array]]) -> list[int | None] | None:
    """The rank of every row's version, None for null and NaN; None when there is no version column."""
    if not versions:
        return None
    column = pa.concat_arrays([values for _, values in versions])
    known = pc.invert(pc.is_null(column, nan_is_null=True))
    ranks = pc.if_else(known, pc.rank(column, tiebreaker="dense").cast(pa.int64()), None)
    found: list[int | None] = [None] * count
    for row, rank in zip(np.concatenate([rows for rows, _ in versions]).tolist(), ranks.to_pylist(), strict=True):
        found[row] = rank
    return found


def without(value: str, label: Any) -> Any:
    """The label, or None when its text is `value`; for a list, each element so."""
    if isinstance(label, list):
        return [without(value, element) for element in label]
    if isinstance(label, bool):
        return None if str(label).lower() == value.lower() else label
    return None if str(label) == value else label


@dataclass
class SourceRows:
    """All tables that were mined."""

    anchors: TableRows
    corpus: TableRows | None
    known: list[tuple[int, int]] | None
    excluded: list[tuple[int, int]] | None
    beside: dict[str, list[NDArray[Any]]]
    name: str
    run: list[tuple[int, int]] | None

    @property
    def candidates(self) -> TableRows:
        """The table that positives and negatives come from."""
        return self.anchors if self.corpus is None else self.corpus

    def arguments(self) -> dict[str, Any]:
        """The tables as keywords of reference.mine()."""
        anchors, corpus = self.anchors, self.corpus
        found: dict[str, Any] = {
            "labels": anchors.labels or (None if self.known is not None else [None] * anchors.count),
            "ids": anchors.ids, "groups": anchors.groups, "takes_part": anchors.takes_part,
            "known_positives": self.known, "excluded": self.excluded, "levels": anchors.levels,
        }  # fmt: skip
        if corpus is not None:
            found |= {
                "corpus": corpus.vectors, "corpus_labels": corpus.labels, "corpus_ids": corpus.ids,
                "corpus_groups": corpus.groups, "corpus_takes_part": corpus.takes_part,
                "corpus_levels": corpus.levels,
            }  # fmt: skip
        found |= dict(zip(("guide", "corpus_guide"), self.beside.get(GUIDE, ()), strict=False))
        teachers = {role.removeprefix(TEACHER): both for role, both in self.beside.items() if role != GUIDE}
        return found | {"others": teachers, "name": self.name, "candidate_lists": self.run}


def read_recorded(mined: MinedOutput, given: Mapping[str, Any], standing: Standing) -> SourceRows:
    """Find and read every table; raises InputError when one is not found, or is not the one that was mined."""
    config = mined.about["config"]
    anchors = TableRows(mined, "", find(mined, "", given), standing)
    corpus, split = None, is_split(config)
    if config["two_tables"] or split:
        corpus = TableRows(mined, "corpus", find(mined, "" if split else "corpus", given), standing)
    beside = _beside(mined, given, anchors, corpus)
    if entries(mined, "excluded rows"):
        _exclude_rows(mined, given, [anchors] if corpus is None else [anchors, corpus])
    known = _listed(mined, "known positives", given, anchors, corpus or anchors)
    excluded = _listed(mined, "excluded pairs", given, anchors, corpus or anchors)
    if split and corpus is not None:
        same_items = np.flatnonzero(anchors.takes_part & corpus.takes_part).tolist()
        excluded = [*(excluded or []), *((row, row) for row in same_items)]
    run = _candidates(mined, given, anchors, corpus or anchors)
    return SourceRows(anchors, corpus, known, excluded, beside, mined.about["columns"]["embedding"], run)


def _listed(
    mined: MinedOutput, role: str, given: Mapping[str, Any], anchors: TableRows, candidates: TableRows
) -> list[tuple[int, int]] | None:
    """The listed pairs whose rows both take part; None when no such list was given."""
    if not entries(mined, role):
        return None
    pairs: ListedPairs = read_pairs(find(mined, role, given), PATHS[role])
    if role == "known positives":
        pairs, _ = pairs.graded(mined.about["config"]["min_grade"])
    same_files(entries(mined, role), [pairs.identity(role)], PATHS[role])
    left, right = anchors.row_of(), candidates.row_of()
    if mined.about["config"]["turned"]:
        pairs = replace(pairs, left=pairs.right, right=pairs.left)
    listed = list(zip(pairs.left.to_pylist(), pairs.right.to_pylist(), strict=True))
    if is_split(mined.about["config"]):  # both sides come from one input: a pair holds in either direction
        listed += [(b, a) for a, b in listed]
    return [(left[str(a)], right[str(b)]) for a, b in listed if str(a) in left and str(b) in right]


def _candidates(
    mined: MinedOutput, given: Mapping[str, Any], anchors: TableRows, candidates: TableRows
) -> list[tuple[int, int]] | None:
    """The candidates from elsewhere, the first of each anchor first; None when none were given."""
    if not entries(mined, "candidates"):
        return None
    run = read_run(find(mined, "candidates", given))
    same_files(entries(mined, "candidates"), [run.identity("candidates")], PATHS["candidates"])
    left, right = anchors.row_of(), candidates.row_of()
    order = np.argsort(run.grade, kind="stable").tolist() if run.grade is not None else []
    named = ((str(run.left[at].as_py()), str(run.right[at].as_py())) for at in order)
    return [(left[a], right[b]) for a, b in named if a in left and b in right]


def _exclude_rows(mined: MinedOutput, given: Mapping[str, Any], tables: list[TableRows]) -> None:
    """Let the rows of --exclude-rows take no part."""
    listed = read_rows(find(mined, "excluded rows", given), any(table.ids is not None for table in tables))
    same_files(entries(mined, "excluded rows"), [listed.identity()], "--exclude-rows")
    if listed.rows is not None:
        tables[0].takes_part[listed.rows] = False
        return
    names = {str(value) for value in (listed.ids.to_pylist() if listed.ids is not None else [])}
    for table in tables:
        table.takes_part[[row for name, row in table.row_of().items() if name in names]] = False


def _beside(
    mined: MinedOutput, given: Mapping[str, Any], anchors: TableRows, corpus: TableRows | None
) -> dict[str, list[NDArray[Any]]]:
    """The guide, and the embeddings of other teachers, by role: of every table the vectors by row.

    Rows whose vector there is bad, or missing, take no part.
    """
    tables = {"": anchors} | ({} if corpus is None else {"corpus": corpus})
    config = config_of(mined.about["config"], mined.path, InputError)
    found = dict[str, list[NDArray[Any]]]()
    for role in [*([GUIDE] if config.guided else []), *(TEACHER + name for name in config.other_embeddings)]:
        own = role.removeprefix(TEACHER) in config.tabled and role != GUIDE
        roles = [f"{role}{OF_CORPUS}" if own and name else role for name in tables]
        identity: dict[str, list[dict[str, Any]]] = {each: [] for each in roles}
        found[role] = []
        for (name, table), of_table in zip(tables.items(), roles, strict=True):
            paths = find(mined, of_table if own else name, given)
            arrays = vectors_among(paths)
            source = open_again(config, role, [path for path in paths if path not in arrays], table.source)
            found[role].append(_by_row(table, source, own))
            identity[of_table] += source.identity()
        for each, files in identity.items():
            same_files(entries(mined, each), files, OWN_TABLE if own else PATHS[""])
    return found


def _by_row(table: TableRows, source: Source, by_id: bool) -> NDArray[Any]:
    """The vectors of a source of another embedding by the rows of the table; those without one take no part."""
    vectors, there = np.zeros((table.count, source.dimension), source.dtype), np.zeros(table.count, bool)
    row_of = table.row_of() if by_id else {}
    for batch in source.batches():
        rows, good = batch.rows, ~batch.bad
        if by_id:
            named = [row_of.get(str(each), -1) for each in batch.ids.to_pylist()] if batch.ids is not None else []
            rows = np.array(named, np.int64)
            good = good & (rows >= 0)
        vectors[rows[good]], there[rows[good]] = batch.vectors[good], True
    table.takes_part &= there
    return vectors
