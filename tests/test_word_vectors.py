"""Word vectors in files: both forms are read, damage is named by line, and a classifier begins with them."""

import gzip

import numpy as np
import pytest
from support.cases import each
from support.commands import FAILURE, USAGE, assert_refused

import nblstm
from nblstm.errors import ConfigError, TextError
from nblstm.text import sources
from nblstm.text.vectors import read_vectors
from nblstm.text.vocabulary import Vocabulary

WORDS = Vocabulary.build([" the film , The Film x"], "word", ends=True)
GLOVE = "the 1 2.5 -3e-1\nfilm 4 5 6\n, 7 8 9\nunused 0 0 0\n"


def by_word(found, vocabulary=WORDS):
    """Word -> vector of what was read."""
    return {vocabulary.tokens[id]: vector.tolist() for id, vector in zip(found.ids.tolist(), found.vectors)}


@each("form", ["glove", "word2vec", "gz", "tabs", "blanks at the end", "mark"])
def test_forms(form, tmp_path):
    """Words of the vocabulary alone, whatever blank they begin with; one in capitals takes those of its lower-case form."""
    text = {
        "word2vec": f"4 3\n{GLOVE}", "tabs": GLOVE.replace(" ", "\t"), "blanks at the end": GLOVE.replace("\n", " \r\n"),
        "mark": f"\ufeff{GLOVE}\n",
    }.get(form, GLOVE)  # fmt: skip
    path = tmp_path / ("vectors.gz" if form == "gz" else "vectors")
    path.write_bytes(gzip.compress(text.encode()) if form == "gz" else text.encode())
    found = read_vectors(path, WORDS)
    the, film = pytest.approx([1, 2.5, -0.3]), [4, 5, 6]
    assert by_word(found) == {" the": the, " The": the, " film": film, " Film": film, " ,": [7, 8, 9]}
    assert found.vectors.dtype == np.float32 and found.size == 3


def test_words_of_other_forms(tmp_path, monkeypatch):
    """The exact form goes before the lower-case one, the first of two lines counts, a word may hold blanks."""
    path = tmp_path / "vectors"
    path.write_text("film 1 1\nFilm 2 2\nfilm 3 3\n. . . 4 4\n")
    monkeypatch.setattr(sources, "CHUNK", 5)  # as they are read in pieces
    found = by_word(read_vectors(str(path), WORDS))
    assert found == {" film": [1, 1], " Film": [2, 2]}
    letters = Vocabulary.build(["ab"], "char")
    path.write_text("a 1\nb 2\n")
    assert by_word(read_vectors(path, letters), letters) == {"a": [1], "b": [2]}


@each("text, message", [
    ("the 1 2\nfilm 1\n", "line 2: there must be a word and 2 numbers, got 'film 1'"),
    ("the\n", "line 1: there must be a word and its numbers, got 'the'"),
    ("2 3\nthe 1 2 3\nfilm 1 2\n", "line 3: there must be a word and 3 numbers"),
    ("the 1 x\n", "line 1: the numbers behind the word must be finite, got '1 x'"), ("the 1 nan\n", "line 1: the numbers"),
    ("the 1 1e39\n", "must be finite"),  # as float32
    ("the 1 1e999\n", "must be finite"), ("other 1 2\n", "vectors has none of the 8 tokens"), ("", "has none of the"),
    ("2 0\nthe\n", "there must be a word and its numbers"), ("the 1\0 2\n", "looks like a binary file"),
])  # fmt: skip
def test_damage_is_named(text, message, tmp_path):
    """By file and line."""
    (tmp_path / "vectors").write_text(text)
    with pytest.raises(TextError, match=message):
        read_vectors(tmp_path / "vectors", WORDS)


def test_bytes_have_no_vectors(tmp_path):
    """ConfigError."""
    with pytest.raises(ConfigError, match="level byte has neither"):
        read_vectors(tmp_path / "vectors", Vocabulary.build([], "byte"))


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A current folder with labelled texts and vectors."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data.tsv").write_text("the film\tgood\nx x\tbad\n" * 6)
    (tmp_path / "vectors.txt").write_text(GLOVE)
    return tmp_path


def test_a_classifier_begins_with_vectors(here, command):
    """They set the size of its embedding; a run goes on without them, and to the same weights."""
    settings = {"task": "classify", "vectors": "vectors.txt", "hidden_size": 4, "threads": 1, "batch_size": 2}
    messages = []
    first = nblstm.train("data.tsv", "a", lr=1e-9, steps=1, on_message=messages.append, **settings)
    embedding = first.parameters[: first.config.shapes["embedding.weight"][0] * 3].reshape(-1, 3)
    film = first.vocabulary.tokens.index(" film")
    np.testing.assert_allclose(embedding[film], [4, 5, 6], atol=1e-6)
    assert first.config.embedding_size == 3 and any("2 of 5 tokens begin with a vector" in line for line in messages)
    texts, labels = nblstm.read_labelled("data.tsv")
    fitted = nblstm.TextClassifier(hidden_size=4, steps=1, lr=1e-9, threads=1).fit(texts, labels, vectors="vectors.txt")
    assert fitted.config.embedding_size == 3 and fitted.vocabulary == first.vocabulary
    whole = nblstm.train("data.tsv", "whole.safetensors", epochs=2, **settings)
    stops = iter([False] * 3)
    nblstm.train("data.tsv", "m.safetensors", epochs=2, stop=lambda: next(stops, True), **settings)
    (here / "vectors.txt").unlink()
    resumed = nblstm.train(output="m.safetensors", resume=True)
    np.testing.assert_array_equal(whole.parameters, resumed.parameters)


def test_vectors_that_do_not_fit_are_refused(here, command):
    """Another size, a model that has its own, a task that has none, no file."""
    command("train", "--task", "classify", "data.tsv", "--steps", 1, "--hidden-size", 4, "-q")
    for code, args, words in (
        (USAGE, ["--task", "classify", "--vectors", "vectors.txt", "--embedding-size", 5], ["must be 3"]),
        (
            USAGE,
            ["--task", "classify", "--vectors", "vectors.txt", "--init-from", "model.safetensors"],
            ["leave it out"],
        ),
        (USAGE, ["--vectors", "vectors.txt"], ["--vectors is for task classify", "not for language"]),
        (FAILURE, ["--task", "classify", "--vectors", "none.txt"], ["none.txt cannot be read"]),
    ):
        assert_refused(command("train", "data.tsv", *args, "-o", "n.safetensors", "-q"), code, *words)
