"""Options of the tests; `attack` fences one try to break the program, counted by `--tally FILE`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tally import Attack, Tally

from minestream.errors import speaking_options

if TYPE_CHECKING:
    from hostile import Victim

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


# ---------------------------------------------------------------- hostile input


@pytest.fixture(scope="session")
def victim() -> Iterator[Victim]:
    """A process that meets hostile files, for all tests of this one."""
    from hostile import Victim

    with Victim() as process:
        yield process


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a table to mine."""
    import pyarrow.parquet as pq
    from hostile import table

    monkeypatch.chdir(tmp_path)
    pq.write_table(table(), "rows.parquet")
    return tmp_path


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run a command line that must be refused with one of some exit codes, soon; what it says."""
    from attacks import SECONDS

    from minestream.cli.main import main

    def check(codes: tuple[int, ...], *arguments: str) -> str:
        capsys.readouterr()
        began = time.monotonic()
        assert main(list(arguments)) in codes
        assert time.monotonic() - began < SECONDS
        said = capsys.readouterr().err
        assert said.startswith("error: ")
        return said

    return check
