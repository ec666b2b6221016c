"""Every fast kernel against the specification, and the specification against finite differences and PyTorch."""

import inspect
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from support.cases import cycled, each, pairs
from support.compare import close
from support.kernels import (
    CELLS,
    CONTRACT,
    SPECIFIED,
    TOLERANCE,
    layer,
    offsets_of,
    random_head,
    run_layer,
    softmax_head,
)

pytest.importorskip("numba")

from nblstm.kernels import (
    Beam,
    DecoderState,
    DecoderWeights,
    Filters,
    History,
    Hypotheses,
    Outputs,
    Packed,
    cpu,
    reference,
    threads,
)
from nblstm.kernels.cells import Cell
from nblstm.kernels.cpu import decoding, recurrent, searching
from nblstm.kernels.cpu import head as heads
from nblstm.kernels.cpu.barrier import ASIDE, CROWDED, step_aside
from nblstm.kernels.cpu.jit import jit
from nblstm.kernels.reference import prepared
from nblstm.kernels.threads import Share
from nblstm.tasks.language.config import LanguageConfig
from nblstm.training import memory

UNCOMPILED = ["normalised mogrifier-lstm"]
SHAPES = [  # T, N, D, H: one unit, odd sizes, one stream, more than a panel
    (3, 2, 5, 1), (4, 3, 3, 7), (2, 1, 70, 33), (3, 5, 16, 130), (5, 13, 33, 64), (1, 1, 1, 1),
]  # fmt: skip


def test_modules_hold_the_same_functions_with_the_same_arguments():
    """The contract: one list of functions, one list of argument names, in every module."""
    for name in CONTRACT:
        expected = list(inspect.signature(getattr(reference, name)).parameters)
        assert list(inspect.signature(getattr(cpu, name)).parameters) == expected, name


@pytest.mark.parametrize("kind", CELLS)
@each("shape, repeated, dtype", pairs(SHAPES, [False, True], [np.float32, np.float64]))
def test_layer_equals_the_specification(kind, shape, repeated, dtype):
    """Outputs, final state and every gradient of every cell, for sizes that fill no tile, on three threads."""
    T, N, D, H = shape
    check_layer(Cell(**CELLS[kind], input_size=D, hidden_size=H), [T] * N, dtype, repeated)


@pytest.mark.parametrize("kind", CELLS)
@each("lengths, repeated", cycled([[5, 4, 4, 1, 1, 1], [7, 1], [3, 3, 2], [8] + [1] * 9], [False, True]))
def test_layer_of_texts_that_end_equals_the_specification(kind, lengths, repeated):
    """The batch shrinks as texts end; each text's final state is that of its own last step."""
    check_layer(Cell(**CELLS[kind], input_size=20, hidden_size=70), lengths, np.float64, repeated)


@each("kind", [name for name in SPECIFIED if name not in UNCOMPILED])
def test_layer_with_options_equals_the_specification(kind):
    """Norms, peepholes, projections and rounds: texts that end, sizes that fill no vector and no panel, or just do."""
    for lengths, D, H, repeated in [([5, 4, 4, 1, 1, 1], 5, 18, False), ([4] * 3, 20, 70, True), ([3, 2], 3, 64, True)]:
        cell = Cell(**SPECIFIED[kind], input_size=D, hidden_size=H)
        assert cell.compiled
        check_layer(cell, lengths, np.float64, repeated)


def test_number_of_threads_does_not_change_a_bit_of_a_layer_with_options():
    """Rows and sums over them belong to one thread each: 1, 2 and 5 threads give the same bits."""
    for kind in ("lstm, everything", "mogrifier, 5 rounds"):
        cell = Cell(**SPECIFIED[kind], input_size=20, hidden_size=70)
        first, *others = (run_layer(cpu, threads, cell, [6, 5, 5, 4, 2, 1], np.float64, True) for threads in (1, 2, 5))
        for name, value in first.items():
            assert all(np.array_equal(value, other[name]) for other in others), name


def check_layer(cell, lengths, dtype, repeated):
    """The fast kernels give what the specification gives, in its type."""
    expected = run_layer(reference, 1, cell, lengths, dtype, repeated)
    actual = run_layer(cpu, 3, cell, lengths, dtype, repeated)
    for name, value in expected.items():
        assert actual[name].dtype == value.dtype == dtype
        close(actual[name], value, TOLERANCE[dtype])


@pytest.mark.parametrize("kind", CELLS)
def test_texts_side_by_side_do_not_see_each_other(kind):
    """Packed texts give each the outputs, state and input gradients that it has alone; weight gradients add up."""
    cell = Cell(**CELLS[kind], input_size=3, hidden_size=18)
    lengths = [4, 2, 2, 1]
    together, given = run_layer(reference, 1, cell, lengths, np.float64, False), layer(cell, lengths, np.float64, False)
    sums = {name: np.ones_like(weight) for name, weight in given["weights"].items()}
    for n, length in enumerate(lengths):
        rows = given["offsets"][:length] + n
        y, hn, cn = np.empty((length, 18)), np.empty((1, 18)), np.empty((1, cell.memory_size))
        alone = np.arange(length + 1)
        (work,) = cpu.recurrent_work([cell], length, 1, [0], np.float64, 1)
        packed = Packed(given["x"][rows], None, given["h0"][n : n + 1], given["c0"][n : n + 1], alone)
        cpu.recurrent_forward(Outputs(y, None, hn, cn), work, packed, given["weights"], cell, 1)
        dx, dh, dc = np.empty((length, 3)), given["dh"][n : n + 1].copy(), given["dc"][n : n + 1].copy()
        dcs = given["dcs"][rows] if cell.has_memory else None
        slopes = Outputs(given["dy"][rows].copy(), dcs, dh, dc)
        cpu.recurrent_backward(dx, sums, slopes, y, work, packed, given["weights"], cell, 1)
        for name, found in {"y": y, "dx": dx}.items():
            close(found, together[name][rows], 1e-13)
        for name, found in {"hn": hn, "cn": cn, "dh": dh, "dc": dc}.items():
            close(found[0], together[name][n], 1e-13)
    for name, found in sums.items():
        close(found, together[name], 1e-13)


def test_an_update_gate_of_one_makes_an_lstm():
    """With u = 1 the update-LSTM's outputs, state and gradients are the LSTM's, to the last bit."""
    H, found = 33, {}
    for kind in ("lstm", "update-lstm"):
        cell = Cell(kind, input_size=5, hidden_size=H)
        given = layer(Cell("update-lstm", 5, H), [6, 6, 3], np.float32, False)
        weights = {name: weight[: cell.gates * H].copy() for name, weight in given["weights"].items()}
        if kind == "update-lstm":
            weights["bias_ih"][4 * H :] = 1000  # u = sigmoid(1000) = 1
        for kernels in (reference, cpu):
            y, hn, cn = np.empty_like(given["dy"]), np.empty_like(given["h0"]), np.empty_like(given["c0"])
            (work,) = kernels.recurrent_work([cell], len(y), 3, [0], np.float32, 1)
            packed = Packed(given["x"], None, given["h0"], given["c0"], given["offsets"])
            kernels.recurrent_forward(Outputs(y, None, hn, cn), work, packed, weights, cell, 1)
            grads = {name: np.zeros_like(weight) for name, weight in weights.items()}
            dx, dh, dc = np.empty_like(given["x"]), given["dh"].copy(), given["dc"].copy()
            slopes = Outputs(given["dy"].copy(), None, dh, dc)
            kernels.recurrent_backward(dx, grads, slopes, y, work, packed, weights, cell, 1)
            grads = {f"d{name}": grad[: 4 * H] for name, grad in grads.items()}
            found[kind, kernels] = {"y": y, "hn": hn, "cn": cn, "dx": dx, "dh": dh, "dc": dc, **grads}
    for kernels in (reference, cpu):
        for name, value in found["lstm", kernels].items():
            assert np.array_equal(found["update-lstm", kernels][name], value), name


@each("kind", CELLS)
@each("lengths", [[4], [4, 4], [6, 5, 5, 4, 2, 2, 2, 1, 1, 1, 1]])
def test_number_of_threads_does_not_change_a_bit(lengths, kind, monkeypatch):
    """No sum is split between threads: 1, 2 and 5 threads give the same bits, also when they share texts."""
    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    cell = Cell(**CELLS[kind], input_size=20, hidden_size=70)
    runs = [run_layer(cpu, threads, cell, lengths, np.float32, True) for threads in (1, 2, 5)]
    for name, value in runs[0].items():
        for other in runs[1:]:
            assert np.array_equal(value, other[name]), name


@each("kind", ["lstm", "gru", "tanh rnn", "relu rnn", "projected lstm"])
@pytest.mark.parametrize("kernels", [reference, cpu])
@each("dtype", [np.float32, np.float64])
def test_layer_is_pytorchs(kind, kernels, dtype):
    """torch.nn.LSTM, GRU and RNN on packed texts of different lengths: outputs, final state and every gradient."""
    torch = pytest.importorskip("torch")
    cell, lengths = Cell(**{**CELLS, **SPECIFIED}[kind], input_size=3, hidden_size=18), [5, 3, 3, 1]
    given, found = layer(cell, lengths, dtype, False), run_layer(kernels, 2, cell, lengths, dtype, False, slopes=False)
    options = {"nonlinearity": cell.nonlinearity} if cell.kind == "rnn" else {}
    if cell.proj_size:
        options["proj_size"] = cell.proj_size
    peer = getattr(torch.nn, cell.kind.upper())(3, 18, dtype=getattr(torch, np.dtype(dtype).name), **options)
    peer.load_state_dict({f"{name}_l0": torch.from_numpy(weight) for name, weight in given["weights"].items()})
    x, h0, c0 = (torch.from_numpy(given[name]).requires_grad_() for name in ("x", "h0", "c0"))
    packed = torch.nn.utils.rnn.PackedSequence(x, torch.from_numpy(np.diff(given["offsets"])))
    y, state = peer(packed, (h0[None], c0[None]) if cell.has_memory else h0[None])
    hn, cn = state if cell.has_memory else (state, c0[None] * 0)
    slopes = (torch.from_numpy(given[name]) for name in ("dy", "dh", "dc"))
    sum((slope * value).sum() for slope, value in zip(slopes, (y.data, hn[0], cn[0]))).backward()
    grads = {name: getattr(peer, f"{name}_l0").grad + 1 for name in given["weights"]}
    expected = {"y": y.data, "hn": hn[0], "cn": cn[0], "dx": x.grad, "dh": h0.grad, "dc": c0.grad, **grads}
    for name, value in expected.items():
        close(found[name], value.detach().numpy(), 1e-5 if dtype == np.float32 else 1e-12)


SPLITS = [(1, 1), (1, 2), (2, 3), (5, 2)]  # texts, threads: each alone, sharing a text, with texts of its own


def small_net(sizes, dtype, num_layers=2, seed=1, scale=0.5, residual=False, with_memory=False, kind="lstm", **options):
    """A network of random weights for decoding; sizes: V, E, H."""
    (V, E, H), r = sizes, np.random.default_rng(seed)
    new, R = lambda *shape: r.normal(0, scale, shape).astype(dtype), options.get("proj_size") or H
    cells = [Cell(kind, D, H, **options) for D in [E] + [R] * (num_layers - 1)]
    layers = [{name: new(*shape) for name, shape in cell.shapes.items()} for cell in cells]
    return DecoderWeights(new(V, E), cells, layers, residual, with_memory, new(V, R + H if with_memory else R), new(V))


def small_state(net, texts, r=None):
    """(h, c, top) of a network's texts: zeros, or random numbers drawn from r."""
    L, cell, dtype = len(net.cells), net.cells[0], net.embedding.dtype
    shapes = (L, texts, cell.output_size), (L, texts, cell.memory_size), (texts, net.head_weight.shape[1])
    return [np.zeros(shape, dtype) if r is None else r.normal(0, 0.5, shape).astype(dtype) for shape in shapes]


def decoded(kernels, net, texts, threads):
    """(h, c, top, logits) after four tokens of each text."""
    V = len(net.embedding)
    (h, c, top), tokens = small_state(net, texts), np.random.default_rng(2).integers(0, V, (4, texts))
    work = kernels.decode_work(texts, kernels.decode_weights(net, threads), threads)
    logits = np.empty((texts, V), net.embedding.dtype)
    for step in tokens:
        kernels.decode(DecoderState(h, c, top, logits), step, work, threads)
    return h, c, top, logits


@each("split, sizes, dtype", pairs(SPLITS, [(5, 3, 1), (70, 20, 33), (130, 7, 130)], [np.float32, np.float64]))
def test_decoding_equals_the_specification(sizes, split, dtype, monkeypatch):
    """State and logits over several steps, however the work is split: by texts or, for few, by units."""
    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    net, (texts, threads) = small_net(sizes, dtype), split
    for expected, actual in zip(decoded(reference, net, texts, 1), decoded(cpu, net, texts, threads)):
        close(actual, expected, TOLERANCE[dtype])


NETS = {
    **{name: cell for name, cell in CELLS.items() if name != "lstm"},
    "residual lstm": {"kind": "lstm", "residual": True},
    "cell head": {"kind": "lstm", "with_memory": True},
    "residual update-lstm, cell head": {"kind": "update-lstm", "residual": True, "with_memory": True},
    "residual gru": {"kind": "gru", "residual": True},
    "residual rnn": {"kind": "rnn", "residual": True},
    "residual mingru": {"kind": "mingru", "residual": True},
}


@each("net, split, kept", pairs(NETS, SPLITS, [decoding.KEPT_BYTES, 0]))
def test_decoding_of_every_network_equals_the_specification(net, split, kept, monkeypatch):
    """As above: less than a panel of units, just one and more; embedded in as many numbers as units, or in others.

    kept: room for the projections of all tokens, or of one alone.
    """
    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    monkeypatch.setattr(decoding, "KEPT_BYTES", kept)
    texts, threads = split
    for sizes in ((5, 3, 1), (40, 33, 33), (70, 64, 64), (65, 20, 64), (20, 130, 130)):
        made = small_net(sizes, np.float32, num_layers=3, scale=0.2, **NETS[net])
        expected = decoded(reference, made, texts, 1)
        for value, other in zip(expected, decoded(cpu, made, texts, threads)):
            close(other, value, TOLERANCE[np.float32])


def test_any_number_of_threads_decodes_to_the_same_bits(monkeypatch):
    """One text alone, its units on three threads, or among others: its state and logits are the same numbers."""
    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    for options in NETS.values():
        net = small_net((20, 130, 130), np.float32, **options)
        expected = decoded(cpu, net, 1, 1)
        for value, other in zip(expected, decoded(cpu, net, 1, 3)):
            assert np.array_equal(value, other)


def test_cells_without_a_kernel_are_decoded_by_the_specification():
    """Their work is the weights as they are."""
    for options in SPECIFIED.values():
        net = small_net((5, 3, 8), np.float32, **options)
        if not net.cells[0].compiled:
            assert cpu.decode_work(1, cpu.decode_weights(net, 2), 2) is net


OPTIONS = {  # stress/decoding.py has the others, too
    **{name: SPECIFIED[name] for name in ("peephole lstm", "lstm, everything", "normalised gru")},
    "residual": {**SPECIFIED["lstm, everything"], "residual": True},
    "cell head": {**SPECIFIED["lstm, everything"], "with_memory": True},
    "residual gru": {**SPECIFIED["normalised gru"], "residual": True},
    "mogrifier": SPECIFIED["mogrifier, 5 rounds"],
    "residual mogrifier, cell head": {**SPECIFIED["mogrifier, 1 rounds"], "residual": True, "with_memory": True},
}


@each("net, split, kept", pairs(OPTIONS, SPLITS, [decoding.KEPT_BYTES, 0]))
def test_decoding_with_options_equals_the_specification(net, split, kept, monkeypatch):
    """State and logits over several steps, at any size, however texts are shared by threads.

    kept: room for the projections of all tokens, or of none.
    """
    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    monkeypatch.setattr(decoding, "KEPT_BYTES", kept)
    texts, threads = split
    for sizes in ((5, 3, 1), (40, 33, 33), (66, 64, 64)):
        made = small_net(sizes, np.float32, num_layers=3, scale=0.2, **OPTIONS[net])
        expected = decoded(reference, made, texts, 1)
        for value, other in zip(expected, decoded(cpu, made, texts, threads)):
            close(other, value, TOLERANCE[np.float32])


@each("net", ["normalised gru", "residual", "cell head", "mogrifier"])
def test_writing_and_searching_with_options_equals_the_specification(net, monkeypatch):
    """Token for token and step for step, and the state behind them, on one thread or on more than there are texts."""
    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    monkeypatch.setattr(searching, "SHARED_WORK", 0)
    for texts, threads in ((1, 2), (3, 2)):
        given = {"texts": texts, "dtype": np.float32, "settings": {}, "sizes": (40, 33, 33), **OPTIONS[net]}
        expected, actual = generated(reference, 1, **given), generated(cpu, threads, **given)
        assert np.array_equal(actual[0], expected[0]) and len(set(expected[0].ravel())) > 5
        for value, other in zip(expected[1:], actual[1:]):
            close(other, value, 1e-4)
    given = {"B": 9, "V": 40, "settings": SEARCHES["ends"], "dtype": np.float32, "E": 33, **OPTIONS[net]}
    expected = searched(reference, 1, **given)
    for threads, pieces in ((1, (12,)), (2, (1, 1, 3, 7))):
        actual = searched(cpu, threads, pieces=pieces, **given)
        assert all(np.array_equal(*both) for both in zip(expected[:4], actual[:4]))
        for value, other in zip(expected[4:], actual[4:]):
            np.testing.assert_allclose(other, value, rtol=0, atol=1e-4)


def test_any_number_of_threads_decodes_options_to_the_same_bits():
    """A text alone or among others, its thread's or another's."""
    for name in ("lstm, everything", "mogrifier"):
        net = small_net((20, 130, 130), np.float32, **OPTIONS[name])
        expected = decoded(cpu, net, 5, 1)
        for value, other in zip(expected, decoded(cpu, net, 5, 3)):
            assert np.array_equal(value, other)


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("kind", ["lstm", "gru"])
def test_prepared_decoding_equals_the_specification(kind, table, monkeypatch):
    """With a table of the tokens and without, one text and several, in room for more; both types of numbers."""
    monkeypatch.setattr(prepared, "TABLE_SIZE", 1 << 20 if table else -(1 << 20))
    for dtype, (V, E, H) in ((np.float64, (11, 5, 7)), (np.float32, (20, 8, 8))):
        for options in ({}, {"residual": True}, {"with_memory": True} if kind == "lstm" else {}):
            net = small_net((V, E, H), dtype, num_layers=3, kind=kind, **options)
            weights = reference.decode_weights(net, 1)
            assert (weights.table is not None) == (table and not (options.get("residual") and E == H))
            for texts in (1, 3):
                expected, found = (small_state(net, texts, np.random.default_rng(5)) for _ in range(2))
                logits, others = np.empty((2, texts, V), dtype)
                work = reference.decode_work(4, weights, 1)
                for tokens in np.random.default_rng(2).integers(0, V, (4, texts)):
                    reference.decode(DecoderState(*expected, logits), tokens, net, 1)
                    reference.decode(DecoderState(*found, others), tokens, work, 1)
                for value, other in zip([logits, *expected], [others, *found]):
                    close(other, value, 1e-5 if dtype == np.float32 else 1e-12)


@pytest.mark.parametrize("kind", SPECIFIED)
def test_decoding_is_reading(kind):
    """Token by token, the specification's network of one layer has the outputs and state of a text read at once."""
    net = small_net((11, 3, 8), np.float64, num_layers=1, **SPECIFIED[kind])
    if net.cells[0].proj_size:
        net = net._replace(head_weight=net.head_weight[:, :5].copy())
    (h, c, top), tokens, cell = small_state(net, 2), np.array([[3, 1], [4, 1], [5, 9]]), net.cells[0]
    y, hn, cn = np.empty((6, cell.output_size)), np.empty_like(h[0]), np.empty_like(c[0])
    (work,), offsets = reference.recurrent_work([cell], 6, 2, [0], np.float64, 1), np.arange(0, 7, 2)
    x = net.embedding[tokens.reshape(-1)]
    packed = Packed(x, None, h[0], c[0], offsets)
    reference.recurrent_forward(Outputs(y, None, hn, cn), work, packed, net.layers[0], cell, 1)
    for step, read in zip(tokens, y.reshape(3, 2, -1)):
        reference.decode(DecoderState(h, c, top, np.empty((0, 11))), step, net, 1)
        close(top, read, 1e-14)
    close(h[0], hn, 1e-14)
    close(c[0], cn, 1e-14)


def test_a_min_gru_step():
    """A worked example: z = 1/2 and n = 3 from h = 1 give h = 2; there is no recurrent matrix."""
    cell = Cell("mingru", input_size=1, hidden_size=1)
    assert cell.shapes == {"weight_ih": (2, 1), "bias_ih": (2,)}
    weights = {"weight_ih": np.array([[0.0], [2.0]]), "bias_ih": np.array([0.0, 1.0])}
    for kernels in (reference, cpu):
        y, hn, cn = np.empty((1, 1)), np.empty((1, 1)), np.empty((1, 0))
        (work,) = kernels.recurrent_work([cell], 1, 1, [0], np.float64, 1)
        packed = Packed(np.ones((1, 1)), None, np.ones((1, 1)), cn, np.array([0, 1]))
        kernels.recurrent_forward(Outputs(y, None, hn, cn), work, packed, weights, cell, 1)
        assert y[0, 0] == hn[0, 0] == 2


def test_a_mogrifier_of_no_rounds_is_an_lstm():
    """Up to the order of sums; with rounds it is another."""
    cells = Cell("lstm", 3, 6), *(Cell("mogrifier-lstm", 3, 6, mogrifier_rounds=rounds) for rounds in (0, 5))
    lstm, none, five = (run_layer(reference, 1, cell, [4, 2], np.float64, True) for cell in cells)
    for name, value in lstm.items():
        close(none[name], value, 1e-14)
    assert not np.allclose(five["y"], lstm["y"])


def test_rounds_that_overflow_are_noticed():
    """The gate of a sum that is no longer finite is NaN, and so is its text; the text beside it is not."""
    cell = Cell("mogrifier-lstm", 3, 20, mogrifier_rounds=2)
    for kernels in (reference, cpu):
        weights = {name: np.full(shape, 1e-3, np.float32) for name, shape in cell.shapes.items()}
        weights["weight_q1"][1] = 3e38
        y, h, c = np.empty((2, 20), np.float32), np.repeat(np.float32([[1], [0]]), 20, 1), np.zeros((2, 20), np.float32)
        (work,) = kernels.recurrent_work([cell], 2, 2, [0], np.float32, 1)
        packed = Packed(np.ones((2, 3), np.float32), None, h, c, np.array([0, 2]))
        with np.errstate(over="ignore", invalid="ignore"):
            kernels.recurrent_forward(Outputs(y, None, h.copy(), c.copy()), work, packed, weights, cell, 1)
        assert np.isnan(y[0]).all() and np.isfinite(y[1]).all()


def test_memory_of_rounds_is_told():
    """`memory.per_token` counts what the arrays of a Mogrifier LSTM grow by for a token, and the arrays around them."""
    config = LanguageConfig(9, cell="mogrifier-lstm", hidden_size=64, embedding_size=128, dropout=0.0)

    def size(M):
        works = cpu.recurrent_work(list(config.cells), M, 1, [M, 0], np.float32, 1)
        found = {id(array): array.nbytes for work in works for array in work.values() if isinstance(array, np.ndarray)}
        return sum(found.values())

    of_layers = size(1001) - size(1000)
    around = 4 * (2 * 64 + 2 * 64)  # outputs of two layers, and two gradients of one
    assert memory.per_token(config) == pytest.approx(of_layers + around, rel=0.05)


FILTERS = [
    {}, {"temperature": 0.0}, {"temperature": 1e6}, {"temperature": 1e-6}, {"temperature": 1e-300}, {"top_k": 3},
    {"top_k": 100}, {"top_p": 0.7}, {"top_p": 1e-9}, {"min_p": 0.2}, {"min_p": 1.0}, {"typical_p": 0.4},
    {"repetition_penalty": 1.8}, {"repetition_penalty": 100.0, "repetition_window": 4}, {"repetition_penalty": 0.5},
    {"no_repeat_ngram": 1}, {"no_repeat_ngram": 2}, {"no_repeat_ngram": 2, "temperature": 0.0},
    {"presence_penalty": 1.5}, {"frequency_penalty": 0.7, "repetition_window": 9},
    {"presence_penalty": -2.0, "frequency_penalty": 0.3, "repetition_penalty": 1.4},
    {"temperature": 0.7, "top_k": 12, "top_p": 0.9, "min_p": 0.01, "typical_p": 0.8, "repetition_penalty": 1.2,
     "repetition_window": 9, "no_repeat_ngram": 3},
]  # fmt: skip


@each("dtype", [np.float32, np.float64])
@each("settings", FILTERS)
def test_drawing_equals_the_specification(settings, dtype):
    """The same token for the same uniform number, with ties, infinities and huge logits among the rows."""
    r = np.random.default_rng(2)
    logits = r.normal(0, 3, (200, 20)).astype(dtype)
    logits[0, 3:6], logits[1, 5], logits[2, 7], logits[3], logits[4] = 9, -np.inf, 3e38, -3e38, 0
    uniform, history, tokens = r.random(200), r.integers(0, 8, (200, 15)), [np.full(200, -1) for _ in range(2)]
    for kernels, into in zip((reference, cpu), tokens):
        kernels.draw(into, logits.copy(), uniform, history, np.array([0, 9]), Filters(**settings), 2)
    assert np.array_equal(*tokens) and not {0, 9} & set(tokens[0])


def test_drawing_from_many_tokens_equals_the_specification():
    """With 3,000 tokens and every filter, whose sums then have many roundings, all of 300 draws agree."""
    r = np.random.default_rng(3)
    logits, uniform = r.normal(0, 3, (300, 3000)).astype(np.float32), r.random(300)
    for settings in ({}, {"top_p": 0.9}, {"typical_p": 0.9}, {"top_k": 50, "top_p": 0.95, "typical_p": 0.9}):
        tokens = [np.full(300, -1) for _ in range(2)]
        for kernels, into in zip((reference, cpu), tokens):
            kernels.draw(into, logits, uniform, np.empty((300, 0), int), np.empty(0, int), Filters(**settings), 2)
        assert np.array_equal(*tokens)


def test_the_largest_uniform_number_draws_a_token_that_is_left():
    """Also where the cumulative sum rounds: never an id beyond the vocabulary, never one that was filtered out."""
    logits = np.array([[2.0, 1.0, 0.5, 2.0, -9.0, -50.0]], np.float32)
    for kernels in (reference, cpu):
        for settings, last in (({}, {4, 5}), ({"top_k": 2}, {3}), ({"min_p": 0.2}, {3})):
            token, nothing = np.array([-1]), np.empty((1, 0), int)
            kernels.draw(token, logits, np.array([1 - 2**-53]), nothing, nothing[0], Filters(**settings), 1)
            assert token[0] in last


@each("settings", [{"top_k": 20}, {"top_k": 20, "min_p": 1e-9}, {}])
def test_it_does_so_in_whatever_order_the_weights_were_added(settings):
    """Of 200 rows some have a sum in order that is a rounding below the total: the last token that is left is drawn."""
    logits = np.random.default_rng(6).normal(0, 1, (200, 50))
    kept = np.argsort(-logits, axis=1)[:, : settings.get("top_k", 50)]
    for kernels in (reference, cpu):
        tokens, nothing = np.full(200, -1), np.empty((200, 0), int)
        kernels.draw(tokens, logits, np.full(200, 1 - 2**-53), nothing, nothing[0], Filters(**settings), 1)
        assert np.array_equal(tokens, kept.max(axis=1))


def test_a_history_that_forbids_every_token_forbids_none():
    """Of three tokens that were all there the most likely is drawn, as if none had been."""
    for kernels in (reference, cpu):
        token, logits = np.array([-1]), np.array([[0.0, 2.0, 1.0]])
        filters = Filters(no_repeat_ngram=1, temperature=0.0)
        kernels.draw(token, logits, np.zeros(1), np.array([[2, 0, 1]]), np.empty(0, int), filters, 1)
        assert token[0] == 1


@each("settings", [{}, {"temperature": 0.0}, {"no_repeat_ngram": 1}])
def test_what_is_no_distribution_is_drawn_as_none(settings):
    """NaN or infinity among the logits, or nothing above -inf: -1; the other rows are drawn as ever."""
    inf, nan = np.inf, np.nan
    logits = np.array([[0, nan, 1], [0, inf, 1], [-inf, -inf, -inf], [-inf, 3, -inf]])
    for kernels in (reference, cpu):
        tokens = np.zeros(4, int)
        kernels.draw(tokens, logits, np.full(4, 0.5), np.zeros((4, 1), int), np.empty(0, int), Filters(**settings), 1)
        assert tokens.tolist() == [-1, -1, -1, 1]


def generated(kernels, threads, texts, dtype, settings, K=12, sizes=(40, 6, 33), **options):
    """(history, h, c, top, logits) after K generated tokens behind 3 given ones, of a network of two layers."""
    r, V = np.random.default_rng(4), sizes[0]
    net = small_net(sizes, dtype, **options)
    work = kernels.decode_work(texts + 1, kernels.decode_weights(net, threads), threads)
    history = np.zeros((texts, 3 + K + 1), np.int64)
    history[:, :3] = r.integers(0, V, (texts, 3))
    h, c, top = small_state(net, texts, r)
    logits, uniform, filters = r.normal(0, 0.5, (texts, V)).astype(dtype), r.random((K, texts)), Filters(**settings)
    state = DecoderState(h, c, top, logits)
    for rows in (slice(0, 1), slice(1, 1), slice(1, K)):  # in pieces
        kernels.generate(history, 3 + rows.start, state, uniform[rows], np.array([7]), filters, work, threads)
    return history, h, c, top, logits


@each("split, settings, kept", pairs(SPLITS, [{}, FILTERS[-1]], [decoding.KEPT_BYTES, 0]))
def test_generating_equals_the_specification(split, settings, kept, monkeypatch):
    """Token for token, and the state and logits behind them, however texts and layers are split between threads.

    kept: room for the projections of all tokens, or of one alone.
    """
    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    monkeypatch.setattr(decoding, "KEPT_BYTES", kept)
    texts, threads = split
    expected = generated(reference, 1, texts, np.float64, settings)
    actual = generated(cpu, threads, texts, np.float64, settings)
    assert np.array_equal(actual[0], expected[0]) and len(set(expected[0].ravel())) > 5
    for value, other in zip(expected[1:], actual[1:]):
        close(other, value, 1e-12)


@each("texts, threads", [(1, 1), (1, 2), (5, 2)])
@each("net", ["gru", "residual gru", "residual lstm", "cell head", "mingru"])
def test_generating_with_every_network_equals_the_specification(net, texts, threads, monkeypatch):
    """As above, with cells that remember nothing but h, with residual layers, and with a head that sees c."""
    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    given = {"texts": texts, "dtype": np.float32, "settings": {}, "sizes": (40, 33, 33), **NETS[net]}
    expected, actual = generated(reference, 1, **given), generated(cpu, threads, **given)
    assert np.array_equal(actual[0], expected[0]) and len(set(expected[0].ravel())) > 5
    for value, other in zip(expected[1:], actual[1:]):
        close(other, value, 1e-4)


@each("kind", ["lstm", "gru"])
@each("settings", FILTERS)
def test_one_text_is_written_as_the_specification_writes_it(settings, kind):
    """Token for token with NumPy's prepared weights, in pieces, whatever the filters; logits and state, too."""
    r, net = np.random.default_rng(6), small_net((40, 6, 33), np.float64, kind=kind)
    start, uniform, banned = small_state(net, 1, r), r.random((12, 1)), np.array([7, 0])
    work, written = reference.decode_work(1, reference.decode_weights(net, 1), 1), []
    for made in (net, work):
        state, history = (
            DecoderState(*(array.copy() for array in start), np.zeros((1, 40))),
            np.zeros((1, 16), np.int64),
        )
        for rows in (slice(0, 5), slice(5, 5), slice(5, 12)):
            reference.generate(history, 3 + rows.start, state, uniform[rows], banned, Filters(**settings), made, 1)
        written.append((history, *state))
    assert np.array_equal(written[0][0], written[1][0]) and not {0, 7} & set(written[0][0][0, 3:15])
    for expected, found in zip(*written):
        close(found, expected, 1e-12)


def test_one_text_is_lost_where_its_logits_are_no_distribution():
    """-1 as the specification says, also where a token that is never drawn has the NaN; at -inf alone, none is lost."""
    net = small_net((5, 3, 4), np.float32)
    work, uniform = reference.decode_work(1, reference.decode_weights(net, 1), 1), np.array([[0.5]])
    for damage in (
        {1: np.nan},
        {0: np.nan},
        {0: np.inf},
        {2: np.inf},
        dict.fromkeys(range(1, 5), -np.inf),
        {1: -np.inf},
    ):
        logits, found = np.zeros((1, 5), np.float32), []
        logits[0, list(damage)] = list(damage.values())
        for made in (net, work):
            history, state = np.zeros((1, 1), np.int64), DecoderState(*small_state(net, 1), logits.copy())
            with np.errstate(invalid="ignore"):
                reference.generate(history, 0, state, uniform, np.array([0]), Filters(), made, 1)
            found.append(history[0, 0])
        assert found[0] == found[1] and (found[0] == -1) == (damage != {1: -np.inf})


def test_generating_goes_on_alone_when_cores_are_missing(monkeypatch):
    """A call in which the parts had to wait long ends after a token; the next ones give the same bits."""
    expected = generated(cpu, 2, 1, np.float32, {})
    calls = []

    def crowded(threads, weights, kernel, edges, *args, steps):
        calls.append(steps)
        kernel(*args, (0, 0, edges[-1], 1, np.array([0, CROWDED + 1, 0, 0])))

    monkeypatch.setattr(decoding, "by_texts", crowded)
    for value, other in zip(expected, generated(cpu, 2, 1, np.float32, {})):
        assert np.array_equal(value, other)
    assert calls == [1, *range(11, 0, -1)]


def test_a_part_leaves_the_core_of_another():
    """Long waits that have grown are told once; a part on the first one's core moves, and may run where it might before."""
    counter, cores = np.array([0, ASIDE, 0, 0]), threads.cores()

    @jit
    def look(counter, part, waited, found):
        found[0] = step_aside(counter, part, waited)

    def waits(part, waited):
        found = np.zeros(1, np.int64)
        look(counter, part, waited, found)
        return int(found[0])

    assert waits(0, 0) == 0 and not counter[3]
    counter[1] += 1
    assert waits(0, 0) == ASIDE + 1 and waits(0, ASIDE + 1) == ASIDE + 1 and 0 <= counter[3] <= 1 + max(cores)
    for core in range(1 + max(cores)):
        counter[3] = core + 1
        assert waits(1, 0) == ASIDE + 1 and threads.cores() == cores


SEARCHES = {  # settings of `Beam`
    "plain": {},
    "ends": {"end": 1},
    "over": {"end": 1, "wanted": 1, "length_penalty": 0.6},
    "groups": {"groups": 3, "diversity": 0.7, "end": 1},
    "stochastic": {"stochastic": True, "end": 1},
    "stochastic, over": {"stochastic": True, "end": 1, "wanted": 1},
}


SIZES = [(1, 40, 1), (3, 70, 2), (9, 40, 2), (9, 130, 1), (60, 40, 3)]  # B, V, threads


def searched(kernels, threads, B, V, settings, dtype=np.float64, pieces=(12,), E=6, **options):
    """What a search of up to 12 steps leaves, taken in pieces: the history, the hypotheses, h, c, top, logits. Two layers."""
    r, beam = np.random.default_rng(5), Beam(**{"longest": 12, "wanted": B, **settings})
    net = small_net((V, E, 33), dtype, **options)
    net.head_bias[1] += 1  # some end, and keep their slots
    work = kernels.decode_work(B + 1, kernels.decode_weights(net, threads), threads)
    one = [*small_state(net, 1, r), r.normal(0, 0.5, (1, V)).astype(dtype)]
    h, c, top, logits = (np.repeat(x, B, axis=-2) for x in one)
    noise = r.gumbel(size=(12, B, V if beam.stochastic else 0))
    empty = np.where(np.arange(B) % (B // beam.groups) == 0, 0.0, -np.inf)
    hypotheses = Hypotheses(empty, empty.copy(), np.zeros(B, np.int64), np.zeros(B, bool))
    parents, tokens, steps = np.full((12, B), -1), np.full((12, B), -1), 0
    for K in pieces:
        if not steps or not reference.searching.over(hypotheses, steps, beam):
            numbers, banned = noise[steps : steps + K], np.array([0, 7])
            history, state = History(parents, tokens, steps), DecoderState(h, c, top, logits)
            steps += kernels.search(history, hypotheses, state, numbers, banned, beam, work, threads)
    return (
        parents,
        tokens,
        hypotheses.finished,
        hypotheses.length,
        hypotheses.log_probability,
        hypotheses.perturbed,
        h,
        c,
        top,
        logits,
    )


@each("name, size, dtype", pairs(SEARCHES, SIZES, [np.float32, np.float64]))
def test_searching_equals_the_specification(name, size, dtype, monkeypatch):
    """The same children at every step, the same end, and the state behind: in one call or several, by any threads."""
    monkeypatch.setattr(searching, "SHARED_WORK", 0)
    settings, (B, V, threads) = SEARCHES[name], size
    if B % settings.get("groups", 1):
        settings = {**settings, "groups": 1}
    expected = searched(reference, 1, B, V, settings, dtype)
    for pieces in ((12,), (1, 1, 3, 7)):
        actual = searched(cpu, threads, B, V, settings, dtype, pieces)
        for value, other in zip(expected[:4], actual[:4]):
            assert np.array_equal(value, other)
        for value, other in zip(expected[4:], actual[4:]):
            np.testing.assert_allclose(other, value, rtol=0, atol=1e-10 if dtype == np.float64 else 1e-4)


@each("threads", [1, 2])
@each("net", ["gru", "residual gru", "residual lstm", "cell head", "mingru"])
def test_searching_with_every_network_equals_the_specification(net, threads, monkeypatch):
    """As above, with cells that remember nothing but h, with residual layers, and with a head that sees c."""
    monkeypatch.setattr(searching, "SHARED_WORK", 0)
    given = {"B": 9, "V": 40, "settings": SEARCHES["ends"], "dtype": np.float32, "E": 33, **NETS[net]}
    expected = searched(reference, 1, **given)
    for pieces in ((12,), (1, 1, 3, 7)):
        actual = searched(cpu, threads, pieces=pieces, **given)
        for value, other in zip(expected[:4], actual[:4]):
            assert np.array_equal(value, other)
        for value, other in zip(expected[4:], actual[4:]):
            np.testing.assert_allclose(other, value, rtol=0, atol=1e-4)


@each(
    "name, B, steps, finished",
    [
        ("plain", 9, 12, 0),
        ("ends", 60, 12, 49),
        ("over", 9, 4, 8),
        ("groups", 60, 12, 51),
        ("stochastic, over", 3, 3, 2),
    ],
)
def test_the_searches_above_meet_all_that_may_happen(name, B, steps, finished):
    """Some are over early, in some hypotheses keep their slots while others go on."""
    _, tokens, ended, *_ = searched(reference, 1, B, 40, SEARCHES[name])
    assert ((tokens[:, 0] >= 0).sum(), ended.sum()) == (steps, finished)


def test_of_equal_children_the_first_are_taken():
    """By place, then by token, in the specification and compiled: where all are equally likely, and where none is."""
    results = []
    for kernels in (reference, cpu):
        net = small_net((20, 3, 5), np.float64)
        net.head_weight[...], net.head_bias[...] = 0, 0
        work, B = kernels.decode_work(6, kernels.decode_weights(net, 1), 1), 6
        h, c, top, logits = (np.zeros(shape) for shape in ((2, B, 5), (2, B, 5), (B, 5), (B, 20)))
        hypotheses = Hypotheses(np.array([0.0, *[-np.inf] * 5]), np.zeros(B), np.zeros(B, np.int64), np.zeros(B, bool))
        logits[:, 3:] = -np.inf  # two that are possible: four slots stay empty
        parents, tokens = np.zeros((2, 3, B), np.int64)
        history, state, noise = History(parents, tokens, 0), DecoderState(h, c, top, logits), np.empty((3, B, 0))
        kernels.search(history, hypotheses, state, noise, np.array([0]), Beam(longest=3), work, 1)
        results.append((parents, tokens, hypotheses.log_probability))
    for expected, actual in zip(*results):
        assert np.array_equal(expected, actual)
    assert tokens[0].tolist() == [1, 2, 0, 3, 4, 5] and np.isneginf(logits).sum() == 0
    assert (parents[1].tolist(), tokens[1].tolist()) == ([0] * 6, [1, 2, 3, 4, 5, 6])


def test_searching_goes_on_alone_when_cores_are_missing(monkeypatch):
    """A call in which the parts had to wait long ends after a step; the next ones give the same."""
    expected = searched(cpu, 2, 9, 40, SEARCHES["stochastic"])
    calls = []

    def crowded(threads, kernel, total, *args):
        calls.append(int(args[0][0]))
        kernel(*args, (0, 0, total, 1, np.array([0, CROWDED + 1, 0, 0])))

    monkeypatch.setattr(searching, "run_cooperatively", crowded)
    for value, other in zip(expected, searched(cpu, 2, 9, 40, SEARCHES["stochastic"])):
        assert np.array_equal(value, other)
    assert calls == [0, *range(2, 12)]  # step 0 reads nothing, so it waits for nobody


@pytest.fixture
def several_threads(monkeypatch):
    """Let the next calls share their work, whether or not those of other tests had to wait for cores."""
    monkeypatch.setattr(threads, "_alone_until", 0.0)


@pytest.mark.parametrize("fails", ["before", "in the first", "in another", "to start"])
def test_no_part_waits_for_one_that_will_not_come(fails, monkeypatch, several_threads):
    """An interrupt or an error ends all parts of a shared call; the error arrives, and the next call works."""

    def kernel(given):
        share = Share(*given)
        if share.part == {"in the first": 0, "in another": 1}.get(fails):
            raise KeyboardInterrupt
        for _ in range(60_000):  # as a barrier that a part never reaches
            if share.counter[0] >= share.parts:
                return
            time.sleep(0.001)
        pytest.fail("the barrier stays closed")

    submit = ThreadPoolExecutor.submit

    def failing(pool, *args):
        if args[1][0] == 2 or fails == "before":
            raise KeyboardInterrupt
        return submit(pool, *args)

    if fails in ("before", "to start"):
        monkeypatch.setattr(ThreadPoolExecutor, "submit", failing)
    with pytest.raises(KeyboardInterrupt):
        threads.run_cooperatively(3, kernel, 1)
    monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
    seen = []
    threads.run_cooperatively(2, lambda share: seen.append((share[3], share[0])), 1)
    assert sorted(seen) == [(2, 0), (2, 1)]


def test_a_call_that_waited_for_cores_is_followed_by_calls_on_one_thread(monkeypatch, several_threads):
    """As long as a multiple of what it took; then several threads are tried again."""
    now, seen = [1000.0], []
    monkeypatch.setattr(threads, "time", SimpleNamespace(monotonic=lambda: now[0]))

    def kernel(given):
        share = Share(*given)
        seen.append(share.parts)
        if share.part == 1:
            now[0] += 2.0
            share.counter[1] += 10**9

    threads.run_cooperatively(2, kernel, 1)  # of its 2 seconds it waited 1
    now[0] = 1000.0 + 2.0 * threads.ALONE - 1
    threads.run_cooperatively(2, kernel, 1)
    now[0] = 1000.0 + 2.0 * threads.ALONE + 1
    threads.run_cooperatively(2, kernel, 1)
    assert seen == [2, 2, 1, 2, 2]


@each("dtype", [np.float32, np.float64])
@each("M, D, V", [(1, 1, 1), (5, 7, 3), (13, 70, 11), (100, 33, 65), (7, 130, 129), (200, 64, 64)])
def test_linear_layer_equals_the_specification(M, D, V, dtype):
    """Outputs and every gradient, for sizes of less, just and more than a panel or a block of rows."""
    r = np.random.default_rng(3)
    x, weight, bias, dy = (r.normal(0, 0.5, shape).astype(dtype) for shape in [(M, D), (V, D), V, (M, V)])
    found = []
    for kernels, threads in ((reference, 1), (cpu, 3)):
        y, dx, dweight, dbias = (np.full_like(like, value) for like, value in zip((dy, x, weight, bias), (7, 7, 1, 1)))
        work = kernels.linear_work(len(x), x.shape[1], len(bias), dtype, threads)
        kernels.linear_forward(y, work, x, weight, bias, threads)
        kernels.linear_backward(dx, dweight, dbias, dy.copy(), work, x, weight, threads)
        found.append((y, dx, dweight, dbias))
    for expected, actual in zip(*found):
        assert actual.dtype == dtype
        close(actual, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("kernels", [reference, cpu])
def test_texts_are_scaled(kernels):
    """A worked example: three texts of 3, 2 and 1 steps, each with its own factors at all of its steps."""
    x, scales = np.ones((6, 2)), np.array([[1.0, 2], [3, 4], [5, 6]])
    kernels.scale_texts(x, x, scales, offsets_of([3, 2, 1]), 2)
    assert x.tolist() == [[1, 2], [3, 4], [5, 6], [1, 2], [3, 4], [1, 2]]


@pytest.mark.parametrize("kernels", [reference, cpu])
def test_embedding_picks_rows_and_gathers_their_gradients(kernels):
    """A worked example: a token that occurs twice gets both gradients, added to what was there."""
    weight, tokens = np.arange(8.0).reshape(4, 2), np.array([2, 0, 2])
    y, dweight = np.empty((3, 2)), np.ones((4, 2))
    kernels.embedding_forward(y, tokens, weight, 2)
    kernels.embedding_backward(dweight, np.array([[1.0, 2], [3, 4], [5, 6]]), tokens, 2)
    assert y.tolist() == [[4, 5], [0, 1], [4, 5]]
    assert dweight.tolist() == [[4, 5], [1, 1], [7, 9], [1, 1]]


# ---------------------------------------------------------------- dropout


def dropped(kernels, rate, key, threads=2, size=100_000):
    """Dropout of `size` ones."""
    y = np.empty(size, np.float32)
    kernels.dropout(y, np.ones(size, np.float32), rate, key, threads)
    return y


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_scales_the_rest(rate):
    """`rate` of the numbers become 0, within five standard deviations; the others are divided by 1 - rate."""
    y = dropped(reference, rate, 12345)
    share = (y == 0).mean()
    assert abs(share - rate) < 5 * np.sqrt(rate * (1 - rate) / y.size)
    np.testing.assert_allclose(y[y != 0], 1 / (1 - rate), rtol=1e-6)


@each("shift", [1, 2, 16, 64, 1000])
@each("key", [0, 1, 2**32, 2**63 + 1])
def test_dropout_masks_are_independent(key, shift):
    """Neither neighbours in a mask nor the masks of neighbouring keys agree more often than by chance."""
    kept = dropped(reference, 0.5, key) != 0
    chance = 5 * 0.5 / np.sqrt(kept.size)
    assert abs((kept[shift:] == kept[:-shift]).mean() - 0.5) < chance
    assert abs(((dropped(reference, 0.5, key + shift) != 0) == kept).mean() - 0.5) < chance


@pytest.mark.parametrize("key", [0, 77, 2**64 - 1])
def test_dropout_has_the_same_mask_everywhere(key):
    """The fast kernel drops what the specification drops, on any number of threads, in place too."""
    expected = dropped(reference, 0.3, key)
    for threads in (1, 3):
        assert np.array_equal(dropped(cpu, 0.3, key, threads), expected)
    y = np.ones_like(expected)
    cpu.dropout(y, y, 0.3, key, 2)
    assert np.array_equal(y, expected)


# ---------------------------------------------------------------- softmax head


@each("dtype", [np.float32, np.float64])
@each("M, D, V", [(9, 3, 1), (9, 7, 2), (5, 70, 17), (13, 33, 130), (600, 20, 65), (3, 5, 700)])
def test_softmax_head_equals_the_specification(M, D, V, dtype):
    """Losses and every gradient, weighted and smoothed or not, for vocabularies that fill no vector or many panels."""
    head, scales, classes = random_head(M, D, V, dtype)
    for weights in (
        {},
        {"scales": scales, "classes": classes},
        {"scales": scales, "classes": classes, "smoothing": 0.1},
    ):
        for expected, actual in zip(*(softmax_head(kernels, *head, **weights) for kernels in (reference, cpu))):
            assert actual.dtype == dtype
            close(actual, expected, TOLERANCE[dtype])


def test_softmax_head_in_pieces(monkeypatch):
    """With room for the logits of 96 rows, and for one packed panel, losses and gradients are those of one piece."""
    head, scales, classes = random_head(250, 20, 150, np.float64)
    expected = softmax_head(reference, *head, scales, classes, 0.1)
    monkeypatch.setattr(heads, "LOGITS_BYTES", 0)
    monkeypatch.setattr(heads, "HEAD_PANELS", 1)
    assert cpu.softmax_gradient_work(250, 20, 150, np.float64, 1)["rows"] == 96
    for value, wanted in zip(softmax_head(cpu, *head, scales, classes, 0.1), expected):
        close(value, wanted, 1e-13)


@pytest.mark.parametrize("M, V", [(3, 700), (1000, 5)])
def test_softmax_head_has_the_same_bits_on_any_threads(M, V):
    """Rows and panels may be shared between threads; sums are put together in one order."""
    head, scales, classes = random_head(M, 20, V, np.float32)
    runs = [softmax_head(cpu, *head, scales, classes, 0.1, threads) for threads in (1, 2, 5)]
    for run in runs[1:]:
        assert all(np.array_equal(value, wanted) for value, wanted in zip(run, runs[0]))


@pytest.mark.parametrize("kernels", [reference, cpu])
@each("smoothing", [0.0, 0.2])
@each("weighted", [False, True])
def test_softmax_head_is_pytorchs(kernels, weighted, smoothing):
    """torch.nn.CrossEntropyLoss with class weights, label smoothing and an ignored class, its mean and gradients."""
    torch = pytest.importorskip("torch")
    (x, targets, weight, bias), _, classes = random_head(40, 7, 21, np.float64)
    classes, ignored = classes if weighted else None, 3
    theirs = [torch.from_numpy(array.copy()).requires_grad_() for array in (x, weight, bias)]
    loss = torch.nn.functional.cross_entropy(
        torch.nn.functional.linear(*theirs),
        torch.from_numpy(targets).long(),
        None if classes is None else torch.from_numpy(classes),
        ignore_index=ignored,
        label_smoothing=smoothing,
    )
    loss.backward()
    counted = (targets != ignored) / (1 if classes is None else 1 / classes[targets])
    scales = np.where(targets == ignored, 0, 1 / counted.sum())
    _, losses, *grads = softmax_head(kernels, x, targets, weight, bias, scales, classes, smoothing)
    assert (losses * scales).sum() == pytest.approx(loss.item(), rel=1e-12)
    for found, (array, added) in zip(grads, zip(theirs, (0, 1, 1))):
        np.testing.assert_allclose(found - added, array.grad.numpy(), atol=1e-14)


def of_logits(kernels, logits, targets):
    """(losses, losses again, gradient of their sum) of logits, which a head with the identity as weight lets through."""
    one, none = np.eye(logits.shape[1], dtype=logits.dtype), np.zeros(logits.shape[1], logits.dtype)
    with np.errstate(invalid="ignore"):
        plain, losses, dx, *_ = softmax_head(kernels, logits, targets, one, none, np.ones(len(logits), logits.dtype))
    return plain, losses, dx


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kernels", [reference, cpu])
def test_cross_entropy_of_huge_logits(kernels, dtype):
    """Worked examples: the loss is the distance to the largest logit, or log V where all are equal; no NaN."""
    V, rows = 20, [
        ({0: 1e4}, 0, 0.0, 0.0), ({0: 1e4, 1: -1e4}, 1, 2e4, -1.0),
        ({3: 3e38}, 3, 0.0, 0.0), ({3: 3e38}, 0, 3e38, -1.0), ({19: -3e38}, 19, 3e38, -1.0),
        (dict.fromkeys(range(20), -3e38), 7, np.log(20), -0.95), (dict.fromkeys(range(20), 3e38), 7, np.log(20), -0.95),
    ]  # fmt: skip
    logits, targets = np.zeros((len(rows), V), dtype), np.array([row[1] for row in rows], np.int32)
    for line, (values, *_) in zip(logits, rows):
        line[list(values)] = list(values.values())
    plain, losses, dlogits = of_logits(kernels, logits, targets)
    for found in (plain, losses):
        np.testing.assert_allclose(found, [row[2] for row in rows], rtol=1e-6)
    np.testing.assert_allclose(dlogits[np.arange(len(rows)), targets], [row[3] for row in rows], atol=1e-6)
    np.testing.assert_allclose(dlogits.sum(axis=1), 0, atol=1e-6)


@each("place", [0, 5, 16, 19])
@pytest.mark.parametrize("kernels", [reference, cpu])
def test_cross_entropy_of_nan_is_nan(kernels, place):
    """A NaN anywhere in a row of logits makes that row's loss NaN, and leaves the other rows alone."""
    logits = np.zeros((2, 20), np.float32)
    logits[0, place] = np.nan
    for losses in of_logits(kernels, logits, np.array([3, 3], np.int32))[:2]:
        assert np.isnan(losses).tolist() == [True, False]


# ---------------------------------------------------------------- gradients


@each("dtype", [np.float32, np.float64])
@each("size", [1, 17, 1000, 200_001])
@pytest.mark.parametrize("kernels", [reference, cpu])
def test_squared_norm(kernels, size, dtype):
    """The sum of squares, exact to float64 in float64 and to 1e-6 in float32; the same bits on any threads."""
    g = np.random.default_rng(5).normal(size=size).astype(dtype)
    expected = float((g.astype(np.longdouble) ** 2).sum())
    found = [kernels.squared_norm(g, threads) for threads in (1, 2, 5)]
    np.testing.assert_allclose(found[0], expected, rtol=1e-6 if dtype == np.float32 else 1e-13)
    assert len(set(found)) == 1


@pytest.mark.parametrize("kernels", [reference, cpu])
def test_clip_values(kernels):
    """Numbers beyond the limit become the limit; NaN stays, so that it is noticed."""
    g = np.array([-9, -2, -1.5, 0, 1.5, 2, 9, np.inf, -np.inf, np.nan], np.float32)
    kernels.clip_values(g, 2.0, 2)
    np.testing.assert_array_equal(g, np.array([-2, -2, -1.5, 0, 1.5, 2, 2, 2, -2, np.nan], np.float32))


def test_texts_that_share_a_token_do_not_disturb_each_other():
    """Threads that read the same token at once all read it right."""
    V, E, H, N = 3, 64, 64, 64
    net = small_net((V, E, H), np.float32, num_layers=1)

    def logits(kernels, threads):
        h, c, top, out = (np.zeros(shape, np.float32) for shape in ((1, N, H), (1, N, H), (N, H), (N, V)))
        work = kernels.decode_work(N, kernels.decode_weights(net, threads), threads)
        for token in range(V):
            kernels.decode(DecoderState(h, c, top, out), np.full(N, token), work, threads)
        return out

    expected = logits(reference, 1)
    for _ in range(100):
        close(logits(cpu, 4), expected, TOLERANCE[np.float32])
