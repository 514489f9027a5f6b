"""What an option is: a field with a kind, a help and the values that it takes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import MISSING, Field, dataclass, field
from math import inf, isfinite
from typing import Any

from minestream.config.names import GONE, nearest_value, refuse_gone
from minestream.config.parse import kept_by
from minestream.errors import UsageError, is_text

OFTEN, FIRST = 1, 2  # how much an option is used: often; first, so that the short help of mine shows it
GROUPS = ("Input", "Retrieval", "What is mined", "Filters", "Balance", "Output", "Resources")


@dataclass(frozen=True, slots=True)
class Range:
    """The numbers, all finite, that an option takes; `hint` is the remedy for any other."""

    least: float = -inf
    most: float = inf
    inside: bool = False  # whether the ends are left out
    hint: str = ""

    def check(self, flag: str, value: object) -> None:
        """Raise UsageError for a number outside; other values pass."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            return
        at_end = self.inside and value in (self.least, self.most)
        if at_end or not isfinite(value) or not self.least <= value <= self.most:
            what = str(self) if isfinite(value) else "a finite number"
            raise UsageError(f"{flag} must be {what}, not {value}", self.hint)

    def __str__(self) -> str:
        if self.least == -inf:
            return f"at most {self.most:,}" if self.most < inf else "a finite number"
        if self.most < inf:
            return f"between {self.least:,} and {self.most:,}"
        return f"above {self.least:,}" if self.inside else f"at least {self.least:,}"


FINITE, COUNT = Range(), Range(1)


def option(
    default: Any,
    kind: str,
    group: str,
    help: str,
    *,
    flags: tuple[str, ...] = (),
    choices: Mapping[str, object] | None = None,
    metavar: str = "",
    within: Range = FINITE,
    use: int = 0,
) -> Any:
    """A dataclass field that is also an option. One whose default is dataclasses.MISSING must be given.

    kind : how the command line reads it (cli/options.py); "hidden" and "derived" are not on the command line
    flags : its flags, where it has others than its name
    use : OFTEN or FIRST; help shows what is used most before the rest of its group
    """
    metadata = {
        "kind": kind, "group": group, "help": help, "flags": flags, "choices": choices, "metavar": metavar,
        "within": within, "use": use,
    }  # fmt: skip
    return field(default=default, metadata=metadata)


def flag_of(name: str) -> str:
    """The long command-line option of a field."""
    return "--" + name.replace("_", "-")


def help_of(spec: Field[Any], *, choices: bool = True, default: bool = True) -> str:
    """The help of an option in a line, with its choices and its default where wanted."""
    about = spec.metadata
    text: str = about["help"] + (f" One of {', '.join(about['choices'])}." if choices and about["choices"] else "")
    if not default or (about["choices"] and not choices) or "default" in text.lower():
        return text
    nothing = spec.default is None or spec.default is MISSING or about["kind"] in ("flag", "repeat", "columns", "named")
    return text if nothing else f"{text} Default: {spec.default}."


def check_value(spec: Field[Any], value: object) -> None:
    """Raise UsageError for a value outside the choices or the range of an option, and for text that is no UTF-8."""
    choices = spec.metadata["choices"]
    if isinstance(value, str) and not is_text(value):
        raise UsageError(f"{flag_of(spec.name)} {value!r} is no UTF-8", "check the encoding of the terminal")
    if isinstance(value, str) and value in (choices or ()):
        return
    refuse_gone(spec.name, value)
    spec.metadata["within"].check(flag_of(spec.name), value)
    if choices is None or value is None:
        return
    known = nearest_value(spec.name, str(value), list(choices))
    raise UsageError(f"{flag_of(spec.name)} has no value {value!r}", known)


# The types that annotations of keywords name, and what messages call them.
_TYPES: dict[str, tuple[type | tuple[type, ...], str]] = {
    "int": (int, "a whole number"), "float": ((int, float), "a number"), "bool": (bool, "True or False"),
    "str": (str, "a text"),
}  # fmt: skip


def of_type(flag: str, annotation: str, value: Any, hint: str = "") -> Any:
    """A value as its annotation says: a scalar of NumPy or torch becomes a number, a path a text.

    Values whose annotation names other types are returned as they are; `hint` is for a value of another type.

    Raises
    ------
    UsageError
        For a value of another type, or a whole number beyond int64.
    """
    names = annotation.split(" | ")
    kinds = [_TYPES[name] for name in names if name in _TYPES]
    if (value is None and "None" in names) or len(kinds) + names.count("None") < len(names):
        return value
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()
    if "bool" in names and value in (0, 1):
        value = bool(value)
    if "str" in names and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if not any(isinstance(value, types) for types, _ in kinds) or (isinstance(value, bool) and "bool" not in names):
        shown = f"{value!r}" if isinstance(value, str | int | float | None) else f"a {type(value).__name__}"
        raise UsageError(
            f"{flag} takes {' or '.join(what for _, what in kinds)}, not {shown}", _instead(flag, value) or hint
        )
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UsageError(f"{flag} {value} is beyond what 64 bits hold", "give a smaller number")
    return value


def _instead(flag: str, value: object) -> str:
    """The hint for a number in quotes, or for several values where former versions took several."""
    if isinstance(value, list | tuple):
        return GONE.get(f"{flag.lstrip('-')}=several", "")
    try:
        if not isinstance(value, str):
            return ""
        share = float(value.rstrip("%")) / (100 if value.endswith("%") else 1)
        return f"without quotes: {kept_by(share) if flag == '--relative-margin' else f'{share:g}'}"
    except ValueError:
        return ""
