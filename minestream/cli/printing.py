"""The text that commands print: the closing report, the plan, what is in a file, what verify found.

Tables are aligned columns without lines: readable on a terminal, in a log and through a pipe.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from minestream.config.memory_plan import LIBRARY_BYTES
from minestream.config.mine_config import MineConfig
from minestream.config.rules import EMITS
from minestream.errors import printable
from minestream.system.progress import short_number
from minestream.system.stats import WAITED, Report, mean
from minestream.system.values import Row, given_of, size_text, value_rows

PLAIN_COLUMNS = 120  # the width where there is no terminal
SHOWN_FILES = 3
CHOICES = (
    "preset", "emit", "metric", "margin", "band", "negatives", "pick", "positives", "max_similarity", "min_similarity",
    "absolute_margin", "relative_margin", "seed", "window",
)  # fmt: skip
# Counter, what it counts (with --emit pairs anchors are short, not pairs), and a remark.
FUNNEL = (
    ("anchors", "anchors", ""),
    ("pairs", "pairs (anchor, positive)", ""),
    ("dropped", "  dropped: {rule}", "of the candidates looked at"),
    ("fallbacks", "{subject} that took the farthest (fallback)", "no negative in the band"),
    ("duplicate_positives", "{subject} whose positive equals the anchor", "no other positive was left"),
    ("full", "{subject} with k negatives", "{share}"),
    ("short", "{subject} with fewer (short)", "{share}: the rules leave fewer"),
    ("empty", "{subject} with none (empty)", "{share}: the rules leave none"),
    ("rows", "rows written", ""),
)
RARE = ("fallbacks", "duplicate_positives")  # shown only where they are not 0


def report_text(report: Report) -> str:
    """The closing report of a run: funnel, losses, seconds, notes, and what to try next."""
    if report.already:
        return sections(notes=[f"already complete: {report.output}", *report.notes])
    stats, config = report.stats, report.config
    means = mean(stats.loss_sum, stats.losses), mean(stats.active_loss_sum, stats.active_rows)
    pairs = report.plan.get("pairs_to_compute")
    rate = f"{short_number(pairs / max(report.seconds, 1e-9))} pairs a second" if pairs else ""
    tables: dict[str, list[Row]] = {
        f"mined {report.output}" if report.output else "mined": config_rows(config),
        "funnel": [*source_rows(report.source), *funnel_rows(stats.to_dict(), config)],
        "loss": loss_rows(*means, stats.active_rows, mean(stats.active_rows, stats.losses)),
        "seconds": [
            *(
                (name, f"{spent:,.2f}", f"{spent / max(report.seconds, 1e-9):.1%} of the run" if name == WAITED else "")
                for name, spent in sorted(stats.seconds.items())
            ),
            ("whole run", f"{report.seconds:,.2f}", rate),
        ],
        "latency": latency_rows(report.plan),
    }
    notes = list(report.notes)
    if config["positives"] == "easiest" and config["emit"] != "pairs":
        flags = "--positives random --positives-per-anchor 4"
        notes.append(f"the positive is the anchor's nearest; {flags} gives the in-batch behaviour")
    return sections(tables, notes)


def plan_text(report: Report) -> str:
    """The plan of a dry run."""
    plan = dict(report.plan)
    memory = [(each["what"], size_text(each["bytes"]), each["when"]) for each in plan.pop("memory", ())]
    tables: dict[str, list[Row]] = {"plan (nothing was mined)": [*source_rows(report.source), *value_rows(plan)]}
    if memory:
        tables[f"memory: what takes how much of {size_text(plan['memory_bytes'])}"] = [
            *memory, ("beside it Python and its libraries", f"about {size_text(LIBRARY_BYTES)}", "always")
        ]  # fmt: skip
    return sections(tables | {"configuration": config_rows(report.config)}, report.notes)


def describe_text(result: Mapping[str, Any]) -> str:
    """What `describe` found, on one screen."""
    config, source = result["config"], result["source"]
    files = "1 file" if result["files"] == 1 else f"{result['files']:,} files"
    origin = ", ".join(f"{file['name']} ({file['rows']:,} rows)" for file in source[:SHOWN_FILES])
    more = f" and {len(source) - SHOWN_FILES:,} more" if len(source) > SHOWN_FILES else ""
    tables: dict[str, list[Row]] = {
        result["output"]: [
            ("rows", f"{result['rows']:,} in {files} of {size_text(result['bytes'])}, minestream {result['version']}"),
            *config_rows(config),
            *other_options(config),
            ("labels", result["labels"]),
            ("loss", result["loss"]),
            ("source", origin + more),
        ],
        "rescoring": value_rows(given_of(result.get("rescoring", {}))),
        "funnel": funnel_rows(result.get("report", {}).get("stats", {}) | result["counts"], config),
        f"quantiles, of {result['quantiles_of']}": quantile_rows(result["quantiles"]),
    }
    if "mean_loss" in result:
        names = ("mean_loss", "mean_active_loss", "active_rows", "active_fraction")
        tables["loss"] = loss_rows(*(result[name] for name in names))
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
    counted = {name: value for name, value in result.items() if name != "notes"}
    return sections({title: value_rows(counted)}, result.get("notes", ()))


def compare_text(result: Mapping[str, Any]) -> str:
    """What two splits share."""
    shared = {name: result[name] for name in ("labels", "ids", "near_duplicates") if result[name] is not None}
    counts = {name: {key: value for key, value in part.items() if key != "examples"} for name, part in shared.items()}
    rows = {name: result[name] for name in ("train_rows", "validation_rows")}
    tables: dict[str, list[Row]] = {"compare": value_rows(rows | counts)}
    tables["distance to the nearest training row"] = value_rows(result["nearest_distance"])
    examples = (f"{name}: {', '.join(map(str, part['examples']))}" for name, part in shared.items() if part["examples"])
    return sections(tables, [*examples, *result["notes"]])


def config_rows(config: Mapping[str, Any]) -> list[Row]:
    """The most important options, with the margin in other units, too."""
    rows = value_rows({name: config[name] for name in CHOICES if config.get(name) is not None})
    return [(name, f"{value}{margin_equivalent(config)}" if name == "margin" else value) for name, value, *_ in rows]


def margin_equivalent(config: Mapping[str, Any]) -> str:
    """The margin in another metric, where a factor converts it: for unit rows, except euclidean distances."""
    margin, metric, unit = config["margin"], config["metric"], config["normalize"]
    if metric == "cosine":
        return f" = {2 * margin:g} in squared Euclidean distance of unit rows"
    if unit and metric in ("sqeuclidean", "dot"):
        return f" = {margin / 2 if metric == 'sqeuclidean' else margin:g} in cosine distance"
    return " in squared units" if metric == "sqeuclidean" else ""


def other_options(config: Mapping[str, Any]) -> list[Row]:
    """The other options that differ from their defaults, in one line; no line if none does."""
    defaults = MineConfig(emit=config["emit"] if config["emit"] in EMITS else "triplets").resolved().to_dict()
    shown = {*CHOICES, "loss", *(spec.name for spec in fields(MineConfig) if spec.metadata["kind"] == "derived")}
    changed = {name: value for name, value in config.items() if name not in shown and value != defaults.get(name)}
    return [("others", ", ".join(f"{name} {value}" for name, value, *_ in value_rows(changed)))] if changed else []


def source_rows(source: Mapping[str, Any]) -> list[Row]:
    """How many rows the source has, how many were dropped, by cause, and how many take part."""
    return [
        ("rows in the source", f"{source['rows']:,}", f"{source['dimension']} values, {source['dtype']}"),
        *((f"  dropped: {cause}", f"{count:,}") for cause, count in source["dropped"].items()),
        ("rows that take part", f"{source['rows_taking_part']:,}"),
    ]


def funnel_rows(stats: Mapping[str, Any], config: Mapping[str, Any]) -> list[Row]:
    """The counters from anchors to rows written, as far as they were kept."""
    pairs = config["emit"] == "pairs"
    counted = sum(stats.get(name, 0) for name in ("full", "short", "empty"))
    rows: list[Row] = []
    for name, label, remark in FUNNEL:
        if name == "dropped":
            rows += [(label.format(rule=rule), f"{count:,}", remark) for rule, count in stats.get(name, {}).items()]
        elif name in stats and not (pairs and name == "pairs") and (name not in RARE or stats[name]):
            share = f"{100 * stats[name] / counted:.1f} %" if counted else ""
            note = remark.format(share=share) if stats[name] else ""
            rows.append((label.format(subject="anchors" if pairs else "pairs"), f"{stats[name]:,}", note))
    if passed := stats.get("nearer_pairs"):
        remark = f"a pair, estimated over {passed:,} pairs"
        rows.append(("nearer negatives passed over", f"{stats['nearer_passed_over'] / passed:,.1f}", remark))
    return rows


def latency_rows(plan: Mapping[str, Any]) -> list[Row]:
    """How long the batches of a stream took; no line where there was no stream."""
    if "batches" not in plan:
        return []
    keys = {"median": "latency_median_seconds", "99th percentile": "latency_p99_seconds", "most": "latency_max_seconds"}
    latencies = [(f"{name}, a batch", f"{1e3 * plan[key]:,.1f} ms") for name, key in keys.items()]
    return [("batches", f"{plan['batches']:,}"), *latencies]


def loss_rows(overall: float | None, active: float | None, active_rows: int | None, share: float | None) -> list[Row]:
    """The mean over all rows and the mean over active rows; no line where there is none."""
    rows: list[Row] = []
    if overall is not None:
        rows.append(("mean over all rows", f"{overall:.6f}"))
    if active is not None:
        rows.append(("mean over active rows", f"{active:.6f}", "active: within the margin"))
    if share is not None:
        rows.append(("active rows", f"{active_rows:,}", f"{100 * share:.1f} %"))
    return rows


def sections(tables: Mapping[str, Iterable[Row]] | None = None, notes: Iterable[str] = ()) -> str:
    """Tables with titles, empty ones left out, then a line for each note; in colour on a terminal only."""
    from rich.console import Console
    from rich.text import Text

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else PLAIN_COLUMNS
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=width, markup=False, highlight=False, emoji=False)
    for title, rows in (tables or {}).items():
        if table := list(rows):
            console.print(Text(one_line(title), style="bold"), soft_wrap=True)
            console.print(aligned(table))
            console.print()
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join([*lines, *map(printable, notes)]).strip("\n")


def aligned(rows: list[Row]) -> Any:
    """Rows as a table without lines; a column of numbers alone is aligned to the right."""
    from rich.table import Table
    from rich.text import Text

    numbers = all(row[1][:1].isdigit() or row[1][:1] in ("", "-") for row in rows)
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(justify="right" if numbers else "left", overflow="fold")
    grid.add_column(style="dim")
    for row in rows:
        grid.add_row(*(Text(one_line(cell)) for cell in row))
    return grid


def one_line(text: str) -> str:
    """Text as a title or cell of a table shows it."""
    return printable(text).replace("\n", "\\n")
