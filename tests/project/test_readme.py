"""README.md says what the tables and the command line say."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from minestream.cli.main import cli
from minestream.cli.mining import flags_of, visible_fields
from minestream.errors import EXIT_CODES

ROOT = Path(__file__).parents[2]
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
    tables = README.split("<!-- begin: options -->")[1].split("<!-- end: options -->")[0]
    (row,) = [line for line in tables.splitlines() if begins.match(line)]
    assert all(f"`{choice}`" in row for choice in spec.metadata["choices"] or {})


def test_every_exit_code_is_documented() -> None:
    assert all(f"| {code} | {meaning} |" in README for code, meaning in EXIT_CODES.items())


def test_the_checks_run_the_commands_of_the_readme() -> None:
    commands = [line for line in README.splitlines() if line.startswith(("python3 -m venv", ".venv/bin/pip install"))]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert len(commands) == 2
    assert all(f'run "{command}"\n' in script for command in commands)


@pytest.mark.parametrize("row", json.loads((ROOT / "bench/results/defects.json").read_text(encoding="utf-8")))
def test_a_mended_defect_names_a_test_that_is_there(row: dict[str, str]) -> None:
    path, name = row["test"].split("::")
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_every_attack_was_survived() -> None:
    rows = json.loads((ROOT / "bench/results/attacks.json").read_text(encoding="utf-8"))
    assert [row for row in rows if row["survived"] < row["tried"]] == []


def test_links_lead_to_files_of_the_project() -> None:
    targets = [part.split(")")[0] for part in README.split("](")[1:]]
    missing = [target for target in targets if "://" not in target and not (ROOT / target).exists()]
    assert missing == []


# ---------------------------------------------------------------- the part on speed


ENVIRONMENT = {"cpu": "Processor", "cores": 2, "date": "2026-01-02", "packages": {"minestream": "1", "numpy": "2"}}
MINED = {
    "data": "stem", "rows": 60_000, "dimension": 384, "job": "nearest", "k": 16, "faiss_k": 16, "seconds": 4.04,
    "faiss_seconds": 20.2, "ratio": 5.0, "sweep_ratio": None, "peak_bytes": 4e8, "faiss_peak_bytes": 3e8, "runs": 3,
}  # fmt: skip


def written_speed(folder: Path, **results: Any) -> str:
    """The part made from these rows of results, by the name of their file."""
    for name, rows in results.items():
        (folder / f"{name}.json").write_text(json.dumps({"environment": ENVIRONMENT, "rows": rows}))
    spec = importlib.util.spec_from_file_location("report", ROOT / "bench" / "report.py")
    assert spec is not None
    assert spec.loader is not None
    report = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(report)
    text: str = report.speed(folder)
    return text


def test_speed_is_not_told_before_it_is_measured(tmp_path: Path) -> None:
    assert written_speed(tmp_path).startswith("Not measured yet")


def test_speed_tells_what_was_measured_and_nothing_else(tmp_path: Path) -> None:
    tiles = [{"d": d, "f32_over_matmul": 1.04 + d / 1000, "i8_over_f32": None} for d in (64, 128)]
    text = written_speed(tmp_path, mine=[MINED], tile=tiles)
    assert "2 cores of Processor, 2026-01-02: minestream 1, numpy 2." in text
    row = "| stem | 60,000 x 384 | `--band any -k 16` | 4.0 s | 20.2 s | 5.0 | none | 400 MB | 300 MB |"
    assert row in text.splitlines()
    assert text.endswith(
        "- **Tile** (d = 64, 128): the float32 tile, gates included, runs at 1.1 to 1.2 times numpy's matmul."
    )
