"""How help is shown: in colours on a terminal, plain elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import click
from click.core import augment_usage_errors
from click.shell_completion import CompletionItem

from minestream.system.console import show

UNBROKEN = "\u2011"  # stands for a hyphen while lines are broken: names such as semi-hard stay whole
NAMES_COLUMN = 34  # longer names take a line of their own


def styled(text: str, **style: Any) -> str:
    """Text in a style, if standard output is a terminal that shows it and its user wants it."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not sys.stdout.isatty()
    return text if plain else click.style(text, **style)


class Formatter(click.HelpFormatter):
    """Help whose titles and names stand out."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """The line of usage."""
        super().write_usage(prog, args, styled(prefix or "Usage:", bold=True) + " ")

    def write_heading(self, heading: str) -> None:
        """A title."""
        super().write_heading(styled(heading, bold=True))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = NAMES_COLUMN, col_spacing: int = 2) -> None:
        """Names and what they mean."""
        shown = [(styled(name, fg="cyan"), text.replace("-", UNBROKEN)) for name, text in rows]
        super().write_dl(shown, col_max, col_spacing)

    def getvalue(self) -> str:
        """The text."""
        return super().getvalue().replace(UNBROKEN, "-")


class Context(click.Context):
    """The state of a command line."""

    formatter_class = Formatter


def show_help(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    """Print the help; a pipe that is closed early is no error."""
    if wanted and not context.resilient_parsing:
        show(context.get_help())
        context.exit()


class Text(click.types.StringParamType):
    """A text that shells complete by what it is: one of some choices, a column, a file (see completion)."""

    def __init__(self, metavar: str = "", choices: Mapping[str, object] | None = None) -> None:
        self.metavar, self.choices = metavar, choices

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
        """What the shell offers."""
        from minestream.cli.completion import offers

        return offers(self.metavar, self.choices or {}, ctx, incomplete)


class Command(click.Command):
    """A command whose arguments are files or folders, if it does not say otherwise."""

    context_class = Context

    def __init__(self, *names: Any, **options: Any) -> None:
        super().__init__(*names, **options)
        for each in self.params:
            if isinstance(each, click.Argument):
                each.type = Text("PATH")

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command line; an error says of which command, also where click leaves it out."""
        with augment_usage_errors(ctx):
            return super().parse_args(ctx, args)

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """The option --help, which prints through `show`."""
        option = super().get_help_option(ctx)
        if option is not None:
            option.callback, option.help = show_help, "Show this page."
        return option
