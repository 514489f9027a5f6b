"""The text that `profile` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minestream.cli.printing import quantile_rows, sections
from minestream.system.progress import short_number
from minestream.system.values import Row, value_rows

HEADS = {"hard": "hard", "semi_hard": "semi-hard", "easy": "easy"}
SHARES = ("active_fraction", "active_pairs_fraction", "served_fraction")
SHOWN = 5


def profile_text(found: Mapping[str, Any]) -> str:
    """A profile on one screen or two."""
    source, histograms, recall = found["source"], found["histograms"], found["recall_at"]
    ratio = found["negatives_per_positive"]
    rows: list[Row] = [
        ("rows that take part", f"{found['rows']:,}", f"of {source['rows']:,}, {source['dimension']} values"),
        *((f"  dropped: {cause}", f"{count:,}") for cause, count in source["dropped"].items()),
        ("labels", f"{found['labels']:,}", f"{found['rows_without_positive']:,} rows without a positive"),
        ("positive pairs", f"{found['positive_pairs']:,}"),
        ("negative pairs", f"{found['negative_pairs']:,}", "" if ratio is None else f"{ratio:,.1f} to one positive"),
        ("zero rows", f"{found['zero_rows']:,}"),
    ]
    retrieval: list[Row] = [(f"recall@{k}", _share(value), "all rows") for k, value in recall.items()]
    retrieval.append(("MAP@R", _share(found["map_at_r"]) + _interval(found, "map_at_r")))
    retrieval.append(("overlap of the histograms", _share(histograms["overlap"])))
    spreads = {kind: found[f"nearest_{kind}"] or {} for kind in ("positive", "negative")}
    tables: dict[str, list[Row]] = {
        f"profile, {found['config']['metric']} distance": rows,
        "retrieval": retrieval,
        "nearest of each row": quantile_rows(spreads | {"norm": found["norms"] or {}}),
        f"margins: {found['counted']['how']}": margin_rows(found),
        "recommended": [("margin", f"{found['recommended']['margin']:g}"), ("why", found["recommended"]["reason"])],
        "hubs": [
            ("most often a nearest negative", f"{found['hubs']['max']:,} times", f"skew {found['hubs']['skew']:.3g}"),
            ("rows that never are", f"{found['hubs']['never_used_rows']:,}"),
        ],
        "worst labels by recall@1": [
            (str(each["label"]), _share(each["recall_at_1"]), f"{each['rows']:,} rows")
            for each in found["per_label"]["table"][:SHOWN]
        ],
        "suspects": value_rows(found["suspects"]),
        "duplicates across labels": value_rows(found["duplicates"]),
    }  # fmt: skip
    notes = list(found["notes"])
    if found["output"]:
        notes.append(f"wrote {found['output']}: profile.json, report.html, suspects.parquet, duplicates.parquet")
        notes.append(suspects_note(f"{found['output']}/suspects.parquet", found["suspects"].get("listed_above")))
    return sections(tables, notes)


def suspects_note(table: str, cut: float | None) -> str:
    """What to do with the suspects: leave out those above a cut; without one, look through them."""
    if cut:
        return f"next: minestream mine INPUT --exclude-rows {table} (suspicion from {cut:g} on)"
    return (
        f"next: look through {table}, worst first; most of its rows may be right (--suspects-above 0.9 lists those of "
        "which most are wrong)"
    )


def margin_rows(found: Mapping[str, Any]) -> list[Row]:
    """A line for each margin: counts of triplets, and shares."""
    equal = [name for name in ("cosine", "squared_euclidean_of_unit_rows") if name in found["margins"][0]]
    units = "".join(f"{name:>10}" for name in ("cosine", "sq. Eucl.")[: len(equal)])
    counts = "".join(f"{head:>10}" for head in HEADS.values())
    lines: list[Row] = [("margin", f"{units}{counts}{'active':>9}{'pairs':>9}{'served':>9}{'mean loss':>11}")]
    for entry in found["margins"]:
        cells = "".join(f"{entry[name]:10g}" for name in equal)
        cells += "".join(f"{short_number(entry[name]):>10}" for name in HEADS)
        cells += "".join(f"{_share(entry[name]):>9}" for name in SHARES)
        loss = entry["mean_loss"]
        lines.append((f"{entry['margin']:g}", cells + ("" if loss is None else f"{loss:11.4g}")))
        if "active_fraction_95" in entry:
            lines.append(("", f"   95 %: active ± {entry['active_fraction_95'] or 0:.3%}"))
    return lines


def _share(value: float | None) -> str:
    return "none" if value is None else f"{value:.2%}"


def _interval(found: Mapping[str, Any], name: str) -> str:
    half = found.get(f"{name}_95")
    return "" if half is None else f" ± {half:.2%}"
