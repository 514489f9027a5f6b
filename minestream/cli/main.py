"""The command line: parse, call the library function of the same name, print.

The options come from tables (config/mine_config.py, resources.py, commands.py), the text from `printing`. A command is
loaded when it is asked for, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

import click

import minestream
from minestream.cli.groups import Group
from minestream.cli.guide import pages, show_page
from minestream.cli.help import Command, Context
from minestream.errors import (
    TRACEBACK,
    CapacityError,
    MinestreamError,
    RunInterruptedError,
    UsageError,
    defect,
    is_near,
    nearest_name,
    printable,
    speaking_options,
)
from minestream.system.console import show, tell
from minestream.system.contract import SUBCOMMANDS, contract, printed

COMPLETE = "_MINESTREAM_COMPLETE"  # what shells set
ROWS_OUT = {("-o", "-"), ("--out", "-")}  # standard output is for rows
SECRETS = re.compile(r"(?<=://)[^/]*@|\?.*")  # of a URI: who asks, and its query


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


def named_pages(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """The commands and pages whose names begin so."""
    return [name for name in (*cli.commands, *pages()) if name.startswith(incomplete)]


@click.command("help", cls=Command)
@click.argument("page", required=False, metavar="[COMMAND | PAGE]", shell_complete=named_pages)
@click.pass_context
def help_page(context: click.Context, page: str | None) -> None:
    """Show the help of COMMAND, or PAGE of the guide; without either, a list of both.

    \b
    Example:
      minestream help mine
      minestream help mining
    """
    above = context.parent or context
    if page is None:
        show(above.get_help())
    elif page in cli.commands:
        show(cli.commands[page].get_help(Context(cli.commands[page], parent=above, info_name=page)))
    elif page in pages():
        show_page(page)
    else:
        raise UsageError(f"no command or page {page!r}", nearest_name(page, [*cli.commands, *pages()]))


@click.command(cls=Command, hidden=True)
def version() -> None:
    """Show the version, as --version does."""
    show(f"minestream, version {minestream.__version__}")


def usage_error(error: click.UsageError) -> UsageError:
    """A usage error of click's as one of ours."""
    command = error.ctx.command_path if error.ctx else "minestream"
    # Not loaded for --help.
    from minestream.config.names import GONE, foreign_option, unknown_option
    from minestream.config.resolve import OPTION_FIELDS

    if isinstance(error, click.NoSuchOption):
        plain = error.option_name.lstrip("-").replace("-", "_")
        flags = {flag for option in (error.ctx.command.params if error.ctx else ()) for flag in option.opts}
        ours = foreign_option(command.rpartition(" ")[2], plain, flags)
        if plain in GONE or ours:
            return unknown_option(error.option_name, ours=ours)
        near = [each for each in error.possibilities or () if is_near(error.option_name, each)]
        near = [] if plain in OPTION_FIELDS else near  # an option of mine is no slip of the pen
        error = click.NoSuchOption(error.option_name, possibilities=near, ctx=error.ctx)
    hint = f"{command} {'--help-all' if command.endswith(' mine') else '--help'} lists what there is"
    if isinstance(error, click.BadParameter) and error.param is not None and "," in error.message:
        hint = GONE.get(f"{error.param.name}=several", hint)
    elif isinstance(error, click.BadParameter) and (spec := getattr(error.param, "spec", None)):
        hint = "; ".join(filter(None, (spec.metadata["within"].hint, hint)))
    return UsageError(error.format_message(), hint)


def refuse_single_dashes(given: Sequence[str]) -> None:
    """Refuse -out for --out, which would be read as -o ut: click takes what follows a letter as its value."""
    command = cli.commands.get(given[0]) if given else None
    flags = {flag for option in (command.params if command else ()) for flag in option.opts}
    for word in given:
        flag = word.partition("=")[0]
        if len(flag) > 2 and flag[0] == "-" != flag[1] and f"-{flag}" in flags:
            raise UsageError(f"no option {flag!r}", f"with two dashes: -{flag}")


def refuse_gone_formats(given: Sequence[str]) -> None:
    """Refuse a format of trainers by its name: click would refuse the --text beside it, which says less."""
    for flag, value in pairwise("=".join(given).split("=")) if "mine" in given[:1] else ():
        if flag == "--emit":
            from minestream.config.names import refuse_gone  # not loaded for --help

            refuse_gone("emit", value)


def fail(error: MinestreamError, given: Sequence[str], spent: float) -> int:
    """Print the error that ended a command line after so many seconds; the exit code."""
    hint = "; ".join(filter(None, (error.hint, *getattr(error, "__notes__", ()))))
    tell(printable(f"error: {error.message}"))
    if hint:
        tell(printable(f"hint: {hint}"))
    # Looked up by hand: a command line that click refuses is answered in JSON, too.
    if "--json" in given:
        said = {"kind": type(error).__name__, "message": error.message, "hint": hint}
        about = said | {"exit_code": error.exit_code}
        name = given[0] if given[0] in SUBCOMMANDS else None
        from minestream.config.command_line import recorded  # not loaded for --help

        line = shlex.join(["minestream", *(SECRETS.sub("", word) if "://" in word else word for word in given)])
        ran = {"seconds": {"total": spent, "stages": {}}, **recorded(line)}
        with suppress(MinestreamError):
            say = tell if ROWS_OUT & {*pairwise("=".join(given).split("="))} else show
            say(printed(contract(name, state="failed", error=about, **ran)))
    return error.exit_code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line (default: the process's); the exit code."""
    if arguments is None and os.environ.get(COMPLETE):
        from minestream.cli.completion import answer

        return answer(cli, COMPLETE)
    given, began = list(sys.argv[1:] if arguments is None else arguments), time.perf_counter()
    with speaking_options():
        try:
            refuse_single_dashes(given)
            refuse_gone_formats(given)
            with cli.make_context("minestream", [*given] or ["--help"]) as context:
                cli.invoke(context)
            return 0
        except click.exceptions.Exit as leave:
            return leave.exit_code
        except BaseException as error:  # exit code 1 is that of verify alone, and Python's for whatever is not caught
            return fail(as_ours(error), given, time.perf_counter() - began)


def as_ours(error: BaseException) -> MinestreamError:
    """The error that ended a command, as one of ours, which has an exit code."""
    if isinstance(error, MinestreamError):
        return error
    if isinstance(error, click.UsageError):
        return usage_error(error)
    if isinstance(error, MemoryError):
        return CapacityError("out of memory", "give a smaller --memory, or fewer --threads")
    if isinstance(error, KeyboardInterrupt | click.Abort):
        notes = getattr(error, "__notes__", ["run the same command again"])
        return RunInterruptedError("interrupted", "; ".join(notes))
    if str(error) == "can't start new thread":
        hint = "give fewer --threads, or raise the limits on memory and processes (ulimit -v, ulimit -u)"
        return CapacityError("no thread can be started", hint)
    if os.environ.get(TRACEBACK):
        traceback.print_exception(error)
    return defect(error)
