"""Classification: every pooling and its gradient, models like PyTorch's, a batch like one by one, the estimator, its file."""

import threading

import numpy as np
import pytest
from support.cases import each
from support.compare import close
from support.gradients import check_gradient
from support.kernels import offsets_of

import nblstm
from nblstm.errors import ConfigError, ModelFileError, TextError
from nblstm.nn.parameters import initial, views
from nblstm.nn.pooling import POOLINGS
from nblstm.scoring import validation_loss
from nblstm.tasks.classification.batches import LabelledTexts, encoded
from nblstm.tasks.classification.config import ClassifierConfig, ClassifierTraining
from nblstm.tasks.classification.measures import Evaluation
from nblstm.tasks.classification.network import ClassifierNetwork, validated
from nblstm.tasks.classification.settings import LabelledTextConfig
from nblstm.tasks.classification.training import (
    LabelledCorpus,
    LabelledPart,
    log_ratios,
    ratios_of_words,
    vocabulary_of,
)
from nblstm.text.batches import Chunk
from nblstm.text.vocabulary import Vocabulary

LENGTHS = [5, 3, 3, 1]
QUIET = {"dropout": 0.0, "output_dropout": 0.0, "input_dropout": 0.0, "embedding_dropout": 0.0}
NOISE = {
    "output_dropout": 0.4,
    "dropout": 0.3,
    "input_dropout": 0.2,
    "variational_dropout": 0.2,
    "embedding_dropout": 0.2,
}
NETWORKS = [
    *({"pooling": pooling, "num_layers": 1, **QUIET} for pooling in POOLINGS),
    {"pooling": "last", "bidirectional": False, "proj_size": 3, **NOISE},
    {"pooling": "max", "num_layers": 2, **NOISE},
    {"pooling": "attention", "cell": "gru", "residual": True, "bidirectional": False, **NOISE},
    {"pooling": "mean", "cell": "mingru", "learned_state": True, **NOISE},
]
SMALL = {"hidden_size": 8, "epochs": 12, "lr": 0.02, "threads": 1, "batch_size": 8}
GOOD, BAD = ["good", "fine", "great"], ["bad", "poor", "awful"]


def config_of(**options):
    """A small config of float64."""
    settings = {"hidden_size": 5, "embedding_size": 4, "dtype": "float64", "labels": ("a", "b", "c"), **options}
    return ClassifierConfig(7, **settings)


def make_network(backend="numpy", **options):
    """A network whose parameters are all away from 0, those of the attention as well."""
    config = config_of(**options)
    parameters = 2 * initial(config, 3)
    parameters += 0.1 * np.random.default_rng(5).normal(size=parameters.shape)
    return ClassifierNetwork(config, parameters, backend, 1)


def make_chunk(lengths=LENGTHS):
    """Texts of unequal lengths, a label each."""
    r = np.random.default_rng(4)
    tokens = r.integers(0, 7, sum(lengths)).astype(np.int32)
    return Chunk(tokens, r.integers(0, 3, len(lengths)).astype(np.int32), offsets_of(lengths), True)


def texts_and_labels(count=60):
    """Sentences of unequal lengths that praise or not, and what they do."""
    r = np.random.default_rng(0)
    texts, labels = [], []
    for number in range(count):
        praise = number % 3 > 0
        before, after = (["the", "film", "is", "so"][: r.integers(0, 5)] for _ in range(2))
        texts.append(" ".join([*before, str(r.choice(GOOD if praise else BAD)), *after]))
        labels.append("pos" if praise else "neg")
    return texts, labels


@pytest.fixture(scope="module")
def model():
    """A small model of praise."""
    return nblstm.TextClassifier(**SMALL).fit(*texts_and_labels())


# ---------------------------------------------------------------- the network


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@each("options", NETWORKS)
def test_gradient_of_every_pooling(backend, options):
    """Texts of 5, 3, 3 and 1 tokens with class weights and smoothing: every parameter, in float64."""
    network, chunk = make_network(backend, **options), make_chunk()
    network.head.classes, network.head.smoothing = np.array([0.5, 1.0, 2.5]), 0.1
    gradient, scratch = np.empty((2, network.config.num_parameters))

    def loss(into=scratch):
        return network.loss_and_gradient(into, chunk, network.initial_state(len(LENGTHS)), seed=1, step=2)[0]

    loss(gradient)
    grads = views(gradient, network.config)
    for name in network.config.shapes:
        if grads[name].size:
            check_gradient(name, loss, network.weights[name], grads[name], 3)


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@each("options", [{}, {"pooling": "max"}])
def test_weights_of_texts(backend, options):
    """A text of weight 0 is as if it were not there; a chunk's weights are one a text."""
    network, whole = make_network(backend, **QUIET, **options), make_chunk()
    weighed = Chunk(whole.tokens, whole.targets, whole.offsets, True, np.array([2.0, 1.0, 1.0, 0.0]))
    losses, _ = network.losses(whole, network.initial_state(4))
    gradient = np.empty_like(network.parameters)
    loss, _ = network.loss_and_gradient(gradient, weighed, network.initial_state(4), 0, 0)
    assert loss == pytest.approx(losses @ [0.5, 0.25, 0.25, 0])
    with pytest.raises(ConfigError, match="weights must be 4"):
        network.losses(Chunk(whole.tokens, whole.targets, whole.offsets, True, np.ones(12)), network.initial_state(4))


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@pytest.mark.parametrize("pooling", POOLINGS)
@each("layers", [1, 2])
def test_a_batch_equals_one_by_one(backend, pooling, layers):
    """Logits of texts side by side are those of each text alone."""
    network, chunk = make_network(backend, pooling=pooling, num_layers=layers), make_chunk()
    together, _ = network.outputs(chunk, network.initial_state(4))
    for n, length in enumerate(LENGTHS):
        tokens = chunk.tokens[chunk.offsets[:length] + n]
        alone = Chunk(tokens, chunk.targets[n : n + 1], np.arange(length + 1), True)
        close(network.outputs(alone, network.initial_state())[0], together[n : n + 1], 1e-12)


def pooled_by_torch(torch, pooling, outputs, named, H):
    """The vector of one text (T, F), in PyTorch's operations."""
    if pooling == "last":
        return torch.cat([outputs[-1, :H], outputs[0, H:]])
    if pooling == "mean":
        return outputs.mean(dim=0)
    if pooling == "max":
        return outputs.max(dim=0).values
    hidden = torch.tanh(torch.nn.functional.linear(outputs, named["pooling.weight"], named["pooling.bias"]))
    return torch.softmax(hidden @ named["pooling.query"], dim=0) @ outputs


@pytest.mark.parametrize("backend", ["numpy", "cpu"])
@each("pooling", POOLINGS)
@each("bidirectional", [False, True])
def test_logits_and_gradients_are_pytorchs(backend, pooling, bidirectional):
    """torch.nn.Embedding, LSTM and Linear with the same weights, weighted cross-entropy with smoothing."""
    torch = pytest.importorskip("torch")
    network, chunk = make_network(backend, pooling=pooling, bidirectional=bidirectional, **QUIET), make_chunk()
    named = {name: torch.from_numpy(array.copy()).requires_grad_() for name, array in network.weights.items()}
    lstm = torch.nn.LSTM(4, 5, bidirectional=bidirectional).double()
    lstm_weights = {name: named[f"rnn.{name}"] for name, _ in lstm.named_parameters()}
    rows = []
    for n, length in enumerate(LENGTHS):
        x = named["embedding.weight"][torch.from_numpy(chunk.tokens[chunk.offsets[:length] + n]).long()]
        outputs, _ = torch.func.functional_call(lstm, lstm_weights, (x,))
        p = pooled_by_torch(torch, pooling, outputs, named, 5)
        rows.append(torch.nn.functional.linear(p, named["head.weight"], named["head.bias"]))
    logits, classes = torch.stack(rows), np.array([0.5, 1.0, 2.5])
    cross_entropy = torch.nn.CrossEntropyLoss(weight=torch.from_numpy(classes))
    expected = cross_entropy(logits, torch.from_numpy(chunk.targets).long())
    expected.backward()
    network.head.classes = classes
    gradient = np.empty_like(network.parameters)
    loss, _ = network.loss_and_gradient(gradient, chunk, network.initial_state(4), 0, 0)
    close(network.outputs(chunk, network.initial_state(4))[0], logits.detach().numpy(), 1e-6)
    assert loss == pytest.approx(expected.item(), abs=1e-6)
    for name, array in views(gradient, network.config).items():
        close(array, named[name].grad.numpy(), 1e-6)


def test_validation_is_of_texts():
    """Mean loss and accuracy are those of all texts, over chunks of unequal sizes; None if stopped."""
    network, chunks = make_network(), [make_chunk(), make_chunk([2])]
    found = [network.outputs(chunk, network.initial_state(chunk.num_texts))[0].argmax(axis=1) for chunk in chunks]
    wrong = sum(int((labels != chunk.targets).sum()) for labels, chunk in zip(found, chunks))
    loss, accuracy = validation_loss(network, chunks), 1 - wrong / 5
    for monitor, value in (("loss", loss), ("accuracy", 1 - accuracy)):
        measured = validated(network, chunks, monitor=monitor)
        assert measured.measures == {"loss": pytest.approx(loss), "accuracy": pytest.approx(accuracy)}
        assert measured.value == pytest.approx(value)
    assert validated(network, chunks, lambda: True) is None


def test_texts_that_teach_nothing_are_refused():
    """No token in them, none that occurs often enough, no label that counts, a weight beyond the network's numbers."""
    texts, labels = texts_and_labels()
    fit = lambda texts=texts, **settings: nblstm.TextClassifier(**{**SMALL, **settings}).fit(texts, labels)
    for given in ({"texts": [""] * len(labels), "level": "char"}, {"min_count": 10**6, "level": "word"}):
        with pytest.raises(TextError, match="0 of the training texts' [0-9]+ tokens are in the vocabulary"):
            fit(**given)
    for weights in ({"pos": 0, "neg": 0.0}, {"pos": 1e300}):
        with pytest.raises(ConfigError, match="class_weights must be numbers that float32 holds, not all of them 0"):
            fit(class_weights=weights)
    assert fit(class_weights={"pos": 0}).predict(["good"]) == ["neg"]


# ---------------------------------------------------------------- batches


def test_every_text_is_read_once_with_its_label():
    """In training and in validation order: tokens and label of a row of a batch belong together, whatever the order."""
    texts = ["a" * n + str(n % 4) for n in (3, 1, 9, 2, 2, 0, 5)]
    vocabulary = Vocabulary.build(texts, "char", ends=True)
    ids, offsets, _ = encoded(vocabulary, texts, 100)
    labels = np.arange(len(texts), dtype=np.int32)
    for seed in (None, 0, 1):
        found = []
        for chunk in LabelledTexts(ids, offsets, labels, 3, seed).epoch(0):
            for n, label in enumerate(chunk.targets):
                steps = [first + n for first, last in zip(chunk.offsets, chunk.offsets[1:]) if n < last - first]
                assert vocabulary.decode(chunk.tokens[steps]) == texts[label]
                found.append(label)
        assert sorted(found) == list(range(len(texts)))


def test_texts_are_cut_and_empty_ones_have_an_end():
    """max_length tokens are kept, and how many texts had more is told; no token at all is one <end>."""
    vocabulary = Vocabulary.build(["ab"], "char", ends=True)
    ids, offsets, longer = encoded(vocabulary, ["abab", "", "ba"], 3)
    assert offsets.tolist() == [0, 3, 4, 6] and longer == 1
    assert ids[3] == vocabulary.end_id and vocabulary.decode(ids[:3]) == "aba"


def test_the_first_word_is_the_word_it_is_elsewhere():
    """ "Good" and "so Good" share it, and blanks around a text do not matter."""
    vocabulary = Vocabulary.build([" so Good"], "word", ends=True)
    ids, _, _ = encoded(vocabulary, ["Good", "so Good ", "  so Good"], 10)
    assert ids.tolist() == [ids[2], ids[1], ids[2], ids[1], ids[2]] and vocabulary.unk_id not in ids


# ---------------------------------------------------------------- the estimator


@each("pooling", POOLINGS)
def test_learns_words_that_decide(pooling):
    """Held-out sentences of the same words, which are longer than those that were learned."""
    model = nblstm.TextClassifier(pooling=pooling, level="word", **SMALL).fit(*texts_and_labels())
    assert model.score(["so so the film is good", "the film is so awful so so"], ["pos", "neg"]) == 1
    assert model.classes_.tolist() == ["neg", "pos"]


@each("options", [{"level": "char", "bidirectional": False}, {"cell": "gru"}, {"level": "byte"}])
def test_kinds_of_classifiers(options):
    """Other levels, cells and directions train and answer with distributions."""
    model = nblstm.TextClassifier(**{**SMALL, "epochs": 2, **options}).fit(*texts_and_labels(24))
    found = model.predict_proba(["good", "", "bad \U0001f600 \ud800"])
    assert found.shape == (3, 2) and found.dtype == np.float32
    close(found.sum(axis=1), np.ones(3), 1e-6)


@each("kind", [int, bool, str])
def test_labels_come_back_as_they_were(kind, tmp_path):
    """Whole numbers, booleans and strings, given as a list or an array, also out of a file."""
    texts, labels = texts_and_labels(24)
    given = [kind(label == "pos") for label in labels]
    model = nblstm.TextClassifier(**{**SMALL, "epochs": 1}).fit(texts, np.array(given))
    model.save(tmp_path / "model.safetensors")
    loaded = nblstm.load(tmp_path / "model.safetensors")
    assert loaded.classes_.tolist() == model.classes_.tolist() == sorted(set(given))
    assert type(loaded.predict(["good"]).tolist()[0]) is kind
    assert 0 <= loaded.score(texts, given) <= 1


def test_files_hold_all(model, tmp_path):
    """nblstm.load and TextClassifier.load: the same answers, settings and facts; a model of another class refuses."""
    path = tmp_path / "model.safetensors"
    model.save(path)
    for loaded in (nblstm.load(path), nblstm.TextClassifier.load(path)):
        assert isinstance(loaded, nblstm.TextClassifier) and loaded.config == model.config
        assert loaded.training == model.training and loaded.vocabulary == model.vocabulary
        assert np.array_equal(loaded.predict_proba(["so good"], "numpy"), model.predict_proba(["so good"], "numpy"))
    with pytest.raises(ModelFileError, match="classifier of text"):
        nblstm.LanguageModel.load(path)


def test_backends_agree_and_numpy_alone_suffices(model, tmp_path, python):
    """Both backends to 1e-5; a process without numba answers as well."""
    texts = texts_and_labels(9)[0]
    close(model.predict_proba(texts, "numpy"), model.predict_proba(texts, "cpu"), 1e-5)
    model.save(tmp_path / "model.safetensors")
    program = (
        "import sys; sys.modules['numba'] = None; import nblstm;"
        f"print(*nblstm.load({str(tmp_path / 'model.safetensors')!r}).predict(['good', 'awful']))"
    )
    assert python("-c", program).out.split() == ["pos", "neg"]


def test_threads_share_a_model(model):
    """Many at once, on both backends, find what one finds."""
    texts = texts_and_labels(30)[0]
    expected = {backend: model.predict_proba(texts, backend, 1) for backend in ("numpy", "cpu")}
    wrong = []

    def ask(number):
        for _ in range(5):
            some = texts[number:] + texts[:number]
            for backend, found in expected.items():
                answer = model.predict_proba(some, backend, 1)
                if not np.allclose(np.roll(answer, number, axis=0), found, atol=1e-6):
                    wrong.append((number, backend))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@each("monitor", ["accuracy", "loss"])
def test_the_best_weights_are_kept_and_training_stops_early(monitor):
    """By the measure that is asked for; the model is the best of the validations, patience ends it."""
    texts, labels = texts_and_labels(60)
    shuffled = [labels[(7 * k + 3) % 60] for k in range(60)]  # nothing to learn: validation soon gets no better
    reports, valid = [], (texts[40:], shuffled[40:])
    model = nblstm.TextClassifier(**{**SMALL, "epochs": 50, "patience": 2, "monitor": monitor})
    model.fit(texts[:40], shuffled[:40], valid=valid, on_report=reports.append)
    loss = lambda report: report.valid_loss if monitor == "loss" else 1 - report.measures["accuracy"]
    measured = [loss(report) for report in reports if report.validated]
    assert len(measured) < 50 and measured.index(min(measured)) == len(measured) - 3
    best = model.training["valid_loss"] if monitor == "loss" else 1 - model.training["valid_accuracy"]
    assert best == min(measured)
    if monitor == "accuracy":
        assert model.score(*valid) == 1 - best


def test_class_weights_move_decisions():
    """Weights of the article's eq. 9 for one label; balanced ones make each label count alike."""
    texts, labels = ["same words"] * 40, ["rare"] * 8 + ["often"] * 32
    settings = {**SMALL, "epochs": 6, "valid_fraction": 0.0}
    plain, heavy, balanced = (
        nblstm.TextClassifier(**settings, class_weights=weights).fit(texts, labels).predict_proba(["same words"])[0]
        for weights in (None, {"rare": 40}, "balanced")
    )
    assert plain[0] > 0.6 and heavy[1] > 0.6 and abs(balanced[0] - 0.5) < 0.15


def test_reproducible(model):
    """The same seed gives the same weights, whatever the number of threads."""
    again = nblstm.TextClassifier(**{**SMALL, "threads": 2}).fit(*texts_and_labels())
    assert np.array_equal(again.parameters, model.parameters)


def test_validation_has_a_share_of_each_label_and_never_all():
    """Also where texts are sorted by label; a label of one text is learned."""
    from nblstm.tasks.classification.training import parted

    labels = np.array([0] * 20 + [1] * 10 + [2])
    kept, held_out = parted(labels, 0.2, 0)
    assert np.bincount(labels[held_out], minlength=3).tolist() == [4, 2, 0]
    assert sorted([*kept, *held_out]) == list(range(31))


def test_words_begin_with_their_log_ratios():
    """Naive Bayes, computed by hand: texts count once, a label against all others, the most frequent labels first."""
    ids, offsets = np.array([2, 3, 3, 2, 4, 3]), np.array([0, 3, 4, 6])  # "a b b" x, "a" y, "c b" x
    found = log_ratios(ids, offsets, np.array([0, 1, 0]), 5, 2)
    n, m = np.array([1, 1, 2, 3, 2]), np.array([1, 1, 2, 1, 1])  # of x and of y, plus one
    expected = np.log(n / 9) - np.log(m / 6)
    np.testing.assert_allclose(found, np.stack([expected, -expected], axis=1))
    assert log_ratios(ids, offsets, np.array([0, 1, 0]), 5, 1).shape == (5, 1)
    texts, labels = ["good film", "bad film"] * 10, ["pos", "neg"] * 10
    settings = {"hidden_size": 16, "steps": 1, "lr": 1e-9, "threads": 1}
    model = nblstm.TextClassifier(**settings).fit(texts, labels)
    embedding = views(model.parameters, model.config)["embedding.weight"]
    good, film = (embedding[model.vocabulary.tokens.index(word), :2] for word in (" good", " film"))
    assert good[0] == pytest.approx(-good[1], abs=1e-5) and good[1] > 1 and abs(film).max() < 0.1
    plain = nblstm.TextClassifier(bayes_init=False, **settings).fit(texts, labels)
    assert abs(views(plain.parameters, plain.config)["embedding.weight"]).max() < 0.6


def test_words_that_begin_alike_have_log_ratios_in_common():
    """Behind its own a word has those of all words with its first six letters, computed by hand as if they were one."""
    texts, labels = ["wonderful", "wonderfully", "film"], np.array([0, 0, 1])
    vocabulary = vocabulary_of(texts, LabelledTextConfig())
    corpus = LabelledCorpus(vocabulary, ("pos", "neg"), LabelledPart(texts, labels), LabelledPart([], labels[:0]))
    config = ClassifierConfig(len(vocabulary), labels=("pos", "neg"))
    found = dict(zip(vocabulary.tokens, ratios_of_words(config, corpus, 2)))
    own, common = np.log((2 / 7) / (1 / 6)), np.log((3 / 6) / (1 / 5))  # one text of 5 tokens, two of 4 beginnings
    for word in (" wonderful", " wonderfully"):
        np.testing.assert_allclose(found[word], [own, -own, common, -common])
    own, common = np.log((1 / 7) / (2 / 6)), np.log((1 / 6) / (2 / 5))
    np.testing.assert_allclose(found[" film"], [own, -own, common, -common])


def test_scikit_learns_tools_take_it():
    """It is a classifier to them: clone, stratified cross-validation, a search over settings."""
    selection = pytest.importorskip("sklearn.model_selection")
    base = pytest.importorskip("sklearn.base")
    texts, labels = texts_and_labels(45)
    made = nblstm.TextClassifier(**{**SMALL, "epochs": 6}, class_weights={"neg": 2.0})
    assert base.clone(made).get_params() == made.get_params() and base.is_classifier(made)
    search = selection.GridSearchCV(made, {"pooling": ["max", "mean"]}, cv=3).fit(texts, labels)
    assert search.predict(["good"]).tolist() == ["pos"] and search.best_score_ > 0.6
    assert (base.clone(made).fit(texts, labels).parameters == made.fit(texts, labels).parameters).all()


# ---------------------------------------------------------------- measures


def test_measures_of_a_worked_example():
    """Six texts of three labels, one of which nobody has or is given: shares counted by hand."""
    probabilities = np.array([[0.9, 0.1, 0], [0.6, 0.4, 0], [0.45, 0.55, 0], [0.2, 0.8, 0], [0.35, 0.65, 0], [1, 0, 0]])
    found = Evaluation.of(("a", "b", "c"), np.array([0, 1, 0, 1, 1, 0], np.int32), probabilities)
    assert found.confusion.tolist() == [[2, 1, 0], [1, 2, 0], [0, 0, 0]]
    assert found.accuracy == pytest.approx(4 / 6)
    close(found.precision, np.array([2 / 3, 2 / 3, 0]), 1e-12)
    close(found.recall, np.array([2 / 3, 2 / 3, 0]), 1e-12)
    assert found.macro_f1 == pytest.approx(2 / 3)  # without c
    # bins: 0.55 is wrong; 0.6 is wrong and 0.65 right; 0.8 is right; 0.9 and 1 are right
    assert found.calibration_error == pytest.approx((0.55 + abs(1 - 1.25) + 0.2 + 0.1) / 6)


def test_evaluate_is_of_predictions(model):
    """The confusion matrix counts what `predict` says; `score` is its accuracy."""
    texts, labels = texts_and_labels(21)
    flipped = ["neg", *labels[1:]]
    found, decided = model.evaluate(texts, flipped), model.predict(texts).tolist()
    assert found.labels == ("neg", "pos") and found.confusion.sum() == 21
    assert found.confusion[0, 1] == sum(a == "neg" and b == "pos" for a, b in zip(flipped, decided))
    assert found.accuracy == model.score(texts, flipped)


# ---------------------------------------------------------------- what is refused


@each("settings, message", [
    ({"pooling": "sum"}, "pooling must be one of last, mean, max, attention"), ({"tie": True}, "no setting 'tie'"),
    ({"monitor": "f1"}, "monitor must be one of"), ({"class_weights": "even"}, "class_weights must be"),
    ({"class_weights": {"a": -1}}, "numbers of at least 0"), ({"max_length": 0}, "max_length must be at least 1"),
    ({"level": "line"}, "level must be one of"), ({"hidden_size": 0}, "hidden_size must be at least 1"),
])  # fmt: skip
def test_wrong_settings_are_named(settings, message):
    """At once, before anything is read."""
    with pytest.raises(ConfigError, match=message):
        nblstm.TextClassifier(**settings)


@each("texts, labels, error, message", [
    (["a", "b"], ["x"], ConfigError, "as many as the texts"), (["a", "b"], ["x", "x"], ConfigError, "two kinds at least"),
    ("ab", ["x", "y"], TextError, "put it in a list"), (["a", 1], ["x", "y"], TextError, "must be a string"),
    (["a", "b"], ["x", 1], ConfigError, "all strings, all whole"), (["a", "b"], [0.5, 1.5], ConfigError, "got 0.5"),
    (["a", "b"], "xy", ConfigError, "labels must be a list"), (["a", "b"], [1, True], ConfigError, "got True"),
    (["a", "b"], ["", "y"], ConfigError, "labels must be strings that are not empty"), ([], [], ConfigError, "two kinds"),
    (["a", "b"], [None, "x"], ConfigError, "got None"),
])  # fmt: skip
def test_wrong_data_are_named(texts, labels, error, message):
    """What is no text, no label, or too few of them."""
    with pytest.raises(error, match=message):
        nblstm.TextClassifier(**SMALL).fit(texts, labels)


def test_labels_unseen_in_training_are_named(model):
    """In validation, in scoring and in class weights; the known ones are told."""
    texts, labels = texts_and_labels(12)
    for ask in (
        lambda: model.score(["good"], ["other"]),
        lambda: nblstm.TextClassifier(**SMALL).fit(texts, labels, valid=(["good"], ["other"])),
        lambda: nblstm.TextClassifier(**SMALL, class_weights={"other": 2}).fit(texts, labels),
    ):
        with pytest.raises(ConfigError, match="'other'"):
            ask()


def test_nothing_is_asked_before_it_is_fitted():
    """predict, score and save say so; no texts give no rows."""
    model = nblstm.TextClassifier()
    for ask in (lambda: model.predict(["a"]), lambda: model.score(["a"], ["b"]), lambda: model.save("x")):
        with pytest.raises(ConfigError, match="learnt nothing yet"):
            ask()


def test_no_texts_give_no_rows(model):
    """predict_proba of nothing has the right shape; its accuracy is refused."""
    assert model.predict_proba([]).shape == (0, 2) and model.predict([]).shape == (0,)
    with pytest.raises(ConfigError, match="nothing to measure"):
        model.score([], [])


@each("fields, message", [
    ({"labels": ("a",)}, "at least two"), ({"labels": ("a", "a")}, "all different"), ({"head": "cell"}, "leave tie and head"),
    ({"labels": ("1", "x"), "label_type": "int"}, "names of int"), ({"labels": ("1", "01"), "label_type": "int"}, "names of int"),
    ({"labels": ("True", "no"), "label_type": "bool"}, "names of bool"), ({"label_type": "float"}, "label_type must be one"),
    ({"labels": (1, 2)}, "labels must be strings"), ({"labels": ("a", "a\0")}, "must not end with a NUL"),
])  # fmt: skip
def test_config_refuses_what_a_file_must_not_say(fields, message):
    """Labels are distinct names of their type, at least two."""
    with pytest.raises(ConfigError, match=message):
        ClassifierConfig(5, **{"labels": ("a", "b"), **fields})


def test_training_is_stored_as_json():
    """Class weights of any label become names and numbers."""
    assert ClassifierTraining(class_weights={1: 2}).recipe()["class_weights"] == {"1": 2.0}
    assert ClassifierTraining().epochs and ClassifierTraining(minutes=1).epochs is None
