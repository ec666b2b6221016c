"""Updates that leave the vectors of tokens that do not occur as they are."""

import numpy as np
import pytest
from support.cases import each
from support.networks import make_network

from nblstm.config import TrainConfig
from nblstm.errors import ConfigError
from nblstm.nn.parameters import views
from nblstm.text.batches import Streams
from nblstm.training.trainer import Trainer

V, STEPS = 40, 7
TEXT = np.random.default_rng(0).integers(0, V, 200).astype(np.int32)  # of which a chunk of 12 tokens has few


def trainer(backend="numpy", tokens=TEXT, **settings):
    """The trainer of a small network, its chunks of 3 texts of 4 tokens."""
    network = make_network(backend, threads=1, vocab_size=V, num_layers=1, hidden_size=9)
    how = {
        "optimizer": "adam",
        "lr": 0.02,
        "lazy_embedding": True,
        "schedule": "constant",
        "steps": STEPS,
        "clip": 0.5,
        **settings,
    }
    return Trainer(network, TrainConfig(batch_size=3, bptt=4, **how), Streams(tokens, 3, 4))


def adam(w, m, v, g, step, decay=0.0, decoupled=0.0, lr=0.02):
    """Adam as its paper has it, of arrays that are returned anew."""
    g = g + decay * w
    m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
    return w * (1 - lr * decoupled) - lr * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8), m, v


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@each(
    "settings",
    [{}, {"clip": 0.0, "clip_value": 0.01}, {"weight_decay": 0.1}, {"optimizer": "adamw", "weight_decay": 0.3}],
)
def test_an_update_is_adam_of_the_rows_that_occur(backend, settings):
    """Seven updates against the rule in NumPy: rows that a chunk lacks keep their vectors and moments, to the last bit.

    The gradient's norm, by which it is clipped, and weight decay see the rows that occur alone; the rest is plain Adam.
    """
    training = trainer(backend, **settings)
    network, twin = training.network, make_network(backend, threads=1, vocab_size=V, num_layers=1, hidden_size=9)
    w = twin.parameters
    m, v, gradient, state = np.zeros_like(w), np.zeros_like(w), np.empty_like(w), twin.initial_state(3)
    decay = settings.get("weight_decay", 0.0)
    decays = (0.0, decay) if settings.get("optimizer") else (decay, 0.0)
    for step, report in enumerate(training.run(), 1):
        if report.validated:
            continue
        chunk = Streams(TEXT, 3, 4)[step - 1]
        loss, state = twin.loss_and_gradient(gradient, chunk, twin.before(chunk, state), 0, step - 1)
        occurs = np.concatenate([np.repeat(np.isin(np.arange(V), chunk.tokens), 5), np.ones(len(w) - V * 5, bool)])
        if settings.get("clip_value"):
            gradient = np.clip(gradient, -0.01, 0.01)
        norm = np.sqrt(np.square(gradient).sum())
        scaled = gradient * (min(1.0, 0.5 / (norm + 1e-6)) if settings.get("clip", 0.5) else 1)
        moved = adam(w, m, v, scaled, step, *decays)
        before = w.copy()
        w[...], m, v = (np.where(occurs, new, old) for new, old in zip(moved, (w, m, v)))
        assert 0 < occurs[: V * 5].sum() < V * 5
        np.testing.assert_allclose([report.loss, report.gradient_norm], [loss, norm], rtol=1e-9)
        np.testing.assert_allclose(network.parameters, w, rtol=1e-9, atol=1e-12)
        for name, own in (("m", m), ("v", v)):
            np.testing.assert_allclose(training.optimizer.moments[name], own, rtol=1e-8, atol=1e-12)
        np.testing.assert_allclose(training.best, before, rtol=1e-9, atol=1e-12, err_msg="the last good weights")
    assert step >= STEPS


def test_equals_sparse_adam_of_torch():
    """The embedding of ours and of a torch.nn.Embedding(sparse=True) under torch.optim.SparseAdam, of the same gradients.

    Its epsilon stands before the bias correction, so they differ by less than a hundredth of a step where gradients are tiny.
    """
    torch = pytest.importorskip("torch")
    training = trainer(clip=0.0)
    weight = views(training.network.parameters, training.network.config)["embedding.weight"]
    theirs = torch.nn.Parameter(torch.from_numpy(weight.copy()))
    optimizer = torch.optim.SparseAdam([theirs], lr=0.02)
    for report in training.run():
        if not report.validated:
            rows = training.extent.rows
            grad = views(training.gradient, training.network.config)["embedding.weight"][rows]
            theirs.grad = torch.sparse_coo_tensor(
                rows[None], torch.from_numpy(grad), theirs.shape, check_invariants=True
            )
            optimizer.step()
            np.testing.assert_allclose(weight, theirs.detach().numpy(), rtol=0, atol=0.02 / 200)


def test_where_all_tokens_occur_it_is_plain_adam():
    """A text of few tokens, each of which stands in every chunk: lazy or not, the same weights."""
    tokens = np.tile(np.arange(4), 60).astype(np.int32)
    found = []
    for lazy in (True, False):
        training = trainer(tokens=tokens, lazy_embedding=lazy)
        list(training.run())
        found.append(training.network.parameters)
    np.testing.assert_allclose(*found, rtol=1e-9)


@each("stop", [1, 3, 6])
def test_it_goes_on_from_its_tensors_and_after_an_error(stop):
    """A run restored from its tensors, and one whose update an error ended before it was made, end as one without a break."""
    whole = trainer()
    list(whole.run())
    first, second = trainer(), trainer()
    steps = iter(first.run())
    for _ in range(stop):
        next(steps)
    second.restore({name: array.copy() for name, array in first.tensors().items()}, first.facts())

    def broken(loss):
        raise MemoryError

    first._clip = broken
    with pytest.raises(MemoryError):
        next(steps)
    del first._clip
    for training in (first, second):
        list(training.run())
        np.testing.assert_array_equal(training.network.parameters, whole.network.parameters)
        np.testing.assert_array_equal(training.best, whole.best)


@each("settings, message", [
    ({"optimizer": "sgd"}, "lazy_embedding is for adam or adamw, not for sgd; leave it out"),
    ({"device": "cuda"}, "lazy_embedding is not for device cuda"),
])  # fmt: skip
def test_what_cannot_be_lazy(settings, message):
    """Optimizers whose moments all move, and cards, refuse it in a sentence."""
    with pytest.raises(ConfigError, match=message):
        TrainConfig(lazy_embedding=True, **settings)
