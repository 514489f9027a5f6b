"""README.md says what the tables and the command line say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from minestream.cli import cli, flags_of, visible_fields
from minestream.errors import EXIT_CODES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_generated_blocks_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "readme.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_is_documented(command: str) -> None:
    assert f"minestream {command}" in README


@pytest.mark.parametrize("name", [spec.name for spec in visible_fields()])
def test_every_option_is_in_the_tables(name: str) -> None:
    (spec,) = [spec for spec in visible_fields() if spec.name == name]
    begins = re.compile(rf"\| `{re.escape(', '.join(flags_of(spec)))}[ `]")
    (row,) = [line for line in README.splitlines() if begins.match(line)]
    assert all(f"`{choice}`" in row for choice in spec.metadata["choices"] or {})


def test_every_exit_code_is_documented() -> None:
    assert all(f"| {code} | {meaning} |" in README for code, meaning in EXIT_CODES.items())


def test_the_checks_run_the_commands_of_the_readme() -> None:
    commands = [line for line in README.splitlines() if line.startswith(("python3 -m venv", ".venv/bin/pip install"))]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert len(commands) == 2
    assert all(f'run "{command}"\n' in script for command in commands)


def test_links_lead_to_files_of_the_project() -> None:
    targets = [part.split(")")[0] for part in README.split("](")[1:]]
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert missing == []
