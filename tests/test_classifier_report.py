"""The report on a classifier: what moved a decision equals finite differences, and its page is a page."""

import numpy as np
import pytest
from support.cases import each
from support.commands import USAGE, assert_refused
from test_report import Outline

import nblstm
from nblstm.errors import TextError
from nblstm.nn.parameters import initial
from nblstm.reporting.classifier_page import classifier_page
from nblstm.reporting.classifier_report import make_classifier_report
from nblstm.tasks.classification.config import ClassifierConfig
from nblstm.tasks.classification.model import TextClassifier
from nblstm.tasks.classification.network import ClassifierNetwork
from nblstm.text.batches import Chunk
from nblstm.text.vocabulary import Vocabulary

HOSTILE = "<img src=x onerror=alert(1)>"
LABELS = ("bad", "good", "<i>so")


def margin(network, tokens, decided):
    """The margin of a decision on one text."""
    chunk = Chunk(tokens, np.zeros(1, np.int32), np.arange(len(tokens) + 1), True)
    logits = network.outputs(chunk, network.initial_state())[0][0]
    return logits[decided] - np.delete(logits, decided).mean()


@each("pooling", ["last", "mean", "max", "attention"])
@each("bidirectional", [False, True])
def test_contributions_are_gradient_times_input(pooling, bidirectional):
    """What scaling a token's vector changes of the margin, by finite differences; in texts of unequal lengths."""
    config = ClassifierConfig(
        9, labels=("a", "b", "c"), hidden_size=3, pooling=pooling, bidirectional=bidirectional, dtype="float64"
    )
    parameters = initial(config, 1)
    network = ClassifierNetwork(config, parameters, "numpy")
    first, second = np.array([1, 2, 3, 4], np.int32), np.array([5, 6], np.int32)
    packed = np.array([1, 5, 2, 6, 3, 4], np.int32)
    logits, found = network.contributions(Chunk(packed, np.zeros(2, np.int32), np.array([0, 2, 4, 5, 6]), True))
    embedding = network.weights["embedding.weight"]
    for n, (tokens, rows) in enumerate(((first, [0, 2, 4, 5]), (second, [1, 3]))):
        decided = int(logits[n].argmax())
        for token, row in zip(tokens, rows):
            before, changed = embedding[token].copy(), []
            for factor in (1 + 1e-6, 1 - 1e-6):
                embedding[token] = before * factor
                changed.append(margin(network, tokens, decided))
            embedding[token] = before
            assert found[row] == pytest.approx((changed[0] - changed[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_contributions_do_not_depend_on_the_batch():
    """A text's are its own, in the order of the texts; a token that comes twice has two; nothing is one <end>."""
    texts = ["bad good bad", "", "good"]
    model = classifier()
    together = model.contributions(texts, "numpy")
    assert [[token.strip() for token, _ in tokens] for tokens in together] == [
        ["bad", "good", "bad"],
        ["<end>"],
        ["good"],
    ]
    for text, tokens in zip(texts, together):
        ((alone),) = model.contributions([text], "numpy")
        assert [score for _, score in tokens] == pytest.approx([score for _, score in alone], abs=1e-6)


def classifier():
    """An untrained classifier, whose labels and words hold markup."""
    vocabulary = Vocabulary.build([f" good bad {HOSTILE}"] * 2, "word", "whitespace", ends=True)
    config = ClassifierConfig(len(vocabulary), labels=LABELS, hidden_size=4, num_layers=1)
    return TextClassifier.of_parameters(config, vocabulary, initial(config, 0), {"corpus": ["<b>.tsv"], "texts": 3})


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The file of a classifier, in the current folder, and texts.tsv."""
    monkeypatch.chdir(tmp_path)
    classifier().save("model.safetensors")
    rows = [f"{word} {HOSTILE} {k}\t{label}" for k in range(4) for word, label in (("good", "good"), ("bad", "bad"))]
    (tmp_path / "texts.tsv").write_text("\n".join([*rows, f"{HOSTILE}\t<i>so"]) + "\n")
    return "model.safetensors"


def test_the_page_shows_what_was_measured(path):
    """Every tag is closed, markup of labels and words is text, nothing is loaded; the matrix has the evaluation's counts."""
    model = nblstm.load(path)
    report = make_classifier_report(path, model, text="texts.tsv")
    page = classifier_page(report)
    outline = Outline(page)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert {"verdict", "confusion", "calibration", "words", "decisions"} <= set(ids) and len(ids) == len(set(ids))
    assert not {tag for tag, _ in outline.tags} & {"img", "i", "link"} and "default-src 'none'" in page
    assert "&lt;i&gt;so" in page and "&lt;img" in page and page == classifier_page(report)
    texts, labels = nblstm.read_labelled("texts.tsv")
    expected = model.evaluate(texts, labels)
    np.testing.assert_array_equal(report.evaluation.confusion, expected.confusion)
    assert report.evaluation.calibration_error == pytest.approx(expected.calibration_error)
    assert len(report.wrong) + len(report.right) >= 6
    assert all(one.label != one.decided for one in report.wrong) and all(
        one.label == one.decided for one in report.right
    )
    assert sum(count for count, _, _ in report.evaluation.bins) == 9


def test_without_texts_it_says_what_it_needs(path):
    """The model is described; what is measured needs labelled texts."""
    page = classifier_page(make_classifier_report(path, nblstm.load(path)))
    assert page.count("name a file of them (text)") == 5 and "3 labels" in page and "no .metrics.csv" in page
    Outline(page)


def test_reports_of_classifiers_on_the_command_line(path, command):
    """A page is written; options of language models, and labels that were not learned, are refused."""
    outcome = command("report", path, "--text", "texts.tsv")
    assert outcome.code == 0 and "judging 9 texts" in outcome.err
    assert_refused(command("report", path, "--seed", 3, "-o", "b.html"), USAGE, "--seed is not for models of this task")
    assert_refused(command("report", path, "--corpus", "texts.tsv", "-o", "b.html"), USAGE, "--corpus is not")
    with open("texts.tsv", "a") as file:
        file.write("more\tnew\n")
    with pytest.raises(TextError, match="texts.tsv, line 10: the label 'new'"):
        make_classifier_report(path, nblstm.load(path), text="texts.tsv")
