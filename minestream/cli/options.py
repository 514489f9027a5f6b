"""What commands share: their help, how they print, options of `mine` as the one table has them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import Field
from typing import Any

import click

from minestream.cli.guide import pages
from minestream.config.gone import GONE
from minestream.config.option import long_flag
from minestream.config.resolve import OPTION_FIELDS
from minestream.errors import EXIT_CODES, UsageError
from minestream.system.console import show

JSON_HELP = "Print JSON and nothing else on standard output."
KINDS: dict[str, Any] = {"integer": click.INT, "number": click.FLOAT}
Function = Callable[..., Any]


def flags_of(spec: Field[Any]) -> tuple[str, ...]:
    """The command-line options of a field."""
    flags: tuple[str, ...] = spec.metadata["flags"]
    return flags or (long_flag(spec),)


def options_of_mine(*names: str) -> Callable[[Function], Function]:
    """Decorate with options of mine; none has a default here: only what was given is passed on."""

    def decorated(function: Function) -> Function:
        for name in reversed(names):
            spec, about = OPTION_FIELDS[name], OPTION_FIELDS[name].metadata
            choices = f" One of {', '.join(about['choices'])}." if about["choices"] else ""
            choices += (
                f" Default: {spec.default}." if choices and spec.default and "Default" not in about["help"] else ""
            )
            shape: dict[str, Any] = {"is_flag": True}
            if about["kind"] != "flag":
                kind = KINDS.get(about["kind"], click.STRING)
                shape = {"default": None, "metavar": about["metavar"] or "NAME", "type": kind}
                shape["multiple"] = about["kind"] == "repeat"
            function = click.option(name, *flags_of(spec), help=about["help"] + choices, **shape)(function)
        return function

    return decorated


def given_only(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value not in (None, ()) and value is not False}


json_option = click.option("as_json", "--json", is_flag=True, help=JSON_HELP)


def show_help(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    """Print the help so that a reader who leaves early is no error."""
    if wanted and not context.resilient_parsing:
        show(context.get_help())
        context.exit()


class Command(click.Command):
    """A command whose help ends with the exit codes."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """The option --help, printing through `show`."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback = show_help
        return option

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in EXIT_CODES.items()])


class Group(Command, click.Group):
    """The commands; their help is the class above."""

    command_class = Command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, and the pages of the guide."""
        super().format_commands(ctx, formatter)
        with formatter.section("Pages of the guide, shown by `minestream help PAGE`"):
            formatter.write_dl(list(pages().items()))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of a name; a former one is answered with what does it now."""
        found = super().get_command(ctx, cmd_name)
        if found is None and cmd_name in GONE:
            raise UsageError(f"there is no command {cmd_name!r} any more", GONE[cmd_name])
        return found


def show_result(value: dict[str, Any], as_json: bool, text: Callable[[Any], str], told: Any) -> None:
    """Print what a command found: `value` as JSON, or the text about `told`."""
    show(json.dumps(value, indent=2) if as_json else text(told))
