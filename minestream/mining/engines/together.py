"""Whether the workers of an engine, or slices, search together, or each mines its shards against all rows."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minestream.config.derived import ranks_listed
from minestream.config.parse import Slice, parse_slice
from minestream.config.rules import HERE
from minestream.kernels.types import Rule
from minestream.mining.engines.exchange import SliceExchange
from minestream.mining.negatives import looked_for, negative_rule
from minestream.mining.shards import Mining
from minestream.mining.slices import owned_shards, shard_costs
from minestream.outputs.atomic import write_json
from minestream.outputs.manifest import fits, read_json, work_digest
from minestream.outputs.run import EXCHANGE, Run
from minestream.search.context import Share
from minestream.search.order import legs_of
from minestream.search.shared import dealt_blocks
from minestream.search.swept import MANY
from minestream.search.work import PRODUCT
from minestream.system.paths import AnyPath, RemotePath

DEAL = "deal.json"  # in it: how the search was dealt, so that --resume goes on with it
ENTRY = 50_000  # of a candidate in a list that is written, read and merged; in units of search/work.py
WORTH = 0.9  # of the work of shards against all rows
ALL_ROWS = "each {} mines its parts against all rows"
TOGETHER = {
    "worker": "they search together, each product once",
    "slice": "they search together: none computes the products that another has computed",
}
MOST_SLICES = 32  # that search together: each writes a file for each
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


def why_slices_apart(mining: Mining, slices: int) -> str | None:
    """Why so many slices mine their parts against all rows, in words; None: they search together."""
    every, answers = range(len(mining.plan.shards)), mining.searcher.plan.bytes["answers"]
    if slices > MOST_SLICES:
        return "so many slices would exchange too many files"
    why = why_apart(mining, every, slices, answers)
    if why is None and len(list(mining.rounds(every))) > 1:
        return "the memory does not hold the answers of all anchors"
    return why


def slice_share(mining: Mining, run: Run, todo: list[int]) -> tuple[Share | None, list[int]]:
    """The share of a slice in the search of all of them, and the shards of all; None, and `todo`, where it has none."""
    own = parse_slice(mining.resources.shard or "1/1")
    if not todo or own.count == 1:
        return None, todo
    mining.apart = why_slices_apart(mining, own.count) if run.target.shared else "the store takes no small files"
    if mining.apart is not None:
        return None, todo
    costs, slices = shard_costs(mining), range(own.count)
    shards = [owned_shards(costs, Slice(number + 1, own.count)) for number in slices]
    folder = run.target.final.parent / EXCHANGE / work_digest(run.plan)
    if isinstance(folder, Path):
        folder.mkdir(parents=True, exist_ok=True)
    exchange = SliceExchange(folder, own.number - 1, own.count, run.folder, mining.progress.note)
    owners = tuple(number for number in slices for _ in shards[number])
    answers = mining.searcher.plan.bytes["answers"]
    return Share(own.number - 1, own.count, exchange, answers, exchange, owners), list(chain.from_iterable(shards))


def workers_plan(mining: Mining) -> dict[str, str]:
    """What a dry run says of workers, or slices; of a cluster as if it had two workers."""
    resources, who = mining.resources, "worker"
    if resources.shard is not None:
        who, count = "slice", parse_slice(resources.shard).count
        why = why_slices_apart(mining, count)
    else:
        count = resources.workers or (2 if resources.address else 1)
        count = 1 if resources.engine == HERE else count
        why = why_apart(mining, range(len(mining.plan.shards)), count, mining.searcher.plan.bytes["answers"])
    if count < 2:
        return {}
    return {f"{who}s": TOGETHER[who] if why is None else f"{ALL_ROWS.format(who)}: {why}"}


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
            mining.progress.note(f"{ALL_ROWS.format('worker')}: {why}")
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
