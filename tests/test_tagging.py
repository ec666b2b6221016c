"""Tagging: the network and its gradients, spans and their measures, files, the estimator."""

import threading

import numpy as np
import pytest
from support.cases import each
from support.compare import close
from support.gradients import check_gradient

import nblstm
from nblstm.errors import ConfigError, DeviceError, ModelFileError, TextError
from nblstm.kernels.packed import lengths as lengths_of
from nblstm.nn.parameters import views
from nblstm.tasks.tagging.batches import SpelledForms, TaggedSentences
from nblstm.tasks.tagging.config import TaggerConfig
from nblstm.tasks.tagging.measures import TagCounts
from nblstm.tasks.tagging.network import TaggerNetwork, initial_tagger, validated_tags
from nblstm.tasks.tagging.settings import TaggedTextConfig, TaggerTraining
from nblstm.tasks.tagging.spans import (
    SCHEMES,
    TaggedSpan,
    allowed_chain,
    outputs_of,
    rewritten,
    scheme_of,
    spans_of,
    written,
)
from nblstm.tasks.tagging.training import TaggedPart, corpus_of, numbered_tags
from nblstm.text.vocabulary import Vocabulary

SENTENCES = ["the Cat saw the bat", "Bats saw", "a cat at Ta", "The"]
WORDS = [sentence.split() for sentence in SENTENCES]
QUIET = {"dropout": 0.0, "output_dropout": 0.0, "input_dropout": 0.0}
NOISE = {
    "output_dropout": 0.4, "dropout": 0.3, "input_dropout": 0.2, "variational_dropout": 0.2, "embedding_dropout": 0.2,
    "weight_dropout": 0.3,
}  # fmt: skip
NETWORKS = [
    QUIET, NOISE, {"num_layers": 2, "cell": "gru", **NOISE},
    {"char_hidden_size": 0, "head": "softmax", "bidirectional": False, "proj_size": 3, **NOISE},
    {"input_dropout": 0.0, "variational_dropout": 0.0, "residual": True, "learned_state": True, "embedding_dropout": 0.3},
]  # fmt: skip
SMALL = {
    "hidden_size": 8,
    "embedding_size": 8,
    "char_hidden_size": 4,
    "char_embedding_size": 5,
    "threads": 1,
    "lr": 0.02,
}


def vocabulary_of(words):
    return Vocabulary.from_dict({"level": "word", "tokenizer": "whitespace", "tokens": ["<unk>", *words]})


VOCABULARY = vocabulary_of(["the", "cat", "saw", "bat", "at"])


def config_of(**options):
    """A small config of float64."""
    sizes = {"hidden_size": 5, "embedding_size": 4, "char_hidden_size": 3, "char_embedding_size": 2}
    fields = {"tags": outputs_of(["X"]), "scheme": "iob2", "characters": "abetCT", "dtype": "float64"}
    return TaggerConfig(len(VOCABULARY), **{**sizes, **fields, **options})


def make_network(backend="numpy", **options):
    """A network whose parameters are all away from 0, those of the chain as well; some words are rare."""
    config = config_of(**options)
    r = np.random.default_rng(5)
    parameters = 2 * initial_tagger(config, 3)
    parameters += r.normal(0, 0.3, len(parameters)).astype(parameters.dtype)
    network = TaggerNetwork(config, parameters, backend, 1)
    network.input.rare, network.input.unknown_fraction = np.arange(len(VOCABULARY)) > 2, 0.5
    return network


def chunk_of(config, words=WORDS):
    """Sentences of unequal lengths as one chunk, a tag for each word."""
    tags = np.random.default_rng(4).integers(0, len(config.tags), sum(map(len, words))).astype(np.int32)
    return TaggedSentences(words, tags, VOCABULARY, config, len(words)).epoch(0)[0]


# ---------------------------------------------------------------- the network


@each("backend, options", [*(("numpy", options) for options in NETWORKS), ("cpu", QUIET), ("cpu", NOISE)])
def test_gradient_of_every_parameter(backend, options):
    """Words, characters, both stacks, head and chain, with all dropout and rare words, in float64."""
    network = make_network(backend, **options)
    chunk = chunk_of(network.config)
    gradient, scratch = np.empty((2, network.config.num_parameters))

    def loss(into=scratch):
        return network.loss_and_gradient(into, chunk, network.initial_state(4), seed=1, step=2)[0]

    loss(gradient)
    grads = views(gradient, network.config)
    for name in network.config.shapes:
        if grads[name].size:
            check_gradient(name, loss, network.weights[name], grads[name], 1)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@each("options", [{}, {"char_hidden_size": 0}, {"head": "softmax"}, {"num_layers": 2}])
def test_a_batch_equals_one_by_one(backend, options):
    """Losses, logits and best tags of sentences side by side are those of each alone, as is the gradient of their mean."""
    network = make_network(backend, **options, **QUIET)
    network.input.unknown_fraction = 0.0
    chunk = chunk_of(network.config)
    together, _ = network.losses(chunk, network.initial_state(4))
    tags, gradient, total = network.best_tags(chunk, network.initial_state(4)), *np.zeros((2, len(network.parameters)))
    whole, _ = network.loss_and_gradient(gradient, chunk, network.initial_state(4), 0, 0)
    assert whole == pytest.approx(together.mean())
    for n, length in enumerate(lengths_of(chunk.offsets)):
        rows = chunk.offsets[:length] + n
        words = next(words for words in WORDS if len(words) == length)
        alone = TaggedSentences([words], chunk.targets[rows], VOCABULARY, network.config, 1).epoch(0)[0]
        close(network.losses(alone, network.initial_state())[0], together[rows], 1e-12)
        assert network.best_tags(alone, network.initial_state()).tolist() == tags[rows].tolist()
        own = np.empty_like(gradient)
        network.loss_and_gradient(own, alone, network.initial_state(), 0, 0)
        total += own * length / len(chunk.tokens)
    close(gradient, total, 1e-12)


def by_torch(torch, network, named, words, tags):
    """(log Z - score, logits) of one sentence, in PyTorch's operations."""
    c, forms = network.config, SpelledForms.of(words, VOCABULARY, network.config)
    x = named["embedding.weight"][torch.from_numpy(forms.words).long()]
    if c.char_hidden_size:
        lstm = torch.nn.LSTM(c.char_embedding_size, c.char_hidden_size, bidirectional=True).to(x.dtype)
        weights, last = {name: named[f"characters.rnn.{name}"] for name, _ in lstm.named_parameters()}, []
        for start, length in zip(forms.starts, forms.lengths):
            ids = torch.from_numpy(forms.characters[start : start + length]).long()
            _, (h, _) = torch.func.functional_call(lstm, weights, (named["characters.embedding.weight"][ids],))
            last.append(h.reshape(-1))
        x = torch.cat([x, torch.stack(last)], dim=1)
    lstm = torch.nn.LSTM(x.shape[1], c.hidden_size, bidirectional=True).to(x.dtype)
    y, _ = torch.func.functional_call(lstm, {name: named[f"rnn.{name}"] for name, _ in lstm.named_parameters()}, (x,))
    logits = torch.nn.functional.linear(y, named["head.weight"], named["head.bias"])
    if c.head == "softmax":
        return torch.nn.functional.cross_entropy(logits, tags, reduction="sum"), logits
    a = named["crf.start"] + logits[0]
    for row in logits[1:]:
        a = row + torch.logsumexp(a[:, None] + named["crf.transitions"], dim=0)
    score = named["crf.start"][tags[0]] + logits[torch.arange(len(tags)), tags].sum() + named["crf.end"][tags[-1]]
    score = score + named["crf.transitions"][tags[:-1], tags[1:]].sum()
    return torch.logsumexp(a + named["crf.end"], dim=0) - score, logits


@each("backend, dtype, tolerance", [("numpy", "float64", 1e-6), ("cpu", "float64", 1e-6), ("cpu", "float32", 1e-5)])
@each("options", [{}, {"char_hidden_size": 0}, {"head": "softmax"}])
def test_losses_and_gradients_are_pytorchs(backend, dtype, tolerance, options):
    """torch.nn.Embedding, both LSTMs, Linear and a CRF written in PyTorch, with the same weights."""
    torch = pytest.importorskip("torch")
    network = make_network(backend, dtype=dtype, **options, **QUIET)
    network.input.unknown_fraction = 0.0
    chunk = chunk_of(network.config)
    named = {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in network.weights.items()}
    logits, total = network.outputs(chunk, network.initial_state(4))[0], 0
    for n, length in enumerate(lengths_of(chunk.offsets)):
        rows = chunk.offsets[:length] + n
        words = next(words for words in WORDS if len(words) == length)
        loss, expected = by_torch(torch, network, named, words, torch.from_numpy(chunk.targets[rows]).long())
        close(logits[rows], expected.detach().numpy(), tolerance)
        total = total + loss
    (total / len(chunk.tokens)).backward()
    gradient = np.empty_like(network.parameters)
    loss, _ = network.loss_and_gradient(gradient, chunk, network.initial_state(4), 0, 0)
    assert loss == pytest.approx(total.item() / len(chunk.tokens), abs=tolerance)
    for name, array in views(gradient, network.config).items():
        close(array, named[name].grad.numpy(), tolerance)


def test_only_allowed_tags_follow_each_other():
    """Whatever the weights are, the best tags of spans are well formed; weights of texts are refused."""
    for seed in range(20):
        network = make_network()
        network.parameters[...] = np.random.default_rng(seed).normal(0, 3, len(network.parameters))
        config, chunk = network.config, chunk_of(network.config)
        tags = network.best_tags(chunk, network.initial_state(4))
        for n, length in enumerate(lengths_of(chunk.offsets)):
            found = [config.tags[tag] for tag in tags[chunk.offsets[:length] + n]]
            assert rewritten(found, "iobes") == found
    weighted = type(chunk)(chunk.tokens, chunk.targets, chunk.offsets, True, np.ones(len(chunk.tokens)))
    with pytest.raises(ConfigError, match="not for a CRF"):
        network.loss_and_gradient(np.empty_like(network.parameters), weighted, network.initial_state(4), 0, 0)


def test_rare_words_are_unknown_in_a_share_of_the_updates():
    """The vector of <unk> and that of the word itself learn in turns; spelling and other words always do."""
    network, learned = make_network(**QUIET), []
    chunk = chunk_of(network.config, [["saw"]])
    for step in range(60):
        gradient = np.empty_like(network.parameters)
        network.loss_and_gradient(gradient, chunk, network.initial_state(), 0, step)
        rows = views(gradient, network.config)["embedding.weight"].any(axis=1)
        assert rows.sum() == 1
        learned.append(int(rows.argmax()))
    assert set(learned) == {0, 3} and 15 < learned.count(0) < 45


def test_tokens_of_another_network_are_refused():
    """What is no SpelledTokens, or names forms, words or characters that are not there."""
    network = make_network()
    chunk = chunk_of(network.config)
    tokens = chunk.tokens
    for wrong in (
        np.zeros(len(tokens), np.int32),
        type(tokens)(tokens.forms + 9, tokens.words, tokens.characters, tokens.offsets),
        type(tokens)(tokens.forms, tokens.words + 9, tokens.characters, tokens.offsets),
        type(tokens)(tokens.forms, tokens.words, tokens.characters + 9, tokens.offsets),
        type(tokens)(tokens.forms % 2, tokens.words[:2], tokens.characters, tokens.offsets),
    ):
        with pytest.raises(ConfigError):
            network.losses(type(chunk)(wrong, chunk.targets, chunk.offsets, True), network.initial_state(4))


# ---------------------------------------------------------------- batches


def test_every_word_is_read_once_with_its_spelling_and_its_tag():
    """In training and in validation order, a long sentence in parts: form, word, characters and tag belong together."""
    words = [[f"w{'x' * (k % 5)}{k}" for k in range(length)] for length in (7, 3, 3, 1)]
    flat = [word for sentence in words for word in sentence]
    config, vocabulary = config_of(max_length=4, characters="wx0123456789"), vocabulary_of(["w0", "wx0", "wxx0"])
    for seed in (None, 0, 1):
        found = []
        tags = np.arange(len(flat), dtype=np.int32)  # that tell the words apart
        for chunk in TaggedSentences(words, tags, vocabulary, config, 2, seed).epoch(0):
            assert max(lengths_of(chunk.offsets)) <= 4
            tokens = chunk.tokens
            spelled = ["" for _ in tokens.words]
            for first, last in zip(tokens.offsets, tokens.offsets[1:]):
                for form, letter in enumerate(tokens.characters[first:last]):
                    spelled[form] += " wx0123456789"[letter]
            for form, place in zip(tokens.forms, chunk.targets):
                assert spelled[form] == flat[place]
                expected = {2: 1, 3: 2, 4: 3}.get(len(flat[place]), 0)  # digits are zeros where words are looked up
                assert tokens.words[form] == expected
                found.append(place)
        assert sorted(found) == list(range(len(flat)))


@each("lowercase, zero_digits, expected", [(True, True, [1, 1, 3]), (False, True, [0, 1, 3]), (True, False, [1, 1, 0])])
def test_how_words_are_looked_up(lowercase, zero_digits, expected):
    """In lower case and with zeros for digits if asked; the spelling keeps both, unknown characters are 0."""
    config = config_of(lowercase=lowercase, zero_digits=zero_digits, characters="The7", max_characters=3)
    forms = SpelledForms.of(["The", "the", "7,5"], vocabulary_of(["the", "x", "0,0"]), config)
    assert forms.words.tolist() == expected
    assert [forms.characters[s : s + n].tolist() for s, n in zip(forms.starts, forms.lengths)] == [
        [1, 2, 3],
        [0, 2, 3],
        [4, 0, 0],
    ]
    assert not SpelledForms.of(["abc"], VOCABULARY, config_of(characters="")).characters.any()


# ---------------------------------------------------------------- spans


@each("tags, scheme, spans", [
    (["I-A", "I-A", "B-A", "O", "I-B"], "iob1", [("A", 0, 2), ("A", 2, 3), ("B", 4, 5)]),
    (["B-A", "I-A", "B-A", "O", "B-B"], "iob2", [("A", 0, 2), ("A", 2, 3), ("B", 4, 5)]),
    (["B-A", "E-A", "S-A", "O", "S-B"], "iobes", [("A", 0, 2), ("A", 2, 3), ("B", 4, 5)]),
    (["B-A", "I-B", "I-B", "O", "I-B-C"], "iob1", [("A", 0, 1), ("B", 1, 3), ("B-C", 4, 5)]),
    (["E-A", "E-A", "I-A", "S-A", "I-A"], "iobes", [("A", 0, 1), ("A", 1, 2), ("A", 2, 3), ("A", 3, 4), ("A", 4, 5)]),
    (["NN", "B-", "o", "O", "-A"], "none", []), (["O", "O"], "none", []),
])  # fmt: skip
def test_spans_in_tags(tags, scheme, spans):
    """What conlleval finds, malformed tags included; which scheme the tags are in."""
    assert [tuple(span) for span in spans_of(tags)] == spans
    assert scheme_of([tags]) == scheme


def test_schemes_say_the_same():
    """Random spans, neighbours of one type among them: every scheme gives them back, and is known by what it writes."""
    r = np.random.default_rng(0)
    for _ in range(200):
        spans, place = [], 0
        while place < 12:
            length = int(r.integers(1, 4))
            if r.random() < 0.6 and place + length <= 12:
                spans.append(TaggedSpan(str(r.choice(["A", "B"])), place, place + length))
            place += length
        for scheme in SCHEMES[1:]:
            tags = written(spans, 12, scheme)
            assert spans_of(tags) == spans
            for other in SCHEMES[1:]:
                assert rewritten(rewritten(tags, other), scheme) == tags
            chain, outputs = allowed_chain(outputs_of("AB"), "float32"), outputs_of("AB")
            ids = [outputs.index(tag) for tag in written(spans, 12, "iobes")]
            assert chain.start[ids[0]] == chain.end[ids[-1]] == 0 == chain.transitions[ids[:-1], ids[1:]].sum()
    assert allowed_chain(outputs_of("A"), "float32").transitions.tolist() == [
        [0, 0, -np.inf, -np.inf, 0],
        [-np.inf, -np.inf, 0, 0, -np.inf],
        [-np.inf, -np.inf, 0, 0, -np.inf],
        [0, 0, -np.inf, -np.inf, 0],
        [0, 0, -np.inf, -np.inf, 0],
    ]


PUBLISHED = [  # of seqeval's README: per sentence truth, then what was found
    (["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"]),
    (["B-PER", "I-PER", "O"], ["B-PER", "I-PER", "O"]),
]


def counted(pairs):
    counts = TagCounts()
    for expected, found in pairs:
        counts.add(expected, found)
    return counts.evaluation()


def test_measures_of_a_published_example():
    """seqeval's README: F1 0.50, MISC 0, PER 1, accuracy 0.80."""
    found = counted(PUBLISHED)
    assert (found.precision, found.recall, found.f1, found.accuracy) == (0.5, 0.5, 0.5, 0.8)
    assert {name: tuple(measures) for name, measures in found.by_type.items()} == {"MISC": (0, 1, 1), "PER": (1, 1, 1)}
    assert counted([(["O"], ["O"])]).f1 == 0 == counted([(["O"], ["B-X"])]).precision


def test_measures_are_seqevals():
    """Random tags of every scheme, malformed ones too: precision, recall and F1 of all and of each type, accuracy."""
    metrics = pytest.importorskip("seqeval.metrics")
    r = np.random.default_rng(1)
    for letters in ("BI", "I", "BIES"):
        tags = ["O", *(f"{letter}-{kind}" for letter in letters for kind in "AB")]
        truth, found = ([[str(tag) for tag in r.choice(tags, n)] for n in (9, 1, 20)] for _ in range(2))
        mine = counted(zip(truth, found))
        report = metrics.classification_report(truth, found, output_dict=True, zero_division=0)
        for name, measures in {**mine.by_type, "micro avg": mine.spans}.items():
            expected = report[name]
            assert (measures.precision, measures.recall, measures.f1) == pytest.approx(
                (expected["precision"], expected["recall"], expected["f1-score"])
            )
        assert mine.accuracy == pytest.approx(metrics.accuracy_score(truth, found))


# ---------------------------------------------------------------- files

CONLL = """-DOCSTART- -X- O O

EU NNP I-NP I-ORG
rejects VBZ I-VP O

# # B-NP O
1 CD I-NP O
"""


def read(tmp_path, text, **options):
    (tmp_path / "a.conll").write_text(text, encoding="utf-8")
    return nblstm.read_tagged(tmp_path / "a.conll", **options)


def test_columns_are_read(tmp_path):
    """CoNLL-2003's form, any column, tabs, comments and the lines of CoNLL-U that are no words."""
    words, tags = [["EU", "rejects"], ["#", "1"]], [["I-ORG", "O"], ["O", "O"]]
    assert read(tmp_path, CONLL) == (words, tags)
    assert read(tmp_path, CONLL.replace("\n", "\r\n"), tag_column=2)[1] == [["NNP", "VBZ"], ["#", "CD"]]
    assert read(tmp_path, "O\tNew York\nO\tx", token_column=-1, tag_column=1) == ([["New York", "x"]], [["O", "O"]])
    universal = "# sent_id = 1\n# text = vámonos\n1-2\tvámonos" + "\t_" * 8 + "\n1\tvamos\tir\tVERB" + "\t_" * 6 + "\n"
    assert read(tmp_path, universal, token_column=2, tag_column=4) == ([["vamos"]], [["VERB"]])
    assert read(tmp_path, "# a = b\n# c = d\nx O\n\n# e = f\ny O") == ([["x"], ["y"]], [["O"], ["O"]])
    assert read(tmp_path, "\n\n-DOCSTART-\n") == ([], [])


@each("text, options, message", [
    ("EU I-ORG\nrejects\n", {}, r"a\.conll, line 2: there is no tag in column -1, got 1 of 'rejects'"),
    ("EU I-ORG\n\nx y", {"tag_column": 4}, r"a\.conll, line 1: there is no tag in column 4, got 2 of"),
    ("x O\n\tO", {}, r"a\.conll, line 2: the word in column 1 is empty"), ("x", {"tag_column": 0}, "tag_column must be"),
    ("x y", {"token_column": 1.5}, "token_column must be int"),
    ("x y", {"token_column": 2, "tag_column": 2}, "must be two columns, got 2 for both"),
])  # fmt: skip
def test_bad_lines_are_named(text, options, message, tmp_path):
    """File and line of a word without a tag, and the rule of a column's number."""
    with pytest.raises((TextError, ConfigError), match=message):
        read(tmp_path, text, **options)


# ---------------------------------------------------------------- the estimator


def places(count=40, scheme="iob1"):
    """Sentences in which a capital makes a place, two places side by side among them, and their tags."""
    r = np.random.default_rng(0)
    sentences, tags = [], []
    for _ in range(count):
        words, spans = [], []
        for _ in range(int(r.integers(1, 5))):
            if r.random() < 0.5:
                length = int(r.integers(1, 3))
                spans.append(TaggedSpan("LOC", len(words), len(words) + length))
                words += [str(r.choice(["Rom", "Oslo", "Bari"])), "Town"][:length]
            else:
                words.append(str(r.choice(["in", "is", "big", "we"])))
        sentences.append(words)
        tags.append(written(spans, len(words), scheme))
    return sentences, tags


@pytest.fixture(scope="module")
def model():
    """A small model of places."""
    return nblstm.Tagger(**SMALL, epochs=15, batch_size=8, input_dropout=0.1, output_dropout=0.0).fit(*places())


@each("scheme", SCHEMES[1:])
def test_learns_spans_and_writes_them_as_they_came(scheme):
    """A word never seen, known by its capital; tags in the scheme that was learned."""
    model = nblstm.Tagger(**SMALL, epochs=15, batch_size=8, input_dropout=0.1).fit(*places(scheme=scheme))
    assert model.config.scheme == scheme
    expected = {"iob1": ["I-LOC", "B-LOC", "O"], "iob2": ["B-LOC", "B-LOC", "O"], "iobes": ["S-LOC", "S-LOC", "O"]}
    assert model.predict([["Oslo", "Bari", "in"], []]) == [expected[scheme], []]
    sentences, tags = places(scheme=scheme)
    assert model.score(sentences, tags) > 0.9 < model.evaluate(sentences, tags).accuracy


def test_learns_names_of_tags():
    """Parts of speech, without a chain: score is accuracy, there are no spans."""
    sentences = places()[0]
    tags = [["PROPN" if word[0].isupper() else "X" for word in words] for words in sentences]
    model = nblstm.Tagger(**SMALL, head="softmax", epochs=8, batch_size=8).fit(sentences, tags)
    assert model.score(sentences, tags) > 0.95 and model.evaluate(sentences, tags).by_type == {}
    assert model.config.scheme == "none" and model.training["valid_accuracy"] > 0.8
    assert model.predict([["Bari", "is"]]) == [["PROPN", "X"]]


def test_files_hold_all(model, tmp_path):
    """nblstm.load and Tagger.load: the same answers, settings and facts; a model of another class refuses."""
    path = tmp_path / "model.safetensors"
    model.save(path)
    for loaded in (nblstm.load(path), nblstm.Tagger.load(path)):
        assert isinstance(loaded, nblstm.Tagger) and loaded.config == model.config
        assert loaded.training == model.training and loaded.vocabulary == model.vocabulary
        assert loaded.predict(places()[0], "numpy") == model.predict(places()[0], "numpy")
    with pytest.raises(ModelFileError, match="tagger of words"):
        nblstm.LanguageModel.load(path)


def test_numpy_alone_suffices(model, tmp_path, python):
    """Both backends agree; a process without numba answers as well."""
    sentences = places()[0]
    assert model.predict(sentences, "numpy") == model.predict(sentences, "cpu")
    model.save(tmp_path / "model.safetensors")
    program = (
        "import sys; sys.modules['numba'] = None; import nblstm;"
        f"print(*nblstm.load({str(tmp_path / 'model.safetensors')!r}).predict([['in', 'Oslo']])[0])"
    )
    assert python("-c", program).out.split() == ["O", "I-LOC"]


def test_threads_share_a_model(model):
    """Many at once, on both backends, find what one finds."""
    sentences = places()[0]
    expected, wrong = model.predict(sentences, "numpy"), []
    assert model.predict(sentences, "cpu") == expected

    def ask(number):
        for backend in ("numpy", "cpu"):
            found = model.predict(sentences[number:] + sentences[:number], backend, 1)
            if found != expected[number:] + expected[:number]:
                wrong.append((number, backend))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@each("monitor", ["f1", "accuracy", "loss"])
def test_the_best_weights_are_kept_and_training_stops_early(monitor):
    """By the measure that is asked for; the model is the best of the validations, patience ends it."""
    sentences, tags = places()
    valid = (sentences[30:], [["O" if k % 2 else "I-LOC" for k in range(len(words))] for words in sentences[30:]])
    reports, model = [], nblstm.Tagger(**SMALL, epochs=40, patience=2, batch_size=8, monitor=monitor)
    model.fit(sentences[:30], tags[:30], valid=valid, on_report=reports.append)
    found = [{"loss": report.valid_loss, **report.measures}[monitor] for report in reports if report.validated]
    best = min(found) if monitor == "loss" else max(found)
    assert len(found) < 40 and found.index(best) == len(found) - 3
    assert model.training[f"valid_{monitor}"] == best
    if monitor == "f1":
        assert model.score(*valid) == pytest.approx(best)


@each(
    "tags",
    [
        np.ma.array([1.0], mask=[True]), [np.ma.masked], [np.array(3)], [np.array("O")],
        [np.ma.array(["O", "O"], mask=[False, True])], [["O", np.ma.masked]],
    ],
)  # fmt: skip
def test_masked_tags_are_refused_by_score_and_evaluate(model, tags):
    """What holds something masked, or is an array of no dimension, is no list of tags; an array with a mask of nothing is."""
    for ask in (model.score, model.evaluate, model.fit):
        with pytest.raises(ConfigError, match=r"tags\[0\] must"):
            ask([["in", "is"]], tags)
    assert model.evaluate([["in", "is"]], [np.ma.array(["O", "O"], mask=False)]).words == 2


def test_validation_measures_what_evaluate_does(model):
    """Loss, accuracy and F1 over chunks; None if stopped."""
    sentences, tags = places(7)
    network = model._network("numpy", 1)
    source = TaggedSentences(sentences, numbered_tags(tags, model.config), model.vocabulary, model.config, 3)
    found, expected = validated_tags(network, source.epoch(0)), model.evaluate(sentences, tags)
    assert found.measures["f1"] == expected.f1 and found.value == 1 - expected.f1
    assert validated_tags(network, source.epoch(0), lambda: True) is None


def test_reproducible(model):
    """The same seed gives the same weights, whatever the number of threads."""
    settings = {**SMALL, "threads": 2}
    again = nblstm.Tagger(**settings, epochs=15, batch_size=8, input_dropout=0.1, output_dropout=0.0).fit(*places())
    assert np.array_equal(again.parameters, model.parameters)


def test_long_sentences_are_read_in_parts(model):
    """Each word gets a tag; a part is tagged as if it were alone."""
    words, messages = ["in", "Rom", "we"] * 5, []
    short = nblstm.Tagger.of_parameters(
        TaggerConfig.from_dict({**model.config.to_dict(), "max_length": 6}), model.vocabulary, model.parameters, {}
    )
    parts = model.predict([words[:6], words[6:12], words[12:]])
    assert short.predict([words]) == [parts[0] + parts[1] + parts[2]]
    tagged = nblstm.Tagger(**SMALL, steps=1, max_length=2, valid_fraction=0.0)
    tagged.fit([["a", "b", "c"], ["a"]], [["O", "B-X", "O"], ["O"]], on_message=messages.append)
    assert messages == ["1 sentences are longer than max_length=2: they are read in parts."]


def test_what_a_corpus_gives():
    """Words as they are looked up by falling count, characters, a scheme; min_count and max_vocab."""
    part = TaggedPart([["The", "the", "a1", "a2", "<unk>", "b"]], [["O", "B-X", "I-X", "O", "O", "O"]])
    corpus = corpus_of(part, TaggedPart([], []), TaggedTextConfig())
    assert corpus.vocabulary.tokens == ("<unk>", "a0", "the", "b") and corpus.characters == "12<>Tabehkntu"
    assert corpus.scheme == "iob2" and corpus.tags == ("O", "B-X", "I-X", "E-X", "S-X")
    fewer = corpus_of(part, part, TaggedTextConfig(min_count=2, max_vocab=2, lowercase=False))
    assert fewer.vocabulary.tokens == ("<unk>", "a0") and fewer.fingerprint != corpus.fingerprint


# ---------------------------------------------------------------- what is refused


@each("settings, message", [
    ({"head": "cell"}, "head must be one of crf, softmax"), ({"tie": True}, "no setting 'tie'"),
    ({"monitor": "bleu"}, "monitor must be one of"), ({"unknown_fraction": 1.0}, "unknown_fraction must be"),
    ({"char_hidden_size": -1}, "char_hidden_size must be at least 0"), ({"max_length": 0}, "max_length must be at least 1"),
])  # fmt: skip
def test_wrong_settings_are_named(settings, message):
    """At once, before anything is read."""
    with pytest.raises(ConfigError, match=message):
        nblstm.Tagger(**settings)


@each("sentences, tags, error, message", [
    ([["a"]], [["O"], ["O"]], ConfigError, "as many lists as the sentences, got 2 and 1"),
    ([["a", "b"]], [["O"]], ConfigError, r"sentences\[0\] has 2 words and 1 tags; give one for each word"),
    ("a b", [["O"]], TextError, "got a single text"), (["a b"], [["O"]], TextError, r"sentences\[0\] must be a list of words"),
    ([["a", 1]], [["O", "O"]], TextError, "must be a string"), ([["a", ""]], [["O", "O"]], TextError, "has an empty word"),
    ([["a"]], ["O"], ConfigError, r"tags\[0\] must hold strings"), ([["a"]], [[""]], ConfigError, r"tags\[0\] must hold strings"),
    ([["a"]], "O", ConfigError, "tags must be lists of strings"), ([["a"]], [["O"]], ConfigError, "tags must be at least two"),
    ([], [], ConfigError, "tags must be at least two"), ([["a"]], None, ConfigError, "tags must be a list"),
])  # fmt: skip
def test_wrong_data_are_named(sentences, tags, error, message):
    """What is no sentence, no tag, or too few of them."""
    with pytest.raises(error, match=message):
        nblstm.Tagger(**SMALL).fit(sentences, tags)


def test_tags_unseen_in_training_are_named(model):
    """In validation and in scoring; the known ones are told. Another scheme of known types is read."""
    sentences, tags = places(8)
    for ask in (
        lambda: model.score([["a"]], [["I-PER"]]),
        lambda: nblstm.Tagger(**SMALL).fit(sentences, tags, valid=([["a"]], [["I-PER"]])),
    ):
        with pytest.raises(ConfigError, match=r"'I-PER' in tags\[0\] is none that was learned; these are LOC"):
            ask()
    other = [rewritten(own, "iobes") for own in tags]
    assert model.evaluate(sentences, other) == model.evaluate(sentences, tags)


def test_nothing_is_asked_before_it_is_fitted(model):
    """predict, score and save say so; nothing to measure is refused; a card is."""
    for ask in (lambda m: m.predict([["a"]]), lambda m: m.score([["a"]], [["O"]]), lambda m: m.save("x")):
        with pytest.raises(ConfigError, match="learnt nothing yet"):
            ask(nblstm.Tagger())
    assert model.predict([]) == []
    with pytest.raises(ConfigError, match="nothing to measure"):
        model.score([[]], [[]])
    with pytest.raises((ConfigError, DeviceError), match="cuda"):
        model.predict([["a"]], "cuda")


@each("fields, message", [
    ({"tags": ("O",)}, "at least two"), ({"tags": ("A", "A"), "scheme": "none"}, "all different"), ({"tie": True, "embedding_size": 10}, "leave tie out"),
    ({"tags": ("O", "B-X", "I-X")}, "O and B, I, E and S"), ({"scheme": "bilou"}, "scheme must be one of"),
    ({"characters": "aa"}, "characters must be all different"), ({"tags": (1, 2)}, "tags must be strings"),
    ({"tags": ("A", "B")}, "O and B, I, E and S"),
])  # fmt: skip
def test_config_refuses_what_a_file_must_not_say(fields, message):
    """Tags are those of the scheme, characters differ."""
    with pytest.raises(ConfigError, match=message):
        config_of(**fields)


def test_training_ends_somewhere():
    """Without a limit after so many epochs; with minutes there is no other."""
    assert TaggerTraining().epochs and TaggerTraining(minutes=1).epochs is None
