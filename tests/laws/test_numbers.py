"""Exact at the edge of what floats hold: every screen selects what brute force over float64 selects."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from assertions import assert_same_rows
from extremes import EXTREMES
from retrieval import Task, assert_task_agrees
from support import CELLS, SCREENS, allowed, distance_sample, drawn_options, fits, mined, reference_mined
from tally import Attack
from test_profile import assert_equals_brute_force, brute, look
from test_window import assert_as_the_reference
from worlds import World

from minestream.config.resolve import split_options
from minestream.errors import InputError, MinestreamError
from minestream.mining.arrays import mine_arrays
from minestream.search.screens import usable_screens

KIND = "hard numbers"
LARGE = 20_000
SMALLER = 6_000  # where brute force takes long, or no screen tells rows apart, so that all pairs are made exact
HARDEST = (
    "thousand dimensions", "wide norms", "wide norms float32", "widest norms", "farther clusters", "far clusters",
    "beside a one", "beside a one denormal", "hugest coordinate", "huge coordinate", "collinear", "one dimension",
    "all denormal", "some denormal",
)  # fmt: skip
ALLOWED = [cell for cell in CELLS if allowed(cell)]
METRICS = ("cosine", "euclidean", "sqeuclidean", "dot")

CASES: dict[str, dict[str, Any]] = {
    "nearest": {"band": "any", "negatives": 3},
    "semi-hard": {"negatives": 2, "positives_per_anchor": 2},
    "hardest positives": {"positives": "hardest", "band": "violating", "negatives": 3},
    "random picks": {"pick": "random", "skip": 2, "positives": "random", "negatives": 4},
    "64 negatives": {"band": "any", "negatives": 64, "drop_duplicates_within": None},
    "weighted picks": {"pick": "weighted", "band": "any", "negatives": 3},
    "farthest": {"band": "hard", "fallback": "farthest", "negatives": 2},
    "near duplicates": {"drop_duplicates_within": "T", "positives_per_anchor": 3, "negatives": 3},
    "easy": {"band": "easy", "negatives": 3, "positives": "random"},
    "pairs": {"emit": "pairs", "band": "any", "negatives": 5},
}


@cache
def world(name: str, rows: int) -> World:
    return EXTREMES[name](rows)


@cache
def distances(name: str, rows: int, metric: str, normalize: bool) -> np.ndarray[Any, Any]:
    """Sizes of the world's own distances, ascending, without 0; 1 where there is none else."""
    found = np.sort(np.abs(distance_sample(world(name, rows), metric, normalize)))
    return found if found.size else np.ones(1)


def options_of(name: str, rows: int, metric: str, case: str) -> dict[str, Any] | None:
    """A case with a margin, and a threshold, that the world's own distances fill; None where it has no meaning."""
    options = dict(CASES[case])
    some = world(name, rows)
    if metric not in some.metrics or (options.get("emit") == "pairs" and metric in ("sqeuclidean", "dot")):
        return None
    if options.get("pick") == "weighted":
        options["normalize"] = metric != "cosine"
        if some.embeddings.shape[1] < 3 or "cosine" not in some.metrics:
            return None
    own = distances(name, rows, metric, options.get("normalize", False))
    largest = 1.5 if metric == "cosine" else 1e300
    options["margin"] = min(largest, float(np.quantile(own, 0.3)))
    if options.get("drop_duplicates_within") == "T":
        options["drop_duplicates_within"] = 0.0 if metric == "dot" else min(largest, float(np.quantile(own, 0.01)))
    return {"metric": metric, "float64": True, "seed": 3, **options}


def assert_exact(some: World, screens: tuple[str, ...], sample: int | None, **options: Any) -> int:
    """Fail unless all screens give one table, in which the rows of sampled anchors (None: all) are the reference's."""
    config, *_ = split_options(options)
    first, *others = (mined(some, screen, **options) for screen in screens)
    table = first.table()
    for screen, other in zip(screens[1:], others, strict=True):
        assert other.table().equals(table), f"{screen} differs from {screens[0]}"
        assert other.stats.answer() == first.stats.answer()
    if sample is None:
        expected = reference_mined(some, config)
        assert expected.counts == first.stats.answer()
        assert_same_rows(expected.columns, table)
    elif config.emit != "pairs":  # a pair is picked by either end
        chosen = np.random.default_rng(sample).choice(len(some.labels), sample, replace=False)
        expected = reference_mined(some, config, only_anchors=chosen.tolist())
        assert_same_rows(expected.columns, table.filter(pc.is_in(table["anchor_row"], pa.array(chosen))))
    return table.num_rows


@contextmanager
def trying(attack: Attack, what: str, options: dict[str, Any]) -> Iterator[None]:
    """One try; options may turn out to be refused with the reason."""
    with attack(KIND, what):
        try:
            yield
        except MinestreamError as error:
            if not any(reason in str(error) for reason in ("can select nothing", "has a positive")):
                raise
        except Exception as error:
            error.add_note(f"{what}: **{options!r}")
            raise


def board(name: str, every: bool) -> list[tuple[str, str]]:
    """(metric, case) that a world meets: all, or one case a metric, in turns."""
    turn = list(EXTREMES).index(name)
    cases = list(CASES)
    if every:
        return [(metric, case) for metric in METRICS for case in cases]
    return [(metric, cases[(turn + 3 * i) % len(cases)]) for i, metric in enumerate(METRICS)]


@pytest.mark.parametrize(
    ("rows", "every"), [(120, False), pytest.param(1_000, True, marks=pytest.mark.chaos)], ids=["120", "1000"]
)
@pytest.mark.parametrize("name", EXTREMES)
def test_every_screen_selects_what_the_reference_selects(name: str, rows: int, every: bool, attack: Attack) -> None:
    mined_rows, rows = 0, min(rows, 60) if name == "thousand dimensions" else rows
    for metric, case in board(name, every):
        options = options_of(name, rows, metric, case)
        if options is None:
            continue
        with trying(attack, f"{name}: every screen against the reference", options):
            mined_rows += assert_exact(world(name, rows), SCREENS, 60 if every else None, **options)
    assert mined_rows or name in ("all zero", "identical")  # all duplicates of one another


@pytest.mark.chaos
@pytest.mark.parametrize("name", EXTREMES)
def test_large_files_are_mined_exactly(name: str, attack: Attack) -> None:
    """Every row an anchor, by the screens that a user gets; brute force for some of them."""
    rows = SMALLER if name in HARDEST else LARGE
    for metric, case in board(name, False):
        options = options_of(name, rows, metric, case)
        if options is None:
            continue
        with trying(attack, f"{name}: {rows:,} rows, every screen against brute force for sampled anchors", options):
            assert_exact(world(name, rows), ("auto", *usable_screens(8)), 15, **options)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("band", ["semi-hard", "violating", "easy"])
@pytest.mark.parametrize("metric", METRICS[1:])
def test_a_margin_that_no_distance_reaches(metric: str, band: str, attack: Attack) -> None:
    """Its square is no number; nothing is lost for that, and nothing is said on the way."""
    with attack(KIND, "margins up to 1e300"):
        for margin in (1e40, 1e200, 1e300):
            rows = assert_exact(world("float32 offset", 200), SCREENS, None, metric=metric, band=band, margin=margin)
            assert rows == (0 if band == "easy" else 200)


WINDOWED = [case for case in CASES if CASES[case].get("emit") != "pairs"]


@pytest.mark.parametrize("rows", [90, pytest.param(600, marks=pytest.mark.chaos)])
@pytest.mark.parametrize("name", EXTREMES)
def test_windows_select_what_the_reference_selects(name: str, rows: int, attack: Attack) -> None:
    """There are no rows yet by whose centre and scale the screen of a window could go."""
    turn = list(EXTREMES).index(name)
    for i, metric in enumerate(METRICS):
        for case in WINDOWED if rows > 90 else [WINDOWED[(turn + 2 * i) % len(WINDOWED)]]:
            options = options_of(name, rows, metric, case)
            if options is None:
                continue
            with trying(attack, f"{name}: a window against the reference", options):
                assert_as_the_reference(world(name, rows), [1, rows // 3, rows // 2], rows // 2, **options)


@pytest.mark.parametrize("scale", [1e-80, 1e-170, 1e-310, 1e80, 1e300])
@pytest.mark.parametrize("metric", METRICS)
def test_norms_whose_squares_are_no_number_are_refused(metric: str, scale: float, attack: Attack) -> None:
    """Or left out when asked, and then the others are mined as if they were alone."""
    with attack(KIND, "rows whose squares underflow or overflow"):
        whole = world("wide norms", 300)
        rows, labels = whole.embeddings.copy(), np.array(whole.labels)
        rows[::7] = scale * np.sign(rows[::7])
        with pytest.raises(InputError, match=r"norm"):
            mine_arrays(rows, labels, metric=metric, margin=1.0)
        keep = np.arange(300) % 7 > 0
        given = {"metric": metric, "margin": 1.0, "band": "any"}
        left = mine_arrays(rows, labels, on_bad_rows="drop", **given)
        alone = mine_arrays(rows[keep], labels[keep], **given)
        for column in ("anchor", "positive", "negative"):
            assert getattr(left, column).tolist() == np.flatnonzero(keep)[getattr(alone, column)].tolist()


CHUNKS = [range(first, first + 500) for first in range(20, 3_020, 500)]


@pytest.mark.parametrize(
    "seeds", [range(20), *(pytest.param(chunk, marks=pytest.mark.chaos) for chunk in CHUNKS)], ids=str
)
def test_any_options_over_any_numbers(seeds: range, attack: Attack) -> None:
    """Any cell of the table of rules with any further options, over any of the worlds, by every screen."""
    done = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        name = str(rng.choice(list(EXTREMES)))
        some = world(name, int(rng.choice([24, 60, 130])) if name != "thousand dimensions" else 40)
        cell = ALLOWED[int(rng.integers(len(ALLOWED)))]
        if not fits(some, cell) or cell["metric"] not in some.metrics:
            continue
        options = drawn_options(some, cell, rng)
        with trying(attack, "drawn options over all of these: every screen against the reference", options):
            assert_exact(some, SCREENS, None, **options)
        done += 1
    assert done > len(seeds) // 2


# ---------------------------------------------------------------- two tables, profiles


@pytest.mark.parametrize("rows", [90, pytest.param(600, marks=pytest.mark.chaos)])
@pytest.mark.parametrize("name", EXTREMES)
def test_queries_find_in_a_corpus_what_the_reference_finds(name: str, rows: int, attack: Attack) -> None:
    some, cut = world(name, rows), rows // 3
    task = Task(
        some.embeddings[:cut], some.labels[:cut], None, None, some.embeddings[:cut], some.embeddings[cut:],
        some.labels[cut:], None, None, some.embeddings[cut:], None, None,
    )  # fmt: skip
    turn = list(EXTREMES).index(name)
    for i, metric in enumerate(METRICS):
        for case in WINDOWED if rows > 90 else [WINDOWED[(turn + 2 * i) % len(WINDOWED)]]:
            options = options_of(name, rows, metric, case)
            if options is not None:
                with trying(attack, f"{name}: queries and a corpus against the reference", options):
                    assert_task_agrees(task, options, SCREENS if rows > 90 else SCREENS[i % 2 :: 2])


@pytest.mark.parametrize("rows", [60, pytest.param(300, marks=pytest.mark.chaos)])
@pytest.mark.parametrize("name", EXTREMES)
def test_a_profile_counts_what_brute_force_counts(name: str, rows: int, attack: Attack) -> None:
    some = world(name, rows)
    turn = list(EXTREMES).index(name)
    for metric in some.metrics if rows > 60 else [some.metrics[turn % len(some.metrics)]]:
        with attack(KIND, f"{name}: a profile against brute force"):
            assert_equals_brute_force(look(some, metric), brute(some, metric))
