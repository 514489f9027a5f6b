"""Conditions on columns: parsed from text, evaluated on rows, or made an expression for Arrow."""

from __future__ import annotations

import ast
import datetime
import functools
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
from minestream.inputs.literals import COMPARE, FLIPPED, Unlike, Value, comparable, fitted, moment, together

COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==", ast.NotEq: "==", ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=",
}  # fmt: skip
GRAMMAR = (
    'columns, numbers, "texts", True, False, date("2026-01-31"), time("2026-01-31T12:00+01:00"), column("odd name"), '
    "== != < <= > >=, in (...), is None, and, or, not"
)
MOST_JOINED = 1_000
_OF_SQL = {
    "(?<![=!<>:])=(?!=)": "==", "<>": "!=", r"(==|\bis\b) *(null|none)\b": "is None",
    r"(!=|\bis +not\b) *(null|none)\b": "is not None", r"\band\b": "and", r"\bor\b": "or", r"\bnot\b": "not",
    r"\bin\b": "in",
}  # fmt: skip
_TEXTS = re.compile("""('[^']*'|"[^"]*")""")
UNKNOWN = ""  # a field that no statistics tell of
Columns = Mapping[str, Any]
Kinds = Mapping[str, pa.DataType]


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


def meets(condition: Condition, columns: Columns, kinds: Kinds, wanted: bool = True) -> Any:
    """Whether rows meet a condition or, for `wanted` False, its negation; a null meets neither: true, false or null.

    columns : a plain array of each column, or an expression for it; the answer is one too
    kinds : the plain types of the columns
    """
    match condition:
        case Joined(every, parts):
            join = pc.and_kleene if every == wanted else pc.or_kleene
            return functools.reduce(join, (meets(part, columns, kinds, wanted) for part in parts))
        case Not(part):
            return meets(part, columns, kinds, not wanted)
        case IsNull(name):
            return columns[name].is_null() if wanted else columns[name].is_valid()
        case OneOf(name, values):
            column, kind = comparable(columns[name], kinds[name])
            fits = [fitted(name, kinds[name], "==", value) for value in values]
            known = [value for comparison, value in fits if comparison]
            known += [-value for value in known if value == 0 and isinstance(value, float)]  # is_in tells -0.0 from 0.0
            found = pc.is_in(column, value_set=pa.array(known, kind))
        case Compared(name, comparison, value):
            column, kind = comparable(columns[name], kinds[name])
            if isinstance(value, Column):
                found = _columns_compared(comparison, columns, kinds, name, value.name)
            else:
                comparison, value = fitted(name, kinds[name], comparison, value)
                found = COMPARE[comparison](column, pa.scalar(value, kind)) if comparison else pa.scalar(value)
    if isinstance(column, pc.Expression) and pa.types.is_floating(kind):  # its statistics leave NaN out
        found = pc.and_kleene(found, pc.field(UNKNOWN))
    return pc.and_kleene(column.is_valid(), found if wanted else pc.invert(found))


def _columns_compared(comparison: str, columns: Columns, kinds: Kinds, name: str, other_name: str) -> Any:
    if pa.types.is_null(kinds[name]) or pa.types.is_null(kinds[other_name]):
        return pa.scalar(None, pa.bool_())
    try:
        return COMPARE[comparison](*(together(columns[each], kinds[each]) for each in (name, other_name)))
    except pa.ArrowException as error:
        what = f"columns {name!r} ({kinds[name]}) and {other_name!r} ({kinds[other_name]}) cannot be compared"
        raise Unlike(what, "compare columns of one type") from error


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
        columns = {name: decode_plain(batch.column(name)) for name in self.columns}
        try:
            met = meets(self.condition, columns, {name: column.type for name, column in columns.items()})
        except Unlike as error:
            raise UsageError(f"{self.option} {self.text!r}: {error.message}", error.hint) from error
        except pa.ArrowException as error:
            what = f"{self.option} {self.text!r}: {' '.join(str(error).split())[:200]}"
            raise UsageError(what, "compare a column with values of its type") from error
        return np.asarray(met.fill_null(False))

    def expression(self, schema: pa.Schema) -> pc.Expression:
        """An expression that Arrow judges by the statistics of row groups; UNKNOWN is what they leave out."""
        kinds = {name: plain(schema.field(name).type) for name in self.columns}
        columns = {
            name: pc.field(name) if schema.field(name).type == kind else pc.field(name).cast(kind)
            for name, kind in kinds.items()
        }
        return meets(self.condition, columns, kinds)


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
    """The hint for text that is not understood: the same in the grammar where only its signs are those of SQL."""
    pieces = _TEXTS.split(text.strip())
    for theirs, ours in _OF_SQL.items():
        pieces[::2] = [re.sub(theirs, ours, piece, flags=re.IGNORECASE) for piece in pieces[::2]]
    here = "".join(pieces)
    try:
        if here != text.strip():
            _Parser(here, "").condition(ast.parse(here, mode="eval").body)
            return f"here that is {here}"
    except (SyntaxError, ValueError, RecursionError, MemoryError, UsageError):
        pass
    return GRAMMAR


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
        left, other, sign = self._operand(node.left), self._operand(right), COMPARISONS[type(comparison)]
        if isinstance(left, Column):
            compared = Compared(left.name, sign, other)
        elif isinstance(other, Column):
            compared = Compared(other.name, FLIPPED[sign], left)
        else:
            raise self._refused(node)
        return Not(compared) if isinstance(comparison, ast.NotEq) else compared

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
        return UsageError(
            f"{self.option}: {ast.unparse(node)!r} is not understood in {self.text!r}", _instead(self.text)
        )
