"""Tables of text: aligned columns without lines, readable on a terminal, in a log and through a pipe."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from minestream.errors import printable
from minestream.system.values import Row

PLAIN_COLUMNS = 120  # width off a terminal, where nobody wraps
SENTENCE = 32  # characters from which on a text that begins with a number is more than that


def sections(tables: Mapping[str, Iterable[Row]] | None = None, notes: Iterable[str] = ()) -> str:
    """Titled tables, those without rows left out, then one line a note; colours only for a terminal."""
    from rich.console import Console
    from rich.text import Text

    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else PLAIN_COLUMNS
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=width, markup=False, highlight=False, emoji=False)
    for title, rows in (tables or {}).items():
        if table := list(rows):
            console.print(Text(one_line(title), style="bold"), soft_wrap=True)
            console.print(aligned(table))
            console.print()
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    return "\n".join([*lines, *map(printable, notes)]).strip("\n")


def aligned(rows: list[Row]) -> Any:
    """Rows as a table without lines, numbers to the right where there is nothing else."""
    from rich.table import Table
    from rich.text import Text

    numbers = all((row[1][:1].isdigit() or row[1][:1] in ("", "-")) and len(row[1]) < SENTENCE for row in rows)
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column(justify="right" if numbers else "left", overflow="fold")
    grid.add_column(style="dim")
    for row in rows:
        grid.add_row(*(Text(one_line(cell)) for cell in row))
    return grid


def one_line(text: str) -> str:
    """Text as a title or cell of a table shows it."""
    return printable(text).replace("\n", "\\n")
