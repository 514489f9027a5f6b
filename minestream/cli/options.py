"""What commands share: their options, from the tables, and how they print a result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import MISSING, Field
from functools import wraps
from typing import Any

import click

from minestream.cli.table_option import BEGAN, TableOption, flags_of, names_of
from minestream.config.commands import Mining, Printing, own_options
from minestream.config.option import GROUPS, help_of
from minestream.config.resolve import OPTION_FIELDS
from minestream.system.console import show, silent
from minestream.system.contract import printed

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


def option_rows(spec: Field[Any]) -> Iterator[tuple[str, str]]:
    """The lines of help of an option: the option itself, then each of its choices."""
    yield names_of(spec, former=True), help_of(spec, choices=False)
    for name, choice in (spec.metadata["choices"] or {}).items():
        condition, meaning = getattr(choice, "condition", ""), getattr(choice, "help", choice)
        default = " (default)" if name == spec.default else ""
        yield f"    {name}", f"{condition}: {meaning}{default}" if condition else f"{meaning}{default}"


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
