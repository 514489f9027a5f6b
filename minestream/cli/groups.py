"""The commands: what each does, in a line, and where its function is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from minestream.cli.guide import pages
from minestream.cli.help import Command
from minestream.errors import UsageError

# Of each command: its line in --help, its module and its function.
COMMANDS = {
    "mine": ("Mine triplets, pairs or tuples.", "mining", "mine"),
    "merge": ("Make one output of slices mined with --shard.", "mining", "merge"),
    "repeat": ("Run again the mine, merge or profile that made an output.", "mining", "repeat"),
    "describe": ("Say what is in a mined file.", "insight", "describe"),
    "verify": ("Check a mined file against its source.", "insight", "verify"),
    "compare": ("Say what two splits share.", "insight", "compare"),
    "profile": ("Look at an input: margins, suspects, duplicates, hubs.", "insight", "profile"),
    "export": ("Convert mined triplets to a trainer's format.", "outputs", "export"),
    "batch": ("Compose training batches of mined pairs.", "batching", "batch"),
    "select": ("Mine again from lists, by another rule and without a search.", "mining", "select"),
    "refilter": ("Filter mined rows again by a cross-encoder's scores.", "outputs", "refilter"),
    "sample": ("Write a real sample: handwritten digits.", "outputs", "sample"),
    "fit": ("Learn a linear embedding on mined triplets.", "learn", "fit"),
    "apply": ("Project a table with a linear embedding.", "learn", "apply_linear"),
    "doctor": ("Show versions, processor, cache and memory, for a bug report.", "doctor", "doctor"),
    "version": ("", "main", "version"),  # hidden: --version does the same
    "help": ("Show this page, that of a command, or a page of the guide.", "main", "help_page"),
}


class Loaded(Mapping[str, click.Command]):
    """The commands by name; each is imported on first use."""

    def __getitem__(self, name: str) -> click.Command:
        about, module, function = COMMANDS[name]
        command: click.Command = getattr(import_module(f"minestream.cli.{module}"), function)
        command.short_help = about
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class Group(Command, click.Group):
    """The group of all commands."""

    command_class = Command

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.commands = Loaded()  # type: ignore[assignment]  # click adds none to it

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands, without loading them, and the pages of the guide."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][0]) for name in sorted(COMMANDS) if COMMANDS[name][0]])
        with formatter.section("Pages of the guide, shown by `minestream help PAGE`"):
            formatter.write_dl(list(pages().items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """The commands, without loading them, and the options."""
        found = [CompletionItem(name, help=about) for name, (about, _, _) in COMMANDS.items() if about]
        return [each for each in found if each.value.startswith(incomplete)] + Command.shell_complete(
            self, ctx, incomplete
        )

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name; a former one is answered with what does it now."""
        if (command := super().get_command(ctx, cmd_name)) is not None:
            return command
        from minestream.config.names import GONE  # not loaded for --help

        if cmd_name in GONE:
            raise UsageError(f"there is no command {cmd_name!r} any more", GONE[cmd_name])
        return None
