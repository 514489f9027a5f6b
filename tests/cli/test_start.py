"""What the process of the command line sets up."""

from __future__ import annotations

import os

import pytest

from minestream.__main__ import start


def test_arrow_gives_free_memory_back_unless_the_user_chose_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minestream.cli.main.main", lambda: 0)
    monkeypatch.setenv("ARROW_DEFAULT_MEMORY_POOL", "mimalloc")
    assert start() == 0
    assert os.environ["ARROW_DEFAULT_MEMORY_POOL"] == "mimalloc"
    monkeypatch.delenv("ARROW_DEFAULT_MEMORY_POOL")
    assert start() == 0
    assert os.environ["ARROW_DEFAULT_MEMORY_POOL"] == "system"
