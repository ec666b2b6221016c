"""Sixteen numbers at once: a numba type for LLVM's `<16 x float>`, and the functions a gate needs.

LLVM turns a 16-lane value into one AVX-512 register, two of AVX2, four of SSE or NEON, so one source serves
every machine, and the cells' equations read like the textbook's. With numba switched off
(NUMBA_DISABLE_JIT=1) a vector is a NumPy array of 16 and the same code runs as Python.

Arrays are C-contiguous and addressed by a flat element offset.
"""

from __future__ import annotations

import operator

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, lower_cast, models, register_model

from nblstm.kernels.cpu.machine import PLAIN

LANES = 16
_I32 = ir.IntType(32)
CONTRACT = ("contract",)


class VectorType(types.Type):
    """The numba type of LANES numbers of one float type."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        super().__init__(name=f"Vector({dtype} x {LANES})")


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, _llvm(kind.dtype))


def _scalar(dtype):
    return ir.FloatType() if dtype.bitwidth == 32 else ir.DoubleType()


def _llvm(dtype):
    return ir.VectorType(_scalar(dtype), LANES)


def splat(builder, value, lanes=LANES):
    """LLVM: the scalar `value` in every lane."""
    kind = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), value, _I32(0))
    zeros = ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    return builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), zeros)


def pointer(context, builder, array_type, array, offset):
    """LLVM: the address of element `offset` of a contiguous array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [offset])


# ---------------------------------------------------------------- arithmetic: vector op vector, vector op scalar


@infer_global(operator.add)
@infer_global(operator.sub)
@infer_global(operator.mul)
@infer_global(operator.truediv)
class _Arithmetic(AbstractTemplate):
    def generic(self, args, kws):
        vectors = [arg for arg in args if isinstance(arg, VectorType)]
        scalars = [arg for arg in args if isinstance(arg, (types.Float, types.Integer))]
        if vectors and len(vectors) + len(scalars) == len(args) == 2 and len(set(vectors)) == 1:
            return signature(vectors[0], vectors[0], vectors[0])
        return None


@lower_cast(types.Float, VectorType)
@lower_cast(types.Integer, VectorType)
def _splat_scalar(context, builder, source, target, value):
    return splat(builder, context.cast(builder, value, source, target.dtype))


def _lower(operation, instruction):
    @lower_builtin(operation, VectorType, VectorType)
    def lowered(context, builder, sig, args):
        return getattr(builder, instruction)(*args, flags=CONTRACT)


for _operation, _instruction in [
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
]:
    _lower(_operation, _instruction)


# ---------------------------------------------------------------- memory


@intrinsic
def load(typingctx, array, offset):
    """array[offset : offset + 16]"""
    kind = VectorType(array.dtype)

    def codegen(context, builder, sig, args):
        address = pointer(context, builder, sig.args[0], args[0], args[1])
        return builder.load(builder.bitcast(address, _llvm(kind.dtype).as_pointer()), align=_align(kind))

    return kind(array, types.intp), codegen


@intrinsic
def store(typingctx, array, offset, vector):
    """array[offset : offset + 16] = vector"""

    def codegen(context, builder, sig, args):
        address = pointer(context, builder, sig.args[0], args[0], args[1])
        builder.store(args[2], builder.bitcast(address, args[2].type.as_pointer()), align=_align(vector))
        return context.get_dummy_value()

    return types.void(array, types.intp, vector), codegen


@intrinsic
def load_part(typingctx, array, offset, count, fill):
    """array[offset : offset + count], the lanes behind filled with `fill`; memory behind is not touched"""
    kind = VectorType(array.dtype)

    def codegen(context, builder, sig, args):
        array_, offset_, count_, fill_ = args
        address = pointer(context, builder, sig.args[0], array_, offset_)
        address = builder.bitcast(address, _llvm(kind.dtype).as_pointer())
        mask = first_lanes(builder, count_)
        name = f"llvm.masked.load.v{LANES}f{kind.dtype.bitwidth}.p0"
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(_llvm(kind.dtype), [address.type, _I32, mask.type, _llvm(kind.dtype)]),
            name,
        )
        return builder.call(function, [address, _I32(_align(kind)), mask, splat(builder, fill_)])

    return kind(array, types.intp, types.intp, array.dtype), codegen


@intrinsic
def store_part(typingctx, array, offset, vector, count):
    """array[offset : offset + count] = the first lanes of vector; memory behind is not touched"""

    def codegen(context, builder, sig, args):
        array_, offset_, vector_, count_ = args
        address = pointer(context, builder, sig.args[0], array_, offset_)
        address = builder.bitcast(address, vector_.type.as_pointer())
        mask = first_lanes(builder, count_)
        name = f"llvm.masked.store.v{LANES}f{vector.dtype.bitwidth}.p0"
        function = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(ir.VoidType(), [vector_.type, address.type, _I32, mask.type]), name
        )
        builder.call(function, [vector_, address, _I32(_align(vector)), mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), codegen


def _align(kind):
    return kind.dtype.bitwidth // 8


def first_lanes(builder, count):
    """LLVM: a mask of the first `count` lanes."""
    lanes = ir.Constant(ir.VectorType(_I32, LANES), list(range(LANES)))
    return builder.icmp_signed("<", lanes, splat(builder, builder.trunc(count, _I32)))


# ---------------------------------------------------------------- lanes


@intrinsic
def larger(typingctx, a, b):
    """a > b ? a : b, lane by lane (b where either is NaN)"""
    return _select(a, ">")


@intrinsic
def smaller(typingctx, a, b):
    """a < b ? a : b, lane by lane (b where either is NaN)"""
    return _select(a, "<")


def _select(kind, comparison):
    def codegen(context, builder, sig, args):
        return builder.select(builder.fcmp_ordered(comparison, *args), *args)

    return kind(kind, kind), codegen


@intrinsic
def like(typingctx, vector, value):
    """`value` in every lane of a vector of the same type"""

    def codegen(context, builder, sig, args):
        return splat(builder, args[1])

    return vector(vector, vector.dtype), codegen


@intrinsic
def root(typingctx, vector):
    """the square root, lane by lane"""

    def codegen(context, builder, sig, args):
        name = f"llvm.sqrt.v{LANES}f{vector.dtype.bitwidth}"
        kind = ir.FunctionType(args[0].type, [args[0].type])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)

    return vector(vector), codegen


@intrinsic
def step(typingctx, vector):
    """x > 0 ? 1 : 0, lane by lane"""

    def codegen(context, builder, sig, args):
        one, zero = (ir.Constant(args[0].type, [value] * LANES) for value in (1.0, 0.0))
        return builder.select(builder.fcmp_ordered(">", args[0], zero), one, zero)

    return vector(vector), codegen


@intrinsic
def zero_below(typingctx, vector, x, limit):
    """x < limit ? 0 : vector, lane by lane"""

    def codegen(context, builder, sig, args):
        zero = ir.Constant(args[0].type, [0.0] * LANES)
        return builder.select(builder.fcmp_ordered("<", args[1], splat(builder, args[2])), zero, args[0])

    return vector(vector, vector, vector.dtype), codegen


def _fold(kind, combine):
    """Halve the lanes four times: always in the same order, so a sum has always the same bits."""

    def codegen(context, builder, sig, args):
        value, lanes = args[0], LANES
        while lanes > 1:
            lanes //= 2
            halves = [
                builder.shuffle_vector(
                    value,
                    ir.Constant(value.type, ir.Undefined),
                    ir.Constant(ir.VectorType(_I32, lanes), list(range(start, start + lanes))),
                )
                for start in (0, lanes)
            ]
            value = combine(builder, *halves)
        return builder.extract_element(value, _I32(0))

    return kind.dtype(kind), codegen


@intrinsic
def lane_sum(typingctx, vector):
    """the sum of the lanes"""
    return _fold(vector, lambda builder, a, b: builder.fadd(a, b))


@intrinsic
def lane_max(typingctx, vector):
    """the largest lane"""
    return _fold(vector, lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@intrinsic
def power_of_two(typingctx, vector):
    """2**n for a vector n + MAGIC: n stands in the low bits; moved into the exponent it is the answer"""

    def codegen(context, builder, sig, args):
        bits, mantissa, one = (32, 23, 127 << 23) if vector.dtype.bitwidth == 32 else (64, 52, 1023 << 52)
        integers = ir.VectorType(ir.IntType(bits), LANES)
        shift = ir.Constant(integers, [mantissa] * LANES)
        exponent = builder.shl(builder.bitcast(args[0], integers), shift)
        return builder.bitcast(builder.add(exponent, ir.Constant(integers, [one] * LANES)), args[0].type)

    return vector(vector), codegen


@intrinsic
def transpose(typingctx, target, t0, target_step, source, s0, source_step):
    """target[t0 + i * target_step + j] = source[s0 + j * source_step + i], i and j in range(16)"""
    kind = VectorType(source.dtype)

    def codegen(context, builder, sig, args):
        target_, t0_, target_step_, source_, s0_, source_step_ = args

        def place(array_type, array, start, step, number):
            offset = builder.add(start, builder.mul(step, step.type(number)))
            address = pointer(context, builder, array_type, array, offset)
            return builder.bitcast(address, _llvm(kind.dtype).as_pointer())

        rows = [
            builder.load(place(sig.args[3], source_, s0_, source_step_, j), align=_align(kind)) for j in range(LANES)
        ]
        for distance in (1, 2, 4, 8):  # swap the off-diagonal quarters of ever larger squares
            low = [lane if lane & distance == 0 else lane - distance + LANES for lane in range(LANES)]
            high = [lane + distance if lane & distance == 0 else lane + LANES for lane in range(LANES)]
            masks = [ir.Constant(ir.VectorType(_I32, LANES), lanes) for lanes in (low, high)]
            for j in range(LANES):
                if j & distance == 0:
                    pair = rows[j], rows[j + distance]
                    rows[j], rows[j + distance] = (builder.shuffle_vector(*pair, mask) for mask in masks)
        for i, row in enumerate(rows):
            builder.store(row, place(sig.args[0], target_, t0_, target_step_, i), align=_align(kind))
        return context.get_dummy_value()

    size = types.intp
    return types.void(target, size, size, source, size, size), codegen


if PLAIN:  # the same functions on NumPy slices, for running the kernels as Python

    def load(array, offset):
        return array.reshape(-1)[offset : offset + LANES].copy()

    def store(array, offset, vector):
        array.reshape(-1)[offset : offset + LANES] = vector

    def load_part(array, offset, count, fill):
        vector = np.full(LANES, fill, array.dtype)
        vector[:count] = array.reshape(-1)[offset : offset + min(count, LANES)]
        return vector

    def store_part(array, offset, vector, count):
        array.reshape(-1)[offset : offset + min(count, LANES)] = vector[:count]

    def transpose(target, t0, target_step, source, s0, source_step):
        lanes = np.arange(LANES)
        square = source.reshape(-1)[s0 + lanes[:, None] * source_step + lanes]
        target.reshape(-1)[t0 + lanes[:, None] * target_step + lanes] = square.T

    def like(vector, value):
        return np.full_like(vector, value)

    def larger(a, b):
        return np.where(a > b, a, b)

    def step(vector):
        return (vector > 0).astype(vector.dtype)

    def root(vector):
        return np.sqrt(vector)

    def lane_sum(vector):
        return vector.sum()

    def lane_max(vector):
        return vector.max()
