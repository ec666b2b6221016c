"""Decoding with weights that were made ready for it: the runtime where there is no numba, three times as fast.

What the specification computes gate by gate is one call here. The product of a token's vector with the first layer, and the
biases, are a table of the tokens, where that is not larger than what it replaces. In other layers W and U stand side by side
and x beside h. As sigmoid(z) = (1 + tanh(z / 2)) / 2, the gates that are sigmoids come first, with half their weights, and one
tanh makes all of them. All matrices are transposed and contiguous: NumPy's BLAS reads them along their rows then.

At these sizes a call of NumPy takes longer than its numbers. So what a state is read with is looked up once (`reader`), every
result has its place, and one text has arrays of one dimension fewer: its layers' h lie side by side already.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf, nextafter
from operator import is_
from typing import Any, NamedTuple

import numpy as np

from nblstm.kernels.cells.functions import noticed
from nblstm.kernels.reference.drawing import cut, discourage

Reader = Callable[[Any], None]  # of tokens (N,), or of the token of one text, a whole number

SIGMOIDS = {"lstm": ((0, 1, 3), (2,)), "gru": ((0, 1), (2,))}  # the gates that are sigmoids, and the others
LINE = 64  # bytes of a cache line
TABLE_SIZE = 1 << 20  # numbers that a table may have beyond the weights it replaces


class PreparedWeights(NamedTuple):
    """What `prepare` makes of a network's weights; only read."""

    net: Any  # `kernels.DecoderWeights`
    table: np.ndarray | None  # (V, columns of z): the first layer's pre-activations of each token
    weights: list[np.ndarray]  # of every layer (D + H, columns), the first (H, columns) where there is a table
    biases: list[np.ndarray | None]  # (columns,)
    head: np.ndarray  # (F, V)


class PreparedWork:
    """What one caller decodes with: the weights, and the `reader` of the state that was read into last."""

    def __init__(self, prepared: PreparedWeights) -> None:
        self.prepared = prepared
        self._last: tuple[Any, Reader] | None = None

    def reader(self, state: Any) -> Reader:
        """Return the `reader` of this state."""
        if self._last is None or not all(map(is_, state, self._last[0])):
            self._last = state, reader(state, self.prepared)
        return self._last[1]


def is_prepared(cell: Any) -> bool:
    """Tell whether networks of such cells are decoded with prepared weights."""
    return cell.kind in SIGMOIDS and not cell.has_options


def prepare(net: Any) -> Any:
    """Return PreparedWeights, or net itself where the specification decodes: other cells, and options of them."""
    if not is_prepared(net.cells[0]):
        return net
    columns = [_columns(cell, weights) for cell, weights in zip(net.cells, net.layers)]
    W, U, bias = columns[0]
    table = None
    if net.embedding.shape[0] * W.shape[1] <= net.embedding.size + W.size + TABLE_SIZE and not _adds_input(net, 0):
        table = net.embedding @ W + bias
        columns[0] = W[:0], U, None
    joined = [_aligned(np.concatenate([W, U])) for W, U, _ in columns]
    return PreparedWeights(net, table, joined, [bias for _, _, bias in columns], _aligned(net.head_weight.T))


def _aligned(matrix: np.ndarray) -> np.ndarray:
    """Copy a matrix, C-contiguous, to where a cache line begins: no vector that is read then lies in two of them."""
    room = np.empty(matrix.size + LINE // matrix.itemsize, matrix.dtype)
    start = -room.__array_interface__["data"][0] % LINE // room.itemsize
    copy = room[start : start + matrix.size].reshape(matrix.shape)
    copy[...] = matrix
    return copy


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


# ---------------------------------------------------------------- reading


def reader(state, prepared):
    """Return the Reader that does to a state what `decode` does. state: `kernels.DecoderState`."""
    net, table, biases, head = prepared.net, prepared.table, prepared.biases, prepared.head
    layers, first, finish = _layers(state, prepared)
    features, logits = _of_texts(state.features), _of_texts(state.logits) if len(state.logits) else None

    def read(tokens):
        if table is None:
            first[...] = net.embedding[tokens]
        for k, layer in enumerate(layers):
            layer(table[tokens] if biases[k] is None else biases[k])
        for put in finish:
            put()
        if logits is not None:
            features.dot(head, logits)
            np.add(logits, net.head_bias, logits)

    return read


def _of_texts(array):
    """Return an array (N, ...) of texts, that of one text (...)."""
    return array[0] if len(array) == 1 else array


def _layers(state, prepared):
    """Return (what reads each layer, given its bias; where the first one's input is put; what then makes the features)."""
    net, layers, first, (_, N, H) = prepared.net, [], None, state.h.shape
    h, c = ([_of_texts(each) for each in array] for array in (state.h, state.c))
    z = np.empty((*h[0].shape[:-1], prepared.weights[0].shape[1]), h[0].dtype)
    output = x = None  # of the layer below, and what is added to it
    for k, weights in enumerate(prepared.weights):
        D, before, place = len(weights) - H, [], None
        if D == 0:
            row = h[k]
        elif k > 0 and x is None and N == 1 and state.h.flags.c_contiguous:
            row, place = state.h[k - 1 : k + 1].reshape(-1), output  # they lie side by side
        else:
            row = np.empty((*z.shape[:-1], D + H), z.dtype)
            place, before = row[..., :D], [partial(np.copyto, row[..., D:], h[k])]
            first = place if k == 0 else first
            before += [_put(place, output, x)] if k > 0 else []
        layers.append(_layer(before, row, weights, z, STEPS[net.cells[k].kind](z, h[k], c[k])))
        output, x = h[k], place if net.residual and D == H else None
    features = _of_texts(state.features)
    memory = [partial(np.copyto, features[..., H:], c[-1])] if net.with_memory else []
    return layers, first, [_put(features[..., :H], output, x), *memory]


def _put(place, output, x):
    """Return what puts a layer's output, or its sum with x, in its place."""
    return partial(np.copyto, place, output) if x is None else partial(np.add, output, x, place)


def _layer(before, row, weights, z, step):
    """Return what reads a layer, given its bias or what the table has: z = row weights + bias, then the step."""
    flat, zeros = z.reshape(-1), np.zeros(z.size, z.dtype)

    def read(bias):
        for put in before:
            put()
        row.dot(weights, z)
        np.add(z, bias, z)
        if flat.dot(zeros) != 0:  # NaN: a number is not finite
            z[...] = noticed(z)
        step()

    return read


def lstm_step(z, h, c):
    """Return what takes h and c (N, H) a step on, from z (N, 4 H): i, f and o halved, then g. It is overwritten."""
    H, half = h.shape[-1], np.array(0.5, z.dtype)  # a number of Python is converted at every call
    gates, (i, f, o, g) = z[..., : 3 * H], (z[..., k * H : (k + 1) * H] for k in range(4))

    def step():
        np.tanh(z, z)
        np.multiply(gates, half, gates)
        np.add(gates, half, gates)
        np.multiply(c, f, c)
        np.multiply(g, i, g)
        np.add(c, g, c)  # c = f c + i g
        np.tanh(c, h)
        np.multiply(h, o, h)  # h = o tanh(c)

    return step


def gru_step(z, h, c):
    """Return what takes h (N, H) a step on, from z (N, 4 H): r and u halved, U_n h + b, W_n x + b. It is overwritten."""
    H, half = h.shape[-1], np.array(0.5, z.dtype)
    gates, (r, u, n, a) = z[..., : 2 * H], (z[..., k * H : (k + 1) * H] for k in range(4))

    def step():
        np.tanh(gates, gates)
        np.multiply(gates, half, gates)
        np.add(gates, half, gates)
        np.multiply(n, r, n)
        np.add(n, a, n)
        np.tanh(n, n)  # n = tanh(a + r b)
        np.subtract(h, n, h)
        np.multiply(h, u, h)
        np.add(h, n, h)  # h = (1 - u) n + u h

    return step


STEPS = {"lstm": lstm_step, "gru": gru_step}


# ---------------------------------------------------------------- drawing


def generate_one(history, length, state, uniform, banned, filters, read):
    """`generate` of one text: history (S,), uniform (K,). read: its Reader."""
    draw = drawer(state.logits[0], history, banned, filters)
    with np.errstate(over="ignore", invalid="ignore"):
        for k, number in enumerate(uniform.tolist(), length):
            history[k] = token = draw(number, k)
            read(max(token, 0))


def drawer(logits, history, banned, filters):
    """Return what draws a token of one text as `draw` does: (its uniform number, how many tokens are before) -> token.

    logits (V,), history (S,).
    """
    z, weights, barred = np.empty(len(logits)), np.empty(len(logits)), np.zeros(len(logits))
    barred[banned] = -inf
    repeats, cuts, temperature = filters.repeats, filters.cuts, filters.temperature

    def draw(number, length):
        np.add(logits, barred, z)
        most = z.item(z.argmax())  # NaN if one of them is
        if not -inf < most < inf:
            return -1
        if repeats:
            discourage(z, history[:length], filters)
        best = int(z.argmax())
        if temperature == 0:
            return best
        np.subtract(z, z[best], z)
        if temperature != 1:
            np.divide(z, temperature, z)
        np.exp(z, weights)
        if cuts:
            cut(weights[None], z[None], filters)
        cumulative = np.add.accumulate(weights)
        total = cumulative.item(-1)
        return int(cumulative.searchsorted(min(number * total, nextafter(total, 0)), "right"))

    return draw
