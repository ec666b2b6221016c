"""A linear-chain conditional random field: losses of tags, their gradient, and the best tags of a text.

Of a text's T steps with emissions e_t (K,), tags y_1 .. y_T have the score

    s(y) = start[y_1] + sum over t of e_t[y_t] + sum over t > 1 of A[y_{t-1}, y_t] + end[y_T]

and the probability exp(s(y)) / Z, Z the sum of exp(s) over all K^T tags (Lafferty, McCallum & Pereira 2001; as a network's
last layer: Collobert et al. 2011, section 3.2.4). With everything as logarithms, over what comes before and behind a step:

    a_1 = start + e_1        a_t[j] = e_t[j] + log sum over i of exp(a_{t-1}[i] + A[i, j])                  (forward)
    b_T = end                b_{t-1}[i] = log sum over j of exp(A[i, j] + e_t[j] + b_t[j])                  (backward)
    log Z = log sum over j of exp(a_T[j] + end[j])        p(y_t = j) = exp(a_t[j] + b_t[j]) / Z
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.packed import indices, last_rows, texts_of_rows
from nblstm.kernels.reference.head import log_softmax


def crf_work(M, K, dtype, threads):
    """Scratch for `crf_losses` and `crf_losses_and_gradient` on up to M rows of K tags: NumPy needs none."""
    return ()


def rows_before(offsets):
    """(M - N,): the row of the step before, of each row behind the first step."""
    return np.arange(offsets[1], offsets[-1]) - np.repeat(np.diff(offsets)[:-1], indices(np.diff(offsets)[1:]))


def log_sum_exp(x, axis):
    """log of the sum of exp(x) along an axis, which may be infinite nowhere."""
    peak = x.max(axis=axis, keepdims=True)
    return np.squeeze(peak, axis) + np.log(np.exp(x - peak).sum(axis=axis))


def forward_scores(emissions, chain, offsets):
    """a (M, K) of every row, in float64 at least."""
    a = emissions + chain.start.astype(np.result_type(emissions, np.float64))
    for first, second, last in zip(offsets, offsets[1:], offsets[2:]):
        before = a[first : first + last - second]
        a[second:last] = emissions[second:last] + log_sum_exp(before[:, :, None] + chain.transitions, axis=1)
    return a


def backward_scores(emissions, chain, offsets):
    """b (M, K) of every row, in float64 at least."""
    b = np.zeros_like(emissions, np.result_type(emissions, np.float64)) + chain.end
    for first, second, last in list(zip(offsets, offsets[1:], offsets[2:]))[::-1]:
        ahead = emissions[second:last] + b[second:last]
        b[first : first + last - second] = log_sum_exp(chain.transitions + ahead[:, None, :], axis=2)
    return b


def crf_losses(losses, work, emissions, targets, chain, offsets, threads):
    """losses[m] = -log p(tag of row m | the text's emissions and its tags before), in nats; those of a text add up to
    log Z - s(y).

        p(y_t = j | y_{t-1} = i) = softmax over j of A[i, j] + e_t[j] + b_t[j],   start[j] in place of A[i, j] at t = 1

    losses (M,), emissions (M, K), targets (M,) int, chain `Chain`.
    """
    _losses(losses, emissions + backward_scores(emissions, chain, offsets), targets, chain, offsets)


def _losses(losses, ahead, targets, chain, offsets):
    """`crf_losses` from e + b (M, K)."""
    scores = ahead + chain.start
    scores[offsets[1] :] = ahead[offsets[1] :] + chain.transitions[targets[rows_before(offsets)]]
    losses[...] = -log_softmax(scores)[np.arange(len(targets)), targets]


def crf_losses_and_gradient(losses, demissions, dchain, work, emissions, targets, scales, chain, offsets, threads):
    """`crf_losses`, and the gradient of the sum over texts of scales[n] * (log Z - s(y)).

    demissions (M, K) overwritten; dchain, a `Chain`, accumulated into; scales (N,).
    """
    a, b = forward_scores(emissions, chain, offsets), backward_scores(emissions, chain, offsets)
    _losses(losses, emissions + b, targets, chain, offsets)
    # d log Z / d e_t[j] = p(y_t = j),  d s / d e_t[j] = 1 where j = y_t
    p = np.exp(log_softmax(a + b))
    p[np.arange(len(targets)), targets] -= 1
    p *= scales[texts_of_rows(offsets)][:, None]
    demissions[...] = p
    dchain.start[...] += p[: offsets[1]].sum(axis=0)
    dchain.end[...] += p[last_rows(offsets)].sum(axis=0)
    # d log Z / d A[i, j] = sum over t of p(y_{t-1} = i, y_t = j) = exp(a_{t-1}[i] + A[i, j] + e_t[j] + b_t[j]) / Z
    K = len(chain.start)
    for first, second, last in zip(offsets, offsets[1:], offsets[2:]):
        count = last - second
        before, here = slice(first, first + count), slice(second, last)
        scores = a[before, :, None] + chain.transitions + (emissions[here] + b[here])[:, None, :]
        pairs = np.exp(log_softmax(scores.reshape(count, K * K)))
        pairs[np.arange(count), targets[before] * K + targets[here]] -= 1
        dchain.transitions[...] += (scales[:count] @ pairs).reshape(K, K)


def crf_decode(tags, emissions, chain, offsets, threads):
    """The tags of the largest score s(y), of equal ones those with the lower tag at the last step that differs
    (Viterbi 1967). tags (M,) int32; transitions of -inf are not taken where there are others."""
    best, came_from = emissions + chain.start, np.zeros(emissions.shape, np.int32)
    for first, second, last in zip(offsets, offsets[1:], offsets[2:]):
        # best_t[j] = e_t[j] + max over i of best_{t-1}[i] + A[i, j]
        scores = best[first : first + last - second, :, None] + chain.transitions
        came_from[second:last] = scores.argmax(axis=1)
        best[second:last] = emissions[second:last] + scores.max(axis=1)
    ends = last_rows(offsets)
    tags[ends] = (best[ends] + chain.end).argmax(axis=1)
    for first, second, last in list(zip(offsets, offsets[1:], offsets[2:]))[::-1]:
        here = np.arange(second, last)
        tags[first : first + last - second] = came_from[here, tags[here]]
