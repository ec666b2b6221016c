"""The neural cache: a distribution over the tokens that have been, by how much the hidden states before them are like now's.

Grave, Joulin & Usunier 2017, "Improving neural language models with a continuous cache", section 3. Position i of a text
has the hidden state h_i, which has seen x_1 ... x_i, and predicts x_{i+1}. At t the cache holds the last `size` positions
before t:

    s_i = theta h_t . h_i
    p_cache(w) = sum over i of exp(s_i) 1{w = x_{i+1}} / sum over i of exp(s_i)                              (eq. 2, 3)
    p(w) = (1 - share) p_model(w) + share p_cache(w)           share: the paper's lambda                     (eq. 4)

At the first position there is nothing in the cache, and p is p_model.
"""

from __future__ import annotations

import numpy as np


def cache_losses(losses, similarity, targets, cache, threads):
    """-log p(target) of rows, in nats, in place of -log p_model(target).

    losses (M,): overwritten. similarity (M, S + M): h_t . h_i of the rows and all positions that are known, S before the rows
    and the rows themselves, of which each looks back only. targets (S + M,) int32: x_{i+1} of every position. cache:
    `NeuralCache`.
    """
    M, positions = similarity.shape
    for m in range(M):
        here = positions - M + m
        window = slice(max(0, here - cache.size), here)
        if window.start == here:
            continue
        s = cache.theta * similarity[m, window].astype(np.float64)
        e = np.exp(s - s.max())
        seen = e[targets[window] == targets[here]].sum() / e.sum()  # p_cache(target)
        with np.errstate(divide="ignore", invalid="ignore"):  # log 0 = -inf: a target that is not in the cache
            # log p = log((1 - share) p_model + share p_cache)
            losses[m] = -np.logaddexp(np.log1p(-cache.share) - losses[m], np.log(cache.share * seen))
