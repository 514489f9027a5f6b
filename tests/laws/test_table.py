"""Every cell of metric x band x pick x positives x emit: mined like the reference, or refused by name."""

from __future__ import annotations

import itertools
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import AXES, CELLS, allowed, assert_sides_agree, cell_name, drawn_options, fits, reference_rows
from worlds import WORLDS, World

import minestream
from minestream.config.resolve import split_options
from minestream.errors import InputError, UsageError

DIGITS = Path(minestream.__file__).parent / "data" / "digits.parquet"
ALLOWED = [cell for cell in CELLS if allowed(cell)]
REFUSED = [cell for cell in CELLS if not allowed(cell)]
DIGITS_MARGIN = {"cosine": 0.1, "euclidean": 8.0, "sqeuclidean": 400.0, "dot": 600.0}

Cell = dict[str, str]


@cache
def world(name: str) -> World:
    return WORLDS[name]()


def seeded(*names: str) -> np.random.Generator:
    """A generator that depends on the case alone: cases keep their options when others come or go."""
    return np.random.default_rng([zlib.crc32(name.encode()) for name in names])


def completed(cell: Cell) -> dict[str, Any]:
    """The cell with what it needs to be allowed: a margin, scores, unit rows."""
    options: dict[str, Any] = {**cell, "margin": 0.3}
    if cell["emit"] == "tuples":
        options["scores"] = "negative-distance"
    if cell["pick"] == "simans" and cell["emit"] != "pairs":
        options["within_top"] = 20
    return options | {"normalize": cell["pick"] == "weighted" and cell["metric"] != "cosine"}


def pairwise(cells: list[Cell], rng: np.random.Generator) -> list[Cell]:
    """Few cells that together hold every pair of values which any of the cells holds, greedily."""

    def values_together(cell: Cell) -> set[Any]:
        return set(itertools.combinations(cell.items(), 2))

    wanted = set().union(*map(values_together, cells))
    order = [cells[i] for i in rng.permutation(len(cells))]
    chosen: list[Cell] = []
    while wanted:
        best = max(order, key=lambda cell: len(values_together(cell) & wanted))
        chosen.append(best)
        wanted -= values_together(best)
    return chosen


# ---------------------------------------------------------------- refused


@pytest.mark.usefixtures("as_written")
@pytest.mark.parametrize("cell", REFUSED, ids=cell_name)
def test_cells_that_are_refused(cell: Cell) -> None:
    with pytest.raises(UsageError) as caught:
        split_options(completed(cell))
    said = str(caught.value)
    assert ("--emit pairs" if cell["emit"] == "pairs" else "--pick simans") in said
    named = {"metric": cell["metric"] in ("dot", "sqeuclidean"), "pick": cell["pick"] != "nearest"}
    assert any(f"--{axis}" in said for axis, wrong in named.items() if wrong) or "--band" in said
    assert caught.value.hint


def test_every_other_cell_is_accepted() -> None:
    for cell in ALLOWED:
        config, *_ = split_options(completed(cell))
        assert {axis: getattr(config, axis) for axis in AXES} == cell


@pytest.mark.usefixtures("as_written")
@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean", "dot"])
@pytest.mark.parametrize("band", AXES["band"])
def test_bands_at_the_margin_need_one(metric: str, band: str) -> None:
    if band in ("hard", "any", "beyond"):
        assert split_options({"metric": metric, "band": band})[0].margin is None
        return
    with pytest.raises(UsageError, match="--margin"):
        split_options({"metric": metric, "band": band})


@pytest.mark.usefixtures("as_written")
@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"margin": 5.0}, "--margin 5 is more than --metric cosine can reach"),
        ({"metric": "sqeuclidean", "normalize": True, "margin": 4.5}, "sqeuclidean at 4"),
        ({"relative_margin": 5.0, "band": "any"}, "0.05 is 5 %"),
        ({"min_similarity": 95.0}, "0.95 is 95 %"),
        ({"anchors": "0.1"}, "did you mean"),
        ({"metric": "L2"}, "here that is euclidean"),
        ({"metric": "inner_product"}, "here that is dot"),
        ({"metric": "ip"}, "here that is dot"),
        ({"metric": "angular"}, "here that is cosine"),
        ({"metric": "manhattan"}, "known: cosine, euclidean, sqeuclidean, dot"),
        ({"anchors": "0"}, "--anchors"),
        ({"anchors": "101%"}, "--anchors"),
        ({"band": "easy", "margin": 2.5}, "cosine and euclidean end at 2"),
    ],
    ids=str,
)
def test_values_that_mean_nothing(options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError) as caught:
        split_options(options)
    assert named in str(caught.value)


# ---------------------------------------------------------------- small worlds


def worlds_for(cell: Cell) -> list[str]:
    return [name for name in WORLDS if fits(world(name), cell)]


def covering() -> list[tuple[str, Cell]]:
    """Every world twice, every pair of values, and further cells drawn: what the default run mines."""
    rng = seeded("covering")
    cases: dict[str, tuple[str, Cell]] = {}

    def add(name: str, cell: Cell) -> None:
        cases[f"{name} {cell_name(cell)}"] = (name, cell)

    for name in WORLDS:
        fitting = [cell for cell in ALLOWED if fits(world(name), cell)]
        for place in rng.permutation(len(fitting))[:2]:
            add(name, fitting[place])
    for cell in pairwise(ALLOWED, rng):
        able = worlds_for(cell)
        add(able[int(rng.integers(len(able)))], cell)
    return list(cases.values())


def check(name: str, cell: Cell, *more: str) -> int:
    return assert_sides_agree(world(name), **drawn_options(world(name), cell, seeded(name, *cell.values(), *more)))


@pytest.mark.parametrize(
    ("name", "cell"), covering(), ids=lambda part: part if isinstance(part, str) else cell_name(part)
)
def test_cells_mine_what_the_reference_mines(name: str, cell: Cell) -> None:
    check(name, cell)


def test_the_covering_covers() -> None:
    cells = [cell for _, cell in covering()]
    together = set().union(*(set(itertools.combinations(cell.items(), 2)) for cell in cells))
    assert together == set().union(*(set(itertools.combinations(cell.items(), 2)) for cell in ALLOWED))
    mined = {name for name, _ in covering()}
    assert mined == {name for name in WORLDS if any(fits(world(name), cell) for cell in ALLOWED)}


@pytest.mark.slow
@pytest.mark.parametrize("cell", ALLOWED, ids=cell_name)
def test_every_cell_in_every_world(cell: Cell) -> None:
    rows = [check(name, cell, "full") for name in worlds_for(cell)]
    assert sum(rows), "no world has a row for this cell"


@pytest.mark.parametrize("screen", ["scan", "f32"])
@pytest.mark.parametrize("name", ["one_class", "all_singletons"])
def test_worlds_without_an_answer_are_refused(name: str, screen: str) -> None:
    """Where the reference finds nothing the input is an error, with the label column in it."""
    nothing = world(name)
    config, *_ = split_options({})
    assert not reference_rows(nothing, config)["anchor_row"]
    with pytest.raises(InputError, match="label"):
        minestream.mine_arrays(nothing.embeddings, nothing.labels, screen=screen)


# ---------------------------------------------------------------- digits


def digits_cells() -> tuple[list[Cell], list[Cell]]:
    """(a dozen for the default run, the rest of a pairwise covering set)."""
    chosen = pairwise(ALLOWED, seeded("digits"))
    return chosen[:12], chosen[12:]


def digits_options(cell: Cell) -> dict[str, Any]:
    metric, emit, rng = cell["metric"], cell["emit"], seeded("digits", *cell.values())
    options: dict[str, Any] = {**cell, "margin": DIGITS_MARGIN[metric], "seed": 1}
    if cell["pick"] == "weighted" and metric != "cosine":
        options |= {"normalize": True, "margin": 0.1}
    if cell["pick"] == "simans":
        options["within_top"] = 30
    if emit == "tuples" and metric in ("euclidean", "sqeuclidean"):
        options["scores"] = "negative-distance"
    if cell["positives"] == "all":  # some 180 an anchor: fewer anchors keep this short
        options["anchors"] = "10" if cell["pick"] == "weighted" else "30"
    options["negatives"] = int(rng.integers(1, 4))
    options["positives_per_anchor"] = int(rng.integers(1, 3))
    return options


def verify_digits(cell: Cell, folder: Path, screen: str) -> None:
    out = folder / "mined.parquet"
    report = minestream.mine(DIGITS, out, screen=screen, progress="none", **digits_options(cell))
    assert report.stats.rows > 0
    found = minestream.verify(out, sample=100, source=DIGITS)
    assert not found.get("differences")
    assert found["anchors"] == 100


@pytest.mark.parametrize("cell", digits_cells()[0], ids=cell_name)
def test_digits(cell: Cell, tmp_path: Path) -> None:
    verify_digits(cell, tmp_path, "f32")


@pytest.mark.slow
@pytest.mark.parametrize("screen", ["scan", "f32"])
@pytest.mark.parametrize("cell", digits_cells()[1], ids=cell_name)
def test_more_digits(cell: Cell, screen: str, tmp_path: Path) -> None:
    verify_digits(cell, tmp_path, screen)
