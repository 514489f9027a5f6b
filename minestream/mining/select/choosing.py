"""The choice among lists, by the same rules as mining; a pair that lists cannot decide is not guessed at."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from minestream.config.derived import ranks_listed, reserve
from minestream.config.mine_config import MineConfig
from minestream.errors import InputError
from minestream.kernels import types
from minestream.mining.negatives import Task, make_task
from minestream.mining.positives import choose_positives, deserving_positives, passes_over
from minestream.mining.select.asked import Selected
from minestream.mining.select.reading import Group, ListReader, Piece
from minestream.mining.select.scored import Scoring
from minestream.mining.select.verdicts import Verdicts
from minestream.mining.shards import Mining
from minestream.outputs.lists import NEAREST
from minestream.outputs.rows import ShardResult
from minestream.search.constraints import Constraints, limited_search
from minestream.search.context import SearchContext
from minestream.search.results import NOTHING, Found, Positives, Scored, joined, sub_pairs
from minestream.search.search import search_once
from minestream.search.work import WorkMeter
from minestream.system import ragged
from minestream.system.stats import Effort, ShardStats
from minestream.system.threads import Workers, mapped

GROUP_BYTES = 256 << 20  # of a row group of lists, and of what is made of it
TRUST = 4  # that the nearest of lists decide: it grows where they do, and is lost where they do not
NO_POSITIVES = Positives(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0))


class Chooser:
    """Chooses positives and negatives of anchors from their lists."""

    def __init__(self, asked: Selected, mining: Mining, scoring: Scoring | None, verdicts: Verdicts | None) -> None:
        self._asked, self._mining, self._scoring, self._verdicts = asked, mining, scoring, verdicts
        self._rule = mining.config if scoring is None else scoring.config(mining.config)
        self._alone = Workers(1)  # of a thread that chooses
        config = mining.config  # what is listed is eligible: ranks are known as far as they are counted
        most = max(reserve(config) + config.skip, config.within_top or 0, ranks_listed(config))
        whole = config.guided or config.max_per_negative_label is not None
        few = most < NEAREST and not whole and scoring is None and verdicts is None
        self._trust = TRUST if few else 0

    def shard(self, reader: ListReader, anchors: NDArray[np.int32]) -> ShardResult:
        """The answer of one shard; row groups of lists are read and chosen from by all threads, one each."""
        stats, chosen, found = ShardStats(), [NO_POSITIVES], [NOTHING]
        if self._scoring is not None:  # of no anchors, too, rows have the columns of scores
            chosen = [NO_POSITIVES._replace(score=NO_POSITIVES.x)]
            found = [Scored(NOTHING.start, NOTHING.slot, NOTHING.x, NOTHING.nearer, NOTHING.x)]

        def answered(part: tuple[Group, NDArray[np.int32], NDArray[np.int64]]) -> tuple[Positives, Found, ShardStats]:
            if reader.nearest and self._trust > 0:
                own = ShardStats()
                answer = self._piece(reader.piece(*part, nearest=True), own, final=False)
                self._trust += 1 if answer else -2
                if answer is not None:
                    return *answer, own
            own = ShardStats()
            answer = self._piece(reader.piece(*part), own)
            assert answer is not None
            return *answer, own

        with stats.stage("negatives"):
            for positives, negatives, own in mapped(answered, reader.groups(anchors), self._threads()):
                chosen.append(positives)
                found.append(negatives)
                stats.add(own)
                self._mining.progress.advance(ragged.lengths(positives.start).size)
        columns = zip(*(each[1:] for each in chosen[min(1, len(chosen) - 1) :]), strict=True)
        start = ragged.joined([each.start for each in chosen])
        every = Positives._make([start, *(None if each[0] is None else np.concatenate(each) for each in columns)])
        answers, scores = joined(found), [each.score for each in found if isinstance(each, Scored)]
        if scores:
            answers = Scored(answers.start, answers.slot, answers.x, answers.nearer, np.concatenate(scores))
        return ShardResult(self._mining.loaded, self._mining.config, anchors, every, answers, stats)

    def _threads(self) -> int:
        """How many row groups are chosen from at a time; one where vectors are read, or verdicts collected in order."""
        limits = self._mining.searcher.limits
        alone = self._verdicts is not None or not self._mining.directions[0].sources.bare
        return 1 if alone else max(1, min(limits.threads, limits.answer_bytes // GROUP_BYTES))

    def _piece(self, piece: Piece, stats: ShardStats, final: bool = True) -> tuple[Positives, Found] | None:
        """The positives of some anchors, and the negatives of each pair, without those of undecided ones.

        None where these are not the `final` lists, and some pair is undecided.
        """
        loaded, config, anchors = self._mining.loaded, self._rule, piece.anchors
        judged = piece if self._verdicts is None else self._verdicts.judged(piece, stats)
        scored = judged if self._scoring is None else self._scoring.scored(judged, stats)
        setting = self._mining.searcher.setting(stats, WorkMeter(), timed=False)
        setting = replace(setting, lists=scored.lists, workers=self._alone, effort=Effort())
        search = partial(search_once, setting)
        deserving = deserving_positives(loaded, config, anchors, search, scored.positives)
        chosen = choose_positives(loaded, config, anchors, search, deserving)
        task = make_task(loaded, config, anchors, chosen, search, deserving)
        (found,) = limited_search(setting, [anchors], task.pairs, task.rule, task.constraints)
        chosen, decided = task.chosen, _decided(setting, anchors, task, found)
        if not (final or decided.all()):
            return None
        deserving.count_into(stats, 0, anchors.size, chosen)
        chosen, found = self._decide(anchors, ~decided, chosen, found, stats)
        stats.duplicate_positives += _duplicates(scored, chosen, config, loaded.store.rows)
        return (chosen, found) if self._scoring is None else self._scoring.rescored(judged, chosen, found)

    def _decide(
        self, anchors: NDArray[np.int32], undecided: NDArray[np.bool_], chosen: Positives, found: Found,
        stats: ShardStats,
    ) -> tuple[Positives, Found]:  # fmt: skip
        """The pairs, or those of them that are decided."""
        asked, open_ = self._asked, np.flatnonzero(undecided)
        if open_.size and asked.undecided == "error":
            anchor = int(ragged.owners(chosen.start)[open_[0]])
            row, most = self._mining.loaded.source_row[anchors[anchor]], asked.was.negatives
            raise InputError(
                f"{asked.mined.path}: the list of row {row:,} ends after {most:,} candidates, before the rule is "
                "satisfied",
                "mine longer lists (-k), or --undecided drop, which leaves such pairs out, counted",
            )
        stats.undecided += open_.size
        if open_.size and asked.undecided == "drop":
            return chosen.where(~undecided), found.of(np.flatnonzero(~undecided))
        return chosen, found


def _decided(setting: SearchContext, anchors: NDArray[np.int32], task: Task, found: Found) -> NDArray[np.bool_]:
    """Of which pairs nothing beyond the list can change the answer.

    The list holds all candidates, or its end lies beyond the pair's band; or the pick takes the nearest and has all it
    wants; or the pick draws within a window of ranks, and that lies within the list.
    """
    lists, pairs, rule = setting.lists, task.pairs, task.rule
    assert lists is not None
    reach = ragged.repeat(lists.reach[lists.place[anchors]], pairs.start)
    decided = (pairs.high < reach) | np.isinf(reach)
    window = task.constraints.within_top
    if rule.pick == types.NEAREST:
        return decided | (ragged.lengths(found.start) >= rule.take)
    if window is None:
        return decided
    if (
        lists.alike is not None and task.constraints.guided is None
    ):  # what the list has in the band, and is no duplicate
        of_pair = ragged.repeat(lists.place[anchors].astype(np.int64), pairs.start)
        ends = np.nextafter(pairs.high, np.inf), pairs.low
        last, first = (ragged.below(lists.start, lists.x, of_pair, end) for end in ends)
        alike = lists.alike[0]
        barred = alike[pairs.positive + 1] - alike[pairs.positive] if alike.size else 0
        decided |= last - first - barred >= window
    open_ = np.unique(ragged.owners(pairs.start)[~decided])
    if not open_.size:
        return decided
    own, of_pair = sub_pairs(pairs, open_)
    nearest = rule._replace(pick=types.NEAREST, take=window, skip=0)
    ranks = Constraints(task.constraints.guided, None, None, window)
    (ranked,) = limited_search(setting, [anchors[open_]], own, nearest, ranks)
    decided[of_pair] |= ragged.lengths(ranked.start) >= window
    return decided


def _duplicates(piece: Piece, chosen: Positives, config: MineConfig, rows: int) -> int:
    """How many of the chosen positives are duplicates of their anchor, taken because there is no other."""
    given = piece.positives
    if not passes_over(config) or given.duplicate is None:
        return 0
    flagged = given.anchor[given.duplicate] * rows + given.slot[given.duplicate]
    return int(np.isin(ragged.owners(chosen.start) * rows + chosen.slot, flagged).sum())
