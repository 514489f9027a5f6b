"""What commands share: their options, from the tables, and how they print a result."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext, suppress
from dataclasses import MISSING, Field
from functools import wraps
from typing import Any

import click

from minestream.cli.help import Text
from minestream.config.commands import Mining, Printing, own_options
from minestream.config.option import GROUPS, flag_of, help_of
from minestream.config.resolve import OPTION_FIELDS
from minestream.system.console import show, silent
from minestream.system.contract import printed

BEGAN = "minestream.began"  # in the meta of a context: when


class Number(click.types.FloatParamType):
    """A number; of a percentage the number is named."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        with suppress(ValueError):
            if isinstance(value, str) and value.endswith("%"):
                self.fail(f"write {value} as {float(value[:-1]) / 100:g}", param, ctx)
        return super().convert(value, param, ctx)


KINDS: dict[str, Any] = {"integer": click.INT, "number": Number()}
# What help says in brackets: of options that the command may not have, of shapes where there may be only one.
_ASIDE = re.compile(r" \((?P<shape>pairs|triplets|tuples)?[^()]*\)")
_FLAG = re.compile(r"--[a-z][a-z-]*\b")
Function = Callable[..., Any]


def visible_fields() -> list[Field[Any]]:
    """The options of mine on the command line."""
    return [spec for spec in OPTION_FIELDS.values() if spec.metadata["kind"] != "hidden"]


def most_used_first(specs: Iterable[Field[Any]]) -> list[Field[Any]]:
    """Options in the order of help: those that must be given, then by use, then as the tables have them."""
    return sorted(specs, key=lambda spec: (spec.default is not MISSING, -spec.metadata["use"]))


def in_groups() -> dict[str, list[Field[Any]]]:
    """The options of mine by group, the most used of each first."""
    specs = most_used_first([*own_options(Mining).values(), *visible_fields(), *own_options(Printing).values()])
    return {group: [spec for spec in specs if spec.metadata["group"] == group] for group in GROUPS}


def flags_of(spec: Field[Any]) -> tuple[str, ...]:
    """The command-line options of a field."""
    return spec.metadata["flags"] or (flag_of(spec.name),)


def names_of(spec: Field[Any], former: bool = False) -> str:
    """An option as help shows it, with its other long names where wanted."""
    about, flags = spec.metadata, flags_of(spec)
    shown = flags if former else flags[: 1 + next(i for i, flag in enumerate(flags) if flag.startswith("--"))]
    return f"{', '.join(shown)} {about['metavar'] or ('NAME' if about['kind'] == 'choice' else '')}".strip()


def option_rows(spec: Field[Any]) -> Iterator[tuple[str, str]]:
    """The lines of help of an option: the option itself, then each of its choices."""
    yield names_of(spec, former=True), help_of(spec, choices=False)
    for name, choice in (spec.metadata["choices"] or {}).items():
        condition, meaning = getattr(choice, "condition", ""), getattr(choice, "help", choice)
        default = " (default)" if name == spec.default else ""
        yield f"    {name}", f"{condition}: {meaning}{default}" if condition else f"{meaning}{default}"


class TableOption(click.Option):
    """An option of the command line that a row of a table describes; `flags` are all those of its command."""

    def __init__(self, _names: object, spec: Field[Any], flags: set[str]) -> None:
        about = spec.metadata
        shape: dict[str, Any] = {"is_flag": True}
        if about["kind"] != "flag":
            shape = {
                "metavar": about["metavar"] or "NAME", "multiple": about["kind"] == "repeat",
                "type": KINDS.get(about["kind"]) or Text(about["metavar"], about["choices"]),
                **({"required": True} if spec.default is MISSING else {"default": None}),
            }  # fmt: skip
        super().__init__([spec.name, *flags_of(spec)], help=_of_command(help_of(spec), flags), **shape)
        self.spec = spec

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        """Its names, and what it does."""
        return names_of(self.spec), f"{self.help} Required." if self.required else self.help or ""


def _of_command(text: str, flags: set[str]) -> str:
    """A help without what concerns options of other commands only."""

    def kept(aside: re.Match[str]) -> str:
        foreign = set(_FLAG.findall(aside[0])) - flags or (aside["shape"] and "--emit" not in flags)
        return "" if foreign else aside[0]

    return _ASIDE.sub(kept, text)


def options_of(command: type[Any], *of_mine: str, also: type[Any] | None = None) -> Callable[[Function], Function]:
    """Decorate with the options of a command (config/commands.py), then some of mine, then --quiet and --json.

    They have no defaults here: only what was given is passed on.

    of_mine : names of options of mine, or of --verbose
    also : the TypedDict (config/keywords.py) of those that the function takes as keywords
    """
    names = {*of_mine, "quiet", "as_json", *(also.__annotations__ if also else ())}
    specs = [
        *most_used_first(own_options(command).values()),
        *most_used_first(spec for spec in visible_fields() if spec.name in names),
        *(spec for spec in own_options(Printing).values() if spec.name in names),
    ]
    flags = {flag for spec in specs for flag in flags_of(spec)}

    def decorated(function: Function) -> Function:
        function = _quiet_if_asked(function)
        for spec in reversed(specs):
            function = click.option(cls=TableOption, spec=spec, flags=flags)(function)
        return function

    return decorated


def _quiet_if_asked(function: Function) -> Function:
    """The function of a command with one more keyword, `quiet`; what is printed as JSON is printed all the same."""

    @wraps(function)
    def called(*args: Any, quiet: bool, **options: Any) -> Any:
        if quiet and "progress" in options:
            options["progress"] = "none"
        click.get_current_context().meta[BEGAN] = time.perf_counter()
        with nullcontext() if options["as_json"] or not quiet else silent():
            return function(*args, **options)

    return called


def given_only(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value not in (None, ()) and value is not False}


def show_result(result: Any, as_json: bool, text: Callable[[Any], str], **known: Any) -> None:
    """Print the result of a command, a Report or what a function found: as text, or as JSON; `known` as for `told`."""
    if not as_json:
        return show(text(result))
    from minestream.cli.answers import told  # not loaded for --help

    return show(printed(told(click.get_current_context(), result, **known)))
