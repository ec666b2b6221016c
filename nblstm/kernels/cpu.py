"""The CPU kernels: the functions of reference.py as numba loops over register tiles, one thread a slice.

The recurrent layers are in recurrent.py, packing and products in products.py. No sum is ever split between threads,
so the results do not depend on their number.

Names: P panels of a weight's rows, Q panels of 64 input or hidden columns, M rows.
In this file arrays are flat, or addressed by flat offsets; a kernel's last arguments `part, start, stop` are its share.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels import LOGITS_BYTES
from nblstm.kernels.barrier import barrier
from nblstm.kernels.jit import jit
from nblstm.kernels.products import MOST_COLUMNS, ROWS, copy_piece, pack, pack_inputs, pack_panel, panels, product, weight_gradient
from nblstm.kernels.recurrent import (  # noqa: F401  the contract has them, too
    SHARED_BYTES,
    by_texts,
    lstm,
    recurrent_backward,
    recurrent_forward,
    recurrent_work,
    share,
)
from nblstm.kernels.threads import equal, split
from nblstm.kernels.tiles import PANEL, multiply
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
    store,
    store_part,
)

HEAD_ROWS = 480  # rows of a block of logits, which one thread computes
HEAD_PANELS = 64  # panels of the head's weight that are packed at a time on the way back ...
HEAD_DEPTH = 8  # ... and that one product walks along: 128 KiB of them for 64 columns of its result
_ROWS_IN_ORDER, _GATES = np.zeros(1, np.int64), np.arange(4)  # how a linear layer's and an LSTM's rows are packed
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


# ---------------------------------------------------------------- decoding: one step of the whole network


def decode_work(N, embedding, layers, head_weight, head_bias, threads):
    """The weights packed for `decode`, and its scratch.

    The input projection of a token is computed when it is first seen and kept in table (V, 64 P): after that the
    first layer reads only its recurrent weights.
    """
    V, E = embedding.shape
    L, H, dtype = len(layers), layers[0][1].shape[1], embedding.dtype
    P, PV = panels(H, LANES), panels(V)
    sizes = [(P * D * PANEL, P * H * PANEL, P * PANEL) for D in [E] + [H] * (L - 1)] + [(PV * H * PANEL, PV * PANEL)]
    offsets = np.cumsum([0] + [size for row in sizes for size in row])
    packed = np.zeros(offsets[-1], dtype)
    parts = np.split(packed, offsets[1:-1])
    for k, (weight_ih, weight_hh, bias_ih, bias_hh) in enumerate(layers):
        ih, hh, bias = parts[3 * k : 3 * k + 3]
        split(threads, pack, P, ih, weight_ih, _GATES, LANES, H, weight_ih.shape[1])
        split(threads, pack, P, hh, weight_hh, _GATES, LANES, H, H)
        bias.reshape(P, 4, LANES)[...] = _gate_panels(bias_ih + bias_hh, P, H)
    split(threads, pack, PV, parts[3 * L], head_weight, _ROWS_IN_ORDER, PANEL, V, H)
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


def _gate_panels(bias, P, H):
    """A (4H,) bias as (P, 4, 16), zeros behind the last unit."""
    padded = np.zeros((4, P * LANES), bias.dtype)
    padded[:, :H] = bias.reshape(4, H)
    return padded.reshape(4, P, LANES).transpose(1, 0, 2)


@jit
def _decode(
    logits, h, c, tokens, before, packed, offsets, embedding, table, known, z, L, N, E, H, V, counter, parts, part,
    n0, n1,
):  # fmt: skip
    """`decode`: the part's texts or, with several parts, all texts and its share of every layer's panels."""
    P, PV = -(-H // LANES), -(-V // PANEL)
    p0, p1 = share(P, parts, part)
    v0, v1 = share(PV, parts, part)
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
                cell, hidden = lstm(z, scratch + r * PANEL, load_part(c, place, width, 0))
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
    (L, N, H), V = h.shape, work["table"].size // (panels(h.shape[2], LANES) * PANEL)
    before = work["before"]
    np.copyto(before, h)
    by_texts(
        threads, 1, work["packed"], _decode, equal(N, threads), logits.reshape(-1), h.reshape(-1), c.reshape(-1), tokens,
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


@jit
def _linear_rows(y, x, packed, bias, V, D, tail, part, start, stop):
    """y[start : stop] = x @ packed + bias"""
    for m in range(start, stop, ROWS):
        rows = min(ROWS, stop - m)
        for r in range(m, m + rows):
            for v in range(V):
                y[r * V + v] = bias[v]
        product(
            y, m * V, rows, V, 0, -(-V // PANEL), x, m * D, D, 0, 1, D, packed, 0, D * PANEL, tail, part * ROWS * LANES
        )  # fmt: skip


@jit
def _linear_rows_backward(dx, dy, packed, V, D, tail, part, start, stop):
    """dx[start : stop] = dy @ weight, dy (M, V) row by row"""
    for m in range(start, stop, ROWS):
        rows = min(ROWS, stop - m)
        for i in range(m * D, (m + rows) * D):
            dx[i] = 0
        product(
            dx, m * D, rows, D, 0, -(-D // PANEL), dy, m * V, V, 0, 1, V, packed, 0, V * PANEL, tail,
            part * ROWS * LANES,
        )  # fmt: skip


def linear_work(M, D, V, dtype, threads):
    """Scratch for `linear_forward` and `linear_backward` on up to M rows, by name."""
    P, Q = panels(V), panels(D)
    empty = lambda *shape: np.zeros(int(np.prod(shape)), dtype)  # noqa: E731
    return {
        "weight": empty(max(P * D, Q * V), PANEL),
        "inputs": empty(Q, M, PANEL),
        "dy": empty(P, M, PANEL),
        "tail": empty(threads, ROWS, LANES),
        "block": empty(threads, MOST_COLUMNS, PANEL),
    }


def linear_forward(y, work, x, weight, bias, threads):
    """See reference.linear_forward."""
    (M, D), V = x.shape, len(bias)
    split(threads, pack, panels(V), work["weight"], weight, _ROWS_IN_ORDER, PANEL, V, D)
    split(threads, _linear_rows, M, y.reshape(-1), x.reshape(-1), work["weight"], bias, V, D, work["tail"])


def linear_backward(dx, dweight, dbias, dy, work, x, weight, threads):
    """See reference.linear_backward."""
    (M, D), V = x.shape, len(dbias)
    P, Q = panels(V), panels(D)
    split(threads, pack_inputs, V, work["weight"], weight.reshape(-1), V, D)
    split(threads, _linear_rows_backward, M, dx.reshape(-1), dy.reshape(-1), work["weight"], V, D, work["tail"])
    split(threads, pack_inputs, M, work["inputs"], x.reshape(-1), M, D)
    split(threads, pack_inputs, M, work["dy"], dy.reshape(-1), M, V)
    split(
        threads, weight_gradient, P * Q, dweight.reshape(-1), dbias, _ROWS_IN_ORDER, PANEL, V, D, work["dy"], PANEL, 0, M,
        work["inputs"], work["block"],
    )  # fmt: skip


# ---------------------------------------------------------------- softmax head
#
# Logits stand in panels (P, M, 64), the columns behind the last one at -inf. They are computed panel by panel, each
# packed where it is used; a panel's largest logit and sum of exponentials are taken while it is in the cache, and a
# row's are put together from all panels in their order, so that threads may share both rows and panels.


def softmax_work(M, D, V, dtype, threads):
    """Scratch of `softmax_losses` for up to M rows, by name."""
    P = panels(V)
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
    P, Q, size = panels(V), panels(D), np.dtype(dtype).itemsize
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
        "block": empty(threads, MOST_COLUMNS, PANEL),
    }


@jit
def _logits(z, kept, largest, total, chosen, x, targets, weight, bias, packed, order, V, D, M, part, start, stop):
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
            pack_panel(packed, w0, weight, order, PANEL, V, D, p)
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
            copy_piece(packed, q * step + r * PANEL, weight, (first + r) * D + q * PANEL, width)


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
            for first, count, depth in ((p, whole - p, PANEL), (whole, last - whole, V - whole * PANEL)):
                if count > 0:
                    product(
                        dx, m * D, rows, D, 0, Q, z, (first * M + m) * PANEL, PANEL, M * PANEL, count, depth, packed,
                        (first - p0) * PANEL * PANEL, step, tail, part * ROWS * LANES,
                    )  # fmt: skip


def softmax_losses(losses, work, x, targets, weight, bias, threads):
    """See reference.softmax_losses."""
    M, D = x.shape
    V = len(bias)
    _softmax_forward(losses, work, False, x, targets, weight, bias, M, D, V, threads)


def _softmax_forward(losses, work, kept, x, targets, weight, bias, M, D, V, threads):
    """Losses of M rows, and in `work` their normalizer and, if `kept`, their logits."""
    P = panels(V)
    work["bias"][:V], work["bias"][V:] = bias, -np.inf
    split(
        threads, _logits, P * panels(M, HEAD_ROWS), work["logits"], kept, work["largest"], work["total"],
        work["chosen"], x.reshape(-1), targets, weight, work["bias"], work["weight"], _ROWS_IN_ORDER, V, D, M,
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
    P, Q, blocks, z = panels(V), panels(D), panels(M, HEAD_ROWS), work["logits"]
    _softmax_forward(losses, work, True, x, targets, weight, bias, M, D, V, threads)
    work["classes"][:V] = 1 if classes is None else classes
    common = targets, work["classes"], kind(smoothing), kind(work["classes"].sum()), V, M
    if classes is not None or smoothing > 0:
        split(threads, _smoothed_losses, M, losses, z, work["largest"], work["normalizer"], *common)
    split(
        threads, _softmax_gradient, P * blocks, z, work["largest"], work["normalizer"], targets, scales, *common[1:]
    )  # fmt: skip
    # dweight = dz.T @ x
    split(threads, pack_inputs, M, work["inputs"], x.reshape(-1), M, D)
    split(
        threads, weight_gradient, P * Q, dweight.reshape(-1), dbias, _ROWS_IN_ORDER, PANEL, V, D, z, PANEL, 0, M,
        work["inputs"], work["block"],
    )  # fmt: skip
    # dx = dz @ weight, for as many panels as `chunk` holds at a time
    held = min(P, HEAD_PANELS)
    step = held * PANEL * PANEL
    for p0 in range(0, P, held):
        p1 = min(P, p0 + held)
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
        threads, _adam, panels(w.size, LANES), w, m, v, g, rate, kind(beta1), kind(1 - beta1), kind(beta2),
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
