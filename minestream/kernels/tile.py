"""Register tiles as LLVM vector code: one named function per (screen, instruction set, shape).

A tile multiplies `rows` packed rows by `columns` packed columns with all accumulators in registers, compares
them with the gates of both sides there, and touches memory only when a value passes. A kernel calls `tile`, which
becomes the host's tile of the panels' type when the kernel is compiled; the folder of compiled kernels is keyed by
the tiles' names (`jit.py`), so code of one shape is never loaded by a process that uses another.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic
from numpy.typing import NDArray

from minestream.kernels.tile_shapes import TILES, Tile, host_tile, host_tiles

F32 = ir.FloatType()
I8 = ir.IntType(8)
I32 = ir.IntType(32)
I64 = ir.IntType(64)
SCALE, BIAS, TAIL, LOW, HIGH = range(5)  # float32 values a row has beside its coordinates, see `tile`
INTERVAL = 2  # LOW and HIGH of an interval
WORDS, INTERVALS, PREFIX, SHIFT, CHECKED, STOPPED = range(6)  # of a control block, see `tile`
CONTROL = 6  # its entries
APART = 16  # integers before and behind it
TAIL_SHARE = 2.0**-10  # of the length of a row, see `tile`


def control_of(
    words: int, intervals: int = 1, prefix: int | None = None, shift: int = 0, checked: bool = False
) -> NDArray[np.int64]:
    """The control block of a `tile`, int64[CONTROL]: see there. Without a prefix all words are one."""
    control = np.zeros(CONTROL + 2 * APART, np.int64)[
        APART : APART + CONTROL
    ]  # it is added to: in cache lines of its own
    control[[WORDS, INTERVALS, PREFIX, SHIFT, CHECKED]] = words, intervals, prefix or words, shift, checked
    return control


def build_tile(module: ir.Module, name: str, shape: Tile) -> ir.Function:
    """Add the tile of one shape to an LLVM module, or find it there.

    Parameters
    ----------
    module : llvmlite.ir.Module
        Where the function goes.
    name : str
        Its symbol, private to the module.
    shape : Tile

    Returns
    -------
    llvmlite.ir.Function
        With the arguments of `tile`. Not inlined: the register allocation of its loop must not depend
        on the caller, and a call is nothing beside 2 * rows * columns * k operations.
    """
    if name in module.globals:
        return module.globals[name]
    return _Builder(module, name, shape).function


class _Builder:
    """Writes one tile, block by block."""

    def __init__(self, module: ir.Module, name: str, shape: Tile) -> None:
        self.module, self.shape = module, shape
        self.floats, self.ints = ir.VectorType(F32, shape.lanes), ir.VectorType(I32, shape.lanes)
        self.starts = range(0, shape.columns, shape.lanes)
        word = F32 if shape.screen == "f32" else I32
        pointers = {"w": word, "f": F32, "i": I32, "m": I64}
        kinds = [pointers[kind].as_pointer() for kind in "wwmffimmf"]
        self.function = ir.Function(module, ir.FunctionType(I64, kinds), name)
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.function.attributes.add("nounwind")
        (self.a, self.b, self.control, self.row_terms, self.column_terms, self.column_start, self.out_row_masks,
         self.out_column_masks, self.out_products) = self.function.args  # fmt: skip
        entry, gates, keep, masks, end = (
            self.function.append_basic_block(label) for label in ("entry", "gates", "keep", "masks", "end")
        )
        self.builder = ir.IRBuilder(entry)
        self.words = self._load(self.control, WORDS, I64)
        self.end, self.stopped = end, None
        accumulators = self._products()
        multiplied = self.builder.block
        self.builder.branch(gates)
        found = self._each_interval(multiplied, gates, accumulators, self._any_passes)
        none = self.builder.icmp_unsigned("==", found, I64(0))
        passed = self.builder.append_basic_block("passed")
        self.builder.cbranch(none, end, passed)
        nothing = self.builder.block
        self.builder.position_at_end(passed)
        self.builder.branch(keep)
        self.builder.position_at_end(keep)
        self._keep(accumulators)
        self.builder.branch(masks)
        union = self._each_interval(keep, masks, accumulators, self._add_masks)
        self.builder.branch(end)
        something = self.builder.block
        self.builder.position_at_end(end)
        answer = self.builder.phi(I64)
        for block in (nothing, self.stopped):
            if block is not None:
                answer.add_incoming(I64(0), block)
        answer.add_incoming(union, something)
        self.builder.ret(answer)

    def _each_interval(
        self, before: ir.Block, block: ir.Block, accumulators: list[list[ir.Value]], test: Callable[..., ir.Value]
    ) -> ir.Value:
        """The union of what `test` finds, interval by interval of the gates; ends in a block of its own."""
        builder = self.builder
        builder.position_at_end(block)
        interval, union = builder.phi(I64), builder.phi(I64)
        found = builder.or_(union, test(accumulators, interval))
        following = builder.add(interval, I64(1))
        for phi, first, value in ((interval, I64(0), following), (union, I64(0), found)):
            phi.add_incoming(first, before)
            phi.add_incoming(value, builder.block)
        done = builder.append_basic_block(f"{block.name}_done")
        more = builder.icmp_signed("<", following, self._load(self.control, INTERVALS, I64))
        builder.cbranch(more, block, done)
        builder.position_at_end(done)
        return found

    def _load(self, pointer: ir.Value, offset: ir.Value | int, kind: ir.Type) -> ir.Value:
        """`lanes` elements (vector `kind`) or one (scalar `kind`), at any alignment."""
        element = kind.element if isinstance(kind, ir.VectorType) else kind
        index = offset if isinstance(offset, ir.Value) else I64(offset)
        where = self.builder.gep(pointer, [index], source_etype=element)
        return self.builder.load(where, align=4, typ=kind)

    def _spread(self, value: ir.Value, lane: int = 0) -> ir.Value:
        """A vector with one scalar, or one lane of a vector, in every lane."""
        lanes = self.shape.lanes
        if not isinstance(value.type, ir.VectorType):
            empty = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
            value = self.builder.insert_element(empty, value, I32(0))
        undefined = ir.Constant(value.type, ir.Undefined)
        return self.builder.shuffle_vector(value, undefined, ir.Constant(ir.VectorType(I32, lanes), [lane] * lanes))

    def _multiplier(self) -> Callable[[ir.Value, ir.Value, ir.Value], ir.Value]:
        """accumulator + a * b, as a function of (a, b, accumulator)."""
        shape, builder = self.shape, self.builder
        if shape.screen == "f32":
            return self._fma
        bits = 16 if shape.screen == "i16" else 8
        codes = ir.VectorType(ir.IntType(bits), 32 // bits * shape.lanes)
        kind = ir.FunctionType(self.ints, [self.ints, codes, codes])
        dot = cgutils.get_or_insert_function(self.module, kind, f"llvm.{shape.multiply}")

        def multiply(a: ir.Value, b: ir.Value, accumulator: ir.Value) -> ir.Value:
            return builder.call(dot, [accumulator, builder.bitcast(a, codes), builder.bitcast(b, codes)])

        return multiply

    def _products(self) -> list[list[ir.Value]]:
        """The sums over all coordinates (int8: over those of the prefix, and then over the rest, unless it ends)."""
        shape, builder = self.shape, self.builder
        if shape.screen == "f32":
            zero = [ir.Constant(self.floats, [0.0] * shape.lanes)] * len(self.starts)
            return self._multiply(I64(0), self.words, [zero] * shape.rows)
        prefix = self._load(self.control, PREFIX, I64)
        starts = [self._load(self.column_start, start, self.ints) for start in self.starts]
        first = self._multiply(I64(0), prefix, [starts] * shape.rows)
        check, rest, whole = (builder.append_basic_block(label) for label in ("check", "rest", "whole"))
        is_cut = builder.icmp_signed("<", prefix, self.words)
        asked = builder.and_(is_cut, builder.icmp_signed("!=", self._load(self.control, CHECKED, I64), I64(0)))
        later = builder.append_basic_block("unchecked")
        builder.cbranch(asked, check, later)
        builder.position_at_end(later)
        builder.cbranch(is_cut, rest, whole)
        builder.position_at_end(check)
        self._check(first, rest)
        builder.position_at_end(rest)
        shift = self._spread(builder.trunc(self._load(self.control, SHIFT, I64), I32))
        starts = [self._load(self.column_start, shape.columns + start, self.ints) for start in self.starts]
        going_on = [
            [builder.add(builder.shl(value, shift), start) for value, start in zip(row, starts, strict=True)]
            for row in first
        ]
        second = self._multiply(prefix, self.words, going_on)
        multiplied_all = builder.block
        builder.branch(whole)
        builder.position_at_end(whole)
        merged = [[builder.phi(self.ints) for _ in self.starts] for _ in range(shape.rows)]
        for values, block in ((first, later), (second, multiplied_all)):
            for row, phis in zip(values, merged, strict=True):
                for value, phi in zip(row, phis, strict=True):
                    phi.add_incoming(value, block)
        return merged

    def _multiply(
        self, begin: ir.Value, words: ir.Value, starting: list[list[ir.Value]]
    ) -> list[list[ir.Value]]:  # fmt: skip
        """The loop over words begin ... words - 1 of all rows, at least one; ends in a block of its own."""
        shape, builder = self.shape, self.builder
        f32 = shape.screen == "f32"
        vector, word = (self.floats, F32) if f32 else (self.ints, I32)
        multiply, before_loop = self._multiplier(), builder.block
        loop, done = builder.append_basic_block("loop"), builder.append_basic_block("multiplied")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(I64)
        before = [[builder.phi(vector) for _ in self.starts] for _ in range(shape.rows)]
        b_offset = builder.mul(step, I64(shape.columns))
        a_offset = builder.mul(step, I64(shape.rows))
        b_vectors = [self._load(self.b, builder.add(b_offset, I64(start)), vector) for start in self.starts]
        after = []
        for row in range(shape.rows):
            if shape.lanes == 4:  # NEON multiplies by a lane of a register; x86 broadcasts from memory
                if row % shape.lanes == 0:
                    a_vector = self._load(self.a, builder.add(a_offset, I64(row)), vector)
                a_value = self._spread(a_vector, row % shape.lanes)
            else:
                a_value = self._spread(self._load(self.a, builder.add(a_offset, I64(row)), word))
            after.append([multiply(a_value, each, acc) for each, acc in zip(b_vectors, before[row], strict=True)])
        next_step = builder.add(step, I64(1))
        step.add_incoming(begin, before_loop)
        step.add_incoming(next_step, loop)
        for row in range(shape.rows):
            for column, start_value in enumerate(starting[row]):
                before[row][column].add_incoming(start_value, before_loop)
                before[row][column].add_incoming(after[row][column], loop)
        builder.cbranch(builder.icmp_signed("<", next_step, words), loop, done)
        builder.position_at_end(done)
        return after

    def _check(self, accumulators: list[list[ir.Value]], rest: ir.Block) -> None:
        """Go on with `rest` if any value could pass a gate when the other coordinates are as alike as can be."""
        builder = self.builder
        weight = self._spread(builder.uitofp(builder.shl(I64(1), self._load(self.control, SHIFT, I64)), F32))
        found: ir.Value = I64(0)
        for row in range(self.shape.rows):
            tail, tests = self._row_term(TAIL, row), []
            for start, accumulator in zip(self.starts, accumulators[row], strict=True):
                prefix = builder.fmul(self._product(row, start, accumulator), weight)
                most = builder.fmul(tail, self._column_term(TAIL, start))
                most = self._fma(prefix, self._row_term(SCALE, row), most)
                for_row = builder.fadd(most, self._column_term(BIAS, start))
                for_column = builder.fadd(most, self._row_term(BIAS, row))
                tests.append(self._between(for_row, self._row_term(LOW, row), None))
                tests.append(self._between(for_column, self._column_term(LOW, start), None))
            any_of_row = self._bits(reduce(builder.or_, tests))
            self._store_mask(self.out_row_masks, row, any_of_row)
            found = builder.or_(found, any_of_row)
        stop = builder.append_basic_block("stop")
        builder.cbranch(builder.icmp_unsigned("==", found, I64(0)), stop, rest)
        builder.position_at_end(stop)
        count = builder.gep(self.control, [I64(STOPPED)], source_etype=I64)
        builder.store(builder.add(builder.load(count, typ=I64), I64(1)), count)
        builder.branch(self.end)
        self.stopped = stop

    def _row_term(self, term: int, row: int, interval: ir.Value | None = None) -> ir.Value:
        return self._spread(self._load(self.row_terms, self._place(term, self.shape.rows, row, interval), F32))

    def _column_term(self, term: int, start: int, interval: ir.Value | None = None) -> ir.Value:
        place = self._place(term, self.shape.columns, start, interval)
        return self._load(self.column_terms, place, self.floats)

    def _place(self, term: int, width: int, at: int, interval: ir.Value | None) -> ir.Value | int:
        if interval is None:
            return term * width + at
        return self.builder.add(self.builder.mul(interval, I64(INTERVAL * width)), I64(term * width + at))

    def _product(self, row: int, start: int, accumulator: ir.Value) -> ir.Value:
        """The inner product that an accumulator stands for; of integers still without the row's scale."""
        if self.shape.screen == "f32":
            return accumulator
        return self.builder.fmul(self.builder.sitofp(accumulator, self.floats), self._column_term(SCALE, start))

    def _sum(self, row: int, product: ir.Value, bias: ir.Value) -> ir.Value:
        if self.shape.screen == "f32":
            return self.builder.fadd(product, bias)
        return self._fma(product, self._row_term(SCALE, row), bias)

    def _fma(self, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        kind = ir.FunctionType(self.floats, [self.floats] * 3)
        fma = cgutils.get_or_insert_function(self.module, kind, f"llvm.fma.v{self.shape.lanes}f32")
        return self.builder.call(fma, [a, b, c])

    def _between(self, value: ir.Value, low: ir.Value, high: ir.Value | None) -> ir.Value:
        above = self.builder.fcmp_ordered(">=", value, low)
        if high is None:
            return above
        return self.builder.and_(above, self.builder.fcmp_ordered("<=", value, high))

    def _tests(
        self, row: int, accumulators: list[ir.Value], interval: ir.Value
    ) -> tuple[list[ir.Value], list[ir.Value]]:
        """Vectors of i1 of one row: is the column wanted by the row, is the row wanted by the column?"""
        ends = self.shape.screen != "i8"  # int8 is for gates that end at the nearest: upper ends are not compared
        low, bias = self._row_term(LOW, row, interval), self._row_term(BIAS, row)
        high = self._row_term(HIGH, row, interval) if ends else None
        of_row, of_column = [], []
        for start, accumulator in zip(self.starts, accumulators, strict=True):
            product = self._product(row, start, accumulator)
            for_row = self._sum(row, product, self._column_term(BIAS, start))
            for_column = self._sum(row, product, bias)
            of_row.append(self._between(for_row, low, high))
            column_high = self._column_term(HIGH, start, interval) if ends else None
            of_column.append(self._between(for_column, self._column_term(LOW, start, interval), column_high))
        return of_row, of_column

    def _bits(self, test: ir.Value) -> ir.Value:
        return self.builder.zext(self.builder.bitcast(test, ir.IntType(self.shape.lanes)), I64)

    def _store_mask(self, out: ir.Value, row: int, mask: ir.Value) -> None:
        self.builder.store(mask, self.builder.gep(out, [I64(row)], source_etype=I64))
        # No instruction, but no load or store moves across it: the compiler would otherwise load the terms
        # of all rows before it compares the first, and spill 24 vectors in every tile.
        self.builder.fence("seq_cst", targetscope="singlethread")

    def _any_passes(self, accumulators: list[list[ir.Value]], interval: ir.Value) -> ir.Value:
        """Whether any value passes; most tiles end here."""
        found: ir.Value = I64(0)
        for row in range(self.shape.rows):
            of_row, of_column = self._tests(row, accumulators[row], interval)
            any_of_row = self._bits(reduce(self.builder.or_, [*of_row, *of_column]))
            self._store_mask(self.out_row_masks, row, any_of_row)
            found = self.builder.or_(found, any_of_row)
        return found

    def _keep(self, accumulators: list[list[ir.Value]]) -> None:
        """Store all products, and empty masks."""
        builder = self.builder
        for row in range(self.shape.rows):
            for start, accumulator in zip(self.starts, accumulators[row], strict=True):
                product = self._product(row, start, accumulator)
                if self.shape.screen != "f32":
                    product = builder.fmul(product, self._row_term(SCALE, row))
                where = builder.gep(self.out_products, [I64(row * self.shape.columns + start)], source_etype=F32)
                builder.store(product, builder.bitcast(where, self.floats.as_pointer()), align=4)
            for out in (self.out_row_masks, self.out_column_masks):
                self._store_mask(out, row, I64(0))

    def _add_masks(self, accumulators: list[list[ir.Value]], interval: ir.Value) -> ir.Value:
        """Add what passes to both masks. The tests are made again: to carry them would cost every tile."""
        builder = self.builder
        union: ir.Value = I64(0)
        for row in range(self.shape.rows):
            tests = self._tests(row, accumulators[row], interval)
            for out, side in zip((self.out_row_masks, self.out_column_masks), tests, strict=True):
                mask = self._load(out, row, I64)
                for start, test in zip(self.starts, side, strict=True):
                    mask = builder.or_(mask, builder.shl(self._bits(test), I64(start)))
                self._store_mask(out, row, mask)
                union = builder.or_(union, mask)
        return union


def _screen_of(panels: Any) -> str:
    """The screen whose panels an argument points to."""
    return {types.float32: "f32", types.uint32: "i16"}.get(panels.dtype, "i8")


@intrinsic
def tile(
    typing_context: Any,
    a: Any,
    b: Any,
    control: Any,
    row_terms: Any,
    column_terms: Any,
    column_start: Any,
    out_row_masks: Any,
    out_column_masks: Any,
    out_products: Any,
) -> Any:
    """The inner products of one tile, kept only where they pass a gate of their row or column. For kernels.

    Parameters
    ----------
    a : float32*, int32* or uint32*, (words, rows)
        Packed rows, word by word: a coordinate, or in int32 four codes of a byte each, 128 added where the tile has
        unsigned rows; in uint32 two codes of 16 bits each, signed.
    b : float32*, int32* or uint32*, (words, columns)
        Packed columns, likewise; codes of a byte are -127 ... 127.
    control : int64*, (CONTROL,)
        WORDS, at least 1; INTERVALS, how many a gate has, at least 1: those not needed are closed (low = infinity). Of
        int8 besides: PREFIX, the words whose products count 2^SHIFT times, 1 ... WORDS; CHECKED, whether to stop behind
        them where no value can pass any more; STOPPED, to which such stops are added.
    row_terms : float32*, (LOW + 2 * intervals, rows)
        Scale, bias, tail, then low and high of each interval, of each row. Tail, of int8, with S the scale, and in the
        prefix 2^(SHIFT / 2) times that: at least the length of S q behind the prefix plus TAIL_SHARE of that of S q.
    column_terms : float32*, (LOW + 2 * intervals, columns)
        The same of each column.
    column_start : int32*, (2, columns)
        Where int8 accumulators start, and what is added to them behind the prefix: where rows are unsigned -128 times
        the sum of the column's codes there, else 0.
    out_row_masks, out_column_masks : uint64*, (rows,)
        Bit c of element r: value (r, c) passes the gate of row r; of column c. Of no meaning when nothing passed.
    out_products : float32*, (rows * columns,)
        The products, row after row. Written only if a value of the tile passes.

    Returns
    -------
    uint64
        The union of the masks; 0 when nothing passed.

    Notes
    -----
    float32: product = sum over i of a[i, r] b[i, c], i ascending, one fused multiply-add each:
    |error| <= gamma_k sum |a[i, r] b[i, c]| barring underflow. int8 and int16: the
    accumulator P = 2^SHIFT P1 + P2, of the prefix and the rest, is exact (of int16 where quantize.py has made the
    codes), product = P * scale[c] * scale[r] with three roundings.

    The row's gate compares product + bias[c] with low[r] (and high[r]), the column's product + bias[r] with low[c]
    (and high[c]); all ends are closed, int8 knows no high, NaN passes nothing. Inputs are contiguous, of any
    alignment, and do not overlap the outputs.

    A checked tile finds what an unchecked one does. With Q the length of S q, by Cauchy-Schwarz P2 scale[c] scale[r] is
    at most what both tails multiply to less TAIL_SHARE^2 Q_r Q_c = 16 u Q_r Q_c, u = 2^-24. The roundings of product
    take 2.1 u Q_r Q_c of that at most, those of 2^SHIFT P1 scale[c] scale[r] + tail[r] tail[c] 5.3 u Q_r Q_c. So that
    sum is no less than the unrounded product, and with a bias, by the monotony of rounding, no less than what is
    compared with the gate.
    """
    name = host_tiles()[_screen_of(a)]
    outputs = [types.uint64, types.uint64, types.float32]
    pointed = [a.dtype, a.dtype, types.int64, types.float32, types.float32, types.int32, *outputs]
    signature = types.uint64(*map(types.CPointer, pointed))

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = build_tile(builder.module, f"minestream_tile_{name}", TILES[name])
        typed = zip(arguments, function.args, strict=True)
        return builder.call(function, [builder.bitcast(value, formal.type) for value, formal in typed])

    return signature, codegen


@intrinsic
def tile_shape(typing_context: Any, panels: Any) -> Any:
    """(rows, columns) of the `tile` of such panels, as int64 and fixed when the kernel is compiled. For kernels."""
    shape = host_tile(_screen_of(panels))
    signature = types.UniTuple(types.int64, 2)(panels)

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return context.make_tuple(builder, signature.return_type, [I64(shape.rows), I64(shape.columns)])

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


@intrinsic
def prefetch(typing_context: Any, pointer: Any) -> Any:
    """Ask the memory for the cache line at a pointer. For kernels."""

    def codegen(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        octet = I8.as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [octet, I32, I32, I32])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        builder.call(function, [builder.bitcast(arguments[0], octet), I32(0), I32(3), I32(1)])
        return context.get_dummy_value()

    return types.void(pointer), codegen
