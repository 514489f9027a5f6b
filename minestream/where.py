"""Filter expressions over columns: parsed by hand into Arrow expressions, so that nothing in them is executed."""

from __future__ import annotations

import ast
import datetime
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from minestream.errors import InputError, UsageError, nearest_name

COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}  # fmt: skip
CALLS: dict[str, Callable[[str], Any]] = {
    "column": pc.field,
    "date": datetime.date.fromisoformat,
    "time": datetime.datetime.fromisoformat,
}
GRAMMAR = (
    'columns, numbers, "texts", True, False, date("2026-01-31"), time("2026-01-31T12:00"), column("odd name"), '
    "== != < <= > >=, in (...), is None, and, or, not"
)
MOST_JOINED = 1_000
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True)
class Where:
    """A condition that rows must meet.

    Attributes
    ----------
    text : str
        As given.
    option : str
        Which option gave it.
    expression : pyarrow.compute.Expression
        Null counts as false.
    columns : tuple of str
        Those it reads.
    """

    text: str
    option: str
    expression: pc.Expression
    columns: tuple[str, ...]

    def check(self, file: str, schema: pa.Schema) -> None:
        """Raise InputError for a column that is not there, UsageError for one compared to another type."""
        for name in self.columns:
            if name not in schema.names:
                raise InputError(f"{file}: {self.option}: no column {name!r}", nearest_name(name, schema.names))
        self.mask(_no_rows(schema, self.columns))

    def mask(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """Which rows meet it, bool[m]."""
        place = "row"
        while place in self.columns:
            place += "_"
        given = pa.table([batch.column(name) for name in self.columns], list(self.columns))
        numbered = given.append_column(place, pa.array(np.arange(batch.num_rows)))
        try:
            kept = numbered.filter(self.expression)[place].to_numpy()
        except (pa.ArrowException, TypeError) as error:
            raise UsageError(
                f"{self.option} {self.text!r}: {' '.join(str(error).split())[:200]}",
                "compare a column with values of its type",
            ) from error
        mask = np.zeros(batch.num_rows, bool)
        mask[kept] = True
        return mask


def _no_rows(schema: pa.Schema, names: tuple[str, ...]) -> pa.RecordBatch:
    return pa.record_batch([pa.array([], schema.field(name).type) for name in names], list(names))


def parse_where(text: str | None, option: str) -> Where | None:
    """The condition that an option's text says; None without one.

    Raises
    ------
    UsageError
        For what the grammar does not have.
    """
    if text is None:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{option} {text[:200]!r}: {error}", GRAMMAR) from error
    joined = sum(len(getattr(node, "values", ())) + len(getattr(node, "ops", [0])) - 1 for node in ast.walk(tree))
    if joined > MOST_JOINED:  # Arrow follows them on its stack, and dies of some 10,000
        what = f"{option} {text[:200]!r}: {joined:,} conditions are joined, more than {MOST_JOINED:,}"
        raise UsageError(what, "list values instead: id in (1, 2, 3)")
    parser = _Parser(text, option)
    try:
        expression = parser.condition(tree.body)
    except (pa.ArrowException, TypeError, OverflowError, RecursionError) as error:
        what = f"{option} {text[:200]!r}: {' '.join(str(error).split())[:200]}"
        raise UsageError(what, "compare with values of one type that Arrow has") from error
    if not parser.columns:
        raise UsageError(f"{option} {text!r} names no column", GRAMMAR)
    return Where(text, option, expression, tuple(dict.fromkeys(parser.columns)))


class _Parser:
    """Turns the syntax tree of a condition into an Arrow expression, node by node; what it does not know it refuses."""

    def __init__(self, text: str, option: str) -> None:
        self.text, self.option = text, option
        self.columns: list[str] = []

    def condition(self, node: ast.expr) -> Any:
        """What is true or false of a row."""
        if isinstance(node, ast.BoolOp):
            join = operator.and_ if isinstance(node.op, ast.And) else operator.or_
            found = self.condition(node.values[0])
            for value in node.values[1:]:
                found = join(found, self.condition(value))
            return found
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            return ~self.condition(node.operand)
        if isinstance(node, ast.Compare):
            return self._compared(node)
        if isinstance(node, ast.Name | ast.Call):
            return self._operand(node) == True  # noqa: E712 (an expression, not a bool)
        raise self._refused(node)

    def _compared(self, node: ast.Compare) -> Any:
        if len(node.ops) > 1:  # a < x < b
            left, found = node.left, None
            for comparison, right in zip(node.ops, node.comparators, strict=True):
                each = self._compared(ast.Compare(left, [comparison], [right]))
                found, left = each if found is None else found & each, right
            return found
        (comparison,), (right,) = node.ops, node.comparators
        own = self._operand(node.left)
        if isinstance(comparison, ast.In | ast.NotIn):
            if not isinstance(right, ast.Tuple | ast.List) or not isinstance(own, pc.Expression):
                raise self._refused(node)
            found = own.isin([self._operand(value) for value in right.elts])
            return ~found if isinstance(comparison, ast.NotIn) else found
        if isinstance(comparison, ast.Is | ast.IsNot):
            if not (isinstance(right, ast.Constant) and right.value is None) or not isinstance(own, pc.Expression):
                raise self._refused(node)
            return own.is_null() if isinstance(comparison, ast.Is) else own.is_valid()
        other = self._operand(right)
        if type(comparison) not in COMPARISONS or not any(isinstance(each, pc.Expression) for each in (own, other)):
            raise self._refused(node)
        return COMPARISONS[type(comparison)](own, other)

    def _operand(self, node: ast.expr) -> Any:
        """A column, or a value."""
        if isinstance(node, ast.Name):
            self.columns.append(node.id)
            return pc.field(node.id)
        if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
            return node.value
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            value = self._operand(node.operand)
            if isinstance(value, int | float):
                return -value
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CALLS:
            given = [each.value for each in node.args if isinstance(each, ast.Constant) and isinstance(each.value, str)]
            if len(given) == 1 == len(node.args) and not node.keywords:
                self.columns += given if node.func.id == "column" else []
                try:
                    return CALLS[node.func.id](given[0])
                except ValueError as error:
                    raise UsageError(f"{self.option} {self.text!r}: {error}", GRAMMAR) from error
        raise self._refused(node)

    def _refused(self, node: ast.AST) -> UsageError:
        return UsageError(f"{self.option}: {ast.unparse(node)!r} is not understood in {self.text!r}", GRAMMAR)


def partition_values(path: str) -> dict[str, str | None]:
    """The hive partition columns of a path: its folders of the form name=value."""
    pairs = (folder.split("=", 1) for folder in path.split("/")[:-1] if "=" in folder[1:])
    return {unquote(name): None if value == HIVE_NULL else unquote(value) for name, value in pairs}


def partition_types(values: list[dict[str, str | None]]) -> dict[str, pa.DataType]:
    """Of the partition columns that all files have: int64 where every value is a number, else string."""
    shared = [name for name in (values[0] if values else {}) if all(name in each for each in values)]
    return {
        name: pa.int64() if all((each[name] or "0").lstrip("-").isdecimal() for each in values) else pa.string()
        for name in shared
    }
