"""The commands `mine` and `merge`."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from contextlib import chdir
from dataclasses import replace
from typing import Any

import click

import minestream
from minestream.cli.help import Command, show_help
from minestream.cli.options import given_only, in_groups, option_rows, options_of, show_result
from minestream.cli.report import plan_text, report_text
from minestream.cli.table_option import names_of
from minestream.config.commands import Merging, Mining, Repeating, Selecting
from minestream.config.keywords import MergeOptions, MineOptions, SelectOptions
from minestream.config.option import FIRST, help_of
from minestream.config.parse import PIPE
from minestream.errors import UsageError, printable
from minestream.system.console import show, tell
from minestream.system.contract import printed
from minestream.system.progress import Event, Note
from minestream.system.stats import Report

EFFORT_VARIABLE = "MINESTREAM_EFFORT"  # --json then counts the work of the search, too, which differs from run to run
ALL = "minestream.all"  # in the meta of a context: whether help shows every option


def show_all(context: click.Context, option: click.Parameter, wanted: bool) -> None:
    """Print the help with every option."""
    context.meta[ALL] = wanted
    show_help(context, option, wanted)


class MineCommand(Command):
    """`mine`, whose help shows what is used first; --help-all every option in groups, each choice with its meaning."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options used first and where more is, or every option, group by group."""
        groups, last = in_groups(), "Options used first"
        rows = [
            (names_of(spec), help_of(spec))
            for specs in groups.values()
            for spec in specs
            if spec.metadata["use"] == FIRST
        ]
        if ctx.meta.get(ALL):
            rows, last = [], "Help"
            for title, specs in groups.items():
                with formatter.section(title):
                    formatter.write_dl([row for spec in specs for row in option_rows(spec)])
        with formatter.section(last):
            helps = [each.get_help_record(ctx) for each in self.get_params(ctx)[-2:]]
            formatter.write_dl([*rows, *filter(None, helps)])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Where more is."""
        formatter.write("\nMore: minestream help PAGE (mining, retrieval, trainers, options, exit-codes).\n")


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
        return replace(report, notes=self.rest_of(report.notes))

    def rest_of(self, lines: Iterable[str]) -> tuple[str, ...]:
        """The lines that were not shown as notes."""
        return tuple(line for line in lines if line not in self._notes)


def asked(config: str | None, save_config: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """The options and `inputs` of a run, of a file and of the command line; they are saved where that is wanted."""
    from minestream.outputs.recipes import read_recipe, write_recipe  # not loaded for --help

    values = (read_recipe(config) if config else {}) | given
    inputs, out = values.pop("inputs", None), values.pop("out", None)
    if not inputs:
        context = click.get_current_context()
        raise click.MissingParameter(ctx=context, param=context.command.params[0])
    values = {"inputs": [inputs] if isinstance(inputs, str) else list(inputs), "out": out, **values}
    if save_config:
        write_recipe(save_config, values)
    return values


@click.command(cls=MineCommand)
@click.argument("inputs", nargs=-1, metavar="INPUT...")
@options_of(Mining, "verbose", "config", "save_config", also=MineOptions)
@click.option(
    "--help-all", is_flag=True, is_eager=True, expose_value=False, callback=show_all,
    help="Show every option, by group, with each choice and its meaning."
)  # fmt: skip
def mine(as_json: bool, verbose: bool, config: str | None, save_config: str | None, **options: Any) -> None:
    """Mine triplets, pairs or tuples from INPUT: files (Parquet, Arrow, CSV, JSON lines, NumPy), folders, patterns, or
    - for a stream. The columns are found by name and type.

    \b
    Example, with labels:
      minestream mine digits.parquet
      minestream mine products.parquet --label product -k 4 -o hard.parquet

    \b
    Example, with known positives (qrels):
      minestream mine queries.parquet --corpus docs.parquet --qrels qrels.tsv \\
          --relative-margin 0.05 -k 7 --emit tuples --carry text -o hard.parquet
    """
    given = asked(config, save_config, given_only(options))
    inputs, out, heard = given.pop("inputs"), given.pop("out"), Heard(given.get("progress"))
    if inputs == [PIPE] and out is None:
        raise UsageError("standard input has no name to make one of", "say where the rows go with -o")
    if out == PIPE:
        report = minestream.mine_pipe(inputs, **given)
    else:
        report = minestream.mine(inputs, out, progress_callback=heard.listen, **given)
    if as_json:
        told = report.to_dict()
        told["result"] |= {"effort": report.effort} if os.environ.get(EFFORT_VARIABLE) else {}
        text = printed(told)
    else:
        text = report_text(heard.rest(report), verbose) if report.complete else plan_text(heard.rest(report))
    show(text, aside=out == PIPE)  # standard output has the rows


@click.command(cls=Command)
@click.argument("slices", nargs=-1, required=True, metavar="OUT | SLICE...")
@options_of(Merging, "verbose", also=MergeOptions)
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
    show_result(report, as_json, lambda _: report_text(heard.rest(report), verbose))


@click.command(cls=Command)
@click.argument("lists", metavar="LISTS")
@options_of(Selecting, "verbose", also=SelectOptions)
def select(lists: str, out: str, as_json: bool, verbose: bool, **options: Any) -> None:
    """Mine again from LISTS, by another rule and without a search: the bytes of mine with that rule.

    A pair for which its list ends before the rule is satisfied is counted and left out: --undecided.

    \b
    Example:
      minestream mine docs.parquet --emit lists -k 200 -o docs.lists
      minestream select docs.lists --relative-margin 0.05 -k 7 --emit tuples -o hard.parquet
      minestream select docs.lists --skip 30 --within-top 200 --pick random -k 7 -o drawn.parquet

    \b
    Example, by a cross-encoder's scores of the candidates, and by a judge's verdicts:
      minestream select docs.lists --scores ce=cross.parquet --by "0.7*ce + 0.3*sim" -k 7 -o hard.parquet
      minestream select docs.lists --verdicts judged.parquet --qrels-out qrels.parquet -k 7 -o clean.parquet
    """
    heard = Heard(options["progress"])
    found = minestream.select(lists, out, progress_callback=heard.listen, **given_only(options))
    if isinstance(found, Report):
        show_result(found, as_json, lambda report: report_text(heard.rest(report), verbose))
    else:
        from minestream.cli.printing import refilter_text  # not loaded for --help

        show_result(found, as_json, refilter_text, sizes={"LISTS": {"rows": found.get("candidates")}})


@click.command(cls=Command)
@click.argument("mined", metavar="OUT")
@options_of(Repeating, "verbose", "progress")
def repeat(mined: str, out: str | None, as_json: bool, verbose: bool, **options: Any) -> None:
    """Run the command again that made OUT, a mined file or folder or a profile's, in the folder where it ran.

    It writes where OUT lies, which takes --overwrite while OUT is there, or to NEW.

    \b
    Example:
      minestream repeat digits.triplets.parquet -o again.parquet
    """
    from minestream.cli.insight import profile  # not loaded for --help, as the next
    from minestream.outputs.recipes import recorded_command

    (name, *words), folder = recorded_command(mined, out)
    flags = {"--overwrite": options["overwrite"], "--json": as_json, "--verbose": verbose}
    words += [flag for flag, wanted in flags.items() if wanted]
    words += ["--progress", options["progress"]] if options["progress"] else []
    if options["progress"] != "none":
        tell(printable(f"in {folder}: {shlex.join(['minestream', name, *words])}"))
    again = {"mine": mine, "merge": merge, "select": select, "profile": profile}[name]
    with chdir(folder), again.make_context(f"minestream {name}", words) as context:
        again.invoke(context)
