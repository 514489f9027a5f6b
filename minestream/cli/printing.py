"""What the commands print, as text: what is in a file, what verify found, what two splits share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from minestream.cli.report import CHOICES, columns_rows, config_rows, hardness_rows, left_out_rows, listed_rows, once
from minestream.cli.tables import sections
from minestream.config.mine_config import MineConfig
from minestream.config.rules import EMITS
from minestream.system.values import Row, given_of, size_text, value_rows

SHOWN_FILES = 3


def describe_text(result: Mapping[str, Any]) -> str:
    """What `describe` found, on one screen."""
    config, source, report = result["config"], result["source"], result.get("report", {})
    counts = report.get("stats", {}) | result["counts"]
    files = "1 file" if result["files"] == 1 else f"{result['files']:,} files"
    origin = ", ".join(f"{file['name']} ({file['rows']:,} rows)" for file in source[:SHOWN_FILES])
    more = f" and {len(source) - SHOWN_FILES:,} more" if len(source) > SHOWN_FILES else ""
    tables: dict[str, list[Row]] = {
        result["output"]: [
            ("rows", f"{result['rows']:,} in {files} of {size_text(result['bytes'])}, minestream {result['version']}"),
            *config_rows(config),
            *other_options(config),
            *columns_rows(result["columns"]),
            ("labels", result["labels"]),
            ("loss", result["loss"]),
            ("source", origin + more),
            *value_rows(given_of({"command": report.get("command")})),
        ],
        "rescoring": value_rows(given_of(result.get("rescoring", {}))),
        "mined": [
            *value_rows({name: counts[name] for name in ("anchors", "pairs") if name in counts}),
            *once(
                [
                    *listed_rows(report.get("source", {}), why=True),
                    *left_out_rows(report.get("source", {}), counts, config, result.get("columns", {})),
                ]
            ),
            *hardness_rows(counts | result, config),
        ],
        f"quantiles, of {result['quantiles_of']}": quantile_rows(result["quantiles"]),
    }
    return sections(tables)


def quantile_rows(quantiles: Mapping[str, Mapping[str, float]]) -> list[Row]:
    """A line for each quantile, a column for each thing that was measured."""
    columns = {name: values for name, values in quantiles.items() if values}
    if not columns:
        return []
    head = "".join(f"{name:>13}" for name in columns)
    names = next(iter(columns.values()))
    return [("", head), *((q, "".join(f"{values[q]:13.6g}" for values in columns.values())) for q in names)]


def verify_text(result: Mapping[str, Any]) -> str:
    """What `verify`, `export` and `refilter` counted; a difference is an error and never comes here."""
    title = "verify: no difference" if "differences" in result else f"wrote {result['output']}"
    counted = {name: value for name, value in result.items() if name not in ("notes", "written", "stages")}
    return sections({title: value_rows(counted)}, result.get("notes", ()))


def compare_text(result: Mapping[str, Any]) -> str:
    """What two tables share, and how to leave it out."""
    shared = {name: result[name] for name in ("labels", "ids", "near_duplicates") if result[name] is not None}
    counts = {name: {key: value for key, value in part.items() if key != "examples"} for name, part in shared.items()}
    rows = {name: result[name] for name in ("train_rows", "validation_rows")}
    tables: dict[str, list[Row]] = {"compare": value_rows(rows | counts)}
    tables["distance to the nearest training row"] = value_rows(result["nearest_distance"])
    notes = [
        f"{name} of both, for example: {', '.join(map(str, result[name]['examples']))}"
        for name in ("labels", "ids")
        if result[name] and result[name]["examples"]
    ]
    near, leaks = result["near_duplicates"], result.get("output")
    if near["near"]:
        count = f"{near['near']:,} of {result['validation_rows']:,} validation rows"
        notes.append(f"{count} lie within {near['within']:g} of a training row: they make a model look too good")
        listed = "" if leaks else "-o leaks.parquet lists them, then "
        notes.append(f"next: {listed}minestream mine VALIDATION --exclude-rows {leaks or 'leaks.parquet'}")
    return sections(tables, [*notes, *result["notes"]])


def other_options(config: Mapping[str, Any]) -> list[Row]:
    """The other options that differ from their defaults, in one line; no line if none does."""
    defaults = MineConfig(emit=config["emit"] if config["emit"] in EMITS else "triplets").resolved().to_dict()
    shown = {*CHOICES, "loss", *(spec.name for spec in fields(MineConfig) if spec.metadata["kind"] == "derived")}
    changed = {name: value for name, value in config.items() if name not in shown and value != defaults.get(name)}
    return [("others", ", ".join(f"{name} {value}" for name, value, *_ in value_rows(changed)))] if changed else []
