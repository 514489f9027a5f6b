"""What an exact and an approximate run of a job take, here and on other cores: a model around one measured time."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any

from minestream.config.memory_plan import LEAST_BYTES, memory_plan
from minestream.config.mine_config import MineConfig
from minestream.config.resolve import resolved
from minestream.config.rules import HERE
from minestream.errors import UsageError
from minestream.mining.approximate import CALIBRATED, MEASURED, most_share
from minestream.mining.negatives import negative_rule
from minestream.mining.shards import Mining
from minestream.search.cells import ROWS_OF_CELL, TURNS
from minestream.search.near import cells_of_rows
from minestream.search.work import PRODUCT, search_work

UNDIVIDED = 0.04  # of the seconds of one thread while it mines: more threads do not take less; see bench_cores.py
TARGET = 0.95  # of an approximate run where none is asked for
KNOWN_ROWS, KNOWN_SHARE = 117_659, 0.08  # WordNet's glosses: of all pairs so many are looked at; with n rows as n^-1/2
MEETING = 5.0  # of what a product costs in an exact run: one that rows are gathered for
WRITTEN_SECONDS = 1e-6  # of a row that is written when all is found, and not beside the search


def projections(mining: Mining, reading: float, exact: float, asked: float) -> list[dict[str, Any]]:
    """Seconds, enough memory and scratch of each way on each number of cores; none where engines mine.

    Parameters
    ----------
    reading, exact, asked : float
        Seconds of reading, of mining exactly, and of mining as asked for, on the cores that there are here.
    """
    if mining.resources.engine != HERE:
        return []
    here, threads = len(os.sched_getaffinity(0)), mining.searcher.limits.threads
    ways = {"exact": exact}
    target, known = mining.config.approximate or TARGET, mining.config.approximate is not None
    most = most_share(mining.anchors.size)
    if most > 0 and (known or (_allowed(mining, target) and known_share(mining.loaded.store.rows) <= most)):
        ways[f"approximate {target:g}"] = asked if known else approximate_seconds(mining, exact)
    own = min(here, threads)
    cores = dict.fromkeys((own, threads))
    return [
        {"way": way, "cores": count, "seconds": round(reading + on_cores(own, count) * took, 2),
         **_held(mining, way != "exact", count)}
        for count in cores for way, took in ways.items()
    ]  # fmt: skip


def on_cores(own: int, other: int) -> float:
    """How long mining takes on other cores, as a share of what it takes on one's own."""
    return (UNDIVIDED + (1 - UNDIVIDED) / other) / (UNDIVIDED + (1 - UNDIVIDED) / own)


def approximate_seconds(mining: Mining, exact: float) -> float:
    """Seconds of an approximate run, where an exact one takes `exact`, for vectors like those of KNOWN_ROWS.

    Where it saves nothing the run is exact.
    """
    loaded, every = mining.loaded, range(len(mining.plan.shards))
    rows, each = loaded.store.rows, loaded.store.dimension + PRODUCT
    products = search_work(loaded, mining.anchors, 0, negative_rule(mining.config), swept=True).products
    cells = cells_of_rows(rows)
    found = cells * (rows + TURNS * ROWS_OF_CELL * cells) + (CALIBRATED + MEASURED) * rows
    work = mining.work(every)
    left = work - products * (1 - min(1.0, MEETING * known_share(rows))) + found * each
    return min(exact, exact * left / work + WRITTEN_SECONDS * int(mining.plan.facts["rows_at_most"]))


def known_share(rows: int) -> float:
    """The share of all pairs of so many rows that an approximate run looks at, for vectors like those of KNOWN_ROWS."""
    return KNOWN_SHARE * math.sqrt(KNOWN_ROWS / rows)


def _allowed(mining: Mining, target: float) -> bool:
    """Whether the options allow an approximate run."""
    config: MineConfig = replace(mining.config, approximate=target)
    try:
        resolved(config)
    except UsageError:
        return False
    return True


def _held(mining: Mining, approximate: bool, threads: int) -> dict[str, int]:
    """Bytes of --memory that are enough, and of scratch with the --memory that there is."""
    searcher = mining.searcher
    job = replace(searcher.job, approximate=approximate, threads=threads)
    plan, rows = memory_plan(max(LEAST_BYTES, searcher.memory), job), job.rows or 0
    spilled = sum(rows * code - held for code, held in zip(job.code_bytes, plan.code_bytes, strict=True))
    vectors = 0 if job.in_memory else rows * job.vector_bytes
    return {"enough_bytes": plan.least(), "scratch_bytes": vectors + spilled}
