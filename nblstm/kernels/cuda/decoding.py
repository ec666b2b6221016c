"""Decoding on a card: one token of each text through the whole network, and many in a row."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import cuda

from nblstm.errors import DeviceError
from nblstm.kernels import DecoderState, DecoderWeights, Outputs, Packed, reference
from nblstm.kernels.cuda.arrays import array, assign, empty, host, ids_on_card, on_card
from nblstm.kernels.cuda.device import ROW_THREADS
from nblstm.kernels.cuda.drawing import allowed_ids, draw_kernel, is_plain
from nblstm.kernels.cuda.elementwise import embedding_forward
from nblstm.kernels.cuda.head import linear_forward
from nblstm.kernels.cuda.recurrent import recurrent_forward, recurrent_work
from nblstm.kernels.reference.int8 import in_floats


def decode_weights(net, threads):
    """Copy the weights to the device. DeviceError for what no kernel computes."""
    net = in_floats(net)
    if net.residual or net.with_memory:
        raise DeviceError("device cuda has no residual layers and no cell head; choose cpu.")
    on_device = lambda x: array(x) if isinstance(x, np.ndarray) else x
    layers = [{name: on_device(weight) for name, weight in weights.items()} for weights in net.layers]
    return DecoderWeights(
        on_device(net.embedding), net.cells, layers, False, False, on_device(net.head_weight), on_device(net.head_bias)
    )


def decode_work(N, weights, threads):
    """Make ready the weights on the device, and buffers for one step of N texts."""
    works = recurrent_work(weights.cells, N, N, [0] * len(weights.cells), np.float32, threads)
    sizes = [weights.embedding.shape[1], *(cell.output_size for cell in weights.cells)]
    return weights, works, [empty((N, size), np.float32) for size in sizes]


def decode(state, tokens, work, threads):
    """See reference.decode. The state may be NumPy arrays: they are then copied there and back."""
    there = _StateOnCard(state)
    there.read(ids_on_card(tokens), work)
    there.back(state)


class _StateOnCard:
    """A `DecoderState` on the device while tokens are read."""

    def __init__(self, state: DecoderState) -> None:
        h, c, features, logits = state
        layers = range(len(h))
        self.N, self.h, self.c = h.shape[1], [array(h[k]) for k in layers], [self._there(c[k]) for k in layers]
        self.h_next = [empty((self.N, h.shape[2]), np.float32) for _ in layers]
        self.features, self.logits = empty(tuple(features.shape), np.float32), self._there(logits)

    @staticmethod
    def _there(x: np.ndarray) -> Any:
        """A copy on the device; what has no elements stays where it is."""
        return array(x) if x.size else x

    def read(self, tokens: Any, work: Any) -> None:
        """Read a token of each text, tokens (N,) int64 on the device."""
        net, works, inputs = work
        N, offsets = self.N, np.array([0, self.N])
        x = inputs[0][:N]
        embedding_forward(x, tokens, net.embedding, 1)
        for k, (cell, weights) in enumerate(zip(net.cells, net.layers)):
            y, h = inputs[k + 1][:N], self.h_next[k]
            packed = Packed(x, None, self.h[k], self.c[k], offsets)
            recurrent_forward(Outputs(y, None, h, self.c[k]), works[k], packed, weights, cell, 1)
            self.h[k], self.h_next[k], x = h, self.h[k], y
        assign(self.features, x)
        if len(self.logits):
            linear_forward(self.logits, (), x, net.head_weight, net.head_bias, 1)

    def back(self, state: DecoderState) -> None:
        """Copy everything to the NumPy arrays that it came from."""
        h, c, features, logits = state
        for k in range(len(h)):
            h[k], c[k] = host(self.h[k]), host(self.c[k])
        features[...], logits[...] = host(self.features), host(self.logits)


def generate(history, length, state, uniform, banned, filters, work, threads):
    """See reference.generate. Without filters beside the temperature nothing comes back before the last token."""
    K, (N, V), there = len(uniform), state.logits.shape, _StateOnCard(state)
    if is_plain(filters):
        drawn, numbers, allowed = cuda.device_array(K * N, np.int64), on_card(uniform), allowed_ids(V, banned)
        for k in range(K):
            tokens = drawn[k * N : (k + 1) * N]
            draw_kernel[N, ROW_THREADS](
                tokens, on_card(there.logits), numbers[k * N : (k + 1) * N], allowed, float(filters.temperature), V
            )
            there.read(tokens, work)
        history[:, length : length + K] = drawn.copy_to_host().reshape(K, N).T
    else:
        for k, numbers in enumerate(uniform, length):
            reference.draw(history[:, k], host(there.logits), numbers, history[:, :k], banned, filters, threads)
            there.read(ids_on_card(history[:, k]), work)
    there.back(state)
