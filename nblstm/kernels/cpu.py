"""The CPU kernels: the functions of reference.py as numba loops over register tiles, one thread a slice.

The recurrent layers are in recurrent.py, packing and products in products.py. No sum is ever split between threads,
so the results do not depend on their number.

Names: P panels of a weight's rows, Q panels of 64 input or hidden columns, M rows.
In this file arrays are flat, or addressed by flat offsets; a kernel's last arguments `part, start, stop` are its share.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels import LOGITS_BYTES, Net, reference
from nblstm.kernels.barrier import barrier, crowded
from nblstm.kernels.jit import jit
from nblstm.kernels.products import MOST_COLUMNS, ROWS, copy_piece, pack, pack_inputs, pack_panel, panels, product, weight_gradient
from nblstm.kernels.recurrent import (  # noqa: F401  the contract has them, too
    LAYOUTS,
    SHARED_BYTES,
    by_texts,
    gate_panels,
    layout_of,
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

KEPT_BYTES = 1 << 23  # of projected tokens that each part of a decoder keeps
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


def decode_work(N, net, threads):
    """The weights packed for `decode` and `generate`, and their scratch; what only the specification decodes as it is.

    The input projection of a token is computed when it is first seen and kept: after that the first layer reads only
    its recurrent weights. Each part has a table of its own, of as many rows (64 P) as KEPT_BYTES hold, for the tokens
    that come first, and a row of each text for the others. states (2, L, N, H): a step reads one half, writes the other.
    """
    if any(cell.kind != "lstm" or layout_of(cell) is None for cell in net.cells) or net.residual or net.with_memory:
        return reference.decode_work(N, net, threads)
    (V, E), L, H, dtype = net.embedding.shape, len(net.cells), net.cells[0].hidden_size, net.embedding.dtype
    P, PV = panels(H, LANES), panels(V)
    sizes = [(P * D * PANEL, P * H * PANEL, P * PANEL) for D in [E] + [H] * (L - 1)] + [(PV * H * PANEL, PV * PANEL)]
    offsets = np.cumsum([0] + [size for row in sizes for size in row])
    packed = np.empty(offsets[-1], dtype)  # for which NumPy asks for huge pages, unlike np.zeros
    packed.fill(0)
    parts = np.split(packed, offsets[1:-1])
    for k, weights in enumerate(net.layers):
        ih, hh, bias = parts[3 * k : 3 * k + 3]
        split(threads, pack, P, ih, weights["weight_ih"], _GATES, LANES, H, weights["weight_ih"].shape[1])
        split(threads, pack, P, hh, weights["weight_hh"], _GATES, LANES, H, H)
        gate_panels(bias, weights, LAYOUTS["lstm", "tanh"], P, H)
    split(threads, pack, PV, parts[3 * L], net.head_weight, _ROWS_IN_ORDER, PANEL, V, H)
    parts[3 * L + 1][:V] = net.head_bias
    kept = min(V, max(1, KEPT_BYTES // (P * PANEL * packed.itemsize)))
    table = np.empty((threads, (kept + N) * P * PANEL), dtype)
    table.fill(0)  # now, not at the first token that comes
    slots, filled, at = np.zeros((threads, V), np.int32), np.zeros((threads, 3), np.int64), np.empty((threads, N), np.int64)
    z, x, fresh = np.empty((threads, N * PANEL), dtype), np.empty((threads, N * E), dtype), np.empty((threads, N), np.int64)
    return {
        "sizes": (L, E, H, V),
        "net": (packed, offsets[:-1], net.embedding.reshape(-1), table, slots, filled, at, z, x, fresh),
        "states": np.empty(2 * L * N * H, dtype),
        "rows": _draw_scratch(V, threads),
    }


@jit
def _project(tokens, t0, stride, net, sizes, p0, p1, part, n0, n1):
    """table[part, at[part, n]] = W x + b of the token of the part's n-th text, in the panels p0 ... p1.

    Tokens that the part has not seen are computed side by side. slots: 1 + the row of a token that is kept, else 0.
    filled: the panels that the part's rows have, and how many rows are taken.
    """
    L, E, H, V = sizes
    packed, offsets, embedding, table, slots, filled, at, z, x, fresh = net
    P, scratch, count, N = -(-H // LANES), part * z.shape[1], 0, at.shape[1]
    kept = table.shape[1] // (P * PANEL) - N
    if filled[part, 0] != p0 or filled[part, 1] != p1:
        filled[part, 0], filled[part, 1], filled[part, 2] = p0, p1, 0
        slots[part, :] = 0
    for n in range(n1 - n0):
        token = tokens[t0 + (n0 + n) * stride]
        row = slots[part, token] - 1
        if row < 0:
            row = kept + n
            if filled[part, 2] < kept:
                row = filled[part, 2]
                filled[part, 2], slots[part, token] = row + 1, row + 1
            fresh[part, count] = row
            x[part, count * E : (count + 1) * E] = embedding[token * E : (token + 1) * E]
            count += 1
        at[part, n] = row
    if count == 0:
        return
    for p in range(p0, p1):
        for i in range(count):
            for j in range(0, PANEL, LANES):
                store(z, scratch + i * PANEL + j, load(packed, offsets[2] + p * PANEL + j))
        weight = offsets[0] + p * E * PANEL
        multiply(z, scratch, PANEL, count, PANEL, x, part * x.shape[1], E, 0, 1, E, packed, weight)
        for i in range(count):
            place = part * table.shape[1] + (fresh[part, i] * P + p) * PANEL
            for j in range(0, PANEL, LANES):
                store(table, place + j, load(z, scratch + i * PANEL + j))


@jit
def _step(
    logits, states, before, after, c, tokens, t0, stride, net, sizes, N, counter, parts, part, n0, n1, round_
):  # fmt: skip
    """Read tokens[t0 + n * stride] of each text n: states[before:] -> states[after:], (L, N, H) both, c in place.

    The part's texts or, with several parts, all texts and its share of every layer's panels. The barriers passed
    before are `round_`; a step passes L + 1 of them, behind each layer and behind the head.
    """
    L, E, H, V = sizes
    packed, offsets, _, table, _, _, at, z, _, _ = net
    P, PV = -(-H // LANES), -(-V // PANEL)
    p0, p1 = share(P, parts, part)
    v0, v1 = share(PV, parts, part)
    rows, scratch = n1 - n0, part * z.shape[1]
    _project(tokens, t0, stride, net, sizes, p0, p1, part, n0, n1)
    for layer in range(L):
        weight_ih, weight_hh, bias = offsets[3 * layer], offsets[3 * layer + 1], offsets[3 * layer + 2]
        first = (layer * N + n0) * H
        for p in range(p0, p1):
            for r in range(rows):
                row = part * table.shape[1] + (at[part, r] * P + p) * PANEL
                for j in range(0, PANEL, LANES):
                    if layer == 0:
                        value = load(table, row + j)
                    else:
                        value = load(packed, bias + p * PANEL + j)
                    store(z, scratch + r * PANEL + j, value)
            if layer > 0:
                below = after + first - N * H
                multiply(z, scratch, PANEL, rows, PANEL, states, below, H, 0, 1, H, packed, weight_ih + p * H * PANEL)
            multiply(
                z, scratch, PANEL, rows, PANEL, states, before + first, H, 0, 1, H, packed, weight_hh + p * H * PANEL
            )
            width = min(LANES, H - p * LANES)
            for r in range(rows):
                place = first + r * H + p * LANES
                cell, hidden = lstm(z, scratch + r * PANEL, load_part(c, place, width, 0))
                store_part(c, place, cell, width)
                store_part(states, after + place, hidden, width)
        barrier(counter, parts, round_ + layer + 1)
    if logits.size > 0:
        head, bias, top = offsets[3 * L], offsets[3 * L + 1], after + ((L - 1) * N + n0) * H
        for p in range(v0, v1):
            for r in range(rows):
                for j in range(0, PANEL, LANES):
                    store(z, scratch + r * PANEL + j, load(packed, bias + p * PANEL + j))
            multiply(z, scratch, PANEL, rows, PANEL, states, top, H, 0, 1, H, packed, head + p * H * PANEL)
            for r in range(rows):
                for j in range(0, min(PANEL, V - p * PANEL), LANES):
                    v = p * PANEL + j
                    store_part(logits, (n0 + r) * V + v, load(z, scratch + r * PANEL + j), min(LANES, V - v))
    crowded(counter, part)
    barrier(counter, parts, round_ + L + 1)


@jit
def _decode(logits, states, c, tokens, net, sizes, N, counter, parts, part, n0, n1):
    """`decode`: the state before stands in the first half of states, the one after goes into the second"""
    _step(
        logits, states, 0, sizes[0] * N * sizes[2], c, tokens, 0, 1, net, sizes, N, counter, parts, part, n0, n1, 0
    )  # fmt: skip


def decode(logits, h, c, top, tokens, work, threads):
    """See reference.decode."""
    if isinstance(work, Net):
        return reference.decode(logits, h, c, top, tokens, work, threads)
    N, states = h.shape[1], work["states"]
    states[: h.size] = h.reshape(-1)
    by_texts(
        threads, work["net"][0], _decode, equal(N, threads), logits.reshape(-1), states, c.reshape(-1), tokens, work["net"],
        work["sizes"], N,
    )  # fmt: skip
    h[...] = states[h.size : 2 * h.size].reshape(h.shape)
    top[...] = h[-1]


# ---------------------------------------------------------------- drawing the next token


def _draw_scratch(V, threads):
    """Room for `_draw_row` in each thread, (threads, 4, V rounded up): logits, weights, and two to be reordered."""
    return np.empty((threads, 4, panels(V, LANES) * LANES))


@jit
def _forbid_repeats(z, spare, history, h0, length, size, V):
    """z[v] = -inf where v would repeat a sequence of `size` tokens of history[h0 : h0 + length], unless none is left"""
    for v in range(V):
        spare[v] = z[v]
    for i in range(h0, h0 + length - size + 1):
        same = True
        for j in range(size - 1):
            same = same and history[i + j] == history[h0 + length - size + 1 + j]
        if same:
            z[history[i + size - 1]] = -np.inf
    for v in range(V):
        if z[v] > -np.inf:
            return
    for v in range(V):
        z[v] = spare[v]


@jit
def _penalise(z, seen, history, start, stop, penalty, V):
    """z of every token in history[start:stop], once: divided by the penalty where positive, else multiplied"""
    for v in range(V):
        seen[v] = 0
    for i in range(start, stop):
        v = history[i]
        if seen[v] == 0:
            seen[v] = 1
            z[v] = z[v] / penalty if z[v] > 0 else z[v] * penalty


@jit
def _swap(keys, weights, i, j):
    """Exchange the places i and j of both arrays"""
    keys[i], keys[j] = keys[j], keys[i]
    weights[i], weights[j] = weights[j], weights[i]


@jit
def _lowest_kept(keys, weights, count, goal):
    """The lowest of the first `count` keys that `reference.best` keeps. Quickselect by weight; reorders both arrays."""
    above, low, high = 0.0, 0, count  # the weight of the keys before `low`, all higher than those in low ... high
    while True:
        pivot = keys[(low + high) // 2]
        i, k, j = low, low, high  # low ... i are higher than the pivot, i ... k equal, j ... high lower
        higher, equal = 0.0, 0.0
        while k < j:
            if keys[k] > pivot:
                higher += weights[k]
                _swap(keys, weights, i, k)
                i, k = i + 1, k + 1
            elif keys[k] < pivot:
                j -= 1
                _swap(keys, weights, k, j)
            else:
                equal += weights[k]
                k += 1
        if above + higher >= goal:
            high = i
        elif above + higher + equal >= goal or j == high:
            return pivot
        else:
            above, low = above + higher + equal, j


@jit
def _drop(weights, keys, lowest):
    """weights[v] = 0 where keys[v] < lowest; the sum of the others. keys may be weights."""
    total = 0.0
    for v in range(weights.size):
        if keys[v] < lowest:
            weights[v] = 0
        total += weights[v]
    return total


@jit
def _softmax_weights(weights, z, best, V, temperature):
    """z = (z - z[best]) / temperature, weights = exp(z), zeros behind V; their sum"""
    peak = z[best]
    for v in range(V):
        z[v] = (z[v] - peak) / temperature
    z[V:] = -np.inf
    total = 0.0
    for v in range(0, z.size, LANES):
        e = exp(load(z, v))
        store(weights, v, e)
        total += lane_sum(e)
    return total


@jit
def _keep_top_k(weights, z, keys, ones, V, top_k):
    """Step 4 of `reference.draw`; the sum of the weights that are left"""
    for v in range(V):
        keys[v], ones[v] = z[v], 1
    return _drop(weights, z, _lowest_kept(keys, ones, V, top_k))


@jit
def _keep_top_p(weights, total, keys, spare, V, top_p):
    """Step 5: the sum of the weights that are left. All those below `cut` together are less than 1 - top_p."""
    cut, count = total * (1 - top_p) / V, 0
    for v in range(V):
        if weights[v] >= cut:
            keys[count], spare[count] = weights[v], weights[v]
            count += 1
    return _drop(weights, weights, _lowest_kept(keys, spare, count, top_p * total))


@jit
def _keep_typical(weights, total, z, keys, spare, V, typical_p):
    """Step 7: z becomes minus the distance of each surprise from its mean; the sum of the weights that are left"""
    entropy, log_total = 0.0, np.log(total)
    for v in range(V):
        if weights[v] > 0:
            z[v] -= log_total
            entropy -= weights[v] / total * z[v]
    for v in range(V):
        z[v] = -abs(z[v] + entropy) if weights[v] > 0 else -np.inf
        keys[v], spare[v] = z[v], weights[v]
    return _drop(weights, z, _lowest_kept(keys, spare, V, typical_p * total))


@jit
def _draw_row(logits, first, V, uniform, history, h0, length, banned, filters, room, part):
    """`reference.draw` of the row at logits[first:], whose text is history[h0 : h0 + length]"""
    z, weights, keys, spare = room[part, 0], room[part, 1], room[part, 2], room[part, 3]
    for v in range(V):
        z[v] = logits[first + v]
    for token in banned:
        z[token] = -np.inf
    if filters.no_repeat_ngram > 0:
        _forbid_repeats(z, spare, history, h0, length, filters.no_repeat_ngram, V)
    if filters.repetition_penalty != 1:
        window = min(length, filters.repetition_window) if filters.repetition_window > 0 else length
        _penalise(z, spare, history, h0 + length - window, h0 + length, filters.repetition_penalty, V)
    best = 0
    for v in range(V):
        if z[v] > z[best]:
            best = v
    if filters.temperature == 0:
        return best
    total = _softmax_weights(weights, z, best, V, filters.temperature)
    if 0 < filters.top_k < V:
        total = _keep_top_k(weights, z, keys, spare, V, filters.top_k)
    if filters.top_p < 1:
        total = _keep_top_p(weights, total, keys, spare, V, filters.top_p)
    if filters.min_p > 0:
        total = _drop(weights, weights, filters.min_p)  # of the largest weight, which is 1
    if filters.typical_p < 1:
        total = _keep_typical(weights, total, z, keys, spare, V, filters.typical_p)
    goal, total = uniform * total, 0.0
    for v in range(V):
        total += weights[v]
        if total > goal:
            return v
    while weights[v] == 0:  # the sum above was rounded up
        v -= 1
    return v


@jit
def _draw(tokens, logits, uniform, history, banned, filters, room, V, part, start, stop):
    """`reference.draw` of rows start ... stop"""
    length, flat = history.shape[1], history.reshape(-1)
    for n in range(start, stop):
        tokens[n] = _draw_row(logits, n * V, V, uniform[n], flat, n * length, length, banned, filters, room, part)


def draw(tokens, logits, uniform, history, banned, filters, threads):
    """See reference.draw. The sums are in float64 as there, in another order."""
    threads, V = threads if logits.nbytes > SHARED_BYTES else 1, logits.shape[1]
    split(
        threads, _draw, len(tokens), tokens, logits.reshape(-1), uniform, np.ascontiguousarray(history), banned,
        filters, _draw_scratch(V, threads), V,
    )  # fmt: skip


# ---------------------------------------------------------------- generating: draw, read, draw, read


@jit
def _generate(
    made, history, length, logits, states, c, uniform, banned, filters, room, net, sizes, N, counter, parts, part, n0, n1
):  # fmt: skip
    """`generate` for the part's texts. Parts that share texts draw the same tokens, each for itself.

    made[0] = how many tokens: fewer than asked for where the parts had to wait for cores.
    """
    (L, E, H, V), size, flat = sizes, history.shape[1], history.reshape(-1)
    before, after, k = 0, L * N * H, 0
    while k < len(uniform) and counter[2] == 0:
        for n in range(n0, n1):
            flat[n * size + length + k] = _draw_row(
                logits, n * V, V, uniform[k, n], flat, n * size, length + k, banned, filters, room, part
            )
        _step(
            logits, states, before, after, c, flat, length + k, size, net, sizes, N, counter, parts, part, n0, n1,
            k * (L + 1),
        )  # fmt: skip
        before, after, k = after, before, k + 1
    made[0] = k


def generate(history, length, h, c, top, logits, uniform, banned, filters, work, threads):
    """See reference.generate: all tokens in one call, or in two where shared threads turn out not to have cores."""
    if isinstance(work, Net):
        return reference.generate(history, length, h, c, top, logits, uniform, banned, filters, work, threads)
    N, states, made, K = h.shape[1], work["states"], np.zeros(1, np.int64), len(uniform)
    while len(uniform):
        states[: h.size] = h.reshape(-1)
        by_texts(
            threads, work["net"][0], _generate, equal(N, threads), made, history, length + K - len(uniform),
            logits.reshape(-1), states, c.reshape(-1), uniform, banned, filters, work["rows"], work["net"], work["sizes"], N, steps=len(uniform),
        )  # fmt: skip
        last = made[0] % 2 * h.size
        h[...] = states[last : last + h.size].reshape(h.shape)
        uniform = uniform[made[0] :]
    top[...] = h[-1]


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
