"""The commands that look at data: `profile`."""

from __future__ import annotations

from typing import Any

import click

import minestream
from minestream.cli import printing
from minestream.cli.options import Command, given_only, json_option, options_of_mine, show_result
from minestream.config.parse import parse_margins

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
    from minestream.cli.profile_text import profile_text
    from minestream.insight.profiling import profile as look

    found = look(list(inputs), out, margins=tuple(parse_margins(margins)) or None, **given_only(options))
    show_result(found, as_json, profile_text, found)


@click.command(cls=Command, short_help="Say what is in a mined file.")
@click.argument("path", metavar="OUT")
@click.option("--html", metavar="FILE", help="Write the same as one page that opens without a network.")
@json_option
def describe(path: str, html: str | None, as_json: bool) -> None:
    """Say what is in OUT, a mined file or folder: configuration, funnel, distances, losses.

    \b
    Example:
      minestream describe digits.triplets.parquet
    """
    found = minestream.describe(path)
    if html:
        minestream.describe_html(path, html)
    show_result(found, as_json, printing.describe_text, found)


@click.command(cls=Command, short_help="Check a mined file against its source.")
@click.argument("path", metavar="OUT")
@click.option(
    "--sample", type=click.IntRange(min=0), default=100, metavar="N", help="Anchors to derive again. Default: 100."
)
@click.option("--source", metavar="PATH", help="The mined input, when it is not where it was, beside OUT or here.")
@click.option("--corpus", metavar="PATH", help="The mined corpus, likewise.")
@click.option("--qrels", metavar="PATH", help="The known positives, likewise.")
@click.option("--seed", type=click.INT, default=0, metavar="INT", help="Seed of the draw of anchors.")
@json_option
def verify(
    path: str, sample: int, source: str | None, corpus: str | None, qrels: str | None, seed: int, as_json: bool
) -> None:
    """Check OUT against its checksums, then derive N anchors again from the source and compare row by row.

    The reference that derives them shares no code with the fast path.

    \b
    Example:
      minestream verify digits.triplets.parquet
    """
    found = minestream.verify(path, sample=sample, source=source, seed=seed, corpus=corpus, qrels=qrels)
    show_result(found, as_json, printing.verify_text, found)


@click.command(cls=Command, short_help="Say what two splits share.")
@click.argument("train", metavar="TRAIN")
@click.argument("validation", metavar="VALIDATION")
@click.option("--within", type=click.FLOAT, metavar="T", help="Distance of near duplicates. Default: 0.02 (cosine).")
@click.option("-o", "--out", metavar="OUT", help="A .parquet file for the validation rows that are near duplicates.")
@options_of_mine("embedding", "label", "id", "metric", "memory", "threads")
@click.option("--overwrite", is_flag=True, help="Replace OUT when it exists.")
@json_option
def compare(train: str, validation: str, as_json: bool, **options: Any) -> None:
    """Say which labels, ids and (nearly) equal rows TRAIN and VALIDATION share, before a model is judged by them.

    \b
    Example:
      minestream compare train.parquet validation.parquet
    """
    found = minestream.compare(train, validation, **given_only(options))
    show_result(found, as_json, printing.compare_text, found)
