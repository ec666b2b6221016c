"""The CPU kernels: the functions of reference.py as numba loops on vectors and register tiles, one thread a slice.

The contract is put together here: recurrent layers are in recurrent.py, decoding in decoding.py, beams in searching.py,
heads in head.py; what goes over flat arrays is below. No sum is ever split between threads, so the results do not depend on their number.

A kernel's last arguments `part, start, stop` are its share.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.decoding import decode, decode_weights, decode_work, draw, generate  # noqa: F401  the contract has them
from nblstm.kernels.head import (  # noqa: F401
    linear_backward,
    linear_forward,
    linear_work,
    softmax_gradient_work,
    softmax_losses,
    softmax_losses_and_gradient,
    softmax_work,
    squared_error,
)
from nblstm.kernels.jit import jit
from nblstm.kernels.packed import indices
from nblstm.kernels.products import panels
from nblstm.kernels.reference import array, assign, empty, host, zeros_like  # noqa: F401
from nblstm.kernels.recurrent import recurrent_backward, recurrent_forward, recurrent_work  # noqa: F401
from nblstm.kernels.searching import search  # noqa: F401
from nblstm.kernels.threads import split
from nblstm.kernels.vectors import LANES, lane_sum, like, load, load_part, root, store, store_part

CHUNK = 1 << 16  # numbers in one partial sum of `squared_norm`


# ---------------------------------------------------------------- dropout


@jit
def _dropout(y, x, threshold, keep_scale, low, high, part, start, stop):
    """`reference.dropout` for elements start ... stop"""
    for i in range(start, stop):
        bits = np.uint32(np.uint32(i) + low)
        bits = np.uint32(np.uint32(bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D))
        bits = np.uint32(np.uint32(bits ^ (bits >> np.uint32(15))) + high)
        bits = np.uint32(bits * np.uint32(0x846CA68B))
        bits = np.uint32(bits ^ (bits >> np.uint32(16)))
        y[i] = x[i] * keep_scale if bits >= threshold else x[i] * 0


def dropout(y, x, rate, key, threads):
    """See reference.dropout: the same mask, bit for bit."""
    split(
        threads, _dropout, x.size, y.reshape(-1), x.reshape(-1), np.uint32(rate * 2.0**32),
        x.dtype.type(1 / (1 - rate)), np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32),
    )  # fmt: skip


@jit
def _scale_texts(y, x, scales, offsets, D, part, start, stop):
    """`reference.scale_texts` of steps start ... stop"""
    for t in range(start, stop):
        for n in range(offsets[t + 1] - offsets[t]):
            row = (offsets[t] + n) * D
            for j in range(D):
                y[row + j] = x[row + j] * scales[n * D + j]


def scale_texts(y, x, scales, offsets, threads):
    """See reference.scale_texts."""
    split(
        threads, _scale_texts, len(offsets) - 1, y.reshape(-1), x.reshape(-1), scales.reshape(-1), offsets, x.shape[1]
    )


# ---------------------------------------------------------------- embedding


def embedding_forward(y, tokens, weight, threads):
    """See reference.embedding_forward: a copy of rows, which NumPy does at memory speed."""
    np.take(weight, indices(tokens), axis=0, out=y)


@jit
def _embedding_backward(dweight, dy, tokens, part, start, stop):
    """dweight[tokens[m]] += dy[m] for columns start ... stop"""
    for m in range(len(tokens)):
        for e in range(start, stop):
            dweight[tokens[m], e] += dy[m, e]


def embedding_backward(dweight, dy, tokens, threads):
    """See reference.embedding_backward. Threads split the columns."""
    split(threads, _embedding_backward, dweight.shape[1], dweight, dy, tokens)


# ---------------------------------------------------------------- gradients and optimizers (flat arrays)


@jit
def _clear(g, part, start, stop):
    """g = 0 for elements start ... stop"""
    zeros = like(load_part(g, start, 0, 0), 0)
    for i in range(start, stop, LANES):
        store_part(g, i, zeros, min(LANES, stop - i))


def clear(g, threads):
    """See reference.clear."""
    split(threads, _clear, g.size, g)


@jit
def _squared_norm(sums, g, part, start, stop):
    """sums[i] = the sum of squares of the i-th CHUNK of g"""
    for chunk in range(start, stop):
        first, last = chunk * CHUNK, min((chunk + 1) * CHUNK, g.size)
        total = 0.0
        for block in range(first, last, 64 * LANES):
            end = min(block + 64 * LANES, last)
            a = like(load_part(g, block, 0, 0), 0)
            for i in range(block, end, LANES):
                value = load_part(g, i, min(LANES, end - i), 0)
                a = a + value * value
            total += lane_sum(a)
        sums[chunk] = total


def squared_norm(g, threads):
    """See reference.squared_norm. Partial sums of 1024 in g's type, so inf above 1e19 in float32; the rest in float64."""
    sums = np.empty(panels(g.size, CHUNK))
    split(threads, _squared_norm, len(sums), sums, g)
    return float(sums.sum())


@jit
def _clip_values(g, limit, part, start, stop):
    """`reference.clip_values` of elements start ... stop"""
    for i in range(start, stop):
        value = g[i]
        value = limit if value > limit else value
        g[i] = -limit if value < -limit else value


def clip_values(g, limit, threads):
    """See reference.clip_values."""
    split(threads, _clip_values, g.size, g, g.dtype.type(limit))


@jit
def _adam(
    w, m, v, g, rate, keep1, take1, keep2, take2, correction, eps, weight_decay, shrink, scale, part, start, stop
):
    """`reference.adam` of the vectors start ... stop, the last of which may be a part"""
    for i in range(start * LANES, min(stop * LANES, w.size), LANES):
        count = min(LANES, w.size - i)
        if count == LANES:
            w_, m_, v_, g_ = load(w, i), load(m, i), load(v, i), load(g, i)
        else:
            w_, m_, v_, g_ = (
                load_part(w, i, count, 0), load_part(m, i, count, 0), load_part(v, i, count, 0), load_part(g, i, count, 0)
            )  # fmt: skip
        gradient = g_ * scale + w_ * weight_decay
        m_ = m_ * keep1 + gradient * take1
        v_ = v_ * keep2 + gradient * gradient * take2
        w_ = w_ * shrink - m_ * rate / (root(v_) * correction + eps)
        if count == LANES:
            store(m, i, m_)
            store(v, i, v_)
            store(w, i, w_)
        else:
            store_part(m, i, m_, count)
            store_part(v, i, v_, count)
            store_part(w, i, w_, count)


def adam(w, m, v, g, lr, beta1, beta2, eps, weight_decay, decoupled, step, scale, threads):
    """See reference.adam."""
    kind = w.dtype.type
    rate, correction = kind(lr / (1 - beta1**step)), kind(1 / np.sqrt(1 - beta2**step))
    split(
        threads, _adam, panels(w.size, LANES), w, m, v, g, rate, kind(beta1), kind(1 - beta1), kind(beta2),
        kind(1 - beta2), correction, kind(eps), kind(weight_decay), kind(1 - lr * decoupled), kind(scale),
    )  # fmt: skip


@jit
def _sgd(w, m, g, lr, momentum, own, carried, weight_decay, scale, part, start, stop):
    """`reference.sgd` of elements start ... stop: w -= lr (own g + carried m)"""
    for i in range(start, stop):
        gradient = g[i] * scale + weight_decay * w[i]
        m[i] = momentum * m[i] + gradient
        w[i] -= lr * (own * gradient + carried * m[i])


def sgd(w, m, g, lr, momentum, nesterov, weight_decay, scale, threads):
    """See reference.sgd."""
    kind = w.dtype.type
    own, carried = (1, momentum) if nesterov else (0, 1)
    split(
        threads, _sgd, w.size, w, m, g, kind(lr), kind(momentum), kind(own), kind(carried), kind(weight_decay),
        kind(scale),
    )  # fmt: skip


@jit
def _average(a, w, share, part, start, stop):
    """`reference.average` of elements start ... stop"""
    for i in range(start, stop):
        a[i] += share * (w[i] - a[i])


def average(a, w, share, threads):
    """See reference.average."""
    split(threads, _average, w.size, a, w, w.dtype.type(share))


@jit
def _rmsprop(w, v, g, lr, keep, take, eps, weight_decay, scale, part, start, stop):
    """`reference.rmsprop` of elements start ... stop"""
    for i in range(start, stop):
        gradient = g[i] * scale + weight_decay * w[i]
        v[i] = keep * v[i] + take * (gradient * gradient)
        w[i] -= lr * gradient / (np.sqrt(v[i]) + eps)


def rmsprop(w, v, g, lr, alpha, eps, weight_decay, scale, threads):
    """See reference.rmsprop."""
    kind = w.dtype.type
    split(
        threads, _rmsprop, w.size, w, v, g, kind(lr), kind(alpha), kind(1 - alpha), kind(eps), kind(weight_decay),
        kind(scale),
    )  # fmt: skip
