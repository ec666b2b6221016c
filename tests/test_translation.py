"""Translation: every gradient, networks like PyTorch's, a batch like one by one, decoding, the estimator and its file."""

import numpy as np
import pytest
from support.cases import each
from support.compare import close
from support.gradients import slope
from support.kernels import offsets_of

from nblstm.nn.encoder_decoder import Pairs
from nblstm.nn.parameters import views
from nblstm.tasks.translation.config import TranslatorConfig
from nblstm.tasks.translation.network import TranslationNetwork, initial_translator
from nblstm.text.batches import Chunk

SOURCES, TARGETS = [3, 7, 1, 4], [7, 3, 2, 1]  # lengths; those of targets fall
QUIET = {"dropout": 0.0, "output_dropout": 0.0, "input_dropout": 0.0}
NOISE = {"dropout": 0.3, "output_dropout": 0.4, "input_dropout": 0.2, "embedding_dropout": 0.2}
NETWORKS = [
    *({"attention": kind} for kind in ("general", "additive", "none")),
    {"attention": "dot", "bidirectional": False, "cell": "gru", "num_layers": 2},
    {"attention": "general", "input_feeding": True},
    {"attention": "additive", "input_feeding": True, "cell": "gru", "bidirectional": False},
    {"attention": "general", "shared": True, "tie": True, "residual": True, "variational_dropout": 0.2, "num_layers": 2},
    {"attention": "general", "cell": "mingru"}, {"attention": "general", "proj_size": 3},
    {"attention": "none", "source_size": 4, "source_vocab_size": 0, "cell": "gru"},
]  # fmt: skip


def config_of(**options):
    """A small config of float64."""
    settings = {
        "vocab_size": 7, "source_vocab_size": 7 if options.get("shared") else 9, "hidden_size": 5, "embedding_size": 4,
        "num_layers": 1, "dtype": "float64", **({"embedding_size": 5} if options.get("tie") else {}), **options,
    }  # fmt: skip
    return TranslatorConfig(**settings)


def make_network(backend="numpy", threads=1, **options):
    """A network whose parameters are all away from 0."""
    config = config_of(**options)
    parameters = 2 * initial_translator(config, 3)
    parameters += 0.15 * np.random.default_rng(5).normal(size=parameters.shape)
    return TranslationNetwork(config, parameters, backend, threads)


def make_chunk(config, sources=SOURCES, targets=TARGETS, only=None):
    """Pairs of unequal lengths, as a batch; or the one of them that stands alone. Sources are packed by their lengths."""
    r = np.random.default_rng(4)
    read = [r.integers(0, config.source_vocab_size or 9, length) for length in sources]
    vectors = r.normal(size=(len(sources), max(1, config.source_size)))
    written = [r.integers(0, config.vocab_size, length + 1) for length in targets]
    if only is not None:
        read, vectors, written = read[only : only + 1], vectors[only : only + 1], written[only : only + 1]
    by_length = np.argsort([-len(ids) for ids in read], kind="stable")
    tokens, offsets = packed([ids[:-1] for ids in written])
    following, _ = packed([ids[1:] for ids in written])
    if config.source_size:
        pairs = Pairs(tokens, vectors[by_length], np.array([0, len(read)]), np.argsort(by_length))
    else:
        pairs = Pairs(tokens, *packed([read[n] for n in by_length]), np.argsort(by_length))
    return Chunk(pairs, following, offsets, True)


def packed(texts):
    """Ids of texts of falling length, step by step, and their offsets."""
    offsets = offsets_of([len(ids) for ids in texts])
    steps = range(len(offsets) - 1)
    return np.array([ids[t] for t in steps for ids in texts if t < len(ids)], np.int32), offsets


# ---------------------------------------------------------------- the network


def gradient_of(network, chunk):
    """The mean loss with dropout and smoothing, and its gradient."""
    network.head.smoothing, gradient = 0.1, np.empty_like(network.parameters)
    return network.loss_and_gradient(gradient, chunk, network.initial_state(chunk.num_texts), seed=1, step=2)[
        0
    ], gradient


@each("options", NETWORKS)
def test_gradient_of_every_parameter(options):
    """Pairs of 1 to 7 tokens, dropout and smoothing: the slope of the loss along a direction of each, in float64."""
    r = np.random.default_rng(6)
    network = make_network("numpy", **{**NOISE, **options})
    chunk = make_chunk(network.config)
    grads = views(gradient_of(network, chunk)[1], network.config)
    for name in network.config.shapes:
        if grads[name].size:
            step = r.choice([-1, 1], grads[name].shape) * r.uniform(0.5, 1.5, grads[name].shape)  # every number moves
            expected = slope(lambda: gradient_of(network, chunk)[0], network.weights[name], step)
            assert (grads[name] * step).sum() == pytest.approx(expected, rel=2e-5, abs=1e-9), name


@each("options", NETWORKS)
def test_kernels_equal_the_specification(options):
    """Loss and gradient on compiled kernels are those of the specification, dropout and all."""
    pytest.importorskip("numba")
    networks = [make_network(backend, 2, **{**NOISE, **options}) for backend in ("numpy", "cpu")]
    (expected, gradient), (loss, found) = (gradient_of(network, make_chunk(network.config)) for network in networks)
    assert loss == pytest.approx(expected, rel=1e-12)
    close(found, gradient, 1e-12)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@each("options", NETWORKS)
def test_a_batch_equals_one_by_one(backend, options):
    """Logits and gradients of pairs side by side are those of each pair alone, whatever the order of the sources."""
    if backend == "cpu":
        pytest.importorskip("numba")
    network = make_network(backend, 2, **QUIET, **{**options, "variational_dropout": 0.0})
    chunk = make_chunk(network.config)
    together, _ = network.outputs(chunk, network.initial_state(4))
    gradient, total = np.empty((2, network.config.num_parameters))
    network.loss_and_gradient(gradient, chunk, network.initial_state(4), 0, 0)
    total[...] = 0
    for n, length in enumerate(TARGETS):
        alone, part = make_chunk(network.config, only=n), np.empty_like(total)
        rows = chunk.offsets[:length] + n
        close(network.outputs(alone, network.initial_state())[0], together[rows], 1e-12)
        network.loss_and_gradient(part, alone, network.initial_state(), 0, 0)
        total += part * length / sum(TARGETS)
    close(gradient, total, 1e-12)


def of_torch(torch, network, chunk):
    """The logits of every row by PyTorch's modules and operations, pair by pair, and the weights they were made with."""
    c, F = network.config, torch.nn.functional
    named = {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in network.weights.items()}
    for name, other in c.tied.items():
        named[name] = named[other]
    kind = {"lstm": torch.nn.LSTM, "gru": torch.nn.GRU}[c.cell]
    sides = {}
    for side, directions in (("encoder", 2 if c.bidirectional else 1), ("decoder", 1)):
        sides[side] = kind(
            c.embedding_size, c.hidden_size, c.num_layers, bidirectional=directions == 2, dtype=torch.float64
        )
    logits = [None] * len(chunk.targets)
    for n in range(chunk.num_texts):
        place = chunk.tokens.order[n]
        x, y = (torch.from_numpy(ids).long() for ids in (
            of_text(chunk.tokens.sources, chunk.tokens.offsets, place), of_text(chunk.tokens.tokens, chunk.offsets, n)
        ))  # fmt: skip
        run = lambda side, ids, *state: torch.func.functional_call(
            sides[side],
            {name: named[f"{side}.rnn.{name}"] for name, _ in sides[side].named_parameters()},
            (named[f"{side}.embedding.weight"][ids], *state),
        )
        s, last = run("encoder", x)
        h, memory = last if c.cell == "lstm" else (last, None)
        D = len(h) // c.num_layers
        bridge = lambda kind, states: torch.stack([
            F.linear(states[k * D : (k + 1) * D].reshape(-1), named[f"bridge.{kind}_l{k}.weight"], named[f"bridge.{kind}_l{k}.bias"])
            for k in range(c.num_layers)
        ])  # fmt: skip
        first = torch.tanh(bridge("h", h))
        t, _ = run("decoder", y, first if memory is None else (first, bridge("c", memory)))
        if c.attention != "none":
            scores = {
                "dot": lambda: t @ s.T,
                "general": lambda: t @ named["attention.key.weight"] @ s.T,
                "additive": lambda: torch.tanh(
                    F.linear(t, named["attention.query.weight"], named["attention.query.bias"])[:, None]
                    + (s @ named["attention.key.weight"].T)[None]
                ) @ named["attention.vector"],
            }[c.attention]()  # fmt: skip
            t = torch.tanh(
                torch.cat([torch.softmax(scores, dim=1) @ s, t], dim=1) @ named["attention.combine.weight"].T
            )
        for row, y in zip(chunk.offsets[: len(t)] + n, F.linear(t, named["head.weight"], named["head.bias"])):
            logits[row] = y
    return torch.stack(logits), named


def of_text(ids, offsets, n):
    """The ids of one text of packed ones."""
    return np.array([ids[first + n] for first, last in zip(offsets, offsets[1:]) if n < last - first])


@each("options", [
    {"attention": "general", "num_layers": 2}, {"attention": "additive"}, {"attention": "none", "cell": "gru"},
    {"attention": "dot", "bidirectional": False, "cell": "gru"}, {"attention": "general", "shared": True, "tie": True},
])  # fmt: skip
@each("dtype, tolerance", [("float64", 1e-6), ("float32", 1e-5)])
def test_logits_and_gradients_are_pytorchs(options, dtype, tolerance):
    """torch.nn.LSTM or GRU on both sides with the same weights, attention in PyTorch's operations, cross-entropy."""
    torch, backend = pytest.importorskip("torch"), "cpu" if dtype == "float32" else "numpy"
    if backend == "cpu":
        pytest.importorskip("numba")
    peer, config = make_network(**QUIET, **options), config_of(dtype=dtype, **QUIET, **options)
    chunk = make_chunk(config)
    expected, named = of_torch(torch, peer, chunk)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.1)(expected, torch.from_numpy(chunk.targets).long())
    loss.backward()
    network = TranslationNetwork(config, peer.parameters.astype(dtype), backend, 2)
    close(network.outputs(chunk, network.initial_state(4))[0], expected.detach().numpy(), tolerance)
    found, gradient = gradient_of(network, chunk)
    assert found == pytest.approx(loss.item(), abs=tolerance)
    for name, array in views(gradient, config).items():
        close(array, named[name].grad.numpy(), tolerance)
