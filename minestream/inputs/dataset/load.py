"""Reads the sources once: vectors into the store, labels, groups and ids into codes; and checks them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.config.effects import lacking
from minestream.config.memory_plan import MemoryPlan
from minestream.config.mine_config import MineConfig
from minestream.config.rules import REPEATED
from minestream.errors import InputError
from minestream.inputs.dataset.dataset import FORBIDS, Dataset, Run, Table
from minestream.inputs.dataset.draws import draw_keys, key_ranks
from minestream.inputs.dataset.embeddings import EmbeddingReader
from minestream.inputs.dataset.excluded import excluded_rows
from minestream.inputs.dataset.labels import (
    NO_CODES,
    NO_ROWS,
    UNLABELED,
    Encoder,
    LabelReader,
    Labels,
    positive_counts,
    shared_labels,
    usable_known,
)
from minestream.inputs.dataset.prepare import frame_of, prepare
from minestream.inputs.dataset.table_reader import TableReader, ids_of_all, refuse_shared
from minestream.inputs.dataset.vectors import Store, Unread
from minestream.inputs.given import GUIDE
from minestream.inputs.pairs import ListedPairs, all_among, csr, one_of, places_of
from minestream.inputs.row_batch import RowBatch
from minestream.inputs.tables import Sources
from minestream.kernels.types import Rows
from minestream.system import ragged
from minestream.system.memory import release_memory
from minestream.system.progress import Progress
from minestream.system.stats import WAITED, ShardStats
from minestream.system.threads import Workers, run_each
from minestream.system.values import many, verb

NO_PART, UNKNOWN = -1, -2  # in place of the slot of a listed id
OF_NO_PART = "a row of theirs takes no part: a condition, --exclude-rows or a bad row leaves it out"
EXCLUDED = "--exclude names them, or both ids are one item"
NEITHER = "check --exclude: what it lists is neither positive nor negative"
SAME_ITEM = (  # what equal ids of two tables mean: with --qrels, and without
    "--shared-ids says that it is the same item, which is then never its own negative",
    "without --qrels it is the same item, neither positive nor negative of itself; where it is another one, write "
    "other ids into one table",
)


def waited(batches: Iterator[RowBatch], stats: ShardStats) -> RowBatch | None:
    """The next batch, or None; the seconds spent waiting are counted."""
    with stats.stage(WAITED):
        return next(batches, None)


def load(
    sources: Sources, config: MineConfig, plan: MemoryPlan, scratch: Path, progress: Progress, stats: ShardStats
) -> Dataset:
    """Read all sources into a dataset; the time spent waiting for them is added to `stats`.

    Raises
    ------
    InputError
        For rows that cannot be mined, duplicate or unknown ids, labels or lists without any pair.
    CapacityError
        If the scratch folder is full.
    """
    progress.stage("read", sources.rows or 0, "rows")
    store = Store.of_rows(sources.dimension, sources.dtype, plan.vector_rows, scratch, sources.rows)
    if sources.bare:
        store = Unread(sources.dimension, sources.dtype)
    label_type = sources.anchors.label_type
    levels = sources.columns.levels
    labels, groups = LabelReader(label_type or pa.int8(), config.unlabeled_value, levels), Encoder()
    beside = [EmbeddingReader(each, config, plan, scratch) for each in sources.beside]
    readers = [TableReader(source, config, store, labels, groups, plan.carried_bytes, scratch) for source in sources]

    def copies() -> Iterator[Callable[[], None]]:
        for side, reader in enumerate(readers):
            batches = reader.source.batches(plan.batch_rows, plan.readers, plan.ahead)
            for each in beside:
                batches = each.marked(side, batches)
            while (batch := waited(batches, stats)) is not None:
                yield reader.add(batch)
                progress.advance(len(batch.vectors))

    run_each(lambda copy: copy(), copies(), plan.readers if plan.readers > 1 else 0)
    store.seal()
    release_memory()
    read = labels.finish()
    with closing(Workers(plan.job.threads)) as workers:
        loaded = _Joined(sources, config, store, read, *groups.finish(), readers).loaded(beside, workers)
    used = sources.labeled
    loaded.notes.extend(labels.notes(config.unlabeled, read) if used else lacking("no labels are used", config))
    release_memory()
    return loaded


class _Joined:
    """All tables read, numbered together by slot; `loaded` makes the dataset of them."""

    def __init__(
        self, sources: Sources, config: MineConfig, store: Store, labels: Labels, group: NDArray[np.int32],
        group_values: pa.Array, readers: list[TableReader],
    ) -> None:  # fmt: skip
        self.sources, self.config, self.store, self.labels, self.group = sources, config, store, labels, group
        self.group_values, self.readers = group_values, readers
        self.notes = [*sources.notes]
        self.dropped = [Counter[str]() for _ in readers]  # of each table
        self.listed: dict[str, dict[str, Any]] = {}

    def loaded(self, beside: list[EmbeddingReader], workers: Workers) -> Dataset:
        """The dataset."""
        config, readers = self.config, self.readers
        for side, reader in enumerate(readers):
            reader.finish()
            self._count(side, {f"bad: {kind}": count for kind, count in reader.source.bad_rows.items()})
            self._count(side, {f"outside {reader.source.condition}": reader.source.left_out})
            if config.unlabeled == "ignore" and not config.listed_positives:
                self._count(side, {"unlabelled": reader.unlabeled})
        for each in beside:
            for side, causes in enumerate(each.dropped):
                self._count(side, causes)
        self._drop_rows(beside)
        dropped = dict(sum(self.dropped, Counter[str]()))
        first, tables = 0, []
        for reader in readers:
            reader.refuse_none_left(self.sources.side(reader.source), dropped)
            tables.append(reader.table(first))
            first = tables[-1].end
        both = tables[0], tables[-1]
        store, square, twin, equal = prepare(self.store, config.normalize, config.metric, workers)
        rows = self._rows(both, twin, square)
        positives = self._positives(rows, both)
        source_rows = [reader.source_row for reader in readers]
        embeddings = {each.beside.role: each.embedding(readers, workers) for each in beside}
        own_rows = source_rows[0] if len(source_rows) == 1 else np.concatenate(source_rows)
        return Dataset(
            store, rows, frame_of(store, square, config.metric, workers), both,
            own_rows, self.labels, self.sources.labeled, positives,
            embeddings.pop(GUIDE, None), dropped, self.sources.one_input, self.notes, self.group_values,
            self._unlabeled_negatives(), equal, self.listed, dict(self.dropped[0]), self.sources.both,
            tuple(embeddings.values()), self.sources.columns.embedding, self._run(both),
        )  # fmt: skip

    def _unlabeled_negatives(self) -> bool:
        """Whether rows without a label may be negatives; always if no labels are used."""
        if self.config.unlabeled == "negative" or not self.sources.labeled:
            return True
        without = int((self.labels.code == UNLABELED).sum())
        if without:
            rows = f"{many(without, 'row')} without a label {verb(without, 'are')}"
            self.notes.append(f"{rows} no negatives; --unlabeled negative makes them so")
        return False

    def _count(self, side: int, causes: Mapping[str, int]) -> None:
        self.dropped[side].update({cause: count for cause, count in causes.items() if count})

    def _drop_rows(self, beside: list[EmbeddingReader]) -> None:
        """Drop excluded rows, rows that another row with the same id replaces, and those that an embedding lacks."""
        masks = []
        if self.sources.one_input and self.config.on_duplicate_ids == "error":
            refuse_shared(*ids_of_all(self.readers), self.sources.anchors)
        excluded = excluded_rows(self.sources.excluded, self.readers, self.config.on_missing_ids, self.notes)
        for side, (reader, out) in enumerate(zip(self.readers, excluded, strict=True)):
            replaced = np.isin(reader.source_row, reader.replaced())
            self._count(side, {"replaced: duplicate id": int(replaced.sum())})
            barred = np.isin(reader.source_row, out) & ~replaced
            self._count(side, {"excluded": int(barred.sum())})
            gone = replaced | barred
            for each in beside:
                lost = each.lacking(side, reader) & ~gone
                self._count(side, {f"no {each.beside.role}": int(lost.sum())})
                gone |= lost
            masks.append(~gone)
        keep = np.concatenate(masks)
        if keep.all():
            return
        for reader, mask in zip(self.readers, masks, strict=True):
            reader.keep(mask)
        self.store.keep(keep)
        self.labels = self.labels.keep(keep)
        self.group = self.group[keep] if self.group.size else self.group

    def _rows(self, tables: tuple[Table, Table], twin: NDArray[np.int32], square: NDArray[np.float64]) -> Rows:
        """Labels, groups and listed pairs in the form that kernels read."""
        n = tables[1].end
        each = [tables[0]] if tables[0] is tables[1] else list(tables)
        source_rows = [reader.source_row for reader in self.readers]
        rank = [key_ranks(table.ids, table.end - table.first) for table in each]
        keys = [draw_keys(table.ids, rows) for table, rows in zip(each, source_rows, strict=True)]
        group = self.group if self.sources.columns.group else NO_CODES
        forbids = FORBIDS[self.config.group_rule] if group.size else 0
        known = self._listed(self.sources.known, tables, n, "--qrels")
        barred = self._listed(self.sources.barred, tables, n, "--exclude", self._same_items(tables))
        rows = Rows(
            self.labels.code, self.labels.set_start, self.labels.set_code, *known, *barred, group,
            twin, np.concatenate(rank), np.concatenate(keys), square, forbids,
            apart=(tables[1].first or n) if self.sources.both else 0, parent=self._parents(),
        )  # fmt: skip
        if "--qrels" in self.listed and rows.barred_start.size:
            left, right = usable_known(rows)
            used = self._distinct(left[left < tables[0].end], right[left < tables[0].end])  # not those turned round
            self._leave_out("--qrels", EXCLUDED, self.listed["--qrels"]["used"] - used)
        return rows

    def _run(self, tables: tuple[Table, Table]) -> Run | None:
        """The candidates from elsewhere by slot, without those of rows that take no part."""
        listed, n = self.sources.run, tables[1].end
        if listed is None or listed.grade is None:
            return None
        ends, name = (listed.left, listed.right), f"--candidates {listed.name}"
        one, other = self._slots(ends, 0, tables[0], name, self.notes), self._slots(ends[::-1], -1, tables[1], name, [])
        taking_part, unknown = (one >= 0) & (other >= 0) & (one != other), (one == UNKNOWN) | (other == UNKNOWN)
        order = np.lexsort((listed.grade, one))  # stable
        order = order[taking_part[order]]
        order = order[np.sort(np.unique(one[order] * n + other[order], return_index=True)[1])]  # each once
        self._count_listed("--candidates", listed, taking_part, unknown, order.size)
        return Run(ragged.grouped(one[order], n), other[order].astype(np.int32))

    def _parents(self) -> NDArray[np.int32]:
        """The code at the level that negatives must share, int32[n]; empty where there is none."""
        level = self.config.negatives_at
        return NO_CODES if level is None else self.labels.levels[self.labels.level_names.index(level)]

    def _same_items(self, tables: tuple[Table, Table]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(query slots, corpus slots) of rows that are the same item, because they share an id or are one row."""
        queries, corpus = tables
        nothing = NO_ROWS, NO_ROWS
        if self.sources.one_input:
            ours, theirs = (reader.source_row for reader in self.readers)
            _, query, item = np.intersect1d(ours, theirs, return_indices=True)
            return query + queries.first, item + corpus.first
        if queries is corpus or (self.sources.numbered and not self.config.shared_ids):
            return nothing
        if queries.ids is None or corpus.ids is None or queries.ids.type != corpus.ids.type:
            if self.config.shared_ids:
                raise InputError(
                    f"--shared-ids: the tables have no ids of one type: {one_of(queries.ids)} in the queries, "
                    f"{one_of(corpus.ids)} in the corpus",
                    "name the columns with --id, or write both with one type: column.cast(pyarrow.string())",
                )
            return nothing
        at = np.asarray(pc.index_in(queries.ids, value_set=corpus.ids).fill_null(-1), np.int64)
        query = np.flatnonzero(at >= 0)
        if query.size and not self.config.shared_ids:
            means = SAME_ITEM[not self.config.listed_positives]
            some = f"{query.size:,} of {len(at):,} queries {verb(query.size, 'have')}"
            self.notes.append(f"{some} an id that the corpus has too: {means}")
        if self.config.listed_positives and not self.config.shared_ids:
            return nothing
        return query + queries.first, at[query] + corpus.first

    def _listed(
        self, listed: Any, tables: tuple[Table, Table], n: int, option: str,
        more: tuple[NDArray[np.int64], NDArray[np.int64]] = (NO_ROWS, NO_ROWS),
    ) -> tuple[NDArray[np.int64], NDArray[np.int32]]:  # fmt: skip
        """Listed pairs as sorted lists by slot, without pairs of rows that take no part."""
        left, right = more
        if listed is not None:
            turns = [(listed.left, listed.right, self.notes), (listed.right, listed.left, [])]
            if not self.sources.one_input:  # within one input a pair has no order
                turns = [(*turns[self.config.turned][:2], self.notes)]
            taken, unknown = np.zeros((2, len(listed.left)), bool)
            first = left.size
            for queries, items, notes in turns:
                one = self._slots((queries, items), 0, tables[0], f"{option} {listed.name}", notes)
                other = self._slots((items, queries), -1, tables[1], f"{option} {listed.name}", notes)
                taking_part = (one >= 0) & (other >= 0)
                taken |= taking_part
                unknown |= (one == UNKNOWN) | (other == UNKNOWN)
                left, right = np.concatenate([left, one[taking_part]]), np.concatenate([right, other[taking_part]])
            own = left[first:], right[first:]
            self._count_listed(option, listed, taken, unknown, self._distinct(*own))
            if option == "--exclude":
                alike = shared_labels(self.labels, *own) > 0
                count = self._distinct(own[0][alike], own[1][alike])
                text = f"--exclude takes {many(count, 'positive')} out: what it lists is neither positive nor negative"
                self.notes += [text] * bool(count)
        if not left.size and listed is None:
            return NO_ROWS, NO_CODES
        return csr(n, left, right, both_ways=tables[0] is tables[1] or self.sources.both)

    def _slots(
        self, ends: tuple[pa.Array, pa.Array], role: int, table: Table, name: str, notes: list[str]
    ) -> NDArray[np.int64]:  # fmt: skip
        """The slot in `table` of each id at the first of both ends of the pairs, -1 if it takes no part.

        role : the index of the table's reader
        """
        what = "the rows" if self.sources.one_input or len(self.readers) == 1 else ("the queries", "the corpus")[role]
        readers = [self.readers[role], *([self.readers[-1 - role]] if self.sources.one_input else [])]
        known = [each for reader in readers if (each := reader.every_id()) is not None]
        every = pa.concat_arrays(known) if known else None
        other = self.readers[-1 - role].every_id
        at = places_of(
            ends[0], every, name, what, self.config.on_missing_ids, notes,
            lambda: all_among(ends[0], other()) and all_among(ends[1], every),
        )  # fmt: skip
        return np.where(at < 0, UNKNOWN, np.where(at < table.end - table.first, at + table.first, NO_PART))

    def _count_listed(
        self, option: str, listed: ListedPairs, taken: NDArray[np.bool_], unknown: NDArray[np.bool_], used: int
    ) -> None:
        """Count what becomes of the pairs of a list: every one that is not used has a cause."""
        low = sum(listed.left_out.values())
        causes = {**listed.left_out, "an id is unknown": int(unknown.sum())}
        self.listed[option] = {
            "pairs": taken.size + low, "used": taken.size - int(unknown.sum()),
            "left_out": {why: count for why, count in causes.items() if count},
        }  # fmt: skip
        if unknown.any():
            self.notes.append(f"{option}: {many(int(unknown.sum()), 'pair')} left out, an id of theirs is in no row")
        self._leave_out(option, OF_NO_PART, int((~taken & ~unknown).sum()))
        self._leave_out(option, REPEATED, int(taken.sum()) - used)

    def _leave_out(self, option: str, why: str, count: int) -> None:
        """Count pairs of a list that are not used, and say so where they are positives."""
        if count:
            self.listed[option]["used"] -= count
            self.listed[option]["left_out"][why] = count
            if option == "--qrels" and why != REPEATED:
                self.notes.append(f"--qrels: {many(count, 'pair')} left out, {why}")

    def _distinct(self, left: NDArray[np.int64], right: NDArray[np.int64]) -> int:
        """How many different pairs of slots these are; in one input without order, or rows with themselves."""
        rows = np.concatenate([reader.source_row for reader in self.readers])
        size = max(reader.source_rows for reader in self.readers)
        one, other = rows[left], rows[right]
        if len(self.readers) == 1 or self.sources.one_input:
            apart = one != other
            one, other = np.minimum(one, other)[apart], np.maximum(one, other)[apart]
        return int(np.unique(one * size + other).size)

    def _positives(self, rows: Rows, tables: tuple[Table, Table]) -> NDArray[np.int64]:
        """The number of positives of each slot; InputError if no anchor has one, or there can be no negative."""
        config, labels = self.config, self.labels
        positives = positive_counts(labels, rows, tables[1].first)
        if tables[0] is not tables[1] and not self.sources.both:
            positives[tables[0].end :] = 0  # candidates are no anchors, not even if there are no queries
        if config.listed_positives:
            if self.sources.known is None:  # nothing is mined, only neighbours are searched
                return positives
            if config.emit != "pairs" and not positives.any() and tables[0].end > tables[0].first:
                lost = self.listed["--qrels"]["left_out"]
                told = "; ".join(f"{many(count, 'pair')} of --qrels: {why}" for why, count in lost.items())
                barred = self.sources.barred is not None and EXCLUDED in lost
                raise InputError(
                    f"none of the {tables[0].end - tables[0].first:,} anchors has a positive that takes part"
                    + f" ({told})" * bool(told),
                    NEITHER if barred else "check that --qrels belongs to these tables",
                )
        else:
            self._refuse_labels(positives, tables)
        without = int((positives[: tables[0].end] == 0).sum())
        if without and config.two_tables and not self.sources.both:  # else the report of each direction says it
            have, are = verb(without, "have"), verb(without, "are")
            self.notes.append(f"{many(without, 'query')} {have} no positive and {are} skipped")
        return positives

    def _refuse_labels(self, positives: NDArray[np.int64], tables: tuple[Table, Table]) -> None:
        """InputError for labels without a pair of positives, or without a negative."""
        labels, column = self.labels, self.sources.columns.label
        used = np.unique(labels.members()[1])
        read = sum(reader.source_rows for reader in self.readers)
        if not used.size:
            raise InputError(
                f"column {column!r}: no row that takes part has a label ({read:,} rows read)",
                "name another --label, or check --unlabeled-value",
            )
        if used.size == 1 and not (labels.code == UNLABELED).any():
            raise InputError(
                f"column {column!r}: all {labels.code.size:,} rows carry one label, so there is no negative",
                "name another --label"
                if self.config.where is None
                else "--where leaves rows out as negatives too: --anchor-where says which rows are anchors",
            )
        if self.config.emit != "pairs" and not positives.any() and tables[0].end > tables[0].first:
            grouped = " outside its own group (see --group-rule)" if self.sources.columns.group else ""
            grouped += " in a pair that --exclude does not list" if self.sources.barred else ""
            check = f"{NEITHER}; " if self.sources.barred else ""
            if self.config.two_tables:
                raise InputError(
                    f"column {column!r}: no query shares a label with another item of the corpus{grouped}",
                    f"{check}check the labels of both tables, or list the positives with --qrels",
                )
            raise InputError(
                f"column {column!r}: no label has two rows{grouped}, so no anchor has a positive",
                f"{check}name another --label: triplets need at least one label with two rows",
            )
