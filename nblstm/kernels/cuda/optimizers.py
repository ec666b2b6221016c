"""Update rules over flat arrays, on a card."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import cuda

from nblstm.kernels.cuda.arrays import copy_back, launch, on_card
from nblstm.kernels.reference.optimizers import adam_rule


@cuda.jit
def _adam(count, w, m, v, g, rule):
    i = cuda.grid(1)
    if i < count:
        rate, keep1, take1, keep2, take2, correction, eps, weight_decay, shrink, scale = rule
        d = g[i] * scale + weight_decay * w[i]
        m[i] = keep1 * m[i] + take1 * d
        v[i] = keep2 * v[i] + take2 * (d * d)
        w[i] = w[i] * shrink - rate * m[i] / (np.float32(math.sqrt(v[i])) * correction + eps)


def adam(w, m, v, g, settings, step, scale, threads):
    """See reference.adam."""
    _update(_adam, (w, m, v), g, tuple(adam_rule(np.float32, settings, step, scale)))


@cuda.jit
def _sgd(count, w, m, g, lr, momentum, weight_decay, scale):
    i = cuda.grid(1)
    if i < count:
        m[i] = momentum * m[i] + (g[i] * scale + weight_decay * w[i])
        w[i] -= lr * m[i]


@cuda.jit
def _nesterov(count, w, m, g, lr, momentum, weight_decay, scale):
    i = cuda.grid(1)
    if i < count:
        d = g[i] * scale + weight_decay * w[i]
        m[i] = momentum * m[i] + d
        w[i] -= lr * (d + momentum * m[i])


def sgd(w, m, g, lr, momentum, nesterov, weight_decay, scale, threads):
    """See reference.sgd."""
    _update(_nesterov if nesterov else _sgd, (w, m), g, *map(np.float32, (lr, momentum, weight_decay, scale)))


@cuda.jit
def _average(count, a, w, share):
    i = cuda.grid(1)
    if i < count:
        a[i] += share * (w[i] - a[i])


def average(a, w, share, threads):
    """See reference.average."""
    _update(_average, (a,), w, np.float32(share))


@cuda.jit
def _rmsprop(count, w, v, g, lr, alpha, rest, eps, weight_decay, scale):
    i = cuda.grid(1)
    if i < count:
        d = g[i] * scale + weight_decay * w[i]
        v[i] = alpha * v[i] + rest * (d * d)
        w[i] -= lr * d / (np.float32(math.sqrt(v[i])) + eps)


def rmsprop(w, v, g, lr, alpha, eps, weight_decay, scale, threads):
    """See reference.rmsprop."""
    _update(_rmsprop, (w, v), g, *map(np.float32, (lr, alpha, 1 - alpha, eps, weight_decay, scale)))


def _update(kernel: Any, changed: tuple[Any, ...], g: Any, *numbers: Any) -> None:
    """Launch an elementwise kernel that changes some arrays by another and some numbers."""
    flats = [on_card(x) for x in changed]
    launch(kernel, g.size, *flats, on_card(g), *numbers)
    for x, flat in zip(changed, flats):
        copy_back(x, flat)
