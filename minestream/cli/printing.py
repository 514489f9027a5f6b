"""What the commands print, as text: what is in a file, what verify found, what two splits share."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from minestream.cli.report import ROWS_HOLD, config_rows, similar_text
from minestream.cli.tables import sections
from minestream.config.command_line import command_line
from minestream.config.metrics import METRICS
from minestream.config.resolve import OPTION_FIELDS
from minestream.config.trainer_formats import FORMATS
from minestream.mining.outcome import once, outcome_rows, rescoring_rows, rescoring_rule, source_rows
from minestream.outputs.run import default_output
from minestream.system.paths import free_name
from minestream.system.values import Row, given_of, many, size_text, value_rows, verb

# What export and refilter count, in words: where it is not 0, a label and a text.
EXPORTED = {
    "empty": ("left out", "{pair}: they have no negative left"),
    "short_drop": ("left out", "{pair}: they have fewer than {k} negatives (--short-rows drop)"),
    "same_text": ("left out", "{negative}: they have the text of their anchor or of one of its positives"),
    "short_keep": ("short", "{pair} {have} fewer than {k} negatives"),
    "short_repeat": ("short", "{pair} {have} fewer than {k} negatives: they are written again"),
    "repeated": ("repeated", "{negative}, to fill the rows of short pairs"),
    "joined": ("joined", "{anchor} {have} the negatives of several positives together"),
    "repeated_texts": ("equal texts", "{negative} {have} the text of another negative beside them"),
    "equal_rows": ("equal texts", "{row} {have} the texts of an earlier row: the same items under other ids"),
    "same_text_positives": ("equal texts", "{pair} {have} one text as anchor and as positive"),
}
UNSCORED = ("pairs_without_score", "without_positive_score", "without_score")
REFILTERED = {
    "short": ("short", "{pair} {have} fewer than {k} negatives: no more pass"),
    "pairs_without_score_keep": ("unscored", "{pair}: their positive has no score"),
    "without_positive_score_keep": ("unscored", "{mined_row}: their positive has no score"),
    "without_score_keep": ("unscored", "{mined_row}: their negative has no score; such rows stand last in their pair"),
    "empty": ("left out", "{pair}: none of their negatives passes"),
    "pairs_without_score_drop": ("left out", "{pair}: their positive has no score"),
    "without_positive_score_drop": ("left out", "{mined_row}: their positive has no score"),
    "without_score_drop": ("left out", "{mined_row}: their negative has no score"),
    "beyond_k": ("left out", "{mined_row}: they pass, but behind the {k} best of their pair"),
}
# What verify counts, likewise.
DERIVED = {
    "anchors": ("anchors", "{}, whose rows were derived again from the source"),
    "anchors_absent": (
        "  without rows",
        "{}, rightly: anchors without rows are drawn too, so that lost rows are found",
    ),
    "rows_compared": ("rows compared", "{}"),
    "recall": ("recall", "{} of the negatives that these anchors have exactly"),
    "recall_at_least": ("", "at least {} (99 %)"),
    "rows_not_checked": ("not checked", "{} that lie behind the best of their pair"),
    "partners": ("other ends", "{} of the pairs of these anchors were derived, too"),
    "pairs_not_checked": ("not checked", "{pair}: their other end was not derived"),
    "uses_of_the_most_used": ("most used", "{} times one negative"),
}


def describe_text(result: Mapping[str, Any], written: Iterable[str] = ()) -> str:
    """What `describe` found, on one screen, and the files it wrote."""
    config, report = result["config"], result.get("report", {})
    counts = report.get("stats", {}) | result["counts"]
    size = f"{many(result['files'], 'file')} of {size_text(result['bytes'])}"
    tables: dict[str, list[Row]] = {
        result["output"]: [
            ("rows", f"{result['rows']:,} in {size}, minestream {result['version']}"),
            *config_rows(config),
            *source_rows(result),
            ("labels", result["labels"]),
            ("loss", result["loss"]),
            *value_rows(given_of({"command": report.get("command")})),
        ],
        "rescoring": [*rescoring_rows(result["rescoring"])] if "rescoring" in result else [],
        "mined": [
            *value_rows({name: counts[name] for name in ("anchors", "pairs") if name in counts}),
            *([("each", similar_text(counts))] if "similar_pairs" in result["counts"] else []),
            *outcome_rows(result),
        ],
        f"quantiles, of {result['quantiles_of']}": quantile_rows(result["quantiles"]),
    }
    return sections(tables, [f"wrote {path}" for path in written])


def quantile_rows(quantiles: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """A line for each quantile, a column for each thing that was measured."""
    columns = {name: values for name, values in quantiles.items() if values}
    if not columns:
        return []
    head = "".join(f"{name:>13}" for name in columns)
    names = next(iter(columns.values()))
    return [("", head), *((q, "".join(f"{values[q]:13.6g}" for values in columns.values())) for q in names)]


def verify_text(result: Mapping[str, Any]) -> str:
    """What `verify` checked; a difference is an error and never comes here."""
    rows: list[Row] = [("checksums", f"right: {many(result['files'], 'file')}, {many(result['rows'], 'row')}")]
    told = {name: result[name] for name in DERIVED if result.get(name) or (name in result and name == "rows_compared")}
    rows += [(DERIVED[name][0], in_words(DERIVED[name][1], count)) for name, count in told.items()]
    return sections({"verify: no difference": rows}, result["notes"])


def export_text(result: Mapping[str, Any]) -> str:
    """What `export` wrote, what it left out and why."""
    counts = {**result, f"short_{result['short_rows']}": result["short"]}
    rows: list[Row] = [
        ("rows", f"{result['rows']:,}: {FORMATS[result['emit']].help}"),
        ("pairs", f"{result['pairs']:,} of anchor and positive in {result['mined']}"),
        *_counted(EXPORTED, counts, result["negatives"]),
        ("scores", result["scores"]),
    ]
    return sections({f"wrote {result['output']}": once(rows)}, result["notes"])


def refilter_text(result: Mapping[str, Any]) -> str:
    """What `refilter` wrote, what it left out and why."""
    k, missing, dropped = result["rule"]["negatives"], result["missing_scores"], result["dropped"]
    words = REFILTERED | {name: ("left out", f"{{mined_row}}: {name.replace('_', ' ')}") for name in dropped}
    counts = {**result, **dropped, **{f"{name}_{missing}": result[name] for name in UNSCORED}}
    rows: list[Row] = [
        ("triplets", f"{result['rows']:,} of {result['candidates']:,}: each is {ROWS_HOLD['triplets']}"),
        ("pairs", f"{result['pairs']:,} of {result['anchors']:,} anchors, {result['full']:,} with {k:,} negatives"),
        ("scores", f"{result['table']['rows']:,} in {result['table']['name']}"),
        ("rule", rescoring_rule(result["rule"])),
        *_counted(words, counts, k),
        ("next", shlex.join(["minestream", "describe", result["output"]])),
    ]
    return sections({f"wrote {result['output']}": once(rows)}, result["notes"])


def in_words(text: str, count: int, k: int = 0) -> str:
    """A text whose gaps say how many there are of what: {pair}, and what these {have}."""
    nouns = {noun.replace(" ", "_"): many(count, noun) for noun in ("row", "pair", "negative", "anchor", "mined row")}
    return text.format(f"{count:,}", k=f"{k:,}", have=verb(count, "have"), **nouns)


def _counted(words: Mapping[str, tuple[str, str]], counts: Mapping[str, Any], k: int) -> list[Row]:
    """The counts that are not 0, in words."""
    said = ((label, text, counts.get(name)) for name, (label, text) in words.items())
    return [(label, in_words(text, count, k)) for label, text, count in said if count]


def compare_text(result: Mapping[str, Any], validation: str, given: Mapping[str, Any]) -> str:
    """What two tables share, and how to leave it out of `validation`, with the options that were `given`."""
    shared = {name: result[name] for name in ("labels", "ids", "near_duplicates") if result[name] is not None}
    counts = {name: {key: value for key, value in part.items() if key != "examples"} for name, part in shared.items()}
    rows = {name: result[name] for name in ("train_rows", "validation_rows")}
    tables: dict[str, list[Row]] = {"compare": value_rows(rows | counts)}
    tables["distance to the nearest training row"] = value_rows(result["nearest_distance"])
    notes = [
        f"{name} of both, for example: {', '.join(map(str, result[name]['examples']))}"
        for name in ("labels", "ids")
        if result[name] and result[name]["examples"]
    ] + result["notes"]
    near, leaks = result["near_duplicates"], result.get("output")
    if near["near"]:
        count = f"{near['near']:,} of {result['validation_rows']:,} validation rows"
        notes.append(f"{count} lie within {near['within']:g} of a training row: they make a model look too good")
        listed = "" if leaks else "-o leaks.parquet lists them, then "
        usual, out = default_output(validation, "triplets"), None
        command = "mine" if METRICS[given.get("metric", "cosine")].default_margin else "profile"  # which finds one
        if command == "mine" and usual.exists():
            out = free_name(usual.name.removesuffix(".triplets.parquet") + ".clean", ".triplets.parquet")
        kept = {name: value for name, value in given.items() if name in OPTION_FIELDS}
        again = command_line(command, validation, out, {**kept, "exclude_rows": leaks or "leaks.parquet"})
        notes.append(f"next: {listed}{again}")
    return sections(tables, notes)
