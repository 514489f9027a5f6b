"""What an install brings is what was agreed on, and the check of it sees what is not."""

from __future__ import annotations

import importlib.util
from email.message import Message
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "audit_dependencies.py"


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit_dependencies", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def offline(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(audit.util, "find_spec", lambda name: None)
    return audit


def test_nothing_else_comes_along(offline: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert offline.main() == 0, capsys.readouterr().out
    said = capsys.readouterr().out
    assert "numba" in said
    assert "NOT looked up" in said


def test_a_package_too_many_fails(
    offline: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(offline.ALLOWED, "mdurl")
    assert offline.main() == 1
    assert "error: mdurl is not in the list" in capsys.readouterr().out


@pytest.mark.parametrize(("text", "fine"), [
    ("MIT", True), ("BSD-3-Clause AND 0BSD AND MIT", True), ("GPL-3.0-only", False), ("MIT AND GPL-3.0-only", False),
    ("MIT OR GPL-3.0-only", True), ("", False), ("(MIT OR Apache-2.0)", True), ("Proprietary", False),
    ("Apache-2.0 WITH LLVM-exception", True), ("LGPL-2.1", False), ("MIT-0", False),
])  # fmt: skip
def test_licences(text: str, fine: bool, audit: ModuleType) -> None:
    assert audit.agreed(text) == fine


def test_an_unknown_licence_is_none(audit: ModuleType) -> None:
    about = Message()
    assert not audit.agreed(audit.licence(about))
    about["License"] = "a whole text " * 100
    assert not audit.agreed(audit.licence(about))
    about["Classifier"] = "License :: OSI Approved :: MIT License"
    assert audit.agreed(audit.licence(about))


def test_undeclared_imports_are_seen(audit: ModuleType, tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    (package / "a.py").write_text("import os\nimport numpy.linalg\nfrom . import b\nfrom package import b\n")
    assert not audit.undeclared(package, {"numpy"})
    (package / "b.py").write_text("def f():\n    from requests.sessions import Session\n")
    assert audit.undeclared(package, {"numpy"}) == ["package/b.py imports requests, which is not declared"]
    assert audit.undeclared(package, {"requests"}) == ["package/a.py imports numpy, which is not declared"]


def test_known_vulnerabilities_fail(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By what pip-audit answers; an answer that is none is said to be none."""
    monkeypatch.setattr(audit.util, "find_spec", lambda name: name)

    def answers(text: str) -> None:
        done = type("Done", (), {"stdout": text})
        monkeypatch.setattr(audit.subprocess, "run", lambda *_, **__: done)

    answers('{"dependencies": [{"name": "rich", "vulns": [{"id": "CVE-1"}]}, {"name": "click", "vulns": []}]}')
    assert audit.vulnerable(["rich==1"]) == ["rich: CVE-1"]
    answers('{"dependencies": [{"name": "rich", "skip_reason": "not found"}]}')
    assert audit.vulnerable(["rich==1"]) == []
    assert "0 of 1 packages; NOT looked up" in capsys.readouterr().out
    answers("no network")
    assert audit.vulnerable(["rich==1"]) == []
    assert "NOT looked up" in capsys.readouterr().out
