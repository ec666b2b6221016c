"""The neural cache: the paper's sums written out one by one, what it remembers, and what it is not mixed with."""

import json
import math

import numpy as np
import pytest
from support.cases import each

import nblstm
from nblstm.kernels import NeuralCache, load
from nblstm.nn.parameters import initial
from nblstm.scoring import stream
from nblstm.text.batches import Chunk

TEXT = "the cat sat on the mat and the dog sat on the log . the cat saw the dog and the dog saw the cat ."
VOCABULARY = nblstm.Vocabulary.build([TEXT], "word", "whitespace")
CONFIG = nblstm.LanguageConfig(len(VOCABULARY), hidden_size=6, num_layers=2, dtype="float64")
IDS = VOCABULARY.encode(TEXT).astype(np.int32)
HOW = {"size": 5, "theta": 3.0, "share": 0.3}


@pytest.fixture(scope="module")
def model():
    """A small model of words in double precision."""
    return nblstm.LanguageModel(CONFIG, VOCABULARY, initial(CONFIG, 0), {})


def by_hand(similarity, targets, nats, cache):
    """Grave et al. 2017, eqs. 2 to 4, a term at a time; nats: -log p_model of the last rows."""
    found, positions = [], len(targets)
    for m, model_nats in enumerate(nats):
        t = positions - len(nats) + m
        weights = {i: math.exp(cache.theta * similarity[m][i]) for i in range(max(0, t - cache.size), t)}
        p = math.exp(-model_nats)
        if weights:
            seen = sum(weight for i, weight in weights.items() if targets[i] == targets[t]) / sum(weights.values())
            p = (1 - cache.share) * p + cache.share * seen
        found.append(-math.log(p))
    return found


@each("M, S, size", [(1, 0, 3), (5, 0, 2), (7, 4, 3), (4, 9, 100), (3, 2, 1)])
@each("backend, threads, dtype", [("numpy", 1, "float64"), ("cpu", 1, "float32"), ("cpu", 3, "float64")])
def test_each_kernel_is_the_sum_of_the_paper(backend, threads, dtype, M, S, size):
    """Of windows that are full or not yet, on any number of threads."""
    random = np.random.default_rng(M)
    similarity, nats = random.normal(size=(M, S + M)).astype(dtype), random.random(M).astype(dtype) * 3
    targets, cache = random.integers(0, 3, S + M).astype(np.int32), NeuralCache(size, 1.5, 0.2)
    expected = by_hand(similarity, targets, nats, cache)
    load(backend).cache_losses(nats, similarity, targets, cache, threads)
    np.testing.assert_allclose(nats, expected, rtol=1e-6 if dtype == "float32" else 1e-12)


@each("backend", ["numpy", "cpu"])
def test_what_no_float_holds(backend):
    """Huge similarities and losses, a share of 0, and NaN: a number, infinity or NaN as the sums say, and no warning."""
    lose, targets = load(backend).cache_losses, np.array([1, 2, 1, 1], np.int32)
    similarity = np.array([[1e4, -1e4, 0.0, 0.0]])
    for nats, share, expected in (
        (800.0, 0.5, -math.log(0.5)), (800.0, 0.0, 800.0), (math.inf, 0.5, -math.log(0.5)), (2.0, 0.0, 2.0),
    ):  # fmt: skip
        losses = np.array([nats])
        lose(losses, similarity, targets, NeuralCache(9, 1.0, share), 1)
        np.testing.assert_allclose(losses, [expected])
    losses = np.array([math.inf])
    lose(losses, similarity, np.array([1, 2, 1, 3], np.int32), NeuralCache(9, 1.0, 0.5), 1)
    assert losses[0] == math.inf
    losses = np.array([2.0])
    lose(losses, np.full((1, 4), np.nan), targets, NeuralCache(9, 1.0, 0.5), 1)
    assert math.isnan(losses[0])


def features_and_nats(model):
    """The head's features before each token but the first (M, F), and -log p of it (M,), read one by one."""
    network, state, features, nats = model.network("numpy"), None, [], []
    state = network.initial_state()
    for token, target in zip(IDS, IDS[1:]):
        state = network.read(Chunk.rectangle(np.array([[token]]), np.array([[target]]), False), state)
        z = network.logits(state.features)[0]
        nats.append(np.log(np.exp(z).sum()) - z[target])
        features.append(state.features[0])
    return np.array(features), np.array(nats)


@each("backend", ["numpy", "cpu"])
def test_a_text_is_scored_with_what_came_before(backend, model):
    """The score of a text is that of a loop over its positions, however it is cut; the model's own stays as it was."""
    features, nats = features_and_nats(model)
    expected = sum(by_hand(features @ features.T, IDS[1:], nats, NeuralCache(**HOW)))
    static = model.score(TEXT).nats
    score = lambda *pieces: sum(
        piece.score.nats for piece in stream(model.caching(backend, 2, **HOW), VOCABULARY, list(pieces))
    )
    np.testing.assert_allclose(score(TEXT), expected, rtol=1e-9)
    first, second = TEXT.index("dog"), TEXT.index("saw")
    np.testing.assert_allclose(score(TEXT[:first], TEXT[first:second], TEXT[second:]), expected, rtol=1e-9)
    assert abs(expected - static) > 0.1 and model.score(TEXT).nats == static
    np.testing.assert_allclose(model.caching("numpy", **{**HOW, "share": 0.0}).head.how.share, 0)


def test_a_cache_beside_learning(model):
    """Learning goes on as without a cache: the same weights; without a share the losses are the same, too."""
    chunk = Chunk.rectangle(IDS[:-1, None], IDS[1:, None], False)
    adapt = {"segment": 4, "rate": 0.5}
    learns, both, none = (
        model.adapting("numpy", **adapt),
        model.caching("numpy", adapt=adapt, **HOW),
        model.caching("numpy", adapt=adapt, share=0.0),
    )
    losses = [network.losses(chunk, network.initial_state())[0] for network in (learns, both, none)]
    np.testing.assert_array_equal(learns.parameters, both.parameters)
    np.testing.assert_allclose(losses[2], losses[0], rtol=1e-12)
    assert not np.allclose(losses[1], losses[0])


@each("settings, message", [
    ({"size": 0}, "size must be at least 1"), ({"theta": -1.0}, "theta must be at least 0"), ({"share": 1.0}, "share must be"),
    ({"lambda_": 1.0}, "no field 'lambda_'"), ({"adapt": {"rule": "rms"}}, "gradient statistics"), ({"adapt": 3}, "adapt must be"),
])  # fmt: skip
def test_wrong_settings_of_a_cache(settings, message, model):
    """Each is named before anything is read."""
    with pytest.raises(nblstm.ConfigError, match=message):
        model.caching("numpy", **settings)


def test_where_a_cache_makes_no_sense(model):
    """Characters come again everywhere; and texts that are read side by side know nothing of each other."""
    characters = nblstm.Vocabulary.build([TEXT], "char")
    config = nblstm.LanguageConfig(len(characters), hidden_size=4)
    with pytest.raises(nblstm.ConfigError, match="words or sub-words, got level 'char'"):
        nblstm.LanguageModel(config, characters, initial(config, 0), {}).caching()
    network = model.caching("numpy")
    with pytest.raises(nblstm.ConfigError, match="one text at a time"):
        network.losses(Chunk.rectangle(IDS[:6].reshape(3, 2), IDS[1:7].reshape(3, 2), False), network.initial_state(2))


def test_the_commands_say_that_a_figure_is_dynamic(model, command, tmp_path, monkeypatch):
    """`eval` and `score` with --cache: the protocol, the table and each JSON object say what was remembered."""
    monkeypatch.chdir(tmp_path)
    model.save("words.safetensors")
    (tmp_path / "text.txt").write_text(TEXT + "\n" + TEXT + "\n", encoding="utf-8")
    options = ["-m", "words.safetensors", "text.txt", "--backend", "numpy", "--cache", 7, "--cache-share", 0.2]
    said = "dynamic evaluation, a neural cache of the last 7 tokens (theta 0.5, share 0.2)"
    expected = sum(
        piece.score.nats
        for piece in stream(model.caching("numpy", size=7, share=0.2), VOCABULARY, [TEXT + "\n" + TEXT + "\n"])
    )
    table = command("eval", *options)
    assert table.code == 0 and said in table.err, table
    row = json.loads(command("eval", *options, "--json").out)["files"][0]
    assert row["protocol"].startswith(said)
    np.testing.assert_allclose(row["nats_per_token"] * row["tokens"], expected)
    lines = [json.loads(line) for line in command("score", *options, "--json").out.splitlines()]
    assert len(lines) == 2 and all(line["protocol"].startswith(said) for line in lines)
    assert lines[1]["log_probability"] > lines[0]["log_probability"]  # it has been there before
    both = command("eval", *options, "--adapt", "sgd")
    assert both.code == 0 and "learned from once they are scored" in both.err and "a neural cache" in both.err
    for extra, words in (
        (["--streams", 4], "--cache reads one stream"), (["--cache", 0], "size must be at least 1"),
        (["--windows", 4], "--cache reads one stream"),
    ):  # fmt: skip
        outcome = command("eval", *options, *extra)
        assert outcome.code == 2 and words in outcome.err, outcome
    outcome = command("eval", "-m", "words.safetensors", "text.txt", "--cache-theta", "1")
    assert outcome.code == 2 and "--cache-theta needs --cache" in outcome.err
