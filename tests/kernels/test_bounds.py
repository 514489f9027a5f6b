"""No kernel reaches beyond an array: by numba's own checks, and by pages that nobody may touch around every operand.

Run as a script (`python tests/kernels/test_bounds.py NAME`) this file runs one of FENCED, in a process that dies when
memory beyond an array is read or written.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from tally import Attack
from test_tile import LOW, TILES, call, random_inputs

import minestream
from minestream.config.metrics import METRICS
from minestream.kernels import distances as exact
from minestream.kernels import quantize
from minestream.kernels.tile_shapes import host_tile, host_tiles
from minestream.mining.arrays import mine_arrays
from minestream.search.screens import SCREENS, code_bytes, usable_screens
from minestream.system import threads

KIND = "memory beyond an array"
REPOSITORY = Path(__file__).parents[2]
TESTS = ("test_tile", "test_exact", "test_search", "test_window", "test_profile", "test_table")
HEAVY_TESTS = ("test_numbers", "test_properties", "test_invariance")
POISON, CANARY = 0xA5, 0xC7

Array = np.ndarray[Any, Any]

# ---------------------------------------------------------------- arrays between fences

LIBC = ctypes.CDLL(None, use_errno=True)
_watched: list[tuple[Array, int, int]] = []


def fenced(shape: tuple[int, ...], dtype: Any, front: bool = False) -> Array:
    """An array of poison that ends where a page that nobody may touch begins (or begins where one ends).

    Towards the other side canaries fill its page; `check_canaries` looks after them.
    """
    size = math.prod(shape) * np.dtype(dtype).itemsize
    pages = max(1, -(-size // mmap.PAGESIZE))
    whole = np.frombuffer(mmap.mmap(-1, (pages + 1) * mmap.PAGESIZE), np.uint8)
    fence = whole.ctypes.data + (0 if front else pages * mmap.PAGESIZE)
    open_bytes = whole[mmap.PAGESIZE :] if front else whole[: pages * mmap.PAGESIZE]
    first = 0 if front else open_bytes.size - size
    open_bytes[:] = CANARY
    open_bytes[first : first + size] = POISON
    assert LIBC.mprotect(ctypes.c_void_p(fence), mmap.PAGESIZE, 0) == 0
    _watched.append((open_bytes, first, first + size))
    return open_bytes[first : first + size].view(dtype).reshape(shape)


def fenced_copy(array: Array, front: bool = False) -> Array:
    out = fenced(array.shape, array.dtype, front)
    out[...] = array
    return out


def check_canaries() -> None:
    """Fail unless all bytes around the arrays are as they were; forget the arrays."""
    for whole, first, end in _watched:
        assert (whole[:first] == CANARY).all()
        assert (whole[end:] == CANARY).all()
    _watched.clear()


# ---------------------------------------------------------------- what runs between fences


def tiles() -> None:
    """Every operand of the host's tiles."""
    for name in host_tiles().values():
        for k in (1, 2, 3, 7, 16):
            for front in (False, True):
                inputs = random_inputs(name, k, intervals=2)
                if k == 7:
                    inputs.row_terms[LOW:] = inputs.column_terms[LOW:] = np.inf
                a, b, *rest = (fenced_copy(each, front) for each in inputs)
                masks = [fenced((TILES[name].rows,), np.uint64, front) for _ in range(2)]
                products = fenced((TILES[name].rows * TILES[name].columns,), np.float32, front)
                assert (call(name, a, b, *rest, *masks, products) != 0) == (k != 7)
                check_canaries()


def distances() -> None:
    """Vectors, squares and outputs of canonical distances, of any length and dtype."""
    for front in (False, True):
        for dtype in (np.float32, np.float64, np.int8):
            for d in [*range(1, 20), 31, 64, 100]:
                rows = np.random.default_rng(d).integers(1, 10, (13, d)).astype(dtype)
                vectors, square = fenced_copy(rows, front), fenced((13,), np.float64, front)
                exact.squares(vectors, square)
                exact.row_hashes(vectors, d % 2 == 0, fenced((13,), np.uint64, front))
                anchor = fenced_copy(rows[0].astype(np.float64), front)
                for count in (1, 7, 8, 13):
                    at = fenced_copy(np.arange(13)[-count:], front)
                    slots = fenced_copy(at.astype(np.int32), front)
                    out = fenced((-(-count // 8) * 8,), np.float64, front)
                    for metric in METRICS.values():
                        exact.distances_to(metric.code, anchor, square[0], vectors, square, at, slots, out)
                        exact.paired_distances(metric.code, vectors, square, vectors, square, fenced((13,), float))
                check_canaries()


def codes_and_panels() -> None:
    """Rows, codes, terms and panels of all screens."""
    for front in (False, True):
        for d in [*range(1, 20), 31, 64, 100, 257]:
            rows = fenced_copy(np.random.default_rng(d).normal(size=(11, d)).astype(np.float32), front)
            square = fenced((11,), np.float64, front)
            exact.squares(rows, square)
            frame = quantize.Frame(fenced_copy(np.zeros(d), front), 1.0, True, False)
            codes: list[Any] = [("f32", (frame,))]
            for name, panels, prefix in (
                ("i16", 0, d), ("i8", 0, d), ("i8", -(-d // host_tile("f32").columns), d // 8 * 4 or d)
            ):  # fmt: skip
                axes = fenced_copy(np.ones((panels, d, host_tile("f32").columns), np.float32), front)
                codes.append((name, (frame, quantize.Rotation(axes, 0.0, prefix, 0))))
            for name, how in codes:
                kind = np.dtype(SCREENS[name].dtype)
                out = fenced((11, code_bytes(name, d) // kind.itemsize), kind, front)
                floats = (fenced((11,), each, front) for each in ("f8", "f8", "f4", "f4", "f4", "f4", "f4"))
                terms = quantize.Terms(*floats, fenced((11, 2), "i4", front))
                SCREENS[name].encode(*how, rows, square, out, terms)
                words = out.view(np.uint32)
                for panel in (6, 8, 48):
                    packed = fenced((-(-11 // panel), words.shape[1], panel), np.uint32, front)
                    quantize.pack(words, fenced_copy(np.arange(11), front), np.uint32(0), packed)
            check_canaries()


@contextlib.contextmanager
def every_new_array_fenced() -> Iterator[None]:
    """All that NumPy is asked for by name is fenced, and poison where it would be uninitialised."""
    before = {name: getattr(np, name) for name in ("empty", "zeros", "full")}
    plain_apart = threads.apart

    def empty(shape: Any, dtype: Any = float, **_: Any) -> Array:
        return fenced(tuple(shape) if isinstance(shape, tuple | list) else (int(shape),), dtype)

    def zeros(shape: Any, dtype: Any = float, **_: Any) -> Array:
        return full(shape, 0, dtype)

    def full(shape: Any, value: Any, dtype: Any = None, **_: Any) -> Array:
        out = empty(shape, np.asarray(value).dtype if dtype is None else dtype)
        out[...] = value
        return out

    modules = [module for module in sys.modules.values() if getattr(module, "apart", None) is plain_apart]
    try:
        np.empty, np.zeros, np.full = empty, zeros, full
        for module in modules:
            module.apart = zeros  # type: ignore[attr-defined]
        yield
    finally:
        for name, function in before.items():
            setattr(np, name, function)
        for module in modules:
            module.apart = plain_apart  # type: ignore[attr-defined]


MINED: list[dict[str, Any]] = [
    {},
    {"band": "any", "negatives": 7, "skip": 2, "metric": "dot"},
    {"pick": "random", "positives": "random", "positives_per_anchor": 3, "negatives": 3, "skip": 2},
    {"pick": "weighted", "band": "any", "negatives": 3, "skip": 1},
    {"emit": "pairs", "negatives": 0},
    {"positives": "all", "negatives": 2, "drop_duplicates_within": 0.01},
    {"band": "hard", "fallback": "farthest", "positives": "hardest", "anchors": "100"},
    {"max_per_negative_label": 1, "negatives": 4, "order": "shuffled", "max_uses": 3},
]


def searches(count: int, rows: int, dimensions: tuple[int, ...]) -> None:
    """Whole runs: the same rows when all arrays lie between fences, by every screen and in a window."""
    for d in dimensions:
        rng = np.random.default_rng(d)
        vectors, labels = rng.normal(size=(rows, d)).astype(np.float32), rng.integers(0, rows // 12, rows)
        for options in MINED[:count]:
            for screen in ("scan", *usable_screens(d)):
                given = {"screen": screen, "block_rows": 131, "threads": 2, **options}
                expected = mine_arrays(vectors, labels, **given).table()
                with every_new_array_fenced():
                    found = mine_arrays(vectors, labels, **given).table()
                assert expected.num_rows > 0
                assert found.equals(expected), (d, given)
                check_canaries()
            if options.keys() & {"emit", "anchors", "order"}:
                continue
            expected, found = (windows(vectors, labels, fence, **options) for fence in (False, True))
            assert found == expected
            check_canaries()


def windows(vectors: Array, labels: Array, fence: bool, **options: Any) -> list[Any]:
    table = pa.table({"embedding": list(vectors), "label": labels})
    fences = every_new_array_fenced() if fence else contextlib.nullcontext()
    with fences, minestream.Miner(90, threads=2, **options) as miner:
        return [miner.feed(table.slice(first, 100)).to_pydict() for first in range(0, len(labels), 100)]


def overrun() -> None:
    """One element too far: the process dies."""
    out = fenced((3, 3), np.float64)
    exact.squares(fenced((4, 3), np.float64), out.reshape(-1)[6:])


FENCED: dict[str, Callable[[], None]] = {
    "tiles": tiles,
    "distances": distances,
    "codes and panels": codes_and_panels,
    "searches": lambda: searches(2, 300, (5,)),
    "many searches": lambda: searches(len(MINED), 700, (3, 8, 33, 64, 129)),
    "overrun": overrun,
}


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | variables
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(REPOSITORY), str(REPOSITORY / "tests" / "lib"), os.environ.get("PYTHONPATH", "")]
    )
    return subprocess.run([sys.executable, *arguments], env=environment, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize(
    "name",
    ["tiles", "distances", "codes and panels", "searches", pytest.param("many searches", marks=pytest.mark.chaos)],
)
def test_nothing_beyond_an_array_is_touched(name: str, attack: Attack) -> None:
    with attack(KIND, f"{name}: arrays of poison between pages that nobody may touch"):
        done = run(__file__, name)
        assert done.returncode == 0, done.stderr[-4000:]


def test_a_fence_holds() -> None:
    assert run(__file__, "overrun").returncode == -signal.SIGSEGV


# ---------------------------------------------------------------- numba's checks

INDEXED = """
import numpy as np
from minestream.kernels.jit import kernel

@kernel(inline=True)
def inner(array, at):
    return array[at]

@kernel
def indexed(array, at):
    return inner(array, at)

indexed(np.arange(3.0), 3)
"""


def test_kernels_are_checked_when_numba_is_told_to(tmp_path: Path) -> None:
    """Also when code without checks has been kept: it is not what is loaded then."""
    script = tmp_path / "indexed.py"
    script.write_text(INDEXED)
    cache = {"MINESTREAM_CACHE_DIR": str(tmp_path / "cache")}
    for checked in ("0", "1", "1", "0"):
        done = run(str(script), NUMBA_BOUNDSCHECK=checked, **cache)
        assert (done.returncode != 0) == (checked == "1"), done.stderr
        assert ("IndexError" in done.stderr) == (checked == "1")


@pytest.mark.chaos
@pytest.mark.parametrize("module", TESTS + HEAVY_TESTS)
def test_the_tests_of_kernels_pass_with_checks(module: str, attack: Attack, tmp_path_factory: Any) -> None:
    """In a child, with code compiled for it; checked code is slow to compile, so all modules share it."""
    (path,) = (REPOSITORY / "tests").rglob(f"{module}.py")
    cache = tmp_path_factory.getbasetemp() / "checked"
    cache.mkdir(exist_ok=True)
    with attack(KIND, "the tests of the kernels with every index checked by numba"):
        done = run(
            "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(path), NUMBA_BOUNDSCHECK="1",
            MINESTREAM_CACHE_DIR=str(cache),
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


if __name__ == "__main__":
    FENCED[sys.argv[1]]()
