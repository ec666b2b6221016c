"""Networks with int8 weights, and what they decode and read to: for test_int8.py, test_reading.py and stress/int8.py."""

import importlib

import numpy as np

from nblstm.kernels import DecoderState, DecoderWeights, reference
from nblstm.kernels.cells import Cell
from nblstm.nn.int8 import round_rows
from support.kernels import offsets_of


def rounded_net(kind, sizes=(11, 5, 6), num_layers=2, residual=False, with_memory=False, scale=0.5):
    """A network of rounded random weights, for decoding; sizes: V, E, H."""
    (V, E, H), r = sizes, np.random.default_rng(1)
    new = lambda *shape: r.normal(0, scale, shape).astype(np.float32)
    matrix = lambda *shape: round_rows(new(*shape)) if len(shape) == 2 else new(*shape)
    cells = [Cell(kind, D, H) for D in [E] + [H] * (num_layers - 1)]
    layers = [{name: matrix(*shape) for name, shape in cell.shapes.items()} for cell in cells]
    head = matrix(V, 2 * H if with_memory else H)
    return DecoderWeights(matrix(V, E), cells, layers, residual, with_memory, head, new(V))


def decoded(kernels, made, texts=3, threads=1, steps=6):
    """(h, c, features, logits) after some tokens of each text. kernels: None for the specification itself."""
    (V, F), L, cell = made.head_weight.shape, len(made.cells), made.cells[0]
    shapes = (L, texts, cell.output_size), (L, texts, cell.memory_size), (texts, F), (texts, V)
    state = DecoderState(*(np.zeros(shape, np.float32) for shape in shapes))
    module = kernels or reference
    work = made if kernels is None else module.decode_work(texts, module.decode_weights(made, threads), threads)
    for tokens in np.random.default_rng(2).integers(0, V, (steps, texts)):
        module.decode(state, tokens, work, threads)
    return state


def read(kernels, made, lengths, threads=1, tokens=None, zero=False, spoil=None):
    """(features, h, c, losses) of texts of these lengths, read from a random state. kernels: as in `decoded`.

    tokens (T, N): of texts of one length; None: random ones. zero: from the zero state. spoil: a number in the first one.
    """
    (V, F), L, cell, offsets = made.head_weight.shape, len(made.cells), made.cells[0], offsets_of(lengths)
    M, N, r = int(offsets[-1]), len(lengths), np.random.default_rng(3)
    tokens = r.integers(0, V, M) if tokens is None else tokens.reshape(-1)
    ids, index = np.unique(tokens, return_inverse=True)
    new = lambda size: r.normal(0, 0 if zero else 0.5, (L, N, size)).astype(np.float32)
    state = DecoderState(new(cell.output_size), new(cell.memory_size), None, None)
    if spoil is not None:
        state.h[0, 0, 1] = spoil
    module = importlib.import_module(f"{(kernels or reference).__name__}.reading")
    weights = made if kernels is None else kernels.decode_weights(made, threads)
    work = module.reading_work(M, N, weights, threads)
    features, losses = np.empty((M, F), np.float32), np.empty(M, np.float32)
    module.read_texts(features, state, work, weights, ids, index.astype(np.int32), offsets, threads)
    module.read_losses(losses, work, weights, features, r.integers(0, V, M).astype(np.int32), threads)
    return features, state.h, state.c, losses


NETS = {  # name -> arguments of `rounded_net`
    "lstm": {}, "gru": {"kind": "gru"}, "rnn": {"kind": "rnn"}, "update-lstm": {"kind": "update-lstm"},
    "mingru": {"kind": "mingru"}, "residual": {"kind": "gru", "residual": True},
    "residual, cell head": {"kind": "lstm", "residual": True, "with_memory": True},
}  # fmt: skip
