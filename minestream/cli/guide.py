"""The pages of documentation (the folder guide), which come with the package."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from minestream.system.console import show

FOLDER = Path(__file__).parents[1] / "guide"
MARK = re.compile(r"^<!--.*-->\n+", re.MULTILINE)  # of blocks that are generated, or run by the tests
LINK = re.compile(r"\[[\w-]+\]\(([\w-]+)\.md\)")  # to another page


def pages() -> dict[str, str]:
    """The pages by name, each with its title."""
    titles = {}
    for path in sorted(FOLDER.glob("*.md")):
        with path.open(encoding="utf-8") as file:
            titles[path.stem] = file.readline().partition(": ")[2].strip()
    return titles


def show_page(name: str) -> None:
    """Show a page: formatted on a terminal, elsewhere as plain text."""
    text = MARK.sub("", (FOLDER / f"{name}.md").read_text(encoding="utf-8"))
    if not sys.stdout.isatty():
        return show(text.rstrip("\n"))
    from rich.console import Console
    from rich.markdown import Markdown

    return Console().print(Markdown(LINK.sub(r"`minestream help \1`", text)))
