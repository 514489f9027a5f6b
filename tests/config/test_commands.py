"""The options of single commands: what the tables say is what the library's functions take, and what they refuse."""

from __future__ import annotations

import inspect
import subprocess
import sys
from dataclasses import MISSING
from typing import Any

import click
import pytest

import minestream
from minestream.cli.main import cli, main
from minestream.config import batching, commands
from minestream.config.commands import own_options
from minestream.errors import UsageError

TABLES: dict[str, tuple[type[Any], str]] = {
    "mine": (commands.Mining, "mine"), "merge": (commands.Merging, "merge"), "export": (commands.Exporting, "export"),
    "batch": (batching.Batching, "batch"),
    "select": (commands.Selecting, "select"),
    "refilter": (commands.Refiltering, "refilter"), "profile": (commands.Profiling, "profile"),
    "verify": (commands.Verifying, "verify"), "compare": (commands.Comparing, "compare"),
    "fit": (commands.Fitting, "fit"), "apply": (commands.Applying, "apply"), "sample": (commands.Sampling, "sample"),
    "describe": (commands.Describing, "describe_html"),
}  # fmt: skip
ROWS = [
    (command, name, function)
    for command, (table, function) in TABLES.items()
    for name in own_options(table)
    if command != "describe"  # --html is a function, describe_html
]


@pytest.mark.parametrize(("command", "name", "function"), ROWS)
def test_the_library_has_the_defaults_of_the_tables(command: str, name: str, function: str) -> None:
    spec = own_options(TABLES[command][0])[name]
    found = inspect.signature(getattr(minestream, function)).parameters[name]
    if spec.metadata["kind"] == "repeat":
        assert found.default is None
    elif name == "out":  # by position, and the command line makes a name where there is none
        assert found.default in (inspect.Parameter.empty, None)
    elif spec.default is MISSING:
        assert found.default is inspect.Parameter.empty
    else:
        assert found.default == spec.default


def test_every_option_of_a_command_comes_from_a_table() -> None:
    mine = set(inspect.signature(minestream.mine).parameters)
    printing = {*own_options(commands.Printing), "help_all"}
    for command in cli.commands:
        named = {each.name for each in cli.commands[command].params if isinstance(each, click.Option)}
        assert named <= mine | set(own_options(TABLES[command][0]) if command in TABLES else ()) | printing, command


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["verify", "x", "--sample", "-3"], "--sample must be at least 0, not -3"),
        (["apply", "m", "x", "-o", "y.parquet", "--threads", "0"], "--threads must be at least 1, not 0"),
        (["fit", "x", "-o", "y.npz", "--optimizer", "adm"], "--optimizer has no value 'adm'"),
        (["fit", "x", "-o", "y.npz", "--validation", "1"], "--validation must be between 0 and 1, not 1"),
        (["profile", "x", "--sample", "0"], "--sample must be at least 1, not 0"),
        (["refilter", "x", "--scores", "s", "-k", "1", "-o", "y.parquet", "--missing-scores", "kep"], "no value 'kep'"),
    ],
)
def test_the_checks_are_those_of_the_tables(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(given) == 2
    assert said in capsys.readouterr().err


def test_the_library_checks_what_the_command_line_checks() -> None:
    with pytest.raises(UsageError, match="sample must be at least 0"):
        minestream.verify("x", sample=-1)
    with pytest.raises(UsageError, match="did you mean 'adam'"):
        minestream.fit("x", "y.npz", optimizer="adamm")


def test_the_help_of_all_loads_no_table_of_options() -> None:
    code = "import sys; from minestream.cli.main import main; main(['--help']); print(sorted(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded = shown.splitlines()[-1]
    assert "minestream.cli.groups" in loaded
    assert not any(f"'{name}'" in loaded for name in ("minestream.config", "numpy", "pyarrow"))
