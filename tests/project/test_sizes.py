"""Functions that fit on one screen: how many parameters, and how many lines, one may have."""

from __future__ import annotations

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "minestream"
MOST_PARAMETERS, MOST_LINES = 8, 60
SELF_CONTAINED = {"reference.py"}  # the oracle, read beside the contract from top to bottom

# What is larger today, as file and name. An entry goes as soon as its function fits.
TOO_MANY_PARAMETERS = {"kernels/tile.py tile"}  # the operands of one instruction

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(package: Path) -> dict[str, Function]:
    """Every function of a package, methods and inner ones included, by file and name."""
    found: dict[str, Function] = {}
    for path in sorted(package.rglob("*.py")):
        name = path.relative_to(package).as_posix()
        if name in SELF_CONTAINED:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, Function):
                key = f"{name} {node.name}"
                found[key if key not in found else f"{key} in line {node.lineno}"] = node
    return found


def parameters(function: Function) -> int:
    """How many parameters may be given by position, without self."""
    names = [each.arg for each in (*function.args.posonlyargs, *function.args.args)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def lines(function: Function) -> int:
    """Lines of a function beside its docstring, which is as long as its parameters need."""
    first = function.body[0] if ast.get_docstring(function) else None
    said = (first.end_lineno or first.lineno) - first.lineno + 1 if first else 0
    return (function.end_lineno or function.lineno) - function.lineno + 1 - said


def test_functions_have_few_parameters() -> None:
    found = functions(PACKAGE)
    assert {name for name, each in found.items() if parameters(each) > MOST_PARAMETERS} == TOO_MANY_PARAMETERS


def test_functions_fit_on_a_screen_beside_their_docstrings() -> None:
    found = functions(PACKAGE)
    assert [name for name, each in found.items() if lines(each) > MOST_LINES] == []


def test_what_is_too_large_is_found(tmp_path: Path) -> None:
    names = ", ".join(f"p{i}" for i in range(MOST_PARAMETERS + 1))
    body = "        pass\n" * MOST_LINES
    source = (
        f"class A:\n    def many(self, {names}): ...\n    async def few(self, *, {names}): ...\n    def long(self):\n"
    )
    (tmp_path / "a.py").write_text(source + body)
    found = functions(tmp_path)
    assert [name for name, each in found.items() if parameters(each) > MOST_PARAMETERS] == ["a.py many"]
    assert [name for name, each in found.items() if lines(each) > MOST_LINES] == ["a.py long"]
