"""Drawing the next token, on the CPU.

Where nothing is left out but banned tokens, it is drawn piece by piece of the vocabulary: each has a peak and a sum of its
own, exp((z - peak) / temperature), so that threads may each weigh some of them, and a token is found in two short walks.

Arrays are flat, or addressed by flat offsets; a kernel's last argument is its share.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cpu.functions import exp
from nblstm.kernels.cpu.jit import jit
from nblstm.kernels.cpu.products import panels
from nblstm.kernels.cpu.recurrent import SHARED_BYTES
from nblstm.kernels.cpu.vectors import LANES, lane_max, lane_sum, larger, like, load, load_part, store
from nblstm.kernels.threads import parallel_for

PIECE = 64  # tokens
SHARED_TOKENS = 1024  # of a vocabulary that threads weigh together


def draw_scratch(V, threads):
    """Room for `draw_row` in each thread, (threads, 4, V rounded up): logits, weights, and two to be reordered."""
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
def _penalise(z, times, history, start, stop, filters, V):
    """z of every token in history[start:stop], once: divided by the penalty where positive, else multiplied, and less"""
    penalty = filters.repetition_penalty
    for v in range(V):
        times[v] = 0
    for i in range(start, stop):
        times[history[i]] += 1
    for i in range(start, stop):
        v = history[i]
        if times[v] > 0:
            z[v] = z[v] / penalty if z[v] > 0 else z[v] * penalty
            z[v] -= filters.presence_penalty + filters.frequency_penalty * times[v]
            times[v] = 0


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


# ---------------------------------------------------------------- piece by piece


@jit
def is_whole(filters, V):
    """Whether nothing but the temperature changes how tokens are drawn."""
    repeats = filters.no_repeat_ngram > 0 or filters.repetition_penalty != 1
    repeats = repeats or filters.presence_penalty != 0 or filters.frequency_penalty != 0
    cuts = 0 < filters.top_k < V or filters.top_p < 1 or filters.min_p > 0 or filters.typical_p < 1
    return not repeats and not cuts


@jit
def weigh(room, logits, first, V, banned, temperature, p0, p1):
    """The pieces p0 ... p1 of the row at logits[first:]: z, weights, the peak of each, NaN where one is not a number below
    infinity, and the sum of its weights.
    """
    z, weights, peaks, sums = room[0], room[1], room[2], room[3]
    row = logits[first : first + V]
    for p in range(p0, p1):
        lost, stop = 0, min((p + 1) * PIECE, V)
        for v in range(p * PIECE, stop):
            z[v] = row[v]
            lost += not row[v] < np.inf
        z[stop : min((p + 1) * PIECE, z.size)] = -np.inf
        peaks[p] = np.nan if lost > 0 else 0
    for token in banned:
        if p0 * PIECE <= token < p1 * PIECE:
            z[token] = -np.inf
    for p in range(p0, p1):
        start, stop = p * PIECE, min((p + 1) * PIECE, z.size)
        most = load(z, start)
        for v in range(start + LANES, stop, LANES):
            most = larger(most, load(z, v))
        peak = lane_max(most)
        peaks[p] += peak
        total, shift = like(most, 0), peak if peak > -np.inf else 0.0
        for v in range(start, stop if temperature > 0 else start, LANES):
            x = load(z, v) - shift
            if temperature != 1:
                x = x / temperature
            e = exp(x)
            store(weights, v, e)
            total = total + e
        sums[p] = lane_sum(total)


@jit
def choose(room, V, uniform, temperature):
    """The token of what `weigh` has found of all pieces; -1 as in `draw`. Whoever shares the room writes the same to z."""
    z, weights, peaks, sums = room[0], room[1], room[2], room[3]
    pieces, peak, found = -(-V // PIECE), -np.inf, 0
    for p in range(pieces):
        if not peaks[p] < np.inf:
            return -1
        if peaks[p] > peak:
            peak, found = peaks[p], p
    if peak == -np.inf:
        return -1
    if temperature == 0:
        v = found * PIECE
        while z[v] < peak:
            v += 1
        return v
    total = 0.0
    for p in range(0, pieces, LANES):
        count = min(LANES, pieces - p)
        x = exp((load_part(peaks, p, count, -np.inf) - peak) / temperature) * load_part(sums, p, count, 0)
        store(z, p, x)
        total += lane_sum(x)
    goal, before, p = uniform * total, 0.0, 0
    while p < pieces - 1 and not before + z[p] > goal:
        before += z[p]
        p += 1
    while z[p] == 0:  # the sum above was rounded up
        p -= 1
    inner, total = (goal - before) / z[p] * sums[p], 0.0
    for v in range(p * PIECE, min((p + 1) * PIECE, V)):
        total += weights[v]
        if total > inner:
            return v
    while weights[v] == 0:
        v -= 1
    return v


# ---------------------------------------------------------------- a row


@jit
def draw_row(logits, first, V, uniform, history, h0, length, banned, filters, room):
    """`reference.draw` of the row at logits[first:], whose text is history[h0 : h0 + length]"""
    if is_whole(filters, V):
        weigh(room, logits, first, V, banned, filters.temperature, 0, -(-V // PIECE))
        return choose(room, V, uniform, filters.temperature)
    z, weights, keys, spare = room[0], room[1], room[2], room[3]
    row, lost = logits[first : first + V], 0  # a loop over `row` is one on vectors, as no index may be negative
    for v in range(V):
        z[v] = row[v]
        lost += not row[v] < np.inf
    for token in banned:
        z[token] = -np.inf
    if filters.no_repeat_ngram > 0:
        _forbid_repeats(z, spare, history, h0, length, filters.no_repeat_ngram, V)
    if filters.repetition_penalty != 1 or filters.presence_penalty != 0 or filters.frequency_penalty != 0:
        window = min(length, filters.repetition_window) if filters.repetition_window > 0 else length
        _penalise(z, spare, history, h0 + length - window, h0 + length, filters, V)
    best = 0
    for v in range(V):
        if z[v] > z[best]:
            best = v
    if lost > 0 or z[best] == -np.inf:
        return -1
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
def _draw(tokens, logits, uniform, history, banned, filters, room, V, share):
    """`reference.draw` of rows start ... stop"""
    part, start, stop, _, _ = share
    length, flat = history.shape[1], history.reshape(-1)
    for n in range(start, stop):
        tokens[n] = draw_row(logits, n * V, V, uniform[n], flat, n * length, length, banned, filters, room[part])


def draw(tokens, logits, uniform, history, banned, filters, threads):
    """See reference.draw. The sums are in float64 as there, in another order."""
    threads, V = threads if logits.nbytes > SHARED_BYTES else 1, logits.shape[1]
    parallel_for(
        threads, _draw, len(tokens), tokens, logits.reshape(-1), uniform, np.ascontiguousarray(history), banned,
        filters, draw_scratch(V, threads), V,
    )  # fmt: skip
