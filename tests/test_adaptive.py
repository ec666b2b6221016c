"""The adaptive softmax: equal to PyTorch's, to finite differences and to its own definition."""

import numpy as np
import pytest
from support.cases import each
from support.gradients import check_gradient
from support.networks import BACKENDS, make_chunk, make_network

import nblstm
from nblstm.config import BeamConfig
from nblstm.config.adaptive import best_cutoffs, parse_cutoffs, zipf_cutoffs
from nblstm.errors import ConfigError
from nblstm.generation.beam import BeamSearch
from nblstm.kernels import Filters
from nblstm.nn.adaptive import Cluster
from nblstm.nn.parameters import initial, views
from nblstm.nn.tape import Tape
from nblstm.tasks.language.config import LanguageConfig
from nblstm.text.batches import Chunk
from nblstm.text.vocabulary import Words

SHAPE = {"vocab_size": 90, "hidden_size": 19, "head": "adaptive", "cutoffs": "7,30,71"}
NONE = np.zeros(0, np.int64)


def chunk_of_all_clusters(config, T=5, N=4):
    """A chunk whose targets are in every cluster, the first and the last token of each among them; and a state."""
    chunk, state = make_chunk(config, T, N)
    edges = np.array(config.edges)
    ends = np.concatenate([edges[:-1], edges[1:] - 1]).astype(np.int32)
    targets = chunk.targets.copy()
    targets[: len(ends)] = ends
    return Chunk(chunk.tokens, targets, chunk.offsets, chunk.fresh), state


def log_p(network, features):
    """The definition, token by token, in float64."""
    w = {name: array.astype(np.float64) for name, array in network.weights.items() if name.startswith("head.")}
    _, K, *ends = network.config.edges
    log_softmax = lambda z: z - np.log(np.exp(z).sum())
    rows = []
    for x in features:
        top = log_softmax(w["head.head.weight"] @ x + w["head.head.bias"])
        row = list(top[:K])
        for i in range(len(ends)):
            row += list(top[K + i] + log_softmax(w[f"head.tail.{i}.1.weight"] @ (w[f"head.tail.{i}.0.weight"] @ x)))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("backend", BACKENDS)
def test_probabilities_are_normalised_and_those_of_the_definition(backend):
    """The outputs are log p of every token: they sum to 1, and the losses are minus those of the targets."""
    network = make_network(backend, **SHAPE)
    chunk, state = chunk_of_all_clusters(network.config)
    found, _ = network.outputs(chunk, state)
    np.testing.assert_allclose(np.exp(found).sum(axis=1), 1, rtol=1e-12)
    x = np.random.default_rng(3).normal(size=(4, 19))
    np.testing.assert_allclose(network.logits(x), log_p(network, x), rtol=1e-12)
    losses, _ = network.losses(chunk, state)
    np.testing.assert_allclose(losses, -found[np.arange(len(found)), chunk.targets], rtol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@each("weighted", [False, True])
def test_gradient_against_finite_differences(backend, weighted):
    """Every parameter, in float64; weighted: rows and classes of targets count more or less, some rows not at all."""
    network = make_network(backend, threads=1, **SHAPE, num_layers=1, output_dropout=0.3)
    network.parameters *= 2
    r = np.random.default_rng(11)
    chunk, state = chunk_of_all_clusters(network.config)
    if weighted:
        network.head.classes = r.random(90) + 0.5
        weights = r.random(len(chunk.targets)) * (np.arange(len(chunk.targets)) % 4 > 0)
        chunk = Chunk(chunk.tokens, chunk.targets, chunk.offsets, chunk.fresh, weights)
    gradient, scratch = np.empty_like(network.parameters), np.empty_like(network.parameters)
    loss = lambda into=scratch: network.loss_and_gradient(into, chunk, state, seed=1, step=2)[0]
    loss(gradient)
    for name, array in views(gradient, network.config).items():
        check_gradient(name, loss, network.weights[name], array)


@each("backend, dtype", [("numpy", "float64"), ("cpu", "float64"), ("cpu", "float32")])
def test_equals_torch(backend, dtype):
    """Losses, log-probabilities and gradients are those of torch.nn.AdaptiveLogSoftmaxWithLoss, parameters by its names."""
    torch = pytest.importorskip("torch")
    network = make_network(backend, **{**SHAPE, "cutoffs": "7,30", "dtype": dtype})
    chunk, _ = chunk_of_all_clusters(network.config)
    theirs = torch.nn.AdaptiveLogSoftmaxWithLoss(19, 90, [7, 30], div_value=4.0, head_bias=True)
    theirs = theirs.to(getattr(torch, dtype))
    named = {name.removeprefix("head."): array for name, array in network.weights.items() if name.startswith("head.")}
    theirs.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in named.items()})
    x = np.random.default_rng(5).normal(size=(len(chunk.targets), 19)).astype(dtype)
    x_ = torch.from_numpy(x.copy()).requires_grad_()
    found = theirs(x_, torch.from_numpy(chunk.targets).long())
    found.loss.backward()

    gradient = np.zeros_like(network.parameters)
    grads = views(gradient, network.config)
    with network.scratch() as scratch:
        tape = Tape(chunk.offsets, scratch, None, features=x)
        loss, dx = network.head.loss_and_gradient(tape, grads, chunk)
        losses = network.head.losses(tape, chunk.targets)
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    same = lambda ours, their: np.testing.assert_allclose(ours, their.detach().numpy(), rtol=tolerance, atol=tolerance)
    same(loss, found.loss), same(losses, -found.output), same(dx, x_.grad)
    same(network.logits(x), theirs.log_prob(x_))
    for name, parameter in theirs.named_parameters():
        same(grads[f"head.{name}"], parameter.grad)


def test_kernels_of_threads_give_the_same_bits():
    """Any number of threads: the same losses and gradient, bit for bit, in float32, rows of several blocks."""
    found = []
    for threads in (1, 3):
        network = make_network("cpu", threads, **{**SHAPE, "vocab_size": 300, "dtype": "float32"})
        chunk, state = chunk_of_all_clusters(network.config, T=30, N=7)
        gradient = np.empty_like(network.parameters)
        loss, _ = network.loss_and_gradient(gradient, chunk, state, 0, 0)
        found.append((loss, gradient.tobytes(), network.losses(chunk, state)[0].tobytes()))
    assert found[0] == found[1]


def test_cutoffs_follow_the_counts():
    """The tokens before the cutoffs make up 60, 80 and 90 % of the text, in steps of 64; by Zipf's law without counts."""
    counts = np.repeat([1000, 100, 10, 1], [100, 400, 1000, 8000])
    share = np.cumsum(counts) / counts.sum()
    edges = parse_cutoffs(best_cutoffs(counts), len(counts))
    assert [edge % 64 for edge in edges] == [0, 0, 0]
    for edge, wanted in zip(edges, (0.6, 0.8, 0.9)):
        assert share[edge - 1] >= wanted > share[edge - 65]
    zipf = 1 / np.arange(1, 20_001)
    assert zipf_cutoffs(20_000) == best_cutoffs(zipf)
    assert best_cutoffs(np.eye(1, 2000)[0]) == "64", "nothing but one token"


@each(
    "settings, message",
    [
        ({"vocab_size": 999}, "at least 1,000 tokens, and the vocabulary has 999; choose head linear, or set cutoffs"),
        ({"vocab_size": 90, "cutoffs": "7,7"}, "cutoffs must be up to 10 rising whole numbers"),
        ({"vocab_size": 90, "cutoffs": "7,90"}, "less than vocab_size, 90, got '7,90'"),
        ({"vocab_size": 90, "cutoffs": "0,9"}, "from 1 on"),
        ({"vocab_size": 90, "cutoffs": "seven"}, "got 'seven'"),
        ({"vocab_size": 90, "cutoffs": ",".join(map(str, range(1, 12)))}, "up to 10"),
        ({"vocab_size": 2000, "tie": True}, "tie needs one vector of a size"),
        ({"vocab_size": 2000, "head": "linear", "cutoffs": "7"}, "cutoffs is for adaptive, not for linear"),
    ],
)
def test_what_an_adaptive_head_cannot_be(settings, message):
    """Small vocabularies need cutoffs, which rise below V; nothing is tied to vectors of several sizes."""
    with pytest.raises(ConfigError, match=message):
        LanguageConfig(**{"head": "adaptive", **settings})


@each("level", ["char", "byte", "subword"])
def test_only_words_are_ordered_by_frequency(level):
    """Other vocabularies do not stand by falling counts, so their models have no adaptive head."""
    with pytest.raises(ConfigError, match=f"for words, .* not for level {level}"):
        LanguageConfig(2000, head="adaptive").check_level(level)


def everything(decoder):
    """The decoder, that looks into every cluster."""
    decoder._wanted = lambda count, banned: 0
    return decoder


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_decoder_gives_log_probabilities(backend):
    """Token by token the logits are log p of all tokens, as the network reads them at once; then bias and temperature."""
    network = make_network(backend, **SHAPE)
    chunk, state = make_chunk(network.config, 3, 2)
    expected, after = network.outputs(chunk, state)
    bias = np.random.default_rng(2).normal(size=90)
    for how, told in (({}, lambda z: z), ({"bias": bias, "temperature": 0.7}, lambda z: (z + bias) / 0.7)):
        decoder, own = network.decoder(2, **how), state.copy()
        for t, tokens in enumerate(chunk.tokens.reshape(3, 2)):
            np.testing.assert_allclose(decoder(tokens, own), told(expected[2 * t : 2 * t + 2]), rtol=1e-12)
        np.testing.assert_allclose(own.features, after.features, rtol=1e-12)
    np.testing.assert_allclose(network.logits(own.features), expected[-2:], rtol=1e-12)


FILTERS = {
    "plain": {}, "greedy": {"temperature": 0.0}, "top": {"top_k": 3}, "cold top": {"temperature": 0.5, "top_k": 20},
    "nucleus": {"top_p": 0.8, "min_p": 0.01}, "typical": {"typical_p": 0.7}, "warm": {"temperature": 1.5},
    "not repeating": {"repetition_penalty": 1.4, "no_repeat_ngram": 2, "presence_penalty": 0.5},
    "greedy, not repeating": {"temperature": 0.0, "repetition_penalty": 1.4},
}  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@each("name", FILTERS)
@each("banned", [[], [0], [0, 50]])
def test_looking_into_few_clusters_draws_what_looking_into_all_draws(backend, name, banned):
    """The same numbers find the same tokens, with every filter and where a cluster's token is banned; so do the logits after."""
    network = make_network(backend, **SHAPE)
    network.parameters[...] *= 3
    N, K = 3, 40
    _, state = make_chunk(network.config, 1, N)
    uniform = np.random.default_rng(4).random((K, N))
    banned, filters, found = np.array(banned, np.int64), Filters(**FILTERS[name]), []
    for decoder in (network.decoder(N), everything(network.decoder(N))):
        own, history = state.copy(), np.zeros((N, K), np.int64)
        logits = network.logits(own.features)
        decoder.generate(history, 0, own, logits, uniform, banned, filters)
        found.append((history, logits))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-9)
    assert (found[0][0] >= 0).all() and not np.isin(found[0][0], banned).any()


def test_plain_drawing_follows_the_distribution():
    """20,000 first tokens: the share of each is its probability, of the shortlist and of every cluster."""
    network = make_network("numpy", **SHAPE)
    N = 20_000
    state = make_chunk(network.config, 1, 1)[1].take(np.zeros(N, np.int64))
    history, logits = np.zeros((N, 1), np.int64), network.logits(state.features)
    p = np.exp(logits[0])
    network.decoder(N).generate(history, 0, state, logits, np.random.default_rng(8).random((1, N)), NONE, Filters())
    share = np.bincount(history[:, 0].astype(np.intp), minlength=90) / N
    assert (np.abs(share - p) < 5 * np.sqrt(p / N)).all()


def test_logits_that_are_no_distribution_draw_nothing():
    """A text whose weights overflow gets -1, by whichever way a token is drawn."""
    network = make_network("numpy", **SHAPE)
    network.weights["head.head.bias"][:] = np.nan
    for filters in (Filters(), Filters(temperature=0.0), Filters(top_p=0.5)):
        state = make_chunk(network.config, 1, 2)[1]
        history, logits = np.zeros((2, 1), np.int64), network.logits(state.features)
        network.decoder(2).generate(history, 0, state, logits, np.full((1, 2), 0.5), NONE, filters)
        assert (history == -1).all()


@pytest.mark.parametrize("backend", BACKENDS)
@each(
    "settings",
    [{}, {"groups": 2, "diversity": 2.0}, {"groups": 4, "diversity": 0.3}, {"stochastic": True}, {"temperature": 0.3}],
)
def test_a_search_of_few_clusters_finds_what_one_of_all_finds(backend, settings, monkeypatch):
    """The same hypotheses in the same order, their log-probabilities alike: best ones, groups, samples; few clusters are read."""
    network, found, looked = make_network(backend, **SHAPE), [], []
    network.parameters[...] *= 3
    vocabulary = Words(("<unk>", *map(str, range(89))))
    temperature = settings.get("temperature", 1.0)
    config = BeamConfig(beam=4, n=6, seed=1, **{name: s for name, s in settings.items() if name != "temperature"})
    inside = Cluster.logits
    monkeypatch.setattr(Cluster, "logits", lambda self, x: (looked.append(len(x)), inside(self, x))[1])
    for change in (lambda decoder: decoder, everything):
        search = BeamSearch(network, vocabulary, make_chunk(network.config, 1, 1)[1], config, temperature=temperature)
        change(search._decoder)
        looked.clear()
        while not search.done:
            search.step()
        found.append(([(h.tokens.tolist(), h.log_probability) for h in search.hypotheses()], sum(looked)))
    assert [tokens for tokens, _ in found[0][0]] == [tokens for tokens, _ in found[1][0]]
    np.testing.assert_allclose([p for _, p in found[0][0]], [p for _, p in found[1][0]], rtol=1e-9)
    of_model = not config.stochastic and temperature == 1
    assert found[0][1] < found[1][1] if of_model else found[0][1] == found[1][1]


P = 1 / np.arange(1, 4001)
WORDS = " ".join(f"w{n}" for n in np.random.default_rng(0).choice(4000, 12_000, p=P / P.sum())) + " .\n"


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A file of words, of which more than a thousand are distinct."""
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text(WORDS)
    return path


def test_a_run_chooses_the_clusters_by_its_text(words, tmp_path):
    """The counts of the training text say where the words are cut; the model's file keeps it, and the model writes."""
    settings = {"level": "word", "hidden_size": 8, "num_layers": 1, "steps": 3, "batch_size": 4, "threads": 1}
    told = []
    on_start = lambda session: told.extend(session.task.introduce(session.material, session.trainer))
    model = nblstm.train(words, tmp_path / "a.safetensors", head="adaptive", on_start=on_start, **settings)
    counts = np.bincount(model.vocabulary.encode(WORDS[: int(0.9 * len(WORDS))]), minlength=len(model.vocabulary))
    edges = np.array(model.config.edges)
    share = np.cumsum(counts)[edges[1:-1] - 1] / counts.sum()
    assert (share >= np.array([0.6, 0.8, 0.9]) - 0.01)[: len(share)].all() and len(share) >= 2
    sizes = ", ".join(f"{size:,}" for size in np.diff(edges)[1:])
    assert ("head", f"adaptive: a shortlist of {edges[1]} words, clusters of {sizes}") in told
    loaded = nblstm.load(tmp_path / "a.safetensors")
    assert loaded.config == model.config and "adaptive head" in loaded.config.description
    text = "".join(loaded.generate(n=5, seed=1, backend="numpy"))
    assert text == "".join(loaded.generate(n=5, seed=1, backend="cpu")) and text.strip()


@each("settings, message", [
    ({"level": "char"}, "not for level char"), ({"max_vocab": 900}, "at least 1,000 tokens"),
    ({"label_smoothing": 0.1}, "label_smoothing spreads over all tokens"), ({"device": "cuda"}, "not for device cuda"),
    ({"cutoffs": "8,4"}, "rising whole numbers"), ({"cutoffs": "8,4000"}, "less than vocab_size"),
    ({"tie": True}, "tie needs one vector"), ({"bidirectional": True}, "head must be one of linear, cell"),
    ({"head": "linear", "tie": True, "lazy_embedding": True}, "lazy_embedding is not for tie"),
    ({"head": "linear", "bidirectional": True, "lazy_embedding": True}, "lazy_embedding is not for bidirectional"),
])  # fmt: skip
def test_what_a_run_refuses(words, tmp_path, settings, message):
    """One sentence, before anything is written."""
    with pytest.raises(ConfigError, match=message):
        nblstm.train(words, tmp_path / "a.safetensors", **{"level": "word", "head": "adaptive", "steps": 1, **settings})
    assert not list(tmp_path.iterdir())


def test_what_starts_from_it_or_learns_in_memory_refuses_it_too(words, tmp_path):
    """A run from a model's weights, whose head is none of its settings, and `TextGenerator.fit`: before an update is made."""
    config = LanguageConfig(90, hidden_size=8, num_layers=1, head="adaptive", cutoffs="9")
    vocabulary = Words(("<unk>", *(f"w{k}" for k in range(89))), "whitespace")
    nblstm.LanguageModel(config, vocabulary, initial(config, 0), {}).save(tmp_path / "base.safetensors")
    start = {"init_from": tmp_path / "base.safetensors", "steps": 1}
    with pytest.raises(ConfigError, match="label_smoothing spreads"):
        nblstm.train(words, tmp_path / "a.safetensors", **start, label_smoothing=0.1)
    grown = nblstm.train(words, tmp_path / "a.safetensors", **start, extend_vocabulary=True, lazy_embedding=True)
    assert grown.config.edges == (0, 9, len(grown.vocabulary)) and len(grown.vocabulary) > 90
    with pytest.raises(ConfigError, match="not for level char"):
        nblstm.TextGenerator(head="adaptive", cutoffs="2", steps=1, hidden_size=4).fit("abc " * 50)


@each("format", ["c", "py", "html", "onnx"])
def test_exports_refuse_it(format, tmp_path):
    """A sentence says what to train instead."""
    config = LanguageConfig(90, hidden_size=8, num_layers=1, head="adaptive", cutoffs="9")
    model = nblstm.LanguageModel(config, Words(("<unk>", *map(str, range(89)))), initial(config, 0), {})
    with pytest.raises(ConfigError, match=f"format {format} has no adaptive head; train one with head linear"):
        nblstm.export(model, tmp_path / "model.x", format=format)
