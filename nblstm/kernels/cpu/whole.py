"""Sixteen whole numbers at once, as `int8_tiles` multiplies them with int8 weights: rounded ones, and those of a token."""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from nblstm.kernels.cpu.machine import GROUP, PLAIN
from nblstm.kernels.cpu.vectors import LANES, first_lanes, pointer, splat

_I32 = ir.IntType(32)


@intrinsic
def store_rounded(typingctx, array, offset, vector, factor):
    """array[offset : offset + 16] = vector * factor, int16, to the nearest and of two the even one, for |it| < 2^15

    With 1.5 * 2^23 added, in one rounding, the whole part stands in the low bits; NaN gives any number. They stand as
    the machine multiplies them, see `_store_whole`.
    """

    def codegen(context, builder, sig, args):
        array_, offset_, vector_, factor_ = args
        kind = ir.FunctionType(vector_.type, [vector_.type] * 3)
        fma = cgutils.get_or_insert_function(builder.module, kind, f"llvm.fma.v{LANES}f32")
        shifted = builder.call(fma, [vector_, splat(builder, factor_), ir.Constant(vector_.type, [12582912.0] * LANES)])
        whole = builder.bitcast(shifted, ir.VectorType(_I32, LANES))
        _store_whole(builder, pointer(context, builder, sig.args[0], array_, offset_), whole)
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, vector.dtype), codegen


@intrinsic
def store_numbers(typingctx, array, offset, numbers, place, count):
    """array[offset : offset + 16] = numbers[place : place + count] (int8), zeros behind, as `store_rounded` lays them out"""

    def codegen(context, builder, sig, args):
        array_, offset_, numbers_, place_, count_ = args
        kind = ir.VectorType(ir.IntType(8), LANES)
        address = builder.bitcast(pointer(context, builder, sig.args[2], numbers_, place_), kind.as_pointer())
        mask = first_lanes(builder, count_)
        function = cgutils.get_or_insert_function(
            builder.module,
            ir.FunctionType(kind, [address.type, _I32, mask.type, kind]),
            f"llvm.masked.load.v{LANES}i8.p0",
        )
        bytes_ = builder.call(function, [address, _I32(1), mask, ir.Constant(kind, [0] * LANES)])
        whole = builder.sext(bytes_, ir.VectorType(_I32, LANES))
        _store_whole(builder, pointer(context, builder, sig.args[0], array_, offset_), whole)
        return context.get_dummy_value()

    return types.void(array, types.intp, numbers, types.intp, types.intp), codegen


def _store_whole(builder, address, whole):
    """LLVM: the low 16 bits of 16 whole numbers n, as int16.

    Where a machine multiplies bytes in fours: the bytes of n + 2^15, of each four numbers the low ones, then the high ones.
    """
    if GROUP == 2:
        stored = builder.trunc(whole, ir.VectorType(ir.IntType(16), LANES))
    else:
        whole = builder.xor(whole, ir.Constant(whole.type, [1 << 15] * LANES))
        parts = builder.bitcast(whole, ir.VectorType(ir.IntType(8), 4 * LANES))
        order = [4 * (four + k) + half for four in range(0, LANES, 4) for half in (0, 1) for k in range(4)]
        mask = ir.Constant(ir.VectorType(_I32, 2 * LANES), order)
        stored = builder.shuffle_vector(parts, ir.Constant(parts.type, ir.Undefined), mask)
    builder.store(stored, builder.bitcast(address, stored.type.as_pointer()), align=2)


if PLAIN:  # the same functions on NumPy slices, for running the kernels as Python

    def store_rounded(array, offset, vector, factor):
        whole = np.rint(np.nan_to_num(vector.astype(float) * float(factor), posinf=0, neginf=0))
        array.reshape(-1)[offset : offset + LANES] = whole

    def store_numbers(array, offset, numbers, place, count):
        array.reshape(-1)[offset : offset + LANES] = 0
        array.reshape(-1)[offset : offset + count] = numbers.reshape(-1)[place : place + count]
