"""The register tile of small integers: int8 weights times int16 activations, summed in 32 bits without an error.

Two neighbours of K stand side by side, so that one instruction multiplies and adds them: `vpmaddwd` of AVX-512, AVX2 and
SSE2, which becomes `vpdpwssd` where there is one; elsewhere LLVM finds its own, such as `smull` of NEON. Sums of 32 bits are
exact (`reference.int8`), so they are cut as it is fastest.

B is packed in panels of `columns` columns, (pairs, columns, 2) each. Offsets count elements.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from nblstm.kernels.cpu.jit import named, shared
from nblstm.kernels.cpu.machine import NO_TILES, features
from nblstm.kernels.cpu.tiles import VECTOR_BYTES, VECTORS, Emitter, unpacked
from nblstm.kernels.cpu.vectors import pointer, splat

DEPTH_MULTIPLE = 4  # of a product: K is rounded up to it with zeros, two pairs at once


class Activations(NamedTuple):
    """Rows of whole numbers: row r stands at numbers[place + r * step :], in units of units[first + r]."""

    numbers: np.ndarray  # int16
    place: int
    step: int
    units: np.ndarray  # float32
    first: int


class Int8Panel(NamedTuple):
    """A packed panel of weights, (pairs, columns, 2) at numbers[place:], and the scales of its columns at scales[first:]."""

    numbers: np.ndarray  # int8
    place: int
    scales: np.ndarray  # float32
    first: int
    pairs: int  # an even number


def _pairwise(features: str) -> tuple[int, str | None]:
    """(vector bytes, the instruction that multiplies int16 and adds pairs, or None for what LLVM finds)."""
    if "+avx512bw" in features and VECTOR_BYTES == 64:
        return 64, "llvm.x86.avx512.pmaddw.d.512"
    if "+avx2" in features:
        return 32, "llvm.x86.avx2.pmadd.wd"
    return 16, "llvm.x86.sse2.pmadd.wd" if "+sse2" in features else None


INT_BYTES, PAIRWISE = _pairwise(features())
_I16, _I32, _FLOAT = ir.IntType(16), ir.IntType(32), ir.FloatType()


def _band(columns: int):
    """An intrinsic: C[rows, columns] += A[rows, K] @ B[K, columns] in its units and scales. C: `Block`, float32."""

    @intrinsic
    def band(typingctx, C, rows, A, B):
        sig = types.void(C, types.intp, A, B)

        def codegen(context, builder, sig, args):
            c, rows_, a, b = args
            emit = _Int8Emitter(context, builder, columns, (C, A, B), (c, a, b))
            done = ir.Constant(rows_.type, 0)
            for height in (4, 1):
                size = ir.Constant(rows_.type, height)
                count = builder.sdiv(builder.sub(rows_, done), size)
                with cgutils.for_range(builder, count) as loop:
                    emit.tile(height, builder.add(done, builder.mul(loop.index, size)))
                done = builder.add(done, builder.mul(count, size))
            return context.get_dummy_value()

        return sig, codegen

    return band


class _Int8Emitter(Emitter):
    """Writes the LLVM of a tile: a loop over pairs of K with the sums in phi nodes, then what they stand for."""

    def __init__(self, context, builder, columns, kinds, values):
        self.builder, self.columns = builder, columns
        self.C = unpacked(context, builder, kinds[0], values[0])
        self.A, self.units = self._of_two(context, kinds[1], values[1], 3)
        self.B, self.scales = self._of_two(context, kinds[2], values[2], 2)
        self.pairs, self.size = self.B[-1], self.C.step.type
        self.lanes = INT_BYTES // 4
        whole = columns // self.lanes
        most = 5 if INT_BYTES == 64 else VECTORS
        self.vectors = next(n for n in range(most, 0, -1) if whole % n == 0)  # of one tile
        self.groups = whole // self.vectors  # tiles side by side
        self.kind = ir.VectorType(_I32, self.lanes)
        self.halves, self.bytes = (ir.VectorType(ir.IntType(bits), 2 * self.lanes) for bits in (16, 8))
        self.floats = ir.VectorType(_FLOAT, self.lanes)

    def _of_two(self, context, kind, value, second):
        """(the address and the other numbers of a NamedTuple, the address in its second array, at place `second`)."""
        parts = [
            part if isinstance(type_, types.Array) else context.cast(self.builder, part, type_, types.intp)
            for part, type_ in zip(cgutils.unpack_tuple(self.builder, value), kind.types)
        ]
        arrays = [pointer(context, self.builder, kind.types[k], parts[k], parts[k + 1]) for k in (0, second)]
        return (arrays[0], *parts[2:second], *parts[second + 2 :]), arrays[1]

    def tile(self, height, row):
        """C[row : row + height] += A[row : row + height] @ B"""
        bd, ways = self.builder, 2 if height == 1 else 1  # of one row, sums of every second pair: more of them at once
        step, count = self.A[1], self.pairs if ways == 1 else bd.sdiv(self.pairs, self.size(2))
        a = bd.gep(self.A[0], [bd.mul(row, step)])
        for group in range(self.groups):
            skip, zero = group * self.vectors * self.lanes, ir.Constant(self.kind, [0] * self.lanes)
            b = bd.gep(self.B[0], [self.size(2 * skip)])
            body = lambda k, sums, b: self._pairs(a, k, height, ways, sums, b)
            sums, _ = self.loop(count, [zero] * (ways * height * self.vectors), b, body)
            half = height * self.vectors
            if ways == 2:
                sums = [bd.add(*both) for both in zip(sums[:half], sums[half:])]
            self._add_to_c(row, height, skip, sums)

    def _pairs(self, a, k, height, ways, sums, b):
        """sums[r, v] += a[r, pair] * b[pair, v] of the pairs k * ways ...; b moves on by as many."""
        bd, results = self.builder, []
        for way in range(ways):
            pair = bd.add(bd.mul(k, self.size(ways)), self.size(way))
            row = [self._widened(b, way * 2 * self.columns + v * 2 * self.lanes) for v in range(self.vectors)]
            for r in range(height):
                place = bd.gep(a, [bd.add(bd.mul(self.A[1], self.size(r)), bd.mul(pair, self.size(2)))])
                both = bd.load(bd.bitcast(place, _I32.as_pointer()), align=2)
                factor = bd.bitcast(splat(bd, both, self.lanes), self.halves)
                first = (way * height + r) * self.vectors
                results += [bd.add(sums[first + v], self._multiplied(row[v], factor)) for v in range(self.vectors)]
        return results, bd.gep(b, [self.size(ways * 2 * self.columns)])

    def _widened(self, b, skip):
        """The int8 numbers at b + skip as int16."""
        bd = self.builder
        place = bd.bitcast(bd.gep(b, [self.size(skip)]), self.bytes.as_pointer())
        return bd.sext(bd.load(place, align=1), self.halves)

    def _multiplied(self, x, y):
        """The sums of the products of neighbours."""
        bd = self.builder
        if PAIRWISE is not None:
            kind = ir.FunctionType(self.kind, [self.halves, self.halves])
            return bd.call(cgutils.get_or_insert_function(bd.module, kind, PAIRWISE), [x, y])
        wide = ir.VectorType(_I32, 2 * self.lanes)
        products = bd.mul(bd.sext(x, wide), bd.sext(y, wide))
        undefined = ir.Constant(wide, ir.Undefined)
        even, odd = (
            bd.shuffle_vector(products, undefined, ir.Constant(self.kind, list(range(first, 2 * self.lanes, 2))))
            for first in (0, 1)
        )
        return bd.add(even, odd)

    def _add_to_c(self, row, height, skip, sums):
        """C += sums * (unit of the row * scale of the column)."""
        bd = self.builder
        at = lambda base, offset: bd.bitcast(bd.gep(base, [offset]), self.floats.as_pointer())
        for r in range(height):
            number = bd.add(row, self.size(r))
            unit = splat(bd, bd.load(bd.gep(self.units, [number])), self.lanes)
            for v in range(self.vectors):
                column = self.size(skip + v * self.lanes)
                step = bd.fmul(unit, bd.load(at(self.scales, column), align=4))
                place = at(self.C.numbers, bd.add(bd.mul(number, self.C.step), column))
                product = bd.fmul(bd.sitofp(sums[r * self.vectors + v], self.floats), step)
                bd.store(bd.fadd(bd.load(place, align=4), product), place, align=4)


def sum_of_products(a, b, pairs, step):
    """The sum of a[2 * pairs] times the weights of a column of b, whose pairs are `step` apart; compiled it is a loop."""
    k = np.arange(2 * pairs)
    return (a[k].astype(np.int64) * b[k // 2 * step + k % 2]).sum()


@overload(sum_of_products)
def _sum_of_products(a, b, pairs, step):
    def add(a, b, pairs, step):
        total = 0
        for k in range(2 * pairs):
            total += np.int64(a[k]) * np.int64(b[k // 2 * step + k % 2])
        return total

    return add


def _plain_band(columns: int):
    """The plain loop beside the optimised one: for targets without vector registers, and for tests."""

    def band(C, rows, A, B):
        flat_c, flat_a, flat_b = C.numbers.reshape(-1), A.numbers.reshape(-1), B.numbers.reshape(-1)
        units = A.units.reshape(-1)
        for r in range(rows):
            for j in range(columns):
                total = sum_of_products(flat_a[A.place + r * A.step :], flat_b[B.place + 2 * j :], B.pairs, 2 * columns)
                step = units[A.first + r] * B.scales[B.first + j]
                flat_c[C.place + r * C.step + j] += np.float32(total) * step

    return named(band, f"_plain_int8_band_{columns}")


_bands = {columns: (_plain_band if NO_TILES else _band)(columns) for columns in (48, 64, 80)}


def _multiply(columns):
    """The product of panels of so many columns."""
    band = _bands[columns]

    def multiply_int8(C, rows, A, B):
        band(C, rows, A, B)

    return named(multiply_int8, f"multiply_int8_{columns}", shared)


MULTIPLY_INT8 = {
    columns: _multiply(columns) for columns in _bands
}  # C[rows] += A @ B: `Block`, `Activations`, `Int8Panel`
MULTIPLY_INT8[0] = MULTIPLY_INT8[64]  # of no columns: never called
