"""Drawing the next token."""

from __future__ import annotations

import numpy as np


def draw(tokens, logits, uniform, history, banned, filters, threads):
    """tokens[n] drawn from what the filters leave of softmax(logits[n] / temperature).

    tokens (N,) int64, logits (N, V), uniform (N,) float64 in [0, 1), history (N, S) int64: the tokens before.
    banned (B,) int64: ids that are never drawn, fewer than V. filters: see `kernels.Filters`, in this order:

    1. no token that would repeat no_repeat_ngram tokens of the history, unless that leaves none;
    2. repetition_penalty: the logit of each token in the last repetition_window of the history (0: all of it) is
       divided by it where positive, else multiplied (Keskar et al. 2019, section 4.1); then it loses presence_penalty,
       and frequency_penalty for each time that the token is there;
    3. temperature 0: the most likely token, the first of equals, and done; else softmax(logits / temperature);
    4. top_k: the k most likely (Fan et al. 2018);
    5. top_p: the most likely until together they have at least top_p (Holtzman et al. 2020, section 3.1);
    6. min_p: those at least min_p times as likely as the most likely (Nguyen et al. 2024, section 3);
    7. typical_p: those whose surprise is closest to the entropy until together they have at least typical_p
       (Meister et al. 2023, section 3.2);
    8. the first token whose cumulative probability exceeds the uniform number.

    Steps 4 to 7 each start from the probabilities of what the one before left, and equals stay or go together.
    At least one token always stays. All in float64, the sums too.

    tokens[n] = -1 where the logits are no distribution: one is NaN or inf, or none is left above -inf.
    """
    z = logits.astype(np.float64)
    sound = np.maximum.reduce(z, axis=1) < np.inf  # the largest of numbers is NaN if one of them is
    z[:, banned] = -np.inf
    most = np.maximum.reduce(z, axis=1, keepdims=True)
    lost = ~(sound & (most[:, 0] > -np.inf))
    any_lost = lost.any()
    if any_lost:
        z[lost], most[lost] = 0, 0
    if filters.repeats:
        for row, before in zip(z, history):
            discourage(row, before, filters)
        most = z.max(axis=1, keepdims=True)
    if filters.temperature == 0:
        tokens[...] = np.where(lost, -1, z.argmax(axis=1))
        return
    with np.errstate(over="ignore"):  # a tiny temperature: -inf, and its exp is 0
        z -= most
        if filters.temperature != 1:
            z /= filters.temperature
    weights = np.exp(z)
    if filters.cuts:
        cut(weights, z, filters)
    cumulative = np.add.accumulate(weights, axis=1)
    total = cumulative[:, -1:]
    goal = np.minimum(uniform[:, None] * total, np.nextafter(total, 0))
    tokens[...] = (cumulative <= goal).sum(axis=1)
    if any_lost:
        tokens[lost] = -1


def discourage(z, history, filters):
    """Do steps 1 and 2 of `draw` to the logits z (V,) of one text, with the tokens before (S,)."""
    _forbid_repeats(z, history, filters.no_repeat_ngram)
    _penalise(z, history[-filters.repetition_window :], filters)  # [-0:] is all of it


def cut(weights, z, filters):
    """Do steps 4 to 7 of `draw` to weights (N, V), exp(z): 0 for what is left out."""
    if 0 < filters.top_k < z.shape[1]:
        weights[~best(z, np.ones_like(z), filters.top_k)] = 0
    if filters.top_p < 1:
        weights[~best(weights, weights, filters.top_p * weights.sum(axis=1, keepdims=True))] = 0
    if filters.min_p > 0:
        weights[weights < filters.min_p * weights.max(axis=1, keepdims=True)] = 0
    if filters.typical_p < 1:
        weights[~best(_typicality(weights, z), weights, filters.typical_p * weights.sum(axis=1, keepdims=True))] = 0


def _forbid_repeats(z, history, size):
    """z[v] = -inf where v would repeat a sequence of `size` tokens of the history, unless none is left. z (V,)."""
    if not 0 < size <= len(history):
        return
    sequences = np.lib.stride_tricks.sliding_window_view(history, size)
    suffix = history[len(history) - size + 1 :]
    forbidden = sequences[(sequences[:, :-1] == suffix).all(axis=1), -1]
    allowed = z.copy()
    allowed[forbidden] = -np.inf
    if allowed.max() > -np.inf:
        z[...] = allowed


def _penalise(z, history, filters):
    """z of every token in the history: divided by repetition_penalty where positive, else multiplied, and less. z (V,)."""
    seen, times = np.unique(history, return_counts=True)
    penalty = filters.repetition_penalty
    z[seen] = np.where(z[seen] > 0, z[seen] / penalty, z[seen] * penalty)
    z[seen] -= filters.presence_penalty + filters.frequency_penalty * times


def best(keys, weights, goal):
    """Which of the keys (N, V) are taken, highest first, until their weights (N, V) together reach the goal (N, 1).

    That is: those for which the weights of all higher keys are less than the goal. So equal keys are taken together,
    and at least one is, if the goal is above 0.
    """
    order = np.argsort(-keys, axis=1)
    ordered = np.take_along_axis(weights, order, axis=1)
    higher = ordered.cumsum(axis=1) - ordered  # rounded: -1e-17 or so instead of 0 does no harm
    last = (higher < goal).sum(axis=1, keepdims=True) - 1
    return keys >= np.take_along_axis(keys, np.take_along_axis(order, last, axis=1), axis=1)


def _typicality(weights, z):
    """Minus the distance of each surprise -log p from its mean, the entropy; -inf where p is 0. weights (N, V)."""
    log_p = np.where(weights > 0, z, 0) - np.log(weights.sum(axis=1, keepdims=True))
    p = weights / weights.sum(axis=1, keepdims=True)
    entropy = -(p * log_p).sum(axis=1, keepdims=True)
    return np.where(weights > 0, -np.abs(log_p + entropy), -np.inf)
