"""Beam search: choose, read, choose, read."""

from __future__ import annotations

import numpy as np

from nblstm.kernels.reference.decoding import decode


def search(history, hypotheses, state, noise, banned, beam, work, threads):
    """The steps start ... start + K of a beam search, start = history.start, K = len(noise); returns how many.

    Fewer where it is `over`, and where the logits of a hypothesis that goes on are no distribution, as `draw` says it.
    At each step the best children of all hypotheses take the B slots, and a row of the history is written:
    `kernels.History`. Every step but the first reads the tokens of the row before: those before `start` are given.
    hypotheses: `kernels.Hypotheses`, written to. state: `kernels.DecoderState`, at `start` 0 that of the B texts, later
    what the call before has left. noise (K, B, V) float64: Gumbel noise of a stochastic beam, else (K, B, 0). banned:
    ids that are never taken. beam: `kernels.Beam`.
    """
    return search_by(decode, history, hypotheses, state, noise, banned, beam, work, threads)


def search_by(decode, history, hypotheses, state, noise, banned, beam, work, threads):
    """`search` with any module's `decode`."""
    (parents, tokens, start), (h, c, _, logits) = history, state
    V = logits.shape[1]
    for k, numbers in enumerate(noise, start):
        if k > 0:
            h[...], c[...] = h[:, parents[k - 1]], c[:, parents[k - 1]]
            decode(state, np.where(tokens[k - 1] < V, tokens[k - 1], 0), work, threads)
        if _lost(hypotheses, logits):
            return k - start
        children, keys = _children(hypotheses, logits, numbers, banned, beam)
        chosen = _choose(children, keys, beam)
        parents[k], tokens[k] = np.divmod(chosen, V + 1)
        _settle(hypotheses, parents[k], tokens[k], children.reshape(-1)[chosen], keys.reshape(-1)[chosen], beam, V)
        if over(hypotheses, k + 1, beam):
            return k + 1 - start
    return len(noise)


def _lost(hypotheses, logits):
    """Whether the logits (B, V) of a hypothesis that goes on are NaN or inf, or all -inf."""
    z = logits[(hypotheses.log_probability > -np.inf) & ~hypotheses.finished]
    return not ((z < np.inf).all() and (z.max(axis=1) > -np.inf).all())


def _children(hypotheses, logits, noise, banned, beam):
    """(log p, key to be chosen by), (B, V + 1) float64 each, of every child; in the last column the hypothesis as it is.

    That has the key inf where the hypothesis has ended, so that it keeps its slot, and -inf elsewhere; in a stochastic
    beam it competes like every other leaf.
    """
    V, ended = logits.shape[1], hypotheses.finished
    log_p = logits.astype(np.float64)
    log_p[ended | (hypotheses.log_probability == -np.inf)] = 0  # whose children are not possible, whatever the logits
    log_p[:, banned] = -np.inf
    log_p -= log_p.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    children = np.empty((len(ended), V + 1))
    np.add(hypotheses.log_probability[:, None], log_p, out=children[:, :V])  # log p(y v) = log p(y) + log p(v | y)
    children[ended, :V] = -np.inf
    children[:, V] = np.where(ended, hypotheses.log_probability, -np.inf)
    keys = children.copy()
    keys[ended, V] = hypotheses.perturbed[ended] if beam.stochastic else np.inf
    if beam.stochastic:
        keys[:, :V] = perturb(hypotheses.perturbed, children[:, :V], noise)
    return children, keys


def _choose(children, keys, beam):
    """The flat indices (B,) of the children that are taken, group by group: of each the largest keys, the largest first.

    A token costs `diversity` nats for each slot of an earlier group that has taken it.
    """
    B, columns = children.shape
    size, cost, chosen = B // beam.groups, np.zeros(columns), np.empty(B, np.int64)
    for start in range(0, B, size):
        group = keys[start : start + size]
        best = start * columns + largest((group - cost if start else group).reshape(-1), size)
        chosen[start : start + size] = best
        np.add.at(cost, best[children.reshape(-1)[best] > -np.inf] % columns, beam.diversity)
        cost[-1] = 0  # to keep a slot is free
    return chosen


def _settle(hypotheses, parents, tokens, log_probability, keys, beam, V):
    """Move the hypotheses to the slots that they have taken."""
    hypotheses.log_probability[...] = log_probability
    hypotheses.length[...] = hypotheses.length[parents] + (tokens < V)
    hypotheses.finished[...] = (hypotheses.finished[parents] | (tokens == beam.end)) & (log_probability > -np.inf)
    if beam.stochastic:
        hypotheses.perturbed[...] = keys


def over(hypotheses, steps, beam):
    """Whether nothing that may come after so many steps can change the `wanted` best texts of any group.

    No hypothesis that goes on can rank higher than its bound: log p only falls, and lp is largest at the longest.
    """
    live = (hypotheses.log_probability > -np.inf) & ~hypotheses.finished
    if steps == beam.longest or not live.any():
        return True
    if not hypotheses.finished.any():
        return False
    ranks = np.where(hypotheses.finished, rank(hypotheses, hypotheses.length, beam), -np.inf).reshape(beam.groups, -1)
    bounds = np.where(live, rank(hypotheses, beam.longest, beam), -np.inf).reshape(beam.groups, -1)
    as_high = (ranks >= bounds.max(axis=1, keepdims=True)).sum(axis=1)
    return bool((as_high >= min(beam.wanted, ranks.shape[1])).all())


def rank(hypotheses, length, beam):
    """Rank hypotheses (B,) of these lengths: by score, or by G in a stochastic beam."""
    return hypotheses.perturbed if beam.stochastic else score(hypotheses.log_probability, length, beam.length_penalty)


def score(log_probability, length, length_penalty):
    """log p / lp, lp = ((5 + length) / 6)^alpha: Wu et al. 2016, eq. 14."""
    return log_probability / ((5 + length) / 6) ** length_penalty


BLOCKS = 16  # for each of the largest keys that are looked for


def largest(keys, count):
    """The indices (count,) of the largest of keys (M,), the largest first, of equals the first.

    At least `count` keys are as large as the count-th largest of the maxima of blocks: the others need no sorting.
    """
    block = max(1, len(keys) // (BLOCKS * count))
    maxima = keys[: len(keys) // block * block].reshape(-1, block).max(axis=1)
    found = np.flatnonzero(keys >= np.partition(maxima, -count)[-count])
    return found[np.argsort(-keys[found], kind="stable")[:count]]


def perturb(parents, children, noise):
    """G (B, V) of the children: log-probabilities plus Gumbel noise, given that their largest is the parent's G.

    parents (B,): G. children (B, V): log p. Kool, van Hoof & Welling 2019, algorithm 1 and appendix B.3: with
    Z = the largest of the unconditioned ones, G = -log(exp(-G_parent) - exp(-Z) + exp(-G)), in its stable form.
    """
    free = children + noise
    alive = (free.max(axis=1) > -np.inf)[:, None]
    T, Z = np.where(alive, parents[:, None], 0.0), np.where(alive, free.max(axis=1, keepdims=True), 0.0)
    with np.errstate(divide="ignore"):  # log 0: the largest child gets its parent's G, an impossible one -inf
        v = T - free + log1mexp(np.minimum(free - Z, 0.0))
    return np.where(alive, T - np.maximum(v, 0.0) - np.log1p(np.exp(-np.abs(v))), -np.inf)


def log1mexp(x):
    """log(1 - exp(x)) for x <= 0 (Maechler 2012, "Accurately Computing log(1 - exp(-|a|))")."""
    return np.where(x > -np.log(2), np.log(-np.expm1(x)), np.log1p(-np.exp(x)))
