"""The linear-chain CRF on the CPU, in the notation of `reference.crf`.

Not in logarithms: a step's numbers are exponentials, scaled to a sum of 1, and the losses are told by the sums. So a step
is a product of K by K numbers, with K exponentials and one logarithm. float64 holds this while scores that stand beside
each other differ by less than TAME nats, as trained ones do; the specification computes the others.

Threads split texts and, of the transitions' gradient, its rows. Names: N texts, M rows, K tags, S: K rounded up to whole
vectors, with zeros behind K. Arrays are flat; a kernel's last argument is its share.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels import reference
from nblstm.kernels.cpu.functions import exp
from nblstm.kernels.cpu.jit import jit
from nblstm.kernels.cpu.products import panels
from nblstm.kernels.cpu.vectors import LANES, lane_sum, like, load, store
from nblstm.kernels.packed import last_rows, lengths
from nblstm.kernels.threads import parallel_for

TAME = 300.0  # nats: exp(-2 TAME) times what a few tags add is far above the smallest float64
NOTHING = -1000.0  # its exponential is 0


def crf_work(M, K, dtype, threads):
    """Scratch for `crf_losses` and `crf_losses_and_gradient` on up to M rows of K tags, by name."""
    S = panels(K, LANES) * LANES
    return {
        "factors": np.empty(M * S),  # exp(e)
        "ahead": np.empty(M * S),  # exp(e + b)
        "before": np.empty(M * S),  # exp(a)
        "steps": np.empty(max(1, threads) * 2 * S),  # of each thread
    }


def _spread(x):
    """How far the numbers are apart; NaN where one is not finite."""
    return float(np.max(x)) - float(np.min(x))


def _is_tame(emissions, chain):
    """Whether float64 holds the exponentials; NaN is not tame."""
    return _spread(emissions) + max(map(_spread, chain)) <= TAME


def _tables(chain):
    """exp of start, end (S,), transitions (K, S) and their transpose, each with 1 as the largest."""
    K = len(chain.start)
    tables = []
    for x in (chain.start, chain.end, chain.transitions, chain.transitions.T):
        wide = np.zeros((x.size // K, panels(K, LANES) * LANES))
        wide[:, :K] = np.exp(np.float64(x) - x.max())
        tables.append(wide.reshape(-1))
    return tuple(tables)


@jit
def _product(y, y0, x, x0, table, K, S):
    """y[j] = sum over i < K of x[i] table[i, j], j < S; returns the sum of y"""
    total = 0.0
    for j in range(0, S, LANES):
        a = load(table, j) * x[x0]
        for i in range(1, K):
            a = a + load(table, i * S + j) * x[x0 + i]
        store(y, y0 + j, a)
        total += lane_sum(a)
    return total


@jit
def _dot(x, x0, y, y0, S):
    """The sum over j < S of x[j] y[j]"""
    total = 0.0
    for j in range(0, S, LANES):
        total += lane_sum(load(x, x0 + j) * load(y, y0 + j))
    return total


@jit
def _exponentials(factors, row, emissions, e0, K, S):
    """exp(e) of a row, the largest of them 1"""
    peak = emissions[e0]
    for j in range(1, K):
        peak = max(peak, emissions[e0 + j])
    for j in range(S):
        factors[row + j] = emissions[e0 + j] - peak if j < K else NOTHING
    for j in range(0, S, LANES):
        store(factors, row + j, exp(load(factors, row + j)))


@jit
def _backward(losses, factors, ahead, steps, emissions, targets, tables, packed, share):
    """Losses, exp(e) and exp(e + b) of texts start ... stop, from their last step to the first"""
    part, first, stop, _, _ = share
    (begin, end, table, transposed), (offsets, counts) = tables, packed
    S = len(begin)
    K, b, after = len(table) // S, 2 * part * S, (2 * part + 1) * S
    for n in range(first, stop):
        for j in range(0, S, LANES):
            store(steps, b + j, load(end, j))
        for t in range(counts[n] - 1, -1, -1):
            m = offsets[t] + n
            row, y = m * S, targets[m]
            _exponentials(factors, row, emissions, m * K, K, S)
            for j in range(0, S, LANES):
                store(ahead, row + j, load(factors, row + j) * load(steps, b + j))
            if t == 0:
                losses[m] = -np.log(begin[y] * ahead[row + y] / _dot(begin, 0, ahead, row, S))
                break
            # b_{t-1}[i] = log sum over j of exp(A[i, j] + e_t[j] + b_t[j])
            scale = 1.0 / _product(steps, after, ahead, row, transposed, K, S)
            before = targets[offsets[t - 1] + n]
            losses[m] = -np.log(table[before * S + y] * ahead[row + y] / steps[after + before])
            for i in range(0, S, LANES):
                store(steps, b + i, load(steps, after + i) * scale)


@jit
def _forward(demissions, before, ahead, factors, targets, scales, tables, packed, share):
    """exp(a) and the gradient of the emissions of texts start ... stop; exp(e + b) becomes its share of the pairs:

    scales[n] p(y_{t-1} = i, y_t = j) = before_{t-1}[i] exp(A[i, j]) ahead_t[j]
    """
    _, first, stop, _, _ = share
    (begin, _, table, _), (offsets, counts) = tables, packed
    S = len(begin)
    K = len(table) // S
    for n in range(first, stop):
        for t in range(counts[n]):
            m = offsets[t] + n
            row = m * S
            # a_t[j] = e_t[j] + log sum over i of exp(a_{t-1}[i] + A[i, j])
            if t == 0:
                for j in range(0, S, LANES):
                    store(before, row + j, load(begin, j))
            else:
                _product(before, row, before, (offsets[t - 1] + n) * S, table, K, S)
            one = scales[n] / _dot(before, row, ahead, row, S)
            scale = 1.0 / _dot(before, row, factors, row, S)
            for j in range(K):
                # d log Z / d e_t[j] = p(y_t = j)
                demissions[m * K + j] = before[row + j] * ahead[row + j] * one
            demissions[m * K + targets[m]] -= scales[n]
            for j in range(0, S, LANES):
                store(before, row + j, load(before, row + j) * load(factors, row + j) * scale)
                store(ahead, row + j, load(ahead, row + j) * one)


@jit
def _pairs(dtransitions, before, ahead, targets, scales, table, packed, share):
    """Add rows start ... stop of the gradient of the transitions (K, K)"""
    _, first, stop, _, _ = share
    offsets, K = packed
    S = len(table) // K
    for i in range(first, stop):
        for j0 in range(0, S, LANES):
            g = like(load(table, 0), 0)
            for t in range(1, len(offsets) - 1):
                last, here = offsets[t - 1] * S + i, offsets[t] * S + j0
                for n in range(offsets[t + 1] - offsets[t]):
                    g = g + load(ahead, here + n * S) * before[last + n * S]
            g = g * load(table, i * S + j0)
            store(table, i * S + j0, g)  # in place of what is not needed any more
        for j in range(K):
            dtransitions[i * K + j] += table[i * S + j]
        for t in range(1, len(offsets) - 1):
            last, here = offsets[t - 1], offsets[t]
            for n in range(offsets[t + 1] - here):
                if targets[last + n] == i:
                    dtransitions[i * K + targets[here + n]] -= scales[n]


def crf_losses(losses, work, emissions, targets, chain, offsets, threads):
    """See reference.crf_losses."""
    if not _is_tame(emissions, chain):
        reference.crf_losses(losses, work, emissions, targets, chain, offsets, threads)
        return
    _losses(losses, work, emissions, targets, _tables(chain), (offsets, lengths(offsets)), threads)


def _losses(losses, work, emissions, targets, tables, packed, threads):
    """`crf_losses`, and in `work` exp(e) and exp(e + b)."""
    parallel_for(
        threads, _backward, len(packed[1]), losses, work["factors"], work["ahead"], work["steps"],
        emissions.reshape(-1), targets, tables, packed,
    )  # fmt: skip


def crf_losses_and_gradient(losses, demissions, dchain, work, emissions, targets, scales, chain, offsets, threads):
    """See reference.crf_losses_and_gradient."""
    if not _is_tame(emissions, chain):
        reference.crf_losses_and_gradient(
            losses, demissions, dchain, work, emissions, targets, scales, chain, offsets, threads
        )
        return
    tables, packed, between = _tables(chain), (offsets, lengths(offsets)), (work["before"], work["ahead"])
    _losses(losses, work, emissions, targets, tables, packed, threads)
    parallel_for(
        threads, _forward, len(scales), demissions.reshape(-1), *between, work["factors"], targets, scales, tables, packed
    )  # fmt: skip
    dchain.start[...] += demissions[: offsets[1]].sum(axis=0)
    dchain.end[...] += demissions[last_rows(offsets)].sum(axis=0)
    K = len(chain.start)
    parallel_for(threads, _pairs, K, dchain.transitions.reshape(-1), *between, targets, scales, tables[2], (offsets, K))


@jit
def _decode(tags, came_from, best, emissions, chain, packed, share):
    """`reference.crf_decode` of texts start ... stop; best: two steps of each thread"""
    part, first, stop, _, _ = share
    (transitions, begin, end), (offsets, counts) = chain, packed
    K = len(begin)
    now, before = best[2 * part * K : (2 * part + 1) * K], best[(2 * part + 1) * K : (2 * part + 2) * K]
    for n in range(first, stop):
        for j in range(K):
            now[j] = emissions[n * K + j] + begin[j]
        for t in range(1, counts[n]):
            row = (offsets[t] + n) * K
            for j in range(K):
                before[j] = now[j]
            # best_t[j] = e_t[j] + max over i of best_{t-1}[i] + A[i, j]
            for j in range(K):
                now[j], came_from[row + j] = before[0] + transitions[j], 0
            for i in range(1, K):
                for j in range(K):
                    score = before[i] + transitions[i * K + j]
                    if score > now[j]:
                        now[j], came_from[row + j] = score, i
            for j in range(K):
                now[j] = emissions[row + j] + now[j]
        y = 0
        for j in range(1, K):
            if now[j] + end[j] > now[y] + end[y]:
                y = j
        for t in range(counts[n] - 1, -1, -1):
            m = offsets[t] + n
            tags[m] = y
            y = came_from[m * K + y] if t else 0


def crf_decode(tags, emissions, chain, offsets, threads):
    """See reference.crf_decode."""
    (M, K), packed = emissions.shape, (offsets, lengths(offsets))
    room = np.empty(M * K, np.int32), np.empty(2 * max(1, threads) * K, emissions.dtype)
    flat = chain.transitions.reshape(-1), chain.start, chain.end
    parallel_for(threads, _decode, len(packed[1]), tags, *room, emissions.reshape(-1), flat, packed)
