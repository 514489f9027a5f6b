"""Every public module, class and function says what it is, and files stay short enough to be read at once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "minestream"
FILES = sorted(PACKAGE.rglob("*.py"))
MOST_LINES = 500
LONGER = {  # file: (lines it may have, why it is one file)
    "reference.py": (1300, "the specification leans on nothing, so that it can be read alone")
}
INHERITED = {"KernelDispatcher.compile", "KernelFiles.cache_path"}  # documented by numba, where they are defined


def short(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def undocumented(node: ast.AST, inside: str = "") -> Iterator[str]:
    """Public classes and functions without a docstring; methods of public classes too, dunders aside."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) or child.name.startswith("_"):
            continue
        name = f"{inside}{child.name}"
        decorators = {ast.unparse(each) for each in child.decorator_list}
        exempt = name in INHERITED or decorators & {"overload", "override"}
        if not ast.get_docstring(child) and not exempt:
            yield f"{name} (line {child.lineno})"
        if isinstance(child, ast.ClassDef):
            yield from undocumented(child, f"{name}.")


@pytest.mark.parametrize("path", FILES, ids=short)
def test_public_things_have_docstrings(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), "the module has no docstring"
    assert not list(undocumented(tree))


@pytest.mark.parametrize("path", FILES, ids=short)
def test_docstrings_begin_with_a_sentence(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and (text := ast.get_docstring(node)):
            first = text.split("\n\n")[0]
            assert text[0] == text.lstrip()[0], (path.name, first)
            assert first.rstrip().endswith((".", "?", ":")) or "\n\n" not in text, (path.name, first)


@pytest.mark.parametrize("path", FILES, ids=short)
def test_files_are_short(path: Path) -> None:
    most, _ = LONGER.get(short(path), (MOST_LINES, ""))
    assert len(path.read_text().splitlines()) <= most


def test_the_listed_files_exist() -> None:
    assert set(LONGER) <= set(map(short, FILES))


def test_the_check_finds_what_is_missing() -> None:
    methods = '    """Text."""\n    def bare(self): ...\n    def _own(self): ...\n'
    sample = f"class Open:\n{methods}def lone(): ...\ndef _own(): ...\n"
    assert list(undocumented(ast.parse(sample))) == ["Open.bare (line 3)", "lone (line 5)"]
