"""Decoding with weights that were made ready for it: the runtime where there is no numba, three times as fast.

What the specification computes gate by gate is one call here. The product of a token's vector with the first layer, and the
biases, are a table of the tokens, where that is not larger than what it replaces. In other layers W and U stand side by side
and x beside h. As sigmoid(z) = (1 + tanh(z / 2)) / 2, the gates that are sigmoids come first, with half their weights, and one
tanh makes all of them. All matrices are transposed and contiguous: NumPy's BLAS reads them along their rows then.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nblstm.kernels.cells.functions import noticed

SIGMOIDS = {"lstm": ((0, 1, 3), (2,)), "gru": ((0, 1), (2,))}  # the gates that are sigmoids, and the others
TABLE_SIZE = 1 << 20  # numbers that a table may have beyond the weights it replaces


class PreparedWeights(NamedTuple):
    """What `prepare` makes of a network's weights; only read."""

    net: Any  # `kernels.DecoderWeights`
    table: np.ndarray | None  # (V, columns of z): the first layer's pre-activations of each token
    weights: list[np.ndarray]  # of every layer (D + H, columns), the first (H, columns) where there is a table
    biases: list[np.ndarray | None]  # (columns,)
    head: np.ndarray  # (F, V)


class PreparedWork(NamedTuple):
    """What one caller decodes up to N texts with."""

    prepared: PreparedWeights
    z: np.ndarray  # (N, columns)
    joined: np.ndarray  # (N, the most of D + H)
    half: np.ndarray  # 1 / 2, of the weights' type: a number of Python is converted at every call


def prepare(net: Any) -> Any:
    """Return PreparedWeights, or net itself where the specification decodes: other cells, and options of them."""
    cell = net.cells[0]
    if cell.kind not in SIGMOIDS or cell.is_specified:
        return net
    columns = [_columns(cell, weights) for cell, weights in zip(net.cells, net.layers)]
    W, U, bias = columns[0]
    table = None
    if net.embedding.shape[0] * W.shape[1] <= net.embedding.size + W.size + TABLE_SIZE and not _adds_input(net, 0):
        table = net.embedding @ W + bias
        columns[0] = W[:0], U, None
    joined = [np.ascontiguousarray(np.concatenate([W, U])) for W, U, _ in columns]
    return PreparedWeights(
        net, table, joined, [bias for _, _, bias in columns], np.ascontiguousarray(net.head_weight.T)
    )


def prepare_work(prepared: PreparedWeights, N: int) -> PreparedWork:
    """Make room for up to N texts."""
    dtype, columns = prepared.head.dtype, prepared.weights[0].shape[1]
    room = lambda width: np.empty((N, width), dtype)
    return PreparedWork(
        prepared, room(columns), room(max(len(weights) for weights in prepared.weights)), np.array(0.5, dtype)
    )


def _adds_input(net: Any, layer: int) -> bool:
    """Tell whether a layer's input is added to its output."""
    return net.residual and net.cells[layer].input_size == net.cells[layer].output_size


def _columns(cell: Any, weights: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return W (D, columns), U (H, columns) and the bias (columns,): z = x W + h U + bias, the sigmoids' part halved.

    A GRU has four parts: r, u, the product with h that r multiplies, and the rest of n.
    """
    H, half, dtype = cell.hidden_size, np.array(0.5), weights["weight_ih"].dtype
    sigmoids, others = SIGMOIDS[cell.kind]
    order = [*sigmoids, *others]
    scale = np.repeat(np.where(np.arange(len(order)) < len(sigmoids), half, 1.0), H).astype(dtype)
    parts = lambda array: array.reshape(-1, H, *array.shape[1:])[order].reshape(array.shape)
    W, U = (parts(weights[f"weight_{side}"]).T * scale for side in ("ih", "hh"))
    a, b = (parts(weights[f"bias_{side}"]) * scale for side in ("ih", "hh"))
    if cell.kind == "lstm":
        return W, U, a + b
    nothing = lambda rows: np.zeros((rows, H), dtype)
    W = np.concatenate([W[:, : 2 * H], nothing(len(W)), W[:, 2 * H :]], axis=1)
    U = np.concatenate([U, nothing(len(U))], axis=1)
    return W, U, np.concatenate([a[: 2 * H] + b[: 2 * H], b[2 * H :], a[2 * H :]])


def decode_prepared(state, tokens, work):
    """See `decode`."""
    (h, c, features, logits), prepared, N = state, work.prepared, len(tokens)
    net, z, x = prepared.net, work.z[:N], None
    step = lstm_step if net.cells[0].kind == "lstm" else gru_step
    if prepared.table is None:
        x = net.embedding[tokens]
    for k, (weights, bias) in enumerate(zip(prepared.weights, prepared.biases)):
        if x is None:
            np.dot(h[k], weights, out=z)
            z += prepared.table[tokens]
        else:
            joined, D = work.joined[:N, : len(weights)], x.shape[1]
            joined[:, :D], joined[:, D:] = x, h[k]
            np.dot(joined, weights, out=z)
            z += bias
        step(noticed(z), h[k], c[k], work.half)
        x = h[k] + x if net.residual and x is not None and x.shape == h[k].shape else h[k]
    features[...] = np.concatenate([x, c[-1]], axis=1) if net.with_memory else x
    if len(logits):
        np.matmul(features, prepared.head, out=logits)
        logits += net.head_bias


def lstm_step(z, h, c, half):
    """Take h and c (N, H) a step on, in place, from z (N, 4 H): i, f and o halved, then g. It is overwritten."""
    H = h.shape[1]
    np.tanh(z, out=z)
    gates, g = z[:, : 3 * H], z[:, 3 * H :]
    gates *= half
    gates += half
    c *= z[:, H : 2 * H]
    g *= z[:, :H]
    c += g  # c = f c + i g
    np.tanh(c, out=h)
    h *= z[:, 2 * H : 3 * H]  # h = o tanh(c)


def gru_step(z, h, c, half):
    """Take h (N, H) a step on, in place, from z (N, 4 H): r and u halved, U_n h + b, W_n x + b. It is overwritten."""
    H = h.shape[1]
    gates, n, other = z[:, : 2 * H], z[:, 2 * H : 3 * H], z[:, 3 * H :]
    np.tanh(gates, out=gates)
    gates *= half
    gates += half
    n *= z[:, :H]
    n += other
    np.tanh(n, out=n)  # n = tanh(a + r b)
    h -= n
    h *= z[:, H : 2 * H]
    h += n  # h = (1 - u) n + u h
