"""Every fast kernel against the specification, and the specification against finite differences and PyTorch."""

import inspect

import numpy as np
import pytest

from nblstm.kernels import cpu, reference

CONTRACT = [
    "dropout", "embedding_forward", "embedding_backward", "lstm_work", "lstm_forward", "lstm_backward", "decode_work",
    "decode", "draw", "linear_forward", "linear_backward", "token_losses", "cross_entropy", "squared_norm", "clip_values",
    "adam", "sgd", "rmsprop",
]  # fmt: skip
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
SHAPES = [  # T, N, D, H: one unit, odd sizes, one stream, more than a panel
    (3, 2, 5, 1), (4, 3, 3, 7), (2, 1, 70, 33), (3, 5, 16, 130), (5, 13, 33, 64), (1, 1, 1, 1),
]  # fmt: skip


def close(actual, expected, tolerance):
    """Equal relative to the largest expected value."""
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))


def layer(T, N, D, H, dtype, repeated, seed=0):
    """Random inputs of one LSTM layer; `repeated` inputs come through an index."""
    r = np.random.default_rng(seed)
    rows = max(1, T * N // 2) if repeated else T * N
    new = lambda *shape: r.normal(0, 0.5, shape).astype(dtype)  # noqa: E731
    index = r.integers(0, rows, T * N).astype(np.int32) if repeated else None
    weights = new(4 * H, D), new(4 * H, H), new(4 * H), new(4 * H)
    return new(rows, D), index, new(N, H), new(N, H), weights, new(T, N, H), new(N, H), new(N, H)


def run_layer(kernels, threads, T, N, D, H, dtype, repeated):
    """Forward and backward of one layer: every output by name."""
    x, index, h0, c0, weights, dy, dh, dc = layer(T, N, D, H, dtype, repeated)
    y, hn, cn = np.empty((T, N, H), dtype), np.empty((N, H), dtype), np.empty((N, H), dtype)
    (work,) = kernels.lstm_work(T, N, [D], H, len(x) + 1 if repeated else 0, dtype, threads)
    kernels.lstm_forward(y, hn, cn, work, x, index, h0, c0, *weights, threads)
    grads = [np.ones_like(weight) for weight in weights]
    dx, dh, dc, dy = np.full_like(x, np.nan), dh.copy(), dc.copy(), dy.copy()
    kernels.lstm_backward(dx, dh, dc, *grads, dy, y, work, x, index, h0, *weights[:2], threads)
    names = ["y", "hn", "cn", "dx", "dh", "dc", "dweight_ih", "dweight_hh", "dbias_ih", "dbias_hh"]
    return dict(zip(names, [y, hn, cn, dx, dh, dc, *grads]))


def test_modules_hold_the_same_functions_with_the_same_arguments():
    """The contract: one list of functions, one list of argument names, in every module."""
    for name in CONTRACT:
        expected = list(inspect.signature(getattr(reference, name)).parameters)
        assert list(inspect.signature(getattr(cpu, name)).parameters) == expected, name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("repeated", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_lstm_layer_equals_the_specification(shape, repeated, dtype):
    """Outputs, final state and every gradient, for sizes that fill no tile, on three threads."""
    expected = run_layer(reference, 1, *shape, dtype, repeated)
    actual = run_layer(cpu, 3, *shape, dtype, repeated)
    for name, value in expected.items():
        assert actual[name].dtype == dtype
        close(actual[name], value, TOLERANCE[dtype])


@pytest.mark.parametrize("streams", [1, 2, 11])
def test_number_of_threads_does_not_change_a_bit(streams, monkeypatch):
    """No sum is split between threads: 1, 2 and 5 threads give the same bits, also when they share streams."""
    monkeypatch.setattr(cpu, "SHARED_BYTES", 0)
    runs = [run_layer(cpu, threads, 4, streams, 20, 70, np.float32, True) for threads in (1, 2, 5)]
    for name, value in runs[0].items():
        for other in runs[1:]:
            assert np.array_equal(value, other[name]), name


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("texts, threads", [(1, 1), (1, 2), (2, 3), (5, 2)])
@pytest.mark.parametrize("sizes", [(5, 3, 1), (70, 20, 33), (130, 7, 130)])
def test_decoding_equals_the_specification(sizes, texts, threads, dtype, monkeypatch):
    """State and logits over several steps, however the work is split: by texts or, for few, by units."""
    monkeypatch.setattr(cpu, "SHARED_BYTES", 0)
    V, E, H = sizes
    r = np.random.default_rng(1)
    new = lambda *shape: r.normal(0, 0.5, shape).astype(dtype)  # noqa: E731
    layers = [(new(4 * H, D), new(4 * H, H), new(4 * H), new(4 * H)) for D in (E, H)]
    weights = new(V, E), layers, new(V, H), new(V)
    tokens = r.integers(0, V, (4, texts))
    results = []
    for kernels in (reference, cpu):
        h, c, logits = np.zeros((2, texts, H), dtype), np.zeros((2, texts, H), dtype), np.empty((texts, V), dtype)
        work = kernels.decode_work(texts, *weights, threads)
        for step in tokens:
            kernels.decode(logits, h, c, step, work, threads)
        results.append((h, c, logits))
    for expected, actual in zip(*results):
        close(actual, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("temperature, top_k", [(0.0, 0), (1.0, 0), (0.5, 3), (1e6, 0), (1e-6, 0), (1.0, 100)])
def test_drawing_equals_the_specification(temperature, top_k):
    """The same token for the same uniform number, with ties, infinities and huge logits among the rows."""
    r = np.random.default_rng(2)
    logits = r.normal(0, 3, (50, 20)).astype(np.float32)
    logits[0, 3:6], logits[1, 5], logits[2, 7], logits[3] = 9, -np.inf, 3e38, -3e38
    uniform = r.random(50)
    tokens = [np.full(50, -1) for _ in range(2)]
    for kernels, into in zip((reference, cpu), tokens):
        kernels.draw(into, logits.copy(), uniform, temperature, top_k, 1)
    assert np.array_equal(*tokens)
