"""The command line: parse, call the library function of the same name, print.

The options of `mine` are made from `config.OPTION_FIELDS`; what is printed is made by `printing`. Nothing heavy
is imported before a command needs it, so that `--help` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import Field
from pathlib import Path
from typing import Any

import click

import minestream
from minestream import printing
from minestream.cli_fit import apply_linear, fit
from minestream.cli_insight import profile
from minestream.cli_merge import merge
from minestream.cli_options import JSON_HELP, Command, Group, given_only, json_option, show_result
from minestream.config import OPTION_FIELDS, flag_of, unknown_option
from minestream.errors import (
    TRACEBACK,
    CapacityError,
    Interrupted,
    MinestreamError,
    OutputError,
    UsageError,
    defect,
    nearest_name,
    printable,
)
from minestream.gone import GONE
from minestream.options import FOREIGN_OPTIONS, GROUPS
from minestream.rules import REFERENCES
from minestream.standard import show, tell
from minestream.trainers import FORMATS
from minestream.values import PIPE

OUTPUT_HELP = (
    "A .parquet file, or a folder of parts, or - for an Arrow stream on standard output. "
    "Default: INPUT's stem.triplets.parquet, here."
)
EFFORT_VARIABLE = "MINESTREAM_EFFORT"  # where set, --json says how the search went too, which differs from run to run
TYPES: dict[str, Any] = {"integer": click.INT, "number": click.FLOAT}
NAMES_COLUMN = 34  # longer option names take a line of their own


def flags_of(spec: Field[Any]) -> tuple[str, ...]:
    """The command-line options of a field."""
    flags: tuple[str, ...] = spec.metadata["flags"]
    return flags or (flag_of(spec.name),)


def option_rows(spec: Field[Any]) -> Iterator[tuple[str, str]]:
    """The lines of help of one field: the option with what it takes, then each of its choices."""
    about = spec.metadata
    metavar = about["metavar"] or ("NAME" if about["kind"] == "choice" else "")
    told = about["kind"] in ("choice", "flag", "repeat") or spec.default is None or "default" in about["help"].lower()
    yield (
        f"{', '.join(flags_of(spec))} {metavar}".strip(),
        about["help"] + ("" if told else f" Default: {spec.default}."),
    )
    for name, choice in (about["choices"] or {}).items():
        condition, meaning = getattr(choice, "condition", ""), getattr(choice, "help", choice)
        default = " (default)" if name == spec.default else ""
        yield f"    {name}", f"{condition}: {meaning}{default}" if condition else f"{meaning}{default}"


def visible_fields() -> list[Field[Any]]:
    """The fields that are options of the command line."""
    return [spec for spec in OPTION_FIELDS.values() if spec.metadata["kind"] != "hidden"]


class MineCommand(Command):
    """`mine`: its options are shown in the groups of the table, each choice with its meaning."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The options under their titles."""
        rows: dict[str, list[tuple[str, str]]] = {group: [] for group in GROUPS}
        rows["Output"].append(("-o, --out OUT", OUTPUT_HELP))
        for spec in visible_fields():
            rows[spec.metadata["group"]].extend(option_rows(spec))
        rows["Output"].append(("--json", JSON_HELP))
        rows["Resources"].append(("-h, --help", "Show this page."))
        for title, lines in rows.items():
            with formatter.section(title):
                formatter.write_dl(lines, col_max=NAMES_COLUMN)


def mine_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate with every option of the table; none has a default here: only what was given is passed on."""
    for spec in reversed(visible_fields()):
        kind = spec.metadata["kind"]
        shape = {"is_flag": True} if kind == "flag" else {"multiple": kind == "repeat", "default": None}
        value_type = {} if kind == "flag" else {"type": TYPES.get(kind, click.STRING)}
        function = click.option(spec.name, *flags_of(spec), **shape, **value_type)(function)
    return function


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(minestream.__version__, prog_name="minestream")
def cli() -> None:
    """Mine training triplets and pairs from embeddings: exact, deterministic, larger than memory.

    \b
    Example:
      minestream sample digits.parquet
      minestream mine digits.parquet
      minestream describe digits.triplets.parquet
      minestream verify digits.triplets.parquet
    """


@cli.command(cls=MineCommand, short_help="Mine triplets, pairs or tuples.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--out", metavar="OUT", help=OUTPUT_HELP)
@mine_options
@json_option
def mine(inputs: tuple[str, ...], out: str | None, as_json: bool, **options: Any) -> None:
    """Mine triplets, pairs or tuples from INPUT: Parquet or Arrow files, folders or glob patterns, or - for an Arrow
    stream on standard input.

    Nothing but INPUT is needed: the columns are found by themselves.

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
            raise Interrupted("interrupted: a stream is not resumed", "start again with --overwrite") from None
        raise Interrupted(
            "interrupted: finished parts are kept", "the same command with --resume goes on from there"
        ) from None
    text = printing.report_text(report) if report.complete else printing.plan_text(report)
    with_effort = {"effort": report.effort} if os.environ.get(EFFORT_VARIABLE) else {}
    say = tell if out == PIPE else show  # where the rows went
    say(json.dumps(report.to_dict() | with_effort, indent=2) if as_json else text)


@cli.command(short_help="Say what is in a mined file.")
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


@cli.command(short_help="Check a mined file against its source.")
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


@cli.command(short_help="Say what two splits share.")
@click.argument("train", metavar="TRAIN")
@click.argument("validation", metavar="VALIDATION")
@click.option("--within", type=click.FLOAT, metavar="T", help="Distance of near duplicates. Default: 0.02 (cosine).")
@click.option("-o", "--out", metavar="OUT", help="A .parquet file for the validation rows that are near duplicates.")
@click.option("--embedding", metavar="COL", help="Column of the embeddings, as in mine.")
@click.option("--label", metavar="COL", help="Column of the labels, as in mine.")
@click.option("--id", metavar="COL", help="Column of the ids, as in mine.")
@click.option("--metric", metavar="NAME", help="Distance, as in mine. Default: cosine.")
@click.option("--memory", metavar="SIZE", help="Bound on what is allocated for data, as in mine.")
@click.option("--threads", type=click.INT, metavar="N", help="Threads, as in mine.")
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


@cli.command(short_help="Convert mined triplets to a trainer's format.")
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
    from minestream.remote import shown

    suffix = FORMATS[emit].suffix if emit in FORMATS else ""
    path = out or f"{Path(shown(mined)).stem}{f'.{emit}'.removesuffix(suffix)}{suffix}"
    found = minestream.export(mined, path, emit=emit, **given_only(options))
    show_result(found, as_json, printing.verify_text, found)


@cli.command(short_help="Filter mined rows again by a cross-encoder's scores.")
@click.argument("mined", metavar="MINED")
@click.option("--scores", required=True, metavar="TABLE", help="Table of query_id, document_id, score (as --qrels).")
@click.option("-k", "--negatives", required=True, type=click.INT, metavar="K", help="Negatives of a pair that stay.")
@click.option("-o", "--out", required=True, metavar="OUT", help="The .parquet file to write.")
@click.option("--relative-margin", type=click.FLOAT, metavar="R", help="As in mine, on these scores.")
@click.option("--absolute-margin", type=click.FLOAT, metavar="G", help="As in mine, on these scores.")
@click.option("--max-similarity", type=click.FLOAT, metavar="S", help="As in mine, on these scores.")
@click.option("--min-similarity", type=click.FLOAT, metavar="S", help="As in mine, on these scores.")
@click.option("--reference", metavar="NAME", help=f"{', '.join(REFERENCES)}: as in mine. Default: pair.")
@click.option(
    "--missing-scores", metavar="NAME",
    help="Mined rows that lack a score: error (default), drop, or keep behind the others.",
)  # fmt: skip
@click.option("--require-rows", type=click.INT, metavar="N", help="Gate: exit 6 when fewer than N rows come out.")
@click.option("--max-short", metavar="P%", help="Gate: exit 6 when more than P% of the pairs are short.")
@click.option("--overwrite", is_flag=True, help="Replace OUT when it exists.")
@json_option
def refilter(mined: str, out: str, as_json: bool, **options: Any) -> None:
    """Filter MINED by the scores of TABLE and keep the K best of each pair: mine 50, rescore them, keep 7.

    \b
    Example:
      minestream refilter mined.parquet --scores cross.parquet --relative-margin 0.05 -k 7 -o kept.parquet
    """
    found = minestream.refilter(mined, out, **given_only(options))
    show_result(found, as_json, printing.verify_text, found)


@cli.command(short_help="Write a real sample: handwritten digits.")
@click.argument("path", metavar="PATH")
@click.option("--overwrite", is_flag=True, help="Replace PATH when it exists.")
def sample(path: str, overwrite: bool) -> None:
    """Write a real sample to PATH: 1,797 handwritten digits of 64 values with their labels.

    \b
    Example:
      minestream sample digits.parquet
    """
    from importlib.resources import files

    from minestream.conversion import publishing
    from minestream.places import place_of

    content = files("minestream").joinpath("data", "digits.parquet").read_bytes()
    place = place_of(path, OutputError)
    there = place.exists() and not place.is_dir() and place.read_bytes() == content
    if there and not overwrite:
        raise OutputError(f"{path} exists", "it is this sample already")
    if not there:
        with publishing(place, overwrite, []) as draft:
            draft.path.write_bytes(content)
    show(printable(f"wrote {path}: 1,797 handwritten digits\nnext: minestream mine {path}"))


@cli.command(name="help", short_help="Show this page, or that of a command.")
@click.argument("command", required=False, metavar="[COMMAND]")
@click.pass_context
def help_page(context: click.Context, command: str | None) -> None:
    """Show the help of COMMAND, or of all.

    \b
    Example:
      minestream help mine
    """
    above = context.parent or context
    if command is None:
        show(above.get_help())
    elif command in cli.commands:
        show(cli.commands[command].get_help(click.Context(cli.commands[command], parent=above, info_name=command)))
    else:
        raise UsageError(f"no command {command!r}", nearest_name(command, list(cli.commands)))


@cli.command(hidden=True)
def version() -> None:
    """Show the version, as --version does."""
    show(f"minestream, version {minestream.__version__}")


for command in (profile, fit, apply_linear, merge):
    cli.add_command(command)


def usage_error(error: click.UsageError) -> UsageError:
    """What click found wrong, in our words."""
    command = error.ctx.command_path if error.ctx else "minestream"
    if isinstance(error, click.NoSuchOption):
        plain = error.option_name.lstrip("-").replace("-", "_")
        foreign = plain in FOREIGN_OPTIONS and (command.endswith(" mine") or "nothing" in FOREIGN_OPTIONS[plain])
        if plain in GONE or foreign:
            return unknown_option(error.option_name)
    hint = f"{command} --help lists what there is"
    if isinstance(error, click.BadParameter) and error.param is not None and "," in error.message:
        hint = GONE.get(f"{error.param.name}=several", hint)
    return UsageError(error.format_message(), hint)


def refuse_single_dashes(given: Sequence[str]) -> None:
    """Refuse -out for --out, which would be read as -o ut: click takes what follows a letter as its value."""
    command = cli.commands.get(given[0]) if given else None
    flags = {flag for option in (command.params if command else ()) for flag in option.opts}
    for word in given:
        flag = word.partition("=")[0]
        if len(flag) > 2 and flag[0] == "-" != flag[1] and f"-{flag}" in flags:
            raise UsageError(f"no option {flag!r}", f"with two dashes: -{flag}")


def fail(error: MinestreamError, as_json: bool) -> int:
    """Say what went wrong; the exit code."""
    tell(printable(f"error: {error.message}"))
    if error.hint:
        tell(printable(f"hint: {error.hint}"))
    if as_json:
        what = {"type": type(error).__name__, "message": error.message, "hint": error.hint}
        with suppress(MinestreamError):
            show(json.dumps({"error": what | {"exit_code": error.exit_code}}, indent=2))
    return error.exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's); the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # Looked up by hand: a command line that click refuses still answers in JSON.
    as_json = "--json" in given
    try:
        refuse_single_dashes(given)
        with cli.make_context("minestream", given or ["--help"]) as context:
            cli.invoke(context)
        return 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except BaseException as error:  # exit code 1 is that of verify alone, and Python's for whatever is not caught
        return fail(as_ours(error), as_json)


def as_ours(error: BaseException) -> MinestreamError:
    """Whatever ended a command, as an error with an exit code of ours."""
    if isinstance(error, MinestreamError):
        return error
    if isinstance(error, click.UsageError):
        return usage_error(error)
    if isinstance(error, MemoryError):
        return CapacityError("out of memory", "give a smaller --memory, or fewer --threads")
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Interrupted("interrupted")
    if str(error) == "can't start new thread":
        hint = "give fewer --threads, or raise the limits on memory and processes (ulimit -v, ulimit -u)"
        return CapacityError("no thread can be started", hint)
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    return defect(error)
