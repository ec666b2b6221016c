"""The linear-chain CRF on the CPU, in the notation of `reference.crf`.

Not in logarithms: a step's numbers are exponentials, scaled to a sum of 1, and the losses are told by the sums. So a step
is a product of K by K numbers, with K exponentials and one logarithm. float64 holds this while scores that stand beside
each other differ by less than TAME nats, as trained ones do; the specification computes the others.

Threads split texts and, of the transitions' gradient, its rows. Names: N texts, M rows, K tags; arrays are flat. A kernel's
last argument is its share.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels import Chain, reference
from nblstm.kernels.cpu.jit import jit
from nblstm.kernels.packed import lengths
from nblstm.kernels.threads import parallel_for

TAME = 300.0  # nats: exp(-2 TAME) times what a few tags add is far above the smallest float64


def crf_work(M, K, dtype, threads):
    """Scratch for `crf_losses` and `crf_losses_and_gradient` on up to M rows of K tags, by name."""
    return {
        "factors": np.empty(M * K),  # exp(e)
        "ahead": np.empty(M * K),  # exp(e + b)
        "before": np.empty(M * K),  # exp(a)
        "steps": np.empty(max(1, threads) * 2 * K),  # of each thread
        "sums": np.empty((K + 2) * K),
    }


def _spread(x):
    """How far the numbers are apart; NaN where one is not finite."""
    return float(np.max(x)) - float(np.min(x))


def _is_tame(emissions, chain):
    """Whether float64 holds the exponentials; NaN is not tame."""
    return _spread(emissions) + max(map(_spread, chain)) <= TAME


def _tables(chain):
    """exp of start, end (K,), transitions (K, K) and their transpose, each with 1 as the largest."""
    start, end, table = (
        np.exp(np.float64(x) - np.float64(x.max())) for x in (chain.start, chain.end, chain.transitions)
    )
    return start, end, table.reshape(-1), np.ascontiguousarray(table.T).reshape(-1)


@jit
def _backward(losses, factors, ahead, steps, emissions, targets, tables, packed, share):
    """Losses, exp(e) and exp(e + b) of texts start ... stop, from their last step to the first"""
    part, first, stop, _, _ = share
    (begin, end, table, transposed), (offsets, counts) = tables, packed
    K = len(begin)
    b, after = steps[2 * part * K : (2 * part + 1) * K], steps[(2 * part + 1) * K : (2 * part + 2) * K]
    for n in range(first, stop):
        b[:] = end
        for t in range(counts[n] - 1, -1, -1):
            m = offsets[t] + n
            row, y, peak = m * K, targets[m], emissions[m * K]
            for j in range(1, K):
                peak = max(peak, emissions[row + j])
            for j in range(K):
                factor = np.exp(np.float64(emissions[row + j] - peak))
                factors[row + j], ahead[row + j] = factor, factor * b[j]
            if t == 0:
                total = 0.0
                for j in range(K):
                    total += begin[j] * ahead[row + j]
                losses[m] = -np.log(begin[y] * ahead[row + y] / total)
                break
            # b_{t-1}[i] = log sum over j of exp(A[i, j] + e_t[j] + b_t[j])
            after[:] = 0
            for j in range(K):
                for i in range(K):
                    after[i] += ahead[row + j] * transposed[j * K + i]
            before = targets[offsets[t - 1] + n]
            losses[m] = -np.log(table[before * K + y] * ahead[row + y] / after[before])
            total = 0.0
            for i in range(K):
                total += after[i]
            for i in range(K):
                b[i] = after[i] / total


@jit
def _forward(demissions, before, ahead, factors, targets, scales, tables, packed, share):
    """exp(a) and the gradient of the emissions of texts start ... stop; exp(e + b) becomes its share of the pairs:

    scales[n] p(y_{t-1} = i, y_t = j) = before_{t-1}[i] exp(A[i, j]) ahead_t[j]
    """
    _, first, stop, _, _ = share
    (begin, _, table, _), (offsets, counts) = tables, packed
    K = len(begin)
    for n in range(first, stop):
        for t in range(counts[n]):
            m = offsets[t] + n
            row = m * K
            # a_t[j] = e_t[j] + log sum over i of exp(a_{t-1}[i] + A[i, j])
            if t == 0:
                before[row : row + K] = begin
            else:
                last = (offsets[t - 1] + n) * K
                before[row : row + K] = 0
                for i in range(K):
                    for j in range(K):
                        before[row + j] += before[last + i] * table[i * K + j]
            total, mass = 0.0, 0.0
            for j in range(K):
                mass += before[row + j] * ahead[row + j]
            for j in range(K):
                # d log Z / d e_t[j] = p(y_t = j)
                p = before[row + j] * ahead[row + j] / mass
                demissions[row + j] = scales[n] * p
                before[row + j] *= factors[row + j]
                total += before[row + j]
                ahead[row + j] *= scales[n] / mass
            for j in range(K):
                before[row + j] /= total
            demissions[row + targets[m]] -= scales[n]


@jit
def _pairs(sums, dchain, demissions, before, ahead, targets, scales, table, packed, share):
    """Add rows start ... stop of the gradient of the transitions; row K is that of start, K + 1 that of end"""
    _, first, stop, _, _ = share
    (dtransitions, dstart, dend), (offsets, counts) = dchain, packed
    K = len(dstart)
    for i in range(first, stop):
        g = sums[i * K : (i + 1) * K]
        g[:] = 0
        if i >= K:
            for n in range(len(counts)):
                m = offsets[0 if i == K else counts[n] - 1] + n
                for j in range(K):
                    g[j] += demissions[m * K + j]
            for j in range(K):
                if i == K:
                    dstart[j] += g[j]
                else:
                    dend[j] += g[j]
            continue
        for t in range(1, len(offsets) - 1):
            for n in range(offsets[t + 1] - offsets[t]):
                row, weight = (offsets[t] + n) * K, before[(offsets[t - 1] + n) * K + i]
                for j in range(K):
                    g[j] += weight * ahead[row + j]
        for j in range(K):
            g[j] *= table[i * K + j]
        for t in range(1, len(offsets) - 1):
            for n in range(offsets[t + 1] - offsets[t]):
                if targets[offsets[t - 1] + n] == i:
                    g[targets[offsets[t] + n]] -= scales[n]
        for j in range(K):
            dtransitions[i * K + j] += g[j]


def crf_losses(losses, work, emissions, targets, chain, offsets, threads):
    """See reference.crf_losses."""
    if not _is_tame(emissions, chain):
        reference.crf_losses(losses, work, emissions, targets, chain, offsets, threads)
        return
    packed, tables = (offsets, lengths(offsets)), _tables(chain)
    parallel_for(
        threads, _backward, len(packed[1]), losses, work["factors"], work["ahead"], work["steps"],
        emissions.reshape(-1), targets, tables, packed,
    )  # fmt: skip


def crf_losses_and_gradient(
    losses, demissions, dchain, work, emissions, targets, scales, chain, offsets, threads
):  # fmt: skip
    """See reference.crf_losses_and_gradient."""
    if not _is_tame(emissions, chain):
        reference.crf_losses_and_gradient(
            losses, demissions, dchain, work, emissions, targets, scales, chain, offsets, threads
        )  # fmt: skip
        return
    crf_losses(losses, work, emissions, targets, chain, offsets, threads)
    packed, tables, demissions = (offsets, lengths(offsets)), _tables(chain), demissions.reshape(-1)
    between = work["before"], work["ahead"]
    parallel_for(
        threads, _forward, len(packed[1]), demissions, *between, work["factors"], targets, scales, tables, packed
    )
    flat = dchain.transitions.reshape(-1), dchain.start, dchain.end
    parallel_for(
        threads, _pairs, len(chain.start) + 2, work["sums"], flat, demissions, *between, targets, scales, tables[2], packed
    )  # fmt: skip


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
            before[:] = now
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
