"""Fuzzing: twenty seconds of it in every run, under a fresh seed; `pytest -m fuzz --fuzz-seconds 3600` goes on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fuzz
import numpy as np
import pytest
from drawn_options import HOW, NOT_DRAWN, NOT_DRAWN_OF_LISTS, OF_LISTS, RULES
from drawn_worlds import KINDS, Side, World
from judged import HARD_BY, OF_ONE, OF_TWO

from minestream.config.commands import Selecting, own_options
from minestream.config.resolve import OPTION_FIELDS

LARGEST_SHARE_REFUSED = 0.15  # over many worlds; about 0.09 are
PREFIX = "python -m pytest -m fuzz"


@pytest.mark.fuzz
def test_worlds_are_mined_as_the_reference_mines_them(
    pytestconfig: pytest.Config, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    record_property: Callable[[str, object], None],
) -> None:  # fmt: skip
    seconds, only = pytestconfig.getoption("--fuzz-seconds"), pytestconfig.getoption("--fuzz-world")
    seed = pytestconfig.getoption("--fuzz-seed")
    seed = fuzz.random_seed() if seed is None else seed
    command = f"{PREFIX} --fuzz-seed {seed} --fuzz-seconds {seconds:g}"
    with capsys.disabled():
        print(f"\n{command}", flush=True)
    tally, reports = fuzz.run_worlds(seed, seconds, tmp_path, only=only)
    record_property("says", f"{command}: {tally.line()}")
    assert not reports, "\n\n" + "\n\n".join(reports)
    if only is None:
        assert tally.outcomes["refused"] <= most_refused(tally.total), tally.refusals.most_common()


def most_refused(worlds: int) -> float:
    """What chance allows of the largest share: four standard deviations above it, for 20 seconds draw few worlds."""
    share = LARGEST_SHARE_REFUSED
    return share * worlds + 4 * (share * (1 - share) * worlds) ** 0.5


# ---------------------------------------------------------------- nothing is forgotten


def test_every_option_is_drawn_or_said_not_to_concern_rows() -> None:
    named = [*RULES, *HOW, *NOT_DRAWN]
    assert sorted(named) == sorted(OPTION_FIELDS), "say in drawn_options.py how a new option is drawn, or why not"
    assert sorted([*OF_LISTS, *NOT_DRAWN_OF_LISTS]) == sorted(own_options(Selecting))


@pytest.fixture(scope="module")
def drawn() -> dict[str, set[Any]]:
    """Every value that a few thousand cases give an option."""
    found = defaultdict(set)
    for number in range(3_000):
        case = fuzz.draw_case(0, number, large=0.0)
        for name, value in [*case.options.items(), *(item for run in case.runs for item in run.items())]:
            found[name].add(value)
    return found


def test_every_drawer_draws(drawn: dict[str, set[Any]]) -> None:
    assert {*RULES, *HOW, *OF_LISTS} - {*drawn} == set()
    assert {*OF_ONE, *OF_TWO, *HARD_BY} - drawn["by"] == {None}


def test_every_choice_of_an_option_is_drawn(drawn: dict[str, set[Any]]) -> None:
    for name in RULES:
        choices = OPTION_FIELDS[name].metadata["choices"] or ()
        missing = {*choices} - drawn[name] - {OPTION_FIELDS[name].default} - drawn["into"]  # lists are a run
        assert not missing, f"{name}: {missing}"


def test_there_are_twenty_kinds_of_rows() -> None:
    assert len(KINDS) >= 20
    for seed, (kind, make) in enumerate(KINDS.items()):
        rows = make(np.random.default_rng(seed), 30, 8)
        assert rows.shape == (30, 8), kind
        assert np.isfinite(rows).all(), kind


# ---------------------------------------------------------------- the machine itself


def test_a_case_is_the_same_every_time() -> None:
    cases = [[repr(fuzz.draw_case(5, number)) for number in range(20)] for _ in range(2)]
    assert cases[0] == cases[1]


def small_case() -> fuzz.Case:
    """Forty rows of four labels."""
    rng = np.random.default_rng(0)
    side = Side(rng.normal(size=(40, 3)).astype(np.float32), tuple(rng.integers(0, 4, 40).tolist()))
    side = replace(side, year=(2020,) * 40, lang=("en",) * 40, share=(0.5,) * 40, groups=tuple([1, None] * 20))
    side = replace(side, dept=(1,) * 40, part=("a",) * 40)
    return fuzz.Case(World("small", side), {"band": "any", "seed": 3}, "arrays", ({"into": "arrays", "cut": 9},))


def test_a_difference_is_seen_and_made_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A product whose answer lacks its last row: it differs, and the smallest case that has a row is shown."""
    case = small_case()
    assert fuzz.check(case, tmp_path).outcome == "mined"
    whole = fuzz.mined

    def lacking(*given: Any) -> Any:
        table, counts = whole(*given)
        return table.slice(0, max(0, table.num_rows - 1)), counts

    monkeypatch.setattr(fuzz, "mined", lacking)
    found = fuzz.check(case, tmp_path)
    assert found.outcome == "different"
    told = fuzz.report(case, found, 7, 8, tmp_path)
    assert told.startswith(f"{PREFIX} --fuzz-seed 7 --fuzz-world 8\n")
    assert "small: 3 rows, arrays, {" in told


@pytest.mark.parametrize(
    ("options", "outcome"),
    [
        ({"band": "easy", "margin": 3.0}, "refused"),
        ({"metric": "manhattan"}, "refused"),
        ({"on_bad_rows": "error"}, "mined"),
    ],
)
def test_usage_errors_are_refusals(options: dict[str, Any], outcome: str, tmp_path: Path) -> None:
    assert fuzz.check(replace(small_case(), options=options), tmp_path).outcome == outcome


def test_a_traceback_is_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*given: Any) -> Any:
        raise IndexError("list index out of range")

    monkeypatch.setattr(fuzz, "mined", broken)
    assert fuzz.check(small_case(), tmp_path).why.endswith("IndexError: list index out of range")


def test_what_must_be_refused_and_is_mined_is_a_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = small_case()
    side = case.world.queries
    vectors = side.vectors.copy()
    vectors[4] = np.nan
    bad = replace(case, world=replace(case.world, queries=replace(side, vectors=vectors)))
    assert fuzz.check(bad, tmp_path).outcome == "refused"
    whole = fuzz.mined
    monkeypatch.setattr(fuzz, "mined", lambda _, *given: whole(case, *given))
    assert "must be refused: bad rows" in fuzz.check(bad, tmp_path).why
