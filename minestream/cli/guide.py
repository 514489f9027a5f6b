"""The pages of the guide, which come with the package, and how they are shown."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from minestream.system.console import show

FOLDER = Path(__file__).parents[1] / "guide"
MARK = re.compile(r"^<!--.*-->\n+", re.MULTILINE)  # of blocks that are generated, or run by the tests
LINK = re.compile(r"\[[\w-]+\]\(([\w-]+)\.md\)")  # to another page


def pages() -> dict[str, str]:
    """The pages by name, each with what its title says of it."""
    found = {}
    for path in sorted(FOLDER.glob("*.md")):
        with path.open(encoding="utf-8") as file:
            found[path.stem] = file.readline().partition(": ")[2].strip()
    return found


def show_page(name: str) -> None:
    """Show a page: formatted on a terminal, elsewhere as the text it is."""
    text = MARK.sub("", (FOLDER / f"{name}.md").read_text(encoding="utf-8"))
    if not sys.stdout.isatty():
        return show(text.rstrip("\n"))
    from rich.console import Console
    from rich.markdown import Markdown

    return Console().print(Markdown(LINK.sub(r"`minestream help \1`", text)))
