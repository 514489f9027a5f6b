"""What a release is checked for; the whole check is scripts/release.py."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import minestream

ROOT = Path(__file__).parents[2]
MODULES = ["minestream/__init__.py", "minestream/cli.py"]
BESIDE = ["py.typed", "data/digits.parquet", "guide/mining.md", "guide/bands.svg"]
WHOLE = [*MODULES, *(f"minestream/{name}" for name in BESIDE), "minestream-1.dist-info/licenses/LICENSE"]


@pytest.fixture(scope="module")
def release() -> ModuleType:
    spec = importlib.util.spec_from_file_location("release", ROOT / "scripts" / "release.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_version_stands_in_one_place(release: ModuleType) -> None:
    version = release.version_of((ROOT / "minestream" / "_version.py").read_text(encoding="utf-8"))
    assert version == minestream.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "minestream._version.VERSION"}
    said = re.compile(rf"version.*{re.escape(version)}", re.IGNORECASE)
    modules = [path for path in (ROOT / "minestream").rglob("*.py") if said.search(path.read_text(encoding="utf-8"))]
    assert [path.name for path in modules] == ["_version.py"]


def test_a_module_without_a_version_is_refused(release: ModuleType) -> None:
    with pytest.raises(release.Failed, match=r"_version\.py"):
        release.version_of("version = 1")


def test_the_changelog_names_this_version(release: ModuleType) -> None:
    assert release.has_heading((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), minestream.__version__)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("## [1.2.0] - 2026-11-22", True),
        ("## [Unreleased] (1.2.0)", True),
        ("## [1.2.01]", False),
        ("## [11.2.0]", False),
        ("## [1.2.0.1]", False),
        ("## [1x2x0]", False),
        ("- 1.2.0", False),
    ],
)
def test_a_heading_names_a_version_exactly(release: ModuleType, line: str, named: bool) -> None:
    assert release.has_heading(f"# Changelog\n\n{line}\n", "1.2.0") is named


def test_a_whole_archive_has_no_fault(release: ModuleType) -> None:
    assert release.faults(WHOLE, MODULES) == []


@pytest.mark.parametrize("missing", WHOLE)
def test_what_an_archive_lacks_is_named(release: ModuleType, missing: str) -> None:
    (fault,) = release.faults([name for name in WHOLE if name != missing], MODULES)
    assert fault == f"lacks {missing.split('/')[-1] if 'LICENSE' in missing else missing}"


@pytest.mark.parametrize(
    "more", ["tests/cli/test_cli.py", "bench/run.py", "scripts/readme.py", ".ci/run", "build/lib/a.py"]
)
def test_what_an_archive_should_not_hold_is_named(release: ModuleType, more: str) -> None:
    assert release.faults([*WHOLE, more], MODULES) == [f"holds {more}"]


def test_a_command_that_fails_says_what_it_said(release: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(release.Failed, match="no such thing"):
        release.run("sh", "-c", "echo no such thing; exit 3", cwd=tmp_path)
    environment = release.run("env", cwd=tmp_path, GIVEN="1")
    assert "GIVEN=1" in environment
    assert "PYTHON" not in environment


def test_the_pins_of_its_tools_are_exact() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert all("==" in pin for pin in project["optional-dependencies"]["release"])
