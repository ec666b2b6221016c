"""The kernels' contract, every cell, and a layer and a head run with random numbers, by any backend."""

import numpy as np

from nblstm.kernels import CrossEntropy, Outputs, Packed
from nblstm.kernels.cells import KINDS

CONTRACT = [
    "dropout", "scale_texts", "embedding_forward", "embedding_backward", "recurrent_work", "recurrent_forward",
    "recurrent_backward", "decode_weights", "decode_work",
    "decode", "draw", "generate", "search", "linear_work", "linear_forward", "linear_backward", "squared_error",
    "distillation",
    "softmax_work",
    "softmax_losses", "softmax_gradient_work", "softmax_losses_and_gradient", "attention_work",
    "attention_forward", "attention_backward", "crf_work", "crf_losses", "crf_losses_and_gradient", "crf_decode", "cache_losses", "clear", "squared_norm", "clip_values",
    "adam", "sgd", "average", "rmsprop",
]  # fmt: skip
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}

CELLS = {
    "lstm": {"kind": "lstm"},
    "gru": {"kind": "gru"},
    "tanh rnn": {"kind": "rnn"},
    "relu rnn": {"kind": "rnn", "nonlinearity": "relu"},
    "update-lstm": {"kind": "update-lstm"},
    "mingru": {"kind": "mingru"},
}
SPECIFIED = {  # cells with options, and those that only the specification computes
    "peephole lstm": {"kind": "lstm", "peepholes": True},
    "projected lstm": {"kind": "lstm", "proj_size": 5},
    "lstm, everything": {"kind": "lstm", "peepholes": True, "proj_size": 5, "layer_norm": True},
    **{f"mogrifier, {k} rounds": {"kind": "mogrifier-lstm", "mogrifier_rounds": k} for k in (0, 1, 5)},
    **{f"normalised {kind}": {"kind": kind, "layer_norm": True} for kind in KINDS},
}


def offsets_of(lengths):
    """Return where the steps of packed texts begin; lengths fall."""
    lengths = np.asarray(lengths)
    return np.concatenate([[0], np.cumsum([(lengths > t).sum() for t in range(lengths[0])])]).astype(np.int64)


def layer(cell, lengths, dtype, repeated, seed=0):
    """Return random inputs of one layer by name; `repeated` inputs come through an index."""
    r = np.random.default_rng(seed)
    offsets = offsets_of(lengths)
    M, N = int(offsets[-1]), len(lengths)
    rows = max(1, M // 2) if repeated else M
    new = lambda *shape: r.normal(0, 0.5, shape).astype(dtype)
    dcs = new(M, cell.memory_size) if cell.has_memory else None
    index = r.integers(0, rows, M).astype(np.int32) if repeated else None
    return {
        "dcs": dcs, "x": new(rows, cell.input_size), "index": index,
        "h0": new(N, cell.output_size), "c0": new(N, cell.memory_size), "offsets": offsets,
        "weights": {name: new(*shape) for name, shape in cell.shapes.items()}, "dy": new(M, cell.output_size),
        "dh": new(N, cell.output_size), "dc": new(N, cell.memory_size),
    }  # fmt: skip


def run_layer(kernels, threads, cell, lengths, dtype, repeated, slopes=True):
    """Run a layer both ways, return every output by name. slopes: whether c of every step has a gradient, too."""
    given = layer(cell, lengths, dtype, repeated)
    x, index, h0, c0, offsets, weights = (given[k] for k in ("x", "index", "h0", "c0", "offsets", "weights"))
    M, N = len(given["dy"]), len(lengths)
    y, hn, cn = np.empty_like(given["dy"]), np.empty_like(h0), np.empty_like(c0)
    cs = np.empty((M, cell.memory_size), dtype) if cell.has_memory else None
    (work,) = kernels.recurrent_work([cell], M + 1, N + 1, [len(x) + 1 if repeated else 0], dtype, threads)
    packed = Packed(x, index, h0, c0, offsets)
    kernels.recurrent_forward(Outputs(y, cs, hn, cn), work, packed, weights, cell, threads)
    grads = {name: np.ones_like(weight) for name, weight in weights.items()}
    dx, dh, dc, dy = np.full_like(x, np.nan), given["dh"].copy(), given["dc"].copy(), given["dy"].copy()
    dcs = given["dcs"] if slopes else None
    kernels.recurrent_backward(dx, grads, Outputs(dy, dcs, dh, dc), y, work, packed, weights, cell, threads)
    return {"y": y, "cs": y[:0] if cs is None else cs, "hn": hn, "cn": cn, "dx": dx, "dh": dh, "dc": dc, **grads}


def softmax_head(kernels, x, targets, weight, bias, scales=None, classes=None, smoothing=0.0, threads=2):
    """Return (losses without weights, losses, dx, dweight, dbias) of a head; gradients are added to ones."""
    M, (V, D), dtype = len(x), weight.shape, x.dtype
    scales = np.full(M, 1 / M, dtype) if scales is None else scales
    plain, losses, dx = np.empty(M, dtype), np.empty(M, dtype), np.full_like(x, np.nan)
    kernels.softmax_losses(plain, kernels.softmax_work(M, D, V, dtype, threads), x, targets, weight, bias, threads)
    dweight, dbias = np.ones_like(weight), np.ones_like(bias)
    work, loss = (
        kernels.softmax_gradient_work(M, D, V, dtype, threads),
        CrossEntropy(targets, scales, classes, smoothing),
    )
    kernels.softmax_losses_and_gradient(losses, dx, dweight, dbias, work, x, loss, weight, bias, threads)
    return plain, losses, dx, dweight, dbias


def random_head(M, D, V, dtype):
    """Return (x, targets, weight, bias), weights of rows, some of them 0, and weights of classes."""
    r = np.random.default_rng(4)
    x, weight, bias = (r.normal(0, 0.5, shape).astype(dtype) for shape in ((M, D), (V, D), V))
    scales = (r.random(M) * (r.random(M) > 0.3)).astype(dtype)
    return (x, r.integers(0, V, M).astype(np.int32), weight, bias), scales, (r.random(V) + 0.1).astype(dtype)
