"""The commands `mine` and `merge`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import Field, replace
from typing import Any

import click

import minestream
from minestream.cli.groups import Command
from minestream.cli.options import JSON_HELP, QUIET_HELP, flags_of, given_only, options_of, show_result, visible_fields
from minestream.cli.report import plan_text, report_text
from minestream.config.commands import Merging, Mining, own_options
from minestream.config.keywords import MergeOptions, MineOptions
from minestream.config.option import GROUPS, help_of
from minestream.config.parse import PIPE
from minestream.errors import RunInterruptedError, UsageError
from minestream.system.console import show, tell
from minestream.system.progress import Event, Note
from minestream.system.stats import Report

EFFORT_VARIABLE = "MINESTREAM_EFFORT"  # --json then counts the work of the search, too, which differs from run to run
VERBOSE_HELP = "Report the options, the search and the seconds of each stage, too."
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
        rows["Output"] += [("-q, --quiet", QUIET_HELP), ("-v, --verbose", VERBOSE_HELP), ("--json", JSON_HELP)]
        rows["Resources"].append(("-h, --help", "Show this page."))
        for title, lines in rows.items():
            with formatter.section(title):
                formatter.write_dl(lines, col_max=NAMES_COLUMN)


verbose_option = click.option("verbose", "-v", "--verbose", is_flag=True, help=VERBOSE_HELP)


class Heard:
    """The notes that progress shows while a run works: the closing report need not repeat them."""

    def __init__(self, progress: str | None) -> None:
        self._shown, self._notes = progress != "none", set[str]()

    def listen(self, event: Event) -> None:
        """Remember a note."""
        if self._shown and isinstance(event, Note):
            self._notes.add(event.text)

    def rest(self, report: Report) -> Report:
        """The report without the notes that were shown."""
        return replace(report, notes=tuple(note for note in report.notes if note not in self._notes))


@click.command(cls=MineCommand)
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@verbose_option
@options_of(Mining, also=MineOptions)
def mine(inputs: tuple[str, ...], out: str | None, as_json: bool, verbose: bool, **options: Any) -> None:
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
    given, heard = given_only(options), Heard(options["progress"])
    if inputs == (PIPE,) and out is None:
        raise UsageError("standard input has no name to make one of", "say where the rows go with -o")
    try:
        if out == PIPE:
            report = minestream.mine_pipe(list(inputs), **given)
        else:
            report = minestream.mine(list(inputs), out, progress_callback=heard.listen, **given)
    except KeyboardInterrupt:
        if options["window"]:
            raise RunInterruptedError("interrupted: a stream is not resumed", "start again with --overwrite") from None
        raise RunInterruptedError(
            "interrupted: finished parts are kept", "the same command with --resume goes on from there"
        ) from None
    with_effort = {"effort": report.effort} if os.environ.get(EFFORT_VARIABLE) else {}
    say = tell if out == PIPE else show  # where the rows went
    if as_json:
        say(json.dumps(report.to_dict() | with_effort, indent=2))
    else:
        say(report_text(heard.rest(report), verbose) if report.complete else plan_text(heard.rest(report)))


@click.command(cls=Command)
@click.argument("slices", nargs=-1, required=True, metavar="OUT | SLICE...")
@verbose_option
@options_of(Merging, also=MergeOptions)
def merge(slices: tuple[str, ...], source: tuple[str, ...], as_json: bool, verbose: bool, **options: Any) -> None:
    """Make one output of its slices: the bytes of one run over everything.

    Every slice must be there and of one job, and every part as it was written; else nothing is made. The slices stay.

    \b
    Example:
      minestream mine embeddings/ -o triplets/ --shard 1/2
      minestream mine embeddings/ -o triplets/ --shard 2/2
      minestream merge triplets/
    """
    heard = Heard(options["progress"])
    report = minestream.merge(
        list(slices), source=list(source) or None, progress_callback=heard.listen, **given_only(options)
    )
    show_result(report.to_dict(), as_json, lambda _: report_text(heard.rest(report), verbose))
