"""Values that conditions compare columns with, converted exactly to the column's type.

Ints, decimals, dates and times lie on a grid of equal steps. A value between two steps is replaced by the one below,
and the comparison changes with it: n < 2.5 becomes n <= 2. So no row is rounded, and every value fits the type.
"""

from __future__ import annotations

import datetime
import decimal
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pat

from minestream.errors import UsageError

_EXACT = decimal.Context(prec=200)
_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_UNITS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": pc.equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
}  # fmt: skip
FLIPPED = {"==": "==", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_BETWEEN = {"==": "", "<": "<=", "<=": "<=", ">": ">", ">=": ">"}  # for a value between two steps


class Unlike(UsageError):
    """A column and a value, or two columns, that cannot be compared."""


@dataclass(frozen=True)
class Moment:
    """A date and time, and its digits beyond microseconds, in seconds."""

    when: datetime.datetime
    beyond: Fraction = Fraction(0)


Value = bool | int | float | str | datetime.date | Moment
Fitting = tuple[str, Any]  # a comparison and a value of the column's type; or "" and the answer for all but nulls


def moment(text: str) -> Moment:
    """The time that ISO 8601 text says, with an offset or without.

    Raises
    ------
    ValueError
        For any other text.
    """
    when = datetime.datetime.fromisoformat(text)
    digits = re.search(r"[.,](\d{7,})", text)
    return Moment(when, Fraction(int(digits[1][6:]), 10 ** len(digits[1])) if digits else Fraction(0))


def in_words(value: Value) -> str:
    """A value and its type in the words of a message."""
    if isinstance(value, Moment):
        return f"time({value.when.isoformat()!r})"
    if isinstance(value, datetime.date):
        return f"date({value.isoformat()!r})"
    return repr(value) if isinstance(value, bool) else f"the {'text' if isinstance(value, str) else 'number'} {value!r}"


def _grid(kind: pa.DataType) -> tuple[Fraction, int, int] | None:
    """The step between values of a type, the lowest and the highest number of steps; None for a type without a grid."""
    int64 = np.iinfo(np.int64)
    if pat.is_integer(kind):
        limits = np.iinfo(kind.to_pandas_dtype())
        return Fraction(1), int(limits.min), int(limits.max)
    if pat.is_decimal(kind):
        most = 10**kind.precision - 1
        return Fraction(10) ** -kind.scale, -most, most
    if pat.is_date32(kind):
        return Fraction(86_400), -(2**31), 2**31 - 1
    if pat.is_date64(kind) or pat.is_timestamp(kind):
        unit = "ms" if pat.is_date64(kind) else kind.unit
        return Fraction(1, _UNITS[unit]), int(int64.min), int(int64.max)
    return None


def comparable(column: Any, kind: pa.DataType) -> tuple[Any, pa.DataType]:
    """A plain column (or its expression) and its type, in a type that Arrow can compare with values."""
    wide = kind
    if pat.is_float16(kind):
        wide = pa.float32()
    elif pat.is_decimal32(kind) or pat.is_decimal64(kind):
        wide = pa.decimal128(kind.precision, kind.scale)
    return (column if wide == kind else column.cast(wide)), wide


def together(column: Any, kind: pa.DataType) -> Any:
    """A plain column (or its expression) in a type that can be compared with another column: times in UTC."""
    in_utc = pat.is_timestamp(kind) and kind.tz
    return column.cast(pa.timestamp(kind.unit, "UTC")) if in_utc else comparable(column, kind)[0]


def fitted(name: str, kind: pa.DataType, comparison: str, value: Value) -> Fitting:
    """A comparison with a value, converted to the plain type of the column.

    Raises
    ------
    Unlike
        For a value of another kind.
    """
    if pat.is_null(kind):
        return "", False
    if pat.is_boolean(kind) and isinstance(value, bool):
        return comparison, value
    if pat.is_string(kind) and isinstance(value, str):
        return comparison, value
    if pat.is_floating(kind) and isinstance(value, int | float) and not isinstance(value, bool):
        return _rounded(kind, comparison, value)
    grid = _grid(kind)
    exact = None if grid is None else _fraction(name, kind, value)
    if grid is None or exact is None:
        raise Unlike(f"column {name!r} is {kind}, and it is compared with {in_words(value)}", _remedy(kind))
    step, least, most = grid
    steps = exact / step
    place = min(math.floor(steps), most)
    if place == steps and place >= least:
        return comparison, _value(kind, place)
    if place < least:  # below every value there is
        return "", comparison in (">", ">=")
    between = _BETWEEN[comparison]
    return (between, _value(kind, place)) if between else ("", False)


def _rounded(kind: pa.DataType, comparison: str, value: float) -> Fitting:
    """The comparison with the nearest number of a floating type; beyond its range it changes, as between two steps."""
    dtype = kind.to_pandas_dtype()
    try:
        with np.errstate(over="ignore"):
            near = float(dtype(value))
    except OverflowError:
        near = math.copysign(math.inf, value)
    if math.isfinite(near) or value in (math.inf, -math.inf):
        return comparison, near
    between = _BETWEEN[comparison]
    return (between, float(np.finfo(dtype).max) if near > 0 else -math.inf) if between else ("", False)


def _fraction(name: str, kind: pa.DataType, value: Value) -> Fraction | None:
    """A value as an exact number, in seconds for dates and times; None if it does not suit the type."""
    if not pat.is_temporal(kind):
        if isinstance(value, bool) or not isinstance(value, int | float):
            return None
        if isinstance(value, float) and math.isinf(value):
            return Fraction(10**400 if value > 0 else -(10**400))
        return Fraction(repr(value)) if isinstance(value, float) else Fraction(value)
    if isinstance(value, str):
        try:
            value = moment(value)
        except ValueError:
            return None
    if isinstance(value, datetime.date):
        value = Moment(datetime.datetime.combine(value, datetime.time()))
    if not isinstance(value, Moment):
        return None
    when, zone = value.when, getattr(kind, "tz", None)
    if when.tzinfo is not None and zone is None:
        what = f"column {name!r} is {kind}, without a time zone, and {in_words(value)} has an offset"
        raise Unlike(what, "leave the offset out: such a column holds the time on the wall")
    if when.tzinfo is None:
        when = when.replace(tzinfo=pa.lib.string_to_tzinfo(zone) if zone else datetime.UTC)
    since = when - _EPOCH
    return since.days * 86_400 + since.seconds + Fraction(since.microseconds, 10**6) + value.beyond


def _value(kind: pa.DataType, place: int) -> Any:
    """The value that is this many steps from 0, for pyarrow.scalar."""
    return decimal.Decimal(place).scaleb(-kind.scale, _EXACT) if pat.is_decimal(kind) else place


def _remedy(kind: pa.DataType) -> str:
    if pat.is_date(kind):
        return 'compare it with a date: date("2026-01-31")'
    if pat.is_timestamp(kind):
        return 'compare it with a time: time("2026-01-31T12:00"), with an offset or without'
    if pat.is_string(kind):
        return 'compare it with a text: "7"'
    if pat.is_boolean(kind):
        return "compare it with True or False, or name it alone"
    if _grid(kind) is not None or pat.is_floating(kind):
        return "compare it with a number, without quotes; a column by itself is a condition if it is of True and False"
    return "compare columns of numbers, texts, dates, times, True and False"
