"""The commands `mine` and `merge`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import Field
from typing import Any

import click

import minestream
from minestream.cli import printing
from minestream.cli.groups import Command
from minestream.cli.options import JSON_HELP, flags_of, given_only, options_of, show_result, visible_fields
from minestream.config.commands import Merging, Mining, own_options
from minestream.config.keywords import MergeOptions, MineOptions
from minestream.config.option import GROUPS, help_of
from minestream.config.parse import PIPE
from minestream.errors import RunInterruptedError, UsageError
from minestream.system.console import show, tell

EFFORT_VARIABLE = "MINESTREAM_EFFORT"  # --json then counts the work of the search, too, which differs from run to run
NAMES_COLUMN = 34  # longer option names take a line of their own


def option_rows(spec: Field[Any]) -> Iterator[tuple[str, str]]:
    """The lines of help of an option: the option itself, then each of its choices."""
    about = spec.metadata
    metavar = about["metavar"] or ("NAME" if about["kind"] == "choice" else "")
    yield f"{', '.join(flags_of(spec))} {metavar}".strip(), help_of(spec, choices=False)
    for name, choice in (about["choices"] or {}).items():
        condition, meaning = getattr(choice, "condition", ""), getattr(choice, "help", choice)
        default = " (default)" if name == spec.default else ""
        yield f"    {name}", f"{condition}: {meaning}{default}" if condition else f"{meaning}{default}"


class MineCommand(Command):
    """`mine`, whose help shows its options in groups, and each choice with its meaning."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options, group by group."""
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        for spec in (*own_options(Mining).values(), *visible_fields()):
            rows[spec.metadata["group"]].extend(option_rows(spec))
        rows["Output"].append(("--json", JSON_HELP))
        rows["Resources"].append(("-h, --help", "Show this page."))
        for title, lines in rows.items():
            with formatter.section(title):
                formatter.write_dl(lines, col_max=NAMES_COLUMN)


@click.command(cls=MineCommand)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@options_of(Mining, also=MineOptions)
def mine(inputs: tuple[str, ...], out: str | None, as_json: bool, **options: Any) -> None:
    """Mine triplets, pairs or tuples from INPUT: Parquet or Arrow files, folders or glob patterns, or - for an Arrow
    stream on standard input.

    Nothing but INPUT is needed: the columns are found by name and type.

    \b
    Example:
      minestream mine digits.parquet
      minestream mine embeddings/ -o triplets/ --label product --margin 0.3 -k 4
      minestream mine digits.parquet --emit pairs --dry-run
      producer | minestream mine - -o - | consumer
    """
    given = given_only(options)
    if inputs == (PIPE,) and out is None:
        raise UsageError("standard input has no name to make one of", "say where the rows go with -o")
    try:
        if out == PIPE:
            report = minestream.mine_pipe(list(inputs), **given)
        else:
            report = minestream.mine(list(inputs), out, **given)
    except KeyboardInterrupt:
        if options["window"]:
            raise RunInterruptedError("interrupted: a stream is not resumed", "start again with --overwrite") from None
        raise RunInterruptedError(
            "interrupted: finished parts are kept", "the same command with --resume goes on from there"
        ) from None
    text = printing.report_text(report) if report.complete else printing.plan_text(report)
    with_effort = {"effort": report.effort} if os.environ.get(EFFORT_VARIABLE) else {}
    print_text = tell if out == PIPE else show  # the rows went to standard output
    print_text(json.dumps(report.to_dict() | with_effort, indent=2) if as_json else text)


@click.command(cls=Command)
@click.argument("slices", nargs=-1, required=True, metavar="OUT | SLICE...")
@options_of(Merging, also=MergeOptions)
def merge(slices: tuple[str, ...], source: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Make one output of its slices: the bytes of one run over everything.

    Every slice must be there and of one job, and every part as it was written; else nothing is made. The slices stay.

    \b
    Example:
      minestream mine embeddings/ -o triplets/ --shard 1/2
      minestream mine embeddings/ -o triplets/ --shard 2/2
      minestream merge triplets/
    """
    report = minestream.merge(list(slices), source=list(source) or None, **given_only(options))
    show_result(report.to_dict(), as_json, lambda _: printing.report_text(report))
