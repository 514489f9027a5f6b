"""The register tiles against NumPy, their gates value by value, and their machine code.

The host's tiles run as kernels do; the other shapes are compiled here too, with dot products of integers in plain
arithmetic. Run as a script (`python tests/kernels/test_tile.py TILES NAME`) this file checks the tile NAME of its
process, whose tiles must be TILES; the tests do that with numba told to compile for another processor.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
import pytest
from llvmlite import ir

from minestream.errors import UsageError
from minestream.kernels import tile_shapes
from minestream.kernels.jit import kernel
from minestream.kernels.quantize import LARGEST_SHORT, LONGEST_SHORT, OFFSET, PAD
from minestream.kernels.sweep import CLOSED, UNGATED
from minestream.kernels.tile import (
    BIAS,
    CHECKED,
    HIGH,
    INTERVAL,
    LOW,
    PREFIX,
    SCALE,
    SHIFT,
    STOPPED,
    TAIL,
    TAIL_SHARE,
    address,
    build_tile,
    control_of,
    tile,
    tile_shape,
    trailing_zeros,
)
from minestream.kernels.tile_shapes import TILES, Tile, host_cpu, host_tiles
from minestream.search.screens import LARGEST_DIMENSION, usable_screens

REPOSITORY = Path(__file__).parents[2]
UNIT = 2.0**-24
X86 = platform.machine().lower() in ("x86_64", "amd64")
AVX2 = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma,+bmi,+bmi2,+popcnt"}
UNTOUCHED = 7.0
BYTES = [name for name, shape in TILES.items() if shape.screen == "i8"]
FLOATS = [name for name, shape in TILES.items() if shape.screen == "f32"]
INTEGERS = [name for name in TILES if name not in FLOATS]
CODES: dict[str, Any] = {"i8": np.int8, "i16": np.int16}

every_tile = pytest.mark.parametrize("name", TILES)

Array = np.ndarray[Any, Any]


# ---------------------------------------------------------------- to run a tile


class Inputs(NamedTuple):
    """What goes into a tile; terms are scale, bias, tail, and low and high of each interval, of each row or column."""

    a: Array  # (k, rows)
    b: Array  # (k, columns)
    control: Array  # (CONTROL,)
    row_terms: Array  # (LOW + 2 * intervals, rows)
    column_terms: Array  # (LOW + 2 * intervals, columns)
    start: Array  # (2, columns)


class Outcome(NamedTuple):
    """What comes out of it."""

    found: int
    of_row: Array  # (rows, columns) bool: passes the gate of its row
    of_column: Array
    products: Array  # (rows, columns)
    stopped: int = 0


@kernel
def one_tile(a, b, control, row_terms, column_terms, start, row_masks, column_masks, products):
    """One call of the tile, and the shape that this kernel was compiled with."""
    found = tile(
        address(a, 0),
        address(b, 0),
        address(control, 0),
        address(row_terms, 0),
        address(column_terms, 0),
        address(start, 0),
        address(row_masks, 0),
        address(column_masks, 0),
        address(products, 0),
    )
    return found, tile_shape(address(a, 0))


def per_word(shape: Tile) -> int:
    """Codes in a word of 32 bits."""
    return 4 // np.dtype(CODES[shape.screen]).itemsize


def add_plain_dot(module: ir.Module, shape: Tile) -> None:
    """Sums of the products of a lane's codes as the tile calls them, for hosts without the instruction."""
    each = per_word(shape)
    sums, codes = (ir.VectorType(ir.IntType(32 // n), n * shape.lanes) for n in (1, each))
    wide = ir.VectorType(ir.IntType(32), each * shape.lanes)
    function = ir.Function(module, ir.FunctionType(sums, [sums, codes, codes]), "plain_dot")
    module.globals[f"llvm.{shape.multiply}"] = module.globals.pop("plain_dot")
    total, a, b = function.args
    builder = ir.IRBuilder(function.append_basic_block())
    left = builder.zext(a, wide) if shape.unsigned_rows else builder.sext(a, wide)
    product = builder.mul(left, builder.sext(b, wide))
    for code in range(each):
        places = ir.Constant(sums, [each * lane + code for lane in range(shape.lanes)])
        total = builder.add(total, builder.shuffle_vector(product, product, places))
    builder.ret(total)


@cache
def plain_tile(name: str) -> tuple[Any, Callable[..., int]]:
    """The tile of any shape as machine code for this host, and what keeps it alive."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = ir.Module()
    if name in INTEGERS:
        add_plain_dot(module, TILES[name])
    build_tile(module, "tile", TILES[name]).linkage = "external"
    cpu, features = host_cpu()
    machine = llvm.Target.from_default_triple().create_target_machine(cpu=cpu, features=features, opt=2, jit=True)
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(str(module)), machine)
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_void_p] * 9)
    return engine, kind(engine.get_function_address("tile"))


def call(name: str, *arguments: Any) -> int:
    """The tile's answer, by the kernel if the tile is the host's."""
    if name in host_tiles().values():
        found, baked = one_tile(*arguments)
        assert baked == TILES[name][:2]
        return int(found)
    return plain_tile(name)[1](*(each.ctypes.data for each in arguments))


def anywhere(array: Array) -> Array:
    """A copy that begins four bytes behind a multiple of 64: tiles may not count on more."""
    room = np.zeros(array.size + 32, array.dtype)
    first = (4 - room.ctypes.data) % 64 // array.itemsize
    out = room[first : first + array.size].reshape(array.shape)
    out[...] = array
    return out


def bits(masks: Array, columns: int) -> Array:
    """(rows, columns) bool."""
    found = (masks[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert not found[:, columns:].any()
    return found[:, :columns].astype(bool)


def run(name: str, inputs: Inputs) -> Outcome:
    rows, columns = TILES[name][:2]
    row_masks, column_masks = np.zeros((2, rows), np.uint64)
    products = anywhere(np.full(rows * columns, UNTOUCHED, np.float32))
    a, b, *rest = map(anywhere, inputs)
    found = call(name, a, b, *rest, row_masks, column_masks, products)
    if not found:
        assert not column_masks.any()
        row_masks[:] = 0  # of no meaning
    assert found == int(np.bitwise_or.reduce(row_masks | column_masks))
    masks = (bits(each, columns) for each in (row_masks, column_masks))
    return Outcome(found, *masks, products.reshape(rows, columns), int(rest[0][STOPPED]))


# ---------------------------------------------------------------- inputs, and what is expected of them


def as_words(codes: Array, flip: int = 0) -> Array:
    """int8 (m, 4 k), or int16 (m, 2 k), as words (k, m), four or two codes each, of the dtype of such panels."""
    words = np.ascontiguousarray((codes.view(np.uint32) ^ np.uint32(flip)).T)
    return words.view(np.int32) if codes.dtype == np.int8 else words


def code_inputs(
    shape: Tile, row_codes: Array, column_codes: Array, row_terms: Array, column_terms: Array,
    prefix: int | None = None, shift: int = 0,
) -> Inputs:  # fmt: skip
    """Codes int8 (rows, 4 k), (columns, 4 k), or int16, 2 k, of which those of `prefix` words weigh 2^shift; tails are
    set."""
    k = row_codes.shape[1] // per_word(shape)
    control = control_of(k, (len(row_terms) - LOW) // INTERVAL, prefix, shift)
    cut = per_word(shape) * int(control[PREFIX])
    parts = np.stack(
        [column_codes[:, :cut].sum(axis=1, dtype=np.int32), column_codes[:, cut:].sum(axis=1, dtype=np.int32)]
    )
    start = -128 * parts if shape.unsigned_rows else np.zeros_like(parts)
    for codes, terms in ((row_codes, row_terms), (column_codes, column_terms)):
        squares = np.square(codes.astype(float))
        ahead, behind = 2.0**shift * squares[:, :cut].sum(axis=1), squares[:, cut:].sum(axis=1)
        tail = np.abs(terms[SCALE].astype(float)) * (np.sqrt(behind) + TAIL_SHARE * np.sqrt(ahead + behind))
        terms[TAIL] = np.nextafter(tail.astype(np.float32), CLOSED)
    a = as_words(row_codes, OFFSET if shape.unsigned_rows else 0)
    return Inputs(a, as_words(column_codes), control, row_terms, column_terms, start)


def codes_of(inputs: Inputs, shape: Tile) -> tuple[Array, Array]:
    """The codes in inputs of integers, as int64 (rows, 4 k) and (columns, 4 k); of int16 2 k."""
    flip = np.uint32(OFFSET if shape.unsigned_rows else 0)
    a = np.ascontiguousarray(inputs.a.T).view(np.uint32) ^ flip
    b, kind = np.ascontiguousarray(inputs.b.T), CODES[shape.screen]
    return a.view(kind).astype(np.int64), b.view(kind).astype(np.int64)


def random_codes(shape: Tile, width: int, k: int, generator: np.random.Generator) -> Array:
    """Any bytes; or int16 so large that a row is hardly shorter than is allowed, one with a single large one."""
    if shape.screen == "i8":
        return generator.integers(-127, 128, (width, 4 * k)).astype(np.int8)
    codes = generator.normal(size=(width, 2 * k))
    codes *= (LONGEST_SHORT - (2 * k) ** 0.5) / np.linalg.norm(codes, axis=1, keepdims=True)
    codes[0], codes[0, 0] = 0, LARGEST_SHORT
    return np.rint(np.clip(codes, -LARGEST_SHORT, LARGEST_SHORT)).astype(np.int16)


def random_inputs(
    name: str, k: int, seed: int = 0, intervals: int = 1, prefix: int | None = None, shift: int = 0
) -> Inputs:
    """Gaussian rows, or any codes; gates that pass everything."""
    generator, shape = np.random.default_rng([seed, k]), TILES[name]
    terms = []
    for width in shape[:2]:
        scale, bias = np.exp(generator.normal(size=width)), generator.normal(size=width) * k**0.5
        bias *= {"f32": 1.0, "i8": 127.0**2, "i16": LONGEST_SHORT**2 / k}[shape.screen]
        gates = [[-np.inf] * width, [np.inf] * width] * intervals
        terms.append(np.array([scale, bias, np.zeros(width), *gates], np.float32))
    if shape.screen == "f32":
        a, b = (generator.normal(size=(k, width)).astype(np.float32) for width in shape[:2])
        return Inputs(a, b, control_of(k, intervals), *terms, np.zeros((2, shape.columns), np.int32))
    codes = [random_codes(shape, width, k, generator) for width in shape[:2]]
    return code_inputs(shape, *codes, *terms, prefix, shift)


def products_of(inputs: Inputs, shape: Tile) -> tuple[Array, Array]:
    """Products of integers as the tile rounds them: without the row's scale, and with it."""
    a, b = codes_of(inputs, shape)
    a[:, : per_word(shape) * inputs.control[PREFIX]] <<= inputs.control[SHIFT]
    assert np.abs(a @ b.T).max(initial=0) < 2**31
    of_column = (a @ b.T).astype(np.float32) * inputs.column_terms[SCALE]
    return of_column, of_column * inputs.row_terms[SCALE][:, None]


def values_of(inputs: Inputs, shape: Tile, products: Array) -> tuple[Array, Array]:
    """What the gates of rows and of columns compare, float32 (rows, columns)."""
    bias_of_row, bias_of_column = inputs.row_terms[BIAS][:, None], inputs.column_terms[BIAS]
    if shape.screen == "f32":
        return products + bias_of_column, products + bias_of_row
    unscaled = products_of(inputs, shape)[0].astype(np.float64) * inputs.row_terms[SCALE][:, None].astype(np.float64)
    return (unscaled + bias_of_column).astype(np.float32), (unscaled + bias_of_row).astype(np.float32)


def check_products(name: str, k: int) -> None:
    """float32 within gamma_k, integers to the bit."""
    shape, inputs = TILES[name], random_inputs(name, k)
    outcome = run(name, inputs)
    assert outcome.found
    assert outcome.of_row.all()
    assert outcome.of_column.all()
    if name in INTEGERS:
        np.testing.assert_array_equal(outcome.products, products_of(inputs, shape)[1])
        return
    a, b = inputs.a.astype(np.float64), inputs.b.astype(np.float64)
    gamma = k * UNIT / (1 - k * UNIT)
    assert (np.abs(outcome.products - a.T @ b) <= gamma * (np.abs(a).T @ np.abs(b))).all()


def check_gates(name: str, k: int, intervals: int) -> None:
    """Every end of every gate lies on a value: inside while it is there, outside when moved by one float."""
    shape, inputs = TILES[name], random_inputs(name, k, seed=1, intervals=intervals)
    generator = np.random.default_rng(k)
    products = run(name, inputs).products
    of_row, of_column = values_of(inputs, shape, products)
    sides = [(inputs.row_terms, of_row), (inputs.column_terms, of_column.T)]
    ends = [np.sort(generator.permuted(values, axis=1)[:, : 2 * intervals], axis=1).T for _, values in sides]
    passed = []
    for moved in (False, True):
        expected = []
        for (terms, values), end in zip(sides, ends, strict=True):
            low, high = end[::2], end[1::2]
            if moved:
                low, high = np.nextafter(low, CLOSED), np.nextafter(high, -CLOSED)
            order = generator.permutation(intervals)
            terms[LOW::INTERVAL], terms[HIGH::INTERVAL] = low[order], high[order]
            inside = low[:, :, None] <= values
            if shape.screen == "i8":
                terms[HIGH::INTERVAL] = np.nan  # not looked at
            else:
                inside &= values <= high[:, :, None]
            expected.append(inside.any(axis=0))
        outcome = run(name, inputs)
        np.testing.assert_array_equal(outcome.of_row, expected[0])
        np.testing.assert_array_equal(outcome.of_column, expected[1].T)
        np.testing.assert_array_equal(outcome.products, products)
        passed.append([each.sum() for each in expected])
    closed = 1 if shape.screen == "i8" else 2 * intervals  # how many ends of the union of a gate are values
    np.testing.assert_array_equal(np.subtract(*passed), np.array(shape[:2]) * closed)


# ---------------------------------------------------------------- values and gates


@pytest.mark.parametrize("k", [1, 2, 3, 16, 50, 384, 4096])
@every_tile
def test_products_lie_within_the_proven_bound(name: str, k: int) -> None:
    check_products(name, k)


@pytest.mark.parametrize("intervals", [1, 2, 3])
@pytest.mark.parametrize("k", [1, 5, 384])
@every_tile
def test_gates_are_closed_and_each_side_has_its_own(name: str, k: int, intervals: int) -> None:
    check_gates(name, k, intervals)


@pytest.mark.parametrize(("k", "prefix", "shift"), [(2, 1, 0), (5, 2, 3), (96, 45, 3), (196, 26, 5), (512, 320, 5)])
@pytest.mark.parametrize("name", BYTES)
def test_the_prefix_counts_more(name: str, k: int, prefix: int, shift: int) -> None:
    inputs = random_inputs(name, k, prefix=prefix, shift=shift)
    outcome = run(name, inputs)
    assert outcome.of_row.all()
    assert outcome.of_column.all()
    assert not outcome.stopped
    np.testing.assert_array_equal(outcome.products, products_of(inputs, TILES[name])[1])


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(("k", "prefix", "shift"), [(2, 1, 0), (3, 1, 5), (96, 45, 3), (96, 3, 0)])
@pytest.mark.parametrize("name", BYTES)
def test_a_checked_tile_finds_what_an_unchecked_one_does(
    name: str, k: int, prefix: int, shift: int, mirrored: bool
) -> None:
    """Gates that lie on values, of any rows and of such whose codes behind the prefix are those of a column, so that
    the check is tight; where nothing passes, the tile may stop or not."""
    shape, generator, stops = TILES[name], np.random.default_rng([k, prefix, shift]), 0
    for turn in range(60):
        inputs = random_inputs(name, k, seed=turn, prefix=prefix, shift=shift)
        row_codes, column_codes = (each.astype(np.int8) for each in codes_of(inputs, shape))
        if turn % 3 == 0:  # as alike, or as unlike, as can be
            row_codes[:, 4 * prefix :] = -column_codes[0, 4 * prefix :] if mirrored else column_codes[0, 4 * prefix :]
            inputs.column_terms[BIAS, 1:] = PAD
        if turn % 3 == 1:  # most of the length is ahead
            row_codes[:, 4 * prefix :] //= 16
            column_codes[:, 4 * prefix :] //= 16
        for terms in inputs[3:5]:
            terms[BIAS] *= 2.0 ** generator.integers(-20, 3)
        if mirrored:
            inputs.row_terms[SCALE] *= -1
        inputs = code_inputs(shape, row_codes, column_codes, *inputs[3:5], prefix, shift)
        of_row, of_column = values_of(inputs, shape, products_of(inputs, shape)[1])
        inputs.row_terms[LOW], inputs.column_terms[LOW] = of_row.max(axis=1), of_column.max(axis=0)
        if turn % 3 == 0:
            inputs.column_terms[LOW] = CLOSED
        if turn % 4:  # one gate alone of each side: on a value, just above it, or far above it
            for terms, at in zip(inputs[3:5], (turn % shape.rows, turn % shape.columns), strict=True):
                value = terms[LOW, at]
                terms[LOW] = CLOSED
                terms[LOW, at] = (value, np.nextafter(value, CLOSED), value + np.abs(value))[turn % 4 - 1]
        plain = run(name, inputs)
        inputs.control[CHECKED] = 1
        checked = run(name, inputs)
        assert checked.found == plain.found
        assert checked.stopped <= (plain.found == 0)
        if plain.found:
            for one, other in zip(checked[1:4], plain[1:4], strict=True):
                np.testing.assert_array_equal(one, other)
        stops += checked.stopped
    assert stops or prefix < 45


@pytest.mark.parametrize("name", BYTES)
def test_a_tile_stops_as_soon_as_nothing_can_pass(name: str) -> None:
    """Gates just above, and just below, what the prefix and the tails allow."""
    inputs = random_inputs(name, 16, prefix=8, shift=2)
    shape = TILES[name]
    inputs.row_terms[BIAS] = inputs.column_terms[BIAS] = 0
    a, b = (each[:, :32] for each in codes_of(inputs, shape))
    scales, tails = (
        inputs.row_terms[term][:, None].astype(float) * inputs.column_terms[term] for term in (SCALE, TAIL)
    )  # fmt: skip
    most = float((4 * (a @ b.T) * scales + tails).max())
    inputs.control[CHECKED] = 1
    for low, stops in ((most * 1.0001, 1), (most * 0.9999, 0)):
        inputs.row_terms[LOW], inputs.column_terms[LOW] = low, CLOSED
        inputs.control[STOPPED] = 0
        assert run(name, inputs).stopped == stops


@pytest.mark.parametrize("k", [1, 7, 4096])
@pytest.mark.parametrize("name", BYTES)
def test_extreme_codes_overflow_nothing(name: str, k: int) -> None:
    """127 plus 128 is 255: four such products in a lane are more than 16 bits, and all must reach the sum."""
    shape, generator = TILES[name], np.random.default_rng(k)
    row_codes, column_codes = (
        generator.choice(np.array([-127, 127], np.int8), (width, 4 * k)) for width in shape[:2]
    )  # fmt: skip
    for codes in (row_codes, column_codes):
        codes[0], codes[1] = 127, -127
    terms = [random_inputs(name, k)[at] for at in (3, 4)]
    inputs = code_inputs(shape, row_codes, column_codes, *terms)
    outcome = run(name, inputs)
    np.testing.assert_array_equal(outcome.products, products_of(inputs, shape)[1])
    scales = terms[0][SCALE][0].astype(float) * terms[1][SCALE][:2].astype(float)
    np.testing.assert_allclose(outcome.products[0, :2] / scales, [4 * k * 127**2, -4 * k * 127**2], rtol=4 * UNIT)


@pytest.mark.parametrize("k", [1, 7, 4096, LARGEST_DIMENSION // 2])
@pytest.mark.parametrize("name", [name for name in INTEGERS if name not in BYTES])
def test_the_longest_rows_of_int16_overflow_nothing(name: str, k: int) -> None:
    """Rows that are equal, or each other's negatives: 46,340 squared is just below 2^31."""
    shape = TILES[name]
    codes = random_codes(shape, 2, k, np.random.default_rng(k))[1]
    while (
        np.square(codes.astype(np.int64)).sum() < (LONGEST_SHORT - (2 * k) ** 0.5) ** 2 and codes.max() < LARGEST_SHORT
    ):
        codes[np.argmax(codes)] += 1
    row_codes, column_codes = np.tile(codes, (shape.rows, 1)), np.tile(codes, (shape.columns, 1))
    row_codes[1] = -codes
    inputs = code_inputs(shape, row_codes, column_codes, *random_inputs(name, k)[3:5])
    assert codes_of(inputs, shape)[0][0] @ codes > (0.98 if k > 1 else 0.5) * 2**31
    np.testing.assert_array_equal(run(name, inputs).products, products_of(inputs, shape)[1])


@every_tile
def test_each_value_alone_sets_its_own_bit(name: str) -> None:
    shape = TILES[name]
    inputs = random_inputs(name, 1)
    for terms in (inputs.row_terms, inputs.column_terms):
        terms[SCALE], terms[BIAS], terms[LOW] = 1, 0, CLOSED
    one, other = ((inputs.row_terms, inputs.column_terms)[turn] for turn in (0, 1))
    for row in range(shape.rows):
        for column in range(shape.columns):
            if name in INTEGERS:
                each, kind = per_word(shape), CODES[shape.screen]
                row_codes, column_codes = (np.zeros((width, each), kind) for width in shape[:2])
                row_codes[row, column % each] = column_codes[column, column % each] = 1
                inputs = code_inputs(shape, row_codes, column_codes, *inputs[3:5])
            else:
                inputs.a[:], inputs.b[:] = 0, 0
                inputs.a[0, row] = inputs.b[0, column] = 1
            one[LOW], other[LOW] = (1, CLOSED) if (row + column) % 2 else (CLOSED, 1)
            outcome = run(name, inputs)
            passed, closed = outcome[1:3] if (row + column) % 2 else outcome[2:0:-1]
            assert outcome.found == 1 << column
            assert np.argwhere(passed).tolist() == [[row, column]]
            assert not closed.any()


@every_tile
def test_nothing_is_written_when_nothing_passes(name: str) -> None:
    inputs = random_inputs(name, 5)
    inputs.row_terms[LOW] = inputs.column_terms[LOW] = 1e30
    outcome = run(name, inputs)
    assert outcome.found == 0
    assert (outcome.products == UNTOUCHED).all()


@every_tile
def test_nan_passes_no_gate(name: str) -> None:
    inputs = random_inputs(name, 3)
    floats = name not in BYTES
    if name in FLOATS:
        inputs.a[1, 0] = np.nan
    else:
        inputs.row_terms[SCALE, 0] = np.nan
    inputs.column_terms[BIAS, 1] = inputs.row_terms[BIAS, 2] = np.nan
    inputs.row_terms[LOW, 3] = inputs.column_terms[LOW, 4] = np.nan
    inputs.row_terms[HIGH, 4] = inputs.column_terms[HIGH, 5] = np.nan  # int8 has no upper ends
    outcome = run(name, inputs)
    of_row, of_column = np.ones((2, *TILES[name][:2]), bool)
    of_row[4] = of_column[:, 5] = not floats
    of_row[0] = of_row[3] = of_row[:, 1] = False
    of_column[0] = of_column[2] = of_column[:, 4] = False
    np.testing.assert_array_equal(outcome.of_row, of_row)
    np.testing.assert_array_equal(outcome.of_column, of_column)


@every_tile
def test_pads_pass_no_gate(name: str) -> None:
    """Rows and columns that are none have words of 0, which as unsigned bytes mean -128."""
    inputs = random_inputs(name, 16, intervals=2)
    for words, terms, first in ((inputs.a, inputs.row_terms, 3), (inputs.b, inputs.column_terms, 5)):
        words[:, first:], terms[SCALE, first:], terms[BIAS, first:] = 0, 0, PAD
        terms[LOW:] = np.array([[CLOSED], [UNGATED], [CLOSED], [UNGATED]])
        terms[LOW, :first], terms[HIGH, :first] = UNGATED, CLOSED
    inputs.start[:, 5:] = 0
    outcome = run(name, inputs)
    assert outcome.found == 0b11111
    for passed in (outcome.of_row, outcome.of_column):
        assert passed[:3, :5].all()
        assert passed.sum() == 15


def test_trailing_zeros() -> None:
    values = [*(1 << bit for bit in range(64)), (1 << 40) + (1 << 63)]
    assert [count_trailing_zeros(np.uint64(value)) for value in values] == [*range(64), 40]
    assert count_trailing_zeros(np.uint64(0)) == 64


@kernel
def count_trailing_zeros(value):
    return trailing_zeros(value)


# ---------------------------------------------------------------- which tiles a host has


@pytest.mark.parametrize(
    ("features", "names"),
    [
        (
            "+avx512f,+avx512vnni,+avxvnni,+avx2,+fma",
            {"f32": "avx512_8x48", "i8": "avx512vnni_8x48", "i16": "avx512vnni16_8x48"},
        ),
        ("+avx512f,-avx512vnni,+avx2,+fma", {"f32": "avx512_8x48"}),
        ("-avx512f,+avxvnni,+avx2,+fma", {"f32": "avx2_6x16", "i8": "avxvnni_6x16", "i16": "avxvnni16_6x16"}),
        ("+avx2,-fma", {"f32": "generic_8x12"}),
        ("+neon,+dotprod", {"f32": "generic_8x12", "i8": "dotprod_8x12"}),
        ("+neon", {"f32": "generic_8x12"}),
    ],
)
def test_a_host_has_the_first_of_each_screen(
    features: str, names: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(tile_shapes.TILE_VARIABLE, raising=False)
    monkeypatch.setattr(tile_shapes, "host_cpu", lambda: ("any", features))
    assert host_tiles.__wrapped__() == names


@every_tile
def test_the_variable_names_the_tile_of_its_screen(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tile_shapes.TILE_VARIABLE, name)
    assert host_tiles.__wrapped__() == host_tiles() | {TILES[name].screen: name}


def test_an_unknown_tile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(tile_shapes.TILE_VARIABLE, "avx2_6x61")
    with pytest.raises(UsageError, match="avx2_6x16"):
        host_tiles.__wrapped__()


def test_rows_too_long_for_integers_have_one_screen() -> None:
    assert set(usable_screens(LARGEST_DIMENSION)) == set(host_tiles())
    assert usable_screens(LARGEST_DIMENSION + 1) == ["f32"]
    assert 255 * 127 * LARGEST_DIMENSION < 2**31


def runs_here(name: str) -> bool:
    """Whether this processor has the instructions of a tile; those of AVX-VNNI under either of two names."""
    features = set(host_cpu()[1].split(","))
    if name.startswith("avxvnni") and features.issuperset(("+avx512vnni", "+avx512vl")):
        return True
    return features.issuperset(f"+{each}" for each in TILES[name].features)


@pytest.mark.parametrize(
    ("name", "variables"),
    [
        pytest.param("avx2_6x16", AVX2, marks=pytest.mark.skipif(not X86, reason="x86 only")),
        ("generic_8x12", {"MINESTREAM_TILE": "generic_8x12"}),
        ("avxvnni_6x16", {"MINESTREAM_TILE": "avxvnni_6x16"}),
        ("avxvnni16_6x16", {"MINESTREAM_TILE": "avxvnni16_6x16"}),
    ],
)
def test_other_tiles_in_their_own_process(name: str, variables: dict[str, str], tmp_path: Path) -> None:
    if not runs_here(name):
        pytest.skip(f"this processor has not what {name} needs")
    expected = {"f32": name} if variables is AVX2 else host_tiles() | {TILES[name].screen: name}
    environment = os.environ | variables | {"MINESTREAM_CACHE_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, __file__, json.dumps(expected), name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---------------------------------------------------------------- machine code


@cache
def assembly(triple: str, cpu: str, name: str) -> str:
    """The tile's machine code for any processor that LLVM knows, as text."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(triple)
    except RuntimeError:
        pytest.skip(f"llvmlite was built without {triple}")
    module = ir.Module()
    module.triple = triple
    build_tile(module, name, TILES[name]).linkage = "external"
    machine = target.create_target_machine(cpu=cpu, opt=3)
    parsed = llvm.parse_assembly(str(module))
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(parsed, builder)
    text: str = machine.emit_assembly(parsed)
    return text


LINUX, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"


@pytest.mark.parametrize(
    ("triple", "cpu", "name", "multiply", "stack"),
    [
        (LINUX, "znver4", "avx512_8x48", "vfmadd", "(%rsp)"),
        (LINUX, "skylake-avx512", "avx512_8x48", "vfmadd", "(%rsp)"),
        (LINUX, "haswell", "avx2_6x16", "vfmadd", "(%rsp)"),
        (ARM, "neoverse-n1", "generic_8x12", "fmla", "[sp"),
        (ARM, "generic", "generic_8x12", "fmla", "[sp"),
        (LINUX, "znver4", "avx512vnni_8x48", "vpdpbusd", "(%rsp)"),
        (LINUX, "icelake-server", "avx512vnni_8x48", "vpdpbusd", "(%rsp)"),
        (LINUX, "alderlake", "avxvnni_6x16", "vpdpbusd", "(%rsp)"),
        (LINUX, "znver4", "avx512vnni16_8x48", "vpdpwssd", "(%rsp)"),
        (LINUX, "sapphirerapids", "avx512vnni16_8x48", "vpdpwssd", "(%rsp)"),
        (LINUX, "alderlake", "avxvnni16_6x16", "vpdpwssd", "(%rsp)"),
        (ARM, "neoverse-n1", "dotprod_8x12", "sdot", "[sp"),
    ],
)
def test_the_loop_keeps_its_accumulators_in_registers(
    triple: str, cpu: str, name: str, multiply: str, stack: str
) -> None:
    text = assembly(triple, cpu, name)
    shape = TILES[name]
    blocks = [block for block in re.split(r"^\.L\w+:", text, flags=re.MULTILINE) if multiply in block]
    assert blocks
    for block in blocks:
        lines = block.splitlines()
        last = max(i for i, line in enumerate(lines) if multiply in line)
        inside = "\n".join(lines[: last + 1])
        assert inside.count(multiply) % (shape.rows * shape.columns // shape.lanes) == 0
        assert stack not in inside
    assert ("zmm" in text) == name.startswith("avx512")
    if name.startswith("avx512"):
        pieces = re.split(r"^(?:\.L\w+:|\tj.*)$", text, flags=re.MULTILINE)
        gates = next(i for i, piece in enumerate(pieces) if "vcmp" in piece)
        assert pieces[gates].count("vcmp") >= shape.rows * shape.columns // shape.lanes
        every_tile_runs = "".join(pieces[: gates + 1])
        assert not re.search(r"zmm.*\(%rsp\)|\(%rsp\).*zmm", every_tile_runs), "the gates spill"


def main() -> None:
    expected, name = json.loads(sys.argv[1]), sys.argv[2]
    assert host_tiles() == expected, host_tiles()
    assert set(usable_screens(8)) == set(expected)
    for k in (1, 3, 16, 50, 384):
        check_products(name, k)
    for k in (1, 2, 5, 16):
        check_gates(name, k, intervals=2)
    compiled: Any = one_tile
    (text,) = compiled.inspect_asm().values()
    if name == "avx2_6x16":
        assert "vfmadd" in text
        assert "zmm" not in text
    if name.startswith("avxvnni"):
        assert TILES[name].multiply.split(".")[-2] in text


if __name__ == "__main__":
    main()
