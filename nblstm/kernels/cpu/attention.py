"""Attention on the CPU: the products of each text by register tiles, texts split over threads.

Names: T queries and S keys of a text, D numbers of a key, F of a value, P panels of 64 keys. A thread has room of its own
in each array of the work: `packed` for the right-hand side of a product, `scores` (T, 64 P), `tail` for `product`.
Arrays are flat, or addressed by flat offsets; a kernel's last argument is its share.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cpu.functions import exp, tanh
from nblstm.kernels.cpu.jit import jit
from nblstm.kernels.cpu.products import IN_ORDER, copy_piece, pack_panel, panels, product
from nblstm.kernels.cpu.tiles import PANEL, Block, Factor, multiply, multiply_transposed
from nblstm.kernels.cpu.vectors import LANES, lane_max, lane_sum, larger, like, load_part, store_part
from nblstm.kernels.threads import run_ranges


def attention_work(queries, keys, sizes, texts, dtype, threads):
    """Scratch for texts of up to so many queries and keys; sizes: of a key and of a value."""
    deep, wide = max(sizes), panels(max(sizes)) * PANEL
    empty = lambda *shape: np.zeros(shape, dtype)
    return {
        "packed": empty(threads, max(panels(keys) * PANEL * deep, max(keys, queries) * wide)),
        "scores": empty(threads, queries * panels(keys) * PANEL),
        "tail": empty(threads, max(queries, keys) * LANES),
        "vectors": empty(texts, sizes[0]),
    }


def _room(work):
    """What the threads write to on their way, (threads, numbers) each."""
    return work["packed"], work["scores"], work["tail"]


# ---------------------------------------------------------------- products of one text


# Rows are a tuple (x, first, count, columns): `count` rows of `columns` numbers, from `first` on, of x, which is flat.


@jit
def _clear(rows):
    """rows = 0"""
    x, first, count, columns = rows
    for i in range(first * columns, (first + count) * columns):
        x[i] = 0


@jit
def _times_transposed(C, a, b, packed):
    """C (T, 64 P) = a @ b.T, in whole panels of b's rows"""
    (A, a0, T, depth), (B, b0, count, _) = a, b
    P = -(-count // PANEL)
    for i in range(T * P * PANEL):
        C[i] = 0
    those = B[b0 * depth : (b0 + count) * depth].reshape(count, depth)
    for p in range(P):
        width = -(-min(PANEL, count - p * PANEL) // LANES) * LANES
        pack_panel(packed, p * depth * PANEL, those, IN_ORDER, PANEL, count, depth, p)
        left = Factor(A, a0 * depth, depth, 0, 1, depth)
        multiply(Block(C, p * PANEL, P * PANEL), T, width, left, packed, p * depth * PANEL)


@jit
def _pack_rows(packed, b):
    """packed (Q, count, 64) = the rows b, panel by panel"""
    x, first, count, columns = b
    for r in range(count):
        for q in range(-(-columns // PANEL)):
            width = min(PANEL, columns - q * PANEL)
            copy_piece(packed, (q * count + r) * PANEL, x, (first + r) * columns + q * PANEL, width)


@jit
def _times(c, A, a0, lda, b, packed, tail):
    """The rows c = A @ b, a row of A every lda numbers from a0 on"""
    (C, c0, T, columns), count = c, b[2]
    _clear(c)
    _pack_rows(packed, b)
    left, right = Factor(A, a0, lda, 0, 1, count), Block(packed, 0, count * PANEL)
    product(Block(C, c0 * columns, columns), T, 0, -(-columns // PANEL), left, right, tail, 0)


@jit
def _transposed_times(c, A, a0, lda, b, packed, tail):
    """The rows c = A.T @ b, a row of A every lda numbers from a0 on"""
    (C, c0, S, columns), count = c, b[2]
    left = Factor(A, a0, lda, 0, 1, count)
    _clear(c)
    _pack_rows(packed, b)
    for q in range(-(-columns // PANEL)):
        width, place, target = min(PANEL, columns - q * PANEL), q * count * PANEL, c0 * columns + q * PANEL
        whole = width - width % LANES
        if whole > 0:
            multiply_transposed(Block(C, target, columns), S, whole, left, packed, place)
        if width > whole:
            for i in range(S * LANES):
                tail[i] = 0
            multiply_transposed(Block(tail, 0, LANES), S, LANES, left, packed, place + whole)
            for r in range(S):
                for j in range(width - whole):
                    C[target + r * columns + whole + j] = tail[r * LANES + j]


# ---------------------------------------------------------------- forward


@jit
def _softmax(weights, w0, scores, s0, count):
    """weights[w0 : w0 + count] = softmax(scores[s0 : s0 + count]); NaN where a score is not finite"""
    largest, below = load_part(scores, s0, count, -np.inf), 0.0 - load_part(scores, s0, count, 0)
    for j in range(LANES, count, LANES):
        largest = larger(largest, load_part(scores, s0 + j, count - j, -np.inf))
        below = larger(below, 0.0 - load_part(scores, s0 + j, count - j, 0))
    peak = lane_max(largest)
    total = like(largest, 0)
    for j in range(0, count, LANES):
        e = exp(load_part(scores, s0 + j, count - j, -np.inf) - peak)
        total = total + e
        store_part(weights, w0 + j, e, count - j)
    share = 1 / lane_sum(total) + lane_max(below) * 0  # NaN for a score of -inf, whose weight would be 0
    for j in range(w0, w0 + count):
        weights[j] *= share


@jit
def _additive_scores(scores, step, q, k, vector):
    """scores (T, step): w . tanh(q_i + k_j)"""
    (query, q0, T, D), (key, k0, S, _) = q, k
    for i in range(T):
        for j in range(S):
            total = like(load_part(vector, 0, D, 0), 0)
            for d in range(0, D, LANES):
                z = load_part(query, (q0 + i) * D + d, D - d, 0) + load_part(key, (k0 + j) * D + d, D - d, 0)
                total = total + load_part(vector, d, D - d, 0) * tanh(z)
            scores[i * step + j] = lane_sum(total)


@jit
def _forward(context, weights, room, inputs, alignment, sizes, share):
    """`reference.attention_forward` of the texts start ... stop"""
    part, start, stop, _, _ = share
    (query, key, value, vector), (queries, keys, cells), (D, F) = inputs, alignment, sizes
    packed, scores, tail = room[0][part], room[1][part], room[2][part]
    for n in range(start, stop):
        T, S = queries[n + 1] - queries[n], keys[n + 1] - keys[n]
        q, k, step = (query, queries[n], T, D), (key, keys[n], S, D), -(-S // PANEL) * PANEL
        if len(vector) > 0:
            _additive_scores(scores, step, q, k, vector)
        else:
            _times_transposed(scores, q, k, packed)
        for i in range(T):
            _softmax(weights, cells[n] + i * S, scores, i * step, S)
        _times((context, queries[n], T, F), weights, cells[n], S, (value, keys[n], S, F), packed, tail)


def _flat(inputs):
    """The inputs as flat arrays; no vector is an empty one."""
    query, key, value, vector = inputs
    return query.reshape(-1), key.reshape(-1), value.reshape(-1), query[0, :0] if vector is None else vector


def _edges(alignment, threads):
    """Where to cut the texts so that every thread has about as many weights to find."""
    cells = alignment[2]
    inner = np.searchsorted(cells, [cells[-1] * part // threads for part in range(1, threads)])
    return [int(edge) for edge in np.unique([0, *inner, len(cells) - 1])]


def attention_forward(context, weights, work, inputs, alignment, threads):
    """See reference.attention_forward."""
    sizes = inputs[1].shape[1], inputs[2].shape[1]
    run_ranges(
        _forward, _edges(alignment, threads), context.reshape(-1), weights, _room(work), _flat(inputs), tuple(alignment),
        sizes,
    )  # fmt: skip


# ---------------------------------------------------------------- backward


@jit
def _softmax_backward(ds, s0, weights, w0, count):
    """ds[s0 : s0 + count], that of a, becomes that of the scores: a (da - sum a da)"""
    total = like(load_part(weights, w0, count, 0), 0)
    for j in range(0, count, LANES):
        total = total + load_part(weights, w0 + j, count - j, 0) * load_part(ds, s0 + j, count - j, 0)
    mean = lane_sum(total)
    for j in range(0, count, LANES):
        a = load_part(weights, w0 + j, count - j, 0)
        store_part(ds, s0 + j, a * (load_part(ds, s0 + j, count - j, 0) - mean), count - j)


@jit
def _additive_backward(dq, dk, dvector, v0, ds, step, q, k, vector):
    """The rows dq and dk; dvector[v0 : v0 + D]: dz = ds w (1 - t^2), t = tanh(q + k)"""
    (query, q0, T, D), (key, k0, S, _), dquery, dkey = q, k, dq[0], dk[0]
    _clear(dq)
    _clear(dk)
    for d in range(v0, v0 + D):
        dvector[d] = 0
    for i in range(T):
        for j in range(S):
            slope, q_, k_ = ds[i * step + j], (q0 + i) * D, (k0 + j) * D
            for d in range(0, D, LANES):
                left = D - d
                t = tanh(load_part(query, q_ + d, left, 0) + load_part(key, k_ + d, left, 0))
                store_part(dvector, v0 + d, load_part(dvector, v0 + d, left, 0) + t * slope, left)
                dz = load_part(vector, d, left, 0) * slope * (1.0 - t * t)
                store_part(dquery, q_ + d, load_part(dquery, q_ + d, left, 0) + dz, left)
                store_part(dkey, k_ + d, load_part(dkey, k_ + d, left, 0) + dz, left)


@jit
def _backward(dinputs, dvectors, dcontext, weights, room, inputs, alignment, sizes, share):
    """`reference.attention_backward` of the texts start ... stop; dvectors (texts, D): of each"""
    part, start, stop, _, _ = share
    (dquery, dkey, dvalue), (query, key, value, vector) = dinputs, inputs
    (queries, keys, cells), (D, F) = alignment, sizes
    packed, ds, tail = room[0][part], room[1][part], room[2][part]
    for n in range(start, stop):
        q0, k0, T, S = queries[n], keys[n], queries[n + 1] - queries[n], keys[n + 1] - keys[n]
        q, k, dq, dk = (query, q0, T, D), (key, k0, S, D), (dquery, q0, T, D), (dkey, k0, S, D)
        v, dc, step = (value, k0, S, F), (dcontext, q0, T, F), -(-S // PANEL) * PANEL
        _transposed_times((dvalue, k0, S, F), weights, cells[n], S, dc, packed, tail)
        _times_transposed(ds, dc, v, packed)
        for i in range(T):
            _softmax_backward(ds, i * step, weights, cells[n] + i * S, S)
        if len(vector) > 0:
            _additive_backward(dq, dk, dvectors, n * D, ds, step, q, k, vector)
        else:
            _times(dq, ds, 0, step, k, packed, tail)
            _transposed_times(dk, ds, 0, step, q, packed, tail)


def attention_backward(dquery, dkey, dvalue, dvector, dcontext, weights, work, inputs, alignment, threads):
    """See reference.attention_backward."""
    sizes, texts = (inputs[1].shape[1], inputs[2].shape[1]), len(alignment[0]) - 1
    dinputs = dquery.reshape(-1), dkey.reshape(-1), dvalue.reshape(-1)
    run_ranges(
        _backward, _edges(alignment, threads), dinputs, work["vectors"].reshape(-1), dcontext.reshape(-1), weights,
        _room(work), _flat(inputs), tuple(alignment), sizes,
    )  # fmt: skip
    if dvector is not None:
        dvector += work["vectors"][:texts].sum(axis=0)
