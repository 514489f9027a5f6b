"""The command line that does what a call of the library does, from what it was called with."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import Field, replace
from typing import Any

from minestream.config.commands import Merging, Profiling, own_options
from minestream.config.keywords import ProfileOptions
from minestream.config.option import flag_of
from minestream.config.parse import PIPE
from minestream.config.resolve import OPTION_FIELDS, held
from minestream.config.resources import Resources
from minestream.errors import UsageError
from minestream.system.stores import shown

# They say what becomes of an output that stands there and what is shown, not what is mined: no record repeats them.
OF_ONE_RUN = ("resume", "overwrite", "dry_run", "progress")
PLACES = ("GLOB", "DIR", "PAIRS", "PATH", "TABLE")  # metavars of options that are paths or URIs
Fields = Mapping[str, Field[Any]]
FIELDS: Fields = {"source": own_options(Merging)["source"]} | own_options(Profiling) | OPTION_FIELDS


def with_command(resources: Resources, command: str, inputs: Any, out: Any, options: Mapping[str, Any]) -> Resources:
    """Resources with the command line that does what a call does, and the folder it was called in.

    Without them where a command line cannot say it: for tables in memory.
    """
    return replace(resources, **recorded(command_line(command, inputs, out, options)))


def recorded(line: str | None) -> dict[str, Any]:
    """A command line as `command`, and the `folder` that its paths start from; None for both without one."""
    with suppress(OSError):  # of a working folder that is gone
        return {"command": line, "folder": None if line is None else os.getcwd()}
    return {"command": None, "folder": None}


def command_line(
    command: str, inputs: Any, out: Any, options: Mapping[str, Any], fields: Fields = FIELDS
) -> str | None:  # fmt: skip
    """A command line, quoted for a shell; None for what none can say, such as tables in memory."""
    with suppress(_NotSayableError):
        places = [_argument(each) for each in (inputs if isinstance(inputs, list | tuple) else [inputs])]
        words = [word for name, value in options.items() for word in _words(fields[name], value)]
        return shlex.join(["minestream", command, *places, *words, *([] if out is None else ["-o", _argument(out)])])
    return None


def line_after_profile(
    profile: Mapping[str, Any], inputs: Any, options: Mapping[str, Any], out: str | None
) -> str | None:  # fmt: skip
    """The command line that mines what was profiled, at the recommended margin; None where there is nothing to mine.

    It leaves out the suspects where the profile lists them above a cut, so that most of them are wrong.
    options : those that profile was given; what mine does not have is left out
    """
    chosen, shared = profile["recommended"], ProfileOptions.__annotations__.keys()
    kept = {name: value for name, value in options.items() if name in shared}
    margin = chosen["margin"]
    rule = {"band": chosen["band"], "positives": chosen["positives"]}
    rule["margin"] = int(margin) if margin.is_integer() else margin  # 880 rather than 880.0
    suspects = profile["suspects"]
    if profile["output"] and suspects["rows"] and suspects.get("listed_above") and not kept.get("exclude_rows"):
        rule["exclude_rows"] = f"{profile['output']}/suspects.parquet"
    seed = {"seed": profile["config"]["seed"] or None}
    return command_line("mine", inputs, out, kept | rule | seed) if profile["triplets"] else None


class _NotSayableError(UsageError):
    """A value that no command line can hold."""


def _text(value: Any, place: bool) -> str:
    if not isinstance(value, str | int | float | os.PathLike):
        raise _NotSayableError("")
    return shown(value) if place or isinstance(value, os.PathLike) else str(value)


def _argument(place: Any) -> str:
    text = _text(place, True)
    return f"./{text}" if text.startswith("-") and text != PIPE else text


def _words(spec: Field[Any], value: Any) -> Iterator[str]:
    """An option and its value as words; none for what is not given."""
    name, kind, metavar = spec.name, spec.metadata["kind"], spec.metadata["metavar"]
    if kind == "hidden" or name in OF_ONE_RUN or (value is None and kind != "threshold"):
        return
    value = held(name, value) if OPTION_FIELDS.get(name) is spec else value
    if value is False:
        return
    if name == "margins" and not isinstance(value, str):
        value = ",".join(f"{each:.12g}" for each in value)
    several = list(value) if isinstance(value, list | tuple) else ["none" if value is None else value]
    if kind == "named":
        several = [f"{named}={_text(each, True)}" for named, tables in value.items() for each in tables]
    if kind not in ("repeat", "columns", "named") and len(several) != 1:
        raise _NotSayableError("")
    flag = next((each.partition("/")[0] for each in spec.metadata["flags"] if each.startswith("--")), flag_of(name))
    for each in several:
        text = _text(each, metavar in PLACES)
        yield from [flag] if value is True else [f"{flag}={text}"] if text.startswith("-") else [flag, text]
