"""Products with int8 weights: the specification of decoding with them.

A matrix W (R, K) is `kernels.Int8`: scales[r] * numbers[r], the numbers -127 ... 127. A row x of what it is multiplied with
is rounded to whole steps of a unit of its own, as many as a sum of K products has room for in 32 bits:

    n    = min(32767, (2^31 - 1) // (127 K))                     13 bits and a sign at K = 2,048, 15 and a sign up to 516
    unit = max |x| / n,  q = round(x (n / max |x|))              to the nearest, of two the even one; the product is exact
    y[r] = scales[r] unit * sum over k of numbers[r, k] q[k]     the sum is exact

so the order of a sum does not matter, nor does the number of threads. Rows of an `Int8` matrix, such as the vectors of
tokens, are rounded already: their numbers are q, their scales the units.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels import DecoderWeights, Int8

MOST_STEPS = 32767  # of an int16
LEAST = np.float32(1e-30)  # rows below it are zero: n / max |x| would be infinite


def steps_of(K):
    """In how many steps the largest of K numbers is cut, so that no sum of K products leaves 32 bits."""
    return max(1, min(MOST_STEPS, (2**31 - 1) // (127 * K)))


def rounded_activations(x):
    """x (n, K) float32 -> (q (n, K) int16, units (n,) float32). Where a row is not finite its unit is NaN."""
    n, most = np.float32(steps_of(x.shape[1])), np.abs(x).max(axis=1)
    seen = (most > LEAST) & np.isfinite(most)
    factors = n / np.where(seen, most, 1)
    q = np.rint(np.where(seen[:, None], x, 0).astype(np.float64) * factors[:, None].astype(np.float64))
    return q.astype(np.int16), np.where(seen, most / n, np.where(most <= LEAST, np.float32(0), np.float32(np.nan)))


def sums(q, numbers):
    """The exact sums of products, (n, R) int64: q (n, K), numbers (R, K) integers. Float64 holds each of them."""
    return (q.astype(np.float64) @ numbers.T.astype(np.float64)).astype(np.int64)


def product(x, weight):
    """x weight^T. x (n, K) an array, or rows of an Int8; weight (R, K) an array or, for what is said above, an Int8."""
    if not isinstance(weight, Int8):
        return x @ weight.T
    q, units = x if isinstance(x, Int8) else rounded_activations(x)
    return sums(q, weight.numbers).astype(np.float32) * (units[:, None] * weight.scales)


def rows_of(weight, tokens):
    """The rows of a matrix (V, E) for tokens (N,): as it is, an array or an Int8."""
    return Int8(weight.numbers[tokens], weight.scales[tokens]) if isinstance(weight, Int8) else weight[tokens]


def values(weight):
    """What a matrix stands for, in floating point: an Int8's numbers times their scales, an array itself."""
    return weight.numbers * weight.scales[:, None] if isinstance(weight, Int8) else weight


def in_floats(net):
    """`kernels.DecoderWeights` whose matrices are arrays: for kernels without small integers."""
    if not isinstance(net.head_weight, Int8):
        return net
    layers = [{name: values(weight) for name, weight in weights.items()} for weights in net.layers]
    return DecoderWeights(
        values(net.embedding), net.cells, layers, net.residual, net.with_memory, values(net.head_weight), net.head_bias
    )
