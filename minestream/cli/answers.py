"""What a command found as an answer of the contract (system/contract.py), with its line, its tables and its time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import click

from minestream.cli.table_option import BEGAN, TableOption
from minestream.config.command_line import PLACES, command_line, recorded
from minestream.config.commands import Printing, own_options
from minestream.config.option import flag_of
from minestream.config.resources import Resources
from minestream.inputs.given import Given, tables_read
from minestream.system.contract import findings, output_entry
from minestream.system.paths import place_of
from minestream.system.stats import Report

OUTPUT = "PATH"  # of sample; every other argument is read
PLACED = (*PLACES, "FILE")  # metavars of options that name files, not what is done with them
TABLES = ("GLOB", "PAIRS", "PATH", "TABLE")  # metavars of options that are read


def told(
    context: click.Context, result: Any, sizes: Mapping[str, Any] | None = None, outputs: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The answer of a command.

    Parameters
    ----------
    context : click.Context
    result : Report, or dict
    sizes : dict
        Rows, dimension and dtype of inputs, by their names.
    outputs : tuple of str
        Files written that `result` does not name.
    """
    if isinstance(result, Report):
        return result.to_dict()
    specs = {each.name: each.spec for each in context.command.params if isinstance(each, TableOption)}
    given = {name: context.params[name] for name in specs if name not in own_options(Printing)}
    places: list[Any] = []
    read: list[Given] = []
    for each in context.command.params:
        value = context.params.get(each.name or "")
        if isinstance(each, click.Argument):
            places += value if isinstance(value, tuple) else [value]
            read += [] if each.metavar == OUTPUT else [Given((each.metavar or "").removesuffix("..."), value)]
        elif value and getattr(each, "metavar", "") in TABLES:
            read.append(Given(flag_of(each.name or ""), value))
    name, out = context.command.name or "", None
    if "out" in given:
        given.pop("out")
        out = result.get("output") or result.get("path")
    answer = findings(
        name, result, seconds=time.perf_counter() - context.meta[BEGAN], inputs=list(tables_read(read, sizes or {})),
        **recorded(command_line(name, places, out, given, specs)),
    )  # fmt: skip
    answer["configuration"] = {
        name: specs[name].default if value in (None, ()) else value
        for name, value in given.items()
        if specs[name].metadata["metavar"] not in PLACED and name not in own_options(Resources)
    } | answer["configuration"]
    answer["outputs"] += [output_entry(path, ()) for path in outputs]
    for entry in answer["outputs"]:
        if not entry["files"]:
            file = place_of(entry["path"])
            known = {"name": file.name, "rows": entry["rows"], "bytes": file.stat().st_size}
            entry |= output_entry(entry["path"], [known])
    return answer
