"""Mining: the dataset of a run, its anchors and their shards, the work that they are, and the report about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from minestream._version import VERSION
from minestream.config.derived import most_taken
from minestream.config.mine_config import MineConfig
from minestream.config.rules import EMITS, HERE
from minestream.errors import InputError, UsageError
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.draws import Keys
from minestream.inputs.tables import Sources
from minestream.kernels.jit import running_seconds
from minestream.kernels.tile_shapes import host_cpu
from minestream.mining.anchors import choose_anchors, without_negative, without_positive
from minestream.mining.driver import Driver
from minestream.mining.looking import Looking
from minestream.mining.negatives import negative_rule, planned_searches
from minestream.mining.plan import Plan, answer_bytes, cut_shards, make_plan, part_bytes, projected_rows
from minestream.mining.rates import keep_rate
from minestream.mining.teachers import open_teachers
from minestream.outputs.rows import schema_of
from minestream.search.order import GROUP_ROWS
from minestream.search.work import ROW
from minestream.system import ragged
from minestream.system.stats import Report, ShardStats, merged
from minestream.system.values import many, verb


def _refuse_without_labels(config: MineConfig) -> None:
    """Raise UsageError for options that need labels."""
    if config.anchors_per_label is not None:
        raise UsageError(
            "--anchors-per-label counts anchors by their labels, and no labels are used",
            "name them with --label, or limit all anchors: --anchors",
        )
    if config.listed_positives and config.group_rule != "negatives":
        raise UsageError(
            f"--group-rule {config.group_rule} keeps positives apart, and those that --qrels lists are never left out",
            "leave it out, then groups keep negatives apart; it has a meaning for labels: --label",
        )


BOTH = "the plan is that of both directions: of the rows of INPUT among those of --corpus, and the other way round"


class RoundWork(NamedTuple):
    """The work of one round: searching positives, searching negatives, writing rows; in units of search/work.py."""

    positives: float
    negatives: float
    rows: float


class Direction(NamedTuple):
    """One way of mining two tables, or the only one: which rows are mined for, and what its output records."""

    loaded: Dataset
    sources: Sources
    config: MineConfig


class Mining:
    """The dataset of a run with its anchors, cut into shards.

    A round is a number of shards that are mined together.

    Parameters
    ----------
    driver : Driver
        Closes what is opened here.
    sources : Sources
        They are read here, once.
    beside : Path, optional
        Folder for vectors that do not fit into the memory; see Driver.dataset.

    Attributes
    ----------
    loaded, searcher : Dataset, Searcher
        The dataset, and the object that searches it.
    teachers : list of Searcher
        That one, and those of other embeddings.
    directions : list of Direction
        One, or with --both-directions two, which are mined together.
    anchors : int32[A]
        Their slots, ascending: those of the first direction, then those of the second.
    plan : Plan
        Its shards are ranges of `anchors`.
    turn : int
        How many of the shards are those of the first direction.
    schema : pa.Schema
        Of the output rows.
    work_done : float
        So far, in units of search/work.py.
    apart : str or None
        Why its slice does not search together with the others, in words.
    """

    def __init__(self, driver: Driver, sources: Sources, beside: Path | None = None) -> None:
        self.driver, self.sources, self.progress = driver, sources, driver.progress
        self.config, self.resources, self.work_done = driver.config, driver.resources, 0.0
        if self.config.window is not None:
            raise UsageError("--window is not for arrays", "use mine, mine_batches or Miner")
        if not sources.labeled:
            _refuse_without_labels(self.config)
        self.loaded, self.searcher = driver.dataset(sources, beside)
        self.teachers = open_teachers(driver, self.searcher)
        self.directions = [Direction(view, sources, self.config) for view in self.loaded.views()]
        if self.loaded.both:
            turned = Direction(self.directions[1].loaded, sources.turned(), replace(self.config, turned=True))
            self.directions[1] = turned
        self.anchors = np.concatenate([choose_anchors(each.loaded, self.config) for each in self.directions])
        positives, candidates = self.loaded.positives[self.anchors], self.loaded.candidates_of(self.anchors)
        self._pairs = candidates + (candidates if self.loaded.labels.multiple else positives)
        shards, self.turn = self.cut(self.anchors)
        for teacher in self.teachers:
            teacher.settle(*self._largest_shard(shards))
        self.plan: Plan = make_plan(
            self.config, self.resources, shards, self.searcher, positives, int(self._pairs.sum())
        )
        self.schema = schema_of(self.directions[0].loaded, self.config)
        self._check_weighted()
        if self.loaded.run is not None:
            without = int((ragged.lengths(self.loaded.run.start)[self.anchors] == 0).sum())
            have = f"{many(without, 'anchor')} {verb(without, 'have')} no candidate that takes part in --candidates"
            self.loaded.notes += [have] * bool(without)
        self.apart: str | None = None
        self.looking: Looking | None = None  # of an approximate run, once it is known
        for note in self.notes():
            self.progress.note(note)

    def cut(self, anchors: NDArray[np.int32]) -> tuple[tuple[tuple[int, int], ...], int]:
        """Ranges of some anchors, each of one direction, and how many of them are of the first."""
        turn = np.searchsorted(anchors, self.loaded.tables[1].first) if self.loaded.both else anchors.size
        shards = [cut_shards(self.config, self.loaded.positives[some]) for some in np.split(anchors, [turn])]
        own, other = shards[0], [(first + int(turn), end + int(turn)) for first, end in shards[1]]
        return (*own, *other[: len(other) * self.loaded.both]), len(own)

    def direction_of(self, index: int) -> Direction:
        """The direction of a shard."""
        return self.directions[index >= self.turn]

    def rate_key(self, config: MineConfig) -> str:
        """What the speed of a run depends on besides the data, as text: rates are recorded under it."""
        means = self.plan.means
        return (
            f"{host_cpu()[0]}, minestream {VERSION}, {means['threads']} threads, {means['screen']}, vectors in "
            f"{means['vectors_in']}, {self.sources.dimension} coordinates, options {config.fingerprint()}"
        )

    @contextmanager
    def recording_rate(self) -> Iterator[None]:
        """Record how much work a second is done in the block, for the estimates of later runs."""
        began = running_seconds()
        yield
        keep_rate(self.rate_key(self.config), self.work_done, running_seconds() - began)

    def begin(self, every: Sequence[int] | None = None, todo: Sequence[int] | None = None) -> None:
        """Begin the progress of mining the shards `every`, of which `todo` are left; None means all."""
        own = range(len(self.plan.shards)) if every is None else every
        total = sum(map(self.anchors_of, own))
        left = total if todo is None else sum(map(self.anchors_of, todo))
        self.progress.stage("mine", total, "anchors", total - left)

    def anchors_of(self, index: int) -> int:
        """The number of anchors of a shard."""
        return int(np.ptp(self.plan.shards[index]))

    def slots_of(self, index: int) -> NDArray[np.int32]:
        """The anchors of a shard."""
        return self.anchors[slice(*self.plan.shards[index])]

    def work(self, todo: Sequence[int]) -> float:
        """The work of mining some shards, in units of search/work.py."""
        codes = sum(teacher.code_work for teacher in self.teachers)
        return codes + sum(sum(self.round_work(shards)) for shards in self.rounds(todo))

    def round_work(self, shards: Sequence[int]) -> RoundWork:
        """The work of one round."""
        anchors = np.concatenate([self.slots_of(index) for index in shards])
        rows = projected_rows(self.config, self.loaded.positives[anchors]).sum()
        rule = negative_rule(self.config)
        each = [
            planned_searches(teacher.loaded, self.config, anchors, rule, bool(teacher.limits.screens))
            for teacher in self.teachers
        ]
        among = self.loaded.run is not None and not self.config.taught  # few: they are not planned
        return RoundWork(each[0][0], 0.0 if among else sum(negatives for _, negatives in each), float(rows) * ROW)

    def rounds(self, todo: Sequence[int], answer_bytes: int | None = None) -> Iterator[list[int]]:
        """The shards in rounds whose results fit the memory, or so many bytes; with -k 0, of GROUP_ROWS anchors."""
        bounded = self.config.negatives > 0
        costs = [self._answer_bytes(self.slots_of(index)) if bounded else self.anchors_of(index) for index in todo]
        most = (answer_bytes or self.searcher.plan.bytes["answers"]) if bounded else GROUP_ROWS
        together: list[int] = []
        held = 0
        for index, cost in zip(todo, costs, strict=True):
            if together and held + cost > most:
                yield together
                together, held = [], 0
            together.append(index)
            held += cost
        if together:
            yield together

    def together(self, todo: Sequence[int]) -> int:
        """The most of some shards that --memory lets this process mine, and so finish, together; 1 where others say."""
        told = self.config.negatives > 0 and self.resources.engine == HERE
        return max(map(len, self.rounds(todo)), default=1) if told else 1

    def _answer_bytes(self, anchors: NDArray[np.int32]) -> int:
        """The bytes that these anchors and their pairs take while they are mined."""
        return answer_bytes(self.config, anchors.size, self._pair_count(anchors))

    def _pair_count(self, anchors: NDArray[np.int32]) -> int:
        """The most pairs that these anchors can have."""
        config = self.config
        if EMITS[config.emit].per_anchor:
            return int(anchors.size)
        if config.positives == "all":
            return int(self.loaded.positives[anchors].sum())
        return anchors.size * max(1, config.positives_per_anchor)

    def pair_count_of(self, index: int) -> int:
        """The most pairs, (anchor, positive), that a shard can have."""
        return self._pair_count(self.slots_of(index))

    def _largest_shard(self, shards: Sequence[tuple[int, int]]) -> tuple[int, int]:
        """The bytes of the answers of the shard that takes most, and those of writing one; see part_bytes."""
        pairs = [self._pair_count(self.anchors[first:end]) for first, end in shards]
        answers = [self._answer_bytes(self.anchors[first:end]) for first, end in shards]
        rows = max(pairs) * (most_taken(self.config) or 1)
        return max(answers), part_bytes(self.config, max(pairs), rows, self.loaded.carried_row_bytes)

    def pairs_of(self, index: int) -> int:
        """The number of pairs of rows to compare for a shard."""
        first, end = self.plan.shards[index]
        return int(self._pairs[first:end].sum())

    def columns(self) -> dict[str, Any]:
        """The input columns used, by role."""
        return self.sources.columns_used()

    def keys(self, turned: bool = False) -> dict[str, Keys]:
        """Draw keys and key order by source row, of anchors and candidates, for draws over the whole output."""
        return {role: self._keys_of(self.directions[turned].loaded, role) for role in ("anchor", "candidate")}

    def _keys_of(self, loaded: Dataset, role: str) -> Keys:
        table = loaded.table(role)
        own = slice(table.first, table.end)
        draw_key, rank = np.zeros(table.source_rows, np.uint64), np.zeros(table.source_rows, np.int64)
        at = loaded.source_row[own]
        draw_key[at], rank[at] = loaded.rows.draw_key[own], loaded.rows.rank[own]
        return Keys(draw_key, rank)

    def notes(self) -> list[str]:
        """Notes for the user, one line each."""
        return self.driver.notes(self.sources, self.searcher)

    def report(self, output: object, parts: list[ShardStats], complete: bool = True, turned: bool = False) -> Report:
        """The report of the run so far, or of its second direction."""
        loaded, sources, config = self.directions[turned]
        source = {
            "rows": loaded.source_rows, "dimension": sources.dimension, "dtype": str(sources.dtype),
            "dropped": loaded.dropped, "rows_taking_part": loaded.rows_taking_part,
            "without_positive": without_positive(loaded, config), "listed": loaded.listed,
        }  # fmt: skip
        if self.config.negatives_at is not None:
            of_table = loaded.positives[self.anchors] > 0 if self.loaded.both else slice(None)
            source["without_negative"] = without_negative(loaded, self.anchors[of_table], self.config.negatives_at)
        if self.config.two_tables:
            source |= {"queries": loaded.tables[0].source_rows, "corpus": loaded.tables[1].source_rows}
            source["dropped_queries"] = loaded.dropped_queries
        facts = dict(self.plan.facts)
        if self.loaded.both and complete:
            own = slice(self.turn, None) if turned else slice(self.turn)
            shards = self.plan.shards[own]
            some = slice(shards[0][0], shards[-1][1])
            rows = projected_rows(config, loaded.positives[self.anchors[some]]).sum()
            facts |= {"anchors": some.stop - some.start, "shards": len(shards), "rows_at_most": int(rows)}
            facts |= {"pairs_to_compute": int(self._pairs[some].sum())}
        recorded = {
            "config": config.to_dict(), "columns": sources.columns_used(), "source": source,
            "plan": facts if complete else facts | self.plan.means,
        }  # fmt: skip
        notes = self.notes() if complete or not self.loaded.both else [*self.notes(), BOTH]
        total = merged([self.driver.reading, *parts])
        used = {"screen": ", ".join(self.searcher.screens)} if self.searcher.screens else {}
        return self.driver.report(
            output, recorded, total, notes=(*notes, *total.notes()), complete=complete,
            effort=self.plan.means | used | asdict(self.searcher.effort),
        )  # fmt: skip

    def _check_weighted(self) -> None:
        least = min(teacher.loaded.store.dimension for teacher in self.teachers)
        if self.config.pick == "weighted" and least < 3:
            raise InputError(
                f"--pick weighted needs vectors of 3 coordinates or more, these have {least}",
                "the density of distances on a circle has no such weight; use --pick random",
            )
