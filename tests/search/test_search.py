"""The sweep on worlds that its screens find hard: the scan's rows, by each of them; and their proven errors."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st
from support import distance_sample, in_turns, loaded_rows, mined, set_sizes
from worlds import World, clustered

from minestream.config.metrics import METRICS
from minestream.inputs.dataset import prepare
from minestream.inputs.dataset.dataset import Dataset
from minestream.inputs.dataset.vectors import Store
from minestream.kernels import distances, quantize, refine, sweep
from minestream.kernels.jit import kernel
from minestream.kernels.tile import HIGH, LOW, SCALE, address, tile, tile_shape
from minestream.kernels.tile_shapes import TILES, host_tile
from minestream.kernels.types import FARTHEST, IGNORE, NEAREST, NEGATIVE, POSITIVE, Rule
from minestream.mining.arrays import Mined, mine_arrays
from minestream.search import screens, searcher
from minestream.search.cells import cell_of
from minestream.search.context import Limits, SearchContext
from minestream.search.results import one_pair_each
from minestream.search.screens import Codes, usable_screens
from minestream.search.sweep import Sweeping
from minestream.system.stats import ShardStats
from minestream.system.threads import Workers

SWEPT = tuple(reversed(usable_screens(8)))  # f32, and i16 and i8 where the host has them

# ---------------------------------------------------------------- worlds


def blobs() -> World:
    return World(*clustered(30, [40] * 200, 16))


def tight_classes() -> World:
    """As after training: a class is a point for a screen, and every negative lies as far as the next class."""
    rows, labels = clustered(31, [30] * 200, 32, spread=1e-4)
    return World(rows / np.linalg.norm(rows, axis=1, keepdims=True), labels)


def heavy_duplicates() -> World:
    """Forty rows over and over, under any label, among others that are near one another."""
    rng = np.random.default_rng(32)
    rows, labels = clustered(32, [60] * 100, 8)
    rows[: 3 * len(rows) // 4] = rows[rng.integers(0, 40, 3 * len(rows) // 4)]
    order = rng.permutation(len(rows))
    return World(rows[order], labels)


def sorted_by_distance() -> World:
    """The farthest first: each block brings nearer rows than all before it."""
    rows, labels = clustered(33, [100] * 60, 6)
    order = np.argsort(-((rows - rows[0]) ** 2).sum(axis=1))
    return World(rows[order], [labels[i] for i in order])


def nearest_first() -> World:
    whole = sorted_by_distance()
    return World(whole.embeddings[::-1].copy(), whole.labels[::-1])


def one_long_row() -> World:
    """A scale that fits one row leaves the others ten bits fewer."""
    rows, labels = clustered(34, [50] * 120, 12)
    rows[4321] *= 1000
    return World(rows, labels)


def far_offset() -> World:
    rows, labels = clustered(35, [50] * 100, 9, dtype=np.float64)
    return World(1e6 + 1e-3 * rows, labels)


def magnitudes() -> World:
    rng = np.random.default_rng(36)
    rows, labels = clustered(36, [50] * 100, 7, dtype=np.float64)
    return World(rows * 10.0 ** rng.integers(-30, 31, (len(rows), 1)), labels)


def integer_grid() -> World:
    """Ties by the hundred at every distance."""
    rng = np.random.default_rng(37)
    return World(rng.integers(-3, 4, (6000, 4)).astype(np.int8) | 1, rng.integers(0, 40, 6000).tolist())


def multi_label() -> World:
    rng = np.random.default_rng(38)
    rows, labels = clustered(38, [50] * 100, 10)
    lists = [[label, *rng.choice(100, rng.integers(0, 3)).tolist()] for label in labels]
    return World(rows, lists, groups=rng.integers(0, 30, len(rows)).tolist())


def larger() -> World:
    return World(*clustered(39, [100] * 120, 32))


def many_twins() -> World:
    """Half of the rows are one and the same, under two of the labels."""
    rows, labels = clustered(40, [100] * 60, 12)
    named = np.array(labels)
    named[::2] = np.random.default_rng(40).integers(0, 2, len(rows) // 2)
    rows[::2] = rows[0]
    return World(rows, named.tolist())


def one_hot() -> World:
    """What a rotation is for: one coordinate or two, so that any two rows are at one of a few distances."""
    rng = np.random.default_rng(41)
    one, two = (np.eye(100)[rng.integers(0, 100, 5000)] for _ in range(2))
    rows = (one + two * (rng.random((5000, 1)) < 0.3)) * rng.choice([1, 1.25, 3, -1], (5000, 1))
    return World(rows.astype(np.float32), rng.integers(0, 50, 5000).tolist())


def outlier_dimension() -> World:
    """As language models have them: one coordinate holds nearly all of every norm."""
    rows, labels = clustered(42, [50] * 100, 48)
    rows[:, 7] *= 100
    return World(rows, labels)


def lognormal_norms() -> World:
    rng = np.random.default_rng(43)
    rows, labels = clustered(43, [50] * 100, 20)
    return World(rows * 10 ** rng.normal(scale=0.6, size=(len(rows), 1)).clip(-1.5, 1.5).astype(np.float32), labels)


WORLDS: dict[str, Callable[[], World]] = {
    make.__name__: make
    for make in (
        blobs, tight_classes, heavy_duplicates, sorted_by_distance, nearest_first, one_long_row, far_offset,
        magnitudes, integer_grid, multi_label, larger, many_twins, one_hot, outlier_dimension, lognormal_norms,
    )
}  # fmt: skip

CASES: dict[str, dict[str, Any]] = {
    "nearest": {"band": "any", "negatives": 1},
    "nearest, 16": {"band": "any", "negatives": 16, "skip": 3},
    "nearest, 100": {"band": "any", "negatives": 100},
    "semi-hard": {"negatives": 2},
    "semi-hard, random positives": {"positives": "random", "positives_per_anchor": 4, "negatives": 3},
    "semi-hard, many positives": {"positives": "random", "positives_per_anchor": 20, "negatives": 2},
    "semi-hard, hardest positives": {"positives": "hardest", "positives_per_anchor": 3, "negatives": 3},
    "violating, easiest positives": {"band": "violating", "positives_per_anchor": 5, "negatives": 2},
    "random": {"pick": "random", "positives_per_anchor": 2, "negatives": 4},
    "random of any": {"pick": "random", "band": "any", "negatives": 4},
    "random, skip": {"pick": "random", "skip": 5, "positives": "random", "positives_per_anchor": 2, "negatives": 4},
    "random, ranks": {"pick": "random", "skip": 5, "within_top": 60, "positives_per_anchor": 2, "negatives": 4},
    "positives of low rank": {"max_positive_rank": 20, "positives": "random", "positives_per_anchor": 3, "band": "any"},
    "weighted": {"pick": "weighted", "band": "any", "negatives": 4},
    "weighted, skip": {"pick": "weighted", "skip": 3, "positives_per_anchor": 2, "negatives": 3},
    "easy": {"band": "easy", "negatives": 4},
    "all pairs": {"emit": "pairs", "negatives": 0},
    "pairs": {"emit": "pairs", "band": "any", "negatives": 16, "positives": "all"},
    "near duplicates": {"drop_duplicates_within": "T", "negatives": 3, "positives_per_anchor": 3},
    "near duplicates, random": {
        "drop_duplicates_within": "T", "pick": "random", "positives": "random", "negatives": 3,
        "positives_per_anchor": 3,
    },
    "no duplicates": {"drop_duplicates_within": None, "negatives": 3, "positives_per_anchor": 2},
}  # fmt: skip


@cache
def world(name: str, rows: int | None = None) -> World:
    """A world, or its first rows."""
    whole = WORLDS[name]()
    groups = None if whole.groups is None else whole.groups[:rows]
    return World(whole.embeddings[:rows], whole.labels[:rows], groups=groups)


@cache
def sampled_distances(name: str, metric: str, normalize: bool) -> np.ndarray[Any, Any]:
    return np.sort(np.abs(distance_sample(world(name), metric, normalize)))


def fitted(name: str, case: str, metric: str) -> dict[str, Any]:
    """A case with a margin and a threshold that this world's own distances fill."""
    options = dict(CASES[case])
    options["normalize"] = options.get("pick") == "weighted" and metric != "cosine"
    near = sampled_distances(name, metric, options["normalize"])
    # Where classes are tight the margin must reach from one into the next; all pairs of a wide one would be many.
    share = 0.005 if options.get("negatives") == 0 else 1.0 if name == "tight_classes" else 0.3
    options["margin"] = float(np.quantile(near, share))
    if options.get("drop_duplicates_within") == "T":
        options["drop_duplicates_within"] = 0.0 if metric == "dot" else float(np.quantile(near, 0.002)) / 2
    return {"metric": metric, "seed": 5, "float64": True, **options}


def assert_screens_agree(world: World, may_be_empty: bool = False, **options: Any) -> dict[str, Mined]:
    """The scan's table from every screen of the host; returns what each mined."""
    scanned = mined(world, "scan", **options)
    expected = scanned.table()
    assert scanned.stats.rows > 0 or may_be_empty
    assert scanned.effort.tiles == 0
    found = {}
    for screen in SWEPT:
        try:
            swept = mined(world, screen, **options)
            assert swept.table().equals(expected)
            assert swept.stats.answer() == scanned.stats.answer()
        except Exception as error:
            error.add_note(f"screen={screen!r}, **{options!r}")
            raise
        found[screen] = swept
    return found


def metric_of(name: str, case: str) -> str:
    """Metrics take turns over the table of cases; all of them run with -m slow."""
    usual = ["cosine", "euclidean", "sqeuclidean", "dot"]
    if CASES[case].get("emit") == "pairs":
        usual = usual[:2]
    if name == "far_offset":
        usual.remove("cosine")  # seen from the origin all rows are one: no distance but 0 and its rounding
    if name == "one_hot" and "dot" in usual:
        usual.remove("dot")  # nearly all products are 0
    return usual[(list(WORLDS).index(name) + list(CASES).index(case) // 3) % len(usual)]


def board(turn: int, of: int) -> list[tuple[str, str]]:
    """Of each world one in so many cases."""
    return [(name, case) for i, name in enumerate(WORLDS) for j, case in enumerate(CASES) if (i + j) % of == turn]


# Each world meets a quarter of the cases with few anchors, and an eighth (another quarter with -m slow) with all.
BOARD = board(0, 4)
BOARD_OF_ALL = [*board(2, 8), *(pytest.param(*each, marks=pytest.mark.slow) for each in board(6, 8))]


@pytest.mark.parametrize(("name", "case"), BOARD)
def test_sweep_and_scan_find_the_same(name: str, case: str) -> None:
    runs = assert_screens_agree(world(name), anchors="80", **fitted(name, case, metric_of(name, case)))
    assert all(each.effort.tiles > 0 for each in runs.values()), "the sweep was not used"


@pytest.mark.parametrize(("name", "case"), BOARD_OF_ALL)
def test_both_sides_of_every_tile_find_theirs(name: str, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row an anchor, in many parts, groups and blocks: one product serves two."""
    set_sizes(monkeypatch, PART_ANCHORS=90, GROUP_ROWS=240, MOST_SWEPT_ROWS=199)
    runs = assert_screens_agree(world(name, 600), **fitted(name, case, metric_of(name, case)))
    assert all(each.effort.tiles > 0 for each in runs.values()), "the sweep was not used"


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", WORLDS)
def test_sweep_and_scan_find_the_same_by_every_metric(name: str, case: str, metric: str) -> None:
    if CASES[case].get("emit") == "pairs" and metric in ("sqeuclidean", "dot"):
        pytest.skip("refused")
    options = fitted(name, case, metric)
    assert_screens_agree(world(name), may_be_empty=True, anchors="80", **options)
    assert_screens_agree(world(name, 1000), may_be_empty=True, **options)


# ---------------------------------------------------------------- how much is looked at in full


@pytest.mark.parametrize(
    ("name", "case", "metric", "most"),
    [
        ("blobs", "nearest", "cosine", 20),
        ("blobs", "nearest, 100", "cosine", 250),
        ("blobs", "random of any", "cosine", 50),
        ("blobs", "weighted", "cosine", 50),
        ("larger", "nearest, 16", "euclidean", 65),
        ("larger", "semi-hard", "euclidean", 20),
        ("one_long_row", "nearest", "euclidean", 20),
        ("lognormal_norms", "nearest", "euclidean", 20),
        ("sorted_by_distance", "nearest, 16", "euclidean", 70),
        ("outlier_dimension", "nearest", "euclidean", 300),
    ],
)
def test_ordinary_data_needs_few_exact_distances(name: str, case: str, metric: str, most: int) -> None:
    """What gates are for: of an anchor's thousands of rows all but some dozens are never made exact."""
    runs = assert_screens_agree(world(name), anchors="80", **fitted(name, case, metric))
    for screen, each in runs.items():
        assert 80 < each.effort.exact_distances < 80 * most, screen


@pytest.mark.parametrize(
    "case", ["nearest", "nearest, 16", "nearest, 100", "semi-hard", "semi-hard, hardest positives", "random"]
)
def test_twins_cost_nothing(case: str) -> None:
    """Three thousand equal rows, as anchors and as candidates: of those with one relation few are ever looked at."""
    runs = assert_screens_agree(world("many_twins"), anchors="80", **fitted("many_twins", case, "euclidean"))
    for screen, each in runs.items():
        assert each.effort.exact_distances < 80 * 300, screen


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("pick", ["nearest", "random"])
def test_ties_at_the_end_of_every_list(pick: str, grouped: bool) -> None:
    """Six thousand rows at one distance, of which the first in key order are the answer: of other label and group."""
    rng = np.random.default_rng(3)
    rows = np.concatenate([np.ones((6000, 4)), rng.normal(size=(40, 4))]).astype(np.float32)
    groups = rng.integers(0, 3, 6040).tolist() if grouped else None
    flat = World(rows, rng.integers(0, 3, 6040).tolist(), groups=groups)
    options = {"band": "any", "pick": pick, "drop_duplicates_within": None, "negatives": 3}
    assert_screens_agree(flat, metric="euclidean", anchors="60", **options)


@pytest.mark.parametrize("times", [2.0, 3.0, 0.25])
@pytest.mark.parametrize("options", [{}, {"metric": "euclidean", "normalize": True, "margin": 0.5}])
def test_copies_of_another_length_are_duplicates(options: dict[str, Any], times: float) -> None:
    """Where lengths do not count; divided by their norms copies are surely equal when they are twice as long."""
    rows = np.random.default_rng(0).integers(-9, 10, (30, 6)).astype(np.float32)
    times = 2.0 if options else times  # by any other number the quotients may be rounded apart
    both = np.concatenate([rows, rows * np.float32(times)])
    for screen in ("scan", *SWEPT):
        found = mined(World(both, [*range(10)] * 3 + [*range(5, 35)]), screen, band="any", negatives=99, **options)
        assert found.stats.rows > 0
        assert not (found.negative % 30 == found.anchor % 30).any()
        assert not (found.negative % 30 == found.positive % 30).any()
    plain = mined(World(both, [*range(10)] * 3 + [*range(5, 35)]), "scan", band="any", negatives=99, metric="euclidean")
    assert (plain.negative % 30 == plain.anchor % 30).any()


@pytest.mark.parametrize("within", [0.0, 0.01])
def test_positives_equal_to_the_anchor_fill_up_last_and_are_counted(within: float) -> None:
    rows = np.random.default_rng(0).standard_normal((12, 6)).astype(np.float32)
    rows[1:4] = rows[0]
    options: dict[str, Any] = {"band": "any", "positives_per_anchor": 3, "drop_duplicates_within": within}
    for screen in ("scan", *SWEPT):
        found = mined(World(rows, [0] * 6 + [1] * 6), screen, **options)
        assert found.positive[found.anchor == 0].tolist()[2:] == [1]
        assert found.stats.duplicate_positives == 4
    assert mined(World(rows, [0] * 6 + [1] * 6), "scan", **options, positives="all").stats.duplicate_positives == 0


@pytest.mark.parametrize("by_direction", [False, True])
def test_rows_whose_hashes_collide_are_told_apart(by_direction: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(-1, 2, (200, 3)).astype(np.float32) * rng.choice([1, 2, 3], (200, 1)).astype(np.float32)
    rows[rng.random(rows.shape) < 0.1] *= -1
    held = Store(3, np.dtype(np.float32), 2**20, Path())
    held.append(rows)
    held.seal()
    twin, equal = prepare.twins(held, by_direction, Workers(1))
    wide = rows.astype(np.float64)
    judged = wide / np.maximum(np.abs(wide).max(axis=1, keepdims=True), 1e-9) if by_direction else wide
    for found, of in ((twin, judged), (equal, wide)):
        assert found.tolist() == [int(np.flatnonzero((of == row).all(axis=1))[0]) for row in of]
    monkeypatch.setattr(prepare.distances, "row_hashes", lambda vectors, by_direction, out: out.fill(7))
    for found, again in zip((twin, equal), prepare.twins(held, by_direction, Workers(1)), strict=True):
        assert np.array_equal(found, again)


@pytest.mark.parametrize("d", [1, 100, 200])
@pytest.mark.parametrize("spread", [0.0, 1e-25, 1e-20])
def test_bands_of_rows_that_hardly_differ_under_dot(spread: float, d: int) -> None:
    """In the frame such rows lie farther from the origin than a float32 tells, and bands end there too."""
    rows = np.ones((40, d))
    rows[:, -1] = 1 + spread if d == 1 else spread * np.arange(1, 41)
    plain = World(rows, [row % 4 for row in range(40)])
    common: dict[str, Any] = {"metric": "dot", "band": "any", "drop_duplicates_within": None, "negatives": 50}
    for limits in ({"max_similarity": d + 2.0}, {"min_similarity": d - 2.0}, {"absolute_margin": -1.0}):
        for pick in ("nearest", "random"):
            runs = assert_screens_agree(plain, pick=pick, **limits, **common)
            assert {each.stats.rows for each in runs.values()} == {40 * 30}
    assert_screens_agree(plain, **{**common, "band": "semi-hard", "margin": 0.5, "fallback": "farthest"})


def test_near_duplicates_of_a_positive_narrow_no_gate() -> None:
    """A row within T of one positive counts for no pair of that positive, however near it is."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(40, 3)), rng.normal(size=(4960, 3)) * 0.02 + [2, 0, 0]])
    crowded = World(rows.astype(np.float32), (np.arange(5000) % 50).tolist())
    for pick, within in (("nearest", 0.05), ("random", 0.02), ("random", 0.3)):
        assert_screens_agree(
            crowded, metric="euclidean", band="any", pick=pick, negatives=3, positives="random",
            positives_per_anchor=4, drop_duplicates_within=within, anchors="80",
        )  # fmt: skip


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_negatives_on_the_very_edge_of_a_band(metric: str, seed: int) -> None:
    """The nearest positive has a copy among the negatives; the error of a long anchor is far larger than theirs."""
    rng = np.random.default_rng(seed)
    long, short = 1000 * rng.normal(size=(60, 12)), rng.normal(size=(60, 12))
    rows = np.concatenate([long, short, short]).astype(np.float32)
    labels = [row % 3 for row in range(120)] + [3 + row % 3 for row in range(60)]
    options = {"band": "hard", "margin": 1.0, "drop_duplicates_within": None, "negatives": 5}
    assert_screens_agree(World(rows, labels), metric=metric, **options)


# ---------------------------------------------------------------- sizes that no result depends on


@pytest.mark.parametrize(
    "case", ["nearest, 16", "semi-hard, many positives", "random, skip", "all pairs", "near duplicates"]
)
def test_buffers_and_steps_of_any_size(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    some = world("blobs", 900)
    options = {"anchors": "300", **fitted("blobs", case, "euclidean")}
    set_sizes(
        monkeypatch, BUFFER_ENTRIES=1, UNIT_BYTES=(1, 1), TAKEN_ENTRIES=1, TASK_SURVIVORS=1, GROUP_ROWS=100,
        AROUND_ROWS=3, AROUND_LANES=1, MOST_INTERVALS=2, PART_ANCHORS=32,
    )  # fmt: skip
    assert_screens_agree(some, block_rows=131, **options)
    set_sizes(monkeypatch, UNIT_BYTES=(2**20, 2**20), UNIT_PANELS=(5, 3), MOST_SWEPT_ROWS=400, AROUND_ROWS=900)
    set_sizes(monkeypatch, AROUND_LANES=9, MOST_INTERVALS=30)
    assert_screens_agree(some, **{**options, "threads": 3})


@pytest.mark.skipif(len(SWEPT) < 2, reason="this processor has one screen")
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize(
    "case",
    ["nearest, 16", "semi-hard, hardest positives", "random, skip", "weighted, skip", "near duplicates", "all pairs"],
)
def test_a_change_of_screen_on_the_way(case: str, after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the gates have learnt by one screen holds for the next, whose affinities are others."""
    some, options = world("lognormal_norms", 1000), fitted("lognormal_norms", case, "euclidean")
    expected = mined(some, "scan", **options).table()
    set_sizes(monkeypatch, SCAN_ROWS=0, DOUBT=-1.0, PART_ANCHORS=90, GROUP_ROWS=400, MOST_SWEPT_ROWS=333)
    original = Sweeping._reconsider

    def late(self: Any, tiles: int, vain: int) -> None:
        self.steps = getattr(self, "steps", 0) + 1
        if self.steps > after:
            original(self, tiles, vain)

    monkeypatch.setattr(Sweeping, "_reconsider", late)
    monkeypatch.setattr(Sweeping, "begin_sharp", lambda self: None)
    found = mined(some, "auto", **options)
    assert found.table().equals(expected)
    assert found.effort.screens_changed > 0


@pytest.mark.skipif(len(SWEPT) < 2, reason="this processor has one screen")
@pytest.mark.parametrize(
    ("options", "sharp"),
    [
        ({"positives": "random", "positives_per_anchor": 4}, True),
        ({"positives": "hardest"}, True),
        ({}, False),
        ({"positives": "random", "band": "any", "negatives": 5}, False),
        ({"positives": "random", "pick": "random"}, False),
        ({"positives": "all", "anchors": "900"}, False),
    ],
)
def test_windows_among_very_many_negatives_begin_with_a_sharper_screen(
    options: dict[str, Any], sharp: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a sample of pairs: each row has a positive that is nearer than all negatives, and others by chance."""
    rows, labels = np.random.default_rng(30).standard_normal((6_000, 64)), np.arange(6_000) // 2 % 150
    rows[1::2] = rows[::2] + 0.01 * rows[1::2]
    begun: dict[int, str] = {}
    probe = Sweeping.probe_spans

    def watched(self: Sweeping, spans: Any) -> None:
        begun[self.rule.wanted] = self.codes.name
        probe(self, spans)

    monkeypatch.setattr(Sweeping, "probe_spans", watched)
    mine_arrays(rows, labels, screen="auto", **options)
    first, second = usable_screens(64)[:2]
    assert begun.pop(POSITIVE, first) == first  # random positives are not swept for
    assert begun == {NEGATIVE: second if sharp else first}


@pytest.mark.parametrize("screen", [*(pytest.param(name, marks=pytest.mark.slow) for name in SWEPT[:-1]), SWEPT[-1]])
def test_codes_in_scratch(screen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What 16 MiB leave holds the codes of no 34,000 rows."""
    spilled = []

    class Watched(Codes):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            spilled.append(not self.store.in_memory)

    monkeypatch.setattr(searcher, "Codes", Watched)
    wide = World(*clustered(44, [85] * 400, 256))
    options = {"anchors": "60", "band": "any", "negatives": 5, "positives": "random", "positives_per_anchor": 2}
    whole = mined(wide, screen, **options).table()
    assert spilled == [False]
    assert mined(wide, screen, memory="16MiB", **options).table().equals(whole)
    assert spilled == [False, True]
    assert whole.num_rows == 600


# ---------------------------------------------------------------- the proven error


class Swept(NamedTuple):
    """Rows against themselves: what the sweep knows of every pair, and what each row's error may be."""

    ready: Dataset
    stored: np.ndarray[Any, Any]
    high: np.ndarray[Any, Any]  # float32 (n, n)
    low: np.ndarray[Any, Any]  # float32 (n, n)
    terms: quantize.Terms


@kernel
def products_of(
    rows: np.ndarray, columns: np.ndarray, control: np.ndarray, row_terms: np.ndarray, column_terms: np.ndarray,
    start: np.ndarray, masks: np.ndarray, out: np.ndarray,
) -> int:  # fmt: skip
    """All tiles of two sides: out float32 (row panels, column panels, rows * columns); returns how many passed."""
    passed = 0
    tile_rows, tile_columns = tile_shape(address(rows, 0))
    words, terms = rows.shape[1], row_terms.shape[1]
    for i in range(rows.shape[0]):
        for j in range(columns.shape[0]):
            found = tile(
                address(rows, i * words * tile_rows), address(columns, j * words * tile_columns), address(control, 0),
                address(row_terms, i * terms * tile_rows), address(column_terms, j * terms * tile_columns),
                address(start, 2 * j * tile_columns), address(masks, 0), address(masks, tile_rows),
                address(out, (i * out.shape[1] + j) * tile_rows * tile_columns),
            )  # fmt: skip
            passed += found != 0
    return passed


@contextmanager
def sweeping(ready: Dataset, metric: str, screen: str, mirrored: bool) -> Iterator[Sweeping]:
    """A search for the nearest, or farthest, of all rows."""
    n = ready.store.rows
    rule = Rule(
        NEGATIVE, FARTHEST if mirrored else NEAREST, 1, 0, IGNORE, IGNORE, 0.0, False, METRICS[metric].code
    )  # fmt: skip
    with closing(Workers(1)) as workers:
        coded = Codes(ready, screen, workers, 1, 2**30, Path("."))
        setting = SearchContext(
            ready, METRICS[metric], Limits(1, 2**20, 2**20, (screen,)), workers, ShardStats(), lambda name: coded,
            lambda: cell_of(ready, workers, 1),
        )  # fmt: skip
        yield Sweeping(setting, [np.arange(n, dtype=np.int32)], one_pair_each(n), rule)


@pytest.mark.parametrize("screen", usable_screens(8))
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
def test_kernels_compiled_ahead_are_those_that_are_called(screen: str, dtype: Any) -> None:
    rows = np.random.default_rng(0).integers(-9, 9, (300, 8)).astype(dtype)
    with sweeping(loaded_rows(rows, "euclidean"), "euclidean", screen, False) as search:
        calls = search._later_calls()
        assert {call.py_func.__name__ for call, _ in calls} == {"refine", "sweep", "partition"}
        deque(search.run(), 0)
        for call, arguments in calls:
            assert tuple(map(numba.typeof, arguments)) in call.signatures


def swept_rows(vectors: np.ndarray[Any, Any], metric: str, screen: str, mirrored: bool) -> Swept:
    """By the tile itself, of sides as a search packs them."""
    ready = loaded_rows(vectors, metric)
    n, shape = ready.store.rows, host_tile(screen)
    with sweeping(ready, metric, screen, mirrored) as search:
        left, right = (search._side(0, n, rows=rows) for rows in (True, False))
        lanes, terms, slot = search.lanes, search.codes.terms, search.order.slot[:n]
        control = search.codes.scratch().control
    for side in (left, right):
        side.terms[:, LOW], side.terms[:, HIGH] = -np.inf, np.inf
    out = np.empty((len(left.panels), len(right.panels), shape.rows * shape.columns), np.float32)
    masks = np.zeros((2, shape.rows), np.uint64)
    passed = products_of(left.panels, right.panels, control, left.terms, right.terms, right.start, masks, out)
    assert passed == out.shape[0] * out.shape[1]
    products = out.reshape(*out.shape[:2], shape.rows, shape.columns).swapaxes(1, 2)
    products = products.reshape(len(left.panels) * shape.rows, -1)[:n, :n]
    by_lane = products + lanes.bias[:n]
    high, low = np.empty((2, n, n), np.float32)
    high[np.ix_(slot, slot)] = by_lane
    low[np.ix_(slot, slot)] = by_lane - lanes.slack[:n] * np.float32(1.001)
    return Swept(ready, ready.store.block(0, n), high, low, terms)


def canonical(swept: Swept, metric: str) -> np.ndarray[Any, Any]:
    """Every canonical distance."""
    n, square = len(swept.stored), swept.ready.rows.square
    x, rows = np.empty((n, (n + 7) // 8 * 8)), np.arange(n)
    for i in range(n):
        anchor = swept.stored[i].astype(np.float64)
        distances.distances_to(
            METRICS[metric].code, anchor, square[i], swept.stored, square, rows, rows.astype(np.int32), x[i]
        )
    return x[:, :n]


def linear(metric: str, x: Fraction) -> Fraction:
    """The linear distance of a canonical one, without rounding."""
    return {"cosine": x, "euclidean": x * x / 2, "sqeuclidean": x / 2, "dot": x}[metric]


def true_linear(metric: str, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> Fraction:
    """The linear distance of two stored rows in exact arithmetic (cosine: to a hundred digits)."""
    left, right = ([Fraction(x) for x in row.astype(np.float64).tolist()] for row in (a, b))
    if metric in ("euclidean", "sqeuclidean"):
        return sum(((x - y) ** 2 for x, y in zip(left, right, strict=True)), Fraction()) / 2
    product = sum((x * y for x, y in zip(left, right, strict=True)), Fraction())
    if metric == "dot":
        return -product
    squares = sum((x * x for x in left), Fraction()) * sum((x * x for x in right), Fraction())
    with localcontext() as context:
        context.prec = 100
        norms = (Decimal(squares.numerator) / Decimal(squares.denominator)).sqrt()
    return 1 - product / Fraction(norms)


def used_share(vectors: np.ndarray[Any, Any], metric: str, screen: str, mirrored: bool, exactly: bool = False) -> float:
    """How much of the bound the worst pair uses; fails where the bound does not hold.

    The shares of row and column cover the error against the canonical distance, in rational arithmetic wherever
    float64 could not tell; `exactly`: and against the true distance.
    """
    swept = swept_rows(vectors, metric, screen, mirrored)
    scale, sign, terms = swept.ready.frame.scale, -1 if mirrored else 1, swept.terms
    x = canonical(swept, metric)
    t = METRICS[metric].linear(x) * scale * scale
    own, h = terms.own[:, None], terms.h[:, None]
    affinity = (h - t) * sign
    high, low = swept.high.astype(np.float64), swept.low.astype(np.float64)
    doubtful = np.minimum(high + own - affinity, affinity - low + own)
    noise = 2.0**-45 * (np.abs(h) + np.abs(t) + np.abs(high) + np.abs(low) + own)
    for i, j in np.argwhere(~(doubtful > noise)).tolist():
        assert_covered(
            swept, i, j, sign * (Fraction(h[i, 0]) - linear(metric, Fraction(x[i, j])) * Fraction(scale) ** 2)
        )
    if exactly:
        for i, j in [(i, j) for i in range(len(vectors)) for j in range(len(vectors)) if (i + j) % 7 == 0]:
            true = true_linear(metric, swept.stored[i], swept.stored[j])
            assert_covered(swept, i, j, sign * (Fraction(h[i, 0]) - true * Fraction(scale) ** 2))
    half = terms.slack.astype(np.float64) / 2
    return float((np.abs(affinity - (high - half)) / (own + half)).max())


def assert_covered(swept: Swept, i: int, j: int, affinity: Fraction) -> None:
    """Fail unless the affinity of anchor i and candidate j lies within what the sweep knows of it."""
    own, high, low = (Fraction(float(x)) for x in (swept.terms.own[i], swept.high[i, j], swept.low[i, j]))
    assert low - own <= affinity <= high + own, (i, j, float(affinity), float(low), float(high), float(own))


KINDS = (
    "plain", "outlier dimension", "huge and tiny norms", "one huge row", "denormals", "all equal", "nearly equal",
    "one-hot", "signs", "offset", "one sign", "int8", "halves",
)  # fmt: skip


def adversarial(kind: str, d: int, seed: int = 0, n: int = 24) -> np.ndarray[Any, Any]:
    """Two dozen rows, each kind made to hurt one term of the bound."""
    rng = np.random.default_rng([seed, d, *map(ord, kind)])
    rows = rng.normal(size=(n, d))
    if kind == "outlier dimension":
        rows[:, 0] += 1e4
        rows[:, -1] *= 1e4
    elif kind == "huge and tiny norms":
        rows *= 10.0 ** rng.integers(-30, 31, (n, 1))
    elif kind == "one huge row":
        rows[3] *= 1e12
    elif kind == "denormals":
        return (rows * 1e-42).astype(np.float32) + np.float32(2e-45)
    elif kind == "all equal":
        rows[:] = rows[0]
    elif kind == "nearly equal":
        rows = rows[0] + 1e-7 * rows
    elif kind == "one-hot":
        rows = np.eye(d)[rng.integers(0, d, n)] * rng.choice([-3.0, 1.0], (n, 1))
    elif kind == "signs":
        rows = np.where(rng.random((n, d)) < 0.5, -1.0, 1.0) / 3
    elif kind == "offset":
        rows = 1e6 + 1e-3 * rows
    elif kind == "one sign":
        rows = np.abs(rows)  # every product is rounded the same way: errors add up
    elif kind == "int8":
        return rng.choice(np.array([-128, 127, 1], np.int8), (n, d))
    elif kind == "halves":
        rows = halves(rng, d, n)
    return rows


def halves(rng: np.random.Generator, d: int, n: int) -> np.ndarray[Any, Any]:
    """Rows that int8 rounds by half a step in every coordinate, and rows that meet all of that error in one sign."""
    coded = rng.integers(0, 2, (n, d)) + 0.5
    coded[np.arange(n), rng.integers(0, d, n)] = 127
    coded[1::4] = np.where(rng.random(d) < 0.5, 1, -1) * rng.choice([1, 60, 127])
    coded *= np.where(rng.random(d) < 0.5, 1, -1)
    coded[2::4] *= 127 * 2.0 ** rng.integers(-4, 5)
    rows = unrotated(coded)
    rows[3::4] = -rows[1::4]
    rows[2::4] = -rows[::4]
    return rows


@cache
def rotation(d: int) -> np.ndarray[Any, Any]:
    """The rotation of int8 codes as a matrix: rows are turned unit vectors."""
    signs, turned = quantize.rotation_signs(d), np.eye(d)
    for row in turned:
        quantize.rotate(signs, row)
    return turned


def unrotated(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The rows that `rotate` makes these."""
    return rows @ rotation(rows.shape[1]).T


@pytest.mark.parametrize("d", [1, 2, 3, 8, 17, 64, 384, 1000])
def test_the_rotation_keeps_lengths_and_spreads_what_sticks_out(d: int) -> None:
    turned = rotation(d)
    np.testing.assert_allclose(turned @ turned.T, np.eye(d), atol=1e-13)
    if d > 2:
        assert np.abs(turned).max() < 4 * d**-0.5
    rows = np.random.default_rng(d).normal(size=(5, d))
    again = unrotated(rows)
    for row in again:
        quantize.rotate(quantize.rotation_signs(d), row)
    np.testing.assert_allclose(again, rows, atol=1e-13)


@in_turns(screen=SWEPT, metric=["cosine", "euclidean", "dot"], kind=KINDS, d=[1, 3, 17, 64])
def test_the_error_stays_within_its_bound(screen: str, metric: str, kind: str, d: int) -> None:
    """Against the true distance too."""
    used_share(adversarial(kind, d), metric, screen, mirrored=False, exactly=True)


DIMENSIONS = st.one_of(
    st.integers(1, 40),
    st.sampled_from([2**i + j for i in range(6, 13) for j in (-1, 0, 1)]).filter(lambda d: d <= 4096),
    st.integers(41, 4096),
)


@settings(
    max_examples=300, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    DIMENSIONS, st.sampled_from(KINDS), st.sampled_from(KINDS), st.integers(-40, 40), st.sampled_from(list(METRICS)),
    st.booleans(), st.sampled_from(SWEPT), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_no_rows_exceed_the_bound(
    d: int, kind: str, other: str, magnitude: int, metric: str, mirrored: bool, screen: str, seed: int
) -> None:
    """Rows of two kinds, one of them 2^magnitude times as long; the search goes where most of the bound is used."""
    one, two = (adversarial(each if d <= 1024 or each != "halves" else "plain", d, seed, 12) for each in (kind, other))
    if magnitude:
        two = two.astype(np.float64) * 2.0**magnitude
    target(used_share(np.concatenate([one, two]), metric, screen, mirrored), label=screen)


@in_turns(screen=SWEPT, metric=METRICS, kind=KINDS)
def test_the_error_of_the_mirrored_problem(screen: str, metric: str, kind: str) -> None:
    """The farthest are the nearest of the problem with products and biases negated."""
    used_share(adversarial(kind, 17), metric, screen, mirrored=True, exactly=True)


@pytest.mark.parametrize("d", [64, 384, 1024])
def test_the_bound_of_float32_is_nearly_reached(d: int) -> None:
    """Products just below half a unit of the first one, each of them swallowed."""
    row = np.full(d, 0.99 * 2.0**-12)
    row[0] = 1.0
    vectors = np.stack([row, -row, row, -row]).astype(np.float32)  # centred where they are
    assert 0.75 < used_share(vectors, "euclidean", "f32", mirrored=False) <= 1.0


@pytest.mark.skipif("i8" not in SWEPT, reason="this processor has no dot products of bytes")
@pytest.mark.parametrize("d", [64, 384, 1000])
def test_the_bound_of_int8_is_nearly_reached(d: int) -> None:
    """An error that points where the other row does, and that row as long as makes the bound tight."""
    anchor = np.full(d, 0.499)
    anchor[0] = 127
    usual = math.sqrt(math.log(2 * d) / 6) / 127
    column = np.full(d, 0.5 / usual)
    vectors = unrotated(np.stack([anchor, -anchor, column, -column]))
    assert 0.9 < used_share(vectors, "euclidean", "i8", mirrored=False) <= 1.0


def half_widths(vectors: np.ndarray[Any, Any], metric: str, screen: str) -> np.ndarray[Any, Any]:
    """The shares of row and column of every pair, as linear distances."""
    swept = swept_rows(vectors, metric, screen, False)
    shares = swept.terms.own[:, None] + swept.terms.slack.astype(np.float64) / 2
    return shares / swept.ready.frame.scale**2


@pytest.mark.parametrize(("screen", "most"), [("f32", 3e-5), ("i16", 4e-4), ("i8", 0.02)])
def test_the_bound_is_of_use(screen: str, most: float) -> None:
    """Unit rows of 384 coordinates, and such with a coordinate that sticks out, which the rotation takes away."""
    if screen not in SWEPT:
        pytest.skip("this processor has no dot products of bytes")
    rows = np.random.default_rng(0).normal(size=(200, 384))
    assert half_widths(rows, "cosine", screen).max() < most
    rows[:, 7] *= 30
    assert half_widths(rows, "cosine", screen).max() < most


@pytest.mark.parametrize("screen", SWEPT)
def test_a_long_row_widens_its_own_gates_only(screen: str) -> None:
    rows = np.random.default_rng(0).normal(size=(100, 64))
    rows[1::2] = -rows[::2]  # centred where they are
    before = half_widths(rows, "euclidean", screen)
    rows[98:] *= 1000
    after = half_widths(rows, "euclidean", screen)
    np.testing.assert_allclose(after[:98, :98], before[:98, :98], rtol=1e-6)
    assert after[98, 98] > 1e5 * before[98, 98]


@pytest.mark.parametrize("name", [name for name, shape in TILES.items() if shape.screen == "i8"])
@pytest.mark.parametrize("mirrored", [False, True])
def test_sides_suit_every_int8_tile(name: str, mirrored: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Accumulators of unsigned rows start where 128 times the column's codes are taken off, those of others at 0."""
    shape, n = TILES[name], 50
    monkeypatch.setattr(screens, "host_tile", lambda screen: shape)
    rows = np.random.default_rng(0).normal(size=(n, 30))
    with sweeping(loaded_rows(rows, "euclidean"), "euclidean", "i8", mirrored) as search:
        left, right = (search._side(0, n, rows=each) for each in (True, False))
        z = (rows - rows.mean(axis=0))[search.order.slot[:n]] * search.loaded.frame.scale
    (a, scale_a), (b, scale_b) = (
        (
            side.panels.swapaxes(1, 2).reshape(-1, side.panels.shape[1]).view(kind).astype(np.int64)[:n],
            side.terms[:, SCALE].reshape(-1)[:n].astype(np.float64),
        )
        for side, kind in ((left, np.uint8 if shape.unsigned_rows else np.int8), (right, np.int8))
    )
    products = (a @ b.T + right.start[:, 0].reshape(-1)[:n]) * scale_a[:, None] * scale_b
    expected = (-1 if mirrored else 1) * (z @ z.T)
    np.testing.assert_allclose(products, expected, atol=0.02 * np.abs(expected).max())
    assert (right.start[:, 0].reshape(-1)[n:] == 0).all()


def test_columns_that_are_no_rows_pass_no_gate() -> None:
    assert quantize.PAD < sweep.UNGATED < -(2.0**29)
    assert math.isinf(sweep.CLOSED)


def test_a_screen_that_cannot_be_had_is_replaced_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screens, "usable_screens", lambda dimension: ["f32"])
    vectors, labels = np.random.default_rng(0).standard_normal((80, 4)), np.arange(80) % 4
    found, expected = (mine_arrays(vectors, labels, screen=screen) for screen in ("i8", "f32"))
    assert found.table().equals(expected.table())
    assert [note for note in found.notes if "i8" in note] == [
        "screen 'i8' is not for this processor, or not for rows of this length: 'f32' is used"
    ]
    assert not any("f32" in note for note in expected.notes)


@settings(deadline=None)
@given(st.lists(st.integers(0, 99), max_size=300), st.sets(st.integers(1, 99), max_size=9))
def test_survivors_are_partitioned_by_ranges_of_anchors(anchors: list[int], cuts: set[int]) -> None:
    """Each keeps its candidate and affinity, and what lies behind the last stays where it is."""
    anchor, first = np.array([*anchors, 7], np.int32), np.array([0, *sorted(cuts)], np.int64)
    candidate = np.arange(anchor.size, dtype=np.int32)
    found = sweep.Survivors(anchor.copy(), candidate.copy(), candidate.astype(np.float32))
    bounds = np.empty(first.size + 1, np.int64)
    refine.partition(found, len(anchors), first, bounds)
    assert (bounds[0], bounds[-1]) == (0, len(anchors))
    place = np.repeat(np.arange(first.size), np.diff(bounds))
    assert (place == np.searchsorted(first, found.anchor[:-1], side="right") - 1).all()
    assert (found.anchor == anchor[found.candidate]).all()
    assert (found.high == found.candidate).all()
    assert sorted(found.candidate) == candidate.tolist()
    assert found.candidate[-1] == candidate[-1]
