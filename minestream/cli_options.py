"""Options of `mine` that other commands take too, as the one table has them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from minestream.config import OPTION_FIELDS
from minestream.options import long_flag

JSON_HELP = "Print JSON and nothing else on standard output."
KINDS: dict[str, Any] = {"integer": click.INT, "number": click.FLOAT}

Function = Callable[..., Any]


def options_of_mine(*names: str) -> Callable[[Function], Function]:
    """Decorate with options of mine; none has a default here: only what was given is passed on."""

    def decorated(function: Function) -> Function:
        for name in reversed(names):
            about = OPTION_FIELDS[name].metadata
            flags = about["flags"] or (long_flag(OPTION_FIELDS[name]),)
            choices = f" One of {', '.join(about['choices'])}." if about["choices"] else ""
            shape: dict[str, Any] = {"is_flag": True}
            if about["kind"] != "flag":
                kind = KINDS.get(about["kind"], click.STRING)
                shape = {"default": None, "metavar": about["metavar"] or "NAME", "type": kind}
                shape["multiple"] = about["kind"] == "repeat"
            function = click.option(name, *flags, help=about["help"] + choices, **shape)(function)
        return function

    return decorated


def given_only(options: dict[str, Any]) -> dict[str, Any]:
    """The options that were given."""
    return {name: value for name, value in options.items() if value not in (None, ()) and value is not False}
