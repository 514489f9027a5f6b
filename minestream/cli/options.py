"""What commands share: their help, how they print, their options as the tables have them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import MISSING, Field
from typing import Any

import click

from minestream.config.commands import own_options
from minestream.config.option import flag_of, help_of
from minestream.config.resolve import OPTION_FIELDS
from minestream.system.console import show

JSON_HELP = "Print JSON and nothing else on standard output."
KINDS: dict[str, Any] = {"integer": click.INT, "number": click.FLOAT}
Function = Callable[..., Any]


def flags_of(spec: Field[Any]) -> tuple[str, ...]:
    """The command-line options of a field."""
    return spec.metadata["flags"] or (flag_of(spec.name),)


def options_of(command: type[Any], *of_mine: str) -> Callable[[Function], Function]:
    """Decorate with the options of a command (config/commands.py), then some of mine, then --json.

    None has a default here: only what was given is passed on.
    """
    specs = [*own_options(command).values(), *(OPTION_FIELDS[name] for name in of_mine)]

    def decorated(function: Function) -> Function:
        function = click.option("as_json", "--json", is_flag=True, help=JSON_HELP)(function)
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


def given_only(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value not in (None, ()) and value is not False}


def show_result(value: dict[str, Any], as_json: bool, text: Callable[[Any], str], told: Any) -> None:
    """Print what a command found: `value` as JSON, or the text about `told`."""
    show(json.dumps(value, indent=2) if as_json else text(told))
