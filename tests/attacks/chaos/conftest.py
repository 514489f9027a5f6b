"""What attacked runs share: their input, and what a run gives that nothing disturbs."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from attacked import Job, Undisturbed, Whole, contents, write_rows


@pytest.fixture(scope="session")
def few_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One part."""
    return write_rows(tmp_path_factory.mktemp("rows") / "few.parquet", 1_000, 4)


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two parts."""
    return write_rows(tmp_path_factory.mktemp("rows") / "rows.parquet", 17_000, 4)


@pytest.fixture(scope="session")
def many_rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three parts, whose vectors do not fit 16 MiB."""
    return write_rows(tmp_path_factory.mktemp("rows") / "many.parquet", 34_000, 64)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What a command gives when it is left alone; each is run once."""
    known: dict[tuple[str, ...], Whole] = {}

    def of(arguments: list[str]) -> Whole:
        key = tuple(arguments)
        if key not in known:
            job = Job(tmp_path_factory.mktemp("whole") / "work", arguments)
            began = time.monotonic()
            job.run().assert_told(0)
            known[key] = Whole(job.folder, contents(job.folder), time.monotonic() - began, job.changes())
        return known[key]

    return of


@pytest.fixture
def drawn() -> random.Random:
    """Random moments; CHAOS_SEED repeats those of a run that failed, which prints it."""
    seed = int(os.environ.get("CHAOS_SEED", "0")) or random.SystemRandom().randrange(1, 2**32)
    print(f"CHAOS_SEED={seed}")
    return random.Random(seed)
