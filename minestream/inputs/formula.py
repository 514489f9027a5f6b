"""Formulas over named numbers, as `0.7*ce + 0.3*sim`: parsed, never executed."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minestream.errors import UsageError, nearest

Numbers = NDArray[np.float64]
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: np.true_divide,
    ast.Pow: np.float_power,
}  # fmt: skip
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
_FUNCTIONS: dict[str, tuple[Callable[..., Any], int]] = {
    "abs": (np.abs, 1), "exp": (np.exp, 1), "log": (np.log, 1), "sqrt": (np.sqrt, 1), "min": (np.minimum, 2),
    "max": (np.maximum, 2),
}  # fmt: skip
GRAMMAR = f"numbers, + - * / **, brackets, {', '.join(_FUNCTIONS)}"


class Formula:
    """A formula.

    Parameters
    ----------
    text : str
    known : collection of str
        The names that may stand in it.
    option : str
        For messages.

    Attributes
    ----------
    names : set of str
        Those that do.

    Raises
    ------
    UsageError
        For what is no formula, or names something else.
    """

    def __init__(self, text: str, known: Collection[str], option: str) -> None:
        self._text, self._known, self._option = text, known, option
        self.names: set[str] = set()
        try:
            self._tree = ast.parse(text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            raise self._refusal("it cannot be read") from error
        self.value(dict.fromkeys(known, np.ones(1)))

    def value(self, given: Mapping[str, Numbers]) -> Numbers:
        """Its value, element by element; what is undefined is not finite."""
        with np.errstate(all="ignore"):
            found: Numbers = np.asarray(self._of(self._tree, given), np.float64)
        return found

    def _of(self, node: ast.expr, given: Mapping[str, Numbers]) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return float(node.value)
        if isinstance(node, ast.Name):
            if node.id not in given:
                hint = nearest(node.id, sorted(self._known))
                raise self._refusal(f"{node.id} is no score", f"{hint}there are {', '.join(sorted(self._known))}")
            self.names.add(node.id)
            return given[node.id]
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            return _BINARY[type(node.op)](self._of(node.left, given), self._of(node.right, given))
        if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            return _UNARY[type(node.op)](self._of(node.operand, given))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            function, count = _FUNCTIONS.get(node.func.id, (None, 0))
            if function is not None and len(node.args) == count:
                return function(*(self._of(each, given) for each in node.args))
        raise self._refusal(f"{ast.unparse(node)} is not understood")

    def _refusal(self, why: str, hint: str = "") -> UsageError:
        return UsageError(f"{self._option} {self._text!r}: {why}", hint or f"a formula has names of scores, {GRAMMAR}")
