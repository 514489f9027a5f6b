"""The commands that look at data: `profile`."""

from __future__ import annotations

import json
from typing import Any

import click

from minestream.config import OPTION_FIELDS
from minestream.errors import UsageError
from minestream.options import long_flag

# Options of mine that profile takes, as the table has them.
SHARED = (
    "embedding", "label", "id", "group_column", "group_rule", "carry", "unlabeled_value", "on_bad_rows",
    "on_duplicate_ids", "metric", "normalize", "exclude", "exclude_rows", "on_missing_ids", "vectors", "memory",
    "scratch", "threads", "progress",
)  # fmt: skip
KINDS: dict[str, Any] = {"integer": click.INT, "number": click.FLOAT}


def shared_options(function: Any) -> Any:
    """Decorate with the options of SHARED; only what was given is passed on."""
    for name in reversed(SHARED):
        about = OPTION_FIELDS[name].metadata
        flags = about["flags"] or (long_flag(OPTION_FIELDS[name]),)
        choices = f" One of {', '.join(about['choices'])}." if about["choices"] else ""
        if about["kind"] == "flag":
            function = click.option(name, *flags, is_flag=True, help=about["help"])(function)
            continue
        function = click.option(
            name, *flags, default=None, multiple=about["kind"] == "repeat", metavar=about["metavar"] or "NAME",
            type=KINDS.get(about["kind"], click.STRING), help=about["help"] + choices,
        )(function)  # fmt: skip
    return function


def numbers(text: str | None) -> tuple[float, ...] | None:
    """Numbers between commas.

    Raises
    ------
    UsageError
        When one is no number.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--margin takes numbers, not {text!r}", "--margin 0.1,0.2,0.3") from None


@click.command(short_help="Look at an input: margins, suspects, duplicates, hubs.")
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
@click.option("--overwrite", is_flag=True, help="Replace a profile that stands in DIR.")
@shared_options
@click.option("as_json", "--json", is_flag=True, help="Print JSON and nothing else on standard output.")
def profile(inputs: tuple[str, ...], out: str | None, margins: str | None, as_json: bool, **options: Any) -> None:
    """Say what INPUT holds: distances, margins, retrieval, hubs, doubtful labels, duplicates across labels.

    DIR gets profile.json, report.html (one page, opens from disk), suspects.parquet and duplicates.parquet.

    \b
    Example:
      minestream profile digits.parquet
      minestream profile digits.parquet -o look/
      minestream mine digits.parquet --exclude-rows look/suspects.parquet
    """
    from minestream.insight.profiling import profile as look
    from minestream.insight.text import profile_text

    given = {name: value for name, value in options.items() if value not in (None, ()) and value is not False}
    found = look(list(inputs), out, margins=numbers(margins), **given)
    click.echo(json.dumps(found, indent=2, allow_nan=False) if as_json else profile_text(found))
