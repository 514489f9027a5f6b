"""The sweep on worlds that float32 finds hard: the scan's rows, certified or looked at again; and its proven error."""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import distance_sample, mined, our_modules, set_sizes
from worlds import World, clustered

from minestream import search
from minestream.config import split_options
from minestream.kernels import exact, sweep
from minestream.kernels.compiled import kernel
from minestream.kernels.tile import TILES, address, host_tile, tile_f32
from minestream.load import Loaded, load
from minestream.metric import METRICS
from minestream.progress import reporter
from minestream.source import arrays_source

# ---------------------------------------------------------------- worlds


def blobs() -> World:
    return World(*clustered(30, [40] * 200, 16))


def tight_classes() -> World:
    """As after training: a class is a point for float32, and every negative lies as far as the next class."""
    rows, labels = clustered(31, [50] * 100, 24, spread=1e-4)
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


WORLDS: dict[str, Callable[[], World]] = {
    make.__name__: make
    for make in (
        blobs, tight_classes, heavy_duplicates, sorted_by_distance, nearest_first, one_long_row, far_offset,
        magnitudes, integer_grid, multi_label, larger,
    )
}  # fmt: skip

CASES: dict[str, dict[str, Any]] = {
    "nearest": {"band": "any", "negatives": 1},
    "nearest, 16": {"band": "any", "negatives": 16, "skip": 3},
    "semi-hard": {"negatives": 2},
    "semi-hard, random positives": {"positives": "random", "positives_per_anchor": 4, "negatives": 3},
    "semi-hard, hardest positives": {"positives": "hardest", "positives_per_anchor": 3, "negatives": 3},
    "violating, easiest positives": {"band": "violating", "positives_per_anchor": 5, "negatives": 2},
    "random": {"pick": "random", "positives_per_anchor": 2, "negatives": 4},
    "random of any": {"pick": "random", "band": "any", "negatives": 4},
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
def world(name: str) -> World:
    return WORLDS[name]()


def fitted(name: str, case: str, metric: str) -> dict[str, Any]:
    """A case with a margin and a threshold that this world's own distances fill."""
    options = dict(CASES[case])
    near = np.sort(np.abs(sampled_distances(name, metric)))
    # Where classes are tight the margin must reach from one into the next; all pairs of a wide one would be many.
    share = 0.005 if options.get("negatives") == 0 else 1.0 if name == "tight_classes" else 0.3
    options["margin"] = float(np.quantile(near, share))
    if options.get("drop_duplicates_within") == "T":
        options["drop_duplicates_within"] = 0.0 if metric == "dot" else float(np.quantile(near, 0.002)) / 2
    return {"metric": metric, "anchors": "80", "seed": 5, "float64": True, **options}


@cache
def sampled_distances(name: str, metric: str) -> np.ndarray[Any, Any]:
    return distance_sample(world(name), metric)


def assert_screens_agree(name: str, may_be_empty: bool = False, **options: Any) -> Any:
    """The scan's table from the sweep; returns the sweep's counters."""
    scanned, swept = (mined(world(name), screen, **options) for screen in ("scan", "f32"))
    assert swept.table().equals(scanned.table())
    assert swept.stats.answer() == scanned.stats.answer()
    assert scanned.stats.rows > 0 or may_be_empty
    assert scanned.stats.survivors == 0
    return swept.stats


def metric_of(name: str, case: str) -> str:
    """Metrics take turns over the table of cases; all of them run with -m slow."""
    usual = ["cosine", "euclidean", "sqeuclidean", "dot"]
    if CASES[case].get("emit") == "pairs":
        usual = usual[:2]
    if name == "far_offset":
        usual.remove("cosine")  # seen from the origin all rows are one: no distance but 0 and its rounding
    return usual[(list(WORLDS).index(name) + list(CASES).index(case) // 2) % len(usual)]


# Like the squares of a board: each world meets half of the cases, each case half of the worlds.
BOARD = [(name, case) for i, name in enumerate(WORLDS) for j, case in enumerate(CASES) if (i + j) % 2 == 0]


@pytest.mark.parametrize(("name", "case"), BOARD)
def test_sweep_and_scan_find_the_same(name: str, case: str) -> None:
    stats = assert_screens_agree(name, **fitted(name, case, metric_of(name, case)))
    assert stats.survivors > 0, "the sweep was not used"


@pytest.mark.slow
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", WORLDS)
def test_sweep_and_scan_find_the_same_by_every_metric(name: str, case: str, metric: str) -> None:
    if CASES[case].get("emit") == "pairs" and metric in ("sqeuclidean", "dot"):
        pytest.skip("refused")
    assert_screens_agree(name, may_be_empty=True, **fitted(name, case, metric))


# ---------------------------------------------------------------- certified, or looked at again


@pytest.mark.parametrize("case", ["nearest", "nearest, 16", "semi-hard", "random", "all pairs"])
@pytest.mark.parametrize("name", ["blobs", "sorted_by_distance", "nearest_first", "one_long_row", "larger"])
def test_ordinary_data_needs_no_scan(name: str, case: str) -> None:
    stats = assert_screens_agree(name, **fitted(name, case, "euclidean"))
    assert stats.scanned_anchors == 0
    assert stats.resweeps == 0


def test_ordinary_data_needs_few_exact_distances() -> None:
    """What the probe is for: of an anchor's 8,000 rows all but some dozens are never looked at again."""
    stats = assert_screens_agree("blobs", **fitted("blobs", "nearest", "cosine"))
    assert stats.survivors < 80 * 100


def test_ties_beyond_counting_go_to_the_scan() -> None:
    """More rows at one distance than are kept: 6,000 rows, of which the float32 gates can drop none."""
    rng = np.random.default_rng(3)
    rows = np.concatenate([np.ones((6000, 4)), rng.normal(size=(40, 4))]).astype(np.float32)
    flat = World(rows, rng.integers(0, 9, 6040).tolist())
    options = {"metric": "euclidean", "band": "any", "drop_duplicates_within": None, "anchors": "60"}
    scanned, swept = (mined(flat, screen, **options) for screen in ("scan", "f32"))
    assert swept.table().equals(scanned.table())
    assert swept.stats.scanned_anchors > 30


def test_weighted_picks_are_scanned_from_the_start() -> None:
    options = {"pick": "weighted", "band": "any", "negatives": 2, "anchors": "60"}
    scanned, swept = (mined(world("blobs"), screen, **options) for screen in ("scan", "f32"))
    assert swept.table().equals(scanned.table())
    assert swept.stats.resweeps == 0


def test_a_crowd_goes_to_the_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    """No certificate, no answer: where every anchor counts as uncertain, all are swept thrice and then scanned."""
    options = fitted("blobs", "nearest", "cosine")
    expected = mined(world("blobs"), "scan", **options).table()

    def nothing_certified(self: Any, rule: Any) -> np.ndarray[Any, Any]:
        return np.zeros(self.anchors.size, bool)

    classes = [value for module in our_modules() for value in vars(module).values() if isinstance(value, type)]
    certifying = {each for each in classes if "_certified" in vars(each)}
    assert len(certifying) == 1
    monkeypatch.setattr(certifying.pop(), "_certified", nothing_certified)
    found = mined(world("blobs"), "f32", **options)
    assert found.table().equals(expected)
    # Positives and negatives, 80 anchors each.
    assert found.stats.scanned_anchors >= 2 * 80
    assert found.stats.resweeps == (len(search.RETRIES) - 1) * found.stats.scanned_anchors


def test_near_duplicates_of_the_positive_are_no_certificate() -> None:
    """A row within T of one positive counts for no pair of that positive, however many other rows were kept."""
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(40, 3)), rng.normal(size=(4960, 3)) * 0.02 + [2, 0, 0]])
    labels = (np.arange(5000) % 50).tolist()
    crowded = World(rows.astype(np.float32), labels)
    for pick, within in (("nearest", 0.05), ("random", 0.02), ("random", 0.3)):
        options = {
            "metric": "euclidean", "band": "any", "pick": pick, "negatives": 3, "positives": "random",
            "positives_per_anchor": 4, "drop_duplicates_within": within, "anchors": "80",
        }  # fmt: skip
        scanned, swept = (mined(crowded, screen, **options) for screen in ("scan", "f32"))
        assert swept.table().equals(scanned.table()), options


@pytest.mark.parametrize("metric", ["euclidean", "sqeuclidean"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_negatives_on_the_very_edge_of_a_band(metric: str, seed: int) -> None:
    """The nearest positive has a copy among the negatives; the error of a long anchor is far larger than theirs."""
    rng = np.random.default_rng(seed)
    long, short = 1000 * rng.normal(size=(60, 12)), rng.normal(size=(60, 12))
    rows = np.concatenate([long, short, short]).astype(np.float32)
    labels = [row % 3 for row in range(120)] + [3 + row % 3 for row in range(60)]
    edges = World(rows, labels)
    options = {
        "metric": metric, "band": "hard", "margin": 1.0, "drop_duplicates_within": None, "negatives": 5,
    }  # fmt: skip
    scanned, swept = (mined(edges, screen, **options) for screen in ("scan", "f32"))
    assert swept.table().equals(scanned.table())
    assert scanned.stats.rows > 0


def test_buffers_and_strips_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    options = fitted("blobs", "nearest, 16", "euclidean")
    expected = mined(world("blobs"), "scan", **options).table()
    set_sizes(monkeypatch, BUFFER_ENTRIES=1, STRIP_ROWS=7, UNIT_BYTES=1, PROBE_ROWS=3)
    assert mined(world("blobs"), "f32", block_rows=1111, **options).table().equals(expected)


# ---------------------------------------------------------------- the proven error


@kernel
def _affinities(
    strip: np.ndarray, code: np.ndarray, block: np.ndarray, bias: np.ndarray, gates: np.ndarray, mask: np.ndarray,
    out: np.ndarray,
) -> None:  # fmt: skip
    tile_f32(
        address(strip, 0), address(block, 0), strip.shape[1], address(bias, 0), address(code, 0), address(gates, 0),
        address(gates, gates.shape[1]), address(gates, 2 * gates.shape[1]), address(gates, 3 * gates.shape[1]),
        address(code, 0), address(mask, 0), address(out, 0),
    )  # fmt: skip


def tile_affinities(rows: sweep.Prepared, columns: sweep.Prepared, mirrored: bool) -> np.ndarray[Any, Any]:
    """float32 (rows, columns), by the tile itself."""
    tile = TILES[host_tile()]
    m, n, d = len(rows.z), len(columns.z), rows.z.shape[1]
    out = np.empty((m, n), np.float32)
    mask, acc = np.zeros(tile.rows, np.uint64), np.empty((tile.rows, tile.columns), np.float32)
    gates = np.repeat(np.array([[-np.inf], [np.inf], [-np.inf], [np.inf]], np.float32), tile.rows, axis=1)
    code = np.zeros(max(tile.rows, tile.columns), np.int32)
    for first in range(0, m, tile.rows):
        strip = np.empty((1, d, tile.rows), np.float32)
        sweep.pack_panels(rows.z, np.arange(first, min(m, first + tile.rows)), mirrored, strip)
        for start in range(0, n, tile.columns):
            block = np.empty((1, d, tile.columns), np.float32)
            end = min(n, start + tile.columns)
            sweep.pack_panels(columns.z, np.arange(start, end), False, block)
            bias = np.zeros(tile.columns, np.float32)
            bias[: end - start] = columns.bias[start:end]
            _affinities(strip, code, block, bias, gates, mask, acc)
            out[first : first + tile.rows, start:end] = acc[: m - first, : end - start]
    return out


def loaded_rows(vectors: np.ndarray[Any, Any], metric: str) -> Loaded:
    labels = np.arange(len(vectors)) % 2
    config, _ = split_options({"metric": metric, "band": "any"})
    source = arrays_source(vectors, labels, metric=metric)
    with reporter("none", None) as progress:
        return load(source, config, 2**30, Path("."), progress)


def prepared(ready: Loaded, vectors: np.ndarray[Any, Any], mirrored: bool) -> sweep.Prepared:
    m, d = vectors.shape
    out = sweep.Prepared(
        np.empty((m, d), np.float32), np.empty(m), np.empty(m, np.float32), np.empty(m, np.float32), np.empty(m)
    )
    sweep.prepare(ready.frame, vectors, ready.rows.square, mirrored, out)
    return out


def linear(metric: str, x: Fraction) -> Fraction:
    """The linear distance of a canonical one, without rounding."""
    return {"cosine": x, "euclidean": x * x / 2, "sqeuclidean": x / 2, "dot": x}[metric]


def true_linear(metric: str, a: list[Fraction], b: list[Fraction]) -> Fraction:
    """The linear distance in exact arithmetic (cosine: to a hundred digits)."""
    if metric in ("euclidean", "sqeuclidean"):
        return sum(((x - y) ** 2 for x, y in zip(a, b, strict=True)), Fraction()) / 2
    product = sum((x * y for x, y in zip(a, b, strict=True)), Fraction())
    if metric == "dot":
        return -product
    squares = sum((x * x for x in a), Fraction()) * sum((y * y for y in b), Fraction())
    with localcontext() as context:
        context.prec = 100
        norms = (Decimal(squares.numerator) / Decimal(squares.denominator)).sqrt()
    return 1 - product / Fraction(norms)


def adversarial(kind: str, d: int) -> np.ndarray[Any, Any]:
    """Two dozen rows, each kind made to hurt one term of the bound."""
    rng = np.random.default_rng([d, *map(ord, kind)])
    rows = rng.normal(size=(24, d))
    if kind == "outlier dimension":
        rows[:, 0] += 1e4
        rows[:, -1] *= 1e4
    elif kind == "huge and tiny norms":
        rows *= 10.0 ** rng.integers(-30, 31, (24, 1))
    elif kind == "one huge row":
        rows[3] *= 1e12
    elif kind == "denormals":
        return (rows * 1e-42).astype(np.float32) + np.float32(2e-45)
    elif kind == "all equal":
        rows[:] = rows[0]
    elif kind == "nearly equal":
        rows = rows[0] + 1e-7 * rows
    elif kind == "one-hot":
        rows = np.eye(d)[rng.integers(0, d, 24)] * rng.choice([-3.0, 1.0], (24, 1))
    elif kind == "signs":
        rows = np.where(rng.random((24, d)) < 0.5, -1.0, 1.0) / 3
    elif kind == "offset":
        rows = 1e6 + 1e-3 * rows
    elif kind == "one sign":
        rows = np.abs(rows)  # every product is rounded the same way: errors add up
    elif kind == "int8":
        return rng.choice(np.array([-128, 127, 1], np.int8), (24, d))
    return rows


KINDS = (
    "plain", "outlier dimension", "huge and tiny norms", "one huge row", "denormals", "all equal", "nearly equal",
    "one-hot", "signs", "offset", "one sign", "int8",
)  # fmt: skip


def assert_bounds_hold(vectors: np.ndarray[Any, Any], metric: str, mirrored: bool, exactly: bool = True) -> None:
    """The shares of row and column cover the error against the canonical distance, and against the true one."""
    ready = loaded_rows(vectors, metric)
    stored = ready.store.block(0, len(vectors))
    part = prepared(ready, stored, mirrored)
    high = tile_affinities(part, part, mirrored)
    low = high - part.slack[None, :] * np.float32(1.001)  # as the sweep does
    scale = Fraction(ready.frame.scale) ** 2
    squares, rows = ready.rows.square, np.arange(len(vectors))
    as_fractions = [[Fraction(x) for x in row] for row in stored.astype(np.float64).tolist()]
    x = np.empty(len(vectors))
    for i in range(0, len(vectors), 1 if exactly and vectors.shape[1] < 100 else 7):
        anchor = stored[i].astype(np.float64)
        code = METRICS[metric].code
        exact.distances_to(code, anchor, squares[i], stored, squares, rows, rows.astype(np.int32), x)
        own, h = Fraction(part.own[i]), Fraction(part.h[i])
        for j in range(len(vectors)):
            answers = {"canonical": linear(metric, Fraction(x[j]))}
            if exactly and (i + j) % 3 == 0:
                answers["true"] = true_linear(metric, as_fractions[i], as_fractions[j])
            for what, t in answers.items():
                affinity = (h - t * scale) * (-1 if mirrored else 1)
                context = (metric, what, i, j, float(affinity), high[i, j], low[i, j], float(own))
                assert affinity <= Fraction(float(high[i, j])) + own, context
                assert affinity >= Fraction(float(low[i, j])) - own, context
                share = Fraction(float(part.slack[j])) / 2
                # The share is in the bias already: without it, the error of the float32 value itself.
                assert abs(affinity - (Fraction(float(high[i, j])) - share)) <= own + share * Fraction(1001, 1000), (
                    context
                )


@pytest.mark.parametrize("d", [1, 2, 3, 17, 64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_the_error_stays_within_its_bound(metric: str, kind: str, d: int) -> None:
    assert_bounds_hold(adversarial(kind, d), metric, mirrored=False)


@pytest.mark.parametrize("d", [384, 1024])
@pytest.mark.parametrize("kind", ["outlier dimension", "huge and tiny norms", "one sign", "int8", "all equal"])
@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_the_error_stays_within_its_bound_in_many_dimensions(metric: str, kind: str, d: int) -> None:
    assert_bounds_hold(adversarial(kind, d), metric, mirrored=False, exactly=d < 1024)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("metric", METRICS)
def test_the_error_of_the_mirrored_problem(metric: str, kind: str) -> None:
    """The farthest are the nearest of the problem with z_a and the biases negated."""
    assert_bounds_hold(adversarial(kind, 17), metric, mirrored=True)


@pytest.mark.parametrize("d", [64, 384, 1024])
def test_the_bound_is_nearly_reached(d: int) -> None:
    """Products just below half a unit of the bias, each of them swallowed: nearly half of the bound is used up."""
    column, anchor = np.full(d, 2.0**-7), np.full(d, 0.99 * 2.0**-18)
    column[0], anchor[0] = 1.0, 0.0
    vectors = np.stack([column, -column, anchor, -anchor]).astype(np.float32)  # centred where they are
    assert_bounds_hold(vectors, "euclidean", mirrored=False)
    ready = loaded_rows(vectors, "euclidean")
    part = prepared(ready, vectors, False)
    found = tile_affinities(part, part, False).astype(np.float64) - part.slack / 2
    z = vectors.astype(np.float64)
    t = ((z[:, None] - z[None]) ** 2).sum(axis=2) / 2 * ready.frame.scale**2
    shares = part.own[:, None] + part.slack[None, :] / 2
    assert 0.3 < (np.abs(part.h[:, None] - t - found) / shares).max() <= 1.0


def test_columns_that_are_no_rows_pass_no_gate() -> None:
    assert sweep.PAD < sweep.UNGATED < -(2.0**29)
    assert math.isinf(sweep.CLOSED)
