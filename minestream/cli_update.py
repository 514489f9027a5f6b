"""The command `update`."""

from __future__ import annotations

import json
from typing import Any

import click

import minestream
from minestream.cli_options import JSON_HELP, given_only, options_of_mine
from minestream.errors import Interrupted
from minestream.standard import show


@click.command(short_help="Bring a mined file up to date with its source.")
@click.argument("out", metavar="OUT")
@click.option("--source", metavar="PATH", help="The input as it is now, if not where it was, beside OUT or here.")
@click.option("--corpus", metavar="PATH", help="The corpus, likewise.")
@click.option("--qrels", metavar="PATH", help="The known positives, likewise.")
@options_of_mine("reserve", "vectors", "memory", "scratch", "threads", "progress")
@click.option("as_json", "--json", is_flag=True, help=JSON_HELP)
def update(out: str, as_json: bool, **options: Any) -> None:
    """Bring OUT up to date: the bytes of a full run on the source as it is now, at the cost of what has changed.

    Rows are followed by id (without ids by number). What an earlier run remembers lies in OUT.reserve.parquet, which
    `mine --reserve` writes, and update writes anew; without it everything is mined again. OUT stays whole until its
    successor replaces it.

    \b
    Example:
      minestream mine digits.parquet --reserve 16
      minestream update digits.triplets.parquet
    """
    from minestream.printing import update_text

    try:
        found = minestream.update(out, **given_only(options))
    except KeyboardInterrupt:
        raise Interrupted("interrupted: OUT is as it was", "the same command begins again") from None
    show(json.dumps(found.to_dict(), indent=2) if as_json else update_text(found))
