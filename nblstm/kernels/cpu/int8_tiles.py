"""The register tile of small integers: int8 weights times int16 activations, summed in 32 bits without an error.

Neighbours of K, `GROUP` of them, stand side by side, so that one instruction multiplies and adds them. Sums of 32 bits
are exact (`reference.int8`), so they are cut as it is fastest.

Two of them: `vpmaddwd` of AVX-512, AVX2 and SSE2 multiplies numbers of 16 bits, to which the weights are widened first;
elsewhere LLVM finds its own, such as `smull` of NEON.

Four of them: `vpdpbusd` of AVX-512 VNNI multiplies unsigned bytes by the weights as they are. An activation a is two
such bytes: a + 2^15 = 256 high + low, with which

    sum of a w = 256 (sum of high w - 128 sum of w) + sum of low w

in arithmetic that wraps around at 32 bits: what is left fits, so it is exact. The sums of `high` start from -128 sum of w,
int32, which stands in a row of the panel before the weights.

B is packed in panels of `columns` columns, (depth, columns, GROUP) each. Offsets count elements.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from nblstm.kernels.cpu.jit import named, shared
from nblstm.kernels.cpu.machine import GROUP, NO_TILES, features
from nblstm.kernels.cpu.tiles import VECTOR_BYTES, VECTORS, Block, Emitter, unpacked
from nblstm.kernels.cpu.vectors import pointer, splat

DEPTH_MULTIPLE = 2 * GROUP  # of a product: K is rounded up to it with zeros, two groups at once
START_ROWS = 1 if GROUP == 4 else 0  # of a panel, before the weights


class Activations(NamedTuple):
    """Rows of whole numbers: row r stands at numbers[place + r * step :], in units of units[first + r]."""

    numbers: np.ndarray  # int16, as `whole.store_rounded` lays them out
    place: int
    step: int
    units: np.ndarray  # float32
    first: int


class Int8Panels(NamedTuple):
    """Packed panels of weights, (depth, columns, GROUP) each, at numbers[place:]; their columns' scales at scales[first:]."""

    numbers: np.ndarray  # int8
    place: int
    scales: np.ndarray  # float32
    first: int
    depth: int  # START_ROWS and an even number


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
            emitter = _PairEmitter if GROUP == 2 else _QuadEmitter
            emit = emitter(context, builder, columns, (C, A, B), (c, a, b))
            done = ir.Constant(rows_.type, 0)
            for height in (emit.height, 1):
                size = ir.Constant(rows_.type, height)
                count = builder.sdiv(builder.sub(rows_, done), size)
                with cgutils.for_range(builder, count) as loop:
                    emit.tile(height, builder.add(done, builder.mul(loop.index, size)))
                done = builder.add(done, builder.mul(count, size))
            return context.get_dummy_value()

        return sig, codegen

    return band


class _PairEmitter(Emitter):
    """Writes the LLVM of a tile: a loop over pairs of K with the sums in phi nodes, then what they stand for."""

    vector_bytes, start_rows, group, height = INT_BYTES, 0, 2, 4

    def __init__(self, context, builder, columns, kinds, values):
        self.builder, self.columns = builder, columns
        self.C = unpacked(context, builder, kinds[0], values[0])
        self.A, self.units = self._of_two(context, kinds[1], values[1], 3)
        self.B, self.scales = self._of_two(context, kinds[2], values[2], 2)
        self.depth, self.size = self.B[-1], self.C.step.type
        self.lanes = self.vector_bytes // 4
        whole = columns // self.lanes
        most = 5 if self.vector_bytes == 64 else VECTORS
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
        bd, ways = self.builder, 2 if height == 1 else 1  # of one row, sums of every second group: more of them at once
        count = bd.sdiv(bd.sub(self.depth, self.size(self.start_rows)), self.size(ways))
        a, stride = bd.gep(self.A[0], [bd.mul(row, self.A[1])]), self.group * self.columns  # of a row of B
        for tile in range(self.groups):
            skip = tile * self.vectors * self.lanes
            b = bd.gep(self.B[0], [self.size(self.group * skip)])
            starts = self.starts(height, b)
            zeros = [ir.Constant(self.kind, [0] * self.lanes)] * len(starts) * (ways - 1)
            b = bd.gep(b, [self.size(self.start_rows * stride)])

            def body(k, sums, b, size=len(starts)):
                results = []
                for way in range(ways):
                    number = bd.add(bd.mul(k, self.size(ways)), self.size(way))
                    mine = sums[way * size : (way + 1) * size]
                    results += self.step(a, number, height, mine, bd.gep(b, [self.size(way * stride)]))
                return results, bd.gep(b, [self.size(ways * stride)])

            sums, _ = self.loop(count, starts + zeros, b, body)
            if ways == 2:
                sums = [bd.add(*both) for both in zip(sums[: len(starts)], sums[len(starts) :])]
            self._add_to_c(row, height, skip, self.totals(sums))

    def starts(self, height, b):
        """What the sums of `height` rows begin with."""
        return [ir.Constant(self.kind, [0] * self.lanes)] * (height * self.vectors)

    def totals(self, sums):
        """The sums of the products, (height, vectors)."""
        return sums

    def step(self, a, pair, height, sums, b):
        """sums[r, v] += a[r, pair] * b[v]"""
        bd, results = self.builder, []
        row = [self._widened(b, v * 2 * self.lanes) for v in range(self.vectors)]
        for r in range(height):
            factor = bd.bitcast(self._splat_at(a, r, bd.mul(pair, self.size(2))), self.halves)
            mine = sums[r * self.vectors : (r + 1) * self.vectors]
            results += [bd.add(total, self._multiplied(x, factor)) for total, x in zip(mine, row)]
        return results

    def _splat_at(self, a, r, place):
        """32 bits of row r of A in every lane."""
        bd = self.builder
        address = bd.gep(a, [bd.add(bd.mul(self.A[1], self.size(r)), place)])
        return splat(bd, bd.load(bd.bitcast(address, _I32.as_pointer()), align=2), self.lanes)

    def _vector_at(self, b, skip, kind):
        """The vector at b + skip."""
        bd = self.builder
        return bd.load(bd.bitcast(bd.gep(b, [self.size(skip)]), kind.as_pointer()), align=1)

    def _widened(self, b, skip):
        """The int8 numbers at b + skip as int16."""
        return self.builder.sext(self._vector_at(b, skip, self.bytes), self.halves)

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


class _QuadEmitter(_PairEmitter):
    """As `_PairEmitter`, over fours of K: the sums of all high bytes, then those of all low ones."""

    vector_bytes, start_rows, group = 64, 1, 4

    @property
    def height(self):
        """As many rows as 24 registers hold the sums of."""
        return 12 // self.vectors

    def starts(self, height, b):
        """-128 times the sum of each column's weights, and zeros."""
        row = [self._vector_at(b, v * 4 * self.lanes, self.kind) for v in range(self.vectors)]
        return row * height + super().starts(height, b)

    def totals(self, sums):
        """256 high + low"""
        bd, half, eight = self.builder, len(sums) // 2, ir.Constant(self.kind, [8] * self.lanes)
        return [bd.add(bd.shl(high, eight), low) for high, low in zip(sums[:half], sums[half:])]

    def step(self, a, four, height, sums, b):
        """sums[half, r, v] += a[r, four, half] * b[v]"""
        bd, results = self.builder, []
        row = [self._vector_at(b, v * 4 * self.lanes, self.kind) for v in range(self.vectors)]
        multiply = cgutils.get_or_insert_function(
            bd.module, ir.FunctionType(self.kind, [self.kind] * 3), "llvm.x86.avx512.vpdpbusd.512"
        )
        for half, first in ((1, 0), (0, len(sums) // 2)):  # the low bytes stand first
            for r in range(height):
                factor = self._splat_at(a, r, bd.add(bd.mul(four, self.size(4)), self.size(2 * half)))
                mine = sums[first + r * self.vectors :]
                results += [bd.call(multiply, [total, factor, x]) for total, x in zip(mine, row)]
        return results


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
                total = sum_of_products(flat_a[A.place + r * A.step :], flat_b[B.place + 2 * j :], B.depth, 2 * columns)
                step = units[A.first + r] * B.scales[B.first + j]
                flat_c[C.place + r * C.step + j] += np.float32(total) * step

    return named(band, f"_plain_int8_band_{columns}")


_make = _plain_band if NO_TILES else _band
_bands = {columns: _make(columns) for columns in (48, 64, 80)}


def _multiply(columns):
    """The product with panels of so many columns."""
    band = _bands[columns]

    def multiply_int8(C, skip, rows, A, B, p0, p1):
        for p in range(p0, p1):
            panel = B.place + p * B.depth * columns * GROUP
            weight = Int8Panels(B.numbers, panel, B.scales, B.first + p * columns, B.depth)
            band(Block(C.numbers, C.place + (p - p0) * skip, C.step), rows, A, weight)

    return named(multiply_int8, f"multiply_int8_{columns}", shared)


# C[rows] += A @ B of the panels p0 ... p1 of B, in blocks of C that are `skip` apart: `Block`, `Activations`, `Int8Panels`
MULTIPLY_INT8 = {columns: _multiply(columns) for columns in _bands}
MULTIPLY_INT8[0] = MULTIPLY_INT8[64]  # of no columns: never called
