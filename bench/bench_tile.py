"""Are the register tiles, gates and survivors included, as fast as a plain matrix product that gates nothing?

    python bench/bench_tile.py [--runs 9]

Threads sweep 3,840 x 7,680 Gaussian rows through gates that keep about 0.1 % of the values, in float32, in int16 and
in int8; the peer is numpy's float32 matmul on as many threads, once into one large array and once in blocks of rows
that reuse a small one (no n x n array to touch, so the kinder figure). Ratios are against the faster of the two.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, NamedTuple

import common
import numpy as np

from minestream.kernels.jit import kernel
from minestream.kernels.tile import HIGH, INTERVAL, LOW, SCALE, address, control_of, tile, tile_shape, trailing_zeros
from minestream.kernels.tile_shapes import Tile, host_tile, host_tiles
from minestream.system.threads import apart

ROWS = 3840  # both sizes are multiples of every tile's shape
COLUMNS = 7680
DIMENSIONS = (64, 128, 384, 768)
GROUP_BYTES = 192 * 1024  # column panels swept together stay in a core's second-level cache
PASSING = 1e-3
STRIP_ROWS = 320
BLOCK_ROWS = 480
LARGEST_CODE, LARGEST_SHORT = 127, 32_767
TERMS = LOW + INTERVAL  # a gate is one interval
SURVIVORS = 4096  # a power of two


class Side(NamedTuple):
    """Packed rows of one side, as `tile` reads them."""

    panels: np.ndarray  # (panels, words, width), float32, uint32 or int32
    terms: np.ndarray  # float32 (panels, TERMS, width)
    start: np.ndarray  # int32 (panels, 2, width)


@kernel
def sweep_strip(
    left: Side,
    right: Side,
    first: int,
    last: int,
    group: int,
    control: np.ndarray,
    masks: np.ndarray,
    products: np.ndarray,
    out_row: np.ndarray,
    out_column: np.ndarray,
    out_product: np.ndarray,
) -> int:
    """Gate all columns against row panels first..last-1; how many values passed a gate of their row or column.

    group : column panels swept together
    masks : uint64 (2, rows of a tile); products : float32 (values of a tile,)
    Survivors overwrite each other in out_row, out_column (int32) and out_product (float32), whose length is a
    power of two.
    """
    rows, columns = tile_shape(address(left.panels, 0))
    words = left.panels.shape[1]
    panels = right.panels.shape[0]
    wrap = out_row.size - 1
    passed = 0
    for start in range(0, panels, group):
        for i in range(first, last):
            for j in range(start, min(start + group, panels)):
                found = tile(
                    address(left.panels, i * words * rows),
                    address(right.panels, j * words * columns),
                    address(control, 0),
                    address(left.terms, i * TERMS * rows),
                    address(right.terms, j * TERMS * columns),
                    address(right.start, 2 * j * columns),
                    address(masks, 0),
                    address(masks, rows),
                    address(products, 0),
                )
                if found == 0:
                    continue
                for r in range(rows):
                    bits = masks[0, r] | masks[1, r]
                    while bits != 0:
                        c = np.int64(trailing_zeros(bits))
                        bits &= bits - np.uint64(1)
                        out_row[passed & wrap] = i * rows + r
                        out_column[passed & wrap] = j * columns + c
                        out_product[passed & wrap] = products[r * columns + c]
                        passed += 1
    return passed


def packed(words: np.ndarray, width: int) -> np.ndarray:
    """(n, words) -> (panels, words, width), C-contiguous; `width` divides n."""
    n, count = words.shape
    return np.ascontiguousarray(words.reshape(n // width, width, count).transpose(0, 2, 1))


def terms(scale: np.ndarray, threshold: float, width: int) -> np.ndarray:
    """Scale and gates of every row, by panel: float32 (panels, TERMS, width)."""
    out = np.zeros((scale.size // width, TERMS, width), np.float32)
    out[:, SCALE] = scale.reshape(-1, width)
    out[:, LOW], out[:, HIGH] = threshold, np.inf
    return out


def no_start(rows: int, width: int) -> np.ndarray:
    """Accumulators that start at 0: int32 (panels, 2, width)."""
    return np.zeros((rows // width, 2, width), np.int32)


def float_sides(left: np.ndarray, right: np.ndarray, threshold: float) -> tuple[Side, Side]:
    """Both sides in float32."""
    shape = host_tile("f32")
    sides = [
        Side(packed(rows, width), terms(np.ones(len(rows)), threshold, width), no_start(len(rows), width))
        for rows, width in ((left, shape.rows), (right, shape.columns))
    ]
    return sides[0], sides[1]


def quantised(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows as int8 codes (n, d) and scales float32 (n,)."""
    scale = np.abs(rows).max(axis=1) / LARGEST_CODE
    return np.rint(rows / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def byte_sides(left: np.ndarray, right: np.ndarray, threshold: float) -> tuple[Side, Side]:
    """Both sides in int8, four codes a word."""
    shape = host_tile("i8")
    (codes_left, scale_left), (codes_right, scale_right) = quantised(left), quantised(right)
    offset = 128 if shape.unsigned_rows else 0
    octets = (codes_left.astype(np.int16) + offset).astype(np.uint8)
    start = no_start(len(right), shape.columns)
    start[:, 0] = -offset * codes_right.sum(axis=1, dtype=np.int32).reshape(-1, shape.columns)
    return (
        Side(packed(octets.view(np.int32), shape.rows), terms(scale_left, threshold, shape.rows), start),
        Side(packed(codes_right.view(np.int32), shape.columns), terms(scale_right, threshold, shape.columns), start),
    )


def short_sides(left: np.ndarray, right: np.ndarray, threshold: float) -> tuple[Side, Side]:
    """Both sides in int16, two codes a word; the products are those of float32 but for a few that are at the gate."""
    sides = []
    for rows, width in ((left, host_tile("i16").rows), (right, host_tile("i16").columns)):
        scale = np.linalg.norm(rows, axis=1) / LARGEST_SHORT  # no coordinate, and no sum of products, is too large
        words = np.rint(rows / scale[:, None]).astype(np.int16).view(np.uint32)
        sides.append(Side(packed(words, width), terms(scale, threshold, width), no_start(len(rows), width)))
    return sides[0], sides[1]


def byte_products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """What the int8 tile computes: sums of codes are below 2^24, so exact in float32 whatever their order."""
    (codes_left, scale_left), (codes_right, scale_right) = quantised(left), quantised(right)
    sums = codes_left.astype(np.float32) @ codes_right.astype(np.float32).T
    products: np.ndarray = sums * scale_right * scale_left[:, None]
    return products


def sweeper(sides: tuple[Side, Side], shape: Tile, pool: ThreadPoolExecutor) -> Callable[[], int]:
    """A sweep of all rows on all threads; it returns how many values passed."""
    left, right = sides
    panel_bytes = right.panels[0].nbytes
    group = max(1, GROUP_BYTES // panel_bytes)
    strip_panels = STRIP_ROWS // shape.rows

    def strip(first: int) -> int:
        control = control_of(left.panels.shape[1])
        scratch = control, apart((2, shape.rows), np.uint64), apart((shape.rows * shape.columns,), np.float32)
        survivors = [np.empty(SURVIVORS, dtype) for dtype in (np.int32, np.int32, np.float32)]
        last = min(first + strip_panels, len(left.panels))
        return int(sweep_strip(left, right, first, last, group, *scratch, *survivors))

    return lambda: sum(pool.map(strip, range(0, len(left.panels), strip_panels)))


def validate(passed: int, expected: int, what: str) -> None:
    """Compare counts; roundings may differ at the very edge of the gate."""
    if abs(passed - expected) > max(4, expected // 1000):
        raise SystemExit(f"{what}: the tile passed {passed} values, numpy {expected}")


def measure(d: int, runs: int, pool: ThreadPoolExecutor) -> dict[str, Any]:
    """One row of results: 10^9 operations a second of the tiles and of both peers at one number of coordinates."""
    generator = np.random.default_rng(d)
    left = generator.standard_normal((ROWS, d), dtype=np.float32)
    right = generator.standard_normal((COLUMNS, d), dtype=np.float32)
    product = left @ right.T
    threshold = float(np.quantile(product[:64], 1 - PASSING))
    block = np.empty((BLOCK_ROWS, COLUMNS), np.float32)

    def matmul() -> None:
        np.matmul(left, right.T, out=product)

    def matmul_blocks() -> None:
        for start in range(0, ROWS, BLOCK_ROWS):
            np.matmul(left[start : start + BLOCK_ROWS], right.T, out=block)

    contenders: dict[str, Callable[[], object]] = {"matmul": matmul, "blocks": matmul_blocks}
    made = {
        "f32": (float_sides, product),
        "i16": (short_sides, product),
        "i8": (byte_sides, byte_products(left, right)),
    }
    for screen, name in host_tiles().items():
        sides, values = made[screen]
        sweep = sweeper(sides(left, right, threshold), host_tile(screen), pool)
        validate(sweep(), int(np.count_nonzero(values >= np.float32(threshold))), f"{name}, d = {d}")
        contenders[screen] = sweep
    seconds = common.interleaved(contenders, runs)
    return {"d": d, "runs": runs, **figures(seconds, 2.0 * ROWS * COLUMNS * d)}


def figures(seconds: dict[str, list[float]], operations: float) -> dict[str, Any]:
    """Rates, and ratios paired by run; figures of i16 and i8 are null on a host without such a tile."""
    rates = {name: operations / median(each) / 1e9 for name, each in seconds.items()}
    best = max(("matmul", "blocks"), key=rates.__getitem__)
    return {
        "tiles": host_tiles(),
        "matmul_gflops": rates["matmul"],
        "matmul_blocks_gflops": rates["blocks"],
        "f32_gflops": rates["f32"],
        "i16_gops": rates.get("i16"),
        "i8_gops": rates.get("i8"),
        "f32_over_matmul": common.median_ratio(seconds[best], seconds["f32"]),
        "i8_over_f32": common.median_ratio(seconds["f32"], seconds["i8"]) if "i8" in seconds else None,
    }


def main() -> None:
    """Measure every number of coordinates and write bench/results/tile.json."""
    given = common.question_parser(__doc__, runs=9).parse_args()
    rows = []
    with ThreadPoolExecutor(common.THREADS) as pool:
        for d in DIMENSIONS:
            rows.append(measure(d, given.runs, pool))
            print(common.rounded(rows[-1]), flush=True)
    common.write_results(given.results, "tile", rows)


if __name__ == "__main__":
    common.settle_environment()
    main()
