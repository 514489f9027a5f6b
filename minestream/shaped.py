"""Whether JSON that was read has the shape of what was written: manifests, records of parts, what a mined file says."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, NamedTuple

from minestream.config import MineConfig
from minestream.errors import MinestreamError, UsageError, is_text
from minestream.options import check_choice
from minestream.stats import ShardStats


class Maybe(NamedTuple):
    """A shape of what may be missing, or null."""

    shape: Any


NUMBER = (int, float)
LIMIT = 2**63  # of what is counted
STATS = {spec.name: Maybe({str: NUMBER} if "dict" in str(spec.type) else NUMBER) for spec in fields(ShardStats)}
RECORD = {"rows": int, "bytes": int, "crc32": str, "stats": STATS}
WORK = {
    "config": dict, "fingerprint": str, "columns": dict, "parts": int,
    "source": [{"name": str, "role": Maybe(str), "rows": Maybe(int), "crc32": Maybe({str: int})}],
    "slice": Maybe({"number": int, "of": int, "parts": [int]}),
    "others": Maybe([{"name": str, "role": Maybe(str), "crc32": {str: str}}]),
    "read": Maybe([{"role": str, "path": str}]),
}  # fmt: skip
REPORT = {
    "config": dict, "columns": dict, "plan": dict, "stats": STATS, "notes": [str], "seconds": NUMBER,
    "source": {"rows": int, "dimension": int, "dtype": str, "dropped": {str: int}, "rows_taking_part": int},
}  # fmt: skip
COMPLETE = WORK | {
    "counts": {"rows": int, str: int}, "report": {"stats": Maybe(STATS)},
    "files": [{"name": str, "rows": int, "bytes": int, "crc32": str, "stats": Maybe(STATS)}],
}  # fmt: skip
ABOUT = {
    "version": str, "fingerprint": str, "labels": str, "loss": str, "rows_crc32": str, "config": dict, "columns": dict,
    "source": [{"name": str, "role": Maybe(str), "rows": int, "crc32": {str: int}}], "counts": {"rows": int, str: int},
    "refilter": Maybe(dict),
}  # fmt: skip
OF_KINDS: dict[str, Any] = {  # of options; the others are text
    "integer": int, "number": NUMBER, "threshold": NUMBER, "flag": bool, "derived": bool,
    "repeat": [str],
}  # fmt: skip


def fits(value: Any, shape: Any) -> bool:
    """Whether a value of JSON has a shape.

    Parameters
    ----------
    value : Any
    shape : type, tuple, list, dict or Maybe
        A type, or several; a list of one shape; an object by its names, with `str` for those that are not named.
    """
    if isinstance(shape, Maybe):
        return value is None or fits(value, shape.shape)
    if isinstance(shape, list):
        return isinstance(value, list) and all(fits(each, shape[0]) for each in value)
    if isinstance(shape, dict):
        return isinstance(value, dict) and _names_fit(value, shape)
    if isinstance(value, bool):
        return shape is bool
    if isinstance(value, str):
        return shape is str and is_text(value)
    return isinstance(value, shape) and not (isinstance(value, int) and abs(value) >= LIMIT)


def _names_fit(values: dict[str, Any], shape: dict[Any, Any]) -> bool:
    named = all(fits(values.get(name), each) for name, each in shape.items() if name is not str)
    return named and (str not in shape or all(fits(values[name], shape[str]) for name in values.keys() - shape.keys()))


def config_of(recorded: dict[str, Any], place: object, refusal: type[MinestreamError]) -> MineConfig:
    """The configuration that a file or manifest records; `refusal` where it is none of this version."""
    known = {spec.name: spec for spec in fields(MineConfig)}
    wrong = sorted(recorded.keys() - known.keys())
    for name in known.keys() & recorded.keys():
        try:
            check_choice(known[name], recorded[name])
            if not fits(recorded[name], Maybe(OF_KINDS.get(known[name].metadata["kind"], str))):
                wrong.append(f"{name} {recorded[name]!r}")
        except (UsageError, TypeError):  # a list is no key among the choices
            wrong.append(f"{name} {recorded[name]!r}")
    if wrong:
        what = f"{place} was mined with options that this version does not have: {', '.join(wrong)}"
        raise refusal(what, "mine again")
    return MineConfig(**recorded | {"carry": tuple(recorded.get("carry") or ())})
