"""An option of the command line as a row of a table describes it."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import MISSING, Field
from typing import Any

import click

from minestream.cli.help import Text
from minestream.config.option import flag_of, help_of
from minestream.config.parse import kept_by


class Number(click.types.FloatParamType):
    """A number; of a percentage the number is named."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        with suppress(ValueError):
            if isinstance(value, str) and value.endswith("%"):
                share = float(value[:-1]) / 100
                relative = param is not None and param.name == "relative_margin"
                self.fail(f"write a share: {kept_by(share)}" if relative else f"write {value} as {share:g}", param, ctx)
        return super().convert(value, param, ctx)


KINDS: dict[str, Any] = {"integer": click.INT, "number": Number()}
BEGAN = "minestream.began"  # in the meta of a context: when its command did
# What help says in brackets: of options that the command may not have, of shapes where there may be only one.
_ASIDE = re.compile(r" \((?P<shape>pairs|triplets|tuples)?[^()]*\)")
_FLAG = re.compile(r"--[a-z][a-z-]*\b")


def flags_of(spec: Field[Any]) -> tuple[str, ...]:
    """The command-line options of a field."""
    return spec.metadata["flags"] or (flag_of(spec.name),)


def names_of(spec: Field[Any], former: bool = False) -> str:
    """An option as help shows it, with its other long names where wanted."""
    about, flags = spec.metadata, flags_of(spec)
    shown = flags if former else flags[: 1 + next(i for i, flag in enumerate(flags) if flag.startswith("--"))]
    return f"{', '.join(shown)} {about['metavar'] or ('NAME' if about['kind'] == 'choice' else '')}".strip()


class TableOption(click.Option):
    """An option of the command line that a row of a table describes; `flags` are all those of its command."""

    def __init__(self, _names: object, spec: Field[Any], flags: set[str]) -> None:
        about = spec.metadata
        shape: dict[str, Any] = {"is_flag": True}
        if about["kind"] != "flag":
            several = ("repeat", "named", *(["columns"] if "--teachers" in flags else []))
            shape = {
                "metavar": about["metavar"] or "NAME", "multiple": about["kind"] in several,
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
