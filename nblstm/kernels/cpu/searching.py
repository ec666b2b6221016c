"""Beam search on the CPU: many steps in one call. A step gathers the state by parent, reads, and chooses.

Threads share the panels of every layer and the rows of the children; one of them chooses. They wait for each other at a
spinning barrier, so that no thread has to be woken within a call.

Names: B hypotheses, V vocabulary, S numbers of a row of children: V rounded up to whole vectors.
Arrays are flat, or addressed by flat offsets; a kernel's last arguments are its share.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nblstm.kernels import Beam, DecoderWeights, History, Hypotheses, reference
from nblstm.kernels.cpu.barrier import barrier
from nblstm.kernels.cpu.decoding import Reader, Reading, Units, put_state, take_state, token_reader
from nblstm.kernels.cpu.drawing import swap
from nblstm.kernels.cpu.functions import exp
from nblstm.kernels.cpu.jit import jit, made_once, named
from nblstm.kernels.cpu.layouts import units_of
from nblstm.kernels.cpu.products import panels
from nblstm.kernels.cpu.recurrent import MANY_STEPS
from nblstm.kernels.cpu.vectors import LANES, lane_max, lane_sum, larger, like, load, store
from nblstm.kernels.threads import Share, run_cooperatively

SHARED_WORK = 80_000_000  # bytes of weights x hypotheses x steps of a call: some 0.5 ms, worth waking several threads


class Choice(NamedTuple):
    """How children are chosen in up to K steps."""

    beam: Beam
    banned: np.ndarray
    noise: np.ndarray  # (K, B, V) or (K, B, 0), flat
    K: int


# ---------------------------------------------------------------- the children


@jit
def _children(children, keys, hypotheses, logits, noise, k, banned, stochastic, V, n):
    """Row n of the children of `reference.search` and of their keys, (B, S) both, -inf behind V.

    The hypothesis as it is has no column here: see `_best`. Returns whether its logits are no distribution.
    """
    row, first = children[n], n * children.shape[1]
    row[:] = -np.inf
    lost, before = False, hypotheses.log_probability[n]
    if before > -np.inf and not hypotheses.finished[n]:
        for v in range(V):
            row[v] = logits[n * V + v]
        for token in banned:
            row[token] = -np.inf
        highest, total = like(load(children, first), -np.inf), 0.0
        for v in range(0, row.size, LANES):
            highest = larger(load(children, first + v), highest)
        peak = lane_max(highest)
        for v in range(0, row.size, LANES):
            total += lane_sum(exp(load(children, first + v) - peak))
        lost = not 0 < total < np.inf  # NaN where a logit is, or where the largest is infinite
        log_total = np.log(total)
        for v in range(0, row.size, LANES):  # log p(y v) = log p(y) + log p(v | y)
            store(children, first + v, load(children, first + v) - peak - log_total + before)
    if stochastic:
        _perturb(keys[n], row, noise, (k * len(children) + n) * V, hypotheses.perturbed[n], V)
    return lost


@jit
def _perturb(keys, children, noise, at, T, V):
    """`reference.perturb` of one row, children (S,), whose parent has G = T; its noise stands at noise[at:]"""
    Z = -np.inf
    for v in range(V):
        keys[v] = children[v] + noise[at + v]
        Z = max(Z, keys[v])
    for v in range(V):
        if keys[v] == Z > -np.inf:
            keys[v] = T
        elif keys[v] > -np.inf:
            x = keys[v] - Z
            u = T - keys[v] + (np.log(-np.expm1(x)) if x > -np.log(2) else np.log1p(-np.exp(x)))
            keys[v] = T - max(u, 0.0) - np.log1p(np.exp(-abs(u)))


# ---------------------------------------------------------------- the choice: a heap, the lowest of the best at its top


@jit
def _lower(keys, chosen, i, j):
    """Whether the i-th ranks behind the j-th: a lower key, or the later of two"""
    return keys[i] < keys[j] or (keys[i] == keys[j] and chosen[i] > chosen[j])


@jit
def _sink(keys, chosen, i, count):
    """Move the i-th of a heap of `count` down until none below it is lower"""
    while 2 * i + 1 < count:
        child = 2 * i + 1
        if child + 1 < count and _lower(keys, chosen, child + 1, child):
            child += 1
        if not _lower(keys, chosen, child, i):
            return
        swap(keys, chosen, i, child)
        i = child


@jit
def _offer(keys, chosen, count, key, place):
    """Keep a child if it is among the best so far, of which there are `count`; how many there are now"""
    size = len(keys)
    if count == size:
        if key > keys[0]:
            keys[0], chosen[0] = key, place
            _sink(keys, chosen, 0, size)
        return size
    keys[count], chosen[count] = key, place
    if count + 1 == size:
        for i in range(size // 2 - 1, -1, -1):
            _sink(keys, chosen, i, size)
    return count + 1


@jit
def _best(best, chosen, keys, hypotheses, cost, stochastic, V, start, stop):
    """`reference.largest` of the children of hypotheses start ... stop, keys (B, S), less their cost (S,).

    best, chosen (stop - start,): the keys in falling order and their hypotheses, n * (V + 1) + v.
    """
    count, size, S = 0, len(best), keys.shape[1]
    for n in range(start, stop):
        for v in range(0, S, LANES):
            if count < size or lane_max(load(keys, n * S + v)) > best[0]:
                for j in range(v, min(v + LANES, V)):
                    count = _offer(best, chosen, count, keys[n, j] - cost[j], n * (V + 1) + j)
        ended = -np.inf
        if hypotheses.finished[n]:
            ended = hypotheses.perturbed[n] if stochastic else np.inf
        count = _offer(best, chosen, count, ended, n * (V + 1) + V)
    for last in range(size - 1, 0, -1):
        swap(best, chosen, 0, last)
        _sink(best, chosen, 0, last)


@jit
def _choose(history, at, hypotheses, room, beam, V):
    """The B children that take the slots: parents and tokens from `at` on, flat; hypotheses; moved: room for them"""
    children, keys, cost, best, chosen, _, _, moved = room
    B, parents, tokens = len(best), history.parents, history.tokens
    size = B // beam.groups
    cost[:] = 0
    for start in range(0, B, size):
        _best(
            best[start : start + size], chosen[start : start + size], keys, hypotheses, cost, beam.stochastic, V,
            start, start + size,
        )  # fmt: skip
        for n in range(start, start + size):
            parent, token = chosen[n] // (V + 1), chosen[n] % (V + 1)
            parents[at + n], tokens[at + n] = parent, token
            if token < V:
                moved.log_probability[n] = children[parent, token]
                if children[parent, token] > -np.inf:
                    cost[token] += beam.diversity
            else:
                moved.log_probability[n] = (
                    hypotheses.log_probability[parent] if hypotheses.finished[parent] else -np.inf
                )
            moved.perturbed[n] = best[n] if beam.stochastic else hypotheses.perturbed[n]
            moved.length[n] = hypotheses.length[parent] + (token < V)
            ended = hypotheses.finished[parent] or token == beam.end
            moved.finished[n] = ended and moved.log_probability[n] > -np.inf
    for n in range(B):
        hypotheses.log_probability[n], hypotheses.perturbed[n] = moved.log_probability[n], moved.perturbed[n]
        hypotheses.length[n], hypotheses.finished[n] = moved.length[n], moved.finished[n]


# ---------------------------------------------------------------- the end


@jit
def _rank(hypotheses, n, length, beam):
    """`reference.rank` of one hypothesis"""
    if beam.stochastic:
        return hypotheses.perturbed[n]
    return hypotheses.log_probability[n] / ((5 + length) / 6) ** beam.length_penalty


@jit
def _over(hypotheses, steps, beam):
    """See `reference.over`"""
    size, live, enough = len(hypotheses.length) // beam.groups, False, True
    for start in range(0, len(hypotheses.length), size):
        bound, as_high = -np.inf, 0
        for n in range(start, start + size):
            if hypotheses.log_probability[n] > -np.inf and not hypotheses.finished[n]:
                live, bound = True, max(bound, _rank(hypotheses, n, beam.longest, beam))
        for n in range(start, start + size):
            if hypotheses.finished[n] and _rank(hypotheses, n, hypotheses.length[n], beam) >= bound:
                as_high += 1
        enough = enough and (bound == -np.inf or as_high >= min(beam.wanted, size))
    return steps == beam.longest or not live or enough


# ---------------------------------------------------------------- the steps


@jit
def _follow(states, memory, spare, reading, history, before, sizes, B, share):
    """The part's units of the state become those of the parents; reading (B,) = the tokens that come next.

    h stands in the second half of states and goes to the first; memory stays in its place.
    """
    (L, _, H, V, _, _), parents, tokens = sizes, history.parents, history.tokens
    C = memory.size // (L * B)  # c of a projected layer has other numbers than h
    (p0, p1), (q0, q1) = units_of(-(-H // LANES), share), units_of(-(-C // LANES), share)
    j0, j1, i0, i1 = p0 * LANES, min(p1 * LANES, H), q0 * LANES, min(q1 * LANES, C)
    for layer in range(L):
        h, c = layer * B * H, layer * B * C
        for n in range(B):
            for i in range(c + n * C + i0, c + n * C + i1):
                spare[i] = memory[i]
        for n in range(B):
            to_h, to_c, parent = h + n * H, c + n * C, parents[before + n]
            for i in range(i0, i1):
                memory[to_c + i] = spare[c + parent * C + i]
            for j in range(j0, j1):
                states[to_h + j] = states[L * B * H + h + parent * H + j]
    if share.part == 0:
        for n in range(B):
            reading[n] = tokens[before + n] if tokens[before + n] < V else 0


@made_once
def _searcher(layout):
    """The kernel of `search`, for networks of one cell."""
    read_token = token_reader(layout)

    def search(taken, history, hypotheses, states, memory, logits, choice, room, reader, given):
        """All from step taken[0] on; taken (3,): the steps that were taken, whether it is over, whether a text is lost.

        Fewer are taken where the parts had to wait for cores.
        """
        share = Share(*given)
        (L, _, H, V, _, _), B, k, round_ = reader.sizes, reader.N, taken[0], 0
        (beam, banned, noise, K), (children, keys, _, _, _, reading, spare, _) = choice, room
        state, start, counter, parts = Units(states, 0, L * B * H, memory), history.start, share.counter, share.parts
        r0, r1 = units_of(B, share)
        while k < K and taken[1] == 0 and counter[2] == 0:
            at = (start + k) * B
            if at > 0:
                _follow(states, memory, spare, reading, history, at - B, reader.sizes, B, share)
                barrier(counter, parts, round_ + 1)
                read_token(logits, state, Reading(reading, 0, 1), reader, share, round_ + 1)
                round_ += L + 2
            for n in range(r0, r1):
                if _children(children, keys, hypotheses, logits, noise, k, banned, beam.stochastic, V, n):
                    taken[2] = 1
            barrier(counter, parts, round_ + 1)
            k += 1
            if share.part == 0 and taken[2] == 1:
                taken[1] = 1
            elif share.part == 0:
                _choose(history, at, hypotheses, room, beam, V)
                taken[0], taken[1] = k, _over(hypotheses, start + k, beam)
            barrier(counter, parts, round_ + 2)
            round_ += 2

    return named(search, f"_search_{layout.name}")


def _room(B, V, memory, stochastic):
    """Make room for what a search needs beside its arguments."""
    S = panels(V, LANES) * LANES
    children = np.empty((B, S))
    keys = np.full((B, S), -np.inf) if stochastic else children
    moved = Hypotheses(np.empty(B), np.empty(B), np.empty(B, np.int64), np.empty(B, bool))
    chosen, reading = np.empty((2, B), np.int64)
    return children, keys, np.empty(S), np.empty(B), chosen, reading, np.empty_like(memory), moved


def search(history, hypotheses, state, noise, banned, beam, work, threads):
    """See reference.search: all steps in one call, or in two where shared threads turn out not to have cores."""
    if isinstance(work, DecoderWeights):
        return reference.search(history, hypotheses, state, noise, banned, beam, work, threads)
    (B, V), K, taken = state.logits.shape, len(noise), np.zeros(3, np.int64)
    kernel, memory = _searcher(work["layout"]), put_state(state, work, state.h.size)
    room = _room(B, V, memory, beam.stochastic)
    worth = B * work["net"][0].nbytes * min(K, MANY_STEPS) >= SHARED_WORK
    flat = History(history.parents.reshape(-1), history.tokens.reshape(-1), history.start)
    choice = Choice(beam, banned, noise.reshape(-1), K)
    while taken[0] < K and not taken[1]:
        run_cooperatively(
            threads if worth else 1, kernel, B, taken, flat, hypotheses, work["states"], memory,
            state.logits.reshape(-1), choice, room, Reader(work["net"], work["sizes"], B),
        )  # fmt: skip
    take_state(state, work, state.h.size)
    return int(taken[0])
