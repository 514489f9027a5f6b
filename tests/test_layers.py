"""Who may import whom (HOUSE 3), read from the source: nothing is imported to find out."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "minestream"
FILES = sorted(PACKAGE.rglob("*.py"))
OURS = "minestream"


def module_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def for_types_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def import_nodes(tree: ast.AST, *, deferred: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of a module: all that run, or those that run when it is imported; never those for types."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) and not deferred:
            continue
        elif not (isinstance(node, ast.stmt) and for_types_only(node)):
            yield from import_nodes(node, deferred=deferred)


@cache
def imports(path: Path, *, deferred: bool = True) -> frozenset[str]:
    """Modules that a file imports; of ours, the file itself rather than the package it is taken from."""
    found: set[str] = set()
    for node in import_nodes(ast.parse(path.read_text()), deferred=deferred):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
            continue
        assert node.level == 0, f"{path.name}: imports are absolute"
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            found.add(inner if inner in MODULES else str(node.module))
    return frozenset(found)


def top(name: str) -> str:
    return name.split(".")[0]


def importers(of: str) -> set[str]:
    return {module for module, path in MODULES.items() if of in map(top, imports(path))}


def reachable(start: str, *, deferred: bool = True) -> set[str]:
    """Every module of ours that importing `start` may load."""
    seen, left = set(), [start]
    while left:
        module = left.pop()
        if module not in seen:
            seen.add(module)
            left += [name for name in imports(MODULES[module], deferred=deferred) if name in MODULES]
    return seen


KERNELS = sorted(module for module in MODULES if module.startswith(f"{OURS}.kernels"))


@pytest.mark.parametrize("module", KERNELS)
def test_kernels_know_arrays_only(module: str) -> None:
    for name in imports(MODULES[module]):
        library = top(name) in {"numpy", "numba", "llvmlite", *sys.stdlib_module_names}
        ours = name in {*KERNELS, f"{OURS}.errors", f"{OURS}._version"}
        assert library or ours, f"{module} imports {name}"


def test_only_kernels_import_the_compiler() -> None:
    assert importers("numba") | importers("llvmlite") <= set(KERNELS)
    assert importers("numba")
    assert importers("llvmlite")


def test_only_the_command_line_imports_click() -> None:
    assert importers("click") == {
        f"{OURS}.{name}" for name in ("cli", "cli_fit", "cli_insight", "cli_merge", "cli_options")
    }


def test_nothing_imports_the_command_line() -> None:
    """But `python -m minestream`."""
    assert {module for module, path in MODULES.items() if f"{OURS}.cli" in imports(path)} == {f"{OURS}.__main__"}


def test_the_reference_stands_alone() -> None:
    found = imports(MODULES[f"{OURS}.reference"])
    assert not {name for name in found if top(name) == OURS}
    assert {top(name) for name in found} <= {"numpy", *sys.stdlib_module_names}


def test_verify_shares_no_code_with_the_fast_path() -> None:
    found = reachable(f"{OURS}.audit")
    assert f"{OURS}.reference" in found
    assert not found & {*KERNELS, f"{OURS}.search", f"{OURS}.pipeline", f"{OURS}.load", f"{OURS}.emit"}


def test_the_reference_is_for_checks_only() -> None:
    """The fast path may not lean on what it is compared with."""
    assert {m for m, path in MODULES.items() if f"{OURS}.reference" in imports(path)} == {f"{OURS}.audit"}


@pytest.mark.parametrize("library", ["pandas", "scipy", "torch", "sklearn", "faiss"])
def test_libraries_that_are_not_used(library: str) -> None:
    assert not importers(library)


def test_names_and_text_need_no_library() -> None:
    """What the command line prints is read before anything heavy is loaded."""
    for module in ("errors", "config", "rules", "metric"):
        for name in imports(MODULES[f"{OURS}.{module}"], deferred=False):
            assert top(name) in {OURS, *sys.stdlib_module_names}, f"{module} imports {name}"


def test_imports_run_in_one_direction() -> None:
    """No module needs itself in order to be imported."""
    for module, path in MODULES.items():
        for name in imports(path, deferred=False) & set(MODULES):
            assert module not in reachable(name, deferred=False), f"{module} <-> {name}"


def test_no_module_bears_the_name_of_a_public_function() -> None:
    tree = ast.parse(MODULES[OURS].read_text())
    public = {
        value.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Dict | ast.List | ast.Tuple)
        for value in [*getattr(node, "keys", []), *getattr(node, "elts", [])]
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
    }
    assert "mine" in public
    assert not public & {path.stem for path in FILES if path.parent == PACKAGE} - {"reference"}


def test_the_checks_read_what_they_are_meant_to_read(tmp_path: Path) -> None:
    sample = tmp_path / "sample.py"
    sample.write_text(
        "from typing import TYPE_CHECKING\n"
        "import numpy as np\n"
        "from minestream.kernels import exact\n"
        "if TYPE_CHECKING:\n    import pandas\n"
        "try:\n    import torch\nexcept ImportError:\n    pass\n"
        "def f():\n    import click.core\n"
    )
    always = {"typing", "numpy", "minestream.kernels.exact", "torch"}
    assert imports(sample, deferred=False) == always
    assert imports(sample) == always | {"click.core"}
