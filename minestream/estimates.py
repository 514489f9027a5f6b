"""What a run will take, before it begins: its work, by the rate of runs of its kind, or of a few of its anchors."""

from __future__ import annotations

import copy
import time
from dataclasses import replace

import numpy as np

from minestream.emit import emit
from minestream.finish import needs_finishing
from minestream.miner import Mining
from minestream.plan import cut_shards
from minestream.progress import Progress, Silent
from minestream.rates import kept_rate
from minestream.slices import slice_of
from minestream.stats import Report

FINISH_SECONDS = 2e-6  # a row of a finishing pass
SAMPLE_WORK = 4e10  # a second or so
FIRST_ANCHORS, LEAST_ANCHORS = 16, 256


def estimated(miner: Mining, report: Report) -> Report:
    """The report of a dry run with the seconds of the run: those of reading, which it has done, and the rest.

    Where no run of its kind is known, some of its anchors are mined first.
    """
    began = time.perf_counter()
    parts = slice_of(miner).get("slice", {}).get("parts", range(len(miner.plan.shards)))
    work = miner.work(parts)
    seconds = report.seconds + work / (kept_rate(miner.kind) or sampled_rate(miner, work))
    seconds += FINISH_SECONDS * miner.plan.facts["rows_at_most"] * needs_finishing(miner.config)
    plan = report.plan | {"projected_seconds": round(seconds, 2)}
    return replace(report, plan=plan, seconds=report.seconds + time.perf_counter() - began)


def sampled_rate(miner: Mining, work: float) -> float:
    """The work a second of mining a few anchors of `miner`, of all that is so much work."""
    most = miner.anchors.size
    _mine_few(miner, min(most, FIRST_ANCHORS))  # loads kernels and makes codes
    began = time.perf_counter()
    done = _mine_few(miner, min(most, max(LEAST_ANCHORS, int(most * SAMPLE_WORK / max(work, 1.0)))))
    return max(done, 1.0) / (time.perf_counter() - began)


def _mine_few(miner: Mining, count: int) -> float:
    """Mine `count` anchors of `miner`, drawn by chance; the work that was."""
    few = copy.copy(miner)
    few.progress = Progress(Silent())
    few.anchors = np.sort(np.random.default_rng(0).permutation(miner.anchors)[:count])
    few.plan = replace(miner.plan, shards=cut_shards(miner.config, miner.loaded.positives[few.anchors]))
    parts = range(len(few.plan.shards))
    work = few.work(parts)
    for _, picture in few.mine_shards(parts):
        emit(picture)
    return work
