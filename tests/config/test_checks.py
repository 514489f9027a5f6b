"""What options are refused for: ranges that stand with the option, and the tables of checks."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest

import minestream
from minestream.config import checks
from minestream.config.mine_config import MineConfig
from minestream.config.option import Range
from minestream.config.resolve import OPTION_FIELDS, flag_of, split_options
from minestream.config.resources import Resources
from minestream.errors import UsageError

pytestmark = pytest.mark.usefixtures("as_written")

TABLES: dict[str, tuple[tuple[checks.Check[Any], ...], Any]] = {
    "VALID": (checks.VALID, MineConfig().resolved()),
    "MACHINES": (checks.MACHINES, Resources()),
    "UNCUT": (checks.UNCUT, Resources()),
    "IN_WINDOWS": (checks.IN_WINDOWS, Resources()),
    "HANDED_OUT": (checks.HANDED_OUT, MineConfig().resolved()),
}


@pytest.mark.parametrize("name", TABLES)
def test_what_is_asked_for_by_default_is_refused_nowhere(name: str) -> None:
    table, seen = TABLES[name]
    checks.refuse(table, seen)
    for check in table:
        said = {spec.name: getattr(seen, spec.name) for spec in fields(seen)}
        assert check.message.format(**said | {"what": "x", "margin": 1.0} | dict.fromkeys(checks._DISTANCES, 1.0))


@pytest.mark.parametrize("option", [*checks._NOT_IN_WINDOWS, *checks._NOT_OF_PAIRS])
def test_an_option_is_known_by_its_text(option: str) -> None:
    for each in option.split(" or "):
        flag, _, value = each.partition(" ")
        name = next(name for name in OPTION_FIELDS if flag_of(name) == flag)
        choices = OPTION_FIELDS[name].metadata["choices"]
        assert not value or value in choices
        assert not checks._asked(each, MineConfig())
        named = checks._SAID_BY.get(name, name)
        assert checks._asked(each, MineConfig(**{named: value or 1}))


@pytest.mark.parametrize(
    ("table", "given", "message"),
    [
        (checks.HANDED_OUT, {"emit": "pairs"}, "--emit pairs needs all rows"),
        (checks.HANDED_OUT, {"max_uses": 3}, "--max-uses needs all rows"),
        (checks.HANDED_OUT, {"order": "shuffled"}, "--order shuffled needs all rows"),
    ],
)
def test_rows_that_are_handed_out_at_once(table: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        checks.refuse(table, MineConfig(**given))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "dask"}, "--engine dask is not for --window"), ({"shard": "1/2"}, "--shard is not for --window"),
        ({"resume": True}, "--resume is not for --window"), ({"max_rows": 5}, "--max-rows is not for --window"),
        ({"require_rows": 5}, "--require-rows is not for --window"), ({"max_short": 5}, "--max-short is not for"),
        ({"max_uses": 2}, "--max-uses is not for --window"), ({"where": "a > 1"}, "--where is not for --window"),
        ({"order": "shuffled"}, "--order shuffled is not for --window"),
    ],
    ids=str,
)  # fmt: skip
def test_a_window_refuses(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        minestream.Miner(10, **options)


RANGES = {name: spec.metadata["within"] for name, spec in OPTION_FIELDS.items() if spec.metadata["within"] != Range()}


@pytest.mark.parametrize("name", RANGES)
def test_a_number_outside_of_its_range_is_refused(name: str) -> None:
    limits = RANGES[name]
    outside = [limits.least if limits.inside else limits.least - 1, limits.most + 1]
    for value in (number for number in outside if math.isfinite(number)):
        kind = int if OPTION_FIELDS[name].metadata["kind"] in ("integer", "hidden") else float
        with pytest.raises(UsageError, match=f"^{flag_of(name)} must be .*, not {kind(value)}"):
            split_options({name: kind(value)})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_are_finite(value: float) -> None:
    for name in (name for name, spec in OPTION_FIELDS.items() if spec.metadata["kind"] in ("number", "threshold")):
        with pytest.raises(UsageError, match=f"^{flag_of(name)} must be a finite number, not"):
            split_options({name: value})
