"""Learning while reading: the rules of the paper written out by hand, what is kept, and what stays as it was."""

import dataclasses

import numpy as np
import pytest
from support.cases import each

import nblstm
from nblstm.adapting import RULES, gradient_statistics
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial
from nblstm.text.batches import Chunk, Streams

TEXT = "the cat sat on the mat, the dog sat on the log, and the cat sat on the dog. " * 4
VOCABULARY = nblstm.Vocabulary.build([TEXT], "char")
CONFIG = nblstm.LanguageConfig(len(VOCABULARY), hidden_size=6, num_layers=2, dropout=0.5, dtype="float64")
IDS = VOCABULARY.encode(TEXT).astype(np.int32)


@pytest.fixture(scope="module")
def model():
    """A small model in double precision, prepared on its text."""
    return nblstm.LanguageModel(CONFIG, VOCABULARY, initial(CONFIG, 0), {}).prepared(TEXT, "numpy")


def by_hand(model, ids, rule, rate, decay, segment):
    """Krause et al. 2018, section 4, over a stream of ids; (nats, the last weights)."""
    trained = model.parameters.copy()
    w, nats, gradient = trained.copy(), 0.0, np.empty_like(trained)
    network, state = Network(model.config, w, "numpy"), None
    r = model.statistics
    for start in range(0, len(ids) - 1, segment):
        y = ids[start + 1 : start + 1 + segment]
        chunk = Chunk(ids[start : start + len(y)], y, np.arange(len(y) + 1), False)
        state = network.initial_state() if state is None else state
        losses, after = network.losses(chunk, state)
        still = Network(dataclasses.replace(model.config, dropout=0.0), w, "numpy")  # without dropout
        still.loss_and_gradient(gradient, chunk, state, 0, 0)
        nats, state = nats + losses.sum(), after
        if rule == "sgd":
            w += decay * (trained - w) - rate * gradient
        else:
            w += np.minimum(1, decay * r / r.mean()) * (trained - w) - rate * gradient / (r + 0.1 * r.mean())
    return nats, w


@each("backend", ["numpy", "cpu"])
@each("rule", ["sgd", "rms"])
def test_each_rule_is_that_of_the_paper(rule, backend, model):
    """Score first, then learn, segment by segment, the last one shorter; the model keeps its own weights."""
    before, how = model.parameters.copy(), {"rule": rule, "rate": RULES[rule][0] * 3, "decay": 0.01, "segment": 7}
    nats, w = by_hand(model, IDS, **how)
    score = model.dynamic_score(TEXT, backend, 1, **how)
    np.testing.assert_allclose(score.nats, nats, rtol=1e-9)
    assert score.tokens == len(IDS) - 1 and score.loss < model.score(TEXT).loss
    np.testing.assert_allclose(model.adapt(TEXT, backend, 1, **how).parameters, w, rtol=1e-7, atol=1e-10)
    np.testing.assert_array_equal(model.parameters, before)


def test_statistics_are_root_mean_squares_of_gradients_without_dropout(model):
    """Of the mean loss of every chunk of a text laid out in streams."""
    still = dataclasses.replace(CONFIG, dropout=0.0)
    network, gradient, squares = Network(still, model.parameters.copy(), "numpy"), np.empty_like(model.parameters), 0
    streams, state = Streams(IDS, 32, 20), network.initial_state(32)
    for chunk in streams:
        _, state = network.loss_and_gradient(gradient, chunk, network.before(chunk, state), 0, 0)
        squares = squares + gradient**2
    np.testing.assert_allclose(model.statistics, np.sqrt(squares / len(streams)), rtol=1e-10)
    with pytest.raises(nblstm.ConfigError, match="more than 32 tokens, got 3"):
        gradient_statistics(network, IDS[:3])


def test_statistics_are_kept_in_the_file(model, tmp_path):
    """They come back to the bit, an adapted model has them too, and a model without them has a file as before."""
    model.save(tmp_path / "prepared.safetensors")
    again = nblstm.load(tmp_path / "prepared.safetensors")
    np.testing.assert_array_equal(again.statistics, model.statistics)
    assert again.adapt(TEXT, "numpy").statistics is not None
    model.with_statistics(None).save(tmp_path / "plain.safetensors")
    assert nblstm.load(tmp_path / "plain.safetensors").statistics is None
    assert (tmp_path / "plain.safetensors").stat().st_size < (tmp_path / "prepared.safetensors").stat().st_size * 0.6


@each("statistics, message", [
    (np.full(CONFIG.num_parameters, -1.0), "at least 0"), (np.zeros(CONFIG.num_parameters), "not all 0"),
    (np.ones(3), "parameters"), (np.full(CONFIG.num_parameters, np.nan), "finite"),
])  # fmt: skip
def test_other_statistics_are_refused(statistics, message, model, tmp_path):
    """In the library, and in a file."""
    with pytest.raises(nblstm.ConfigError, match=message):
        model.with_statistics(statistics)
    if len(statistics) > 3 and np.isfinite(statistics).all():
        wrong = model.with_statistics(None)
        wrong.statistics = statistics
        wrong.save(tmp_path / "wrong.safetensors")
        with pytest.raises(nblstm.ModelFileError, match=message):
            nblstm.load(tmp_path / "wrong.safetensors")


@each("settings, message", [
    ({"rule": "adam"}, "rule must be one of"), ({"rate": 0.0}, "rate must be greater"), ({"decay": 2.0}, "decay must be at most"),
    ({"segment": 0}, "segment must be at least 1"), ({"lr": 1.0}, "no field 'lr'"), ({"rule": "rms"}, "needs gradient statistics"),
])  # fmt: skip
def test_wrong_settings_are_named(settings, message, model):
    """Before anything is read."""
    with pytest.raises(nblstm.ConfigError, match=message):
        model.with_statistics(None).dynamic_score(TEXT, "numpy", **settings)


def test_a_gradient_that_is_not_finite_teaches_nothing(model):
    """An absurd rate may ruin a score, but not silently the weights: what comes out is finite, or an error."""
    try:
        adapted = model.adapt(TEXT, "numpy", rule="sgd", rate=1e300)
    except nblstm.NblstmError:
        return
    assert np.isfinite(adapted.parameters).all()


@each("name", [name for name in nblstm.LanguageConfig.names() if name.endswith("dropout")])
def test_no_dropout_is_drawn_while_a_model_learns_from_what_it_reads(name):
    """A model trained with any kind of dropout learns as one of the same weights without it."""
    one = {"hidden_size": 6, "num_layers": 2, "dtype": "float64", "dropout": 0.0}
    noisy, still = (nblstm.LanguageConfig(len(VOCABULARY), **one | extra) for extra in ({name: 0.4}, {}))
    nats = [nblstm.LanguageModel(c, VOCABULARY, initial(still, 0), {}).prepared(TEXT, "numpy") for c in (noisy, still)]
    nats = [model.dynamic_score(TEXT, "numpy", rule="sgd").nats for model in nats]
    assert nats[0] == nats[1]


TINY = {"hidden_size": 6, "num_layers": 1, "batch_size": 4, "bptt": 8, "steps": 6, "threads": 1}


def test_training_may_keep_statistics(tmp_path):
    """They are those that preparing the model on its training text gives; a run that was interrupted has the same."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT * 4, encoding="utf-8")
    model = nblstm.train(text, tmp_path / "m.safetensors", **TINY, keep_statistics=True)
    stored = nblstm.load(tmp_path / "m.safetensors")
    seen = VOCABULARY.decode(VOCABULARY.encode(TEXT * 4)[: model.training["tokens"]])
    expected = model.prepared(seen, threads=1).statistics
    for found in (model, stored):
        np.testing.assert_array_equal(found.statistics, expected)
    plain = nblstm.train(text, tmp_path / "plain.safetensors", **TINY)
    assert plain.statistics is None
    np.testing.assert_array_equal(plain.parameters, model.parameters)

    count = []
    nblstm.train(
        text, tmp_path / "half.safetensors", **TINY, keep_statistics=True, on_report=count.append, stop=lambda: len(count) > 2
    )  # fmt: skip
    assert nblstm.load(tmp_path / "half.safetensors").statistics is None
    again = nblstm.train(output=tmp_path / "half.safetensors", resume=True)
    assert (tmp_path / "half.safetensors").read_bytes() == (tmp_path / "m.safetensors").read_bytes()
    np.testing.assert_array_equal(again.statistics, expected)


def test_a_run_that_is_stopped_while_it_gathers_statistics_has_none(tmp_path):
    """The model is whole without them, and they come when the run goes on."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT * 4, encoding="utf-8")
    reports = []
    late = lambda: bool(reports) and reports[-1].validated and reports[-1].progress >= 1
    settings = {**TINY, "keep_statistics": True, "on_report": reports.append}
    assert nblstm.train(text, tmp_path / "m.safetensors", **settings, stop=late).statistics is None
    assert nblstm.load(tmp_path / "m.safetensors").statistics is None
    assert nblstm.train(output=tmp_path / "m.safetensors", resume=True).statistics is not None


@each(
    "settings, message",
    [({"bidirectional": True}, "keep_statistics is for models that learn"), ({}, "more than 32 tokens")],
)
def test_statistics_that_cannot_be_kept(settings, message, tmp_path):
    """A model that cannot learn while it reads, or a text too short, is refused before training."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT if settings else "a b c d e f", encoding="utf-8")
    with pytest.raises(nblstm.ConfigError, match=message):
        nblstm.train(text, tmp_path / "m.safetensors", **TINY, keep_statistics=True, **settings)
    assert not (tmp_path / "m.safetensors").exists()
