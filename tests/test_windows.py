"""Windows and the network that sees them: against lists, finite differences and PyTorch, for both backends."""

import numpy as np
import pytest
from support.cases import each
from support.compare import close
from support.gradients import check_gradient
from support.networks import BACKENDS
from support.training import assert_same_run, history

from nblstm import pad_sequences
from nblstm.config import TrainConfig
from nblstm.errors import ConfigError
from nblstm.files.model_file import load_checkpoint, save_checkpoint
from nblstm.nn.parameters import views
from nblstm.tasks.window.batches import Windows
from nblstm.tasks.window.config import WindowConfig
from nblstm.tasks.window.network import initial_windows, window_network
from nblstm.text.batches import Chunk
from nblstm.training.trainer import Trainer

V, N, M = 7, 3, 5  # tokens, window, rows
KINDS = {"one-hot": {}, "embedded": {"embedding_size": 4}}
kinds = pytest.mark.parametrize("kind", KINDS)
backends = pytest.mark.parametrize("backend", BACKENDS)


def make_network(kind="one-hot", backend="cpu", threads=2, **changes):
    """A network of 6 units with random parameters, biases included."""
    shape = {"vocab_size": V, "window": N, "hidden_size": 6, "dtype": "float64", **KINDS[kind], **changes}
    config = WindowConfig(**shape)
    parameters = np.random.default_rng(0).normal(0, 0.5, config.num_parameters).astype(config.dtype)
    return window_network(config, parameters, backend, threads)


def make_chunk():
    """M random windows and what follows them."""
    r = np.random.default_rng(1)
    tokens, targets = r.integers(0, V, (M, N)).astype(np.int32), r.integers(0, V, M).astype(np.int32)
    return Chunk(tokens, targets, np.array([0, M]), fresh=True)


def gradient_of(network, chunk):
    """(loss, gradient by name) of a chunk at a fixed (seed, step)."""
    gradient = np.full_like(network.parameters, np.nan)
    loss, _ = network.loss_and_gradient(gradient, chunk, network.initial_state(M), seed=1, step=2)
    return loss, views(gradient, network.config)


# ---------------------------------------------------------------- windows of a text


@pytest.mark.parametrize("padding", ["pre", "post"])
def test_windows_of_a_stream(padding):
    """What stands before each token of a stream but the first, filled up as pad_sequences does, in the text's order."""
    ids = np.array([5, 3, 4, 2, 6, 1], np.uint8)
    (chunk,) = Windows(ids, None, N, padding, 9, 100, None).epoch(0)
    beginnings = [ids[:place].tolist() for place in range(1, 6)]
    assert chunk.tokens.tolist() == pad_sequences(beginnings, N, padding=padding, value=9).tolist()
    assert chunk.targets.tolist() == [3, 4, 2, 6, 1] and chunk.tokens.dtype == chunk.targets.dtype == np.int32


@pytest.mark.parametrize("padding", ["pre", "post"])
def test_windows_of_documents(padding):
    """Nothing is seen of another document; every token and every end is a target."""
    ids, offsets = np.array([1, 5, 3, 1, 4, 1]), np.array([0, 3, 5])  # <end> 5 3 <end> 4 <end>
    (chunk,) = Windows(ids, offsets, N, padding, 1, 100, None).epoch(0)
    beginnings = [[], [5], [5, 3], [], [4]]
    assert chunk.tokens.tolist() == pad_sequences(beginnings, N, padding=padding, value=1).tolist()
    assert chunk.targets.tolist() == [5, 3, 1, 4, 1]


def test_an_epoch_has_every_target_once_in_an_order_of_its_own():
    """The order is a function of the seed and the epoch's number; the last batch holds what is left."""
    windows = Windows(np.arange(31), None, N, "pre", 0, 8, 5)
    orders = [np.concatenate([chunk.targets for chunk in windows.epoch(number)]).tolist() for number in (0, 1, 0)]
    assert [len(chunk.targets) for chunk in windows.epoch(0)] == [8, 8, 8, 6]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(1, 31))
    assert orders[0] == orders[2] != orders[1]
    for chunk in windows.epoch(1):
        assert np.array_equal(chunk.tokens[:, -1], chunk.targets - 1)


# ---------------------------------------------------------------- the network


@kinds
@backends
@each("dropout", [0.0, 0.5])
def test_gradient_against_finite_differences(kind, backend, dropout):
    """Every parameter, with class weights and label smoothing, with and without dropout."""
    network, chunk = make_network(kind, backend, dropout=dropout), make_chunk()
    network.head.classes, network.head.smoothing = np.random.default_rng(2).uniform(0.5, 2, V), 0.1
    _, grads = gradient_of(network, chunk)
    for name, weight in network.weights.items():
        check_gradient(name, lambda: gradient_of(network, chunk)[0], weight, grads[name])


@kinds
@backends
@each("dtype", ["float32", "float64"])
def test_losses_and_gradients_are_pytorchs(kind, backend, dtype):
    """One-hot or embedded tokens side by side, Linear, relu, Linear, cross entropy."""
    torch = pytest.importorskip("torch")
    network, chunk = make_network(kind, backend, dropout=0.0, dtype=dtype), make_chunk()
    theirs = {name: torch.tensor(weight, requires_grad=True) for name, weight in network.weights.items()}
    tokens, targets = (torch.from_numpy(ids).long() for ids in (chunk.tokens, chunk.targets))
    if kind == "one-hot":
        x = torch.nn.functional.one_hot(tokens, V).reshape(M, N * V).to(theirs["head.bias"].dtype)
        z = x @ theirs["window.weight"] + theirs["dense.bias"]
    else:
        x = torch.nn.functional.embedding(tokens, theirs["embedding.weight"]).reshape(M, -1)
        z = torch.nn.functional.linear(x, theirs["dense.weight"], theirs["dense.bias"])
    logits = torch.nn.functional.linear(z.relu(), theirs["head.weight"], theirs["head.bias"])
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    losses.mean().backward()
    tolerance = {"float32": 1e-5, "float64": 1e-12}[dtype]
    close(network.outputs(chunk, network.initial_state(len(chunk.tokens)))[0], logits.detach().numpy(), tolerance)
    close(network.losses(chunk, network.initial_state(M))[0], losses.detach().numpy(), tolerance)
    loss, grads = gradient_of(network, chunk)
    close(loss, losses.mean().item(), tolerance)
    for name, weight in theirs.items():
        assert grads[name].dtype == dtype
        close(grads[name], weight.grad.numpy(), tolerance)


@kinds
def test_number_of_threads_does_not_change_a_bit(kind):
    """1 and 3 threads give the same gradient, dropout included."""
    one, three = (gradient_of(make_network(kind, threads=threads), make_chunk())[1] for threads in (1, 3))
    assert all(np.array_equal(one[name], three[name]) for name in one)


@kinds
def test_fresh_hidden_units_have_variance_two_over_their_inputs(kind):
    """He et al. 2015, eq. 10: z has variance 2 for inputs of variance 1, one-hot inputs counting by their ones."""
    config = WindowConfig(50, window=20, hidden_size=400, **KINDS[kind])
    weights = views(initial_windows(config, 1), config)
    name = "window.weight" if kind == "one-hot" else "dense.weight"
    assert weights[name].var() == pytest.approx(2 / (20 * max(1, config.embedding_size)), rel=0.05)
    assert not weights["dense.bias"].any() and not weights["head.bias"].any()


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path):
    """The trainer goes on from a checkpoint of a window network to the last bit, in the middle of an epoch."""
    ids = np.random.default_rng(3).integers(0, V, 60)

    def trainer():
        network, config = make_network(dtype="float32", dropout=0.5), TrainConfig(batch_size=16, steps=9)
        source, valid = (Windows(ids, None, N, "pre", 0, size, seed) for size, seed in ((16, 0), (9, None)))
        return Trainer(network, config, source, valid.epoch(0))

    whole, first, second = trainer(), trainer(), trainer()
    expected = history(whole.run())
    before = history(first.run(lambda: first.step >= 6))
    save_checkpoint(tmp_path / "c", first.tensors(), first.facts())
    second.restore(*load_checkpoint(tmp_path / "c"))
    assert before + history(second.run()) == expected
    assert_same_run(second, whole)


# ---------------------------------------------------------------- the config


HEAD = V * 6 + V


@pytest.mark.parametrize("kind, count", [("one-hot", N * V * 6 + 6 + HEAD), ("embedded", V * 4 + 6 * N * 4 + 6 + HEAD)])
def test_parameters_are_counted(kind, count):
    """By hand."""
    assert make_network(kind).config.num_parameters == count


@each(
    "settings, message",
    [
        ({"window": 0}, "window must be at least 1"),
        ({"padding": "left"}, "padding must be one of pre, post"),
        ({"dropout": 1.0}, "dropout must be"),
        ({"embedding_size": -1}, "embedding_size must be at least 0"),
        ({"window": 10**6, "hidden_size": 10**6}, "more than .* lower window"),
        ({"hidden_size": "8"}, "must be int"),
    ],
)
def test_wrong_settings_are_named(settings, message):
    """ConfigError says which and why."""
    with pytest.raises(ConfigError, match=message):
        WindowConfig(V, **settings)
