"""Dropout, embedding, and what goes over flat gradients."""

from __future__ import annotations

import numpy as np

from nblstm.kernels.packed import indices
from nblstm.kernels.threads import not_while_forking


def dropout(y, x, rate, key, threads):
    """y = x / (1 - rate) where a random bit is set, 0 elsewhere. Inverted dropout; y may be x.

    x, y (any shape, up to 2**32 elements, after which the mask repeats). key: uint64; the mask is a function of
    (key, position) alone, so that the backward pass
    is `dropout(dx, dy, rate, key)`: nothing is stored. Mask: two rounds of a 32-bit integer hash
    (C. Wellons, "lowbias32") over position and key; kept where hash >= rate * 2**32.
    """
    kept = dropout_hash(np.arange(x.size, dtype=np.uint32), key) >= np.uint32(rate * 2.0**32)
    np.multiply(x, kept.reshape(x.shape) * x.dtype.type(1 / (1 - rate)), out=y)


def dropout_hash(position, key):
    """32 well-mixed bits for each uint32 position under a uint64 key."""
    low, high = np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32)
    bits = position + low
    bits = (bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D)
    bits = (bits ^ (bits >> np.uint32(15))) + high
    bits = bits * np.uint32(0x846CA68B)
    return bits ^ (bits >> np.uint32(16))


def scale_texts(y, x, scales, offsets, threads):
    """y = x times a dropout mask (or any factors) of each text, the same at all its steps. y may be x.

    x, y (M, D): packed texts; scales (N, D); offsets (T + 1,) as in `recurrent_forward`.
    """
    for start, stop in zip(offsets[:-1], offsets[1:]):
        np.multiply(x[start:stop], scales[: stop - start], out=y[start:stop])


def embedding_forward(y, tokens, weight, threads):
    """y[m] = weight[tokens[m]]. y (M, E), tokens (M,) int, weight (V, E)."""
    np.take(weight, indices(tokens), axis=0, out=y)


def embedding_backward(dweight, dy, tokens, threads):
    """dweight[tokens[m]] += dy[m]. dweight (V, E) accumulated into, dy (M, E), tokens (M,) int."""
    np.add.at(dweight, tokens, dy)  # y[m] = weight[tokens[m]]


def clear(g, threads):
    """g = 0. g (P,)."""
    g.fill(0)


@not_while_forking
def squared_norm(g, threads):
    """The sum of squares of g (P,), in float64."""
    return float(np.dot(g.astype(np.float64), g.astype(np.float64)))


def clip_values(g, limit, threads):
    """g limited to [-limit, limit], in place. g (P,)."""
    np.clip(g, -limit, limit, out=g)
