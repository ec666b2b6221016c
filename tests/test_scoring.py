"""Scoring: the same loss as a network written out by hand, however the text is cut, and what is counted."""

import math

import numpy as np
import pytest

from nblstm import scoring
from nblstm.config import ModelConfig
from nblstm.files import safetensors
from nblstm.language_model import LanguageModel
from nblstm.model.parameters import initial
from nblstm.scoring import Score, validation_loss, validation_streams
from nblstm.text.vocabulary import Vocabulary

BACKENDS = ["numpy", "cpu"]
TEXT = "Thou art more lovely and more temperate:\nShall I compare thee?\n"


def losses_by_hand(weights, ids):
    """-log p of every id but the first: torch.nn.LSTM's equations, one layer, one token at a time, in float64."""
    w = {name: array.astype(np.float64) for name, array in weights.items()}
    h = c = np.zeros(w["rnn.weight_hh_l0"].shape[1])
    losses = []
    for token, following in zip(ids, ids[1:]):
        x = w["embedding.weight"][token]
        gates = w["rnn.weight_ih_l0"] @ x + w["rnn.bias_ih_l0"] + w["rnn.weight_hh_l0"] @ h + w["rnn.bias_hh_l0"]
        i, f, g, o = np.split(gates, 4)
        sigmoid = lambda a: 1 / (1 + np.exp(-a))  # noqa: E731
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        logits = w["head.weight"] @ h + w["head.bias"]
        losses.append(np.log(np.exp(logits).sum()) - logits[following])
    return losses


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_score_is_that_of_a_network_by_hand(trained, model, backend):
    """The sum of -log softmax, stepped through in NumPy from the tensors in the file."""
    weights, _ = safetensors.read(trained / "model.safetensors")
    losses = losses_by_hand(weights, model.vocabulary.encode(TEXT))
    score = model.score(TEXT, backend)
    assert score.tokens == len(losses) == len(TEXT) - 1
    assert score.nats == pytest.approx(sum(losses), rel=1e-5)
    assert score.loss == pytest.approx(np.mean(losses), rel=1e-5)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("pieces", [1, 7, 1000, 1024, 1025])
def test_the_score_does_not_depend_on_the_cut(model, backend, pieces):
    """A text in pieces of any length scores as the whole: the state is carried over."""
    text = TEXT * 40
    whole = model.score(text, backend)
    cut = model.score((text[at : at + pieces] for at in range(0, len(text), pieces)), backend)
    assert (cut.tokens, cut.characters, cut.bytes, cut.unknown) == (2519, 2519, 2519, 0)
    assert cut.nats == pytest.approx(whole.nats, rel=1e-6)


def test_the_score_does_not_depend_on_the_chunks_inside(model, monkeypatch):
    """How many tokens the network takes at once is its own affair."""
    whole = model.score(TEXT, "cpu").nats
    monkeypatch.setattr(scoring, "CHUNK", 8)
    assert model.score(TEXT, "cpu").nats == pytest.approx(whole, rel=1e-6)


def test_the_backends_agree(model):
    """NumPy and the compiled kernels, to single precision."""
    assert model.score(TEXT, "numpy").nats == pytest.approx(model.score(TEXT, "cpu").nats, rel=1e-6)


def untrained(level, text, tokenizer="default"):
    """A model of a text's vocabulary whose weights are all 0: every token has probability 1 / V."""
    vocabulary = Vocabulary.build([text], level, tokenizer)
    config = ModelConfig(len(vocabulary), hidden_size=4, num_layers=1)
    return LanguageModel(config, vocabulary, np.zeros_like(initial(config, 0)), {})


@pytest.mark.parametrize(
    "level, tokenizer, text, tokens, characters, size",
    [
        ("char", "default", "héllo", 4, 4, 5),
        ("char", "default", "éab", 2, 2, 2),
        ("char", "default", "\U0001f600\u20ac", 1, 1, 3),
        ("word", "default", "the cat, é", 3, 7, 8),  # " cat" "," " é"
        ("word", "whitespace", "the cat\né", 3, 6, 7),  # "cat" "\n" "é"
        ("byte", "default", "éab", 3, 3, 3),
        ("byte", "default", "éab".encode(), 3, 3, 3),
    ],
)
def test_what_is_counted(level, tokenizer, text, tokens, characters, size):
    """The first token is given; the others count with their characters and UTF-8 bytes (at byte level both are bytes)."""
    model = untrained(level, text, tokenizer)
    score = model.score([text], "numpy")
    assert (score.tokens, score.characters, score.bytes, score.unknown) == (tokens, characters, size, 0)
    assert score.nats == pytest.approx(tokens * math.log(len(model.vocabulary)), rel=1e-6)


def test_unknown_tokens_are_counted():
    """Those that are scored, not the first, which is given."""
    model = untrained("char", "abc")
    assert model.score("abxcyz", "numpy").unknown == 3
    assert model.score("xabc", "numpy").unknown == 0
    assert untrained("word", "a b").score("a c d b", "numpy").unknown == 2


def test_figures_of_a_worked_example():
    """40 bits over 20 tokens, 80 characters and 160 bytes."""
    score = Score(nats=40 * math.log(2), tokens=20, characters=80, bytes=160, unknown=0)
    assert score.loss == pytest.approx(2 * math.log(2))
    assert score.perplexity == pytest.approx(4.0)
    assert score.bits_per_character == pytest.approx(0.5)
    assert score.bits_per_byte == pytest.approx(0.25)


def test_figures_of_nothing():
    """Where nothing was scored there is no mean, and no crash; a perplexity too large for a float is infinite."""
    nothing = Score(0.0, 0, 0, 0, 0)
    assert all(math.isnan(x) for x in (nothing.loss, nothing.bits_per_character, nothing.bits_per_byte))
    assert Score(1e6, 10, 10, 10, 0).perplexity == math.inf


@pytest.mark.parametrize("text", ["", "a"])
def test_a_text_too_short_to_score(text):
    """Nothing is scored of no token or one."""
    assert untrained("char", "ab").score(text, "numpy").tokens == 0


def test_validation_reads_a_short_text_as_one_stream(model):
    """The validation loss of a text below two streams' length is its score."""
    ids = model.vocabulary.encode(TEXT * 20)
    assert validation_loss(model.network("cpu"), validation_streams(ids)) == pytest.approx(model.score(TEXT * 20, "cpu").loss, rel=1e-6)


def test_validation_can_be_stopped(model):
    """It asks between chunks, and has no result then."""
    answers = iter([False, True])
    ids = model.vocabulary.encode(TEXT * 40)
    assert validation_loss(model.network("cpu"), validation_streams(ids), lambda: next(answers)) is None
