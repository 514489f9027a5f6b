"""Canonical distances: no fused multiply-add in the machine code, and the reference's bits in every value."""

from __future__ import annotations

import math
import re
from typing import Any

import numba
import numpy as np
import pytest
from numba.core.caching import NullCache
from support import assert_sides_agree
from worlds import World

from minestream import reference
from minestream.config.metrics import METRICS
from minestream.kernels import distances, refine, scan
from minestream.kernels.jit import KernelDispatcher, kernel
from minestream.mining.arrays import mine_arrays

FUSED = re.compile(r"\b(v?fn?m(add|sub)\w*|fml[as]\w*)\b")  # x86 vfmadd..., arm64 fmadd, fmla
PRODUCT = re.compile(r"\b(v?mul[sp]d|fmul)\b")
PACKED_PRODUCT = re.compile(r"\b(v?mulpd|fmul\s+v\d|fmul\.2d)")
EXACT = ("squares", "distances_to", "paired_distances", "scan", "refine", "collect")
DTYPES = ("float32", "float64", "int8")


def rows_of(dtype: str, n: int, d: int, seed: int = 0) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng([seed, n, d])
    if dtype == "int8":
        found = rng.integers(-128, 128, (n, d)).astype(np.int8)
        found[:, 0] |= 1
        return found
    return (rng.normal(size=(n, d)) * 10.0 ** rng.integers(-3, 4, (n, 1))).astype(dtype)


# ---------------------------------------------------------------- machine code


def assembly_of(dispatcher: Any, signature: Any) -> str:
    """The machine code of one signature, compiled anew: what is loaded from disk has no text."""
    fresh = KernelDispatcher(dispatcher.py_func, targetoptions=dict(dispatcher.targetoptions))
    fresh._cache = NullCache()
    fresh.compile(signature)
    return str(fresh.inspect_asm(fresh.signatures[0]))


def kernels_of(module: Any) -> dict[str, Any]:
    found = {name: value for name, value in vars(module).items() if isinstance(value, KernelDispatcher)}
    return {name: value for name, value in found.items() if value.py_func.__module__ == module.__name__}


@pytest.mark.parametrize("names", [EXACT[:3], pytest.param(EXACT[3:], marks=pytest.mark.slow)], ids=" ".join)
def test_exact_and_scan_hold_no_fused_multiply_add(names: tuple[str, ...]) -> None:
    """Fused, a product is not rounded: other values, and other ones on every processor.

    The long kernels, which take as long to compile as to test all else here, call the short ones: -m slow. Their values
    are those of test_every_distance_of_a_scan.
    """
    vectors = rows_of("float32", 40, 19)
    labels = np.arange(40) % 4
    canonical("cosine", vectors, np.arange(40))  # so that kernels called by kernels have a signature of their own
    for screen, normalize in (("scan", True), ("f32", False)):
        mine_arrays(vectors, labels, metric="euclidean", margin=1.0, swap=True, screen=screen, normalize=normalize)
    mine_arrays(vectors, labels, metric="euclidean", margin=1.0, emit="pairs", negatives=0, screen="f32")
    found = kernels_of(distances) | kernels_of(scan) | kernels_of(refine)
    assert found.keys() >= set(EXACT)
    for name, dispatcher in found.items():
        assert not dispatcher.targetoptions.get("fastmath"), name
        if name in names:
            text = assembly_of(dispatcher, dispatcher.signatures[0])
            assert not FUSED.search(text), (name, FUSED.search(text))
            assert PRODUCT.search(text), f"{name}: this is no machine code of sums of products"
            if name == "distances_to":
                assert PACKED_PRODUCT.search(text), "eight pairs are not side by side"


def test_the_search_for_fused_multiply_adds_finds_them() -> None:
    @numba.njit(fastmath={"contract"})
    def fused(a: Any, b: Any) -> float:
        total = 0.0
        for j in range(a.size):
            total += a[j] * b[j]
        return total

    fused(np.ones(4), np.ones(4))
    host = numba.core.codegen.get_host_cpu_features()
    if "+fma" not in host and "+neon" not in host:
        pytest.skip("this processor has no fused multiply-add")
    assert FUSED.search(str(fused.inspect_asm(fused.signatures[0])))


# ---------------------------------------------------------------- values


def canonical(metric: str, vectors: np.ndarray[Any, Any], rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """distances_to from row 0 to `rows`."""
    square = np.empty(len(vectors))
    distances.squares(vectors, square)
    out = np.empty((rows.size + 7) // 8 * 8)
    anchor = vectors[0].astype(np.float64)
    distances.distances_to(METRICS[metric].code, anchor, square[0], vectors, square, rows, rows.astype(np.int32), out)
    return out[: rows.size]


def total_in_order(differences: bool, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    """One pair, coordinate by coordinate, by Python."""
    total = 0.0
    for x, y in zip(map(float, a), map(float, b), strict=True):
        total += (x - y) * (x - y) if differences else x * y
    return total


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", METRICS)
def test_distances_are_the_references_bit_for_bit(metric: str, dtype: str) -> None:
    for d in [*range(1, 41), 63, 64, 65, 99, 100, 384]:
        vectors = rows_of(dtype, 21, d)
        rows = np.random.default_rng(d).permutation(21)[: 1 + d % 21]  # not a multiple of the eight side by side
        expected = reference.Vectors(vectors, metric, False, np.arange(21)).distances(0, rows)
        found = canonical(metric, vectors, rows)
        np.testing.assert_array_equal(found.view(np.int64), expected.view(np.int64), err_msg=f"d = {d}")


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("metric", ["sqeuclidean", "dot"])
def test_eight_pairs_side_by_side_add_as_one_alone(metric: str, dtype: str) -> None:
    """Over rows whose sums depend on the order, at any alignment, the same row twice among the eight."""
    differences = metric == "sqeuclidean"
    for d in [*range(1, 41), 384]:
        vectors = rows_of(dtype, 12, d, seed=1)
        if dtype != "int8":
            vectors *= (10.0 ** np.random.default_rng(d).integers(-4, 5, d)).astype(dtype)
        rows = np.random.default_rng(d).integers(0, 12, 1 + d % 19)
        totals = [total_in_order(differences, vectors[0], vectors[row]) for row in rows]
        expected = np.array([total if differences else 0.0 - total for total in totals])
        side_by_side = canonical(metric, vectors, rows)
        alone = np.concatenate([canonical(metric, vectors, rows[i : i + 1]) for i in range(rows.size)])
        np.testing.assert_array_equal(side_by_side.view(np.int64), expected.view(np.int64), err_msg=f"d = {d}")
        np.testing.assert_array_equal(alone.view(np.int64), expected.view(np.int64), err_msg=f"d = {d}")
        wide = vectors.astype(np.float64)
        found = [distances.pair_total(METRICS[metric].code, wide[0], wide[row]) for row in rows]
        assert found == totals


@pytest.mark.parametrize("metric", METRICS)
def test_paired_distances_are_the_same(metric: str) -> None:
    for dtype in DTYPES:
        vectors = rows_of(dtype, 30, 37)
        square, out = np.empty(30), np.empty(30)
        distances.squares(vectors, square)
        right = np.roll(np.arange(30), 7)
        distances.paired_distances(METRICS[metric].code, vectors, square, vectors[right], square[right], out)
        whole = reference.Vectors(vectors, metric, False, np.arange(30))
        expected = np.concatenate([whole.distances(i, right[i : i + 1]) for i in range(30)])
        np.testing.assert_array_equal(out.view(np.int64), expected.view(np.int64))


def test_a_row_is_at_cosine_distance_zero_from_itself() -> None:
    vectors = rows_of("float32", 200, 19)
    for row in range(200):
        pair = vectors[[row, row]]
        assert canonical("cosine", pair, np.array([0, 1])).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [*DTYPES, "float16"])
@pytest.mark.parametrize("metric", METRICS)
def test_every_distance_of_a_scan(metric: str, dtype: str) -> None:
    """All pairs in double, so that each bit of each distance is in the answer."""
    for d, n, normalize in ((1, 31, False), (2, 32, False), (7, 33, True), (64, 65, False), (100, 40, True)):
        vectors = rows_of("float32", n, d).astype(dtype) if dtype == "float16" else rows_of(dtype, n, d)
        world = World(vectors, (np.arange(n) % 3).tolist())
        rows = assert_sides_agree(
            world, metric=metric, margin=1.0, band="any", negatives=n, positives="all", float64=True,
            normalize=normalize, anchors="9", drop_duplicates_within=None,
        )  # fmt: skip
        assert rows > 9 * n


# ---------------------------------------------------------------- log, exp, log1p, sqrt


@kernel
def elementary(values: np.ndarray, out_log: np.ndarray, out_exp: np.ndarray, out_log1p: np.ndarray) -> None:
    for i in range(values.size):
        out_log[i] = math.log(values[i])
        out_exp[i] = math.exp(-values[i])
        out_log1p[i] = math.log1p(values[i])


@kernel
def roots(values: np.ndarray, out_root: np.ndarray) -> None:
    for i in range(values.size):
        out_root[i] = math.sqrt(values[i])


def test_elementary_functions_are_those_of_python() -> None:
    """The compiled loop and the reference must call the same scalar functions, never a vectorised look-alike."""
    rng = np.random.default_rng(0)
    around_one, anywhere = 1 + 1e-8 * rng.normal(size=2000), 10.0 ** rng.uniform(-300, 300, 3000)
    values = np.concatenate([rng.random(4000), around_one, anywhere, 700 * rng.random(997)])
    values = np.concatenate([values, [5e-324, 1.0, np.finfo(float).max]])
    assert values.size == 10_000
    log, exp, log1p, root = (np.empty(values.size) for _ in range(4))
    elementary(values, log, exp, log1p)
    roots(values, root)
    listed = values.tolist()
    assert log.tolist() == [math.log(v) for v in listed]
    assert exp.tolist() == [math.exp(-v) for v in listed]
    assert log1p.tolist() == [math.log1p(v) for v in listed]
    assert root.tolist() == [math.sqrt(v) for v in listed]
