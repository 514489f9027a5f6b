"""Marked blocks of the README and the guide: what they run, and what that must print."""

from __future__ import annotations

import io
import re
import shlex
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

from minestream.cli.main import main

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "minestream" / "data" / "digits.parquet"
MARKED = re.compile(r"<!-- (?P<mark>run|excerpt: [\w./]+) -->\n```(?P<language>\w+)\n(?P<body>.*?)```", re.DOTALL)


class Block(NamedTuple):
    """A marked block of a page: what its mark asks for, its language, its text."""

    mark: str
    language: str
    body: str


def blocks_of(page: Path) -> list[Block]:
    """The marked blocks of a page, in order."""
    return [Block(**each.groupdict()) for each in MARKED.finditer(page.read_text("utf-8"))]


def run_block(block: Block) -> None:
    """Run a block in the working folder; fail where it prints something else than it shows."""
    {"console": run_console, "python": run_python}[block.language](block.body)


def sessions(body: str) -> Iterator[tuple[str, list[str]]]:
    """The commands of a console block, each with the lines shown below it."""
    for part in re.split(r"^\$ ", body, flags=re.MULTILINE)[1:]:
        command, *shown = part.splitlines()
        yield command, shown


def assert_shown(shown: list[str], printed: str) -> None:
    """Every shown line was printed, in this order; `...` stands for any lines, and space may differ."""
    lines = iter([" ".join(line.split()) for line in printed.splitlines()])
    for line in shown:
        assert line == "..." or " ".join(line.split()) in lines, f"not printed (in this order): {line!r} in\n{printed}"


def run_console(body: str) -> None:
    """Run the commands of a console block; one that shows an error must fail."""
    for command, shown in sessions(body):
        program, *arguments = shlex.split(command)
        assert program == "minestream"
        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            code = main(arguments)
        assert code == (2 if any(line.startswith("error: ") for line in shown) else 0), printed.getvalue()
        assert_shown(shown, printed.getvalue())


def run_python(body: str) -> None:
    """Run a Python block; what its print lines show in their comments must come out."""
    shown = [line.split("  # ")[1] for line in body.splitlines() if line.lstrip().startswith("print(")]
    printed = io.StringIO()
    with redirect_stdout(printed):
        exec(compile(body, "block", "exec"), {})
    assert printed.getvalue().splitlines() == shown
