"""The commands that look at data and at mined files: `profile`, `describe`, `verify`, `compare`."""

from __future__ import annotations

from typing import Any

import click

import minestream
from minestream.cli import printing
from minestream.cli.help import Command
from minestream.cli.options import given_only, options_of, show_result
from minestream.cli.profile_text import profile_text
from minestream.config.commands import Comparing, Describing, Profiling, Verifying
from minestream.config.keywords import CompareOptions, ProfileOptions
from minestream.config.parse import parse_margins


@click.command(cls=Command)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@options_of(Profiling, "seed", also=ProfileOptions)
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
    given = given_only(options)
    found = minestream.profile(list(inputs), out, margins=parse_margins(margins), **given)
    from minestream.insight.profiling import next_command  # not loaded for --help

    show_result(found, as_json, lambda _: profile_text(found, next_command(found, inputs, given)))


@click.command(cls=Command)
@click.argument("path", metavar="OUT")
@options_of(Describing)
def describe(path: str, html: str | None, as_json: bool) -> None:
    """Say what is in OUT, a mined file or folder: configuration, funnel, distances, losses.

    \b
    Example:
      minestream describe digits.triplets.parquet
    """
    found = minestream.describe(path)
    if html:
        minestream.describe_html(path, html)
    sizes = {"OUT": {"rows": found.get("rows")}}
    written = (html,) if html else ()
    show_result(found, as_json, lambda _: printing.describe_text(found, written), sizes=sizes, outputs=written)


@click.command(cls=Command)
@click.argument("path", metavar="OUT")
@options_of(Verifying, "seed")
def verify(path: str, as_json: bool, **options: Any) -> None:
    """Check OUT against its checksums, then derive N anchors again from the source and compare row by row.

    The reference that derives them shares no code with the fast path.

    \b
    Example:
      minestream verify digits.triplets.parquet
    """
    found = minestream.verify(path, **given_only(options))
    show_result(found, as_json, printing.verify_text, sizes={"OUT": {"rows": found.get("rows")}})


@click.command(cls=Command)
@click.argument("train", metavar="TRAIN")
@click.argument("validation", metavar="VALIDATION")
@options_of(Comparing, also=CompareOptions)
def compare(train: str, validation: str, as_json: bool, **options: Any) -> None:
    """Say which labels, ids and (nearly) equal rows TRAIN and VALIDATION share, before a model is judged by them.

    \b
    Example:
      minestream compare train.parquet validation.parquet
    """
    given = {"progress": "auto", **given_only(options)}
    found = minestream.compare(train, validation, **given)
    sizes = {"TRAIN": {"rows": found.get("train_rows")}, "VALIDATION": {"rows": found.get("validation_rows")}}
    show_result(found, as_json, lambda _: printing.compare_text(found, validation, given), sizes=sizes)
