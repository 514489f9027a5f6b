"""The command `merge`: slices of `mine --shard`, made one output."""

from __future__ import annotations

import json
from typing import Any

import click

import minestream
from minestream import printing
from minestream.cli_options import Command, given_only, json_option, options_of_mine
from minestream.standard import show


@click.command(cls=Command, short_help="Make one output of slices mined with --shard.")
@click.argument("slices", nargs=-1, required=True, metavar="OUT | SLICE...")
@click.option("-o", "--out", metavar="OUT", help="The file or folder to write, where slices are named one by one.")
@click.option(
    "--source", multiple=True, metavar="PATH",
    help="The mined input, for what is finished over all rows: pairs, --order shuffled, --max-uses, trainer formats.",
)  # fmt: skip
@options_of_mine(
    "corpus", "qrels", "exclude", "exclude_rows", "vectors", "require_rows",
    "max_short", "memory", "scratch", "threads", "resume", "overwrite", "progress",
)  # fmt: skip
@json_option
def merge(slices: tuple[str, ...], out: str | None, source: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Make one output of its slices: the bytes of one run over everything.

    Every slice must be there and of one job, and every part as it was written; else nothing is made. The slices stay.

    \b
    Example:
      minestream mine embeddings/ -o triplets/ --shard 1/2
      minestream mine embeddings/ -o triplets/ --shard 2/2
      minestream merge triplets/
    """
    report = minestream.merge(list(slices), out, source=list(source) or None, **given_only(options))
    show(json.dumps(report.to_dict(), indent=2) if as_json else printing.report_text(report))
