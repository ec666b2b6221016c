"""Update rules over flat arrays, on the CPU.

A kernel's last argument is its share.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels.cpu.jit import jit
from nblstm.kernels.cpu.products import panels
from nblstm.kernels.cpu.vectors import LANES, load, load_part, root, store, store_part
from nblstm.kernels.reference.optimizers import adam_rule
from nblstm.kernels.threads import parallel_for


@jit
def _adam(w, m, v, g, rule, share):
    """`reference.adam` of the vectors start ... stop, the last of which may be a part; rule: `AdamRule`"""
    _, start, stop, _, _ = share
    rate, keep1, take1, keep2, take2, correction, eps, weight_decay, shrink, scale = rule
    for i in range(start * LANES, min(stop * LANES, w.size), LANES):
        count = min(LANES, w.size - i)
        if count == LANES:
            w_, m_, v_, g_ = load(w, i), load(m, i), load(v, i), load(g, i)
        else:
            w_, m_, v_, g_ = (
                load_part(w, i, count, 0),
                load_part(m, i, count, 0),
                load_part(v, i, count, 0),
                load_part(g, i, count, 0),
            )
        gradient = g_ * scale + w_ * weight_decay
        m_ = m_ * keep1 + gradient * take1
        v_ = v_ * keep2 + gradient * gradient * take2
        w_ = w_ * shrink - m_ * rate / (root(v_) * correction + eps)
        if count == LANES:
            store(m, i, m_)
            store(v, i, v_)
            store(w, i, w_)
        else:
            store_part(m, i, m_, count)
            store_part(v, i, v_, count)
            store_part(w, i, w_, count)


def adam(w, m, v, g, settings, step, scale, threads):
    """See reference.adam."""
    rule = adam_rule(w.dtype.type, settings, step, scale)
    parallel_for(threads, _adam, panels(w.size, LANES), w, m, v, g, tuple(rule))


@jit
def _sgd(w, m, g, lr, momentum, own, carried, weight_decay, scale, share):
    """`reference.sgd` of elements start ... stop: w -= lr (own g + carried m)"""
    _, start, stop, _, _ = share
    for i in range(start, stop):
        gradient = g[i] * scale + weight_decay * w[i]
        m[i] = momentum * m[i] + gradient
        w[i] -= lr * (own * gradient + carried * m[i])


def sgd(w, m, g, lr, momentum, nesterov, weight_decay, scale, threads):
    """See reference.sgd."""
    kind = w.dtype.type
    own, carried = (1, momentum) if nesterov else (0, 1)
    parallel_for(
        threads, _sgd, w.size, w, m, g, kind(lr), kind(momentum), kind(own), kind(carried), kind(weight_decay),
        kind(scale),
    )  # fmt: skip


@jit
def _average(a, w, rate, share):
    """`reference.average` of elements start ... stop"""
    _, start, stop, _, _ = share
    for i in range(start, stop):
        a[i] += rate * (w[i] - a[i])


def average(a, w, share, threads):
    """See reference.average."""
    parallel_for(threads, _average, w.size, a, w, w.dtype.type(share))


@jit
def _rmsprop(w, v, g, lr, keep, take, eps, weight_decay, scale, share):
    """`reference.rmsprop` of elements start ... stop"""
    _, start, stop, _, _ = share
    for i in range(start, stop):
        gradient = g[i] * scale + weight_decay * w[i]
        v[i] = keep * v[i] + take * (gradient * gradient)
        w[i] -= lr * gradient / (np.sqrt(v[i]) + eps)


def rmsprop(w, v, g, lr, alpha, eps, weight_decay, scale, threads):
    """See reference.rmsprop."""
    kind = w.dtype.type
    parallel_for(
        threads, _rmsprop, w.size, w, v, g, kind(lr), kind(alpha), kind(1 - alpha), kind(eps), kind(weight_decay),
        kind(scale),
    )  # fmt: skip
