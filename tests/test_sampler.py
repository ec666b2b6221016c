"""Generating: the distribution that is drawn from, what can never come out, and how prompts, states and streams fit."""

from itertools import islice

import numpy as np
import pytest

from nblstm import language_model
from nblstm.config import ModelConfig, SampleConfig
from nblstm.errors import ConfigError
from nblstm.generation import sampler
from nblstm.language_model import LanguageModel
from nblstm.model.network import Network
from nblstm.model.parameters import initial, views
from nblstm.model.state import State
from nblstm.text.vocabulary import Vocabulary

BACKENDS = ["numpy", "cpu"]
LOGITS = np.array([1.0, -0.5, 2.0, 0.0, 1.5, -3.0])
CRITICAL = {2: 13.816, 5: 20.515}  # chi-square, degrees of freedom -> value exceeded with probability 0.001


def constant_network(logits, backend):
    """A network whose logits are these, whatever it has read: all its weights are 0 but the head's bias."""
    config = ModelConfig(len(logits), hidden_size=4, num_layers=1)
    parameters = np.zeros(config.num_parameters, np.float32)
    views(parameters, config)["head.bias"][...] = logits
    return Network(config, parameters, backend, 1)


def draws(logits, backend="numpy", banned=(), n=5, num_samples=2000, **settings):
    """n * num_samples tokens drawn from a network with these logits."""
    network = constant_network(logits, backend)
    config = SampleConfig(n=n, num_samples=num_samples, seed=1, **settings)
    return np.concatenate(list(sampler.generate(network, State.zeros(network.config), config, banned)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("top_k", [0, 3])
def test_draws_follow_the_softmax(backend, temperature, top_k):
    """10,000 draws pass a chi-square test against softmax(logits / temperature) of the top_k most likely tokens."""
    counts = np.bincount(draws(LOGITS, backend, temperature=temperature, top_k=top_k), minlength=6)
    kept = np.argsort(-LOGITS)[: top_k or 6]
    weights = np.zeros(6)
    weights[kept] = np.exp(LOGITS[kept] / temperature)
    expected = 10_000 * weights / weights.sum()
    assert counts[expected == 0].sum() == 0
    chi_square = ((counts - expected)[kept] ** 2 / expected[kept]).sum()
    assert chi_square < CRITICAL[len(kept) - 1]


def test_the_test_can_fail():
    """The same counts are far from the softmax of another temperature."""
    counts = np.bincount(draws(LOGITS, temperature=1.0), minlength=6)
    expected = 10_000 * np.exp(LOGITS / 1.2) / np.exp(LOGITS / 1.2).sum()
    assert ((counts - expected) ** 2 / expected).sum() > CRITICAL[5]


@pytest.mark.parametrize("backend", BACKENDS)
def test_temperature_zero_is_the_most_likely_token(backend):
    """Always, and whatever top_k; of equals the first."""
    assert set(draws(LOGITS, backend, temperature=0.0)) == {2}
    assert set(draws(LOGITS, backend, temperature=0.0, top_k=4)) == {2}
    assert set(draws([0.0, 7.0, 7.0], backend, temperature=0.0)) == {1}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("temperature", [0.0, 1e-300, 1e-10, 1.0, 1e6])
@pytest.mark.parametrize("top_k", [0, 1, 2, 99])
def test_extreme_logits_and_temperatures(backend, temperature, top_k):
    """Logits of +-3e38 give neither nan nor a warning, and only tokens that are possible: the likely, never the banned."""
    logits = [3e38, -3e38, 3e38, 0.0, -3e38, 3e38]
    found = set(draws(logits, backend, banned=(5,), temperature=temperature, top_k=top_k, num_samples=50))
    assert found <= {0, 2} and found


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_high_temperature_is_uniform_but_for_the_banned(backend):
    """At 1e6 every allowed token comes about equally often, a banned one never, however likely."""
    counts = np.bincount(draws([0.0, 1.0, 2.0, 3.0], backend, banned=(3,), temperature=1e6), minlength=4)
    assert counts[3] == 0 and ((counts[:3] - 10_000 / 3) ** 2 / (10_000 / 3)).sum() < CRITICAL[2]


def test_one_seed_one_text(model):
    """The same seed gives the same text, another seed another, and none a new one each time."""
    text = lambda seed: "".join(model.generate(n=60, seed=seed))  # noqa: E731
    assert text(1) == text(1) and text(1) != text(2) and text(None) != text(None)


def test_texts_side_by_side_differ(model):
    """num_samples texts of n tokens, the same ones for the same seed."""
    texts = model.generate_many("Shall", n=40, num_samples=3, seed=4)
    assert len(set(texts)) == 3 and [len(text) for text in texts] == [40] * 3
    assert model.generate_many("Shall", n=40, num_samples=3, seed=4) == texts


@pytest.mark.parametrize("settings", [{"temperature": 0.0}, {}, {"temperature": 1.7}, {"top_k": 3}])
def test_the_backends_write_the_same_text(model, settings):
    """NumPy and the compiled kernels agree on 200 tokens for one seed."""
    one, other = ("".join(model.generate("Thou", n=200, seed=5, backend=backend, **settings)) for backend in BACKENDS)
    assert one == other and len(one) == 200


def test_generate_is_lazy(model):
    """A billion tokens are not computed before they are asked for; a wrong setting is told at once."""
    pieces = model.generate(n=10**9, seed=1)
    assert "".join(islice(pieces, 5)) == "".join(model.generate(n=5, seed=1))
    with pytest.raises(ConfigError, match="temperature"):
        model.generate(temperature=-1.0)
    with pytest.raises(ConfigError, match="temprature"):
        model.generate(temprature=1.0)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_the_prompt_is_not_counted(model, n):
    """n tokens come, behind a prompt or none, and the prompt itself does not come."""
    assert len("".join(model.generate("Shall I compare", n=n, seed=1))) == n
    assert len("".join(model.generate(n=n, seed=1))) == n


def test_a_state_stands_for_the_text_before(model):
    """state(a) with prompt b continues like the prompt a + b, and a state can be used again."""
    expected = "".join(model.generate("Thou art more", n=50, seed=3))
    state = model.state("Thou art")
    for _ in range(2):
        assert "".join(model.generate(" more", state=state, n=50, seed=3)) == expected
    assert "".join(model.generate(state=model.state("Thou art more"), n=50, seed=3)) == expected
    assert "".join(model.generate(state=model.state("art more", model.state("Thou ")), n=50, seed=3)) == expected
    assert "".join(model.generate("Shall I", n=50, seed=3)) != expected


def a_model(level, text, tokenizer="default", bias=None):
    """An untrained model of a text's vocabulary, its head's bias raised by `bias` (token id -> by how much)."""
    vocabulary = Vocabulary.build([text], level, tokenizer)
    config = ModelConfig(len(vocabulary), hidden_size=4, num_layers=1)
    parameters = initial(config, 0)
    for token, by in (bias or {}).items():
        views(parameters, config)["head.bias"][token] += by
    return LanguageModel(config, vocabulary, parameters, {})


@pytest.mark.parametrize("level", ["char", "word"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("settings", [{}, {"temperature": 0.0}, {"temperature": 1e6}, {"top_k": 1}])
def test_the_unknown_token_is_never_written(level, backend, settings):
    """Not even by a model that finds <unk> by far the most likely."""
    model = a_model(level, "ab cd", bias={0: 100.0})
    assert "<unk>" not in "".join(model.generate("zz", n=100, seed=1, backend=backend, **settings))


def test_bytes_come_as_whole_characters(monkeypatch):
    """A piece of the stream never holds part of a character; what is no UTF-8 becomes U+FFFD, at the end too."""
    model = a_model("byte", "")
    script = "aé€😀\n".encode() + b"\xff" + "é".encode()[:1]
    monkeypatch.setattr(language_model.sampler, "generate", lambda *args: (np.array([byte]) for byte in script))
    pieces = list(model.generate("é", seed=1))
    assert [piece for piece in pieces if piece] == ["a", "é", "€", "😀", "\n", "\ufffd", "\ufffd"]


def test_words_are_spaced_behind_the_prompt(monkeypatch):
    """Pre-tokenised words are joined by one space, none next to a newline."""
    model = a_model("word", "the cat \n sat", tokenizer="whitespace")
    script = model.vocabulary.encode("cat sat \n the")
    monkeypatch.setattr(language_model.sampler, "generate", lambda *args: (np.array([id]) for id in script))
    assert "the" + "".join(model.generate("the")) == "the cat sat\nthe"
