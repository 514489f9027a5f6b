"""Names that no file can have: each is an error in words."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from attacks import INPUT, MANIFESTS_AND_NAMES, OUTPUT, QUIET, USAGE
from tally import Attack

BYTES = b"bad\xff.parquet"
LONG = "x" * 240 + ".parquet"


@pytest.mark.parametrize("name", [os.fsdecode(BYTES), "file://[x/rows.parquet", "a\0b.parquet"], ids=ascii)
@pytest.mark.parametrize("option", ["input", "out", "corpus", "qrels", "scratch", "vectors"])
def test_names_that_no_file_can_have(
    option: str, name: str, folder: Path, refusal: Callable[..., str], attack: Attack
) -> None:
    inputs = [name] if option == "input" else ["rows.parquet", f"--{option}", name]
    out = [] if option in ("out", "input") else ["-o", "out.parquet"]
    with attack(MANIFESTS_AND_NAMES, "names that no file can have"):
        refusal((USAGE, INPUT, OUTPUT), "mine", *inputs, *out, *QUIET)


def test_a_folder_with_a_name_that_is_no_text(folder: Path, refusal: Callable[..., str], attack: Attack) -> None:
    Path("in").mkdir()
    (folder / "in" / os.fsdecode(BYTES)).write_bytes(Path("rows.parquet").read_bytes())
    with attack(MANIFESTS_AND_NAMES, "names that no file can have"):
        assert "\\udcff" in refusal((INPUT,), "mine", "in", *QUIET)


def test_names_that_are_too_long(folder: Path, refusal: Callable[..., str], attack: Attack) -> None:
    Path(LONG).write_bytes(Path("rows.parquet").read_bytes())
    for command in (["mine", LONG], ["mine", "rows.parquet", "-o", LONG], ["mine", "rows.parquet", "-o", "x" * 5000]):
        with attack(MANIFESTS_AND_NAMES, "names that are too long"):
            assert "long" in refusal((OUTPUT,), *command, *QUIET)
