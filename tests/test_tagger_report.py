"""The report on a tagger: its counts are those of its evaluation and of a count by hand, and its page is a page."""

import numpy as np
import pytest
from support.commands import USAGE, assert_refused
from test_report import Outline

import nblstm
from nblstm.errors import TextError
from nblstm.reporting import tagger_report
from nblstm.reporting.tagger_page import tagger_page
from nblstm.reporting.tagger_report import ERRORS, make_tagger_report
from nblstm.tasks.tagging.config import TaggerConfig
from nblstm.tasks.tagging.network import initial_tagger
from nblstm.tasks.tagging.spans import outputs_of
from nblstm.text.vocabulary import Vocabulary

HOSTILE, KIND = "<img/src=x>", "<i>"
WORDS = Vocabulary.from_dict(
    {"level": "word", "tokenizer": "whitespace", "tokens": ["<unk>", "in", "new", "york", HOSTILE]}
)
TAGGED = [
    (["New", "York", "in", "Bonn"], ["B-LOC", "I-LOC", "O", "B-LOC"]),
    ([HOSTILE, "in"], [f"B-{KIND}", "O"]),
    (["in", "Rome"], ["O", "B-LOC"]),
    (["in", "in"], ["O", "O"]),
]
ANSWERS = [
    ["B-LOC", "O", "O", "B-LOC"],
    ["B-LOC", "O"],
    ["B-LOC", "O"],
    ["O", "O"],
]  # another end; another type; missed, and one made up


def tagger(tags=outputs_of([KIND, "LOC"]), scheme="iob2"):
    """An untrained tagger, whose types and words hold markup."""
    config = TaggerConfig(
        len(WORDS), tags=tuple(tags), scheme=scheme, characters="abc", hidden_size=3, char_hidden_size=2
    )
    return nblstm.Tagger.of_parameters(config, WORDS, initial_tagger(config, 0), {"corpus": ["<b>"], "sentences": 3})


def lines(rows):
    """CoNLL's lines of sentences and tags."""
    return "\n".join("".join(f"{word} {tag}\n" for word, tag in zip(*row)) for row in rows)


@pytest.fixture
def path(tmp_path, monkeypatch):
    """The file of a tagger, in the current folder, and words.conll."""
    monkeypatch.chdir(tmp_path)
    tagger().save("model.safetensors")
    (tmp_path / "words.conll").write_text(lines(TAGGED))
    return "model.safetensors"


def test_the_counts_are_those_of_a_count_by_hand(path, monkeypatch):
    """Words of each type, what becomes of spans, and the recall of spans with words that have no vector."""
    monkeypatch.setattr(nblstm.Tagger, "predict", lambda self, sentences: ANSWERS)
    report = make_tagger_report(path, nblstm.load(path), text="words.conll")
    assert report.names == (KIND, "LOC", "O")
    np.testing.assert_array_equal(report.confusion, [[0, 1, 0], [0, 2, 2], [0, 1, 4]])
    assert dict(zip(ERRORS, report.errors)) == {
        "right": 1, "another type": 1, "other borders": 1, "missed": 1, "made up": 1
    }  # fmt: skip
    assert [(m.right, m.found, m.there) for m in report.by_kind] == [(0, 0, 1), (1, 4, 3)]
    assert [len(one.words) for one in report.right] == [2] and len(report.wrong) == 3
    known, new = (float(share.rstrip("%")) for _, share in report.verdicts[1].figures)
    assert (known, new) == (0, 50) and [name for name, _ in report.verdicts[1].figures][1].startswith(
        "recall of 2 spans"
    )


def test_the_page_shows_what_was_measured(path):
    """Every tag is closed, markup of types and words is text, nothing is loaded; the figures are the evaluation's."""
    model = nblstm.load(path)
    report = make_tagger_report(path, model, text="words.conll")
    page = tagger_page(report)
    outline = Outline(page)
    ids = [attributes["id"] for _, attributes in outline.tags if "id" in attributes]
    assert {"verdict", "types", "confusion", "sentences"} <= set(ids) and len(ids) == len(set(ids))
    assert not {tag for tag, _ in outline.tags} & {"img", "i", "link"} and "default-src 'none'" in page
    assert "&lt;i&gt;" in page and "&lt;img" in page and page == tagger_page(report)
    expected = model.evaluate(*nblstm.read_tagged("words.conll"))
    assert report.evaluation == expected and f"{expected.f1:.4f}" in page
    assert report.confusion.sum() == expected.words


def test_tags_that_mark_no_spans(path, monkeypatch, tmp_path):
    """Parts of speech: each has its row, the rarest of very many share one, and a guess is beaten or not."""
    tags = ["D", "N", "P", "V"]
    tagger(tags, "none").save("model.safetensors")
    (tmp_path / "words.conll").write_text(lines([(["in", "new", "york", "new"], ["P", "N", "N", "V"])]))
    monkeypatch.setattr(nblstm.Tagger, "predict", lambda self, sentences: [["P", "N", "D", "N"]])
    report = make_tagger_report(path, nblstm.load(path), text="words.conll")
    assert report.names == ("D", "N", "P", "V") and report.errors == ()
    np.testing.assert_array_equal(report.confusion, [[0] * 4, [1, 1, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0]])
    assert report.verdicts[0].word == "no better than a guess"
    monkeypatch.setattr(tagger_report, "MOST_KINDS", 2)
    report = make_tagger_report(path, nblstm.load(path), text="words.conll")
    assert report.names == ("N", "P", "(others)") and report.confusion.sum() == 4
    Outline(tagger_page(report))


def test_without_words_it_says_what_it_needs(path):
    """The model is described; what is measured needs tagged words."""
    page = tagger_page(make_tagger_report(path, nblstm.load(path)))
    assert page.count("name a file of them (text)") == 4 and "spans of" in page and "no .metrics.csv" in page
    Outline(page)


def test_reports_of_taggers_on_the_command_line(path, command):
    """A page is written, columns are chosen; options of language models, and tags that were not learned, are refused."""
    outcome = command("report", path, "--text", "words.conll", "--token-column", 1, "--tag-column", -1)
    assert outcome.code == 0 and "tagging 4 sentences" in outcome.err
    assert_refused(command("report", path, "--seed", 3, "-o", "b.html"), USAGE, "--seed is not for models of this task")
    with open("words.conll", "a") as file:
        file.write("more B-NEW\n")
    with pytest.raises(TextError, match="words.conll, line 14: the tag 'B-NEW'"):
        make_tagger_report(path, nblstm.load(path), text="words.conll")
