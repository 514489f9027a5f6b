"""The rotation of int8 codes to principal axes: its bound, and tiles that stop behind the prefix."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, target
from hypothesis import strategies as st
from support import always_turned, loaded_rows
from test_search import KINDS, SWEPT, adversarial, sweeping, used_share

import minestream
from minestream.config.metrics import METRICS
from minestream.kernels import quantize
from minestream.kernels.jit import kernel
from minestream.kernels.sweep import Scratch
from minestream.kernels.tile import CHECKED, STOPPED
from minestream.kernels.tile_shapes import host_tile
from minestream.kernels.units import CHECK_WORDS
from minestream.search import rotation, screens
from minestream.search.screens import Codes

pytestmark = pytest.mark.skipif("i8" not in SWEPT, reason="this processor has no dot products of bytes")
Array = np.ndarray[Any, Any]


def steep(n: int, d: int, seed: int = 0) -> Array:
    """Rows that differ most along few directions, none of them a coordinate."""
    rng = np.random.default_rng(seed)
    axes, _ = np.linalg.qr(rng.normal(size=(d, d)))
    return (rng.normal(size=(n, d)) * 0.02 ** (np.arange(d) / d)) @ axes.T + rng.normal(size=d)


def scratches(monkeypatch: pytest.MonkeyPatch) -> list[Scratch]:
    """What all tasks from now on work in."""
    made: list[Scratch] = []
    plain = Codes.scratch
    monkeypatch.setattr(Codes, "scratch", lambda *given, **more: made.append(plain(*given, **more)) or made[-1])
    return made


def matrix_of(found: Any, d: int) -> Array:
    """The rotation as a matrix, float64 (d, d): rows are the directions of coordinates."""
    panels = found.axes.swapaxes(1, 2).reshape(-1, d)
    assert not panels[d:].any()
    return panels[:d].astype(np.float64)


@pytest.mark.parametrize("d", [8, 48, 100, 129])
def test_axes_keep_products_and_bring_the_length_to_the_front(d: int) -> None:
    rows = steep(600, d)
    with always_turned():
        found = rotation.rotation_of(loaded_rows(rows, "euclidean"))
    matrix = matrix_of(found, d)
    assert found.axes.shape == (-(-d // host_tile("f32").columns), d, host_tile("f32").columns)
    assert np.linalg.norm(matrix.T @ matrix - np.eye(d)) <= found.defect < 1e-5
    turned = (rows - rows.mean(axis=0)) @ matrix.T
    behind = np.square(turned[:, found.prefix :]).sum() / np.square(turned).sum()
    assert found.prefix % 4 == 0
    assert behind <= 0.126
    assert found.shift == round(float(np.clip(
        np.log2(np.square(turned[:, : found.prefix]).mean() / np.square(turned[:, found.prefix :]).mean()), 0, 5
    )))  # fmt: skip
    for part in (turned[:, : found.prefix], turned[:, found.prefix :]):  # none is far larger than the others
        assert np.square(part).mean(axis=0).max() < 8 * np.square(part).mean()


def test_rows_that_differ_alike_in_all_directions_are_not_turned() -> None:
    rows = np.random.default_rng(0).normal(size=(15_000, 256))
    assert rotation.rotation_of(loaded_rows(rows, "cosine")).axes.shape[0] == 0
    assert rotation.rotation_of(loaded_rows(steep(15_000, 256), "cosine")).axes.shape[0]
    few = rotation.rotation_of(loaded_rows(steep(12_000, 256), "cosine"))
    assert (few.axes.shape[0], few.prefix, few.shift) == (0, 256, 0)
    assert rotation.rotation_of(loaded_rows(steep(15_000, 255), "cosine")).axes.shape[0] == 0


@pytest.mark.parametrize("times", [1e-60, 1e60])
def test_rows_of_any_size_are_turned_alike(times: float) -> None:
    """In the frame they are of one size."""
    with always_turned():
        plain, other = (rotation.rotation_of(loaded_rows(steep(600, 48) * each, "euclidean")) for each in (1.0, times))
    assert (other.prefix, other.shift) == (plain.prefix, plain.shift)
    assert other.axes.shape == plain.axes.shape


@pytest.mark.parametrize("rows", [np.ones((50, 12)), np.zeros((50, 12))])
def test_rows_that_do_not_differ_are_not_turned(rows: Array) -> None:
    with always_turned():
        assert rotation.rotation_of(loaded_rows(rows, "euclidean")).axes.shape[0] == 0


def test_no_accumulator_overflows() -> None:
    """All codes 127 and 255, in the longest prefix and with the largest shift."""
    longest = rotation.LONGEST_PREFIX * rotation.DIMENSIONS[1]
    assert 255 * 127 * (2**rotation.LARGEST_SHIFT * longest + rotation.DIMENSIONS[1]) < 2**31
    assert 255 * 127 * screens.LARGEST_DIMENSION < 2**31


@settings(
    max_examples=120, derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    st.integers(8, 300), st.sampled_from(KINDS), st.sampled_from(KINDS), st.integers(-40, 40),
    st.sampled_from(list(METRICS)), st.booleans(), st.sampled_from([0.9, 0.5, 0.125, 0.01]), st.integers(0, 2**32 - 1),
)  # fmt: skip
def test_no_turned_rows_exceed_the_bound(
    d: int, kind: str, other: str, magnitude: int, metric: str, mirrored: bool, share: float, seed: int
) -> None:
    """As test_no_rows_exceed_the_bound."""
    one, two = (adversarial(each, d, seed, 12) for each in (kind, other))
    if magnitude:
        two = two.astype(np.float64) * 2.0**magnitude
    with always_turned(share):
        target(used_share(np.concatenate([one, two]), metric, "i8", mirrored))


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "dot"])
def test_what_the_rotation_loses_is_counted(metric: str) -> None:
    """Rows whose codes lose nothing: what is left of the bound is of the rotation and of sums."""
    with always_turned():
        for d in (8, 64, 200):
            rows = np.zeros((40, d))
            rows[np.arange(40), np.arange(40) % 4] = 1 + np.arange(40) // 4
            assert used_share(rows, metric, "i8", mirrored=False, exactly=d == 8) <= 1


@pytest.mark.parametrize("options", [
    {"band": "any", "negatives": 5}, {}, {"band": "hard", "fallback": "farthest"}, {"metric": "dot", "band": "any"},
    {"metric": "euclidean", "band": "any", "positives": "hardest"}, {"pick": "random", "negatives": 3},
])  # fmt: skip
def test_the_same_rows_by_tiles_that_stop(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    made = scratches(monkeypatch)
    rows, labels = steep(5_000, 80), np.random.default_rng(1).integers(0, 60, 5_000)
    rows = rows + 0.3 * steep(60, 80, seed=2)[labels]
    with always_turned():
        found = minestream.mine_arrays(rows, labels, screen="i8", **options)
    assert any(each.control[STOPPED] for each in made) or "pick" in options  # whose gates are wide
    assert found.table().equals(minestream.mine_arrays(rows, labels, screen="f32", **options).table())


def test_tiles_are_checked_until_that_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        always_turned(),
        sweeping(loaded_rows(steep(3_000, 80), "euclidean"), "euclidean", "i8", mirrored=False) as search,
    ):
        ahead, words = search.codes.prefix_words, search.codes.words
        assert 0 < ahead < words
        assert search.codes.scratch(1, checked=True).control.tolist() == [words, 1, ahead, search.codes.shift, 1, 0]
        made = scratches(monkeypatch)
        list(search.run())
    swept = [each for each in made if each.tiles[0]]
    checked = [each for each in swept if each.control[STOPPED]]
    assert 0 < len(checked) < len(swept)  # the first tiles of a step are always checked, those of the probe are not
    for each in checked:
        assert each.control[CHECKED] == (each.control[STOPPED] * (words - ahead) >= each.tiles[0] * CHECK_WORDS)


@pytest.mark.parametrize("d", [64, 200])
def test_the_bound_of_turned_codes_is_nearly_reached(d: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As test_the_bound_of_int8_is_nearly_reached, along axes and with both scales."""
    with always_turned():
        found = rotation.rotation_of(loaded_rows(steep(600, d), "euclidean"))
    monkeypatch.setattr(screens, "rotation_of", lambda _: found)
    scale = np.where(np.arange(d) < found.prefix, 2.0 ** (found.shift / 2), 1.0)
    anchor, column = 0.499 * scale, 0.5 * scale / (np.sqrt(np.log(2 * d) / 6) / 127)
    anchor[0] = 127 * scale[0]
    vectors = np.stack([anchor, -anchor, column, -column]) @ matrix_of(found, d)
    assert 0.85 < used_share(vectors, "euclidean", "i8", mirrored=False) <= 1


@kernel(allocates=True)
def rotated(found: quantize.Rotation, rows: np.ndarray) -> tuple[np.ndarray, float]:
    """A few rows as they are rotated, and the bound of the error."""
    count, d = rows.shape
    work = quantize._rotation_scratch(found.axes, d)
    work.z[:count] = rows
    quantize._rotate_rows(found.axes, count, work)
    return work.y[:count, :d].copy(), quantize._rotation_error(found, d)


@pytest.mark.parametrize("signs", [1, -1])
@pytest.mark.parametrize("d", [8, 64, 65, 300])
def test_the_error_of_the_rotation_stays_within_its_bound(d: int, signs: int) -> None:
    with always_turned():
        found = rotation.rotation_of(loaded_rows(steep(600, d), "euclidean"))
    matrix = matrix_of(found, d)
    rows = np.abs(np.random.default_rng(d).normal(size=(4, d))) * np.where(matrix[0] < 0, -1.0, signs)
    turned, bound = rotated(found, rows)
    error = np.linalg.norm(turned - rows @ matrix.T, axis=1) / np.linalg.norm(rows, axis=1)
    assert 0 < error.max() <= bound < 1e-4


def test_codes_stand_for_rows() -> None:
    """What they stand for has the products of the rows."""
    rows = steep(500, 60)
    with always_turned(), sweeping(loaded_rows(rows, "euclidean"), "euclidean", "i8", mirrored=False) as search:
        assert search.codes.shift > 0
        values = search.codes.values(np.arange(500))
        z = (rows - rows.mean(axis=0)) * search.loaded.frame.scale
    np.testing.assert_allclose(values @ values.T, z @ z.T, atol=0.02 * np.square(z).sum(axis=1).max())
