"""The float32 register tile as LLVM vector code: one named function per (instruction set, shape).

A tile multiplies `rows` packed rows by `columns` packed columns with all accumulators in registers, compares
them with its gates there, and touches memory only when a value passes. A kernel calls `tile_f32`, which
becomes the host's tile when the kernel is compiled; the folder of compiled kernels is keyed by the tile's
name (`compiled.py`), so code of one shape is never loaded by a process that uses another.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache, reduce
from typing import Any, NamedTuple

import llvmlite.binding as llvm
from llvmlite import ir
from numba import types
from numba.core import cgutils, config
from numba.core.codegen import get_host_cpu_features
from numba.core.errors import TypingError
from numba.extending import intrinsic

from minestream.errors import UsageError, nearest_name

TILE_VARIABLE = "MINESTREAM_TILE"

F32 = ir.FloatType()
I32 = ir.IntType(32)
I64 = ir.IntType(64)

TILE_SIGNATURE = types.uint64(
    types.CPointer(types.float32),  # a
    types.CPointer(types.float32),  # b
    types.intp,  # k
    types.CPointer(types.float32),  # bias
    types.CPointer(types.int32),  # code_b
    types.CPointer(types.float32),  # lo_same
    types.CPointer(types.float32),  # hi_same
    types.CPointer(types.float32),  # lo_other
    types.CPointer(types.float32),  # hi_other
    types.CPointer(types.int32),  # code_a
    types.CPointer(types.uint64),  # out_mask
    types.CPointer(types.float32),  # out_acc
)


class Tile(NamedTuple):
    """A register tile: its shape, the width of its vectors, and the instruction set that it is made for.

    Attributes
    ----------
    rows, columns : int
        Shape of the accumulators; `columns` is at most 64, the bits of a row's mask.
    lanes : int
        float32 values in a vector register.
    features : tuple of str
        LLVM's names of the CPU features that the shape needs; none for the shape that fits everywhere.
    function : intrinsic
        To be called from kernels, with the arguments of `tile_f32`.
    """

    rows: int
    columns: int
    lanes: int
    features: tuple[str, ...]
    function: Any


def build_tile(module: ir.Module, name: str, rows: int, columns: int, lanes: int) -> ir.Function:
    """Add the tile of one shape to an LLVM module, or find it there.

    Parameters
    ----------
    module : llvmlite.ir.Module
        Where the function goes.
    name : str
        Its symbol, private to the module.
    rows, columns, lanes : int
        Shape of the tile and of its vectors; `lanes` divides `columns`, and `columns` <= 64.

    Returns
    -------
    llvmlite.ir.Function
        With the arguments of `tile_f32`. Not inlined: the register allocation of its loop must not depend
        on the caller, and a call is nothing beside 2 * rows * columns * k operations.
    """
    if name in module.globals:
        return module.globals[name]
    vector = ir.VectorType(F32, lanes)
    pointers = {"f": F32.as_pointer(), "i": I32.as_pointer(), "m": I64.as_pointer(), "k": I64}
    function = ir.Function(module, ir.FunctionType(I64, [pointers[kind] for kind in "ffkfiffffimf"]), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    a, b, k, bias, code_b, lo_same, hi_same, lo_other, hi_other, code_a, out_mask, out_acc = function.args
    fma_type = ir.FunctionType(vector, [vector, vector, vector])
    fma = cgutils.get_or_insert_function(module, fma_type, f"llvm.fma.v{lanes}f32")

    entry, loop, gates, passed, end = (
        function.append_basic_block(label) for label in ("entry", "loop", "gates", "passed", "end")
    )
    builder = ir.IRBuilder(entry)
    starts = range(0, columns, lanes)

    def load(pointer: ir.Value, offset: ir.Value | int, kind: ir.Type) -> ir.Value:
        """`lanes` elements (vector `kind`) or one (scalar `kind`), at any alignment."""
        element = kind.element if isinstance(kind, ir.VectorType) else kind
        index = offset if isinstance(offset, ir.Value) else I64(offset)
        where = builder.gep(pointer, [index], source_etype=element)
        return builder.load(where, align=4, typ=kind)

    def spread(value: ir.Value, lane: int = 0) -> ir.Value:
        """A vector with one scalar, or one lane of a vector, in every lane."""
        if not isinstance(value.type, ir.VectorType):
            empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
            value = builder.insert_element(empty, value, I32(0))
        undefined = ir.Constant(value.type, ir.Undefined)
        return builder.shuffle_vector(value, undefined, ir.Constant(ir.VectorType(I32, lanes), [lane] * lanes))

    biases = [load(bias, start, vector) for start in starts]
    builder.branch(loop)

    builder.position_at_end(loop)
    step = builder.phi(I64)
    before = [[builder.phi(vector) for _ in starts] for _ in range(rows)]
    b_offset = builder.mul(step, I64(columns))
    a_offset = builder.mul(step, I64(rows))
    b_vectors = [load(b, builder.add(b_offset, I64(start)), vector) for start in starts]
    after = []
    for row in range(rows):
        if lanes == 4:  # NEON multiplies by a lane of a register; x86 broadcasts from memory
            if row % lanes == 0:
                a_vector = load(a, builder.add(a_offset, I64(row)), vector)
            a_value = spread(a_vector, row % lanes)
        else:
            a_value = spread(load(a, builder.add(a_offset, I64(row)), F32))
        after.append(
            [builder.call(fma, [a_value, each, acc]) for each, acc in zip(b_vectors, before[row], strict=True)]
        )
    next_step = builder.add(step, I64(1))
    step.add_incoming(I64(0), entry)
    step.add_incoming(next_step, loop)
    for row in range(rows):
        for column, start_value in enumerate(biases):
            before[row][column].add_incoming(start_value, entry)
            before[row][column].add_incoming(after[row][column], loop)
    builder.cbranch(builder.icmp_signed("<", next_step, k), loop, gates)

    codes = ir.VectorType(I32, lanes)

    def row_tests(row: int) -> list[ir.Value]:
        """A vector of i1 per vector of accumulators: does the value pass its row's gate?"""
        code = spread(load(code_a, row, I32))
        bounds = [spread(load(each, row, F32)) for each in (lo_same, lo_other, hi_same, hi_other)]
        tests = []
        for start, acc in zip(starts, after[row], strict=True):
            same = builder.icmp_signed("==", load(code_b, start, codes), code)
            above = builder.fcmp_ordered(">=", acc, builder.select(same, bounds[0], bounds[1]))
            below = builder.fcmp_ordered("<=", acc, builder.select(same, bounds[2], bounds[3]))
            tests.append(builder.and_(above, below))
        return tests

    def bits_of(test: ir.Value) -> ir.Value:
        return builder.zext(builder.bitcast(test, ir.IntType(lanes)), I64)

    def store_mask(row: int, mask: ir.Value) -> None:
        builder.store(mask, builder.gep(out_mask, [I64(row)], source_etype=I64))
        # No instruction, but no load or store moves across it: the compiler would otherwise select the
        # bounds of all rows before it compares the first, and spill 24 vectors in every tile.
        builder.fence("seq_cst", targetscope="singlethread")

    builder.position_at_end(gates)
    found: ir.Value = I64(0)
    for row in range(rows):
        any_vector = reduce(builder.or_, row_tests(row))
        store_mask(row, bits_of(any_vector))
        found = builder.or_(found, bits_of(any_vector))
    builder.cbranch(builder.icmp_unsigned("!=", found, I64(0)), passed, end)

    # Most tiles pass nothing: the test of each vector is made again, here, from gates read anew, because
    # carrying 24 of them from above would cost every tile.
    builder.position_at_end(passed)
    for row in range(rows):
        for start, acc in zip(starts, after[row], strict=True):
            where = builder.gep(out_acc, [I64(row * columns + start)], source_etype=F32)
            builder.store(acc, builder.bitcast(where, vector.as_pointer()), align=4)
    union: ir.Value = I64(0)
    for row in range(rows):
        mask: ir.Value = I64(0)
        for start, test in zip(starts, row_tests(row), strict=True):
            mask = builder.or_(mask, builder.shl(bits_of(test), I64(start)))
        store_mask(row, mask)
        union = builder.or_(union, mask)
    builder.branch(end)

    builder.position_at_end(end)
    answer = builder.phi(I64)
    answer.add_incoming(I64(0), gates)
    answer.add_incoming(union, passed)
    builder.ret(answer)
    return function


def _tile_code(name: str, rows: int, columns: int, lanes: int) -> Callable[..., Any]:
    """What an intrinsic returns to have numba call the tile of one shape."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = build_tile(builder.module, f"minestream_{name}", rows, columns, lanes)
        typed = zip(arguments, function.args, strict=True)
        return builder.call(function, [builder.bitcast(value, formal.type) for value, formal in typed])

    return codegen


@intrinsic
def tile_f32_avx512_8x48(
    typing_context: Any,
    a: Any,
    b: Any,
    k: Any,
    bias: Any,
    code_b: Any,
    lo_same: Any,
    hi_same: Any,
    lo_other: Any,
    hi_other: Any,
    code_a: Any,
    out_mask: Any,
    out_acc: Any,
) -> Any:
    """`tile_f32` for AVX-512: 24 accumulators of 16 lanes."""
    return TILE_SIGNATURE, _tile_code("tile_f32_avx512_8x48", 8, 48, 16)


@intrinsic
def tile_f32_avx2_6x16(
    typing_context: Any,
    a: Any,
    b: Any,
    k: Any,
    bias: Any,
    code_b: Any,
    lo_same: Any,
    hi_same: Any,
    lo_other: Any,
    hi_other: Any,
    code_a: Any,
    out_mask: Any,
    out_acc: Any,
) -> Any:
    """`tile_f32` for AVX2 with FMA: 12 accumulators of 8 lanes."""
    return TILE_SIGNATURE, _tile_code("tile_f32_avx2_6x16", 6, 16, 8)


@intrinsic
def tile_f32_generic_8x12(
    typing_context: Any,
    a: Any,
    b: Any,
    k: Any,
    bias: Any,
    code_b: Any,
    lo_same: Any,
    hi_same: Any,
    lo_other: Any,
    hi_other: Any,
    code_a: Any,
    out_mask: Any,
    out_acc: Any,
) -> Any:
    """`tile_f32` for NEON and everything else: 24 accumulators of 4 lanes."""
    return TILE_SIGNATURE, _tile_code("tile_f32_generic_8x12", 8, 12, 4)


# The first whose features the host has is the host's; the order is that of speed.
TILES: dict[str, Tile] = {
    "avx512_8x48": Tile(8, 48, 16, ("avx512f",), tile_f32_avx512_8x48),
    "avx2_6x16": Tile(6, 16, 8, ("avx2", "fma"), tile_f32_avx2_6x16),
    "generic_8x12": Tile(8, 12, 4, (), tile_f32_generic_8x12),
}


def host_cpu() -> tuple[str, str]:
    """The CPU that numba compiles for.

    Returns
    -------
    name, features : str
        LLVM's words, features as "+avx2,-avx512f,...". `NUMBA_CPU_NAME` and `NUMBA_CPU_FEATURES` count as
        they do for numba; features that a name alone implies are not listed, so set both.
    """
    name = llvm.get_host_cpu_name() if config.CPU_NAME is None else config.CPU_NAME
    features = get_host_cpu_features() if config.CPU_FEATURES is None else config.CPU_FEATURES
    return name, features


@cache
def host_tile() -> str:
    """The name in `TILES` of the tile that this process compiles: asked once, then fixed.

    Raises
    ------
    UsageError
        `$MINESTREAM_TILE` is set and names no tile.
    """
    asked = os.environ.get(TILE_VARIABLE)
    if asked:
        if asked not in TILES:
            raise UsageError(f"{TILE_VARIABLE}: no tile {asked!r}", nearest_name(asked, list(TILES)))
        return asked
    features = set(host_cpu()[1].split(","))
    return next(name for name, tile in TILES.items() if features.issuperset(f"+{each}" for each in tile.features))


@intrinsic
def tile_f32(
    typing_context: Any,
    a: Any,
    b: Any,
    k: Any,
    bias: Any,
    code_b: Any,
    lo_same: Any,
    hi_same: Any,
    lo_other: Any,
    hi_other: Any,
    code_a: Any,
    out_mask: Any,
    out_acc: Any,
) -> Any:
    """The affinities of one tile, kept only where they pass their row's gate. For kernels.

    Parameters
    ----------
    a : float32*, (k, rows)
        Packed rows, coordinate by coordinate.
    b : float32*, (k, columns)
        Packed columns, coordinate by coordinate.
    k : intp
        Coordinates, at least 1.
    bias : float32*, (columns,)
        Where the accumulators of a column start: acc[r, c] = bias[c] + sum over i of a[i, r] b[i, c],
        i ascending, one fused multiply-add each: |error| <= gamma_k (|bias[c]| + sum |a[i, r] b[i, c]|)
        barring underflow.
    code_b : int32*, (columns,)
        Codes of the columns.
    lo_same, hi_same, lo_other, hi_other : float32*, (rows,)
        Gates, both ends closed: the value passes when lo <= acc <= hi, with the `same` pair of the row where
        code_a[r] == code_b[c] and the `other` pair elsewhere. NaN passes nothing.
    code_a : int32*, (rows,)
        Codes of the rows.
    out_mask : uint64*, (rows,)
        Bit c of out_mask[r] is set when value (r, c) passes. Of no meaning when nothing passed.
    out_acc : float32*, (rows * columns,)
        All accumulators, row after row. Written only if a value of the tile passes.

    Returns
    -------
    uint64
        The union of the masks; 0 when nothing passed.

    Notes
    -----
    Inputs are contiguous, of any alignment, and do not overlap the outputs.
    """
    shape = TILES[host_tile()]
    return TILE_SIGNATURE, _tile_code(f"tile_f32_{host_tile()}", shape.rows, shape.columns, shape.lanes)


@intrinsic
def tile_shape(typing_context: Any) -> Any:
    """(rows, columns) of `tile_f32`, as int64 and fixed when the kernel is compiled. For kernels.

    A kernel that returns it lets its caller compare it with `TILES[host_tile()]`, by which the panels
    were packed.
    """
    tile = TILES[host_tile()]
    signature = types.UniTuple(types.int64, 2)()

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_tuple(builder, signature.return_type, [I64(tile.rows), I64(tile.columns)])

    return signature, codegen


@intrinsic
def address(typing_context: Any, array: Any, offset: Any) -> Any:
    """Pointer to element `offset` of a C-contiguous array, counted in flat order. For kernels.

    Nothing is checked, and the pointer does not keep the array alive: use it on arrays that the kernel
    was given, not on ones that it made.
    """
    if not isinstance(array, types.Array) or array.layout != "C":
        raise TypingError(f"address() wants a C-contiguous array, not {array}")
    signature = types.CPointer(array.dtype)(array, types.intp)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return signature, codegen


@intrinsic
def trailing_zeros(typing_context: Any, value: Any) -> Any:
    """Zero bits below the lowest set bit of a uint64; 64 for 0. For kernels."""
    signature = types.uint64(types.uint64)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 0))

    return signature, codegen
