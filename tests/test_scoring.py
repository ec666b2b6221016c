"""Scoring: the same loss as a network written out by hand, however the text is cut, and what is counted."""

import dataclasses
import itertools
import math
import sys

import numpy as np
import pytest
from support.cases import each

import nblstm
from nblstm import scoring
from nblstm.files import safetensors
from nblstm.nn import cost
from nblstm.nn.parameters import initial, views
from nblstm.scoring import Score, validation_loss, validation_streams
from nblstm.scoring.results import figure_text
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.tasks.masked.config import MaskedConfig
from nblstm.text.vocabulary import Characters, Vocabulary

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
        sigmoid = lambda a: 1 / (1 + np.exp(-a))
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
@each("pieces", [1, 7, 1000, 1024, 1025])
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
    monkeypatch.setattr(scoring.amounts, "rows_at_once", lambda config: 8)
    assert model.score(TEXT, "cpu").nats == pytest.approx(whole, rel=1e-6)


def test_the_backends_agree(model):
    """NumPy and the compiled kernels, to single precision."""
    assert model.score(TEXT, "numpy").nats == pytest.approx(model.score(TEXT, "cpu").nats, rel=1e-6)


def untrained(level, text, tokenizer="default"):
    """A model of a text's vocabulary whose weights are all 0: every token has probability 1 / V."""
    vocabulary = Vocabulary.build([text], level, tokenizer)
    config = LanguageConfig(len(vocabulary), hidden_size=4, num_layers=1)
    return LanguageModel(config, vocabulary, np.zeros_like(initial(config, 0)), {})


@each(
    "level, tokenizer, text, tokens, characters, size",
    [
        ("char", "default", "héllo", 4, 4, 5),
        ("char", "default", "éab", 2, 2, 2),
        ("char", "default", "\U0001f600\u20ac", 1, 1, 3),
        ("word", "default", "the cat, é", 3, 7, 8),  # " cat" "," " é"
        ("word", "whitespace", "the cat\né", 3, 6, 7),  # "cat" "\n" "é"
        ("byte", "default", "éab", 3, 2, 3),  # the first byte is given, the second goes on with its character
        ("byte", "default", "éab".encode(), 3, 2, 3),
        ("byte", "default", b"a\xe9b\xff\x80", 4, 3, 4),  # no UTF-8: all but 0x80 .. 0xBF count
    ],
)
def test_what_is_counted(level, tokenizer, text, tokens, characters, size):
    """The first token is given; the others count with their characters and UTF-8 bytes."""
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
    score = Score(nats=40 * math.log(2), tokens=20, characters=80, bytes=160, unknown=0, words=10)
    assert score.loss == pytest.approx(2 * math.log(2))
    assert score.perplexity == pytest.approx(4.0)
    assert score.bits_per_character == pytest.approx(0.5)
    assert score.bits_per_byte == pytest.approx(0.25)
    assert score.perplexity_per_word == pytest.approx(16.0)


def test_figures_that_no_table_has_room_for():
    """From a million on in powers of ten; what is below, infinite or not a number as ever."""
    written = [figure_text(value, 4) for value in (3.14159265, 999_999.0, 1e6, 3.2848e10, 5.8e49, math.inf, math.nan)]
    assert written == ["3.1416", "999999.0000", "1e+06", "3.285e+10", "5.8e+49", "inf", "nan"]


def test_figures_of_nothing():
    """Where nothing was scored there is no mean, and no crash; a perplexity too large for a float is infinite."""
    nothing = Score(0.0, 0, 0, 0, 0)
    assert all(math.isnan(x) for x in (nothing.loss, nothing.bits_per_character, nothing.perplexity_per_word))
    assert Score(1e6, 10, 10, 10, 0).perplexity == math.inf


@pytest.mark.parametrize("text", ["", "a"])
def test_a_text_too_short_to_score(text):
    """Nothing is scored of no token or one."""
    assert untrained("char", "ab").score(text, "numpy").tokens == 0


# ---------------------------------------------------------------- many texts, token by token

LINES = ["Shall I compare thee", "", "to", "a summer's day?", "Thou art more lovely " * 40, "t", "and more temperate:"]


@pytest.fixture
def precise(trained):
    """The trained model in float64."""
    model = nblstm.load(trained / "model.safetensors")
    config = dataclasses.replace(model.config, dtype="float64")
    return LanguageModel(config, model.vocabulary, model.parameters.astype(np.float64), {})


@dataclasses.dataclass(frozen=True)
class Ended(Characters):
    """Characters with a token that stands between documents, the last one."""

    @property
    def end_id(self):
        return len(self) - 1


def ended(model):
    """The model, taken for one of documents: its last character is the end token."""
    return LanguageModel(model.config, Ended(model.vocabulary.tokens), model.parameters, {})


@each("of_documents", [False, True])
@pytest.mark.parametrize("backend", BACKENDS)
def test_lines_score_as_a_network_by_hand_scores_each(precise, backend, of_documents):
    """Each line alone, read after a line end or the end token, with the end token behind it if there is one."""
    model = ended(precise) if of_documents else precise
    weights = views(model.parameters, model.config)
    start = model.vocabulary.end_id if of_documents else model.vocabulary.encode("\n")[0]
    for line, score in zip(LINES, model.score_lines(LINES, backend), strict=True):
        ids = [start, *model.vocabulary.encode(line), *([start] if of_documents else [])]
        losses = losses_by_hand(weights, ids)
        assert score.nats == pytest.approx(sum(losses), abs=1e-6)
        assert (score.tokens, score.characters) == (len(losses), len(line))


@pytest.mark.parametrize("backend", BACKENDS)
@each("rows, window, streams", [(40, 1 << 18, 512), (4096, 100, 512), (4096, 1 << 18, 3), (7, 1, 2)])
def test_lines_do_not_depend_on_their_neighbours(precise, backend, rows, window, streams, monkeypatch):
    """Whatever is read side by side, in whatever pieces, each line scores as when it is alone."""
    lines = [*LINES * 20, "x" * 300]
    alone = [precise.surprisals(line, backend).nats for line in lines]
    monkeypatch.setattr(scoring.amounts, "rows_at_once", lambda config: rows)
    monkeypatch.setattr(scoring.texts, "WINDOW", window)
    monkeypatch.setattr(scoring.amounts, "FEWEST_STREAMS", 1)
    monkeypatch.setattr(scoring.amounts, "MOST_STREAMS", streams)
    network = precise.network(backend)
    for nats, found in zip(alone, scoring.judge(network, precise.vocabulary, lines), strict=True):
        np.testing.assert_allclose(found.nats, nats, rtol=0, atol=1e-12)


def test_lines_have_the_same_bits_beside_others(model):
    """The compiled kernels sum each stream on its own, so not a bit depends on the batch, in float32 as well."""
    alone = [model.surprisals(line, "cpu").nats for line in LINES]
    for nats, found in zip(alone, scoring.judge(model.network("cpu"), model.vocabulary, LINES)):
        assert np.array_equal(found.nats, nats)


def test_a_line_end_behind_a_line_is_not_part_of_it(model):
    """Lines may come as a file gives them."""
    assert list(model.score_lines(["to\n", "a"], "numpy")) == list(model.score_lines(["to", "a"], "numpy"))


def test_lines_are_taken_as_they_are_needed(model, monkeypatch):
    """The first score comes after a window of characters, not after the last line."""
    monkeypatch.setattr(scoring.texts, "WINDOW", 100)
    taken = []
    lines = (taken.append(number) or "Shall I " for number in itertools.count())
    next(model.score_lines(lines, "numpy"))
    assert len(taken) == 13  # of 8 characters


def test_a_stream_alone_is_one_long_line(model):
    """A text in pieces, as a document of its own, costs what the whole does as a line."""
    for either in (model, ended(model)):
        pieces = scoring.stream(either.network("cpu"), either.vocabulary, [TEXT[:9], "", TEXT[9:]], alone=True)
        nats = np.concatenate([piece.nats for piece in pieces])
        np.testing.assert_allclose(nats, either.surprisals(TEXT, "cpu").nats, rtol=1e-6)


@pytest.mark.parametrize(
    "level, text, tokens",
    [
        ("char", "ab\n", ["a", "b", "\n"]),
        ("word", "the cat, é", ["the", " cat", ",", " é"]),
        ("byte", "aé", ["a", "Ã", "©"]),
    ],
)
def test_surprisals_of_a_model_that_knows_nothing(level, text, tokens):
    """Every token has probability 1 / V: it costs log2 V bits. Bytes are shown as Latin-1."""
    model = untrained(level, text)
    found = model.surprisals(text, "numpy")
    assert found.tokens == tokens and not found.unknown.any()
    np.testing.assert_allclose(found.bits, math.log2(len(model.vocabulary)), rtol=1e-6)
    np.testing.assert_allclose(found.nats, math.log(len(model.vocabulary)), rtol=1e-6)


def test_surprisals_show_what_is_unknown_and_the_end():
    """An unknown token keeps its spelling, and the end token stands last, for no character."""
    assert untrained("char", "ab").surprisals("axb", "numpy").unknown.tolist() == [False, True, False]
    model = untrained("char", "ab$")
    found = ended(model).surprisals("axb", "numpy")
    assert found.tokens == ["a", "x", "b", "b"] and found.score.tokens == 4 and found.score.characters == 3


def test_scores_add_up():
    """Two texts together have the sum of nats and of everything counted."""
    assert Score(1.0, 2, 3, 4, 5, 6) + Score(0.5, 1, 1, 1, 1, 1) == Score(1.5, 3, 4, 5, 6, 7)


# ---------------------------------------------------------------- parallel streams, progress, backends


@pytest.mark.parametrize("streams", [1, 3])
def test_parallel_streams_are_pieces_read_from_the_zero_state(precise, streams, monkeypatch):
    """N streams cost what N texts do that share a token at each cut; the rest goes on where the last one ended."""
    monkeypatch.setattr(scoring.parts, "SHORTEST_SCORED", 20)
    monkeypatch.setattr(scoring.amounts, "rows_at_once", lambda config: 10)
    length = (len(TEXT) - 1) // streams
    cuts = [*range(0, streams * length, length), len(TEXT) - 1]
    parts = [TEXT[start : end + 1] for start, end in zip(cuts, [*cuts[1:-1], cuts[-1]])]
    expected = sum((precise.score(part) for part in parts), scoring.NOTHING)
    network, chunks = precise.network("cpu"), [TEXT[:30], TEXT[30:]]
    score, used = scoring.score_in_streams(network, precise.vocabulary, chunks, streams)
    assert used == streams and score.nats == pytest.approx(expected.nats, rel=1e-12)
    assert (score.tokens, score.characters, score.bytes) == (len(TEXT) - 1,) * 3


@each("window, rows", [(7, 10), (7, 40), (1, 3), (500, 10)])
def test_windows_are_read_from_nothing(window, rows, precise, monkeypatch):
    """Each costs what its text does alone, the token before given; the last one is shorter."""
    monkeypatch.setattr(scoring.amounts, "rows_at_once", lambda config: rows)
    parts = [TEXT[start : start + window + 1] for start in range(0, len(TEXT) - 1, window)]
    expected = sum((precise.score(part) for part in parts), scoring.NOTHING)
    score = scoring.score_in_windows(precise.network("cpu"), precise.vocabulary, [TEXT[:30], TEXT[30:]], window)
    assert score.nats == pytest.approx(expected.nats, rel=1e-12)
    assert (score.tokens, score.characters, score.bytes) == (len(TEXT) - 1,) * 3


def test_a_short_text_is_one_stream():
    """What is counted is what one stream counts, also of what is unknown or not there."""
    model = untrained("char", "éab")
    for text in ("", "a", "éxab", "xéab"):
        network, pieces = model.network("numpy"), [text] if text else []
        score, used = scoring.score_in_streams(network, model.vocabulary, pieces, 16)
        assert used == 1 and score == model.score(text, "numpy")
        assert scoring.score_in_windows(network, model.vocabulary, pieces, 16) == model.score(text, "numpy")


def test_progress_comes_to_the_whole(model):
    """All tokens and, to a rounding, all bytes are told, by a stream, side by side and by parallel streams."""
    text, network = "Shall é " * 900, model.network("cpu")
    ways = [
        lambda told: scoring.score(network, model.vocabulary, [text[:100], text[100:]], told),
        lambda told: list(scoring.judge(network, model.vocabulary, [text[:5000], "", text[5000:]], told)),
        lambda told: scoring.score_in_streams(network, model.vocabulary, [text], 3, told),
        lambda told: scoring.score_in_windows(network, model.vocabulary, [text], 50, told),
    ]
    for way in ways:
        tokens, sizes = [], []
        way(lambda count, size: (tokens.append(count), sizes.append(size)))
        assert sum(tokens) in (len(text), len(text) - 1) and sum(sizes) == pytest.approx(900 * 9, abs=9)


@pytest.mark.parametrize("side_by_side", [False, True])
def test_a_long_job_gets_the_compiled_kernels(side_by_side, monkeypatch):
    """Texts are taken until it is clear that starting numba pays; they all come back, in order."""
    config = LanguageConfig(65, hidden_size=256)
    monkeypatch.setattr(cost, "fastest", lambda: "cpu")
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    backend, texts = scoring.backend_for(config, ["a", "bc"], side_by_side)
    assert backend == "numpy" and list(texts) == ["a", "bc"]
    endless = itertools.repeat("x" * 1000)
    backend, texts = scoring.backend_for(config, endless, side_by_side)
    assert backend == "cpu" and next(iter(texts)) == "x" * 1000
    monkeypatch.setattr(cost, "fastest", lambda: "numpy")
    assert scoring.backend_for(config, endless, side_by_side)[0] == "numpy"


def test_compiled_kernels_pay_from_some_tokens_on(monkeypatch):
    """Sooner where a network is larger or read twice, at once where they have started, never where they cannot run."""
    monkeypatch.setattr(cost, "fastest", lambda: "cpu")
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    pays = lambda **options: cost.compiled_pays_from(LanguageConfig(65, **options), 32)
    assert 0 < pays(hidden_size=512) < pays(hidden_size=256) < pays(hidden_size=64) < math.inf
    masked = MaskedConfig(65, hidden_size=256)
    assert cost.compiled_pays_from(masked, 32) < pays(hidden_size=256)
    mogrified = {"cell": "mogrifier-lstm", "hidden_size": 256}
    assert pays(**mogrified) < pays(hidden_size=256) and pays(**mogrified, layer_norm=True) == math.inf
    monkeypatch.setitem(sys.modules, "numba", sys)
    assert pays() == 0
    monkeypatch.setattr(cost, "fastest", lambda: "numpy")
    assert pays() == math.inf


def test_validation_reads_a_short_text_as_one_stream(model):
    """The validation loss of a text below two streams' length is its score."""
    ids = model.vocabulary.encode(TEXT * 20)
    assert validation_loss(model.network("cpu"), validation_streams(ids)) == pytest.approx(
        model.score(TEXT * 20, "cpu").loss, rel=1e-6
    )


def test_validation_can_be_stopped(model):
    """It asks between chunks, and has no result then."""
    answers = iter([False, True])
    ids = model.vocabulary.encode(TEXT * 40)
    assert validation_loss(model.network("cpu"), validation_streams(ids), lambda: next(answers)) is None
