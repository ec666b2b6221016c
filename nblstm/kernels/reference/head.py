"""Heads: a linear layer, a squared error, and a softmax with its losses and their gradient."""

from __future__ import annotations

import numpy as np

from nblstm.kernels.threads import not_while_forking

# ---------------------------------------------------------------- linear layer


def linear_work(M, D, V, dtype, threads):
    """Scratch for `linear_forward` and `linear_backward` on up to M rows: NumPy needs none."""
    return ()


@not_while_forking
def linear_forward(y, work, x, weight, bias, threads):
    """y = x weight^T + bias. y (M, V), x (M, D), weight (V, D), bias (V,)."""
    np.matmul(x, weight.T, out=y)
    y += bias


@not_while_forking
def linear_backward(dx, dweight, dbias, dy, work, x, weight, threads):
    """dx (M, D) overwritten, dweight (V, D), dbias (V,) accumulated into; dy (M, V), x (M, D)."""
    np.matmul(dy, weight, out=dx)  # y = x weight^T
    dweight += dy.T @ x  # y = x weight^T
    dbias += dy.sum(axis=0)  # y = ... + bias


# ---------------------------------------------------------------- squared error


def squared_error(losses, dy, y, targets, scales, threads):
    """losses[m] = mean over v of (y[m, v] - targets[m, v])^2, and the gradient of sum(scales * losses).

    losses (M,); dy (M, V) overwritten, may be y; y, targets (M, V); scales (M,). (torch.nn.MSELoss.)
    """
    error = y - targets
    np.mean(error * error, axis=1, out=losses)
    np.multiply(error, scales[:, None] * y.dtype.type(2 / y.shape[1]), out=dy)  # error^2 / V


# ---------------------------------------------------------------- softmax head


def softmax_work(M, D, V, dtype, threads):
    """Scratch for `softmax_losses` on up to M rows: NumPy needs none."""
    return ()


def softmax_gradient_work(M, D, V, dtype, threads):
    """Scratch for `softmax_losses_and_gradient` on up to M rows: NumPy needs none."""
    return ()


def log_softmax(logits):
    """log(exp(logits) / sum exp(logits)) row by row, of the type of logits.

    Subtracting the largest logit first keeps exp finite. The sum is float64: its error would fall on every token of a
    text with the same sign.
    """
    shifted = logits - logits.max(axis=1, keepdims=True)
    total = np.exp(shifted).sum(axis=1, keepdims=True, dtype=np.float64)
    return (shifted - np.log(total)).astype(logits.dtype)


@not_while_forking
def softmax_losses(losses, work, x, targets, weight, bias, threads):
    """losses[m] = -log softmax(x weight^T + bias)[m, targets[m]], in nats.

    losses (M,), x (M, D), targets (M,) int, weight (V, D), bias (V,).
    """
    losses[...] = -log_softmax(x @ weight.T + bias)[np.arange(len(x)), targets]


@not_while_forking
def softmax_losses_and_gradient(losses, dx, dweight, dbias, work, x, loss, weight, bias, threads):
    """`softmax_losses` with class weights and label smoothing, and the gradient of sum(scales * losses).

        loss = (1 - e) w_target (-log p_target) + e / V sum_v w_v (-log p_v)

    (smoothing: Szegedy et al. 2016, section 7). loss: `kernels.CrossEntropy`, w its classes and e its smoothing.
    dx (M, D) overwritten, dweight (V, D), dbias (V,) accumulated into.
    """
    (targets, scales, classes, smoothing), rows, V = loss, np.arange(len(x)), len(bias)
    w = np.ones(V, x.dtype) if classes is None else classes
    log_p = log_softmax(x @ weight.T + bias)
    own = x.dtype.type(1 - smoothing) * w[targets]
    others = w * x.dtype.type(smoothing / V)
    losses[...] = -own * log_p[rows, targets]
    if smoothing > 0:
        losses -= log_p @ others
    wanted = np.tile(others, (len(x), 1))  # of each token: how much its -log p counts
    wanted[rows, targets] += own
    dlogits = np.exp(log_p) * wanted.sum(axis=1, keepdims=True) - wanted  # d -log p_v = softmax - one-hot_v
    dlogits *= scales[:, None]
    linear_backward(dx, dweight, dbias, dlogits, (), x, weight, threads)
