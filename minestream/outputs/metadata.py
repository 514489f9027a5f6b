"""The metadata of an output file: the options, the label convention and the loss in words."""

from __future__ import annotations

import json
from typing import Any

from minestream._version import VERSION
from minestream.config.rules import LOSSES


def label_convention(config: dict[str, Any]) -> str:
    """What labels say about two rows of the output, in words."""
    if config["emit"] == "pairs":
        text = "column label: 1 = similar (the rows share a label), 0 = dissimilar (they do not)"
    elif config["emit"] == "lists":
        text = "the rows of positive_rows are positives of the anchor, those of candidate_rows may be its negatives"
    elif config["listed_positives"]:
        text = "anchor and positive are a listed pair or share a label, if there are labels; anchor and negative not"
    else:
        text = "anchor and positive share a label, anchor and negative do not"
    if config["listed_positives"]:
        return text
    value = config.get("unlabeled_value")
    without = "rows without a label" if value is None else f"rows without a label (null or {value})"
    return f"{text}; {without} {'take no part' if config['unlabeled'] == 'ignore' else 'may be negatives'}"


def loss_formula(config: dict[str, Any]) -> str:
    """The formula of the loss column, in words; says so when there is no such column."""
    if config["margin"] is None:
        return "no loss column: " + ("lists have none" if config["emit"] == "lists" else "it needs a margin")
    x = "min(distance_an, distance_pn)" if config.get("swap") else "distance_an"
    names = "D = distance" if config["emit"] == "pairs" else f"p = distance_ap, x = {x}"
    loss, margin = config["loss"], config["margin"]
    return f"{loss}: {LOSSES[loss]}; {names}, m = {margin!r}, {config['metric']} distance"


def approximate_text(config: dict[str, Any]) -> str:
    """What an approximate output is, in words."""
    return (
        f"approximate: rows look for {config['approximate']:g} of the negatives of an exact run, or more; the manifest "
        "says how much was found, measured"
    )


def metadata_of(plan: dict[str, Any]) -> dict[str, str]:
    """The metadata of every file of a run; without its counts and the CRC-32 of its rows."""
    return {
        "minestream.version": VERSION,
        "minestream.fingerprint": plan["fingerprint"],
        "minestream.labels": label_convention(plan["config"]),
        "minestream.loss": loss_formula(plan["config"]),
        **{f"minestream.{name}": json.dumps(plan[name], sort_keys=True) for name in ("config", "columns", "source")},
        **({"minestream.approximate": approximate_text(plan["config"])} if plan["config"].get("approximate") else {}),
        **({"minestream.refilter": json.dumps(plan["refilter"], sort_keys=True)} if plan.get("refilter") else {}),
    }
