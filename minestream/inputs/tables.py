"""The tables of a run: INPUT, the corpus, listed pairs and rows, other embeddings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from minestream.config.effects import lacking
from minestream.config.mine_config import MineConfig
from minestream.config.resources import Resources, Tables
from minestream.errors import InputError, UsageError
from minestream.inputs.agreement import common_type
from minestream.inputs.beside import Beside, open_beside
from minestream.inputs.columns import Columns, in_one_type
from minestream.inputs.files import open_inputs, rows_and_vectors
from minestream.inputs.given import GUIDE
from minestream.inputs.listing import listed
from minestream.inputs.pairs import ListedPairs, ListedRows, read_pairs, read_rows
from minestream.inputs.read_options import Needed, ReadOptions
from minestream.inputs.runs import read_run
from minestream.inputs.source import Source, open_source
from minestream.inputs.where import Where, joint
from minestream.system.values import many, verb


@dataclass(frozen=True)
class Sources:
    """The tables of a run, opened.

    Attributes
    ----------
    anchors : Source
        INPUT, with the rows that are mined for.
    corpus : Source or None
        The table of candidates; None: INPUT.
    known, barred : ListedPairs or None
        Listed positives; excluded pairs, which are neither positive nor negative.
    excluded : ListedRows or None
        Excluded rows.
    run : ListedPairs or None
        Candidates from elsewhere, with their places.
    beside : tuple of Beside
        The guide, and the embeddings of other teachers.
    one_input : bool
        Whether the corpus is INPUT again, so that the same row is the same item.
    numbered : bool
        Whether lists name rows by number, so that equal numbers in two tables do not mean the same item.
    both : bool
        Whether the rows of either table are mined for, among those of the other.
    notes : list of str
    """

    anchors: Source
    corpus: Source | None = None
    known: ListedPairs | None = None
    barred: ListedPairs | None = None
    excluded: ListedRows | None = None
    run: ListedPairs | None = None
    beside: tuple[Beside, ...] = ()
    one_input: bool = False
    notes: list[str] = field(default_factory=list)
    numbered: bool = False
    both: bool = False

    def __post_init__(self) -> None:
        if self.corpus is not None and not self.one_input:
            _agree(self.anchors, self.corpus)
        for each in self.beside:
            if len({source.dimension for source in each.sources}) > 1:
                what = f"the vectors of the {each.role}, of queries and corpus, differ in length"
                raise InputError(what, "embed both with one model")

    def __iter__(self) -> Iterator[Source]:
        return iter((self.anchors,) if self.corpus is None else (self.anchors, self.corpus))

    def turned(self) -> Sources:
        """The same with the corpus as INPUT."""
        assert self.corpus is not None
        beside = tuple(replace(each, sources=each.sources[::-1]) for each in self.beside)
        return replace(self, anchors=self.corpus, corpus=self.anchors, beside=beside)

    @property
    def labeled(self) -> bool:
        """Whether labels decide which rows are positives."""
        return self.anchors.label_type is not None

    @property
    def bare(self) -> bool:
        """Whether vectors are left unread."""
        return self.anchors.options.bare

    @property
    def columns(self) -> Columns:
        """The columns of INPUT."""
        return self.anchors.columns

    @property
    def dimension(self) -> int:
        """The length of all vectors."""
        return self.anchors.dimension or (self.corpus.dimension if self.corpus else 0)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds the vectors of both tables exactly."""
        return np.result_type(*(source.dtype for source in self))

    @property
    def rows(self) -> int | None:
        """The number of rows of all tables; None if one is a stream."""
        counts = [source.rows for source in self]
        return None if None in counts else sum(count or 0 for count in counts)

    def side(self, source: Source) -> str:
        """Words for the rows of one of two sources in messages; "" if there is only one."""
        if self.corpus is None:
            return ""
        sides = (
            (" that may be anchors", " that may be candidates")
            if self.one_input
            else (" of the queries", " of the corpus")
        )
        return sides[source is self.corpus]

    def identity(self) -> list[dict[str, Any]]:
        """The identity of everything read: one entry for each file and each list."""
        found = self.anchors.identity()
        found += [entry | {"role": "corpus"} for entry in (self.corpus.identity() if self.corpus else [])]
        found += [self.known.identity("known positives")] if self.known else []
        found += [self.barred.identity("excluded pairs")] if self.barred else []
        found += [self.excluded.identity()] if self.excluded else []
        found += [self.run.identity("candidates")] if self.run else []
        return found + [entry for each in self.beside for entry in each.identity()]

    def others(self) -> list[dict[str, Any]]:
        """The checksums that the identity leaves out: see Source.others."""
        theirs = [] if self.corpus is None else self.corpus.others()
        return self.anchors.others() + [entry | {"role": "corpus"} for entry in theirs]

    def columns_used(self) -> dict[str, Any]:
        """The columns of each table by role, for manifests."""
        anchors, *corpus = (
            {"embedding": found.embedding, "label": found.labels, "id": found.id, "group": found.group,
             "carry": list(found.carry), "version": found.version}
            for found in (source.columns for source in self)
        )  # fmt: skip
        others = [each.name for each in self.beside if each.role != GUIDE]
        return anchors | ({"others": others} if others else {}) | ({"corpus": corpus[0]} if corpus else {})


def open_sources(
    inputs: Any, config: MineConfig, tables: Tables, resources: Resources, label: Needed = True, bare: bool = False
) -> Sources:
    """Open the tables of a run, and read the lists.

    label : whether labels must be found, see ReadOptions.require_label; not with --qrels
    bare : whether vectors are left unread

    Raises
    ------
    MinestreamError
        UsageError, InputError, TransientError: see open_source, read_pairs and read_rows.
    """
    inputs, vectors = rows_and_vectors(inputs, resources)
    resources = replace(resources, vectors=vectors)
    if tables.qrels is not None:  # labels count only if named: passages often have some column "label"
        label = None
    own = joint(config.where, config.anchor_where, "--anchor-where")
    theirs = joint(config.where, config.candidate_where, "--candidate-where")
    opened = partial(_open, bare=bare)
    anchors = opened(inputs, config, resources, label, own, may_be_empty=tables.corpus is not None)
    corpus = None
    if tables.corpus is not None:
        named, alone = _for_corpus(config, tables.corpus), replace(resources, vectors=None)
        corpus = opened(tables.corpus, named, alone, label, theirs)
    elif config.split_roles:
        if not anchors.repeatable:
            raise UsageError(
                "--anchor-where and --candidate-where read the input twice, which a stream cannot be",
                "pass a file or a table",
            )
        corpus = opened(inputs, config, resources, label, theirs)
    notes: list[str] = []
    known, barred = listed_pairs(tables.qrels, tables.exclude, config, notes)
    by_id = any(source is not None and source.columns.id is not None for source in (anchors, corpus))
    excluded = excluded_rows(tables, by_id)
    run = None if tables.candidates is None else read_run(tables.candidates)
    beside = open_beside(inputs, config, tables, anchors, corpus)
    return Sources(
        anchors, corpus, known, barred, excluded, run, beside, config.split_roles, notes, both=resources.both_directions
    )


def excluded_rows(tables: Tables, by_id: bool) -> ListedRows | None:
    """The rows that --exclude-rows names: by id if a table has ids, else by position; None if it is not given."""
    if tables.exclude_rows is None:
        return None
    if not by_id and tables.corpus is not None:
        raise UsageError("--exclude-rows names rows of two tables by id, and neither has an id", "name it with --id")
    return read_rows(tables.exclude_rows, by_id)


def listed_pairs(
    qrels: Any, exclude: Any, config: MineConfig, notes: list[str]
) -> tuple[ListedPairs | None, ListedPairs | None]:
    """The known positives that are graded high enough, and the excluded pairs; None for what is not given."""
    barred = None if exclude is None else read_pairs(exclude, "--exclude")
    if qrels is None:
        return None, barred
    known, low = read_pairs(qrels, "--qrels").graded(config.min_grade)
    if known.grade is None:
        notes += lacking("the pairs of --qrels have no grades", config)
    if low:
        notes.append(f"{many(low, 'pair')} of --qrels {verb(low, 'are')} graded below --min-grade {config.min_grade:g}")
    if not len(known.left):
        raise InputError(f"{known.name}: all {low:,} pairs are graded below {config.min_grade:g}", "lower --min-grade")
    return known, barred


def _for_corpus(config: MineConfig, corpus: Any) -> MineConfig:
    """The configuration without those names of embedding, id and version that the corpus does not have."""
    kept = str | os.PathLike | pa.Table | pa.RecordBatch  # and frames: what can be opened twice
    if not all(isinstance(each, kept) or hasattr(each, "to_numpy") for each in listed(corpus)):
        return config
    names = open_inputs(corpus)[0].schema.names
    absent: dict[str, Any] = {role: None for role in ("id", "version_column") if getattr(config, role) not in names}
    absent |= {} if config.first_embedding in names else {"embedding": None}
    return replace(config, **absent)


def _open(
    inputs: Any, config: MineConfig, resources: Resources, label: Needed, where: Where | None,
    may_be_empty: bool = False, bare: bool = False,
) -> Source:  # fmt: skip
    options = ReadOptions.of(
        config.to_dict(), vectors=resources.vectors, batch_rows=resources.batch_rows,
        require_label=label, where=where, may_be_empty=may_be_empty, bare=bare,
        every_id=config.on_duplicate_ids != "error" or config.listed_positives or config.exclusions
        or config.listed_candidates,
    )  # fmt: skip
    return open_source(inputs, options)


def _agree(anchors: Source, corpus: Source) -> None:
    """Read labels and groups of two tables as one type; InputError if the tables do not fit together."""
    if anchors.dimension not in (0, corpus.dimension):  # 0: there are no rows
        one, two = anchors.name, corpus.name
        one, two = ("the queries", "the corpus") if one == two else (one, two)  # in memory
        raise InputError(
            f"the vectors of {one} have {anchors.dimension} coordinates, those of {two} {corpus.dimension}",
            "embed both with one model",
        )
    for what in ("label", "group"):
        ours, theirs = getattr(anchors.columns, what), getattr(corpus.columns, what)
        if (ours is None) != (theirs is None):
            raise InputError(
                f"only one of the tables has a {what} column ({ours or theirs!r})", f"name both {what}s alike"
            )
    ours_at, theirs_at = anchors.columns.levels, corpus.columns.levels
    if len(ours_at) != len(theirs_at):
        what = f"the labels of the queries have {len(ours_at) + 1} levels, those of the corpus {len(theirs_at) + 1}"
        raise InputError(what, "--label names the same levels of both: rename a column whose name holds a comma")
    alike = [(what, getattr(anchors.columns, what), getattr(corpus.columns, what)) for what in ("label", "group")]
    for what, ours, theirs in (*alike, *(("label", *pair) for pair in zip(ours_at, theirs_at, strict=True))):
        if ours is None or theirs is None:
            continue
        kinds = anchors.kinds.field(ours).type, corpus.kinds.field(theirs).type
        if (both := common_type(*kinds)) is None:
            raise InputError(
                f"the {what}s of the queries are {kinds[0]}, those of the corpus {kinds[1]}",
                f"write both with one type, {in_one_type(*kinds)}",
            )
        anchors.reads_as(ours, both)
        corpus.reads_as(theirs, both)
