"""`select`: mining again from lists, by another rule and without a search.

One run, in the order of this file:

1. `select` makes the options: those that the lists were mined with, where these decide what stands in the lists, and
   those that are given.
2. `_select_lists` opens the mined tables again for their ids, labels and carried columns; vectors are read only where
   the rule asks for distances that no list holds (--swap, --guide).
3. `_select_shard` reads the lists of a shard's anchors, a row group at a time (reading.py), and answers by the same
   choice of positives, the same filters and the same rules as mining, with the lists in place of the search
   (search/listed.py). A pair whose answer could depend on what lies beyond its list is not guessed at: `_decided`.
4. The rows are made, written and published as those of a mined run are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any, NamedTuple, Unpack

import numpy as np
from numpy.typing import NDArray

from minestream.config.border import public
from minestream.config.checks import OF_LISTS, refuse
from minestream.config.command_line import command_line, recorded
from minestream.config.commands import Selecting, check_own, own_options
from minestream.config.derived import ranks_listed
from minestream.config.effects import Asked, given_options, remarks
from minestream.config.keywords import SelectOptions
from minestream.config.mine_config import MineConfig
from minestream.config.option import flag_of
from minestream.config.resolve import OPTION_FIELDS, split_options
from minestream.config.resources import Resources, Tables
from minestream.config.rules import PRESETS, SCORES
from minestream.errors import InputError, UsageError
from minestream.inputs.files import vectors_among
from minestream.inputs.given import ROLES, Given, given_tables, marks_of, tables_read
from minestream.inputs.tables import Sources
from minestream.kernels.types import NEAREST
from minestream.mining.driver import Driver
from minestream.mining.negatives import Task, make_task
from minestream.mining.outcome import with_left_out
from minestream.mining.pipeline import write_part
from minestream.mining.positives import choose_positives, deserving_positives, passes_over
from minestream.mining.publish import finished_report, publish
from minestream.mining.select.reading import ListReader, Piece
from minestream.mining.shards import Mining
from minestream.outputs.manifest import config_of
from minestream.outputs.mined import MinedOutput, mined_output
from minestream.outputs.origin import mined_tables, refuse_another
from minestream.outputs.rows import ShardResult
from minestream.outputs.stores import target_of
from minestream.outputs.target import Target, checked
from minestream.search.constraints import Constraints, limited_search
from minestream.search.context import SearchContext
from minestream.search.results import NOTHING, Found, Positives, joined, sub_pairs
from minestream.search.search import search_once
from minestream.search.work import WorkMeter
from minestream.system import ragged
from minestream.system.paths import AnyPath, text_of
from minestream.system.progress import Callback
from minestream.system.stats import Report, ShardStats
from minestream.system.threads import Behind

# Options that decide what stands in the lists, or what their rows mean.
FIXED = {
    *(spec.name for spec in fields(MineConfig) if spec.metadata["group"] in ("Input", "Retrieval")),
    "metric", "normalize", "drop_duplicates_within", "drop_duplicates_of", "group_rule", "negatives_at",
} - {"carry"}  # fmt: skip
NO_POSITIVES = Positives(np.zeros(1, np.int64), np.empty(0, np.int32), np.empty(0))
DRAWN = ("anchors", "anchors_per_label")  # of the lists, unless they have all anchors


@public(SelectOptions)
def select(
    lists: str | os.PathLike[str], out: str | os.PathLike[str], *, undecided: str = "drop", scores: Any = None,
    source: Any = None, corpus: Any = None, qrels: Any = None, exclude: Any = None,
    exclude_rows: Any = None, progress_callback: Callback | None = None, **options: Unpack[SelectOptions],
) -> Report:  # fmt: skip
    """Mine again from lists, by another rule and without a search: the same bytes as mining with that rule.

    Parameters
    ----------
    lists : path
        What `mine --emit lists` wrote.
    out : path or URI
        A name ending in .parquet becomes one file, any other a folder of parts.
    undecided : {"drop", "error", "keep"}
        What becomes of pairs for which a list ends before the rule is satisfied.
    source, corpus, qrels, exclude, exclude_rows : path or Arrow object, optional
        The tables that were mined, where they are neither where they were nor beside the lists nor in the working
        directory. Their ids, labels and carried columns are read; vectors for swap and guide only.
    progress_callback : callable, optional
        Receives the events of progress.py.
    **options
        The rule, and how rows are written, as for mine(). What decides what stands in the lists (metric, columns,
        conditions, duplicates) is that of the lists.

    Returns
    -------
    Report

    Raises
    ------
    MinestreamError
        UsageError, InputError, CapacityError, OutputError, GateMissedError: see errors.py.

    Notes
    -----
    Cost: reading the lists. Exact: rows are those of mining, but for pairs that are undecided.
    """
    check_own(Selecting, undecided=undecided)
    mined = mined_output(lists)
    inputs, tables = mined_tables(
        mined, {"": source, "corpus": corpus, "qrels": qrels, "exclude": exclude, "exclude_rows": exclude_rows}
    )
    column = {"scores": scores} if isinstance(scores, str) and scores in SCORES else {}
    was, config, resources = _resolved(mined, {**options, **column}, tables)
    vectors = vectors_among(inputs)
    own: dict[str, Any] = {
        "undecided": None if undecided == "drop" else undecided,
        "source": source,
        "corpus": corpus,
        "scores": scores,
    }
    own |= {"qrels": qrels, "exclude": exclude, "exclude_rows": exclude_rows}
    line = command_line("select", lists, out, {**own, **options}, OPTION_FIELDS | own_options(Selecting))
    more: dict[str, Any] = {"vectors": vectors or None, **recorded(line)}
    resources = replace(resources, **more)
    asked = _Asked(mined, was, config, resources, undecided)
    rows = [path for path in inputs if path not in vectors]
    report = _select_lists(asked, rows, tables, target_of(out, resources.scratch), progress_callback)
    own_table = tables_read([Given("LISTS", text_of(mined.path))], {})
    return with_left_out(replace(report, subcommand="select", inputs=(*own_table, *report.inputs)))


class _Asked(NamedTuple):
    """What is selected: the lists and how they were mined, the rule, the means, and what becomes of undecided pairs."""

    mined: MinedOutput
    was: MineConfig
    config: MineConfig
    resources: Resources
    undecided: str


def _resolved(
    mined: MinedOutput, options: Mapping[str, Any], tables: Tables
) -> tuple[MineConfig, MineConfig, Resources]:  # fmt: skip
    """How the lists were mined, the rule with every default filled in, and the means; refuses what no list can say."""
    was = config_of(mined.about["config"], mined.path, InputError)
    if was.emit != "lists":
        raise UsageError(
            f"{mined.path} holds {was.emit}, and select reads lists",
            "mine with --emit lists; minestream refilter chooses among mined rows by other scores",
        )
    given = {name: value for name, value in options.items() if value is not None}
    preset = PRESETS[given["preset"]].options if given.get("preset") in PRESETS else {}
    for name, value in preset.items():
        if name in FIXED and value != getattr(was, name):
            what = f"--preset {given['preset']} means {flag_of(name)} {value}, and the lists were mined otherwise"
            raise UsageError(what, f"mine the lists with {flag_of(name)} {value}")
    theirs = {name: getattr(was, name) for name in FIXED if OPTION_FIELDS.get(name) is not None}
    theirs |= {name: getattr(was, name) for name in DRAWN if getattr(was, name) is not None}
    kept = {name: getattr(tables, name) for name in ROLES}
    config, resources, _ = split_options({**theirs, **given, **kept}, "select")
    resources = replace(resources, remarks=remarks(Asked(config, resources, given_options(given))))
    refuse(OF_LISTS, config)
    _refuse_undecidable(mined.path, was, config)
    return was, config, resources


def _refuse_undecidable(place: AnyPath, was: MineConfig, config: MineConfig) -> None:
    """Raise UsageError for a rule that these lists decide for no pair."""
    whole = was.positives == "all"
    if not whole and (config.positives, config.reference) != (was.positives, "pair"):
        what = (
            "the reference of all positives" if config.positives == was.positives else f"positives {config.positives}"
        )
        raise UsageError(
            f"{place} lists {was.positives} positives, {was.positives_per_anchor:,} an anchor: {what} cannot be told",
            "mine the lists with --positives all",
        )
    if not whole and config.deserving:
        what = f"{place} lists {was.positives} positives alone: which ones deserve it cannot be told"
        raise UsageError(what, "mine the lists with --positives all")
    if (ranks := ranks_listed(config)) > was.negatives:
        raise UsageError(f"{place} lists {was.negatives:,} candidates: ranks to {ranks:,} cannot be told", "lower it")
    if not whole and config.positives_per_anchor > was.positives_per_anchor:
        what = f"{place} lists {was.positives_per_anchor:,} positives an anchor, not {config.positives_per_anchor:,}"
        raise UsageError(what, f"mine the lists with --positives-per-anchor {config.positives_per_anchor} or more")
    drawn = [name for name in DRAWN if getattr(was, name) is not None and getattr(config, name) != getattr(was, name)]
    if drawn:
        what = f"the lists are of {flag_of(drawn[0])} {getattr(was, drawn[0])}"
        raise UsageError(what, "leave the option out, or mine lists for all anchors")
    if config.seed != was.seed and (not whole or any(getattr(was, name) for name in DRAWN)):
        drawn_by = was.positives == "random" or any(getattr(was, name) for name in DRAWN)
        if drawn_by:
            raise UsageError(f"the lists were drawn by --seed {was.seed}", "leave --seed out, or mine the lists by it")


def _select_lists(
    asked: _Asked, inputs: list[Any], tables: Tables, output: Target, progress_callback: Callback | None
) -> Report:
    """Select for all anchors."""
    mined, was, config, resources, _ = asked
    given = [Given("LISTS", text_of(mined.path), "lists"), *given_tables(inputs, tables, resources)]
    finished = checked(output, config, resources, given, lambda: None)
    if finished is not None:
        return finished_report(output, finished, given, resources)
    bare = not (config.swap or config.guided or any("bad" in cause for cause in _dropped(mined)))
    driver = Driver(config, resources, progress_callback, bare=bare)
    with driver:
        sources = driver.open(inputs, tables)
        mining = Mining(driver, sources, output.scratch)
        refuse_another(mined, sources)
        reader = ListReader(mined, was, mining.loaded)
        run = output.start(
            driver.held, resume=resources.resume, overwrite=resources.overwrite, config=config.to_dict(),
            fingerprint=config.fingerprint(), source=_identity(mined, sources), columns=mining.columns(),
            parts=len(mining.plan.shards), others=_checksums(mined), read=marks_of(given),
        )  # fmt: skip
        todo = [index for index in run.indices if run.finished(index) is None]
        mining.begin(run.indices, todo)
        with Behind() as writing:
            for index in todo:
                result = _select_shard(asked, mining, reader, mining.slots_of(index))
                writing.run(partial(write_part, run, index, result))
        return publish(mining, run)


def _select_shard(asked: _Asked, mining: Mining, reader: ListReader, anchors: NDArray[np.int32]) -> ShardResult:
    """The answer of one shard, from its lists."""
    stats, chosen, found = ShardStats(), [NO_POSITIVES], [NOTHING]
    with stats.stage("negatives"):
        for piece in reader.pieces(anchors):
            positives, negatives = _select_piece(asked, mining, piece, stats)
            chosen.append(positives)
            found.append(negatives)
            mining.progress.advance(piece.anchors.size)
    ranks = [each.rank for each in chosen if each.rank is not None]
    every = Positives(
        ragged.joined([each.start for each in chosen]), np.concatenate([each.slot for each in chosen]),
        np.concatenate([each.x for each in chosen]), np.concatenate(ranks) if ranks else None,
    )  # fmt: skip
    return ShardResult(mining.loaded, mining.config, anchors, every, joined(found), stats)


def _select_piece(asked: _Asked, mining: Mining, piece: Piece, stats: ShardStats) -> tuple[Positives, Found]:
    """The positives of some anchors, and the negatives of each pair, without those of undecided ones."""
    loaded, config, anchors = mining.loaded, mining.config, piece.anchors
    setting = replace(mining.searcher.setting(stats, WorkMeter(), timed=False), lists=piece.lists)
    search = partial(search_once, setting)
    deserving = deserving_positives(loaded, config, anchors, search, piece.positives)
    chosen = choose_positives(loaded, config, anchors, search, deserving)
    task = make_task(loaded, config, anchors, chosen, search, deserving)
    (found,) = limited_search(setting, [anchors], task.pairs, task.rule, task.constraints)
    chosen = task.chosen
    deserving.count_into(stats, 0, anchors.size, chosen)
    open_ = np.flatnonzero(~_decided(setting, anchors, task, found))
    if open_.size and asked.undecided == "error":
        anchor = int(ragged.owners(chosen.start)[open_[0]])
        row, most = loaded.source_row[anchors[anchor]], asked.was.negatives
        raise InputError(
            f"{asked.mined.path}: the list of row {row:,} ends after {most:,} candidates, before the rule is satisfied",
            "mine longer lists (-k), or --undecided drop, which leaves such pairs out, counted",
        )
    stats.undecided += open_.size
    if open_.size and asked.undecided == "drop":
        keep = np.ones(chosen.slot.size, bool)
        keep[open_] = False
        chosen, found = chosen.where(keep), found.of(np.flatnonzero(keep))
    stats.duplicate_positives += _duplicates(piece, chosen, config, loaded.store.rows)
    return chosen, found


def _decided(setting: SearchContext, anchors: NDArray[np.int32], task: Task, found: Found) -> NDArray[np.bool_]:
    """Of which pairs nothing beyond the list can change the answer.

    The list holds all candidates, or its end lies beyond the pair's band; or the pick takes the nearest and has all it
    wants; or the pick draws within a window of ranks, and that lies within the list.
    """
    lists, pairs, rule = setting.lists, task.pairs, task.rule
    assert lists is not None
    place = lists.place[anchors]
    decided = pairs.high < ragged.repeat(lists.reach[place], pairs.start)
    decided |= np.isinf(ragged.repeat(lists.reach[place], pairs.start))
    window = task.constraints.within_top
    if rule.pick == NEAREST:
        return decided | (ragged.lengths(found.start) >= rule.take)
    open_ = np.unique(ragged.owners(pairs.start)[~decided])
    if window is None or not open_.size:
        return decided
    own, of_pair = sub_pairs(pairs, open_)
    nearest, ranks = (
        rule._replace(pick=NEAREST, take=window, skip=0),
        Constraints(task.constraints.guided, None, None, window),
    )
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


def _dropped(mined: MinedOutput) -> Mapping[str, int]:
    """The rows that took no part when the lists were mined, by cause; what is not known counts as bad."""
    report = (mined.manifest or {}).get("report") or {"source": {"dropped": {"bad": 1}}}
    dropped: Mapping[str, int] = report["source"]["dropped"]
    return dropped


def _identity(mined: MinedOutput, sources: Sources) -> list[dict[str, Any]]:
    """What was mined, as the lists record it, and the guide that they do not know."""
    return [*mined.about["source"], *(entry for entry in sources.identity() if entry.get("role") == "guide")]


def _checksums(mined: MinedOutput) -> list[dict[str, Any]]:
    """What the manifest records of the lists, and of the columns that were read when they were mined."""
    sums = {"rows": mined.about["rows_crc32"]} if mined.manifest is None else {
        each["name"]: each["crc32"] for each in mined.manifest["files"]
    }  # fmt: skip
    return [*((mined.manifest or {}).get("others") or []), {"name": mined.path.name, "role": "lists", "crc32": sums}]
