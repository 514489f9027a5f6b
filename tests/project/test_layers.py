"""Who may import whom: a room imports rooms on lower floors only, and nothing runs in a circle."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "minestream"
OURS = "minestream"
FLOORS: dict[str, int] = {
    "cli": 10,
    "__main__": 11,
    "__init__": 9,
    "insight": 8,
    "learn": 8,
    "batching": 8,
    "integrations": 8,
    "mining": 7,
    "outputs": 6,
    "search": 5,
    "inputs": 4,
    "config": 3,
    "kernels": 2,
    "system": 2,
    "errors": 1,
    "reference": 1,
    "_version": 1,
}  # a room, or a file that stands beside the rooms, and its floor
BESIDE = {"data", "guide", "py.typed"}  # what else lies in the package


def module_of(path: Path, package: Path = PACKAGE) -> str:
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


# By one annotation: a target begins a run, which knows its target.
IN_CIRCLE = {f"{OURS}.outputs.{name}" for name in ("target", "parts", "run")}

MODULES = {module_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def import_nodes(tree: ast.AST, *, deferred: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports of a module: all, those for types only included, or those that run when it is imported."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif deferred or not (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))
        ):
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


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


def violations(module: str, imported: frozenset[str]) -> list[str]:
    """The imports of a module that do not go to a lower floor; within a room every direction is a matter of circles."""
    ours = (name for name in imported if top(name) == OURS and room(name) != room(module))
    return [f"{module} imports {name}" for name in ours if FLOORS[room(name)] >= FLOORS[room(module)]]


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


def test_the_package_is_its_rooms() -> None:
    stands = {path.name.removesuffix(".py") for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert stands == {*FLOORS, *BESIDE}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_down(module: str) -> None:
    assert not violations(module, imports(MODULES[module]))


@pytest.mark.parametrize(
    "line",
    [
        "from minestream.mining.pipeline import mine",
        "from minestream.kernels import sweep",  # beside, not below
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from minestream.cli.main import cli",
        "def f():\n    import minestream.outputs.rows",
    ],
)
def test_a_planted_violation_is_found(line: str, tmp_path: Path) -> None:
    planted = tmp_path / "planted.py"
    planted.write_text(f"from minestream.errors import InputError\n{line}\n")
    assert len(violations("minestream.system.planted", imports(planted))) == 1


def test_nothing_runs_in_a_circle() -> None:
    """No module reaches itself by its imports, be they within functions or for types only, but for IN_CIRCLE."""
    for module, path in MODULES.items():
        for name in imports(path) & set(MODULES):
            assert module not in reachable(name) or {module, name} <= IN_CIRCLE, f"{module} <-> {name}"
        for name in imports(path, deferred=False) & IN_CIRCLE:  # when they are imported, these do not either
            assert module not in reachable(name, deferred=False), f"{module} <-> {name}"


@pytest.mark.parametrize("module", sorted(name for name in MODULES if room(name) == "kernels"))
def test_kernels_know_arrays_only(module: str) -> None:
    for name in imports(MODULES[module]):
        library = top(name) in {"numpy", "numba", "llvmlite", *sys.stdlib_module_names}
        assert library or room(name) in ("kernels", "errors", "_version"), f"{module} imports {name}"


def test_only_kernels_import_the_compiler() -> None:
    found = importers("numba") | importers("llvmlite")
    assert found
    assert {room(module) for module in found} == {"kernels"}


def test_only_the_command_line_imports_click() -> None:
    assert {room(module) for module in importers("click")} == {"cli"}


def test_the_reference_stands_alone() -> None:
    found = imports(MODULES[f"{OURS}.reference"])
    assert {top(name) for name in found} <= {"numpy", *sys.stdlib_module_names}


def test_verify_shares_no_code_with_the_fast_path() -> None:
    found = reachable(f"{OURS}.insight.verify")
    assert f"{OURS}.reference" in found
    assert not {room(name) for name in found} & {"kernels", "search", "mining"}


def test_the_reference_is_for_checks_only() -> None:
    """The fast path may not lean on what it is compared with."""
    users = {module for module, path in MODULES.items() if f"{OURS}.reference" in imports(path)}
    assert users == {f"{OURS}.insight.verify"}


@pytest.mark.parametrize("library", [
    "pandas", "scipy", "torch", "pytorch_metric_learning", "lightning", "sentence_transformers", "datasets", "sklearn",
    "faiss", "polars",
])  # fmt: skip
def test_libraries_that_are_not_used(library: str) -> None:
    """Except by files that make objects for them, which nothing outside of their room imports."""
    users = importers(library)
    assert {room(module) for module in users} <= {"integrations"}
    assert not [module for module, path in MODULES.items() if imports(path) & users and room(module) != "integrations"]


def test_names_and_text_need_no_library() -> None:
    """What the command line prints is read before anything heavy is loaded."""
    for module, path in MODULES.items():
        if room(module) in ("config", "errors"):
            for name in imports(path, deferred=False):
                assert top(name) in {OURS, *sys.stdlib_module_names}, f"{module} imports {name}"


def test_no_room_bears_the_name_of_a_public_function() -> None:
    """`minestream.mine` is the function, whichever modules have been imported."""
    tree = ast.parse(MODULES[OURS].read_text())
    constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert "mine" in constants
    assert not constants & {name for name in FLOORS if not name.startswith("_")} - {"reference"}


def test_nothing_else_stands_at_the_top() -> None:
    """What a command leaves where it is tried is easily committed, too."""
    top = Path(__file__).parents[2]
    listed = subprocess.run(["git", "ls-files"], cwd=top, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a checkout")
    assert {name.split("/")[0] for name in listed.stdout.split()} == {
        ".ci", ".gitignore", "CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "bench", "minestream",
        "pyproject.toml", "scripts", "tests",
    }  # fmt: skip
