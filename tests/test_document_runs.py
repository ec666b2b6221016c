"""Runs on documents as a user makes them: the lines shown, the files written, going on, and what is refused."""

import os

import numpy as np
import pytest
from support.cases import each
from support.commands import SMALL

import nblstm
from nblstm.errors import ConfigError, TrainingError
from nblstm.files import safetensors

LINES = [f"{'ab' * (k % 7 + 1)}{'c' * (k % 3)}" for k in range(100)]
TINY = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "bptt": 8, "threads": 1, "documents": "line"}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A current folder with nothing but a hundred lines in it, each of 2 to 16 characters."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines").write_text("".join(line + "\n" for line in LINES))


def test_the_lines_shown(command):
    """Documents, buckets and padding are introduced; the rest is as for a stream."""
    outcome = command("train", "lines", "--documents", "line", "--num-buckets", 3, *SMALL, "--epochs", 2)
    assert outcome.code == 0 and outcome.out == ""
    steps = np.array([len(line) + 1 for line in LINES[:90]])
    shown = dict(line.split(None, 1) for line in outcome.err.splitlines())
    assert shown["text"] == (
        f"90 documents of {steps.sum() - 90:,} chars to train on, "
        f"10 documents of {sum(map(len, LINES[90:]))} chars to validate, vocabulary 5"
    )
    boundaries = [int(word) for word in shown["buckets"].removeprefix("up to ").removesuffix(" tokens").split(", ")]
    cells = sum(steps[np.searchsorted(boundaries, steps) == k].size * boundary for k, boundary in enumerate(boundaries))
    inside, outside = 1 - steps.sum() / cells, 1 - steps.mean() / steps.max()
    assert len(boundaries) == 3 and boundaries[-1] == steps.max()
    assert shown["padding"] == (
        f"{100 * inside:.1f} % if batches were padded, {100 * outside:.1f} % in one bucket: "
        f"{100 * (1 - cells / (90 * steps.max())):.1f} % of the time saved"
    )
    described = command("info").out
    assert f"lines: 90 documents, {steps.sum():,} tokens" in described and "2 epochs" in described


@pytest.mark.parametrize("level, documents", [("char", "line"), ("word", "blank-line"), ("byte", "file")])
def test_every_level_and_kind(level, documents):
    """A model with a token <end>, trained on so many documents, its last one validating, and back from its file."""
    paths = []
    for k in range(10):
        paths.append(f"part{k}")
        with open(paths[-1], "w") as file:
            file.write(f"a b\nc\n\n\nd {k}\n")
    model = nblstm.train(paths, **{**TINY, "documents": documents}, level=level, steps=3)
    expected = {"line": 27, "blank-line": 18, "file": 9}
    assert model.training["documents"] == expected[documents] and model.training["valid_loss"] > 0
    assert nblstm.load("model.safetensors").vocabulary == model.vocabulary
    assert model.vocabulary.end_id == {"char": 1, "word": 1, "byte": 256}[level]


@pytest.mark.parametrize("batches", [{}, {"buckets": "5,9"}, {"tokens_per_batch": 50}])
def test_a_resumed_run_is_the_uninterrupted_one(batches):
    """Stopped inside an epoch and resumed from its file, a run ends in the very weights, moments and state."""
    settings = {**TINY, **batches, "bptt": 5, "epochs": 2, "dropout": 0.3}
    nblstm.train("lines", "whole.safetensors", **settings)
    steps = []
    stop = {"stop": lambda: len(steps) >= 17, "on_report": lambda report: steps.append(report.step)}
    nblstm.train("lines", **settings, **stop)
    nblstm.train(resume=True)
    whole, resumed = (safetensors.read(f"{stem}.checkpoint.safetensors")[0] for stem in ("whole", "model"))
    for name in whole:
        np.testing.assert_array_equal(whole[name], resumed[name], err_msg=name)


def test_other_borders_are_another_text():
    """The same characters in other lines cannot go on with a run; the kind of document cannot change."""
    nblstm.train("lines", **TINY, steps=1)
    with pytest.raises(ConfigError, match="^documents is part of the run and stays line"):
        nblstm.train(resume=True, steps=2, documents="file")
    with open("lines", "w") as file:
        file.write("\n".join([LINES[0] + LINES[1], *LINES[2:]]))
    with pytest.raises(TrainingError, match="the text is not the one"):
        nblstm.train(resume=True, steps=2)


def test_init_from_goes_on_with_documents():
    """A model of documents starts another run on documents, of another kind if that is asked; no stream can."""
    base = nblstm.train("lines", "base.safetensors", **TINY, steps=2)
    options = {"init_from": "base.safetensors", "batch_size": 4, "bptt": 8, "steps": 1, "lr": 1e-12}
    model = nblstm.train("lines", **options, documents="blank-line", valid_fraction=0.0)
    assert model.vocabulary == base.vocabulary and model.training["documents"] == 1
    np.testing.assert_allclose(model.parameters, base.parameters, atol=1e-10)
    with pytest.raises(ConfigError, match="documents must say what a text of its own is"):
        nblstm.train("lines", **options, overwrite=True)
    nblstm.train("lines", "stream.safetensors", **{**TINY, "documents": None}, steps=1)
    with pytest.raises(ConfigError, match="documents needs a vocabulary with a token <end>"):
        nblstm.train("lines", **{**options, "init_from": "stream.safetensors"}, documents="line", overwrite=True)


@each(
    "args, words",
    [
        (["--buckets", "auto"], "--buckets is for documents, and the text is one stream"),
        (["--num-buckets", 3], "--num-buckets is for documents"),
        (["--tokens-per-batch", 100], "--tokens-per-batch is for documents"),
        (["--documents", "line", "--buckets", "9,5"], "--buckets must be"),
        (["--documents", "line", "--buckets", "0,5"], "--buckets must be"),
        (["--documents", "line", "--buckets", "5,9", "--num-buckets", 2], "--num-buckets is for automatic buckets"),
        (["--documents", "line", "--tokens-per-batch", 0], "--tokens-per-batch must be at least 1"),
        (["--documents", "page"], "'page' is not one of"),
        (["--documents", "line", "--max-vocab", 2], "--max-vocab must be at least 3"),
    ],
)
def test_what_is_refused_before_anything_is_read(command, args, words):
    """One line that names the setting; the missing text is not even looked for, and nothing is written."""
    outcome = command("train", "missing", *args)
    assert outcome.code == 2 and words in outcome.err and "Traceback" not in outcome.err
    assert os.listdir() == ["lines"]


def test_documents_are_learnt_to_their_ends():
    """Where every document is the same its end is foreseen too: the loss falls to nearly nothing, and so it is kept."""
    with open("same", "w") as file:
        file.write("abcd\n" * 300)
    model = nblstm.train("same", **{**TINY, "hidden_size": 16, "dropout": 0.0, "lr": 0.03}, epochs=3)
    assert model.training["valid_loss"] < 0.1


def repeated(count, seed=0):
    """Words of four letters, written four times."""
    random = np.random.default_rng(seed)
    return ["".join(random.choice(list("abcdef"), 4)) * 4 for _ in range(count)]


def test_documents_a_step_longer_than_a_chunk_are_learnt():
    """16 letters and an end, 16 steps a chunk: hardly worse than learned whole. (With an update for each single end, after
    as many epochs, the loss was twice that.)"""
    settings = {
        "hidden_size": 24,
        "num_layers": 1,
        "dropout": 0.0,
        "batch_size": 16,
        "threads": 1,
        "epochs": 8,
        "lr": 0.02,
    }
    losses = [
        nblstm.train(texts=repeated(400), output=f"m{bptt}", bptt=bptt, **settings).training["valid_loss"]
        for bptt in (16, 17)
    ]
    assert losses[0] < 1.1 * losses[1]


def test_runs_of_before_go_on_with_their_chunks():
    """A checkpoint that does not speak of even chunks has others; new runs have even ones, and neither is a setting."""
    from nblstm.files.model_file import load_checkpoint, save_checkpoint
    from nblstm.tasks.session import Session

    nblstm.train("lines", steps=3, **TINY)
    tensors, facts = load_checkpoint("model.checkpoint.safetensors")
    assert facts["config"].pop("even_chunks") is True
    save_checkpoint("model.checkpoint.safetensors", tensors, facts)
    with Session.resume("model.safetensors", changes={"steps": 5}) as session:
        assert session.trainer.source.even is False
    with pytest.raises(ConfigError, match="even_chunks"):
        nblstm.train("lines", output="other", even_chunks=True, **TINY)
