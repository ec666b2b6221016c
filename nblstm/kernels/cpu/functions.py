"""exp, sigmoid and tanh of a vector.

Sums that overflowed are infinite, and what they should have been nobody knows: sigmoid and tanh make NaN of them, which
stays in every number that depends on it and is noticed in the end, rather than a 0 or 1 that looks like any other.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic, overload

from nblstm.kernels.cpu.jit import inlined
from nblstm.kernels.cpu.vectors import (
    CONTRACT,
    LANES,
    VectorType,
    larger,
    like,
    power_of_two,
    smaller,
    zero_below,
)

# dtype -> below what exp is 0 and above what it is infinite; ln 2 in two parts, the first exact when multiplied by an
# exponent; the number whose addition rounds to an integer; the coefficients of exp(r) for |r| <= ln(2)/2, highest power
# first (float32: S. Moshier, Cephes, expf; float64: Taylor, whose 14th term is below half a unit in the last place)
_CEPHES = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_TAYLOR = tuple(float(1.0 / np.prod(np.arange(1.0, k + 1))) for k in range(13, 1, -1))
EXP = {
    32: (-87.0, 88.37, 0.693359375, -2.12194440e-4, 12582912.0, _CEPHES + (1.0, 1.0)),
    64: (-708.0, 709.43, 6.93145751953125e-1, 1.42860682030941723212e-6, 6755399441055744.0, _TAYLOR + (1.0, 1.0)),
}
LOG2E = 1.4426950408889634


def exp(x):
    """exp of a vector: relative error below 1e-7 in float32, 2e-16 in float64.

    0 below the first limit in EXP, infinity from a little above the second one on; NaN stays NaN.
    """
    low, high = EXP[8 * x.itemsize][:2]  # this body runs where numba is off; `_vector_exp` is compiled
    inside = np.exp(np.clip(x, x.dtype.type(low), x.dtype.type(high)))
    return np.where(x < low, x.dtype.type(0), np.where(x > high, x.dtype.type(np.inf), inside))


@intrinsic
def _polynomial(typingctx, r):
    """exp(r) for |r| <= ln(2)/2 by Horner's rule"""

    def codegen(context, builder, sig, args):
        first, *others = EXP[r.dtype.bitwidth][5]
        value = ir.Constant(args[0].type, [float(first)] * LANES)
        for coefficient in others:
            constant = ir.Constant(args[0].type, [float(coefficient)] * LANES)
            value = builder.fadd(builder.fmul(value, args[0], flags=CONTRACT), constant, flags=CONTRACT)
        return value

    return r(r), codegen


@overload(exp)
def _vector_exp(x):
    if not isinstance(x, VectorType):
        return None
    scalar = np.float32 if x.dtype.bitwidth == 32 else np.float64
    low, high, ln2_high, ln2_low, magic = (scalar(value) for value in EXP[x.dtype.bitwidth][:5])
    log2e, most = scalar(LOG2E), scalar(high + 0.5)  # whose n is one too many for an exponent: 2^n is infinite

    def implementation(x):
        inside = larger(like(x, low), smaller(like(x, most), x))  # NaN passes
        shifted = inside * log2e + magic  # n = round(x / ln 2), in the low bits
        n = shifted - magic
        r = inside - n * ln2_high - n * ln2_low  # x = n ln 2 + r, |r| <= ln(2)/2
        return zero_below(_polynomial(r) * power_of_two(shifted), x, low)

    return implementation


@inlined
def sigmoid(x):
    """1 / (1 + exp(-x)) of a vector: absolute error below 9e-8 in float32, 2e-16 in float64; NaN of what is infinite."""
    return x * 0.0 + 1.0 / (1.0 + exp(0.0 - x))


@inlined
def tanh(x):
    """tanh x = 1 - 2 / (1 + exp(2x)) of a vector: absolute error below 1.8e-7 in float32, 4e-16 in float64; NaN as above."""
    return x * 0.0 + (1.0 - 2.0 / (1.0 + exp(x + x)))
