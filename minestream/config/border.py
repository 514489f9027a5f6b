"""The library's border: signatures that editors can complete, and messages in the caller's words.

Messages and notes are written once, with the options of the command line. The command line, within `speaking_options`,
prints them so; whoever calls the library reads the keywords of Python instead.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import Field, is_dataclass, replace
from functools import cache, wraps
from typing import Any, TypeVar, cast

from minestream.config.batching import Batching
from minestream.config.commands import Exporting, Refiltering, own_options
from minestream.config.names import foreign_option, meaning
from minestream.config.option import flag_of, help_of, of_type
from minestream.config.resolve import ALIASES, AS_ARRAYS, OPTION_FIELDS
from minestream.errors import SPEAKS_OPTIONS, MinestreamError, UsageError, nearest_name

Call = TypeVar("Call", bound=Callable[..., Any])

# The types of keywords that take more than their field holds: by name, else by kind.
_TYPES: dict[str, str] = {
    "candidates": "Any", "corpus": "Any", "qrels": "Any", "exclude": "Any", "exclude_rows": "Any",  # tables in memory
    "vectors": "Any", "labels": "Any",
    "label": "str | Sequence[str] | None", "carry": "str | Sequence[str]", "scratch": "str | PathLike[str] | None",
    "columns": "str | Sequence[str] | None", "named": "Any", "unlabeled_value": "str | int | None",
    "share": "str | float | None", "size": "str | int", "threshold": "float | str | None",
}  # fmt: skip


def accepted(spec: Field[Any]) -> str:
    """The type of the keyword of an option, as an annotation says it."""
    named = _TYPES.get(spec.name) or _TYPES.get(spec.metadata["kind"]) or str(spec.type)
    return named if spec.default is not None or named == "Any" or "None" in named else f"{named} | None"


def public(options: type[Any] | None = None, refuses: bool = False, **defaults: object) -> Callable[[Call], Call]:
    """Decorate a function of the library: its keywords are checked, and its notes are in the caller's words.

    An unknown keyword, or one of another type than its annotation names, is a UsageError; `refuses`: also where there
    are `options`, else the function answers for it.

    options : the TypedDict (keywords.py) of the options that it takes as keywords; its signature and help name each
    defaults : those that differ from the table's
    """

    def decorated(function: Call) -> Call:
        signature = inspect.signature(function)
        named = [each for each in signature.parameters.values() if each.kind is not each.VAR_KEYWORD]
        known = {each.name: str(each.annotation) for each in named}
        typed = [each.name for each in named if each.kind is each.KEYWORD_ONLY]
        names = [*known, *(options.__annotations__ if options else ())]

        @wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            if options is not None and "teachers" not in options.__annotations__:
                refuse_several(function.__qualname__.partition(".")[0], given.get("embedding"))
            for name in given:
                if name in typed:
                    given[name] = of_type(flag_of(name), known[name], given[name])
                elif name not in names and (refuses or options is None):
                    raise unknown_keyword(function.__name__, name, names)
            try:
                return _with_notes(function(*args, **given))
            except MinestreamError as error:
                if "ids" in known:  # arrays in place of columns
                    error.args = error.args[0], _OF_COLUMN.sub(lambda flag: AS_ARRAYS[flag[1]], error.args[1])
                raise

        if options is not None:
            specs = [spec for name, spec in OPTION_FIELDS.items() if name in options.__annotations__]
            taken = [_parameter(spec, defaults.get(spec.name, spec.default)) for spec in specs]
            about = [
                f"{each.name} : {each.annotation}, default {each.default!r}\n    {_help(each.name)}" for each in taken
            ]
            call.__doc__ = "\n".join([inspect.cleandoc(function.__doc__ or ""), "", "Options", "-------", *about])
            parameters = [*named, *taken]
            call.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]  # inspect reads it
        return cast(Call, call)

    return decorated


def refuse_several(function: str, embedding: object) -> None:
    """Raise UsageError where several embeddings are given to what looks at one."""
    if isinstance(embedding, list | tuple) and len(embedding) > 1:
        raise UsageError(f"{function} looks at one embedding, and --embedding names {len(embedding)}", "name one")


def unknown_keyword(function: str, name: str, known: Iterable[str]) -> UsageError:
    """The error for a keyword that a function does not take; `known`: those that it does."""
    hidden = {each for each, spec in OPTION_FIELDS.items() if spec.metadata["kind"] == "hidden"}
    shown = [each for each in known if each not in hidden]
    flags = {"-k", "-o" if "out" in shown else "", *map(flag_of, shown)}
    ours = flag_of(ALIASES[name]) if ALIASES.get(name) in shown else foreign_option(function, name, flags)
    return UsageError(f"{function} has no option {name!r}", meaning(ours) if ours else nearest_name(name, shown))


def _parameter(spec: Field[Any], default: object) -> inspect.Parameter:
    return inspect.Parameter(spec.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=accepted(spec))


@cache
def _help(name: str) -> str:
    return in_python(help_of(OPTION_FIELDS[name], default=False))


def _with_notes(result: Any) -> Any:
    """What a function returns, with its notes in the caller's words."""
    if isinstance(result, dict) and "notes" in result:
        return result | {"notes": list(map(spelled, result["notes"]))}
    if is_dataclass(result) and not isinstance(result, type) and hasattr(result, "notes"):
        return replace(result, notes=tuple(map(spelled, result.notes)))
    return result


def spelled(text: str) -> str:
    """A message or a note that names options, in the caller's words."""
    return text if SPEAKS_OPTIONS.get() else in_python(text)


_OF_COLUMN = re.compile(r"(?<!\S)--(id|label)(?![\w-])")
_WORD = r"'[^']*'|\"[^\"]*\"|(?!--|-[ko]\b)[\w.%/|-]+(?:,[\d.]+)*"
_OPTION = re.compile(rf"(?<![\w/'\"-])(?P<flag>--[a-z][a-z0-9-]*|-[ko]\b)(?P<rest> (?P<word>{_WORD})(?P<colon>:?))?")
_PATH = r"[\w~-]*[./][\w./~-]*\w"
# What is a value, whichever the option; and which values stand without quotes.
_VALUE = re.compile(rf"-?\d[\w.,%/]*|[A-Z]+(?:[|/][A-Z]+)*%?|{_PATH}|True|False|None|auto|'[^']*'|\"[^\"]*\"")
_QUOTED = '"[^"]*"'
_REPEATED = re.compile(rf"\b(\w+)={_QUOTED}(?: \1={_QUOTED})+")
_BARE = re.compile(r"-?\d[\d.]*|True|False|None")
_ARGUMENT = rf'[A-Z]+\b|{_PATH}|\w+=(?:"[^"]*"|\([^)]*\)|\[[^]]*\]|[\w.]*\w)'  # a place, or a keyword with its value
_COMMAND = re.compile(
    r"\bminestream (mine|merge|export|batch|refilter|profile|describe|compare|verify|fit|apply|sample)\b"
    rf"((?: (?:{_ARGUMENT}))*)"
)
_NAMES = {"-o": "out", **{flag: spec.name for spec in OPTION_FIELDS.values() for flag in spec.metadata["flags"]}}
_CHOICES = {  # of the options of mine, refilter, export and batch, by name
    spec.name: {*(spec.metadata["choices"] or ()), *(OPTION_FIELDS.get(spec.name, spec).metadata["choices"] or ())}
    for options in (OPTION_FIELDS, *map(own_options, (Refiltering, Exporting, Batching)))
    for spec in options.values()
}


def in_python(text: str) -> str:
    """A text that names options and commands, with keywords and functions instead."""
    return _COMMAND.sub(_call, _REPEATED.sub(_list, _OPTION.sub(_keyword, text.replace(" (-k)", ""))))


def _list(repeated: re.Match[str]) -> str:
    """An option that stands several times as one keyword, which Python takes once."""
    return f"{repeated[1]}=[{', '.join(re.findall(_QUOTED, repeated[0]))}]"


def _call(command: re.Match[str]) -> str:
    """A command, whose options are keywords already, as a call."""
    given = [each if "=" in each else f'"{each}"' for each in re.findall(f" ({_ARGUMENT})", command[2])]
    return f"minestream.{command[1]}" + (f"({', '.join(given)})" if given else "")


def _keyword(option: re.Match[str]) -> str:
    """An option as a keyword, with the value behind it where that is one."""
    rest, word = option["rest"] or "", (option["word"] or "").rstrip(".")
    name = _NAMES.get(option["flag"], option["flag"].lstrip("-").replace("-", "_"))
    kind = OPTION_FIELDS[name].metadata["kind"] if name in OPTION_FIELDS else ""
    if kind == "flag":
        return (name if word == "takes" else f"{name}=True") + rest
    if kind == "threshold" and word == "none":
        return f"{name}=None{rest.removeprefix(' none')}"
    # A column's name: no sentence ends so.
    last = kind in ("text", "repeat", "columns") and option.end() == len(option.string)
    if not word or not (option["colon"] or last or word in _CHOICES.get(name, ()) or _VALUE.fullmatch(word)):
        return name + rest
    if word[0] in "'\"":
        value = word if '"' in word else f'"{word[1:-1]}"'
    elif "," in word:
        value = word.replace(",", "") if kind == "integer" else f"({word.replace(',', ', ')})"
    else:
        bare = _BARE.fullmatch(word) or (kind in ("integer", "number") and word.isupper())
        value = word if bare else f'"{word}"'
    return f"{name}={value}{rest.removeprefix(f' {word}')}"


MinestreamError.spelled = staticmethod(spelled)  # type: ignore[method-assign]  # errors.py stands below the option table
