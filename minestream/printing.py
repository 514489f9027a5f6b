"""What the commands print, as text: the closing report, the plan, what is in a file, what verify found.

Tables are aligned columns without lines: readable on a terminal, in a log and through a pipe.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from minestream.progress import short_number, short_time
from minestream.stats import Report, ShardStats, mean

PLAIN_COLUMNS = 120  # width off a terminal, where nobody wraps

Row = tuple[str, str, str]  # what, how much, and a remark
Rows = Iterable[Row]

PLAN_LABELS = {
    "pairs_to_compute": "pairs to compute",
    "bytes": "projected bytes",
    "seconds": "projected seconds",
    "projected_bytes": "projected bytes",
    "projected_seconds": "projected seconds",
}


def report_text(report: Report) -> str:
    """The closing report of a run: funnel, losses, seconds, notes, and what to try next."""
    if report.already:
        return f"already complete: {report.output}\n" + sections(notes=report.notes)
    stats, pairs = report.stats, report.config.get("emit") == "pairs"
    tables = {
        f"mined {report.output}" if report.output else "mined": config_rows(report.config),
        "funnel": [*source_rows(report.source), *funnel_rows(stats, pairs=pairs)],
        "loss": loss_rows(report.stats),
        "seconds": second_rows(stats, report.seconds),
    }
    return sections(tables, [*report.notes, *alternative(report.config)])


def plan_text(report: Report) -> str:
    """The plan of a dry run."""
    rows = [*source_rows(report.source), *value_rows(report.plan, PLAN_LABELS)]
    return sections({"plan (nothing was mined)": rows, "configuration": config_rows(report.config)}, report.notes)


def describe_text(found: Mapping[str, Any]) -> str:
    """What `describe` found: its plain values first, then a table for each nested one."""
    return nested_text("", found)


def verify_text(found: Mapping[str, Any]) -> str:
    """What `verify` found; its `differences`, a list or a count, one a line at the end."""
    differences = found.get("differences")
    title = "verify: differences found" if differences else "verify: no difference"
    text = nested_text(title, {name: value for name, value in found.items() if name != "differences"})
    if isinstance(differences, list | tuple):
        return "\n".join([text, *(f"differs: {difference}" for difference in differences)])
    return f"{text}\ndiffers: {differences}" if differences else text


def config_rows(config: Mapping[str, Any]) -> list[Row]:
    """The choices that decide most, and the margin in other units."""
    rows = []
    for name in ("emit", "metric", "margin", "band", "negatives", "pick", "positives", "seed"):
        if config.get(name) is not None:
            remark = margin_equivalent(config) if name == "margin" else ""
            rows.append((name, plain_value(name, config[name]), remark))
    return rows


def margin_equivalent(config: Mapping[str, Any]) -> str:
    """The margin in another metric, where a factor converts it: on unit rows, and never for euclidean."""
    margin, metric = config.get("margin"), config.get("metric")
    if margin is None:
        return ""
    if metric == "cosine":
        return f"= {2 * margin:g} in squared Euclidean distance of unit rows"
    if metric == "sqeuclidean" and config.get("normalize"):
        return f"= {margin / 2:g} in cosine distance"
    if metric == "dot" and config.get("normalize"):
        return f"= {margin:g} in cosine distance"
    return "in squared units" if metric == "sqeuclidean" else ""


def source_rows(source: Mapping[str, Any]) -> list[Row]:
    """Rows of the source, those dropped by cause, those that take part."""
    rows: list[Row] = []
    if "rows" in source:
        shape = [f"{source['dimension']} values" if "dimension" in source else "", str(source.get("dtype", ""))]
        rows.append(("rows in the source", whole(source["rows"]), ", ".join(filter(None, shape))))
    rows.extend((f"  dropped: {cause}", whole(count), "") for cause, count in source.get("dropped", {}).items())
    if "rows_taking_part" in source:
        rows.append(("rows that take part", whole(source["rows_taking_part"]), ""))
    return rows


def funnel_rows(stats: ShardStats, *, pairs: bool) -> list[Row]:
    """From anchors to rows written. Of --emit pairs it is anchors, not pairs, that are short."""
    subject = "anchors" if pairs else "pairs"
    counted = stats.full + stats.short + stats.empty
    rows: list[Row] = [("anchors", whole(stats.anchors), "")]
    if not pairs:
        rows.append(("pairs (anchor, positive)", whole(stats.pairs), ""))
    rows.append(("eligible negatives", whole(stats.eligible), "at least: those that were looked at closely"))
    rows.extend((f"  dropped: {rule}", whole(count), "at least") for rule, count in stats.dropped.items())
    rows.append((f"{subject} with k negatives", whole(stats.full), share(stats.full, counted)))
    rows.append(
        (f"{subject} with fewer (short)", whole(stats.short), because("the rules leave fewer", stats.short, counted))
    )
    rows.append(
        (f"{subject} with none (empty)", whole(stats.empty), because("the rules leave none", stats.empty, counted))
    )
    rows.append(("rows written", whole(stats.rows), ""))
    if (passed := mean(stats.nearer_passed_over, stats.nearer_pairs)) is not None:
        remark = f"a pair, estimated over {whole(stats.nearer_pairs)} pairs"
        rows.append(("nearer negatives passed over", f"{passed:,.1f}", remark))
    return rows


def loss_rows(stats: ShardStats) -> list[Row]:
    """The means over all rows and over active rows, separately; none of nothing."""
    overall, active = mean(stats.loss_sum, stats.rows), mean(stats.active_loss_sum, stats.active_rows)
    rows: list[Row] = []
    if overall is not None:
        rows.append(("mean over all rows", f"{overall:.6f}", ""))
    if active is not None:
        rows.append(("mean over active rows", f"{active:.6f}", "active: within the margin"))
    if stats.rows:
        rows.append(("active rows", whole(stats.active_rows), share(stats.active_rows, stats.rows)))
    return rows


def second_rows(stats: ShardStats, seconds: float) -> list[Row]:
    """Seconds by stage and of the whole run, with the rate."""
    rows: list[Row] = [(name, f"{spent:,.2f}", "") for name, spent in stats.seconds.items()]
    rate = f"{short_number(stats.pairs_computed / seconds)} pairs computed a second" if seconds > 0 else ""
    rows.append(("whole run", f"{seconds:,.2f}", rate if stats.pairs_computed else ""))
    return rows


def alternative(config: Mapping[str, Any]) -> list[str]:
    """The line that names the other common choice of positives."""
    if config.get("positives") != "easiest" or config.get("emit") == "pairs":
        return []
    flags = "--positives random --positives-per-anchor 4"
    return [f"the positive is the anchor's nearest; {flags} gives the in-batch behaviour"]


def value_rows(values: Mapping[str, Any], labels: Mapping[str, str] | None = None) -> list[Row]:
    """Any values by name; a nested table is indented below its name."""
    rows: list[Row] = []
    for name, value in values.items():
        label = (labels or {}).get(name, name.replace("_", " "))
        if isinstance(value, Mapping):
            rows.append((label, "", ""))
            rows.extend((f"  {inner}", text, remark) for inner, text, remark in value_rows(value))
        else:
            rows.append((label, plain_value(name, value), ""))
    return rows


def nested_text(title: str, values: Mapping[str, Any]) -> str:
    """Plain values under `title`, then each nested table under its own name."""
    tables = {title: value_rows({name: value for name, value in values.items() if not isinstance(value, Mapping)})}
    tables |= {
        name.replace("_", " "): value_rows(value) for name, value in values.items() if isinstance(value, Mapping)
    }
    return sections(tables)


def plain_value(name: str, value: object) -> str:
    """A value as people read it; the unit is the end of its name."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(plain_value("", item) for item in value) or "none"
    if not isinstance(value, int | float):
        return str(value)
    if name.endswith("bytes"):
        return size_text(value)
    if name.endswith("seconds"):
        return short_time(value)
    return whole(value) if isinstance(value, int) and name != "seed" else f"{value:g}"


def size_text(size: float) -> str:
    """Bytes in binary units: 512 B, 80.1 KiB, 1.5 GiB."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def whole(count: int) -> str:
    """A count with thousands apart."""
    return f"{count:,}"


def share(part: int, of: int) -> str:
    """A part in percent, or nothing of nothing."""
    return f"{100 * part / of:.1f} %" if of else ""


def because(reason: str, part: int, of: int) -> str:
    """A part in percent with its reason, or nothing when there is no part."""
    return f"{share(part, of)}: {reason}" if part else ""


def sections(tables: Mapping[str, Rows] | None = None, notes: Iterable[str] = ()) -> str:
    """Titled tables, then one line a note; colours only for a terminal."""
    terminal = sys.stdout.isatty()
    console = Console(
        file=io.StringIO(),
        force_terminal=terminal,
        width=shutil.get_terminal_size().columns if terminal else PLAIN_COLUMNS,
        markup=False,
        highlight=False,
        emoji=False,
    )
    with console.capture() as captured:
        for title, rows in (tables or {}).items():
            if title:
                console.print(Text(title, style="bold"), soft_wrap=True)
            if grid := aligned(list(rows)):
                console.print(grid)
                console.print()
    lines = [line.rstrip() for line in captured.get().splitlines()]
    return "\n".join([*lines, *notes]).strip("\n")


def aligned(rows: list[Row]) -> Table | None:
    """Rows as a table without lines, numbers to the right where there is nothing else; None of no rows."""
    if not rows:
        return None
    numbers = all(value[:1].isdigit() or value[:1] in ("", "-") for _, value, _ in rows)
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(justify="right" if numbers else "left", overflow="fold")
    grid.add_column(style="dim")
    for row in rows:
        grid.add_row(*(Text(cell) for cell in row))
    return grid
