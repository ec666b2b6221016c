"""Update rules over flat arrays."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class AdamRule(NamedTuple):
    """An update by `adam`, as numbers of the type of the parameters."""

    rate: np.floating
    keep1: np.floating  # beta1, and what is taken of the gradient
    take1: np.floating
    keep2: np.floating
    take2: np.floating
    correction: np.floating
    eps: np.floating
    weight_decay: np.floating
    shrink: np.floating
    scale: np.floating


def adam_rule(kind, settings, step, scale):
    """The numbers of the step-th update, of this type."""
    lr, beta1, beta2, eps, weight_decay, decoupled = settings
    numbers = (
        lr / (1 - beta1**step), beta1, 1 - beta1, beta2, 1 - beta2, 1 / np.sqrt(1 - beta2**step), eps, weight_decay,
        1 - lr * decoupled, scale,
    )  # fmt: skip
    return AdamRule(*map(kind, numbers))


def adam(w, m, v, g, settings, step, scale, threads):
    """Adam (Kingma & Ba 2015, algorithm 1), PyTorch's form; w, m, v (P,) updated in place. step counts from 1.

    The gradient is scale * g + weight_decay * w; `scale` is how global-norm clipping arrives here. settings:
    `kernels.AdamSettings`; decoupled: the decay of AdamW (Loshchilov & Hutter 2019, algorithm 2), w is first multiplied
    by 1 - lr * decoupled. The article's eq. 10 names the two moments the other way round, and leaves out the bias
    correction.
    """
    rate, keep1, take1, keep2, take2, correction, eps, weight_decay, shrink, scale = adam_rule(
        w.dtype.type, settings, step, scale
    )
    g = g * scale + weight_decay * w
    m[...] = keep1 * m + take1 * g
    v[...] = keep2 * v + take2 * (g * g)
    w *= shrink
    w -= rate * m / (np.sqrt(v) * correction + eps)


def sgd(w, m, g, lr, momentum, nesterov, weight_decay, scale, threads):
    """Gradient descent with momentum, PyTorch's form: m = momentum m + g, w -= lr m. w, m (P,) in place.

    nesterov: w -= lr (g + momentum m) instead (Sutskever et al. 2013, eq. 4, at the point where it looks ahead).
    """
    kind = w.dtype.type
    g = g * kind(scale) + kind(weight_decay) * w
    m[...] = kind(momentum) * m + g
    w -= kind(lr) * (g + kind(momentum) * m if nesterov else m)


def average(a, w, share, threads):
    """a += share * (w - a): the running mean of w where share is 1 over how many have come. a, w (P,)."""
    a += a.dtype.type(share) * (w - a)


def rmsprop(w, v, g, lr, alpha, eps, weight_decay, scale, threads):
    """RMSprop (Hinton's lecture 6e), PyTorch's form: v averages g^2, w -= lr g / (sqrt(v) + eps). In place."""
    kind = w.dtype.type
    g = g * kind(scale) + kind(weight_decay) * w
    v[...] = kind(alpha) * v + kind(1 - alpha) * (g * g)
    w -= kind(lr) * g / (np.sqrt(v) + kind(eps))
