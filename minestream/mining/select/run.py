"""`select`: mining again from lists, by another rule and without a search.

One run, in the order of this file:

1. `select` makes the options: those that the lists were mined with, where these decide what stands in the lists, and
   those that are given.
2. `_select_lists` opens the mined tables again for their ids, labels and carried columns; vectors are read only where
   the rule asks for distances that no list holds (--swap, --guide).
3. `Chooser` (choosing.py) reads the lists of a shard's anchors, a row group at a time (reading.py), applies verdicts
   (verdicts.py) and other scores (scored.py), and answers by the same choice of positives, the same filters and rules
   as mining, with the lists in place of the search (search/listed.py).
4. The rows are made, written and published as those of a mined run are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import pyarrow as pa

from minestream.config.border import public
from minestream.config.checks import BUCKETED, refuse
from minestream.config.command_line import command_line, recorded
from minestream.config.commands import BUCKETS_BY, Selecting, check_own, own_options
from minestream.config.keywords import RefilterOptions, SelectOptions
from minestream.config.mine_config import MineConfig
from minestream.config.resolve import OPTION_FIELDS
from minestream.config.rules import SCORES
from minestream.errors import UsageError
from minestream.inputs.files import vectors_among
from minestream.inputs.given import Given as Table
from minestream.inputs.given import given_tables, marks_of, tables_read
from minestream.inputs.tables import Sources
from minestream.mining.driver import Driver
from minestream.mining.outcome import with_left_out
from minestream.mining.pipeline import write_part, write_parts
from minestream.mining.publish import finished_report, publish
from minestream.mining.select.asked import Selected, resolved_rule
from minestream.mining.select.choosing import Chooser
from minestream.mining.select.reading import ListReader
from minestream.mining.select.scored import SAY, Scoring, asked_scores
from minestream.mining.select.verdicts import Verdicts
from minestream.mining.shards import Mining
from minestream.outputs.buckets import bucketed
from minestream.outputs.mined import RESCORING, MinedOutput, mined_output
from minestream.outputs.origin import mined_tables, refuse_another
from minestream.outputs.parquet import write_rows
from minestream.outputs.single_file import ending_in, publishing
from minestream.outputs.stores import target_of
from minestream.outputs.target import Target, checked
from minestream.outputs.trainers.refilter import refilter_rows
from minestream.system.paths import text_of
from minestream.system.progress import Callback
from minestream.system.stats import Report

LISTS_FIRST = "mine with --emit lists, and select from those"


@public(SelectOptions)
def select(
    lists: str | os.PathLike[str], out: str | os.PathLike[str], *, undecided: str = "drop", scores: Any = None,
    by: str | None = None, buckets: int | None = None, missing_scores: str = "error", verdicts: Any = None,
    qrels_out: str | os.PathLike[str] | None = None, source: Any = None, corpus: Any = None, qrels: Any = None,
    exclude: Any = None, exclude_rows: Any = None, progress_callback: Callback | None = None,
    **options: Unpack[SelectOptions],
) -> Report | dict[str, Any]:  # fmt: skip
    """Mine again from lists, by another rule and without a search: the same bytes as mining with that rule.

    Parameters
    ----------
    lists : path
        What `mine --emit lists` wrote; with scores also mined triplets or tuples, which are filtered again as by
        refilter().
    out : path or URI
        A name ending in .parquet becomes one file, any other a folder of parts.
    undecided : {"drop", "error", "keep"}
        What becomes of pairs for which a list ends before the rule is satisfied.
    scores : path, Arrow object, dict of these by name, list of "NAME=PATH", optional
        Tables query_id, document_id, score (or what --qrels may call them) of listed candidates and positives, larger
        is better: bands, filters, ranks and picks go by them, and not by the embedding; equal ones in key order. Or,
        of tuples, what the column scores holds: similarity, negative-distance, none.
    by : str, optional
        The score as a formula of those names and sim, the similarity: "0.7*ce + 0.3*sim". Or, with buckets, what rows
        are hard by: rank (default), similarity, loss.
    buckets : int, optional
        Adds a column bucket, int32: triplets from easy (0) to hard, in as many parts of one size, by quantiles of all.
        batch() composes the easy ones first, by hardness_schedule.
    missing_scores : {"error", "drop"}
        What lacks a score is refused, or left out, counted. "keep" is for mined rows.
    verdicts : path or Arrow object, optional
        A judge's table query_id, document_id, verdict: positive (a false negative, which becomes a positive of the
        query), drop, keep.
    qrels_out : path, optional
        With verdicts a .parquet file for all positives, old and new: query_id, positive_id, score, promoted.
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
        Of mined rows what refilter() returns.

    Raises
    ------
    MinestreamError
        UsageError, InputError, CapacityError, OutputError, GateMissedError: see errors.py.

    Notes
    -----
    Cost: reading the lists. Exact: rows are those of mining, but for pairs that are undecided.
    """
    check_own(Selecting, undecided=undecided, missing_scores=missing_scores, buckets=buckets)
    mined = mined_output(lists)
    column = {"scores": scores} if isinstance(scores, str) and scores in SCORES else {}
    by_hardness = by in BUCKETS_BY and buckets is not None
    asked = asked_scores(None if column else scores, None if by_hardness else by, missing_scores)
    if asked is not None and mined.about["config"]["emit"] != "lists":
        return _refiltered(lists, out, {"scores": scores, "missing_scores": missing_scores, "by": by, **options})
    given = {"": source, "corpus": corpus, "qrels": qrels, "exclude": exclude, "exclude_rows": exclude_rows}
    inputs, tables = mined_tables(mined, given)
    was, config, resources = resolved_rule(mined, {**options, **column}, tables, asked)
    finish = None if buckets is None else _bucketing(config, buckets, by if by in BUCKETS_BY else "rank")
    if verdicts is not None and resources.resume:
        raise UsageError("--resume is not for --verdicts", "--overwrite starts afresh: lists are read in seconds")
    if qrels_out is not None and verdicts is None:
        raise UsageError("--qrels-out writes the positives that --verdicts finds", "give --verdicts TABLE")
    own: dict[str, Any] = {
        "undecided": None if undecided == "drop" else undecided,
        "scores": scores,
        "by": by,
        "buckets": buckets,
    }
    own |= {"missing_scores": None if missing_scores == "error" else missing_scores, "verdicts": verdicts}
    own |= {"qrels_out": qrels_out, **{name: table for name, table in given.items() if name}, "source": source}
    line = command_line("select", lists, out, {**own, **options}, OPTION_FIELDS | own_options(Selecting))
    vectors = vectors_among(inputs)
    more: dict[str, Any] = {"vectors": vectors or None, **recorded(line)}
    resources = replace(resources, **more)
    selected = Selected(mined, was, config, resources, undecided, asked, verdicts, finish)
    rows = [path for path in inputs if path not in vectors]
    target = target_of(out, resources.scratch)
    read = [Table("LISTS", text_of(mined.path), "lists"), *given_tables(rows, tables, resources)]
    with ExitStack() as stack:
        draft = None
        if qrels_out is not None:
            place = ending_in(".parquet", qrels_out, "select", "--qrels-out ")
            draft = stack.enter_context(publishing(place, resources.overwrite, read))
        report, judged = _select_lists(selected, (rows, tables), read, target, progress_callback)
        if draft is not None and judged is not None:
            pairs = list(judged.qrels())
            write_rows(draft.path, pairs[0].schema, pairs, {})
    report = replace(report, notes=(*report.notes, judged.note())) if judged is not None else report
    own_table = tables_read([Table("LISTS", text_of(mined.path))], {})
    return with_left_out(replace(report, subcommand="select", inputs=(*own_table, *report.inputs)))


@public(RefilterOptions, refuses=True)
def refilter(
    mined: str | os.PathLike[str], out: str | os.PathLike[str], *, scores: Any, negatives: int,
    by: str | None = None, missing_scores: str = "error", **options: Unpack[RefilterOptions],
) -> Report | dict[str, Any]:  # fmt: skip
    """Choose again by other scores, such as a cross-encoder's: select() by the name that this has for mined rows.

    Parameters
    ----------
    mined : path
        Mined triplets or tuples with ids, of which the best-scored negatives of each pair stay; or lists.
    out : path
        Of mined rows the .parquet file to write: triplets of the same columns and score_ap, score_an, which every
        export carries. Of lists as for select().
    scores : path, list of paths or Arrow object
        Columns query_id, document_id, score, or what --qrels may call them; larger = more similar; a row for each
        mined anchor with each positive and negative. Ids of another type are compared as text. Takes 16 bytes a row.
    negatives : int
        How many negatives of a pair stay, by score descending, then as mined.
    by : str, optional
        Of lists: a formula, as for select().
    missing_scores : {"error", "drop", "keep"}
        Mined rows whose positive or negative has no score are refused; left out; or kept behind the scored rows of
        their pair, with a null score, and no filter by that score drops them. Lists: error or drop.
    **options
        Of mined rows the filters, float64: s_n <= reference - abs(reference) r, s_n <= reference - g, bounds of s_n,
        closed; reference, over the scores of the anchor's positives that were mined and have one; require_rows and
        max_short, where pairs that are left out for want of a score count as short; overwrite. Of lists those of
        select().

    Returns
    -------
    dict or Report
        Of mined rows output, mined, the rule, the table, notes, and counts: candidates = without_positive_score +
        without_score + dropped by each filter + beyond_k + rows; pairs = pairs_without_score + full + short + empty.
        What is kept without a score is counted under both. Of lists the report of select().

    Raises
    ------
    MinestreamError
        UsageError, InputError, OutputError, GateMissedError: for a rule that means nothing, rows without ids, unfit
        scores, an output that exists, a missed gate.
    """
    return select(mined, out, scores=scores, negatives=negatives, by=by, missing_scores=missing_scores, **options)


def _bucketing(config: MineConfig, buckets: int, by: str) -> Callable[[Sequence[Path]], Iterator[pa.Table]]:
    """What adds the column bucket."""
    refuse(BUCKETED, config)
    if by == "loss" and config.margin is None:
        raise UsageError("--by loss: there is no loss without --margin", "give --margin, or --by similarity")
    return partial(bucketed, buckets=buckets, by=by)


def _refiltered(mined: Any, out: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """Mined rows filtered again; refuses what only lists can do."""
    given = {name: value for name, value in options.items() if value is not None and name != "progress"}
    taken = {
        "scores", "missing_scores", "negatives", "relative_margin", "absolute_margin", "max_similarity",
        "min_similarity", "reference", "require_rows", "max_short", "emit", "overwrite",
    }  # fmt: skip
    for name in given.keys() - taken:
        raise UsageError(f"--{name.replace('_', '-')} is for lists, and {mined} holds mined rows", LISTS_FIRST)
    if "negatives" not in given:
        raise UsageError("-k says how many negatives of a pair stay", "-k 7, for example")
    return refilter_rows(mined, out, **given)


def _select_lists(
    asked: Selected, tables: tuple[list[Any], Any], given: list[Table], output: Target,
    progress_callback: Callback | None,
) -> tuple[Report, Verdicts | None]:  # fmt: skip
    """Select for all anchors; the report, and the verdicts where there are some.

    tables : INPUT, and the tables beside it
    """
    mined, was, config, resources = asked[:4]
    finished = checked(output, config, resources, given, lambda: None)
    if finished is not None:
        return finished_report(output, finished, given, resources), None
    bare = asked.verdicts is None and not (
        config.swap or config.guided or any("bad" in cause for cause in _dropped(mined))
    )
    driver = Driver(config, resources, progress_callback, bare=bare)
    with driver:
        sources = driver.open(*tables)
        mining = Mining(driver, sources, output.scratch)
        refuse_another(mined, sources)
        reader = ListReader(mined, was, mining.loaded)
        scoring = None if asked.scores is None else Scoring(asked.scores, mining.loaded, config.metric)
        verdicts = None if asked.verdicts is None else Verdicts(asked.verdicts, mining.loaded, config)
        run = output.start(
            driver.held, resume=resources.resume, overwrite=resources.overwrite, config=config.to_dict(),
            fingerprint=config.fingerprint(), source=_identity(mined, sources), columns=mining.columns(),
            parts=len(mining.plan.shards), others=_checksums(mined, verdicts), read=marks_of(given),
            **_rescoring(asked, scoring),
        )  # fmt: skip
        todo = [index for index in run.indices if run.finished(index) is None]
        mining.begin(run.indices, todo)
        chooser = Chooser(asked, mining, scoring, verdicts)
        results = ((index, chooser.shard(reader, mining.slots_of(index))) for index in todo)
        write_parts(mining, results, partial(write_part, run))
        report = publish(mining, run, finish=asked.finish)
    return replace(report, notes=(*report.notes, *(scoring.notes if scoring else ()))), verdicts


def _dropped(mined: MinedOutput) -> Mapping[str, int]:
    """The rows that took no part when the lists were mined, by cause; what is not known counts as bad."""
    report = (mined.manifest or {}).get("report") or {"source": {"dropped": {"bad": 1}}}
    dropped: Mapping[str, int] = report["source"]["dropped"]
    return dropped


def _identity(mined: MinedOutput, sources: Sources) -> list[dict[str, Any]]:
    """What was mined, as the lists record it, and the guide that they do not know."""
    return [*mined.about["source"], *(entry for entry in sources.identity() if entry.get("role") == "guide")]


def _checksums(mined: MinedOutput, verdicts: Verdicts | None) -> list[dict[str, Any]]:
    """What the manifest records of the lists, of the columns that were read when they were mined, and of verdicts."""
    sums = {"rows": mined.about["rows_crc32"]} if mined.manifest is None else {
        each["name"]: each["crc32"] for each in mined.manifest["files"]
    }  # fmt: skip
    found = [*((mined.manifest or {}).get("others") or []), {"name": mined.path.name, "role": "lists", "crc32": sums}]
    return found + ([] if verdicts is None else [verdicts.about])


def _rescoring(asked: Selected, scoring: Scoring | None) -> dict[str, Any]:
    """What the output records about its scores; nothing where it has none."""
    if scoring is None or asked.scores is None:
        return {}
    names = ("negatives", "max_similarity", "min_similarity", "absolute_margin", "relative_margin", "reference")
    return {RESCORING: {
        "table": scoring.about, "missing_scores": asked.scores.missing, "before": None,
        "rule": {name: getattr(asked.config, name) for name in names}, "scores": SAY.format(by=asked.scores.text),
    }}  # fmt: skip
