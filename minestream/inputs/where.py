"""Conditions on columns: parsed from text, evaluated on rows, and on the value ranges of row groups."""

from __future__ import annotations

import ast
import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.errors import InputError, UsageError, nearest_name
from minestream.inputs.columns import plain
from minestream.inputs.decode import decode_plain
from minestream.inputs.literals import (
    FLIPPED,
    NOTHING_KNOWN,
    Range,
    Unlike,
    Value,
    comparable,
    compared,
    fitted,
    moment,
    together,
)

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "!=", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
GRAMMAR = (
    'columns, numbers, "texts", True, False, date("2026-01-31"), time("2026-01-31T12:00+01:00"), column("odd name"), '
    "== != < <= > >=, in (...), is None, and, or, not"
)
MOST_JOINED = 1_000
_ONE_EQUALS = re.compile("(?<![=!<>:])=(?!=)")
Columns = Mapping[str, pa.Array]
Ranges = Mapping[str, Range]
Verdict = tuple[bool, bool]  # whether rows may meet a condition, whether they may fail it; null does neither


class Joined(NamedTuple):
    """Conditions joined by `and` (every) or `or`."""

    every: bool
    parts: tuple[Condition, ...]


class Not(NamedTuple):
    """The negation of a condition."""

    part: Condition


class IsNull(NamedTuple):
    """Whether a column is null."""

    name: str


class Column(NamedTuple):
    """A column, by name."""

    name: str


class Compared(NamedTuple):
    """A column compared with a value or with another column."""

    name: str
    comparison: str
    value: Value | Column


class OneOf(NamedTuple):
    """Whether a column is one of some values."""

    name: str
    values: tuple[Value, ...]


Condition = Joined | Not | IsNull | Compared | OneOf


def of_rows(condition: Condition, columns: Columns) -> pa.BooleanArray:
    """The value of a condition in every row, true, false or null: null meets neither a comparison nor its negation."""
    match condition:
        case Joined(every, parts):
            found = of_rows(parts[0], columns)
            for part in parts[1:]:
                found = (pc.and_kleene if every else pc.or_kleene)(found, of_rows(part, columns))
            return found
        case Not(part):
            return pc.invert(of_rows(part, columns))
        case IsNull(name):
            return columns[name].is_null()
        case OneOf(name, values):
            column = comparable(columns[name])
            fits = [fitted(name, columns[name].type, "==", value) for value in values]
            known = [value for comparison, value in fits if comparison]
            known += [-value for value in known if value == 0 and isinstance(value, float)]  # is_in tells -0.0 from 0.0
            return _where_known(column, pc.is_in(column, value_set=pa.array(known, column.type)))
        case Compared(name, comparison, value):
            if isinstance(value, Column):
                return _columns_compared(comparison, columns, name, value.name)
            comparison, value = fitted(name, columns[name].type, comparison, value)
            column = comparable(columns[name])
            return compared(comparison, column, value) if comparison else _where_known(column, value)


def _columns_compared(comparison: str, columns: Columns, name: str, other_name: str) -> pa.BooleanArray:
    column, other = columns[name], columns[other_name]
    if pa.types.is_null(column.type) or pa.types.is_null(other.type):
        return pa.nulls(len(column), pa.bool_())
    try:
        return compared(comparison, together(column), together(other))
    except pa.ArrowException as error:
        what = f"columns {name!r} ({column.type}) and {other_name!r} ({other.type}) cannot be compared"
        raise Unlike(what, "compare columns of one type") from error


def _where_known(column: pa.Array, value: Any) -> pa.BooleanArray:
    """`value`, and null where the column is null."""
    return pc.if_else(column.is_valid(), value, pa.scalar(None, pa.bool_()))


def of_ranges(condition: Condition, ranges: Ranges, kinds: Mapping[str, pa.DataType]) -> Verdict:
    """Whether rows may meet a condition and may fail it, by the ranges of their columns, of plain types `kinds`."""
    match condition:
        case Joined(every, parts):
            true, false = zip(*(of_ranges(part, ranges, kinds) for part in parts), strict=True)
            return (all(true), any(false)) if every else (any(true), all(false))
        case Not(part):
            may_meet, may_fail = of_ranges(part, ranges, kinds)
            return may_fail, may_meet
        case IsNull(name):
            known = ranges.get(name, NOTHING_KNOWN)
            return known.nulls, known.values
        case OneOf(name, values):
            each = tuple(Compared(name, "==", value) for value in values)
            return of_ranges(Joined(False, each), ranges, kinds) if each else (False, True)
        case Compared(name, comparison, value):
            if isinstance(value, Column):
                return True, True
            return ranges.get(name, NOTHING_KNOWN).verdict(*fitted(name, kinds[name], comparison, value))


@dataclass(frozen=True)
class Where:
    """A condition that rows must meet.

    Attributes
    ----------
    text : str
        As given.
    option : str
        The option that it was given with.
    condition : Condition
        The parsed text.
    columns : tuple of str
        The columns it reads.
    """

    text: str
    option: str
    condition: Condition
    columns: tuple[str, ...]

    def check(self, file: str, schema: pa.Schema) -> None:
        """Raise InputError for a missing column, UsageError for a comparison with another type."""
        for name in self.columns:
            if name not in schema.names:
                raise InputError(f"{file}: {self.option}: no column {name!r}", nearest_name(name, schema.names))
        self.mask(
            pa.record_batch([pa.array([], plain(schema.field(name).type)) for name in self.columns], list(self.columns))
        )

    def mask(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """Which rows meet it, bool[m]."""
        try:
            met = of_rows(self.condition, {name: decode_plain(batch.column(name)) for name in self.columns})
        except Unlike as error:
            raise UsageError(f"{self.option} {self.text!r}: {error.message}", error.hint) from error
        except pa.ArrowException as error:
            what = f"{self.option} {self.text!r}: {' '.join(str(error).split())[:200]}"
            raise UsageError(what, "compare a column with values of its type") from error
        return np.asarray(met.fill_null(False))

    def may_be_met(self, ranges: Ranges, schema: pa.Schema) -> bool:
        """Whether rows in these ranges may meet it."""
        kinds = {name: plain(schema.field(name).type) for name in self.columns}
        return of_ranges(self.condition, ranges, kinds)[0]


def both(first: Where | None, second: Where | None) -> Where | None:
    """Two conditions joined by `and`; None stands for every row."""
    if first is None or second is None:
        return first or second
    return Where(
        f"({first.text}) and ({second.text})", f"{first.option} and {second.option}",
        Joined(True, (first.condition, second.condition)), tuple(dict.fromkeys(first.columns + second.columns)),
    )  # fmt: skip


def joint(common: str | None, own: str | None, option: str) -> Where | None:
    """The condition of --where joined with that of `option`; None when neither is given."""
    return both(parse_where(common, "--where"), parse_where(own, option))


def parse_where(text: str | None, option: str) -> Where | None:
    """The condition parsed from the text of an option; None when there is no text.

    Raises
    ------
    UsageError
        For text outside the grammar.
    """
    if text is None:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = error.msg if isinstance(error, SyntaxError) else error
        raise UsageError(f"{option} {text[:200]!r}: {what}", _instead(text)) from error
    joined = sum(len(getattr(node, "values", ())) + len(getattr(node, "ops", [0])) - 1 for node in ast.walk(tree))
    if joined > MOST_JOINED:  # each one is a pass over the rows
        what = f"{option} {text[:200]!r}: {joined:,} conditions are joined, more than {MOST_JOINED:,}"
        raise UsageError(what, "list values instead: id in (1, 2, 3)")
    parser = _Parser(text, option)
    try:
        condition = parser.condition(tree.body)
    except RecursionError as error:
        raise UsageError(f"{option} {text[:200]!r}: nested too deep", "list values instead: id in (1, 2, 3)") from error
    return Where(text, option, condition, tuple(dict.fromkeys(parser.columns)))


def _instead(text: str) -> str:
    """The hint for text that cannot be parsed: == instead of =, or the grammar."""
    doubled = _ONE_EQUALS.sub("==", text.strip())
    try:
        ast.parse(doubled, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return GRAMMAR
    return f"two equal signs compare: {doubled}" if doubled != text.strip() else GRAMMAR


class _Parser:
    """Turns a Python syntax tree into a Condition, node by node, and refuses every other node."""

    def __init__(self, text: str, option: str) -> None:
        self.text, self.option = text, option
        self.columns: list[str] = []

    def condition(self, node: ast.expr) -> Condition:
        """The condition of a node."""
        if isinstance(node, ast.BoolOp):
            return Joined(isinstance(node.op, ast.And), tuple(self.condition(value) for value in node.values))
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return Not(self.condition(node.operand))
        if isinstance(node, ast.Compare):
            return self._compared(node)
        if isinstance(node, ast.Name | ast.Call):
            return Compared(self._column(node), "==", True)
        raise self._refused(node)

    def _compared(self, node: ast.Compare) -> Condition:
        if len(node.ops) > 1:  # a < x < b
            lefts = [node.left, *node.comparators]
            each = zip(lefts, node.ops, node.comparators, strict=False)
            return Joined(True, tuple(self._compared(ast.Compare(left, [op], [right])) for left, op, right in each))
        (comparison,), (right,) = node.ops, node.comparators
        if isinstance(comparison, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List):
                raise self._refused(node)
            values = [self._operand(value) for value in right.elts]
            among = OneOf(self._column(node.left), tuple(v for v in values if not isinstance(v, Column)))
            if len(among.values) < len(values):
                raise self._refused(node)
            return Not(among) if isinstance(comparison, ast.NotIn) else among
        if isinstance(comparison, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None):
                raise self._refused(node)
            null = IsNull(self._column(node.left))
            return null if isinstance(comparison, ast.Is) else Not(null)
        own, other, said = self._operand(node.left), self._operand(right), COMPARISONS[type(comparison)]
        if isinstance(own, Column):
            return Compared(own.name, said, other)
        if isinstance(other, Column):
            return Compared(other.name, FLIPPED[said], own)
        raise self._refused(node)

    def _column(self, node: ast.expr) -> str:
        operand = self._operand(node)
        if not isinstance(operand, Column):
            raise self._refused(node)
        return operand.name

    def _operand(self, node: ast.expr) -> Column | Value:
        """The column or value of a node."""
        if isinstance(node, ast.Name):
            self.columns.append(node.id)
            return Column(node.id)
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self._operand(node.operand)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return -value
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            given = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            if len(given) == 1 == len(node.args) and not node.keywords:
                return self._called(node, node.func.id, given[0])
        raise self._refused(node)

    def _called(self, node: ast.Call, name: str, given: str) -> Column | Value:
        if name == "column":
            self.columns.append(given)
            return Column(given)
        if name not in ("date", "time"):
            raise self._refused(node)
        try:
            return datetime.date.fromisoformat(given) if name == "date" else moment(given)
        except ValueError as error:
            raise UsageError(f"{self.option} {self.text!r}: {error}", GRAMMAR) from error

    def _refused(self, node: ast.AST) -> UsageError:
        return UsageError(f"{self.option}: {ast.unparse(node)!r} is not understood in {self.text!r}", GRAMMAR)
