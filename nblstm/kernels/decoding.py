"""Decoding on the CPU: the whole network for one token of each text, what is drawn next, and many tokens in one call.

The weights are packed once and read once a token. One text is split over threads by units, with a spinning barrier
behind each layer, several texts by texts. Only plain LSTM layers are here; the specification decodes the others.

Names: P panels of a weight's rows, N texts, V vocabulary.
Arrays are flat, or addressed by flat offsets; a kernel's last arguments are its share.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels import Net, reference
from nblstm.kernels.barrier import barrier, crowded
from nblstm.kernels.jit import jit
from nblstm.kernels.products import IN_ORDER, pack, panels
from nblstm.kernels.recurrent import LAYOUTS, SHARED_BYTES, by_texts, gate_panels, layout_of, lstm, share
from nblstm.kernels.threads import equal, split
from nblstm.kernels.tiles import PANEL, multiply_64
from nblstm.kernels.vectors import LANES, exp, lane_sum, load, load_part, store, store_part

KEPT_BYTES = 1 << 23  # of projected tokens that each part of a decoder keeps


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
    P, PV, layout = panels(H, LANES), panels(V), LAYOUTS["lstm", "tanh"]
    sizes = [(P * D * PANEL, P * H * PANEL, P * PANEL) for D in [E] + [H] * (L - 1)] + [(PV * H * PANEL, PV * PANEL)]
    offsets = np.cumsum([0] + [size for row in sizes for size in row])
    packed = np.empty(offsets[-1], dtype)  # for which NumPy asks for huge pages, unlike np.zeros
    packed.fill(0)
    parts = np.split(packed, offsets[1:-1])
    for k, weights in enumerate(net.layers):
        ih, hh, bias = parts[3 * k : 3 * k + 3]
        split(threads, pack, P, ih, weights["weight_ih"], layout.inputs[1], LANES, H, weights["weight_ih"].shape[1])
        split(threads, pack, P, hh, weights["weight_hh"], layout.hidden[1], LANES, H, H)
        gate_panels(bias, weights, layout, P, H)
    split(threads, pack, PV, parts[3 * L], net.head_weight, IN_ORDER, PANEL, V, H)
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
        multiply_64(z, scratch, PANEL, count, PANEL, x, part * x.shape[1], E, 0, 1, E, packed, weight)
        for i in range(count):
            place = part * table.shape[1] + (fresh[part, i] * P + p) * PANEL
            for j in range(0, PANEL, LANES):
                store(table, place + j, load(z, scratch + i * PANEL + j))


@jit
def read_token(
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
                multiply_64(z, scratch, PANEL, rows, PANEL, states, below, H, 0, 1, H, packed, weight_ih + p * H * PANEL)
            multiply_64(
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
            multiply_64(z, scratch, PANEL, rows, PANEL, states, top, H, 0, 1, H, packed, head + p * H * PANEL)
            for r in range(rows):
                for j in range(0, min(PANEL, V - p * PANEL), LANES):
                    v = p * PANEL + j
                    store_part(logits, (n0 + r) * V + v, load(z, scratch + r * PANEL + j), min(LANES, V - v))
    crowded(counter, part)
    barrier(counter, parts, round_ + L + 1)


@jit
def _decode(logits, states, c, tokens, net, sizes, N, counter, parts, part, n0, n1):
    """`decode`: the state before stands in the first half of states, the one after goes into the second"""
    read_token(
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
def swap(keys, weights, i, j):
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
                swap(keys, weights, i, k)
                i, k = i + 1, k + 1
            elif keys[k] < pivot:
                j -= 1
                swap(keys, weights, k, j)
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
        read_token(
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
            logits.reshape(-1), states, c.reshape(-1), uniform, banned, filters, work["rows"], work["net"],
            work["sizes"], N, steps=len(uniform),
        )  # fmt: skip
        last = made[0] % 2 * h.size
        h[...] = states[last : last + h.size].reshape(h.shape)
        uniform = uniform[made[0] :]
    top[...] = h[-1]
