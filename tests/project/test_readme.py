"""README.md and the guide say what the tables and the command line say."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_layers import FLOORS

import minestream
from minestream.cli.main import cli
from minestream.cli.options import flags_of, visible_fields
from minestream.cli.profile_text import suspects_note
from minestream.config.rules import BANDS
from minestream.errors import EXIT_CODES
from minestream.insight.neighbors import SUSPICION_CUTS, SUSPICION_FORMULA
from minestream.insight.pages import EXPECTED
from minestream.mining.plan import ALL_PART_ROWS, PART_ANCHORS, PART_ROWS
from minestream.outputs.parquet import ROW_GROUP_ROWS
from minestream.outputs.run import FINISHED_PART_ROWS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "minestream" / "guide").glob("*.md")}
PAGES = [ROOT / "README.md", *sorted((ROOT / "minestream" / "guide").glob("*.md"))]
PAGES += [ROOT / "bench" / "README.md", ROOT / "tests" / "attacks" / "README.md"]
FENCED = re.compile(r"^```(?:console|bash)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"\bminestream (\w+)([^\n|#]*)")


def test_generated_blocks_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, ROOT / "scripts" / "readme.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", sorted(cli.commands))
def test_every_command_is_documented(command: str) -> None:
    assert f"minestream {command}" in GUIDE["options"]


def shown_commands() -> list[tuple[str, str]]:
    """The commands in the blocks of all pages, each with what is given to it."""
    bodies = [body for page in PAGES for body in FENCED.findall(page.read_text(encoding="utf-8"))]
    return [found for body in bodies for found in COMMAND.findall(body.replace("\\\n", " "))]


@pytest.mark.parametrize(("command", "given"), shown_commands())
def test_what_is_shown_has_the_options_that_are_shown(command: str, given: str) -> None:
    flags = {flag for option in cli.commands[command].params for flag in option.opts}
    assert set(re.findall(r"(?<=\s)--?[a-z][\w-]*", given)) <= flags


@pytest.mark.parametrize(("page", "most"), [(page, 250 if page.parent == ROOT else 150) for page in PAGES[:-2]])
def test_pages_are_short(page: Path, most: int) -> None:
    """Without the rows of options, which are what there is; the contract grows with the rules, the book with papers."""
    most += {"semantics": 30, "recipes": 190}.get(page.stem, 0)
    lines = page.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if not line.startswith("| `-")]) <= most


def test_commands_that_read_or_write_data_are_functions_but_those_that_are_named() -> None:
    for page in (README, GUIDE["python"]):
        (named,) = re.findall(r"Every command that reads or writes data but `(\w+)` is a function", page)
        assert cli.commands.keys() - {*minestream.__all__} == {named, "doctor", "help", "version"}


def test_no_page_has_the_name_of_a_command() -> None:
    assert not GUIDE.keys() & cli.commands.keys()


@pytest.mark.parametrize("name", [spec.name for spec in visible_fields()])
def test_every_option_is_in_the_tables(name: str) -> None:
    (spec,) = [spec for spec in visible_fields() if spec.name == name]
    begins = re.compile(rf"\| `{re.escape(', '.join(flags_of(spec)))}[ `]")
    tables = GUIDE["options"].split("<!-- begin: options -->")[1].split("<!-- end: options -->")[0]
    (row,) = [line for line in tables.splitlines() if begins.match(line)]
    assert all(f"`{choice}`" in row for choice in spec.metadata["choices"] or {})


def test_every_exit_code_is_documented() -> None:
    assert all(f"| {code} | {meaning} |" in GUIDE["exit-codes"] for code, meaning in EXIT_CODES.items())


def test_the_checks_run_the_commands_of_the_readme() -> None:
    commands = [line for line in README.splitlines() if line.startswith(("python3 -m venv", ".venv/bin/pip install"))]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert len(commands) == 2
    assert all(f'run "{command}"\n' in script for command in commands)


def test_where_nothing_else_is_said_of_it_k_0_is_for_pairs() -> None:
    for text in (README, GUIDE["machines"]):
        assert all(re.search(r"pairs of `$|pairs $", text[: at.start()]) for at in re.finditer("-k 0", text))


@pytest.mark.parametrize("row", json.loads((ROOT / "bench/results/defects.json").read_text(encoding="utf-8")))
def test_a_mended_defect_names_a_test_that_is_there(row: dict[str, str]) -> None:
    path, name = row["test"].split("::")
    assert f"def {name}(" in (ROOT / path).read_text(encoding="utf-8")


def test_what_is_said_of_suspects_is_what_was_measured() -> None:
    rows = json.loads((ROOT / "bench/results/suspects.json").read_text(encoding="utf-8"))["rows"]
    shares = [[row["precision_above"][f"{cut:g}"] for cut in SUSPICION_CUTS] for row in rows]
    told = re.findall(r"^\| [^|`]+ \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", GUIDE["hygiene"], re.MULTILINE)
    assert [list(row) for row in told] == [[f"{share:.2f}" for share in row] for row in shares]
    least, most = (extreme(row[-1] for row in shares) for extreme in (min, max))
    assert (round(least, 1), most) == (0.3, 1)
    for text in (SUSPICION_FORMULA, EXPECTED, suspects_note({"rows": 9, "rows_above_0.9": 2}, "T")):
        assert "a third to all of those from 0.9 on were wrong" in text
    assert "a third to all of those from 0.9 on were wrong" in " ".join(GUIDE["hygiene"].split())


def test_every_attack_was_survived() -> None:
    rows = json.loads((ROOT / "bench/results/attacks.json").read_text(encoding="utf-8"))
    assert [row for row in rows if row["survived"] < row["tried"]] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_of_the_project(page: Path) -> None:
    targets = [part.split(")")[0].partition("#")[0] for part in page.read_text(encoding="utf-8").split("](")[1:]]
    assert [target for target in targets if "://" not in target and not (page.parent / target).exists()] == []


# ---------------------------------------------------------------- the contract


def contract_row(name: str, column: int = 1) -> str:
    """A cell of the row of this name in a table of the contract."""
    (row,) = re.findall(rf"^\| `?{name}`? \|.*", GUIDE["semantics"], re.MULTILINE)
    return [cell.strip() for cell in row.split("|")][1 + column]


@pytest.mark.parametrize("name", BANDS)
def test_the_contract_has_every_band(name: str) -> None:
    assert contract_row(name).startswith(BANDS[name].condition)


@pytest.mark.parametrize("number", [PART_ANCHORS, PART_ROWS, ALL_PART_ROWS, FINISHED_PART_ROWS, ROW_GROUP_ROWS])
def test_the_contract_has_the_sizes_of_parts(number: int) -> None:
    assert f" {number:,}" in GUIDE["semantics"].replace("\n", " ")


@pytest.mark.parametrize("emit", ["triplets", "tuples", "pairs"])
def test_the_contract_has_the_columns_in_order(emit: str) -> None:
    rows = np.random.default_rng(0).standard_normal((40, 4)).astype(np.float32)
    found = minestream.mine_arrays(rows, np.arange(40) % 3, ids=np.arange(40), emit=emit)
    there = re.split(r"[,;] ", re.sub(r" \([^)]*\)", "", contract_row(emit)))
    unasked = re.compile("distance_pn|draw_weights?|positive_rank|shared_level|.*_Cs?( of carried C)?")
    assert [name for name in there if not unasked.fullmatch(name)] == found.table().column_names


# ---------------------------------------------------------------- words


def test_words_names_the_floors() -> None:
    rows = re.findall(r"^\| (\d+) \| (.*) \|$", GUIDE["words"], re.MULTILINE)
    named = {name: int(floor) for floor, rooms in rows for name in re.findall(r"`(\w+)`", rooms)}
    assert {name: named.get(name) for name in FLOORS} == FLOORS


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:minestream|tests)/[\w/]+\.py)`", GUIDE["words"]))))
def test_words_names_files_that_are_there(path: str) -> None:
    """And the tables that it says are in them."""
    text = (ROOT / path).read_text(encoding="utf-8")
    near = re.findall(rf"`([A-Z_]+)` (?:in|of)\s+`{re.escape(path)}`", GUIDE["words"])
    assert [name for name in near if not re.search(rf"^{name}\b", text, re.MULTILINE)] == []


# ---------------------------------------------------------------- the part on speed


ENVIRONMENT = {"cpu": "Processor", "cores": 2, "date": "2026-01-02", "packages": {"minestream": "1", "numpy": "2"}}
MINED = {
    "data": "stem", "rows": 60_000, "dimension": 384, "job": "nearest", "k": 16, "faiss_k": 16, "seconds": 4.04,
    "faiss_seconds": 20.2, "faiss_plain_seconds": 40.4, "faiss_setting": {"OPENBLAS_CORETYPE": "Zen"},
    "ratio": 5.0, "sweep_ratio": None, "peak_bytes": 4e8, "faiss_peak_bytes": 3e8, "runs": 3,
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
    row = "| stem | 60,000 x 384 | `--band any -k 16` | 4.0 s | 20.2 s | 5.0 | 10.0 | none | 400 MB | 300 MB |"
    assert row in text.splitlines()
    assert "(stem: Zen)" in text
    assert text.endswith(
        "- **Tile** (d = 64, 128): the float32 tile, gates included, runs at 1.1 to 1.2 times numpy's matmul."
    )
