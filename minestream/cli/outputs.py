"""The commands that write a mined file in another form: `export` and `refilter`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import minestream
from minestream.cli import printing
from minestream.cli.options import Command, given_only, json_option, options_of_mine, show_result
from minestream.config.trainer_formats import FORMATS


@click.command(cls=Command, short_help="Convert mined triplets to a trainer's format.")
@click.argument("mined", metavar="MINED")
@click.option("-o", "--out", metavar="OUT", help="The file to write. Default: MINED's stem and the format's name.")
@click.option("--emit", required=True, metavar="NAME", help=f"The format: {', '.join(FORMATS)}.")
@click.option("--text", metavar="COL", help="Column of the texts. Default: the only text column carried.")
@click.option("--query-text", metavar="COL", help="The same of the queries, where it has another name.")
@click.option("--source", metavar="PATH", help="The mined input, when it is not where it was, beside MINED or here.")
@click.option("--corpus", metavar="PATH", help="The mined corpus, likewise.")
@click.option(
    "--scores", metavar="NAME",
    help="similarity, negative-distance, none; after refilter also rescored: its table's. Default: the format's.",
)  # fmt: skip
@click.option("--short-rows", metavar="NAME", help="keep, drop or repeat. Default: the format's.")
@click.option("--overwrite", is_flag=True, help="Replace OUT when it exists.")
@json_option
def export(mined: str, out: str | None, emit: str, as_json: bool, **options: Any) -> None:
    """Write MINED, a file or folder of triplets or tuples, as a trainer reads it, with its texts.

    \b
    Example:
      minestream export docs.triplets.parquet --emit st-triplets --text text
    """
    from minestream.system.stores import shown

    suffix = FORMATS[emit].suffix if emit in FORMATS else ""
    path = out or f"{Path(shown(mined)).stem}{f'.{emit}'.removesuffix(suffix)}{suffix}"
    found = minestream.export(mined, path, emit=emit, **given_only(options))
    show_result(found, as_json, printing.verify_text, found)


@click.command(cls=Command, short_help="Filter mined rows again by a cross-encoder's scores.")
@click.argument("mined", metavar="MINED")
@click.option("--scores", required=True, metavar="TABLE", help="Table of query_id, document_id, score (as --qrels).")
@click.option("-k", "--negatives", required=True, type=click.INT, metavar="K", help="Negatives of a pair that stay.")
@click.option("-o", "--out", required=True, metavar="OUT", help="The .parquet file to write.")
@options_of_mine("relative_margin", "absolute_margin", "max_similarity", "min_similarity", "reference")
@click.option(
    "--missing-scores", metavar="NAME",
    help="Mined rows that lack a score: error (default), drop, or keep behind the others.",
)  # fmt: skip
@options_of_mine("require_rows", "max_short")
@click.option("--overwrite", is_flag=True, help="Replace OUT when it exists.")
@json_option
def refilter(mined: str, out: str, as_json: bool, **options: Any) -> None:
    """Filter MINED by the scores of TABLE and keep the K best of each pair: mine 50, rescore them, keep 7.

    To the filters a similarity is a score of TABLE.

    \b
    Example:
      minestream refilter mined.parquet --scores cross.parquet --relative-margin 0.05 -k 7 -o kept.parquet
    """
    found = minestream.refilter(mined, out, **given_only(options))
    show_result(found, as_json, printing.verify_text, found)
