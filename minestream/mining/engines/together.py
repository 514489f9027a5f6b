"""Whether the workers of an engine search together, each product once, or each mines its shards against all rows."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minestream.config.derived import ranks_listed
from minestream.config.parse import Slice
from minestream.config.rules import HERE
from minestream.kernels.types import Rule
from minestream.mining.negatives import looked_for, negative_rule
from minestream.mining.shards import Mining
from minestream.mining.slices import owned_shards
from minestream.outputs.atomic import write_json
from minestream.outputs.manifest import fits, read_json, work_digest
from minestream.outputs.run import EXCHANGE, Run
from minestream.search.order import legs_of
from minestream.search.shared import dealt_blocks
from minestream.search.swept import MANY
from minestream.search.work import PRODUCT
from minestream.system.paths import AnyPath, RemotePath

DEAL = "deal.json"  # in it: how the search was dealt, so that --resume goes on with it
ENTRY = 50_000  # of a candidate in a list that is written, read and merged; in units of search/work.py
WORTH = 0.9  # of the work of shards against all rows
ALL_ROWS = "each worker mines its parts against all rows"
RECORDED = {"work": str, "todo": [int], "workers": int, "answer_bytes": int, "key": str}


class Shared(NamedTuple):
    """How workers search together; equal for all of them, so that they deal alike."""

    todo: tuple[int, ...]  # the shards
    workers: int
    answer_bytes: int  # see context.Share
    key: str  # the folder of its files: workers of another deal that are still at work write to their own


# Why workers do not search together, in words.
APART: tuple[tuple[str, Callable[[Mining], Any]], ...] = (
    ("of two tables no product serves two anchors", lambda mining: mining.config.two_tables),
    ("so few rows are scanned", lambda mining: not mining.searcher.limits.screens),
    ("only near rows meet, as each worker finds by itself", lambda mining: mining.config.approximate is not None),
    ("candidates are given", lambda mining: mining.config.listed_candidates),
    ("several teachers search", lambda mining: mining.config.taught),
    ("ranks of positives take a search of their own", lambda mining: ranks_listed(mining.config)),
    ("--epsilon takes a search of its own", lambda mining: mining.config.epsilon is not None),
    ("all eligible negatives of each pair would travel", lambda mining: not _first_rule(mining).take),
    ("the long lists of each pair would travel", lambda mining: _first_rule(mining).take >= MANY),
)


def _first_rule(mining: Mining) -> Rule:
    return looked_for(mining.config, negative_rule(mining.config))


def why_apart(mining: Mining, todo: Sequence[int], workers: int, answer_bytes: int) -> str | None:
    """Why so many workers mine these shards against all rows, in words; None: they search together."""
    if workers < 2:
        return "there is one worker"
    for why, holds in APART:
        if holds(mining):
            return why
    (together, apart), rule = loads(mining, todo, workers, answer_bytes), _first_rule(mining)
    lists = sum(map(mining.pair_count_of, todo)) * (rule.take + rule.skip) * ENTRY
    each = mining.loaded.store.dimension + PRODUCT
    if together * each + lists > WORTH * apart * each:
        return "the lists that would travel cost more than the products that are saved"
    return None


def workers_plan(mining: Mining) -> dict[str, str]:
    """What a dry run says of workers; of a cluster as if it had two."""
    resources = mining.resources
    count = resources.workers or (2 if resources.address else 1)
    if resources.engine == HERE or count < 2:
        return {}
    answers = mining.searcher.plan.bytes["answers"]
    why = why_apart(mining, range(len(mining.plan.shards)), count, answers)
    return {"workers": "they search together, each product once" if why is None else f"{ALL_ROWS}: {why}"}


def loads(mining: Mining, todo: Sequence[int], workers: int, answer_bytes: int) -> tuple[int, int]:
    """The products of the worker that has most, when they search together, and when each mines its shards."""
    rows, together, apart = mining.loaded.store.rows, 0, 0
    for shards in mining.rounds(todo, answer_bytes):
        sizes = np.array([mining.anchors_of(index) for index in shards])
        legs = np.bincount(np.unique(legs_of(sizes), return_inverse=True)[1], sizes).astype(int).tolist()
        together += max(sum(own.values()) for own in dealt_blocks(legs, rows - int(sizes.sum()), workers))
    costs = [mining.anchors_of(index) for index in todo]
    for number in range(workers):
        own = sum(costs[place] for place in owned_shards(costs, Slice(number + 1, workers)))
        apart = max(apart, own * (rows - own // 2))
    return together, apart


def shared_of(mining: Mining, run: Run, todo: Sequence[int], workers: int, answer_bytes: int) -> Shared | None:
    """How the workers search together; None where each mines its shards. A search that was dealt before goes on."""
    folder, digest = run.target.partial / EXCHANGE, work_digest(run.plan)
    found = read_json(folder / DEAL)
    if found is not None and fits(found, RECORDED) and found["work"] == digest and set(todo) <= set(found["todo"]):
        return Shared(tuple(found["todo"]), found["workers"], found["answer_bytes"], found["key"])
    clear(folder)
    why = why_apart(mining, todo, workers, answer_bytes)
    if why is not None:
        if workers > 1:
            mining.progress.note(f"{ALL_ROWS}: {why}")
        return None
    shared = Shared(tuple(todo), workers, answer_bytes, secrets.token_hex(4))
    if isinstance(folder, Path):
        (folder / shared.key).mkdir(parents=True)
    write_json(folder / DEAL, {**shared._asdict(), "work": digest})
    return shared


def clear(folder: AnyPath) -> None:
    """Remove what was exchanged before."""
    if isinstance(folder, RemotePath):
        folder.remove_all()
    else:
        shutil.rmtree(folder, ignore_errors=True)
