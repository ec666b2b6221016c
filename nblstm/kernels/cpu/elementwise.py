"""Dropout, embedding, and what goes over flat gradients, on the CPU.

A kernel's last argument is its share.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cpu.jit import jit
from nblstm.kernels.cpu.products import panels
from nblstm.kernels.cpu.vectors import LANES, lane_sum, like, load_part
from nblstm.kernels.packed import indices
from nblstm.kernels.threads import parallel_for

CHUNK = 1 << 16  # numbers in one partial sum of `squared_norm`


@jit
def _dropout(y, x, threshold, keep_scale, low, high, share):
    """`reference.dropout` for elements start ... stop"""
    _, start, stop, _, _ = share
    for i in range(start, stop):
        bits = np.uint32(np.uint32(i) + low)
        bits = np.uint32(np.uint32(bits ^ (bits >> np.uint32(16))) * np.uint32(0x7FEB352D))
        bits = np.uint32(np.uint32(bits ^ (bits >> np.uint32(15))) + high)
        bits = np.uint32(bits * np.uint32(0x846CA68B))
        bits = np.uint32(bits ^ (bits >> np.uint32(16)))
        y[i] = x[i] * keep_scale if bits >= threshold else x[i] * 0


def dropout(y, x, rate, key, threads):
    """See reference.dropout: the same mask, bit for bit."""
    parallel_for(
        threads, _dropout, x.size, y.reshape(-1), x.reshape(-1), np.uint32(rate * 2.0**32),
        x.dtype.type(1 / (1 - rate)), np.uint32(key & 0xFFFFFFFF), np.uint32(key >> 32),
    )  # fmt: skip


@jit
def _scale_texts(y, x, scales, offsets, D, share):
    """`reference.scale_texts` of steps start ... stop"""
    _, start, stop, _, _ = share
    for t in range(start, stop):
        for n in range(offsets[t + 1] - offsets[t]):
            row = (offsets[t] + n) * D
            for j in range(D):
                y[row + j] = x[row + j] * scales[n * D + j]


def scale_texts(y, x, scales, offsets, threads):
    """See reference.scale_texts."""
    parallel_for(
        threads, _scale_texts, len(offsets) - 1, y.reshape(-1), x.reshape(-1), scales.reshape(-1), offsets, x.shape[1]
    )


def embedding_forward(y, tokens, weight, threads):
    """See reference.embedding_forward: a copy of rows, which NumPy does at memory speed."""
    np.take(weight, indices(tokens), axis=0, out=y)


@jit
def _embedding_backward(dweight, dy, tokens, share):
    """dweight[tokens[m]] += dy[m] for columns start ... stop"""
    _, start, stop, _, _ = share
    for m in range(len(tokens)):
        for e in range(start, stop):
            dweight[tokens[m], e] += dy[m, e]


def embedding_backward(dweight, dy, tokens, threads):
    """See reference.embedding_backward. Threads split the columns."""
    parallel_for(threads, _embedding_backward, dweight.shape[1], dweight, dy, tokens)


def clear(g, threads):
    """See reference.clear: NumPy does it at the speed of memory, which a second thread does not raise."""
    g.fill(0)


@jit
def _squared_norm(sums, g, share):
    """sums[i] = the sum of squares of the i-th CHUNK of g"""
    _, start, stop, _, _ = share
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
    parallel_for(threads, _squared_norm, len(sums), sums, g)
    return float(sums.sum())


@jit
def _clip_values(g, limit, share):
    """`reference.clip_values` of elements start ... stop"""
    _, start, stop, _, _ = share
    for i in range(start, stop):
        value = g[i]
        value = limit if value > limit else value
        g[i] = -limit if value < -limit else value


def clip_values(g, limit, threads):
    """See reference.clip_values."""
    parallel_for(threads, _clip_values, g.size, g, g.dtype.type(limit))
