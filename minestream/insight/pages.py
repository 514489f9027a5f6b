"""The HTML pages of a profile and of a mined output, each one self-contained file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from minestream.config.border import public
from minestream.inputs.given import Given
from minestream.insight.describe import MEASURED, describe, flat, row_groups
from minestream.insight.html import bars, curves, escaped, histogram, page, table, values
from minestream.outputs.mined import mined_output
from minestream.outputs.single_file import ending_in, publishing
from minestream.system.paths import text_of
from minestream.system.values import given_of, value_rows

SHOWN_LABELS = 100
BINS = 100


def note(text: str) -> str:
    """A remark below a table or chart."""
    return f'<p class="note">{escaped(text)}</p>'


def profile_page(found: Mapping[str, Any], suspects: Sequence[Mapping[str, Any]]) -> str:
    """The page of a profile; `suspects` are the first rows of suspects.parquet."""
    histograms, margins, counted = found["histograms"], found["margins"], found["counted"]
    names = ", ".join(file["name"] for file in found["source"]["identity"][:3])
    overview = {name: found[name] for name in ("rows", "labels", "positive_pairs", "negative_pairs")}
    overview |= {"metric": found["config"]["metric"], "zero_rows": found["zero_rows"]}
    overview |= {f"dropped: {cause}": count for cause, count in found["source"]["dropped"].items()}
    overview |= {f"recall@{k}": value for k, value in found["recall_at"].items()}
    overview |= {"MAP@R": found["map_at_r"], "overlap of the histograms": histograms["overlap"]}
    lines = {
        name.replace("_", " "): [entry[name] for entry in margins]
        for name in ("active_fraction", "semi_hard_fraction", "served_fraction", "active_pairs_fraction")
    }
    shown = [name for name in margins[0] if not name.endswith("_95")]
    hubs, labels = found["hubs"], found["per_label"]
    return page(
        f"Profile of {names}",
        {
            "Overview": values(overview) + "".join(map(note, found["notes"])),
            "Distances": histogram(
                "distances of positive and negative pairs", histograms["edges"],
                {"positive pairs": histograms["positive"], "negative pairs": histograms["negative"]},
            )
            + note(f"shares of the pairs of each kind; {counted['what']}: {counted['how']}"),
            "Nearest positive and negative": table(
                [{"of the anchors": kind, **(found[f"nearest_{kind}"] or {})} for kind in ("positive", "negative")]
            ),
            "Margins": curves("shares by margin", [entry["margin"] for entry in margins], lines)
            + table(margins, shown)
            + note(f"recommended: {found['recommended']['margin']:g}: {found['recommended']['reason']}")
            + note("served: of the anchors with a positive those whose nearest one has a semi-hard negative")
            + note("active pairs: negatives nearer than the margin"),
            "Triplets at the recommended margin": bars("triplets", _kinds(found)),
            "Suspects": note(found["suspects"]["formula"]) + note(found["suspects"]["rule"])
            + note(f"{found['suspects']['rows']:,} rows, {len(suspects):,} shown") + table(suspects),
            "Hubs": note(
                f"the row that is most often a nearest negative is one {hubs['max']:,} times; skew {hubs['skew']:.3g}; "
                f"{hubs['never_used_rows']:,} rows never are"
            )
            + table(hubs["top"]),
            "Labels": note(f"{labels['labels']:,} labels, the worst recall@1 first")
            + table(labels["table"][:SHOWN_LABELS]),
            "Duplicates across labels": values(found["duplicates"]),
            "Norms": table([found["norms"] or {}]),
        },
    )  # fmt: skip


def _kinds(found: Mapping[str, Any]) -> dict[str, float]:
    """Hard, semi-hard and easy triplets at the recommended margin."""
    entry = next(each for each in found["margins"] if each["margin"] == found["recommended"]["margin"])
    return {name.replace("_", "-"): entry[name] for name in ("hard", "semi_hard", "easy")}


def describe_page(mined: str | os.PathLike[str]) -> str:
    """The page of a mined output: distances, losses, funnel."""
    found, output = describe(mined), mined_output(mined)
    edges = {
        name: np.linspace(spread["min"], max(spread["max"], np.nextafter(spread["min"], np.inf)), BINS + 1)
        for name, spread in found["quantiles"].items()
        if spread
    }
    bins = {name: np.zeros(BINS, np.int64) for name in edges}
    for group in row_groups(output, list(edges)):
        for name in edges:
            bins[name] += np.histogram(flat(group.column(name)), edges[name])[0]
    charts = {
        name: histogram(name, edges[name].tolist(), {name.replace("_", " "): bins[name].tolist()})
        for name in edges
        if name in MEASURED
    }
    means = ("rows", "mean_loss", "mean_active_loss", "active_rows", "active_fraction")
    chosen = ("emit", "metric", "margin", "band", "negatives", "pick", "positives", "seed")
    return page(
        f"Mined: {output.path.name}",
        {
            "Overview": values({name: found[name] for name in means if name in found}),
            "Configuration": values({name: found["config"].get(name) for name in chosen}) + note(found["loss"]),
            **rescoring_section(found.get("rescoring")),
            **{name.replace("_", " ").capitalize(): chart for name, chart in charts.items()},
            "Funnel": bars("funnel", found["counts"]),
        },
    )


def rescoring_section(rescoring: Mapping[str, Any] | None) -> dict[str, str]:
    """The table and rule by which refilter chose the rows; no section for rows that were mined."""
    if rescoring is None:
        return {}
    return {"Rescoring": values({name: text for name, text, *_ in value_rows(given_of(rescoring))})}


@public()
def describe_html(mined: str | os.PathLike[str], out: str | os.PathLike[str], *, overwrite: bool = True) -> str:
    """Write the page of a mined output to `out`, and return its path; an older page there is replaced.

    Raises
    ------
    InputError, UsageError, OutputError
        When there is no mined output; when `out` does not end in .html, or cannot be written.
    """
    place = ending_in(".html", out, "describe", "--html ")
    with publishing(place, overwrite, [Given("OUT", text_of(mined_output(mined).path))]) as draft:
        draft.path.write_text(describe_page(mined), encoding="utf-8")
    return str(place)
