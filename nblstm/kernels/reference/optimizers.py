"""Update rules over flat arrays."""

from __future__ import annotations

import numpy as np


def adam(w, m, v, g, lr, beta1, beta2, eps, weight_decay, decoupled, step, scale, threads):
    """Adam (Kingma & Ba 2015, algorithm 1), PyTorch's form; w, m, v (P,) updated in place. step counts from 1.

    The gradient is scale * g + weight_decay * w; `scale` is how global-norm clipping arrives here. decoupled: the
    decay of AdamW (Loshchilov & Hutter 2019, algorithm 2), w is first multiplied by 1 - lr * decoupled.
    The article's eq. 10 names the two moments the other way round, and leaves out the bias correction.
    """
    kind = w.dtype.type
    g = g * kind(scale) + kind(weight_decay) * w
    m[...] = kind(beta1) * m + kind(1 - beta1) * g
    v[...] = kind(beta2) * v + kind(1 - beta2) * (g * g)
    rate = kind(lr / (1 - beta1**step))
    w *= kind(1 - lr * decoupled)
    w -= rate * m / (np.sqrt(v) * kind(1 / np.sqrt(1 - beta2**step)) + kind(eps))


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
