"""Daily habits: validations inside an epoch, models that are kept, texts written while training, and what Python shows."""

import io
import itertools
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from nblstm.cli.progress import Progress
from support.cases import each
from support.commands import SMALL, VERSE, assert_refused
from support.numba import needs_numba
from support.training import CHUNKS, assert_same_run, make_trainer, through_a_file

import nblstm
from nblstm.config import TrainConfig
from nblstm.errors import ConfigError
from nblstm.training import pace as pace_module

QUICK = {"hidden_size": 8, "num_layers": 1, "batch_size": 4, "bptt": 8, "threads": 1}
pytestmark = needs_numba


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """A current folder with nothing but corpus.txt in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "corpus.txt").write_text(VERSE * 20, encoding="utf-8")
    return tmp_path


# ---------------------------------------------------------------- validations inside an epoch


def test_validations_inside_an_epoch():
    """At every third update, at the end of epochs, and never twice at one update; patience counts epochs alone."""
    trainer = make_trainer(backend="numpy", epochs=2, valid_every=3, patience=9)
    steps = [report.step for report in trainer.run() if report.validated]
    assert steps == [3, CHUNKS, 6, 9, 2 * CHUNKS] and trainer.waited <= 2


def test_the_best_model_may_be_one_of_inside_an_epoch(monkeypatch):
    """The weights of the least loss are kept wherever it was found."""
    losses = iter([3.0, 1.0, 2.0, 2.5])
    monkeypatch.setattr("nblstm.training.report.validation_loss", lambda *args: next(losses))
    trainer, at = make_trainer(backend="numpy", epochs=1, valid_every=2), {}
    for report in trainer.run():
        at[report.step] = trainer.present().copy()
    assert trainer.best_loss == 1.0 and (trainer.keep() == at[4]).all()


def test_validations_by_time(monkeypatch):
    """Each after so many seconds of training since the last; the clock of this test takes a second for each update."""
    clock = iter(range(10**6))
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr("nblstm.training.report.validation_loss", lambda *args: 1.0)
    trainer = make_trainer(backend="numpy", steps=4 * CHUNKS, valid_every="4s")
    steps = [report.step for report in trainer.run() if report.validated]
    assert steps == [5, 9, 10, 14, 15, 19, 20]  # the first update is not counted; epochs end at 5, 10, 15, 20


def test_a_run_with_validations_inside_goes_on_exactly(tmp_path):
    """Interrupted before or after one, it is the run that was never stopped, to the last bit."""
    whole = make_trainer(backend="numpy", epochs=2, valid_every=3)
    list(whole.run())
    for most in (3, 4, 5):  # reports: up to before the validation at update 3, behind it, and one update further
        trainer = make_trainer(backend="numpy", epochs=2, valid_every=3)
        for _ in zip(range(most), trainer.run()):
            pass
        resumed = through_a_file(trainer, tmp_path / "c.safetensors", backend="numpy", epochs=2, valid_every=3)
        list(resumed.run())
        assert_same_run(whole, resumed)


def test_the_time_left_counts_them(monkeypatch):
    """A second for each update and for each validation."""
    clock = iter(range(10**6))
    monkeypatch.setattr(pace_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr("nblstm.training.report.validation_loss", lambda *args: 1.0)
    reports = [r for r in make_trainer(backend="numpy", epochs=40, valid_every=2).run() if not r.validated]
    half = reports[20 * CHUNKS - 1]
    assert half.seconds_left == pytest.approx(reports[-1].seconds - half.seconds, rel=0.1)


@each("value", [0, -1, "0m", "5", "5 m", "m", "1d", "x", 1.5, True, "1e3", "9" * 40])
def test_what_an_interval_is(value):
    """A whole number of updates, also as a word, or a time."""
    if value == "5":
        assert TrainConfig(valid_every=value).valid_interval == (5, None)
        return
    with pytest.raises(ConfigError, match="valid_every"):
        TrainConfig(valid_every=value)


def test_times_and_updates():
    """Seconds, minutes, hours; a number is updates."""
    found = {text: TrainConfig(valid_every=text).valid_interval for text in (7, "7", "90s", "1.5m", "2h")}
    assert found == {7: (7, None), "7": (7, None), "90s": (None, 90), "1.5m": (None, 90), "2h": (None, 7200)}


# ---------------------------------------------------------------- models and texts that are kept


def test_the_best_models_are_kept(command, corpus):
    """--keep 2 leaves the two of least loss, named by epoch and loss, models like any other; --resume goes on with them."""
    asked = [*SMALL, "--steps", 40, "--valid-every", 5, "--keep", 2]
    assert command("train", "corpus.txt", *asked).code == 0
    rows = [line.split(",") for line in Path("model.metrics.csv").read_text().splitlines()[1:]]
    losses = sorted(float(row[9]) for row in rows if row[9])
    kept = sorted(corpus.glob("model.epoch*.safetensors"))
    found = sorted(float(path.name.split(".", 3)[3].removesuffix(".safetensors")) for path in kept)
    assert found == pytest.approx(losses[:2], abs=1e-4) and len(losses) >= 8
    best = min(kept, key=lambda path: path.name.split(".", 3)[3])
    model, other = nblstm.load("model.safetensors"), nblstm.load(best)
    assert (other.parameters == model.parameters).all() and other.training["valid_loss"] == pytest.approx(
        losses[0], abs=1e-5
    )
    (corpus / "model.epoch9.99.txt").write_text("another's")
    assert command("train", "--resume", "--steps", 60, "--keep", 2).code == 0
    assert len(list(corpus.glob("model.epoch*.safetensors"))) == 2 and (corpus / "model.epoch9.99.txt").exists()


def test_texts_of_a_run_are_kept(command, corpus):
    """--sample shows a text after each validation and keeps it; a resumed run goes on behind those before its checkpoint."""
    shown = command("train", "corpus.txt", *SMALL, "--steps", 6, "--valid-every", 2, "--sample", 12)
    rows = [json.loads(line) for line in Path("model.samples.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [2, 4, 6] and all(len(row["text"]) == 12 for row in rows)
    assert all(row["text"].splitlines()[0] in shown.err for row in rows)
    with open("model.samples.jsonl", "a") as file:
        file.write(json.dumps({**rows[0], "step": 99}) + "\n")
    command("train", "--resume", "--steps", 8, "--sample", 12)
    again = [json.loads(line) for line in Path("model.samples.jsonl").read_text().splitlines()]
    assert again[:3] == rows and [row["step"] for row in again] == [2, 4, 6, 8]
    page = command("report", "-n", 5, "-o", "-").out
    assert "What it wrote while it was trained" in page


def test_python_gets_the_texts(corpus):
    """Reports of validations have them; others have none."""
    reports = []
    nblstm.train("corpus.txt", "m.safetensors", steps=4, valid_every=2, sample=9, on_report=reports.append, **QUICK)
    assert [r.sample is not None for r in reports] == [r.validated for r in reports]
    assert all(len(r.sample) == 9 for r in reports if r.validated)


@each("settings", [{"keep": -1}, {"keep": 1.5}, {"sample": "x"}, {"sample": 2, "bidirectional": True}], ids=str)
def test_what_cannot_be_kept(corpus, settings):
    """Counts are whole; a model that reads both ways writes nothing."""
    with pytest.raises(ConfigError):
        nblstm.train("corpus.txt", "n.safetensors", steps=1, **{**QUICK, **settings})


def test_a_wrong_interval_on_the_command_line(command, corpus):
    """It is named as the option."""
    assert_refused(command("train", "corpus.txt", "--valid-every", "5x"), 2, "--valid-every", "5x")


# ---------------------------------------------------------------- from Python


def test_a_text_in_memory(corpus):
    """The model is that of a file with this text, byte by byte but for the name; it goes on with the text given again."""
    text = VERSE * 20
    one = nblstm.train(text=text, output="m.safetensors", steps=3, **QUICK)
    other = nblstm.train("corpus.txt", "f.safetensors", steps=3, **QUICK)
    assert (one.parameters == other.parameters).all() and one.vocabulary == other.vocabulary
    assert {**one.training, "corpus": 0} == {**other.training, "corpus": 0} and one.training["corpus"] == ["text"]
    again = nblstm.train(text=text, output="m.safetensors", resume=True, steps=5)
    assert again.training["steps"] == 5
    with pytest.raises(nblstm.TrainingError, match="text is not the one"):
        nblstm.train(text=text + "x", output="m.safetensors", resume=True, steps=6)


@each("texts", [["abc", "ab", "", "c"] * 9, ["a\nb", "c\r\nd", "abc"] * 9])
def test_texts_in_memory_are_documents(corpus, texts):
    """Each has an end of its own, also where it has lines; an empty one is none."""
    model = nblstm.train(
        texts=(text for text in texts), output="m.safetensors", steps=1, valid_fraction=0, overwrite=True, **QUICK
    )
    assert model.training["documents"] == sum(map(bool, texts)) and model.vocabulary.end_id is not None
    assert model.training["tokens"] == sum(len(text.replace("\r\n", "\n")) + 1 for text in texts if text)


@each(
    "given, words",
    [
        ({"text": "a", "texts": ["a"]}, "one of them"), ({"text": "a", "corpus": "corpus.txt"}, "one of them"),
        ({"texts": "abc"}, "give it as text"), ({"texts": [1]}, "must be a string"), ({"text": b"a"}, "must be a string"),
        ({"texts": 3}, "texts must be"), ({"text": "\ud800"}, "half of a character"), ({"text": ""}, "empty"),
        ({"text": "abc", "verbose": 1}, "verbose"),
    ],
)  # fmt: skip
def test_texts_that_cannot_be_read(corpus, given, words):
    """The argument is named, and nothing is written."""
    with pytest.raises(nblstm.NblstmError, match=words):
        nblstm.train(output="m.safetensors", steps=1, **{**QUICK, **given})
    assert not list(corpus.glob("m.*"))


def test_training_is_quiet_unless_it_is_asked_to_talk(corpus, capfd):
    """verbose=True shows on standard error what the command shows, and the callbacks come as well; else there is nothing."""
    nblstm.train("corpus.txt", "a.safetensors", steps=2, **QUICK)
    assert capfd.readouterr() == ("", "")
    reports, messages = [], []
    nblstm.train(
        "corpus.txt", "b.safetensors", epochs=1, **{**QUICK, "batch_size": 900}, verbose=True, on_report=reports.append,
        on_message=messages.append,
    )  # fmt: skip
    out, shown = capfd.readouterr()
    assert out == "" and reports and messages and all(message in shown for message in messages)
    assert "validating" not in shown  # where nothing is redrawn
    assert "model   LSTM 1 x 8" in shown and "epoch  1.00 step" in shown


def test_a_notebook_has_a_bar():
    """Its stream is no terminal, but goes back to the begin of a line; the bar is drawn over, and gone at the end."""
    kind = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    stream = kind()
    progress = Progress(stream, clock=itertools.count().__next__)
    progress.update(0.5, 1)
    progress.line("epoch 1")
    progress.close()
    lines = stream.getvalue().split("\n")
    assert lines[0].endswith("\repoch 1") and "\x1b" not in stream.getvalue() and lines[-1].endswith("\r")


def test_what_python_shows(corpus):
    """Models, scores and reports tell what matters."""
    reports = []
    model = nblstm.train("corpus.txt", "m.safetensors", steps=2, on_report=reports.append, **QUICK)
    assert repr(model).startswith("<LanguageModel: LSTM 1 x 8, 25 tokens, level char, validation loss ")
    assert re.fullmatch(
        r"<Score: \d\.\d{4} nats per token, perplexity [\d.]+, \d\.\d{4} bits per character; 4 tokens, 0 unknown>",
        repr(model.score("Shall")),
    )
    assert re.fullmatch(
        r"<Report: step 2, epoch [\d.]+, loss [\d.]+, validation loss [\d.]+ \(best\), [\d,]+ tokens a second>",
        repr(reports[-1]),
    )
    assert "validation" not in repr(reports[0])


# ---------------------------------------------------------------- a vocabulary that grows


@each(
    "settings",
    [{}, {"level": "word"}, {"documents": "line", "learned_state": True}, {"tie": True}, {"bidirectional": True}],
    ids=str,
)
def test_a_vocabulary_grows(corpus, settings):
    """Old tokens keep ids, rows and so their logits; the new ones have rows of their own, and can be learned."""
    base = nblstm.train("corpus.txt", "base.safetensors", steps=3, overwrite=True, **{**QUICK, **settings})
    (corpus / "more.txt").write_text("Öl, Ärger und Übermut – ewig!\nShall I compare thee\n" * 30, encoding="utf-8")
    told, kept = [], {name: settings[name] for name in ("level", "documents", "bidirectional") if name in settings}
    before = {}

    def started(session):
        network = session.trainer.network
        before.update({name: array.copy() for name, array in network.weights.items()})

    train = {"batch_size": 4, "bptt": 8, "threads": 1, "overwrite": True, "on_message": told.append, **kept}
    model = nblstm.train(
        "more.txt",
        "m.safetensors",
        init_from="base.safetensors",
        extend_vocabulary=True,
        steps=2,
        on_start=started,
        **train,
    )
    old, new = base.vocabulary.tokens, model.vocabulary.tokens
    assert new[: len(old)] == old and len(new) > len(old) and f"grows by {len(new) - len(old)} tokens" in told[0]
    assert not model.vocabulary.unknown("Öl") if "level" not in settings else "Öl" in new
    for name, array in base.network("numpy").weights.items():
        assert (before[name][: len(array)] == array).all(), name
    assert np.abs(before["embedding.weight"][len(old) :]).min() > 0
    resumed = nblstm.train(output="m.safetensors", resume=True, steps=4)
    assert resumed.vocabulary == model.vocabulary


def test_which_tokens_are_new(corpus):
    """Those that come often enough, as many as there is room for, the most frequent first."""
    nblstm.train("corpus.txt", "base.safetensors", steps=1, level="word", **QUICK)
    new = " alpha" * 5 + " beta" * 3 + " gamma" + " delta" * 2
    (corpus / "more.txt").write_text("Shall I\n" * 50 + new + "\nShall I" * 50)
    grow = {"init_from": "base.safetensors", "extend_vocabulary": True, "steps": 1, "batch_size": 2, "bptt": 8}
    size = len(nblstm.load("base.safetensors").vocabulary)
    for asked, found in (
        ({"min_count": 3}, (" alpha", " beta")),
        ({"max_vocab": size + 1}, (" alpha",)),
        ({"max_vocab": 3}, ()),
    ):
        model = nblstm.train("more.txt", "m.safetensors", overwrite=True, level="word", **grow, **asked)
        assert model.vocabulary.tokens[size:] == found


@each(
    "settings, words",
    [
        ({}, "init_from"), ({"init_from": "base.safetensors", "level": "word"}, "level"),
        ({"init_from": "base.safetensors", "resume": True}, "resume"), ({"extend_vocabulary": 1}, "extend_vocabulary"),
    ],
)  # fmt: skip
def test_a_vocabulary_that_cannot_grow(corpus, settings, words):
    """It is that of a model, at its level, and of a new run."""
    nblstm.train("corpus.txt", "base.safetensors", steps=1, overwrite=True, **QUICK)
    with pytest.raises(ConfigError, match=words):
        nblstm.train("corpus.txt", "m.safetensors", steps=1, **{"extend_vocabulary": True, **settings})


# ---------------------------------------------------------------- folders


@each("ask", [["eval"], ["score"], ["score", "--by", "file"], ["report", "-n", 5, "--text"]], ids=str)
def test_of_a_folder_what_is_text_is_read(command, folder, ask):
    """As in training: a picture is skipped, and said to be; the text is that of the files alone."""
    (folder / "texts" / "more").mkdir(parents=True, exist_ok=True)
    (folder / "texts" / "cat.png").write_bytes(b"\x89PNG\r\n\x1a\n\0")
    (folder / "texts" / "more" / "a.txt").write_text(VERSE * 3)
    shown = command(*ask, "texts")
    assert shown.code == 0, shown
    assert "1 file of texts are read, 1 skipped as no text: cat.png." in shown.err
    if ask == ["eval"]:
        assert json.loads(command(*ask, "texts", "--json").out)["files"][0]["tokens"] == 3 * len(VERSE) - 1
