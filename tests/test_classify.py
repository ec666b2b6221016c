"""Labelled files and `nblstm classify`: every form is read, what is wrong is named by line, a line is answered by a line."""

import json

import pytest
from support.cases import each
from support.commands import FAILURE, assert_refused

import nblstm
from nblstm.errors import ConfigError, TextError
from nblstm.tasks.classification.reading import read_labelled


@pytest.fixture(scope="module")
def praise(tmp_path_factory):
    """The file of a small classifier."""
    texts, path = ["so good", "good film", "bad film", "so bad", "bad"] * 8, tmp_path_factory.mktemp("praise") / "model"
    labels = ["pos", "pos", "neg", "neg", "neg"] * 8
    nblstm.TextClassifier(hidden_size=8, epochs=15, lr=0.02, threads=1, batch_size=8).fit(texts, labels).save(path)
    return path


FORMS = {
    "tabs": ("a film\tpos\n\nbad, bad\tneg\n", {}),
    "fasttext": ("__label__pos a film\r\n__label__neg bad, bad\r\n", {}),
    "no end of the last line": ("a film\tpos\nbad, bad\tneg", {}),
    "comma": ('id,label,text\n1,pos,a film\n2,neg,"bad, bad"\n', {"text_column": "text", "label_column": "label"}),
    "columns by tabs": ("text\tlabel\na film\tpos\nbad, bad\tneg\n", {"text_column": "text", "label_column": "label"}),
    "byte order mark": (
        '\ufefftext,label\na film,pos\n\n"bad, bad",neg\n',
        {"text_column": "text", "label_column": "label"},
    ),
}


@each("form", FORMS)
def test_forms(form, tmp_path):
    """Texts and labels, in their order; empty lines are left out."""
    text, columns = FORMS[form]
    (tmp_path / "data").write_text(text, encoding="utf-8", newline="")
    assert read_labelled(tmp_path / "data", **columns) == (["a film", "bad, bad"], ["pos", "neg"])


def test_a_row_may_have_several_lines(tmp_path):
    """As CSV allows between quotes; the lines behind it are counted right."""
    (tmp_path / "data").write_text('text,label\n"one\ntwo",x\nthree\n')
    with pytest.raises(TextError, match="data, line 4: there must be 2 columns"):
        read_labelled(tmp_path / "data", "text", "label")
    (tmp_path / "data").write_text('text,label\n"one\ntwo",x\n')
    assert read_labelled(tmp_path / "data", "text", "label") == (["one\ntwo"], ["x"])


@each("text, columns, message", [
    ("a\tx\nno tab\n", (), "data, line 2: there must be a tab"), ("a\tx\nb\t\n", (), "line 2: there is no label"),
    ("a\tx\n\tx\n", (), "line 2: there is no text"), ("__label__x a\n__label__y\n", (), "line 2: there is no text"),
    ("__label__x __label__y a\n", (), "line 1: there are several labels"), ("", (), ""),
    ("a,b\n1,2\n", ("text", "b"), "must name the column 'text' once, got 'a, b'"),
    ("a,b\n1,2\n3\n", ("a", "b"), "line 3: there must be 2 columns, as"), ('a,b\n1,2\n"3,4\n', ("a", "b"), "line 3: this is no row"),
    ("a,b\n1,\n", ("a", "b"), "line 2: there is no label"),
])  # fmt: skip
def test_bad_lines_are_named(text, columns, message, tmp_path):
    """By file and line; an empty file has no texts."""
    (tmp_path / "data").write_text(text)
    if not message:
        assert read_labelled(tmp_path / "data") == ([], [])
        return
    with pytest.raises(TextError, match=message):
        read_labelled(tmp_path / "data", *columns)


def test_one_column_is_not_enough(tmp_path):
    """text_column and label_column belong together."""
    with pytest.raises(ConfigError, match="belong together"):
        read_labelled(tmp_path, text_column="text")
    with pytest.raises(ConfigError, match="must be two columns, got 'text' for both"):
        read_labelled(tmp_path, "text", "text")


def test_a_first_line_without_end_is_no_header(tmp_path):
    """Python's csv module gives up at fields so long: its error is ours, and says the line."""
    (tmp_path / "data").write_bytes(b"a" * 200_000)
    with pytest.raises(TextError, match="data, line 1: this is no row of a table: field larger than field limit"):
        read_labelled(tmp_path / "data", "text", "label")


def test_a_line_is_answered_by_a_line(praise, command, tmp_path):
    """Empty ones as well; the label and its probability, the most probable first; --json has the same."""
    (tmp_path / "lines").write_text("good\n\nbad film\r\nso")
    expected = nblstm.load(praise).predict_proba(["good", "", "bad film", "so"], "numpy")
    outcome = command("classify", "-m", praise, tmp_path / "lines", "--top", 5, "--backend", "numpy")
    assert outcome.code == 0 and outcome.err == ""
    rows = [line.split("\t") for line in outcome.out.splitlines()]
    assert [row[0] for row in rows] == [["neg", "pos"][k] for k in expected.argmax(axis=1)]
    assert [float(row[1]) for row in rows] == pytest.approx(expected.max(axis=1), abs=1e-4)
    assert all(len(row) == 4 and float(row[1]) + float(row[3]) == pytest.approx(1, abs=2e-4) for row in rows)
    found = command("classify", "-m", praise, tmp_path / "lines", "--json", "--backend", "numpy")
    objects = [json.loads(line) for line in found.out.splitlines()]
    assert [row["line"] for row in objects] == [1, 2, 3, 4]
    assert [row["labels"][0]["label"] for row in objects] == [row[0] for row in rows]
    assert all(len(row["labels"]) == 1 for row in objects)


def test_classify_refuses_in_a_line(praise, command, folder):
    """A model of another task, and no model; other commands refuse a classifier."""
    assert_refused(command("classify", "corpus.txt"), FAILURE, "model", "nblstm.load")
    assert_refused(command("classify", "-m", "none", "corpus.txt"), FAILURE, "none")
    assert_refused(command("score", "-m", praise, "corpus.txt"), FAILURE, "classifier of text")
