"""Is the fused float32 tile, gates included, as fast as a plain matrix product that gates nothing?

    python bench/bench_tile.py [--runs 9]

Two threads sweep 3,840 x 7,680 Gaussian rows through gates that keep about 0.1 % of the values; the peer is
numpy's float32 matmul on two threads, once into one large array and once in blocks of rows that reuse a
small one (no n x n array to touch, so the kinder figure). Ratios are against the faster of the two.
"""

from __future__ import annotations

import argparse
import statistics
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import common
import numpy as np

from minestream.kernels.compiled import kernel
from minestream.kernels.tile import TILES, address, host_tile, tile_f32, trailing_zeros

ROWS = 3840
COLUMNS = 7680
DIMENSIONS = (64, 128, 384, 768)
GROUP_BYTES = 192 * 1024  # column panels swept together stay in a core's second-level cache
PASSING = 1e-3
STRIP_PANELS = 40
BLOCK_ROWS = 480


@kernel
def sweep_strip(
    a, b, bias, codes_a, codes_b, gates, first, last, group, out_mask, out_acc, out_row, out_column, out_affinity
):
    """Gate all columns against row panels first..last-1; how many values passed.

    a : float32 (row panels, k, MR); b : float32 (column panels, k, NR); bias : float32 (columns,)
    codes_a, codes_b : int32 (rows,), (columns,); gates : float32 (4, rows), lo and hi of same, then of other
    out_mask : uint64 (MR,); out_acc : float32 (MR * NR,); survivors overwrite each other in out_row,
    out_column (int32) and out_affinity (float32), whose length is a power of two.
    """
    k, mr = a.shape[1], a.shape[2]
    panels, nr = b.shape[0], b.shape[2]
    rows = a.shape[0] * mr
    wrap = out_row.shape[0] - 1
    passed = 0
    for start in range(0, panels, group):
        stop = min(start + group, panels)
        for i in range(first, last):
            row = i * mr
            for j in range(start, stop):
                found = tile_f32(
                    address(a, i * k * mr),
                    address(b, j * k * nr),
                    k,
                    address(bias, j * nr),
                    address(codes_b, j * nr),
                    address(gates, row),
                    address(gates, rows + row),
                    address(gates, 2 * rows + row),
                    address(gates, 3 * rows + row),
                    address(codes_a, row),
                    address(out_mask, 0),
                    address(out_acc, 0),
                )
                if found == 0:
                    continue
                for r in range(mr):
                    mask = out_mask[r]
                    while mask != 0:
                        c = np.int64(trailing_zeros(mask))
                        mask &= mask - np.uint64(1)
                        out_row[passed & wrap] = row + r
                        out_column[passed & wrap] = j * nr + c
                        out_affinity[passed & wrap] = out_acc[r * nr + c]
                        passed += 1
    return passed


def packed(matrix: np.ndarray, width: int) -> np.ndarray:
    """(n, d) -> (panels, d, width), C-contiguous; `width` divides n."""
    n, d = matrix.shape
    return np.ascontiguousarray(matrix.reshape(n // width, width, d).transpose(0, 2, 1))


def measure(d: int, runs: int, pool: ThreadPoolExecutor) -> dict[str, Any]:
    """One row of results: GFLOP/s of the tile and of both peers at one number of coordinates."""
    generator = np.random.default_rng(d)
    left = generator.standard_normal((ROWS, d), dtype=np.float32)
    right = generator.standard_normal((COLUMNS, d), dtype=np.float32)
    tile = TILES[host_tile()]
    a, b = packed(left, tile.rows), packed(right, tile.columns)
    group = max(1, GROUP_BYTES // (4 * d * tile.columns))
    bias = np.zeros(COLUMNS, np.float32)
    codes_a = generator.integers(0, 10, ROWS, dtype=np.int32)
    codes_b = generator.integers(0, 10, COLUMNS, dtype=np.int32)
    product = left @ right.T
    threshold = np.quantile(product[:64], 1 - PASSING)
    gates = np.full((4, ROWS), threshold, np.float32)
    gates[1] = gates[3] = np.inf
    product_block = np.empty((BLOCK_ROWS, COLUMNS), np.float32)
    strips = range(0, a.shape[0], STRIP_PANELS)

    def strip(first: int) -> int:
        scratch = (np.empty(tile.rows, np.uint64), np.empty(tile.rows * tile.columns, np.float32))
        survivors = (np.empty(4096, np.int32), np.empty(4096, np.int32), np.empty(4096, np.float32))
        last = min(first + STRIP_PANELS, a.shape[0])
        found: int = sweep_strip(a, b, bias, codes_a, codes_b, gates, first, last, group, *scratch, *survivors)
        return found

    def sweep() -> int:
        return sum(pool.map(strip, strips))

    def matmul() -> None:
        np.matmul(left, right.T, out=product)

    def matmul_blocks() -> None:
        for start in range(0, ROWS, BLOCK_ROWS):
            np.matmul(left[start : start + BLOCK_ROWS], right.T, out=product_block)

    expected = int(np.count_nonzero(product >= threshold))
    passed = sweep()
    if abs(passed - expected) > max(4, expected // 1000):  # roundings differ at the very edge of the gate
        raise SystemExit(f"d = {d}: the tile passed {passed} values, numpy {expected}")
    seconds = common.interleaved({"tile": sweep, "matmul": matmul, "blocks": matmul_blocks}, runs)
    flops = 2.0 * ROWS * COLUMNS * d
    rates = {name: flops / statistics.median(each) / 1e9 for name, each in seconds.items()}
    best = max(("matmul", "blocks"), key=rates.__getitem__)
    return {
        "d": d,
        "tile": host_tile(),
        "tile_gflops": round(rates["tile"], 1),
        "numpy_gflops": round(rates["matmul"], 1),
        "numpy_blocks_gflops": round(rates["blocks"], 1),
        "ratio": round(common.median_ratio(seconds[best], seconds["tile"]), 3),
        "passed": passed / (ROWS * COLUMNS),
        "runs": runs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    with ThreadPoolExecutor(common.BLAS_THREADS) as pool:
        rows = [measure(d, options.runs, pool) for d in DIMENSIONS]
    for row in rows:
        print(
            f"d = {row['d']:3d}   tile {row['tile_gflops']:6.1f}   numpy {row['numpy_gflops']:6.1f}   "
            f"numpy in blocks {row['numpy_blocks_gflops']:6.1f} GFLOP/s   ratio {row['ratio']:.2f}"
        )
    print(common.write_results("tile", rows))


if __name__ == "__main__":
    common.settle_environment()
    main()
