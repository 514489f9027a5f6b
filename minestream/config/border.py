"""The library's border: what its functions take, so that it can be completed, and what it says, in the caller's words.

Messages and notes are written once, with the options of the command line. Whoever calls the library reads them as
Python; the command line, within `speaking_options`, reads them as they are written.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import Field, is_dataclass, replace
from functools import cache, wraps
from typing import Any, TypeVar, cast

from minestream.config.option import help_of, of_type
from minestream.config.resolve import OPTION_FIELDS
from minestream.errors import SPEAKS_OPTIONS, MinestreamError, UsageError, nearest_name

Call = TypeVar("Call", bound=Callable[..., Any])

# What a keyword may be where it is more than its field holds: by name, else by how the command line reads it.
_ALSO: dict[str, str] = {
    "corpus": "Any", "qrels": "Any", "exclude": "Any", "exclude_rows": "Any", "vectors": "Any",  # tables in memory
    "carry": "str | Sequence[str]", "scratch": "str | PathLike[str] | None", "unlabeled_value": "str | int | None",
    "share": "str | float | None", "size": "str | int", "threshold": "float | str | None",
}  # fmt: skip


def accepted(spec: Field[Any]) -> str:
    """The type of the keyword of an option, as an annotation says it."""
    named = _ALSO.get(spec.name) or _ALSO.get(spec.metadata["kind"]) or str(spec.type)
    return named if spec.default is not None or named == "Any" or "None" in named else f"{named} | None"


def public(options: type[Any] | None = None, **defaults: object) -> Callable[[Call], Call]:
    """Decorate a function of the library: its keywords are checked, and it speaks as its caller does.

    A keyword of another type than its annotation names is a UsageError, and so is one that there is not. The notes of
    what is returned are spelled as the caller writes.

    options : the TypedDict (keywords.py) of the options that it takes as keywords; its signature and help name each
    defaults : of such options, where they differ from those of the table
    """

    def decorated(function: Call) -> Call:
        found = inspect.signature(function)
        own = [each for each in found.parameters.values() if each.kind is not each.VAR_KEYWORD]
        known = {each.name: str(each.annotation) for each in own}
        typed = [each.name for each in own if each.kind is each.KEYWORD_ONLY]

        @wraps(function)
        def call(*args: Any, **given: Any) -> Any:
            for name in given:
                if name in typed:
                    given[name] = of_type(f"--{name.replace('_', '-')}", known[name], given[name])
                elif name not in known and options is None:
                    refuse_unknown(function.__name__, [name], typed or known)
            return _with_notes(function(*args, **given))

        if options is not None:
            specs = [spec for name, spec in OPTION_FIELDS.items() if name in options.__annotations__]
            taken = [_parameter(spec, defaults.get(spec.name, spec.default)) for spec in specs]
            about = [
                f"{each.name} : {each.annotation}, default {each.default!r}\n    {_help(each.name)}" for each in taken
            ]
            own_about = inspect.cleandoc(function.__doc__ or "")
            call.__doc__ = "\n".join([own_about, "", "Options", "-------", *about])
            call.__signature__ = found.replace(parameters=[*own, *taken])  # type: ignore[attr-defined]  # inspect reads it
        return cast(Call, call)

    return decorated


def refuse_unknown(function: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise UsageError for a keyword that a function does not take."""
    for name in given:
        if name not in known:
            raise UsageError(f"{function} has no option {name!r}", nearest_name(name, list(known)))


def _parameter(spec: Field[Any], default: object) -> inspect.Parameter:
    return inspect.Parameter(spec.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=accepted(spec))


@cache
def _help(name: str) -> str:
    return in_python(help_of(OPTION_FIELDS[name], default=False))


def _with_notes(found: Any) -> Any:
    """What a function returns, its notes as the caller writes."""
    if isinstance(found, dict) and "notes" in found:
        return found | {"notes": list(map(spelled, found["notes"]))}
    if is_dataclass(found) and not isinstance(found, type) and hasattr(found, "notes"):
        return replace(found, notes=tuple(map(spelled, found.notes)))
    return found


def spelled(text: str) -> str:
    """A message or a note, written with options, in the words of whoever reads it."""
    return text if SPEAKS_OPTIONS.get() else in_python(text)


_WORD = r"'[^']*'|\"[^\"]*\"|(?!--)[\w.%/|-]+(?:,[\d.]+)*"
_OPTION = rf"(?<![\w/'\"-])(?P<flag>--[a-z][a-z0-9-]*|-[ko]\b)(?: (?P<word>{_WORD})(?P<colon>:?))?"
_COMMAND = r"\bminestream (?P<command>mine|merge|export|refilter|profile|describe|compare|verify|fit|apply|sample)\b"
_FOUND = re.compile(f"{_COMMAND}|{_OPTION}")
_ARGUMENT = re.compile(rf" (?:(?P<place>[A-Z]+\b|[\w~-]*[/.][\w./~-]*\w)|{_OPTION})")
# What is a value, whichever the option.
_VALUE = re.compile(
    r"-?\d[\w.,%/]*|[A-Z]+(?:[|/][A-Z]+)*%?|[\w~-]*[./][\w./~-]*\w|True|False|None|auto|'[^']*'|\"[^\"]*\""
)
_BARE = re.compile(r"-?\d[\d.]*|True|False|None")
_NAMES = {"-o": "out", **{flag: spec.name for spec in OPTION_FIELDS.values() for flag in spec.metadata["flags"]}}


def in_python(text: str) -> str:
    """A text that names options and commands, as the command line has them, with keywords and functions instead."""
    text, at, pieces = text.replace(" (-k)", ""), 0, []
    while found := _FOUND.search(text, at):
        pieces.append(text[at : found.start()])
        said, at = _call(text, found) if found["command"] else _keyword(found)
        pieces.append(said)
    return "".join([*pieces, text[at:]])


def _call(text: str, found: re.Match[str]) -> tuple[str, int]:
    """A command with what is given to it as a call, and where it ends."""
    end, arguments = found.end(), []
    while given := _ARGUMENT.match(text, end):
        said, end = (f'"{given["place"]}"', given.end()) if given["place"] else _keyword(given)
        arguments.append(said)
    return f"minestream.{found['command']}" + (f"({', '.join(arguments)})" if arguments else ""), end


def _keyword(found: re.Match[str]) -> tuple[str, int]:
    """An option as a keyword, with the value behind it where that is one, and where it ends."""
    flag, word = found["flag"], (found["word"] or "").rstrip(".")
    name = _NAMES.get(flag, flag.lstrip("-").replace("-", "_"))
    about = OPTION_FIELDS[name].metadata if name in OPTION_FIELDS else {"kind": "", "choices": None}
    kind, off = about["kind"], about["kind"] == "threshold" and word == "none"
    if kind == "flag":
        return name if word == "takes" else f"{name}=True", found.end("flag")
    last = kind in ("text", "repeat") and found.end() == len(found.string)  # the name of a column: no sentence ends so
    if not word or not (found["colon"] or off or last or word in (about["choices"] or ()) or _VALUE.fullmatch(word)):
        return name, found.end("flag")
    end = found.start("word") + len(word)
    if off:
        return f"{name}=None", end
    if word[0] in "'\"":
        return f"{name}=" + (word if '"' in word else f'"{word[1:-1]}"'), end
    if "," in word:
        return f"{name}=" + (word.replace(",", "") if kind == "integer" else f"({word.replace(',', ', ')})"), end
    bare = _BARE.fullmatch(word) or (kind in ("integer", "number") and word.isupper())
    return f"{name}=" + (word if bare else f'"{word}"'), end


MinestreamError.spelled = staticmethod(spelled)  # type: ignore[method-assign]  # errors.py stands below the option table
