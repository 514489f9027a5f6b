"""Values that conditions compare columns with, converted exactly to the column's type; and ranges of columns.

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
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal,
}  # fmt: skip
FLIPPED = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
_BETWEEN = {"==": "", "!=": "", "<": "<=", "<=": "<=", ">": ">", ">=": ">"}  # for a value between two steps
SURELY_WHOLE_BYTES = 16  # no writer cuts shorter texts in its statistics


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


def comparable(column: pa.Array) -> pa.Array:
    """A plain column converted for `compared` with a value: dates and times as ints, half floats as floats."""
    kind = column.type
    if pat.is_date32(kind):
        return column.cast(pa.int32())
    if pat.is_date64(kind) or pat.is_timestamp(kind):
        return column.cast(pa.int64())
    if pat.is_float16(kind):
        return column.cast(pa.float32())
    if pat.is_decimal32(kind) or pat.is_decimal64(kind):
        return column.cast(pa.decimal128(kind.precision, kind.scale))
    return column


def together(column: pa.Array) -> pa.Array:
    """A plain column converted for `compared` with another: times in UTC, half floats as floats."""
    kind = column.type
    if pat.is_timestamp(kind) and kind.tz:
        return column.cast(pa.timestamp(kind.unit, "UTC"))
    return column.cast(pa.float32()) if pat.is_float16(kind) else column


def compared(comparison: str, column: pa.Array, other: Any) -> pa.BooleanArray:
    """A column compared with a value from `fitted` or with another column; null where either is null."""
    if not isinstance(other, pa.Array):
        other = pa.scalar(other, column.type)
    return _COMPARE[comparison](column, other)


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
        return "", comparison in (">", ">=", "!=")
    between = _BETWEEN[comparison]
    return (between, _value(kind, place)) if between else ("", comparison == "!=")


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
    return (between, float(np.finfo(dtype).max) if near > 0 else -math.inf) if between else ("", comparison == "!=")


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
    """The value that is this many steps from 0, in the form that `comparable` columns have."""
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


@dataclass(frozen=True)
class Range:
    """What is known about the values of some rows of a column.

    Attributes
    ----------
    low, high : value as `comparable` has it, texts as UTF-8, or None
        No value is below `low` or above `high`; None: unknown.
    nulls, values : bool
        Whether some may be null, and whether some may not be null.
    nan : bool
        Whether some may be NaN, which the bounds leave out.
    """

    low: Any = None
    high: Any = None
    nulls: bool = True
    values: bool = True
    nan: bool = False

    def verdict(self, comparison: str, value: Any) -> tuple[bool, bool]:
        """Whether rows may meet a comparison from `fitted`, and whether they may fail it."""
        if not self.values:
            return False, False
        if not comparison:
            return bool(value), not value
        if self.low is None or self.high is None:
            return True, True
        value = value.encode() if isinstance(value, str) else value
        true, false = {
            "==": (self.low <= value <= self.high, not self.low == value == self.high),
            "!=": (not self.low == value == self.high, self.low <= value <= self.high),
            "<": (self.low < value, self.high >= value),
            "<=": (self.low <= value, self.high > value),
            ">": (self.high > value, self.low <= value),
            ">=": (self.high >= value, self.low < value),
        }[comparison]
        return (true or (self.nan and comparison == "!="), false or (self.nan and comparison != "!="))


NOTHING_KNOWN = Range(nan=True)


def constant_range(value: Any) -> Range:
    """The range of a column that holds only this int, text or null."""
    if value is None:
        return Range(values=False)
    known = value.encode() if isinstance(value, str) else value
    return Range(known, known, nulls=False)


def range_of(statistics: Any, rows: int, kind: pa.DataType) -> Range:
    """The range of a Parquet column chunk by its statistics; `kind`: the plain type it is read as.

    Bounds that are NaN are ignored, and a long text may have been cut.
    """
    if statistics is None:
        return NOTHING_KNOWN
    counted = statistics.null_count if statistics.has_null_count else None
    known = Range(nulls=counted != 0, values=counted != rows, nan=pat.is_floating(kind))
    if not statistics.has_min_max:
        return known
    low, high = (_bound(statistics, kind, side) for side in ("min", "max"))
    if low is None or high is None or low > high:
        return known
    if pat.is_string(kind) and len(high) >= SURELY_WHOLE_BYTES:
        high += b"\xff"
    return Range(low, high, known.nulls, known.values, known.nan)


def _bound(statistics: Any, kind: pa.DataType, side: str) -> Any:
    """The bound `side` (min or max) as Range has it; None if it is not of the column's type."""
    raw = getattr(statistics, f"{side}_raw")
    if pat.is_string(kind):
        return raw if isinstance(raw, bytes) else None
    if pat.is_timestamp(kind):
        return _of_time(statistics, kind, raw)
    if pat.is_date32(kind):
        return raw if isinstance(raw, int) else None
    found = getattr(statistics, side)
    if pat.is_decimal(kind):
        return found if isinstance(found, decimal.Decimal) else None
    if pat.is_float32(kind) or pat.is_float64(kind):
        return found if isinstance(found, float) and not math.isnan(found) else None
    if pat.is_boolean(kind):
        return found if isinstance(found, bool) else None
    return found if pat.is_integer(kind) and isinstance(found, int) else None


def _of_time(statistics: Any, kind: pa.DataType, raw: Any) -> int | None:
    """A bound of times, converted to the unit they are read in; None if that is not exact."""
    stored = re.search('"timeUnit":"(milli|micro|nano)seconds"', statistics.logical_type.to_json())
    if stored is None or not isinstance(raw, int):
        return None
    steps = Fraction(raw, _UNITS[{"milli": "ms", "micro": "us", "nano": "ns"}[stored[1]]]) * _UNITS[kind.unit]
    return int(steps) if steps.denominator == 1 else None
