"""Where pairs come from: a mined output and the table that it was mined from, or a table with labels or qrels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream._version import VERSION
from minestream.batching.pairs import MinedPairs, Numbers, read_pairs
from minestream.config.batching import Batching
from minestream.config.mine_config import MineConfig
from minestream.config.option import flag_of
from minestream.config.resolve import OPTION_FIELDS, asked_options, split_options
from minestream.config.resources import Resources, Tables
from minestream.errors import InputError, UsageError
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.labels import NO_ROWS, usable_known
from minestream.inputs.decode import as_array
from minestream.inputs.given import Given, given_tables
from minestream.inputs.pairs import ListedPairs, cast_ids
from minestream.inputs.tables import Sources
from minestream.mining.anchors import choose_anchors
from minestream.mining.driver import Driver
from minestream.mining.outcome import left_out_rows
from minestream.mining.plan import answer_bytes
from minestream.mining.positives import choose_positives
from minestream.outputs.manifest import config_of
from minestream.outputs.mined import WHAT_TO_GIVE, MinedOutput, mined_output
from minestream.outputs.origin import PATHS, entries, find, same_files
from minestream.search.search import search_once
from minestream.search.searcher import Searcher
from minestream.search.work import WorkMeter
from minestream.system import ragged
from minestream.system.paths import text_of
from minestream.system.stats import ShardStats

LISTS = {"qrels": "known positives", "exclude": "excluded pairs", "exclude_rows": "excluded rows"}
TABLES = ("corpus", *LISTS)
OF_HOW = ("Resources", "Output", "")  # groups of options that do not say what is read
OF_TABLE = "of a table, --pairs-from labels (or qrels) makes pairs"


class Origin(NamedTuple):
    """What is read for pairs, and how they are taken once it is."""

    inputs: Any
    tables: Tables
    config: MineConfig
    resources: Resources
    given: list[Given]
    facts: dict[str, Any]  # for options without effect
    take: Callable[[Driver, Sources, Searcher], MinedPairs]


def origin_of(inputs: Any, asked: Batching, seed: int, source: Any, options: Mapping[str, Any]) -> Origin:
    """Where the pairs of INPUT come from; `options` are those of mine.

    Raises
    ------
    UsageError, InputError
    """
    if asked.pairs_from != "mined":
        return _of_table(inputs, asked, seed, options)
    how = {**options}
    beside = {name: how.pop(name, None) for name in TABLES}
    for name, value in how.items():
        if value is not None and OPTION_FIELDS[name].metadata["group"] not in OF_HOW:
            raise UsageError(f"{flag_of(name)} is not for mined pairs, which say how they were read", OF_TABLE)
    try:
        found = mined_output(inputs)
    except InputError as error:
        hint = f"{WHAT_TO_GIVE}, or {OF_TABLE}" if error.args[1] == WHAT_TO_GIVE else error.args[1]
        raise InputError(error.args[0], hint) from error
    by_role = {LISTS.get(name, name): table for name, table in ({"": source} | beside).items()}
    table = find(found, "", by_role)
    roles = {"corpus": "corpus", **LISTS}
    paths: dict[str, Any] = {name: find(found, role, by_role) for name, role in roles.items() if entries(found, role)}
    config = config_of(found.about["config"], found.path, InputError)
    facts = {"mined": True, "two_tables": config.two_tables, "roles": {e.get("role") for e in found.about["source"]}}
    # In a batch the rows of other parents are negatives, too: --negatives-at said which were mined.
    config = replace(config, carry=(), guide=None, seed=seed, emit="triplets", negatives_at=None)
    return Origin(
        table, Tables(**paths), config,
        split_options(how, "batch")[1], [Given("INPUT", text_of(found.path)), Given("--source", table)],
        facts, partial(_of_mined, found),
    )  # fmt: skip


def _of_mined(found: MinedOutput, driver: Driver, sources: Sources, searcher: Searcher) -> MinedPairs:
    """The pairs of a mined output; InputError unless its tables are as they were."""
    for role, option in PATHS.items():
        read = [entry for entry in sources.identity() if entry.get("role", "") == role]
        same_files(entries(found, role), read, option)
    return read_pairs(found)


def _of_table(inputs: Any, asked: Batching, seed: int, options: Mapping[str, Any]) -> Origin:
    """Pairs that are made here; their negatives would be those of the batch alone."""
    listed = options.get("qrels") is not None
    if asked.pairs_from == "qrels" and not listed:
        raise UsageError("--pairs-from qrels takes the pairs that a table lists", "name it: --qrels PAIRS")
    if asked.pairs_from == "labels" and listed:
        raise UsageError("--qrels lists pairs, and --pairs-from labels makes others", "--pairs-from qrels")
    carry = tuple(dict.fromkeys((*([asked.stratify] if asked.stratify else []), *asked.same)))
    defaults: dict[str, Any] = {"band": "any", "margin": 1.0, "seed": seed, "carry": carry}
    config, resources, tables = asked_options(options, function="batch", **defaults)
    facts = {"mined": False, "two_tables": True, "roles": {*LISTS.values()}}
    return Origin(inputs, tables, config, resources, given_tables(inputs, tables, resources), facts, _made)


def _made(driver: Driver, sources: Sources, searcher: Searcher) -> MinedPairs:
    """The pairs of a table: of its rows with their easiest positives, or those that --qrels lists."""
    loaded, config = searcher.loaded, driver.config
    if sources.known is None:
        anchor, positive = _easiest(driver, searcher)
        number, count = loaded.source_row[anchor], loaded.tables[0].source_rows
    else:
        number, anchor, positive = _listed(loaded, sources.known)
        count = len(sources.known.left) + sum(sources.known.left_out.values())
    role = "query" if config.two_tables else "anchor"
    ends = {role: anchor, "positive": positive}

    def column(name: str, largest: bool = False) -> pa.Array | None:  # a pair has one row
        end, _, own = name.partition("_")
        carried = loaded.table(end).take_carried(ends[end]) if end in ends else None
        return None if carried is None or own not in carried.column_names else as_array(carried[own])

    table = loaded.table(role)
    alone = table.end - table.first - np.unique(anchor).size
    left_out = {"dropped": loaded.dropped, "listed": loaded.listed, "without_positive": alone}
    about: dict[str, Any] = {"version": VERSION, "fingerprint": config.fingerprint(), "source": sources.identity()}
    about |= {"columns": sources.columns_used(), "config": config.to_dict()}
    notes = [f"{name}: {text}" for name, text, *_ in left_out_rows(left_out, {}, about["config"], about["columns"])]
    notes += [*(note for source in sources for note in source.notes), *loaded.notes, *driver.resources.remarks]
    rows = loaded.source_row[anchor], loaded.source_row[positive]
    return MinedPairs(role, count, number, *rows, NO_ROWS, NO_ROWS, sources.anchors.name, about, column, tuple(notes))


def _easiest(driver: Driver, searcher: Searcher) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """The slots of all anchors that have a positive, and of the easiest of each."""
    loaded, config = searcher.loaded, driver.config
    anchors = choose_anchors(loaded, config)
    searcher.settle(answer_bytes(config, anchors.size, anchors.size), 0)
    searcher.plan.check()
    driver.progress.stage("positives", anchors.size, "anchors")
    setting = searcher.setting(ShardStats(), WorkMeter(driver.progress, anchors.size), timed=False)
    found = choose_positives(loaded, config, anchors, partial(search_once, setting))
    return anchors[ragged.owners(found.start)], found.slot


def _listed(loaded: Dataset, known: ListedPairs) -> tuple[Numbers, NDArray[np.int32], NDArray[np.int32]]:
    """Which of the listed pairs are used, each once: their numbers in the list, the slots of queries and positives."""
    ends = []
    for ids, table in ((known.left, loaded.tables[0]), (known.right, loaded.tables[1])):
        assert table.ids is not None  # else the list was refused
        at = pc.index_in(cast_ids(ids, table.ids.type), value_set=table.ids)
        ends.append(np.asarray(at.fill_null(-1 - table.first), np.int64) + table.first)
    n = loaded.store.rows
    left, right = usable_known(loaded.rows)
    key, first = np.unique(ends[0] * n + ends[1], return_index=True)
    used = np.sort(first[np.isin(key, left * n + right) & (ends[0][first] >= 0) & (ends[1][first] >= 0)])
    return (used if known.row is None else known.row[used]), *(end[used].astype(np.int32) for end in ends)
