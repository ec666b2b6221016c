"""The specification whose products have factors rounded to bfloat16: the same functions, of arrays that multiply so.

    x @ W.T = rounded(x) @ rounded(W).T, summed in float32

A number is rounded to the nearest of 8 significant bits, of two the even one; what is not a number stays none. The order
of a sum is left open, as for float32: a kernel may round every addition or, as some processors do, take numbers and sums
below 2^-126 as zero.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels import reference
from nblstm.kernels.reference import *  # noqa: F403
from nblstm.kernels.reference import __all__ as __all__


def rounded(x):
    """The bfloat16 numbers nearest to those of x, float32."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    nearest = bits + (bits >> np.uint32(16) & np.uint32(1)) + np.uint32(0x7FFF) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(x), np.float32(np.nan), nearest.view(np.float32))


class Rounding(np.ndarray):
    """Float32 numbers whose products with matrices have rounded factors; so have those of what is computed from them."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **keywords):
        """Compute on plain arrays; the result rounds, too."""
        if ufunc is np.matmul and min(x.ndim for x in inputs) > 1:
            inputs = [rounded(plain(x)) for x in inputs]
        given = {} if out is None else {"out": tuple(map(plain, out))}
        found = getattr(ufunc, method)(*map(plain, inputs), **given, **keywords)
        return found.view(Rounding) if isinstance(found, np.ndarray) else found


def plain(x):
    """The array without its rule."""
    return x.view(np.ndarray) if isinstance(x, Rounding) else x


def rounding(x):
    """The array with the rule; None stays None, and of a dict all arrays have it."""
    if isinstance(x, dict):
        return {name: rounding(array) for name, array in x.items()}
    return x if x is None else x.view(Rounding)


def recurrent_forward(outputs, work, packed, weights, cell, threads):
    """See reference.recurrent_forward."""
    packed = packed._replace(x=rounding(packed.x), h0=rounding(packed.h0))
    reference.recurrent_forward(outputs, work, packed, rounding(weights), cell, threads)


def recurrent_backward(dx, grads, slopes, y, work, packed, weights, cell, threads):
    """See reference.recurrent_backward."""
    packed = packed._replace(x=rounding(packed.x))
    reference.recurrent_backward(dx, grads, slopes, y, work, packed, rounding(weights), cell, threads)


def linear_forward(y, work, x, weight, bias, threads):
    """See reference.linear_forward."""
    reference.linear_forward(y, work, x, rounding(weight), bias, threads)


def linear_backward(dx, dweight, dbias, dy, work, x, weight, threads):
    """See reference.linear_backward."""
    reference.linear_backward(dx, dweight, dbias, dy, work, rounding(x), rounding(weight), threads)


def softmax_losses(losses, work, x, targets, weight, bias, threads):
    """See reference.softmax_losses."""
    reference.softmax_losses(losses, work, x, targets, rounding(weight), bias, threads)


def softmax_losses_and_gradient(losses, dx, dweight, dbias, work, x, loss, weight, bias, threads):
    """See reference.softmax_losses_and_gradient."""
    weight = rounding(weight)
    reference.softmax_losses_and_gradient(losses, dx, dweight, dbias, work, rounding(x), loss, weight, bias, threads)
