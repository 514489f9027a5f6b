"""Options of the tests; `attack` fences one try to break the program, counted by `--tally FILE`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tally import Attack, Tally

from minestream.config.border import speaking_options

TALLY = pytest.StashKey[Tally]()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--tally", type=Path, metavar="FILE", help="add the counts of attacks to a JSON file; without -n")
    parser.addoption("--fuzz-seconds", type=float, default=20.0, metavar="S", help="how long to fuzz (20)")
    parser.addoption("--fuzz-seed", type=int, metavar="N", help="of the worlds; a fresh one is printed")
    parser.addoption("--fuzz-world", type=int, metavar="N", help="the number of the only world to mine")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[TALLY] = Tally()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests say of themselves, in whichever process they ran: seed and counts of the fuzzer."""
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            for line in (value for name, value in report.user_properties if name == "says"):
                terminalreporter.write_line(str(line))


def pytest_sessionfinish(session: pytest.Session) -> None:
    path, tally = session.config.getoption("--tally"), session.config.stash[TALLY]
    if path is not None and tally.tried:
        tally.write(path)


@pytest.fixture
def as_written() -> Iterator[None]:
    """Messages and notes as they are written, with options, as the command line says them."""
    with speaking_options():
        yield


@pytest.fixture(scope="session")
def attack(pytestconfig: pytest.Config) -> Attack:
    """`with attack(kind, what):` around one try to break the program."""
    return pytestconfig.stash[TALLY].attack
