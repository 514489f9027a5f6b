"""What the text of an option means: thresholds, sizes, shares, margins, slices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from minestream.config.memory_plan import LEAST_BYTES
from minestream.errors import CapacityError, UsageError

PIPE = "-"  # standard input, or output, in place of a path


def parse_threshold(text: str) -> float | None:
    """A distance, or None for the word none."""
    if text == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--drop-duplicates-within takes a distance or none, not {text!r}") from None


def parse_named(flag: str, given: Any) -> dict[str, list[Any]]:
    """Tables by name, from texts NAME=TABLE, or from a dict of tables or of lists of them.

    Raises
    ------
    UsageError
        For a text without a name or a table, or an object of another type.
    """
    found: dict[str, list[Any]] = {}
    if isinstance(given, Mapping):
        return {str(name): list(each) if isinstance(each, list | tuple) else [each] for name, each in given.items()}
    for text in given if isinstance(given, list | tuple) else [given]:
        name, _, table = text.partition("=") if isinstance(text, str) else ("", "", "")
        if not name or not table:
            shown = repr(text) if isinstance(text, str) else f"a {type(text).__name__}"
            raise UsageError(f"{flag} takes NAME=TABLE, not {shown}", "for example b=other.parquet; in Python a dict")
        found.setdefault(name, []).append(table)
    return found


UNITS = {"": 1, "B": 1, "K": 2**10, "KB": 10**3, "KIB": 2**10, "M": 2**20, "MB": 10**6, "MIB": 2**20, "G": 2**30,
         "GB": 10**9, "GIB": 2**30, "T": 2**40, "TB": 10**12, "TIB": 2**40}  # fmt: skip


def parse_memory(text: str) -> int | None:
    """A size in bytes, such as 256MiB, 8GB or 1.5G; None for auto."""
    if text == "auto":
        return None
    digits = text.strip().rstrip("BbKkMmGgTtIi ")
    unit = text.strip()[len(digits) :].strip().upper()
    try:
        size = int(float(digits) * UNITS[unit])
    except (ValueError, KeyError, OverflowError):
        raise UsageError(f"--memory takes auto or a size such as 256MiB or 8GB, not {text!r}") from None
    if size < LEAST_BYTES:
        units = ("MiB", "GiB", "TiB") if not unit else ()
        meant = next((each for each in units if float(digits) * UNITS[each.upper()] >= LEAST_BYTES), None)
        hint = f"{digits} is bytes: --memory {digits}{meant}" if meant else "the least is --memory 16MiB"
        raise CapacityError(f"--memory {text} is below the 16 MiB that any run needs", hint)
    return size


def anchor_share(text: str | None, available: int) -> int:
    """How many of `available` anchors `N` or `P%` asks for: P% is rounded up."""
    if text is None:
        return available
    percent = text.endswith("%")
    try:
        number = float(text[:-1]) if percent else int(text)
    except ValueError:
        meant = f"did you mean --anchors {100 * float(text):g}%? " if re.fullmatch(r"0?\.\d*[1-9]\d*", text) else ""
        raise UsageError(
            f"--anchors takes a number or a percentage, not {text!r}", f"{meant}10% is a tenth of them, 10 are ten"
        ) from None
    if not number > 0 or (percent and number > 100):
        raise UsageError(f"--anchors {text} asks for no anchor", "a number from 1, or a percentage up to 100%")
    wanted = -int(-number * available // 100) if percent else int(number)
    return min(wanted, available)


def short_share(text: str | None) -> float | None:
    """The share 0..1 that `P%` means, or None."""
    if text is None:
        return None
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--max-short takes a percentage from 0% to 100%, not {text!r}")
    return share


def kept_by(share: float) -> str:
    """What a --relative-margin of so much keeps, and which one keeps what this one leaves out: the two are confused."""
    most = f"{share:g} keeps what is at most {100 * (1 - share):g} % as similar"
    return f"{most}; for up to {100 * share:g} % write {1 - share:g}"


def parse_margins(text: str | None) -> tuple[float, ...] | None:
    """The margins in `0.1` or `0.1,0.2,0.3`, or None."""
    try:
        return None if text is None else tuple(map(float, text.split(",")))
    except ValueError:
        raise UsageError(f"--margin takes a number, or several as 0.1,0.2,0.3, not {text!r}") from None


@dataclass(frozen=True, slots=True)
class Slice:
    """Slice `number` of `count`, from 1."""

    number: int
    count: int

    @property
    def name(self) -> str:
        """The name of the slice's folder."""
        return f"slice-{self.number:03d}-of-{self.count:03d}"

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parse_slice(text: str) -> Slice:
    """The slice that `I/N` means."""
    match = re.fullmatch(r"(\d+)/(\d+)", text.strip())
    number, count = map(int, match.groups()) if match else (0, 0)
    if not 1 <= number <= count:
        raise UsageError(f"--shard takes I/N with I from 1 to N, not {text!r}", "the third of eight is --shard 3/8")
    return Slice(number, count)
