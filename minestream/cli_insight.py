"""The commands that look at data: `profile`."""

from __future__ import annotations

from typing import Any

import click

from minestream.cli_options import Command, given_only, json_option, options_of_mine, show_result
from minestream.values import parse_margins

# Options of mine that profile takes, as the table has them.
SHARED = (
    "embedding", "label", "id", "group_column", "group_rule", "carry", "unlabeled_value", "on_bad_rows",
    "on_duplicate_ids", "metric", "normalize", "exclude", "exclude_rows", "on_missing_ids", "vectors", "memory",
    "scratch", "threads", "progress",
)  # fmt: skip


@click.command(cls=Command, short_help="Look at an input: margins, suspects, duplicates, hubs.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--out", metavar="DIR", help="Folder for profile.json, report.html and the tables. Default: none.")
@click.option("margins", "--margin", metavar="M,M,...", help="Margins of the sweep. Default: by the metric.")
@click.option(
    "--sample", type=click.INT, metavar="N",
    help="Anchors, drawn by the seed, that meet all rows. Default: all up to 20,000 rows, then 5,000.",
)  # fmt: skip
@click.option("--full", is_flag=True, help="All anchors, whatever it costs.")
@click.option(
    "--near", type=click.FLOAT, metavar="T",
    help="Distance of near duplicates. Default: a tenth of the median nearest positive's.",
)  # fmt: skip
@click.option("--seed", type=click.INT, default=0, metavar="INT", help="Seed of the draw of anchors. Default: 0.")
@click.option(
    "--suspects-above", type=click.FLOAT, metavar="S",
    help="List suspects of which about the share S (0 to 1) has a wrong label. Default: every doubtful row.",
)  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace a profile that stands in DIR.")
@options_of_mine(*SHARED)
@json_option
def profile(inputs: tuple[str, ...], out: str | None, margins: str | None, as_json: bool, **options: Any) -> None:
    """Say what INPUT holds: distances, margins, retrieval, hubs, doubtful labels, duplicates across labels.

    DIR gets profile.json, report.html (one page, opens from disk), suspects.parquet and duplicates.parquet.

    \b
    Example:
      minestream profile digits.parquet
      minestream profile digits.parquet -o look/
      minestream profile digits.parquet -o clean/ --suspects-above 0.9
      minestream mine digits.parquet --exclude-rows clean/suspects.parquet
    """
    from minestream.insight.profiling import profile as look
    from minestream.insight.text import profile_text

    found = look(list(inputs), out, margins=tuple(parse_margins(margins)) or None, **given_only(options))
    show_result(found, as_json, profile_text, found)
