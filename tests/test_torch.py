"""The network, its gradients and the optimizers against PyTorch's, where PyTorch is installed."""

import numpy as np
import pytest
from support.cases import each, pairs
from support.compare import close
from support.kernels import offsets_of
from support.networks import BACKENDS, make_chunk, make_network

from nblstm import scoring
from nblstm.config import TrainConfig
from nblstm.kernels import load
from nblstm.nn.parameters import views
from nblstm.nn.state import State
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.tasks.masked import network as networks
from nblstm.text.batches import Chunk, Streams
from nblstm.text.vocabulary import Characters
from nblstm.training.optimizers import make_optimizer
from nblstm.training.trainer import Trainer

torch = pytest.importorskip("torch")

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
HALF = {True: {"mask_fraction": 0.5}, False: {}}  # of the tokens hidden, in both directions
LR = 2**-7  # which PyTorch keeps exactly, also where it rounds to float32
SETTINGS = {  # optimizer: the settings of TrainConfig, and PyTorch's optimizer
    "adam": ({}, lambda w, decay: torch.optim.Adam([w], lr=LR, weight_decay=decay)),
    "adamw": ({}, lambda w, decay: torch.optim.AdamW([w], lr=LR, weight_decay=decay)),
    "sgd, nesterov": (
        {"momentum": 0.9, "nesterov": True},
        lambda w, decay: torch.optim.SGD([w], lr=LR, momentum=0.9, nesterov=True, weight_decay=decay),
    ),
    "asgd": ({}, lambda w, decay: torch.optim.ASGD([w], lr=LR, lambd=0, alpha=0, t0=0, weight_decay=decay)),
    "sgd": ({"momentum": 0.9}, lambda w, decay: torch.optim.SGD([w], lr=LR, momentum=0.9, weight_decay=decay)),
    "sgd, plain": ({"momentum": 0.0}, lambda w, decay: torch.optim.SGD([w], lr=LR, weight_decay=decay)),
    "rmsprop": ({}, lambda w, decay: torch.optim.RMSprop([w], lr=LR, weight_decay=decay)),
}


def random_shape(seed):
    """(T, N, fields of LanguageConfig): small and odd; every size that matters to a tile comes up."""
    r = np.random.default_rng(seed)
    pick = lambda *choices: int(r.choice(choices))
    E, H, V = pick(1, 2, 5, 17, 64, 70), pick(1, 7, 16, 33, 64, 65, 130), pick(1, 2, 11, 64, 65, 130)
    tie = bool(r.random() < 0.3)
    shape = {"vocab_size": V, "embedding_size": H if tie else E, "hidden_size": H, "tie": tie}
    return pick(1, 2, 3, 9), pick(1, 2, 3, 7), {**shape, "num_layers": pick(1, 2, 3)}


class Peer(torch.nn.Module):
    """torch.nn.Embedding -> LSTM, GRU or RNN -> Linear with the network's own parameters."""

    def __init__(self, network):
        super().__init__()
        c, dtype = network.config, getattr(torch, network.config.dtype)
        self.config = c
        self.embedding = torch.nn.Embedding(c.vocab_size, c.embedding_size, dtype=dtype)
        layers = getattr(torch.nn, c.cell.upper())
        self.rnn = layers(c.embedding_size, c.hidden_size, c.num_layers, bidirectional=c.directions == 2, dtype=dtype)
        self.head = torch.nn.Linear(c.head_size, c.vocab_size, dtype=dtype)
        self.load_state_dict({name: torch.from_numpy(array) for name, array in network.weights.items()})
        if c.tie:
            self.head.weight = self.embedding.weight

    def run(self, tokens, targets, state):
        """Losses, the state after, and the gradient of the mean loss, by name."""
        T, N = tokens.shape
        chunk = Chunk.rectangle(tokens, targets, fresh=False)
        losses, *after, grads = self.run_packed(chunk, state)
        return losses.reshape(T, N), *after, grads

    def run_packed(self, chunk, state):
        """The same for a packed chunk (M,), whose weights say how much each loss counts."""
        x = self.embedding(torch.from_numpy(chunk.tokens).long())
        h, c = torch.from_numpy(state.h), torch.from_numpy(state.c)
        packed = torch.nn.utils.rnn.PackedSequence(x, torch.from_numpy(np.diff(chunk.offsets)))
        y, after = self.rnn(packed, (h, c) if self.config.cell == "lstm" else h)
        h, c = after if self.config.cell == "lstm" else (after, c)
        targets = torch.from_numpy(chunk.targets).long()
        losses = torch.nn.functional.cross_entropy(self.head(y.data), targets, reduction="none")
        weights = torch.ones_like(losses) if chunk.weights is None else torch.from_numpy(chunk.weights).to(losses)
        ((losses * weights).sum() / weights.sum()).backward()
        grads = {name: weight.grad.numpy() for name, weight in self.named_parameters()}
        return losses.detach().numpy(), h.detach().numpy(), c.detach().numpy(), grads


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@each("backend, seed", [("cpu", k) for k in range(50)] + [("numpy", k) for k in range(12)])
def test_network_equals_pytorch(backend, seed, dtype):
    """Losses, final state and the gradient of every parameter, on shapes drawn at random."""
    T, N, shape = random_shape(seed)
    network = make_network(backend, dtype=dtype, **shape)
    chunk, state = make_chunk(network.config, T, N)
    tokens, targets = (ids.reshape(T, N) for ids in (chunk.tokens, chunk.targets))
    losses, h, c, grads = Peer(network).run(tokens, targets, state)
    gradient = np.full_like(network.parameters, np.nan)
    loss, after = network.loss_and_gradient(gradient, chunk, state, 0, 0)
    scored, _ = network.losses(chunk, state)
    for actual, expected in [(loss, losses.mean()), (scored, losses.reshape(-1)), (after.h, h), (after.c, c)]:
        close(actual, expected, TOLERANCE[dtype])
    named = views(gradient, network.config)
    for name, expected in grads.items():
        np.testing.assert_allclose(
            named[name], expected, rtol=0, atol=TOLERANCE[dtype] * max(np.abs(expected).max(), 0.01), err_msg=name
        )


def judged(dtype, seed=0):
    """A model with random weights and a random text of its 31 characters; PyTorch's twin of it."""
    config = LanguageConfig(32, hidden_size=48, num_layers=2, dtype=dtype)
    network = make_network(**config.to_dict())
    vocabulary = Characters(("<unk>", *map(chr, range(65, 96))))
    text = "".join(map(chr, np.random.default_rng(seed).integers(65, 96, 10_001)))
    return LanguageModel(config, vocabulary, network.parameters, {}), text, Peer(network)


def their_nats(peer, ids):
    """The sum of PyTorch's losses of ids (M + 1,), the first one given, from the zero state."""
    zero = State.zeros(peer.config)
    with torch.no_grad():
        y, _ = peer.rnn(
            peer.embedding(torch.from_numpy(ids[:-1, None])), (torch.from_numpy(zero.h), torch.from_numpy(zero.c))
        )
        return (
            torch.nn.functional.cross_entropy(peer.head(y)[:, 0], torch.from_numpy(ids[1:]), reduction="none")
            .double()
            .sum()
        )


@each("dtype, backend, rows", pairs(["float32", "float64"], BACKENDS, [4096, 1000, 37]))
def test_the_score_of_a_text_equals_pytorchs(dtype, backend, rows, monkeypatch):
    """10,000 tokens as one stream, whatever the chunks: to 1e-6 nats in all, in float32 to 1e-4."""
    tolerance = 1e-6 if dtype == "float64" else 1e-4
    monkeypatch.setattr(scoring.amounts, "rows_at_once", lambda config: rows)
    model, text, peer = judged(dtype)
    assert model.score(text, backend).nats == pytest.approx(float(their_nats(peer, model.encode(text))), abs=tolerance)


@pytest.mark.parametrize("backend", BACKENDS)
def test_scores_of_lines_equal_pytorchs(backend):
    """Each of many lines, read side by side, costs what PyTorch finds it costs alone, read after a line end."""
    model, text, peer = judged("float64")
    cuts = np.random.default_rng(3).integers(0, len(text), 60).cumsum() % len(text)
    lines = [text[min(pair) : max(pair)][:200] for pair in zip(cuts, cuts[1:])]
    for line, score in zip(lines, model.score_lines(lines, backend), strict=True):
        ids = np.concatenate([model.encode("\n"), model.encode(line)])
        assert score.nats == pytest.approx(float(their_nats(peer, ids)), abs=1e-6)


@pytest.mark.parametrize("backend", BACKENDS)
@each("cell, bidirectional, dtype", pairs(["lstm", "gru", "rnn"], [False, True], ["float32", "float64"]))
def test_packed_texts_equal_pytorchs(backend, bidirectional, cell, dtype, monkeypatch):
    """Two layers on packed texts that end, from a random state: losses, states and every gradient.

    In both directions, of what the network chooses to hide; every other token is then read as it is.
    """
    network = make_network(backend, dtype=dtype, cell=cell, bidirectional=bidirectional, **HALF[bidirectional])
    lengths, c, r = [9, 7, 7, 3, 1], network.config, np.random.default_rng(12)
    tokens, targets = r.integers(1, c.vocab_size, (2, sum(lengths))).astype(np.int32)
    chunk, state = Chunk(tokens, targets, offsets_of(lengths), True), State.zeros(c, len(lengths))
    for array in (state.h, *([state.c] if cell == "lstm" else [])):
        array[...] = r.normal(0, 0.5, array.shape)
    read, hiding = [chunk], networks.mask_chunk
    monkeypatch.setattr(networks, "mask_chunk", lambda *args: read.append(hiding(*args)) or read[-1])
    gradient = np.full_like(network.parameters, np.nan)
    loss, after = network.loss_and_gradient(gradient, chunk, state, 0, 3)
    losses, h, their_c, grads = Peer(network).run_packed(read[-1], state)
    counted = np.ones(len(losses)) if read[-1].weights is None else read[-1].weights
    assert (0 < counted.sum() < len(losses)) == bidirectional
    expected = [(loss, (losses * counted).sum() / counted.sum()), (after.h, h)]
    for actual, wanted in [*expected, *([(after.c, their_c)] if cell == "lstm" else [])]:
        close(actual, wanted, TOLERANCE[dtype])
    named = views(gradient, c)
    for name, wanted in grads.items():
        close(named[name], wanted, TOLERANCE[dtype])


@each("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_filling_in_equals_pytorchs(backend, cell):
    """What each token of a text costs, hidden with each seventh: the losses of PyTorch's seven readings."""
    network = make_network(backend, cell=cell, bidirectional=True)
    ids = np.random.default_rng(5).integers(1, network.config.vocab_size, 40).astype(np.int32)
    zero, chunk = State.zeros(network.config), Chunk(ids, ids, np.arange(41), True)
    found, _ = network.losses(chunk, network.initial_state())
    for k in range(7):
        hidden = np.arange(40) % 7 == k
        losses, *_ = Peer(network).run_packed(Chunk(np.where(hidden, 0, ids), ids, np.arange(41), True), zero)
        close(found[hidden], losses[hidden], 1e-12)


def test_shapes_drawn_cover_the_odd_ones():
    """Among the fifty: one unit, less and more than a tile and a panel, one stream, one step, tied weights."""
    drawn = [random_shape(seed) for seed in range(50)]
    assert {1, 7, 33, 130} <= {shape["hidden_size"] for _, _, shape in drawn}
    assert {1, 3} <= {N for _, N, _ in drawn}
    assert {1, 9} <= {T for T, _, _ in drawn}
    assert {(True, True), (True, False)} <= {(shape["tie"], shape["hidden_size"] > 64) for _, _, shape in drawn}


def test_the_parameters_are_named_and_shaped_as_pytorchs():
    """Names, shapes and their order are those of the state_dict of Embedding, LSTM and Linear."""
    network = make_network(num_layers=3)
    expected = {name: tuple(weight.shape) for name, weight in Peer(network).state_dict().items()}
    assert list(expected.items()) == [(name, array.shape) for name, array in network.weights.items()]


@pytest.mark.parametrize("backend", BACKENDS)
@each("optimizer, weight_decay, dtype", pairs(SETTINGS, [0.0, 0.1], ["float32", "float64"]))
def test_optimizer_equals_pytorchs(backend, optimizer, weight_decay, dtype):
    """Twenty updates along random gradients, some of them zero, some huge and some tiny, scaled by 0.5."""
    settings, peer = SETTINGS[optimizer]
    config = TrainConfig(optimizer=optimizer.split(",")[0], weight_decay=weight_decay, **settings)
    r = np.random.default_rng(10)
    w = r.normal(size=1003).astype(dtype)
    theirs = torch.from_numpy(w.copy()).requires_grad_()
    ours, torchs = make_optimizer(config, w), peer(theirs, weight_decay)
    for step in range(1, 21):
        g = (r.normal(size=w.size) * 10 ** r.uniform(-4, 3, w.size) * (r.random(w.size) < 0.9)).astype(dtype)
        theirs.grad = torch.from_numpy(g * 0.5)
        torchs.step()
        if optimizer == "asgd" and step == 2:
            ours.count = 0  # PyTorch's mean is that of the second and all later parameters
        ours.update(load(backend), w, g, LR, step, 0.5, 2)
    close(w, theirs.detach().numpy(), {"float32": 2e-5, "float64": 1e-12}[dtype])
    if optimizer == "asgd":
        close(ours.averaged(w), torchs.state[theirs]["ax"].numpy(), {"float32": 2e-5, "float64": 1e-6}[dtype])


@each("clip", [0.01, 1e4, 0.0])
@pytest.mark.parametrize("backend", BACKENDS)
def test_clipping_equals_pytorchs(backend, clip):
    """A step of size 1 along the gradient moves the parameters by what clip_grad_norm_ leaves of it; 0 is off."""
    network = make_network(backend, vocab_size=7)
    config = TrainConfig(
        optimizer="sgd", lr=1.0, momentum=0.0, schedule="constant", clip=clip, steps=1, batch_size=2, bptt=4
    )
    trainer = Trainer(network, config, Streams(np.arange(40) % 7, 2, 4))
    gradient, before = np.empty_like(network.parameters), network.parameters.copy()
    chunk = trainer.chunks[0]
    network.loss_and_gradient(gradient, chunk, network.before(chunk, trainer.state), config.seed, 0)
    theirs = torch.zeros_like(torch.from_numpy(before), requires_grad=True)
    theirs.grad = torch.from_numpy(gradient.copy())
    norm = torch.nn.utils.clip_grad_norm_([theirs], clip or np.inf).item()
    report = next(iter(trainer.run()))
    close(before - network.parameters, theirs.grad.numpy(), 1e-14)
    close(report.gradient_norm, norm, 1e-14)
    assert 0.01 < norm < 1e4
