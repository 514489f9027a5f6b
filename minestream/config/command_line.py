"""The command line that repeats a run, from what `mine` or `merge` was called with."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from minestream.config.commands import Merging, own_options
from minestream.config.option import flag_of
from minestream.config.parse import PIPE
from minestream.config.resolve import OPTION_FIELDS, held
from minestream.config.resources import Resources
from minestream.errors import UsageError
from minestream.system.stores import shown

# They say what becomes of an output that stands there, not what is mined: no record repeats them.
OF_ONE_RUN = ("resume", "overwrite", "dry_run")
PLACES = ("GLOB", "DIR", "PAIRS", "PATH", "TABLE")  # metavars of options that are paths or URIs
FIELDS = OPTION_FIELDS | {"source": own_options(Merging)["source"]}


def with_command(resources: Resources, command: str, inputs: Any, out: Any, options: Mapping[str, Any]) -> Resources:
    """Resources with the command line that does what a call does, and the folder it was called in.

    Without them where a command line cannot say it: for tables in memory.
    """
    with suppress(_NotSayableError, OSError):  # OSError: of a working folder that is gone
        places = [_argument(each) for each in (inputs if isinstance(inputs, list | tuple) else [inputs])]
        words = [word for name, value in options.items() for word in _words(name, value)]
        line = shlex.join(["minestream", command, *places, *words, "-o", _argument(out)])
        return replace(resources, command=line, folder=os.getcwd())
    return resources


class _NotSayableError(UsageError):
    """A value that no command line can hold."""


def _text(value: Any, place: bool) -> str:
    if not isinstance(value, str | int | float | os.PathLike):
        raise _NotSayableError("")
    return shown(value) if place or isinstance(value, os.PathLike) else str(value)


def _argument(place: Any) -> str:
    text = _text(place, True)
    return f"./{text}" if text.startswith("-") and text != PIPE else text


def _words(name: str, value: Any) -> Iterator[str]:
    """An option and its value as words; none for what is not given."""
    kind, metavar = FIELDS[name].metadata["kind"], FIELDS[name].metadata["metavar"]
    if kind == "hidden" or name in OF_ONE_RUN or (value is None and kind != "threshold"):
        return
    value = held(name, value) if name in OPTION_FIELDS else value
    if value is False:
        return
    several = list(value) if isinstance(value, list | tuple) else ["none" if value is None else value]
    if kind != "repeat" and len(several) != 1:
        raise _NotSayableError("")
    for each in several:
        flag, text = flag_of(name), _text(each, metavar in PLACES)
        yield from [flag] if value is True else [f"{flag}={text}"] if text.startswith("-") else [flag, text]
