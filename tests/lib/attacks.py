"""What the tests of hostile input share: the kinds of their attacks, exit codes, and seeds met one by one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tally import Attack

DAMAGED_BYTES, HOSTILE_INPUT = "damaged bytes", "hostile input"
MANIFESTS_AND_NAMES, AWKWARD_TABLES = "hostile manifests and names", "awkward tables"
QUIET = ["--progress", "none"]
CARRY = ["--carry", "text"]
USAGE, INPUT, OUTPUT = 2, 3, 5
SECONDS = 60.0  # against minutes, or for ever
MARKUP = ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "</style><script>", "' onload='x", "&lt;",
          "]]>", "</svg><a href=javascript:x>", "<!--", "\ud800", "\0\x1b[31m", "\u202e"]  # fmt: skip


def all_of(seeds: range, attack: Attack, meet: Callable[[int], tuple[str, str, Callable[[], Any]]]) -> None:
    """Meet every seed, whatever became of those before it; fail with those that were not survived."""
    failures = []
    for seed in seeds:
        kind, what, run = meet(seed)
        try:
            with attack(kind, what):
                run()
        except AssertionError as error:
            failures.append(f"seed {seed}, {what}: {str(error).strip()[-1500:]}")
    assert not failures, f"{len(failures)} of {len(seeds)} not survived:\n" + "\n".join(failures)


def seeds_of(name: str, few: int, many: int) -> list[Any]:
    """Some in every run of the tests, and thousands of others."""
    return [
        pytest.param(name, range(few), id=f"{name}-{few}"),
        pytest.param(name, range(few, many), marks=pytest.mark.chaos, id=f"{name}-{many}"),
    ]
