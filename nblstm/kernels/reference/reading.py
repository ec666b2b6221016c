"""Reading whole texts with int8 weights: the specification. It finds what `decode` finds token by token.

Every product is one of `int8`: W x and U h of a layer, and that of the softmax. A row is rounded by itself, so what is found
of a text is that of the text alone; a sum is exact, so it is the same for any cut into batches, rows or threads. What is
found differs from `decode` by the roundings of float32 alone, and by a whole number here and there that such a rounding
has moved by one.
"""

from __future__ import annotations

import numpy as np

from nblstm.kernels import Outputs, Packed
from nblstm.kernels.reference.head import log_softmax
from nblstm.kernels.reference.int8 import product, rows_of, values
from nblstm.kernels.reference.recurrent import recurrent_forward
from nblstm.kernels.threads import not_while_forking


def reading_work(M, N, weights, threads):
    """Make ready what one caller needs to read up to M rows of up to N texts: NumPy needs nothing."""
    return ()


@not_while_forking
def read_texts(features, state, work, weights, ids, index, offsets, threads):
    """Read packed texts. features (M, F): overwritten with what the head sees of every row.

    state: `kernels.DecoderState`, whose h and c (L, N, ...) become those after each text's last step. weights:
    `kernels.DecoderWeights` of `Int8` matrices. ids (R,): unique tokens; row m is ids[index[m]], index (M,) int32.
    offsets (T + 1,): where the steps begin.
    """
    (h, c, _, _), x = state, rows_of(weights.embedding, ids)
    for k, (cell, layer) in enumerate(zip(weights.cells, weights.layers)):
        y, cs = (np.empty((len(index), size), np.float32) for size in (cell.output_size, cell.memory_size))
        packed = Packed(x, index if k == 0 else None, h[k].copy(), c[k].copy(), offsets)
        recurrent_forward(Outputs(y, cs, h[k], c[k]), {}, packed, layer, cell, threads)
        rows = values(x)[index] if k == 0 else x
        x = y + rows if weights.residual and rows.shape == y.shape else y
    features[...] = np.concatenate([x, cs], axis=1) if weights.with_memory else x


@not_while_forking
def read_losses(losses, work, weights, features, targets, threads):
    """losses[m] = -log softmax(W features[m] + b)[targets[m]], in nats. losses (M,), features (M, F), targets (M,) int."""
    logits = product(features, weights.head_weight) + weights.head_bias
    losses[...] = -log_softmax(logits)[np.arange(len(features)), targets]
