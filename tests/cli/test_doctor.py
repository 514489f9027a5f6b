"""`minestream doctor` shows what a bug report needs, whatever is broken."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

import minestream
from minestream.cli import doctor
from minestream.cli.main import main
from minestream.errors import defect
from minestream.kernels import tile_shapes

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEVELOPMENT = {"test", "release", "bench"}  # extras that change nothing for users


@pytest.fixture
def found(capsys: pytest.CaptureFixture[str]) -> Any:
    """The function that gives what `doctor --json` prints."""

    def look() -> dict[str, Any]:
        assert main(["doctor", "--json"]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)["result"]
        return answer

    return look


def test_it_shows_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    shown = capsys.readouterr()
    assert not shown.err
    names = {line.split("  ")[0] for line in shown.out.splitlines()}
    assert names >= {
        "minestream", "python", "numba", "numpy", "pyarrow", "platform", "name", "has", "threads", "used", "why",
        "folder", "writable", "free bytes", "budget bytes", "dask", "ray",
    }  # fmt: skip
    assert re.search(rf"^minestream +{re.escape(minestream.__version__)}$", shown.out, re.MULTILINE)
    assert "not known" not in shown.out


@pytest.mark.parametrize(
    ("features", "tile", "words"),
    [
        ("+avx2,+fma", "avx2_6x16", "float32 no instruction to multiply bytes (avx512vnni, avxvnni, dotprod)"),
        ("+avx2,+fma,+avxvnni", "avxvnni_6x16", "int8 the processor multiplies bytes (avxvnni)"),
    ],
)
def test_the_screen_and_why(features: str, tile: str, words: str, found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tile_shapes, "host_cpu", lambda: ("cpu", features))
    tile_shapes.host_tiles.cache_clear()
    try:
        answer = found()
    finally:
        tile_shapes.host_tiles.cache_clear()
    screen, why = words.split(" ", 1)
    assert answer["screen"]["used"] == screen
    assert why in answer["screen"]["why"]
    assert answer["screen"]["tile"] == tile
    assert answer["processor"]["has"] == sorted(features.replace("+", "").split(","))


def test_a_screen_that_was_asked_for(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINESTREAM_SCREEN", "scan")
    answer = found()
    assert answer["screen"]["why"] == "MINESTREAM_SCREEN is scan"
    assert answer["environment"]["set"] == [
        each for each in answer["environment"]["set"] if each.startswith(doctor.VARIABLES)
    ]
    assert "MINESTREAM_SCREEN=scan" in answer["environment"]["set"]


def test_whatever_is_broken_is_said_and_the_rest_is_shown(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown screen in the environment, no folder for kernels, packages that are missing."""
    monkeypatch.setenv("MINESTREAM_SCREEN", "i9")
    monkeypatch.setattr(doctor, "cache_root", lambda: None)
    monkeypatch.setattr(doctor, "_version", lambda package: "" if package in ("dask", "ray", "rich") else "1.0")
    answer = found()
    assert answer["screen"]["not_known"].startswith("UsageError: no screen 'i9'")
    assert (answer["kernels"]["folder"], answer["kernels"]["writable"]) == (None, False)
    assert answer["versions"]["rich"] == "missing"
    assert answer["optional"]["ray"] == "missing ray: pip install 'minestream[ray]'"
    assert answer["optional"]["dask"] == "distributed 1.0; missing dask: pip install 'minestream[dask]'"
    assert answer["memory"]["budget_bytes"] > 0


def test_it_looks_for_the_packages_that_the_project_names() -> None:
    def names(lines: list[str]) -> set[str]:
        return {re.split(r"[^\w.-]", line)[0] for line in lines}

    assert set(doctor.REQUIRED) == names(PROJECT["dependencies"])
    extras = {name: names(lines) for name, lines in PROJECT["optional-dependencies"].items() if name not in DEVELOPMENT}
    assert {name: set(packages) - {"distributed"} for name, packages in doctor.EXTRAS.items()} == extras


def test_the_message_of_a_defect_names_it() -> None:
    assert "`minestream doctor`" in defect(RuntimeError("x")).hint
