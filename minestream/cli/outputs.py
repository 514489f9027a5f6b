"""The commands that write files: `export` and `refilter`, from a mined file, and `sample`."""

from __future__ import annotations

from typing import Any

import click

import minestream
from minestream.cli import printing
from minestream.cli.help import Command
from minestream.cli.options import given_only, options_of, show_result
from minestream.config.commands import Exporting, Refiltering, Sampling
from minestream.errors import printable


@click.command(cls=Command)
@click.argument("mined", metavar="MINED")
@options_of(Exporting)
def export(mined: str, out: str | None, emit: str, as_json: bool, **options: Any) -> None:
    """Write MINED, a file or folder of triplets or tuples, as a trainer reads it, with its texts.

    \b
    Example:
      minestream export docs.triplets.parquet --emit st-triplets --text text
    """
    show_result(minestream.export(mined, out, emit=emit, **given_only(options)), as_json, printing.export_text)


@click.command(cls=Command)
@click.argument("mined", metavar="MINED")
@options_of(
    Refiltering,
    "relative_margin", "absolute_margin", "max_similarity", "min_similarity", "reference", "require_rows", "max_short",
)  # fmt: skip
def refilter(mined: str, out: str, as_json: bool, **options: Any) -> None:
    """Filter MINED by the scores of TABLE and keep the K best of each pair: mine 50, rescore them, keep 7.

    To the filters a similarity is a score of TABLE. It is select --scores, and takes LISTS as that does.

    \b
    Example:
      minestream refilter mined.parquet --scores cross.parquet --relative-margin 0.05 -k 7 -o kept.parquet
    """
    found: Any = minestream.refilter(mined, out, **given_only(options))
    if not isinstance(found, dict):
        from minestream.cli.report import report_text  # not loaded for --help

        return show_result(found, as_json, report_text)
    return show_result(found, as_json, printing.refilter_text, sizes={"MINED": {"rows": found.get("candidates")}})


@click.command(cls=Command)
@click.argument("path", metavar="PATH")
@options_of(Sampling)
def sample(path: str, as_json: bool, **options: Any) -> None:
    """Write a real sample to PATH: 1,797 handwritten digits of 64 values with their labels.

    \b
    Example:
      minestream sample digits.parquet
    """
    found = {"output": minestream.sample(path, **given_only(options)), "rows": 1797}
    text = printable(f"wrote {path}: 1,797 handwritten digits\nnext: minestream mine {path}")
    show_result(found, as_json, lambda _: text)
