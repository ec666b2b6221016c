"""Whole texts read and scored with int8 weights: the layers and the softmax beside the specification, and models."""

import numpy as np
import pytest
from support import golden
from support.borders import make_model
from support.cases import each, pairs
from support.rounded import NETS, decoded, read, rounded_net

import nblstm
from nblstm.kernels import load
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.text.batches import Chunk

pytest.importorskip("numba")
cpu = load("cpu")

from nblstm.kernels.cpu import recurrent

COMPILED = ["lstm", "gru", "mingru", "residual, cell head"]  # stress/int8.py has the others, too
TEXTS = [([6], 1), ([6], 2), ([5, 4, 4, 1], 1), ([7, 5, 5, 2, 2], 3)]  # lengths, threads
SIZES = [(5, 3, 1), (40, 33, 33), (70, 64, 64), (66, 21, 130), (130, 6, 17)]  # V, E, H


@each("name, split", pairs(COMPILED, TEXTS))
def test_reading_equals_the_specification(name, split, monkeypatch):
    """Features, state and losses, at odd sizes, of texts that end, by texts or by units."""
    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    for sizes in SIZES:
        sizes = (sizes[0], sizes[2], sizes[2]) if NETS[name].get("residual") and sizes[2] % 2 else sizes
        made = rounded_net(sizes=sizes, num_layers=3, scale=0.1, **{"kind": "lstm", **NETS[name]})
        for expected, found in zip(read(None, made, *split), read(cpu, made, *split)):
            np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


@each("name", NETS)
def test_the_specification_reads_as_it_decodes(name):
    """A text read at once leaves the state and the features that its tokens leave one by one."""
    made = rounded_net(sizes=(12, 6, 6), num_layers=2, scale=0.3, **{"kind": "lstm", **NETS[name]})
    state = decoded(None, made, texts=3, steps=6)
    features, h, c, _ = read(None, made, [6] * 3, tokens=np.random.default_rng(2).integers(0, 12, (6, 3)), zero=True)
    for expected, found in ((state.features, features[-3:]), (state.h, h), (state.c, c)):
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


def test_any_number_of_threads_reads_to_the_same_bits(monkeypatch):
    """A stream whose units two and three threads share, and texts that each thread has for itself."""
    monkeypatch.setattr(recurrent, "SHARED_BYTES", 0)
    for name in COMPILED:
        made = rounded_net(sizes=(20, 130, 130), **{"kind": "lstm", **NETS[name]})
        for lengths in ([9], [6, 5, 5, 2, 1]):
            expected = read(cpu, made, lengths, 1)
            for threads in (2, 3):
                assert all(np.array_equal(*both) for both in zip(expected, read(cpu, made, lengths, threads)))


def test_what_is_not_finite_is_noticed():
    """A state of NaN or infinity makes its own text's features and losses NaN, and no other's."""
    made = rounded_net("lstm", sizes=(20, 33, 33))
    for value in (np.nan, np.inf):
        features, _, _, losses = read(cpu, made, [3, 3], spoil=value)
        assert np.isnan(losses.reshape(3, 2)[:, 0]).all() and np.isnan(features.reshape(3, 2, -1)[:, 0]).any()
        assert np.isfinite(losses.reshape(3, 2)[:, 1]).all() and np.isfinite(features.reshape(3, 2, -1)[:, 1]).all()


# ---------------------------------------------------------------- models


def model(**settings):
    """A model of rounded weights that has learned nothing, but whose biases are not zero."""
    config = nblstm.LanguageConfig(11, **{"hidden_size": 40, "num_layers": 2, "embedding_size": 20, **settings})
    parameters = np.random.default_rng(0).normal(0, 0.2, config.num_parameters).astype(np.float32)
    return make_model(config, parameters).quantize()


KINDS = {
    "lstm": {}, "gru": {"cell": "gru"}, "residual": {"cell": "rnn", "residual": True, "embedding_size": 40},
    "cell head": {"head": "cell", "learned_state": True}, "options": {"peepholes": True},
}  # fmt: skip
TEXT = "abcdefgh abc\nhgfedcba ab\n" * 40


@each("kind", KINDS)
def test_a_model_scores_what_numpy_scores(kind):
    """Kernels with whole numbers, NumPy in floats with the same weights: a loss that differs by a rounding."""
    made = model(**KINDS[kind])
    for found in ([made.score(TEXT, backend).loss for backend in ("numpy", "cpu")],
                  [sum(each.nats for each in made.score_lines(TEXT.splitlines(), backend)) / 960 for backend in ("numpy", "cpu")]):  # fmt: skip
        assert found[0] == pytest.approx(found[1], abs=1e-4)
    assert made.network("cpu").reads_int8 == (kind != "options") and not made.network("numpy").reads_int8


def test_a_model_scores_what_it_writes():
    """The loss of a text, read at once, is that of its tokens decoded one by one, but for roundings of float32."""
    made = model()
    network, ids = made.network("cpu"), made.encode(TEXT[:200])
    decoder, state, nats = network.decoder(), network.initial_state(), []
    for token, following in zip(ids, ids[1:]):
        logits = decoder(np.array([token]), state)[0].astype(np.float64)
        nats.append(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[following])
    chunk = Chunk.rectangle(ids[:-1, None].astype(np.int32), ids[1:, None].astype(np.int32), fresh=False)
    found, after = network.losses(chunk, network.initial_state())
    np.testing.assert_allclose(found, nats, rtol=0, atol=1e-4)
    assert found.mean() == pytest.approx(np.mean(nats), abs=2e-6)
    for read_at_once, one_by_one in zip(vars(after).values(), vars(state).values()):
        np.testing.assert_allclose(read_at_once, one_by_one, rtol=0, atol=1e-4)


def test_a_text_has_the_same_bits_wherever_it_is_cut_and_whoever_stands_beside_it():
    """In one chunk, in three, among other texts; on one thread and on two."""
    made, r = model(), np.random.default_rng(5)
    ids, others = (r.integers(0, 11, shape).astype(np.int32) for shape in ((41, 1), (41, 6)))
    found = []
    for threads, cuts, beside in ((1, [40], None), (2, [7, 8, 25], None), (2, [40], others), (1, [30, 10], others)):
        network = made.network("cpu", threads)
        tokens = ids if beside is None else np.concatenate([beside[:, :3], ids, beside[:, 3:]], axis=1)
        column, state, start, losses = (0 if beside is None else 3), network.initial_state(tokens.shape[1]), 0, []
        for count in cuts:
            part = tokens[start : start + count + 1]
            nats, state = network.losses(Chunk.rectangle(part[:-1], part[1:], fresh=False), state)
            losses.append(nats.reshape(count, -1)[:, column])
            start += count
        found.append(np.concatenate(losses))
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_everything_that_only_reads_reads_the_same():
    """Features, state, some of the losses: those of `losses`; a chunk without them changes nothing."""
    network, ids = model().network("cpu"), np.random.default_rng(5).integers(0, 11, (13, 2)).astype(np.int32)
    chunk, state = Chunk.rectangle(ids[:-1], ids[1:], fresh=False), network.initial_state(2)
    losses, after = network.losses(chunk, state)
    features, again = network.features(chunk, state)
    rows = np.array([3, 20, 7])
    assert np.array_equal(network.losses_of(rows, chunk, state), losses[rows])
    for other in (again, network.read(chunk, state), network.outputs(chunk, state)[1]):
        assert all(np.array_equal(*both) for both in zip(vars(after).values(), vars(other).values()))
    assert np.array_equal(features[-2:], after.features) and not state.h.any()


def test_gradients_are_those_of_floats():
    """What learns from a rounded model computes as without the integers, to the last bit."""
    made = model()
    network, floats = made.network("cpu"), Network(made.config, made.parameters.copy(), "cpu")
    ids = np.random.default_rng(5).integers(0, 11, (13, 2)).astype(np.int32)
    chunk, found = Chunk.rectangle(ids[:-1], ids[1:], fresh=False), []
    for each_of in (network, floats):
        gradient = np.empty_like(floats.parameters)
        losses, _ = each_of.losses_and_gradient(gradient, chunk, each_of.initial_state(2))
        found.append((losses, gradient))
    assert all(np.array_equal(*both) for both in zip(*found))


def test_an_adaptive_head_and_a_cache_read_along():
    """Both have the layers' whole numbers; their own products are float32's."""
    made = nblstm.load(golden.DATA / "adaptive.safetensors").quantize()
    found = [made.score(golden.TEXT_TO_SCORE, backend).loss for backend in ("numpy", "cpu")]
    assert made.network("cpu").reads_int8 and found[0] == pytest.approx(found[1], abs=1e-4)
    ids = made.encode(golden.TEXT_TO_SCORE).astype(np.int32)[:, None]
    chunk, found = Chunk.rectangle(ids[:-1], ids[1:], fresh=False), []
    for backend in ("numpy", "cpu"):
        network = made.caching(backend, size=5)
        found.append(network.losses(chunk, network.initial_state())[0])
    np.testing.assert_allclose(*found, rtol=0, atol=1e-3)


def test_weights_that_may_change_are_packed_anew():
    """A network that is not constant scores with what its parameters are now."""
    config = nblstm.LanguageConfig(11, hidden_size=8, num_layers=1)
    parameters = make_model(config, initial(config, 0)).quantize().parameters.copy()
    network, ids = Network(config, parameters, "cpu", int8=True), np.arange(10, dtype=np.int32)[:, None]
    chunk = Chunk.rectangle(ids[:-1], ids[1:], fresh=False)
    before, _ = network.losses(chunk, network.initial_state())
    network.parameters *= 2
    after, _ = network.losses(chunk, network.initial_state())
    assert not np.allclose(before, after)
