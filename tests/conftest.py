"""Attacks, counted: `attack` fences one try to break the program, `--tally FILE` adds the counts to a file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

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


TALLY = pytest.StashKey[Tally]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tally", type=Path, metavar="FILE", help="add the counts of attacks to a JSON file")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLY] = Tally()


def pytest_sessionfinish(session: pytest.Session) -> None:
    path, tally = session.config.getoption("--tally"), session.config.stash[TALLY]
    if path is not None and tally.tried:
        tally.write(path)


@pytest.fixture(scope="session")
def attack(pytestconfig: pytest.Config) -> Attack:
    """`with attack(kind, what):` around one try to break the program."""
    return pytestconfig.stash[TALLY].attack
