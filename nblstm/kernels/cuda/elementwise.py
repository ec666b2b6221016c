"""Dropout, embedding, and what goes over flat gradients, on a card."""

from __future__ import annotations

import numpy as np
from numba import cuda

from nblstm.kernels.cuda.arrays import copy_back, ids_on_card, launch, on_card, set_zero
from nblstm.kernels.cuda.device import SUM_BLOCKS, THREADS


@cuda.jit
def _dropout(count, y, x, threshold, keep_scale, low, high):
    i = cuda.grid(1)
    if i < count:
        most = np.uint64(0xFFFFFFFF)  # 32-bit arithmetic in 64 bits, as the specification's uint32
        bits = (np.uint64(i) + low) & most
        bits = ((bits ^ (bits >> np.uint64(16))) * np.uint64(0x7FEB352D)) & most
        bits = ((bits ^ (bits >> np.uint64(15))) + high) & most
        bits = (bits * np.uint64(0x846CA68B)) & most
        bits = bits ^ (bits >> np.uint64(16))
        y[i] = np.float32(x[i]) * keep_scale if bits >= threshold else np.float32(0)


def dropout(y, x, rate, key, threads):
    """See reference.dropout: the same mask, bit for bit."""
    out = on_card(y)
    launch(
        _dropout, x.size, out, on_card(x), np.uint64(rate * 2.0**32), np.float32(1 / (1 - rate)),
        np.uint64(key & 0xFFFFFFFF), np.uint64(key >> 32),
    )  # fmt: skip
    copy_back(y, out)


@cuda.jit
def _scale_texts(count, y, x, scales, texts, D):
    i = cuda.grid(1)
    if i < count:
        y[i] = np.float32(x[i]) * scales[texts[i // D] * D + i % D]


def scale_texts(y, x, scales, offsets, threads):
    """See reference.scale_texts."""
    out, texts = on_card(y), np.concatenate([np.arange(n) for n in np.diff(offsets)])
    launch(_scale_texts, x.size, out, on_card(x), on_card(scales), ids_on_card(texts), x.shape[1])
    copy_back(y, out)


@cuda.jit
def gather(count, y, rows, x, D):
    """y[m] = x[rows[m]]"""
    i = cuda.grid(1)
    if i < count:
        y[i] = np.float32(x[max(rows[i // D], 0) * D + i % D])  # -1, the token of a text that is lost, is read as 0


def embedding_forward(y, tokens, weight, threads):
    """See reference.embedding_forward."""
    out = on_card(y)
    launch(gather, y.size, out, ids_on_card(tokens), on_card(weight), y.shape[1])
    copy_back(y, out)


@cuda.jit
def scatter(count, y, ids, starts, places, x, D):
    """y[ids[k]] += x[places[starts[k]]] + ... + x[places[starts[k + 1] - 1]], in this order"""
    i = cuda.grid(1)
    if i < count:
        k, j, total = i // D, i % D, np.float32(0)
        for place in range(starts[k], starts[k + 1]):
            total += x[places[place] * D + j]
        y[ids[k] * D + j] += total


def embedding_backward(dweight, dy, tokens, threads):
    """See reference.embedding_backward. The places of a token are added in their order."""
    places = np.argsort(tokens, kind="stable")
    ids, starts = np.unique(tokens[places], return_index=True)
    out, D = on_card(dweight), dy.shape[1]
    where = ids_on_card(ids), ids_on_card(np.append(starts, len(tokens))), ids_on_card(places)
    launch(scatter, len(ids) * D, out, *where, on_card(dy), D)
    copy_back(dweight, out)


def clear(g, threads):
    """See reference.clear."""
    set_zero(g)


@cuda.jit
def _squares(sums, g, count):
    """The sum of squares of every block's share, in float64"""
    parts = cuda.shared.array(THREADS, np.float64)
    total = 0.0
    for i in range(cuda.grid(1), count, cuda.gridsize(1)):
        total += np.float64(g[i]) * np.float64(g[i])
    parts[cuda.threadIdx.x] = total
    cuda.syncthreads()
    if cuda.threadIdx.x == 0:
        total = 0.0
        for k in range(THREADS):
            total += parts[k]
        sums[cuda.blockIdx.x] = total


def squared_norm(g, threads):
    """See reference.squared_norm."""
    blocks = min(SUM_BLOCKS, -(-g.size // (16 * THREADS)))
    sums = cuda.device_array(blocks, np.float64)
    _squares[blocks, THREADS](sums, on_card(g), g.size)
    return float(sums.copy_to_host().sum())


@cuda.jit
def _clip_values(count, g, limit):
    i = cuda.grid(1)
    if i < count:
        value = g[i]
        g[i] = -limit if value < -limit else limit if value > limit else value  # NaN stays


def clip_values(g, limit, threads):
    """See reference.clip_values."""
    flat = on_card(g)
    launch(_clip_values, g.size, flat, np.float32(limit))
    copy_back(g, flat)
