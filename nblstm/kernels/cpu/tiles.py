"""The register tile: the one inner loop that every product of the CPU kernels is made of.

A tile keeps `rows x vectors` accumulators in registers while it walks along K: each step loads `vectors`
vectors of B, broadcasts `rows` numbers of A and does rows * vectors fused multiply-adds. Written as LLVM
vector IR (numba's `@intrinsic`), because a scalar loop is not turned into this shape by the compiler.
Vector width and tile shape follow the machine (`SHAPE`).

B is packed in panels of PANEL columns, (K, PANEL) each, contiguous. Offsets count elements. Where A and B are uint32 an
element is two bfloat16 numbers (`pairs`), and K counts elements: one instruction multiplies and adds both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from nblstm.kernels.cpu.jit import named, shared
from nblstm.kernels.cpu.machine import NO_TILES, features
from nblstm.kernels.cpu.pairs import PAIRWISE, add_product
from nblstm.kernels.cpu.vectors import pointer, splat

PANEL = 64  # columns of a packed panel: the four gates of 16 units


class Block(NamedTuple):
    """Rows of a matrix in a flat array: row r stands at numbers[place + r * step :]."""

    numbers: np.ndarray
    place: int
    step: int


class Factor(NamedTuple):
    """The left-hand side of a product, rows in pieces: element (r, o * depth + k) at place + r * step + o * piece + k.

    Of `multiply_transposed`, the columns, in one piece: element (k, r) at place + k * step + r.
    """

    numbers: np.ndarray
    place: int
    step: int
    piece: int
    pieces: int
    depth: int


def _shape(features: str) -> tuple[int, int]:
    """(vector bytes, vectors per row) of a tile of six rows that fits this machine's registers."""
    if "+avx512f" in features:
        return 64, 4  # 32 registers: 24 accumulators, 4 of B, 1 of A
    if "+avx2" in features or "+avx" in features:
        return 32, 2  # 16 registers: 12 accumulators, 2 of B, 1 of A
    if "+neon" in features or "+asimd" in features:
        return 16, 4  # 32 registers
    return 16, 2  # SSE: 16 registers


VECTOR_BYTES, VECTORS = _shape(features())


def _band(columns: int, transposed: bool, step: int = PANEL):
    """An intrinsic: C[rows, columns] += A[rows, K] @ B[K, columns], in the highest tiles that fit, one after the other.

    C: `Block`; A: `Factor`; B stands at b0, `step` numbers from a row to the next.
    """
    heights = (5, 2, 1) if columns == 80 else (6, 4, 2, 1) if columns >= 48 else (6, 4, 1)

    @intrinsic
    def band(typingctx, C, rows, A, B, b0):
        sig = types.void(C, types.intp, A, B, types.intp)

        def codegen(context, builder, sig, args):
            c, rows_, a, b, b0_ = args
            c, a = unpacked(context, builder, C, c), unpacked(context, builder, A, a)
            emitter = Emitter if A.types[0].dtype == C.types[0].dtype else PairEmitter
            emit = emitter(builder, C.types[0].dtype, columns, step, transposed, c, a)
            b, done = pointer(context, builder, B, b, b0_), ir.Constant(rows_.type, 0)
            for height in heights:
                size = ir.Constant(rows_.type, height)
                count = builder.sdiv(builder.sub(rows_, done), size)
                with cgutils.for_range(builder, count) as loop:
                    emit.tile(height, builder.add(done, builder.mul(loop.index, size)), b)
                done = builder.add(done, builder.mul(count, size))
            return context.get_dummy_value()

        return sig, codegen

    return band


def unpacked(context, builder, kind, value):
    """A `Block` or `Factor` of LLVM values, the address of its first number in the place of `numbers`."""
    numbers, *offsets = cgutils.unpack_tuple(builder, value)
    offsets = [context.cast(builder, *pair, types.intp) for pair in zip(offsets, kind.types[1:])]
    return kind.instance_class(pointer(context, builder, kind.types[0], numbers, offsets[0]), *offsets)


class Emitter:
    """Writes the LLVM of a tile: nested loops over K with the accumulators in phi nodes."""

    def __init__(self, builder, dtype, columns, step, transposed, C, A):
        self.builder, self.transposed, self.b_step, self.C, self.A = builder, transposed, step, C, A
        self.size, self.align = C.step.type, dtype.bitwidth // 8
        self.lanes = min(VECTOR_BYTES // self.align, columns)
        whole = columns // self.lanes
        most = 5 if whole == 5 and VECTOR_BYTES == 64 else VECTORS  # 5 x 5 accumulators fit 32 registers, too
        self.vectors = next(n for n in range(most, 0, -1) if whole % n == 0)  # of one tile
        self.groups = whole // self.vectors  # tiles side by side
        self.kind = ir.VectorType(ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType(), self.lanes)
        self.fma = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(self.kind, [self.kind] * 3),
            f"llvm.fma.v{self.lanes}f{dtype.bitwidth}",
        )

    def tile(self, height, row, b):
        """C[row : row + height] += A[row : row + height] @ B"""
        bd = self.builder
        c = bd.gep(self.C.numbers, [bd.mul(row, self.C.step)])
        a = bd.gep(self.A.numbers, [row if self.transposed else bd.mul(row, self.A.step)])
        for group in range(self.groups):
            skip = self.size(group * self.vectors * self.lanes)
            self.accumulate(height, bd.gep(c, [skip]), a, bd.gep(b, [skip]))

    def accumulate(self, height, c, a, b):
        """Load the accumulators, walk along K, store them."""
        bd, A = self.builder, self.A
        places = [
            self.vector(c, bd.add(bd.mul(self.C.step, self.size(r)), self.size(v * self.lanes)))
            for r in range(height)
            for v in range(self.vectors)
        ]
        sums = [bd.load(place, align=self.align) for place in places]
        if self.transposed:  # a moves on by a row of A for each k, the tile's rows stand side by side
            sums, _ = self.loop(
                A.depth, sums, b, lambda k, sums, b: self.step(bd.gep(a, [bd.mul(k, A.step)]), self.size(1), sums, b)
            )
        else:  # k moves along the rows of A, in pieces

            def piece(o, sums, b):
                start = bd.gep(a, [bd.mul(o, A.piece)])
                return self.loop(A.depth, sums, b, lambda k, sums, b: self.step(bd.gep(start, [k]), A.step, sums, b))

            sums, _ = self.loop(A.pieces, sums, b, piece)
        for place, value in zip(places, sums):
            bd.store(value, place, align=self.align)

    def loop(self, count, sums, b, body):
        """for i in range(count): sums, b = body(i, sums, b), for count >= 1."""
        bd, before = self.builder, self.builder.basic_block
        head, after = bd.append_basic_block("k"), bd.append_basic_block("k.done")
        bd.branch(head)
        bd.position_at_end(head)
        index, carried = bd.phi(self.size), [*sums, b]
        phis = [bd.phi(value.type) for value in carried]
        *new_sums, new_b = [value for part in [body(index, phis[:-1], phis[-1])] for value in [*part[0], part[1]]]
        following = bd.add(index, self.size(1))
        index.add_incoming(self.size(0), before)
        index.add_incoming(following, bd.basic_block)
        for phi, first, later in zip(phis, carried, [*new_sums, new_b]):
            phi.add_incoming(first, before)
            phi.add_incoming(later, bd.basic_block)
        bd.cbranch(bd.icmp_signed("<", following, count), head, after)
        bd.position_at_end(after)
        return new_sums, new_b

    def step(self, a, row_step, sums, b):
        """One k: sums[r, v] += a[r * row_step] * b[v]; b moves on by a row."""
        bd, results = self.builder, []
        row = [bd.load(self.vector(b, self.size(v * self.lanes)), align=self.align) for v in range(self.vectors)]
        for first in range(0, len(sums), self.vectors):
            place = bd.gep(a, [bd.mul(row_step, self.size(first // self.vectors))])
            factor = splat(bd, bd.load(place), self.lanes)
            results += [bd.call(self.fma, [factor, row[v], sums[first + v]]) for v in range(self.vectors)]
        return results, bd.gep(b, [self.size(self.b_step)])

    def vector(self, base, offset):
        """The address of the vector at base + offset."""
        return self.builder.bitcast(self.builder.gep(base, [offset]), self.kind.as_pointer())


class PairEmitter(Emitter):
    """As `Emitter`, where an element of A and B is a pair of bfloat16 numbers.

    sum = (sum + a_1 b_1) + a_0 b_0, each product exact and each addition rounded once, which is what the instruction
    does; where there is none the halves become float32, whose last 16 bits are zeros.
    """

    def step(self, a, row_step, sums, b):
        """One k: sums[r, v] += a[r * row_step] * b[v], of both numbers; b moves on by a row."""
        bd, integers = self.builder, ir.VectorType(ir.IntType(32), self.lanes)
        addresses = [self.vector(b, self.size(v * self.lanes)) for v in range(self.vectors)]
        row = [bd.load(bd.bitcast(address, integers.as_pointer()), align=self.align) for address in addresses]
        for half in (None,) if PAIRWISE else (1, 0):
            right, results = [self._half(value, half) for value in row], []
            for first in range(0, len(sums), self.vectors):
                bits = bd.load(bd.gep(a, [bd.mul(row_step, self.size(first // self.vectors))]))
                left = splat(bd, self._half(bits, half), self.lanes)
                results += [self._added(sums[first + v], left, right[v]) for v in range(self.vectors)]
            sums = results
        return sums, bd.gep(b, [self.size(self.b_step)])

    def _half(self, bits, half):
        """The numbers in one half of 32 bits, as float32; the bits themselves, where half is None."""
        if half is None:
            return bits
        vectors = isinstance(bits.type, ir.VectorType)
        number = ir.Constant(
            bits.type, [0xFFFF0000 if half else 16] * self.lanes if vectors else 0xFFFF0000 if half else 16
        )
        moved = self.builder.and_(bits, number) if half else self.builder.shl(bits, number)
        return self.builder.bitcast(moved, self.kind if vectors else ir.FloatType())

    def _added(self, total, left, right):
        """total + left * right"""
        if not PAIRWISE:
            return self.builder.call(self.fma, [left, right, total])
        kind = ir.FunctionType(self.kind, [self.kind, left.type, left.type])
        name = "llvm.x86.avx512bf16.dpbf16ps.512"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [total, left, right])


def add_outer(C, rows, columns, a, b):
    """C[rows, columns] += a[rows] b[columns]; compiled it is a loop."""
    c, places = C.numbers.reshape(-1), C.place + C.step * np.arange(rows)[:, None] + np.arange(columns)
    c[places] = add_product(c[places], a[:rows, None], b)


@overload(add_outer)
def _add_outer(C, rows, columns, a, b):
    def add(C, rows, columns, a, b):
        c = C.numbers.reshape(-1)
        for r in range(rows):
            for j in range(columns):
                place = C.place + r * C.step + j
                c[place] = add_product(c[place], a[r], b[j])

    return add


def _plain_band(columns: int, transposed: bool, step: int = PANEL):
    """The plain loop beside the optimised one: for targets without vector registers, and for tests."""

    def band(C, rows, A, B, b0):
        flat_a, flat_b = A.numbers.reshape(-1), B.reshape(-1)
        for o in range(A.pieces):
            for k in range(A.depth):
                first, row = A.place + (k * A.step if transposed else o * A.piece + k), b0 + (o * A.depth + k) * step
                a = flat_a[first :: 1 if transposed else A.step]
                add_outer(C, rows, columns, a, flat_b[row : row + columns])

    return named(band, f"_plain_band_{columns}_{step}_{transposed}")


_make = _plain_band if NO_TILES else _band
_wide, _slim = _make(PANEL, False), _make(16, False)
_gates_48, _gates_80 = _make(48, False, 48), _make(80, False, 80)
_wide_transposed, _slim_transposed = _make(PANEL, True), _make(16, True)


@shared
def multiply(C, rows, width, A, B, b0):
    """C[rows, width] += A[rows, K] @ B[K, width], for K = A.pieces * A.depth >= 1 and width in (16, 32, 48, PANEL).

    C: `Block`; A: `Factor`; the packed panel B stands at b0. Every sum runs over k in rising order, however the rows
    are cut into tiles or threads.
    """
    if width == PANEL:
        _wide(C, rows, A, B, b0)
    else:
        for j in range(0, width, 16):
            _slim(Block(C.numbers, C.place + j, C.step), rows, A, B, b0 + j)


def _of_gates(band, columns):
    """As `multiply`, for panels of gates: that many columns, and as many from a row of B to the next."""

    def multiply_gates(C, rows, A, B, b0):
        band(C, rows, A, B, b0)

    return named(multiply_gates, f"multiply_{columns}", shared)


multiply_48, multiply_64, multiply_80 = (
    _of_gates(band, columns) for band, columns in ((_gates_48, 48), (_wide, 64), (_gates_80, 80))
)


@shared
def multiply_transposed(C, rows, width, A, B, b0):
    """C[rows, width] += A[K, rows].T @ B[K, width]: as `multiply`, but for how A stands, see `Factor`."""
    if width == PANEL:
        _wide_transposed(C, rows, A, B, b0)
    else:
        for j in range(0, width, 16):
            _slim_transposed(Block(C.numbers, C.place + j, C.step), rows, A, B, b0 + j)
