"""Pairs of bfloat16 numbers: float32 rounded to its upper 16 bits, two neighbours along K in a uint32, the first below.

So a row of K numbers is one of ceil(K / 2) elements, and whatever packs or multiplies float32 by elements packs and
multiplies pairs. Rounding is to the nearest, of two the even one; what is not a number stays none.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, overload

from nblstm.kernels.cpu.machine import PLAIN, features
from nblstm.kernels.cpu.vectors import LANES, pointer, splat

_I16, _I32 = ir.IntType(16), ir.IntType(32)
_BITS, _HALVES = ir.VectorType(_I32, LANES), ir.VectorType(_I16, LANES)
PAIRWISE = "+avx512bf16" in features()  # the machine rounds to bfloat16, and multiplies such numbers in pairs


def _constant(number):
    return ir.Constant(_BITS, [number] * LANES)


def _rounded(builder, vector):
    """LLVM: the bfloat16 numbers nearest to a vector's, <16 x i16>."""
    if PAIRWISE:
        kind, name = ir.FunctionType(_HALVES, [vector.type]), "llvm.x86.avx512bf16.cvtneps2bf16.512"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [vector])
    bits = builder.bitcast(vector, _BITS)
    even = builder.and_(builder.lshr(bits, _constant(16)), _constant(1))
    nearest = builder.add(bits, builder.add(even, _constant(0x7FFF)))
    nearest = builder.select(builder.fcmp_unordered("uno", vector, vector), _constant(0x7FC00000), nearest)
    return builder.trunc(builder.lshr(nearest, _constant(16)), _HALVES)


@intrinsic
def per_element(typingctx, array):
    """How many numbers of a product's depth stand in an element of an array: 2 in pairs, 1 elsewhere"""
    number = 2 if array.dtype == types.uint32 else 1
    return types.intp(array), lambda context, builder, sig, args: context.get_constant(types.intp, number)


@intrinsic
def store_factors(typingctx, array, offset, vector, count):
    """array[offset :] = the first `count` lanes in pairs, zeros behind; nothing where the array is not one of pairs"""

    def codegen(context, builder, sig, args):
        if array.dtype != types.uint32:
            return context.get_dummy_value()
        array_, offset_, vector_, count_ = args
        count_ = builder.trunc(count_, _I32)
        inside = builder.icmp_signed("<", ir.Constant(_BITS, list(range(LANES))), splat(builder, count_))
        halves = builder.select(inside, _rounded(builder, vector_), ir.Constant(_HALVES, [0] * LANES))
        pairs = builder.bitcast(halves, ir.VectorType(_I32, LANES // 2))
        address = builder.bitcast(pointer(context, builder, sig.args[0], array_, offset_), pairs.type.as_pointer())
        last = builder.sdiv(builder.add(count_, _I32(1)), _I32(2))
        lanes = ir.Constant(pairs.type, list(range(LANES // 2)))
        mask = builder.icmp_signed("<", lanes, splat(builder, last, LANES // 2))
        kind = ir.FunctionType(ir.VoidType(), [pairs.type, address.type, _I32, mask.type])
        name = f"llvm.masked.store.v{LANES // 2}i32.p0"
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [pairs, address, _I32(4), mask])
        return context.get_dummy_value()

    return types.void(array, types.intp, vector, types.intp), codegen


@intrinsic
def store_pairs(typingctx, array, offset, first, second):
    """array[offset : offset + 16] = the pairs of the lanes of two vectors"""

    def codegen(context, builder, sig, args):
        array_, offset_, first_, second_ = args
        neighbours = ir.Constant(
            ir.VectorType(_I32, 2 * LANES), [lane // 2 + lane % 2 * LANES for lane in range(2 * LANES)]
        )
        pairs = builder.shuffle_vector(_rounded(builder, first_), _rounded(builder, second_), neighbours)
        address = pointer(context, builder, sig.args[0], array_, offset_)
        builder.store(pairs, builder.bitcast(address, pairs.type.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, first, second), codegen


def add_product(total, a, b):
    """total + a * b, of pairs (total + a_1 b_1) + a_0 b_0: the plain form of a tile's step."""
    if a.dtype != np.uint32:
        return total + a * b
    for half in (lambda pair: pair & np.uint32(0xFFFF0000), lambda pair: pair << np.uint32(16)):
        total = total + half(a).view(np.float32) * half(b).view(np.float32)
    return total


@intrinsic
def _half(typingctx, pair, upper):
    """One number of a pair as float32"""

    def codegen(context, builder, sig, args):
        upper_ = builder.and_(args[0], _I32(0xFFFF0000))
        bits = builder.select(
            context.cast(builder, args[1], upper, types.boolean), upper_, builder.shl(args[0], _I32(16))
        )
        return builder.bitcast(bits, ir.FloatType())

    return types.float32(pair, upper), codegen


@overload(add_product)
def _add_product(total, a, b):
    if a == types.uint32:
        return lambda total, a, b: (total + _half(a, True) * _half(b, True)) + _half(a, False) * _half(b, False)
    return lambda total, a, b: total + a * b


if PLAIN:  # the same functions on NumPy slices, for running the kernels as Python

    def _upper(vector):
        bits = np.asarray(vector, np.float32).view(np.uint32)
        nearest = (bits + (bits >> np.uint32(16) & np.uint32(1)) + np.uint32(0x7FFF)) >> np.uint32(16)
        return np.where(np.isnan(vector), np.uint32(0x7FC0), nearest).astype(np.uint32)

    def per_element(array):
        return 2 if array.dtype == np.uint32 else 1

    def store_factors(array, offset, vector, count):
        if array.dtype == np.uint32:
            upper = np.where(np.arange(LANES) < count, _upper(vector), 0).astype(np.uint32)
            pairs = upper[::2] | upper[1::2] << np.uint32(16)
            array.reshape(-1)[offset : offset + (count + 1) // 2] = pairs[: (count + 1) // 2]

    def store_pairs(array, offset, first, second):
        array.reshape(-1)[offset : offset + LANES] = _upper(first) | _upper(second) << np.uint32(16)
