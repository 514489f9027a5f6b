"""The HTML pages of a profile and of a mined output, each one self-contained file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from minestream.config.border import public
from minestream.errors import SPEAKS_OPTIONS, OutputError
from minestream.inputs.given import Given
from minestream.insight.describe import MEASURED, describe, flat, row_groups
from minestream.insight.html import (
    Card,
    Estimate,
    bars,
    cards,
    code,
    curves,
    escaped,
    folded,
    histogram,
    note,
    page,
    share,
    table,
    tiles,
    two,
    values,
)
from minestream.insight.levels import level_text
from minestream.insight.neighbors import LEAST_VOTES, MOST_SCORE, SURE, K
from minestream.insight.sight import Sight
from minestream.mining.outcome import columns_rows, outcome_rows, rescoring_rows, source_rows
from minestream.outputs.foreign import is_titled
from minestream.outputs.mined import MinedOutput, mined_output
from minestream.outputs.single_file import ending_in, publishing
from minestream.system.paths import text_of
from minestream.system.progress import short_number
from minestream.system.values import given_of, many, size_text, verb

SHOWN_ROWS, FOLDED_ROWS = 20, 200  # suspects on the page, and with those that unfold
SHOWN_LABELS, FOLDED_LABELS = 20, 100
SHOWN_HUBS, SHOWN_PAIRS = 6, 6
BINS = 100
QUANTILES = {"min": "least", "5%": "5%", "median": "median", "95%": "95%", "max": "most"}
NEAREST = {
    "nearest_positive": "nearest of its label", "nearest_negative": "nearest of another label", "norms": "norm",
}  # fmt: skip
# The columns and lines of the margins: shares.
LINES = {
    "semi-hard": "semi_hard_fraction", "active": "active_fraction", "served": "served_fraction",
    "in reach": "active_pairs_fraction",
}  # fmt: skip
MARGIN_COLUMNS = {
    "active": "triplets that are hard or semi-hard", "in reach": "negatives nearer than the margin",
    "served": "anchors with a positive whose nearest one, passing over equal ones, has a semi-hard negative",
}  # fmt: skip
SUSPICION = (
    f"Of the {K} rows nearest to each of these at least {LEAST_VOTES:.0%} are of one other label and at most "
    f"{MOST_SCORE:.0%} of its own, which is not the nearer one either; the most doubtful come first. "
)
EXPECTED = (
    "Suspicion is the share of wrong labels among rows at least so doubtful where 2% of the labels of real sets were "
    f"swapped. Sets differ: {SURE}, the fewer the more the labels overlap. Look before you leave rows out."
)
DISTANCES = {
    "cosine": "cosine distance", "euclidean": "Euclidean distance", "sqeuclidean": "squared Euclidean distance",
    "dot": "distance by dot product",
}  # fmt: skip
FUNNEL = {
    "anchors": "anchors", "pairs": "pairs with a positive", "full": "all negatives found", "short": "fewer negatives",
    "empty": "no negative", "fallbacks": "farthest taken", "rows": "rows written",
}  # fmt: skip
# Charts of what was mined: columns that are drawn together, by what each is.
CHARTS: dict[str, dict[str, str]] = {
    "distance": {"distance_ap": "to the positive", "distance_an": "to the negative", "distance_pn": "between both",
                 "distance": "of the pair"},
    "similarity": {"score_ap": "to the positive", "score_an": "to the negative", "score": "of the pair",
                   "scores": "to positives and negatives"},
    "loss": {"loss": "of the row", "losses": "of the negative"},
}  # fmt: skip
MEASURES = {
    f"{kind} {meaning}": name for kind, names in CHARTS.items() for name, meaning in names.items() if name in MEASURED
}


def rows_shown(found: Mapping[str, Any], tables: Mapping[str, pa.Table]) -> list[int]:
    """The rows of the source that the page of a profile shows; those that unfold come last."""
    suspects, pairs = tables["suspects"]["row"].to_pylist(), tables["duplicates"].slice(0, SHOWN_PAIRS)
    sides, hubs = [*pairs["left_row"].to_pylist(), *pairs["right_row"].to_pylist()], found["hubs"]["top"]
    return [*suspects[:SHOWN_ROWS], *(row["row"] for row in hubs), *sides, *suspects[SHOWN_ROWS:FOLDED_ROWS]]


def profile_page(
    found: Mapping[str, Any], tables: Mapping[str, pa.Table], sight: Sight, made_by: str | None, following: str | None
) -> str:
    """The page of a profile.

    tables : suspects and duplicates, as they are written
    made_by, following : the command that made the profile, and the next one; None where no command line can say it
    """
    histograms = found["histograms"]
    names = ", ".join(file["name"] for file in found["source"]["identity"][:3])
    sections = {
        "Distances": two(
            histogram(
                "distances of positive and negative pairs", _unit(found), histograms["edges"],
                {
                    f"{kind} pairs": _shares(histograms[kind], histograms.get(f"{kind}_share_95"))
                    for kind in ("positive", "negative")
                },
            ),
            table(
                ["", *QUANTILES.values()],
                [[what, *((found[name] or {}).get(q) for q in QUANTILES)] for name, what in NEAREST.items()],
            )
            + note(f"The chart: {found['counted']['how'].replace(' %', '%')}. The table: of all rows."),
        ),
        "Margins": _margins(found) if found["triplets"] else "",
        "Labels": _labels(found),
        "Hubs": _hubs(found, sight),
        "Suspects": _suspects(found, tables["suspects"].slice(0, FOLDED_ROWS).to_pylist(), sight),
        "Duplicates across labels": duplicates_note(found["duplicates"], SHOWN_PAIRS)
        + _duplicates(tables["duplicates"].slice(0, SHOWN_PAIRS).to_pylist(), sight),
    }  # fmt: skip
    lead = _recommended(found, following) + _figures(found)
    return page(f"Profile of {names}", lead, sections, foot(found["version"], made_by))


def _recommended(found: Mapping[str, Any], following: str | None) -> str:
    chosen = found["recommended"]
    head, why = f"Recommended: margin {chosen['margin']:.12g}, {chosen['band']} negatives", chosen["reason"]
    why = f"In {_unit(found)}, with the {chosen['positives']} positives: {why}."
    if not found["triplets"]:
        head, why = "Nothing to mine", "No row that takes part has both a positive and a negative."
    following = note("Next:") + code(following) if following else ""
    return f'<div class="box"><div class="big">{escaped(head)}</div><p>{escaped(why)}</p>{following}</div>'


def foot(version: str, command: str | None) -> str:
    """The end of a page: what made it."""
    return f"minestream {escaped(version)}{code(command) if command else ''}"


def _unit(found: Mapping[str, Any]) -> str:
    """What margins are measured in."""
    metric, normalize = found["config"]["metric"], found["config"]["normalize"]
    return DISTANCES[metric] + (" of unit rows" if normalize and metric != "cosine" else "")


def _shares(counts: Sequence[int], halves: Sequence[float | None] | None = None) -> list[Estimate]:
    every = max(1, sum(counts))
    return [(count / every, half) for count, half in zip(counts, halves or [None] * len(counts), strict=True)]


def _figures(found: Mapping[str, Any]) -> str:
    source, half = found["source"], found.get("map_at_r_95")
    precision = "MAP@R" if half is None or found["map_at_r"] is None else f"MAP@R ± {half:.1%}"
    figures = {
        f"rows of {source['dimension']} values": found["rows"], "labels": found["labels"],
        "recall@1": share(found["recall_at"]["1"]), "recall@10": share(found["recall_at"]["10"]),
        precision: share(found["map_at_r"]),
        "overlap of distances": share(found["histograms"]["overlap"]),
        "positive pairs": short_number(found["positive_pairs"]),
        "negative pairs": short_number(found["negative_pairs"]),
        **{name.replace("_", " "): found[name] for name in ("rows_without_positive", "zero_rows") if found[name]},
        **{f"left out: {cause}": count for cause, count in source["dropped"].items() if count},
    }  # fmt: skip
    columns = [f"Columns: {text}." for _, text, *_ in columns_rows(found["columns"])]
    return tiles(figures) + "".join(map(note, [*columns, *found["notes"]]))


def _margins(found: Mapping[str, Any]) -> str:
    """Chart and table of the margins: shares with their intervals, and margins in another unit where there is one."""
    margins, chosen = found["margins"], found["recommended"]["margin"]
    best = next(entry for entry in margins if entry["margin"] == chosen)
    units = {"cosine": "cosine", "squared_euclidean_of_unit_rows": "squared Euclid"}
    other = [name for name in units if best.get(name, best["margin"]) != best["margin"]]

    def cell(entry: Mapping[str, Any], name: str) -> object:
        half = entry.get(f"{name}_95")
        return share(entry[name]) if half is None or entry[name] is None else (share(entry[name]), f"± {share(half)}")

    rows = [
        [f"{entry['margin']:.12g}", *(f"{entry[name]:.6g}" for name in other)]
        + [cell(entry, name) for name in LINES.values()]
        + [None if entry["mean_loss"] is None else f"{entry['mean_loss']:.3g}"]
        for entry in margins
    ]
    heads = ["margin", *(units[name] for name in other), *LINES, "mean loss"]
    chart = curves(
        "shares by margin", f"margin ({_unit(found)}, log scale)", [entry["margin"] for entry in margins],
        {name: [(entry[field], entry.get(f"{field}_95")) for entry in margins] for name, field in LINES.items()},
        (chosen, f"recommended {chosen:.4g}"),
    )  # fmt: skip
    hard, active = best["hard_fraction"], best["active_fraction"]
    triplets = (
        bars({"hard": hard, "semi-hard": active - hard, "easy": 1 - active}, share)
        + note(f"Triplets at margin {chosen:.12g}; there are {short_number(found['triplets'])} in all.")
        + note(" ".join(f"{name.capitalize()}: {what}." for name, what in MARGIN_COLUMNS.items()))
    )
    return two(chart, triplets) + table(heads, rows, margins.index(best))


def _labels(found: Mapping[str, Any]) -> str:
    heads, labels = ["label", "rows", "recall@1", "mean nearest positive"], found["per_label"]
    levels = table(["level", "values", ""], [*map(level_text, found["levels"])]) if len(found["levels"]) > 1 else ""
    rows = [
        [each.get("name", str(each["label"])), each["rows"], share(each["recall_at_1"]), each["mean_nearest_positive"]]
        for each in labels["table"][:FOLDED_LABELS]
    ]
    half, more = (min(len(rows), SHOWN_LABELS) + 1) // 2, len(rows) - SHOWN_LABELS
    shown = two(table(heads, rows[:half]), table(heads, rows[half:SHOWN_LABELS]) if len(rows) > 1 else "")
    rest = folded(f"{more:,} more labels", table(heads, rows[SHOWN_LABELS:])) if more > 0 else ""
    part = _part(len(rows), labels["labels"], labels["listed"], "labels", "profile.json")
    return note(f"{many(labels['labels'], 'label')}, the worst recall@1 first.{part}") + levels + shown + rest


def _hubs(found: Mapping[str, Any], sight: Sight) -> str:
    hubs = found["hubs"]

    def card(row: Mapping[str, Any]) -> Card:
        return _card(sight, row, sight.label(row["label"]), f"nearest negative of {many(row['uses'], 'row')}")

    return note(
        f"Never the nearest negative of another row: {many(hubs['never_used_rows'], 'row')}; those below are it most "
        f"often (skew {hubs['skew']:.3g})."
    ) + _some([card(row) for row in hubs["top"]], SHOWN_HUBS, "hubs")


def _suspects(found: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], sight: Sight) -> str:
    every, plain = found["suspects"], [row for row in rows if row["suspicion"] is None]
    above = {name.rpartition("_")[2]: count for name, count in every.items() if name.startswith("rows_above_")}
    counts = ", ".join(f"{count:,} of suspicion {cut} and above" for cut, count in above.items() if count)
    least = every.get("listed_above")
    told = many(every["rows"], "row") + (f": {counts}." if counts else ".")
    if least is not None:
        counts = f" In all there are {counts}." if counts else ""
        listed = f"{verb(every['rows'], 'are')} listed.{counts}"
        told = f"{many(every['rows'], 'row')} of suspicion {least:g} and above {listed}"

    hidden = f"{many(sight.missing, 'picture')} {verb(sight.missing, 'are')}"

    def card(row: Mapping[str, Any]) -> Card:
        own, other = sight.label(row["given_label"]), sight.label(row["predicted_label"])
        votes = f"of its neighbours {row['label_score']:.0%} share its label, {row['predicted_share']:.0%} the other"
        doubt = "" if row["suspicion"] is None else f"suspicion {row['suspicion']:.2f}; "
        return _card(sight, row, f"{own} → {other}?", doubt + votes)

    return (
        note(told + _part(len(rows), every["rows"], every["rows"], "suspects", "suspects.parquet"))
        + note(SUSPICION + ("" if plain else EXPECTED))
        + _some([card(row) for row in rows], SHOWN_ROWS, "suspects")
        + (note(f"{hidden} not shown: no PNG or JPEG, or too large.") if sight.missing else "")
    )


def _part(shown: int, every: int, listed: int, what: str, file: str) -> str:
    """How many the page shows, and where there are more; empty where it shows all."""
    place = f"{'all' if listed == every else f'the first {listed:,}'} are in {file}"
    return f" {shown:,} of {every:,} {what} are shown; {place}." if shown < every else ""


def duplicates_note(counts: Mapping[str, Any], shown: int) -> str:
    """How many rows are equal or nearly so, under different labels."""
    if not counts["pairs"]:
        return note("No rows of different labels are equal, or nearly so.")
    near = counts["near_distance"]
    within = "" if near is None else f", the others nearer than {near:.3g}"
    return note(
        f"Duplicates are {many(counts['pairs'], 'pair')} of rows of different labels: {counts['exact_pairs']:,} of "
        f"them equal{within}."
        + _part(min(shown, counts["listed"]), counts["pairs"], counts["listed"], "pairs", "duplicates.parquet")
    )


def _duplicates(pairs: Sequence[Mapping[str, Any]], sight: Sight) -> str:
    """The first pairs, each as a card."""
    shown = []
    for pair in pairs:
        sides = [
            {name.removeprefix(side): value for name, value in pair.items() if name.startswith(side)}
            for side in ("left_", "right_")
        ]
        texts = dict.fromkeys(filter(None, (sight.texts.get(side["row"], "") for side in sides)))
        what = "equal" if pair["exact"] else f"distance {pair['distance']:.3g}"
        shown.append(Card(
            " | ".join(sight.label(side["label"]) for side in sides), " and ".join(map(_name, sides)), what,
            " | ".join(texts), sight.pictures.get(sides[0]["row"], ""),
        ))  # fmt: skip
    return cards(shown) if shown else ""


def _card(sight: Sight, row: Mapping[str, Any], title: str, remark: str) -> Card:
    at = row["row"]
    return Card(title, _name(row), remark, sight.texts.get(at, ""), sight.pictures.get(at, ""))


def _name(row: Mapping[str, Any]) -> str:
    """A row by its id, else by its number."""
    return f"id {row['id']}" if "id" in row else f"row {row['row']}"


def _some(shown: list[Card], most: int, what: str) -> str:
    """The first cards; the rest unfold."""
    rest = shown[most:]
    return (cards(shown[:most]) if shown else "") + (folded(f"{len(rest):,} more {what}", cards(rest)) if rest else "")


def describe_page(mined: str | os.PathLike[str]) -> str:
    """The page of a mined output: losses, distances, how it was mined, funnel."""
    found, output = describe(mined), mined_output(mined)
    spreads = {name: spread for name, spread in found["quantiles"].items() if spread}
    config, counts = found["config"], {name: found["counts"].get(name) for name in FUNNEL}
    chosen = ("emit", "metric", "margin", "band", "negatives", "pick", "positives", "seed")
    means = {
        "mean loss": found.get("mean_loss"), "mean if above 0": found.get("mean_active_loss"),
        "losses above 0": None if found.get("active_fraction") is None else share(found["active_fraction"]),
    }  # fmt: skip
    figures = {
        "rows": found["rows"], "size": size_text(found["bytes"]),
        "rows read": sum(each["rows"] for each in found["source"]), **given_of(means),
    }  # fmt: skip
    rule, loss = (f"{text[:1].upper()}{text[1:]}." for text in (found["labels"], _in_words(found["loss"])))
    lead = f'<div class="box"><p>{escaped(rule)}</p><p>{escaped(loss)}</p></div>' + tiles(figures)
    sections = {
        "Distances": two(*_charts(output, spreads, config["metric"]))
        + table(
            ["", *QUANTILES.values()],
            [[what, *(spreads[name][q] for q in QUANTILES)] for what, name in MEASURES.items() if name in spreads],
        )
        + note(f"Quantiles of {found['quantiles_of']}."),
        "How it was mined": two(
            values({name: config[name] for name in chosen if config.get(name) is not None}),
            bars({FUNNEL[name]: count for name, count in counts.items() if count}),
        )
        + values([*source_rows(found), *outcome_rows(found)]),
        **({"Rescoring": values([*rescoring_rows(found["rescoring"])])} if "rescoring" in found else {}),
    }
    command = found.get("report", {}).get("command")
    return page(_title(output), lead, sections, foot(found["version"], command))


def _title(output: MinedOutput) -> str:
    """The title of the page of a mined output."""
    return f"Mined: {output.path.name}"


def _in_words(text: str) -> str:
    """A text that says what columns of distances and scores hold instead of their names."""
    for what, name in MEASURES.items():
        text = text.replace(name, what) if "_" in name else text
    return text


def _charts(output: Any, spreads: Mapping[str, Mapping[str, float]], metric: str) -> list[str]:
    """A histogram for each kind of measure, from one pass over the rows."""
    drawn = {kind: [name for name in names if name in spreads] for kind, names in CHARTS.items()}
    drawn = {kind: names for kind, names in drawn.items() if names}
    edges = {}
    for kind, names in drawn.items():
        low, high = min(spreads[name]["min"] for name in names), max(spreads[name]["max"] for name in names)
        edges[kind] = np.linspace(low, max(high, low + 1e-3 * (abs(low) or 1.0)), BINS + 1)
    bins = {name: np.zeros(BINS, np.int64) for names in drawn.values() for name in names}
    for group in row_groups(output, list(bins)):
        for kind, names in drawn.items():
            for name in names:
                bins[name] += np.histogram(flat(group.column(name)), edges[kind])[0]
    return [
        histogram(
            kind, DISTANCES[metric].replace("distance", kind), edges[kind].tolist(),
            {CHARTS[kind][name]: _shares(bins[name].tolist()) for name in names},
        )
        for kind, names in drawn.items()
    ]  # fmt: skip


@public()
def describe_html(mined: str | os.PathLike[str], out: str | os.PathLike[str], *, overwrite: bool = True) -> str:
    """Write the page of a mined output to `out`, and return its path; a page of this output is replaced.

    Raises
    ------
    InputError, UsageError, OutputError
        When there is no mined output; when `out` does not end in .html, is another page, or cannot be written.
    """
    option = "--html" if SPEAKS_OPTIONS.get() else "-o"  # `out` of this function
    place, output = ending_in(".html", out, "describe", f"{option} "), mined_output(mined)
    with publishing(place, overwrite, [Given("OUT", text_of(output.path))]) as draft:
        if place.exists() and not is_titled(place, escaped(_title(output))):
            raise OutputError(f"{place} exists, and is the page of something else", f"choose another {option}")
        draft.path.write_text(describe_page(mined), encoding="utf-8")
    return str(place)
