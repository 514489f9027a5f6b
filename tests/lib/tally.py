"""Attacks, counted: how often each was tried, and survived."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

Attack = Callable[[str, str], AbstractContextManager[None]]


class Tally:
    """How often each attack was tried, and survived: by kind (a table of the README) and what was done."""

    def __init__(self) -> None:
        self.tried: Counter[tuple[str, str]] = Counter()
        self.survived: Counter[tuple[str, str]] = Counter()

    @contextmanager
    def attack(self, kind: str, what: str) -> Iterator[None]:
        """One try: survived when nothing is raised within, none when it is ended from outside."""
        self.tried[kind, what] += 1
        try:
            yield
        except KeyboardInterrupt:
            self.tried[kind, what] -= 1
            raise
        self.survived[kind, what] += 1

    def write(self, path: Path) -> None:
        """Put the counts of this session in the place of those that `path` has of the same attacks."""
        rows = json.loads(path.read_text()) if path.exists() else []
        rows = [row for row in rows if (row["kind"], row["what"]) not in self.tried]
        rows += [
            {"kind": kind, "what": what, "tried": tried, "survived": self.survived[kind, what]}
            for (kind, what), tried in self.tried.items()
        ]
        rows.sort(key=lambda row: (row["kind"], row["what"]))
        path.write_text(json.dumps(rows, indent=1) + "\n")
