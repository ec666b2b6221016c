"""The CPU kernels: the functions of reference.py as numba loops over register tiles, one thread a slice.

How a layer's time is spent decides the layout. Products run in `tiles.multiply`, whose right-hand side is
packed in panels of 64 columns; one panel holds the four gates of 16 hidden units, so that the gates of a tile
are still in the L1 cache when the non-linearity reads them. Pre-activations become gates, and gates become
their gradients, in one buffer (P, M, 64). Every thread takes its own streams of the batch through all time
steps; weight gradients are split by their own rows and columns. No sum is ever split between threads, so the
results do not depend on their number.

Names: P panels of 64 gate columns, Q panels of 64 input or hidden columns, M = T * N rows, Hp = 16 * P.
In this file arrays are flat, or addressed by flat offsets; a kernel's last arguments `part, start, stop` are its share.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels import LOGITS_BYTES
from nblstm.kernels.barrier import barrier
from nblstm.kernels.jit import jit
from nblstm.kernels.threads import split, together
from nblstm.kernels.tiles import PANEL, multiply, multiply_transposed
from nblstm.kernels.vectors import (
    LANES,
    exp,
    lane_max,
    lane_sum,
    larger,
    like,
    load,
    load_part,
    root,
    sigmoid,
    store,
    store_part,
    tanh,
    transpose,
)

ROWS = 96  # rows of a block in the large products: its A stays in the L2 cache while panels of B pass
HEAD_ROWS = 480  # rows of a block of logits, which one thread computes
HEAD_PANELS = 64  # panels of the head's weight that are packed at a time on the way back ...
HEAD_DEPTH = 8  # ... and that one product walks along: 128 KiB of them for 64 columns of its result
_NO_INDEX = np.empty(0, np.int32)
SHARED_BYTES = 1 << 22  # of weights, from which on a stream is worth several threads
CHUNK = 1 << 16  # numbers in one partial sum of `squared_norm`


def _panels(columns, width=PANEL):
    """How many panels of `width` columns hold `columns`."""
    return -(-columns // width)


# ---------------------------------------------------------------- packing
#
# `groups` blocks of `size` rows stand below each other in a weight: 4 gates of H rows in an LSTM, 1 block of V
# rows in a linear layer. Panel p holds rows p*w ... (p+1)*w of each block, w = PANEL / groups; rows and columns
# that are not there are zeros.


@jit
def _pack_panel(packed, place, weight, groups, size, K, p):
    """packed[place + k * 64 + g * w + j] = weight[g * size + p * w + j, k]: panel p of the right-hand side of x @ weight.T."""
    source, w = weight.reshape(-1), PANEL // groups
    for block in range(PANEL // LANES):  # of 16 columns, in one group as w is a multiple of 16
        g, j = block * LANES // w, block * LANES % w
        row, target = p * w + j, place + block * LANES
        first = (g * size + row) * K
        for k in range(0, K, LANES):
            if row + LANES <= size and k + LANES <= K:
                transpose(packed, target + k * PANEL, PANEL, source, first + k, K)
                continue
            for i in range(k, min(k + LANES, K)):
                for lane in range(LANES):
                    inside = row + lane < size
                    packed[target + i * PANEL + lane] = source[first + lane * K + i] if inside else 0


@jit
def _pack(packed, weight, groups, size, K, part, start, stop):
    """packed (P, K, 64): the panels start ... stop of `_pack_panel`, one after the other."""
    for p in range(start, stop):
        _pack_panel(packed, p * K * PANEL, weight, groups, size, K, p)


@jit
def _copy_piece(packed, place, x, source, width):
    """packed[place : place + 64] = x[source : source + width], zeros behind."""
    for i in range(0, PANEL, LANES):
        if i + LANES <= width:
            store(packed, place + i, load(x, source + i))
        else:
            store(packed, place + i, load_part(x, source + i, max(0, width - i), 0))


@jit
def _pack_transposed(packed, weight, groups, size, K, part, start, stop):
    """packed[q, p * 64 + g * w + j, i] = weight[g * size + p * w + j, q * 64 + i]: of dz @ weight."""
    source, w = weight.reshape(-1), PANEL // groups
    P, Q = -(-size // w), -(-K // PANEL)
    for row in range(start * PANEL, stop * PANEL):
        g, j = row % PANEL // w, row // PANEL * w + row % w
        for q in range(Q):
            width = min(PANEL, K - q * PANEL) if j < size else 0
            _copy_piece(packed, (q * P * PANEL + row) * PANEL, source, (g * size + j) * K + q * PANEL, width)


@jit
def _pack_inputs(packed, x, rows, columns, part, start, stop):
    """packed (Q, rows, 64) = the columns of x (rows, columns), panel by panel, for the rows start ... stop."""
    for r in range(start, stop):
        for q in range(-(-columns // PANEL)):
            column = q * PANEL
            _copy_piece(packed, (q * rows + r) * PANEL, x, r * columns + column, min(PANEL, columns - column))


@jit
def _pack_previous(packed, h0, y, rows, N, H, part, start, stop):
    """As `_pack_inputs`, of h_{t-1}: the N rows of h0, then those of y."""
    for r in range(start, stop):
        for q in range(-(-H // PANEL)):
            column = q * PANEL
            place, width = (q * rows + r) * PANEL, min(PANEL, H - column)
            if r < N:
                _copy_piece(packed, place, h0, r * H + column, width)
            else:
                _copy_piece(packed, place, y, (r - N) * H + column, width)


# ---------------------------------------------------------------- products


@jit
def _product(C, c0, rows, columns, q0, q1, A, a0, lda, outer, outers, K, B, b0, step, tail, t0):
    """C[rows, columns] += A[rows, outers * K] @ B, for the panels q0 ... q1 of B, the q-th at b0 + q * step.

    tail[t0:]: room for ROWS * 16.
    """
    for q in range(q0, q1):
        width, b = min(PANEL, columns - q * PANEL), b0 + q * step
        whole = width - width % LANES
        c = c0 + q * PANEL
        if whole > 0:
            multiply(C, c, columns, rows, whole, A, a0, lda, outer, outers, K, B, b)
        if width > whole:
            for i in range(t0, t0 + rows * LANES):
                tail[i] = 0
            multiply(tail, t0, LANES, rows, LANES, A, a0, lda, outer, outers, K, B, b + whole)
            for r in range(rows):
                for j in range(width - whole):
                    C[c + r * columns + whole + j] += tail[t0 + r * LANES + j]


@jit
def _linear_rows(y, x, packed, bias, V, D, tail, part, start, stop):
    """y[start : stop] = x @ packed + bias"""
    for m in range(start, stop, ROWS):
        rows = min(ROWS, stop - m)
        for r in range(m, m + rows):
            for v in range(V):
                y[r * V + v] = bias[v]
        _product(
            y, m * V, rows, V, 0, -(-V // PANEL), x, m * D, D, 0, 1, D, packed, 0, D * PANEL, tail, part * ROWS * LANES
        )  # fmt: skip


@jit
def _linear_rows_backward(dx, dy, packed, V, D, tail, part, start, stop):
    """dx[start : stop] = dy @ weight, dy (M, V) row by row"""
    for m in range(start, stop, ROWS):
        rows = min(ROWS, stop - m)
        for i in range(m * D, (m + rows) * D):
            dx[i] = 0
        _product(
            dx, m * D, rows, D, 0, -(-D // PANEL), dy, m * V, V, 0, 1, V, packed, 0, V * PANEL, tail,
            part * ROWS * LANES,
        )  # fmt: skip


@jit
def _project_rows(z, x, packed, bias, P, M, D, part, start, stop):
    """z[:, start : stop] = x @ packed + bias in panels (P, M, 64)"""
    for m in range(start, stop, ROWS):
        rows = min(ROWS, stop - m)
        for p in range(P):
            for r in range(rows):
                for j in range(0, PANEL, LANES):
                    store(z, (p * M + m + r) * PANEL + j, load(bias, p * PANEL + j))
            multiply(z, (p * M + m) * PANEL, PANEL, rows, PANEL, x, m * D, D, 0, 1, D, packed, p * D * PANEL)


@jit
def _project_rows_backward(dx, dz, packed, P, M, D, tail, part, start, stop):
    """dx[start : stop] = dz @ weight, dz in panels (P, M, 64)"""
    for m in range(start, stop, ROWS):
        rows = min(ROWS, stop - m)
        for i in range(m * D, (m + rows) * D):
            dx[i] = 0
        _product(
            dx, m * D, rows, D, 0, -(-D // PANEL), dz, m * PANEL, PANEL, M * PANEL, P, PANEL, packed, 0,
            P * PANEL * PANEL, tail, part * ROWS * LANES,
        )  # fmt: skip


@jit
def _weight_gradient(dweight, dbias, groups, size, K, dz, M, x, block, part, start, stop):
    """dweight += dz.T @ x for the blocks start ... stop of 64 x 64, counted along x's panels first.

    dz: panels (P, M, 64); x: panels (Q, M, 64). dbias += the sum of dz over rows, unless it is empty.
    """
    Q, w, b0 = -(-K // PANEL), PANEL // groups, part * PANEL * PANEL
    for task in range(start, stop):
        p, q = task // Q, task % Q
        a0 = p * M * PANEL
        for i in range(b0, b0 + PANEL * PANEL):
            block[i] = 0
        width = min(PANEL, K - q * PANEL)
        padded = -(-width // LANES) * LANES
        rows = PANEL if groups > 1 else min(PANEL, size - p * PANEL)
        multiply_transposed(block, b0, PANEL, rows, padded, dz, a0, PANEL, M, x, q * M * PANEL)
        for g in range(groups):
            for j in range(min(w, size - p * w)):
                target, row = (g * size + p * w + j) * K + q * PANEL, b0 + (g * w + j) * PANEL
                for i in range(0, width, LANES):
                    if i + LANES <= width:
                        store(dweight, target + i, load(dweight, target + i) + load(block, row + i))
                    else:
                        value = load_part(dweight, target + i, width - i, 0) + load(block, row + i)
                        store_part(dweight, target + i, value, width - i)
        if q == 0 and dbias.size > 0:
            a = b = c = d = like(load(dz, a0), 0)
            for m in range(a0, a0 + M * PANEL, PANEL):
                a, b = a + load(dz, m), b + load(dz, m + LANES)
                c, d = c + load(dz, m + 2 * LANES), d + load(dz, m + 3 * LANES)
            _add_columns(dbias, a, 0, p, w, size)
            _add_columns(dbias, b, LANES, p, w, size)
            _add_columns(dbias, c, 2 * LANES, p, w, size)
            _add_columns(dbias, d, 3 * LANES, p, w, size)


@jit
def _add_columns(bias, total, column, p, w, size):
    """bias += total, the columns column ... column + 16 of panel p, as far as they are there"""
    first = column // w * size + p * w + column % w
    count = min(LANES, size - p * w - column % w)
    if count > 0:
        store_part(bias, first, load_part(bias, first, count, 0) + total, count)


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


# ---------------------------------------------------------------- embedding


def embedding_forward(y, tokens, weight, threads):
    """See reference.embedding_forward: a copy of rows, which NumPy does at memory speed."""
    np.take(weight, tokens, axis=0, out=y)


@jit
def _embedding_backward(dweight, dy, tokens, part, start, stop):
    """dweight[tokens[m]] += dy[m] for columns start ... stop"""
    for m in range(len(tokens)):
        for e in range(start, stop):
            dweight[tokens[m], e] += dy[m, e]


def embedding_backward(dweight, dy, tokens, threads):
    """See reference.embedding_backward. Threads split the columns."""
    split(threads, _embedding_backward, dweight.shape[1], dweight, dy, tokens)


# ---------------------------------------------------------------- LSTM layer


def lstm_work(T, N, sizes, H, rows, dtype, threads):
    """Buffers for `lstm_forward` and `lstm_backward`, by name, one dict a layer.

    A layer's own: gates (P, M, 64) and cells (T + 1, N, Hp), stored for the backward pass. The first layer's
    table (P, rows, 64) is the projection of its distinct inputs. The rest is scratch that all layers share.
    """
    P, M, QH = _panels(H, LANES), T * N, _panels(H)
    empty = lambda *shape: np.zeros(int(np.prod(shape)), dtype)  # noqa: E731
    shared = {
        "table": empty(P, rows, PANEL),
        "weight_ih": empty(max(max(P * D, _panels(D) * P * PANEL) for D in sizes), PANEL),
        "weight_hh": empty(max(P * H, QH * P * PANEL), PANEL),
        "bias": empty(P, PANEL),
        "inputs": empty(max([QH * M, _panels(sizes[0]) * (rows or M)]), PANEL),
        "dc": empty(N, P * LANES),
        "tail": empty(threads, ROWS, LANES),
        "block": empty(threads, PANEL, PANEL),
    }
    return [{**shared, "gates": empty(P, M, PANEL), "cells": empty(T + 1, N, P * LANES)} for _ in sizes]


@jit
def _lstm_cell(z, first, c_prev):
    """i, f, g, o, c, h of 16 units of one stream, from the pre-activations at z[first:].

    i, f, o = sigmoid(z), g = tanh(z); c = f c_prev + i g; h = o tanh(c)
    """
    i = sigmoid(load(z, first))
    f = sigmoid(load(z, first + LANES))
    g = tanh(load(z, first + 2 * LANES))
    o = sigmoid(load(z, first + 3 * LANES))
    c = f * c_prev + i * g
    return i, f, g, o, c, o * tanh(c)


def _by_streams(threads, weights, kernel, N, *args):
    """kernel(*args, counter, parts, part, n0, n1): each thread takes its streams and never waits (parts is 1).

    Where streams are fewer than threads and the weights are many, the threads share every stream: each takes its
    part of the units and waits for the others (`barrier(counter, parts, ...)`) before it reads theirs.
    """
    counter = np.zeros(1, np.int64)
    if N < threads and weights.nbytes >= SHARED_BYTES:
        together(threads, kernel, N, *args, counter)
    else:
        split(threads, kernel, N, *args, counter, 1)


@jit
def _share(count, parts, part):
    """The part's share of range(count) where `parts` threads share every stream; all of it where they do not."""
    if parts == 1:
        return 0, count
    return count * part // parts, count * (part + 1) // parts


@jit
def _lstm_forward(y, gates, cells, table, index, R, h0, weight_hh, T, N, H, counter, parts, part, n0, n1):
    """The part's streams of `lstm_forward` through all time steps; R distinct inputs, 0 if z is in place."""
    P, M = -(-H // LANES), T * N
    p0, p1 = _share(P, parts, part)
    rows = n1 - n0
    for t in range(T):
        if t == 0:
            h, first = h0, n0 * H
        else:
            h, first = y, ((t - 1) * N + n0) * H
        for p in range(p0, p1):
            z = (p * M + t * N + n0) * PANEL
            if R > 0:
                for r in range(rows):
                    row = (p * R + index[t * N + n0 + r]) * PANEL
                    for j in range(0, PANEL, LANES):
                        store(gates, z + r * PANEL + j, load(table, row + j))
            multiply(gates, z, PANEL, rows, PANEL, h, first, H, 0, 1, H, weight_hh, p * H * PANEL)
            width = min(LANES, H - p * LANES)
            for r in range(rows):
                n = n0 + r
                place, c_prev = z + r * PANEL, ((t * N + n) * P + p) * LANES
                i, f, g, o, cell, hidden = _lstm_cell(gates, place, load(cells, c_prev))
                store(gates, place, i)
                store(gates, place + LANES, f)
                store(gates, place + 2 * LANES, g)
                store(gates, place + 3 * LANES, o)
                store(cells, c_prev + N * P * LANES, cell)
                if width == LANES:
                    store(y, (t * N + n) * H + p * LANES, hidden)
                else:
                    store_part(y, (t * N + n) * H + p * LANES, hidden, width)
        barrier(counter, parts, t + 1)


def lstm_forward(y, hn, cn, work, x, index, h0, c0, weight_ih, weight_hh, bias_ih, bias_hh, threads):
    """See reference.lstm_forward."""
    T, N, H = y.shape
    rows, D = x.shape
    P = _panels(H, LANES)
    gather = index is not None
    work["bias"].reshape(P, 4, LANES)[...] = _gate_panels(bias_ih + bias_hh, P, H)
    split(threads, _pack, P, work["weight_ih"], weight_ih, 4, H, D)
    split(threads, _pack, P, work["weight_hh"], weight_hh, 4, H, H)
    projected = work["table"] if gather else work["gates"]
    split(threads, _project_rows, rows, projected, x.reshape(-1), work["weight_ih"], work["bias"], P, rows, D)
    cells = work["cells"].reshape(T + 1, N, P * LANES)
    cells[0, :, :H] = c0
    _by_streams(
        threads, weight_hh, _lstm_forward, N, y.reshape(-1), work["gates"], work["cells"], work["table"],
        index if gather else _NO_INDEX, rows if gather else 0, np.ascontiguousarray(h0).reshape(-1),
        work["weight_hh"], T, N, H,
    )  # fmt: skip
    hn[...], cn[...] = y[-1], cells[T, :, :H]


def _gate_panels(bias, P, H):
    """A (4H,) bias as (P, 4, 16), zeros behind the last unit."""
    panels = np.zeros((4, P * LANES), bias.dtype)
    panels[:, :H] = bias.reshape(4, H)
    return panels.reshape(4, P, LANES).transpose(1, 0, 2)


@jit
def _lstm_cell_backward(gates, z, cells, c_prev, c, dy, h, dc, d, width):
    """16 units of one stream: gates at gates[z:] become the gradient of the pre-activations; dc is carried."""
    i, f = load(gates, z), load(gates, z + LANES)
    g, o = load(gates, z + 2 * LANES), load(gates, z + 3 * LANES)
    tanh_c = tanh(load(cells, c))
    if width == LANES:
        dh = load(dy, h)
    else:
        dh = load_part(dy, h, width, 0)
    dc_t = load(dc, d) + dh * o * (1.0 - tanh_c * tanh_c)  # h = o tanh(c)
    store(gates, z, dc_t * g * i * (1.0 - i))  # c = f c_prev + i g, i = sigmoid(z)
    store(gates, z + LANES, dc_t * load(cells, c_prev) * f * (1.0 - f))  # c = f c_prev + i g
    store(gates, z + 2 * LANES, dc_t * i * (1.0 - g * g))  # c = f c_prev + i g, g = tanh(z)
    store(gates, z + 3 * LANES, dh * tanh_c * o * (1.0 - o))  # h = o tanh(c)
    store(dc, d, dc_t * f)  # c = f c_prev + i g


@jit
def _lstm_backward(dy, dh, dc, gates, cells, weight_hh, T, N, H, tail, counter, parts, part, n0, n1):
    """The part's streams back through all time steps; the gradient of h_{t-1} is added into dy[t-1].

    dh is that of hn on entry, already added into dy[T-1] and zero; that of h0 on return.
    """
    P, Q, M = -(-H // LANES), -(-H // PANEL), T * N
    p0, p1 = _share(P, parts, part)
    q0, q1 = _share(Q, parts, part)
    rows, round_ = n1 - n0, 0
    for t in range(T - 1, -1, -1):
        for p in range(p0, p1):
            width = min(LANES, H - p * LANES)
            for n in range(n0, n1):
                c_prev = ((t * N + n) * P + p) * LANES
                _lstm_cell_backward(
                    gates, (p * M + t * N + n) * PANEL, cells, c_prev, c_prev + N * P * LANES,
                    dy, (t * N + n) * H + p * LANES, dc, (n * P + p) * LANES, width,
                )  # fmt: skip
        barrier(counter, parts, round_ + 1)
        if t > 0:
            target, first = dy, ((t - 1) * N + n0) * H
        else:
            target, first = dh, n0 * H
        for m in range(0, rows, ROWS):  # z = W x + b + U h
            _product(
                target, first + m * H, min(ROWS, rows - m), H, q0, q1, gates, (t * N + n0 + m) * PANEL, PANEL,
                M * PANEL, P, PANEL, weight_hh, 0, P * PANEL * PANEL, tail, part * ROWS * LANES,
            )  # fmt: skip
        barrier(counter, parts, round_ + 2)
        round_ += 2


@jit
def _scatter(table, gates, index, M, R, part, start, stop):
    """table[p, index[m]] += gates[p, m] for panels start ... stop: the gradient of the gather."""
    for p in range(start, stop):
        for i in range(p * R * PANEL, (p + 1) * R * PANEL):
            table[i] = 0
        for m in range(M):
            row, z = (p * R + index[m]) * PANEL, (p * M + m) * PANEL
            for j in range(0, PANEL, LANES):
                store(table, row + j, load(table, row + j) + load(gates, z + j))


def lstm_backward(
    dx, dh, dc, dweight_ih, dweight_hh, dbias_ih, dbias_hh, dy, y, work, x, index, h0, weight_ih, weight_hh, threads
):
    """See reference.lstm_backward."""
    T, N, H = y.shape
    rows, D = x.shape
    P, M, QD, QH = _panels(H, LANES), T * N, _panels(D), _panels(H)
    gates, table, inputs, block, tail = (work[name] for name in ("gates", "table", "inputs", "block", "tail"))
    carried = work["dc"].reshape(N, P * LANES)
    carried[:, :H] = dc
    dy[-1] += dh  # hn = y[T - 1]
    dh.fill(0)
    split(threads, _pack_transposed, P, work["weight_hh"], weight_hh, 4, H, H)
    _by_streams(
        threads, weight_hh, _lstm_backward, N, dy.reshape(-1), dh.reshape(-1), work["dc"], gates, work["cells"],
        work["weight_hh"], T, N, H, tail,
    )  # fmt: skip
    dc[...] = carried[:, :H]
    # dweight_hh = dz.T @ h_{t-1}
    split(threads, _pack_previous, M, inputs, np.ascontiguousarray(h0).reshape(-1), y.reshape(-1), M, N, H)
    split(
        threads, _weight_gradient, P * QH, dweight_hh.reshape(-1), dbias_hh[:0], 4, H, H, gates, M, inputs, block,
    )  # fmt: skip
    dz = gates
    if index is not None:
        dz = table
        split(threads, _scatter, P, table, gates, index, M, rows)
    # dweight_ih = dz.T @ x, dx = dz @ weight_ih
    split(threads, _pack_inputs, rows, inputs, x.reshape(-1), rows, D)
    dbias = np.zeros_like(dbias_ih)
    split(
        threads, _weight_gradient, P * QD, dweight_ih.reshape(-1), dbias, 4, H, D, dz, rows, inputs, block
    )
    dbias_ih += dbias
    dbias_hh += dbias
    split(threads, _pack_transposed, P, work["weight_ih"], weight_ih, 4, H, D)
    split(
        threads, _project_rows_backward, rows, dx.reshape(-1), dz, work["weight_ih"], P, rows, D, tail
    )  # fmt: skip


# ---------------------------------------------------------------- decoding: one step of the whole network


def decode_work(N, embedding, layers, head_weight, head_bias, threads):
    """The weights packed for `decode`, and its scratch.

    The input projection of a token is computed when it is first seen and kept in table (V, 64 P): after that the
    first layer reads only its recurrent weights.
    """
    V, E = embedding.shape
    L, H, dtype = len(layers), layers[0][1].shape[1], embedding.dtype
    P, PV = _panels(H, LANES), _panels(V)
    sizes = [(P * D * PANEL, P * H * PANEL, P * PANEL) for D in [E] + [H] * (L - 1)] + [(PV * H * PANEL, PV * PANEL)]
    offsets = np.cumsum([0] + [size for row in sizes for size in row])
    packed = np.zeros(offsets[-1], dtype)
    parts = np.split(packed, offsets[1:-1])
    for k, (weight_ih, weight_hh, bias_ih, bias_hh) in enumerate(layers):
        ih, hh, bias = parts[3 * k : 3 * k + 3]
        split(threads, _pack, P, ih, weight_ih, 4, H, weight_ih.shape[1])
        split(threads, _pack, P, hh, weight_hh, 4, H, H)
        bias.reshape(P, 4, LANES)[...] = _gate_panels(bias_ih + bias_hh, P, H)
    split(threads, _pack, PV, parts[3 * L], head_weight, 1, V, H)
    parts[3 * L + 1][:V] = head_bias
    return {
        "packed": packed,
        "offsets": offsets[:-1],
        "embedding": embedding.reshape(-1),
        "table": np.empty(V * P * PANEL, dtype),
        "known": np.zeros(threads * V * P, np.uint8),
        "before": np.empty((L, N, H), dtype),
        "z": np.empty(threads * N * PANEL, dtype),
    }


@jit
def _decode(
    logits, h, c, tokens, before, packed, offsets, embedding, table, known, z, L, N, E, H, V, counter, parts, part,
    n0, n1,
):  # fmt: skip
    """`decode`: the part's texts or, with several parts, all texts and its share of every layer's panels."""
    P, PV = -(-H // LANES), -(-V // PANEL)
    p0, p1 = _share(P, parts, part)
    v0, v1 = _share(PV, parts, part)
    rows, scratch = n1 - n0, part * N * PANEL
    for n in range(n0, n1):  # table[token] = W x + b, once
        for p in range(p0, p1):
            flag, row = (part * V + tokens[n]) * P + p, (tokens[n] * P + p) * PANEL
            if known[flag] == 0:  # built aside: another part may be writing the same row
                for j in range(0, PANEL, LANES):
                    store(z, scratch + j, load(packed, offsets[2] + p * PANEL + j))
                weight = offsets[0] + p * E * PANEL
                multiply(z, scratch, PANEL, 1, PANEL, embedding, tokens[n] * E, E, 0, 1, E, packed, weight)
                for j in range(0, PANEL, LANES):
                    store(table, row + j, load(z, scratch + j))
                known[flag] = 1
    for layer in range(L):
        weight_ih, weight_hh, bias = offsets[3 * layer], offsets[3 * layer + 1], offsets[3 * layer + 2]
        for p in range(p0, p1):
            for r in range(rows):
                for j in range(0, PANEL, LANES):
                    if layer == 0:
                        value = load(table, (tokens[n0 + r] * P + p) * PANEL + j)
                    else:
                        value = load(packed, bias + p * PANEL + j)
                    store(z, scratch + r * PANEL + j, value)
            if layer > 0:
                below = ((layer - 1) * N + n0) * H
                multiply(z, scratch, PANEL, rows, PANEL, h, below, H, 0, 1, H, packed, weight_ih + p * H * PANEL)
            first = (layer * N + n0) * H
            multiply(z, scratch, PANEL, rows, PANEL, before, first, H, 0, 1, H, packed, weight_hh + p * H * PANEL)
            width = min(LANES, H - p * LANES)
            for r in range(rows):
                place = first + r * H + p * LANES
                _, _, _, _, cell, hidden = _lstm_cell(z, scratch + r * PANEL, load_part(c, place, width, 0))
                store_part(c, place, cell, width)
                store_part(h, place, hidden, width)
        barrier(counter, parts, layer + 1)
    if logits.size > 0:
        head, bias = offsets[3 * L], offsets[3 * L + 1]
        for p in range(v0, v1):
            for r in range(rows):
                for j in range(0, PANEL, LANES):
                    store(z, scratch + r * PANEL + j, load(packed, bias + p * PANEL + j))
            first = ((L - 1) * N + n0) * H
            multiply(z, scratch, PANEL, rows, PANEL, h, first, H, 0, 1, H, packed, head + p * H * PANEL)
            for r in range(rows):
                for v in range(min(PANEL, V - p * PANEL)):
                    logits[(n0 + r) * V + p * PANEL + v] = z[scratch + r * PANEL + v]


def decode(logits, h, c, tokens, work, threads):
    """See reference.decode."""
    (L, N, H), V = h.shape, work["table"].size // (_panels(h.shape[2], LANES) * PANEL)
    before = work["before"]
    np.copyto(before, h)
    _by_streams(
        threads, work["packed"], _decode, N, logits.reshape(-1), h.reshape(-1), c.reshape(-1), tokens,
        before.reshape(-1), work["packed"], work["offsets"], work["embedding"], work["table"], work["known"], work["z"],
        L, N, work["embedding"].size // V, H, V,
    )  # fmt: skip


@jit
def _draw(tokens, logits, uniform, temperature, top_k, V, part, start, stop):
    """`reference.draw` of rows start ... stop, without a sorted or shifted copy of the logits"""
    for n in range(start, stop):
        row = logits[n * V : (n + 1) * V]
        best = 0
        for v in range(V):
            if row[v] > row[best]:
                best = v
        tokens[n] = best
        if temperature > 0:
            limit = row[best] * 0 - np.inf
            if 0 < top_k < V:
                limit = np.partition(row, V - top_k)[V - top_k]
            total = 0.0
            for v in range(V):
                if row[v] >= limit:
                    total += np.exp((np.float64(row[v]) - np.float64(row[best])) / temperature)
            goal, total = uniform[n] * total, 0.0
            for v in range(V):
                if row[v] >= limit:
                    total += np.exp((np.float64(row[v]) - np.float64(row[best])) / temperature)
                    if total > goal:
                        tokens[n] = v
                        break


def draw(tokens, logits, uniform, temperature, top_k, threads):
    """See reference.draw."""
    split(threads if logits.size > SHARED_BYTES else 1, _draw, len(tokens), tokens, logits.reshape(-1), uniform, temperature, top_k, logits.shape[1])


# ---------------------------------------------------------------- linear layer


def linear_work(M, D, V, dtype, threads):
    """Scratch for `linear_forward` and `linear_backward` on up to M rows, by name."""
    P, Q = _panels(V), _panels(D)
    empty = lambda *shape: np.zeros(int(np.prod(shape)), dtype)  # noqa: E731
    return {
        "weight": empty(max(P * D, Q * V), PANEL),
        "inputs": empty(Q, M, PANEL),
        "dy": empty(P, M, PANEL),
        "tail": empty(threads, ROWS, LANES),
        "block": empty(threads, PANEL, PANEL),
    }


def linear_forward(y, work, x, weight, bias, threads):
    """See reference.linear_forward."""
    (M, D), V = x.shape, len(bias)
    split(threads, _pack, _panels(V), work["weight"], weight, 1, V, D)
    split(threads, _linear_rows, M, y.reshape(-1), x.reshape(-1), work["weight"], bias, V, D, work["tail"])


def linear_backward(dx, dweight, dbias, dy, work, x, weight, threads):
    """See reference.linear_backward."""
    (M, D), V = x.shape, len(dbias)
    P, Q = _panels(V), _panels(D)
    split(threads, _pack_inputs, V, work["weight"], weight.reshape(-1), V, D)
    split(threads, _linear_rows_backward, M, dx.reshape(-1), dy.reshape(-1), work["weight"], V, D, work["tail"])
    split(threads, _pack_inputs, M, work["inputs"], x.reshape(-1), M, D)
    split(threads, _pack_inputs, M, work["dy"], dy.reshape(-1), M, V)
    split(
        threads, _weight_gradient, P * Q, dweight.reshape(-1), dbias, 1, V, D, work["dy"], M, work["inputs"],
        work["block"],
    )  # fmt: skip


# ---------------------------------------------------------------- softmax head
#
# Logits stand in panels (P, M, 64), the columns behind the last one at -inf. They are computed panel by panel, each
# packed where it is used; a panel's largest logit and sum of exponentials are taken while it is in the cache, and a
# row's are put together from all panels in their order, so that threads may share both rows and panels.


def softmax_work(M, D, V, dtype, threads):
    """Scratch of `softmax_losses` for up to M rows, by name."""
    P = _panels(V)
    empty = lambda *shape: np.zeros(int(np.prod(shape)), dtype)  # noqa: E731
    return {
        "logits": empty(threads, HEAD_ROWS, PANEL),
        "weight": empty(threads, D, PANEL),
        "bias": empty(P, PANEL),
        "largest": empty(P, M),
        "total": empty(P, M),
        "chosen": empty(M),
        "normalizer": empty(M),
    }


def softmax_gradient_work(M, D, V, dtype, threads):
    """Scratch of `softmax_losses_and_gradient` for up to M rows, by name: up to LOGITS_BYTES of logits."""
    P, Q, size = _panels(V), _panels(D), np.dtype(dtype).itemsize
    R = min(M, max(ROWS, LOGITS_BYTES // (P * PANEL * size)))
    empty = lambda *shape: np.zeros(int(np.prod(shape)), dtype)  # noqa: E731
    return {
        **softmax_work(R, D, V, dtype, threads),
        "logits": empty(P, R, PANEL),
        "rows": R,
        "inputs": empty(Q, R, PANEL),
        "classes": empty(P, PANEL),
        "chunk": empty(Q, min(P, HEAD_PANELS), PANEL, PANEL),
        "tail": empty(threads, ROWS, LANES),
        "block": empty(threads, PANEL, PANEL),
    }


@jit
def _logits(z, kept, largest, total, chosen, x, targets, weight, bias, packed, V, D, M, part, start, stop):
    """Blocks start ... stop of HEAD_ROWS rows, counted along a panel first: logits, and what a softmax needs of them.

    z: all panels (P, M, 64) where `kept`, else room for one block of each thread.
    """
    blocks, packed_panel = -(-M // HEAD_ROWS), -1
    for task in range(start, stop):
        p, m0 = task // blocks, task % blocks * HEAD_ROWS
        rows, z0 = min(HEAD_ROWS, M - m0), part * HEAD_ROWS * PANEL
        if kept:
            z0 = (p * M + m0) * PANEL
        width = min(PANEL, V - p * PANEL)
        width = -(-width // LANES) * LANES
        w0 = part * D * PANEL
        if packed_panel != p:
            _pack_panel(packed, w0, weight, 1, V, D, p)
            packed_panel = p
        for m in range(0, rows, ROWS):
            count = min(ROWS, rows - m)
            for r in range(m, m + count):
                for j in range(0, PANEL, LANES):
                    store(z, z0 + r * PANEL + j, load(bias, p * PANEL + j))
            multiply(z, z0 + m * PANEL, PANEL, count, width, x, (m0 + m) * D, D, 0, 1, D, packed, w0)
            for r in range(m, m + count):
                a, b = load(z, z0 + r * PANEL), load(z, z0 + r * PANEL + LANES)
                c, d = load(z, z0 + r * PANEL + 2 * LANES), load(z, z0 + r * PANEL + 3 * LANES)
                peak = lane_max(larger(larger(a, b), larger(c, d)))
                place = p * M + m0 + r
                largest[place] = peak
                total[place] = lane_sum(exp(a - peak) + exp(b - peak) + (exp(c - peak) + exp(d - peak)))
                target = targets[m0 + r] - p * PANEL
                if 0 <= target < PANEL:
                    chosen[m0 + r] = z[z0 + r * PANEL + target]


@jit
def _normalize(losses, normalizer, largest, total, chosen, P, M, part, start, stop):
    """A row's log sum exp is largest[m] + normalizer[m] from here on, losses[m] that less the target's logit.

    The two are kept apart: where logits are huge, their sum would not know the small one any more.
    """
    for m in range(start, stop):
        peak = largest[m]
        for p in range(1, P):
            value = largest[p * M + m]
            peak = peak if peak > value else value
        mass = total[m] * 0.0  # NaN, where a total is, stays
        for p in range(P):
            mass += total[p * M + m] * np.exp(largest[p * M + m] - peak)
        log_mass = np.log(mass)
        losses[m] = log_mass - (chosen[m] - peak)
        largest[m], normalizer[m] = peak, log_mass


@jit
def _softmax_gradient(z, largest, normalizer, targets, scales, classes, smoothing, all_classes, V, M, part, start, stop):
    """Logits become the gradient of sum(scales * losses), for blocks of `_logits`; see reference for the equation."""
    blocks, share = -(-M // HEAD_ROWS), smoothing / V
    for task in range(start, stop):
        p, m0 = task // blocks, task % blocks * HEAD_ROWS
        for m in range(m0, min(m0 + HEAD_ROWS, M)):
            z0, scale, peak = (p * M + m) * PANEL, scales[m], largest[m]
            own = (1 - smoothing) * classes[targets[m]]
            mass = scale * (own + share * all_classes)
            for j in range(0, PANEL, LANES):
                value = exp(load(z, z0 + j) - peak - normalizer[m]) * mass  # d log sum exp = softmax
                if smoothing > 0:
                    value = value - load(classes, p * PANEL + j) * (scale * share)
                store(z, z0 + j, value)
            target = targets[m] - p * PANEL
            if 0 <= target < PANEL:
                z[z0 + target] -= scale * own  # d logit of the target


@jit
def _smoothed_losses(losses, z, largest, normalizer, targets, classes, smoothing, all_classes, V, M, part, start, stop):
    """losses[m] with class weights and label smoothing, from the plain loss and the logits, for rows start ... stop"""
    share = smoothing / V
    for m in range(start, stop):
        value = (1 - smoothing) * classes[targets[m]] * losses[m]
        if smoothing > 0:
            weighted = all_classes * 0
            for v in range(V):
                weighted += classes[v] * (normalizer[m] - (z[(v // PANEL * M + m) * PANEL + v % PANEL] - largest[m]))
            value += share * weighted
        losses[m] = value


@jit
def _pack_rows(packed, step, weight, V, D, first, part, start, stop):
    """packed[q * step + r * 64 + i] = weight[first + r, q * 64 + i] for rows r in start ... stop; zeros behind row V."""
    for r in range(start, stop):
        for q in range(-(-D // PANEL)):
            width = min(PANEL, D - q * PANEL) if first + r < V else 0
            _copy_piece(packed, q * step + r * PANEL, weight, (first + r) * D + q * PANEL, width)


@jit
def _softmax_inputs_backward(dx, z, packed, step, p0, p1, V, D, M, tail, part, start, stop):
    """dx[start : stop] += z @ weight for the panels p0 ... p1, whose weights are packed; dx is overwritten from p0 = 0"""
    Q = -(-D // PANEL)
    for m in range(start, stop, ROWS):
        rows = min(ROWS, stop - m)
        if p0 == 0:
            for i in range(m * D, (m + rows) * D):
                dx[i] = 0
        for p in range(p0, p1, HEAD_DEPTH):
            last = min(p + HEAD_DEPTH, p1)
            whole = last if last * PANEL <= V else last - 1  # behind the last panel all of whose columns are there
            for first, panels, depth in ((p, whole - p, PANEL), (whole, last - whole, V - whole * PANEL)):
                if panels > 0:
                    _product(
                        dx, m * D, rows, D, 0, Q, z, (first * M + m) * PANEL, PANEL, M * PANEL, panels, depth, packed,
                        (first - p0) * PANEL * PANEL, step, tail, part * ROWS * LANES,
                    )  # fmt: skip


def softmax_losses(losses, work, x, targets, weight, bias, threads):
    """See reference.softmax_losses."""
    M, D = x.shape
    V = len(bias)
    _softmax_forward(losses, work, False, x, targets, weight, bias, M, D, V, threads)


def _softmax_forward(losses, work, kept, x, targets, weight, bias, M, D, V, threads):
    """Losses of M rows, and in `work` their normalizer and, if `kept`, their logits."""
    P = _panels(V)
    work["bias"][:V], work["bias"][V:] = bias, -np.inf
    split(
        threads, _logits, P * _panels(M, HEAD_ROWS), work["logits"], kept, work["largest"], work["total"],
        work["chosen"], x.reshape(-1), targets, weight, work["bias"], work["weight"], V, D, M,
    )  # fmt: skip
    split(
        threads, _normalize, M, losses, work["normalizer"], work["largest"], work["total"], work["chosen"], P, M
    )  # fmt: skip


def softmax_losses_and_gradient(
    losses, dx, dweight, dbias, work, x, targets, scales, classes, smoothing, weight, bias, threads
):
    """See reference.softmax_losses_and_gradient."""
    for start in range(0, len(x), work["rows"]):
        part = slice(start, start + work["rows"])
        _softmax_block(
            losses[part], dx[part], dweight, dbias, work, x[part], targets[part], scales[part], classes, smoothing,
            weight, bias, threads,
        )  # fmt: skip


def _softmax_block(
    losses, dx, dweight, dbias, work, x, targets, scales, classes, smoothing, weight, bias, threads
):
    """`softmax_losses_and_gradient` of as many rows as `work` has room for."""
    (M, D), V, kind = x.shape, len(bias), x.dtype.type
    P, Q, blocks, z = _panels(V), _panels(D), _panels(M, HEAD_ROWS), work["logits"]
    _softmax_forward(losses, work, True, x, targets, weight, bias, M, D, V, threads)
    work["classes"][:V] = 1 if classes is None else classes
    common = targets, work["classes"], kind(smoothing), kind(work["classes"].sum()), V, M
    if classes is not None or smoothing > 0:
        split(threads, _smoothed_losses, M, losses, z, work["largest"], work["normalizer"], *common)
    split(
        threads, _softmax_gradient, P * blocks, z, work["largest"], work["normalizer"], targets, scales, *common[1:]
    )  # fmt: skip
    # dweight = dz.T @ x
    split(threads, _pack_inputs, M, work["inputs"], x.reshape(-1), M, D)
    split(
        threads, _weight_gradient, P * Q, dweight.reshape(-1), dbias, 1, V, D, z, M, work["inputs"],
        work["block"],
    )  # fmt: skip
    # dx = dz @ weight, for as many panels as `chunk` holds at a time
    panels = min(P, HEAD_PANELS)
    step = panels * PANEL * PANEL
    for p0 in range(0, P, panels):
        p1 = min(P, p0 + panels)
        rows = (p1 - p0) * PANEL
        split(threads, _pack_rows, rows, work["chunk"], step, weight.reshape(-1), V, D, p0 * PANEL)
        split(
            threads, _softmax_inputs_backward, M, dx.reshape(-1), z, work["chunk"], step, p0, p1, V, D, M, work["tail"]
        )


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
    sums = np.empty(_panels(g.size, CHUNK))
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
def _adam(w, m, v, g, rate, keep1, take1, keep2, take2, correction, eps, weight_decay, scale, part, start, stop):
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
        w_ = w_ - m_ * rate / (root(v_) * correction + eps)
        if count == LANES:
            store(m, i, m_)
            store(v, i, v_)
            store(w, i, w_)
        else:
            store_part(m, i, m_, count)
            store_part(v, i, v_, count)
            store_part(w, i, w_, count)


def adam(w, m, v, g, lr, beta1, beta2, eps, weight_decay, step, scale, threads):
    """See reference.adam."""
    kind = w.dtype.type
    rate, correction = kind(lr / (1 - beta1**step)), kind(1 / np.sqrt(1 - beta2**step))
    split(
        threads, _adam, _panels(w.size, LANES), w, m, v, g, rate, kind(beta1), kind(1 - beta1), kind(beta2),
        kind(1 - beta2), correction, kind(eps), kind(weight_decay), kind(scale),
    )  # fmt: skip


@jit
def _sgd(w, m, g, lr, momentum, weight_decay, scale, part, start, stop):
    """`reference.sgd` of elements start ... stop"""
    for i in range(start, stop):
        m[i] = momentum * m[i] + (g[i] * scale + weight_decay * w[i])
        w[i] -= lr * m[i]


def sgd(w, m, g, lr, momentum, weight_decay, scale, threads):
    """See reference.sgd."""
    kind = w.dtype.type
    split(threads, _sgd, w.size, w, m, g, kind(lr), kind(momentum), kind(weight_decay), kind(scale))


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
