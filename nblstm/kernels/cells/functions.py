"""Functions that the specifications of several cells share: the sigmoid, and layer normalisation."""

from __future__ import annotations

import numpy as np


def sigmoid(x):
    """1 / (1 + exp(-x)), without overflow: exp is only taken of numbers <= 0. Any shape."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e))


def noticed(a, b=None):
    """a, NaN where a + b is not finite, which then shows in the end: 0 or 1 of a sum that overflowed would not. Any shape."""
    finite = np.isfinite(a if b is None else a + b)
    return a if finite.all() else np.where(finite, a, a.dtype.type(np.nan))


def squashed(c, weights, cell):
    """(tanh(c), what its gradient needs); with layer normalisation tanh(gain_c norm(c) + bias_c), eq. 22."""
    if not cell.layer_norm:
        return np.tanh(c), None
    norm = normalize(c)
    return np.tanh(norm[0] * weights["gain_c"] + weights["bias_c"]), norm


def squashed_backward(d, tanh_c, norm, weights, grads, cell):
    """The gradient of c from d, that of tanh(c)."""
    d = d * (1 - tanh_c * tanh_c)
    if not cell.layer_norm:
        return d
    grads["gain_c"] += (d * norm[0]).sum(axis=0)
    grads["bias_c"] += d.sum(axis=0)
    return normalize_backward(d * weights["gain_c"], norm)


def normalize(x):
    """(x_hat, 1 / sigma): every row with mean 0 and variance 1 (Ba, Kiros & Hinton 2016, eq. 4; epsilon 1e-5)."""
    centred = x - x.mean(axis=1, keepdims=True)
    scale = 1 / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + x.dtype.type(1e-5))
    return centred * scale, scale


def normalize_backward(d, norm):
    """The gradient of x from d, that of x_hat."""
    x_hat, scale = norm
    return scale * (d - d.mean(axis=1, keepdims=True) - x_hat * (d * x_hat).mean(axis=1, keepdims=True))
