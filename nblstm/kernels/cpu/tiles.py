"""The register tile: the one inner loop that every product of the CPU kernels is made of.

A tile keeps `rows x vectors` accumulators in registers while it walks along K: each step loads `vectors`
vectors of B, broadcasts `rows` numbers of A and does rows * vectors fused multiply-adds. Written as LLVM
vector IR (numba's `@intrinsic`), because a scalar loop is not turned into this shape by the compiler.
Vector width and tile shape follow the machine (`SHAPE`).

B is packed in panels of PANEL columns, (K, PANEL) each, contiguous. Offsets count elements.
"""

from __future__ import annotations

import numba
from llvmlite import binding, ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nblstm.kernels.cpu.jit import NO_TILES, jit, named
from nblstm.kernels.cpu.vectors import pointer, splat

PANEL = 64  # columns of a packed panel: the four gates of 16 units


def _shape() -> tuple[int, int]:
    """(vector bytes, vectors per row) of a tile of six rows that fits this machine's registers."""
    features = numba.config.CPU_FEATURES
    if features is None:
        host = binding.get_host_cpu_features()
        features = ",".join("+" + name for name, on in host.items() if on)
    if "+avx512f" in features:
        return 64, 4  # 32 registers: 24 accumulators, 4 of B, 1 of A
    if "+avx2" in features or "+avx" in features:
        return 32, 2  # 16 registers: 12 accumulators, 2 of B, 1 of A
    if "+neon" in features or "+asimd" in features:
        return 16, 4  # 32 registers
    return 16, 2  # SSE: 16 registers


VECTOR_BYTES, VECTORS = _shape()


def _band(columns: int, transposed: bool, step: int = PANEL):
    """An intrinsic: C[rows, columns] += A[rows, K] @ B[K, columns], in the highest tiles that fit, one after the other.

    step: numbers from a row of B to the next.
    """
    heights = (5, 2, 1) if columns == 80 else (6, 4, 2, 1) if columns >= 48 else (6, 1)  # narrow bands are rare

    @intrinsic
    def band(typingctx, C, c0, ldc, rows, A, a0, lda, outer, outers, K, B, b0):
        size = types.intp
        sig = types.void(C, size, size, size, A, size, size, size, size, size, B, size)

        def codegen(context, builder, sig, args):
            c, c0_, ldc_, rows_, a, a0_, lda_, outer_, outers_, K_, b, b0_ = args
            c = pointer(context, builder, sig.args[0], c, c0_)
            a = pointer(context, builder, sig.args[4], a, a0_)
            b = pointer(context, builder, sig.args[10], b, b0_)
            emit = _Emitter(builder, C.dtype, columns, step, transposed, ldc_, lda_, outer_, outers_, K_)
            done = ir.Constant(rows_.type, 0)
            for height in heights:
                size_ = ir.Constant(rows_.type, height)
                count = builder.sdiv(builder.sub(rows_, done), size_)
                with cgutils.for_range(builder, count) as loop:
                    emit.tile(height, builder.add(done, builder.mul(loop.index, size_)), c, a, b)
                done = builder.add(done, builder.mul(count, size_))
            return context.get_dummy_value()

        return sig, codegen

    return band


class _Emitter:
    """Writes the LLVM of a tile: nested loops over K with the accumulators in phi nodes."""

    def __init__(self, builder, dtype, columns, step, transposed, ldc, lda, outer, outers, K):
        self.builder, self.transposed, self.b_step = builder, transposed, step
        self.ldc, self.lda, self.outer, self.outers, self.K = ldc, lda, outer, outers, K
        self.size, self.align = ldc.type, dtype.bitwidth // 8
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

    def tile(self, height, row, c, a, b):
        """C[row : row + height] += A[row : row + height] @ B"""
        bd = self.builder
        c = bd.gep(c, [bd.mul(row, self.ldc)])
        a = bd.gep(a, [row if self.transposed else bd.mul(row, self.lda)])
        for group in range(self.groups):
            skip = self.size(group * self.vectors * self.lanes)
            self.accumulate(height, bd.gep(c, [skip]), a, bd.gep(b, [skip]))

    def accumulate(self, height, c, a, b):
        """Load the accumulators, walk along K, store them."""
        bd = self.builder
        places = [
            self.vector(c, bd.add(bd.mul(self.ldc, self.size(r)), self.size(v * self.lanes)))
            for r in range(height)
            for v in range(self.vectors)
        ]
        sums = [bd.load(place, align=self.align) for place in places]
        if self.transposed:  # a moves on by a row of A for each k, the tile's rows stand side by side
            sums, _ = self.loop(
                self.K, sums, b, lambda k, sums, b: self.step(bd.gep(a, [bd.mul(k, self.lda)]), self.size(1), sums, b)
            )
        else:  # k moves along the rows of A, in `outers` pieces

            def piece(o, sums, b):
                start = bd.gep(a, [bd.mul(o, self.outer)])
                return self.loop(self.K, sums, b, lambda k, sums, b: self.step(bd.gep(start, [k]), self.lda, sums, b))

            sums, _ = self.loop(self.outers, sums, b, piece)
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


def _plain_band(columns: int, transposed: bool, step: int = PANEL):
    """The plain loop beside the optimised one: for targets without vector registers, and for tests."""

    def band(C, c0, ldc, rows, A, a0, lda, outer, outers, K, B, b0):
        flat_c, flat_a, flat_b = C.reshape(-1), A.reshape(-1), B.reshape(-1)
        for r in range(rows):
            for o in range(outers):
                for k in range(K):
                    place = a0 + k * lda + r if transposed else a0 + o * outer + r * lda + k
                    factor = flat_a[place]
                    for j in range(columns):
                        flat_c[c0 + r * ldc + j] += factor * flat_b[b0 + (o * K + k) * step + j]

    return named(band, f"_plain_band_{columns}_{step}_{transposed}")


_make = _plain_band if NO_TILES else _band
_wide, _slim = _make(PANEL, False), _make(16, False)
_gates_48, _gates_80 = _make(48, False, 48), _make(80, False, 80)
_wide_transposed, _slim_transposed = _make(PANEL, True), _make(16, True)


@jit
def multiply(C, c0, ldc, rows, width, A, a0, lda, outer, outers, K, B, b0):
    """C[rows, width] += A[rows, outers * K] @ B[outers * K, width], for K >= 1 and width in (16, 32, 48, PANEL).

    C stands at c0 with row step ldc; element (r, o * K + k) of A at a0 + r * lda + o * outer + k; the packed
    panel B at b0. Every sum runs over k in rising order, however the rows are cut into tiles or threads.
    """
    if width == PANEL:
        _wide(C, c0, ldc, rows, A, a0, lda, outer, outers, K, B, b0)
    else:
        for j in range(0, width, 16):
            _slim(C, c0 + j, ldc, rows, A, a0, lda, outer, outers, K, B, b0 + j)


def _of_gates(band, columns):
    """As `multiply`, for panels of gates: that many columns, and as many from a row of B to the next; width is ignored."""

    def multiply_gates(C, c0, ldc, rows, width, A, a0, lda, outer, outers, K, B, b0):
        band(C, c0, ldc, rows, A, a0, lda, outer, outers, K, B, b0)

    return named(multiply_gates, f"multiply_{columns}")


multiply_48, multiply_64, multiply_80 = (
    _of_gates(band, columns) for band, columns in ((_gates_48, 48), (_wide, 64), (_gates_80, 80))
)


@jit
def multiply_transposed(C, c0, ldc, rows, width, A, a0, lda, K, B, b0):
    """C[rows, width] += A[K, rows].T @ B[K, width]: as `multiply`, element (k, r) of A at a0 + k * lda + r."""
    if width == PANEL:
        _wide_transposed(C, c0, ldc, rows, A, a0, lda, 0, 1, K, B, b0)
    else:
        for j in range(0, width, 16):
            _slim_transposed(C, c0 + j, ldc, rows, A, a0, lda, 0, 1, K, B, b0 + j)
