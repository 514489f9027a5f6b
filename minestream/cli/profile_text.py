"""The text that `profile` prints."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from minestream.cli.printing import quantile_rows
from minestream.cli.tables import sections
from minestream.mining.outcome import columns_rows
from minestream.system.progress import short_number
from minestream.system.values import Row, many

HEADS = {"hard": "hard", "semi_hard": "semi-hard", "easy": "easy"}
SHARES = ("active_fraction", "active_pairs_fraction", "served_fraction")
SHOWN = 5
ABOVE = "rows_above_"


def profile_text(profile: Mapping[str, Any], following: str | None = None) -> str:
    """A profile on one screen or two; `following` is the next command."""
    source, histograms, recall, hubs = profile["source"], profile["histograms"], profile["recall_at"], profile["hubs"]
    chosen, twins = profile["recommended"], profile["duplicates"]
    ratio, cut = profile["negatives_per_positive"], profile["suspects"].get("listed_above")
    rows: list[Row] = [
        ("rows that take part", f"{profile['rows']:,}", f"of {source['rows']:,}, {source['dimension']} values"),
        *((name, "", text) for name, text, *_ in columns_rows(profile["columns"])),
        *((f"  dropped: {cause}", f"{count:,}") for cause, count in source["dropped"].items()),
        ("labels", f"{profile['labels']:,}", f"{many(profile['rows_without_positive'], 'row')} without a positive"),
        ("positive pairs", f"{profile['positive_pairs']:,}"),
        ("negative pairs", f"{profile['negative_pairs']:,}", "" if ratio is None else f"{ratio:,.1f} to one positive"),
        ("zero rows", f"{profile['zero_rows']:,}"),
    ]
    if len(profile["levels"]) > 1:
        from minestream.insight.levels import level_text  # not loaded for --help

        rows += [(f"  level {name}", values, said) for name, values, said in map(level_text, profile["levels"])]
    retrieval: list[Row] = [(f"recall@{k}", _share(value), "all rows") for k, value in recall.items()]
    retrieval.append(("MAP@R", _share(profile["map_at_r"]) + _interval(profile, "map_at_r")))
    retrieval.append(("overlap of the histograms", _share(histograms["overlap"])))
    spreads = {kind: profile[f"nearest_{kind}"] or {} for kind in ("positive", "negative")}
    tables: dict[str, list[Row]] = {
        f"profile, {profile['config']['metric']} distance": rows,
        "retrieval": retrieval,
        "nearest of each row": quantile_rows(spreads | {"norm": profile["norms"] or {}}),
        f"margins: {profile['counted']['how']}": margin_rows(profile),
        "recommended": [("margin", f"{chosen['margin']:.12g}"), ("why", chosen["reason"])]
        if profile["triplets"] else [("nothing", "no row that takes part has both a positive and a negative")],
        "hubs": [
            ("most often a nearest negative", f"{hubs['max']:,} times", f"skew {hubs['skew']:.3g}"),
            ("rows that never are", f"{hubs['never_used_rows']:,}"),
        ],
        "worst labels by recall@1": [
            (each.get("name", str(each["label"])), _share(each["recall_at_1"]), many(each["rows"], "row"))
            for each in profile["per_label"]["table"][:SHOWN]
        ],
        "suspects": [
            ("rows", f"{profile['suspects']['rows']:,}", f"{_above(cut)}whose neighbours say another label: "
             "minestream help hygiene"),
            *(
                (f"  {'in all, ' if cut else ''}of suspicion {name.removeprefix(ABOVE)} and above", f"{count:,}")
                for name, count in profile["suspects"].items()
                if name.startswith(ABOVE)
            ),
        ],
        "duplicates across labels": [
            ("pairs", f"{twins['pairs']:,}", _of_which(twins)),
            ("rows", f"{twins['rows']:,}"),
        ],
    }  # fmt: skip
    notes = [*profile["notes"]]
    if not profile["output"]:
        notes.append("-o DIR writes this with charts as report.html, and lists doubtful labels and duplicates")
    else:
        notes.append(f"wrote {profile['output']}: profile.json, report.html, suspects.parquet, duplicates.parquet")
        notes.append(suspects_note(profile["suspects"], shlex.quote(f"{profile['output']}/suspects.parquet")))
    return sections(tables, [*notes, *([f"next: {following}"] if following else [])])


def suspects_note(suspects: Mapping[str, Any], table: str) -> str:
    """What to do with the suspects: leave out those above a cut; without one, look through them."""
    from minestream.insight.neighbors import SURE  # not loaded for --help

    rows, cut, sure = suspects["rows"], suspects.get("listed_above"), suspects.get(f"{ABOVE}0.9")
    if not rows:
        return f"{table} is empty: no label is{f' of suspicion {cut:g} or above' if cut else ' doubtful'}"
    if cut:
        left_out = f"{many(rows, 'row')} of suspicion {cut:g} and above"
        return f"--exclude-rows {table} leaves out {left_out}; where labels overlap, most of them may be right"
    few = f"; --suspects-above 0.9 lists fewer: where it was measured, {SURE}" if sure else ""
    return f"look through {table}, the most doubtful labels first: most of them may be right{few}"


def margin_rows(profile: Mapping[str, Any]) -> list[Row]:
    """A line for each margin: counts of triplets, and shares; then what the columns of shares are."""
    from minestream.insight.pages import MARGIN_COLUMNS  # not loaded for --help

    equal = [name for name in ("cosine", "squared_euclidean_of_unit_rows") if name in profile["margins"][0]]
    units = "".join(f"{name:>10}" for name in ("cosine", "sq. Eucl.")[: len(equal)])
    counts = "".join(f"{head:>10}" for head in HEADS.values())
    lines: list[Row] = [("margin", f"{units}{counts}{'active':>9}{'in reach':>9}{'served':>9}{'mean loss':>11}")]
    for entry in profile["margins"]:
        cells = "".join(f"{entry[name]:10g}" for name in equal)
        cells += "".join(f"{short_number(entry[name]):>10}" for name in HEADS)
        cells += "".join(f"{_share(entry[name]):>9}" for name in SHARES)
        loss = entry["mean_loss"]
        lines.append((f"{entry['margin']:g}", cells + ("" if loss is None else f"{loss:11.4g}")))
        if "active_fraction_95" in entry:
            lines.append(("", f"   95 %: active ± {entry['active_fraction_95'] or 0:.3%}"))
    return [*lines, *MARGIN_COLUMNS.items()]


def _above(cut: float | None) -> str:
    return "" if cut is None else f"of suspicion {cut:g} and above, "


def _of_which(twins: Mapping[str, Any]) -> str:
    near = "" if twins["near_distance"] is None else f", the others nearer than {twins['near_distance']:.3g}"
    return f"{twins['exact_pairs']:,} of them equal{near}" if twins["pairs"] else ""


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.2%}"


def _interval(profile: Mapping[str, Any], name: str) -> str:
    half = profile.get(f"{name}_95")
    return "" if half is None else f" ± {half:.2%}"
