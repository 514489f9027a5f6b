"""What commands share: their options, from the tables, and how they print a result."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import MISSING, Field
from functools import wraps
from typing import Any

import click

from minestream.config.commands import own_options
from minestream.config.option import flag_of, help_of
from minestream.config.resolve import OPTION_FIELDS
from minestream.system.console import show, silent

JSON_HELP = "Print JSON and nothing else on standard output."
QUIET_HELP = "Print nothing but errors, and show no progress."
KINDS: dict[str, Any] = {"integer": click.INT, "number": click.FLOAT}
Function = Callable[..., Any]


def visible_fields() -> list[Field[Any]]:
    """The options of mine on the command line."""
    return [spec for spec in OPTION_FIELDS.values() if spec.metadata["kind"] != "hidden"]


def flags_of(spec: Field[Any]) -> tuple[str, ...]:
    """The command-line options of a field."""
    return spec.metadata["flags"] or (flag_of(spec.name),)


def options_of(command: type[Any], *of_mine: str, also: type[Any] | None = None) -> Callable[[Function], Function]:
    """Decorate with the options of a command (config/commands.py), then some of mine, then --quiet and --json.

    They have no defaults here: only what was given is passed on.

    of_mine : names of options of mine
    also : the TypedDict (config/keywords.py) of those that the function takes as keywords
    """
    shared = [spec for spec in visible_fields() if spec.name in (*of_mine, *(also.__annotations__ if also else ()))]
    specs = [*own_options(command).values(), *shared]

    def decorated(function: Function) -> Function:
        function = click.option("as_json", "--json", is_flag=True, help=JSON_HELP)(_quiet_if_asked(function))
        function = click.option("quiet", "-q", "--quiet", is_flag=True, help=QUIET_HELP)(function)
        for spec in reversed(specs):
            about = spec.metadata
            shape: dict[str, Any] = {"is_flag": True}
            if about["kind"] != "flag":
                shape = {
                    "default": None, "metavar": about["metavar"] or "NAME", "multiple": about["kind"] == "repeat",
                    "type": KINDS.get(about["kind"], click.STRING), "required": spec.default is MISSING,
                }  # fmt: skip
            function = click.option(spec.name, *flags_of(spec), help=help_of(spec), **shape)(function)
        return function

    return decorated


def _quiet_if_asked(function: Function) -> Function:
    """The function of a command with one more keyword, `quiet`; what is printed as JSON is printed all the same."""

    @wraps(function)
    def called(*args: Any, quiet: bool, **options: Any) -> Any:
        if quiet and "progress" in options:
            options["progress"] = "none"
        with nullcontext() if options["as_json"] or not quiet else silent():
            return function(*args, **options)

    return called


def given_only(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value not in (None, ()) and value is not False}


def show_result(result: dict[str, Any], as_json: bool, text: Callable[[dict[str, Any]], str]) -> None:
    """Print the result of a command: as JSON, or as the text that is made of it."""
    show(json.dumps(result, indent=2) if as_json else text(result))
