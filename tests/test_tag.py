"""nblstm tag, and taggers trained, resumed and measured from the command line."""

import json
import shutil
from pathlib import Path

import pytest
from support.cases import each
from support.commands import FAILURE, USAGE, assert_refused

import nblstm
from nblstm.nn.parameters import views

SMALL = [
    "--task", "tag", "--hidden-size", "6", "--char-hidden-size", "3", "--char-embedding-size", "4", "--lr", "0.03",
    "--batch-size", "8", "--threads", "1", "-q",
]  # fmt: skip
PLACES = ["in X O", "Rom X I-LOC", "", "# a = b", "we X O", "like X O", "Oslo X I-LOC", "Bari X B-LOC", ""]


@pytest.fixture(scope="module")
def tagged(tmp_path_factory):
    """A folder with a small tagger of places and what it was trained on."""
    folder = tmp_path_factory.mktemp("tagged")
    (folder / "places.conll").write_text("\n".join(["-DOCSTART- X O", "", *PLACES * 12]), encoding="utf-8")
    settings = {"hidden_size": 6, "char_hidden_size": 3, "char_embedding_size": 4, "lr": 0.03, "batch_size": 8}
    files = folder / "places.conll", folder / "model.safetensors"
    nblstm.train(*files, task="tag", epochs=12, threads=1, dropout=0.0, input_dropout=0.1, **settings)
    return folder


@pytest.fixture
def folder(tagged, tmp_path, monkeypatch):
    """A folder of the test's own with copies of these files, which is the working directory."""
    shutil.copytree(tagged, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_lines_come_back_with_their_tags(folder, command):
    """A column more, behind a tab where the line has one; what is no word comes back as it is."""
    lines = ["-DOCSTART- X", "", "# text = Rom", "in x", "Rom x", "", "we\tx\ty", "Oslo\tx\ty", "Bari\tx\ty"]
    Path("in.conll").write_text("\n".join(lines), encoding="utf-8")
    tags = ["", "", "", " O", " I-LOC", "", "\tO", "\tI-LOC", "\tB-LOC"]
    assert command("tag", "in.conll").out.split("\n") == [*(line + tag for line, tag in zip(lines, tags)), ""]
    Path("in.conll").write_text("x in\nx Rom", encoding="utf-8")
    assert command("tag", "in.conll", "--token-column", "2").out == "x in O\nx Rom I-LOC\n"


def test_sentences_and_json(folder, command):
    """A sentence a line; an object for each."""
    Path("text.txt").write_text("in Rom\n\nwe like Oslo", encoding="utf-8")
    assert command("tag", "text.txt", "--sentences").out == "in O\nRom I-LOC\n\n\nwe O\nlike O\nOslo I-LOC\n\n"
    found = [json.loads(line) for line in command("tag", "text.txt", "--sentences", "--json").out.splitlines()]
    assert found[0] == {"words": ["in", "Rom"], "tags": ["O", "I-LOC"]} and len(found) == 2


def test_eval_and_info(folder, command):
    """Spans by type and accuracy, as lines and as JSON; what the model knows."""
    found = json.loads(command("eval", "places.conll", "--json").out)["files"][0]
    assert found["f1"] == found["types"]["LOC"]["f1"] > 0.9 and found["accuracy"] > 0.9 and found["there"] == 36
    lines = command("eval", "places.conll", "--tag-column", "3").out.splitlines()
    assert lines[0].startswith("accuracy") and lines[1].split()[:3] == ["spans", "precision", "recall"]
    assert [line.split()[0] for line in lines[2:]] == ["LOC", "all"]
    assert "spans of LOC (iob1)" in command("info").out


def test_a_run_goes_on_and_starts_from_a_model(folder, command):
    """Resumed it ends as one that was never stopped; from a model it keeps words and tags; vectors are words' beginnings."""
    asked = ["train", "places.conll", "--valid", "places.conll", *SMALL]
    assert command(*asked, "--epochs", "3", "--schedule", "constant", "-o", "whole.safetensors").code == 0
    assert command(*asked, "--epochs", "1", "--schedule", "constant", "-o", "parts.safetensors").code == 0
    assert command("train", "--resume", "--epochs", "3", "-o", "parts.safetensors", "-q").code == 0
    whole, parts = (nblstm.load(f"{name}.safetensors") for name in ("whole", "parts"))
    assert (whole.parameters == parts.parameters).all() and whole.config == parts.config
    more = ["--task", "tag", "--init-from", "model.safetensors", "--steps", "1", "-o", "more.safetensors", "-q"]
    assert command("train", "places.conll", *more).code == 0
    assert nblstm.load("more.safetensors").vocabulary == nblstm.load("model.safetensors").vocabulary
    Path("vectors.txt").write_text("rom 5 6 7\nin 1 2 3\n", encoding="utf-8")
    new = ["--vectors", "vectors.txt", "--steps", "1", "--lr", "1e-9", "-o", "new.safetensors"]
    assert command(*asked, *new).code == 0
    model = nblstm.load("new.safetensors")
    assert model.config.embedding_size == 3
    begun = views(model.parameters, model.config)["embedding.weight"]
    assert abs(begun[model.vocabulary.ids_of(["rom"])[0]] - [5, 6, 7]).max() < 1e-3


@each("text, args, code, words", [
    ("a X O\nb\n", ["train", "bad.conll", *SMALL], FAILURE, ["bad.conll, line 2", "there is no tag in column -1"]),
    ("a O\nb O\n", ["train", "bad.conll", *SMALL], FAILURE, ["two kinds at least"]),
    ("\n", ["train", "bad.conll", *SMALL], FAILURE, ["no tagged word in", "bad.conll"]),
    ("a X I-PER", ["train", "places.conll", "--valid", "bad.conll", *SMALL], FAILURE, ["bad.conll, line 1", "'I-PER'", "these are LOC"]),
    ("a X O\n\nb I-PER", ["eval", "bad.conll"], FAILURE, ["bad.conll, line 3", "'I-PER'"]),
    ("x", ["tag", "bad.conll", "--token-column", "2"], FAILURE, ["bad.conll, line 1", "no word in column 2"]),
    ("x", ["tag", "bad.conll", "--token-column", "0"], USAGE, ["--token-column must be"]),
    ("x", ["train", "places.conll", *SMALL, "--head", "cell"], USAGE, ["--head must be one of crf, softmax"]),
    ("x", ["train", "places.conll", *SMALL, "--bptt", "3"], USAGE, ["bptt"]),
    ("x", ["score", "bad.conll"], FAILURE, ["tagger of words"]),
])  # fmt: skip
def test_wrong_is_refused_in_a_line(text, args, code, words, folder, command):
    """File and line of what is wrong in files; options that a tagger does not have."""
    Path("bad.conll").write_text(text, encoding="utf-8")
    output = ["-o", "new.safetensors"] if args[0] == "train" else []
    assert_refused(command(*args, *output), code, *words)
