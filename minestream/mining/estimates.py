"""The seconds that a run will take: its work by the recorded rate of like runs, or by a sample of its anchors."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from minestream.config.derived import needs_finishing
from minestream.config.mine_config import MineConfig
from minestream.kernels.jit import running_seconds
from minestream.mining.engines.together import workers_plan
from minestream.mining.projections import approximate_seconds, projections
from minestream.mining.rates import kept_rate
from minestream.mining.shards import Mining
from minestream.mining.slices import slice_of
from minestream.outputs.rows import ShardResult, emit
from minestream.system.progress import Progress, Silent
from minestream.system.stats import Report

FINISH_SECONDS = 2e-6  # for each row of a finishing pass
SAMPLE_WORK = 3e12  # at most: some ten seconds
SAMPLE_ANCHORS = (256, 4_096)  # at least and at most
FEWER = 4  # times as few are mined before
Mine = Callable[[Mining, Sequence[int]], Iterator[tuple[int, ShardResult]]]  # pipeline.mine_shards


def estimated(mining: Mining, report: Report, mine: Mine) -> Report:
    """The report of a dry run, with the estimated seconds of the run: reading, which is done already, and the rest.

    When no rate of like runs is recorded, a sample of the anchors is mined, exactly.
    """
    began, reading = time.perf_counter(), report.seconds
    parts = slice_of(mining).get("slice", {}).get("parts", range(len(mining.plan.shards)))
    work, finishing = mining.work(parts), FINISH_SECONDS * mining.plan.facts["rows_at_most"]

    def by_rate(config: MineConfig) -> float | None:
        rate = kept_rate(mining.rate_key(config))
        return work / rate if rate else None

    exact = by_rate(replace(mining.config, approximate=None)) or sampled_seconds(mining, work, mine)
    asked = by_rate(mining.config) or (approximate_seconds(mining, exact) if mining.config.approximate else exact)
    finishing *= needs_finishing(mining.config)
    plan = report.plan | {"shards_together": mining.together(parts)}
    plan |= {"projected_seconds": round(reading + asked + finishing, 2)}
    plan |= {"projections": projections(mining, reading, exact + finishing, asked + finishing)}
    plan |= workers_plan(mining)
    return replace(report, plan=plan, seconds=reading + time.perf_counter() - began)


def sampled_seconds(mining: Mining, work: float, mine: Mine) -> float:
    """The seconds of `work`, extrapolated linearly from mining some anchors and mining more of them.

    Few anchors take longer each than many: tiles are half empty, and tasks few.
    """
    size, (least, most) = mining.anchors.size, SAMPLE_ANCHORS
    more = max(least, min(most, int(size * SAMPLE_WORK / max(work, 1.0))))
    _mine_some(mining, least // FEWER, mine)  # the first time also makes the codes
    (few, short), (many, long) = _mine_some(mining, more // FEWER, mine), _mine_some(mining, more, mine)
    if size <= more:
        return long
    return short + max(0.0, long - short) * (work - few) / max(many - few, 1.0)


def _mine_some(mining: Mining, count: int, mine: Mine) -> tuple[float, float]:
    """Mine at most `count` random anchors of `mining`; the work, and the seconds without compiling."""
    began = running_seconds()
    some = copy.copy(mining)
    some.progress = Progress(Silent())
    some.anchors = np.sort(np.random.default_rng(0).permutation(mining.anchors)[:count])
    shards, some.turn = mining.cut(some.anchors)
    some.plan = replace(mining.plan, shards=shards)
    parts = range(len(some.plan.shards))
    work = some.work(parts)
    for _, result in mine(some, parts):
        emit(result)
    return work, running_seconds() - began
