"""What shells are told when a command line is completed: choices, columns of the input, files. Never an error."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    shell_complete,
    split_arg_string,
)

from minestream.errors import printable

Item = CompletionItem[str]
# What a word is, by the metavar of its option.
COLUMNS = ("COL", "EXPR")
FILES = ("DIR", "FILE", "GLOB", "NEW", "OUT", "PAIRS", "PATH", "TABLE")
CARRIED = re.compile("positive_(?!id$|row$)")  # before the names of such columns in mined files
QUOTED = set(" \t'\"\\$`&|;<>()*?[]{}!#~")


class Bash(BashComplete):
    """Bash takes --band=any for three words, and inserts a word as it is."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the cursor, and the one at it."""
        args, incomplete = super().get_completion_args()
        return [word for word in args if word != "="], incomplete

    def format_completion(self, item: Item) -> str:
        """A line for the script."""
        text = item.value.replace("'", "'\\''")
        return (
            f"{item.type},'{text}'" if item.type == "plain" and QUOTED & set(text) else super().format_completion(item)
        )


class _OneWord:
    """Zsh and fish take --band=any for one word."""

    def get_completions(self, args: list[str], incomplete: str) -> list[Item]:
        """What fits, as the whole word."""
        option, equals, _ = incomplete.partition("=")
        found: list[Item] = super().get_completions(args, incomplete)  # type: ignore[misc]  # of click's class beside it
        for item in found if equals and option.startswith("--") else ():
            item.value = f"{option}={item.value}"
        return found


class Zsh(_OneWord, ZshComplete):
    """For zsh."""


class Fish(_OneWord, FishComplete):
    """For fish, whose script cuts at commas."""

    def format_completion(self, item: Item) -> str:
        """A line for the script."""
        item.help = (item.help or "").replace(",", ";")
        return super().format_completion(item)


def answer(cli: click.Command, variable: str) -> int:
    """Print what a shell asks for: bash_source is its script, bash_complete what fits; the exit code."""
    for shell in (Bash, Zsh, Fish):
        add_completion_class(shell)
    # An empty word at the cursor would be lost, and the next one be taken for it.
    os.environ["COMP_WORDS"] = re.sub(r"(\s)(?=\1)", r"\1''", os.environ.get("COMP_WORDS", ""))
    try:
        return shell_complete(cli, {}, "minestream", variable, os.environ[variable])
    except Exception:  # a message in the middle of a line that is typed would help nobody
        return 1


def offers(metavar: str, choices: Mapping[str, object], context: click.Context, incomplete: str) -> list[Item]:
    """What an option's value may be."""
    if metavar in FILES:
        return [CompletionItem(incomplete, type="file")]
    known = {name: str(getattr(choice, "help", choice)) for name, choice in choices.items()}
    if metavar in COLUMNS:
        known = columns(context)
    return [CompletionItem(name, help=about) for name, about in known.items() if name.startswith(incomplete)]


def columns(context: click.Context) -> dict[str, str]:
    """The columns of the first input on the line that can be read here, each with its type."""
    for word in _inputs(context):
        with suppress(Exception):
            from minestream.inputs.files import open_inputs
            from minestream.inputs.listing import files_of

            schema = open_inputs(files_of(os.path.expandvars(word), ".parquet")[:1])[0].schema
            names = [name for name in schema.names if printable(name) == name and "\n" not in name]
            if context.info_name == "export":  # which asks for columns that mine carried
                return {CARRIED.sub("", name): "" for name in names if CARRIED.match(name)}
            return {name: str(schema.field(name).type) for name in names if schema.names.count(name) == 1}
    return {}


def _inputs(context: click.Context) -> Iterator[str]:
    """The inputs that are typed: click leaves those before an option without a value in `args`."""
    given = [context.params.get(each.name or "") for each in context.command.params if isinstance(each, click.Argument)]
    words = [word for each in given for word in (each if isinstance(each, tuple) else [each]) if word]
    at = os.environ.get("COMP_CWORD", "")  # of fish the word, which it ends the line at
    behind = split_arg_string(os.environ.get("COMP_WORDS", ""))[int(at) + 1 :] if at.isdigit() else []
    yield from (word for word in (*words, *context.args, *behind) if word[0] != "-" and "://" not in word)
