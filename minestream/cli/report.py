"""The report of a run: what was written, how hard it is, what was left out and why, how long it took.

Eight lines or so that a newcomer understands; with --verbose also the options that decided it, the search, the stages.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from typing import Any

from minestream.cli.tables import sections
from minestream.config.memory_plan import LIBRARY_BYTES
from minestream.config.mine_config import MineConfig
from minestream.config.option import flag_of
from minestream.config.parse import PIPE
from minestream.config.resolve import resolved
from minestream.config.rules import BANDS, EMITS, PRESETS, TEACHERS
from minestream.mining.outcome import columns_rows, hardness_rows, left_out_rows, listed_rows, once, recall_rows
from minestream.system.progress import short_number, short_time
from minestream.system.recall import recall_facts
from minestream.system.stats import WAITED, Report
from minestream.system.values import Row, many, size_text, value_rows

CHOICES = (
    "preset", "emit", "metric", "margin", "band", "negatives", "pick", "positives", "max_similarity", "min_similarity",
    "absolute_margin", "relative_margin", "seed", "window",
)  # fmt: skip
ROWS_HOLD = {
    "triplets": "an anchor, a positive and a negative",
    "tuples": "an anchor, a positive and the list of its negatives",
    "pairs": "two rows, similar or dissimilar",
    "lists": "an anchor with its positives and its nearest candidates",
}


def similar_text(counts: Mapping[str, Any]) -> str:
    """How many of the pairs are of two similar rows, and how many of two dissimilar ones."""
    similar = counts["similar_pairs"]
    return f"two rows, similar ({similar:,}) or dissimilar ({counts['rows'] - similar:,})"


POSITIVES = {
    "easiest": "the nearest of each anchor (--positives random --positives-per-anchor 4 draws them as a batch does)",
    "hardest": "the farthest of each anchor",
    "random": "drawn at random",
    "all": "all of each anchor",
}
PICKS = {"nearest": "the nearest", "random": "at random", "weighted": "by distance weighting",
         "simans": "around the positive's similarity"}  # fmt: skip
REFERENCES = {
    "pair": "the pair's positive", "min": "the anchor's farthest positive", "max": "the anchor's nearest positive",
    "mean": "the mean of the anchor's positives",
}  # fmt: skip
# What options beside the band say of the rows; {reference} is what margins are measured from.
RULES = {
    "epsilon": "similar pairs less than this above the nearest negative, others less below the farthest positive",
    "positive_margin": "similar pairs farther apart than this only",
    "drop_duplicates_within": "no negative lies within this of {duplicates_of}",
    "min_positive_similarity": "similarity of a positive to the anchor at least this",
    "max_positive_similarity": "similarity of a positive to the anchor at most this",
    "max_positive_rank": "fewer of the anchor's negatives than this are nearer than a positive",
    "max_similarity": "similarity to the anchor at most this",
    "min_similarity": "similarity to the anchor at least this",
    "absolute_margin": "similarity to the anchor at most that of {reference}, minus this",
    "relative_margin": "less similar to the anchor than {reference}, by {percent:g} % of it or more",
    "guide": "the similarities of this column pass the same filters",
    "negatives_at": "negatives share the anchor's value of this level of its label, and differ in the finest",
    "skip": "so many of the nearest that pass are left out",
    "within_top": "so many of the nearest that pass may be picked",
    "simans_a": "how narrowly they are drawn",
    "simans_b": "so much more similar than the positive are the likeliest",
    "max_per_negative_label": "a pair has no more of one label",
    "max_uses": "no row is a negative more often in the whole run",
    "negatives_per_anchor": "no anchor has more rows",
}
UNSAID = ("skip", "drop_duplicates_within", "simans_b")  # where they are 0
DUPLICATES_OF = {"both": "its anchor or its positive", "positive": "its positive", "anchor": "its anchor"}
STAGES = {
    "read": "reading",
    WAITED: "  waiting for input",
    "positives": "finding positives",
    "measuring": "finding cells, and exactly what recall is measured by",
    "negatives": "finding negatives",
    "sweep": "finding negatives: screening all distances",
    "refine": "finding negatives: exact distances of what the screen lets through",
    "rows": "making rows",
}
# Numbers of a plan: what they are called, and what is said beside them.
PLANNED = {
    "pairs to compute": ("distances to compute", ": of each anchor to every candidate, and once more to its positives"),
    "shards": ("parts", ": each is kept for --resume once it is finished"),
    "shards together": (
        "parts mined together",
        ": and so finished, at most; a smaller --memory keeps the first sooner",
    ),
    "rows at most": ("rows written, at most", ""),
    "vectors bytes": ("vectors", ""),
    "memory bytes": ("--memory", ": the sizes below are shares of it, at most"),
    "enough bytes": ("memory, enough", ": as --memory, with vectors and codes in scratch where they do not fit"),
    "projected seconds": ("time, about", ""),
}
SCREENS = {"i8": "int8", "i16": "int16", "f32": "float32", "scan": "none: every distance is exact"}


def report_text(report: Report, verbose: bool = False) -> str:
    """The closing report; `verbose` adds the options that decided it, the search and the seconds of each stage."""
    if report.back is not None:  # of --both-directions
        return "\n\n".join(report_text(each, verbose) for each in (replace(report, back=None), report.back))
    if report.already:
        return sections(notes=[f"already complete: {report.output}", *report.notes])
    tables = {f"wrote {report.output}" if _in_a_file(report) else "mined": once(_outcome(report))}
    if verbose:
        tables["options"] = config_rows(report.config)
        tables["search"] = list(_search_rows(report))
        tables["seconds"] = [
            (STAGES.get(name, name), f"{spent:,.2f}") for name, spent in sorted(report.stats.seconds.items())
        ]
    return sections(tables, report.notes)


def plan_text(report: Report) -> str:
    """The plan of a dry run."""
    plan, source = dict(report.plan), report.source
    memory = [(each["what"], size_text(each["bytes"]), each["when"]) for each in plan.pop("memory", ())]
    projected: list[Row] = [
        (f"{each['way']}, on {many(each['cores'], 'core')}", f"about {short_time(each['seconds'])}",
         f"--memory {size_text(each['enough_bytes'])} is enough; scratch {size_text(each['scratch_bytes'])}")
        for each in plan.pop("projections", ())
    ]  # fmt: skip
    plan.pop("rows", None)  # those that take part
    if plan.get("shards_together") == 1:
        del plan["shards_together"]
    if "screen" in plan:
        plan["screen"] = SCREENS[plan["screen"]] + ": finds what may count, exact distances decide" * (
            plan["screen"] != "scan"
        )
    planned = ((*PLANNED.get(name, (name, "")), value) for name, value, *_ in value_rows(plan))
    rows = {"rows read": source["rows"], **_of_each(source), "rows that take part": source["rows_taking_part"]}
    tables: dict[str, list[Row]] = {
        "plan (nothing was mined)": once(
            [
                *value_rows(rows),
                *listed_rows(source),
                *left_out_rows(source, {}, report.config, report.columns),
                *((name, f"{value}{more}") for name, more, value in planned),
            ]
        )
    }
    if memory:
        tables[f"memory: what takes how much, at most, of {size_text(report.plan['memory_bytes'])}"] = [
            *memory, ("beside it Python and its libraries", f"about {size_text(LIBRARY_BYTES)}", "always")
        ]  # fmt: skip
    if len(projected) > 1:
        tables["how long it would take, by a model"] = projected
    return sections(tables | {"configuration": config_rows(report.config)}, report.notes)


def _outcome(report: Report) -> Iterator[Row]:
    stats, config, source = report.stats.with_means(), report.config, report.source
    emit, preset = config["emit"], config["preset"]
    held = ROWS_HOLD[emit] if emit != "pairs" or not stats["rows"] else similar_text(stats)
    yield emit, f"{stats['rows']:,}: each is {held}"
    if stats["anchors"] and not stats["rows"]:
        rules = [f"--band {config['band']}"] if config["band"] != "any" else []
        rules += [text.partition(": ")[0] for _, text, *_ in rule_rows(config)]
        rules += ["--short-rows drop"] if stats["short"] else []
        wanted = "pair" if emit == "pairs" else "negative" if stats["pairs"] else "positive"
        if not stats["pairs"] and stats["undecided"]:
            yield "no rows", "no list reaches as far as the rule"
        else:
            yield "no rows", f"no {wanted} passes {' and '.join(rules) or 'the rules'}"
    of = many(source["rows"], "row")
    if "corpus" in source:
        of = f"{many(source['queries'], 'query')}, in a corpus of {many(source['corpus'], 'row')}"
    yield "anchors", f"{stats['anchors']:,} of {of}, each {source['dimension']} values of {source['dtype']}"
    yield from columns_rows(report.columns)
    yield from listed_rows(source)
    yield from left_out_rows(source, stats, config, report.columns)
    if preset:
        named = value_rows({name: config[name] for name in PRESETS[preset].options})
        yield "preset", f"{preset}: {', '.join(f'{name} {value}' for name, value, *_ in named)}"
    if emit != "pairs":
        pairs = f": {many(stats['pairs'], 'pair')}" if stats["pairs"] != stats["anchors"] else ""
        yield "positives", f"{POSITIVES[config['positives']]}{pairs}"
    yield "negatives", negatives_text(config)
    if report.columns.get("others") or (config["listed_candidates"] and config["candidates_as"] == "too"):
        yield "teachers", _teachers_text(report)
    yield from rule_rows(config)
    yield from recall_rows(recall_facts(stats["recalls"]))
    yield from hardness_rows(stats, config)
    yield "time", short_time(report.seconds)
    yield from latency_rows(report.plan)
    if _in_a_file(report):
        from minestream.mining.slices import after_slice  # not loaded for --help

        yield "next", after_slice(report) or shlex.join(["minestream", "describe", report.output or ""])


def _in_a_file(report: Report) -> bool:
    """Whether the rows were written to a file or folder, not to standard output or to nowhere."""
    return report.output not in (None, PIPE)


def _of_each(source: Mapping[str, Any]) -> dict[str, int]:
    """The rows of each table, where there are two."""
    return {f"rows of the {name}": source[name] for name in ("queries", "corpus") if name in source}


def rule_rows(config: Mapping[str, Any]) -> Iterator[Row]:
    """The rules beside the band, one line each."""
    gaps = {
        "percent": 100 * (config["relative_margin"] or 0), "reference": REFERENCES[config["reference"]],
        "duplicates_of": DUPLICATES_OF["anchor" if config["emit"] == "pairs" else config["drop_duplicates_of"]],
    }  # fmt: skip
    for name, text in RULES.items():
        said = config["pick"] == "simans" or not name.startswith("simans")
        if config[name] is not None and said and (config[name] or name not in UNSAID):
            yield "rules", f"{flag_of(name)} {config[name]}: {text.format(**gaps)}"


def _teachers_text(report: Report) -> str:
    """Who finds the negatives, and which of them are taken."""
    config, columns = report.config, report.columns
    lists = ["candidates"] * (config["listed_candidates"] and config["candidates_as"] == "too")
    names = ", ".join([columns["embedding"], *columns.get("others", []), *lists])
    return f"{names}: of each {config['negatives']:,} a pair, {config['teachers']}: {TEACHERS[config['teachers']].help}"


def negatives_text(config: Mapping[str, Any]) -> str:
    """Which negatives were wanted."""
    band, margin, k = BANDS[config["band"]], config["margin"], config["negatives"]
    within = f", {margin:g} in {config['metric']} distance" if band.needs_margin and margin is not None else ""
    how_many = f"{PICKS[config['pick']]} {k:,}" if k else "all of them"
    what = band.help if config["emit"] == "pairs" else band.help.partition(" (pairs:")[0]
    return f"{config['band']}, {how_many}: {what}{within}"


def _search_rows(report: Report) -> Iterator[Row]:
    """How the negatives were found: what depends on the machine, never on the rows."""
    effort, anchors = report.effort, max(report.stats.anchors, 1)
    if "screen" in effort:
        yield "screen", ", ".join(SCREENS.get(name, name) for name in effort["screen"].split(", "))
    if "pairs_computed" in effort:
        rate = short_number(effort["pairs_computed"] / max(report.seconds, 1e-9))
        yield "distances computed", f"{effort['pairs_computed']:,}, {rate} a second"
        yield "rows that pass the screen", f"{effort['survivors'] / anchors:,.1f} an anchor"
        yield "rows checked exactly", f"{effort['exact_distances'] / anchors:,.1f} an anchor"
    if duplicates := effort.get("duplicates"):
        near = ", and not those near the anchor" * bool(report.config["drop_duplicates_within"])  # cut as a distance
        yield "duplicates dropped", f"{duplicates:,}: of the candidates looked at, which are not all{near}"
    yield from value_rows({name: effort[name] for name in ("threads", "memory_bytes", "vectors_in") if name in effort})


def config_rows(config: Mapping[str, Any]) -> list[Row]:
    """The choices that decide most, the margin in other units, and in one line the others that are no defaults."""
    rows = value_rows({name: config[name] for name in CHOICES if config.get(name) is not None})
    defaults = resolved(MineConfig(emit=config["emit"] if config["emit"] in EMITS else "triplets")).to_dict()
    shown = {*CHOICES, "loss", *(spec.name for spec in fields(MineConfig) if spec.metadata["kind"] == "derived")}
    changed = {name: value for name, value in config.items() if name not in shown and value != defaults.get(name)}
    others = ", ".join(f"{name} {value}" for name, value, *_ in value_rows(changed))
    return [
        *((name, f"{value}{margin_equivalent(config)}" if name == "margin" else value) for name, value, *_ in rows),
        *([("others", others)] if others else []),
    ]


def margin_equivalent(config: Mapping[str, Any]) -> str:
    """The margin in another metric, where a factor converts it: on unit rows, and never for euclidean."""
    margin, metric, unit = config["margin"], config["metric"], config["normalize"]
    if metric == "cosine":
        return f" = {2 * margin:g} in squared Euclidean distance of unit rows"
    if unit and metric in ("sqeuclidean", "dot"):
        return f" = {margin / 2 if metric == 'sqeuclidean' else margin:g} in cosine distance"
    return " in squared units" if metric == "sqeuclidean" else ""


def latency_rows(plan: Mapping[str, Any]) -> list[Row]:
    """How long the batches of a stream took; none where there was no stream."""
    if "batches" not in plan:
        return []
    median, late, most = (f"{1e3 * plan[f'latency_{name}_seconds']:,.1f} ms" for name in ("median", "p99", "max"))
    if plan["batches"] == 1:
        return [("batches", f"1: {most}")]
    return [("batches", f"{plan['batches']:,}: {median} each (median), 99 % within {late}, all within {most}")]
