"""Decoding: one token of each text through the whole network, and many in a row."""

from __future__ import annotations

import numpy as np

from nblstm.kernels.reference.drawing import draw
from nblstm.kernels.reference.int8 import in_floats, product, rows_of, values
from nblstm.kernels.reference.prepared import PreparedWeights, PreparedWork, generate_one, prepare
from nblstm.kernels.reference.recurrent import step
from nblstm.kernels.threads import not_while_forking


def decode_weights(net, threads):
    """Make the weights as `decode` reads them: see `prepared`, or here as they are. net: `kernels.DecoderWeights`.

    Any thread may share them. What they were made from must not change while they are in use. Small integers become
    floats, which NumPy multiplies faster.
    """
    return prepare(in_floats(net))


def decode_work(N, weights, threads):
    """Make ready what one caller's `decode` needs of a batch of up to N texts: of weights as they are, nothing but them."""
    return PreparedWork(weights) if isinstance(weights, PreparedWeights) else weights


@not_while_forking
def decode(state, tokens, work, threads):
    """Read one token of each text, tokens (N,) int64: `kernels.DecoderState` becomes the one after it.

    work: of `decode_work`, or `kernels.DecoderWeights`, which the specification decodes; see `recurrent_forward` for the
    equations, `int8` for products with small integers.
    """
    if isinstance(work, PreparedWork):
        return work.reader(state)(tokens if len(tokens) > 1 else int(tokens[0]))
    (h, c, features, logits), x = state, rows_of(work.embedding, tokens)
    for k, (cell, weights) in enumerate(zip(work.cells, work.layers)):
        h[k], c[k], _ = step(x, None, h[k], c[k], weights, cell)
        x = h[k] + values(x) if work.residual and x.shape == h[k].shape else h[k]
    features[...] = np.concatenate([x, c[-1]], axis=1) if work.with_memory else x
    if len(logits):
        logits[...] = product(features, work.head_weight)
        logits += work.head_bias


def generate(history, length, state, uniform, banned, filters, work, threads):
    """`draw` a token of each text, `decode` it, and so on: K = len(uniform) tokens, to history[:, length : length + K].

    history (N, at least length + K) int64, of which the first `length` tokens are given. state:
    `kernels.DecoderState`, overwritten with the one after. uniform (K, N). banned, filters: see `draw`. Behind a -1
    that `draw` has left, what follows in that text means nothing.
    """
    if isinstance(work, PreparedWork) and len(history) == 1:
        return generate_one(history[0], length, state, uniform[:, 0], banned, filters, work.reader(state))
    for k, numbers in enumerate(uniform, length):
        draw(history[:, k], state.logits, numbers, history[:, :k], banned, filters, threads)
        decode(state, np.maximum(history[:, k], 0), work, threads)
