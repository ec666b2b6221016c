"""Generating: the distribution that is drawn from, what can never come out, and how prompts, states and streams fit."""

import itertools
import math
import sys
from itertools import islice

import numpy as np
import pytest
from support.cases import each
from support.numba import cpu

from nblstm.config import SampleConfig
from nblstm.errors import ConfigError, NblstmError
from nblstm.generation import sampler
from nblstm.generation.stops import Stops
from nblstm.generation.uniform import FEW_NUMBERS, uniform
from nblstm.kernels import reference
from nblstm.nn import cost
from nblstm.nn.cost import decoding_reads
from nblstm.nn.network import Network
from nblstm.nn.parameters import initial, views
from nblstm.nn.state import State
from nblstm.tasks.language import model as language_model
from nblstm.tasks.language.config import LanguageConfig
from nblstm.tasks.language.model import LanguageModel
from nblstm.text.batches import Chunk
from nblstm.text.vocabulary import Vocabulary

BACKENDS = ["numpy", "cpu"]
LOGITS = np.array([1.0, -0.5, 2.0, 0.0, 1.5, -3.0])


def critical(freedom):
    """What chi-square exceeds with probability 0.001 (Wilson & Hilferty 1931)."""
    return freedom * (1 - 2 / (9 * freedom) + 3.0902 * (2 / (9 * freedom)) ** 0.5) ** 3


def constant_network(logits, backend):
    """A network whose logits are these, whatever it has read: all its weights are 0 but the head's bias."""
    config = LanguageConfig(len(logits), hidden_size=4, num_layers=1)
    parameters = np.zeros(config.num_parameters, np.float32)
    views(parameters, config)["head.bias"][...] = logits
    return Network(config, parameters, backend, 1)


def draws(logits, backend="numpy", banned=(), n=5, num_samples=2000, **settings):
    """n * num_samples tokens drawn from a network with these logits."""
    network = constant_network(logits, backend)
    config = SampleConfig(n=n, num_samples=num_samples, **settings)
    pieces = sampler.generate(network, State.zeros(network.config), config, np.random.default_rng(1), banned)
    return np.concatenate(list(pieces), axis=1).ravel()


def filtered(logits, history=(), temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, typical_p=1.0, repetition_penalty=1.0,
             repetition_window=64, no_repeat_ngram=0, presence_penalty=0.0, frequency_penalty=0.0):  # fmt: skip
    """The probabilities after every filter, from the papers' definitions with Python's lists: distinct logits only."""
    kept = dict(enumerate(map(float, logits)))
    size, history = no_repeat_ngram, list(history)
    repeats = {v for v in kept for i in range(len(history) - size + 1)
               if size and history[i : i + size] == [*history[len(history) - size + 1 :], v]}  # fmt: skip
    kept = {v: z for v, z in kept.items() if v not in repeats} or kept
    looked_at = history[-repetition_window:] if repetition_window else history
    for v in set(looked_at) & set(kept):
        kept[v] = kept[v] / repetition_penalty if kept[v] > 0 else kept[v] * repetition_penalty
        kept[v] -= presence_penalty + frequency_penalty * looked_at.count(v)
    peak = max(kept.values())
    p = normalized({v: math.exp((z - peak) / temperature) for v, z in kept.items()})
    if top_k:
        p = first(sorted(p, key=p.get, reverse=True), p, lambda taken: len(taken) >= top_k)
    p = first(sorted(p, key=p.get, reverse=True), p, lambda taken: sum(taken) >= top_p)
    p = normalized({v: x for v, x in p.items() if x >= min_p * max(p.values())})
    entropy = -sum(x * math.log(x) for x in p.values())
    p = first(sorted(p, key=lambda v: abs(-math.log(p[v]) - entropy)), p, lambda taken: sum(taken) >= typical_p)
    return np.array([p.get(v, 0.0) for v in range(len(logits))])


def normalized(p):
    return {v: x / sum(p.values()) for v, x in p.items()}


def first(order, p, enough):
    """The tokens up to the one with which they are enough, their probabilities scaled to 1."""
    taken = []
    for v in order:
        taken.append(v)
        if enough([p[v] for v in taken]):
            break
    return normalized({v: p[v] for v in taken})


HISTORY = [2, 4, 2, 0, 4, 2]
FILTERS = [
    {}, {"temperature": 0.5}, {"temperature": 2.0}, {"top_k": 3}, {"top_p": 0.8}, {"min_p": 0.3}, {"typical_p": 0.5},
    {"repetition_penalty": 1.5}, {"repetition_penalty": 3.0, "repetition_window": 3}, {"no_repeat_ngram": 1},
    {"no_repeat_ngram": 2}, {"no_repeat_ngram": 3}, {"presence_penalty": 1.0}, {"frequency_penalty": 0.4},
    {"presence_penalty": 0.5, "frequency_penalty": 0.2, "repetition_penalty": 1.2, "repetition_window": 4}, {"top_k": 5, "top_p": 0.9}, {"top_p": 0.95, "typical_p": 0.6},
    {"temperature": 1.5, "min_p": 0.05, "typical_p": 0.9},
    {"temperature": 1.3, "top_k": 5, "top_p": 0.95, "min_p": 0.02, "typical_p": 0.95, "repetition_penalty": 1.3,
     "repetition_window": 2, "no_repeat_ngram": 2},
]  # fmt: skip


@each("settings", FILTERS, ids=str)
def test_draws_follow_the_filtered_softmax(settings):
    """A million draws pass a chi-square test against what the papers define; nothing else ever comes."""
    tokens, filters = np.empty(1_000_000, np.int64), SampleConfig(**settings).filters(settings.get("temperature", 1.0))
    uniform = np.random.default_rng(7).random(len(tokens))
    logits, history = (np.tile(row, (len(tokens), 1)) for row in (LOGITS.astype(np.float32), HISTORY))
    cpu.draw(tokens, logits, uniform, history, np.array([], int), filters, 2)
    expected = len(tokens) * filtered(LOGITS, HISTORY, **settings)
    counts, possible = np.bincount(tokens, minlength=len(LOGITS)), expected > 0
    assert counts[~possible].sum() == 0
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    assert chi_square < critical(possible.sum() - 1) if possible.sum() > 1 else chi_square == 0


@pytest.mark.parametrize("backend", BACKENDS)
@each("settings", FILTERS[:1] + FILTERS[3:5], ids=str)
def test_a_network_draws_from_its_logits(backend, settings):
    """10,000 tokens of 2,000 texts written side by side follow the same probabilities."""
    counts = np.bincount(draws(LOGITS, backend, **settings), minlength=6)
    expected = 10_000 * filtered(LOGITS, **settings)
    possible = expected > 0
    assert counts[~possible].sum() == 0
    assert ((counts - expected)[possible] ** 2 / expected[possible]).sum() < critical(possible.sum() - 1)


def test_the_test_can_fail():
    """The same counts are far from the softmax of another temperature."""
    counts = np.bincount(draws(LOGITS, temperature=1.0), minlength=6)
    expected = 10_000 * np.exp(LOGITS / 1.2) / np.exp(LOGITS / 1.2).sum()
    assert ((counts - expected) ** 2 / expected).sum() > critical(5)


@each("name, value", [("top_k", 4), ("top_p", 0.6), ("min_p", 0.1), ("typical_p", 0.4)])
@pytest.mark.parametrize("kernels", [reference, cpu], ids=["numpy", "cpu"])
def test_no_token_outside_the_set_is_ever_drawn(kernels, name, value):
    """For 200 random distributions and 100 uniform numbers each, the extreme ones too; every token inside comes."""
    r, uniform = np.random.default_rng(8), np.append(np.linspace(0, 1, 99, endpoint=False), 1 - 2**-53)
    for row in r.normal(0, r.uniform(0.1, 5, (200, 1)), (200, 12)):
        tokens, nothing = np.empty(100, np.int64), np.empty((100, 0), np.int64)
        filters = SampleConfig(**{name: value}).filters(1.0)
        kernels.draw(tokens, np.tile(row, (100, 1)), uniform, nothing, nothing[0], filters, 1)
        inside = filtered(row, **{name: value})
        assert set(tokens) <= set(np.flatnonzero(inside)) and set(np.flatnonzero(inside > 0.02)) <= set(tokens)


@pytest.mark.parametrize("backend", BACKENDS)
def test_temperature_zero_is_the_most_likely_token(backend):
    """Always, and whatever top_k; of equals the first."""
    assert set(draws(LOGITS, backend, temperature=0.0)) == {2}
    assert set(draws(LOGITS, backend, temperature=0.0, top_k=4)) == {2}
    assert set(draws([0.0, 7.0, 7.0], backend, temperature=0.0)) == {1}


@pytest.mark.parametrize("backend", BACKENDS)
@each("temperature", [0.0, 1e-300, 1e-10, 1.0, 1e6])
@each(
    "settings",
    [{}, {"top_k": 1}, {"top_k": 2}, {"top_k": 99}, {"top_p": 0.1}, {"min_p": 1.0}, {"typical_p": 0.01}],
    ids=str,
)
def test_extreme_logits_and_temperatures(backend, temperature, settings):
    """Logits of +-3e38 give neither nan nor a warning, and only tokens that are possible: the likely, never the banned."""
    logits = [3e38, -3e38, 3e38, 0.0, -3e38, 3e38]
    found = set(draws(logits, backend, banned=(5,), temperature=temperature, num_samples=50, **settings))
    assert found <= {0, 2} and found


@pytest.mark.parametrize("backend", BACKENDS)
def test_extreme_penalties(backend):
    """The strongest and the weakest penalty on logits of +-3e38, at any temperature, give tokens that are possible."""
    for penalty, temperature in itertools.product((0.01, 100.0), (0.0, 1e-300, 1.0, 1e6)):
        settings = {"repetition_penalty": penalty, "repetition_window": 0, "temperature": temperature}
        found = set(draws([3e38, -3e38, 2e38, 0.0, 3e38], backend, banned=(4,), n=20, num_samples=5, **settings))
        assert found and found <= {0, 1, 2, 3}


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_sequence_comes_twice(backend):
    """No three tokens in a row stand twice in a text with no_repeat_ngram 3, until nothing else is left."""
    network, config = constant_network([0.0, 0.5, 1.0], backend), SampleConfig(n=26, no_repeat_ngram=3, num_samples=3)
    pieces = sampler.generate(
        network, State.zeros(network.config), config, np.random.default_rng(1), prompt=np.array([0, 1])
    )
    for row in np.concatenate(list(pieces), axis=1):
        text = [0, 1, *row.tolist()]
        seen = [tuple(text[i : i + 3]) for i in range(len(text) - 2)]
        repeated = next((i for i, three in enumerate(seen) if three in seen[:i]), len(seen))
        allowed = {three[2] for three in seen[:repeated] if three[:2] == tuple(text[repeated : repeated + 2])}
        assert repeated == len(seen) or allowed == {0, 1, 2}
        assert repeated >= 5


def test_the_penalty_sees_the_prompt_and_as_far_as_its_window():
    """At temperature 0 a strong penalty makes the next token one that the window does not hold."""
    network = constant_network([3.0, 2.0, 1.0, 0.5], "numpy")
    for window, expected in ((1, [0, 1, 0, 1, 0, 1]), (2, [0, 1, 2, 0, 1, 2]), (0, [1, 2, 3, 0, 0, 0])):
        config = SampleConfig(n=6, temperature=0.0, repetition_penalty=100.0, repetition_window=window)
        random, prompt = np.random.default_rng(0), np.array([0] if window == 0 else [2, 2])
        pieces = sampler.generate(network, State.zeros(network.config), config, random, prompt=prompt)
        assert np.concatenate(list(pieces), axis=1)[0].tolist() == expected


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_text_that_is_over_changes_no_other(backend):
    """Texts side by side are the same whether or not others end before; theirs are zeros then, and all over ends it."""
    network = constant_network(LOGITS, backend)

    def written(over):
        config = SampleConfig(n=40, num_samples=4, repetition_penalty=1.2, repetition_window=3)
        pieces = sampler.generate(network, State.zeros(network.config), config, np.random.default_rng(3), over=over)
        return np.concatenate(list(pieces), axis=1)

    whole, some = written(lambda n: False), written(lambda n: n in (0, 2))
    assert np.array_equal(some[[1, 3]], whole[[1, 3]]) and not some[[0, 2], 1:].any()
    assert written(lambda n: True).shape == (4, 1)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_high_temperature_is_uniform_but_for_the_banned(backend):
    """At 1e6 every allowed token comes about equally often, a banned one never, however likely."""
    counts = np.bincount(draws([0.0, 1.0, 2.0, 3.0], backend, banned=(3,), temperature=1e6), minlength=4)
    assert counts[3] == 0 and ((counts[:3] - 10_000 / 3) ** 2 / (10_000 / 3)).sum() < critical(2)


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 2**64 + 5, 2**128 + 3, 2**200 + 9])
def test_few_numbers_are_those_of_numpy(seed):
    """To the last bit, one by one and many at once, for seeds of one word and of more than the pool holds."""
    few, numpy = uniform(seed, FEW_NUMBERS), np.random.default_rng(seed)
    assert type(few) is not type(numpy) and type(uniform(seed, FEW_NUMBERS + 1)) is type(numpy)
    for size in ((1, 1), (7, 3), (0, 2), (40, 1)):
        numbers = few.random(size)
        assert numbers.dtype == np.float64
        np.testing.assert_array_equal(numbers, numpy.random(size))


def test_one_seed_one_text(model):
    """The same seed gives the same text, another seed another, and none a new one each time."""
    text = lambda seed: "".join(model.generate(n=60, seed=seed))
    assert text(1) == text(1) and text(1) != text(2) and text(None) != text(None)


def test_texts_side_by_side_differ(model):
    """num_samples texts of n tokens, the same ones for the same seed."""
    texts = model.generate_many("Shall", n=40, num_samples=3, seed=4)
    assert len(set(texts)) == 3 and [len(text) for text in texts] == [40] * 3
    assert model.generate_many("Shall", n=40, num_samples=3, seed=4) == texts


def test_the_backends_write_the_same_texts_side_by_side():
    """By a network whose predictions depend on all that it has read: in pieces, and when some texts are over."""
    config = LanguageConfig(20, hidden_size=33)
    parameters = 4 * initial(config, 1)
    texts = []
    for backend in BACKENDS:
        network, pieces = Network(config, parameters, backend, 1), []
        for piece in sampler.generate(
            network,
            network.initial_state(),
            SampleConfig(n=60, num_samples=4),
            np.random.default_rng(5),
            over=lambda n: n == 1 and len(pieces) > 2,
        ):
            pieces.append(piece)
        texts.append(np.concatenate(pieces, axis=1))
    assert np.array_equal(*texts) and len({tuple(row) for row in texts[0]}) == 4


@each("settings", [{"temperature": 0.0}, {}, {"temperature": 1.7}, {"top_k": 3}, FILTERS[-1]])
def test_the_backends_write_the_same_text(model, settings):
    """NumPy and the compiled kernels agree on 200 tokens for one seed."""
    one, other = ("".join(model.generate("Thou", n=200, seed=5, backend=backend, **settings)) for backend in BACKENDS)
    assert one == other and len(one) == 200


@pytest.mark.parametrize(
    "options", [{"cell": "gru", "residual": True}, {"residual": True, "head": "cell"}, {"cell": "rnn"}], ids=str
)
def test_the_backends_write_the_same_text_with_every_cell(options):
    """With layers that add their input and a head that sees c, too; texts beside it and threads change nothing."""
    config = LanguageConfig(20, hidden_size=33, embedding_size=33, **options)
    texts = []
    for backend, threads in (("numpy", 1), ("cpu", 2)):
        network = Network(config, 3 * initial(config, 1), backend, threads)
        start, sample = network.initial_state(), SampleConfig(n=60, num_samples=3)
        pieces = sampler.generate(network, start, sample, np.random.default_rng(5))
        texts.append(np.concatenate(list(pieces), axis=1))
    assert np.array_equal(*texts) and len({tuple(row) for row in texts[0]}) == 3


def test_a_long_text_gets_the_compiled_kernels(monkeypatch):
    """Of every cell and option; not where NumPy computes them on either backend, and not without numba."""
    monkeypatch.setattr(cost, "fastest", lambda: "cpu")
    monkeypatch.delitem(sys.modules, "numba", raising=False)
    chosen = lambda n, **options: sampler.choose_backend(LanguageConfig(65, **options), SampleConfig(n=n), 0)
    others = (
        {"cell": "gru"},
        {"cell": "rnn", "residual": True},
        {"head": "cell"},
        {"layer_norm": True},
        {"proj_size": 8},
        {"cell": "mogrifier-lstm"},
    )
    for options in ({}, {"peepholes": True}, *others):
        assert (chosen(10, **options), chosen(10**6, **options)) == ("numpy", "cpu")
    assert chosen(10**6, cell="mogrifier-lstm", layer_norm=True) == "numpy"
    monkeypatch.setitem(sys.modules, "numba", sys)  # it is there, and starts at once
    assert chosen(1) == "cpu"
    monkeypatch.setattr(cost, "fastest", lambda: "numpy")
    assert chosen(10**6) == "numpy"


@each("choice", ["numpy", "cpu"])
@each(
    "ask",
    [
        lambda model: "".join(model.generate(n=2)),
        lambda model: model.generate_many(n=2, num_samples=2),
        lambda model: model.beam(n=2, beam=2),
        lambda model: model.score("Shall I"),
        lambda model: list(model.score_lines(["Shall", "I"])),
        lambda model: model.surprisals("Shall"),
    ],
    ids=["generate", "generate_many", "beam", "score", "score_lines", "surprisals"],
)
def test_the_chosen_backend_is_the_one_that_computes(ask, choice, model, monkeypatch):
    """Everything that a model is asked for takes what `choose_backend` says."""
    asked, network = [], model.network("numpy")
    monkeypatch.setattr(model, "network", lambda backend, threads=0: asked.append(backend) or network)
    monkeypatch.setattr(sampler, "choose_backend", lambda *args: choice)
    monkeypatch.setattr("nblstm.scoring.backend_for", lambda config, texts, together: (choice, texts))
    ask(model)
    assert set(asked) == {choice}


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: "".join(model.generate("Shall", n=3)),
        lambda model: model.generate("Shall", n=3).state(),
        lambda model: model.generate_many("Shall", n=3, num_samples=2),
        lambda model: model.generate_novel("Shall", corpus="", n=1, num_samples=2),
        lambda model: model.beam("Shall", n=3, beam=2, stop=("e",)),
        lambda model: model.state("Shall"),
    ],
    ids=["generate", "generate, state", "generate_many", "generate_novel", "beam", "state"],
)
def test_a_prompt_is_encoded_once(ask, model, monkeypatch):
    """Whatever it is wanted for: to be read, for the filters, to choose a backend, before a stop string."""
    encoded, encode = [], model.encode
    monkeypatch.setattr(model, "encode", lambda text: encoded.append(text) or encode(text))
    ask(model)
    assert encoded.count("Shall") == 1


def test_generate_is_lazy(model):
    """A billion tokens are not computed before they are asked for; a wrong setting is told at once."""
    pieces = model.generate(n=10**9, seed=1)
    assert "".join(islice(pieces, 3)) == "".join(model.generate(n=21, seed=1))  # of 1, 4 and 16 tokens
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
    config = LanguageConfig(len(vocabulary), hidden_size=4, num_layers=1)
    parameters = initial(config, 0)
    for token, by in (bias or {}).items():
        views(parameters, config)["head.bias"][token] += by
    return LanguageModel(config, vocabulary, parameters, {})


@each("level", ["char", "word"])
@pytest.mark.parametrize("backend", BACKENDS)
@each("settings", [{}, {"temperature": 0.0}, {"temperature": 1e6}, {"top_k": 1}])
def test_the_unknown_token_is_never_written(level, backend, settings):
    """Not even by a model that finds <unk> by far the most likely."""
    model = a_model(level, "ab cd", bias={0: 100.0})
    assert "<unk>" not in "".join(model.generate("zz", n=100, seed=1, backend=backend, **settings))


def test_bytes_come_as_whole_characters(monkeypatch):
    """A piece of the stream never holds part of a character; what is no UTF-8 becomes U+FFFD, at the end too."""
    model = a_model("byte", "")
    script = "aé€😀\n".encode() + b"\xff" + "é".encode()[:1]
    monkeypatch.setattr(language_model.sampler, "generate", lambda *args, **kw: (np.array([[byte]]) for byte in script))
    pieces = list(model.generate("é", seed=1))
    assert [piece for piece in pieces if piece] == ["a", "é", "€", "😀", "\n", "\ufffd", "\ufffd"]


def test_words_are_spaced_behind_the_prompt(monkeypatch):
    """Pre-tokenised words are joined by one space, none next to a newline."""
    model = a_model("word", "the cat \n sat", tokenizer="whitespace")
    script = model.vocabulary.encode("cat sat \n the")
    monkeypatch.setattr(language_model.sampler, "generate", lambda *args, **kw: (np.array([[id]]) for id in script))
    assert "the" + "".join(model.generate("the")) == "the cat sat\nthe"


# ---------------------------------------------------------------- where texts end


def ended(text, stops):
    """The text before the stop string that is complete first, the longest of those; by trying every end."""
    for end in range(len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            return text[: end - max(map(len, found))]
    return text


def test_stops_do_not_depend_on_the_pieces():
    """Random texts in random pieces end where the whole text would; all that is certain comes at once."""
    r = np.random.default_rng(0)
    letters = lambda n: "".join(r.choice(list("ab"), n))
    for _ in range(500):
        text, stops = letters(12), [letters(r.integers(1, 5)) for _ in range(r.integers(0, 4))]
        cuts, stop = [0, *np.sort(r.integers(0, 13, 3)), 12], Stops(stops)
        out = [stop.feed(text[i:j]) for i, j in itertools.pairwise(cuts)]
        assert "".join(out) + stop.flush() == ended(text, stops)
        assert stop.found == any(s in text for s in stops)


def test_only_what_may_begin_a_stop_string_is_held_back():
    """Everything else comes with its piece."""
    stops = Stops(["END", "\n\n"])
    assert [stops.feed(piece) for piece in ("abc", "d\n", "e", "EN", "E", "ND!")] == ["abc", "d", "\ne", "", "EN", ""]
    assert stops.found and stops.feed("more") == stops.flush() == ""


def test_a_text_ends_before_a_stop_string(model):
    """As the whole text cut there, whatever the number of tokens a stop string spans; the string itself never comes."""
    whole = "".join(model.generate("Thou", n=300, seed=1))
    for stop in ("e", whole[20:27], [whole[40:43], "zzz"]):
        text = "".join(model.generate("Thou", n=300, seed=1, stop=stop))
        assert text == ended(whole, [stop] if isinstance(stop, str) else stop) and text != whole
    assert model.generate_many("Thou", n=300, seed=1, stop=[whole[40:43]]) == [ended(whole, [whole[40:43]])]
    with pytest.raises(ConfigError, match="stop string"):
        model.generate(stop="")


def a_model_of_lines(bias=None):
    """An untrained model of documents."""
    vocabulary = Vocabulary.build(["abc"], "char", ends=True)
    config = LanguageConfig(5, hidden_size=4, num_layers=1)
    parameters = initial(config, 0)
    for token, by in (bias or {}).items():
        views(parameters, config)["head.bias"][token] += by
    return LanguageModel(config, vocabulary, parameters, {})


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_document_ends_at_its_end(backend):
    """Texts of a model of documents are those up to the first end token, and the token is never written."""
    lines, endless = a_model_of_lines(), a_model_of_lines()
    endless.vocabulary = type(lines.vocabulary)(("<unk>", "\n", "a", "b", "c"))
    state = lines.state()
    texts = lines.generate_many(n=50, num_samples=9, seed=2, until_end=True, backend=backend)
    whole = endless.generate_many(n=50, num_samples=9, seed=2, state=state, backend=backend)
    assert texts == [text.split("\n")[0] for text in whole] and len(set(map(len, texts))) > 3
    assert (
        "".join(lines.generate(n=50, seed=2, backend=backend))
        == "".join(endless.generate(n=50, seed=2, state=state, backend=backend)).split("\n")[0]
    )


@each("options", [{}, {"cell": "gru"}, {"residual": True}, {"head": "cell"}, {"cell": "rnn"}])
def test_a_text_is_read_by_the_decoder_as_it_is_read_at_once(options):
    """With NumPy, whose decoder is faster where a model is small; nothing that was given is changed."""
    config = LanguageConfig(7, hidden_size=9, **options)
    network = Network(config, initial(config, 1), "numpy", constant=True)
    ids, before = np.array([1, 2, 6, 3, 0]), network.initial_state()
    found = sampler.read_ids(network, ids, before)
    expected = network.read(Chunk.rectangle(ids[:, None], ids[:, None], fresh=False), before)
    for name, value in vars(expected).items():
        np.testing.assert_allclose(getattr(found, name), value, atol=1e-6)
    assert not before.h.any() and decoding_reads(config, "numpy") == (options != {"cell": "rnn"})
    assert not decoding_reads(config, "cpu") and not decoding_reads(LanguageConfig(7, hidden_size=1024), "numpy")


def test_a_document_begins_behind_an_end():
    """Without a prompt and before one: the state is the one after the end token, then the prompt."""
    lines = a_model_of_lines()
    for text in ("", "ab"):
        expected = sampler.read_ids(lines.network(), np.array([1, *lines.encode(text)]))
        assert np.array_equal(lines.state(text).h, expected.h)


def test_until_end_needs_an_end(model):
    """A model of running text has none, and says so at once."""
    with pytest.raises(ConfigError, match="end"):
        model.generate(until_end=True)


def test_novel_texts_do_not_stand_in_the_corpus(model):
    """Skipped texts are counted; those of documents are compared as whole lines; the tries are bounded."""
    texts = model.generate_many("S", n=1, num_samples=8, seed=1)
    found = model.generate_novel("S", corpus="S" + texts[0] + "S" + texts[1], n=1, num_samples=8, seed=1)
    assert len(found.texts) == 8 and not {texts[0], texts[1]} & set(found.texts) and found.skipped >= 2
    lines = a_model_of_lines(bias={1: 2.0})
    texts = lines.generate_many(n=3, num_samples=40, seed=1)
    assert {"a", ""} <= set(texts)
    found = lines.generate_novel(corpus="x\na\n\ncba", n=3, num_samples=40, seed=1)
    assert not {"a", "", "cba"} & set(found.texts) and "c" in found.texts and found.skipped > 0
    none = lines.generate_novel(corpus="\n", n=1, num_samples=2, seed=1, top_k=1)
    assert none == ([], 2 * language_model.NOVEL_TRIES)


def test_the_state_behind_a_text(model, tmp_path):
    """Written to a file and read back it goes on as the whole would, without the prompt being read again."""
    whole = "".join(model.generate("Thou", n=60, seed=3, temperature=0.0))
    writing = model.generate("Thou", n=20, temperature=0.0)
    head = "".join(writing)
    model.save_state(tmp_path / "state", writing.state())
    state = model.load_state(tmp_path / "state")
    assert head + "".join(model.generate(state=state, n=40, temperature=0.0)) == whole


@each(
    "action, message",
    [
        (lambda model: model.generate(5), "a text must be a string, got int"),
        (lambda model: model.beam(None), "a text must be a string, got NoneType"),
        (lambda model: model.score(None), "a text must be a string, got NoneType"),
        (lambda model: list(model.score_lines([7])), "a text must be a string, got int"),
        (lambda model: model.score_lines("one\ntwo"), "split it with .splitlines"),
        (lambda model: model.generate(state="once upon"), r"what model.state\(\) returns, got str"),
        (
            lambda model: model.generate(state=State.zeros(LanguageConfig(9, hidden_size=3))),
            "the state is of another model",
        ),
        (lambda model: model.state("a", before=State.zeros(model.config, 2)), "the state is of another model"),
    ],
)
def test_what_is_no_text_and_no_state_of_the_model_is_named(model, action, message):
    """At once, in one line, by an error of ours."""
    with pytest.raises(NblstmError, match=message):
        action(model)
